"""Bytes of a data file become a table of columns: parquet, CSV, JSON lines and npz.

Errors raised here do not yet name the file; `tocsin.evaluation.datasets` puts it in front.
"""

from __future__ import annotations

import csv
import gzip
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import numpy as np

from tocsin import limits
from tocsin.errors import InputError, MissingExtra
from tocsin.evaluation import cells
from tocsin.evaluation.layouts import Table
from tocsin.limits import DATA_BYTES_MAX, DATA_ROWS_MAX
from tocsin.risk.trajectories import Column

Choose = Callable[[tuple[str, ...]], Iterable[str]]
"""From the names of all columns to those to load."""

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".npz")


def load(path: Path, choose: Choose, candidates: frozenset[str]) -> Table:
    """Read the chosen columns.

    Args:
        path: the file; its suffix names the format.
        choose: picks columns; may raise an InputError.
        candidates: every name that `choose` could pick, so that nothing else is kept in memory
            where the names are known only at the end.
    """
    suffix = _suffix(path)
    _check(path)
    if suffix == ".parquet":
        return _parquet(path, choose)
    if suffix == ".npz":
        return _npz(path, choose)
    with _opened(path, zipped=suffix.endswith(".gz")) as file:
        if suffix.startswith(".csv"):
            return _csv(file, choose)
        return _jsonl(file, choose, candidates)


def _suffix(path: Path) -> str:
    name = path.name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise InputError(f"the name must end in one of {', '.join(SUFFIXES)}")


