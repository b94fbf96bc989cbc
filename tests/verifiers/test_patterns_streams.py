"""Findings are a function of the text: not of the engine, of the cuts, or of how long it waits."""

import random
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from verifiers.patterns_texts import HOSTILE, VALUES, planted

from tocsin.model import Channel, Context, Delta, Finding, Outcome, Score
from tocsin.stream.normal_forms import forms
from tocsin.stream.steps import StepDefinition
from tocsin.testing.verifiers import check_verifier, in_cuts
from tocsin.verifiers.patterns import Patterns, rules
from tocsin.verifiers.patterns.compiled import CONTEXT_CHARS, LOOK_CHARS, Ready, rule_set
from tocsin.verifiers.patterns.scanner import Scanner

OBSERVATION = Channel("observation")
FORMS: list[tuple[str, ...]] = [(), ("folded",), ("folded", "decoded")]
BOTH = ["hyperscan", "re2"]


def made(engine: str, names: tuple[str, ...], steps: str = "chars:32") -> Patterns:
    return Patterns(engine=engine, forms=names, steps=StepDefinition.parse(steps))  # type: ignore[arg-type]


def feed(verifier: Patterns, stream: list[Delta]) -> list[Outcome]:
    session = verifier.open(Context())
    return [o for delta in stream for o in session.feed(delta)] + session.close()


def told(outcomes: list[Outcome]) -> list[Finding]:
    return [f for o in outcomes if isinstance(o, Score) for f in o.findings]


def texts(count: int, seed: int) -> Iterator[tuple[random.Random, str]]:
    rng = random.Random(seed)
    for _ in range(count):
        yield rng, planted(rng)


# --------------------------------------------------------------------------------- conformance


@pytest.mark.parametrize("names", FORMS, ids="+".join)
@pytest.mark.parametrize("engine", BOTH)
def test_it_conforms(engine: str, names: tuple[str, ...]) -> None:
    own = [text for _, text in texts(20, 1)]
    assert check_verifier(made(engine, names), streams=15, texts=own, cuts=1) > 200


@pytest.mark.parametrize("steps", ["line", "sentence", "turn", "tokens:5", "chars:1", "chars:500"])
def test_it_conforms_for_other_steps(steps: str) -> None:
    own = [text for _, text in texts(5, 2)]
    verifier = made("hyperscan", ("folded", "decoded"), steps)
    assert check_verifier(verifier, streams=8, texts=own, cuts=1, seed=3) > 20


@pytest.mark.slow
@pytest.mark.parametrize("names", FORMS, ids="+".join)
@pytest.mark.parametrize("engine", BOTH)
def test_it_conforms_on_two_thousand_streams(engine: str, names: tuple[str, ...]) -> None:
    own = [text for _, text in texts(180, 4)]
    assert check_verifier(made(engine, names), streams=180, texts=own, seed=5) > 2_000


# ------------------------------------------------------------------------------------- engines


def agree(count: int, seed: int) -> int:
    compared = 0
    for rng, text in texts(count, seed):
        names = rng.choice(FORMS)
        stream = [Delta(text=text, channel=OBSERVATION)]
        one = feed(made("hyperscan", names), in_cuts(stream, rng))
        other = feed(made("re2", names), in_cuts(stream, rng))
        assert one == other, text
        compared += len(told(one))
    return compared


def test_both_engines_find_the_same() -> None:
    assert agree(150, 6) > 300


@pytest.mark.slow
def test_both_engines_find_the_same_in_four_thousand_streams() -> None:
    assert agree(4_000, 7) > 8_000


def reference(text: str) -> dict[str, set[int]]:
    """Find all in a whole text, rule by rule, without triggers, windows or blocks."""
    found: dict[str, set[int]] = {}
    for rule in rules():
        ready = Ready(rule, fold=False)
        at = 0
        while (span := _first(ready.search, text, at)) is not None:
            start, end = span
            before = text[max(0, start - CONTEXT_CHARS) : start]
            size = ready.accepted(before, text[start:end], text[end : end + LOOK_CHARS])
            at = start + (size or 1)
            if not size:
                continue
            if ready.rest is not None:
                on = _first(ready.rest, text, at, min(len(text), at + ready.rest_max))
                at = on[1] if on else at
            found.setdefault(rule.id, set()).update(range(start, at))
    return found


def _first(
    search: Callable[..., Any], text: str, at: int, end: int | None = None
) -> tuple[int, int] | None:
    data = text.encode("utf-8", "replace")
    first = len(text[:at].encode("utf-8", "replace"))
    last = len(text[:end].encode("utf-8", "replace"))
    match = search(data, first, last)
    if match is None:
        return None
    start, stop = match.span()
    return len(data[:start].decode()), len(data[:stop].decode())


def check_reference(count: int, seed: int) -> int:
    compared = 0
    for rng, text in texts(count, seed):
        stream = in_cuts([Delta(text=text, channel=OBSERVATION)], rng)
        covered: dict[str, set[int]] = {}
        for f in told(feed(made("hyperscan", ()), stream)):
            covered.setdefault(f.rule, set()).update(range(f.start, f.end))
        assert covered == reference(text), text
        compared += len(covered)
    return compared


def test_the_stream_finds_what_a_search_of_the_whole_text_finds() -> None:
    assert check_reference(60, 8) > 80


@pytest.mark.slow
def test_the_stream_finds_what_a_search_of_a_thousand_whole_texts_finds() -> None:
    assert check_reference(1_000, 9) > 1_000


# ----------------------------------------------------------------------------------- hold-back


