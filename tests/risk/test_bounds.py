"""
The promise: k is the largest number of calibration errors that the stated guarantee allows.

Compared with an independent version in rational and 50-digit arithmetic; too few trajectories are
refused with the numbers that a user needs.
"""

import math
import re
from fractions import Fraction
from typing import Any

import mpmath
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import bounds as reference

from tocsin.errors import InputError
from tocsin.model import BOUNDS, Bound, Refusal
from tocsin.risk import bounds
from tocsin.risk.bounds import allowed_errors, binomial_tail, epsilon_smallest, n_needed

EPSILONS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.29, 0.3, 0.5, 0.9)
DELTAS = (0.01, 0.05, 0.1, 0.25)
PROBABLE: tuple[Bound, ...] = ("exact", "hoeffding_bentkus")

levels = st.one_of(
    st.integers(1, 999).map(lambda i: i / 1000),
    st.integers(1, 99).map(lambda i: i / 100),
    st.floats(0.001, 0.999),
)


def k_of(bound: Bound, n: int, epsilon: float, delta: float | None) -> int | None:
    k = allowed_errors(bound, n, epsilon, delta)
    return None if isinstance(k, Refusal) else k


def refusal(bound: Bound, n: int, epsilon: float, delta: float | None) -> Refusal:
    refused = allowed_errors(bound, n, epsilon, delta)
    assert isinstance(refused, Refusal)
    return refused


def hoeffding_bentkus_allows(k: int, n: int, epsilon: float, delta: float) -> bool:
    return n > 0 and reference.hb_cluster_feasible(Fraction(k, n), n, epsilon, delta)


# ------------------------------------------------------------------------ against the reference


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_crc_is_the_formula_for_every_small_n(epsilon: float) -> None:
    for n in range(401):
        assert k_of("crc", n, epsilon, None) == reference.allowed_errors("crc", n, epsilon)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("delta", DELTAS)
def test_exact_is_the_largest_k_whose_tail_is_at_most_delta(epsilon: float, delta: float) -> None:
    limit = Fraction(repr(delta))
    for n in range(401):
        k = k_of("exact", n, epsilon, delta)
        assert k is None or reference.violation_probability(n, k, epsilon) <= limit
        if n:
            above = 0 if k is None else k + 1
            assert reference.violation_probability(n, above, epsilon) > limit


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("delta", DELTAS)
def test_hoeffding_bentkus_is_the_largest_k_that_the_formula_allows(
    epsilon: float, delta: float
) -> None:
    for n in range(1, 401):
        k = k_of("hoeffding_bentkus", n, epsilon, delta)
        assert k is None or hoeffding_bentkus_allows(k, n, epsilon, delta)
        assert not hoeffding_bentkus_allows(0 if k is None else k + 1, n, epsilon, delta)


@pytest.mark.parametrize("bound", BOUNDS)
@given(n=st.integers(0, 120), epsilon=levels, delta=levels)
def test_any_levels_agree_with_the_reference(
    bound: Bound, n: int, epsilon: float, delta: float
) -> None:
    wanted = reference.allowed_errors(bound, n, epsilon, delta)
    if bound == "hoeffding_bentkus":
        assume(not a_tie(n, epsilon, delta))
    assert k_of(bound, n, epsilon, delta) == wanted


def a_tie(n: int, epsilon: float, delta: float) -> bool:
    """Whether no error at all has probability delta to within rounding."""
    return math.isclose((1.0 - epsilon) ** n, delta, rel_tol=1e-12)


@given(n=st.integers(500, 2_500), epsilon=levels, delta=st.floats(0.001, 0.5))
def test_many_trajectories_agree_with_the_definition(n: int, epsilon: float, delta: float) -> None:
    k = k_of("exact", n, epsilon, delta)
    with mpmath.workdps(50):
        assert k is None or tail(k, n, epsilon) <= mpmath.mpf(delta)
        assert tail(0 if k is None else k + 1, n, epsilon) > mpmath.mpf(delta)


