"""Values written so that a rule for them does not match: how many are found in each normal form.

Planted are made-up values of the shapes that the built-in rules look for, documentation examples
among them, in plain prose, by each obfuscator of `obfuscators.py`. First a detector that knows the
value itself looks for it, then the pattern verifier does. What nothing finds is shown too.
"""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from common import Found, Options, Row, best, say
from obfuscators import OBFUSCATORS

from tocsin.errors import MissingExtra
from tocsin.model import Context, Delta, Score
from tocsin.stream.normal_forms import FORMS, forms
from tocsin.verifiers.patterns import Patterns

VALUES = (
    "AKIAIOSFODNN7EXAMPLE",
    "4111-1111-1111-1111",
    "5555555555554444",
    "DE89370400440532013000",
    "someone.else@example.com",
)
WORDS = ("confidential", "password")
"""Words too, for the detector that knows them: spelling and digits for letters are for words."""

_PROSE = (
    "Here is what you asked for: {} . Keep it safe.",
    "The record says ({}) and nothing else of note.",
    "Sure! First line of the answer.\n\n{}\n\nThat was the second.",
    'It returned {{"id": 7, "value": "{}"}} after a while.',
)
_EACH, _EACH_QUICK = 24, 4
_PATTERN_FORMS: dict[str, tuple[str, ...]] = {
    "raw": (),
    "and folded": ("folded",),
    "and decoded": ("folded", "decoded"),
}
_COST_CHARS, _REPEATS = 20_000, 3
_CUTS = {"whole": _COST_CHARS, "4 characters": 4, "1 character": 1}


class Planted(NamedTuple):
    """A text with a value in it, and where that stands."""

    value: str
    text: str
    start: int
    end: int


def run(options: Options) -> Found:
    """Plant, look, count; then time the forms."""
    each = _EACH_QUICK if options.quick else _EACH
    found = Found(
        tables={"substring": [_substring(name, each, options.seed) for name in _names()]},
        notes=[
            "shares found; 'none' is the plain text; 'undone by' is what the form is claimed to do",
            "substring: the value itself, case aside, in the raw text or in a form of it",
            "patterns: a finding of the verifier touches the planted value",
            "whole: of those, the share whose findings cover all but an emoji or padding",
            "cost: µs per 1,000 characters",
        ],
    )
    try:
        found.tables["patterns"] = list(_patterns(each, options.seed))
    except MissingExtra as e:
        found.skipped.append(str(e))
    found.tables["cost"] = _costs(options)
    return found


def _names() -> list[str]:
    return ["none", *OBFUSCATORS]


def _planted(name: str, values: tuple[str, ...], each: int, seed: int) -> Iterator[Planted]:
    """Write every value several times."""
    rng = random.Random(f"{seed} {name}")
    for value in values:
        for _ in range(each):
            hidden = value if name == "none" else OBFUSCATORS[name][0](value, rng)
            begin, end = rng.choice(_PROSE).format("\0").split("\0")
            yield Planted(value, begin + hidden + end, len(begin), len(begin) + len(hidden))


def _claim(name: str) -> str:
    return "" if name == "none" else OBFUSCATORS[name][1] or "nothing"


# --------------------------------------------------------------------------------------- substring


def _substring(name: str, each: int, seed: int) -> Row:
    planted = list(_planted(name, VALUES + WORDS, each, seed))
    row: Row = {"obfuscator": name, "undone by": _claim(name)}
    views: dict[str, Callable[[str], str]] = {"raw": str.lower}
    views |= {form: lambda text, form=form: _whole(form, text) for form in FORMS}  # type: ignore[misc]
    for view, make in views.items():
        row[view] = sum(make(p.value) in make(p.text) for p in planted) / len(planted)
    return row


def _whole(name: str, text: str) -> str:
    form = forms([name])[0]
    return form.feed(text).text + form.close().text


# ---------------------------------------------------------------------------------------- patterns


def _patterns(each: int, seed: int) -> Iterator[Row]:
    verifiers = {view: Patterns(forms=names) for view, names in _PATTERN_FORMS.items()}
    for name in _names():
        say(f"evasion: {name}")
        planted = list(_planted(name, VALUES, each, seed))
        row: Row = {"obfuscator": name, "undone by": _claim(name)}
        for view, verifier in verifiers.items():
            touched = [bool(_ranges(verifier, p)) for p in planted]
            row[view] = sum(touched) / len(touched)
        last = list(verifiers.values())[-1]
        ranges = [(p, _ranges(last, p)) for p in planted]
        hits = [_covers(p, got) for p, got in ranges if got]
        row["whole"] = sum(hits) / len(hits) if hits else None
        yield row


def _ranges(verifier: Patterns, planted: Planted) -> list[tuple[int, int]]:
    """Return the findings that touch the planted value."""
    session = verifier.open(Context())
    outcomes = [*session.feed(Delta(text=planted.text, ends="turn")), *session.close()]
    findings = [f for o in outcomes if isinstance(o, Score) for f in o.findings]
    return [(f.start, f.end) for f in findings if f.start < planted.end and planted.start < f.end]


_EMPTY = re.compile("[=\U0001f600]*")


def _covers(planted: Planted, ranges: list[tuple[int, int]]) -> bool:
    """Whether only padding, and the emoji that text was hidden behind, stand outside."""
    covered = {i for start, end in ranges for i in range(start, end)}
    left = (i for i in range(planted.start, planted.end) if i not in covered)
    return _EMPTY.fullmatch("".join(planted.text[i] for i in left)) is not None


# -------------------------------------------------------------------------------------------- cost


def _costs(options: Options) -> list[Row]:
    """Time each form on plain and on hostile text, in several cuts."""
    rng = random.Random(options.seed)
    prose = " ".join(rng.choice(_PROSE).format(rng.choice(WORDS)) for _ in range(_COST_CHARS // 40))
    hidden = "".join(OBFUSCATORS["zero_width"][0](prose[:_COST_CHARS], rng))
    texts = {
        "English": prose,
        "Russian": "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 400,
        "Japanese": "私は東京に住んでいます。今日はいい天気ですね。" * 1_000,
        "zero-width characters": hidden,
        "percent signs": "%" * _COST_CHARS,
        "entities": "&#x41;" * (_COST_CHARS // 6),
        "base64": base64.b64encode(prose.encode()).decode(),
        "combining marks": "日" + "\u0301" * _COST_CHARS,
    }
    rows: list[Row] = []
    for text_name, text in texts.items():
        used = text[:_COST_CHARS]
        for form in FORMS:
            row: Row = {"text": text_name, "form": form}
            for cut, size in _CUTS.items():
                seconds, _ = best(
                    lambda form=form, used=used, size=size: _feed(form, used, size),  # type: ignore[misc]
                    1 if options.quick else _REPEATS,
                )
                row[cut] = 1e9 * seconds / len(used)
            rows.append(row)
    return rows


def _feed(name: str, text: str, size: int) -> None:
    form = forms([name])[0]
    for at in range(0, len(text), size):
        form.feed(text[at : at + size])
    form.close()
