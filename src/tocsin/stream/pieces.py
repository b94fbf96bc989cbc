"""Text with the place in the raw text that each character came from, and stages that rewrite it.

A stage takes pieces and gives pieces. It may hold characters back until it knows what becomes of
them, but only within a bounded stretch of raw text, and what it gives in the end never depends on
how the text was cut. Stages in a row are therefore again such a rewriting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Piece(NamedTuple):
    """Some characters of a form of the text, and where they came from.

    Args:
        text: the characters.
        starts, ends: for each of them the half-open range of raw characters it came from. Starts
            never go back. Where the form is the raw text, both are `range` objects.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]


EMPTY = Piece("", range(0), range(0))
"""No characters."""


def raw(text: str, at: int) -> Piece:
    """Return raw text that begins at an offset, as a piece.

    Example:
        >>> raw("ab", 5)
        Piece(text='ab', starts=range(5, 7), ends=range(6, 8))
    """
    end = at + len(text)
    return Piece(text, range(at, end), range(at + 1, end + 1))


def joined(first: Piece, second: Piece) -> Piece:
    """Return two pieces as one; ranges that meet stay ranges."""
    if not first.text:
        return second
    if not second.text:
        return first
    return Piece(
        first.text + second.text,
        _joined(first.starts, second.starts),
        _joined(first.ends, second.ends),
    )


def _joined(first: Sequence[int], second: Sequence[int]) -> Sequence[int]:
    if isinstance(first, range) and isinstance(second, range) and first.stop == second.start:
        return range(first.start, second.stop)
    return [*first, *second]


class Builder:
    """Collects what a stage gives.

    Example:
        >>> made = Builder()
        >>> made.copy(raw("abc", 0), 0, 2)
        >>> made.add("x", 2, 9)
        >>> made.piece()
        Piece(text='abx', starts=[0, 1, 2], ends=[1, 2, 9])
    """

    __slots__ = ("_ends", "_starts", "_texts")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._starts: range | list[int] = range(0)
        self._ends: range | list[int] = range(0)

    def add(self, text: str, start: int, end: int) -> None:
        """Add characters that all came from one range."""
        self._extend(text, [start] * len(text), [end] * len(text))

    def copy(self, source: Piece, begin: int, end: int, text: str | None = None) -> None:
        """Add characters of a piece, or as many others in their places."""
        if begin < end:
            content = source.text[begin:end] if text is None else text
            self._extend(content, source.starts[begin:end], source.ends[begin:end])

    def _extend(self, text: str, starts: Sequence[int], ends: Sequence[int]) -> None:
        self._starts = _extended(self._starts, starts)
        self._ends = _extended(self._ends, ends)
        self._texts.append(text)

    def piece(self) -> Piece:
        """Return all that was added."""
        return Piece("".join(self._texts), self._starts, self._ends)


def _extended(first: range | list[int], second: Sequence[int]) -> range | list[int]:
    """Return both in a row: a range as long as they are one, then a list that grows in place."""
    if isinstance(first, range):
        if isinstance(second, range) and (not first or first.stop == second.start):
            return range(first.start if first else second.start, second.stop)
        first = list(first)
    first.extend(second)
    return first


class Stage(Protocol):
    """Rewrites text, piece by piece."""

    lag_chars: int
    """Raw characters over which it may hold something back, at most."""

    def push(self, piece: Piece, upto: int, *, final: bool) -> tuple[Piece, int]:
        """Take more text; give what is settled.

        Args:
            piece: the text.
            upto: all that follows comes from raw characters at this offset or behind it.
            final: nothing follows.

        Returns:
            The text that is settled, and the `upto` of what follows it.
        """
