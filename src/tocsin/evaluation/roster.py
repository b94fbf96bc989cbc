"""The monitors that an evaluation puts side by side: a table, and how each is judged on a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.evaluation.evaluator import (
    DensityRatio,
    fit_density_ratio,
    pac_threshold,
    ville_threshold,
)
from tocsin.evaluation.metrics import Outcome, measure
from tocsin.model import Bound, Objective, Refusal, Risk, Unit
from tocsin.risk.calibrate import certify
from tocsin.risk.candidates import Workshop
from tocsin.risk.estimates import alarms
from tocsin.risk.plan import Plan
from tocsin.risk.statistics import Paths

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Contestant:
    """One row of the roster.

    Args:
        monitor: its name in tables and JSON.
        statistic: name of the statistic, or ``density_ratio`` for e-valuator.
        bound: ``ville`` stands for e-valuator's anytime threshold 1 / epsilon.
        closing: with a closing check.
        objective: for `auto` only; None takes the evaluation's own.
        words: one line for people.
    """

    monitor: str
    statistic: str
    bound: str
    words: str
    closing: bool = False
    objective: Objective | None = None


ROSTER: tuple[Contestant, ...] = (
    Contestant("paper_crc", "min_score", "crc", "the paper's monitor, promise in expectation"),
    Contestant("paper_ucb", "min_score", "hoeffding_bentkus", "the paper's monitor, corrected UCB"),
    Contestant("evaluator_pac", "density_ratio", "exact", "e-valuator, PAC threshold"),
    Contestant("evaluator_anytime", "density_ratio", "ville", "e-valuator, no finite-sample proof"),
    Contestant("min_exact", "min_score", "exact", "lowest score, exact bound"),
    Contestant("per_step_exact", "per_step_quantile", "exact", "a threshold for each step"),
    Contestant("ewma_exact", "ewma", "exact", "running average, no training"),
    Contestant("posterior_exact", "posterior", "exact", "learned P(unsafe | prefix)"),
    Contestant(
        "closing_exact", "posterior", "exact", "the same with a closing check", closing=True
    ),
    Contestant("auto", "auto", "exact", "learn-then-test, the objective asked for"),
    Contestant("auto_power", "auto", "exact", "the same, most power", objective="power"),
    Contestant("auto_saved", "auto", "exact", "the same, most tokens saved", objective="saved"),
)
"""All monitors, in the order of the tables."""

NAMES: tuple[str, ...] = tuple(c.monitor for c in ROSTER)


def contestants(names: Sequence[str] | None) -> list[Contestant]:
    """Return the roster, or the part of it that is named.

    Raises:
        InputError: an unknown name.
    """
    if names is None:
        return list(ROSTER)
    unknown = [n for n in names if n not in NAMES]
    if unknown:
        raise InputError(f"unknown monitor {unknown[0]!r}; choose from {', '.join(NAMES)}")
    return [c for c in ROSTER if c.monitor in names]


@dataclass(eq=False)
class Split:
    """One split being judged.

    Args:
        workshop: the calibration part, with a plan that names all epsilons.
        test: shape (n,), the test part.
        unit: the exchangeable unit.
    """

    workshop: Workshop
    test: Bools
    unit: Unit

    def __post_init__(self) -> None:
        """Fit e-valuator's density ratios only when first asked for."""
        self._ratios: dict[str, tuple[DensityRatio | None, Paths]] = {}

    def judge(self, contestant: Contestant) -> list[Outcome]:
        """One outcome per epsilon of the plan."""
        if contestant.statistic == "density_ratio":
            risk = self.workshop.plan.risk
            if risk != "false_alarm":
                return [Outcome(refused=True) for _ in self.workshop.plan.epsilons]
            decide = self._ville if contestant.bound == "ville" else self._pac
            try:
                return [decide(epsilon) for epsilon in self.workshop.plan.epsilons]
            except InputError:  # it knows no missing and no infinite score
                return [Outcome(refused=True) for _ in self.workshop.plan.epsilons]
        return self._ours(contestant)

    def _ours(self, contestant: Contestant) -> list[Outcome]:
        base = self.workshop.plan
        bound: Bound = contestant.bound  # type: ignore[assignment]
        if contestant.statistic == "auto":
            bound = base.bound
        plan: Plan = msgspec.structs.replace(
            base,
            statistic=contestant.statistic,
            closing=contestant.closing,
            bound=bound,
            objective=contestant.objective or base.objective,
        )
        try:
            granted = certify(self.workshop.with_plan(plan), self.unit)
        except InputError:  # too few of a class to fit on: refused, like a level that is too small
            return [Outcome(refused=True) for _ in base.epsilons]
        out = []
        for level in granted:
            if isinstance(level, Refusal):
                out.append(Outcome(refused=True, n_calibration=level.n))
                continue
            member = level.member
            rung = alarms(
                self.workshop.trajectories, level.candidate.paths, member.threshold, level.risk
            )
            out.append(
                measure(
                    self.workshop.trajectories,
                    rung,
                    self.test,
                    risk=level.risk,
                    epsilon=level.epsilon,
                    behind=[(m.n, m.errors) for m in level.members],
                    n_calibration=member.n,
                    chosen=member.label,
                )
            )
        return out

    def _ratio(self, part: str) -> tuple[DensityRatio | None, Paths]:
        if part not in self._ratios:
            chosen = self.workshop.fit if part == "fit" else self.workshop.calibration
            model = fit_density_ratio(self.workshop.trajectories, chosen)
            values = np.empty(0) if model is None else model.paths(self.workshop.trajectories)
            self._ratios[part] = (model, Paths(values=values, closing=None))
        return self._ratios[part]

    def _pac(self, epsilon: float) -> Outcome:
        """e-valuator's tolerance bound on the half of the calibration set not used for fitting."""
        model, paths = self._ratio("fit")
        if model is None:
            return Outcome(refused=True)
        trajectories, held = self.workshop.trajectories, self.workshop.held
        ratios = paths.values[held[trajectories.owner]]
        delta = self.workshop.plan.delta
        found = pac_threshold(ratios, trajectories.take(held), epsilon, delta)
        if isinstance(found, Refusal):
            return Outcome(refused=True, n_calibration=found.n)
        lam, k = found
        n = int((held & trajectories.safe).sum())
        return self._measure(paths, lam, epsilon, n, [(n, float(k))])

    def _ville(self, epsilon: float) -> Outcome:
        model, paths = self._ratio("all")
        if model is None:
            return Outcome(refused=True)
        n = int((self.workshop.calibration & self.workshop.trajectories.safe).sum())
        return self._measure(paths, ville_threshold(epsilon), epsilon, n, [])

    def _measure(
        self, paths: Paths, lam: float, epsilon: float, n: int, behind: list[tuple[int, float]]
    ) -> Outcome:
        trajectories, risk = self.workshop.trajectories, _FALSE_ALARM
        return measure(
            trajectories,
            alarms(trajectories, paths, lam, risk),
            self.test,
            risk=risk,
            epsilon=epsilon,
            behind=behind,
            n_calibration=n,
            chosen="density_ratio",
        )


_FALSE_ALARM: Risk = "false_alarm"
