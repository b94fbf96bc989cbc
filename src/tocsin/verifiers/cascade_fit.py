"""Fit `cascade`: where the strong verifier is worth asking, and how often it may be."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tocsin.errors import InputError
from tocsin.risk.bounds import n_needed, passes
from tocsin.verifiers.cascade import SCHEMA, CascadeFile, check_budget, may_ask
from tocsin.verifiers.fusion import Logistic, Member, seal
from tocsin.verifiers.fusion_fit import (
    Bools,
    Floats,
    Scored,
    apply,
    auc,
    check_classes,
    fit_logistic,
    shuffled,
)

_PLACES = 11
_WIDTHS = 128
_DRAWS = 20


@dataclass(frozen=True)
class Band:
    """Cheap scores between two values, ends included."""

    low: float
    high: float


def band(cheap: Floats, place: float, width: float) -> Band:
    """Return a band that holds about a share `width` of the scores.

    Bands of one place lie within each other: in ranks it is [place (1 - width),
    place (1 - width) + width], and an end at rank 0 or 1 is no end at all.

    Example:
        >>> band(np.arange(101.0), 0.5, 0.5)
        Band(low=25.0, high=75.0)
        >>> band(np.arange(101.0), 0.0, 0.5)
        Band(low=-inf, high=50.0)
    """
    low = place * (1.0 - width)
    ends = np.nanquantile(cheap, [low, min(1.0, low + width)])
    return Band(
        low=-math.inf if place == 0.0 else float(ends[0]),
        high=math.inf if place == 1.0 else float(ends[1]),
    )


def escalated(data: Scored, chosen: Band, budget: float, burst: int) -> Bools:
    """Which steps are escalated, shape (N,): in the band, and within each response's share."""
    cheap = data.scores[:, 0]
    out = (cheap >= chosen.low) & (cheap <= chosen.high)
    owner, asked = -1, 0
    for row in np.flatnonzero(out).tolist():
        if data.owner[row] != owner:
            owner, asked = int(data.owner[row]), 0
        if may_ask(asked, row - int(data.starts[owner]) + 1, budget, burst):
            asked += 1
        else:
            out[row] = False
    return out


def group_shares(data: Scored, steps: Bools, among: Bools) -> Floats:
    """Share of the steps escalated, mean over each group's trajectories: one number a group."""
    shares = np.add.reduceat(steps.astype(np.float64), data.starts) / data.lengths
    _, codes = np.unique(data.groups[among], return_inverse=True)
    return np.asarray(np.bincount(codes, weights=shares[among]) / np.bincount(codes))


@dataclass(frozen=True, eq=False)
class Chosen:
    """A band, and how it came about.

    Args:
        band: of cheap scores.
        steps: shape (N,), what it escalates.
        fitted: shape (n,), the half on which its place was chosen.
        share: mean share escalated in the other half.
        alone, both: fitted on the first half.
    """

    band: Band
    steps: Bools
    fitted: Bools
    share: float
    alone: Logistic
    both: Logistic

    def values(self, data: Scored) -> Floats:
        """P(safe) of every step under this cascade."""
        return mixed(data, self.alone, self.both, self.steps)


def mixed(data: Scored, alone: Logistic, both: Logistic, steps: Bools) -> Floats:
    """P(safe) by both scores where a step is escalated, else by the cheap one."""
    return np.where(steps, apply(both, data, [0, 1]), apply(alone, data, [0]))


@dataclass(frozen=True, eq=False)
class _Search:
    """Bands that are tried: some places, and at each place widths that grow."""

    data: Scored
    fitted: Bools
    budget: float
    burst: int

    @cached_property
    def widths(self) -> Floats:
        return np.geomspace(self.budget / 20.0, 1.0, _WIDTHS)

    @cached_property
    def cheap(self) -> Floats:
        """Scores of the half in whose ranks bands are measured."""
        return np.asarray(self.data.scores[self.fitted[self.data.owner], 0])

    def at(self, place: float, k: int) -> tuple[Band, Bools]:
        """Return the k-th band of a place, and what it escalates."""
        found = band(self.cheap, place, float(self.widths[k]))
        return found, escalated(self.data, found, self.budget, self.burst)

    def widest(self, place: float, among: Bools, keeps: Callable[[Floats], bool]) -> int:
        """Return the last k whose shares keep to something; -1 where the narrowest does not.

        Each group's share grows with the width, so what fails once fails for good.
        """

        def fails(k: int) -> bool:
            return not keeps(group_shares(self.data, self.at(place, k)[1], among))

        return bisect_left(range(_WIDTHS), x=True, key=fails) - 1


