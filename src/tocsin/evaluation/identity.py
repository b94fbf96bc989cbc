"""Whose scores a file holds: columns that `tocsin score` writes beside each column of scores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tocsin.errors import InputError
from tocsin.evaluation import cells, files
from tocsin.model import Signal
from tocsin.risk.trajectories import Column

FIELDS: Mapping[str, str] = {
    "signal": "kind",
    "verifier": "verifier",
    "verifier_version": "verifier_version",
    "step_definition": "step_definition",
}
"""Columns that say what the column `score` is, each with the field of a signal. Those of a column
``score_x`` end in ``_x`` too."""


def identity_columns(signal: Signal, score_column: str = "score") -> dict[str, str]:
    """Return the value of each column that says whose scores a column holds.

    Example:
        >>> identity_columns(Signal(verifier="mine"), "score_b")["verifier_b"]
        'mine'
    """
    ending = _ending(score_column)
    return {f"{name}{ending}": getattr(signal, field) for name, field in FIELDS.items()}


def read_identity(path: str | os.PathLike[str], score_column: str | None = None) -> dict[str, str]:
    """Return what a file says of a column of scores, by field of a signal.

    Args:
        path: the file.
        score_column: the column; ``score`` where None.

    Returns:
        Nothing where the file does not say all of it.

    Raises:
        InputError: the file cannot be read, or contradicts itself.
    """
    place = Path(path)
    if place.name.lower().endswith(".npz"):
        return {}
    ending = _ending(score_column or "score")
    wanted = {f"{name}{ending}": field for name, field in FIELDS.items()}

    def choose(names: tuple[str, ...]) -> list[str]:
        return list(wanted) if set(wanted) <= set(names) else []

    try:
        table = files.load(place, choose, frozenset(wanted))
        return {wanted[name]: _one(name, column) for name, column in table.columns.items()}
    except InputError as e:
        raise InputError(f"{cells.shown(str(path))[1:-1]}: {e}") from None


def _one(name: str, column: Column) -> str:
    found = sorted(set(cells.names(name, column)))
    if len(found) != 1:
        raise InputError(
            f"column {name!r} holds {len(found)} values; a column of scores is of one verifier"
        )
    return str(found[0])


def _ending(score_column: str) -> str:
    return score_column.removeprefix("score")


def read_signal(path: str | os.PathLike[str], score_column: str | None = None) -> Signal:
    """Return the signal that a file says it holds; an unspecified one where it does not say.

    Raises:
        InputError: the file contradicts itself.
    """
    return make_signal(path, read_identity(path, score_column))


def make_signal(path: str | os.PathLike[str], fields: Mapping[str, str]) -> Signal:
    """Make a signal of what a file says.

    Raises:
        InputError: the kind is no kind of signal.
    """
    if fields.get("kind", "probability") not in {"probability", "real"}:
        raise InputError(
            f"{cells.shown(str(path))[1:-1]}: column 'signal' says {cells.shown(fields['kind'])}, "
            "which is neither probability nor real"
        )
    return Signal(**fields)  # type: ignore[arg-type]