def _check(path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputError("there is no such file") from None
    except (OSError, ValueError) as e:
        raise InputError(f"cannot be read: {_reason(e)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError("is a directory; name one file in it")
    if not stat.S_ISREG(found.st_mode):
        raise InputError("is no regular file; copy its content to one")
    if found.st_size == 0:
        raise InputError("is empty; it needs labelled trajectories, one row per step")


def _reason(e: Exception) -> str:
    text = (e.strerror if isinstance(e, OSError) else None) or str(e) or type(e).__name__
    return cells.shown(text)[1:-1]


# -------------------------------------------------------------------------------------------- text


@contextmanager
def _opened(path: Path, *, zipped: bool) -> Iterator[IO[bytes]]:
    """Open for reading bytes; a broken file or archive is an InputError."""
    try:
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            yield cast("IO[bytes]", file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise InputError(f"is no complete gzip file ({_reason(e)}); copy it again") from None
    except OSError as e:
        raise InputError(f"cannot be read: {_reason(e)}") from None


def _lines(file: IO[bytes]) -> Iterator[str]:
    """Lines with their ends, the byte order mark taken off; bounded in length and in sum."""
    total = number = 0
    while raw := file.readline(limits.LINE_BYTES_MAX + 1):
        number += 1
        total += len(raw)
        if len(raw) > limits.LINE_BYTES_MAX:
            raise InputError(
                f"line {number} is longer than {limits.LINE_BYTES_MAX} bytes; write one row per "
                "line, and leave out columns that are not needed, or use parquet"
            )
        if total > DATA_BYTES_MAX:
            raise InputError(f"has more than {DATA_BYTES_MAX} bytes; split it or use parquet")
        yield _decoded(raw, number)


def _decoded(raw: bytes, number: int) -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as e:
        raise InputError(
            f"line {number} is not UTF-8 (byte {raw[e.start]:#04x}); save the file as UTF-8"
        ) from None


def _csv(file: IO[bytes], choose: Choose) -> Table:
    csv.field_size_limit(limits.LINE_BYTES_MAX)  # a field is no longer than its line
    reader = csv.reader(_lines(file), strict=True)
    try:
        names = tuple(name.strip() for name in next((row for row in reader if row), []))
        if not names:
            raise InputError("is empty; it needs a header and one row per step")
        kept = _positions(names, choose)
        columns: list[list[str]] = [[] for _ in kept]
        lines: list[int] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise InputError(
                    f"row {len(lines) + 1} (line {reader.line_num}) has {len(row)} fields where "
                    f"the header has {len(names)}; is a comma not quoted, or is the file cut off?"
                )
            lines.append(reader.line_num)
            for column, i in zip(columns, kept.values(), strict=True):
                column.append(row[i])
    except csv.Error as e:
        raise InputError(
            f"line {reader.line_num} is not CSV ({_reason(e)}); is a quote not closed?"
        ) from None
    if not lines:
        raise InputError("has a header and no rows; it needs one row per step")
    return Table(names, dict(zip(kept, columns, strict=True)), lines)


def _positions(names: tuple[str, ...], choose: Choose) -> dict[str, int]:
    """Where each chosen column is."""
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise InputError("its columns are not separated by commas; save it as comma-separated CSV")
    kept = {}
    for name in choose(names):
        if names.count(name) > 1:
            raise InputError(f"has the column {cells.shown(name)} twice; rename one of them")
        kept[name] = names.index(name)
    return kept


def _jsonl(file: IO[bytes], choose: Choose, candidates: frozenset[str]) -> Table:
    names: dict[str, None] = {}
    columns: dict[str, list[Any]] = {}
    lines: list[int] = []
    for line, item in _objects(file):
        if not isinstance(item, dict):
            raise InputError(f"{line} is {cells.shown(item)}, not an object with named columns")
        names.update(dict.fromkeys(item))
        for name in item.keys() & candidates:
            column = columns.setdefault(name, [])
            column.extend([None] * (len(lines) - len(column)))
            column.append(item[name])
        lines.append(line.number)
    if not lines:
        raise InputError("holds no rows; it needs one JSON object per step")
    chosen = list(choose(tuple(names)))
    for name in chosen:
        columns[name].extend([None] * (len(lines) - len(columns[name])))
    same = lines == list(range(1, len(lines) + 1))
    return Table(tuple(names), {name: columns[name] for name in chosen}, None if same else lines)


class _Place:
    """Where an object stands: a line of its own, or a place in one array."""

    def __init__(self, number: int, word: str = "line") -> None:
        self.number, self.word = number, word

    def __str__(self) -> str:
        return f"{self.word} {self.number}"


def _objects(file: IO[bytes]) -> Iterator[tuple[_Place, Any]]:
    """Objects one a line, or, where the file begins with a bracket, those of one array."""
    head = file.read(1024)
    file.seek(0)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        raw = file.read(DATA_BYTES_MAX + 1)
        if len(raw) > DATA_BYTES_MAX:
            raise InputError(f"has more than {DATA_BYTES_MAX} bytes; split it")
        array = _json(raw.removeprefix(b"\xef\xbb\xbf"), "the JSON array")
        yield from ((_Place(i, "item"), item) for i, item in enumerate(array, 1))
        return
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            yield _Place(number), _json(line, f"line {number}")


def _json(text: str | bytes, where: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        nan = "NaN" in text if isinstance(text, str) else b"NaN" in text
        hint = "; JSON has no NaN: write null" if nan else ""
        raise InputError(f"{where} is not JSON: {_reason(e)}{hint}") from None


# ------------------------------------------------------------------------------------------ arrays


def _npz(path: Path, choose: Choose) -> Table:
    try:
        _check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            names = tuple(file.files)
            columns: dict[str, Column] = {name: file[name] for name in choose(names)}
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, MemoryError) as e:
        raise InputError(f"is no complete npz file ({_reason(e)}); copy it again") from None
    except (ValueError, TypeError, SyntaxError, UnicodeError) as e:
        raise InputError(
            f"an array cannot be read ({_reason(e)}); pickled objects are never loaded: save plain "
            "arrays of numbers or text"
        ) from None
    return Table(names, columns)


def _check_archive(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise InputError("is no complete npz file; write it with numpy.savez")
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > DATA_BYTES_MAX:
        raise InputError(f"holds {size} bytes of arrays, at most {DATA_BYTES_MAX} are read")


def _parquet(path: Path, choose: Choose) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("reading parquet needs pyarrow: pip install 'tocsin[parquet]'") from None
    try:
        with pq.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            kept = list(_positions(names, choose))
            _check_rows(file.metadata.num_rows)
            table = file.read(columns=kept)
            return Table(names, {name: _column(pa, name, table.column(name)) for name in kept})
    except InputError:
        raise
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as e:
        raise InputError(
            f"is no complete parquet file ({_reason(e)}); write or copy it again"
        ) from None


def _check_rows(rows: int) -> None:
    if rows == 0:
        raise InputError("has columns and no rows; it needs one row per step")
    if rows > DATA_ROWS_MAX:
        raise InputError(f"has {rows} rows, at most {DATA_ROWS_MAX} are read")


def _column(pa: Any, name: str, column: Any) -> Column:
    """Numbers as an array; text as objects, equal texts the same object."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(kind) and column.null_count:
        column = column.cast(pa.int8())
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_view(pa, kind):
        return _texts(pa, column)
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"column {cells.shown(name)} is of type {kind}, not numbers or text")
    array: Column = column.to_numpy()
    return array


def _is_view(pa: Any, kind: Any) -> bool:
    return hasattr(pa.types, "is_string_view") and bool(pa.types.is_string_view(kind))


def _texts(pa: Any, column: Any) -> Column:
    encoded = column.cast(pa.large_string()).dictionary_encode().unify_dictionaries()
    out = np.empty(len(column), dtype=object)
    start = 0
    for chunk in encoded.chunks:
        words = np.array([*chunk.dictionary.to_pylist(), None], dtype=object)
        codes = chunk.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)
        out[start : start + len(chunk)] = words[codes]
        start += len(chunk)
    return out
