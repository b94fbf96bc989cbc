"""Which trajectories serve what: group-wise splits and one trajectory per group."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from tocsin.risk.trajectories import Trajectories

Bools = NDArray[np.bool_]


def split_groups(trajectories: Trajectories, share: float, rng: np.random.Generator) -> Bools:
    """Mark a random share of the groups; a group is never divided.

    Groups are shuffled and taken until the share of trajectories is reached, so that the size does
    not depend on how large the groups are.

    Example:
        >>> from tocsin.risk.trajectories import from_columns
        >>> t = from_columns(
        ...     trajectory_id=list("abcd"), step=[1] * 4, score=[0.5] * 4, label=[1] * 4
        ... )
        >>> int(split_groups(t, 0.5, np.random.default_rng(0)).sum())
        2
    """
    return take_groups(trajectories, round(share * trajectories.n), rng)


def take_groups(trajectories: Trajectories, count: int, rng: np.random.Generator) -> Bools:
    """Mark whole random groups until at least `count` trajectories are marked."""
    codes = trajectories.group_codes
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
