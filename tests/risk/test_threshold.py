"""
The promise: lambda is an observed calibration maximum that leaves at most the errors allowed.

For false alarms the alarm is strict, for missed detections it is not, and a tie or an infinity
only ever makes either side more careful.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import bounds as reference
from reference import monitor

from tocsin.errors import InputError
from tocsin.model import COMPARISON, RISKS, Bound, Refusal, Risk
from tocsin.risk.bounds import allowed_errors
from tocsin.risk.threshold import (
    allowed_weight,
    cluster_threshold,
    order_statistic_threshold,
    over,
    threshold,
)

Floats = NDArray[np.float64]

values = st.one_of(
    st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 0.5000000000000001, 1.0, math.inf]),
    st.floats(allow_nan=False),
)
samples = st.lists(values, min_size=1, max_size=60)
CLUSTER_BOUNDS: tuple[Bound, ...] = ("crc", "hoeffding_bentkus")


def errors(maxima: Floats, lam: float, risk: Risk) -> NDArray[np.bool_]:
    """Which trajectories of the protected class the threshold gets wrong."""
    alarms = np.array([monitor.crosses(m, lam, COMPARISON[risk]) for m in maxima.tolist()])
    return alarms if risk == "false_alarm" else ~alarms


# ------------------------------------------------------------------------------ order statistics


@pytest.mark.parametrize("risk", RISKS)
@given(sample=samples, data=st.data())
def test_lambda_is_the_order_statistic_of_the_definition(
    risk: Risk, sample: list[float], data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, len(sample) - 1))
    lam = threshold(np.array(sample), k, risk)
    assert lam == monitor.threshold(sample, k, risk)
    assert lam in sample


@pytest.mark.parametrize("risk", RISKS)
@given(sample=samples, data=st.data())
def test_never_more_than_k_calibration_errors(
    risk: Risk, sample: list[float], data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, len(sample) - 1))
    maxima = np.array(sample)
    wrong = errors(maxima, threshold(maxima, k, risk), risk)
    assert wrong.sum() <= k
    if len(set(sample)) == len(sample):
        assert wrong.sum() == k


@pytest.mark.parametrize("risk", RISKS)
@given(sample=samples, lam=values)
def test_over_is_the_comparison_of_the_artefact(
    risk: Risk, sample: list[float], lam: float
) -> None:
    wanted = [monitor.crosses(m, lam, COMPARISON[risk]) for m in sample]
    assert over(np.array(sample), lam, risk).tolist() == wanted


def test_a_trajectory_at_lambda_alarms_only_where_misses_are_bounded() -> None:
    maxima = np.array([1.0, 2.0, 2.0, 3.0])
    assert over(maxima, 2.0, "false_alarm").tolist() == [False, False, False, True]
    assert over(maxima, 2.0, "missed_detection").tolist() == [False, True, True, True]


@given(sample=samples, data=st.data())
def test_missed_detection_is_the_mirror_of_false_alarm(
    sample: list[float], data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, len(sample) - 1))
    maxima = np.array(sample)
    assert threshold(maxima, k, "missed_detection") == -threshold(-maxima, k, "false_alarm")


@given(sample=samples, data=st.data())
def test_more_errors_allowed_alarm_more_safe_and_miss_more_unsafe(
    sample: list[float], data: st.DataObject
) -> None:
    fewer = data.draw(st.integers(0, len(sample) - 1))
    more = data.draw(st.integers(fewer, len(sample) - 1))
    maxima = np.array(sample)
    assert threshold(maxima, more, "false_alarm") <= threshold(maxima, fewer, "false_alarm")
    assert threshold(maxima, more, "missed_detection") >= threshold(
        maxima, fewer, "missed_detection"
    )


@pytest.mark.parametrize("risk", RISKS)
def test_the_sample_is_left_as_it_was(risk: Risk) -> None:
    maxima = np.array([3.0, 1.0, 2.0])
    threshold(maxima, 1, risk)
    assert maxima.tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("k", [-1, 3, 4])
def test_k_outside_the_sample_is_an_input_error(risk: Risk, k: int) -> None:
    with pytest.raises(InputError, match=r"\[0, 2\]"):
        threshold(np.array([3.0, 1.0, 2.0]), k, risk)
    with pytest.raises(InputError):
        threshold(np.array([]), 0, risk)


@pytest.mark.parametrize("risk", RISKS)
def test_a_maximum_that_is_no_number_is_an_input_error(risk: Risk) -> None:
    for place in range(3):
        maxima = np.array([3.0, 1.0, 2.0])
        maxima[place] = math.nan
        with pytest.raises(InputError, match="NaN"):
            threshold(maxima, 0, risk)


@pytest.mark.parametrize("bound", ["crc", "exact", "hoeffding_bentkus"])
@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("n", [5, 22, 100, 579])
def test_level_and_sample_give_the_order_statistic_of_k(bound: Bound, risk: Risk, n: int) -> None:
    maxima = np.random.default_rng(n).normal(size=n)
    got = order_statistic_threshold(maxima, bound, 0.1, 0.1, risk, "unsafe")
    k = allowed_errors(bound, n, 0.1, 0.1, protected="unsafe")
    if isinstance(k, Refusal):
        assert got == k and k.protected == "unsafe"
    else:
        assert got == (monitor.threshold(maxima.tolist(), k, risk), k)


# ---------------------------------------------------------------------------------------- groups


def feasible(bound: Bound, loss: Fraction, groups: int, epsilon: float, delta: float) -> bool:
    """Whether a summed group loss certifies epsilon, straight from the formulas."""
    if bound == "crc":
        return loss <= Fraction(repr(epsilon)) * (groups + 1) - 1
    return reference.hb_cluster_feasible(loss / groups, groups, epsilon, delta)


def summed_loss(maxima: Floats, clusters: NDArray[np.int64], lam: float, risk: Risk) -> Fraction:
    wrong = errors(maxima, lam, risk)
    return sum(
        (
            Fraction(int(wrong[clusters == c].sum()), int((clusters == c).sum()))
            for c in np.unique(clusters)
        ),
        Fraction(0),
    )


def by_trying_all(
    maxima: Floats,
    clusters: NDArray[np.int64],
    bound: Bound,
    epsilon: float,
    delta: float,
    risk: Risk,
) -> float | None:
    """The most useful observed value that is feasible, found by trying every one."""
    groups = len(np.unique(clusters))
    kept: list[float] = [
        lam
        for lam in maxima.tolist()
        if feasible(bound, summed_loss(maxima, clusters, lam, risk), groups, epsilon, delta)
    ]
    if not kept:
        return None
    return min(kept) if risk == "false_alarm" else max(kept)


def clustered(seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Groups of one to six, with ties between and within them."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, size=int(rng.integers(10, 40)))
    clusters = rng.permutation(np.repeat(rng.permutation(len(sizes)) * 7 - 30, sizes))
    maxima = rng.normal(size=len(clusters)) + 0.1 * rng.normal(size=len(clusters))
    if seed % 2:
        maxima = np.round(maxima, 1)
    if seed % 3 == 0:
        maxima[rng.integers(0, len(maxima), size=3)] = rng.choice([-math.inf, math.inf], size=3)
    return maxima, clusters


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("bound", CLUSTER_BOUNDS)
@pytest.mark.parametrize("seed", range(12))
def test_the_group_threshold_is_the_best_of_all_candidates(
    bound: Bound, risk: Risk, seed: int
) -> None:
    maxima, clusters = clustered(seed)
    for epsilon in (0.05, 0.1, 0.25, 0.5, 0.9):
        got = cluster_threshold(maxima, clusters, bound, epsilon, 0.2, risk)
        wanted = by_trying_all(maxima, clusters, bound, epsilon, 0.2, risk)
        if isinstance(got, Refusal):
            assert wanted is None
            continue
        lam, spent, groups = got
        assert lam == wanted
        assert groups == len(np.unique(clusters))
        assert spent == pytest.approx(float(summed_loss(maxima, clusters, lam, risk)), abs=1e-12)


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("bound", CLUSTER_BOUNDS)
@given(
    rows=st.lists(st.tuples(values, st.integers(-3, 12)), min_size=1, max_size=60),
    epsilon=st.floats(0.01, 0.99),
    delta=st.floats(0.01, 0.99),
)
def test_the_summed_group_loss_never_exceeds_what_is_allowed(
    bound: Bound, risk: Risk, rows: list[tuple[float, int]], epsilon: float, delta: float
) -> None:
    maxima = np.array([m for m, _ in rows])
    clusters = np.array([c for _, c in rows])
    got = cluster_threshold(maxima, clusters, bound, epsilon, delta, risk)
    budget = allowed_weight(bound, len(np.unique(clusters)), epsilon, delta)
    if isinstance(budget, Refusal):
        assert isinstance(got, Refusal)
        return
    assert not isinstance(got, Refusal)
    assert float(summed_loss(maxima, clusters, got[0], risk)) <= budget + 2e-9


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("bound", CLUSTER_BOUNDS)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 200),
    epsilon=st.integers(1, 99).map(lambda i: i / 100),
    delta=st.sampled_from([0.05, 0.1, 0.3]),
    ties=st.booleans(),
)
def test_groups_of_one_are_trajectories(
    bound: Bound, risk: Risk, seed: int, n: int, epsilon: float, delta: float, ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    maxima = np.round(rng.normal(size=n), 1) if ties else rng.normal(size=n)
    got = cluster_threshold(maxima, rng.permutation(n), bound, epsilon, delta, risk)
    k = allowed_errors(bound, n, epsilon, delta)
    if isinstance(k, Refusal):
        assert isinstance(got, Refusal) and got.n_needed == k.n_needed
    else:
        assert not isinstance(got, Refusal)
        assert got[0] == threshold(maxima, k, risk)


@pytest.mark.parametrize("bound", CLUSTER_BOUNDS)
@pytest.mark.parametrize("seed", range(6))
def test_the_group_threshold_mirrors_too(bound: Bound, seed: int) -> None:
    maxima, clusters = clustered(seed)
    for epsilon in (0.1, 0.3, 0.6):
        one = cluster_threshold(maxima, clusters, bound, epsilon, 0.2, "missed_detection")
        other = cluster_threshold(-maxima, clusters, bound, epsilon, 0.2, "false_alarm")
        if isinstance(one, Refusal) or isinstance(other, Refusal):
            assert isinstance(one, Refusal) and isinstance(other, Refusal)
        else:
            assert (one[0], one[1]) == (-other[0], other[1])


@pytest.mark.parametrize("seed", range(6))
def test_the_names_and_the_order_of_groups_do_not_matter(seed: int) -> None:
    maxima, clusters = clustered(seed)
    order = np.random.default_rng(seed).permutation(len(maxima))
    one = cluster_threshold(maxima, clusters, "crc", 0.3, None, "false_alarm")
    assert not isinstance(one, Refusal)
    other = cluster_threshold(maxima[order], -5 * clusters[order], "crc", 0.3, None, "false_alarm")
    assert not isinstance(other, Refusal)
    assert one[0] == other[0] and one[1] == pytest.approx(other[1])


def test_exact_refuses_losses_between_zero_and_one() -> None:
    with pytest.raises(InputError, match="'crc' or 'hoeffding_bentkus'"):
        allowed_weight("exact", 100, 0.1, 0.1)
    with pytest.raises(InputError, match="cluster mean"):
        cluster_threshold(np.zeros(100), np.arange(100), "exact", 0.1, 0.1, "false_alarm")


@given(
    n=st.integers(1, 400),
    epsilon=st.integers(1, 99).map(lambda i: i / 100),
    delta=st.sampled_from([0.05, 0.1, 0.3]),
)
def test_the_allowed_sum_holds_the_allowed_count(n: int, epsilon: float, delta: float) -> None:
    for bound in CLUSTER_BOUNDS:
        budget = allowed_weight(bound, n, epsilon, delta)
        k = allowed_errors(bound, n, epsilon, delta)
        if isinstance(budget, Refusal):
            assert isinstance(k, Refusal)
        else:
            assert isinstance(k, int)
            assert k - 1e-8 <= budget < k + 1


def test_the_allowed_sum_of_hoeffding_bentkus_is_the_supremum() -> None:
    for n, epsilon in ((60, 0.1), (133, 0.1), (400, 0.05)):
        budget = allowed_weight("hoeffding_bentkus", n, epsilon, 0.1)
        assert isinstance(budget, float)
        below, above = Fraction(budget - 1e-7), Fraction(budget + 1e-7)
        assert reference.hb_cluster_feasible(max(below, Fraction(0)) / n, n, epsilon, 0.1)
        assert not reference.hb_cluster_feasible(above / n, n, epsilon, 0.1)


@pytest.mark.parametrize("bad", [0.0, 1.0, math.nan])
def test_bad_levels_are_input_errors(bad: float) -> None:
    for bound in CLUSTER_BOUNDS:
        with pytest.raises(InputError):
            allowed_weight(bound, 10, bad, 0.1)
    with pytest.raises(InputError):
        allowed_weight("hoeffding_bentkus", 10, 0.1, bad)


# -------------------------------------------------------------------------------- at the edges


def test_a_group_maximum_that_is_no_number_is_an_input_error() -> None:
    maxima = np.array([1.0, math.nan] * 20)
    with pytest.raises(InputError):
        cluster_threshold(maxima, np.arange(40), "crc", 0.1, None, "false_alarm")


def test_a_refusal_for_groups_names_the_protected_class() -> None:
    args: tuple[Any, ...] = (np.zeros(3), np.arange(3), "crc", 0.01, None, "missed_detection")
    refused = cluster_threshold(*args)
    assert isinstance(refused, Refusal)
    assert refused.protected == "unsafe"


def test_no_group_at_all_is_refused() -> None:
    for bound in CLUSTER_BOUNDS:
        assert isinstance(allowed_weight(bound, 0, 0.1, 0.1), Refusal)


def test_an_epsilon_next_to_one_still_gives_an_observed_threshold() -> None:
    got = cluster_threshold(np.array([1.0]), np.array([0]), "crc", 1 - 1e-10, None, "false_alarm")
    assert got == (1.0, 0.0, 1)


def test_one_group_is_enough_for_a_level_near_one() -> None:
    assert isinstance(allowed_weight("hoeffding_bentkus", 1, 0.95, 0.1), float)
    assert allowed_weight("crc", 1, 0.5, None) == 0.0


def test_a_refusal_for_groups_carries_its_numbers() -> None:
    for bound, delta, needed in (("hoeffding_bentkus", 0.1, 22), ("crc", None, 9)):
        found = allowed_weight(bound, 8, 0.1, 0.1)  # type: ignore[arg-type]
        assert isinstance(found, Refusal)
        assert (found.bound, found.epsilon, found.delta, found.n) == (bound, 0.1, delta, 8)
        assert (found.n_needed, found.protected) == (needed, "safe")
        smallest = 1 - 0.1 ** (1 / 8) if bound == "hoeffding_bentkus" else 1 / 9
        assert found.epsilon_smallest == pytest.approx(smallest)
    with pytest.raises(InputError, match=r"^bound 'exact' needs a loss of 0 or 1 .*: choose 'crc'"):
        allowed_weight("exact", 8, 0.1, 0.1)
