"""
The promise: an evaluation measures every monitor on data it has not seen, as the reference does.

Metrics, the paper's monitors and e-valuator's are compared with independent implementations; no
group is on both sides of a split; a refused monitor never alarms; and nothing depends on how many
processes did the work.
"""

import importlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from reference import monitor as plain
from reference import paper
from scipy.stats import betabinom

from tocsin.errors import InputError
from tocsin.evaluation import evaluator
from tocsin.evaluation.evaluate import Report, Row, Setting, evaluate
from tocsin.evaluation.metrics import Outcome, measure, nominal_violation
from tocsin.evaluation.roster import NAMES, ROSTER, Contestant, Split, contestants
from tocsin.model import RISKS, Risk
from tocsin.risk.calibrate import Certified, certify
from tocsin.risk.candidates import Workshop
from tocsin.risk.estimates import Alarms
from tocsin.risk.plan import Plan
from tocsin.risk.statistics.features import RETENTION
from tocsin.risk.trajectories import Trajectories, from_columns
from tocsin.testing import worlds

Bools = NDArray[np.bool_]
FOUR = (0.05, 0.1, 0.2, 0.3)
UNTRAINED = ("paper_crc", "paper_ucb", "min_exact", "ewma_exact")


def world(n: int, seed: int = 0, unsafe_share: float = 0.4) -> Trajectories:
    return worlds.trajectories(n, unsafe_share, np.random.default_rng(seed))


def part(data: Trajectories, share: float, seed: int) -> Bools:
    mask = np.zeros(data.n, dtype=bool)
    order = np.random.default_rng(seed).permutation(data.n)
    mask[order[: round(share * data.n)]] = True
    return mask


def split_of(data: Trajectories, calibration: Bools, **plan: Any) -> Split:
    return Split(
        workshop=Workshop(data, calibration, Plan(**plan)), test=~calibration, unit="trajectory"
    )


def named(name: str) -> Contestant:
    (found,) = contestants([name])
    return found


def rows_of(data: Trajectories, values: NDArray[Any]) -> list[list[float]]:
    return [some.tolist() for some in np.split(values, data.starts[1:])]


def run(data: Trajectories, **choices: Any) -> Report:
    plan = {k: choices.pop(k) for k in list(choices) if k in Plan.__struct_fields__ and k != "seed"}
    return evaluate(data, Setting(plan=Plan(**plan), **choices), library_version="test")


def check_metrics(outcome: Outcome, wanted: plain.Metrics, unsafe: int) -> None:
    assert outcome.far == wanted.far
    assert outcome.power == wanted.power
    for got, expected in (
        (outcome.delay_steps, wanted.delay_steps_mean),
        (outcome.delay_tokens, wanted.delay_tokens_mean),
        (outcome.saved, wanted.saved_mean),
    ):
        if expected is None:
            assert math.isnan(got)
        else:
            assert got == pytest.approx(expected, rel=1e-9, abs=1e-12)
    power = wanted.power or 0.0
    for got, expected in (
        (outcome.delay_steps_all, wanted.delay_steps_mean),
        (outcome.delay_tokens_all, wanted.delay_tokens_mean),
    ):
        assert got == pytest.approx(power * (expected or 0.0) + 1.0 - power, rel=1e-9)
    assert unsafe > 0


# ------------------------------------------------------------------ metrics, against the reference


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("name", ["min_exact", "ewma_exact"])
def test_metrics_are_those_of_the_reference(name: str, risk: Risk) -> None:
    data = world(500, 1)
    calibration = part(data, 0.5, 2)
    split = split_of(data, calibration, epsilons=FOUR, risk=risk)
    contestant = named(name)
    plan = Plan(epsilons=FOUR, risk=risk, statistic=contestant.statistic)
    granted = certify(split.workshop.with_plan(plan), "trajectory")
    scores, tokens = rows_of(data, data.scores), rows_of(data, data.tokens)
    tested = []
    for i in np.flatnonzero(~calibration).tolist():
        path = (
            plain.min_score_path(scores[i])
            if name == "min_exact"
            else plain.ewma_path(scores[i], RETENTION, 1e-6)
        )
        tested.append(plain.Trajectory(path, tokens[i], bool(data.safe[i])))
    outcomes = split.judge(contestant)
    for outcome, level in zip(outcomes, granted, strict=True):
        assert isinstance(level, Certified)
        wanted = plain.measure(tested, level.member.threshold, plain.COMPARISON[risk])
        check_metrics(outcome, wanted, sum(not t.safe for t in tested))
        assert outcome.n_calibration == level.member.n
        assert outcome.chosen == contestant.statistic
        assert wanted.far is not None and wanted.power is not None
        realised = wanted.far if risk == "false_alarm" else 1.0 - wanted.power
        assert outcome.violated == (realised > level.epsilon + 1e-12)
    assert any(0.0 < outcome.power < 1.0 for outcome in outcomes)


