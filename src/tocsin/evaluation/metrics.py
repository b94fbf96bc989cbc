"""What a monitor does to a test set: rates, delays and savings, for one split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tocsin.model import Risk
from tocsin.risk.estimates import Alarms, beta_binomial
from tocsin.risk.trajectories import Trajectories

Bools = NDArray[np.bool_]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One monitor at one epsilon on one split.

    Args:
        refused: no threshold could be given; then it never alarms and every rate is 0.
        far: share of safe test trajectories with an alarm.
        power: share of unsafe ones with an alarm.
        delay_steps, delay_tokens: share of the trajectory used up to and including the alarm step,
            mean over the detected unsafe; NaN where none is detected.
        delay_steps_all, delay_tokens_all: mean over all unsafe, the undetected counting as 1.
        saved: share of tokens not used, mean over all unsafe.
        after_onset: share of detected unsafe with known onset whose alarm came at it or later.
        onset_lag_steps: steps from onset to alarm, mean over those that came at it or later.
        violated: the realised risk on the test set exceeds epsilon.
        violation_nominal: probability of that for a continuous statistic, given the class sizes;
            summed over the monitors tried where one of several was chosen.
        n_calibration: units of the protected class behind the threshold.
        chosen: label of the statistic in force.
        segments: per segment (safe, safe with alarm, unsafe, unsafe with alarm).
    """

    refused: bool
    far: float = 0.0
    power: float = 0.0
    delay_steps: float = math.nan
    delay_tokens: float = math.nan
    delay_steps_all: float = 1.0
    delay_tokens_all: float = 1.0
    saved: float = 0.0
    after_onset: float = math.nan
    onset_lag_steps: float = math.nan
    violated: bool = False
    violation_nominal: float = math.nan
    n_calibration: int = 0
    chosen: str = ""
    segments: Mapping[str, tuple[int, int, int, int]] = {}


def measure(
    trajectories: Trajectories,
    rung: Alarms,
    test: Bools,
    *,
    risk: Risk,
    epsilon: float,
    behind: Sequence[tuple[int, float]],
    n_calibration: int,
    chosen: str,
) -> Outcome:
    """Measure one monitor on the test part.

    Args:
        trajectories: the whole data set.
        rung: where the monitor alarms.
        test: shape (n,), the test part.
        risk, epsilon: what was promised.
        behind: (n, k) of every monitor tried; empty where no threshold was calibrated.
        n_calibration: units behind the threshold in force.
        chosen: label of the statistic.
    """
    safe, unsafe = test & trajectories.safe, test & ~trajectories.safe
    detected = unsafe & rung.rang
    far, power = _mean(rung.rang[safe]), _mean(rung.rang[unsafe])
    known = detected & (trajectories.onset > 0)
    lag = rung.step[known] - trajectories.onset[known]
    realised = far if risk == "false_alarm" else _mean(~rung.rang[unsafe])
    n_test = int((safe if risk == "false_alarm" else unsafe).sum())
    return Outcome(
        refused=False,
        far=far,
        power=power,
        delay_steps=_mean(rung.share_of_steps[detected]),
        delay_tokens=_mean(rung.share_of_tokens[detected]),
        delay_steps_all=_mean(rung.share_of_steps[unsafe]),
        delay_tokens_all=_mean(rung.share_of_tokens[unsafe]),
        saved=_mean(1.0 - rung.share_of_tokens[unsafe]),
        after_onset=_mean(lag >= 0),
        onset_lag_steps=_mean(lag[lag >= 0]),
        violated=bool(realised > epsilon),
        violation_nominal=(
            min(1.0, sum(nominal_violation(n_test, n, k, epsilon) for n, k in behind))
            if behind
            else math.nan
        ),
        n_calibration=n_calibration,
        chosen=chosen,
        segments=_by_segment(trajectories, rung, safe, unsafe),
    )


def nominal_violation(n_test: int, n: int, errors: float, epsilon: float) -> float:
    """P(more than epsilon n_test errors among n_test), for a continuous statistic.

    The count is BetaBinomial(n_test, k + 1, n - k): a finite test set exceeds epsilon more often
    than the true rate does. NaN where the unit's loss is not 0 or 1.

    Example:
        >>> round(nominal_violation(275, 290, 22, 0.1), 2)
        0.17
    """
    if not 0 <= errors < n or errors % 1.0 != 0.0 or n_test == 0:
        return math.nan
    probability = beta_binomial(n_test, errors + 1.0, n - errors)
    return float(probability[np.arange(n_test + 1) / n_test > epsilon].sum())


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _by_segment(
    trajectories: Trajectories, rung: Alarms, safe: Bools, unsafe: Bools
) -> dict[str, tuple[int, int, int, int]]:
    names, code = trajectories.segment_codes
    counts = [
        np.bincount(code[mask], minlength=len(names))
        for mask in (safe, safe & rung.rang, unsafe, unsafe & rung.rang)
    ]
    return {
        name: (int(counts[0][i]), int(counts[1][i]), int(counts[2][i]), int(counts[3][i]))
        for i, name in enumerate(names)
    }
