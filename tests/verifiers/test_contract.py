"""The conformance suite passes what keeps to the contract and finds each way to break it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tocsin import limits
from tocsin.errors import InputError, SessionMisuse
from tocsin.model import (
    TEXT,
    Channel,
    Context,
    Delta,
    Finding,
    Outcome,
    Score,
    Signal,
    Unknown,
)
from tocsin.stream.steps import Step, StepDefinition
from tocsin.testing import NotConformant, check_verifier
from tocsin.testing.verifiers import by_character, generated_stream, in_cuts
from tocsin.verifiers import taxonomy
from tocsin.verifiers.contract import AsyncVerifier, Declaration, Session, Verifier
from tocsin.verifiers.registry import KINDS, verifier
from tocsin.verifiers.stepwise import Judgement, NoJudgement, StepwiseSession, outcome

LINE = StepDefinition("line")


class Vowels(StepwiseSession):
    """The share of characters that are no vowel; lines with a question mark are not judged."""

    def __init__(self, declares: Declaration) -> None:
        super().__init__(declares)
        self._before = 0

    def judge(self, channel: Channel, step: Step) -> Judgement | NoJudgement:
        if "?" in step.text:
            return NoJudgement("failed", "a question")
        vowels = sum(c in "aeiou" for c in step.text)
        return Judgement(1.0 - vowels / (1 + len(step.text)))


class Toy:
    def __init__(self, session: Callable[[Declaration], Session] = Vowels, **declared: Any) -> None:
        plain = Declaration(name="toy", version="1", steps=LINE)
        self.declares = msgspec.structs.replace(plain, **declared)
        self._session = session

    def open(self, _context: Context) -> Session:
        return self._session(self.declares)


class Waiting:
    def __init__(self) -> None:
        self.declares = Toy().declares
        self.closed = False

    def open_async(self, _context: Context) -> WaitingSession:
        return WaitingSession(Vowels(self.declares))

    async def aclose(self) -> None:
        self.closed = True


class WaitingSession:
    def __init__(self, session: Vowels) -> None:
        self._session = session

    async def feed(self, delta: Delta) -> list[Outcome]:
        return self._session.feed(delta)

    async def close(self) -> list[Outcome]:
        return self._session.close()


# ------------------------------------------------------------------------------- the suite passes


@pytest.mark.parametrize(
    "steps", ["chars:5", "tokens:3", "line", "sentence", "paragraph", "reasoning", "turn"]
)
def test_a_stepwise_session_keeps_to_the_contract(steps: str) -> None:
    toy = Toy(steps=StepDefinition.parse(steps))

    assert check_verifier(toy, streams=60, texts=["my own text. It counts too."]) > 100


def test_an_asynchronous_verifier_is_checked_too() -> None:
    assert check_verifier(Waiting(), streams=40) > 100


@pytest.mark.slow
def test_no_cut_of_two_thousand_streams_changes_a_score() -> None:
    assert check_verifier(Toy(steps=StepDefinition("sentence")), streams=2_000, cuts=1) > 20_000


def test_the_two_forms_are_told_apart() -> None:
    assert isinstance(Toy(), Verifier) and not isinstance(Toy(), AsyncVerifier)
    assert isinstance(Waiting(), AsyncVerifier) and not isinstance(Waiting(), Verifier)


def test_cuts_keep_the_stream() -> None:
    rng = random.Random(2)
    for _ in range(200):
        stream = generated_stream(rng)
        for pieces in (by_character(stream), in_cuts(stream, rng)):
            assert "".join(d.text for d in pieces) == "".join(d.text for d in stream)
            assert [t for d in pieces for t in d.tokens] == [t for d in stream for t in d.tokens]
            assert [d.ends for d in pieces if d.ends] == [d.ends for d in stream if d.ends]


# ------------------------------------------------------------------------------- the suite objects


class Wrapped:
    """A session whose outcomes are spoiled in one way."""

    def __init__(self, declares: Declaration, spoil: Callable[[Outcome], Any]) -> None:
        self._session = Vowels(declares)
        self._spoil = spoil

    def feed(self, delta: Delta) -> list[Outcome]:
        return [self._spoil(o) for o in self._session.feed(delta)]

    def close(self) -> list[Outcome]:
        return [self._spoil(o) for o in self._session.close()]


def changed(**changes: Any) -> Callable[[Outcome], Outcome]:
    def spoil(o: Outcome) -> Outcome:
        if isinstance(o, Unknown):
            return o
        fields = {name: getattr(o, name) for name in Score.__struct_fields__}
        return Score(**(fields | changes))

    return spoil


BEYOND = Finding(rule="r", category="custom", start=0, end=10**9)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed(value=1.5), "outside"),
        (changed(value=float("nan")), "outside"),
        (changed(step=7), "is numbered"),
        (changed(upto=10**9), "goes back or beyond"),
        (changed(channel=Channel("observation", choice=3)), "goes back or beyond"),
        (changed(categories={"violence": 0.5}), "were not declared"),
        (changed(findings=(BEYOND,)), "a finding at"),
        (lambda _: None, "neither Score nor Unknown"),
    ],
)
def test_a_bad_outcome_is_found(spoil: Callable[[Outcome], Any], message: str) -> None:
    with pytest.raises(NotConformant, match=message):
        check_verifier(Toy(lambda declares: Wrapped(declares, spoil)), streams=20)


def test_a_score_that_depends_on_the_chunks_is_found() -> None:
    class Chunks(Vowels):
        def observe(self, delta: Delta) -> None:
            self._before += 1

        def judge(self, channel: Channel, step: Step) -> Judgement:
            return Judgement(1.0 / (1 + self._before))

    with pytest.raises(NotConformant, match="fed character by character"):
        check_verifier(Toy(Chunks), streams=20)


def test_sessions_that_know_of_each_other_are_found() -> None:
    seen: list[int] = []

    class Shared(Vowels):
        def judge(self, channel: Channel, step: Step) -> Judgement:
            seen.append(1)
            return Judgement(1.0 / (1 + len(seen)))

    with pytest.raises(NotConformant):
        check_verifier(Toy(Shared), streams=20)


def test_a_step_that_is_lost_is_found() -> None:
    class Forgets(Vowels):
        def close(self) -> list[Outcome]:
            return []

        def feed(self, delta: Delta) -> list[Outcome]:
            return super().feed(delta) if len(delta.text) > 1 else []

    with pytest.raises(NotConformant, match="outcomes where fed whole"):
        check_verifier(Toy(Forgets), streams=20)


def test_a_verifier_that_raises_is_found() -> None:
    class Raises(Vowels):
        def judge(self, channel: Channel, step: Step) -> Judgement:
            return Judgement(float(step.text.encode("utf-8")[0] < 200))

    with pytest.raises(NotConformant, match="raised UnicodeEncodeError"):
        check_verifier(Toy(Raises), streams=60)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"version": ""}, "no version"),
        ({"low": 1.0, "high": 1.0}, "is empty"),
        ({"high": 2.0}, "a probability within"),
        ({"channels": frozenset()}, "scores no channel"),
    ],
)
def test_a_bad_declaration_is_found(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(NotConformant, match=message):
        check_verifier(Toy(**declared), streams=1)


# --------------------------------------------------------------------------------------- sessions


def test_steps_are_numbered_over_all_channels_and_say_how_far_they_speak() -> None:
    session = Toy().open(Context())
    call = Channel("tool_arguments")

    said = session.feed(Delta(text="one\ntw"))
    said += session.feed(Delta(text="{}", channel=call, ends="tool_call"))
    said += session.feed(Delta(text="o\n"))
    said += session.close()

    places = [(o.step, o.channel, o.upto) for o in said]
    assert places == [(1, TEXT, 4), (2, call, 2), (3, TEXT, 8)]


def test_text_that_was_not_declared_gives_no_score() -> None:
    session = Toy().open(Context())

    assert session.feed(Delta(text="a\nb\n", channel=Channel("observation"))) == []
    assert session.close() == []


def test_what_is_not_judged_is_unknown_with_its_reason() -> None:
    said = Toy().open(Context()).feed(Delta(text="why?\nfine\n"))

    assert said[0] == Unknown(reason="failed", detail="a question", step=1, upto=5)
    assert isinstance(said[1], Score)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.001, 1.001])
def test_a_value_outside_the_declared_range_is_unknown(value: float) -> None:
    declares = Toy(categories=("violence",)).declares

    for said in (Judgement(value), Judgement(0.5, {"violence": value})):
        found = outcome(declares, said, 1, TEXT, 3)
        assert isinstance(found, Unknown) and found.reason == "out_of_range"


def test_a_closed_session_is_used_no_more() -> None:
    session = Toy().open(Context())
    session.feed(Delta(text="rest"))

    assert len(session.close()) == 1
    assert session.close() == []
    with pytest.raises(SessionMisuse, match="is closed"):
        session.feed(Delta(text="more"))


def test_channels_have_a_limit() -> None:
    session = Toy().open(Context())
    for i in range(limits.CHANNELS_MAX):
        session.feed(Delta(text="x", channel=Channel("text", choice=i)))

    with pytest.raises(SessionMisuse, match="at most"):
        session.feed(Delta(text="x", channel=Channel("reasoning")))


# --------------------------------------------------------------------------------------- the names


def test_a_declaration_names_the_signal_that_a_calibration_will_name() -> None:
    declares = Toy(kind="real", high=9.0).declares

    assert declares.signal() == Signal(
        kind="real", verifier="toy", verifier_version="1", step_definition="line"
    )


@pytest.mark.parametrize("spec", ["", "nobody", "nobody:x", ":linear", "Linear:x"])
def test_an_unknown_verifier_is_refused_with_the_known_ones(spec: str) -> None:
    with pytest.raises(InputError, match=r"use one of patterns, linear"):
        verifier(spec)


def test_every_kind_says_what_it_is() -> None:
    assert all(text.endswith(")") or ";" in text for text in KINDS.values())


def test_a_hazard_belongs_to_one_category_and_every_category_is_named_once() -> None:
    hazards = [code for category in taxonomy.CATEGORIES for code in category.hazards]

    assert sorted(hazards) == sorted(taxonomy.HAZARDS)
    assert len(taxonomy.BY_ID) == len(taxonomy.CATEGORIES)
    assert set(taxonomy.BY_HAZARD) == set(taxonomy.HAZARDS)
