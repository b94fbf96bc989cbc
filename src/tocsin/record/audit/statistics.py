"""The tests behind the answers: exact where possible, corrected for how many were made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.risk.estimates import clopper_pearson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL = 0.9
"""Of every interval that is shown."""

ALPHA = 0.05
"""Probability that an audit calls anything a cluster, or a drift, where there is none."""

_BETS = 24
_HALVINGS = 24
_EDGE = 1e-9


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share with its exact interval (Clopper-Pearson, level `LEVEL`).

    Args:
        count, n: how many of how many.
        share, low, high: in [0, 1]; None where n is 0.
    """

    count: int
    n: int
    share: float | None = None
    low: float | None = None
    high: float | None = None


def share(count: int, n: int) -> Share:
    """Make a share.

    Example:
        >>> found = share(5, 50)
        >>> found.share, round(found.high, 3)
        (0.1, 0.199)
    """
    if n == 0:
        return Share(count=count, n=n)
    low, high = clopper_pearson(count, n, LEVEL)
    return Share(count=count, n=n, share=count / n, low=low, high=high)


def upper_tail(rang: Ints, size: Ints, rang_all: int, size_all: int) -> Floats:
    """Tell how surprising so many alarms in each part are (Fisher's exact test, one-sided).

    Args:
        rang, size: shape (m,), alarms and units of each part.
        rang_all, size_all: of everything, the part included.

    Returns:
        P(X >= rang), X hypergeometric: of `size_all` units `rang_all` rang, and `size` are drawn.

    Example:
        >>> upper_tail(np.array([2]), np.array([2]), 2, 4).round(6).tolist()
        [0.166667]
    """
    from scipy.stats import hypergeom

    return np.asarray(hypergeom.sf(rang - 1, size_all, rang_all, size), dtype=float)


@dataclass(frozen=True)
class Corrected:
    """Tests corrected for their number.

    Args:
        p: shape (m,), corrected: the chance that any of them is as small by luck is at most this.
        counted: how many tests could have found anything at all, and are corrected for.
    """

    p: Floats
    counted: int


def tarone(p: Floats, least: Floats, alpha: float = ALPHA) -> Corrected:
    """Correct exact tests by Bonferroni, leaving out those that never could find anything.

    A session of two responses cannot be significant however both end. Tarone (1990): with k the
    smallest number such that at most k tests could reach alpha / k, it is enough to correct for k.

    Args:
        p: shape (m,), of each test.
        least: shape (m,), the smallest that each could have become, known from its size alone.
        alpha: the level at which the tests are read.

    Example:
        >>> found = tarone(np.array([0.01, 0.5, 1.0]), np.array([0.001, 0.5, 1.0]))
        >>> found.counted, found.p.tolist()
        (1, [0.01, 1.0, 1.0])
    """
    ordered = np.sort(least)
    k = 1
    while int(np.searchsorted(ordered, alpha / k, side="right")) > k:
        k += 1
    return Corrected(p=np.where(least <= alpha / k, np.minimum(1.0, p * k), 1.0), counted=k)


def holm(p: Floats) -> Floats:
    """Correct p-values for their number (Holm, 1979).

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(6).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(1.0, stepped)
    return out


@dataclass(frozen=True)
class Distance:
    """How far two samples lie apart.

    Args:
        largest: of the differences between the shares at or below any value, in [0, 1].
        p: of the two-sample Kolmogorov-Smirnov test; with ties it errs to the safe side.
        at_most: with probability `LEVEL`, the true difference is no larger than this.
    """

    largest: float
    p: float
    at_most: float


def distance(reference: Floats, later: Floats, tests: int = 1) -> Distance:
    """Compare two samples of independent values; `at_most` holds for all of so many tests at once.

    Example:
        >>> distance(np.linspace(0, 0.5, 50), np.linspace(0.6, 1, 50)).largest
        1.0
    """
    from scipy.stats import ks_2samp

    method = "exact" if max(len(reference), len(later)) <= 1_000 else "asymp"
    found = ks_2samp(reference, later, method=method)
    # Dvoretzky-Kiefer-Wolfowitz, with Massart's constant, half of the error for each sample.
    log = math.log(4.0 * tests / (1.0 - LEVEL))
    slack = sum(math.sqrt(log / (2 * len(x))) for x in (reference, later))
    largest = float(found.statistic)
    return Distance(largest=largest, p=float(found.pvalue), at_most=min(1.0, largest + slack))


def weighted_share(
    hits: Sequence[bool], probabilities: Sequence[float], level: float = LEVEL
) -> tuple[float, float, float]:
    """Estimate a share from cases that were drawn with known probabilities.

    The estimate is Hájek's: each case counts for one over its probability. Where all probabilities
    are equal the interval is Clopper and Pearson's. Otherwise it holds every share s that a bet
    against it does not refute: sum of (hit - s) / probability has mean 0 where s is true, so that
    the wealth of whoever stakes a fixed part of it on each case exceeds 1 / (1 - level) with
    probability at most 1 - level; stakes of several sizes and both signs share the money. No normal
    approximation is made. The order of the cases does not matter.

    Args:
        hits: of each case that was drawn, whether it is one of those counted.
        probabilities: with which it was drawn, in (0, 1], fixed before its label was known.
        level: of the interval.

    Returns:
        estimate, low, high.

    Raises:
        InputError: no case, or a probability outside (0, 1].

    Example:
        >>> [round(v, 3) for v in weighted_share([True, False, False, False], [0.5] * 4)]
        [0.25, 0.013, 0.751]
    """
    if not hits:
        raise InputError("no case was drawn: there is no share to estimate")
    drawn = np.asarray(probabilities, dtype=float)
    if not bool(np.all((drawn > 0.0) & (drawn <= 1.0))):
        raise InputError("a selection probability must lie in (0, 1]")
    y = np.asarray(hits, dtype=float)
    weights = 1.0 / drawn
    estimate = float(np.sum(weights * y) / np.sum(weights))
    if float(np.ptp(weights)) == 0.0:
        low, high = clopper_pearson(int(np.sum(y)), len(y), level)
        return estimate, low, high
    low, high = _bet(y, weights / float(np.max(weights)), estimate, level)
    return estimate, low, high


def _bet(y: Floats, weights: Floats, estimate: float, level: float) -> tuple[float, float]:
    """Return the ends of the shares that are not refuted; weights in (0, 1]."""
    stakes = np.geomspace(0.01, 0.99, _BETS)
    refuted_at = math.log(1.0 / (1.0 - level))

    def wealth(s: float) -> float:
        """Log of the mean wealth over all stakes."""
        moves = weights * (y - s)
        up = stakes / max(s, 1e-12)  # the worst case is a loss of s
        down = stakes / max(1.0 - s, 1e-12)
        logs = np.concatenate(
            [
                np.log1p(np.outer(up, moves)).sum(axis=1),
                np.log1p(np.outer(-down, moves)).sum(axis=1),
            ]
        )
        top = float(np.max(logs))
        return top + math.log(float(np.mean(np.exp(logs - top))))

    def end(refuted: float, kept: float) -> float:
        """Return the refuted share nearest to the kept one."""
        if wealth(refuted) < refuted_at:
            return refuted
        for _ in range(_HALVINGS):
            middle = (refuted + kept) / 2
            if wealth(middle) >= refuted_at:
                refuted = middle
            else:
                kept = middle
        return refuted

    inside = min(max(estimate, _EDGE), 1.0 - _EDGE)
    low, high = end(_EDGE, inside), end(1.0 - _EDGE, inside)
    return (0.0 if low <= _EDGE else low), (1.0 if high >= 1.0 - _EDGE else high)
