"""Several tolerated error rates certified at once, exactly.

The true error rate left by the (k+1)-th largest of n calibration maxima is the (k+1)-th smallest
of n independent uniform numbers.  The certificates for epsilon_1 < ... < epsilon_J with allowed
errors k_1, ..., k_J therefore all hold exactly when, for every j, at least k_j + 1 of n uniform
numbers lie at or below epsilon_j.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .bounds import Number, binomial_cdf_steps, level


@dataclass(frozen=True)
class Joint:
    """Allowed errors for each epsilon, and the local confidence level that gave them."""

    allowed: tuple[int | None, ...]
    local_delta: tuple[Fraction, Fraction]
    """Every local delta from the first (included) to the second gives the same; the second itself
    gives more and fails, unless it is delta."""
    failure: Fraction
    """Exact probability that at least one of the certificates fails."""


def _increasing(epsilons: Sequence[Number]) -> list[Fraction]:
    values = [level(epsilon, "epsilon") for epsilon in epsilons]
    if not values or any(a >= b for a, b in itertools.pairwise(values)):
        raise ValueError("epsilons must be given in strictly increasing order")
    return values


def joint_failure(n: int, epsilons: Sequence[Number], allowed: Sequence[int | None]) -> Fraction:
    """Return the probability that at least one certificate fails; None makes no claim.

    ``weight[c]`` is proportional to the probability that c uniform numbers lie at or below the
    epsilon reached so far and that no certificate has failed before.  All weights are integers:
    with epsilons a_j/q, each is (number of ways) times q^c.
    """
    values = _increasing(epsilons)
    if len(values) != len(allowed):
        raise ValueError("one number of allowed errors for each epsilon")
    q = math.lcm(*(value.denominator for value in values))
    ends = [int(value * q) for value in values]
    needed = [0 if k is None else k + 1 for k in allowed]
    if any(count > n for count in needed):
        return Fraction(1)
    # Once max(needed) numbers lie below, nothing can fail any more: such states are dropped.
    top = max(needed)
    weight = {0: 1}
    failed = 0
    start = 0
    for end, count in zip(ends, needed, strict=True):
        width = end - start
        powers = [width**d for d in range(top + 1)]
        after: dict[int, int] = {}
        for total in range(top):
            after[total] = sum(
                ways * math.comb(total, before) * powers[total - before]
                for before, ways in weight.items()
                if before <= total
            )
        for total in [t for t in after if t < count]:
            failed += after.pop(total) * math.comb(n, total) * (q - end) ** (n - total)
        weight = after
        start = end
    return Fraction(failed, q**n)


def joint_probability(
    n: int, epsilons: Sequence[Number], allowed: Sequence[int | None]
) -> Fraction:
    """Return the probability that all certificates hold together."""
    return 1 - joint_failure(n, epsilons, allowed)


def joint_certificate(n: int, epsilons: Sequence[Number], delta: Number) -> Joint:
    """Find the largest local delta' in [delta/J, delta] whose joint failure is at most delta.

    The allowed errors change only where delta' passes a value of P(Bin(n, epsilon_j) <= k), so
    only those values are tried, and the failure grows along them, so bisection finds the last
    that passes.  At delta/J the union bound guarantees success.
    """
    values = _increasing(epsilons)
    dlt = level(delta, "delta")
    lowest = dlt / len(values)
    tables: list[list[Fraction]] = []
    for value in values:
        table = []
        for probability in binomial_cdf_steps(n, value):
            if probability > dlt:
                break
            table.append(probability)
        tables.append(table)
    steps = sorted({lowest} | {p for table in tables for p in table if p > lowest})

    def allowed_at(local: Fraction) -> tuple[int | None, ...]:
        counts = [sum(1 for p in table if p <= local) for table in tables]
        return tuple(count - 1 if count else None for count in counts)

    good, bad = 0, len(steps)
    while bad - good > 1:
        middle = (good + bad) // 2
        if joint_failure(n, values, allowed_at(steps[middle])) <= dlt:
            good = middle
        else:
            bad = middle
    allowed = allowed_at(steps[good])
    until = steps[bad] if bad < len(steps) else dlt
    return Joint(allowed, (steps[good], until), joint_failure(n, values, allowed))


def joint_allowed_errors(
    n: int, epsilons: Sequence[Number], delta: Number
) -> tuple[int | None, ...]:
    """Return the errors allowed for each epsilon so that all hold together; None: infeasible."""
    return joint_certificate(n, epsilons, delta).allowed
