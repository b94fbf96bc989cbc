"""Features: the byte n-grams of the folded text, each hashed to a place in a table.

Text is folded (ASCII to lower case, anything else as `tocsin.stream.normal_forms.folded` does) and
encoded in UTF-8. For each order n, the n bytes x_1 .. x_n that end at a place give

    h = x_1 M^(n-1) + ... + x_n + (n + 64 c) A     modulo 2^32
    index = ((h xor (h >> 15)) B modulo 2^32) >> (32 - bits)

with M = 0x01000193, A = 0x9E3779B1, B = 0x85EBCA6B, and c = 0 for what was written, 1 for what was
observed. The text begins with as many bytes of value 0 as the longest order needs, so each byte
ends exactly one n-gram of each order: features do not depend on how the text is cut.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tocsin.stream.normal_forms import folded

Indices = NDArray[np.uint32]

WRITTEN = 0
OBSERVED = 1

_MULTIPLY = 0x01000193
_SALT = 0x9E3779B1
_MIX = np.uint32(0x85EBCA6B)
_SHIFT = np.uint32(15)

_FEW_BYTES = 256
"""Up to so many bytes one product is faster than adding up row by row."""


def folded_bytes(text: str) -> bytes:
    r"""Return the bytes that n-grams are made of.

    Example:
        >>> folded_bytes("Zürich, NOW"), folded_bytes("東")
        (b'zurich, now', b'\xe6\x9d\xb1')
    """
    if text.isascii():
        return text.lower().encode("ascii")
    return folded(text).encode("utf-8", "surrogatepass")


class Hasher:
    """Hash the n-grams of a text as it comes.

    Args:
        orders: the lengths n, increasing.
        bits: the table has 2^bits places.
        space: `WRITTEN` or `OBSERVED`.

    Example:
        >>> whole = Hasher((1, 3), 10).feed(b"abcd")
        >>> cut = Hasher((1, 3), 10)
        >>> bool((np.hstack([cut.feed(b"ab"), cut.feed(b"cd")]) == whole).all())
        True
    """

    def __init__(self, orders: tuple[int, ...], bits: int, space: int = WRITTEN) -> None:
        self._orders = orders
        self._plan = _plan(orders)
        self._powers = _powers(orders)
        self._salts = _salts(orders, space)
        self._down = np.uint32(32 - bits)
        self._keep = orders[-1] - 1
        self._tail = bytes(self._keep)

    def feed(self, text: bytes) -> Indices:
        """Return an array of shape (orders, len(text)): the places of the n-grams that end here."""
        size = len(text)
        with_tail = self._tail + text
        self._tail = with_tail[size:]
        made = self._few(with_tail) if 0 < size <= _FEW_BYTES else self._many(with_tail, size)
        made ^= made >> _SHIFT
        made *= _MIX
        made >>= self._down
        return made

    def _few(self, with_tail: bytes) -> Indices:
        """Hash in one product: a step has some tens of bytes, and each call of numpy costs more."""
        order = self._keep + 1
        shape = (order, len(with_tail) - self._keep)
        grams = np.ndarray(shape, np.uint8, with_tail, 0, (1, 1))
        made: Indices = np.matmul(self._powers, grams)
        made += self._salts
        return made

    def _many(self, with_tail: bytes, size: int) -> Indices:
        x = np.frombuffer(with_tail, np.uint8).astype(np.uint32)
        made = np.empty((len(self._orders), size), np.uint32)
        hashes = {1: x}
        for n, a, b, power in self._plan:
            hashes[n] = hashes[a][: len(x) - n + 1] * power + hashes[b][a:]
        for row, n in enumerate(self._orders):
            np.add(hashes[n][len(x) - n + 1 - size :], self._salts[row], out=made[row])
        return made


@lru_cache(maxsize=64)
def _powers(orders: tuple[int, ...]) -> Indices:
    """Give the factors of the bytes up to a place, shape (orders, longest order).

    Example:
        >>> _powers((1, 2)).tolist() == [[0, 1], [_MULTIPLY, 1]]
        True
    """
    longest = orders[-1]
    rows = [[pow(_MULTIPLY, longest - 1 - i, 2**32) * (longest - i <= n) for i in range(longest)]
            for n in orders]  # fmt: skip
    return np.array(rows, np.uint32)


@lru_cache(maxsize=64)
def _salts(orders: tuple[int, ...], space: int) -> Indices:
    """Give what is added for each order, shape (orders, 1)."""
    return np.array([[(n + 64 * space) * _SALT & 0xFFFFFFFF] for n in orders], np.uint32)


@lru_cache(maxsize=64)
def _plan(orders: tuple[int, ...]) -> list[tuple[int, int, int, np.uint32]]:
    """Say how to make n-grams of each order from shorter ones: h_(a+b) = h_a M^b + h_b.

    Example:
        >>> [(n, a, b) for n, a, b, _ in _plan((3, 5, 7))]
        [(2, 1, 1), (3, 2, 1), (5, 3, 2), (7, 5, 2)]
    """
    known, steps = [1], []
    for order in orders:
        while order not in known:
            a = max(known)
            b = max(n for n in known if n <= order - a)
            steps.append((a + b, a, b, np.uint32(pow(_MULTIPLY, b, 2**32))))
            known.append(a + b)
    return steps
