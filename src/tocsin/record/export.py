"""A tenant's events as files: JSON lines, CloudEvents a line, or Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tocsin.errors import MissingExtra
from tocsin.events.cloudevents import to_cloudevent
from tocsin.limits import EXPORT_ROWS
from tocsin.record.outward import Reading
from tocsin.store.reading import Stored, Which
from tocsin.store.scope import Scope

_encode = msgspec.json.Encoder().encode
_LINKS = ("user", "session", "request", "call", "retrieval", "tool_call")
_SEGMENT = ("route", "model", "model_version", "policy", "policy_digest", "language", "surface")


def parts(reader: Reading, scope: Scope, which: Which) -> Iterator[Sequence[Stored]]:
    """Give events in the order of their sequence, some thousand at a time.

    Args:
        reader: the store, or its history, which reads closed hours too.
        scope: whose.
        which: what is wanted.
    """
    after = which.get("after_seq", 0)
    while True:
        wanted: Which = {**which, "after_seq": after}
        found = reader.events(scope, limit=EXPORT_ROWS, **wanted)
        if found:
            yield found
            after = found[-1].seq
        if len(found) < EXPORT_ROWS:
            return


def json_line(stored: Stored) -> bytes:
    """Write an event with its sequence number, as one line."""
    return _encode({"seq": stored.seq, **msgspec.to_builtins(stored.event)}) + b"\n"


def cloudevent_line(stored: Stored) -> bytes:
    """Write an event as a CloudEvent, as one line; `sequence` is the extension of that name."""
    return _encode({**to_cloudevent(stored.event), "sequence": f"{stored.seq:020}"}) + b"\n"


def write_lines(into: BinaryIO, found: Iterator[Sequence[Stored]], *, cloudevents: bool) -> int:
    """Write lines; returns how many."""
    line = cloudevent_line if cloudevents else json_line
    n = 0
    for part in found:
        into.writelines(map(line, part))
        n += len(part)
    return n


def write_parquet(path: Path, found: Iterator[Sequence[Stored]]) -> int:
    """Write a Parquet file with a column for each link and segment field; returns its rows.

    Raises:
        MissingExtra: pyarrow is not installed.
        OSError: it cannot be written; what was written is left for the caller to remove.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra(
            "Parquet needs the extra parquet: pip install 'tocsin[parquet]'"
        ) from None
    text = [*_LINKS, *_SEGMENT, "id", "source", "kind", "schema", "body"]
    columns: list[tuple[str, Any]] = [("seq", pa.int64()), ("time", pa.timestamp("us", tz="UTC"))]
    columns += [(name, pa.string()) for name in text]
    columns += [("calibrations", pa.list_(pa.string()))]
    schema = pa.schema(columns)
    n = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in found:
            writer.write_table(pa.Table.from_pylist([_row(one) for one in part], schema=schema))
            n += len(part)
    return n


def _row(stored: Stored) -> dict[str, Any]:
    event = stored.event
    return {
        "seq": stored.seq,
        "time": event.time_us,
        "id": event.id,
        "source": event.source,
        "kind": event.kind,
        "schema": event.schema,
        "body": _encode(event.body).decode(),
        "calibrations": list(event.segment.calibrations),
        **{name: getattr(event.links, name) for name in _LINKS},
        **{name: getattr(event.segment, name) for name in _SEGMENT},
    }
