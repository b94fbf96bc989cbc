"""The reference implementation against published figures, enumeration, and itself."""

import itertools
import math
import random
from fractions import Fraction

import pytest

pytest.importorskip("mpmath")

from reference import bounds, joint, monitor, paper
from reference import evaluator as wrapped

PLANNING = [
    # epsilon, crc, exact at delta = .1, .05, .01
    (".001", 999, 2302, 2995, 4603),
    (".01", 99, 230, 299, 459),
    (".02", 49, 114, 149, 228),
    (".05", 19, 45, 59, 90),
    (".1", 9, 22, 29, 44),
    (".2", 4, 11, 14, 21),
    (".3", 3, 7, 9, 13),
]
FOUR = (".05", ".1", ".2", ".3")


@pytest.mark.parametrize("row", PLANNING, ids=lambda row: str(row[0]))
def test_smallest_n_is_the_published_one(row: tuple[str, int, int, int, int]) -> None:
    epsilon, crc, *exact = row
    assert bounds.smallest_n("crc", epsilon) == crc
    for delta, n in zip((".1", ".05", ".01"), exact, strict=True):
        assert bounds.smallest_n("exact", epsilon, delta) == n
        assert bounds.smallest_n("hoeffding_bentkus", epsilon, delta) == n
    assert bounds.allowed_errors("crc", crc - 1, epsilon) is None
    assert bounds.allowed_errors("crc", crc, epsilon) == 0


@pytest.mark.parametrize("bound", ["crc", "exact", "hoeffding_bentkus"])
@pytest.mark.parametrize("epsilon", ["0.05", 0.1, 0.3])
def test_smallest_n_and_epsilon_mark_the_edge(bound: bounds.Bound, epsilon: bounds.Number) -> None:
    n = bounds.smallest_n(bound, epsilon, 0.1)
    assert bounds.allowed_errors(bound, n - 1, epsilon, 0.1) is None
    assert bounds.allowed_errors(bound, n, epsilon, 0.1) == 0
    edge = float(bounds.smallest_epsilon(bound, n, 0.1))
    assert edge <= float(epsilon)
    assert bounds.allowed_errors(bound, n, edge * 1.000001, 0.1) is not None
    assert bounds.allowed_errors(bound, n, edge * 0.999999, 0.1) is None


def test_ties_count_as_allowed() -> None:
    for bound in ("exact", "hoeffding_bentkus"):
        assert bounds.allowed_errors(bound, 2, "0.5", "0.25") == 0
        assert bounds.smallest_n(bound, "0.5", "0.25") == 2
    assert bounds.allowed_errors("crc", 9, 0.1) == 0
    assert bounds.allowed_errors("crc", 999, 0.3) == 299
    assert bounds.allowed_errors("crc", 99, 0.29) == 28


@pytest.mark.parametrize(
    ("n", "exact", "hb"), [(20, None, None), (30, 0, 0), (45, 1, 0), (133, 8, 6), (1000, 87, 82)]
)
def test_allowed_errors_at_a_tenth(n: int, exact: int | None, hb: int | None) -> None:
    assert bounds.allowed_errors("exact", n, 0.1, 0.1) == exact
    assert bounds.allowed_errors("hoeffding_bentkus", n, 0.1, 0.1) == hb


@pytest.mark.parametrize(
    ("n", "k", "violation", "mean"),
    [
        (30, 0, 0.0424, 0.032),
        (45, 1, 0.0524, 0.043),
        (133, 8, 0.076, 0.067),
        (1000, 87, 0.092, 0.088),
    ],
)
def test_true_rate_law(n: int, k: int, violation: float, mean: float) -> None:
    assert float(bounds.violation_probability(n, k, 0.1)) == pytest.approx(violation, abs=5e-4)
    assert float(bounds.expected_rate(k, n)) == pytest.approx(mean, abs=5e-4)


def test_swapped_arguments_would_break_the_promise() -> None:
    for epsilon, n, published in ((".05", 10, 0.60), (".05", 20, 0.36), (".05", 30, 0.21)):
        found = float(bounds.violation_probability(n, 0, epsilon))
        assert found == pytest.approx(published, abs=6e-3)
        assert bounds.allowed_errors("hoeffding_bentkus", n, epsilon, ".1") is None


def test_published_sentence() -> None:
    assert bounds.allowed_errors("exact", 579, 0.1, 0.05) == 45
    assert bounds.expected_rate(45, 579) == Fraction(46, 580)
    assert bounds.beta_binomial_interval(1000, 45, 579, 0.9) == (57, 104)


def test_finite_test_set_may_exceed_more_often() -> None:
    assert bounds.allowed_errors("exact", 290, 0.1, 0.1) == 22
    pmf = bounds.beta_binomial_pmf(275, 22, 290)
    assert sum(pmf) == 1
    assert float(sum(pmf[28:])) == pytest.approx(0.17, abs=5e-3)
    assert sum(x * p for x, p in enumerate(pmf)) == 275 * bounds.expected_rate(22, 290)


