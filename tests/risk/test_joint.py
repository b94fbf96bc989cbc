"""
The promise: certificates for several epsilon hold together with probability 1 - delta.

One by one they hold one by one; the joint failure probability is exact and is checked against
rational arithmetic and against draws.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import bounds as reference_bounds
from reference import joint as reference

from tocsin.errors import InputError
from tocsin.limits import EPSILONS_MAX
from tocsin.model import Refusal
from tocsin.risk import joint
from tocsin.risk.bounds import allowed_errors
from tocsin.risk.joint import joint_allowed_errors, joint_failure

FOUR = [0.05, 0.1, 0.2, 0.3]
FIFTY = [i / 100 for i in range(1, 51)]


def plain(ks: list[int | Refusal]) -> list[int | None]:
    return [k if isinstance(k, int) else None for k in ks]


def counts(ks: list[int | Refusal]) -> list[int]:
    return [k if isinstance(k, int) else -1 for k in ks]


@pytest.mark.parametrize(
    ("n", "allowed", "alone"),
    [(100, [1, 4, 13, 21], [1, 5, 14, 23]), (1000, [37, 83, 177, 274], [40, 87, 183, 280])],
)
def test_four_levels_are_the_published_ones(n: int, allowed: list[int], alone: list[int]) -> None:
    local, ks = joint_allowed_errors(n, FOUR, 0.1)
    assert ks == allowed
    assert 0.025 < local < 0.1
    assert [allowed_errors("exact", n, e, 0.1) for e in FOUR] == alone
    assert joint_failure(n, FOUR, alone) > 0.1 >= joint_failure(n, FOUR, allowed)


def test_fifty_levels_are_the_published_ones() -> None:
    _, ks = joint_allowed_errors(300, FIFTY, 0.1)
    assert [ks[FIFTY.index(e)] for e in FOUR] == [7, 18, 45, 72]
    assert plain(ks) == list(reference.joint_allowed_errors(300, FIFTY, 0.1))


@pytest.mark.parametrize("delta", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("n", [1, 5, 10, 22, 44, 80, 150, 333])
def test_any_n_agrees_with_the_reference(n: int, delta: float) -> None:
    for epsilons in (FOUR, [0.1], [0.01, 0.5], [0.3, 0.31, 0.32], [0.1, 0.85]):
        local, ks = joint_allowed_errors(n, epsilons, delta)
        wanted = reference.joint_certificate(n, epsilons, delta)
        assert plain(ks) == list(wanted.allowed)
        low, high = wanted.local_delta
        assert float(low) * (1 - 1e-9) <= local <= float(high) * (1 + 1e-9)


levels = st.lists(st.integers(1, 99), min_size=1, max_size=6, unique=True).map(
    lambda some: [i / 100 for i in sorted(some)]
)


@given(n=st.integers(1, 60), epsilons=levels, data=st.data())
def test_the_failure_probability_is_exact(
    n: int, epsilons: list[float], data: st.DataObject
) -> None:
    ks = sorted(data.draw(st.lists(st.integers(-1, n - 1), min_size=len(epsilons), max_size=6)))
    ks = ks[: len(epsilons)]
    wanted = reference.joint_failure(n, epsilons, [None if k < 0 else k for k in ks])
    assert joint_failure(n, epsilons, ks) == pytest.approx(float(wanted), abs=1e-11)


@given(n=st.integers(1, 120), epsilons=levels, delta=st.sampled_from([0.05, 0.1, 0.25]))
def test_the_certificates_hold_together(n: int, epsilons: list[float], delta: float) -> None:
    local, ks = joint_allowed_errors(n, epsilons, delta)
    failure = reference.joint_failure(n, epsilons, plain(ks))
    assert failure <= Fraction(repr(delta)) + Fraction(1, 10**11)
    assert delta / len(epsilons) <= local <= delta
    for epsilon, k in zip(epsilons, plain(ks), strict=True):
        alone = reference_bounds.allowed_errors("exact", n, epsilon, delta)
        apart = reference_bounds.allowed_errors("exact", n, epsilon, delta / len(epsilons))
        assert (-1 if apart is None else apart) <= (-1 if k is None else k)
        assert (-1 if k is None else k) <= (-1 if alone is None else alone)


def test_one_level_is_the_exact_bound() -> None:
    for n in (22, 100, 579):
        assert joint_allowed_errors(n, [0.1], 0.1) == (0.1, [allowed_errors("exact", n, 0.1, 0.1)])


@pytest.mark.parametrize("n", [50, 300, 2_500])
def test_the_windows_cut_nothing_off_that_matters(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = counts([allowed_errors("exact", n, e, 0.1) for e in FOUR])
    windowed = joint_failure(n, FOUR, allowed)
    monkeypatch.setattr(joint, "_DEVIATIONS", float(n))
    assert windowed == pytest.approx(joint_failure(n, FOUR, allowed), abs=1e-12)
    assert windowed > 0.1


def test_counts_beyond_n_fall_off_the_end() -> None:
    """With epsilon near 1 the Poisson counts run past n."""
    high, allowed = [0.5, 0.9, 0.97], [18, 39, 45]
    wanted = float(reference.joint_failure(50, high, allowed))
    assert 0.01 < wanted < 0.99
    assert joint_failure(50, high, allowed) == pytest.approx(wanted, abs=1e-12)


def test_draws_fail_as_often_as_computed() -> None:
    """Fails by chance with probability below 1e-4: four standard errors, one seed."""
    rng = np.random.default_rng(30)
    n, runs = 100, 40_000
    ranked = np.sort(rng.uniform(size=(runs, n)), axis=1)
    for ks in ([1, 5, 14, 23], [1, 4, 13, 21]):
        # The error rate left by the (k+1)-th largest is the (k+1)-th smallest of n uniforms.
        failed = (ranked[:, ks] > np.array(FOUR)).any(axis=1).mean()
        wanted = joint_failure(n, FOUR, ks)
        assert abs(failed - wanted) <= 4.0 * math.sqrt(wanted * (1 - wanted) / runs)


def test_a_level_that_is_refused_cannot_fail() -> None:
    local, ks = joint_allowed_errors(30, [0.01, 0.1, 0.3], 0.1)
    assert isinstance(ks[0], Refusal) and ks[0].n_needed > 30
    assert local <= 0.1
    wanted = reference.joint_failure(30, [0.1, 0.3], plain(ks)[1:])
    got = joint_failure(30, [0.01, 0.1, 0.3], [-1, *(k for k in ks if isinstance(k, int))])
    assert got == pytest.approx(float(wanted), abs=1e-12)


def test_levels_that_do_not_increase_or_are_too_many_are_input_errors() -> None:
    for bad in ([0.2, 0.1], [0.1, 0.1], [], [i / 1000 for i in range(1, EPSILONS_MAX + 2)]):
        with pytest.raises(InputError):
            joint_allowed_errors(100, bad, 0.1)
    for bad in ([0.0, 0.1], [0.1, 1.0], [math.nan], [0.1, math.nan]):
        with pytest.raises(InputError):
            joint_allowed_errors(100, bad, 0.1)
    for delta in (0.0, 1.0, 2.0, -0.1, math.nan):
        with pytest.raises(InputError):
            joint_allowed_errors(100, [0.1, 0.2], delta)


def test_a_joint_failure_of_exactly_delta_is_allowed() -> None:
    assert plain(joint_allowed_errors(1, [0.1, 0.9], 0.1)[1]) == [None, 0]


def test_no_trajectory_is_refused_without_a_warning() -> None:
    assert plain(joint_allowed_errors(0, [0.1, 0.2], 0.1)[1]) == [None, None]


@pytest.mark.timeout(60, method="signal", func_only=True)
def test_five_thousand_trajectories_are_answered_in_seconds() -> None:
    _, ks = joint_allowed_errors(5_000, FOUR, 0.1)
    assert joint_failure(5_000, FOUR, counts(ks)) <= 0.1 + 1e-12
