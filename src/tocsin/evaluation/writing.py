"""Columns become a file: parquet, CSV or JSON lines, written whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tocsin.durable import write_whole
from tocsin.errors import InputError, MissingExtra
from tocsin.risk.trajectories import Column

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")


def check_target(path: str | os.PathLike[str]) -> None:
    """Refuse a name that says no format, before any work is done."""
    name = os.fspath(path).lower()
    if not name.endswith(SUFFIXES):
        raise InputError(f"{os.fspath(path)!r}: the name must end in one of {', '.join(SUFFIXES)}")
    if name.endswith(".parquet"):
        try:
            import pyarrow  # noqa: F401, ICN001
        except ImportError:
            raise MissingExtra(
                "writing parquet needs pyarrow: pip install 'tocsin[parquet]'"
            ) from None


def check_place(path: str | os.PathLike[str], *others: str | os.PathLike[str]) -> None:
    """Refuse a place that could not be written, before any work is done.

    Args:
        path: of a file to be written.
        others: files that are read, or written too: none of them may be the same.

    Raises:
        InputError: it is one of the others, a folder, or in a folder that does not exist, or its
            name is not UTF-8.
    """
    shown = repr(os.fspath(path))
    if not is_utf8(os.fspath(path)):
        raise InputError(f"cannot write {shown}: the name is not UTF-8; choose another")
    if os.path.realpath(path) in map(os.path.realpath, others):
        raise InputError(f"{shown} would be written over a file that is needed; choose another")
    try:
        is_folder, has_folder = Path(path).is_dir(), Path(path).parent.is_dir()
    except OSError as e:
        raise InputError(f"cannot write {shown}: {e.strerror}") from None
    if is_folder:
        raise InputError(f"cannot write {shown}: it is a folder; name a file")
    if not has_folder:
        raise InputError(f"cannot write {shown}: there is no such folder; make it first")


def is_utf8(text: str) -> bool:
    """Whether a text from the command line was UTF-8: other bytes become lone surrogates."""
    return text == text.encode("utf-8", "replace").decode()


def write_columns(path: str | os.PathLike[str], columns: Mapping[str, Column]) -> None:
    """Write columns of equal length; NaN and None are written as missing.

    Args:
        path: its suffix names the format.
        columns: name to values: text, numbers, or NumPy arrays of them.

    Raises:
        InputError: an unknown format, or the place cannot be written.
    """
    check_target(path)
    name = os.fspath(path).lower()
    plain = {key: _plain(values) for key, values in columns.items()}
    if name.endswith(".parquet"):
        content = _parquet(plain)
    elif ".csv" in name:
        content = _csv(plain)
    else:
        content = _jsonl(plain)
    write_whole(path, gzip.compress(content, mtime=0) if name.endswith(".gz") else content)


def _plain(values: Column) -> list[Any]:
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [None if isinstance(v, float) and math.isnan(v) else v for v in listed]


def _parquet(columns: Mapping[str, list[Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    try:
        pq.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), sink)
    except (pa.ArrowException, UnicodeEncodeError) as e:
        raise InputError(f"cannot be written as parquet: {e}; use .jsonl") from None
    return sink.getvalue()


def _csv(columns: Mapping[str, list[Any]]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return sink.getvalue().encode("utf-8", "replace")


def _jsonl(columns: Mapping[str, list[Any]]) -> bytes:
    rows = zip(*columns.values(), strict=True)
    return b"".join(
        msgspec.json.encode(dict(zip(columns, row, strict=True))) + b"\n" for row in rows
    )
