"""Fit the learned statistics, on trajectories that calibration will never see.

scikit-learn does the fitting; what is kept are plain numbers that the online monitor walks in
Python. The exported forest is compared with the library's own answer before it is returned, so a
library whose internals changed is refused and never quietly misread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError, MissingExtra
from tocsin.limits import PER_STEP_KNOTS, PER_STEP_TRAJECTORIES_MIN
from tocsin.model import SignalKind
from tocsin.risk.statistics import (
    ClosingCheck,
    LogOdds,
    PerStepQuantile,
    Posterior,
    Statistic,
    Tree,
)
from tocsin.risk.statistics.features import SAFE_HIGH, FeatureTable
from tocsin.risk.statistics.log_odds import forest_rows
from tocsin.risk.trajectories import Trajectories

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CLASS_MIN = 10
"""Fewest safe and fewest unsafe trajectories on which anything is fitted."""

_BINS = 64
_LEARNING_RATE = 0.1
_LEAF_MIN = 20
_RIDGE = 1.0
_EXPORT_TOLERANCE = 1e-9
_SLOPE_MIN = 1e-3


def check_fittable(safe: Bools) -> None:
    """Refuse to fit on too few trajectories of either class, with an InputError."""
    n_safe, n_unsafe = int(safe.sum()), int((~safe).sum())
    if min(n_safe, n_unsafe) < CLASS_MIN:
        raise InputError(
            f"a fitted statistic needs at least {CLASS_MIN} safe and {CLASS_MIN} unsafe "
            f"trajectories in its own split, got {n_safe} and {n_unsafe}; "
            "use 'ewma' or 'min_score', or label more"
        )


def fit_posterior(
    trajectories: Trajectories, table: FeatureTable, fit: Bools, kind: SignalKind
) -> Posterior:
    """Fit P(unsafe | prefix) on the trajectories marked in `fit`.

    Every trajectory weighs the same, whatever its length. The forest is fitted twice: then with
    half of each trajectory's weight moved to the prefixes at which the first forest found it most
    dangerous (multiple-instance reweighting), since an unsafe answer is not unsafe throughout.

    Args:
        trajectories: n of them with N steps.
        table: their features.
        fit: shape (n,), which to use; the others are not looked at.
        kind: of the signal.

    Raises:
        InputError: fewer than `CLASS_MIN` of either class.
        MissingExtra: scikit-learn is not installed.
    """
    check_fittable(trajectories.safe[fit & table.scored_final])
    rows = np.flatnonzero(fit[trajectories.owner] & table.scored)
    owner = trajectories.owner[rows]
    features, unsafe = table.steps[rows], ~trajectories.safe[owner]
    _, firsts, counts = np.unique(owner, return_index=True, return_counts=True)
    even = np.repeat(1.0 / counts, counts)
    even *= len(rows) / even.sum()
    base, trees = _fit_forest(features, unsafe, even, trees=60, leaves=8)
    danger = forest_rows(base, trees, features)
    weight = 0.5 * even + 0.5 * _softmax_within(danger, firsts, counts) * len(rows) / len(firsts)
    base, trees = _fit_forest(features, unsafe, weight, trees=60, leaves=8)
    intercept, weights = _fit_logistic(features, unsafe, even)
    model = LogOdds(intercept=intercept, weights=weights, base=base, trees=trees)
    return Posterior(kind=kind, model=model)


def fit_closing(
    trajectories: Trajectories, table: FeatureTable, fit: Bools, statistic: Statistic
) -> ClosingCheck:
    """Fit the check at the end of the output, in the units of `statistic`.

    For a posterior the units are log-odds already. For any other statistic a logistic of the label
    on its maximum, over the same fitting trajectories, gives the conversion.

    Raises:
        InputError: too few of either class, or a statistic whose maximum says nothing about danger.
        MissingExtra: scikit-learn is not installed.
    """
    check_fittable(trajectories.safe[fit & table.scored_final])
    chosen = np.flatnonzero(fit & table.scored_final)
    features, unsafe = table.final[chosen], ~trajectories.safe[chosen]
    ones = np.ones(len(chosen))
    base, trees = _fit_forest(features, unsafe, ones, trees=30, leaves=4)
    intercept, weights = _fit_logistic(features, unsafe, ones)
    model = LogOdds(intercept=intercept, weights=weights, base=base, trees=trees)
    if isinstance(statistic, Posterior):
        return ClosingCheck(model=model, intercept=0.0, slope=1.0)
    maxima = statistic.paths(trajectories, "skip", table).maxima(trajectories.starts)[chosen]
    finite = np.isfinite(maxima)
    at, slope = _fit_logistic(maxima[finite, None], unsafe[finite], ones[finite])
    if slope[0] < _SLOPE_MIN:
        raise InputError(
            f"no closing check can be fitted for {statistic.name!r}: on the fitting split its "
            "maximum is no higher for unsafe trajectories than for safe ones"
        )
    return ClosingCheck(model=model, intercept=at, slope=slope[0])


def fit_per_step_quantile(
    trajectories: Trajectories, table: FeatureTable, fit: Bools, kind: SignalKind
) -> PerStepQuantile:
    """Fit the quantiles of the safe trajectories' scores at each step; missing ones do not count.

    Steps that fewer than `PER_STEP_TRAJECTORIES_MIN` safe fitting trajectories reach share the
    quantiles of the last step that enough of them reach.

    Raises:
        InputError: when even the first step has too few.
    """
    rows = (fit & trajectories.safe)[trajectories.owner] & ~np.isnan(trajectories.scores)
    scored = np.cumsum(~np.isnan(trajectories.scores))
    before = np.append(0, scored)[trajectories.starts]
    number = (scored - before[trajectories.owner])[rows]
    x = table.steps[rows, 0]
    levels = np.linspace(0.0, 1.0, PER_STEP_KNOTS)
    order = np.argsort(number, kind="stable")
    number, x = number[order], x[order]
    knots = []
    for step in range(1, int(number.max(initial=0)) + 1):
        low, high = np.searchsorted(number, [step, step + 1])
        if high - low < PER_STEP_TRAJECTORIES_MIN:
            break
        quantiles = np.quantile(x[low:high], levels)
        knots.append(tuple(float(q) for q in np.maximum.accumulate(quantiles)))
    if not knots:
        raise InputError(
            f"'per_step_quantile' needs {PER_STEP_TRAJECTORIES_MIN} safe trajectories in its own "
            f"split, got {int((fit & trajectories.safe).sum())}"
        )
    return PerStepQuantile(kind=kind, knots=tuple(knots))


def _softmax_within(values: Floats, firsts: NDArray[np.int64], counts: NDArray[np.int64]) -> Floats:
    """Softmax of the values of each trajectory's prefixes; sums to 1 within each."""
    peak = np.repeat(np.maximum.reduceat(values, firsts), counts)
    power = np.exp(values - peak)
    return np.asarray(power / np.repeat(np.add.reduceat(power, firsts), counts))