def test_cluster_bound_agrees_with_counts_and_grows_with_the_mean() -> None:
    for k in range(30):
        allowed = bounds.allowed_errors("hoeffding_bentkus", 200, 0.1, 0.1)
        assert allowed is not None
        feasible = bounds.hb_cluster_feasible(Fraction(k, 200), 200, 0.1, 0.1)
        assert feasible == (k <= allowed)
    grid = [bounds.hb_cluster_feasible(Fraction(i, 500), 60, 0.2, 0.1) for i in range(101)]
    assert grid[0] and not grid[-1] and grid == sorted(grid, reverse=True)


def test_joint_failure_against_enumeration() -> None:
    epsilons = (Fraction(1, 10), Fraction(1, 4), Fraction(2, 3))
    for n, allowed in ((6, (0, 1, 2)), (7, (None, 0, 3)), (5, (1, 1, 1))):
        widths = (
            epsilons[0],
            epsilons[1] - epsilons[0],
            epsilons[2] - epsilons[1],
            1 - epsilons[2],
        )
        holds = Fraction(0)
        for counts in itertools.product(range(n + 1), repeat=4):
            if sum(counts) != n:
                continue
            below = itertools.accumulate(counts[:3])
            if all(k is None or c >= k + 1 for c, k in zip(below, allowed, strict=True)):
                ways = math.factorial(n)
                for count in counts:
                    ways //= math.factorial(count)
                holds += ways * math.prod(w**c for w, c in zip(widths, counts, strict=True))
        assert joint.joint_probability(n, epsilons, allowed) == holds


def test_joint_failure_of_one_is_the_pointwise_one() -> None:
    for k in range(8):
        one = joint.joint_failure(40, ("0.1",), (k,))
        assert one == bounds.violation_probability(40, k, "0.1")


@pytest.mark.parametrize(
    ("n", "pointwise", "bonferroni", "exact"),
    [
        (100, (1, 5, 14, 23), (0, 4, 11, 20), (1, 4, 13, 21)),
        (1000, (40, 87, 183, 280), (36, 81, 175, 271), (37, 83, 177, 274)),
    ],
)
def test_joint_published(
    n: int, pointwise: tuple[int, ...], bonferroni: tuple[int, ...], exact: tuple[int, ...]
) -> None:
    assert tuple(bounds.allowed_errors("exact", n, e, ".1") for e in FOUR) == pointwise
    assert tuple(bounds.allowed_errors("exact", n, e, ".025") for e in FOUR) == bonferroni
    assert joint.joint_allowed_errors(n, FOUR, ".1") == exact
    failure = float(joint.joint_failure(n, FOUR, pointwise))
    assert failure == pytest.approx({100: 0.162, 1000: 0.216}[n], abs=5e-4)


def test_joint_local_delta() -> None:
    certificate = joint.joint_certificate(100, FOUR, ".1")
    assert float(certificate.local_delta[1]) == pytest.approx(0.048, abs=5e-4)
    assert certificate.failure <= Fraction(1, 10)


def test_joint_fifty() -> None:
    epsilons = [Fraction(i, 100) for i in range(1, 51)]
    allowed = joint.joint_allowed_errors(300, epsilons, ".1")
    assert [allowed[i - 1] for i in (5, 10, 20, 30)] == [7, 18, 45, 72]
    assert [
        bounds.allowed_errors("exact", 300, Fraction(i, 100), Fraction(1, 500))
        for i in (5, 10, 20, 30)
    ] == [4, 15, 40, 67]


def test_thresholds_leave_exactly_k_errors_without_ties() -> None:
    values = [3.0, 1.0, 5.0, 2.0, 4.0]
    for k in range(5):
        lam = monitor.threshold(values, k, "false_alarm")
        assert sum(monitor.crosses(v, lam, ">") for v in values) == k
        lam = monitor.threshold(values, k, "missed_detection")
        assert sum(not monitor.crosses(v, lam, ">=") for v in values) == k
    assert monitor.threshold([1.0, 1.0, 1.0], 1, "false_alarm") == 1.0
    with pytest.raises(ValueError, match="k must"):
        monitor.threshold(values, 5, "false_alarm")


def test_paths_and_alarms() -> None:
    path = monitor.min_score_path([0.9, 0.4, 0.6])
    assert path == [-0.9, -0.4, -0.6]
    assert monitor.alarm_step(path, -0.6, ">") == 2
    assert monitor.alarm_step(path, -0.4, ">") is None
    assert monitor.alarm_step(path, -0.4, ">=") == 2
    assert monitor.maxima([path, []]) == [-0.4, -math.inf]
    ewma = monitor.ewma_path([0.5, 1.0, 0.0], 0.7, 0.01)
    top = math.log(0.99 / 0.01)
    assert ewma == pytest.approx([0.0, -0.3 * top, -0.21 * top + 0.3 * top])
    assert monitor.ewma_path([0.2, 0.8], 0.0, 0.01) == pytest.approx([math.log(4), -math.log(4)])


