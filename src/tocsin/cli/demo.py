"""`tocsin demo`: the whole way in half a minute, on real scores where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from tocsin import __version__, api, calibration_file
from tocsin.cli import show
from tocsin.cli.terminal import number, out, plain, progress
from tocsin.durable import write_whole
from tocsin.errors import InputError
from tocsin.evaluation.datasets import read
from tocsin.evaluation.evaluate import Setting
from tocsin.model import Decision, Signal
from tocsin.monitor import Monitor
from tocsin.risk.calibration import Calibration
from tocsin.risk.estimates import alarms
from tocsin.risk.plan import Plan
from tocsin.risk.splits import take_groups
from tocsin.risk.trajectories import Trajectories

_VARIABLE = "TOCSIN_DATA"
_FILE = "ev_math.parquet"
_WORLD_SIZE = 3_000
_EPSILON = 0.1
_BAR = 12


@click.command("demo", short_help="Calibrate, watch a stream, evaluate.")
@click.option(
    "--out",
    "folder",
    default=None,
    metavar="FOLDER",
    help="Keep the calibration and the figure here.",
)
@click.option("--splits", default=10, show_default=True, help="Splits of the evaluation.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of every random draw."
)
def command(folder: str | None, splits: int, seed: int) -> None:
    """Calibrate a monitor, watch two streams that it has never seen, evaluate it beside others.

    On the real verifier scores in the folder that the variable TOCSIN_DATA names, or else on a
    seeded world whose true error rates are known.
    """
    console = out()
    data, what = demo_data(seed)
    console.print(Text(plain(f"Tocsin {__version__}, on {what}")))
    rng = np.random.default_rng([seed, 1])
    part = take_groups(data.group_codes, data.n // 4, rng)
    console.print(Rule("calibrate", style="dim", align="left"))
    calibration = api.calibrate(
        data.take(part),
        epsilon=_EPSILON,
        signal=Signal(verifier="demo", verifier_version="1", step_definition="line"),
        seed=seed,
    )
    for piece in show.calibration_parts(calibration):
        console.print(piece)
    console.print(
        Rule("monitor two streams that were not calibrated on", style="dim", align="left")
    )
    for title, index in pick(calibration, data, ~part):
        watch(console, calibration, data, title, index)
    console.print(Rule("evaluate, all monitors on the same splits", style="dim", align="left"))
    setting = Setting(
        plan=Plan(epsilons=(0.05, _EPSILON, 0.2, 0.3)),
        splits=splits,
        seed=seed,
        jobs=os.cpu_count() or 1,
    )
    with progress("splits") as update:
        report = api.evaluate(data, setting, progress=update)
    for piece in show.report_parts(report, only=_EPSILON):
        console.print(piece)
    if folder is not None:
        from tocsin.evaluation.plots import render

        place = _folder(folder)
        calibration_file.save(calibration, place / "calibration.json")
        write_whole(place / "evaluation.png", render({"demo": report}, format="png"))
        console.print(Text(plain(f"kept in {place}: calibration.json, evaluation.png")))


def _folder(name: str) -> Path:
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"cannot make the folder {name!r}: {e.strerror}") from None
    return Path(name)


def demo_data(seed: int) -> tuple[Trajectories, str]:
    """Return real scores where the variable names them, else the closed-form world; and which."""
    folder = os.environ.get(_VARIABLE)
    if folder and (Path(folder) / _FILE).is_file():
        data = read(Path(folder) / _FILE)
        return data, f"real data: {data.n:,} trajectories of {_FILE} in {_VARIABLE}"
    from tocsin.testing import worlds

    data = worlds.trajectories(_WORLD_SIZE, 0.3, np.random.default_rng(seed))
    why = f"{_VARIABLE} is not set" if not folder else f"{_VARIABLE} holds no {_FILE}"
    return data, (
        f"a seeded closed-form world of {data.n:,} trajectories ({why}); "
        "its scores are simulated, its true error rates known"
    )


def pick(calibration: Calibration, data: Trajectories, live: np.ndarray) -> list[tuple[str, int]]:
    """Choose an unsafe stream that is stopped half-way and a safe one that is not."""
    monitor = Monitor(calibration)
    paths = monitor.statistic.paths(data, calibration.missing)
    rung = alarms(data, paths, monitor.threshold(), monitor.certificate.risk)
    long = live & (data.lengths >= 6) & (data.lengths <= 14)
    early = long & ~data.safe & rung.rang & (rung.share_of_steps < 0.7) & (rung.step > 2)
    quiet = long & data.safe & ~rung.rang
    chosen = []
    for title, among in (("unsafe", early), ("safe", quiet)):
        found = np.flatnonzero(among)
        if len(found):
            chosen.append((title, int(found[0])))
    return chosen


def watch(
    console: Console, calibration: Calibration, data: Trajectories, title: str, index: int
) -> None:
    """Feed one trajectory step by step and print each decision."""
    console.print(Text(plain(f"{data.ids[index]}, labelled {title}:")))
    session = Monitor(calibration).session(segment=str(data.segments[index]))
    start, length = int(data.starts[index]), int(data.lengths[index])
    for score in data.scores[start : start + length]:
        decision = session.step(float(score))
        console.print(_line(float(score), decision))
        if decision.alarm:
            left = length - decision.step
            console.print(Text(f"  halted: {left} of {length} steps were never shown\n"))
            return
    decision = session.close()
    end = "withheld by the closing check" if decision.alarm else "released whole"
    console.print(Text(f"  {end}\n"))


def _line(score: float, decision: Decision) -> Text:
    filled = round(_BAR * score)
    text = Text(f"  step {decision.step:>2}  score {score:.3f}  ")
    text.append("█" * filled + "░" * (_BAR - filled))
    text.append(f"  m = {number(decision.statistic)}, alarm when m {decision.comparison} ")
    text.append(number(decision.threshold))
    if decision.rang:
        text.append("  ALARM", style="bold red reverse")
    return text
