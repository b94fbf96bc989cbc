"""From labelled trajectories to a calibration: the whole procedure, pure.

Data, plan and seed come in; a `Calibration` or the reason for having none comes out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.model import COMPARISON, PROTECTED_CLASS, Objective, Refusal, Risk, Unit
from tocsin.risk.bounds import allowed_errors, exact_fraction
from tocsin.risk.calibration import (
    SCHEMA,
    Calibration,
    Certificate,
    CurvePoint,
    DataSummary,
    Member,
    SegmentRow,
    seal,
)
from tocsin.risk.candidates import Candidate, Workshop, choose
from tocsin.risk.estimates import alarms, clopper_pearson, mean_or_none
from tocsin.risk.joint import joint_allowed_errors
from tocsin.risk.plan import Plan, check_plan
from tocsin.risk.splits import one_per_group
from tocsin.risk.statistics import Statistic
from tocsin.risk.threshold import cluster_threshold, order_statistic_threshold, over, threshold
from tocsin.risk.trajectories import Trajectories

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CURVE = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
"""Levels at which the browsed curve is drawn, beside those asked for."""


def calibrate(
    trajectories: Trajectories,
    plan: Plan,
    *,
    library_version: str,
    fit_on: Trajectories | None = None,
) -> Calibration | Refusal:
    """Calibrate a monitor.

    Args:
        trajectories: complete ones only: a stream halted by an earlier alarm is censored.
        plan: fixed before looking at outcomes.
        library_version: recorded in the artefact.
        fit_on: other trajectories to fit learned statistics on; then none of `trajectories` are
            split off for that. Must share no id and no group with them.

    Returns:
        A sealed `Calibration`; or, where no level asked for can be given, the first `Refusal`.

    Raises:
        InputError: a contradictory plan, scores outside the declared signal, missing scores under
            the policy ``"error"``, too few trajectories to fit on.
    """
    check_plan(plan)
    check_signal(trajectories, plan.signal.kind)
    unit = plan.unit or default_unit(trajectories)
    if fit_on is not None:
        check_signal(fit_on, plan.signal.kind)
    everyone = np.ones(trajectories.n, dtype=bool)
    workshop = Workshop(trajectories, everyone, plan, fit_on=fit_on)
    results = certify(workshop, unit)
    granted = [r for r in results if isinstance(r, Certified)]
    refused = tuple(r for r in results if isinstance(r, Refusal))
    if not granted:
        return refused[0]
    statistics: list[Statistic] = []
    certificates = [_certificate(g, workshop, unit, statistics) for g in granted]
    return seal(
        Calibration(
            schema=SCHEMA,
            library_version=library_version,
            signal=plan.signal,
            missing=plan.missing,
            unit=unit,
            objective=plan.objective,
            statistic=plan.statistic,
            certificates=tuple(certificates),
            refused=refused,
            statistics=tuple(statistics),
            curve=_curve(granted[0], workshop, unit),
            data=_summary(trajectories, granted, workshop),
            fit_share=plan.fit_share,
            seed=plan.seed,
        )
    )


def check_signal(trajectories: Trajectories, kind: str) -> None:
    """Refuse data without any score, and probabilities outside [0, 1], naming where."""
    if np.isnan(trajectories.scores).all():
        raise InputError("no step has a score: score the data with a verifier first")
    if kind != "probability":
        return
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero((trajectories.scores < 0.0) | (trajectories.scores > 1.0))
    if len(bad):
        at = int(bad[0])
        owner = int(trajectories.owner[at])
        raise InputError(
            f"trajectory {trajectories.ids[owner]!r}, step {trajectories.step_number[at]}: score "
            f"{trajectories.scores[at]!r} is no probability; declare the signal 'real' if the "
            "verifier gives any real number (higher must mean safer)"
        )


def default_unit(trajectories: Trajectories) -> Unit:
    """Take one trajectory per group where groups repeat, else every trajectory."""
    repeated = len(np.unique(trajectories.group_codes)) < trajectories.n
    return "one_per_group" if repeated else "trajectory"


class Certified:
    """One level granted: its candidates, their members and the one chosen."""

    def __init__(
        self,
        risk: Risk,
        epsilon: float,
        delta: float | None,
        candidates: list[Candidate],
        members: list[Member],
        chosen: int,
    ) -> None:
        """Keep them together; `candidates` and `members` run in parallel."""
        self.risk, self.epsilon, self.delta = risk, epsilon, delta
        self.candidates, self.members, self.chosen = candidates, members, chosen

    @property
    def candidate(self) -> Candidate:
        """The monitor chosen."""
        return self.candidates[self.chosen]

    @property
    def member(self) -> Member:
        """The monitor chosen, with its threshold."""
        return self.members[self.chosen]


def certify(workshop: Workshop, unit: Unit) -> list[Certified | Refusal]:
    """Grant or refuse each level of the plan, in order."""
    plan = workshop.plan
    if plan.risk == "both":
        return _certify_both(workshop, unit)
    delta = None if plan.bound == "crc" else plan.delta
    risk: Risk = plan.risk
    locals_ = _local_deltas(workshop, unit, risk) if plan.simultaneous else None
    out: list[Certified | Refusal] = []
    for epsilon in plan.epsilons:
        judged = epsilon if locals_ is None else plan.epsilons[-1]
        candidates = workshop.competitors(n_units(workshop, unit, risk), judged)
        members: list[Member | Refusal] = []
        for c in candidates:
            spend = None if delta is None else delta * c.delta_share
            if locals_ is not None and spend is not None:
                spend = locals_[int(_units(c, workshop, unit, risk).sum())][c.delta_share]
            members.append(_member(c, workshop, unit, risk, epsilon, spend))
        out.append(_grant(risk, epsilon, delta, candidates, members, plan.objective))
    return out


def n_units(workshop: Workshop, unit: Unit, risk: Risk) -> int:
    """Units of the protected class in the whole calibration set."""
    trajectories = workshop.trajectories
    among = workshop.calibration & _protected(trajectories, risk)
    return (
        int(among.sum())
        if unit == "trajectory"
        else len(np.unique(trajectories.group_codes[among]))
    )


def _local_deltas(workshop: Workshop, unit: Unit, risk: Risk) -> dict[int, dict[float, float]]:
    """Joint certificates: the local delta for each n and share of delta that occurs."""
    plan = workshop.plan
    out: dict[int, dict[float, float]] = {}
    for c in workshop.competitors(n_units(workshop, unit, risk), plan.epsilons[-1]):
        n = int(_units(c, workshop, unit, risk).sum())
        local, _ = joint_allowed_errors(n, plan.epsilons, plan.delta * c.delta_share)
        out.setdefault(n, {})[c.delta_share] = local
    return out


def _grant(
    risk: Risk,
    epsilon: float,
    delta: float | None,
    candidates: list[Candidate],
    members: Sequence[Member | Refusal],
    objective: Objective,
) -> Certified | Refusal:
    pairs = [(c, m) for c, m in zip(candidates, members, strict=True) if isinstance(m, Member)]
    if not pairs:
        return next(m for m in members if isinstance(m, Refusal))
    kept = [m for _, m in pairs]
    chosen = choose(kept, objective, risk)
    return Certified(risk, epsilon, delta, [c for c, _ in pairs], kept, chosen)


def _certify_both(workshop: Workshop, unit: Unit) -> list[Certified | Refusal]:
    """Both risks: delta / 2 each, and one statistic whose two thresholds must not cross."""
    plan = workshop.plan
    delta = None if plan.bound == "crc" else plan.delta / 2.0
    levels = {
        "false_alarm": plan.epsilons[0],
        "missed_detection": plan.epsilon_missed or plan.epsilons[0],
    }
    n = min(n_units(workshop, unit, "false_alarm"), n_units(workshop, unit, "missed_detection"))
    kept: list[tuple[Candidate, Member, Member]] = []
    crossed: list[str] = []
    for c in workshop.competitors(n, min(levels.values())):
        spend = None if delta is None else delta * c.delta_share
        alarm = _member(c, workshop, unit, "false_alarm", levels["false_alarm"], spend)
        miss = _member(c, workshop, unit, "missed_detection", levels["missed_detection"], spend)
        if isinstance(alarm, Refusal):
            return [alarm]
        if isinstance(miss, Refusal):
            return [miss]
        if miss.threshold > alarm.threshold:
            kept.append((c, alarm, miss))
        else:
            crossed.append(
                f"{alarm.label}: at {levels['false_alarm']:g} false alarms it detects "
                f"{_percent(alarm.power)} of the unsafe; to miss at most "
                f"{levels['missed_detection']:g} it alarms on {_percent(miss.false_alarms)} "
                "of the safe"
            )
    if not kept:
        return [_crossing(plan, levels["false_alarm"], n, crossed)]
    candidates = [c for c, _, _ in kept]
    chosen = choose([a for _, a, _ in kept], plan.objective, "false_alarm")
    return [
        Certified("false_alarm", levels["false_alarm"], delta, candidates,
                  [a for _, a, _ in kept], chosen),
        Certified("missed_detection", levels["missed_detection"], delta, candidates,
                  [m for _, _, m in kept], chosen),
    ]  # fmt: skip


def _crossing(plan: Plan, epsilon: float, n: int, crossed: list[str]) -> Refusal:
    return Refusal(
        bound=plan.bound,
        epsilon=epsilon,
        delta=None if plan.bound == "crc" else plan.delta,
        n=n,
        n_needed=n,
        epsilon_smallest=epsilon,
        reason="infeasible: no threshold keeps both promises, the two cross. "
        + "; ".join(crossed)
        + ". Ask for less, or use a better verifier.",
    )


def _percent(value: float | None) -> str:
    return "an unknown share" if value is None else f"{100.0 * value:.0f} %"


def _protected(trajectories: Trajectories, risk: Risk) -> Bools:
    return trajectories.safe if risk == "false_alarm" else ~trajectories.safe


def _units(c: Candidate, workshop: Workshop, unit: Unit, risk: Risk) -> Bools:
    """Mark the trajectories that stand behind a candidate's threshold."""
    among = c.eligible & _protected(workshop.trajectories, risk)
    if unit == "one_per_group":
        return one_per_group(workshop.trajectories, among, workshop.plan.seed)
    return np.asarray(among)


