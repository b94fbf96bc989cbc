"""The vocabulary: small frozen structs that every floor shares.

Signals are safe-high (a higher score means safer); statistics are danger-high (a higher value
means more dangerous). Nothing here imports NumPy, so that a monitor starts fast.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import msgspec

Risk = Literal["false_alarm", "missed_detection"]
"""false_alarm: alarm on a safe trajectory. missed_detection: no alarm on an unsafe one."""

Bound = Literal["crc", "exact", "hoeffding_bentkus"]
"""How the number of calibration errors that may be allowed is derived from epsilon and delta."""

Comparison = Literal[">", ">="]
"""The monitor alarms when ``statistic <comparison> threshold``."""

MissingPolicy = Literal["skip", "worst", "error"]
"""What a missing score (NaN, a verifier time-out) does: nothing, an alarm, or an error."""

SignalKind = Literal["probability", "real"]
"""A probability of being safe, or any real number; both safe-high."""

Objective = Literal["power", "saved", "balanced"]
"""What learn-then-test optimises among monitors that all keep the guarantee."""

Unit = Literal["trajectory", "one_per_group", "cluster_mean"]
"""The exchangeable unit: every trajectory, one drawn from each group, or the group's mean loss."""

RISKS: tuple[Risk, ...] = ("false_alarm", "missed_detection")
BOUNDS: tuple[Bound, ...] = ("crc", "exact", "hoeffding_bentkus")
COMPARISON: dict[Risk, Comparison] = {"false_alarm": ">", "missed_detection": ">="}
PROTECTED_CLASS: dict[Risk, str] = {"false_alarm": "safe", "missed_detection": "unsafe"}


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a verifier's score means; part of a calibration's identity.

    Args:
        kind: ``"probability"`` (of being safe, in [0, 1]) or ``"real"`` (any real number). Both
            are safe-high.
        verifier: name of the verifier, or ``"unspecified"``.
        verifier_version: its version, or ``"unspecified"``.
        step_definition: what one step is (``"line"``, ``"turn"``, ...), or ``"unspecified"``.

    Example:
        >>> Signal(verifier="math-shepherd", step_definition="line").kind
        'probability'
    """

    kind: SignalKind = "probability"
    verifier: str = "unspecified"
    verifier_version: str = "unspecified"
    step_definition: str = "unspecified"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor says after one step, or after the end of the output.

    Args:
        step: steps seen so far, 1-based; the closing decision repeats the last step.
        alarm: True from the step at which the monitor rang, for ever (latched).
        rang: True only on the decision at which the alarm first rang.
        alarm_step: step at which it rang, or None.
        statistic: the statistic here (danger-high); None before the first usable score.
        threshold: lambda, in the units of the statistic.
        comparison: the alarm rings when ``statistic <comparison> threshold``.
        closing: True when this is the decision taken at the end of the output.
        missing: True when this step had no usable score.
    """

    step: int
    alarm: bool
    rang: bool
    alarm_step: int | None
    statistic: float | None
    threshold: float
    comparison: Comparison
    closing: bool = False
    missing: bool = False


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag="refusal", forbid_unknown_fields=True):
    """Why no threshold can be given: a value, not an exception.

    Args:
        bound, epsilon, delta: what was asked; delta is None for `crc`.
        n: trajectories (or groups) of the protected class at hand.
        n_needed: the fewest that could support epsilon and delta.
        epsilon_smallest: the smallest epsilon that n supports (1.0 when n is 0).
        protected: ``"safe"`` or ``"unsafe"``.
        reason: set when something else than n is the matter.
    """

    bound: Bound
    epsilon: float
    delta: float | None
    n: int
    n_needed: int
    epsilon_smallest: float
    protected: str = "safe"
    reason: str = ""

    def sentence(self) -> str:
        """Say it to a person.

        Example:
            >>> r = Refusal(
            ...     bound="exact",
            ...     epsilon=0.01,
            ...     delta=0.1,
            ...     n=120,
            ...     n_needed=230,
            ...     epsilon_smallest=0.01901,
            ... )
            >>> print(r.sentence().split(" (")[0])
            epsilon = 0.01 needs at least 230 safe trajectories at delta = 0.1, you have 120
        """
        if self.reason:
            return self.reason
        at = "" if self.delta is None else f" at delta = {self.delta:g}"
        head = (
            f"epsilon = {self.epsilon:g} needs at least {self.n_needed} {self.protected} "
            f"trajectories{at}, you have {self.n}"
        )
        if self.n == 0:
            return f"{head} (bound {self.bound}). Label some {self.protected} trajectories."
        return (
            f"{head} (bound {self.bound}); the smallest epsilon for {self.n} is "
            f"{_round_up(self.epsilon_smallest)}. Label more, or ask for less."
        )


def _round_up(value: float) -> str:
    """Three significant digits, never below the value, so that what is printed can be used.

    More digits where three would round up to 1, which is no level.
    """
    exact = Fraction(repr(value))
    for digits in range(3, 18):
        exponent = math.floor(math.log10(value)) + 1 - digits
        rounded = math.ceil(exact / Fraction(10) ** exponent) * Fraction(10) ** exponent
        if rounded < 1:
            return f"{float(rounded):.{digits}g}"
    return repr(value)