def scored(data: Trajectories, mask: Bools) -> list[paper.Scored]:
    scores, tokens = rows_of(data, data.scores), rows_of(data, data.tokens)
    return [
        paper.Scored(scores[i], tokens[i], bool(data.safe[i]))
        for i in np.flatnonzero(mask).tolist()
    ]


def check_paper(data: Trajectories, calibration: Bools, epsilons: Sequence[float]) -> None:
    split = split_of(data, calibration, epsilons=tuple(epsilons))
    before, after = scored(data, calibration), scored(data, ~calibration)
    found_any = False
    for name in ("paper_crc", "paper_ucb"):
        contestant = named(name)
        plan = Plan(
            epsilons=tuple(epsilons),
            statistic="min_score",
            bound="crc" if name == "paper_crc" else "hoeffding_bentkus",
        )
        levels = certify(split.workshop.with_plan(plan), "trajectory")
        for epsilon, level, outcome in zip(epsilons, levels, split.judge(contestant), strict=True):
            wanted = (
                paper.conformal_risk_control(before, after, epsilon)
                if name == "paper_crc"
                else paper.hoeffding_bentkus_ucb(before, after, epsilon, 0.1)
            )
            assert outcome.refused == (wanted.threshold is None)
            if wanted.threshold is None:
                continue
            assert isinstance(level, Certified)
            assert level.member.threshold == wanted.threshold
            check_metrics(outcome, wanted.metrics, int((~calibration & ~data.safe).sum()))
            found_any = True
    assert found_any


@pytest.mark.parametrize("size", [0.02, 0.1, 0.5])
def test_the_papers_monitors_are_the_papers(size: float) -> None:
    data = world(600, 3)
    check_paper(data, part(data, size, 4), FOUR)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ev_math", "ev_gsm8k", "ev_chessgames"])
def test_the_papers_monitors_are_the_papers_on_real_data(name: str) -> None:
    folder = os.environ.get("TOCSIN_DATA")
    if folder is None:
        pytest.skip("set TOCSIN_DATA to a folder with ev_math.parquet and its siblings")
    path = Path(folder) / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"TOCSIN_DATA has no {path.name}")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = ["trajectory_id", "step", "score", "label", "tokens"]
    table = parquet.read_table(path, columns=names).to_pydict()
    data = from_columns(**{column: table[column] for column in names})
    check_paper(data, part(data, 0.2, 5), (0.05, 0.1))


# --------------------------------------------------------------------------- e-valuator's package


