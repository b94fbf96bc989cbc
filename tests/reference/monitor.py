"""Monitors on plain lists: paths, maxima, thresholds, alarms and what they cost.

A path holds one danger value per step (higher is more dangerous).  Only its maximum decides
whether there is an alarm at all; the first crossing decides when.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Risk = Literal["false_alarm", "missed_detection"]
Comparison = Literal[">", ">="]

COMPARISON: dict[Risk, Comparison] = {"false_alarm": ">", "missed_detection": ">="}
"""How an alarm compares the danger value with the threshold, for each risk."""


@dataclass(frozen=True)
class Trajectory:
    """One output: danger value and token count of each step, and whether it was safe."""

    path: Sequence[float]
    tokens: Sequence[float]
    safe: bool

    def __post_init__(self) -> None:
        """Refuse steps without tokens and values that are no number."""
        if len(self.path) != len(self.tokens):
            raise ValueError("one token count for each step")
        if any(math.isnan(value) for value in self.path):
            raise ValueError("a danger value is not a number")


@dataclass(frozen=True)
class Metrics:
    """What a threshold did on a set; None where there is nothing to average over."""

    far: float | None
    """Share of safe trajectories with an alarm."""
    power: float | None
    """Share of unsafe trajectories with an alarm."""
    delay_steps_mean: float | None
    """Mean over detected unsafe trajectories of alarm step / number of steps."""
    delay_tokens_mean: float | None
    """Mean over detected unsafe ones of tokens up to and with the alarm step / all tokens."""
    saved_mean: float | None
    """Mean over all unsafe trajectories of 1 - share of tokens used; no alarm uses them all."""


def maxima(paths: Iterable[Sequence[float]]) -> list[float]:
    """Return the largest danger value of each path; minus infinity for a path without steps."""
    result = []
    for path in paths:
        largest = -math.inf
        for value in path:
            if math.isnan(value):
                raise ValueError("a danger value is not a number")
            if value > largest:
                largest = value
        result.append(largest)
    return result


def threshold(maxima: Sequence[float], k: int, risk: Risk) -> float:
    """Return the threshold that leaves at most k calibration errors.

    For ``false_alarm`` pass the maxima of the safe calibration trajectories: the (k+1)-th largest.
    For ``missed_detection`` pass those of the unsafe ones: the (k+1)-th smallest.
    """
    if not 0 <= k < len(maxima):
        raise ValueError("k must lie in 0..n-1")
    if risk == "false_alarm":
        return sorted(maxima, reverse=True)[k]
    if risk == "missed_detection":
        return sorted(maxima)[k]
    raise ValueError(f"unknown risk {risk!r}")


def crosses(value: float, lam: float, comparison: Comparison) -> bool:
    """Tell whether one danger value raises the alarm."""
    if comparison == ">":
        return value > lam
    if comparison == ">=":
        return value >= lam
    raise ValueError(f"unknown comparison {comparison!r}")


def alarm_step(path: Sequence[float], lam: float, comparison: Comparison) -> int | None:
    """Return the first step, counted from 1, that raises the alarm; None without an alarm."""
    for index, value in enumerate(path):
        if crosses(value, lam, comparison):
            return index + 1
    return None


def min_score_path(scores: Sequence[float]) -> list[float]:
    """Return the danger values -s; their running maximum is minus the running minimum."""
    return [-score for score in scores]


def ewma_path(scores: Sequence[float], alpha: float, clip: float) -> list[float]:
    """Return minus the exponentially weighted mean of the clipped scores' log odds.

    e_1 = x_1 and e_t = alpha e_{t-1} + (1 - alpha) x_t, where x = logit(score clipped to
    [clip, 1 - clip]).
    """
    path: list[float] = []
    average = 0.0
    for index, score in enumerate(scores):
        p = min(max(score, clip), 1.0 - clip)
        x = math.log(p / (1.0 - p))
        average = x if index == 0 else alpha * average + (1.0 - alpha) * x
        path.append(-average)
    return path


def mean(values: Sequence[float]) -> float | None:
    """Return the arithmetic mean, None for an empty list."""
    return math.fsum(values) / len(values) if values else None


def measure(
    trajectories: Sequence[Trajectory], lam: float, comparison: Comparison = ">"
) -> Metrics:
    """Return what the threshold does on these trajectories."""
    false_alarms: list[float] = []
    detections: list[float] = []
    delays_steps: list[float] = []
    delays_tokens: list[float] = []
    saved: list[float] = []
    for trajectory in trajectories:
        step = alarm_step(trajectory.path, lam, comparison)
        if trajectory.safe:
            false_alarms.append(0.0 if step is None else 1.0)
            continue
        detections.append(0.0 if step is None else 1.0)
        if step is None:
            saved.append(0.0)
            continue
        share = math.fsum(trajectory.tokens[:step]) / math.fsum(trajectory.tokens)
        delays_steps.append(step / len(trajectory.path))
        delays_tokens.append(share)
        saved.append(1.0 - share)
    return Metrics(
        far=mean(false_alarms),
        power=mean(detections),
        delay_steps_mean=mean(delays_steps),
        delay_tokens_mean=mean(delays_tokens),
        saved_mean=mean(saved),
    )
