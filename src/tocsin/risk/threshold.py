"""The threshold: an order statistic of the calibration maxima, never a grid point.

With k errors allowed (`tocsin.risk.bounds`), DESIGN: false alarms are controlled by the (k+1)-th
largest maximum of the safe trajectories and an alarm at ``m > lambda``; missed detections by the
(k+1)-th smallest maximum of the unsafe ones and an alarm at ``m >= lambda``. Ties only make either
side more conservative, and any real statistic works, infinite ones included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.model import PROTECTED_CLASS, Bound, Refusal, Risk
from tocsin.risk.bounds import (
    allowed_errors,
    check_levels,
    epsilon_smallest,
    exact_fraction,
    n_needed,
    passes,
)

Floats = NDArray[np.float64]

_ROUNDING = 1e-9


def threshold(maxima: Floats, k: int, risk: Risk) -> float:
    """Lambda for k allowed errors.

    Args:
        maxima: shape (n,), one M per trajectory of the protected class (danger-high; may be
            infinite, must not be NaN).
        k: errors allowed, 0 <= k < n.
        risk: which side is protected.

    Raises:
        InputError: on NaN, or k outside the range.

    Example:
        >>> M = np.array([0.1, 0.9, 0.5, 0.7])
        >>> threshold(M, 1, "false_alarm"), threshold(M, 1, "missed_detection")
        (0.7, 0.5)
    """
    n = len(maxima)
    if not 0 <= k < n:
        raise InputError(f"k must lie in [0, {n - 1}] for {n} maxima, got {k}")
    _check_numbers(maxima)
    rank = n - 1 - k if risk == "false_alarm" else k
    return float(np.partition(maxima, rank)[rank])


def _check_numbers(maxima: Floats) -> None:
    if np.isnan(maxima).any():
        raise InputError("a maximum is NaN: decide a missing-score policy before calibrating")


def over(values: Floats, lam: float, risk: Risk) -> NDArray[np.bool_]:
    """Where the monitor alarms.

    Example:
        >>> over(np.array([0.6, 0.7]), 0.7, "false_alarm").tolist()
        [False, False]
        >>> over(np.array([0.6, 0.7]), 0.7, "missed_detection").tolist()
        [False, True]
    """
    return values > lam if risk == "false_alarm" else values >= lam


def allowed_weight(
    bound: Bound, n: int, epsilon: float, delta: float | None, *, protected: str = "safe"
) -> float | Refusal:
    """Return how large the sum of n group losses, each in [0, 1], may be.

    For `crc` this is epsilon (n + 1) - 1 (arXiv 2208.02814, equation 4, with B = 1); for
    `hoeffding_bentkus` the supremum that still passes. `exact` holds for 0/1 losses only.

    Example:
        >>> allowed_weight("crc", 19, 0.1, None)
        1.0
    """
    check_levels(bound, epsilon, delta)
    if bound == "crc":
        budget = float(exact_fraction(epsilon) * (n + 1) - 1)
        refused = budget < 0.0
    elif bound == "hoeffding_bentkus":
        assert delta is not None  # noqa: S101 - check_levels has refused None
        low, high = 0.0, float(n)
        refused = n == 0 or not passes(bound, 0.0, n, epsilon, delta)
        while not refused and high - low > _ROUNDING:
            middle = (low + high) / 2.0
            low, high = (
                (middle, high) if passes(bound, middle, n, epsilon, delta) else (low, middle)
            )
        budget = low
    else:
        raise InputError(
            "bound 'exact' needs a loss of 0 or 1 per unit; a cluster mean is in between: "
            "choose 'crc' or 'hoeffding_bentkus', or draw one trajectory per group"
        )
    if refused:
        return Refusal(
            bound=bound,
            epsilon=epsilon,
            delta=None if bound == "crc" else delta,
            n=n,
            n_needed=n_needed(bound, epsilon, delta),
            epsilon_smallest=epsilon_smallest(bound, n, delta),
            protected=protected,
        )
    return budget


def cluster_threshold(
    maxima: Floats,
    clusters: NDArray[np.int64],
    bound: Bound,
    epsilon: float,
    delta: float | None,
    risk: Risk,
) -> tuple[float, float, int] | Refusal:
    """Lambda when the unit is the group and its loss the share of its trajectories in error.

    Args:
        maxima: shape (n,), one M per trajectory of the protected class.
        clusters: shape (n,), the group of each, any integers.
        bound: ``"crc"`` or ``"hoeffding_bentkus"``.
        epsilon, delta: as in `tocsin.risk.bounds.allowed_errors`.
        risk: which side is protected.

    Returns:
        (lambda, the summed group loss there, the number of groups), or a Refusal.

    Example:
        >>> M = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
        >>> cluster_threshold(M, np.array([0, 0, 1, 1, 2, 2]), "crc", 0.5, None, "false_alarm")
        (3.0, 1.0, 3)
    """
    _check_numbers(maxima)
    _, inverse, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    groups = len(sizes)
    budget = allowed_weight(bound, groups, epsilon, delta, protected=PROTECTED_CLASS[risk])
    if isinstance(budget, Refusal):
        return budget
    signed = maxima if risk == "false_alarm" else -maxima
    order = np.argsort(-signed, kind="stable")
    weights = (1.0 / sizes)[inverse][order]
    spent = np.cumsum(weights)
    first_over = int(np.searchsorted(spent, budget + _ROUNDING, side="right"))
    first_over = min(first_over, len(maxima) - 1)
    lam = float(maxima[order][first_over])
    in_error = signed > (lam if risk == "false_alarm" else -lam)
    return lam, float((1.0 / sizes)[inverse][in_error].sum()), groups


def order_statistic_threshold(
    maxima: Floats, bound: Bound, epsilon: float, delta: float | None, risk: Risk, protected: str
) -> tuple[float, int] | Refusal:
    """(lambda, k) for one statistic and one level, or a Refusal.

    Example:
        >>> order_statistic_threshold(np.arange(30.0), "exact", 0.1, 0.1, "false_alarm", "safe")
        (29.0, 0)
    """
    k = allowed_errors(bound, len(maxima), epsilon, delta, protected=protected)
    if isinstance(k, Refusal):
        return k
    return threshold(maxima, k, risk), k
