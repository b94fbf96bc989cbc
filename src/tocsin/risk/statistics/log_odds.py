"""A fitted log-odds of being unsafe: a logistic and a small boosted forest, averaged."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEATURES = 8
"""Features of a prefix, see `tocsin.risk.statistics.features`."""


class Tree(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One regression tree as parallel arrays, root at 0.

    Args:
        feature: index tested at each node, -1 at a leaf.
        limit: a prefix goes left when its feature is at most this.
        left, right: children.
        value: log-odds added at a leaf, 0 elsewhere.
    """

    feature: tuple[int, ...]
    limit: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what is no tree: a walk must only go forward, and end at a leaf."""
        n = len(self.feature)
        if n == 0 or {len(self.limit), len(self.left), len(self.right), len(self.value)} != {n}:
            raise ValueError("a tree needs nodes, and its five arrays equal lengths")
        for node, feature in enumerate(self.feature):
            inner = 0 <= feature < FEATURES and node < self.left[node] < n > self.right[node] > node
            if not inner and feature != -1:
                raise ValueError(f"node {node} is neither a leaf nor leads forward")


class LogOdds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Half the sum of a linear model's log-odds and a forest's (danger-high, any real number).

    Online it is walked in plain Python; `rows` gives the same bits for many prefixes at once.

    Example:
        >>> m = LogOdds(
        ...     intercept=1.0,
        ...     weights=(-2.0,),
        ...     base=0.0,
        ...     trees=(
        ...         Tree(
        ...             feature=(0, -1, -1),
        ...             limit=(0.5, 0.0, 0.0),
        ...             left=(1, 0, 0),
        ...             right=(2, 0, 0),
        ...             value=(0.0, 1.0, -1.0),
        ...         ),
        ...     ),
        ... )
        >>> m.one((0.0,)), m.one((1.0,)), m.rows(np.array([[0.0], [1.0]])).tolist()
        (1.0, -1.0, [1.0, -1.0])
    """

    intercept: float
    weights: tuple[float, ...]
    base: float
    trees: tuple[Tree, ...]

    def one(self, features: Sequence[float]) -> float:
        """Log-odds of one prefix."""
        linear = self.intercept
        for weight, value in zip(self.weights, features, strict=True):
            linear = linear + weight * value
        forest = self.base
        for tree in self.trees:
            tested, limit, node = tree.feature, tree.limit, 0
            index = tested[0]
            while index >= 0:
                node = tree.left[node] if features[index] <= limit[node] else tree.right[node]
                index = tested[node]
            forest = forest + tree.value[node]
        return 0.5 * (linear + forest)

    def rows(self, features: Floats) -> Floats:
        """Log-odds of many prefixes, shape (m, 8) to (m,)."""
        linear = np.full(len(features), self.intercept)
        for column, weight in enumerate(self.weights):
            linear = linear + weight * features[:, column]
        return np.asarray(0.5 * (linear + forest_rows(self.base, self.trees, features)))


def forest_rows(base: float, trees: Sequence[Tree], features: Floats) -> Floats:
    """Sum of the trees' leaves for many prefixes, in the order in which `one` adds them."""
    total = np.full(len(features), base)
    everyone = np.arange(len(features))
    for tree in trees:
        tested, limit = np.array(tree.feature), np.array(tree.limit)
        left, right, value = np.array(tree.left), np.array(tree.right), np.array(tree.value)
        node = np.zeros(len(features), dtype=np.int64)
        walking = everyone
        while len(walking) and tested[0] >= 0:
            here = node[walking]
            goes_left = features[walking, tested[here]] <= limit[here]
            node[walking] = np.where(goes_left, left[here], right[here])
            walking = walking[tested[node[walking]] >= 0]
        total = total + value[node]
    return total
