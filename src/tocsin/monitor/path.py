"""The score path of one response: enough to replay the decision, in bounded memory.

Up to `SCORE_PATH_STEPS_KEPT` scores everything is kept. Longer streams keep the latest stretch and
a checkpoint of the statistic before it, besides the extremes over the whole response.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from tocsin.limits import SCORE_PATH_STEPS_KEPT
from tocsin.risk.statistics.base import NEVER, State

Infinite = Literal["Infinity", "-Infinity"]
Real = float | Infinite
"""A number as JSON can hold it: infinities, which JSON lacks, as text."""


def real(value: float) -> Real:
    """Write infinities as text.

    Example:
        >>> real(0.5), real(-math.inf)
        (0.5, '-Infinity')
    """
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


class PathRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a receipt needs of a score path.

    Args:
        steps: steps seen; the path stops growing at the alarm.
        checkpoint_step, checkpoint: the statistic's state after that many steps.
        checkpoint_value: the statistic there; None before the first usable score.
        scores: every score after the checkpoint, up to the alarm or the end; None where missing,
            infinities as text.
        score_lowest, score_lowest_step: over the whole response.
        statistic_highest, statistic_highest_step: likewise, danger-high.
        missing: steps without a score.
    """

    steps: int
    checkpoint_step: int
    checkpoint: State
    checkpoint_value: Real | None
    scores: tuple[Real | None, ...]
    score_lowest: Real | None
    score_lowest_step: int | None
    statistic_highest: Real | None
    statistic_highest_step: int | None
    missing: int


class ScorePath:
    """Collects a path; amortised constant time per step, at most twice the limit in memory.

    Args:
        start: the statistic's state before the first score.
    """

    def __init__(self, start: State) -> None:
        """Begin with an empty path."""
        self._old: tuple[int, State, float] = (0, start, NEVER)
        self._new: tuple[int, State, float] = (0, start, NEVER)
        self._scores: list[float] = []
        self.steps = 0
        self.missing = 0
        self._lowest, self._lowest_step = math.inf, 0
        self._highest, self._highest_step = -math.inf, 0

    def add(self, score: float, state: State, last: float, value: float) -> None:
        """Take one step.

        Args:
            score: as given; NaN where missing.
            state: the statistic's state after it.
            last: the statistic after the latest usable score.
            value: the statistic of this step, which differs where a missing score is the worst.
        """
        self.steps += 1
        self._scores.append(score)
        if score != score:  # noqa: PLR0124 - NaN
            self.missing += 1
        elif score < self._lowest or not self._lowest_step:
            self._lowest, self._lowest_step = score, self.steps
        if value > self._highest or not self._highest_step:
            self._highest, self._highest_step = value, self.steps
        if self.steps - self._new[0] == SCORE_PATH_STEPS_KEPT:
            del self._scores[: self._new[0] - self._old[0]]
            self._old, self._new = self._new, (self.steps, state, last)

    def record(self) -> PathRecord:
        """Freeze what was collected so far."""
        at, state, value = self._old
        return PathRecord(
            steps=self.steps,
            checkpoint_step=at,
            checkpoint=state,
            checkpoint_value=None if value == NEVER else real(value),
            scores=tuple(None if s != s else real(s) for s in self._scores),  # noqa: PLR0124 - NaN
            score_lowest=real(self._lowest) if self._lowest_step else None,
            score_lowest_step=self._lowest_step or None,
            statistic_highest=real(self._highest) if self._highest_step else None,
            statistic_highest_step=self._highest_step or None,
            missing=self.missing,
        )
