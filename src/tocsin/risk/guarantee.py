"""The guarantee in words and numbers: what a certificate promises, and what would break it.

Nothing is printed here that the data at hand does not back.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from tocsin.errors import InputError
from tocsin.model import PROTECTED_CLASS, Bound, Refusal, Unit
from tocsin.risk.bounds import allowed_errors, n_needed
from tocsin.risk.calibration import Calibration, Certificate
from tocsin.risk.estimates import beta_binomial_interval, clopper_pearson

FORECAST_OUTPUTS = 1_000
_ROUNDING = 1e-12

BREAKS: tuple[str, ...] = (
    (
        "The scores of future outputs follow another law: another model, verifier, prompt mix or "
        "attack. Recalibrate on traffic like the traffic to be watched."
    ),
    (
        "Labels are wrong in a way that depends on the score. With 5 % of the labels wrong exactly "
        "where label and score disagree, the true rate exceeded epsilon in 76 % of draws; labels "
        "wrong at random mostly cost power."
    ),
    "Prompts or users repeat: then the group is the unit, not the response. Give `group`.",
    (
        "Calibration logs were cut short by earlier alarms, or by another token limit than in "
        "deployment. Calibrate on complete outputs only."
    ),
    (
        "The statistic, epsilon or segment was picked after looking at calibration outcomes, other "
        "than by `auto` or among the certified points."
    ),
    "A missing score is treated otherwise in deployment than in calibration.",
)
"""Conditions under which the promise does not hold, most common first."""


_UNITS: dict[Unit, str] = {
    "trajectory": "{protected} trajectories",
    "one_per_group": "groups with {protected} trajectories, one drawn from each",
    "cluster_mean": "groups with {protected} trajectories, by their mean loss",
}


class Guarantee(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate, ready to be read by a person.

    Args:
        certificate: what is promised.
        verifier: name of the verifier.
        unit: the exchangeable unit.
        groups_repeat: some group has several trajectories.
        monitors_tried: how many competed for it.
        expected_rate: expected true rate of the protected error, (k + 1) / (n + 1); an upper
            limit when the statistic has ties. None for `cluster_mean`.
        forecast: 90 % interval of that error's count among the next 1,000 outputs of the
            protected class, BetaBinomial(1000, k + 1, n - k); None for `cluster_mean`.
        power_low, power_high: 90 % interval of the share of unsafe trajectories detected.
    """

    certificate: Certificate
    verifier: str
    unit: Unit
    groups_repeat: bool
    monitors_tried: int
    expected_rate: float | None
    forecast: tuple[int, int] | None
    power_low: float
    power_high: float

    def sentence(self) -> str:
        """Say what is promised, on which assumption, in plain words with the numbers.

        Example:
            >>> from tocsin.testing.worlds import example_calibration
            >>> g = guarantee(example_calibration(epsilon=0.1, delta=0.1))
            >>> g.sentence().split(". ")[0]
            'Calibrated on n = 300 safe trajectories'
        """
        c, m = self.certificate, self.certificate.member
        protected = PROTECTED_CLASS[c.risk]
        tried = (
            f" ({self.monitors_tried} monitors tried, corrected)" if self.monitors_tried > 1 else ""
        )
        of_what = _UNITS[self.unit].format(protected=protected)
        parts = [f"Calibrated on n = {m.n} {of_what}{tried}.", self._promise()]
        if math.isinf(m.threshold):
            parts.append(self._infinite())
        if self.expected_rate is not None and self.forecast is not None:
            low, high = self.forecast
            done = "interrupted" if c.risk == "false_alarm" else "missed"
            parts.append(
                f"Expected rate {_percent(self.expected_rate)}; of the next "
                f"{FORECAST_OUTPUTS:,} {protected} outputs between {low} and {high} will be {done} "
                "(90 % interval)."
            )
        parts.append(self._other_side())
        own = sorted(s.segment for s in c.segments if s.certified)
        if own:
            parts.append(
                f"{len(own)} segment(s) run at thresholds of their own, each with this promise for "
                "itself; the numbers here are those of the pooled threshold, which runs elsewhere."
            )
        return " ".join(parts)

    def _promise(self) -> str:
        c = self.certificate
        what = (
            f"at most {_percent(c.epsilon)} of safe outputs are ever interrupted, at whichever step"
            if c.risk == "false_alarm"
            else f"at most {_percent(c.epsilon)} of unsafe outputs end without an alarm"
        )
        if self.unit != "trajectory":
            what += ", counting each new group (prompt, user) once"
        if c.bound == "crc" or c.delta is None:
            return (
                "If future trajectories are drawn like these, then on average over calibration "
                f"sets {what}; for this one calibration set it may be more."
            )
        joint = ", for all certificates of this calibration together" if c.jointly else ""
        return (
            f"If future trajectories are drawn like these, then with {_percent(1.0 - c.delta)} "
            f"confidence over the draw of the calibration set{joint}, {what}."
        )

    def _infinite(self) -> str:
        m = self.certificate.member
        never = m.threshold > 0
        return (
            "The threshold is infinite: this monitor never alarms."
            if never
            else "The threshold is minus infinity: this monitor alarms on everything scored."
        )

    def _other_side(self) -> str:
        c, m = self.certificate, self.certificate.member
        if c.risk == "missed_detection":
            rate = "unknown" if m.false_alarms is None else _percent(m.false_alarms)
            return (
                f"It says nothing about false alarms (measured here: {rate} of safe outputs are "
                "interrupted), about segments without a certificate, or after the scores change."
            )
        if m.n_unsafe == 0:
            caught = "no unsafe trajectories were at hand to measure it"
        else:
            caught = (
                f"measured here: {m.detected} of {m.n_unsafe} detected, "
                f"{_percent(self.power_low)} to {_percent(self.power_high)}"
            )
        return (
            f"It says nothing about unsafe outputs missed ({caught}), about segments without a "
            "certificate, or after the scores change."
        )

    def warnings(self) -> list[str]:
        """Say what an operator should know before relying on it."""
        c, m = self.certificate, self.certificate.member
        out = []
        rate = self.expected_rate if self.expected_rate is not None else c.epsilon
        if self.unit == "trajectory" and self.groups_repeat:
            out.append(
                "Groups repeat, yet every trajectory counted as independent: n and the confidence "
                "are overstated. Use unit 'one_per_group'."
            )
        if c.risk == "false_alarm" and m.n_unsafe and self.power_low <= rate:
            out.append(
                f"The signal is too weak for epsilon = {c.epsilon:g}: the monitor detects "
                f"{_percent(m.power or 0.0)} of unsafe outputs, hardly more than it interrupts of "
                "safe ones. A better verifier helps; a larger calibration set does not."
            )
        if c.risk == "missed_detection" and (m.false_alarms or 0.0) > 0.5:
            out.append(
                f"The price of missing at most {_percent(c.epsilon)} is an alarm on "
                f"{_percent(m.false_alarms or 0.0)} of safe outputs: the verifier is too weak."
            )
        above = [s for s in c.segments if s.rate_low > c.epsilon and not s.certified]
        out.extend(
            f"Segment {s.segment!r} has a rate of {_percent(s.rate or 0.0)} "
            f"({_percent(s.rate_low)} to {_percent(s.rate_high)}), above epsilon: the promise "
            "holds for the whole traffic, not for it. Calibrate per segment."
            for s in above
        )
        return out

    def at_prevalence(self, prevalence: float) -> dict[str, float]:
        """Alarms per 1,000 requests and their precision, where this share of outputs is unsafe.

        Args:
            prevalence: share of unsafe outputs among all, in [0, 1].

        Raises:
            InputError: prevalence outside [0, 1], or no unsafe trajectories to measure power on.
        """
        if not 0.0 <= prevalence <= 1.0:
            raise InputError(f"prevalence is a share between 0 and 1, got {prevalence!r}")
        m = self.certificate.member
        if m.power is None or m.false_alarms is None:
            raise InputError("precision needs both safe and unsafe trajectories to measure")
        rate = m.false_alarms
        if self.certificate.risk == "false_alarm" and self.expected_rate is not None:
            rate = self.expected_rate
        true, false = prevalence * m.power, (1.0 - prevalence) * rate
        return {
            "prevalence": prevalence,
            "alarms_per_1000": 1_000.0 * (true + false),
            "true_alarms_per_1000": 1_000.0 * true,
            "false_alarms_per_1000": 1_000.0 * false,
            "missed_per_1000": 1_000.0 * prevalence * (1.0 - m.power),
            "precision": true / (true + false) if true + false > 0.0 else math.nan,
        }


