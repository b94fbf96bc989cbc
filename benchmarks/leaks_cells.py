"""The matrix of benchmarks/leaks.py: what the model says in a cell, and what counts as a leak."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import leaks_reader

from tocsin.testing.fake_model import Call, Choice, Reply

SHORT = "ZQ4471-XKVW9038-JHPX2265"
LONG = "-".join(f"{group}{number:04d}" for number, group in enumerate(
    ["QZXK", "WVJH", "PXZQ", "KJVW", "HXPQ", "ZVKJ", "QWHX", "JPZV",
     "XKQW", "VHJP", "ZXQK", "WJVH", "PQXZ", "KVWJ", "HPXQ", "ZKVJ"], start=1107))  # fmt: skip
"""The forbidden words: of the length of a card with its name, and of a long key. Their letters and
digits are in nothing else that the model says."""

WORDS = (SHORT, LONG)
MARK = "marigold"
END = "epilogue"
_FILLER = ("it", "is", "a", "fine", "day", "and", "the", "sea", "is", "calm", "so", "we", "go.")
"""Harmless sentences."""

CHANNELS: dict[str, tuple[tuple[str, int], ...]] = {
    "chat": (
        ("text", 1), ("tool arguments", 1), ("reasoning", 1), ("refusal", 1),
        ("text", 2), ("tool arguments", 2),
    ),
    "responses": (("text", 1), ("tool arguments", 1), ("reasoning", 1), ("refusal", 1)),
    "messages": (("text", 1), ("tool arguments", 1), ("reasoning", 1)),
}  # fmt: skip
"""The channels of each API, with how many choices are asked for; the last choice has the word."""

PLACES = ((0, 40), (3, 12), (98, 1), (197, 60))
"""Tokens before the word and after it: at the start, early, at the end, across a window of 200."""
CUTS = ("1", "2", "3", "each")
"""The word in so many pieces, or character by character."""

CPU_TOKENS = (500, 2_000)
PACE_MS = 0.5
"""Before each token, so that a frame arrives as the model wrote it."""
WIRE_BYTES = 100
"""In two cells of each channel every frame, longer than this, comes in two writes."""
PAUSE_AFTER = 300
PAUSE_MS = 4_000.0
LEAST = 4
"""A shorter common part of the word and a text is chance."""


@dataclass(frozen=True)
class Case:
    """One cell of the matrix; without a word, the control that shows what comes through.

    Args:
        api: chat, responses or messages.
        channel: where the word stands.
        choices: how many are asked for.
        stream: whether the answer is streamed.
        word: the forbidden word, or empty.
        before: tokens before it.
        after: tokens after it.
        cut: how it is cut.
        wire_bytes: a write has at most so many bytes; 0: a frame.
    """

    api: str
    channel: str
    choices: int
    stream: bool
    word: str = ""
    before: int = 6
    after: int = 6
    cut: str = "1"
    wire_bytes: int = 0

    @property
    def group(self) -> tuple[str, str, int, bool]:
        """What cells are counted together."""
        return self.api, self.channel, self.choices, self.stream


def cases(apis: Iterable[str], *, quick: bool) -> Iterator[Case]:
    """List the cells for some APIs, each channel's control first."""
    for api in apis:
        for channel, choices in CHANNELS[api]:
            for stream in (True, False):
                yield Case(api, channel, choices, stream)
                for cell in _streamed(quick=quick) if stream else _whole():
                    yield Case(api, channel, choices, stream, *cell)


_Cell = tuple[str, int, int, str, int]
"""Word, tokens before and after, cut, bytes of a write."""


def _streamed(*, quick: bool) -> Iterator[_Cell]:
    places = PLACES[1::2] if quick else PLACES
    for before, after in places:
        for cut in CUTS[::3] if quick else CUTS:
            yield SHORT, before, after, cut, 0
    for before, after in () if quick else PLACES[1::2]:
        for cut in CUTS[2:]:
            yield LONG, before, after, cut, 0
    for cut in CUTS[::3]:
        yield SHORT, *PLACES[1], cut, WIRE_BYTES


