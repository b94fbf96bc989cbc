"""Eight numbers that summarise a prefix, each O(1) to update: what learned statistics look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin.risk.arithmetic import Arithmetic, transform
from tocsin.risk.statistics.lockstep import lockstep
from tocsin.risk.trajectories import Trajectories
from tocsin.risk.vector import VECTOR

Floats = NDArray[np.float64]

RETENTION = 0.8
"""Share of the running average that each step keeps: a memory of about five steps."""

NAMES = ("score", "minimum", "mean", "ewma", "difference", "deviation", "log_steps", "first")
"""Of the transformed score, so safe-high, except difference, deviation and log_steps."""

SAFE_HIGH = (True, True, True, True, False, False, False, True)
"""Which features can only lower the danger when they rise; fitted forests respect it."""

START = (0.0,) * 8
"""steps, minimum, mean, sum of squared deviations, ewma, difference, first, previous."""


def advance(ops: Arithmetic, state: Any, x: Any) -> tuple[Any, Any]:
    """Take one transformed score into the state; return the new state and the features.

    The running variance is Welford's, with the population divisor.

    Example:
        >>> from tocsin.risk.arithmetic import SCALAR
        >>> state, _ = advance(SCALAR, START, 1.0)
        >>> state, f = advance(SCALAR, state, 3.0)
        >>> [round(v, 3) for v in f]
        [3.0, 1.0, 2.0, 1.4, 2.0, 1.0, 0.693, 1.0]
    """
    steps, low, mean, squares, smooth, difference, first, previous = state
    steps = steps + 1.0
    fresh = steps == 1.0
    low = ops.where(fresh, x, ops.minimum(low, x))
    gap = x - mean
    mean = mean + gap / steps
    squares = ops.maximum(squares + gap * (x - mean), 0.0)
    smooth = ops.where(fresh, x, RETENTION * smooth + (1.0 - RETENTION) * x)
    difference = ops.where(fresh, 0.0, x - previous)
    first = ops.where(fresh, x, first)
    state = (steps, low, mean, squares, smooth, difference, first, x)
    return state, of_state(ops, state)


def of_state(ops: Arithmetic, state: Any) -> Any:
    """Features of the prefix that a state stands for; at least one score must be in it."""
    steps, low, mean, squares, smooth, difference, first, x = state
    deviation = ops.sqrt(squares / steps)
    return x, low, mean, smooth, difference, deviation, ops.log(steps), first


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of every prefix.

    Args:
        steps: shape (N, 8), one row per step.
        final: shape (n, 8), of the complete trajectory.
        scored: shape (N,), False before the first usable score of a trajectory.
        scored_final: shape (n,), False for a trajectory without any usable score.
    """

    steps: Floats
    final: Floats
    scored: NDArray[np.bool_]
    scored_final: NDArray[np.bool_]


def feature_table(trajectories: Trajectories, kind: str) -> FeatureTable:
    """Compute the features of all prefixes in one pass.

    They depend on the scores alone, never on labels, so one table serves any number of splits.
    """

    def feed(state: Any, scores: Any) -> tuple[Any, Any]:
        state, features = advance(VECTOR, state, transform(VECTOR, kind, scores))
        return state, (*features, state[0])

    outputs, _ = lockstep(trajectories, START, feed, [0.0] * (len(NAMES) + 1))
    steps = np.stack(outputs[:-1], axis=1)
    scored = outputs[-1] > 0.0
    ends = trajectories.starts + trajectories.lengths - 1
    return FeatureTable(steps=steps, final=steps[ends], scored=scored, scored_final=scored[ends])
