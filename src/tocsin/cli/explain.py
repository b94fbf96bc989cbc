"""`tocsin explain`."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tocsin import calibration_file
from tocsin.cli import show
from tocsin.cli.terminal import json_bytes, number, out, percent, plain, prose, table
from tocsin.risk.calibration import Calibration, Certificate
from tocsin.risk.guarantee import BREAKS, of_certificate, planning_table

_PREVALENCES = (0.001, 0.01, 0.05, 0.2)


@click.command("explain", short_help="Say what a calibration promises.")
@click.argument("calibration")
@click.option("--epsilon", type=float, default=None, help="Only this certificate.")
@click.option(
    "--prevalence",
    "prevalences",
    type=float,
    multiple=True,
    help="Share of unsafe outputs in your traffic; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(calibration: str, epsilon: float | None, prevalences: tuple[float, ...], *,
            as_json: bool) -> None:  # fmt: skip
    """Say in plain words what CALIBRATION promises, what would break it, and what it costs."""
    made = calibration_file.load(calibration)
    chosen = [c for c in made.certificates if epsilon is None or c.epsilon == epsilon]
    if not chosen:
        made.certificate(epsilon)
    found = [_explained(made, c, prevalences or _PREVALENCES) for c in chosen]
    if as_json:
        summary = {
            "digest": made.digest,
            "signal": made.signal,
            "missing": made.missing,
            "unit": made.unit,
            "data": made.data,
            "certificates": show.finite(found),
            "curve": show.finite(msgspec.to_builtins(made.curve)),
            "breaks": list(BREAKS),
        }
        click.echo(json_bytes(summary))
        return
    _print(made, chosen, found)


def _explained(made: Calibration, c: Certificate, prevalences: tuple[float, ...]) -> dict[str, Any]:
    words = of_certificate(made, c)
    measured = c.member.power is not None and c.member.false_alarms is not None
    return {
        **msgspec.to_builtins(c),
        "sentence": words.sentence(),
        "warnings": words.warnings(),
        "expected_rate": words.expected_rate,
        "forecast_per_1000": words.forecast,
        "power_interval": (words.power_low, words.power_high),
        "at_prevalence": [words.at_prevalence(p) for p in prevalences] if measured else [],
        "planning": planning_table(c.bound, c.epsilon, c.delta),
    }


def _print(made: Calibration, chosen: list[Certificate], found: list[dict[str, Any]]) -> None:
    console = out()
    s = made.signal
    console.print(Text(plain(
        f"{made.digest}\nsignal: {s.kind}, verifier {s.verifier} {s.verifier_version}, "
        f"step {s.step_definition}; missing scores: {made.missing}; "
        f"{'signed' if made.signature else 'not signed'}\n"
    )))  # fmt: skip
    for c, words in zip(chosen, found, strict=True):
        console.print(prose(words["sentence"]))
        for warning in words["warnings"]:
            console.print(prose(f"warning: {plain(warning)}", style="bold"))
        console.print(Padding(show.members_table(c), (1, 0, 0, 2)))
        console.print(Padding(show.segments_table(c), (1, 0, 0, 2)))
        _print_prevalence(words)
        rows = [
            [p["tightness"], str(p["n"]), percent(p["expected_rate"])] for p in words["planning"]
        ]
        title = "how many labelled trajectories of the protected class buy how much"
        columns = ["for an expected rate of", "n needed", "expected rate"]
        console.print(Padding(table(title, columns, rows), (1, 0, 1, 2)))
    if made.curve:
        _print_curve(made)
    console.print(Text("What would break the promise:"))
    bullets = Table.grid(padding=(0, 1))
    for reason in BREAKS:
        bullets.add_row(Text(" -"), prose(reason, indent=4))
    console.print(bullets)


def _print_prevalence(words: dict[str, Any]) -> None:
    if not words["at_prevalence"]:
        return
    rows = [
        [percent(p["prevalence"]), number(p["alarms_per_1000"], 1),
         number(p["true_alarms_per_1000"], 1), number(p["missed_per_1000"], 1),
         percent(p["precision"])]
        for p in words["at_prevalence"]
    ]  # fmt: skip
    title = "per 1,000 requests, at the power measured here"
    columns = ["unsafe share", "alarms", "of them true", "missed", "precision"]
    out().print(Padding(table(title, columns, rows), (1, 0, 0, 2)))


def _print_curve(made: Calibration) -> None:
    rows = [
        [f"{p.epsilon:g}", number(p.errors, 0), number(p.threshold, 4),
         number(p.errors_joint, 0), number(p.threshold_joint, 4), percent(p.power), p.certified]
        for p in made.curve
    ]  # fmt: skip
    title = (
        "The same monitor at other levels. A level asked for holds alone, at the threshold named "
        "so; the others hold all together, at their joint thresholds, and may be picked after "
        "looking (calibrate with --simultaneous and the levels of this table to run one). Picking "
        "between the two kinds after looking costs up to twice delta."
    )
    out().print(prose(title))
    columns = ["epsilon", "k alone", "alone: m >", "k joint", "joint: m >", "power", "certified"]
    out().print(Padding(table("", columns, rows), (0, 0, 1, 0)))
