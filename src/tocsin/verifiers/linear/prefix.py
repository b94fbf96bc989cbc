"""What a model knows of one response so far: whole numbers, of the same size at any length.

Weights are whole numbers, so that sums are exact and the same in any order and on any platform.
With S the sum of the weights of all n-grams of N bytes, S / sqrt(N) is the evidence of the prefix:
a sum in units of its own scatter. The same over the last one to two blocks of written text is the
evidence of a window; the lowest that it ever was, where a block ended or now, is kept beside it,
so that a late unsafe passage is not diluted by a long safe beginning. What was written, what was
observed and the worst window count alike. All of it is a function of the text, whatever the steps.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tocsin.limits import LINEAR_CHUNK_BYTES
from tocsin.verifiers.linear.features import OBSERVED, WRITTEN, Hasher

Weights = NDArray[np.int8]

Numbers = list[float]
"""By head. Sums are whole numbers below 2^53, which floats hold exactly; for so few of them lists
are faster than arrays."""

_FEW = 1_024
_ONES = np.ones(_FEW, np.float32)
"""The sum of so many weights stays below 2^24, and is exact in 32 bits."""


class Prefix:
    """Evidence of a growing prefix.

    Args:
        weights: shape (2^bits, heads), safe-high.
        orders: lengths of the n-grams.
        block: bytes of a block.

    Example:
        >>> weights = np.ones((1 << 10, 1), np.int8)
        >>> prefix = Prefix(weights, (1, 3), 256)
        >>> prefix.write("main", b"abcd")
        >>> prefix.evidence().tolist()
        [8.0]
    """

    def __init__(self, weights: Weights, orders: tuple[int, ...], block: int) -> None:
        self._weights = weights
        self._orders = orders
        self._bits = len(weights).bit_length() - 1
        self._block = block
        heads = weights.shape[1]
        self._hashers: dict[object, Hasher] = {}
        self._written: Numbers = [0.0] * heads
        self._written_bytes = 0
        self._observed: Numbers = [0.0] * heads
        self._observed_bytes = 0
        self._last_block: Numbers = [0.0] * heads
        self._this_block: Numbers = [0.0] * heads
        self._worst: Numbers = [math.inf] * heads

    def write(self, channel: object, text: bytes) -> None:
        """Take what was written; n-grams do not reach from one channel into another."""
        hasher = self._hasher(channel, WRITTEN)
        for at in range(0, len(text), LINEAR_CHUNK_BYTES):
            piece = text[at : at + LINEAR_CHUNK_BYTES]
            self._blocks(hasher.feed(piece), len(piece))

    def observe(self, channel: object, text: bytes) -> None:
        """Take what was observed."""
        hasher = self._hasher(channel, OBSERVED)
        for at in range(0, len(text), LINEAR_CHUNK_BYTES):
            places = hasher.feed(text[at : at + LINEAR_CHUNK_BYTES])
            self._observed = _added(self._observed, self._sum(places))
            self._observed_bytes += places.shape[1]

    def evidence(self) -> NDArray[np.float64]:
        """Return shape (heads,): written, observed and worst window added up, safe-high."""
        return np.array(self.by_head())

    def by_head(self) -> Numbers:
        """Return the evidence as a list."""
        root = _root(min(self._written_bytes, self._block + self._written_bytes % self._block))
        written_root, observed_root = _root(self._written_bytes), _root(self._observed_bytes)
        return [
            written / written_root
            + observed / observed_root
            + (now if (now := (last + this) / root) < lowest else lowest)
            for written, observed, last, this, lowest in zip(
                self._written,
                self._observed,
                self._last_block,
                self._this_block,
                self._worst,
                strict=True,
            )
        ]

    def _hasher(self, channel: object, space: int) -> Hasher:
        key = (channel, space)
        found = self._hashers.get(key)
        if found is None:
            found = self._hashers[key] = Hasher(self._orders, self._bits, space)
        return found

    def _sum(self, places: NDArray[np.uint32]) -> Numbers:
        """Add up the weights of n-grams; whole numbers, and exact, in whatever arithmetic."""
        taken = self._weights.take(places.reshape(-1), axis=0)
        if len(taken) <= _FEW:
            few: Numbers = np.dot(_ONES[: len(taken)], taken.astype(np.float32)).tolist()
            return few
        many: Numbers = taken.sum(axis=0, dtype=np.int64).astype(np.float64).tolist()
        return many

    def _blocks(self, places: NDArray[np.uint32], size: int) -> None:
        """Add up block by block."""
        room = self._block - self._written_bytes % self._block
        if size < room:
            self._add(places, size)
            return
        for begin, end in pairwise([0, *range(room, size, self._block), size]):
            self._add(places[:, begin:end], end - begin)
            if self._written_bytes % self._block == 0:
                root = _root(min(self._written_bytes, 2 * self._block))
                blocks = zip(self._last_block, self._this_block, self._worst, strict=True)
                self._worst = [min(lowest, (last + this) / root) for last, this, lowest in blocks]
                self._last_block = self._this_block
                self._this_block = [0.0] * len(self._this_block)

    def _add(self, places: NDArray[np.uint32], size: int) -> None:
        added = self._sum(places)
        self._written = _added(self._written, added)
        self._this_block = _added(self._this_block, added)
        self._written_bytes += size


def _added(one: Numbers, other: Numbers) -> Numbers:
    return [a + b for a, b in zip(one, other, strict=True)]


def _root(size: int) -> float:
    return math.sqrt(max(size, 1))
