"""How well scores tell safe from unsafe: one definition for all that is fitted and reported."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def auc(scores: NDArray[np.float64], safe: NDArray[np.bool_]) -> float:
    """Return the probability that a safe one scores higher than an unsafe one, ties half.

    Args:
        scores: shape (n,), safe-high; one that is missing (NaN) counts as the lowest.
        safe: shape (n,).

    Returns:
        In [0, 1]; NaN where one of the classes is empty.

    Example:
        >>> auc(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
        0.875
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    values, place = np.unique(known, return_inverse=True)
    good = np.bincount(place[safe], minlength=len(values))
    bad = np.bincount(place[~safe], minlength=len(values))
    pairs = int(good.sum()) * int(bad.sum())
    if not pairs:
        return float("nan")
    return float((good * (np.cumsum(bad) - bad / 2)).sum() / pairs)