def guarantee(calibration: Calibration, epsilon: float | None = None) -> Guarantee:
    """Put a certificate into words.

    Args:
        calibration: as made or loaded.
        epsilon: which certificate, where there are several.

    Raises:
        InputError: when the choice is not unique.
    """
    c = calibration.certificate(epsilon)
    return of_certificate(calibration, c)


def of_certificate(calibration: Calibration, c: Certificate) -> Guarantee:
    """Put this certificate into words."""
    m = c.member
    binary = calibration.unit != "cluster_mean"
    k = int(m.errors)
    low, high = clopper_pearson(m.detected, m.n_unsafe) if m.n_unsafe else (0.0, 1.0)
    return Guarantee(
        certificate=c,
        verifier=calibration.signal.verifier,
        unit=calibration.unit,
        groups_repeat=calibration.data.n_groups < calibration.data.n,
        monitors_tried=len(c.members),
        expected_rate=(k + 1) / (m.n + 1) if binary else None,
        forecast=beta_binomial_interval(FORECAST_OUTPUTS, k + 1, m.n - k) if binary else None,
        power_low=low,
        power_high=high,
    )


def planning_table(bound: Bound, epsilon: float, delta: float | None) -> list[dict[str, Any]]:
    """How many trajectories of the protected class buy how tight a monitor.

    One row per share of epsilon that the expected true rate (k + 1) / (n + 1) is to reach; the
    first row is the smallest n that is feasible at all.

    Example:
        >>> [row["n"] for row in planning_table("exact", 0.1, 0.1)]
        [22, 38, 324, 1398]
    """
    n, rows = n_needed(bound, epsilon, delta), []
    for tightness, share in (
        ("any promise at all", 0.0),
        ("half of epsilon", 0.5),
        ("80 % of epsilon", 0.8),
        ("90 % of epsilon", 0.9),
    ):
        while (_errors(bound, n, epsilon, delta) + 1) / (n + 1) < share * epsilon * (
            1.0 - _ROUNDING
        ):
            n = _one_error_more(bound, n, epsilon, delta)
        rate = (_errors(bound, n, epsilon, delta) + 1) / (n + 1)
        rows.append({"tightness": tightness, "n": n, "expected_rate": rate})
    return rows


def _one_error_more(bound: Bound, n: int, epsilon: float, delta: float | None) -> int:
    """Fewest trajectories that allow more errors than n do; in between the rate only falls."""
    allowed = _errors(bound, n, epsilon, delta)
    low, high = n, 2 * n
    while _errors(bound, high, epsilon, delta) <= allowed:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        few = _errors(bound, middle, epsilon, delta) <= allowed
        low, high = (middle, high) if few else (low, middle)
    return high


def _errors(bound: Bound, n: int, epsilon: float, delta: float | None) -> int:
    k = allowed_errors(bound, n, epsilon, delta)
    return -1 if isinstance(k, Refusal) else k


def _percent(share: float) -> str:
    """Percent, with one decimal where it matters."""
    text = f"{100.0 * share:.1f}"
    return f"{text.removesuffix('.0')} %"
