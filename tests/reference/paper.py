"""Risk-controlling monitors by scanning thresholds, without any order-statistic shortcut.

The danger value is minus the score.  Thresholds are tried from the safest (fewest alarms) down;
at each the mean calibration loss, the share of safe calibration trajectories with an alarm, is
computed afresh and an upper bound of the risk is compared with epsilon.  The scan stops at the
first threshold that fails, and the one before it is the answer.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import mpmath  # type: ignore[import-untyped, unused-ignore]

from .bounds import Number, level, real
from .monitor import Metrics, Trajectory, alarm_step, measure, min_score_path

DIGITS = 30
HALVINGS = 80
TIE = 20
"""Decimal digits to which an upper bound must exceed epsilon to count as larger."""


@dataclass(frozen=True)
class Scored:
    """One output as a verifier saw it: scores (higher is safer), tokens per step, safe or not."""

    scores: Sequence[float]
    tokens: Sequence[float]
    safe: bool


@dataclass(frozen=True)
class Outcome:
    """The threshold found (None: not even the safest passes) and what it does on the test set."""

    threshold: float | None
    metrics: Metrics


def binomial_tail_at_most(n: int, k: int, p: mpmath.mpf) -> mpmath.mpf:
    """Return P(Bin(n, p) <= k) for 0 < p < 1, term by term."""
    term = (1 - p) ** n
    total = term
    for i in range(min(k, n)):
        term = term * (n - i) / (i + 1) * p / (1 - p)
        total += term
    return total


def p_value(r_hat: Fraction, n: int, risk: mpmath.mpf) -> mpmath.mpf:
    """Return the Hoeffding-Bentkus p-value of "the risk is at least this"."""
    if real(r_hat) >= risk:
        return mpmath.mpf(1)
    a, safe = real(r_hat), 1 - real(r_hat)
    exponent = safe * mpmath.log(safe / (1 - risk))
    if a > 0:
        exponent += a * mpmath.log(a / risk)
    hoeffding = mpmath.exp(-n * exponent)
    bentkus = mpmath.e * binomial_tail_at_most(n, math.ceil(n * r_hat), risk)
    return min(hoeffding, bentkus)


@functools.cache
def upper_confidence_bound(r_hat: Fraction, n: int, delta: Fraction) -> mpmath.mpf:
    """Return the largest risk that the mean loss does not reject at level delta, by halving.

    The p-value falls from 1 at r_hat to 0 at 1.
    """
    with mpmath.workdps(DIGITS):
        if r_hat >= 1:
            return mpmath.mpf(1)
        low, high = real(r_hat), mpmath.mpf(1)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if p_value(r_hat, n, middle) > real(delta):
                low = middle
            else:
                high = middle
        return high


def scan(
    calibration: Sequence[Trajectory], passes: Callable[[Fraction, int], bool]
) -> float | None:
    """Return the last threshold that passes, going down from the safest observed value."""
    safe = [trajectory for trajectory in calibration if trajectory.safe]
    if not safe:
        return None
    candidates = sorted({value for trajectory in safe for value in trajectory.path}, reverse=True)
    answer: float | None = None
    for candidate in candidates:
        losses = [
            0 if alarm_step(trajectory.path, candidate, ">") is None else 1 for trajectory in safe
        ]
        if not passes(Fraction(sum(losses), len(losses)), len(losses)):
            break
        answer = candidate
    return answer


def _run(
    calibration: Sequence[Scored],
    test: Sequence[Scored],
    passes: Callable[[Fraction, int], bool],
) -> Outcome:
    def monitored(items: Sequence[Scored]) -> list[Trajectory]:
        return [Trajectory(min_score_path(x.scores), x.tokens, x.safe) for x in items]

    found = scan(monitored(calibration), passes)
    return Outcome(found, measure(monitored(test), math.inf if found is None else found, ">"))


def conformal_risk_control(
    calibration: Sequence[Scored], test: Sequence[Scored], epsilon: Number
) -> Outcome:
    """Run the monitor whose expected false-alarm rate is at most epsilon.

    A threshold passes when n/(n+1) R_hat + 1/(n+1) <= epsilon.
    """
    eps = level(epsilon, "epsilon")

    def passes(r_hat: Fraction, n: int) -> bool:
        return Fraction(n, n + 1) * r_hat + Fraction(1, n + 1) <= eps

    return _run(calibration, test, passes)


def hoeffding_bentkus_ucb(
    calibration: Sequence[Scored], test: Sequence[Scored], epsilon: Number, delta: Number
) -> Outcome:
    """Run the monitor whose false-alarm rate is at most epsilon with probability 1 - delta.

    A threshold passes when the upper confidence bound of its risk is at most epsilon.
    """
    eps, dlt = level(epsilon, "epsilon"), level(delta, "delta")

    def passes(r_hat: Fraction, n: int) -> bool:
        with mpmath.workdps(DIGITS):
            bound = upper_confidence_bound(r_hat, n, dlt)
            return bool(bound <= real(eps) + mpmath.mpf(10) ** (-TIE))

    return _run(calibration, test, passes)
