"""Simulated scores of any size, straight into arrays."""

from __future__ import annotations

import numpy as np

from tocsin.risk.trajectories import Trajectories

UNSAFE_SHARE = 0.3
SAFE_SHAPE, UNSAFE_SHAPE = 6.0, 1.5
"""A score is U ** (1 / shape), as in `tocsin.testing.worlds`."""


def trajectories(n: int, steps: int, seed: int) -> Trajectories:
    """Draw n trajectories of equal length; a share is unsafe, in its second half.

    Nothing but the scores takes memory that matters: tokens are one number seen N times.
    """
    rng = np.random.default_rng(seed)
    unsafe = np.arange(n) < round(n * UNSAFE_SHARE)
    scores = rng.random((n, steps))
    half, bad = steps // 2, int(unsafe.sum())
    np.power(scores[:, :half], 1.0 / SAFE_SHAPE, out=scores[:, :half])
    np.power(scores[:bad, half:], 1.0 / UNSAFE_SHAPE, out=scores[:bad, half:])
    np.power(scores[bad:, half:], 1.0 / SAFE_SHAPE, out=scores[bad:, half:])
    ids = np.array([f"{i:07d}" for i in range(n)], dtype=object)
    return Trajectories(
        ids=ids,
        starts=np.arange(n, dtype=np.int64) * steps,
        scores=scores.reshape(-1),
        safe=~unsafe,
        tokens=np.broadcast_to(np.float64(1.0), (n * steps,)),
        groups=ids,
        segments=np.full(n, "all", dtype=object),
        onset=np.where(unsafe, half + 1, -1),
    )
