"""How each kind of step ends, found in a buffer that begins with the step.

A finder looks at the text of the open step and says how long the step is, or that it cannot know
yet. It never looks further than `LOOK_AHEAD_CHARS` behind a boundary, and it remembers how far it
has looked, so that feeding a text byte by byte costs no more than a constant for each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

LOOK_AHEAD_CHARS = 48
"""No boundary needs to see more than this behind itself to be sure."""


class Finder(Protocol):
    """Finds the end of the open step."""

    def find(self, text: str, *, final: bool) -> int | None:
        """Return the length of the step that `text` begins with, or None where it is not sure.

        Args:
            text: from the begin of the step; grows from call to call until `restart`.
            final: no more text will follow.
        """

    def restart(self) -> None:
        """Forget what was seen: a new step begins."""


class Chars:
    """Every k characters."""

    def __init__(self, size: int) -> None:
        self._size = size

    def find(self, text: str, *, final: bool) -> int | None:  # noqa: ARG002 - one signature
        """Return k once there are k characters."""
        return self._size if len(text) >= self._size else None

    def restart(self) -> None:
        """Nothing is remembered."""


_TOKEN = re.compile(r" ?[^\W_]{1,6}|[\s\S]")


class Tokens:
    """Every k runs of letters or digits, or other characters."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen = self._count = 0

    def find(self, text: str, *, final: bool) -> int | None:
        """Return the end of the k-th token once the character behind it is known."""
        for match in _TOKEN.finditer(text, self._seen):
            if match.end() == len(text) and not final:
                return None
            self._seen = match.end()
            self._count += 1
            if self._count == self._size:
                return self._seen
        return None

    def restart(self) -> None:
        """Count from 0."""
        self._seen = self._count = 0


class Line:
    """Up to and with a line feed."""

    def __init__(self, _size: int) -> None:
        self._seen = 0

    def find(self, text: str, *, final: bool) -> int | None:  # noqa: ARG002 - one signature
        """Return the end of the line."""
        at = text.find("\n", self._seen)
        self._seen = len(text)
        return None if at < 0 else at + 1

    def restart(self) -> None:
        """Look from the begin."""
        self._seen = 0


_BLANK = re.compile(r"[ \t\r]*")
_ITEM_BEGINS = frozenset(" \t#*-•sS0123456789")
_ITEM_CHARS_MAX = 40
_ITEM = re.compile(
    r"[ \t]{0,8}(?:#{1,6}[ \t]{1,4})?\*{0,2}"
    r"(?:[Ss](?:tep|TEP)[ \t]{1,2}\d{1,3}(?!\w)|\d{1,3}[.):]\s|[-*•][ \t])"
)


class _Scan:
    """Go through candidates for a boundary, each of which is one character."""

    candidates: re.Pattern[str]

    def __init__(self, _size: int) -> None:
        self._seen = 0

    def find(self, text: str, *, final: bool) -> int | None:
        """Return the end of the step at the first candidate that is one."""
        for match in self.candidates.finditer(text, self._seen):
            at = match.start()
            end = self._end(text, at, final=final)
            if end is None:
                self._seen = at
                return None
            if end > 0 and not text[:end].isspace():
                return end
        self._seen = len(text)
        return None

    def restart(self) -> None:
        """Look from the begin."""
        self._seen = 0

    def _end(self, text: str, at: int, *, final: bool) -> int | None:
        """Where the step ends, 0 if not here, None if unsure; every subclass defines this."""
        raise NotImplementedError


class Paragraph(_Scan):
    """Up to and with a blank line."""

    candidates = re.compile(r"\n")

    def _end(self, text: str, at: int, *, final: bool) -> int | None:
        return _blank_line(text, at, final=final)


class Reasoning(_Scan):
    """Up to a blank line, or to a line that begins a numbered or bulleted step."""

    candidates = re.compile(r"\n")

    def _end(self, text: str, at: int, *, final: bool) -> int | None:
        return _break(text, at, final=final)