def choose_band(data: Scored, *, budget: float, burst: int, delta: float, seed: int) -> Chosen:
    """Choose where the band lies on half of the groups, and how wide it may be on the other half.

    Its place is where, at a width that spends the budget on the first half, the lowest score of a
    trajectory tells safe from unsafe best there. Then the widest of a fixed list of widths is taken
    for which the Hoeffding-Bentkus bound (see `tocsin.risk.bounds`) refutes, at level delta on the
    second half, that the mean over groups of the share escalated is above the budget. That half's
    labels are not looked at. As the bands lie within each other, tests run from the narrowest to
    the first that fails, and delta is not shared out: Bates et al. (arXiv 2101.02703, Theorem 1).

    Raises:
        InputError: a budget that is none, or too few trajectories for it.
    """
    check_budget(budget, burst)
    if not 0.0 < delta < 1.0:
        raise InputError(f"delta must lie between 0 and 1, got {delta!r}")
    fitted = shuffled(data, seed) % 2 == 0
    for half in (fitted, ~fitted):
        check_classes(data, half, "half of the data, divided by group")
    alone, both = fit_logistic(data, fitted, [0]), fit_logistic(data, fitted, [0, 1])
    search = _Search(data, fitted, budget, burst)

    def worth(place: float) -> float:
        k = search.widest(place, fitted, lambda shares: float(shares.mean()) <= budget)
        return auc(data, mixed(data, alone, both, search.at(place, max(k, 0))[1]), fitted)

    place = max(np.linspace(0.0, 1.0, _PLACES).tolist(), key=worth)
    n = len(np.unique(data.groups[~fitted]))

    def refuted(shares: Floats) -> bool:
        return passes("hoeffding_bentkus", float(shares.sum()), n, budget, delta)

    k = search.widest(place, ~fitted, refuted)
    if k < 0:
        raise InputError(
            f"no band keeps a budget of {budget:g} at delta = {delta:g} on {n} groups (at least "
            f"{n_needed('hoeffding_bentkus', budget, delta)} in that half, and more where many "
            "cheap scores are equal); raise the budget, or label more groups"
        )
    found, steps = search.at(place, k)
    share = float(group_shares(data, steps, ~fitted).mean())
    return Chosen(found, steps, fitted, share, alone, both)


def fit_cascade(
    data: Scored,
    members: tuple[Member, ...],
    *,
    steps: str,
    budget: float,
    burst: int,
    delta: float,
    seed: int,
    library_version: str,
) -> CascadeFile:
    """Fit a cascade: the band by halves, then both logistics on all of the data.

    Args:
        data: cheap scores, then strong ones, and labels.
        members: the cheap and the strong one.
        steps: what one step is.
        budget: mean share of a response's steps that may be escalated.
        burst: how many more than its share one response may have.
        delta: probability, over the draw of the data, that the budget is not kept.
        seed: of the division into halves.
        library_version: to be written down.
    """
    chosen = choose_band(data, budget=budget, burst=burst, delta=delta, seed=seed)
    everyone = np.ones(len(data.starts), dtype=bool)
    return seal(
        CascadeFile(
            schema=SCHEMA,
            library_version=library_version,
            steps=steps,
            members=members,
            data=data.summary(),
            held_out=_held_out(data, chosen, seed),
            alone=fit_logistic(data, everyone, [0]),
            both=fit_logistic(data, everyone, [0, 1]),
            low=_end(chosen.band.low),
            high=_end(chosen.band.high),
            budget=budget,
            delta=delta,
            burst=burst,
            share=chosen.share,
        )
    )


def _end(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _held_out(data: Scored, chosen: Chosen, seed: int) -> dict[str, float]:
    """Areas on the half whose labels played no part, beside as many steps taken at random."""
    held = ~chosen.fitted
    rng = np.random.default_rng(seed)
    share = float(chosen.steps[held[data.owner]].mean())
    none, every = np.zeros(len(data.scores), dtype=bool), np.ones(len(data.scores), dtype=bool)

    def area(steps: Bools) -> float:
        return auc(data, mixed(data, chosen.alone, chosen.both, steps), held)

    at_random = [area(rng.random(len(data.scores)) < share) for _ in range(_DRAWS)]
    return {
        "cheap": area(none),
        "cascade": area(chosen.steps),
        "random": sum(at_random) / _DRAWS,
        "strong everywhere": area(every),
    }
