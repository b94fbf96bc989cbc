"""Calibration bounds, straight from their formulas and as slowly as needed.

With n calibration units and a tolerated error rate epsilon, a bound answers how many errors k the
calibration may show.  ``crc`` and ``exact`` are decided in rational arithmetic;
``hoeffding_bentkus`` contains logarithms and is computed with 50 decimal digits.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Literal

import mpmath  # type: ignore[import-untyped, unused-ignore]

Bound = Literal["crc", "exact", "hoeffding_bentkus"]
Number = str | float | int | Fraction

DIGITS = 50
TIE = 40
"""Two numbers that agree to this many decimal digits are taken as equal."""


def rational(value: Number) -> Fraction:
    """Return the number that the decimal text of ``value`` says: 0.1 is one tenth."""
    if isinstance(value, Fraction):
        return value
    return Fraction(value if isinstance(value, str) else repr(value))


def level(value: Number | None, name: str) -> Fraction:
    """Return ``value`` as a fraction strictly between 0 and 1."""
    if value is None:
        raise ValueError(f"{name} is needed")
    number = rational(value)
    if not 0 < number < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1")
    return number


def real(value: Fraction) -> Any:
    """Return a fraction as an mpmath number of the current precision."""
    return mpmath.mpf(value.numerator) / mpmath.mpf(value.denominator)


def at_most(left: Any, right: Any) -> bool:
    """Tell whether left <= right, equality being judged to ``TIE`` digits."""
    return bool(left <= right + abs(right) * mpmath.mpf(10) ** (-TIE))


def binomial_cdf_steps(n: int, p: Fraction) -> Iterator[Fraction]:
    """Yield P(Bin(n, p) <= k) for k = 0, 1, ..., n."""
    a, q = p.numerator, p.denominator
    total = 0
    for i in range(n + 1):
        total += math.comb(n, i) * a**i * (q - a) ** (n - i)
        yield Fraction(total, q**n)


def binomial_cdf(n: int, k: int, p: Fraction) -> Fraction:
    """Return P(Bin(n, p) <= k)."""
    if k < 0:
        return Fraction(0)
    if k >= n:
        return Fraction(1)
    a, q = p.numerator, p.denominator
    total = sum(math.comb(n, i) * a**i * (q - a) ** (n - i) for i in range(k + 1))
    return Fraction(total, q**n)


def divergence(a: Any, b: Any) -> Any:
    """Return KL(a, b) = a ln(a/b) + (1-a) ln((1-a)/(1-b)), with 0 ln 0 = 0."""
    first = a * mpmath.log(a / b) if a > 0 else mpmath.mpf(0)
    second = (1 - a) * mpmath.log((1 - a) / (1 - b)) if a < 1 else mpmath.mpf(0)
    return first + second


def hoeffding_bentkus_p(r_hat: Fraction, n: int, epsilon: Fraction) -> Any:
    """Return min(exp(-n KL(min(r_hat, eps), eps)), e P(Bin(n, eps) <= ceil(n r_hat)))."""
    hoeffding = mpmath.exp(-n * divergence(real(min(r_hat, epsilon)), real(epsilon)))
    bentkus = mpmath.e * real(binomial_cdf(n, math.ceil(n * r_hat), epsilon))
    return min(hoeffding, bentkus)


def hb_cluster_feasible(r_hat: Fraction, n: int, epsilon: Number, delta: Number) -> bool:
    """Tell whether a mean loss r_hat over n units with losses in [0, 1] certifies epsilon."""
    if not 0 <= r_hat <= 1:
        raise ValueError("a mean of losses in [0, 1] lies in [0, 1]")
    eps, dlt = level(epsilon, "epsilon"), level(delta, "delta")
    if n <= 0:
        return False
    with mpmath.workdps(DIGITS):
        return at_most(hoeffding_bentkus_p(r_hat, n, eps), real(dlt))


def allowed_errors(
    bound: Bound, n: int, epsilon: Number, delta: Number | None = None
) -> int | None:
    """Return the largest number of calibration errors allowed, None when even 0 is too many.

    ``delta`` plays no part in ``crc`` and may be left out there.
    """
    if n < 0:
        raise ValueError("n must not be negative")
    eps = level(epsilon, "epsilon")
    if bound == "crc":
        k = math.floor(eps * (n + 1)) - 1
        return k if k >= 0 else None
    dlt = level(delta, "delta")
    best: int | None = None
    if bound == "exact":
        for k, probability in enumerate(binomial_cdf_steps(n, eps)):
            if probability > dlt:
                break
            best = k
        return best
    if bound == "hoeffding_bentkus":
        for k in range(n):
            if not hb_cluster_feasible(Fraction(k, n), n, eps, dlt):
                break
            best = k
        return best
    raise ValueError(f"unknown bound {bound!r}")


def smallest_n(bound: Bound, epsilon: Number, delta: Number | None = None) -> int:
    """Return the smallest n for which the bound allows zero errors, by counting upwards."""
    eps = level(epsilon, "epsilon")
    n = 1
    if bound == "crc":
        while math.floor(eps * (n + 1)) - 1 < 0:
            n += 1
        return n
    dlt = level(delta, "delta")
    if bound == "exact":
        none_seen = 1 - eps
        power, whole = none_seen.numerator, none_seen.denominator
        while power * dlt.denominator > dlt.numerator * whole:
            power *= none_seen.numerator
            whole *= none_seen.denominator
            n += 1
        return n
    if bound == "hoeffding_bentkus":
        with mpmath.workdps(DIGITS):
            e, limit = real(eps), real(dlt)
            exponent = divergence(mpmath.mpf(0), e)
            bentkus = mpmath.e * (1 - e)
            while not at_most(min(mpmath.exp(-n * exponent), bentkus), limit):
                n += 1
                bentkus *= 1 - e
        return n
    raise ValueError(f"unknown bound {bound!r}")


def smallest_epsilon(bound: Bound, n: int, delta: Number | None = None) -> Any:
    """Return, as an mpmath number, the smallest epsilon for which zero errors are enough."""
    if n <= 0:
        raise ValueError("n must be positive")
    with mpmath.workdps(DIGITS):
        if bound == "crc":
            return mpmath.mpf(1) / (n + 1)
        if bound in ("exact", "hoeffding_bentkus"):
            # With no error seen both reduce to (1 - epsilon)^n <= delta, Bentkus' factor e losing.
            return 1 - mpmath.power(real(level(delta, "delta")), mpmath.mpf(1) / n)
    raise ValueError(f"unknown bound {bound!r}")


def violation_probability(n: int, k: int, epsilon: Number) -> Fraction:
    """Return P(Bin(n, epsilon) <= k).

    For a continuous statistic this is the chance, over the calibration draw, that a threshold
    which leaves k calibration errors has a true error rate above epsilon.
    """
    return binomial_cdf(n, k, level(epsilon, "epsilon"))


def expected_rate(k: int, n: int) -> Fraction:
    """Return the mean (k+1)/(n+1) of the law Beta(k+1, n-k) of the true error rate."""
    return Fraction(k + 1, n + 1)


def beta_binomial_pmf(m: int, k: int, n: int) -> list[Fraction]:
    """Return P(X = x) for x = 0..m where X is BetaBinomial(m, k+1, n-k).

    X counts, among m further units, those that exceed the (k+1)-th largest of n; it is the
    number of ways to interleave the two samples, hence a ratio of binomial coefficients.
    """
    if not 0 <= k < n:
        raise ValueError("k must lie in 0..n-1")
    ways = math.comb(n + m, m)
    return [
        Fraction(math.comb(x + k, k) * math.comb(m - x + n - k - 1, n - k - 1), ways)
        for x in range(m + 1)
    ]


def beta_binomial_interval(m: int, k: int, n: int, level: Number) -> tuple[int, int]:
    """Return the central interval for the number of errors among the next m units.

    Both ends are quantiles: the smallest x with P(X <= x) >= (1-level)/2, and the smallest x with
    P(X <= x) >= 1 - (1-level)/2.
    """
    tail = (1 - rational(level)) / 2
    if not 0 < tail < Fraction(1, 2):
        raise ValueError("level must lie strictly between 0 and 1")
    low: int | None = None
    total = Fraction(0)
    for x, probability in enumerate(beta_binomial_pmf(m, k, n)):
        total += probability
        if low is None and total >= tail:
            low = x
        if total >= 1 - tail:
            assert low is not None
            return low, x
    raise AssertionError("a distribution sums to one")