def _member(
    c: Candidate, workshop: Workshop, unit: Unit, risk: Risk, epsilon: float, delta: float | None
) -> Member | Refusal:
    """Give one candidate its threshold and measure it on what it was not fitted on."""
    trajectories, bound = workshop.trajectories, workshop.plan.bound
    units = _units(c, workshop, unit, risk)
    maxima = c.maxima[units]
    protected = PROTECTED_CLASS[risk]
    if unit == "cluster_mean":
        clusters = trajectories.group_codes[units]
        got = cluster_threshold(maxima, clusters, bound, epsilon, delta, risk)
        if isinstance(got, Refusal):
            return got
        lam, errors, n = got
    else:
        found = order_statistic_threshold(maxima, bound, epsilon, delta, risk, protected)
        if isinstance(found, Refusal):
            return found
        (lam, errors), n = found, len(maxima)
    if math.isinf(lam) and (lam > 0) == (risk == "false_alarm"):
        return _switched_off(workshop.plan, risk, epsilon, delta, n)
    measured = workshop.held if c.delta_share < 1.0 else c.eligible
    rung = alarms(trajectories, c.paths, lam, risk)
    unsafe, safe = measured & ~trajectories.safe, measured & trajectories.safe
    return Member(
        statistic=0,
        label=c.statistic.label,
        delta=delta,
        n=n,
        errors=float(errors),
        threshold=lam,
        power=mean_or_none(rung.rang[unsafe]),
        saved=mean_or_none(1.0 - rung.share_of_tokens[unsafe]),
        false_alarms=mean_or_none(rung.rang[safe]),
        detected=int(rung.rang[unsafe].sum()),
        n_unsafe=int(unsafe.sum()),
    )


