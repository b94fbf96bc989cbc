"""Choices made by a fuzzer's bytes, one byte each, so that a small change changes little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    r"""Reads choices from bytes; where these are used up, everything is the first choice.

    Example:
        >>> dice = Dice(b"\x05\x01ab")
        >>> dice.below(4), dice.one("xyz"), dice.rest(), dice.below(9)
        (1, 'y', b'ab', 0)
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, size: int) -> int:
        """Choose a number from 0 to below a size of at most 256."""
        if self._at >= len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1] % size

    def flag(self) -> bool:
        """Choose yes or no."""
        return self.below(2) == 1

    def one(self, options: Sequence[T]) -> T:
        """Choose one of at most 256."""
        return options[self.below(len(options))]

    def some(self, most: int) -> range:
        """Choose how often: up to so many times."""
        return range(self.below(most + 1))

    def rest(self) -> bytes:
        """Take what is left, as it is."""
        left = self._data[self._at :]
        self._at = len(self._data)
        return left


PIECES_MAX = 512


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Cut bytes into pieces of these sizes, in turn; after `PIECES_MAX` comes the rest.

    Example:
        >>> cut(b"abcdefg", [1, 2])
        [b'a', b'bc', b'd', b'ef', b'g']
    """
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)] if turn < PIECES_MAX else len(data)
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return pieces
