"""What to calibrate: the choices that must be fixed before any threshold is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from tocsin.errors import InputError
from tocsin.limits import EPSILONS_MAX
from tocsin.model import Bound, MissingPolicy, Objective, Signal, Unit
from tocsin.risk.bounds import check_levels

STATISTICS = ("auto", "min_score", "ewma", "per_step_quantile", "posterior")
OBJECTIVES: tuple[Objective, ...] = ("balanced", "power", "saved")
MISSING_POLICIES: tuple[MissingPolicy, ...] = ("error", "skip", "worst")
UNITS: tuple[Unit, ...] = ("trajectory", "one_per_group", "cluster_mean")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Choices fixed beforehand; whatever is chosen after seeing outcomes voids the promise.

    Args:
        risk: which error is controlled, or ``"both"`` (delta / 2 each).
        epsilons: levels, increasing; each certificate holds alone unless `simultaneous`.
        epsilon_missed: the level for missed detections under ``"both"``; the same as for false
            alarms where None.
        delta: probability that a promise fails over the calibration draw; ignored by `crc`.
        bound: see `tocsin.risk.bounds.allowed_errors`.
        statistic: ``"auto"`` or the name of one.
        closing: add a closing check to a statistic chosen by name (`auto` decides itself).
        objective: what `auto` optimises, the promise being kept in any case.
        missing: what a missing score does, here and in deployment.
        unit: the exchangeable unit; None takes one trajectory per group where groups repeat.
        simultaneous: all certificates hold together with probability 1 - delta.
        per_segment: a threshold for each segment where its n allows.
        fit_share: share of the groups on which learned statistics are fitted.
        seed: of the split and of the draw within groups.
    """

    signal: Signal = Signal()
    risk: Literal["false_alarm", "missed_detection", "both"] = "false_alarm"
    epsilons: tuple[float, ...] = (0.1,)
    epsilon_missed: float | None = None
    delta: float = 0.1
    bound: Bound = "exact"
    statistic: str = "auto"
    closing: bool = False
    objective: Objective = "balanced"
    missing: MissingPolicy = "error"
    unit: Unit | None = None
    simultaneous: bool = False
    per_segment: bool = False
    fit_share: float = 0.5
    seed: int = 0


def check_plan(plan: Plan) -> None:
    """Refuse a plan that contradicts itself, with an InputError that says what to change."""
    _one_of("risk", plan.risk, ("false_alarm", "missed_detection", "both"))
    _one_of("statistic", plan.statistic, STATISTICS)
    _one_of("objective", plan.objective, OBJECTIVES)
    _one_of("missing-score policy", plan.missing, MISSING_POLICIES)
    if plan.unit is not None:
        _one_of("unit", plan.unit, UNITS)
    if not 0 < len(plan.epsilons) <= EPSILONS_MAX:
        raise InputError(f"give between 1 and {EPSILONS_MAX} epsilon values")
    missed = () if plan.epsilon_missed is None else (plan.epsilon_missed,)
    for epsilon in (*plan.epsilons, *missed):
        check_levels(plan.bound, epsilon, plan.delta)
    if any(b <= a for a, b in zip(plan.epsilons, plan.epsilons[1:], strict=False)):
        raise InputError(f"epsilon values must increase, got {list(plan.epsilons)}")
    if not 0.0 < plan.fit_share < 1.0:
        raise InputError(f"the fitting share must lie between 0 and 1, got {plan.fit_share!r}")
    if plan.seed < 0:
        raise InputError(f"the seed must not be negative, got {plan.seed}")
    for clash, advice in _CLASHES:
        if clash(plan):
            raise InputError(advice)


_CLASHES: tuple[tuple[Callable[[Plan], bool], str], ...] = (
    (
        lambda p: p.risk == "both" and len(p.epsilons) > 1,
        "control both risks at one epsilon at a time",
    ),
    (
        lambda p: p.risk == "both" and p.unit == "cluster_mean",
        "control both risks with unit 'one_per_group', not 'cluster_mean'",
    ),
    (
        lambda p: p.risk != "both" and p.epsilon_missed is not None,
        "a level for missed detections beside the other needs risk 'both'",
    ),
    (
        # A segment's own alarm threshold may lie above the one that bounds missed detections.
        lambda p: p.risk == "both" and p.per_segment,
        "control both risks with one threshold for all, or one risk per segment",
    ),
    (
        lambda p: p.simultaneous and p.bound == "crc",
        "a promise in expectation holds at every level already; a joint one needs bound 'exact'",
    ),
    (
        lambda p: (
            p.simultaneous
            and (p.unit == "cluster_mean" or p.bound == "hoeffding_bentkus" or p.risk == "both")
        ),
        "a joint certificate needs bound 'exact', one risk and a loss of 0 or 1 per unit",
    ),
    (
        lambda p: p.unit == "cluster_mean" and p.bound == "exact",
        "unit 'cluster_mean' needs bound 'crc' or 'hoeffding_bentkus'",
    ),
    (
        lambda p: p.unit == "cluster_mean" and p.per_segment,
        "per-segment thresholds need unit 'trajectory' or 'one_per_group'",
    ),
    (
        lambda p: p.closing and p.statistic == "auto",
        "'auto' brings its own closing check; name a statistic to add one to it",
    ),
)
"""Choices that contradict each other, and what to do instead."""


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{what} {value!r} is unknown; choose one of {', '.join(known)}")
