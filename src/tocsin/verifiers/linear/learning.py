"""Learns the weights: logistic regression on all prefixes of all trajectories at once.

The evidence of prefix t is (sum of the rows up to t of X) w / sqrt(bytes up to t), so one product
with the rows as they are and a running sum give the scores of all prefixes: the cost is that of the
trajectories, not of their prefixes. Own L-BFGS, without a threaded linear algebra library, so that
the same data and seed give the same bits whatever the number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tocsin.verifiers.linear.features import OBSERVED, WRITTEN, Hasher, folded_bytes
from tocsin.verifiers.linear.model_file import Features
from tocsin.verifiers.linear.prefix import Weights

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ITERATIONS = 40
"""Where AUC out of fold no longer changes in the third decimal, on all sets it was tried on."""

STRENGTH = 10.0
"""The penalty on the weights is |w|^2 / (2 STRENGTH), beside losses that add up to n."""

_MEMORY = 8
_LARGEST = 127


@dataclass(frozen=True, eq=False)
class Rows:
    """Steps as bytes, the steps of one trajectory lying together.

    Args:
        written, observed: folded bytes of each row, what was observed coming first.
        starts: shape (n + 1,), first row of each trajectory, and the number of rows.
    """

    written: Sequence[bytes]
    observed: Sequence[bytes]
    starts: Ints

    @staticmethod
    def of(text: Sequence[str], obs: Sequence[str], starts: Ints) -> Rows:
        """Fold the text of all rows."""
        return Rows([folded_bytes(t) for t in text], [folded_bytes(t) for t in obs], starts)


class Table:
    """Counts of n-grams by row, and what sums over prefixes need.

    Args:
        rows: the text.
        features: how n-grams are hashed.
        tick: told how many trajectories are done.
    """

    def __init__(
        self, rows: Rows, features: Features, tick: Callable[[int], None] = lambda _n: None
    ) -> None:
        self.starts = rows.starts
        self.size = 1 << features.bits
        given = [(WRITTEN, rows.written)]
        if any(rows.observed):
            given.append((OBSERVED, rows.observed))
        parts: dict[int, list[NDArray[Any]]] = {WRITTEN: [], OBSERVED: []}
        seen = np.zeros(self.size, np.int32)
        for number in range(len(rows.starts) - 1):
            places: list[NDArray[Any]] = []
            for space, texts in given:
                hasher = Hasher(features.orders, features.bits, space)
                for row in range(rows.starts[number], rows.starts[number + 1]):
                    found = np.unique(hasher.feed(texts[row]), return_counts=True)
                    parts[space].append(np.stack([found[0], found[1]]).astype(np.int32))
                    places.append(found[0])
            seen[np.unique(np.concatenate(places))] += 1
            tick(number + 1)
        self.columns = np.flatnonzero(seen >= 2)  # seen once, it says nothing of others
        self.spaces = [self._matrix(parts[space], texts) for space, texts in given]

    def _matrix(self, parts: list[NDArray[Any]], texts: Sequence[bytes]) -> tuple[Any, Floats]:
        ends = np.cumsum([0, *(part.shape[1] for part in parts)])
        places, counts = np.concatenate(parts, axis=1)
        shape = (len(parts), self.size)
        full = sparse.csr_matrix((counts.astype(np.float32), places, ends), shape=shape)
        lengths = np.fromiter(map(len, texts), np.float64, len(texts))
        return full[:, self.columns], lengths

    def fit(self, safe: Bools, weight: Floats, rows: Bools) -> Floats:
        """Return weights of `columns`, learned on some of the rows.

        Args:
            safe: shape (rows,), the label of each prefix.
            weight: shape (rows,), of each prefix; they add up to the number of trajectories.
            rows: shape (rows,), True for whole trajectories to learn from.
        """
        used = np.flatnonzero(rows)
        first = np.zeros(len(rows), bool)
        first[self.starts[:-1]] = True
        starts = np.flatnonzero(first[used])
        spaces = []
        for matrix, lengths in self.spaces:
            part = matrix[used]
            bytes_so_far = _running(lengths[used], starts)
            spaces.append((part, part.T, 1 / np.sqrt(np.maximum(bytes_so_far, 1))))
        sign = np.where(safe[used], 1.0, -1.0)
        share = weight[used]

        def loss(v: Floats) -> tuple[float, Floats]:
            w = v[:-1].astype(np.float32)
            z = np.full(len(used), v[-1])
            for part, _, by in spaces:
                z += _running((part @ w).astype(np.float64), starts) * by
            margin = z * sign
            slope = -sign * share / (1 + np.exp(np.minimum(margin, 700.0)))
            gradient = v / STRENGTH
            gradient[-1] = slope.sum()
            for _, turned, by in spaces:
                gradient[:-1] += turned @ _remaining(slope * by, starts).astype(np.float32)
            value = (share * np.logaddexp(0, -margin)).sum() + (v[:-1] ** 2).sum() / (2 * STRENGTH)
            return float(value), gradient

        return minimise(loss, np.zeros(len(self.columns) + 1), ITERATIONS)[:-1]

    def quantised(self, fitted: Sequence[Floats]) -> tuple[Weights, Floats]:
        """Return 8-bit weights, shape (2^bits, heads), and what one unit of each head is worth."""
        weights = np.zeros((self.size, len(fitted)), np.int8)
        units = np.ones(len(fitted))
        for head, values in enumerate(fitted):
            units[head] = max(float(np.abs(values).max(initial=0.0)) / _LARGEST, 1e-12)
            weights[self.columns, head] = np.rint(values / units[head]).astype(np.int8)
        return weights, units


def _running(values: Floats, starts: Ints) -> Floats:
    """Sum from the start of each trajectory up to and with each row."""
    sums = np.cumsum(values)
    before = np.concatenate([[0.0], sums])[starts]
    lengths = np.diff(np.append(starts, len(values)))
    return np.asarray(sums - np.repeat(before, lengths))


def _remaining(values: Floats, starts: Ints) -> Floats:
    """Sum from each row to the end of its trajectory."""
    ends = np.append(starts[1:], len(values))
    lengths = ends - starts
    totals = np.repeat(_running(values, starts)[ends - 1], lengths)
    return totals - _running(values, starts) + values


def minimise(
    loss: Callable[[Floats], tuple[float, Floats]], start: Floats, iterations: int
) -> Floats:
    """Minimise a smooth convex function by L-BFGS (Nocedal and Wright, algorithm 7.4 and 7.5).

    Args:
        loss: gives the value and the gradient.
        start: where to begin.
        iterations: how many steps at most.

    Example:
        >>> x = minimise(lambda x: (float(((x - 3) ** 2).sum()), 2 * (x - 3)), np.zeros(2), 20)
        >>> x.round(6).tolist()
        [3.0, 3.0]
    """
    x, (value, gradient) = start, loss(start)
    pairs: list[tuple[Floats, Floats, float]] = []
    for _ in range(iterations):
        direction = -_inverse(gradient, pairs)
        along = _dot(direction, gradient)
        if along > -1e-10 * max(1.0, abs(value)):
            break
        step = 1.0 if pairs else min(1.0, 1.0 / float(np.abs(gradient).sum()))
        for _ in range(20):
            moved = x + step * direction
            new_value, new_gradient = loss(moved)
            if new_value <= value + 1e-4 * step * along:
                break
            step /= 2
        else:
            break
        s, y = moved - x, new_gradient - gradient
        curvature = _dot(s, y)
        if curvature > 1e-12 * _dot(y, y):
            pairs = [*pairs[1 - _MEMORY :], (s, y, 1 / curvature)]
        x, value, gradient = moved, new_value, new_gradient
    return x


def _inverse(gradient: Floats, pairs: Sequence[tuple[Floats, Floats, float]]) -> Floats:
    """Multiply by the approximate inverse of the Hessian."""
    q = gradient.copy()
    shares = []
    for s, y, rho in reversed(pairs):
        share = rho * _dot(s, q)
        q -= share * y
        shares.append(share)
    if pairs:
        s, y, rho = pairs[-1]
        q /= rho * _dot(y, y)
    for (s, y, rho), share in zip(pairs, reversed(shares), strict=True):
        q += (share - rho * _dot(y, q)) * s
    return q


def _dot(a: Floats, b: Floats) -> float:
    """Return the inner product, in an order that does not depend on the number of cores."""
    return float((a * b).sum())
