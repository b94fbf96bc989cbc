"""Trajectories for tests: plain ones, hostile ones, and a world in which unsafe ones sink."""

import math
from collections.abc import Sequence

import numpy as np

from tocsin.risk.trajectories import Trajectories, from_columns

TINY = 5e-324
"""The smallest positive double."""

EDGES = {
    "probability": (0.0, 1.0, 0.5, -0.0, TINY, 1e-6, 1.0 - 1e-6, -1.0, 2.0, math.inf, -math.inf),
    "real": (0.0, -0.0, TINY, -TINY, 1.0, -1.0, 1e100, -1e300, 1e300, math.inf, -math.inf),
}
"""Scores at and beyond the ends of what each kind of signal may say."""


def trajectories(
    scores: Sequence[Sequence[float]],
    safe: Sequence[bool] | None = None,
    tokens: Sequence[Sequence[float]] | None = None,
) -> Trajectories:
    """One trajectory for each list of scores, in that order; all safe unless told."""
    labels = [True] * len(scores) if safe is None else safe
    return from_columns(
        trajectory_id=[f"t{i:06d}" for i, row in enumerate(scores) for _ in row],
        step=[t + 1 for row in scores for t in range(len(row))],
        score=[s for row in scores for s in row],
        label=[int(labels[i]) for i, row in enumerate(scores) for _ in row],
        tokens=None if tokens is None else [w for row in tokens for w in row],
    )


def hostile(kind: str, *, missing: bool) -> Trajectories:
    """Ragged lengths, ties, extremes and, where wanted, missing scores."""
    rng = np.random.default_rng(20)
    edges = np.array(EDGES[kind])
    rows: list[list[float]] = [[float(edge)] for edge in edges]
    rows += [[0.5] * 7, [0.25, 0.25, 0.75, 0.75], [0.1, 0.2, 0.1, 0.2, 0.1]]
    rows += [rng.choice(edges, size=int(rng.integers(1, 40))).tolist() for _ in range(40)]
    rows += [rng.uniform(size=int(rng.integers(1, 60))).tolist() for _ in range(40)]
    rows += [np.round(rng.uniform(size=30), 1).tolist() for _ in range(10)]
    if missing:
        nan = math.nan
        rows += [[nan], [nan, nan, nan], [nan, 0.5], [0.5, nan], [nan, 0.9, nan, nan, 0.1, nan]]
        rows += [
            np.where(rng.uniform(size=len(row)) < 0.3, nan, row).tolist() for row in rows[14:54]
        ]
    return trajectories(rows)


def long(kind: str, steps: int) -> Trajectories:
    """One very long trajectory beside two of a single step; a tenth of its scores are extreme."""
    rng = np.random.default_rng(22)
    scores = np.where(
        rng.uniform(size=steps) < 0.1, rng.choice(EDGES[kind], size=steps), rng.uniform(size=steps)
    )
    return trajectories([[0.5], scores.tolist(), [0.1]])


def sinking(n: int, seed: int, *, share_safe: float = 0.6) -> Trajectories:
    """Safe ones stay high; an unsafe one sinks by two logits from a random step on."""
    rng = np.random.default_rng(seed)
    rows, safe = [], []
    for _ in range(n):
        good = bool(rng.uniform() < share_safe)
        x = rng.normal(1.2, 1.0, size=int(rng.integers(3, 12)))
        if not good:
            x[int(rng.integers(0, len(x))) :] -= 2.0
        rows.append((1.0 / (1.0 + np.exp(-x))).tolist())
        safe.append(good)
    return trajectories(rows, safe)
