"""Repeated group-wise splits: calibrate on one part, measure on the other, all monitors alike."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import msgspec
import numpy as np

from tocsin.errors import InputError
from tocsin.evaluation.metrics import Outcome
from tocsin.evaluation.roster import Contestant, Split, contestants
from tocsin.model import Risk
from tocsin.risk.calibrate import check_signal, default_unit
from tocsin.risk.candidates import Workshop
from tocsin.risk.plan import Plan, check_plan
from tocsin.risk.splits import take_groups
from tocsin.risk.statistics.features import FeatureTable, feature_table
from tocsin.risk.statistics.lockstep import apply_missing_policy
from tocsin.risk.trajectories import Trajectories

Progress = Callable[[int, int], None]


_NEEDS_NO_FEATURES = {"min_score", "ewma", "density_ratio"}
"""Statistics that do not look at the prefix features, which cost more than all else they need."""


def no_progress(_done: int, _total: int) -> None:
    """Tell nobody."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """How to evaluate.

    Args:
        plan: epsilons, delta, objective, missing-score policy, unit and fitting share; its risk
            must be one of the two; `bound` is that of `auto`.
        calibration_share: share of the trajectories that calibrate.
        calibration_size: their number instead, where given.
        splits: how many random splits.
        seed: of all splits; split r uses [seed, r].
        monitors: names from the roster, or None for all.
        jobs: processes.
    """

    plan: Plan = Plan()
    calibration_share: float = 0.2
    calibration_size: int | None = None
    splits: int = 50
    seed: int = 0
    monitors: tuple[str, ...] | None = None
    jobs: int = 1


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One monitor at one epsilon over all splits; see `tocsin.evaluation.metrics.Outcome`.

    Means over splits; NaN (null in JSON) where there was nothing to average. A refused split
    counts as never alarming. `*_p10` and `*_p90` are the band of the figure.
    """

    monitor: str
    statistic: str
    bound: str
    risk: Risk
    epsilon: float
    delta: float
    splits: int
    n_calibration: float
    far_mean: float
    far_sd: float
    power_mean: float
    power_sd: float
    delay_steps_mean: float
    delay_tokens_mean: float
    delay_steps_all_mean: float
    delay_tokens_all_mean: float
    saved_mean: float
    saved_sd: float
    after_onset_mean: float
    onset_lag_steps_mean: float
    violation_rate: float
    violation_nominal: float
    refused_rate: float
    far_p10: float
    far_p90: float
    power_p10: float
    power_p90: float
    delay_tokens_p10: float
    delay_tokens_p90: float
    chosen: dict[str, int]