def _blank_line(text: str, at: int, *, final: bool) -> int | None:
    behind = _BLANK.match(text, at + 1)
    end = at + 1 if behind is None else behind.end()
    if end == len(text):
        return 0 if final else None
    return end + 1 if text[end] == "\n" else 0


def _break(text: str, at: int, *, final: bool) -> int | None:
    """A blank line, or an item in the next line, ends a step at this line feed."""
    blank = _blank_line(text, at, final=final)
    if blank is None or blank > 0:
        return blank
    if at + 1 == len(text) or text[at + 1] not in _ITEM_BEGINS:
        return 0
    known = final or len(text) - at > _ITEM_CHARS_MAX or text.find("\n", at + 1) > 0
    if not known:
        return None
    return at + 1 if _ITEM.match(text, at + 1) else 0


# -------------------------------------------------------------------------------------- sentences

_CLOSERS = "\"')]}”’»*_"
_CLOSERS_WIDE = "」』”’）)\"'"
_CLOSERS_MAX = 3
_WORD_CHARS_MAX = 16
_INDENT_CHARS_MAX = 24
_LAST_WORD = re.compile(r"(?:^|[\s(\[{\"'“‘«/—–-])([^\s(\[{\"'“‘«/—–-]*)$")
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]$")
_LIST_NUMBER = re.compile(r"\d{1,3}$")

_NEVER_LAST = frozenset(
    "adm approx bros bzw ca capt cf cmdr col dept dr drs eq eqs esp est etal fig figs fr ft gen "
    "gov hon hr hrsg insb lt maj messrs mlle mme mr mrs ms mt nr op pp prof pt rep rev sen sgt "
    "sr sra srta st ste vgl viz vol vols vs".split()
)
"""Words whose full stop never ends a sentence, lower case: what they introduce follows."""

_SELDOM_LAST = frozenset(
    "al apr aug ave blvd co corp dec ed eds etc feb fri inc jan jr jul jun ltd mar mon no nov "
    "oct p pl rd sat sec sep sept sq sun tbsp thu tsp tue usw wed".split()
)
"""Words whose full stop ends a sentence only where a capital letter follows."""


class Sentence(_Scan):
    """Up to a full stop, a question or exclamation mark and the space behind it."""

    candidates = re.compile(r"[.!?…。！？\n]")

    def _end(self, text: str, at: int, *, final: bool) -> int | None:
        mark = text[at]
        if mark == "\n":
            return _break(text, at, final=final)
        wide = mark in "。！？"
        end = _past(text, at + 1, _CLOSERS_WIDE if wide else _CLOSERS)
        if end == len(text):
            return 0 if final else None
        if wide:
            return end
        if not text[end].isspace():
            return 0
        if end + 1 == len(text):
            return 0 if final else None
        return end + 1 if mark != "." or _stops(text, at, text[end + 1]) else 0


def _past(text: str, at: int, closers: str) -> int:
    """Return the place behind at most a few closing quotes and brackets."""
    stop = min(len(text), at + _CLOSERS_MAX)
    while at < stop and text[at] in closers:
        at += 1
    return at


def _stops(text: str, at: int, following: str) -> bool:
    """Whether the full stop at `at` ends a sentence, by the word before it."""
    match = _LAST_WORD.search(text[max(0, at - _WORD_CHARS_MAX) : at])
    if match is None:
        return True
    word = match[1]
    lower = word.lower()
    if lower in _NEVER_LAST or (len(word) == 1 and word.isalpha() and word.isupper()):
        return False
    if _LIST_NUMBER.match(word):
        line = text[max(0, at - _INDENT_CHARS_MAX) : at - len(word)].rpartition("\n")[2]
        return bool(line.strip(" \t*#"))
    if lower in _SELDOM_LAST or _DOTTED.match(word):
        return following.isupper() and lower not in {"e.g", "i.e", "z.b", "d.h", "u.a"}
    return True


FINDERS: Mapping[str, Callable[[int], Finder]] = {
    "chars": Chars,
    "tokens": Tokens,
    "line": Line,
    "sentence": Sentence,
    "paragraph": Paragraph,
    "reasoning": Reasoning,
}
"""For each kind of step whose ends are in the text, what finds them."""
