"""Which trajectories serve what: group-wise splits and one trajectory per group."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from tocsin.risk.trajectories import Trajectories

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def take_groups(groups: Ints, count: int, rng: np.random.Generator) -> Bools:
    """Mark whole random groups until at least `count` trajectories are marked.

    Args:
        groups: shape (n,), a number for the group of each trajectory.
        count: how many trajectories to mark, or a few more where the last group is large.
        rng: source of randomness.

    Returns:
        Shape (n,); a group is never divided.

    Example:
        >>> take_groups(np.array([0, 0, 1, 2]), 2, np.random.default_rng(1)).tolist()
        [True, True, False, False]
    """
    _, codes = np.unique(groups, return_inverse=True)
    sizes = np.bincount(codes)
    order = rng.permutation(len(sizes))
    enough = int(np.searchsorted(np.cumsum(sizes[order]), count)) + 1 if count > 0 else 0
    chosen = np.zeros(len(sizes), dtype=bool)
    chosen[order[:enough]] = True
    return np.asarray(chosen[codes], dtype=bool)


def one_per_group(trajectories: Trajectories, among: Bools, seed: int) -> Bools:
    """Mark one random trajectory of each group, of those in `among`.

    The draw is by SHA-256 of seed and id, so it does not depend on the order of the rows.
    """
    best: dict[str, tuple[bytes, int]] = {}
    for i in np.flatnonzero(among):
        name = f"{seed}:{trajectories.ids[i]}".encode("utf-8", "surrogatepass")
        rank = (hashlib.sha256(name).digest(), int(i))
        group = trajectories.groups[i]
        if group not in best or rank < best[group]:
            best[group] = rank
    chosen = np.zeros(trajectories.n, dtype=bool)
    chosen[[i for _, i in best.values()]] = True
    return chosen
