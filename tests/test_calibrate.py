"""
The promise: a threshold is the right order statistic of data that its statistic was not fitted on.

A level is granted or refused as the bound says; the true error rate keeps what was promised; and
what calibration must not look at (rows in another order, names of groups, trajectories outside its
part) changes nothing. Claims about draws allow four standard errors; the seeds are fixed.
"""

import hashlib
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from reference import bounds as reference
from reference import joint as reference_joint
from reference import monitor as plain
from scipy.stats import betabinom, binomtest

from tocsin.errors import InputError
from tocsin.model import BOUNDS, PROTECTED_CLASS, RISKS, Bound, Objective, Refusal, Risk, Signal
from tocsin.risk.calibrate import Certified, calibrate, certify
from tocsin.risk.calibration import Calibration, Certificate, Member, to_json
from tocsin.risk.candidates import Workshop, choose
from tocsin.risk.plan import Plan
from tocsin.risk.statistics.features import RETENTION, feature_table
from tocsin.risk.trajectories import Trajectories, from_columns
from tocsin.testing import worlds

Floats = NDArray[np.float64]

WITH_PROBABILITY: tuple[Bound, ...] = ("exact", "hoeffding_bentkus")
FOUR = (0.05, 0.1, 0.2, 0.3)


def world(n: int, unsafe_share: float = 0.4, seed: int = 0) -> Trajectories:
    return worlds.trajectories(n, unsafe_share, np.random.default_rng(seed))


def answer(data: Trajectories, **choices: Any) -> Calibration | Refusal:
    return calibrate(data, Plan(**choices), library_version="test")


def made(data: Trajectories, **choices: Any) -> Calibration:
    got = answer(data, **choices)
    assert isinstance(got, Calibration), got
    return got


def refused(data: Trajectories, **choices: Any) -> Refusal:
    got = answer(data, **choices)
    assert isinstance(got, Refusal)
    return got


def rows_of(data: Trajectories) -> list[list[float]]:
    return [part.tolist() for part in np.split(data.scores, data.starts[1:])]


def maxima_of(data: Trajectories, statistic: str = "min_score") -> list[float]:
    """By the reference: one maximum per trajectory."""
    if statistic == "min_score":
        return plain.maxima(plain.min_score_path(row) for row in rows_of(data))
    return plain.maxima(plain.ewma_path(row, RETENTION, 1e-6) for row in rows_of(data))


def protected(data: Trajectories, risk: Risk) -> NDArray[np.bool_]:
    return data.safe if risk == "false_alarm" else ~data.safe


def those(values: Sequence[float], mask: NDArray[np.bool_]) -> list[float]:
    return [v for v, m in zip(values, mask, strict=True) if m]


def columns(data: Trajectories) -> dict[str, NDArray[Any]]:
    owner = data.owner
    return {
        "trajectory_id": data.ids[owner],
        "step": data.step_number,
        "score": data.scores,
        "label": data.safe[owner].astype(np.int64),
        "tokens": data.tokens,
        "group": data.groups[owner],
        "segment": data.segments[owner],
        "onset_step": data.onset[owner],
    }