def tail(k: int, n: int, epsilon: float) -> Any:
    """P(Bin(n, epsilon) <= k), summed downwards from k; 50 digits by the caller's precision."""
    p = reference.real(Fraction(repr(epsilon)))
    term = mpmath.binomial(n, k) * p**k * (1 - p) ** (n - k)
    total = mpmath.mpf(0)
    for i in range(k, -1, -1):
        total += term
        if i and term < total * mpmath.mpf(10) ** -45 and i < n * p:
            break
        term = term * i / (n - i + 1) * (1 - p) / p
    return total


# --------------------------------------------------------------------------------------- goldens


@pytest.mark.parametrize(
    ("bound", "needed"), [("exact", (230, 45, 22)), ("crc", (99, 19, 9))], ids=str
)
def test_the_fewest_trajectories_are_the_published_ones(
    bound: Bound, needed: tuple[int, ...]
) -> None:
    for epsilon, n in zip((0.01, 0.05, 0.1), needed, strict=True):
        assert n_needed(bound, epsilon, 0.1) == n
        assert k_of(bound, n, epsilon, 0.1) == 0
        assert k_of(bound, n - 1, epsilon, 0.1) is None


def test_ten_trajectories_at_a_tenth() -> None:
    for bound in PROBABLE:
        assert refusal(bound, 10, 0.1, 0.1).n_needed == 22
    assert k_of("crc", 10, 0.1, None) == 0


def test_no_trajectory_supports_nothing() -> None:
    for bound in BOUNDS:
        refused = refusal(bound, 0, 0.5, 0.5)
        assert refused.n == 0 and refused.epsilon_smallest == 1.0
        assert "you have 0" in refused.sentence()


@given(epsilon=levels, delta=levels)
def test_the_fewest_trajectories_are_the_edge(epsilon: float, delta: float) -> None:
    for bound in BOUNDS:
        n = n_needed(bound, epsilon, delta)
        assert n >= 1
        assert k_of(bound, n, epsilon, delta) is not None
        assert k_of(bound, n - 1, epsilon, delta) is None
        if bound == "exact":
            assert n == reference.smallest_n(bound, epsilon, delta)


# ------------------------------------------------------------------------------------------ ties


def test_a_tie_with_delta_is_allowed() -> None:
    assert k_of("exact", 1, 0.5, 0.5) == 0
    assert k_of("exact", 2, 0.5, 0.25) == 0
    assert k_of("exact", 2, 0.5, 0.75) == 1
    assert k_of("exact", 2, 0.5, 0.2499999999999999) is None
    assert n_needed("exact", 0.5, 0.25) == 2


@pytest.mark.parametrize("epsilon", [0.1, 0.25, 0.3, 0.5])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_every_tail_is_allowed_at_itself_and_not_below(n: int, epsilon: float) -> None:
    for k in range(n):
        exactly = reference.violation_probability(n, k, epsilon)
        delta = float(exactly)
        if Fraction(repr(delta)) == exactly:
            assert k_of("exact", n, epsilon, delta) == k
            below = k_of("exact", n, epsilon, math.nextafter(delta, 0.0))
            assert below == (k - 1 if k else None)


def test_hoeffding_bentkus_allows_a_tie_too() -> None:
    for epsilon, n, delta in ((0.5, 2, 0.25), (0.06, 1, 0.94), (0.09, 2, 0.8281)):
        assert k_of("hoeffding_bentkus", n, epsilon, delta) == 0


def test_a_tie_among_very_many_is_refused_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert k_of("exact", 2, 0.5, 0.25) == 0
    monkeypatch.setattr(bounds, "EXACT_TIE_N_MAX", 1)
    assert k_of("exact", 2, 0.5, 0.25) is None


# -------------------------------------------------------------------------------------- refusals


def test_the_refusal_says_what_is_needed_and_what_is_possible() -> None:
    sentence = refusal("exact", 120, 0.01, 0.1).sentence()
    for number in ("epsilon = 0.01", "230", "120", "0.0191", "delta = 0.1", "safe"):
        assert number in sentence
    assert "delta" not in refusal("crc", 5, 0.01, 0.1).sentence()
    unsafe = allowed_errors("exact", 3, 0.01, 0.1, protected="unsafe")
    assert isinstance(unsafe, Refusal) and "unsafe trajectories" in unsafe.sentence()


def printed_epsilon(sentence: str) -> float:
    found = re.search(r"the smallest epsilon for \d+ is (\S+)\. ", sentence)
    assert found is not None, sentence
    return float(found.group(1))


