"""Calibrate and evaluate one split of ev_math: Tocsin beside the package e-valuator 1.0.0.

Both get the same 20 % to calibrate on and the same 80 % to judge, in memory: `Trajectories` here, a
data frame there. Ours is timed to the end, rates and delay included; of theirs only `fit` and
`apply` are, the column of prefixes made beforehand in linear time. The monitors differ (lowest
score here, density ratio there), the level is the same: P(FAR <= epsilon) >= 1 - delta.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from common import DELTA, EPSILONS, Cell, Found, Options, Row, best, data_file, load, read, say
from scipy.optimize import nnls

import tocsin
from tocsin import __version__
from tocsin.evaluation.evaluate import Setting, evaluate
from tocsin.evaluation.evaluator import package_levels
from tocsin.evaluation.metrics import Outcome, measure
from tocsin.risk.estimates import alarms
from tocsin.risk.plan import Plan
from tocsin.risk.splits import take_groups
from tocsin.risk.trajectories import Bools, Trajectories

SET = "ev_math"
SHARE = 0.2
EPSILON = 0.1
GOAL = 500.0

REPEATS = 30
REPEATS_THEIRS = 3
QUICK_TRAJECTORIES = 500
SLICES = (500, 1_000, 2_000, 4_000)
"""Rows for which the package's own utility is timed."""


def run(options: Options) -> Found:
    """Time both in turn, and check that both judged the same split."""
    try:
        pandas: Any = importlib.import_module("pandas")
        importlib.import_module("evaluator")
    except ImportError as e:
        return Found(skipped=[f"the package to compare with needs {e.name}: install the dev lock"])
    data = read(SET)
    if options.quick:
        data = data.take(np.arange(QUICK_TRAJECTORIES))
    rng = np.random.default_rng([options.seed, 0])  # as `tocsin evaluate` does
    chosen = take_groups(data.group_codes, round(SHARE * data.n), rng)
    ours, outcome = _ours(data, chosen, options)
    frame = _series(_frame(data, pandas))
    calibrates = chosen[data.owner]
    parts = [frame[m].reset_index(drop=True) for m in (calibrates, ~calibrates)]
    theirs, applied = _theirs(parts, options)
    rows = [*ours, *theirs]
    for row in rows:
        row["load"] = load()
    own: Row = {
        "far": outcome.far,
        "power": outcome.power,
        "delay, steps": outcome.delay_steps,
    }
    rates: list[Row] = [
        {"monitor": "min_score + exact (ours)", **own},
        {"monitor": "e-valuator PAC (package)", **_rates(applied)},
    ]
    found = Found(tables={"seconds": rows, "ratios": _ratios(ours, theirs), "rates": rates})
    found.tables["whole way from the file"] = _from_file(ours, theirs, options, pandas)
    found.tables["the package's utility"] = _utility(frame, parts, options)
    found.notes.append(
        f"{data.n:,} trajectories, {data.n_steps:,} steps; {int(chosen.sum()):,} calibrate, the "
        f"rest test; epsilon {EPSILON:g}, delta {DELTA:g}. Seconds are the best of the repeats."
    )
    found.notes.append(
        f"Goal: at least {GOAL:g}. For the package the column of prefixes is made in linear time "
        "and not counted; its own utility is quadratic, see its table (extrapolated where marked)."
    )
    return found


# ------------------------------------------------------------------------------------------- ours


