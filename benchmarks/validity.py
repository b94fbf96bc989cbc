"""How sharp each bound is: the exact chance of a violation, and the expected rate.

For a continuous statistic the number of calibration errors at a fixed threshold is binomial. So the
chance that the true rate exceeds epsilon is P(Bin(n, epsilon) <= k), and the expected rate
(k + 1) / (n + 1), whatever the statistic. Both are computed here from SciPy's binomial, not from
the product's own tail. A simulation in a world with a known rate goes through all of `calibrate`.
"""

from __future__ import annotations

import math

import numpy as np
from common import DELTA, Found, Options, Row, say
from scipy.stats import binom

from tocsin import __version__
from tocsin.model import Bound, Refusal
from tocsin.risk.bounds import allowed_errors
from tocsin.risk.calibrate import calibrate
from tocsin.risk.plan import Plan
from tocsin.testing import worlds

LEVELS = (0.01, 0.05, 0.1, 0.2, 0.3)
SIZES = (30, 50, 100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000)
SIZES_QUICK = (30, 100, 300, 1_000)
BOUNDS: tuple[Bound, ...] = ("exact", "hoeffding_bentkus", "crc")

DRAWN_SIZES = (30, 100, 300)
DRAWN_LEVELS = (0.1, 0.2, 0.3)
DRAWS = 2_000
DRAWS_QUICK = 100

_NOTE = (
    "'violation' is P(true rate > epsilon): at most delta for exact and hoeffding_bentkus, not "
    "promised by crc. 'far' is the expected false-alarm rate, '/ eps' its share of epsilon. 'se' "
    "are standard errors of the simulation; one n shares its draws between all bounds and levels."
)


def run(options: Options) -> Found:
    """Compute the exact table, then simulate."""
    exact = _exact(SIZES_QUICK if options.quick else SIZES)
    return Found(
        tables={
            f"exact, over all n, delta {DELTA:g}": _summary(exact),
            "exact": exact,
            "simulated: min_score in the closed-form world": _simulated(options),
        },
        hidden=frozenset({"exact"}),
        notes=[_NOTE],
    )


def _exact(sizes: tuple[int, ...]) -> list[Row]:
    rows: list[Row] = []
    for epsilon in LEVELS:
        for n in sizes:
            row: Row = {"epsilon": epsilon, "n": n}
            for bound in BOUNDS:
                k = allowed_errors(bound, n, epsilon, None if bound == "crc" else DELTA)
                if isinstance(k, Refusal):
                    row |= dict.fromkeys((f"{bound} k", f"{bound} violation", f"{bound} far"))
                    continue
                row[f"{bound} k"] = k
                row[f"{bound} violation"] = float(binom.cdf(k, n, epsilon))
                row[f"{bound} far"] = (k + 1) / (n + 1)
            rows.append(row)
    return rows


def _summary(exact: list[Row]) -> list[Row]:
    """One row per epsilon and bound: over the sizes at which all three give a threshold."""
    rows: list[Row] = []
    for epsilon in LEVELS:
        of_level = [row for row in exact if row["epsilon"] == epsilon]
        common = [row for row in of_level if all(row[f"{b} k"] is not None for b in BOUNDS)]
        for bound in BOUNDS:
            violation = [float(row[f"{bound} violation"] or 0.0) for row in common]
            far = [float(row[f"{bound} far"] or 0.0) / epsilon for row in common]
            rows.append(
                {
                    "epsilon": epsilon,
                    "bound": bound,
                    "sizes": len(common),
                    "violation min": min(violation, default=None),
                    "violation mean": float(np.mean(violation)) if common else None,
                    "violation max": max(violation, default=None),
                    "far / eps min": min(far, default=None),
                    "far / eps mean": float(np.mean(far)) if common else None,
                    "far / eps max": max(far, default=None),
                }
            )
    return rows


def _simulated(options: Options) -> list[Row]:
    draws = DRAWS_QUICK if options.quick else DRAWS
    rows: list[Row] = []
    for n in DRAWN_SIZES:
        say(f"validity: {draws} calibrations with n = {n}")
        rates: dict[tuple[Bound, float], list[float]] = {}
        for draw in range(draws):
            data = worlds.trajectories(n, 0.0, np.random.default_rng([options.seed, n, draw]))
            for bound in BOUNDS:
                plan = Plan(
                    signal=worlds.SIGNAL,
                    statistic="min_score",
                    bound=bound,
                    epsilons=DRAWN_LEVELS,
                    delta=DELTA,
                )
                made = calibrate(data, plan, library_version=__version__)
                for certificate in () if isinstance(made, Refusal) else made.certificates:
                    rate = worlds.false_alarm_rate(-certificate.threshold)
                    rates.setdefault((bound, certificate.epsilon), []).append(rate)
        rows += [_drawn(n, *key, np.array(of_key)) for key, of_key in rates.items()]
    return rows


def _drawn(n: int, bound: Bound, epsilon: float, rates: np.ndarray) -> Row:
    k = allowed_errors(bound, n, epsilon, None if bound == "crc" else DELTA)
    if isinstance(k, Refusal):  # none was simulated either
        return {}
    nominal = float(binom.cdf(k, n, epsilon))
    return {
        "n": n,
        "bound": bound,
        "epsilon": epsilon,
        "k": k,
        "calibrations": len(rates),
        "violation": float(np.mean(rates > epsilon)),
        "nominal": nominal,
        "se": math.sqrt(nominal * (1.0 - nominal) / len(rates)),
        "far": float(np.mean(rates)),
        "(k+1)/(n+1)": (k + 1) / (n + 1),
        "se far": float(np.std(rates, ddof=1)) / math.sqrt(len(rates)),
    }
