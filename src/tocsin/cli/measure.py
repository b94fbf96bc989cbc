"""`tocsin measure`."""

from __future__ import annotations

import click

from tocsin import calibration_file
from tocsin.cli import options
from tocsin.cli.terminal import json_bytes, number, out, percent, plain, prose, table
from tocsin.evaluation.identity import read_identity
from tocsin.evaluation.measured import Measured, Share, measured


@click.command("measure", short_help="Measure a calibration on data that it has not seen.")
@click.argument("calibration")
@click.argument("data")
@options.data_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(calibration: str, data: str, *, as_json: bool, layout: str, columns: tuple[str, ...],
            score_column: str | None, segment_column: str | None,
            scores: str | None) -> None:  # fmt: skip
    """Measure what CALIBRATION does to the labelled trajectories in DATA.

    The data must be new to it. A promise is called broken where the 90 % interval of the realised
    risk lies wholly above epsilon: the data are not drawn like those it was calibrated on.
    """
    loaded = calibration_file.load(calibration, {**read_identity(data, score_column)})
    rows = options.read_data(data, layout, columns, score_column, segment_column, scores)
    found = measured(loaded, rows)
    if as_json:
        click.echo(json_bytes({"calibration": loaded.digest, "measured": found}))
        return
    console = out()
    for one in found:
        _show(one)
    if len(set(rows.groups)) < rows.n:
        console.print(
            prose(
                f"{rows.n} trajectories of {len(set(rows.groups))} groups: the intervals take them "
                "as independent, and are too narrow where a group agrees with itself."
            )
        )
    console.print(f"calibration {loaded.digest}", markup=False, soft_wrap=True)


def _show(one: Measured) -> None:
    console = out()
    what = one.risk.replace("_", " ")
    at = "" if one.delta is None else f", delta {one.delta:g}"
    heads = ["segment", "safe", "false alarms", "90 %", "unsafe", "detected", "90 %"]
    rows = [["all", *_cells(one.false_alarms), *_cells(one.detected)]]
    if len(one.segments) > 1:
        rows += [
            [_short(s.segment), *_cells(s.false_alarms), *_cells(s.detected)] for s in one.segments
        ]
    title = f"{what}, epsilon {one.epsilon:g}, bound {one.bound}{at}, statistic {one.statistic}"
    console.print(table(title, heads, rows))
    said = f"The promise {_VERDICTS[one.promise]}."
    if one.delay_tokens is not None:
        said += (
            f" Alarm after {percent(one.delay_tokens)} of the tokens of those that are detected; "
            f"over all unsafe outputs {percent(one.saved)} of the tokens are never written. Delay "
            f"with the undetected as 1: {number(one.delay_tokens_all)}."
        )
    console.print(prose(f"{said}\n"))


_NAME_MAX = 34

_VERDICTS = {
    "holds": "is not contradicted by these data",
    "broken": "DOES NOT HOLD on these data: they are not drawn like those of the calibration",
    "no data": "cannot be judged: no trajectory of the protected class is here",
}


def _cells(share: Share) -> list[str]:
    if share.low is None or share.high is None:
        return [str(share.n), "-", "-"]
    interval = f"{100 * share.low:.1f}-{100 * share.high:.1f}"
    return [str(share.n), percent(share.share), interval]


def _short(name: str) -> str:
    shown = plain(name)
    return shown if len(shown) <= _NAME_MAX else shown[: _NAME_MAX - 1] + "…"