def _fit_logistic(
    features: Floats, unsafe: Bools, weight: Floats
) -> tuple[float, tuple[float, ...]]:
    """Ridge logistic regression on standardised features, given back on the raw ones."""
    linear_model = sklearn_module("sklearn.linear_model")
    centre = np.average(features, axis=0, weights=weight)
    scale = np.sqrt(np.average((features - centre) ** 2, axis=0, weights=weight))
    scale = np.where(scale > 0.0, scale, 1.0)
    fitted = linear_model.LogisticRegression(C=1.0 / _RIDGE, max_iter=500)
    with sklearn_module("threadpoolctl").threadpool_limits(1):
        fitted.fit((features - centre) / scale, unsafe, sample_weight=weight)
    weights = fitted.coef_[0] / scale
    intercept = float(fitted.intercept_[0] - weights @ centre)
    return intercept, tuple(float(w) for w in weights)


def _fit_forest(
    features: Floats, unsafe: Bools, weight: Floats, *, trees: int, leaves: int
) -> tuple[float, tuple[Tree, ...]]:
    """Gradient-boosted trees with logistic loss, monotone in the safe-high features."""
    ensemble = sklearn_module("sklearn.ensemble")
    limits = sklearn_module("threadpoolctl").threadpool_limits
    edges = [_edges(features[:, j]) for j in range(features.shape[1])]
    codes = np.stack([np.searchsorted(e, features[:, j]) for j, e in enumerate(edges)], axis=1)
    model = ensemble.HistGradientBoostingClassifier(
        max_iter=trees,
        max_leaf_nodes=leaves,
        learning_rate=_LEARNING_RATE,
        min_samples_leaf=_LEAF_MIN,
        l2_regularization=_RIDGE,
        early_stopping=False,
        monotonic_cst=[-1 if high else 0 for high in SAFE_HIGH],
        random_state=0,
    )
    with limits(1):
        model.fit(codes.astype(np.float64), unsafe, sample_weight=weight)
        wanted = model.decision_function(codes.astype(np.float64))
    base = float(model._baseline_prediction.ravel()[0])  # noqa: SLF001 - checked below
    exported = tuple(_export(p[0].nodes, edges) for p in model._predictors)  # noqa: SLF001
    difference = np.abs(forest_rows(base, exported, features) - wanted).max(initial=0.0)
    if not difference <= _EXPORT_TOLERANCE:
        raise MissingExtra(
            f"the installed scikit-learn stores its trees differently (answers differ by "
            f"{difference:g}); install the version that tocsin[learn] names"
        )
    return base, exported


def _edges(column: Floats) -> Floats:
    """At most `_BINS` - 1 distinct cut points; a value's code is how many lie below it."""
    return np.unique(np.quantile(column, np.linspace(0.0, 1.0, _BINS + 1)[1:-1], method="lower"))


def _export(nodes: Any, edges: list[Floats]) -> Tree:
    """Rewrite thresholds on codes as thresholds on values: code <= c is value <= edges[c]."""
    leaf = nodes["is_leaf"].astype(bool)
    feature = np.where(leaf, -1, nodes["feature_idx"])
    limit = [
        0.0 if end else float(edges[int(f)][int(np.floor(t))])
        for f, t, end in zip(nodes["feature_idx"], nodes["num_threshold"], leaf, strict=True)
    ]
    return Tree(
        feature=tuple(int(f) for f in feature),
        limit=tuple(limit),
        left=tuple(int(v) for v in np.where(leaf, 0, nodes["left"])),
        right=tuple(int(v) for v in np.where(leaf, 0, nodes["right"])),
        value=tuple(float(v) for v in np.where(leaf, nodes["value"], 0.0)),
    )


def sklearn_module(module: str) -> Any:
    """Import a part of scikit-learn only when something is fitted."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtra(
            "fitting needs scikit-learn: pip install 'tocsin[learn]', or choose a statistic "
            "that needs no training (ewma, min_score)"
        ) from None
