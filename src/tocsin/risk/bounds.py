"""How many calibration errors may be allowed: the three bounds.

A monitor's whole behaviour on a trajectory is its maximum M, so calibration is a question about
one number per trajectory of the protected class (safe ones for false alarms, unsafe ones for
missed detections). With n of them, `allowed_errors` says how many, k, may lie on the wrong side of
the threshold; `tocsin.risk.threshold` then reads the threshold off the sorted maxima.

Sources: conformal risk control, Angelopoulos et al. (arXiv 2208.02814, Theorem 1); the exact
binomial bound, Clopper and Pearson (1934), as an order-statistic tolerance limit;
Hoeffding-Bentkus, Bates et al. (arXiv 2101.02703, Theorem 2 and equation 3), used by the paper
(arXiv 2607.02510).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from scipy.special import bdtr

from tocsin.errors import InputError
from tocsin.limits import EPSILON_MIN, EXACT_TIE_N_MAX
from tocsin.model import BOUNDS, Bound, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

_TIE = 1e-9


def exact_fraction(value: float) -> Fraction:
    """Return the decimal that a float was written as, exactly.

    Example:
        >>> exact_fraction(0.1)
        Fraction(1, 10)
    """
    return Fraction(repr(float(value)))


def check_levels(bound: Bound, epsilon: float, delta: float | None) -> None:
    """Refuse an unknown bound, or levels outside (0, 1), with an InputError."""
    if bound not in BOUNDS:
        msg = f"bound {bound!r} is unknown; choose one of {', '.join(BOUNDS)}"
        raise InputError(msg)
    if 0.0 < epsilon < EPSILON_MIN:
        raise InputError(f"epsilon = {epsilon!r} is smaller than {EPSILON_MIN:g}: ask for more")
    if not 0.0 < epsilon < 1.0:
        msg = f"epsilon must lie strictly between 0 and 1, got {epsilon!r}"
        raise InputError(msg)
    if bound != "crc" and (delta is None or not 0.0 < delta < 1.0):
        msg = f"delta must lie strictly between 0 and 1 for bound {bound!r}, got {delta!r}"
        raise InputError(msg)


def allowed_errors(
    bound: Bound, n: int, epsilon: float, delta: float | None, *, protected: str = "safe"
) -> int | Refusal:
    """Return k, the number of calibration errors that may be allowed, or why there is none.

    Args:
        bound: ``"crc"`` promises E[risk] <= epsilon over calibration and test draw; ``"exact"``
            and ``"hoeffding_bentkus"`` promise P(risk <= epsilon) >= 1 - delta over the
            calibration draw.
        n: trajectories of the protected class, exchangeable (`crc`) or independent (the others).
        epsilon: the risk to stay under, in (0, 1).
        delta: the probability that it fails, in (0, 1); ignored by `crc`.
        protected: class name for the message of a refusal.

    Returns:
        k with 0 <= k < n, or a `Refusal`.

    Raises:
        InputError: on an unknown bound or levels outside (0, 1).

    Example:
        >>> [allowed_errors(b, 579, 0.1, 0.05) for b in ("crc", "exact", "hoeffding_bentkus")]
        [57, 45, 42]
        >>> allowed_errors("exact", 10, 0.1, 0.1).n_needed
        22
    """
    check_levels(bound, epsilon, delta)
    if n < 0:
        msg = f"n must not be negative, got {n}"
        raise InputError(msg)
    if bound == "crc":
        k = math.floor(exact_fraction(epsilon) * (n + 1)) - 1
    else:
        assert delta is not None  # noqa: S101 - check_levels has refused None
        k = largest_passing(n, lambda errors: passes(bound, errors, n, epsilon, delta))
    if k < 0:
        return Refusal(
            bound=bound,
            epsilon=epsilon,
            delta=None if bound == "crc" else delta,
            n=n,
            n_needed=n_needed(bound, epsilon, delta),
            epsilon_smallest=epsilon_smallest(bound, n, delta),
            protected=protected,
        )
    return k


def largest_passing(n: int, test: Callable[[int], bool]) -> int:
    """Return the largest k in [-1, n - 1] that passes a test which fails for good once it fails."""
    low, high = -1, n
    while high - low > 1:
        middle = (low + high) // 2
        if test(middle):
            low = middle
        else:
            high = middle
    return low


def passes(bound: Bound, k: float, n: int, epsilon: float, delta: float) -> bool:
    """Whether k errors among n refute "risk > epsilon" at level delta.

    A real-valued k (a sum of group means) is allowed for `hoeffding_bentkus`, which holds for any
    loss in [0, 1]: the Bentkus term then takes the next integer above.
    """
    tail = binomial_tail(math.ceil(k), n, epsilon)
    if bound == "exact" or k == 0:  # without errors both are (1 - epsilon)^n
        return _at_most(tail, delta, math.ceil(k), n, epsilon)
    mean = min(k / n, epsilon)
    hoeffding = math.exp(-n * bernoulli_divergence(mean, epsilon))
    return hoeffding <= delta or math.e * tail <= delta


def _at_most(tail: float, delta: float, k: int, n: int, epsilon: float) -> bool:
    """Compare P(Bin(n, epsilon) <= k) with delta, exactly where rounding could decide."""
    if abs(tail - delta) > _TIE * delta:
        return tail < delta
    if n > EXACT_TIE_N_MAX:
        return False
    p = exact_fraction(epsilon)
    exact = sum(Fraction(math.comb(n, j)) * p**j * (1 - p) ** (n - j) for j in range(k + 1))
    return exact <= exact_fraction(delta)


def binomial_tail(k: int, n: int, epsilon: float) -> float:
    """P(Bin(n, epsilon) <= k).

    Example:
        >>> round(binomial_tail(0, 22, 0.1), 4)
        0.0985
    """
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    if k == 0:
        return math.exp(n * math.log1p(-epsilon))
    return float(bdtr(k, n, epsilon))


def bernoulli_divergence(a: float, b: float) -> float:
    """KL(a, b) = a ln(a/b) + (1-a) ln((1-a)/(1-b)), in nats; 0 ln 0 = 0.

    Example:
        >>> round(bernoulli_divergence(0.0, 0.1), 6)
        0.105361
    """
    left = a * math.log(a / b) if a > 0.0 else 0.0
    right = (1.0 - a) * (math.log1p(-a) - math.log1p(-b)) if a < 1.0 else 0.0
    return left + right


def n_needed(bound: Bound, epsilon: float, delta: float | None) -> int:
    """Fewest trajectories of the protected class that can support epsilon (with k = 0).

    Example:
        >>> [n_needed("exact", e, 0.1) for e in (0.01, 0.05, 0.1)]
        [230, 45, 22]
        >>> [n_needed("crc", e, None) for e in (0.01, 0.05, 0.1)]
        [99, 19, 9]
    """
    check_levels(bound, epsilon, delta)
    if bound == "crc":
        return math.ceil(1 / exact_fraction(epsilon)) - 1
    assert delta is not None  # noqa: S101 - check_levels has refused None
    about = math.log(delta) / math.log1p(-epsilon)
    low, high = max(0, math.floor(about * (1.0 - _TIE)) - 2), math.ceil(about * (1.0 + _TIE)) + 2
    while not passes(bound, 0, high, epsilon, delta):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if passes(bound, 0, middle, epsilon, delta):
            high = middle
        else:
            low = middle
    return high


def epsilon_smallest(bound: Bound, n: int, delta: float | None) -> float:
    """Smallest epsilon that n trajectories can support.

    Example:
        >>> round(epsilon_smallest("exact", 120, 0.1), 5)
        0.01901
    """
    if n <= 0:
        return 1.0
    if bound == "crc":
        return 1.0 / (n + 1)
    assert delta is not None  # noqa: S101 - callers have checked the levels
    return -math.expm1(math.log(delta) / n)
