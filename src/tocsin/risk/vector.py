"""The array side of `tocsin.risk.arithmetic`: the same operations, bit for bit, on NumPy arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tocsin.risk.arithmetic import _LN2, _SERIES, _SQRT_HALF

Floats = NDArray[np.float64]


class Vector:
    """NumPy arrays of float64.

    Example:
        >>> from tocsin.risk.arithmetic import SCALAR
        >>> x = np.geomspace(1e-12, 1e12, 1001)
        >>> bool((VECTOR.log(x) == [SCALAR.log(float(v)) for v in x]).all())
        True
    """

    def minimum(self, a: Floats, b: Floats | float) -> Floats:
        """Return the smaller, elementwise."""
        return np.minimum(a, b)

    def maximum(self, a: Floats, b: Floats | float) -> Floats:
        """Return the larger, elementwise."""
        return np.maximum(a, b)

    def where(self, condition: NDArray[np.bool_], a: Floats | float, b: Floats | float) -> Floats:
        """Choose, elementwise."""
        return np.where(condition, a, b)

    def sqrt(self, a: Floats) -> Floats:
        """Return the square root, elementwise."""
        return np.sqrt(a)

    def log(self, a: Floats) -> Floats:
        """Return the natural logarithm, as `Scalar.log` does."""
        mantissa, exponent = np.frexp(a)
        small = mantissa < _SQRT_HALF
        mantissa = np.where(small, mantissa * 2.0, mantissa)
        exponent = exponent - small
        f = (mantissa - 1.0) / (mantissa + 1.0)
        s = f * f
        p = np.zeros_like(f)
        for c in _SERIES:
            p = p * s + c
        return np.asarray(exponent * _LN2 + 2.0 * f * p, dtype=np.float64)


VECTOR = Vector()
