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
Sums = NDArray[np.int64]


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
        self._written = np.zeros(heads, np.int64)
        self._written_bytes = 0
        self._observed = np.zeros(heads, np.int64)
        self._observed_bytes = 0
        self._last_block = np.zeros(heads, np.int64)
        self._this_block = np.zeros(heads, np.int64)
        self._worst = np.full(heads, np.inf)

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
            self._observed += self._sum(places)
            self._observed_bytes += places.shape[1]

    def evidence(self) -> NDArray[np.float64]:
        """Return shape (heads,): written, observed and worst window added up, safe-high."""
        window = min(self._written_bytes, self._block + self._written_bytes % self._block)
        now = _rated(self._last_block + self._this_block, window)
        worst = np.minimum(self._worst, now)
        observed = _rated(self._observed, self._observed_bytes)
        return np.asarray(_rated(self._written, self._written_bytes) + observed + worst)

    def _hasher(self, channel: object, space: int) -> Hasher:
        key = (channel, space)
        found = self._hashers.get(key)
        if found is None:
            found = self._hashers[key] = Hasher(self._orders, self._bits, space)
        return found

    def _sum(self, places: NDArray[np.uint32]) -> Sums:
        taken = self._weights.take(places.reshape(-1), axis=0)
        return np.asarray(taken.sum(axis=0, dtype=np.int64))

    def _blocks(self, places: NDArray[np.uint32], size: int) -> None:
        """Add up block by block."""
        room = self._block - self._written_bytes % self._block
        for begin, end in pairwise([0, *range(room, size, self._block), size]):
            added = self._sum(places[:, begin:end])
            self._written += added
            self._this_block += added
            self._written_bytes += end - begin
            if self._written_bytes % self._block == 0:
                window = min(self._written_bytes, 2 * self._block)
                rated = _rated(self._last_block + self._this_block, window)
                self._worst = np.minimum(self._worst, rated)
                self._last_block = self._this_block
                self._this_block = np.zeros_like(self._this_block)


def _rated(sums: Sums, size: int) -> NDArray[np.float64]:
    return sums / math.sqrt(max(size, 1))
