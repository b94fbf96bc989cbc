"""Shares with their intervals, and what an alarm at one threshold does to labelled trajectories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, gammaln

from tocsin.model import Risk
from tocsin.risk.statistics import Paths
from tocsin.risk.threshold import over
from tocsin.risk.trajectories import Trajectories

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def clopper_pearson(successes: int, n: int, level: float = 0.9) -> tuple[float, float]:
    """Two-sided exact interval for a share.

    Example:
        >>> [round(v, 3) for v in clopper_pearson(5, 50)]
        [0.04, 0.199]
    """
    tail = (1.0 - level) / 2.0
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1.0 - tail))
    return low, high


def beta_binomial(m: int, a: float, b: float) -> Floats:
    """P(j) for j = 0..m of a BetaBinomial(m, a, b) count, shape (m + 1,).

    Example:
        >>> beta_binomial(2, 1.0, 1.0).round(6).tolist()
        [0.333333, 0.333333, 0.333333]
    """
    j = np.arange(m + 1, dtype=float)
    log_pmf = (
        gammaln(m + 1.0)
        - gammaln(j + 1.0)
        - gammaln(m - j + 1.0)
        + gammaln(j + a)
        + gammaln(m - j + b)
        - gammaln(m + a + b)
        + gammaln(a + b)
        - gammaln(a)
        - gammaln(b)
    )
    return np.asarray(np.exp(log_pmf))


def beta_binomial_interval(m: int, a: float, b: float, level: float = 0.9) -> tuple[int, int]:
    """Central interval of a BetaBinomial(m, a, b) count.

    With a = k + 1 and b = n - k it forecasts the false alarms among the next m safe outputs.

    Example:
        >>> beta_binomial_interval(1000, 46, 534)
        (57, 104)
    """
    cumulative = np.cumsum(beta_binomial(m, a, b))
    tail = (1.0 - level) / 2.0
    low = int(np.searchsorted(cumulative, tail))
    return low, min(int(np.searchsorted(cumulative, 1.0 - tail)), m)


@dataclass(frozen=True, eq=False)
class Alarms:
    """Where a monitor rings.

    Args:
        rang: shape (n,), whether it alarms at all.
        step: shape (n,), 1-based step of the alarm (the last one for a closing check), 0 for none.
        share_of_tokens: shape (n,), share of tokens used up to and including it; 1 for none.
        share_of_steps: the same in steps.
    """

    rang: Bools
    step: NDArray[np.int64]
    share_of_tokens: Floats
    share_of_steps: Floats


def alarms(trajectories: Trajectories, paths: Paths, lam: float, risk: Risk) -> Alarms:
    """Find the first step at which the statistic is over the threshold, for every trajectory.

    Example:
        >>> from tocsin.risk.trajectories import from_columns
        >>> t = from_columns(trajectory_id=["a", "a"], step=[1, 2], score=[0.9, 0.2], label=[0, 0])
        >>> found = alarms(
        ...     t, Paths(values=np.array([-0.9, -0.2]), closing=None), -0.5, "false_alarm"
        ... )
        >>> found.step.tolist()
        [2]
    """
    starts = trajectories.starts
    ends = starts + trajectories.lengths - 1
    above = np.append(np.flatnonzero(over(paths.values, lam, risk)), trajectories.n_steps)
    first = above[np.searchsorted(above, starts)]
    online = first <= ends
    rang = online if paths.closing is None else online | over(paths.closing, lam, risk)
    at = np.where(online, first, ends)
    step = np.where(rang, at - starts + 1, 0)
    return Alarms(
        rang=rang,
        step=step,
        share_of_tokens=np.where(rang, trajectories.share_of_tokens(at), 1.0),
        share_of_steps=np.where(rang, step / trajectories.lengths, 1.0),
    )


def mean_or_none(values: Floats | Bools) -> float | None:
    """Return the mean, or None of nothing."""
    return float(np.mean(values)) if len(values) else None
