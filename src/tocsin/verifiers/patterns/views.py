"""The texts that are searched: the raw one and forms of it, with offsets of the raw one."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

from tocsin.stream.normal_forms import Form
from tocsin.stream.pieces import Piece, raw
from tocsin.verifiers.patterns.compiled import LOOK_CHARS, RuleSet
from tocsin.verifiers.patterns.scanner import Hit, Scanner

RAW = "raw"

SPREAD_CHARS = 64
"""Raw characters that a form may have dropped within the length of the longest match, beyond what
its `expansion` says. A form begins anew where more were dropped: a match that is spread wider is
not looked for, since text cannot be held back for it."""


class Sets(NamedTuple):
    """The rules, for the raw text and for forms of it."""

    raw: RuleSet
    folded: RuleSet


class View(Protocol):
    """A text that is searched, from one offset of the channel on."""

    def feed(self, text: str) -> None:
        """Take more raw text."""

    def settled(self) -> int:
        """Return the raw offset before which every match is settled."""

    def scan(self, *, final: bool = False) -> list[Hit]:
        """Find the matches that are settled now; all of them if the text ends here."""


def wait_chars(form: Form | None, chars_max: int) -> int:
    """Return so many raw characters that all before them is settled.

    Args:
        form: the form, or None for the raw text.
        chars_max: length of the longest match.
    """
    longest = chars_max + LOOK_CHARS
    return longest if form is None else form.lag_chars + form.expansion * longest + SPREAD_CHARS


class RawView:
    """The raw text."""

    def __init__(self, rules: RuleSet, without: frozenset[int], at: int) -> None:
        self._scanner = Scanner(rules, without)
        self._at = at
        self._fed = at

    def feed(self, text: str) -> None:
        """Take more raw text."""
        self._scanner.feed(raw(text, self._fed))
        self._fed += len(text)

    def settled(self) -> int:
        """Return the raw offset before which every match is settled."""
        return self._at + self._scanner.settled()

    def scan(self, *, final: bool = False) -> list[Hit]:
        """Find the matches that are settled now; all of them if the text ends here."""
        return self._scanner.scan(final=final)


class FormView:
    """A form of the text."""

    def __init__(self, form: Form, rules: RuleSet, without: frozenset[int], at: int) -> None:
        self._form = form
        self._rules = rules
        self._without = without
        self._at = at
        self._scanner = Scanner(rules, without, self._behind)
        self._raw = ""
        self._first = at  # offset of the first character in _raw
        self._fed = at
        self._found: list[Hit] = []
        longest = rules.chars_max + LOOK_CHARS
        self._spread = (form.expansion - 1) * longest + SPREAD_CHARS
        self._starts: deque[int] = deque(maxlen=longest)

    def feed(self, text: str) -> None:
        """Take more raw text."""
        if text:
            self._raw += text
            self._fed += len(text)
            self._take(self._form.feed(text))

    def settled(self) -> int:
        """Return the raw offset before which every match is settled."""
        reflected = self._fed - self._form.lag_chars
        if self._too_far(reflected):
            self._restart()
        start = self._scanner.raw_start(self._scanner.settled())
        return reflected if start is None else start

    def scan(self, *, final: bool = False) -> list[Hit]:
        """Find the matches that are settled now; all of them if the text ends here."""
        if final:
            self._take(self._form.close())
        found = self._found + self._scanner.scan(final=final)
        self._found = []
        first = self._scanner.raw_start(self._scanner.base)
        if first is None:
            first = max(self._first, self._fed - self._form.lag_chars)
        self._raw = self._raw[first - self._first :]
        self._first = first
        return found

    def _take(self, piece: Piece) -> None:
        """Take more of the form, in parts none of which is spread too far."""
        text, starts, ends = self._moved(piece)
        begin = 0
        even = isinstance(starts, range)
        for at in range(1 if even and text else len(text)):
            if self._too_far(starts[at]):
                self._scanner.feed(Piece(text[begin:at], starts[begin:at], ends[begin:at]))
                self._restart()
                begin = at
            self._starts.append(starts[at])
        if even:
            self._starts.extend(starts[1:][-self._starts.maxlen :] if self._starts.maxlen else ())
        self._scanner.feed(Piece(text[begin:], starts[begin:], ends[begin:]))

    def _too_far(self, start: int) -> bool:
        """Whether a character from here on is too far from those a match would begin with."""
        known = self._starts
        return bool(known) and start - known[0] - len(known) > self._spread

    def _restart(self) -> None:
        """End the form here, and begin it anew."""
        self._found += self._scanner.scan(final=True)
        self._scanner = Scanner(self._rules, self._without, self._behind)
        self._starts.clear()

    def _moved(self, piece: Piece) -> Piece:
        """Count from the begin of the channel."""
        at = self._at
        if not at or not piece.text:
            return piece
        starts, ends = piece.starts, piece.ends
        if isinstance(starts, range) and isinstance(ends, range):
            return raw(piece.text, at + starts.start)
        return Piece(piece.text, [at + s for s in starts], [at + e for e in ends])

    def _behind(self, start: int, end: int) -> str:
        return self._raw[start - self._first : end - self._first]
