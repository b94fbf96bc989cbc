"""Calibrations and reports as tables and as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from tocsin.cli.terminal import number, percent, plain, prose, table
from tocsin.risk.calibration import Calibration, Certificate
from tocsin.risk.guarantee import of_certificate

if TYPE_CHECKING:
    from tocsin.evaluation.evaluate import Report


def calibration_json(calibration: Calibration, target: str | None) -> dict[str, Any]:
    """Return certificates with their sentences; the fitted statistics stay in the file."""
    found: dict[str, Any] = finite(msgspec.to_builtins(calibration))
    del found["statistics"]
    for plain_one, c in zip(found["certificates"], calibration.certificates, strict=True):
        words = of_certificate(calibration, c)
        plain_one |= {
            "sentence": words.sentence(),
            "warnings": words.warnings(),
            "expected_rate": words.expected_rate,
            "forecast_per_1000": words.forecast,
            "threshold": finite(c.threshold),
        }
    found["refused"] = [
        {**finite(msgspec.to_builtins(r)), "sentence": r.sentence()} for r in calibration.refused
    ]
    return {**found, "written_to": target}


def finite(value: Any) -> Any:
    """Infinities as text, since JSON has none and a null threshold would mislead."""
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value


def calibration_parts(calibration: Calibration) -> Iterator[RenderableType]:
    """Sentence, monitors, segments and warnings of each certificate."""
    for c in calibration.certificates:
        words = of_certificate(calibration, c)
        yield prose(words.sentence())
        yield Padding(members_table(c), (1, 0, 0, 2))
        yield Padding(segments_table(c), (1, 0, 1, 2))
        for warning in words.warnings():
            yield prose(f"warning: {plain(warning)}", style="bold")


def members_table(c: Certificate) -> RenderableType:
    """Monitors tried for one certificate; the one in force is marked."""
    rows = [
        [
            ("* " if i == c.chosen else "  ") + m.label,
            str(m.n),
            number(m.errors, 0 if m.errors == int(m.errors) else 2),
            f"{c.comparison} {number(m.threshold, 4)}",
            percent(m.false_alarms),
            percent(m.power),
            percent(m.saved),
        ]
        for i, m in enumerate(c.members)
    ]
    title = f"{c.risk.replace('_', ' ')}, epsilon {c.epsilon:g}, bound {c.bound}" + (
        "" if c.delta is None else f", delta {c.delta:g}"
    )
    columns = ["statistic", "n", "k", "alarm when m", "safe alarmed", "unsafe alarmed", "saved"]
    return table(title, columns, rows)


def segments_table(c: Certificate) -> RenderableType:
    """Rate of the controlled error by segment, with its 90 % interval."""
    rows = [
        [
            s.segment,
            str(s.n),
            percent(s.rate),
            f"{percent(s.rate_low)} to {percent(s.rate_high)}",
            number(s.threshold, 4),
            "own certificate" if s.certified else s.note,
        ]
        for s in c.segments
    ]
    error = "false alarms" if c.risk == "false_alarm" else "missed"
    return table(
        "by segment, on the calibration data",
        ["segment", "n", error, "90 % interval", "threshold", "covered by"],
        rows,
    )


def report_parts(report: Report, only: float | None = None) -> Iterator[RenderableType]:
    """One table per epsilon, or for `only` one, then the segments."""
    known = any(not math.isnan(r.onset_lag_steps_mean) for r in report.results)
    for epsilon in dict.fromkeys(row.epsilon for row in report.results):
        if only is not None and epsilon != only:
            continue
        rows = [
            [
                r.monitor,
                "refused" if r.refused_rate == 1.0 else _hundred(r.far_mean),
                _hundred(r.power_mean),
                _hundred(r.delay_tokens_mean),
                _hundred(r.saved_mean),
                *([number(r.onset_lag_steps_mean, 1)] if known else []),
                _hundred(r.violation_rate),
                _hundred(r.violation_nominal),
                _hundred(r.refused_rate),
            ]
            for r in report.results
            if r.epsilon == epsilon
        ]
        first = report.results[0]
        columns = [
            "monitor, in %", "FAR", "power", "delay", "saved",
            *(["late"] if known else []), "violated", "nominal", "refused",
        ]  # fmt: skip
        title = f"epsilon {epsilon:g}, delta {first.delta:g}, {first.splits} splits"
        yield Padding(table(title, columns, rows), (1, 0, 0, 0))
    late = " late: steps from a known onset to the alarm;" if known else ""
    yield prose(
        "FAR: safe outputs alarmed; power: unsafe ones; delay: tokens used up to the alarm, of the "
        f"detected; saved: tokens not shown, of all unsafe;{late} violated: splits whose test rate "
        "was above epsilon; nominal: the same for a valid monitor on test sets of this size."
    )
    yield from _segment_parts(report, only)


def _hundred(share: float) -> str:
    """A share in percent, without the sign that the head of the column has."""
    return number(100.0 * share, 1)


def _segment_parts(report: Report, only: float | None) -> Iterator[RenderableType]:
    names = {s.segment for s in report.segments}
    monitor = "auto" if any(s.monitor == "auto" for s in report.segments) else None
    if monitor is None and report.segments:
        monitor = report.segments[0].monitor
    rows = [
        [s.segment, f"{s.epsilon:g}", percent(s.far), percent(s.power), str(s.safe), str(s.unsafe)]
        for s in sorted(report.segments, key=lambda s: (s.epsilon, s.segment))
        if s.monitor == monitor and only in (None, s.epsilon)
    ]
    if not rows:
        return
    if len(names) == 1:
        yield Text(plain(f"\nall trajectories are of one segment, {rows[0][0]!r}; to see rates by "
                         "segment, name a column with --segment-column"))  # fmt: skip
        return
    title = f"{monitor} by segment, test parts of all splits together"
    columns = ["segment", "epsilon", "false alarms", "power", "safe", "unsafe"]
    yield Padding(table(title, columns, rows), (1, 0, 0, 0))