def _switched_off(plan: Plan, risk: Risk, epsilon: float, delta: float | None, n: int) -> Refusal:
    """Refuse an infinite threshold: it keeps the promise by never, or always, alarming."""
    protected = PROTECTED_CLASS[risk]
    what = "never alarms" if risk == "false_alarm" else "alarms on everything"
    if plan.missing == "worst":
        why = (
            f"too many {protected} trajectories have a missing score, which 'worst' counts as +inf"
        )
    else:
        why = f"too many {protected} trajectories have no usable or only infinite scores"
    return Refusal(
        bound=plan.bound,
        epsilon=epsilon,
        delta=delta,
        n=n,
        n_needed=n,
        epsilon_smallest=epsilon,
        protected=protected,
        reason=f"at epsilon = {epsilon:g} only a monitor that {what} keeps the promise: {why}. "
        "Mend the verifier, choose another policy for missing scores, or ask for a larger epsilon.",
    )


def _certificate(
    granted: Certified, workshop: Workshop, unit: Unit, statistics: list[Statistic]
) -> Certificate:
    """Turn a granted level into its record, collecting the statistics it refers to."""
    members = []
    for c, m in zip(granted.candidates, granted.members, strict=True):
        if c.statistic not in statistics:
            statistics.append(c.statistic)
        members.append(msgspec.structs.replace(m, statistic=statistics.index(c.statistic)))
    plan = workshop.plan
    return Certificate(
        risk=granted.risk,
        bound=plan.bound,
        epsilon=granted.epsilon,
        delta=granted.delta,
        jointly=plan.simultaneous,
        comparison=COMPARISON[granted.risk],
        members=tuple(members),
        chosen=granted.chosen,
        segments=tuple(_segments(granted, workshop, unit)),
    )