def test_metrics_by_hand() -> None:
    trajectories = [
        monitor.Trajectory([0, 2], [1, 1], True),
        monitor.Trajectory([0, 0], [1, 1], True),
        monitor.Trajectory([0, 2, 0, 0], [10, 20, 30, 40], False),
        monitor.Trajectory([0, 1], [5, 5], False),
    ]
    found = monitor.measure(trajectories, 1, ">")
    assert found.far == 0.5
    assert found.power == 0.5
    assert found.delay_steps_mean == 0.5
    assert found.delay_tokens_mean == pytest.approx(0.3)
    assert found.saved_mean == pytest.approx(0.35)
    never = monitor.measure(trajectories, math.inf, ">")
    assert never == monitor.Metrics(0.0, 0.0, None, None, 0.0)


def _scored(seed: int, n: int, digits: int) -> list[paper.Scored]:
    source = random.Random(seed)
    result = []
    for _ in range(n):
        safe = source.random() < 0.7
        steps = source.randint(1, 6)
        scores = [round(source.betavariate(4 if safe else 2, 2), digits) for _ in range(steps)]
        result.append(paper.Scored(scores, [source.randint(1, 9) for _ in range(steps)], safe))
    return result


@pytest.mark.parametrize("digits", [1, 6])
@pytest.mark.parametrize("n", [8, 60, 150])
def test_scan_equals_order_statistic(digits: int, n: int) -> None:
    calibration, test = _scored(n, n, digits), _scored(n + 1, 40, digits)
    safe = monitor.maxima(monitor.min_score_path(c.scores) for c in calibration if c.safe)
    for epsilon in (0.05, 0.1, 0.2, 0.3):
        for bound, outcome in (
            ("crc", paper.conformal_risk_control(calibration, test, epsilon)),
            (
                "hoeffding_bentkus",
                paper.hoeffding_bentkus_ucb(calibration, test, epsilon, 0.1),
            ),
        ):
            k = bounds.allowed_errors(bound, len(safe), epsilon, 0.1)  # type: ignore[arg-type]
            expected = None if k is None else monitor.threshold(safe, k, "false_alarm")
            assert outcome.threshold == expected
            if expected is None:
                assert (outcome.metrics.far, outcome.metrics.power) == (0.0, 0.0)


def test_upper_bound_and_p_value_agree_at_an_exact_tie() -> None:
    calibration = [paper.Scored([0.1 * i], [1], True) for i in range(2)]
    assert paper.hoeffding_bentkus_ucb(calibration, [], "0.5", "0.25").threshold == 0.0
    assert paper.hoeffding_bentkus_ucb(calibration, [], "0.5", "0.249").threshold is None


def _judged(seed: int, n: int) -> list[wrapped.Judged]:
    return [
        wrapped.Judged(f"{seed}-{i}", item.scores, item.safe)
        for i, item in enumerate(_scored(seed, n, 6))
    ]


@pytest.mark.filterwarnings("ignore")
def test_evaluator_series_is_the_package_own() -> None:
    pytest.importorskip("pandas")
    package = pytest.importorskip("evaluator")
    table = wrapped.frame(_judged(1, 20))
    theirs = package.utils.add_judge_probability_series(table.drop(columns=[wrapped.SERIES]))
    assert list(theirs[wrapped.SERIES]) == list(table[wrapped.SERIES])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", ["PAC", "Ville", "RandVille"])
def test_evaluator_runs(variant: wrapped.Variant) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("evaluator")
    calibration, test = _judged(2, 300), _judged(3, 60)
    found = wrapped.run_evaluator(
        calibration, test, variant=variant, alphas=[0.01, 0.3], random_state=7
    )
    for alpha in (0.01, 0.3):
        for item in test:
            values = found.e_values[item.id]
            assert len(values) == len(item.scores)
            above = [i + 1 for i, value in enumerate(values) if value > found.thresholds[alpha]]
            step = found.first_step[alpha][item.id]
            if variant == "RandVille":
                # The last step may also reject at a lower, random threshold.
                assert step == (above[0] if above else None) or step == len(values)
            else:
                assert step == (above[0] if above else None)
    if variant == "PAC":
        assert found.thresholds[0.01] == math.inf
        assert any("too small" in text for text in found.warnings)
        assert found.thresholds[0.3] < math.inf
    else:
        assert found.thresholds == {0.01: 100.0, 0.3: 1 / 0.3}
    again = wrapped.run_evaluator(
        calibration, test, variant=variant, alphas=[0.01, 0.3], random_state=7
    )
    assert again == found
