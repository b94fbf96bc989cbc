"""Cells of a file's columns become numbers, flags and names, or an error that names row and column.

Files are written by other people's programs and hold text of models: nothing here guesses, and
nothing is quoted in an error before it is made harmless and short.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tocsin.errors import InputError
from tocsin.risk.trajectories import Bools, Column, Floats, Ints, Names

_SHOWN_MAX = 60
_LISTED_MAX = 40
_WHOLE_MAX = 2.0**53
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
_TRUE = frozenset({"1", "1.0", "true"})
_FALSE = frozenset({"0", "0.0", "false"})


def shown(value: object) -> str:
    r"""Quote a value for an error message: one line, no control characters, not long.

    Example:
        >>> shown("a\x1b[31m")
        "'a\\x1b[31m'"
    """
    if isinstance(value, str) and len(value) > _SHOWN_MAX:
        return repr(str(value[:_SHOWN_MAX])) + "…"
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"


def listed(names: Iterable[str]) -> str:
    """Name columns or arrays in an error message."""
    quoted = [shown(name) for name in names]
    more = f" and {len(quoted) - _LISTED_MAX} more" if len(quoted) > _LISTED_MAX else ""
    return (", ".join(quoted[:_LISTED_MAX]) or "none") + more


def at(row: int, name: str) -> str:
    """Say where a cell is, its row counted from 0 here and from 1 in the text."""
    return f"row {row + 1}, column {shown(name)}"


def is_missing(value: object) -> bool:
    """Whether a cell holds nothing: None, not a number, or the words that programs write for it."""
    if isinstance(value, str):
        return value.strip().lower() in _MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def numbers(name: str, values: Column) -> Floats:
    """Return the column as float64, NaN where a cell is missing."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values.astype(np.float64)
    out = np.empty(len(values))
    for i, value in enumerate(values):
        out[i] = math.nan if is_missing(value) else _number(name, i, value)
    return out


def _number(name: str, row: int, value: Any) -> float:
    # Python's float() also takes 1_000 and digits of all scripts; no other program means that.
    odd = isinstance(value, str) and ("_" in value or not value.isascii())
    if not odd and isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise InputError(f"{at(row, name)}: {shown(value)} is not a number")


def whole(name: str, values: Column, *, missing: int | None = None) -> Ints:
    """Return the column as int64; a missing cell is an error unless `missing` says its value."""
    found = numbers(name, values)
    empty = np.isnan(found)
    if missing is not None:
        found[empty] = missing
    elif empty.any():
        raise InputError(f"{at(int(np.argmax(empty)), name)}: is empty; it needs a whole number")
    bad = (found != np.floor(found)) | (np.abs(found) > _WHOLE_MAX)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{at(row, name)}: {shown(values[row])} is not a whole number")
    return found.astype(np.int64)


def flags(name: str, values: Column, *, meaning: str) -> Bools:
    """Return the column as booleans, from 1 and 0 or true and false.

    Args:
        meaning: what 1 and 0 mean, for the error, as in ``1 (safe) nor 0 (unsafe)``.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        bad = (values != 0) & (values != 1)
        if bad.any():
            _refuse_flag(name, int(np.argmax(bad)), values, meaning)
        return values.astype(np.bool_)
    out = np.empty(len(values), dtype=np.bool_)
    for i, value in enumerate(values):
        word = str(value).strip().lower() if isinstance(value, str | int | float) else ""
        if word not in _TRUE and word not in _FALSE:
            _refuse_flag(name, i, values, meaning)
        out[i] = word in _TRUE
    return out


def _refuse_flag(name: str, row: int, values: Column, meaning: str) -> None:
    value = values[row]
    what = "is empty; it must be" if is_missing(value) else f"{shown(value)} is neither"
    between = meaning.replace(" nor ", " or ") if is_missing(value) else meaning
    raise InputError(f"{at(row, name)}: {what} {between}")


def names(name: str, values: Column, *, advice: str | None = None) -> Names:
    """Return the column as text; an empty cell is an error that ends in `advice`, where given."""
    cells = values.tolist() if isinstance(values, np.ndarray) else values
    out = np.empty(len(cells), dtype=object)
    for i, value in enumerate(cells):
        if isinstance(value, str):
            out[i] = value
        elif value is None or (isinstance(value, float) and math.isnan(value)):
            out[i] = ""
        elif isinstance(value, int | float):
            out[i] = str(value)
        else:
            raise InputError(f"{at(i, name)}: {shown(value)} is neither text nor a number")
        if advice is not None and not out[i]:
            raise InputError(f"{at(i, name)}: is empty; {advice}")
    return out
