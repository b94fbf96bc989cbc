"""An exponentially weighted average of the transformed score."""

from __future__ import annotations

from typing import Any

import numpy as np

from tocsin.risk.arithmetic import SCALAR, Arithmetic, transform
from tocsin.risk.statistics.base import NEVER, Floats, StatisticBase
from tocsin.risk.statistics.features import RETENTION, FeatureTable
from tocsin.risk.statistics.lockstep import lockstep
from tocsin.risk.trajectories import Trajectories
from tocsin.risk.vector import VECTOR


class Ewma(StatisticBase, frozen=True, kw_only=True, tag="ewma"):
    """m_t = -e_t with e_1 = x_1 and e_t = r e_{t-1} + (1 - r) x_t, x_t the logit of the score.

    Needs no training: one bad score among good ones moves it little, a run of mediocre ones does.

    Args:
        retention: r in [0, 1), the share that each step keeps.

    Example:
        >>> statistic = Ewma()
        >>> state, _ = statistic.step(statistic.start(), 0.5)
        >>> state, value = statistic.step(state, 0.1)
        >>> round(value, 4)
        0.4394
    """

    retention: float = RETENTION

    def __post_init__(self) -> None:
        """Refuse what is no average."""
        if not 0.0 <= self.retention < 1.0:
            raise ValueError(f"retention must lie in [0, 1), got {self.retention!r}")

    def _own_start(self) -> tuple[float, ...]:
        return (0.0, 0.0)

    def _own_step(self, own: tuple[float, ...], score: float) -> tuple[tuple[float, ...], float]:
        return self._advance(SCALAR, own, score)

    def _own_paths(self, trajectories: Trajectories, table: FeatureTable | None) -> Floats:
        if table is not None and self.retention == RETENTION:
            return np.where(table.scored, -table.steps[:, 3], NEVER)

        def feed(state: Any, scores: Any) -> tuple[Any, Any]:
            state, value = self._advance(VECTOR, state, scores)
            return state, (value,)

        outputs, _ = lockstep(trajectories, self._own_start(), feed, [NEVER])
        return outputs[0]

    def _advance(self, ops: Arithmetic, state: Any, score: Any) -> tuple[Any, Any]:
        seen, average = state
        x = transform(ops, self.kind, score)
        moved = self.retention * average + (1.0 - self.retention) * x
        average = ops.where(seen == 0.0, x, moved)
        return (seen * 0.0 + 1.0, average), -average
