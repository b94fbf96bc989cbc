"""The library's front door: files in, calibrations and reports out, errors raised."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tocsin import __version__
from tocsin.errors import CalibrationInfeasible, InputError
from tocsin.evaluation import datasets
from tocsin.evaluation.evaluate import Report, Setting, no_progress
from tocsin.evaluation.evaluate import evaluate as _evaluate
from tocsin.limits import CALIBRATION_BYTES_MAX
from tocsin.model import Refusal
from tocsin.risk.calibrate import calibrate as _calibrate
from tocsin.risk.calibration import Calibration, check_match, from_json, to_json
from tocsin.risk.plan import Plan
from tocsin.risk.trajectories import Trajectories

Data = Trajectories | str | os.PathLike[str]


def read(path: str | os.PathLike[str], **options: Any) -> Trajectories:
    """Read labelled trajectories from a file; see `tocsin.evaluation.datasets.read`."""
    return datasets.read(path, **options)


def calibrate(
    data: Data,
    *,
    epsilon: float | Iterable[float] = 0.1,
    fit_on: Data | None = None,
    **choices: Any,
) -> Calibration:
    """Calibrate a monitor.

    Args:
        data: trajectories, or the file that holds them.
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
    unknown = sorted(set(choices) - set(Plan.__struct_fields__))
    if unknown:
        known = ", ".join(Plan.__struct_fields__)
        raise InputError(f"unknown choice {unknown[0]!r}; known: {known}")
    try:
        plan = msgspec.convert({**choices, "epsilons": levels}, Plan, strict=True)
    except msgspec.ValidationError as e:
        raise InputError(f"a choice does not fit: {e}") from None
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
    """Compare all monitors on repeated splits; see `tocsin.evaluation.evaluate`."""
    return _evaluate(
        _loaded(data), setting or Setting(), library_version=__version__, progress=progress
    )


def save(calibration: Calibration, path: str | os.PathLike[str]) -> None:
    """Write a calibration whole or not at all, and durably: temporary file, sync, rename.

    Raises:
        InputError: the place cannot be written.
    """
    write_whole(path, to_json(calibration))


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all; whoever reads it sees the old content or the new."""
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as e:
        raise InputError(f"cannot write {str(path)!r}: {e.strerror}") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as e:
        raise InputError(f"cannot write {str(path)!r}: {e.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load(
    path: str | os.PathLike[str], expected: Mapping[str, str | None] | None = None
) -> Calibration:
    """Read a calibration and refuse it unless it is sound and made for this use.

    Args:
        path: the file.
        expected: any of kind, verifier, verifier_version, step_definition, missing, digest.

    Raises:
        InputError: the file cannot be read.
        CalibrationDamaged: it is not what its digest says.
        CalibrationMismatch: it was made for something else.
    """
    try:
        with Path(path).open("rb") as f:
            raw = f.read(CALIBRATION_BYTES_MAX + 1)
    except OSError as e:
        raise InputError(f"cannot read {str(path)!r}: {e.strerror}") from None
    calibration = from_json(raw)
    check_match(calibration, dict(expected or {}))
    return calibration


def _loaded(data: Data) -> Trajectories:
    return data if isinstance(data, Trajectories) else read(data)
