"""The monitors of e-valuator (arXiv 2512.03109), for comparison only.

One logistic model per step estimates the density ratio of the scores so far, unsafe over safe; the
monitor alarms where it is large. What is computed is what the authors' package computes, e-valuator
1.0.0 with its logistic models, but a step at a time over all trajectories instead of row by row.

The anytime variant (`ville_threshold`) would bound false alarms by Ville's inequality if the ratio
were the true one. It is an estimate, on the very trajectories that also stand for the calibration,
so the bound is only as valid as the estimate. The PAC variant (`pac_threshold`) calibrates on
trajectories that the ratio was not fitted on, and keeps the guarantee whatever the ratio is worth.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from tocsin.errors import InputError
from tocsin.model import Refusal
from tocsin.risk.fitting import sklearn_module
from tocsin.risk.threshold import order_statistic_threshold
from tocsin.risk.trajectories import Bools, Floats, Ints, Trajectories

CLASS_MIN = 5
"""Fewest trajectories of either class that reach a step, for that step to have a model."""

NO_ALARM = -1
"""Stands for the step of an alarm that was never raised."""

_ITERATIONS = 200
_PROBABILITY_MIN = 1e-6


@dataclass(frozen=True, eq=False)
class StepModel:
    """Log-odds of being safe given the first t scores.

    Args:
        centre, scale, weights: shape (t,); the log-odds are the intercept plus the sum of
            weights times (score - centre) / scale.
        intercept: of the log-odds.
    """

    centre: Floats
    scale: Floats
    weights: Floats
    intercept: float

    def unsafe_odds(self, prefixes: Floats) -> Floats:
        """Odds of being unsafe given prefixes of shape (m, t); shape (m,).

        Equal prefixes get equal bits wherever they stand: a score that ties with the one that set
        the threshold must not pass it by a rounding error, as it could after a matrix product.
        """
        terms = (prefixes - self.centre) / self.scale * self.weights
        safe = expit(terms.sum(axis=1) + self.intercept)
        low, high = _PROBABILITY_MIN, 1.0 - _PROBABILITY_MIN
        return np.asarray(np.clip(1.0 - safe, low, high) / np.clip(safe, low, high))


@dataclass(frozen=True, eq=False)
class DensityRatio:
    """The estimated density ratio of the scores so far, unsafe over safe: danger-high.

    Args:
        models: those of steps 1, 2, ... up to the last that enough trajectories of both classes
            reach; fewer reach a later step, so none has a model after the first without.
        safe_share: share of safe trajectories among those fitted on.
    """

    models: tuple[StepModel, ...]
    safe_share: float

    def paths(self, trajectories: Trajectories) -> Floats:
        """Return the ratio at every step, shape (N,).

        After the last model its ratio is repeated; without any model the ratio is 1.

        Raises:
            InputError: a score is missing or infinite; the message names the trajectory.
        """
        _check_complete(trajectories)
        ratios = np.ones(trajectories.n_steps)
        if not self.models:
            return ratios
        safe_odds = self.safe_share / (1.0 - self.safe_share)
        for step, model in enumerate(self.models, start=1):
            starts = trajectories.starts[trajectories.lengths >= step]
            prefixes = trajectories.scores[starts[:, None] + np.arange(step)]
            ratios[starts + (step - 1)] = model.unsafe_odds(prefixes) * safe_odds
        number = trajectories.step_number
        return ratios[np.arange(len(ratios)) - np.maximum(number - len(self.models), 0)]


def fit_density_ratio(trajectories: Trajectories, index: Ints | Bools) -> DensityRatio | None:
    """Fit the models on the chosen trajectories; None where the first step has too few of a class.

    The cost is quadratic in the length of the trajectories: each model looks at the whole prefix.

    Args:
        trajectories: n of them.
        index: which to fit on, as an index or a mask; the others are not looked at.

    Returns:
        The ratio, or None with fewer than `CLASS_MIN` safe or unsafe trajectories.

    Raises:
        InputError: a score is missing or infinite; the message names the trajectory.
        MissingExtra: scikit-learn is not installed.
    """
    chosen = trajectories.take(index)
    _check_complete(chosen)
    if not _enough(chosen.safe):
        return None
    sklearn = sklearn_module("sklearn")
    quiet = sklearn_module("sklearn.exceptions").ConvergenceWarning
    scaler = sklearn_module("sklearn.preprocessing").StandardScaler()
    logistic = sklearn_module("sklearn.linear_model").LogisticRegression(max_iter=_ITERATIONS)
    models = []
    with (
        sklearn_module("threadpoolctl").threadpool_limits(1),
        sklearn.config_context(assume_finite=True, skip_parameter_validation=True),
        warnings.catch_warnings(),
    ):
        # The package stops after as many iterations, converged or not, and so does this.
        warnings.simplefilter("ignore", quiet)
        for step in range(1, int(chosen.lengths.max()) + 1):
            reaches = chosen.lengths >= step
            safe = chosen.safe[reaches]
            if not _enough(safe):
                break  # no later step has more of either class
            prefixes = chosen.scores[chosen.starts[reaches][:, None] + np.arange(step)]
            logistic.fit(scaler.fit_transform(prefixes), safe.astype(np.int64))
            models.append(
                StepModel(
                    centre=scaler.mean_,
                    scale=scaler.scale_,
                    weights=logistic.coef_[0],
                    intercept=float(logistic.intercept_[0]),
                )
            )
    return DensityRatio(models=tuple(models), safe_share=float(np.mean(chosen.safe)))


def ville_threshold(epsilon: float) -> float:
    """Return 1 / epsilon; the monitor alarms strictly above it.

    With the true ratio, P(it ever exceeds this | safe) <= epsilon, at any horizon.

    Example:
        >>> ville_threshold(0.05)
        20.0
    """
    _check_epsilon(epsilon)
    return 1.0 / epsilon


def pac_threshold(
    ratios: Floats, calibration: Trajectories, epsilon: float, delta: float
) -> tuple[float, int] | Refusal:
    """(lambda, k) of the PAC variant, or a Refusal; the monitor alarms strictly above lambda.

    The package takes the smallest rank r with P(Bin(n, 1 - epsilon) >= r) <= delta, and the r-th
    smallest maximum. That is our bound ``"exact"`` with k = n - r: the largest k with
    P(Bin(n, epsilon) <= k) <= delta, and the (k+1)-th largest. Where n is too small the package
    answers infinity, and 0.0 (an alarm for everybody) for n = 0; this answers a Refusal.

    Args:
        ratios: shape (N,), `DensityRatio.paths` of `calibration`.
        calibration: trajectories that the ratio was not fitted on.
        epsilon, delta: P(false-alarm rate <= epsilon) >= 1 - delta; see `package_levels`.
    """
    maxima = np.maximum.reduceat(ratios, calibration.starts) if calibration.n else ratios
    return order_statistic_threshold(
        maxima[calibration.safe], "exact", epsilon, delta, "false_alarm", "safe"
    )


def package_levels(epsilon: float, delta: float) -> tuple[float, tuple[float, float]]:
    """Return the package's `alpha` and `alpha_delta_weights` for our epsilon and delta.

    The package is told one level alpha for the false-alarm rate on average, which it splits into
    epsilon = w0 * alpha and delta = w1 * alpha. So P(false-alarm rate <= epsilon) >= 1 - delta is
    alpha = epsilon + delta with each one's share as its weight.

    Raises:
        InputError: epsilon or delta is not positive, or their sum not below 1.

    Example:
        >>> package_levels(0.25, 0.25)
        (0.5, (0.5, 0.5))
    """
    alpha = epsilon + delta
    if not (epsilon > 0.0 and delta > 0.0 and alpha < 1.0):
        raise InputError(
            "e-valuator needs epsilon and delta above 0 with a sum below 1, got "
            f"{epsilon!r} and {delta!r}"
        )
    return alpha, (epsilon / alpha, delta / alpha)


def alarm_steps(trajectories: Trajectories, values: Floats, threshold: Floats | float) -> Ints:
    """Return the first step (1-based) of each trajectory strictly above, shape (n,), or `NO_ALARM`.

    Args:
        trajectories: n of them with N steps.
        values: shape (N,), danger-high.
        threshold: one number, or one for each step, shape (N,).
    """
    number = trajectories.step_number
    never = int(trajectories.lengths.max(initial=0)) + 1
    at = np.where(values > threshold, number, never)
    first = np.minimum.reduceat(at, trajectories.starts) if trajectories.n else at
    return np.where(first == never, NO_ALARM, first)


def rand_ville_alarm_steps(
    trajectories: Trajectories, ratios: Floats, epsilon: float, uniforms: Floats
) -> Ints:
    """Return the first alarm of the randomised variant, as `alarm_steps` does.

    The threshold is 1 / epsilon, and U / epsilon at the final step: more power at the same bound,
    in return for a coin and for knowing which step is final. So it can only be had offline.

    Args:
        trajectories: n of them with N steps.
        ratios: shape (N,), `DensityRatio.paths` of them.
        epsilon: the bound on false alarms, were the ratio true.
        uniforms: shape (n,), U of each trajectory, drawn uniformly from [0, 1].

    Raises:
        InputError: epsilon outside (0, 1), or uniforms of another shape or outside [0, 1].
    """
    _check_epsilon(epsilon)
    if uniforms.shape != (trajectories.n,) or not ((uniforms >= 0) & (uniforms <= 1)).all():
        raise InputError(
            f"{trajectories.n} trajectories need as many uniform numbers in [0, 1], got an array "
            f"of shape {uniforms.shape}"
        )
    threshold = np.full(trajectories.n_steps, 1.0 / epsilon)
    threshold[trajectories.starts + trajectories.lengths - 1] = uniforms / epsilon
    return alarm_steps(trajectories, ratios, threshold)


def _enough(safe: Bools) -> bool:
    """Whether both classes have what a model needs."""
    return min(int(safe.sum()), int((~safe).sum())) >= CLASS_MIN


def _check_complete(trajectories: Trajectories) -> None:
    """Refuse scores that are missing or infinite: a logistic model has no place for them."""
    bad = np.flatnonzero(~np.isfinite(trajectories.scores))
    if len(bad):
        row = int(bad[0])
        name = trajectories.ids[trajectories.owner[row]]
        what = "missing" if np.isnan(trajectories.scores[row]) else "infinite"
        raise InputError(
            f"trajectory {name!r}, step {trajectories.step_number[row]}: the score is {what}; "
            "e-valuator needs complete scores, so leave such trajectories out of the comparison"
        )


def _check_epsilon(epsilon: float) -> None:
    if not 0.0 < epsilon < 1.0:
        raise InputError(f"epsilon must lie strictly between 0 and 1, got {epsilon!r}")
