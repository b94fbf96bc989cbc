"""Run an incremental statistic over many trajectories at once, one step number at a time.

The cost is one pass over the scores; the state of all trajectories advances together, by the very
expressions that the online form uses, so that both forms agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.model import MissingPolicy
from tocsin.risk.trajectories import Trajectories

Floats = NDArray[np.float64]
Advance = Callable[[Any, Any], tuple[Any, Sequence[Any]]]


def lockstep(
    trajectories: Trajectories, state: Sequence[float], advance: Advance, before: Sequence[float]
) -> tuple[list[Floats], list[Floats]]:
    """Feed every trajectory through `advance`.

    Args:
        trajectories: n of them with N steps.
        state: the initial state of one trajectory, as numbers.
        advance: (state arrays, scores) -> (new state arrays, output arrays).
        before: value of each output before the first usable score.

    Returns:
        (outputs, final state): arrays of shape (N,) and (n,). A step without a score leaves the
        state alone and repeats the outputs before it.
    """
    n, lengths = trajectories.n, trajectories.lengths
    order = np.argsort(-lengths, kind="stable")
    starts = trajectories.starts[order]
    longest = int(lengths.max(initial=0))
    active = n - np.cumsum(np.bincount(lengths, minlength=longest + 1))[:longest]
    now = [np.full(n, value) for value in state]
    outputs = [np.empty(trajectories.n_steps) for _ in before]
    last = [np.full(n, value) for value in before]
    for t in range(longest):
        m = int(active[t])
        rows = starts[:m] + t
        scores = trajectories.scores[rows]
        missing = np.isnan(scores)
        any_missing = bool(missing.any())
        new, out = advance([s[:m] for s in now], np.where(missing, 0.0, scores))
        for kept, value in zip(now, new, strict=True):
            kept[:m] = np.where(missing, kept[:m], value) if any_missing else value
        for sink, previous, value in zip(outputs, last, out, strict=True):
            previous[:m] = np.where(missing, previous[:m], value) if any_missing else value
            sink[rows] = previous[:m]
    unsorted = [np.empty(n) for _ in now]
    for target, source in zip(unsorted, now, strict=True):
        target[order] = source
    return outputs, unsorted


def apply_missing_policy(
    values: Floats, trajectories: Trajectories, policy: MissingPolicy
) -> Floats:
    """Settle the steps without a score: nothing, the worst, or an error.

    Raises:
        InputError: under ``"error"``, naming the trajectory and the step.
    """
    missing = np.isnan(trajectories.scores)
    if policy == "skip" or not missing.any():
        return values
    if policy == "worst":
        return np.where(missing, np.inf, values)
    at = int(np.flatnonzero(missing)[0])
    owner = int(trajectories.owner[at])
    raise InputError(
        f"trajectory {trajectories.ids[owner]!r} has no score at step "
        f"{trajectories.step_number[at]}; choose a policy for missing scores (skip or worst), "
        "the same here and in deployment"
    )
