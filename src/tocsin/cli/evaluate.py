"""`tocsin evaluate`."""

from __future__ import annotations

import os
from typing import Any

import click
import msgspec

from tocsin import api
from tocsin.cli import options, show
from tocsin.cli.terminal import json_bytes, out, progress
from tocsin.durable import write_whole
from tocsin.errors import InputError
from tocsin.evaluation.evaluate import Setting


@click.command("evaluate", short_help="Compare all monitors on your data.")
@click.argument("data")
@click.option(
    "--risk",
    type=click.Choice(["false-alarm", "missed-detection"]),
    default="false-alarm",
    show_default=True,
    help="Which error is controlled.",
)
@click.option(
    "--calibration-share",
    default=0.2,
    show_default=True,
    help="Share of the trajectories that calibrate.",
)
@click.option("--calibration-size", type=int, default=None, help="Their number instead.")
@click.option("--splits", default=50, show_default=True, help="Random splits, by group.")
@click.option("--monitors", default=None, metavar="NAME[,NAME...]", help="Only these monitors.")
@click.option("--jobs", default=None, type=int, help="Processes; all cores by default.")
@click.option(
    "--figure",
    "figures",
    multiple=True,
    metavar="FILE.png|FILE.svg",
    help="Draw the figure of the paper; may be repeated.",
)
@options.plan_options
@options.signal_options
@options.data_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(data: str, figures: tuple[str, ...], *, as_json: bool, **given: Any) -> None:
    """Compare all monitors on repeated group-wise splits of the labelled trajectories in DATA.

    Each split calibrates every monitor on the same part and measures it on the rest: false alarms,
    power, detection delay (share of tokens used up to and including the alarm, over the detected),
    tokens saved (over all unsafe), and how often the promise was violated beside how often a valid
    monitor would violate it on so small a test set.
    """
    read = {k: given.pop(k) for k in options.DATA_OPTIONS}
    identity = {k: given.pop(k) for k in options.IDENTITY_OPTIONS}
    own = {k: given.pop(k) for k in ("calibration_share", "calibration_size", "splits")}
    jobs, monitors = given.pop("jobs"), given.pop("monitors")
    for name in figures:
        _format(name)
    setting = Setting(
        plan=options.make_plan(**given),
        seed=given["seed"],
        monitors=None if monitors is None else tuple(monitors.split(",")),
        jobs=(os.cpu_count() or 1) if jobs is None else jobs,
        **own,
    )
    if figures:
        from tocsin.evaluation.canvas import library

        library("matplotlib")  # say now that it is missing, not after the work
    trajectories = options.read_data(data, **read)
    signal = options.make_signal(data, read["score_column"], identity)
    setting = msgspec.structs.replace(
        setting, plan=msgspec.structs.replace(setting.plan, signal=signal)
    )
    with progress("splits") as update:
        report = api.evaluate(trajectories, setting, progress=update)
    for name in figures:
        from tocsin.evaluation.plots import render

        title = os.path.splitext(os.path.basename(data))[0]  # noqa: PTH119, PTH122 - text only
        write_whole(name, render({title: report}, format=_format(name)))
    if as_json:
        click.echo(json_bytes(report))
        return
    console = out()
    for part in show.report_parts(report):
        console.print(part)
    for name in figures:
        console.print(f"figure: {name}", markup=False)


def _format(name: str) -> Any:
    ending = name.rpartition(".")[2].lower()
    if ending not in {"png", "svg"}:
        raise InputError(f"--figure {name!r}: the name must end in .png or .svg")
    return ending