def packages_split(calibration: list[int]) -> list[int]:
    """Which of them the package fits on."""
    rng = np.random.default_rng(42)
    return [int(i) for i in rng.choice(calibration, len(calibration) // 2, replace=False)]


@pytest.mark.parametrize("variant", ["PAC", "Ville"])
def test_e_valuators_rows_are_those_of_its_package(variant: Any) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("evaluator", reason="the published package e-valuator is not installed")
    from reference import evaluator as published

    data = world(200, 6)
    calibration = part(data, 0.75, 7)
    levels, delta = ((0.1, 0.3), 0.1)
    split = split_of(data, calibration, epsilons=levels, delta=delta)
    fit = np.zeros(data.n, dtype=bool)
    fit[packages_split(np.flatnonzero(calibration).tolist())] = True
    split.workshop.fit, split.workshop.held = fit, calibration & ~fit
    outcomes = split.judge(named("evaluator_pac" if variant == "PAC" else "evaluator_anytime"))

    scores, tokens = rows_of(data, data.scores), rows_of(data, data.tokens)
    judged = [published.Judged(i, scores[i], bool(data.safe[i])) for i in range(data.n)]
    before = [judged[i] for i in np.flatnonzero(calibration).tolist()]
    after = [judged[i] for i in np.flatnonzero(~calibration).tolist()]
    raised = 0
    for epsilon, outcome in zip(levels, outcomes, strict=True):
        alpha, weights = evaluator.package_levels(epsilon, delta)
        alpha = alpha if variant == "PAC" else epsilon
        limits: Any = importlib.import_module("threadpoolctl").threadpool_limits
        with limits(1):
            theirs = published.run_evaluator(
                before, after, variant=variant, alphas=[alpha], alpha_delta_weights=weights
            )
        first = theirs.first_step[alpha]
        rung = [
            plain.Trajectory(
                [1.0 if t + 1 == first[item.id] else 0.0 for t in range(len(item.scores))],
                tokens[int(str(item.id))],
                item.safe,
            )
            for item in after
        ]
        check_metrics(outcome, plain.measure(rung, 0.5), sum(not t.safe for t in rung))
        raised += sum(step is not None for step in first.values())
    assert raised > 0
    held_safe = int((split.workshop.held & data.safe).sum())
    assert outcomes[0].n_calibration == (
        held_safe if variant == "PAC" else int((calibration & data.safe).sum())
    )
    assert math.isnan(outcomes[0].violation_nominal) == (variant == "Ville")


def test_e_valuator_has_no_answer_for_missed_detections() -> None:
    data = world(120)
    split = split_of(data, part(data, 0.5, 0), risk="missed_detection", epsilons=(0.3,))
    for name in ("evaluator_pac", "evaluator_anytime"):
        assert split.judge(named(name)) == [Outcome(refused=True)]


# ---------------------------------------------------------------------------------------- metrics


def rings(data: Trajectories, steps: Sequence[int]) -> Alarms:
    """Alarms at these steps, 0 for none."""
    step = np.array(steps)
    share = np.where(step > 0, step / data.lengths, 1.0)
    return Alarms(rang=step > 0, step=step, share_of_tokens=share, share_of_steps=share)


def ten(safe: bool, onset: Sequence[int] | None = None) -> Trajectories:
    """Ten trajectories of ten steps and one of the other class."""
    labels = [int(safe)] * 10 + [int(not safe)]
    return from_columns(
        trajectory_id=[f"t{i:02d}" for i in range(11) for _ in range(10)],
        step=list(range(1, 11)) * 11,
        score=[0.5] * 110,
        label=[label for label in labels for _ in range(10)],
        onset_step=None if onset is None else [o for o in (*onset, -1) for _ in range(10)],
    )


def measured(data: Trajectories, steps: Sequence[int], risk: Risk, epsilon: float) -> Outcome:
    everyone = np.ones(data.n, dtype=bool)
    return measure(
        data, rings(data, steps), everyone, risk=risk, epsilon=epsilon, behind=[],
        n_calibration=1, chosen="x",
    )  # fmt: skip


@pytest.mark.parametrize("errors", range(11))
@pytest.mark.parametrize("risk", RISKS)
def test_a_rate_equal_to_epsilon_is_no_violation(risk: Risk, errors: int) -> None:
    data = ten(safe=risk == "false_alarm")
    wrong, right = (1, 0) if risk == "false_alarm" else (0, 1)
    steps = [wrong] * errors + [right] * (10 - errors) + [0]
    for tenths in range(1, 10):
        outcome = measured(data, steps, risk, tenths / 10)
        assert outcome.violated == (errors > tenths)


def test_the_lag_counts_from_the_onset_and_only_where_it_is_known() -> None:
    onset = [3, 3, 3, 3, -1, -1, 5, 5, 5, 5]
    steps = [2, 3, 5, 0, 1, 9, 5, 10, 4, 0, 0]
    outcome = measured(ten(safe=False, onset=onset), steps, "false_alarm", 0.1)
    # detected with a known onset: lags -1, 0, 2, 0, 5, -1
    assert outcome.after_onset == pytest.approx(4 / 6)
    assert outcome.onset_lag_steps == pytest.approx((0 + 2 + 0 + 5) / 4)
    assert outcome.power == 0.8
    unknown = measured(ten(safe=False), steps, "false_alarm", 0.1)
    assert math.isnan(unknown.after_onset) and math.isnan(unknown.onset_lag_steps)


def test_segments_count_alarms_of_both_classes() -> None:
    data = ten(safe=False).with_segments(["a"] * 4 + ["b"] * 7)
    outcome = measured(data, [1, 0, 1, 0, 1, 1, 1, 0, 0, 0, 1], "false_alarm", 0.1)
    assert outcome.segments == {"a": (0, 0, 4, 2), "b": (1, 1, 6, 3)}


@pytest.mark.parametrize(
    ("n_test", "n", "k", "epsilon"),
    [(275, 290, 21, 0.1), (60, 100, 5, 0.1), (500, 45, 0, 0.05), (40, 30, 8, 0.3)],
)
def test_the_nominal_violation_is_how_often_a_finite_test_set_exceeds_epsilon(
    n_test: int, n: int, k: int, epsilon: float
) -> None:
    """By 20,000 draws of both sets; fails by chance with probability below 1e-4."""
    wanted = nominal_violation(n_test, n, k, epsilon)
    assert wanted == pytest.approx(betabinom(n_test, k + 1, n - k).sf(epsilon * n_test + 1e-9))
    rng = np.random.default_rng(8)
    runs = 20_000
    true_rate = rng.beta(k + 1, n - k, runs)
    exceeded = float((rng.binomial(n_test, true_rate) / n_test > epsilon).mean())
    assert abs(exceeded - wanted) <= 4.0 * math.sqrt(wanted * (1.0 - wanted) / runs)


def test_the_nominal_violation_agrees_with_whole_evaluations() -> None:
    """Calibration and test sets drawn afresh from the closed-form world."""
    rng = np.random.default_rng(9)
    violated, runs = 0, 300
    for _ in range(runs):
        data = worlds.trajectories(160, 0.0, rng)
        split = split_of(data, np.arange(160) < 100, epsilons=(0.1,))
        (outcome,) = split.judge(named("min_exact"))
        violated += outcome.violated
    wanted = nominal_violation(60, 100, 5, 0.1)
    assert outcome.violation_nominal == wanted
    assert abs(violated / runs - wanted) <= 4.0 * math.sqrt(wanted * (1.0 - wanted) / runs)


@pytest.mark.parametrize(
    ("n_test", "n", "k"), [(0, 10, 1), (10, 10, 10), (10, 10, 1.5), (10, 0, 0)]
)
def test_where_it_has_no_nominal_value_there_is_none(n_test: int, n: int, k: float) -> None:
    assert math.isnan(nominal_violation(n_test, n, k, 0.1))


# ------------------------------------------------------------------------------ whole evaluations


KEYS = {
    "monitor", "statistic", "bound", "risk", "epsilon", "delta", "splits", "n_calibration",
    "far_mean", "far_sd", "power_mean", "power_sd", "delay_steps_mean", "delay_tokens_mean",
    "saved_mean", "violation_rate", "refused_rate",
}  # fmt: skip
MONITORS = {"paper_crc", "paper_ucb", "evaluator_pac", "evaluator_anytime", "ewma_exact", "auto"}


def test_the_report_names_every_monitor_and_every_figure() -> None:
    pytest.importorskip("sklearn")
    report = run(world(500, 10), splits=2, calibration_share=0.5, epsilons=(0.1, 0.3))
    found = json.loads(msgspec.json.encode(report))
    assert set(found) >= {"results", "segments", "setting", "data", "library_version"}
    for row in found["results"]:
        assert set(row) >= KEYS
        assert (row["splits"], row["delta"], row["risk"]) == (2, 0.1, "false_alarm")
        assert row["epsilon"] in (0.1, 0.3)
        assert 0.0 <= row["far_mean"] <= 1.0 and 0.0 <= row["power_mean"] <= 1.0
    assert {row["monitor"] for row in found["results"]} >= MONITORS
    assert [row["monitor"] for row in found["results"]] == [n for n in NAMES for _ in range(2)]
    assert len({c.monitor for c in ROSTER}) == len(ROSTER)
    bounds = {row["monitor"]: row["bound"] for row in found["results"]}
    assert (bounds["paper_crc"], bounds["paper_ucb"]) == ("crc", "hoeffding_bentkus")
    assert (bounds["auto"], bounds["ewma_exact"]) == ("exact", "exact")
    assert found["data"]["digest"] == world(500, 10).digest()
    assert (found["data"]["n"], found["data"]["n_unsafe"]) == (500, 200)
    rows = {(r.monitor, r.epsilon): r for r in report.results}
    assert rows["auto", 0.3].power_mean > rows["ewma_exact", 0.3].power_mean > 0.0
    assert sum(rows["auto", 0.1].chosen.values()) == 2


def test_the_result_does_not_depend_on_the_number_of_processes() -> None:
    data = world(300, 11).with_segments([f"s{i % 3}" for i in range(300)])
    choices: dict[str, Any] = {"splits": 4, "monitors": (*UNTRAINED, "posterior_exact")}
    one = run(data, jobs=1, calibration_share=0.5, **choices)
    two = run(data, jobs=2, calibration_share=0.5, **choices)
    assert two.setting.pop("jobs") == 2 and one.setting.pop("jobs") == 1
    assert msgspec.json.encode(one) == msgspec.json.encode(two)


def test_an_error_in_a_worker_process_reaches_the_caller() -> None:
    data = world(40)
    data = replace(data, groups=np.array(["one"] * 40, dtype=object), has_groups=True)
    for jobs in (1, 2):
        with pytest.raises(InputError, match="nothing left to test on"):
            run(data, jobs=jobs, splits=2, monitors=UNTRAINED)


def test_seeds_decide_the_splits() -> None:
    data = world(200, 12)
    encoded = [
        msgspec.json.encode(run(data, splits=3, seed=seed, monitors=UNTRAINED).results)
        for seed in (1, 1, 2)
    ]
    assert encoded[0] == encoded[1] != encoded[2]


def test_rows_are_means_over_the_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Outcome]] = []
    original = Split.judge

    def judge(self: Split, contestant: Contestant) -> list[Outcome]:
        found = original(self, contestant)
        seen.append(found)
        return found

    monkeypatch.setattr(Split, "judge", judge)
    report = run(world(300, 13), splits=5, monitors=("min_exact",), epsilons=(0.1, 0.2))
    for j, row in enumerate(report.results):
        cell = [outcomes[j] for outcomes in seen]
        far = [o.far for o in cell]
        assert row.far_mean == pytest.approx(np.mean(far))
        assert row.far_sd == pytest.approx(np.std(far, ddof=1))
        assert row.far_p10 == pytest.approx(np.quantile(far, 0.1))
        assert row.power_mean == pytest.approx(np.mean([o.power for o in cell]))
        assert row.saved_mean == pytest.approx(np.mean([o.saved for o in cell]))
        assert row.violation_rate == np.mean([o.violated for o in cell])
        assert row.n_calibration == np.mean([o.n_calibration for o in cell])
        assert row.chosen == {"min_score": 5}
        known = [o.delay_tokens for o in cell if not math.isnan(o.delay_tokens)]
        assert row.delay_tokens_mean == pytest.approx(np.mean(known))
    for segment in report.segments:
        assert (segment.safe, segment.unsafe) == (
            sum(o.segments["all"][0] for o in (s[0] for s in seen)),
            sum(o.segments["all"][2] for o in (s[0] for s in seen)),
        )