@pytest.mark.parametrize("bound", ["crc", "exact"])
@given(n=st.integers(1, 3_000), delta=st.one_of(st.sampled_from(DELTAS), st.floats(0.01, 0.99)))
def test_the_epsilon_printed_can_be_had(bound: Bound, n: int, delta: float) -> None:
    epsilon = math.nextafter(epsilon_smallest(bound, n, delta) * (1 - 1e-9), 0.0)
    printed = printed_epsilon(refusal(bound, n, epsilon, delta).sentence())
    assert k_of(bound, n, printed, delta) is not None
    assert printed <= epsilon * 1.011


def test_an_epsilon_that_rounds_to_one_is_not_offered() -> None:
    printed = printed_epsilon(refusal("exact", 1, 0.5, 0.0005).sentence())
    assert k_of("exact", 1, printed, 0.0005) is not None


def test_the_epsilon_printed_can_be_had_from_hoeffding_bentkus_too() -> None:
    for n, epsilon, delta in ((1, 0.5, 0.01), (1, 0.9, 0.01)):
        printed = printed_epsilon(refusal("hoeffding_bentkus", n, epsilon, delta).sentence())
        assert k_of("hoeffding_bentkus", n, printed, delta) is not None


@given(n=st.integers(1, 2_000), delta=levels)
def test_the_smallest_epsilon_is_the_reference_s(n: int, delta: float) -> None:
    for bound in BOUNDS:
        wanted = float(reference.smallest_epsilon(bound, n, delta))
        assert epsilon_smallest(bound, n, delta) == pytest.approx(wanted, rel=1e-13)


# -------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 1.1, math.nan, math.inf, -math.inf])
def test_a_level_outside_the_open_interval_is_an_input_error(bad: float) -> None:
    for bound in BOUNDS:
        with pytest.raises(InputError, match="epsilon"):
            allowed_errors(bound, 100, bad, 0.1)
        with pytest.raises(InputError, match="epsilon"):
            n_needed(bound, bad, 0.1)
    for bound in PROBABLE:
        with pytest.raises(InputError, match="delta"):
            allowed_errors(bound, 100, 0.1, bad)
        with pytest.raises(InputError, match="delta"):
            n_needed(bound, 0.1, bad)
    assert k_of("crc", 100, 0.1, bad) == 9


def test_a_bound_without_its_delta_is_an_input_error() -> None:
    for bound in PROBABLE:
        with pytest.raises(InputError, match="delta"):
            allowed_errors(bound, 100, 0.1, None)


def test_an_unknown_bound_and_a_negative_count_are_input_errors() -> None:
    unknown: Any = "hoeffding"
    with pytest.raises(InputError, match="crc, exact, hoeffding_bentkus"):
        allowed_errors(unknown, 100, 0.1, 0.1)
    with pytest.raises(InputError, match="negative"):
        allowed_errors("exact", -1, 0.1, 0.1)


@pytest.mark.timeout(60)
def test_a_tiny_epsilon_is_answered_at_once() -> None:
    assert refusal("exact", 10, 1e-12, 0.1).n_needed == pytest.approx(2.302585e12, rel=1e-5)


# ------------------------------------------------------------------------------------- directions


@given(n=st.integers(0, 500), epsilon=levels, delta=levels)
def test_exact_is_never_stricter_than_hoeffding_bentkus(
    n: int, epsilon: float, delta: float
) -> None:
    loose, strict = (k_of(bound, n, epsilon, delta) for bound in PROBABLE)
    assert strict is None or (loose is not None and loose >= strict)


@given(
    n=st.integers(0, 300),
    more=st.integers(0, 50),
    low=levels,
    high=levels,
    delta=levels,
    larger=levels,
)
def test_more_trajectories_or_a_larger_level_never_allow_less(
    n: int, more: int, low: float, high: float, delta: float, larger: float
) -> None:
    low, high = sorted((low, high))
    delta, larger = sorted((delta, larger))
    for bound in BOUNDS:
        least = or_minus_one(k_of(bound, n, low, delta))
        assert or_minus_one(k_of(bound, n + more, low, delta)) >= least
        assert or_minus_one(k_of(bound, n, high, delta)) >= least
        assert or_minus_one(k_of(bound, n, low, larger)) >= least