def grouped(data: Trajectories, size: int, name: Callable[[int], str] = "g{:04d}".format) -> Any:
    """Neighbours by a fixed shuffle share a group, so that groups hold both classes."""
    place = np.random.default_rng(99).permutation(data.n)
    groups = np.array([name(int(i) // size) for i in place], dtype=object)
    return replace(data, groups=groups, has_groups=True)


# ------------------------------------------------------------------------------------- thresholds


@pytest.mark.parametrize("statistic", ["min_score", "ewma"])
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("risk", RISKS)
def test_the_threshold_is_the_order_statistic_of_the_reference(
    risk: Risk, bound: Bound, statistic: str
) -> None:
    data = world(260, 0.5, seed=1)
    found = made(data, risk=risk, bound=bound, statistic=statistic, epsilons=FOUR)
    maxima = those(maxima_of(data, statistic), protected(data, risk))
    for certificate, epsilon in zip(found.certificates, FOUR, strict=True):
        k = reference.allowed_errors(bound, len(maxima), epsilon, 0.1)
        assert k is not None
        member = certificate.member
        assert (member.n, member.errors) == (len(maxima), k)
        wanted = plain.threshold(maxima, k, risk)
        if statistic == "min_score":
            assert certificate.threshold == wanted
        assert certificate.threshold == pytest.approx(wanted, rel=1e-12)
        assert certificate.comparison == plain.COMPARISON[risk]
        assert certificate.delta == (None if bound == "crc" else 0.1)
        assert (certificate.risk, certificate.bound) == (risk, bound)


@pytest.mark.parametrize("risk", RISKS)
def test_what_a_member_says_of_itself_is_what_the_reference_measures(risk: Risk) -> None:
    data = world(300, 0.4, seed=2)
    member = made(data, risk=risk, statistic="min_score", epsilons=(0.2,)).certificate().member
    tokens = [part.tolist() for part in np.split(data.tokens, data.starts[1:])]
    measured = plain.measure(
        [
            plain.Trajectory(plain.min_score_path(s), w, bool(safe))
            for s, w, safe in zip(rows_of(data), tokens, data.safe, strict=True)
        ],
        member.threshold,
        plain.COMPARISON[risk],
    )
    assert member.power == measured.power
    assert member.false_alarms == measured.far
    assert member.saved == pytest.approx(measured.saved_mean, rel=1e-12)
    assert member.n_unsafe == int((~data.safe).sum())
    assert member.detected == round((measured.power or 0.0) * member.n_unsafe)


# ----------------------------------------------------------------------------- the promise itself


RUNS = 250
SIZE = 60


def true_rate(risk: Risk, threshold: float) -> float:
    lam = -threshold
    return worlds.false_alarm_rate(lam) if risk == "false_alarm" else 1.0 - worlds.power(lam)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("risk", RISKS)
def test_the_true_error_rate_keeps_the_promise(risk: Risk, bound: Bound) -> None:
    """On the closed-form world; fails by chance with probability below 1e-4."""
    rng = np.random.default_rng(3)
    rates = np.empty(RUNS)
    choices: dict[str, Any] = {"risk": risk, "bound": bound, "statistic": "min_score"}
    share = 0.0 if risk == "false_alarm" else 1.0
    for i in range(RUNS):
        (got,) = certify(workshop(worlds.trajectories(SIZE, share, rng), **choices), "trajectory")
        assert isinstance(got, Certified)
        rates[i] = true_rate(risk, got.member.threshold)
    k = reference.allowed_errors(bound, SIZE, 0.1, 0.1)
    assert k is not None
    mean = float(reference.expected_rate(k, SIZE))
    assert abs(rates.mean() - mean) <= 4.0 * float(rates.std()) / math.sqrt(RUNS)
    assert mean <= 0.1
    if bound != "crc":
        wanted = float(reference.violation_probability(SIZE, k, 0.1))
        violated = float((rates > 0.1).mean())
        assert violated <= 0.1 + 4.0 * math.sqrt(0.09 / RUNS)
        assert abs(violated - wanted) <= 4.0 * math.sqrt(wanted * (1.0 - wanted) / RUNS)


def test_auto_keeps_the_promise_on_fresh_outputs() -> None:
    """
    Sixty calibrations of 300 trajectories, each measured on the same 800 safe ones.

    That any of the monitors tried exceeds epsilon is what delta pays for, however one is chosen.
    On a finite test set a valid monitor does so with the beta-binomial probability; those of two
    add up. Four standard errors above that are allowed.
    """
    runs, m = 60, 800
    fresh = world(m, 0.0, seed=4)
    table = feature_table(fresh, "probability")
    rng = np.random.default_rng(5)
    rates, nominal, violated = [], [], 0
    limits: Any = importlib.import_module("threadpoolctl").threadpool_limits
    with limits(1):
        for seed in range(runs):
            shop = workshop(worlds.trajectories(300, 0.3, rng), seed=seed)
            (granted,) = certify(shop, "trajectory")
            assert isinstance(granted, Certified)
            assert [x.label for x in granted.members] == ["ewma", "posterior+closing"]
            far = []
            for candidate, x in zip(granted.candidates, granted.members, strict=True):
                maxima = candidate.statistic.paths(fresh, "error", table).maxima(fresh.starts)
                far.append(float((maxima > x.threshold).mean()))
                nominal.append(betabinom(m, x.errors + 1, x.n - x.errors).sf(0.1 * m))
            rates += far
            violated += max(far) > 0.1
    expected = 2.0 * float(np.mean(nominal))
    assert expected < 0.2
    assert violated / runs <= expected + 4.0 * math.sqrt(expected * (1.0 - expected) / runs)
    assert 0.04 < np.mean(rates) < 0.08


# ----------------------------------------------------------------------- too little data; levels


@pytest.mark.parametrize("statistic", ["min_score", "ewma", "auto"])
def test_ten_safe_trajectories_support_a_tenth_on_average_and_not_with_probability(
    statistic: str,
) -> None:
    data = world(16, 6 / 16)
    for bound in WITH_PROBABILITY:
        refusal = refused(data, bound=bound, statistic=statistic)
        assert (refusal.n, refusal.n_needed, refusal.epsilon) == (10, 22, 0.1)
        assert (refusal.delta, refusal.protected) == (0.1, "safe")
        assert "needs at least 22 safe trajectories at delta = 0.1, you have 10" in (
            refusal.sentence()
        )
    found = made(data, bound="crc", statistic=statistic)
    member = found.certificate().member
    assert (member.n, member.errors, member.delta) == (10, 0, None)
    assert member.false_alarms == 0.0
    assert found.curve == ()


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("bound", BOUNDS)
def test_the_smallest_n_is_enough_and_one_fewer_is_refused(risk: Risk, bound: Bound) -> None:
    n = reference.smallest_n(bound, 0.1, 0.1)
    share = 0.0 if risk == "false_alarm" else 1.0
    enough = made(world(n, share), risk=risk, bound=bound, statistic="min_score")
    assert enough.certificate().member.errors == 0
    refusal = refused(world(n - 1, share), risk=risk, bound=bound, statistic="min_score")
    assert (refusal.n, refusal.n_needed) == (n - 1, n)
    assert refusal.protected == PROTECTED_CLASS[risk]


@pytest.mark.parametrize("bound", BOUNDS)
def test_without_any_protected_trajectory_the_answer_is_a_refusal(bound: Bound) -> None:
    refusal = refused(world(30, 1.0), bound=bound)
    assert (refusal.n, refusal.epsilon_smallest) == (0, 1.0)
    assert "Label some safe trajectories" in refusal.sentence()


def bare(certificate: Certificate) -> Any:
    """A certificate without the places of its statistics in the file."""
    members = [msgspec.structs.replace(m, statistic=0) for m in certificate.members]
    return msgspec.structs.replace(certificate, members=tuple(members))


@pytest.mark.parametrize("statistic", ["min_score", "auto"])
def test_several_levels_are_what_each_would_be_alone(statistic: str) -> None:
    data = world(420, 0.4, seed=6)
    together = made(data, epsilons=FOUR, statistic=statistic)
    for certificate, epsilon in zip(together.certificates, FOUR, strict=True):
        alone = made(data, epsilons=(epsilon,), statistic=statistic).certificate()
        assert bare(certificate) == bare(alone)
        assert not certificate.jointly


def test_simultaneous_levels_are_those_of_the_joint_reference() -> None:
    data = world(320, 0.4, seed=7)
    found = made(data, epsilons=FOUR, statistic="ewma", simultaneous=True)
    n = int(data.safe.sum())
    wanted = reference_joint.joint_allowed_errors(n, FOUR, 0.1)
    assert [c.member.errors for c in found.certificates] == list(wanted)
    assert all(c.jointly and c.delta == 0.1 for c in found.certificates)
    alone = made(data, epsilons=FOUR, statistic="ewma")
    assert [c.member.errors for c in alone.certificates] != list(wanted)


def test_simultaneous_levels_of_auto_hold_together_for_each_monitor_at_its_share() -> None:
    data = world(420, 0.4, seed=6)
    found = made(data, epsilons=(0.1, 0.2), simultaneous=True)
    for place, label in enumerate(["ewma", "posterior+closing"]):
        members = [c.members[place] for c in found.certificates]
        assert {m.label for m in members} == {label}
        wanted = reference_joint.joint_allowed_errors(members[0].n, (0.1, 0.2), 0.05)
        assert [m.errors for m in members] == list(wanted)


def test_refused_levels_are_listed_and_the_others_kept() -> None:
    data = world(160, 0.375)
    found = made(data, epsilons=(0.01, 0.02, 0.1, 0.2), statistic="min_score")
    assert [c.epsilon for c in found.certificates] == [0.1, 0.2]
    assert [(r.epsilon, r.n, r.n_needed) for r in found.refused] == [
        (0.01, 100, 230),
        (0.02, 100, 114),
    ]
    first = refused(data, epsilons=(0.005, 0.01), statistic="min_score")
    assert first.epsilon == 0.005


def test_the_curve_marks_what_was_asked_for_and_what_holds_jointly() -> None:
    data = world(320, 0.4, seed=8)
    found = made(data, epsilons=(0.1, 0.2), statistic="min_score")
    points = {p.epsilon: p for p in found.curve}
    assert {e for e, p in points.items() if p.certified == "alone"} == {0.1, 0.2}
    for certificate in found.certificates:
        assert points[certificate.epsilon].threshold == certificate.threshold
    levels = sorted(points)
    joint = reference_joint.joint_allowed_errors(192, levels, 0.1)
    assert [points[e].errors_joint for e in levels] == list(joint)
    for epsilon in levels:
        assert points[epsilon].errors == reference.allowed_errors("exact", 192, epsilon, 0.1)
        refused_here = points[epsilon].errors_joint is None
        assert (points[epsilon].certified == "no") == (refused_here and epsilon not in (0.1, 0.2))


# ------------------------------------------------------------------------------------- both risks


def test_both_risks_take_half_of_delta_each_and_the_alarm_threshold_keeps_both() -> None:
    data = world(600, 0.5, seed=9)
    found = made(data, risk="both", epsilons=(0.25,), epsilon_missed=0.3, statistic="min_score")
    alarm, miss = found.certificates
    assert (alarm.risk, alarm.epsilon, alarm.delta, alarm.member.delta) == (
        "false_alarm", 0.25, 0.05, 0.05,
    )  # fmt: skip
    assert (miss.risk, miss.epsilon, miss.delta, miss.member.delta) == (
        "missed_detection", 0.3, 0.05, 0.05,
    )  # fmt: skip
    assert miss.threshold > alarm.threshold
    for certificate in (alarm, miss):
        alone = made(
            data,
            risk=certificate.risk,
            epsilons=(certificate.epsilon,),
            delta=0.05,
            statistic="min_score",
        )
        assert certificate == alone.certificate()
    assert found.certificate() == alarm
    assert found.certificate(risk="missed_detection") == miss


def test_both_risks_share_one_statistic_under_auto() -> None:
    found = made(world(600, 0.5, seed=9), risk="both", epsilons=(0.25,))
    alarm, miss = found.certificates
    assert alarm.member.statistic == miss.member.statistic
    assert {m.delta for m in (*alarm.members, *miss.members)} == {0.025}
    assert all(m.threshold > a.threshold for a, m in zip(alarm.members, miss.members, strict=True))


@pytest.mark.parametrize("bound", BOUNDS)
def test_thresholds_that_cross_are_refused_with_the_reason(bound: Bound) -> None:
    refusal = refused(
        world(600, 0.5, seed=9), risk="both", epsilons=(0.03,), statistic="min_score", bound=bound
    )
    sentence = refusal.sentence()
    assert sentence.startswith("infeasible: no threshold keeps both promises")
    assert "min_score: at 0.03 false alarms it detects" in sentence
    assert "to miss at most 0.03 it alarms on" in sentence
    assert refusal.delta == (None if bound == "crc" else 0.1)


def test_both_risks_name_the_class_that_is_too_small() -> None:
    refusal = refused(world(200, 0.05), risk="both", epsilons=(0.2,), statistic="min_score")
    assert (refusal.protected, refusal.n, refusal.n_needed) == ("unsafe", 10, 14)
    refusal = refused(world(200, 0.95), risk="both", epsilons=(0.2,), statistic="min_score")
    assert (refusal.protected, refusal.n) == ("safe", 10)


# ------------------------------------------------------------------------------------------ units


def drawn(data: Trajectories, among: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """One of each group: the one whose seed and id have the smallest SHA-256."""
    best: dict[str, tuple[bytes, int]] = {}
    for i in np.flatnonzero(among).tolist():
        rank = (hashlib.sha256(f"{seed}:{data.ids[i]}".encode()).digest(), i)
        best[data.groups[i]] = min(best.get(data.groups[i], rank), rank)
    mask = np.zeros(data.n, dtype=bool)
    mask[[i for _, i in best.values()]] = True
    return mask


@pytest.mark.parametrize("risk", RISKS)
def test_repeated_groups_count_once_by_default(risk: Risk) -> None:
    data = grouped(world(600, 0.4, seed=10), 4)
    found = made(data, risk=risk, statistic="min_score", seed=3)
    assert found.unit == "one_per_group"
    one = drawn(data, protected(data, risk), 3)
    assert 100 < one.sum() < 160
    maxima = those(maxima_of(data), one)
    k = reference.allowed_errors("exact", len(maxima), 0.1, 0.1)
    assert k is not None
    member = found.certificate().member
    assert (member.n, member.errors) == (len(maxima), k)
    assert member.threshold == plain.threshold(maxima, k, risk)
    assert made(data, risk=risk, statistic="min_score", seed=4).certificate() != (
        found.certificate()
    )


def test_groups_that_do_not_repeat_leave_the_trajectory_as_the_unit() -> None:
    data = grouped(world(200, 0.4), 1)
    assert made(data, statistic="min_score").unit == "trajectory"
    by_force = made(grouped(world(600, 0.4), 4), statistic="min_score", unit="trajectory")
    assert by_force.unit == "trajectory"
    assert by_force.certificate().member.n == 360


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("bound", ["crc", "hoeffding_bentkus"])
def test_cluster_means_are_the_last_of_a_scan_over_all_thresholds(bound: Bound, risk: Risk) -> None:
    data = grouped(world(400, 0.5, seed=11), 3)
    found = made(data, risk=risk, bound=bound, unit="cluster_mean", statistic="min_score",
                 epsilons=(0.2,))  # fmt: skip
    member = found.certificate().member
    chosen = protected(data, risk)
    clusters: dict[str, list[float]] = {}
    for name, m in zip(data.groups[chosen], those(maxima_of(data), chosen), strict=True):
        clusters.setdefault(name, []).append(m)
    n = len(clusters)

    def loss(lam: float) -> Fraction:
        """Summed share of each group in error: alarms on safe ones, or none on unsafe ones."""
        return sum(
            (
                Fraction(
                    sum(m > lam if risk == "false_alarm" else m < lam for m in group), len(group)
                )
                for group in clusters.values()
            ),
            Fraction(0),
        )

    def passes(total: Fraction) -> bool:
        if bound == "crc":
            return (total + 1) / (n + 1) <= Fraction(1, 5)
        return reference.hb_cluster_feasible(total / n, n, 0.2, 0.1)

    good = [m for group in clusters.values() for m in group if passes(loss(m))]
    wanted = min(good) if risk == "false_alarm" else max(good)
    assert member.threshold == wanted
    assert member.n == n
    assert member.errors == pytest.approx(float(loss(wanted)), abs=1e-9)


def test_cluster_means_are_refused_where_groups_are_too_few() -> None:
    data = grouped(world(100, 0.2), 4)
    refusal = refused(data, bound="hoeffding_bentkus", unit="cluster_mean", epsilons=(0.05,))
    assert refusal.n < refusal.n_needed == 45


@pytest.mark.parametrize(
    ("unit", "bound"),
    [("one_per_group", "exact"), ("cluster_mean", "crc"), ("cluster_mean", "hoeffding_bentkus")],
)
@pytest.mark.parametrize("statistic", ["min_score", "ewma"])
def test_neither_row_order_nor_the_names_of_groups_matter(
    unit: str, bound: Bound, statistic: str
) -> None:
    data = grouped(world(300, 0.3, seed=12), 3)
    rows = columns(data)
    order = np.random.default_rng(13).permutation(data.n_steps)
    shuffled = from_columns(**{name: column[order] for name, column in rows.items()})
    names = np.random.default_rng(14).permutation(1_000)
    renamed = grouped(world(300, 0.3, seed=12), 3, lambda i: f"other {names[i]} \x1b\u202e")
    choices: dict[str, Any] = {"unit": unit, "bound": bound, "statistic": statistic}
    first = made(data, epsilons=(0.1, 0.3), **choices)
    assert to_json(made(shuffled, epsilons=(0.1, 0.3), **choices)) == to_json(first)
    assert made(renamed, epsilons=(0.1, 0.3), **choices).certificates == first.certificates


@pytest.mark.parametrize("statistic", ["auto", "posterior", "per_step_quantile"])
def test_learned_monitors_do_not_see_the_order_of_rows(statistic: str) -> None:
    data = grouped(world(360, 0.4, seed=15), 1)
    rows = columns(data)
    order = np.random.default_rng(16).permutation(data.n_steps)
    shuffled = from_columns(**{name: column[order] for name, column in rows.items()})
    first = made(data, statistic=statistic)
    assert to_json(made(shuffled, statistic=statistic)) == to_json(first)


# --------------------------------------------------------------------------------------- segments


def segmented() -> Trajectories:
    """Safe: 200 + 200 + 30 + 30 + 5, of which some segments score lower than others."""
    rng = np.random.default_rng(17)
    sizes = {"quiet": 200, "loud": 200, "few loud": 30, "few quiet": 30, "five": 5}
    ids: list[str] = []
    scores: list[Floats] = []
    labels: list[int] = []
    segments: list[str] = []
    for name, size in sizes.items():
        for label, shape in ((1, 4.0 if "loud" in name else 9.0), (0, 1.5)):
            for i in range(size):
                row = rng.random(int(rng.integers(3, 9))) ** (1.0 / shape)
                scores.append(row)
                ids += [f"{name} {label} {i:03d}"] * len(row)
                labels += [label] * len(row)
                segments += [name] * len(row)
    steps = [t + 1 for row in scores for t in range(len(row))]
    return from_columns(
        trajectory_id=ids,
        step=steps,
        score=np.concatenate(scores),
        label=labels,
        segment=segments,
    )


SIZES = {"few loud": 30, "few quiet": 30, "five": 5, "loud": 200, "quiet": 200}


@pytest.mark.parametrize("risk", RISKS)
def test_segments_are_certified_where_n_allows_and_else_run_the_more_careful_threshold(
    risk: Risk,
) -> None:
    data = segmented()
    found = made(data, risk=risk, statistic="min_score", epsilons=(0.05,), per_segment=True)
    certificate = found.certificate()
    rows = {row.segment: row for row in certificate.segments}
    assert {name: row.n for name, row in rows.items()} == SIZES
    maxima = maxima_of(data)
    careful = max if risk == "false_alarm" else min
    for name, row in rows.items():
        own = those(maxima, protected(data, risk) & (data.segments == name))
        if len(own) == 200:
            k = reference.allowed_errors("exact", 200, 0.05, 0.1)
            assert k is not None
            assert row.threshold == plain.threshold(own, k, risk)
            assert row.certified and row.note == ""
            continue
        assert not row.certified
        assert row.note.startswith(f"no certificate: {len(own)} of the 45")
        assert PROTECTED_CLASS[risk] in row.note
        rough = reference.allowed_errors("crc", len(own), 0.05)
        if rough is None:
            assert row.threshold == certificate.threshold
        else:
            assert row.threshold == careful(
                certificate.threshold, plain.threshold(own, rough, risk)
            )
    if risk == "false_alarm":
        assert rows["few quiet"].threshold == certificate.threshold
        assert rows["loud"].threshold > certificate.threshold > rows["quiet"].threshold


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("per_segment", [False, True])
def test_every_segment_is_reported_with_its_exact_interval(risk: Risk, per_segment: bool) -> None:
    data = segmented()
    certificate = made(
        data, risk=risk, statistic="min_score", epsilons=(0.1,), per_segment=per_segment
    ).certificate()
    assert [row.segment for row in certificate.segments] == sorted(SIZES)
    maxima = maxima_of(data)
    for row in certificate.segments:
        own = those(maxima, protected(data, risk) & (data.segments == row.segment))
        crossed = [plain.crosses(m, row.threshold, plain.COMPARISON[risk]) for m in own]
        errors = sum(crossed) if risk == "false_alarm" else len(own) - sum(crossed)
        assert (row.n, row.errors, row.rate) == (len(own), errors, errors / len(own))
        wanted = binomtest(errors, len(own)).proportion_ci(0.9, method="exact")
        assert row.rate_low == pytest.approx(wanted.low, abs=1e-9)
        assert row.rate_high == pytest.approx(wanted.high, abs=1e-9)
        if not per_segment:
            assert (row.threshold, row.certified) == (certificate.threshold, False)
            assert "pooled" in row.note


def test_a_segment_without_a_protected_trajectory_is_reported_and_runs_the_pooled_threshold() -> (
    None
):
    data = world(300, 0.4, seed=18)
    data = data.with_segments(["only unsafe" if not s else "rest" for s in data.safe])
    certificate = made(data, statistic="min_score", per_segment=True).certificate()
    row = next(r for r in certificate.segments if r.segment == "only unsafe")
    assert (row.n, row.errors, row.rate, row.rate_low, row.rate_high) == (0, 0, None, 0.0, 1.0)
    assert (row.threshold, row.certified) == (certificate.threshold, False)


def test_simultaneous_segments_hold_together() -> None:
    """The joint failure of each segment's certificates is at most its share of delta."""
    data = world(240, 0.125, seed=31)
    names = ["a", "b", "c"]
    data = data.with_segments([names[i % 3] for i in range(data.n)])
    levels = (0.05, 0.1)
    found = made(data, epsilons=levels, statistic="min_score", per_segment=True, simultaneous=True)
    maxima = maxima_of(data)
    for name in names:
        own = sorted(those(maxima, data.safe & (data.segments == name)), reverse=True)
        assert len(own) == 70
        rows = [next(r for r in c.segments if r.segment == name) for c in found.certificates]
        allowed = [own.index(r.threshold) if r.certified else None for r in rows]
        assert allowed[-1] is not None
        assert reference_joint.joint_failure(70, levels, allowed) <= Fraction(1, 30)


# ------------------------------------------------------------------------------- auto, and fitting


@pytest.mark.parametrize(("n_safe", "competes"), [(199, False), (200, True)])
def test_auto_trains_where_n_times_epsilon_reaches_twenty(n_safe: int, competes: bool) -> None:
    data = world(n_safe + 60, 60 / (n_safe + 60), seed=19)
    assert int(data.safe.sum()) == n_safe
    found = made(data)
    members = found.certificate().members
    if competes:
        assert [(m.label, m.delta, m.n) for m in members] == [
            ("ewma", 0.05, n_safe),
            ("posterior+closing", 0.05, n_safe - found.data.n_fit_safe),
        ]
    else:
        assert [(m.label, m.delta, m.n) for m in members] == [("ewma", 0.1, n_safe)]
        assert found.data.n_fit == 0


@pytest.mark.parametrize("bound", BOUNDS)
def test_auto_falls_back_to_the_running_average_where_a_class_is_too_rare(bound: Bound) -> None:
    found = made(world(400, 0.03), bound=bound)
    member = found.certificate().member
    assert [m.label for m in found.certificate().members] == ["ewma"]
    assert member.n == int(world(400, 0.03).safe.sum())
    assert member.delta == (None if bound == "crc" else 0.1)


@pytest.mark.parametrize("n_unsafe", range(16, 40, 4))
def test_auto_under_crc_answers_however_rare_a_class_is(n_unsafe: int) -> None:
    for seed in range(3):
        data = world(40 + n_unsafe, n_unsafe / (40 + n_unsafe), seed=seed)
        found = made(data, bound="crc", epsilons=(0.5,), seed=seed)
        assert len(found.certificate().members) == 1


def held_changed(data: Trajectories, held: NDArray[np.bool_], seed: int) -> Trajectories:
    """The same sizes; labels shuffled within the held part, and its scores drawn afresh."""
    rng = np.random.default_rng(seed)
    safe = data.safe.copy()
    safe[held] = rng.permutation(safe[held])
    rows = held[data.owner]
    scores = np.where(rows, rng.random(data.n_steps), data.scores)
    return replace(data, safe=safe, scores=scores)


def workshop(data: Trajectories, mask: NDArray[np.bool_] | None = None, **plan: Any) -> Workshop:
    everyone = np.ones(data.n, dtype=bool)
    return Workshop(data, everyone if mask is None else mask, Plan(**plan))


def told_by_the_average() -> Trajectories:
    """Unsafe is what makes a running average highest: nothing can be learned beyond it."""
    data = world(500, 0.4, seed=20)
    maxima = np.array(maxima_of(data, "ewma"))
    return replace(data, safe=maxima <= np.quantile(maxima, 0.6))


@pytest.mark.parametrize(
    ("make", "wanted"),
    [(told_by_the_average, "ewma"), (lambda: world(500, 0.4, seed=20), "posterior+closing")],
    ids=["average", "world"],
)
def test_under_crc_auto_chooses_on_the_fitting_part_alone(
    make: Callable[[], Trajectories], wanted: str
) -> None:
    """Whatever labels and scores the calibrating part has, the choice is the same."""
    data = make()
    shop = workshop(data, bound="crc")
    (chosen,) = shop.competitors(300, 0.1)
    assert chosen.statistic.label == wanted
    assert not (chosen.eligible & shop.fit).any()
    for seed in range(3):
        other = workshop(held_changed(data, shop.held, seed), bound="crc")
        assert (other.fit == shop.fit).all()
        (again,) = other.competitors(300, 0.1)
        assert again.statistic == chosen.statistic
        assert not np.array_equal(again.maxima, chosen.maxima)


@pytest.mark.parametrize(
    ("name", "closing"),
    [("posterior", False), ("posterior", True), ("per_step_quantile", False), ("ewma", True)],
)
def test_what_is_learned_is_learned_on_other_trajectories_than_calibrate(
    name: str, closing: bool
) -> None:
    data = grouped(world(500, 0.4, seed=22), 2)
    shop = workshop(data)
    candidate = shop.candidate(name, closing=closing)
    assert not (candidate.eligible & shop.fit).any()
    assert (candidate.eligible | shop.fit).all()
    assert not set(data.groups[candidate.eligible]) & set(data.groups[shop.fit])
    again = workshop(held_changed(data, shop.held, 1)).candidate(name, closing=closing)
    assert again.statistic == candidate.statistic


@pytest.mark.parametrize("name", ["min_score", "ewma"])
def test_what_is_not_learned_calibrates_on_everything(name: str) -> None:
    shop = workshop(world(300, 0.4))
    assert shop.candidate(name, closing=False).eligible.all()


def digest_of(ids: NDArray[Any]) -> str:
    return "sha256:" + hashlib.sha256(b"".join(str(i).encode() + b"\0" for i in ids)).hexdigest()


def test_the_artefact_names_the_two_parts_and_they_are_disjoint() -> None:
    data = world(400, 0.4, seed=23)
    found = made(data, statistic="posterior", seed=5)
    fit = workshop(data, seed=5).fit
    assert found.data.fit_digest == digest_of(data.ids[fit])
    assert found.data.calibration_digest == digest_of(data.ids[~fit])
    assert (found.data.n_fit, found.data.n_fit_safe) == (fit.sum(), (fit & data.safe).sum())
    assert found.certificate().member.n == int((~fit & data.safe).sum())
    unsplit = made(data, statistic="ewma").data
    assert unsplit.calibration_digest == digest_of(data.ids)
    assert unsplit.fit_digest == digest_of(data.ids[:0])


def test_other_data_to_fit_on_leaves_the_whole_set_to_calibrate() -> None:
    whole = world(700, 0.4, seed=24)
    first, second = whole.take(np.arange(0, 700, 2)), whole.take(np.arange(1, 700, 2))
    plan = Plan(statistic="posterior")
    got = calibrate(second, plan, library_version="test", fit_on=first)
    assert isinstance(got, Calibration)
    assert got.certificate().member.n == int(second.safe.sum())
    assert got.data.calibration_digest == digest_of(second.ids)
    assert got.data.fit_digest == digest_of(first.ids)
    again = calibrate(
        held_changed(second, np.ones(second.n, dtype=bool), 2),
        plan,
        library_version="test",
        fit_on=first,
    )
    assert isinstance(again, Calibration)
    assert again.statistics == got.statistics


def test_fitting_on_what_calibrates_is_refused_by_id_and_by_group() -> None:
    data = world(200, 0.4)
    part = data.take(np.arange(100, 200))
    with pytest.raises(InputError, match=r"'w000100'.*promises nothing"):
        calibrate(data, Plan(), library_version="test", fit_on=part)
    renamed = replace(part, ids=np.array([f"x{i}" for i in range(100)], dtype=object))
    with pytest.raises(InputError, match="100 group"):
        calibrate(data, Plan(), library_version="test", fit_on=renamed)


def test_the_split_is_seeded_and_another_seed_gives_another() -> None:
    data = world(400, 0.4, seed=25)
    first = made(data, statistic="posterior", seed=1)
    assert to_json(made(data, statistic="posterior", seed=1)) == to_json(first)
    assert made(data, statistic="posterior", seed=2).data.fit_digest != first.data.fit_digest
    one, two = (made(data, statistic="min_score", seed=s).certificates for s in (1, 2))
    assert one == two


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_the_fitting_share_is_kept(share: float) -> None:
    shop = workshop(world(400, 0.4), fit_share=share)
    assert shop.fit.sum() == round(400 * share)


@pytest.mark.parametrize("unit", ["trajectory", "one_per_group"])
@pytest.mark.parametrize(
    "choices",
    [{"statistic": "min_score"}, {"statistic": "auto"}, {"statistic": "auto", "bound": "crc"}],
    ids=str,
)
def test_trajectories_outside_the_calibration_part_do_not_matter(
    choices: dict[str, Any], unit: Any
) -> None:
    data = world(700, 0.4, seed=26)
    data = grouped(data, 2) if unit == "one_per_group" else data
    mask = np.zeros(data.n, dtype=bool)
    mask[np.isin(data.groups, sorted(set(data.groups))[::2])] = True
    first = certify(workshop(data, mask, epsilons=(0.1, 0.3), **choices), unit)
    other = held_changed(data, ~mask, 27)
    second = certify(workshop(other, mask, epsilons=(0.1, 0.3), **choices), unit)
    for a, b in zip(first, second, strict=True):
        assert isinstance(a, Certified) and isinstance(b, Certified)
        assert a.members == b.members and a.chosen == b.chosen
        assert a.candidate.statistic == b.candidate.statistic


# ------------------------------------------------------------------------------- the choice among


def member(power: float, saved: float, false_alarms: float = 0.0) -> Member:
    return Member(
        statistic=0, label="", delta=0.05, n=100, errors=1, threshold=0.0,
        power=power, saved=saved, false_alarms=false_alarms, detected=0, n_unsafe=100,
    )  # fmt: skip


@pytest.mark.parametrize(("objective", "wanted"), [("power", 2), ("saved", 0), ("balanced", 1)])
def test_the_objective_decides_among_monitors(objective: Objective, wanted: int) -> None:
    members = [member(0.3, 0.2), member(0.4, 0.17), member(0.6, 0.1)]
    assert choose(members, objective, "false_alarm") == wanted


def test_under_missed_detection_the_fewest_false_alarms_win() -> None:
    members = [member(0.9, 0.5, 0.4), member(0.9, 0.1, 0.3)]
    for objective in ("power", "saved", "balanced"):
        assert choose(members, objective, "missed_detection") == 1


# ---------------------------------------------------------------------- missing scores, and signal


def with_holes(data: Trajectories, share: float, seed: int = 28) -> Trajectories:
    holes = np.random.default_rng(seed).random(data.n_steps) < share
    return replace(data, scores=np.where(holes, np.nan, data.scores))


def test_a_missing_score_is_an_error_unless_a_policy_says_what_it_does() -> None:
    data = world(200, 0.4)
    scores = data.scores.copy()
    scores[data.starts[7] + 2] = np.nan
    with pytest.raises(InputError, match=r"'w000007' has no score at step 3; choose a policy"):
        answer(replace(data, scores=scores), statistic="min_score")


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("policy", ["skip", "worst"])
def test_missing_scores_follow_the_policy_in_calibration(policy: Any, risk: Risk) -> None:
    data = with_holes(world(300, 0.5, seed=29), 0.01)
    found = made(data, risk=risk, missing=policy, statistic="min_score", epsilons=(0.2,))
    assert found.missing == policy
    assert found.data.n_missing == int(np.isnan(data.scores).sum()) > 10
    worst = math.inf if policy == "worst" else -math.inf
    maxima = [
        max(worst if math.isnan(s) else -s for s in row) if row else -math.inf
        for row in rows_of(data)
    ]
    own = those(maxima, protected(data, risk))
    k = reference.allowed_errors("exact", len(own), 0.2, 0.1)
    assert k is not None
    assert found.certificate().threshold == plain.threshold(own, k, risk)


def test_a_threshold_that_would_switch_the_monitor_off_is_refused_with_the_reason() -> None:
    data = with_holes(world(300, 0.4, seed=30), 0.5)
    refusal = refused(data, missing="worst", statistic="min_score")
    assert "only a monitor that never alarms keeps the promise" in refusal.sentence()
    assert (refusal.n, refusal.protected) == (180, "safe")
    hidden = ~data.safe[data.owner]
    silent = replace(data, scores=np.where(hidden, np.nan, data.scores))
    refusal = refused(silent, missing="skip", statistic="min_score", risk="missed_detection")
    assert "only a monitor that alarms on everything keeps" in refusal.sentence()
    assert refusal.protected == "unsafe"


def test_a_trajectory_without_any_score_still_counts() -> None:
    data = world(100, 0.0)
    silent = data.owner < 20
    found = made(
        replace(data, scores=np.where(silent, np.nan, data.scores)),
        missing="skip",
        statistic="min_score",
    )
    assert found.certificate().member.n == 100


def test_scores_outside_the_declared_signal_are_refused_by_name() -> None:
    data = world(100, 0.2)
    scores = data.scores.copy()
    scores[data.starts[3] + 1] = 1.0000001
    off = replace(data, scores=scores)
    with pytest.raises(InputError, match=r"'w000003', step 2: score .*is no probability"):
        answer(off, statistic="min_score")
    found = made(off, statistic="min_score", signal=Signal(kind="real"))
    assert found.certificate().threshold == made(data, statistic="min_score").certificate(
    ).threshold  # fmt: skip


# ---------------------------------------------------------------------- plans that contradict


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"risk": "neither"}, "risk 'neither' is unknown"),
    ({"bound": "hoeffding"}, "bound 'hoeffding' is unknown"),
    ({"statistic": "mean"}, "statistic 'mean' is unknown"),
    ({"objective": "speed"}, "objective 'speed' is unknown"),
    ({"missing": "zero"}, "missing-score policy 'zero' is unknown"),
    ({"unit": "step"}, "unit 'step' is unknown"),
    ({"epsilons": ()}, "between 1 and 100 epsilon values"),
    ({"epsilons": tuple(i / 200 for i in range(1, 102))}, "between 1 and 100 epsilon values"),
    ({"epsilons": (0.2, 0.1)}, "epsilon values must increase"),
    ({"epsilons": (0.1, 0.1)}, "epsilon values must increase"),
    ({"epsilons": (0.0,)}, "epsilon must lie strictly between 0 and 1"),
    ({"epsilons": (1.0,)}, "epsilon must lie strictly between 0 and 1"),
    ({"epsilons": (math.nan,)}, "epsilon must lie strictly between 0 and 1"),
    ({"delta": 0.0}, "delta must lie strictly between 0 and 1"),
    ({"delta": 1.0}, "delta must lie strictly between 0 and 1"),
    ({"delta": math.nan}, "delta must lie strictly between 0 and 1"),
    ({"fit_share": 0.0}, "fitting share must lie between 0 and 1"),
    ({"fit_share": 1.0}, "fitting share must lie between 0 and 1"),
    ({"fit_share": math.nan}, "fitting share must lie between 0 and 1"),
    ({"seed": -1}, "seed must not be negative"),
    ({"risk": "both", "epsilons": (0.1, 0.2)}, "both risks at one epsilon"),
    ({"risk": "both", "epsilon_missed": 0.0}, "epsilon must lie strictly between 0 and 1"),
    ({"risk": "both", "epsilon_missed": 1.5}, "epsilon must lie strictly between 0 and 1"),
    ({"epsilon_missed": 0.2}, "needs risk 'both'"),
    ({"risk": "both", "unit": "cluster_mean", "bound": "crc"}, "unit 'one_per_group'"),
    ({"risk": "both", "per_segment": True}, "per segment"),
    ({"simultaneous": True, "bound": "crc"}, "a joint one needs bound 'exact'"),
    ({"simultaneous": True, "bound": "hoeffding_bentkus"}, "needs bound 'exact'"),
    ({"simultaneous": True, "risk": "both"}, "needs bound 'exact', one risk"),
    ({"unit": "cluster_mean"}, "needs bound 'crc' or 'hoeffding_bentkus'"),
    ({"unit": "cluster_mean", "bound": "crc", "per_segment": True}, "per-segment thresholds need"),
    ({"closing": True}, "'auto' brings its own closing check"),
]


@pytest.mark.parametrize(("choices", "words"), CONTRADICTIONS, ids=lambda v: str(v)[:60])
def test_a_plan_that_contradicts_itself_is_refused_in_words(
    choices: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        answer(world(60, 0.3), **choices)


def test_too_few_of_a_class_to_fit_on_is_an_error_that_names_the_counts() -> None:
    with pytest.raises(InputError, match="at least 10 safe and 10 unsafe"):
        answer(world(200, 0.05), statistic="posterior")
