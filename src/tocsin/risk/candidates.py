"""The monitors that compete for one calibration, and how one of them is picked.

Each candidate is fitted, if at all, on a split disjoint from the trajectories behind its
threshold. With several, learn-then-test gives each its own share of delta, fixed beforehand; then
any of them may be used, chosen by any criterion on any data (Angelopoulos et al., 2110.01052).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.model import Objective, Risk
from tocsin.risk.calibration import Member
from tocsin.risk.fitting import (
    CLASS_MIN,
    fit_closing,
    fit_per_step_quantile,
    fit_posterior,
)
from tocsin.risk.plan import Plan
from tocsin.risk.splits import take_groups
from tocsin.risk.statistics import Ewma, MinScore, Paths, Statistic
from tocsin.risk.statistics.features import FeatureTable, feature_table
from tocsin.risk.trajectories import Trajectories

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

TRAINING_PAYS_FROM = 20.0
"""`auto` trains where n * epsilon reaches this; below, the price of the split exceeds its gain."""

SAVED_KEPT = 0.8
"""`balanced` takes the most powerful monitor of those that keep this share of the best saving."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One monitor, ready to be given a threshold.

    Args:
        statistic: fitted.
        paths: it over all trajectories of the data set.
        maxima: M of every trajectory.
        eligible: shape (n,), trajectories that may stand behind its threshold.
        delta_share: its share of delta.
    """

    statistic: Statistic
    paths: Paths
    maxima: Floats
    eligible: Bools
    delta_share: float


@dataclass(frozen=True, eq=False)
class Material:
    """Trajectories to fit on.

    Args:
        trajectories: where they are.
        table: the features of all of those.
        chosen: shape (n,), which of them to use.
    """

    trajectories: Trajectories
    table: FeatureTable
    chosen: Bools


@dataclass(eq=False)
class Workshop:
    """One calibration set within a data set: candidates are made once, for every level.

    Args:
        trajectories: the whole data set, test part included where there is one.
        calibration: shape (n,), which of them calibrate; the others are never looked at.
        plan: fixed choices.
        table: their features, where already at hand.
        fit_on: other trajectories to fit on; then nothing is split off the calibration set.
    """

    trajectories: Trajectories
    calibration: Bools
    plan: Plan
    table: FeatureTable | None = None
    fit_on: Trajectories | None = None

    def __post_init__(self) -> None:
        """Split off the fitting part; it is used only where something is fitted."""
        if self.fit_on is not None:
            refuse_overlap(self.fit_on, self.trajectories.take(self.calibration))
        rng = np.random.default_rng([self.plan.seed, 1])
        self.fit = np.zeros(self.trajectories.n, dtype=bool)
        if self.fit_on is None:
            groups = self.trajectories.group_codes[self.calibration]
            count = round(self.plan.fit_share * len(groups))
            self.fit[np.flatnonzero(self.calibration)] = take_groups(groups, count, rng)
        self.held = self.calibration & ~self.fit
        self._made: dict[tuple[str, bool], Candidate] = {}
        self._trained: Candidate | None = None
        self._fit_table: FeatureTable | None = None

    def with_plan(self, plan: Plan) -> Workshop:
        """Return the same split and the same fitted candidates, for another bound or objective."""
        twin = copy(self)
        twin.plan, twin._trained = plan, None  # noqa: SLF001 - our own copy
        return twin

    def candidate(self, name: str, *, closing: bool, share: float = 1.0) -> Candidate:
        """Make a candidate, or the one made before with another share of delta."""
        if (name, closing) not in self._made:
            learns = closing or name in {"per_step_quantile", "posterior"}
            statistic = self._fitted(name, closing=closing)
            eligible = self.held if learns else self.calibration
            self._made[name, closing] = self._ready(statistic, eligible)
        return replace(self._made[name, closing], delta_share=share)

    def features(self) -> FeatureTable:
        """Compute the prefix features once."""
        if self.table is None:
            self.table = feature_table(self.trajectories, self.plan.signal.kind)
        return self.table

    def material(self) -> Material:
        """What learned statistics are fitted on; disjoint from everything `eligible` for them."""
        if self.fit_on is None:
            return Material(self.trajectories, self.features(), self.fit)
        if self._fit_table is None:
            self._fit_table = feature_table(self.fit_on, self.plan.signal.kind)
        return Material(self.fit_on, self._fit_table, np.ones(self.fit_on.n, dtype=bool))

    def can_fit(self) -> bool:
        """Whether the fitting part has enough of both classes; looks at labels alone."""
        safe = self.trajectories.safe[self.fit] if self.fit_on is None else self.fit_on.safe
        return _rarest(safe) >= CLASS_MIN

    def competitors(self, n_protected: int, epsilon: float) -> list[Candidate]:
        """Return who competes at this level; decided by counts alone, never by scores.

        One candidate for a statistic chosen by name. For `auto`, `ewma` alone where n * epsilon is
        below `TRAINING_PAYS_FROM` or either class is too rare to fit on; else `ewma` and a
        posterior with closing check at half of delta each. `crc` cannot pay for a choice made on
        calibration data, so there the two are compared on part of the fitting split.
        """
        plan = self.plan
        if plan.statistic != "auto":
            return [self.candidate(plan.statistic, closing=plan.closing)]
        if n_protected * epsilon < TRAINING_PAYS_FROM or not self.can_fit():
            return [self.candidate("ewma", closing=False)]
        if plan.bound == "crc":
            return [self._chosen_on_training()]
        return [
            self.candidate("ewma", closing=False, share=0.5),
            self.candidate("posterior", closing=True, share=0.5),
        ]

    def _chosen_on_training(self) -> Candidate:
        """Compare on a third of the fitting split, by area under the curve of M, and refit none."""
        if self._trained is not None:
            return self._trained
        whole = self.material()
        places = np.flatnonzero(whole.chosen)
        rng = np.random.default_rng([self.plan.seed, 2])
        groups = whole.trajectories.group_codes[places]
        third = take_groups(groups, round(len(places) / 3.0), rng)
        train = np.zeros(whole.trajectories.n, dtype=bool)
        train[places[~third]] = True
        judge = np.zeros_like(train)
        judge[places[third]] = True
        rare = _rarest(whole.trajectories.safe[train]) < CLASS_MIN
        if rare or _rarest(whole.trajectories.safe[judge]) == 0:
            self._trained = self.candidate("ewma", closing=False)
            return self._trained
        plain = self.candidate("ewma", closing=False).statistic
        material = Material(whole.trajectories, whole.table, train)
        learned = self._fitted("posterior", closing=True, on=material)
        areas = []
        for statistic in (plain, learned):
            paths = statistic.paths(whole.trajectories, self.plan.missing, whole.table)
            maxima, safe = paths.maxima(whole.trajectories.starts), whole.trajectories.safe
            areas.append(_area(maxima[judge & safe], maxima[judge & ~safe]))
        self._trained = self._ready(plain if areas[0] >= areas[1] else learned, self.held)
        return self._trained

    def _ready(self, statistic: Statistic, eligible: Bools) -> Candidate:
        """Run a statistic over the data set."""
        table = self.features() if statistic.uses_features else self.table
        paths = statistic.paths(self.trajectories, self.plan.missing, table)
        maxima = paths.maxima(self.trajectories.starts)
        return Candidate(statistic, paths, maxima, eligible, 1.0)

    def _fitted(self, name: str, *, closing: bool, on: Material | None = None) -> Statistic:
        """Make a statistic, fitted on the material where it learns anything."""
        kind = self.plan.signal.kind
        statistic: Statistic
        if name == "min_score" and not closing:
            return MinScore(kind=kind)
        if name == "ewma" and not closing:
            return Ewma(kind=kind)
        m = on or self.material()
        if name == "min_score":
            statistic = MinScore(kind=kind)
        elif name == "ewma":
            statistic = Ewma(kind=kind)
        elif name == "per_step_quantile":
            statistic = fit_per_step_quantile(m.trajectories, m.table, m.chosen, kind)
        elif name == "posterior":
            statistic = fit_posterior(m.trajectories, m.table, m.chosen, kind)
        else:
            raise InputError(f"statistic {name!r} is unknown")
        if not closing:
            return statistic
        check = fit_closing(m.trajectories, m.table, m.chosen, statistic)
        return msgspec.structs.replace(statistic, closing=check)


def _rarest(safe: Bools) -> int:
    """Size of the smaller class."""
    return min(int(safe.sum()), int((~safe).sum()))


def refuse_overlap(fit_on: Trajectories, calibration: Trajectories) -> None:
    """Refuse to calibrate on what was fitted on, by id and by group, with an InputError."""
    for what, ours, theirs in (
        ("trajectory", calibration.ids, fit_on.ids),
        ("group", calibration.groups, fit_on.groups),
    ):
        shared = sorted(set(ours) & set(theirs))
        if shared:
            raise InputError(
                f"{len(shared)} {what}(s) are in both the fitting and the calibration data, such "
                f"as {shared[0]!r}: a threshold calibrated on what was fitted on promises nothing"
            )


def _area(safe: Floats, unsafe: Floats) -> float:
    """P(M of an unsafe trajectory > M of a safe one), ties half; 0.5 where a class is absent."""
    if not len(safe) or not len(unsafe):
        return 0.5
    ordered = np.sort(safe)
    below = np.searchsorted(ordered, unsafe, side="left")
    up_to = np.searchsorted(ordered, unsafe, side="right")
    return float((below + up_to).mean() / (2.0 * len(safe)))


def choose(members: list[Member], objective: Objective, risk: Risk) -> int:
    """Index of the member to run.

    For false alarms: the most powerful, the one that saves most, or, balanced, the most powerful
    of those that keep at least `SAVED_KEPT` of the best saving. For missed detections the power is
    promised already: the one with the fewest false alarms.
    """
    if risk == "missed_detection":
        return min(range(len(members)), key=lambda j: _known(members[j].false_alarms, 1.0))
    power = [_known(m.power, 0.0) for m in members]
    saved = [_known(m.saved, 0.0) for m in members]
    everyone = range(len(members))
    if objective == "power":
        return max(everyone, key=lambda j: (power[j], saved[j]))
    if objective == "saved":
        return max(everyone, key=lambda j: (saved[j], power[j]))
    keep = [j for j in everyone if saved[j] >= SAVED_KEPT * max(saved)]
    return max(keep, key=lambda j: (power[j], saved[j]))


def _known(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
