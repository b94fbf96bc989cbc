"""One closed stretch of events as a Parquet file: written whole and durably, read by DuckDB.

A file holds the columns of the table `events` but for the tenant. It never changes: when retention
takes events away, another file takes its place.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from tocsin.durable import sync_folder, write_whole
from tocsin.errors import HistoryDamaged, InputError, MissingExtra
from tocsin.limits import HISTORY_GROUP_ROWS, HISTORY_IDS_OPEN_MAX, HISTORY_MEMORY_MB
from tocsin.store.commit import indexed

Row = tuple[Any, ...]

COLUMNS = (
    "seq", "id", "time_us", "kind", "route", "model", "request", "call", "session", "user",
    "hash", "body",
)  # fmt: skip
"""In this order everywhere."""

FOUND_BY = ("id", "request", "call", "session")
"""Columns that an event is found by; each row group says by a Bloom filter what it cannot hold."""

IDS = ".ids"
"""Ending of the file beside each segment that says which ids it may hold: their CRC-32, ascending,
little-endian, after the magic and their number. Who finds a name there still asks the segment."""

_MAGIC = b"tocsin.ids/1\n\0\0\0"
_PLACES = tuple(COLUMNS.index(name) for name in FOUND_BY)

_WORDS = ("kind", "route", "model", "request", "call", "session", "user")
_READ_BYTES = 1 << 20


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is durable under its name.

    Args:
        name: of the file, in its folder; made of sequence numbers and of its digest.
        sha256: of its bytes, in hex.
        rows: events, those without body included.
        bodies: events that still have one.
        first, last: sequence numbers.
        from_us, until_us: of its events' times; until is not part of it.
    """

    name: str
    sha256: str
    rows: int
    bodies: int
    first: int
    last: int
    from_us: int
    until_us: int


def library(name: str) -> Any:
    """Import a library that history needs, or say which extra is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtra(
            "history needs pyarrow and duckdb: pip install 'tocsin[history]'"
        ) from None


def make_folder(folder: Path) -> None:
    """Make a folder that its owner alone can read, and sync its parent."""
    if folder.is_dir():
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as e:
        raise InputError(
            f"cannot make the folder of history {str(folder)!r}: {e.strerror}"
        ) from None


def write(folder: Path, batches: Iterable[Sequence[Row]]) -> Written | None:
    """Write rows as one file: temporary file, sync, rename, sync of the folder.

    Args:
        folder: where; it exists.
        batches: rows in the order of `COLUMNS`, ascending by sequence number, in parts of at most
            `HISTORY_GROUP_ROWS`.

    Returns:
        What is durable now; None where there was no row.

    Raises:
        InputError: the file cannot be written; nothing is left of it.
    """
    temporary = folder / f".{secrets.token_hex(8)}.tmp"
    told = _Told()
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w+b") as file:
            _write(file, batches, told)
            file.flush()
            sync_file(file.fileno())
            file.seek(0)
            digest = _digest(file)
        if not told.rows:
            return None
        name = f"{told.first}-{told.last}-{digest[:16]}.parquet"
        # First, so that no segment is ever without its ids.
        write_whole(folder / f"{name}{IDS}", told.ids())
        temporary.replace(folder / name)
        sync_folder(folder)
    except OSError as e:
        raise InputError(f"cannot write history to {str(folder)!r}: {e.strerror}") from e
    finally:
        temporary.unlink(missing_ok=True)
    return Written(
        name=name,
        sha256=digest,
        rows=told.rows,
        bodies=told.bodies,
        first=told.first,
        last=told.last,
        from_us=told.from_us,
        until_us=told.until_us,
    )


class _Told:
    """What is counted while a file is written."""

    rows = bodies = first = last = from_us = until_us = 0

    def __init__(self) -> None:
        self._ids: list[NDArray[np.uint32]] = []

    def ids(self) -> bytes:
        """Make the file of ids."""
        ids = np.unique(np.concatenate(self._ids))
        return _MAGIC + len(ids).to_bytes(8, "little") + ids.astype("<u4").tobytes()

    def count(self, batch: Sequence[Row]) -> None:
        times = [row[2] for row in batch]
        if not self.rows:
            self.first, self.from_us = batch[0][0], times[0]
        names = {row[place] for place in _PLACES for row in batch} - {None}
        crcs = (crc32(name.encode()) for name in names)
        self._ids.append(np.unique(np.fromiter(crcs, np.uint32, len(names))))
        self.rows += len(batch)
        self.bodies += sum(row[11] is not None for row in batch)
        self.last = batch[-1][0]
        self.from_us = min(self.from_us, *times)
        self.until_us = max(self.until_us, *(time + 1 for time in times))


def _write(file: Any, batches: Iterable[Sequence[Row]], told: _Told) -> None:
    pa, pq = library("pyarrow"), library("pyarrow.parquet")
    word = pa.string()
    types = {"seq": pa.int64(), "time_us": pa.int64(), "hash": pa.binary(32), "body": pa.binary()}
    schema = pa.schema([(name, types.get(name, word)) for name in COLUMNS])
    filters = {name: {"ndv": HISTORY_GROUP_ROWS, "fpp": 0.01} for name in FOUND_BY}
    with pq.ParquetWriter(
        file, schema, compression="zstd", compression_level=1, use_dictionary=list(_WORDS),
        write_page_checksum=True, bloom_filter_options=filters,
    ) as writer:  # fmt: skip
        for batch in batches:
            if not batch:
                continue
            told.count(batch)
            columns = zip(*batch, strict=True)
            arrays = [
                pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema), HISTORY_GROUP_ROWS)


def sync_file(descriptor: int) -> None:
    """Have the disk keep a file's bytes; of its own, so that a test can make it fail."""
    os.fsync(descriptor)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while part := file.read(_READ_BYTES):
        digest.update(part)
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    Raises:
        HistoryDamaged: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _digest(file)
    except OSError as e:
        raise HistoryDamaged(
            f"the file of history {path.name!r} cannot be read: {e.strerror}"
        ) from None


