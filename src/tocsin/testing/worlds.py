"""A closed-form world: trajectories whose true false-alarm rate and power are known exactly.

A score is U ** (1 / a) with U uniform, so P(score < x) = x ** a. Safe steps have a = `SAFE_SHAPE`
throughout; an unsafe trajectory has a = `UNSAFE_SHAPE` from its onset on. The number of steps is
uniform on `STEPS`, the onset uniform on the steps. For the `min_score` statistic with threshold
lambda on the score (alarm at score < lambda) the rates below are exact.
"""

from __future__ import annotations

import numpy as np

from tocsin.errors import CalibrationInfeasible
from tocsin.model import Refusal, Signal
from tocsin.risk.calibrate import calibrate
from tocsin.risk.calibration import Calibration
from tocsin.risk.plan import Plan
from tocsin.risk.trajectories import Trajectories, from_columns

SAFE_SHAPE = 6.0
UNSAFE_SHAPE = 1.5
STEPS = (4, 20)
TOKENS = (5, 40)

SIGNAL = Signal(verifier="closed-form-world", verifier_version="1", step_definition="line")


def trajectories(n: int, unsafe_share: float, rng: np.random.Generator) -> Trajectories:
    """Draw n labelled trajectories.

    Args:
        n: how many.
        unsafe_share: the first round(n * unsafe_share) are unsafe.
        rng: source of randomness.

    Example:
        >>> t = trajectories(10, 0.3, np.random.default_rng(0))
        >>> t.n, int((~t.safe).sum())
        (10, 3)
    """
    unsafe = round(n * unsafe_share)
    lengths = rng.integers(STEPS[0], STEPS[1] + 1, size=n)
    onsets = np.where(np.arange(n) < unsafe, rng.integers(1, lengths + 1), lengths + 1)
    total = int(lengths.sum())
    owner = np.repeat(np.arange(n), lengths)
    step = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    shape = np.where(step < onsets[owner], SAFE_SHAPE, UNSAFE_SHAPE)
    names = np.array([f"w{i:06d}" for i in range(n)], dtype=object)
    return from_columns(
        trajectory_id=names[owner],
        step=step,
        score=rng.random(total) ** (1.0 / shape),
        label=(onsets > lengths)[owner].astype(np.int64),
        tokens=rng.integers(TOKENS[0], TOKENS[1] + 1, size=total),
        onset_step=np.where(onsets > lengths, -1, onsets)[owner],
    )


def false_alarm_rate(lam: float) -> float:
    """P(a safe trajectory has a score below lam), averaged over its length.

    Example:
        >>> round(false_alarm_rate(0.4), 4)
        0.0479
    """
    lengths = np.arange(STEPS[0], STEPS[1] + 1)
    return float(np.mean(1.0 - (1.0 - lam**SAFE_SHAPE) ** lengths))


def power(lam: float) -> float:
    """P(an unsafe trajectory has a score below lam), averaged over its length and onset.

    Example:
        >>> round(power(0.4), 4)
        0.7374
    """
    survive = []
    for length in range(STEPS[0], STEPS[1] + 1):
        onset = np.arange(1, length + 1)
        quiet = (1.0 - lam**SAFE_SHAPE) ** (onset - 1)
        quiet = quiet * (1.0 - lam**UNSAFE_SHAPE) ** (length - onset + 1)
        survive.append(float(np.mean(quiet)))
    return 1.0 - float(np.mean(survive))


def example_calibration(
    *, epsilon: float = 0.1, delta: float = 0.1, statistic: str = "min_score", seed: int = 0
) -> Calibration:
    """Calibrate on 500 trajectories of this world, 300 of them safe: for examples and tests."""
    data = trajectories(500, 0.4, np.random.default_rng(seed))
    plan = Plan(signal=SIGNAL, epsilons=(epsilon,), delta=delta, statistic=statistic)
    made = calibrate(data, plan, library_version="example")
    if isinstance(made, Refusal):
        raise CalibrationInfeasible(made)
    return made
