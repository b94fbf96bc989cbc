"""The library's front door: files in, calibrations and reports out, errors raised."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from tocsin import __version__
from tocsin.errors import CalibrationInfeasible, InputError
from tocsin.evaluation.datasets import read
from tocsin.evaluation.evaluate import Report, Setting, no_progress
from tocsin.evaluation.evaluate import evaluate as _evaluate
from tocsin.evaluation.identity import read_signal
from tocsin.model import Refusal
from tocsin.risk.calibrate import calibrate as _calibrate
from tocsin.risk.calibration import Calibration
from tocsin.risk.plan import Plan
from tocsin.risk.trajectories import Trajectories

Data = Trajectories | str | os.PathLike[str]


def calibrate(
    data: Data,
    *,
    epsilon: float | Iterable[float] = 0.1,
    fit_on: Data | None = None,
    **choices: Any,
) -> Calibration:
    """Calibrate a monitor.

    Args:
        data: trajectories, or the file that holds them; a file of `tocsin score` also says whose
            scores they are, which `signal` need not repeat.
        epsilon: the level, or several increasing ones.
        fit_on: other data to fit learned statistics on, sharing no id and no group with `data`;
            without it a random half of the groups is split off for that where it is needed.
        choices: any other field of `tocsin.risk.plan.Plan`, such as `delta`, `risk`, `bound`,
            `statistic`, `objective`, `signal`, `missing`, `seed`.

    Raises:
        CalibrationInfeasible: too few trajectories for every level asked for.
        InputError: unusable data, or choices that contradict each other.

    Example:
        >>> import numpy as np
        >>> from tocsin.testing.worlds import trajectories
        >>> c = calibrate(trajectories(400, 0.3, np.random.default_rng(1)), statistic="ewma")
        >>> c.certificate().member.n
        280
    """
    levels = (epsilon,) if isinstance(epsilon, int | float) else tuple(epsilon)
    fields = [name for name in Plan.__struct_fields__ if name != "epsilons"]
    unknown = sorted(set(choices) - set(fields))
    if unknown:
        known = ", ".join(("epsilon", *fields))
        raise InputError(f"unknown choice {unknown[0]!r}; known: {known}")
    try:
        plan = msgspec.convert({**choices, "epsilons": levels}, Plan, strict=True)
    except msgspec.ValidationError as e:
        raise InputError(f"a choice does not fit: {e}") from None
    if not isinstance(data, Trajectories) and "signal" not in choices:
        plan = msgspec.structs.replace(plan, signal=read_signal(data))
    made = _calibrate(
        _loaded(data),
        plan,
        library_version=__version__,
        fit_on=None if fit_on is None else _loaded(fit_on),
    )
    if isinstance(made, Refusal):
        raise CalibrationInfeasible(made)
    return made


def evaluate(
    data: Data,
    setting: Setting | None = None,
    *,
    progress: Callable[[int, int], None] = no_progress,
) -> Report:
    """Compare all monitors on repeated splits of labelled trajectories.

    Args:
        data: trajectories, or the file that holds them.
        setting: levels, splits, seed and monitors, see `tocsin.evaluation.evaluate.Setting`.
        progress: called with (splits done, splits in all).

    Raises:
        InputError: unusable data, or a setting that contradicts itself.
    """
    return _evaluate(
        _loaded(data), setting or Setting(), library_version=__version__, progress=progress
    )


def _loaded(data: Data) -> Trajectories:
    return data if isinstance(data, Trajectories) else read(data)
