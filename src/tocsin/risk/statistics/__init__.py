"""Statistics: what turns the scores so far into one number, danger-high."""

from tocsin.risk.statistics.base import NEVER, ClosingCheck, Paths, State, StatisticBase
from tocsin.risk.statistics.ewma import Ewma
from tocsin.risk.statistics.log_odds import LogOdds, Tree
from tocsin.risk.statistics.min_score import MinScore
from tocsin.risk.statistics.per_step_quantile import PerStepQuantile
from tocsin.risk.statistics.posterior import Posterior

Statistic = MinScore | Ewma | PerStepQuantile | Posterior
"""Any statistic; tells itself apart in JSON by its field ``name``."""

__all__ = [
    "NEVER",
    "ClosingCheck",
    "Ewma",
    "LogOdds",
    "MinScore",
    "Paths",
    "PerStepQuantile",
    "Posterior",
    "State",
    "Statistic",
    "StatisticBase",
    "Tree",
]
