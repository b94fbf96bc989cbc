"""A million trajectories of a hundred steps: how long, and how much memory at the peak.

Each measurement is a fresh process, for a peak never goes down again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np
from common import DELTA, Found, Options, Row, load, say

TRAJECTORIES, TRAJECTORIES_QUICK, STEPS = 1_000_000, 50_000, 100
STATISTICS = ("min_score", "ewma")
GOAL_GIB = 8.0
EPSILON = 0.1
REPEATS = 2


def run(options: Options) -> Found:
    """Measure each statistic in a process of its own, best of several."""
    n = TRAJECTORIES_QUICK if options.quick else TRAJECTORIES
    rows = []
    for statistic in STATISTICS:
        runs = []
        for _ in range(1 if options.quick else REPEATS):
            say(f"scale: {statistic} + exact, {n:,} x {STEPS}")
            runs.append(_measured(statistic, n, options.seed))
        rows.append(_row(statistic, n, runs))
    return Found(
        tables={"calibrate, then alarms": rows},
        notes=[
            (
                "'scores' is the size of the scores alone; 'data' the process before calibration; "
                f"'peak' that at the end, to stay within {GOAL_GIB:g} GiB at {TRAJECTORIES:,} x "
                f"{STEPS}. Seconds are the best of {len(runs)} processes, the peak is the largest."
            )
        ],
    )


def _measured(statistic: str, n: int, seed: int) -> dict[str, float]:
    """Run this file as a process and read what it prints."""
    command = [sys.executable, __file__, "--statistic", statistic]
    command += ["--trajectories", str(n), "--steps", str(STEPS), "--seed", str(seed)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def _row(statistic: str, n: int, runs: list[dict[str, float]]) -> Row:
    peak = max(r["peak_gib"] for r in runs)
    return {
        "statistic": statistic,
        "trajectories": n,
        "steps": STEPS,
        "calibrate s": min(r["calibrate_s"] for r in runs),
        "alarms s": min(r["alarms_s"] for r in runs),
        "both s": min(r["calibrate_s"] + r["alarms_s"] for r in runs),
        "scores GiB": n * STEPS * 8 / 2**30,
        "data GiB": max(r["data_gib"] for r in runs),
        "peak GiB": peak,
        "within goal": "yes" if peak <= GOAL_GIB else "no",
        "false alarms": runs[0]["far"],
        "power": runs[0]["power"],
        "load": load(),
    }


def _peak_gib() -> float:
    """Return the largest resident size so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def _alone() -> None:
    """Do one measurement in this process and print it."""
    import simulated

    import tocsin
    from tocsin.risk.estimates import alarms

    parser = argparse.ArgumentParser()
    parser.add_argument("--statistic", required=True)
    for name in ("trajectories", "steps", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    data = simulated.trajectories(given.trajectories, given.steps, given.seed)
    before = _peak_gib()
    start = time.perf_counter()
    calibration = tocsin.calibrate(data, statistic=given.statistic, epsilon=EPSILON, delta=DELTA)
    middle = time.perf_counter()
    certificate = calibration.certificate()
    statistic = calibration.statistics[certificate.member.statistic]
    rung = alarms(data, statistic.paths(data), certificate.threshold, certificate.risk)
    end = time.perf_counter()
    told = {
        "calibrate_s": middle - start,
        "alarms_s": end - middle,
        "data_gib": before,
        "peak_gib": _peak_gib(),
        "far": float(np.mean(rung.rang[data.safe])),
        "power": float(np.mean(rung.rang[~data.safe])),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    _alone()