def _ours(data: Trajectories, chosen: Bools, options: Options) -> tuple[list[Row], Outcome]:
    """Three ways, each from arrays without anything computed before."""
    repeats = 5 if options.quick else REPEATS

    def fresh() -> Trajectories:
        return dataclasses.replace(data)  # without its cached properties

    def all_monitors(epsilons: tuple[float, ...]) -> object:
        setting = Setting(
            plan=Plan(epsilons=epsilons, delta=DELTA),
            calibration_share=SHARE,
            splits=1,
            seed=options.seed,
            monitors=("min_exact",),
        )
        return evaluate(fresh(), setting, library_version=__version__)

    ways: list[tuple[str, int, Callable[[], Any]]] = [
        ("calibrate + alarms + measure", 1, lambda: judge(fresh(), chosen, (EPSILON,))),
        ("the same", len(EPSILONS), lambda: judge(fresh(), chosen, EPSILONS)),
        ("evaluate, min_exact, 1 split", 1, lambda: all_monitors((EPSILON,))),
        ("evaluate, min_exact, 1 split", len(EPSILONS), lambda: all_monitors(EPSILONS)),
    ]
    rows: list[Row] = []
    outcome: Outcome | None = None
    for what, levels, action in ways:
        say(f"speed_pypi: {what}, {levels} epsilon")
        seconds, result = best(action, repeats)
        outcome = result[0] if outcome is None else outcome
        rows.append(
            {"who": "tocsin", "what": what, "epsilons": levels, "threads": "default",
             "seconds": seconds, "repeats": repeats}
        )  # fmt: skip
    if outcome is None:
        raise AssertionError
    return rows, outcome


def judge(data: Trajectories, chosen: Bools, epsilons: tuple[float, ...]) -> list[Outcome]:
    """Calibrate `min_score` + `exact` on the chosen, find the alarms of the rest, and measure."""
    made = tocsin.calibrate(
        data.take(chosen), statistic="min_score", bound="exact", epsilon=epsilons, delta=DELTA
    )
    test = data.take(~chosen)
    everyone = np.ones(test.n, dtype=bool)
    outcomes = []
    for certificate in made.certificates:
        member = certificate.member
        paths = made.statistics[member.statistic].paths(test, made.missing)
        rung = alarms(test, paths, certificate.threshold, certificate.risk)
        outcomes.append(
            measure(
                test,
                rung,
                everyone,
                risk=certificate.risk,
                epsilon=certificate.epsilon,
                behind=[(member.n, member.errors)],
                n_calibration=member.n,
                chosen=member.label,
            )
        )
    return outcomes


# ----------------------------------------------------------------------------------------- theirs


def _frame(data: Trajectories, pandas: Any) -> Any:
    """Return the data frame of the package's documentation, without the column of prefixes."""
    return pandas.DataFrame(
        {
            "uq_problem_idx": data.ids[data.owner],
            "num_steps": data.step_number,
            "judge_probability": data.scores,
            "solved": data.safe[data.owner].astype(np.int64),
        }
    )


def _series(frame: Any) -> Any:
    """Add the column of prefixes, as the package's utility does, in one pass."""
    prefixes: list[list[float]] = []
    running: list[float] = []
    pairs = zip(frame["num_steps"].tolist(), frame["judge_probability"].tolist(), strict=True)
    for step, score in pairs:
        running = [score] if step == 1 else [*running, score]
        prefixes.append(running)
    return frame.assign(judge_probability_series=prefixes)


def _theirs(parts: list[Any], options: Options) -> tuple[list[Row], Any]:
    """Fit and apply, with threads as they come and with BLAS held to one."""
    threadpoolctl: Any = importlib.import_module("threadpoolctl")
    repeats = 1 if options.quick else REPEATS_THEIRS
    rows: list[Row] = []
    applied = None
    for threads in ("default", "BLAS 1"):
        limit = contextlib.nullcontext()
        if threads != "default":
            limit = threadpoolctl.threadpool_limits(1, user_api="blas")
        say(f"speed_pypi: e-valuator 1.0.0, threads {threads}")
        with limit:
            seconds, applied = best(lambda: package(*parts), repeats)
        rows.append(
            {"who": "e-valuator", "what": "fit + apply", "epsilons": 1, "threads": threads,
             "seconds": seconds, "repeats": repeats}
        )  # fmt: skip
    return rows, applied


