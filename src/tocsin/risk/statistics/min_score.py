"""The paper's statistic: the lowest score so far."""

from __future__ import annotations

import numpy as np

from tocsin.risk.statistics.base import NEVER, Floats, StatisticBase
from tocsin.risk.statistics.features import FeatureTable
from tocsin.risk.trajectories import Trajectories


class MinScore(StatisticBase, frozen=True, kw_only=True, tag="min_score"):
    """m_t = -s_t, so that the maximum over a trajectory is minus its lowest score.

    Source: arXiv 2607.02510, "alarm at the first t with s_t < lambda".

    Example:
        >>> statistic = MinScore()
        >>> state, value = statistic.step(statistic.start(), 0.25)
        >>> value
        -0.25
    """

    def _own_start(self) -> tuple[float, ...]:
        return ()

    def _own_step(self, own: tuple[float, ...], score: float) -> tuple[tuple[float, ...], float]:
        return own, -score

    def _own_paths(self, trajectories: Trajectories, table: FeatureTable | None) -> Floats:
        missing = np.isnan(trajectories.scores)
        if not missing.any():
            return -trajectories.scores
        latest = np.where(missing, -1, np.arange(trajectories.n_steps))
        latest = np.maximum.accumulate(latest)
        known = latest >= trajectories.starts[trajectories.owner]
        return np.where(known, -trajectories.scores[latest], NEVER)
