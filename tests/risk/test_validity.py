"""
The promise itself: how often, and on average how far, the true error rate exceeds epsilon.

By exact enumeration of the binomial law, and by draws from worlds whose error rate is known in
closed form. A claim about draws allows four standard errors, so each fails by chance with
probability below 1e-4; the seeds are fixed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from reference import bounds as reference

from tocsin.model import RISKS, Bound, Refusal, Risk
from tocsin.risk.bounds import allowed_errors
from tocsin.risk.threshold import cluster_threshold, order_statistic_threshold

Floats = NDArray[np.float64]

RUNS = 4_000
EPSILONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
DELTAS = (0.01, 0.05, 0.1, 0.3)
GRID = [*range(1, 120), *range(120, 700, 29)]


# ----------------------------------------------------------------------------------- enumeration


@pytest.mark.parametrize("bound", ["exact", "hoeffding_bentkus"])
@pytest.mark.parametrize("delta", DELTAS)
def test_the_exact_violation_probability_is_at_most_delta(
    bound: Bound, delta: float, record_property: Callable[[str, object], None]
) -> None:
    limit = Fraction(repr(delta))
    shares = []
    for epsilon in EPSILONS:
        for n in GRID:
            k = allowed_errors(bound, n, epsilon, delta)
            if isinstance(k, Refusal):
                # Not even a threshold that no calibration trajectory crosses would do.
                assert reference.violation_probability(n, 0, epsilon) > limit
                continue
            violated = reference.violation_probability(n, k, epsilon)
            assert violated <= limit
            shares.append(float(violated / limit))
            if bound == "exact":
                assert reference.violation_probability(n, k + 1, epsilon) > limit
    record_property("violation probability / delta, mean", sum(shares) / len(shares))
    record_property("violation probability / delta, largest", max(shares))
    assert max(shares) <= 1.0
    # A bound that is valid because it never lets anything through would be no use.
    assert sum(shares) / len(shares) > (0.5 if bound == "exact" else 0.1)


def test_the_mean_error_rate_of_crc_is_at_most_epsilon_and_one_more_error_would_exceed_it() -> None:
    for epsilon in (*EPSILONS, 0.001, 0.29, 0.7, 0.95):
        level = Fraction(repr(epsilon))
        for n in range(1, 1_500):
            k = allowed_errors("crc", n, epsilon, None)
            if isinstance(k, Refusal):
                assert Fraction(1, n + 1) > level
                continue
            assert reference.expected_rate(k, n) <= level < reference.expected_rate(k + 1, n)


# ----------------------------------------------------------------------------------------- worlds


@dataclass(frozen=True)
class World:
    """A law of the maximum M: how to draw it, and P(M > x) and P(M < x) in closed form."""

    name: str
    draw: Callable[[np.random.Generator, tuple[int, ...]], Floats]
    above: Callable[[float], float]
    below: Callable[[float], float]
    continuous: bool


SHARES = (0.3, 0.25, 0.2, 0.1, 0.08, 0.04, 0.02, 0.01)

WORLDS = (
    World(
        "uniform",
        lambda rng, shape: rng.uniform(size=shape),
        lambda x: 1.0 - x,
        lambda x: x,
        continuous=True,
    ),
    World(
        "exponential",
        lambda rng, shape: rng.exponential(size=shape),
        lambda x: math.exp(-x),
        lambda x: -math.expm1(-x),
        continuous=True,
    ),
    World(
        "eight values",
        lambda rng, shape: rng.choice(len(SHARES), p=SHARES, size=shape).astype(np.float64),
        lambda x: sum(SHARES[int(x) + 1 :]),
        lambda x: sum(SHARES[: int(x)]),
        continuous=False,
    ),
)


def true_rates(world: World, risk: Risk, n: int, bound: Bound, epsilon: float, seed: int) -> Floats:
    """The true error rate at lambda, for many calibration draws of n trajectories each."""
    maxima = world.draw(np.random.default_rng(seed), (RUNS, n))
    rates = np.empty(RUNS)
    for i, sample in enumerate(maxima):
        got = order_statistic_threshold(sample, bound, epsilon, 0.1, risk, "safe")
        assert not isinstance(got, Refusal)
        rates[i] = world.above(got[0]) if risk == "false_alarm" else world.below(got[0])
    return rates


SIZES = [(22, 0.1), (60, 0.1), (133, 0.1), (300, 0.1), (100, 0.05), (100, 0.3)]


@pytest.mark.parametrize("bound", ["exact", "hoeffding_bentkus"])
@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("world", WORLDS, ids=lambda w: str(w.name))
def test_the_error_rate_exceeds_epsilon_no_more_often_than_delta(
    world: World, risk: Risk, bound: Bound
) -> None:
    for i, (n, epsilon) in enumerate(SIZES):
        violated = float((true_rates(world, risk, n, bound, epsilon, 50 + i) > epsilon).mean())
        assert violated <= 0.1 + 4.0 * math.sqrt(0.09 / RUNS)
        if world.continuous:
            k = allowed_errors(bound, n, epsilon, 0.1)
            assert isinstance(k, int)
            wanted = float(reference.violation_probability(n, k, epsilon))
            assert abs(violated - wanted) <= 4.0 * math.sqrt(max(wanted, 1e-3) / RUNS)


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("world", WORLDS, ids=lambda w: str(w.name))
def test_the_mean_error_rate_under_crc_is_at_most_epsilon_and_close_to_it(
    world: World, risk: Risk
) -> None:
    for i, (n, epsilon) in enumerate([(9, 0.1), *SIZES]):
        rates = true_rates(world, risk, n, "crc", epsilon, 70 + i)
        error = 4.0 * float(rates.std()) / math.sqrt(RUNS)
        assert rates.mean() <= epsilon + error
        if world.continuous:
            assert rates.mean() >= epsilon - 2.0 / (n + 1) - error


def test_on_average_is_a_weaker_promise_than_with_probability() -> None:
    """Under crc single calibrations exceed epsilon often: the two must not be confused."""
    rates = true_rates(WORLDS[0], "false_alarm", 100, "crc", 0.1, 90)
    assert (rates > 0.1).mean() > 0.3


@pytest.mark.parametrize("bound", ["crc", "hoeffding_bentkus"])
def test_whole_groups_keep_the_promise_where_single_trajectories_would_break_it(
    bound: Bound,
) -> None:
    """
    Sixty groups of ten, all of a group with the same uniform maximum: the rate is 1 - lambda.

    Taking the six hundred for independent violates the `exact` bound's delta of 0.1.
    """
    groups, size, epsilon = 60, 10, 0.1
    clusters = np.repeat(np.arange(groups), size)
    draws = np.random.default_rng(91).uniform(size=(1_000, groups))
    rates, naive = [], []
    for sample in draws:
        maxima = np.repeat(sample, size)
        got = cluster_threshold(maxima, clusters, bound, epsilon, 0.1, "false_alarm")
        single = order_statistic_threshold(maxima, "exact", epsilon, 0.1, "false_alarm", "safe")
        assert not isinstance(got, Refusal) and not isinstance(single, Refusal)
        rates.append(1.0 - got[0])
        naive.append(1.0 - single[0])
    if bound == "crc":
        assert np.mean(rates) <= epsilon + 4.0 * float(np.std(rates)) / math.sqrt(len(rates))
    else:
        assert np.mean(np.array(rates) > epsilon) <= 0.1 + 4.0 * math.sqrt(0.09 / len(rates))
    assert np.mean(np.array(naive) > epsilon) > 0.25
