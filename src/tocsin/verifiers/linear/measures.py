"""How good scores are: ranking, calibration, and how both are written into a card."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin.verifiers import separation

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_DIGITS = 4
_BINS = 10


def auc(scores: Floats, safe: Bools) -> float | None:
    """Return `separation.auc` as a card tells it: rounded, None without both classes.

    Example:
        >>> auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
        0.875
    """
    found = separation.auc(scores, safe)
    return None if math.isnan(found) else round(found, _DIGITS)


def by_place(scores: Floats, starts: Ints, safe: Bools) -> dict[str, float | None]:
    """Return the AUC of the first, the lowest and the last score of each trajectory.

    Args:
        scores: shape (rows,), safe-high.
        starts: shape (n + 1,).
        safe: shape (n,).
    """
    return {
        "first": auc(scores[starts[:-1]], safe),
        "min": auc(lowest(scores, starts), safe),
        "last": auc(scores[starts[1:] - 1], safe),
    }


def lowest(scores: Floats, starts: Ints) -> Floats:
    """Return the lowest score of each trajectory, shape (n,)."""
    return np.asarray(np.minimum.reduceat(scores, starts[:-1]))


def calibration(probability: Floats, safe: Bools) -> dict[str, Any]:
    """Return Brier score, expected calibration error and the table behind it.

    Brier (1950): the mean of (p - y)^2; `brier_of_share` is what the share of safe ones alone
    would get. The calibration error is the mean over ten bins of equal width, by their sizes, of
    the distance between mean probability and share of safe ones (Naeini et al. 2015, eq. 3).

    Example:
        >>> calibration(np.array([0.25, 0.75]), np.array([False, True]))["brier"]
        0.0625
    """
    truth = safe.astype(np.float64)
    where = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    bins, error = [], 0.0
    for number in range(_BINS):
        inside = where == number
        if inside.any():
            said, found = float(probability[inside].mean()), float(truth[inside].mean())
            error += abs(said - found) * int(inside.sum()) / len(truth)
            bins.append([int(inside.sum()), round(said, _DIGITS), round(found, _DIGITS)])
    share = float(truth.mean())
    return {
        "brier": round(float(((probability - truth) ** 2).mean()), _DIGITS),
        "brier_of_share": round(share * (1 - share), _DIGITS),
        "ece": round(error, _DIGITS),
        "bins": bins,
    }