class SegmentRate(msgspec.Struct, frozen=True, kw_only=True):
    """One segment under one monitor at one epsilon, test trajectories of all splits together."""

    monitor: str
    epsilon: float
    segment: str
    safe: int
    unsafe: int
    far: float
    power: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `tocsin evaluate` prints.

    Args:
        results: one row per monitor and epsilon.
        segments: one row per monitor, epsilon and segment.
        setting: how it was made, seed included.
        data: size and digest of the data.
        library_version: of Tocsin.
    """

    results: list[Row]
    segments: list[SegmentRate]
    setting: dict[str, Any]
    data: dict[str, Any]
    library_version: str


def evaluate(
    trajectories: Trajectories,
    setting: Setting,
    *,
    library_version: str,
    progress: Progress = no_progress,
) -> Report:
    """Evaluate all monitors side by side.

    The same splits serve every monitor, and the result does not depend on `jobs`.

    Args:
        trajectories: labelled, complete.
        setting: see `Setting`.
        library_version: recorded in the report.
        progress: called with (splits done, splits in all).

    Raises:
        InputError: a contradictory setting, or data that cannot be split as asked.
    """
    check_setting(trajectories, setting)
    chosen = contestants(setting.monitors)
    outcomes: list[list[list[Outcome]]] = [[] for _ in range(setting.splits)]
    progress(0, setting.splits)
    for done, (split, result) in enumerate(_run(trajectories, setting), start=1):
        outcomes[split] = result
        progress(done, setting.splits)
    rows: list[Row] = []
    segments: list[SegmentRate] = []
    for i, contestant in enumerate(chosen):
        for j, epsilon in enumerate(setting.plan.epsilons):
            cell = [outcomes[split][i][j] for split in range(setting.splits)]
            rows.append(_row(contestant, setting, epsilon, cell))
            segments.extend(_segments(contestant, epsilon, cell))
    return Report(
        results=rows,
        segments=segments,
        setting=msgspec.to_builtins(setting),
        data={
            "digest": trajectories.digest(),
            "n": trajectories.n,
            "n_steps": trajectories.n_steps,
            "n_safe": int(trajectories.safe.sum()),
            "n_unsafe": int((~trajectories.safe).sum()),
        },
        library_version=library_version,
    )


def check_setting(trajectories: Trajectories, setting: Setting) -> None:
    """Refuse what cannot be evaluated, with an InputError."""
    check_plan(setting.plan)
    check_signal(trajectories, setting.plan.signal.kind)
    if setting.plan.risk == "both" or setting.plan.unit == "cluster_mean":
        raise InputError("evaluate one risk at a time, with a loss of 0 or 1 per unit")
    if setting.plan.missing == "error":
        apply_missing_policy(trajectories.scores, trajectories, "error")
    if setting.seed < 0:
        raise InputError(f"the seed must not be negative, got {setting.seed}")
    if setting.splits < 1 or setting.jobs < 1:
        raise InputError("splits and jobs must be at least 1")
    if not 0.0 < setting.calibration_share < 1.0:
        raise InputError("the calibration share must lie between 0 and 1")
    size = calibration_count(trajectories, setting)
    if not 0 < size < trajectories.n:
        raise InputError(
            f"{size} calibration trajectories of {trajectories.n} leave nothing on one side"
        )
    if trajectories.safe.all() or not trajectories.safe.any():
        raise InputError("an evaluation needs safe and unsafe trajectories; one class is empty")


def calibration_count(trajectories: Trajectories, setting: Setting) -> int:
    """How many trajectories calibrate in each split."""
    if setting.calibration_size is not None:
        return setting.calibration_size
    return round(setting.calibration_share * trajectories.n)


def _run(trajectories: Trajectories, setting: Setting) -> Iterator[tuple[int, list[list[Outcome]]]]:
    """Yield (split, outcomes per contestant and epsilon), in any order."""
    table = None
    if any(
        c.closing or c.statistic not in _NEEDS_NO_FEATURES for c in contestants(setting.monitors)
    ):
        table = feature_table(trajectories, setting.plan.signal.kind)
    if setting.jobs == 1 or setting.splits == 1:
        for split in range(setting.splits):
            yield split, judge_split(trajectories, table, setting, split)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        max_workers=min(setting.jobs, setting.splits),
        mp_context=context,
        initializer=_Worker.prepare,
        initargs=(trajectories, table, setting),
    ) as pool:
        futures = {pool.submit(_Worker.judge, split): split for split in range(setting.splits)}
        for future in as_completed(futures):
            yield futures[future], future.result()


class _Worker:
    """What a worker process holds: the data, sent once."""

    held: tuple[Trajectories, FeatureTable | None, Setting]

    @classmethod
    def prepare(
        cls, trajectories: Trajectories, table: FeatureTable | None, setting: Setting
    ) -> None:
        cls.held = (trajectories, table, setting)

    @classmethod
    def judge(cls, split: int) -> list[list[Outcome]]:
        return judge_split(*cls.held, split)


def judge_split(
    trajectories: Trajectories, table: FeatureTable | None, setting: Setting, split: int
) -> list[list[Outcome]]:
    """Outcomes of one split, per contestant and epsilon."""
    rng = np.random.default_rng([setting.seed, split])
    count = calibration_count(trajectories, setting)
    calibration = take_groups(trajectories.group_codes, count, rng)
    if calibration.all():
        raise InputError("a few groups hold all trajectories: there is nothing left to test on")
    plan = msgspec.structs.replace(setting.plan, seed=int(rng.integers(2**31)))
    judged = Split(
        workshop=Workshop(trajectories, calibration, plan, table),
        test=~calibration,
        unit=setting.plan.unit or default_unit(trajectories),
    )
    return [judged.judge(c) for c in contestants(setting.monitors)]


def _row(contestant: Contestant, setting: Setting, epsilon: float, cell: list[Outcome]) -> Row:
    far, power = _column(cell, "far"), _column(cell, "power")
    saved, delay = _column(cell, "saved"), _column(cell, "delay_tokens")
    chosen: dict[str, int] = {}
    for outcome in cell:
        name = "refused" if outcome.refused else outcome.chosen
        chosen[name] = chosen.get(name, 0) + 1
    ours = contestant.statistic == "auto"
    return Row(
        monitor=contestant.monitor,
        statistic=contestant.statistic + ("+closing" if contestant.closing else ""),
        bound=setting.plan.bound if ours else contestant.bound,
        risk="false_alarm" if setting.plan.risk == "both" else setting.plan.risk,
        epsilon=epsilon,
        delta=setting.plan.delta,
        splits=len(cell),
        n_calibration=_mean(_column(cell, "n_calibration")),
        far_mean=_mean(far),
        far_sd=_sd(far),
        power_mean=_mean(power),
        power_sd=_sd(power),
        delay_steps_mean=_mean(_column(cell, "delay_steps")),
        delay_tokens_mean=_mean(delay),
        delay_steps_all_mean=_mean(_column(cell, "delay_steps_all")),
        delay_tokens_all_mean=_mean(_column(cell, "delay_tokens_all")),
        saved_mean=_mean(saved),
        saved_sd=_sd(saved),
        after_onset_mean=_mean(_column(cell, "after_onset")),
        onset_lag_steps_mean=_mean(_column(cell, "onset_lag_steps")),
        violation_rate=_mean(_column(cell, "violated")),
        violation_nominal=_mean(_column(cell, "violation_nominal")),
        refused_rate=_mean(_column(cell, "refused")),
        far_p10=_quantile(far, 0.1),
        far_p90=_quantile(far, 0.9),
        power_p10=_quantile(power, 0.1),
        power_p90=_quantile(power, 0.9),
        delay_tokens_p10=_quantile(delay, 0.1),
        delay_tokens_p90=_quantile(delay, 0.9),
        chosen=chosen,
    )


def _segments(
    contestant: Contestant, epsilon: float, cell: Sequence[Outcome]
) -> Iterator[SegmentRate]:
    totals: dict[str, np.ndarray] = {}
    for outcome in cell:
        for name, counts in outcome.segments.items():
            totals[name] = totals.get(name, np.zeros(4)) + np.array(counts)
    for name, (safe, safe_rang, unsafe, unsafe_rang) in sorted(totals.items()):
        yield SegmentRate(
            monitor=contestant.monitor,
            epsilon=epsilon,
            segment=name,
            safe=int(safe),
            unsafe=int(unsafe),
            far=float(safe_rang / safe) if safe else math.nan,
            power=float(unsafe_rang / unsafe) if unsafe else math.nan,
        )


def _column(cell: Sequence[Outcome], name: str) -> np.ndarray:
    return np.array([getattr(outcome, name) for outcome in cell], dtype=np.float64)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _sd(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan


def _quantile(values: np.ndarray, level: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, level)) if len(known) else math.nan