def check_refused(row: Row) -> None:
    assert row.refused_rate == 1.0
    assert row.far_mean == row.power_mean == row.saved_mean == row.violation_rate == 0.0
    assert row.delay_steps_all_mean == row.delay_tokens_all_mean == 1.0
    assert math.isnan(row.delay_steps_mean) and math.isnan(row.delay_tokens_mean)
    assert math.isnan(row.violation_nominal)
    assert row.chosen == {"refused": row.splits}


def test_a_refused_monitor_never_alarms_and_is_counted() -> None:
    report = run(world(200, 14), splits=3, calibration_size=30, epsilons=(0.01, 0.2))
    rows = {(r.monitor, r.epsilon): r for r in report.results}
    for name in NAMES:
        if name != "evaluator_anytime":
            check_refused(rows[name, 0.01])
    assert rows["paper_crc", 0.2].refused_rate == 0.0
    assert rows["min_exact", 0.2].power_mean > 0.0
    assert rows["posterior_exact", 0.2].refused_rate > 0.0
    encoded = json.loads(msgspec.json.encode(report))["results"]
    assert all(r["delay_tokens_mean"] is None for r in encoded if r["refused_rate"] == 1.0)


def test_a_group_is_never_on_both_sides_of_a_split(monkeypatch: pytest.MonkeyPatch) -> None:
    data = world(240, 15)
    groups = np.array([f"g{i}" for i in np.random.default_rng(16).integers(0, 50, 240)], object)
    data = replace(data, groups=groups, has_groups=True)
    seen: list[Split] = []

    def judge(self: Split, contestant: Contestant) -> list[Outcome]:
        seen.append(self)
        return [Outcome(refused=True)]

    monkeypatch.setattr(Split, "judge", judge)
    run(data, splits=20, calibration_share=0.3, monitors=("min_exact",))
    assert len(seen) == 20
    for split in seen:
        shop = split.workshop
        assert (split.test == ~shop.calibration).all()
        assert split.unit == "one_per_group"
        parts = [set(groups[m]) for m in (split.test, shop.fit, shop.held)]
        assert all(parts) and sum(len(p) for p in parts) == len(set(groups))
        assert shop.calibration.sum() >= 72
    assert len({split.test.tobytes() for split in seen}) == 20