def _segments(granted: Certified, workshop: Workshop, unit: Unit) -> list[SegmentRow]:
    """One row per segment: its own certificate where possible, else the pooled threshold."""
    trajectories, plan = workshop.trajectories, workshop.plan
    c, member, risk = granted.candidate, granted.member, granted.risk
    units = _units(c, workshop, "one_per_group" if unit == "cluster_mean" else unit, risk)
    names = sorted(set(trajectories.segments[workshop.calibration]))
    spend = member.delta
    rows = []
    for name in names:
        maxima = c.maxima[units & (trajectories.segments == name)]
        if plan.per_segment and plan.simultaneous and len(maxima):
            share = plan.delta * c.delta_share / len(names)
            spend, _ = joint_allowed_errors(len(maxima), plan.epsilons, share)
        lam, certified, note = member.threshold, False, "the pooled promise only"
        if plan.per_segment:
            lam, certified, note = _segment_threshold(
                maxima, plan, granted.epsilon, spend, risk, member.threshold
            )
        wrong = over(maxima, lam, risk)
        errors = int(wrong.sum() if risk == "false_alarm" else (~wrong).sum())
        low, high = clopper_pearson(errors, len(maxima)) if len(maxima) else (0.0, 1.0)
        rows.append(
            SegmentRow(
                segment=str(name),
                n=len(maxima),
                errors=errors,
                rate=errors / len(maxima) if len(maxima) else None,
                rate_low=low,
                rate_high=high,
                threshold=lam,
                certified=certified,
                note=note,
            )
        )
    return rows