def _whole() -> Iterator[_Cell]:
    for word in WORDS:
        yield word, *PLACES[1], "1", 0


def reply(case: Case) -> Reply:
    """Give what the model says in a cell."""
    word = case.word or MARK
    said = (*filler(case.before), *_pieces(word, case.cut), *_after(case.after))
    if case.channel == "tool arguments":
        said = ('{"note": "', *said, '"}')
    last = {
        "text": Choice(text=said),
        "refusal": Choice(refusal=said),
        "reasoning": Choice(reasoning=said, text="It is done."),
        "tool arguments": Choice(calls=(Call(name=leaks_reader.TOOL, arguments=said),)),
    }[case.channel]
    others = [Choice(text=filler(20))] * (case.choices - 1)
    return Reply(choices=(*others, last), pause_ms=PACE_MS, write_bytes=case.wire_bytes)


def paced() -> Reply:
    """Give a harmless text with a pause in it, to see how much has been shown by then."""
    pauses = (*([0.0] * PAUSE_AFTER), PAUSE_MS)
    return Reply(choices=(Choice(text=filler(PAUSE_AFTER + 60)),), pause_ms=pauses)


def lasting(tokens: int) -> Reply:
    """Give a long harmless text, a token each millisecond."""
    return Reply(choices=(Choice(text=filler(tokens)),), pause_ms=1.0)


def filler(tokens: int) -> tuple[str, ...]:
    """Give harmless tokens, each with its space behind it."""
    return tuple(_FILLER[i % len(_FILLER)] + " " for i in range(tokens))


def _after(tokens: int) -> tuple[str, ...]:
    return (*(f" {word.strip()}" for word in filler(tokens - 1)), f" {END}.")


def _pieces(word: str, cut: str) -> tuple[str, ...]:
    count = len(word) if cut == "each" else int(cut)
    ends = [round(len(word) * i / count) for i in range(count + 1)]
    return tuple(word[a:b] for a, b in pairwise(ends))


def leaked(word: str, texts: Iterable[str]) -> int:
    """Count the characters of the word's longest part that stands in a text.

    Example:
        >>> leaked("ZQ4471-X", ["a ZQ4471 b", "zq"]), leaked("ZQ4471-X", ["Q4"])
        (6, 0)
    """
    longest = 0
    joined = "\n".join(texts)
    if word in joined:
        return len(word)
    for start in range(len(word)):
        while word[start : start + longest + 1] in joined and start + longest < len(word):
            longest += 1
    return longest if longest >= LEAST else 0


@dataclass(frozen=True)
class Verdict:
    """What came of one cell.

    Args:
        case: the cell.
        ending: valid, cut, refused or raised, as `leaks_reader.read` tells it.
        leaked: characters of the word that the reader got in one piece.
        whole: all of it.
        rest: the text behind the word came too.
        named: the error's own text has the word.
        arrived: for a control: its text came.
        error: what was raised.
    """

    case: Case
    ending: str
    leaked: int
    whole: bool
    rest: bool
    named: bool
    arrived: bool
    error: str


def judge(case: Case, got: dict[str, Any]) -> Verdict:
    """Compare what a reader got with what is forbidden."""
    word = case.word
    count = leaked(word, got["texts"]) if word else 0
    return Verdict(
        case=case,
        ending=got["ending"],
        leaked=count,
        whole=bool(word) and count == len(word),
        rest=any(END in text for text in got["texts"]),
        named=bool(word) and word.lower() in got["error"].lower(),
        arrived=any(MARK in text for text in got["texts"]),
        error=re.sub(r"\s+", " ", got["error"])[:200],
    )


def held_chars(arrivals: list[tuple[float, int]]) -> int | None:
    """Count the characters sent before the pause that had not been shown in it."""
    if not arrivals:
        return None
    times = [0.0, *(at for at, _ in arrivals)]
    gaps = [b - a for a, b in pairwise(times)]
    longest = gaps.index(max(gaps))
    shown = sum(count for _, count in arrivals[:longest])
    return max(0, sum(map(len, filler(PAUSE_AFTER))) - shown)
