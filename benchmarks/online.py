"""One step of a session: its time, which must not grow with the stream, and its size when pickled.

Beside it, in the same run, the loop that e-valuator documents for online use: a data frame of one
row that holds the whole prefix, given to `apply`. All scores are simulated.
"""

from __future__ import annotations

import importlib
import math
import pickle
import time
import warnings
from typing import Any

import numpy as np
import simulated
from common import DELTA, Found, Options, Row, load, say

import tocsin
from tocsin.evaluation.evaluator import package_levels
from tocsin.monitor import Monitor, Session
from tocsin.risk.trajectories import Trajectories

STATISTICS = (
    ("min_score", False),
    ("ewma", False),
    ("per_step_quantile", False),
    ("posterior", False),
    ("posterior", True),
)
PLACES = (10, 30, 100, 1_000, 10_000, 100_000)
PLACES_QUICK = (10, 30, 100, 1_000, 10_000)
PLACES_PACKAGE = (10, 30)

WINDOW = 10
"""Steps timed in one go, around each place."""

EPSILON = 0.1
_TRAJECTORIES, _STEPS = 1_000, 40
_LOWEST = 0.9


def run(options: Options) -> Found:
    """Time each statistic at each place, then the package at the two early ones."""
    data = simulated.trajectories(_TRAJECTORIES, _STEPS, options.seed)
    rows: list[Row] = []
    steps: dict[str, dict[int, float]] = {}
    for name, closing in STATISTICS:
        made = tocsin.calibrate(
            data, statistic=name, closing=closing, epsilon=EPSILON, delta=DELTA, seed=options.seed
        )
        label = made.certificate().member.label
        say(f"online: {label}")
        of_statistic = _along(Monitor(made), options)
        steps[label] = {int(row["step"] or 0): float(row["best us"] or 0.0) for row in of_statistic}
        rows += [{"statistic": label, **row} for row in of_statistic]
    found = Found(tables={"by step": rows, "flat": _flat(steps)})
    found.notes.append(
        f"Microseconds of one Session.step, in windows of {WINDOW} steps around each place; scores "
        f"uniform on [{_LOWEST:g}, 1], no alarm in force. Bytes are those of the pickled session; "
        "'without statistic' leaves out what every session of a monitor has in common."
    )
    try:
        found.tables["beside e-valuator"] = _package(data, steps, options)
    except ImportError as e:
        found.skipped.append(f"the package to compare with needs {e.name}: install the dev lock")
    return found


def _along(monitor: Monitor, options: Options) -> list[Row]:
    """Walk one session to each place; there, time copies of it over the same few steps."""
    rng = np.random.default_rng([options.seed, 7])
    session, at = monitor.session(), 0
    shared = len(pickle.dumps(monitor.statistic))
    rows: list[Row] = []
    for place in PLACES_QUICK if options.quick else PLACES:
        scores = rng.uniform(_LOWEST, 1.0, place - WINDOW // 2 - at).tolist()
        for score in scores:
            session.step(score)
        at = place - WINDOW // 2
        frozen = pickle.dumps(session)
        ahead = rng.uniform(_LOWEST, 1.0, WINDOW).tolist()
        times = _windows(frozen, ahead, 50 if options.quick else 300)
        _must_be_quiet(session)
        rows.append(
            {
                "step": place,
                "best us": float(times.min()),
                "median us": float(np.median(times)),
                "pickled bytes": len(frozen),
                "without statistic": len(frozen) - shared,
            }
        )
    return rows


def _windows(frozen: bytes, scores: list[float], repeats: int) -> np.ndarray:
    """Microseconds per step of each repeat, each on a fresh copy."""
    out = np.empty(repeats)
    for i in range(repeats):
        session: Session = pickle.loads(frozen)  # noqa: S301 - made a moment ago
        step = session.step
        start = time.perf_counter_ns()
        for score in scores:
            step(score)
        out[i] = (time.perf_counter_ns() - start) / (1_000.0 * len(scores))
        _must_be_quiet(session)
    return out


def _must_be_quiet(session: Session) -> None:
    """After an alarm a step does less, and its time would say nothing."""
    if session.path().steps and session.state.name != "WATCHING":
        raise RuntimeError(f"the session is in state {session.state.name}: it cannot be timed")


def _flat(steps: dict[str, dict[int, float]]) -> list[Row]:
    """Compare the last place with the first."""
    return [
        {
            "statistic": label,
            "first us": of_place[min(of_place)],
            "last us": of_place[max(of_place)],
            "last / first": of_place[max(of_place)] / of_place[min(of_place)],
            "load": load(),
        }
        for label, of_place in steps.items()
    ]


def _package(data: Trajectories, steps: dict[str, dict[int, float]], options: Options) -> list[Row]:
    """Time the documented loop at two lengths of the prefix, models fitted for every step."""
    pandas: Any = importlib.import_module("pandas")
    package: Any = importlib.import_module("evaluator")
    prefixes = [data.scores[s : s + t].tolist() for s in data.starts for t in range(1, _STEPS + 1)]
    frame = pandas.DataFrame(
        {
            "uq_problem_idx": data.ids[data.owner],
            "num_steps": data.step_number,
            "judge_probability_series": prefixes,
            "solved": data.safe[data.owner].astype(np.int64),
        }
    )
    say("online: e-valuator 1.0.0")
    alpha, weights = package_levels(EPSILON, DELTA)
    made = package.EValuator(mt_variant="PAC", alphas=[alpha], alpha_delta_weights=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.fit(frame)
    column = f"reject_PAC_alpha_{str(alpha).replace('.', '_')}"
    rng = np.random.default_rng([options.seed, 8])
    rows: list[Row] = []
    for place in PLACES_PACKAGE:
        prefix = rng.uniform(_LOWEST, 1.0, place).tolist()
        theirs = _documented(made, prefix, column, pandas, 20 if options.quick else 300)
        for label, of_place in steps.items():
            # Ours is flat: the place that was timed nearest to this one, on a logarithmic scale.
            nearest = min(of_place, key=lambda t: abs(math.log(t / place)))
            rows.append(
                {
                    "step": place,
                    "statistic": label,
                    "ours us": of_place[nearest],
                    "ours at step": nearest,
                    "e-valuator us": theirs,
                    "times faster": theirs / of_place[nearest],
                }
            )
    return rows


def _documented(made: Any, prefix: list[float], column: str, pandas: Any, repeats: int) -> float:
    """Best microseconds of one turn of the package's documented loop."""
    least = math.inf
    for _ in range(repeats):
        start = time.perf_counter_ns()
        row = pandas.DataFrame(
            [
                {
                    "uq_problem_idx": "new",
                    "num_steps": len(prefix),
                    "judge_probability_series": list(prefix),
                }
            ]
        )
        bool(made.apply(row).iloc[0][column])
        least = min(least, (time.perf_counter_ns() - start) / 1_000.0)
    return least
