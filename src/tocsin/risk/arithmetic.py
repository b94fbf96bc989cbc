"""Arithmetic that gives the same bits online (floats) and in a batch (arrays), on any machine.

A threshold is an observed value of a statistic, so an alarm is decided by comparing numbers that
may be equal: one unit in the last place is the difference between an alarm and none. Addition,
multiplication, division, square root and frexp are exactly rounded everywhere; the platform's
logarithm is not, hence `log` here, built from those alone (error below 3 units in the last place).
Statistics are written once against `Arithmetic` and run on either implementation.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_SERIES = tuple(1.0 / (2 * i + 1) for i in range(10, -1, -1))

PROBABILITY_FLOOR = 1e-6
"""Probabilities are clipped to [floor, 1 - floor] before the logit, so that one score of exactly 0
moves an average by a bounded amount."""

REAL_LIMIT = 1e100
"""Real scores are clipped to +-limit before averaging, so that sums and squares stay finite."""


class Arithmetic(Protocol):
    """What a statistic may use besides + - * /; `Number` is a float or an array."""

    def minimum(self, a: Any, b: Any, /) -> Any:
        """Return the smaller."""

    def maximum(self, a: Any, b: Any, /) -> Any:
        """Return the larger."""

    def where(self, condition: Any, a: Any, b: Any, /) -> Any:
        """Choose a where the condition holds, else b."""

    def sqrt(self, a: Any, /) -> Any:
        """Return the square root."""

    def log(self, a: Any, /) -> Any:
        """Return the natural logarithm of a positive number."""


class Scalar:
    """Python floats.

    Example:
        >>> SCALAR.log(1.0), round(SCALAR.log(10.0), 12)
        (0.0, 2.302585092994)
    """

    def minimum(self, a: float, b: float) -> float:
        """Return the smaller."""
        return min(b, a)

    def maximum(self, a: float, b: float) -> float:
        """Return the larger."""
        return max(b, a)

    def where(self, condition: bool, a: float, b: float) -> float:  # noqa: FBT001
        """Choose."""
        return a if condition else b

    def sqrt(self, a: float) -> float:
        """Return the square root."""
        return math.sqrt(a)

    def log(self, a: float) -> float:
        """Return the natural logarithm, by frexp and the odd series of atanh."""
        mantissa, exponent = math.frexp(a)
        if mantissa < _SQRT_HALF:
            mantissa, exponent = mantissa * 2.0, exponent - 1
        f = (mantissa - 1.0) / (mantissa + 1.0)
        s = f * f
        p = 0.0
        for c in _SERIES:
            p = p * s + c
        return exponent * _LN2 + 2.0 * f * p


SCALAR = Scalar()


def transform(ops: Arithmetic, kind: str, score: Any) -> Any:
    """Turn a safe-high score into the safe-high number that statistics average.

    A probability becomes its logit, log(p / (1 - p)), after clipping to
    [`PROBABILITY_FLOOR`, 1 - `PROBABILITY_FLOOR`]; a real score is clipped to +-`REAL_LIMIT`.

    Example:
        >>> transform(SCALAR, "probability", 0.5), transform(SCALAR, "real", -3.0)
        (0.0, -3.0)
    """
    if kind == "probability":
        p = ops.minimum(ops.maximum(score, PROBABILITY_FLOOR), 1.0 - PROBABILITY_FLOOR)
        return ops.log(p / (1.0 - p))
    return ops.minimum(ops.maximum(score, -REAL_LIMIT), REAL_LIMIT)