def check(path: Path, sha256: str) -> None:
    """Refuse a file that is not the one that was written, with a HistoryDamaged."""
    if digest_of(path) != sha256:
        raise HistoryDamaged(f"the file of history {path.name!r} is not what was written")


class Ids:
    """Which ids the files of a folder may hold, read where it is needed and no further.

    Args:
        folder: as of `Reader`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, NDArray[np.uint32] | None] = {}

    def among(self, names: Sequence[str], value: str) -> list[str]:
        """Return those files that may hold an id; a file without its ids may hold anything."""
        if len(self._known) > HISTORY_IDS_OPEN_MAX:
            self._known.clear()
        crc = np.uint32(crc32((indexed(value) or "").encode(errors="replace")))
        found = []
        for name in names:
            if name not in self._known:
                self._known[name] = _read_ids(self._folder / f"{name}{IDS}")
            ids = self._known[name]
            if ids is None:
                found.append(name)
                continue
            place = int(np.searchsorted(ids, crc))
            if place < len(ids) and ids[place] == crc:
                found.append(name)
        return found


def _read_ids(path: Path) -> NDArray[np.uint32] | None:
    start = len(_MAGIC) + 8
    try:
        with path.open("rb") as file:
            head = file.read(start)
        count = int.from_bytes(head[len(_MAGIC) :], "little")
        if not head.startswith(_MAGIC) or path.stat().st_size != start + 4 * count or not count:
            return None
        return np.memmap(path, "<u4", "r", start, (count,))
    except (OSError, ValueError):
        return None


class Reader:
    """DuckDB in memory, over the files of one folder and nothing else.

    It can read no other file, write none, load no extension and reach no network, and these
    settings cannot be changed back. Names and values are only ever given as parameters.

    Args:
        folder: the only one that is read.
    """

    def __init__(self, folder: Path) -> None:
        duckdb = library("duckdb")
        self._errors = duckdb.Error
        self._folder = folder
        inside = f"{folder.absolute()}{os.sep}".replace("'", "''")
        self._connection = duckdb.connect(":memory:")
        for setting in (
            f"memory_limit='{HISTORY_MEMORY_MB}MB'",
            "temp_directory=''",
            "autoinstall_known_extensions=false",
            "autoload_known_extensions=false",
            "allow_community_extensions=false",
            "parquet_metadata_cache=true",
            # A file never changes under its name.
            "validate_external_file_cache='NO_VALIDATION'",
            f"allowed_directories=['{inside}']",
            "enable_external_access=false",
            "lock_configuration=true",
        ):
            self._connection.execute(f"SET {setting}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def rows(
        self, names: Sequence[str], query: str, values: Mapping[str, object] | None = None
    ) -> list[Row]:
        """Ask the files.

        Args:
            names: of files in the folder, as `write` made them.
            query: SQL with ``read_parquet($files)``; no value is ever part of it.
            values: its other parameters.

        Raises:
            FileNotFoundError: a file is not there (any more).
            HistoryDamaged: a file cannot be read.
        """
        if not names:
            return []
        files = [str(self._folder.absolute() / name) for name in names]
        with self._connection.cursor() as cursor:
            try:
                found: list[Row] = cursor.execute(
                    query, {"files": files, **(values or {})}
                ).fetchall()
            except self._errors as e:
                for file in files:
                    if not os.path.exists(file):  # noqa: PTH110 - a name of ours
                        raise FileNotFoundError(file) from e
                raise HistoryDamaged(f"history cannot be read: {_first_line(e)}") from e
        return found


def _first_line(e: Exception) -> str:
    return str(e).partition("\n")[0][:200]