def _segment_threshold(
    maxima: Floats, plan: Plan, epsilon: float, delta: float | None, risk: Risk, pooled: float
) -> tuple[float, bool, str]:
    """Mondrian calibration; where n is too small, the more careful of pooled and `crc`."""
    k = allowed_errors(plan.bound, len(maxima), epsilon, delta, protected=PROTECTED_CLASS[risk])
    if not isinstance(k, Refusal):
        return threshold(maxima, k, risk), True, ""
    note = f"no certificate: {k.n} of the {k.n_needed} {k.protected} trajectories it needs"
    rough = int(exact_fraction(epsilon) * (len(maxima) + 1)) - 1
    if rough < 0:
        return pooled, False, note
    own = threshold(maxima, rough, risk)
    return (max(pooled, own) if risk == "false_alarm" else min(pooled, own)), False, note


def _curve(granted: Certified, workshop: Workshop, unit: Unit) -> tuple[CurvePoint, ...]:
    """What the chosen monitor would do at other levels, and which of those are certified."""
    plan, c, risk = workshop.plan, granted.candidate, granted.risk
    if plan.bound != "exact" or unit == "cluster_mean" or granted.member.delta is None:
        return ()
    spend = plan.delta / (2.0 if plan.risk == "both" else 1.0) * c.delta_share
    maxima = c.maxima[_units(c, workshop, unit, risk)]
    levels = sorted({*CURVE, *plan.epsilons})
    _, joint = joint_allowed_errors(len(maxima), levels, spend)
    unsafe = (workshop.held if c.delta_share < 1.0 else c.eligible) & ~workshop.trajectories.safe
    points = []
    for epsilon, together in zip(levels, joint, strict=True):
        alone = allowed_errors("exact", len(maxima), epsilon, spend)
        k = None if isinstance(alone, Refusal) else alone
        k_joint = None if isinstance(together, Refusal) else together
        asked = epsilon in plan.epsilons and not plan.simultaneous
        certified = "alone" if asked and k is not None else "no" if k_joint is None else "jointly"
        used = k if certified == "alone" else k_joint
        lam = None if used is None else threshold(maxima, used, risk)
        points.append(
            CurvePoint(
                epsilon=epsilon,
                errors=k,
                threshold=None if k is None else threshold(maxima, k, risk),
                errors_joint=k_joint,
                threshold_joint=None if k_joint is None else threshold(maxima, k_joint, risk),
                power=None if lam is None else mean_or_none(over(c.maxima[unsafe], lam, risk)),
                certified=certified,
            )
        )
    return tuple(points)


def _summary(
    trajectories: Trajectories, granted: list[Certified], workshop: Workshop
) -> DataSummary:
    split = any((~c.eligible).any() for g in granted for c in g.candidates)
    fit = workshop.fit if split else np.zeros(trajectories.n, dtype=bool)
    source, used = trajectories, fit
    if workshop.fit_on is not None:
        source, used = workshop.fit_on, np.ones(workshop.fit_on.n, dtype=bool)
    safe, names = trajectories.safe, trajectories.segments
    return DataSummary(
        digest=trajectories.digest(),
        n=trajectories.n,
        n_steps=trajectories.n_steps,
        n_safe=int(safe.sum()),
        n_unsafe=int((~safe).sum()),
        n_groups=len(np.unique(trajectories.group_codes)),
        n_missing=int(np.isnan(trajectories.scores).sum()),
        n_fit=int(used.sum()),
        n_fit_safe=int((used & source.safe).sum()),
        fit_digest=_ids_digest(source, used),
        calibration_digest=_ids_digest(trajectories, ~fit),
        segments={
            str(s): (int((safe & (names == s)).sum()), int((~safe & (names == s)).sum()))
            for s in sorted(set(names))
        },
    )


def _ids_digest(trajectories: Trajectories, chosen: Bools) -> str:
    h = hashlib.sha256()
    for name in trajectories.ids[chosen]:
        h.update(str(name).encode("utf-8", "surrogatepass") + b"\0")
    return "sha256:" + h.hexdigest()
