"""Folds away how a text is written: compatibility forms, case, accents on Latin, lookalikes.

Each base character is folded with the marks that follow it (NFKD, lookalikes to ASCII, case, NFKC,
until nothing changes). Marks on what becomes ASCII go, which undoes stacked marks and accents, and
makes ``=`` of a crossed one; other scripts keep theirs, up to a limit. Greek and Cyrillic words
come out with Latin letters among their own: this is a view beside the raw text, for matching.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from tocsin.limits import CLUSTER_CHARS_MAX, FOLDED_PER_CHAR_MAX, MARKS_MAX
from tocsin.stream.confusables import SKELETON
from tocsin.stream.pieces import EMPTY, Builder, Piece, joined
from tocsin.stream.reveal import HIDDEN

_PARTS = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]+")
_JOINS = "\ufdd0"
"""What the table holds for a character that joins the one before it: a noncharacter."""

_ROUNDS_MAX = 5
_TABLE_MAX = 8_192
_SYLLABLE_CHARS_MAX = 3

_LETTER_ROWS = (0x1F150, 0x1F170, 0x1F1E6)
"""A to Z in black circles, in black squares, and as regional indicators."""


class _Table(dict[int, str]):
    """How each single character folds, filled as characters come."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        found = _JOINS if _joins(char) else fold_cluster(char)
        if len(self) < _TABLE_MAX:
            self[code] = found
        return found


def _joins(char: str) -> bool:
    """Whether a character may belong to the one before it."""
    first = unicodedata.normalize("NFKD", char)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff"


def _is_jamo(char: str) -> bool:
    """Whether a joining character is the vowel or the end of a Hangul syllable: a letter."""
    return "\u1160" <= unicodedata.normalize("NFKD", char)[0] <= "\u11ff"


@lru_cache(maxsize=4_096)
def fold_cluster(cluster: str) -> str:
    """Fold one base character with its marks, until nothing changes."""
    folded = cluster
    for _ in range(_ROUNDS_MAX):
        before = folded
        folded = unicodedata.normalize("NFKC", _bare(_bare(before).casefold()))
        if folded == before:
            break
    fits = 0 < len(folded) <= FOLDED_PER_CHAR_MAX * len(cluster)
    return folded if fits else cluster


def _bare(text: str) -> str:
    """Decompose; map what looks Latin; take marks from ASCII, and those beyond the limit."""
    out: list[str] = []
    marks = 0
    for char in unicodedata.normalize("NFKD", text):
        if HIDDEN.match(char):
            continue
        if unicodedata.category(char)[0] == "M":
            marks += 1
            if marks > MARKS_MAX or (out and out[-1].isascii()):
                continue
        else:
            marks = 0
        out.append(char if char.isascii() else _letter(char))
    return "".join(out)


def _letter(char: str) -> str:
    """Return the ASCII letter or digit that a character looks like or means, or itself."""
    code = ord(char)
    found = SKELETON.get(code)
    if found is not None:
        return found
    for row in _LETTER_ROWS:
        if row <= code < row + 26:
            return chr(ord("a") + code - row)
    digit = unicodedata.digit(char, None)
    return char if digit is None else str(digit)


_TABLE = _Table()


class Fold:
    """Folds text; see the module. What is hidden must have been revealed before."""

    lag_chars = CLUSTER_CHARS_MAX + 1

    def __init__(self) -> None:
        self._held = EMPTY
        self._drops_marks = self._drops_all = False

    def push(self, piece: Piece, upto: int, *, final: bool) -> tuple[Piece, int]:
        """Take more text; give it folded."""
        text = piece.text
        if text.isascii() and not self._held.text:
            if text:
                self._after_ascii()
            return Piece(text.lower(), piece.starts, piece.ends), upto
        made = Builder()
        for match in _PARTS.finditer(text):
            begin, end = match.span()
            if text[begin].isascii():
                self._flush(made)
                self._after_ascii()
                made.copy(piece, begin, end, match[0].lower())
            else:
                self._fold(piece, begin, end, made)
        if self._held.text and (final or upto - self._held.starts[0] > CLUSTER_CHARS_MAX):
            self._flush(made)
            self._drops_marks = self._drops_all = True
        return made.piece(), self._held.starts[0] if self._held.text else upto

    def _after_ascii(self) -> None:
        self._drops_marks, self._drops_all = True, False

    def _flush(self, made: Builder) -> None:
        held = self._held
        if not held.text:
            return
        self._held = EMPTY
        folded = fold_cluster(held.text)
        if len(folded) == 1:
            made.add(folded, held.starts[0], held.ends[-1])
        elif len(folded) == len(held.text):
            made.copy(held, 0, len(folded), folded)
        else:
            made.add(folded, held.starts[0], held.ends[-1])

    def _fold(self, piece: Piece, begin: int, end: int, made: Builder) -> None:
        """Fold characters none of which is ASCII."""
        folded = piece.text[begin:end].translate(_TABLE)
        if len(folded) == end - begin and _JOINS not in folded:
            self._flush(made)
            last = end if folded[-1].isascii() else end - 1
            made.copy(piece, begin, last, folded[: last - begin])
            if last == end:
                self._after_ascii()
            else:
                self._hold(piece, last)
            return
        for at in range(begin, end):
            char = piece.text[at]
            folded = _TABLE[ord(char)]
            if folded == _JOINS and char != _JOINS:
                self._join(piece, at, made)
                continue
            self._flush(made)
            if folded.isascii():
                made.add(folded, piece.starts[at], piece.ends[at])
                self._after_ascii()
            else:
                self._hold(piece, at)

    def _hold(self, piece: Piece, at: int) -> None:
        self._held = Piece(piece.text[at], piece.starts[at : at + 1], piece.ends[at : at + 1])
        self._drops_marks = self._drops_all = False

    def _join(self, piece: Piece, at: int, made: Builder) -> None:
        """Take a mark, or a part of a syllable, to the character before it."""
        held = self._held
        jamo = _is_jamo(piece.text[at])
        if held.text and piece.ends[at] - held.starts[0] > CLUSTER_CHARS_MAX:
            self._flush(made)
            self._drops_marks = self._drops_all = True
        if self._drops_all or (self._drops_marks and not jamo):
            return
        if jamo and len(held.text) >= _SYLLABLE_CHARS_MAX:
            self._flush(made)
        if not self._held.text:
            self._hold(piece, at)
            return
        one = Piece(piece.text[at], piece.starts[at : at + 1], piece.ends[at : at + 1])
        self._held = joined(self._held, one)