def or_minus_one(k: int | None) -> int:
    return -1 if k is None else k


@given(n=st.integers(1, 200), epsilon=levels, delta=levels)
def test_some_trajectory_is_always_left_on_the_right_side(
    n: int, epsilon: float, delta: float
) -> None:
    for bound in BOUNDS:
        assert or_minus_one(k_of(bound, n, epsilon, delta)) < n


def test_the_bentkus_term_is_not_swapped() -> None:
    """With its arguments swapped, ten trajectories without an alarm would certify 5 percent."""
    assert k_of("hoeffding_bentkus", 10, 0.05, 0.1) is None
    assert k_of("hoeffding_bentkus", 100, 0.01, 0.1) is None


def test_where_either_term_alone_would_refuse_the_other_decides() -> None:
    """Both terms of Hoeffding-Bentkus are needed: each wins somewhere."""
    wins = {"hoeffding": 0, "bentkus": 0}
    for n in range(50, 400, 25):
        for epsilon in (0.02, 0.1, 0.3):
            for k in range(n):
                by_kl = math.exp(-n * bounds.bernoulli_divergence(min(k / n, epsilon), epsilon))
                by_tail = math.e * binomial_tail(k, n, epsilon)
                if by_kl <= 0.1 < by_tail:
                    wins["hoeffding"] += 1
                elif by_tail <= 0.1 < by_kl:
                    wins["bentkus"] += 1
                if min(by_kl, by_tail) > 0.1:
                    break
    assert wins["hoeffding"] > 0 and wins["bentkus"] > 0


# ------------------------------------------------------------------------------------- functions


@given(n=st.integers(1, 20_000), epsilon=st.floats(1e-4, 0.9999), place=st.floats(-8.0, 8.0))
def test_the_binomial_tail_is_right_to_nine_digits(n: int, epsilon: float, place: float) -> None:
    mean, deviation = n * epsilon, math.sqrt(n * epsilon * (1 - epsilon))
    k = min(max(int(mean + place * deviation), 0), n - 1)
    with mpmath.workdps(50):
        wanted = tail(k, n, epsilon)
        assert abs(mpmath.mpf(binomial_tail(k, n, epsilon)) - wanted) <= wanted * mpmath.mpf("1e-9")


def test_the_binomial_tail_ends_at_zero_and_one() -> None:
    assert binomial_tail(-1, 5, 0.3) == 0.0
    assert binomial_tail(5, 5, 0.3) == binomial_tail(9, 5, 0.3) == 1.0


@given(a=st.floats(0.0, 1.0), b=st.floats(1e-6, 1 - 1e-6))
def test_the_divergence_is_the_formula(a: float, b: float) -> None:
    with mpmath.workdps(50):
        wanted = float(reference.divergence(mpmath.mpf(a), mpmath.mpf(b)))
    assert bounds.bernoulli_divergence(a, b) == pytest.approx(wanted, rel=1e-9, abs=1e-15)


def test_the_divergence_is_not_symmetric() -> None:
    assert bounds.bernoulli_divergence(0.0, 0.1) == pytest.approx(-math.log(0.9))
    assert bounds.bernoulli_divergence(1.0, 0.1) == pytest.approx(-math.log(0.1))


def test_a_fractional_sum_of_errors_takes_the_next_integer_in_the_bentkus_term() -> None:
    by_bentkus = 0
    for n, epsilon, delta in ((50, 0.1, 0.3), (133, 0.1, 0.1), (300, 0.05, 0.02), (90, 0.4, 0.01)):
        for quarters in range(int(4 * n * epsilon) + 1):
            k = quarters / 4
            wanted = reference.hb_cluster_feasible(Fraction(quarters, 4 * n), n, epsilon, delta)
            assert bounds.passes("hoeffding_bentkus", k, n, epsilon, delta) == wanted
            by_kl = math.exp(-n * bounds.bernoulli_divergence(k / n, epsilon))
            below, above = (binomial_tail(j, n, epsilon) for j in (math.floor(k), math.ceil(k)))
            by_bentkus += by_kl > delta and math.e * below <= delta < math.e * above
    assert by_bentkus > 0