def released_before_found(verifier: Patterns, text: str) -> list[tuple[int, Finding]]:
    """Feed characters one by one; list findings that came once their begin had been released."""
    held = verifier.declares.hold_back_chars
    session = verifier.open(Context())
    late = []
    for fed, c in enumerate(text, 1):
        released = fed - 1 - held  # what a gateway let go before this character
        now = told(session.feed(Delta(text=c, channel=OBSERVATION)))
        late += [(fed, f) for f in now if f.start < released]
    released = len(text) - held
    late += [(len(text), f) for f in told(session.close()) if f.start < released]
    return late


@pytest.mark.parametrize("names", FORMS, ids="+".join)
def test_no_character_of_a_value_is_released_before_it_is_found(names: tuple[str, ...]) -> None:
    verifier = made("re2", names)
    for value in VALUES.values():
        for tail in (" and on it goes " * 8, "x" * 180, ""):
            assert released_before_found(verifier, "So: " + value + tail) == []


@pytest.mark.parametrize("names", FORMS, ids="+".join)
def test_hostile_text_cannot_make_a_finding_late(names: tuple[str, ...]) -> None:
    rng = random.Random(10)
    verifier = made("re2", names)
    for filler in ("\u200b", "\u0301", "&amp;", "%2525", "-", "A.", "=", "\U000e0041", "QUJD"):
        for gap in (1, 3, 90, 600):
            value = rng.choice(["4111111111111111", "jane@example.com", VALUES["github_token"]])
            cut = rng.randrange(1, len(value))
            text = value[:cut] + filler * gap + value[cut:] + filler * gap + " " + value
            assert released_before_found(verifier, text) == [], (filler, gap)


@pytest.mark.slow
def test_nothing_is_late_in_a_thousand_texts() -> None:
    for rng, text in texts(1_000, 11):
        assert released_before_found(made("hyperscan", rng.choice(FORMS)), text) == []


def test_prose_is_settled_long_before_the_static_hold_back() -> None:
    verifier = made("hyperscan", ("folded",))
    session = verifier.open(Context())
    upto, waits = 0, []
    text = "The quick brown fox jumps over the lazy dog, and again. " * 20
    for fed, c in enumerate(text, 1):
        for o in session.feed(Delta(text=c)):
            upto = o.upto
        waits.append(fed - upto)
    assert max(waits) <= 120 < verifier.declares.hold_back_chars


# --------------------------------------------------------------------------------- linear work


class Counted:
    """A search that counts the characters it may have looked at."""

    def __init__(self, search: Callable[..., Any], work: list[int]) -> None:
        self.search = search
        self.work = work

    def __call__(self, data: bytes, start: int, end: int) -> Any:
        found = self.search(data, start, end)
        self.work[0] += (end if found is None else found.span()[1]) - start
        return found


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_the_work_is_bounded_by_a_constant_for_each_character(
    monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    used = rule_set(rules(), "hyperscan", fold=False)
    work = [0]
    seen = [0]
    for ready in used.rules:
        monkeypatch.setattr(ready, "search", Counted(ready.search, work))
        if ready.rest is not None:
            monkeypatch.setattr(ready, "rest", Counted(ready.rest, work))
    each = []
    block = Scanner._block

    def counted(self: Scanner, upto: int, *, final: bool) -> Any:
        seen[0] += upto - self._done
        return block(self, upto, final=final)

    monkeypatch.setattr(Scanner, "_block", counted)
    for size in (2_000, 8_000):
        work[0] = seen[0] = 0
        text = (unit * size)[:size] + "@"
        feed(Patterns(forms=(), engine="hyperscan"), [Delta(text=text, channel=OBSERVATION)])
        assert seen[0] == len(text)
        each.append(work[0] / len(text))
    # At most: every rule tries a longest match at every character. In fact, far less.
    assert max(each) < 10 * used.chars_max
    assert each[1] <= 1.3 * each[0] + 1


def test_what_a_session_keeps_does_not_grow_with_the_text() -> None:
    verifier = made("re2", ("folded", "decoded"))
    for unit in ("lorem ipsum ", "\u200b", "x", "%25", "e\u0301"):
        session = verifier.open(Context())
        for _ in range(40):
            session.feed(Delta(text=unit * (2_000 // len(unit))))
        (state,) = session._channels.values()
        kept = sum(len(s.text) for s in state._waiting) + sum(
            map(len, [*state._parts, *state._formless])
        )
        for view in state._views:
            kept += len(view._scanner._window.text)  # type: ignore[attr-defined]
            kept += len(getattr(view, "_raw", ""))
        assert kept < 10_000, unit


def test_the_forms_keep_the_promises_that_the_views_build_on() -> None:
    for rng, text in texts(150, 12):
        cut = rng.randrange(len(text) + 1)
        for form, again in zip(forms(FORMS[2]), forms(FORMS[2]), strict=True):
            first = form.feed(text[:cut])
            pieces = [again.feed(c) for c in text[:cut]]
            assert "".join(p.text for p in pieces) == first.text
            rest = [*form.feed(text[cut:]).starts, *form.close().starts]
            assert all(start >= cut - form.lag_chars for start in rest[:1])
            assert rest == sorted(rest)


@pytest.mark.parametrize("names", FORMS, ids="+".join)
def test_a_huge_delta_takes_no_more_memory_than_a_stream(names: tuple[str, ...]) -> None:
    verifier = made("re2", names)
    most = 0
    session = verifier.open(Context())
    text = "naïve text that is long, caf\u0301e. " * 2_000
    feed(verifier, [Delta(text=text[:2_000])])
    tracemalloc.start()
    for outcome in session.feed(Delta(text=text)):
        most = max(most, outcome.upto)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert most > len(text) - verifier.declares.hold_back_chars
    assert peak < 120 * len(text)
