"""Calibrations on disk: written whole or not at all, refused unless sound and fitting."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tocsin.durable import write_whole
from tocsin.errors import CalibrationDamaged, InputError
from tocsin.limits import CALIBRATION_BYTES_MAX
from tocsin.risk.calibration import Calibration, check_match, from_json, to_json


def save(calibration: Calibration, path: str | os.PathLike[str]) -> None:
    """Write a calibration whole or not at all, and durably: temporary file, sync, rename.

    Args:
        calibration: sealed, signed or not.
        path: where; an existing file is replaced.

    Raises:
        InputError: the place cannot be written.
    """
    write_whole(path, to_json(calibration))


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
    try:
        calibration = from_json(raw)
    except CalibrationDamaged as e:
        raise CalibrationDamaged(f"{str(path)!r}: {e}") from None
    check_match(calibration, dict(expected or {}))
    return calibration
