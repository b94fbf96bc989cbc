"""`tocsin calibrate`."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from tocsin import __version__, calibration_file
from tocsin.cli import options, show
from tocsin.cli.terminal import err, json_bytes, out, plain
from tocsin.errors import CalibrationInfeasible
from tocsin.evaluation.writing import check_place
from tocsin.model import Refusal
from tocsin.risk.calibrate import calibrate


@click.command("calibrate", short_help="Find a threshold that keeps a promise.")
@click.argument("data")
@click.option("--out", "target", metavar="FILE", help="Write the calibration here.")
@click.option(
    "--risk",
    type=click.Choice(["false-alarm", "missed-detection", "both"]),
    default="false-alarm",
    show_default=True,
    help="Which error is controlled.",
)
@click.option(
    "--epsilon-missed",
    type=float,
    default=None,
    help="With --risk both: the level for missed detections.",
)
@options.plan_options
@options.statistic_option
@click.option("--closing", is_flag=True, help="Add a check at the end of the output.")
@click.option("--simultaneous", is_flag=True, help="All certificates hold together.")
@click.option("--per-segment", is_flag=True, help="A threshold for each segment, if n allows.")
@click.option("--sign", "sign_key", metavar="KEY.pem", help="Sign with this Ed25519 key.")
@click.option(
    "--fit-data",
    metavar="FILE",
    help="Fit learned statistics on this file; DATA then calibrates whole.",
)
@options.signal_options
@options.data_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(data: str, target: str | None, sign_key: str | None, fit_data: str | None, *,
            as_json: bool, **given: Any) -> None:  # fmt: skip
    """Find the threshold that keeps a promise, on the labelled trajectories in DATA.

    Rows are steps: trajectory_id, step, score (higher = safer), label (1 safe, 0 unsafe), and
    where there are any group, segment, tokens, onset_step. Parquet, CSV or JSONL.
    """
    read = {k: given.pop(k) for k in options.DATA_OPTIONS}
    identity = {k: given.pop(k) for k in options.IDENTITY_OPTIONS}
    plan = options.make_plan(**given)
    if target is not None:
        check_place(target, data, *([fit_data] if fit_data else []))
    trajectories = options.read_data(data, **read)
    signal = options.make_signal(data, read["score_column"], identity)
    plan = msgspec.structs.replace(plan, signal=signal)
    fit_on = None if fit_data is None else options.read_data(fit_data, **read)
    made = calibrate(trajectories, plan, library_version=__version__, fit_on=fit_on)
    if isinstance(made, Refusal):
        raise CalibrationInfeasible(made)
    if sign_key is not None:
        from tocsin.risk.signature import sign

        made = sign(made, options.read_key(sign_key))
    if target is not None:
        calibration_file.save(made, target)
    if as_json:
        click.echo(json_bytes(show.calibration_json(made, target)))
        return
    console = out()
    for part in show.calibration_parts(made):
        console.print(part)
    for refused in made.refused:
        err().print(f"refused: {plain(refused.sentence())}", markup=False)
    where = f"written to {target}" if target else "not written: give --out FILE to keep it"
    console.print(f"{made.digest}, {plain(where)}", markup=False, soft_wrap=True)
