"""The probability of unsafe given the prefix, fitted on labelled trajectories."""

from __future__ import annotations

import numpy as np

from tocsin.risk.arithmetic import SCALAR, transform
from tocsin.risk.statistics import features as prefix
from tocsin.risk.statistics.base import NEVER, Floats, StatisticBase
from tocsin.risk.statistics.features import FeatureTable
from tocsin.risk.statistics.log_odds import LogOdds
from tocsin.risk.trajectories import Trajectories


class Posterior(StatisticBase, frozen=True, kw_only=True, tag="posterior"):
    """m_t = log-odds of "this trajectory is unsafe" given eight features of s_1..s_t.

    Log-odds and not the probability itself: the order is the same and nothing saturates.

    Args:
        model: fitted by `tocsin.risk.fitting.fit_posterior` on a split disjoint from calibration.
    """

    model: LogOdds

    @property
    def uses_features(self) -> bool:
        """Always."""
        return True

    def _own_start(self) -> tuple[float, ...]:
        return prefix.START

    def _own_step(self, own: tuple[float, ...], score: float) -> tuple[tuple[float, ...], float]:
        own, features = prefix.advance(SCALAR, own, transform(SCALAR, self.kind, score))
        return own, self.model.one(features)

    def _own_paths(self, trajectories: Trajectories, table: FeatureTable | None) -> Floats:
        assert table is not None  # noqa: S101 - uses_features is True
        return np.where(table.scored, self.model.rows(table.steps), NEVER)
