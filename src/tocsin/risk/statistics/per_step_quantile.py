"""A threshold for each step, the paper's future work, as one statistic with one threshold."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

import numpy as np

from tocsin.risk.arithmetic import SCALAR, transform
from tocsin.risk.statistics.base import NEVER, Floats, StatisticBase
from tocsin.risk.statistics.features import FeatureTable
from tocsin.risk.statistics.lockstep import lockstep
from tocsin.risk.trajectories import Trajectories
from tocsin.risk.vector import VECTOR


class PerStepQuantile(StatisticBase, frozen=True, kw_only=True, tag="per_step_quantile"):
    """m_t = 1 - F_t(x_t), F_t the distribution of safe fitting trajectories' scores at step t.

    One threshold on m_t is one quantile threshold per step. Beyond the lowest fitted score m_t goes
    on growing (1 + the distance), so that the worst scores stay ordered.

    Args:
        knots: for each step the increasing quantiles of x at equally spaced levels from 0 to 1;
            later steps share the last row.

    Example:
        >>> statistic = PerStepQuantile(kind="real", knots=((0.0, 1.0, 2.0),))
        >>> [statistic.step(statistic.start(), s)[1] for s in (-1.0, 0.5, 2.0)]
        [2.0, 0.75, 0.0]
    """

    knots: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Refuse what is no set of quantiles."""
        rows = self.knots
        if not rows or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
            raise ValueError("knots need at least one row, and two in each row, equally many")
        for row in rows:
            if not all(math.isfinite(v) for v in row) or list(row) != sorted(row):
                raise ValueError("the knots of a step must be finite and increase")

    def _own_start(self) -> tuple[float, ...]:
        return (0.0,)

    def _own_step(self, own: tuple[float, ...], score: float) -> tuple[tuple[float, ...], float]:
        seen = own[0]
        knots = self.knots[min(int(seen), len(self.knots) - 1)]
        x = transform(SCALAR, self.kind, score)
        last = len(knots) - 1
        place = bisect_left(knots, x)
        if place == 0:
            value = 1.0 + (knots[0] - x)
        elif place > last:
            value = -(x - knots[last])
        else:
            low, high = knots[place - 1], knots[place]
            value = 1.0 - ((place - 1) + (x - low) / (high - low)) / last
        return (seen + 1.0,), value

    def _own_paths(self, trajectories: Trajectories, table: FeatureTable | None) -> Floats:
        knots = np.array(self.knots)
        rows, last = len(knots), knots.shape[1] - 1

        def feed(state: Any, scores: Any) -> tuple[Any, Any]:
            seen = state[0]
            of_step = knots[np.minimum(seen.astype(np.int64), rows - 1)]
            x = transform(VECTOR, self.kind, scores)
            place = (of_step < x[:, None]).sum(axis=1)
            inside = np.clip(place, 1, last)
            each = np.arange(len(x))
            low, high = of_step[each, inside - 1], of_step[each, inside]
            gap = np.where(high > low, high - low, 1.0)
            value = 1.0 - ((inside - 1) + (x - low) / gap) / last
            value = np.where(place == 0, 1.0 + (of_step[:, 0] - x), value)
            value = np.where(place > last, -(x - of_step[:, last]), value)
            return (seen + 1.0,), (value,)

        outputs, _ = lockstep(trajectories, self._own_start(), feed, [NEVER])
        return outputs[0]
