"""The tables, as SQLAlchemy Core describes them; the same on SQLite and on PostgreSQL.

`events.body` is null where retention took an event away. Its row stays with sequence number, time,
kind and hash, so that a gap never looks like a loss and the root of its period can still be made.

SQLite keeps in a column whatever another program writes there, text among bytes as well. Here,
where rows become values, such a one becomes what was surely never written, so that whoever compares
it with its hash finds it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from tocsin.errors import StoreDamaged


class _Typed:
    """A type of column that gives values of its own kind alone, whatever stands in the file.

    In the place of another kind it gives what was surely never written. Where there is no such
    value, or the writer would go on from it, reading ends there.
    """

    _kind: type
    _never: Any = None

    def result_processor(self, *_: object) -> Callable[[Any], Any]:
        """Give what makes a value of what the database gave."""
        return partial(_value, self._kind, self._never)


class _Bytes(_Typed, LargeBinary):
    _kind, _never = bytes, b"never written"


class _Edge(_Typed, LargeBinary):
    _kind = bytes


class _Text(_Typed, Text):
    _kind, _never = str, "never written"


class _Number(_Typed, BigInteger):
    _kind = int


class _Level(_Typed, Integer):
    _kind = int


def _value(kind: type, never: Any, found: Any) -> Any:
    if found is None or type(found) is kind:
        return found
    if never is None:
        is_, was = type(found).__name__, kind.__name__
        raise StoreDamaged(f"a value of type {is_}, where {was} was written: run `tocsin fsck`")
    return never


metadata = MetaData()

heads = Table(
    "heads",
    metadata,
    Column("tenant", _Text, primary_key=True),
    Column("seq", _Number, nullable=False, comment="of the last event; 0 before the first"),
    Column("size", _Number, nullable=False, comment="of the log, in entries"),
    Column("frontier", _Edge, nullable=False, comment="hashes of its complete subtrees"),
    Column("period", _Number, nullable=False, comment="last sequence that a period covers"),
    Column("updated_us", _Number, nullable=False),
)
"""Where each tenant's sequence and log end; its row is the lock of the tenant."""

events = Table(
    "events",
    metadata,
    Column("tenant", _Text, primary_key=True),
    Column("seq", _Number, primary_key=True, autoincrement=False),
    Column("id", _Text, nullable=False),
    Column("time_us", _Number, nullable=False),
    Column("kind", _Text, nullable=False),
    Column("route", _Text, nullable=False),
    Column("model", _Text, nullable=False),
    Column("request", _Text),
    Column("call", _Text),
    Column("session", _Text),
    Column("user", _Text),
    Column("hash", _Bytes, nullable=False),
    Column("body", _Bytes, comment="the event; null where retention took it away"),
    UniqueConstraint("tenant", "id", name="events_id"),
)

for _link in ("request", "call", "session", "user"):
    _there = events.c[_link].is_not(None)
    Index(
        f"events_{_link}",
        events.c.tenant,
        events.c[_link],
        events.c.seq,
        sqlite_where=_there,
        postgresql_where=_there,
    )
Index("events_route", events.c.tenant, events.c.route, events.c.time_us, events.c.kind)
Index("events_kind", events.c.tenant, events.c.kind, events.c.time_us, events.c.route)

entries = Table(
    "entries",
    metadata,
    Column("tenant", _Text, primary_key=True),
    Column("index", _Number, primary_key=True, autoincrement=False),
    Column("kind", _Text, nullable=False),
    Column("id", _Text, nullable=False),
    Column("seq", _Number, nullable=False),
    Column("made_us", _Number, nullable=False),
    Column("entry", _Bytes, nullable=False, comment="the bytes of the leaf"),
    UniqueConstraint("tenant", "id", "kind", name="entries_id"),
    Index("entries_kind", "tenant", "kind", "index"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("tenant", _Text, primary_key=True),
    Column("level", _Level, primary_key=True, autoincrement=False),
    Column("index", _Number, primary_key=True, autoincrement=False),
    Column("hash", _Bytes, nullable=False),
    sqlite_with_rowid=False,
)
"""Hashes of the complete subtrees of each tenant's log; level 0 holds the leaves."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("tenant", _Text, primary_key=True),
    Column("size", _Number, primary_key=True, autoincrement=False),
    Column("root", _Bytes, nullable=False),
    Column("note", _Text, nullable=False, comment="signed"),
    Column("made_us", _Number, nullable=False),
)

tenant_keys = Table(
    "tenant_keys",
    metadata,
    Column("tenant", _Text, primary_key=True),
    Column("version", _Level, primary_key=True, autoincrement=False),
    Column("wrapped", _Bytes, comment="null once destroyed"),
    Column("made_us", _Number, nullable=False),
)

subject_keys = Table(
    "subject_keys",
    metadata,
    Column("tenant", _Text, primary_key=True),
    Column("subject", _Text, primary_key=True),
    Column("wrapped", _Bytes, comment="null once destroyed"),
    Column("made_us", _Number, nullable=False),
    Column("destroyed_us", _Number),
)

contents = Table(
    "contents",
    metadata,
    Column("tenant", _Text, primary_key=True),
    Column("id", _Text, primary_key=True),
    Column("subject", _Text, nullable=False),
    Column("request", _Text),
    Column("what", _Text, nullable=False),
    Column("why", _Text, nullable=False),
    Column("made_us", _Number, nullable=False),
    Column("expires_us", _Number, nullable=False),
    Column("nonce", _Bytes, nullable=False),
    Column("sealed", _Bytes, nullable=False),
    ForeignKeyConstraint(
        ["tenant", "subject"],
        ["subject_keys.tenant", "subject_keys.subject"],
        name="contents_subject",
    ),
    Index("contents_subject_index", "tenant", "subject"),
    Index("contents_request", "tenant", "request"),
    Index("contents_expires", "expires_us"),
)

grants = Table(
    "grants",
    metadata,
    Column("tenant", _Text, primary_key=True),
    Column("id", _Text, primary_key=True),
    Column("principal", _Text, nullable=False),
    Column("reason", _Text, nullable=False),
    Column("from_us", _Number, nullable=False),
    Column("until_us", _Number, nullable=False),
    Column("given_by", _Text, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("tenant", _Text, primary_key=True),
    Column("id", _Text, primary_key=True),
    Column("hash", _Text, nullable=False, unique=True),
    Column("role", _Text, nullable=False),
    Column("scopes", _Text, nullable=False, comment="JSON array"),
    Column("made_us", _Number, nullable=False),
    Column("expires_us", _Number),
    Column("revoked_us", _Number),
    Column("label", _Text, nullable=False),
)

segments = Table(
    "segments",
    metadata,
    Column("tenant", _Text, primary_key=True),
    Column("first", _Number, primary_key=True, autoincrement=False),
    Column("last", _Number, nullable=False),
    Column("from_us", _Number, nullable=False),
    Column("until_us", _Number, nullable=False),
    Column("path", _Text, nullable=False),
    Column("sha256", _Text, nullable=False),
    Column("rows", _Number, nullable=False),
    Column("made_us", _Number, nullable=False),
)
"""Parquet files that hold events whose rows were taken out of `events`."""

cursors = Table(
    "cursors",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("tenant", _Text, primary_key=True),
    Column("seq", _Number, nullable=False),
    Column("updated_us", _Number, nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("key", _Text, primary_key=True),
    Column("value", _Text, nullable=False),
)