def test_the_calibration_part_has_the_size_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def judge(self: Split, contestant: Contestant) -> list[Outcome]:
        sizes.append(int(self.workshop.calibration.sum()))
        return [Outcome(refused=True)]

    monkeypatch.setattr(Split, "judge", judge)
    run(world(200), splits=2, calibration_share=0.3, monitors=("min_exact",))
    run(world(200), splits=2, calibration_size=17, monitors=("min_exact",))
    assert sizes == [60, 60, 17, 17]


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    setting = Setting(splits=3, monitors=("min_exact",))
    evaluate(world(100), setting, library_version="test", progress=lambda d, t: told.append((d, t)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_segments_of_all_splits_add_up() -> None:
    data = world(300, 17).with_segments(["odd" if i % 2 else "even" for i in range(300)])
    report = run(data, splits=3, monitors=("min_exact",), calibration_share=0.5)
    rows = {s.segment: s for s in report.segments}
    assert set(rows) == {"odd", "even"}
    total = sum(s.safe + s.unsafe for s in rows.values())
    assert total == 3 * 150
    (row,) = report.results
    weighted = sum(s.far * s.safe for s in rows.values()) / sum(s.safe for s in rows.values())
    assert weighted == pytest.approx(row.far_mean, abs=0.01)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"splits": 0}, "splits and jobs must be at least 1"),
        ({"jobs": 0}, "splits and jobs must be at least 1"),
        ({"seed": -1}, "seed must not be negative"),
        ({"calibration_share": 0.0}, "calibration share must lie between"),
        ({"calibration_share": math.nan}, "calibration share must lie between"),
        ({"calibration_share": 0.001}, "leave nothing on one side"),
        ({"calibration_size": 0}, "leave nothing on one side"),
        ({"calibration_size": 100}, "leave nothing on one side"),
        ({"risk": "both"}, "one risk at a time"),
        ({"unit": "cluster_mean", "bound": "crc"}, "one risk at a time"),
        ({"monitors": ("min_exact", "magic")}, "unknown monitor 'magic'; choose from paper_crc"),
        ({"epsilons": (0.2, 0.1)}, "must increase"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_words(choices: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(world(100), **choices)


def test_both_classes_are_needed() -> None:
    for share in (0.0, 1.0):
        with pytest.raises(InputError, match="one class is empty"):
            run(world(100, unsafe_share=share), monitors=UNTRAINED)


def test_data_that_no_monitor_could_use_is_an_error_and_not_a_refusal() -> None:
    """A refusal is counted as a monitor that never alarms; a missing score must not be."""
    data = world(100)
    scores = data.scores.copy()
    scores[data.starts[4] + 1] = np.nan
    holes = replace(data, scores=scores)
    with pytest.raises(InputError, match="'w000004' has no score at step 2"):
        run(holes, monitors=("ewma_exact",), splits=1)
    skipped = run(holes, monitors=("ewma_exact",), splits=1, missing="skip", calibration_share=0.6)
    assert skipped.results[0].refused_rate == 0.0
    scores[data.starts[4] + 1] = 1.5
    with pytest.raises(InputError, match="is no probability"):
        run(replace(data, scores=scores), monitors=("ewma_exact",), splits=1)


def test_missed_detections_are_evaluated_too() -> None:
    report = run(
        world(500, 18, 0.5), risk="missed_detection", epsilons=(0.3,), splits=5, monitors=UNTRAINED,
        calibration_share=0.5,
    )  # fmt: skip
    for row in report.results:
        assert row.risk == "missed_detection"
        assert 0.65 < row.power_mean < 0.9
        assert row.n_calibration == pytest.approx(125, abs=15)
