"""The tables, as SQLAlchemy Core describes them; the same on SQLite and on PostgreSQL.

`events.body` is null where retention took an event away. Its row stays with sequence number, time,
kind and hash, so that a gap never looks like a loss and the root of its period can still be made.
"""

from __future__ import annotations

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

metadata = MetaData()

heads = Table(
    "heads",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False, comment="of the last event; 0 before the first"),
    Column("size", BigInteger, nullable=False, comment="of the log, in entries"),
    Column("frontier", LargeBinary, nullable=False, comment="hashes of its complete subtrees"),
    Column("period", BigInteger, nullable=False, comment="last sequence that a period covers"),
    Column("updated_us", BigInteger, nullable=False),
)
"""Where each tenant's sequence and log end; its row is the lock of the tenant."""

events = Table(
    "events",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("request", Text),
    Column("call", Text),
    Column("session", Text),
    Column("user", Text),
    Column("hash", LargeBinary, nullable=False),
    Column("body", LargeBinary, comment="the event; null where retention took it away"),
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
    Column("tenant", Text, primary_key=True),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("made_us", BigInteger, nullable=False),
    Column("entry", LargeBinary, nullable=False, comment="the bytes of the leaf"),
    UniqueConstraint("tenant", "id", "kind", name="entries_id"),
    Index("entries_kind", "tenant", "kind", "index"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Hashes of the complete subtrees of each tenant's log; level 0 holds the leaves."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False, comment="signed"),
    Column("made_us", BigInteger, nullable=False),
)

tenant_keys = Table(
    "tenant_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("wrapped", LargeBinary, comment="null once destroyed"),
    Column("made_us", BigInteger, nullable=False),
)

subject_keys = Table(
    "subject_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("wrapped", LargeBinary, comment="null once destroyed"),
    Column("made_us", BigInteger, nullable=False),
    Column("destroyed_us", BigInteger),
)

contents = Table(
    "contents",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("request", Text),
    Column("what", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("made_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
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
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("principal", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("from_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("given_by", Text, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("hash", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("scopes", Text, nullable=False, comment="JSON array"),
    Column("made_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("revoked_us", BigInteger),
    Column("label", Text, nullable=False),
)

segments = Table(
    "segments",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("from_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("made_us", BigInteger, nullable=False),
)
"""Parquet files that hold events whose rows were taken out of `events`."""

cursors = Table(
    "cursors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
