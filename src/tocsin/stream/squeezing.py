"""Puts spelled-out words together and letters for the digits that stand for them.

For classifiers: a date or a version among letters may come out changed, so that rules about digits
have no use for it. Three single letters or more with separators between them become one word
("k i l l", "k.i.l.l"). In a word with at least two letters the digits and signs that look like a
letter become one ("p4ssw0rd"); 1 becomes l beside a vowel and i elsewhere.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from tocsin.limits import SQUEEZE_LAG_CHARS_MAX, WORD_CHARS_MAX
from tocsin.stream.pieces import EMPTY, Builder, Piece, joined

_LETTER = r"[^\W_]|[@$]"
_GAP = r"[ .\-_*|/,~+]{1,2}"
_WORD = re.compile(rf"(?:{_LETTER}){{1,{WORD_CHARS_MAX}}}")
_NEXT_WORD = re.compile(_LETTER)
_SPELLED = re.compile(rf"({_LETTER}){_GAP}({_LETTER}){_GAP}({_LETTER})(?!{_LETTER})")
_SPELLED_ON = re.compile(rf"{_GAP}(?:{_LETTER})(?!{_LETTER})")
_SPELLED_CHARS = 8
"""Three letters, two gaps, and the character behind them."""

_SPELLED_ON_CHARS = 4
_LEET = str.maketrans("43057@$", "aeostas")
_VOWELS = frozenset("aeiou")


class Squeeze:
    """Squeezes folded text; see the module."""

    lag_chars = SQUEEZE_LAG_CHARS_MAX

    def __init__(self) -> None:
        self._held = EMPTY
        self._inside = False  # the last character that was given is a letter
        self._spelling = False  # and it belongs to a spelled-out word

    def push(self, piece: Piece, upto: int, *, final: bool) -> tuple[Piece, int]:
        """Take more text; give what is settled."""
        held = joined(self._held, piece)
        made = Builder()
        at = 0
        while at < len(held.text):
            if self._spelling:
                taken = self._spelled_on(held, at, upto, made, final=final)
            elif _NEXT_WORD.match(held.text, at):
                taken = self._word(held, at, upto, made, final=final)
            else:
                found = _NEXT_WORD.search(held.text, at)
                taken = (found.start() if found else len(held.text)) - at
                made.copy(held, at, at + taken)
                self._inside = False
            if taken is None:
                break
            at += taken
        self._held = Piece(held.text[at:], held.starts[at:], held.ends[at:])
        return made.piece(), self._held.starts[0] if self._held.text else upto

    def _window(self, held: Piece, at: int, count: int, upto: int) -> tuple[int, bool]:
        """Return how far one may look, and whether more text would not change that."""
        size = len(held.text)
        stop = min(size, at + count)
        limit = held.starts[at] + self.lag_chars
        if held.ends[stop - 1] > limit:
            stop = max(at + 1, bisect_right(held.ends, limit, at, stop))
        return stop, stop - at == count or stop < size or upto > limit

    def _spelled_on(
        self, held: Piece, at: int, upto: int, made: Builder, *, final: bool
    ) -> int | None:
        """Go on with a spelled-out word, or end it."""
        stop, full = self._window(held, at, _SPELLED_ON_CHARS, upto)
        if not (full or final):
            return None
        match = _SPELLED_ON.match(held.text, at, stop)
        if match is None:
            self._spelling = False
            return 0
        end = match.end()
        made.copy(held, end - 1, end, _leet(held.text[end - 1]))
        return end - at

    def _word(self, held: Piece, at: int, upto: int, made: Builder, *, final: bool) -> int | None:
        """Give a word, or the begin of one that is spelled out."""
        if not self._inside and not _NEXT_WORD.match(held.text, at + 1):
            stop, full = self._window(held, at, _SPELLED_CHARS, upto)
            if not (full or final):
                return None
            match = _SPELLED.match(held.text, at, stop)
            if match is not None and sum(map(str.isalpha, match.groups())) > 1:
                word = _leet("".join(match.groups()))
                for group, letter in enumerate(word, 1):
                    made.copy(held, match.start(group), match.end(group), letter)
                self._inside = self._spelling = True
                return match.end() - at
        stop, full = self._window(held, at, WORD_CHARS_MAX, upto)
        match = _WORD.match(held.text, at, stop)
        end = stop if match is None else match.end()
        if end == len(held.text) and not (full or final):
            return None
        word = held.text[at:end]
        made.copy(held, at, end, _leet(word) if sum(map(str.isalpha, word)) > 1 else word)
        self._inside = True
        return end - at


def _leet(word: str) -> str:
    if word.isalpha():
        return word
    letters = word.translate(_LEET)
    if "1" not in letters:
        return letters
    beside = f" {letters} "
    return "".join(
        ("l" if beside[i] in _VOWELS or beside[i + 2] in _VOWELS else "i") if c == "1" else c
        for i, c in enumerate(letters)
    )