def package(calibration: Any, test: Any) -> Any:
    """Run the package's own workflow, PAC variant: fit, then apply."""
    alpha, weights = package_levels(EPSILON, DELTA)
    made = importlib.import_module("evaluator").EValuator(
        model_type="logistic", mt_variant="PAC", alphas=[alpha], alpha_delta_weights=weights
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.fit(calibration)
        return made.apply(test)


def _rates(applied: Any) -> Row:
    """Rates of the package's monitor, from its own column of alarms."""
    (column,) = [name for name in applied.columns if name.startswith("reject_")]
    of_problem = applied.groupby("uq_problem_idx")
    rang, safe = of_problem[column].any(), of_problem["solved"].first() == 1
    length = of_problem["num_steps"].max()
    first = applied[applied[column]].groupby("uq_problem_idx")["num_steps"].min()
    share = (first / length.loc[first.index])[~safe.loc[first.index]]
    return {
        "far": float(rang[safe].mean()),
        "power": float(rang[~safe].mean()),
        "delay, steps": float(share.mean()),
    }


# ----------------------------------------------------------------------------------- side by side


def _ratios(ours: list[Row], theirs: list[Row]) -> list[Row]:
    rows: list[Row] = []
    for other in theirs:
        for own in ours:
            ratio = _number(other["seconds"]) / _number(own["seconds"])
            rows.append(
                {"package threads": other["threads"], "ours": own["what"],
                 "epsilons": own["epsilons"], "times faster": ratio,
                 "goal met": "yes" if ratio >= GOAL else "no"}
            )  # fmt: skip
    return rows


def _from_file(ours: list[Row], theirs: list[Row], options: Options, pandas: Any) -> list[Row]:
    """Add reading the parquet file, and on their side the data frame and its prefixes."""
    path = data_file(SET)
    repeats = 2 if options.quick else 5
    names = {"trajectory_id": "uq_problem_idx", "step": "num_steps",
             "score": "judge_probability", "label": "solved"}  # fmt: skip

    def prepare() -> Any:
        table = pandas.read_parquet(path, columns=list(names)).rename(columns=names)
        return _series(table.sort_values(["uq_problem_idx", "num_steps"]))

    say("speed_pypi: reading the file")
    read_ours, _ = best(lambda: read(SET), repeats)
    read_theirs, _ = best(prepare, repeats)
    own = read_ours + _number(ours[0]["seconds"])
    rows: list[Row] = [
        {"who": "tocsin", "threads": "default", "read s": read_ours,
         "work s": ours[0]["seconds"], "whole s": own, "times faster": None}
    ]  # fmt: skip
    for other in theirs:
        whole = read_theirs + _number(other["seconds"])
        rows.append(
            {"who": "e-valuator", "threads": other["threads"], "read s": read_theirs,
             "work s": other["seconds"], "whole s": whole, "times faster": whole / own}
        )  # fmt: skip
    return rows


def _utility(frame: Any, parts: list[Any], options: Options) -> list[Row]:
    """Time add_judge_probability_series on slices; extrapolate by a m + b m^2 to both parts.

    Every row is looked up among all rows, so neither coefficient can be negative.
    """
    utility = importlib.import_module("evaluator.utils").add_judge_probability_series
    plain = frame.drop(columns="judge_probability_series")
    sizes = [m for m in SLICES if m <= len(plain)][: 2 if options.quick else None]
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        utility(plain.iloc[:50].reset_index(drop=True))  # the first call imports and warms up
    rows: list[Row] = []
    seconds = []
    for m in sizes:
        say(f"speed_pypi: the package's utility on {m:,} rows")
        part = plain.iloc[:m].reset_index(drop=True)
        with contextlib.redirect_stderr(io.StringIO()):
            seconds.append(best(functools.partial(utility, part), 1 if options.quick else 2)[0])
        rows.append({"rows": m, "seconds": seconds[-1], "how": "measured"})
    measured = np.array(sizes, dtype=float)
    (a, b), _ = nnls(np.stack([measured, measured**2], axis=1), np.array(seconds))
    for part in parts:
        size = len(part)
        rows.append({"rows": size, "seconds": a * size + b * size**2, "how": "EXTRAPOLATED"})
    return rows


def _number(value: Cell) -> float:
    if value is None:
        raise AssertionError
    return float(value)
