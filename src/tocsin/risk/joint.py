"""Several epsilon at once: an exact joint certificate.

Certificates computed one by one hold one by one. With 1 - F(M) uniform, "the j-th certificate
fails" is "at most k_j of n uniforms lie below epsilon_j", so the probability that any fails is a
multinomial path probability. It is computed exactly by a Poissonised recursion: increments of the
empirical process are independent Poisson counts conditioned on their sum being n.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from tocsin.errors import InputError
from tocsin.limits import EPSILONS_MAX
from tocsin.model import Refusal
from tocsin.risk.bounds import allowed_errors, binomial_tail, largest_passing

Floats = NDArray[np.float64]

_DEVIATIONS = 12.0
"""Half the width of a window, in standard deviations."""
_ROUNDING = 1e-12


def _poisson(counts: Floats, mean: float) -> Floats:
    return np.asarray(np.exp(counts * np.log(mean) - mean - gammaln(counts + 1.0)))


def _window(mean: float) -> tuple[int, int]:
    """Counts that a Poisson variable of this mean takes but with probability below 1e-30."""
    reach = _DEVIATIONS * math.sqrt(mean) + _DEVIATIONS**2
    return max(0, math.floor(mean - reach)), math.ceil(mean + reach)


def joint_failure(n: int, epsilons: Sequence[float], allowed: Sequence[int]) -> float:
    """P(any certificate fails), exactly: 1 - P(for all j, #{U_i <= eps_j} >= k_j + 1).

    The distribution of each count is kept where it has any mass, so that the cost is some
    thousand times n and never quadratic in it.

    Args:
        n: trajectories of the protected class.
        epsilons: increasing, each in (0, 1).
        allowed: k for each; -1 means that the level was refused and cannot fail.

    Example:
        >>> round(joint_failure(100, [0.05, 0.1, 0.2, 0.3], [1, 5, 14, 23]), 3)
        0.162
    """
    if n == 0:
        return float(any(k >= 0 for k in allowed))
    first, alive, previous = 0, np.ones(1), 0.0
    for epsilon, k in zip(epsilons, allowed, strict=True):
        low, high = _window(n * (epsilon - previous))
        step = _poisson(np.arange(low, high + 1, dtype=float), n * (epsilon - previous))
        alive, first = np.convolve(alive, step), first + low
        low, high = _window(n * epsilon)
        begin, end = max(k + 1, low, first), min(n, high)
        alive, first = alive[begin - first : max(end + 1 - first, 0)], begin
        if not len(alive):
            return 1.0
        previous = epsilon
    rest = n - np.arange(first, first + len(alive), dtype=float)
    survive = float(alive @ _poisson(rest, n * (1.0 - previous)))
    return max(0.0, 1.0 - survive / float(_poisson(np.array([float(n)]), float(n))[0]))


def joint_allowed_errors(
    n: int, epsilons: Sequence[float], delta: float, *, protected: str = "safe"
) -> tuple[float, list[int | Refusal]]:
    """Return the local delta' and k_j such that all certificates hold together with 1 - delta.

    The k_j are those of the `exact` bound at the largest delta' in [delta / J, delta] for which
    the joint failure probability is at most delta. A level that is refused at delta' stays
    refused; the others are certified jointly.

    Args:
        n: trajectories of the protected class.
        epsilons: increasing and distinct, at most `EPSILONS_MAX` of them.
        delta: joint failure probability, in (0, 1).
        protected: class name for the message of a refusal.

    Raises:
        InputError: when epsilons do not increase or are too many.

    Example:
        >>> local, ks = joint_allowed_errors(100, [0.05, 0.1, 0.2, 0.3], 0.1)
        >>> ks, round(local, 3)
        ([1, 4, 13, 21], 0.047)
    """
    levels = list(epsilons)
    if not levels or len(levels) > EPSILONS_MAX:
        raise InputError(f"give between 1 and {EPSILONS_MAX} epsilon values, got {len(levels)}")
    if any(b <= a for a, b in itertools.pairwise(levels)):
        raise InputError(f"epsilon values must increase, got {levels}")

    def at(local: float) -> list[int | Refusal]:
        return [allowed_errors("exact", n, e, local, protected=protected) for e in levels]

    def fails(ks: list[int]) -> bool:
        return joint_failure(n, levels, ks) > delta * (1.0 + _ROUNDING)

    tops = [k if isinstance(k, int) else -1 for k in at(delta)]
    if not fails(tops):
        return delta, at(delta)
    bottoms = [k if isinstance(k, int) else -1 for k in at(delta / len(levels))]
    tails = [
        np.array([binomial_tail(k, n, e) for k in range(low + 1, high + 1)])
        for e, low, high in zip(levels, bottoms, tops, strict=True)
    ]

    def under(local: float) -> list[int]:
        """k_j change only where delta' passes a tail: count the tails that it has passed."""
        return [
            low + int(np.searchsorted(tail, local, side="right"))
            for low, tail in zip(bottoms, tails, strict=True)
        ]

    steps = np.unique(np.concatenate([[delta / len(levels)], *tails]))
    good = largest_passing(len(steps), lambda i: not fails(under(float(steps[i]))))
    here, above = steps[max(good, 0)], steps[good + 1] if good + 1 < len(steps) else delta
    # Between two steps, where every delta' gives the same k_j and rounding decides none.
    local = float(here + above) / 2.0
    refused = at(local)
    return local, [k if k >= 0 else r for k, r in zip(under(local), refused, strict=True)]
