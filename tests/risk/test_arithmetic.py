"""
The promise: numbers computed online (floats) and in a batch (arrays) have the same bits.

Hence the product's own logarithm, exact to three units in the last place and nowhere decreasing.
"""

import math
import struct

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from risk.conformance import bits

from tocsin.risk.arithmetic import (
    PROBABILITY_FLOOR,
    REAL_LIMIT,
    SCALAR,
    transform,
)
from tocsin.risk.vector import VECTOR

Floats = NDArray[np.float64]

EXTREMES = np.array(
    [
        *(5e-324, 1e-310, 2.2250738585072014e-308, 1e-300, 0.5, 0.7071067811865475),
        *(0.7071067811865476, math.nextafter(1.0, 0.0), 1.0, math.nextafter(1.0, 2.0)),
        *(math.sqrt(2.0), 2.0, 1e300, 1.7976931348623157e308),
    ]
)


def any_positive(n: int, seed: int) -> Floats:
    """Doubles of every exponent, subnormals included, by random bits."""
    raw = np.random.default_rng(seed).integers(1, 0x7FEF_FFFF_FFFF_FFFF, size=n)
    return np.concatenate([raw.view(np.float64), EXTREMES])


def any_finite(n: int, seed: int) -> Floats:
    """Doubles of every exponent and either sign, and zero."""
    x = any_positive(n, seed)
    signs = np.random.default_rng(seed + 1).choice([-1.0, 1.0], size=len(x))
    return np.append(x * signs, [0.0, -0.0, 1e300, -1e300])


def ulps(got: float, wanted: mpmath.mpf) -> float:
    with mpmath.workdps(50):
        return float(abs(mpmath.mpf(got) - wanted) / math.ulp(float(wanted)))


def test_the_logarithm_has_the_same_bits_in_both() -> None:
    x = any_positive(20_000, 40)
    assert bits(VECTOR.log(x)) == bits([SCALAR.log(float(v)) for v in x])


def test_the_logarithm_is_right_to_three_units_in_the_last_place() -> None:
    rng = np.random.default_rng(41)
    x = np.concatenate([any_positive(2_000, 42), np.exp(rng.uniform(-15, 15, size=3_000))])
    x = np.concatenate([x, 1.0 + rng.uniform(-1e-3, 1e-3, size=500)])
    with mpmath.workdps(50):
        wanted = [mpmath.log(mpmath.mpf(float(v))) for v in x]
    worst = max(ulps(SCALAR.log(float(v)), w) for v, w in zip(x, wanted, strict=True) if w != 0)
    assert worst < 3.0
    assert SCALAR.log(1.0) == 0.0


@given(st.floats(min_value=0.0, exclude_min=True, allow_infinity=False))
def test_the_logarithm_is_close_to_that_of_the_platform(x: float) -> None:
    assert abs(SCALAR.log(x) - math.log(x)) <= 4.0 * math.ulp(math.log(x))


def test_the_logarithm_never_decreases_from_one_double_to_the_next() -> None:
    rng = np.random.default_rng(43)
    x = np.concatenate([np.exp(rng.uniform(-14.0, 14.0, size=300_000)), any_positive(50_000, 44)])
    x = x[x < 1e308]
    after = np.nextafter(x, np.inf)
    assert (VECTOR.log(after) >= VECTOR.log(x)).all()


@pytest.mark.parametrize("kind", ["probability", "real"])
def test_the_transform_has_the_same_bits_in_both(kind: str) -> None:
    rng = np.random.default_rng(45)
    x = np.concatenate([any_finite(10_000, 46), rng.uniform(size=10_000), [math.inf, -math.inf]])
    assert bits(transform(VECTOR, kind, x)) == bits([transform(SCALAR, kind, float(v)) for v in x])


def test_the_other_operations_have_the_same_bits_in_both() -> None:
    a, b = any_finite(5_000, 47), any_finite(5_000, 48)
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    assert bits(VECTOR.minimum(a, b)) == bits([SCALAR.minimum(x, y) for x, y in pairs])
    assert bits(VECTOR.maximum(a, b)) == bits([SCALAR.maximum(x, y) for x, y in pairs])
    assert bits(VECTOR.where(a > b, a, b)) == bits([SCALAR.where(x > y, x, y) for x, y in pairs])
    positive = np.abs(a)
    assert bits(VECTOR.sqrt(positive)) == bits([SCALAR.sqrt(x) for x in positive.tolist()])


def test_a_probability_is_clipped_before_its_logit() -> None:
    top = transform(SCALAR, "probability", 1.0 - PROBABILITY_FLOOR)
    bottom = transform(SCALAR, "probability", PROBABILITY_FLOOR)
    for score in (1.0, 1.5, 1e300, math.inf):
        assert transform(SCALAR, "probability", score) == top
    for score in (0.0, -0.0, 5e-324, -2.0, -math.inf):
        assert transform(SCALAR, "probability", score) == bottom
    assert top == pytest.approx(-bottom, rel=1e-9)
    assert top == pytest.approx(math.log((1 - PROBABILITY_FLOOR) / PROBABILITY_FLOOR), rel=1e-9)


def test_a_real_score_is_clipped_and_otherwise_untouched() -> None:
    for score in (math.inf, 1e300, REAL_LIMIT):
        assert transform(SCALAR, "real", score) == REAL_LIMIT
        assert transform(SCALAR, "real", -score) == -REAL_LIMIT
    for score in (0.0, 5e-324, -3.25, 1e99):
        assert transform(SCALAR, "real", score) == score


@given(p=st.floats(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR))
def test_a_probability_becomes_its_logit(p: float) -> None:
    with mpmath.workdps(50):
        exact = mpmath.mpf(p)
        wanted = float(mpmath.log(exact / (1 - exact)))
    assert transform(SCALAR, "probability", p) == pytest.approx(wanted, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("kind", ["probability", "real"])
@given(a=st.floats(allow_nan=False), b=st.floats(allow_nan=False))
def test_the_transform_never_falls_when_the_score_rises(kind: str, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert transform(SCALAR, kind, low) <= transform(SCALAR, kind, high)


def test_the_logit_never_decreases_from_one_double_to_the_next() -> None:
    p = np.random.default_rng(49).uniform(size=300_000)
    after = np.nextafter(p, 2.0)
    assert (transform(VECTOR, "probability", after) >= transform(VECTOR, "probability", p)).all()


def test_the_logarithm_of_known_doubles_has_known_bits() -> None:
    """On any machine: an alarm is decided by comparing such numbers with a stored one."""
    known = {
        0.1: "c0026bb1bbb55515",
        2.0: "3fe62e42fefa39ef",
        10.0: "40026bb1bbb55515",
        1e-06: "c02ba18a998fffa0",
        3.0: "3ff193ea7aad030a",
    }
    for x, wanted in known.items():
        assert struct.pack(">d", SCALAR.log(x)).hex() == wanted
