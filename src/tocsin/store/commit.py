"""The one transaction: sequence numbers, hashes, log and signed checkpoint, all or nothing.

Events get their tenant's next sequence numbers, entries become leaves of its Merkle log, and the
checkpoint over the grown log is signed and stored with them. Ids that are there already change
nothing, so an append whose outcome nobody knows may be given again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from tocsin.errors import InputError, TocsinError
from tocsin.events.envelope import Event, encode, event_hash
from tocsin.limits import STORE_EVENT_BYTES_MAX, STORE_ID_CHARS_MAX
from tocsin.receipts.checkpoint import Checkpoint, origin_of, sign_checkpoint
from tocsin.receipts.entry import Kind, LogEntry
from tocsin.receipts.merkle import HASH_BYTES, Frontier, leaf_hash
from tocsin.receipts.period import Period, read_period
from tocsin.store import tables as t
from tocsin.store.append import Append, Committed, Content, Entry, Rejected, fault

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tocsin.store.keys import Keys

Row = tuple[Any, ...]
"""The values of a table's columns, in their order."""

_ID, _HASH = 0, 9
"""Where they stand in a prepared row of `events`, which lacks tenant and sequence number."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """An entry whose sequence number is not known yet: what stands before it, and after it."""

    entry: Entry
    before: bytes
    after: bytes
    period: Period | None

    def at(self, sequence: int) -> bytes:
        """Give the bytes of the entry."""
        return b"%b%d%b" % (self.before, sequence, self.after)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An append as far as it can be worked out before the transaction."""

    tenant: str
    rows: tuple[Row, ...]
    leaves: tuple[Leaf, ...]
    contents: tuple[Content, ...]


def prepare(append: Append, keys: Keys | None) -> Prepared | Rejected:
    """Encode, hash and check an append; nothing here needs the store."""
    try:
        why = fault(append)
        if why is not None:
            return Rejected(tenant=append.tenant, reason=why)
        if append.entries and keys is None:
            raise InputError("receipts and periods are signed, and this store has no keys")
        if append.entries and keys is not None:
            origin_of(keys.signer.name, append.tenant)
        return Prepared(
            tenant=append.tenant,
            rows=tuple(_row(event) for event in append.events),
            leaves=tuple(_leaf(append.tenant, entry) for entry in append.entries),
            contents=append.contents,
        )
    except (TocsinError, UnicodeEncodeError, msgspec.MsgspecError) as e:
        return Rejected(tenant=append.tenant, reason=str(e))


def commit(
    connection: Connection, given: Sequence[Prepared], keys: Keys | None, now_us: int
) -> list[Committed | Rejected]:
    """Write appends inside the caller's transaction.

    Args:
        connection: in a transaction that holds the store (SQLite); of PostgreSQL the rows of the
            tenants' heads are locked here, always in the same order.
        given: as `prepare` made them.
        keys: to sign, and to encrypt contents.
        now_us: the time, microseconds since 1970.

    Returns:
        One answer an append, in their order.
    """
    tenants = sorted({p.tenant for p in given})
    logs = {tenant: _Log(connection, head, keys, now_us) for tenant, head in _heads(
        connection, tenants, now_us
    )}  # fmt: skip
    for tenant, log in logs.items():
        log.look_up([p for p in given if p.tenant == tenant])
    done = [logs[p.tenant].take(p) for p in given]
    notes = {tenant: log.sign() for tenant, log in logs.items()}
    _insert(connection, t.events, (row for log in logs.values() for row in log.events))
    _insert(connection, t.entries, (row for log in logs.values() for row in log.entries))
    _insert(connection, t.nodes, (row for log in logs.values() for row in log.nodes))
    _insert(connection, t.checkpoints, (row for log in logs.values() for row in log.checkpoints))
    _update_heads(connection, [log.head_row() for log in logs.values() if log.changed])
    return [
        msgspec.structs.replace(answer, checkpoint=notes[p.tenant])
        if isinstance(answer, Committed) and p.leaves
        else answer
        for p, answer in zip(given, done, strict=True)
    ]


def indexed(value: str | None) -> str | None:
    """Cut a value to what the columns hold that events are found by; the event keeps it whole."""
    if value is None:
        return None
    return value[:STORE_ID_CHARS_MAX].replace("\0", "\N{REPLACEMENT CHARACTER}")


def _row(event: Event) -> Row:
    body = encode(event)
    if len(body) > STORE_EVENT_BYTES_MAX:
        raise InputError(f"event {event.id} has {len(body)} bytes: at most {STORE_EVENT_BYTES_MAX}")
    links, segment = event.links, event.segment
    return (
        event.id,
        event.time_us,
        event.kind,
        indexed(segment.route),
        indexed(segment.model),
        indexed(links.request),
        indexed(links.call),
        indexed(links.session),
        indexed(links.user),
        event_hash(body),
        body,
    )


def _leaf(tenant: str, entry: Entry) -> Leaf:
    period = read_period(entry.body) if entry.kind == "period" else None
    whole = LogEntry(
        tenant=tenant, kind=entry.kind, id=entry.id, sequence=0, body=entry.body
    ).write()
    after = b',"body":' + entry.body + b"}"
    return Leaf(entry, whole[: -len(after) - 1], after, period)


@dataclass(slots=True)
class _Known:
    """What the store has already of the ids that are given."""

    events: dict[str, bytes] = field(default_factory=dict)
    entries: dict[tuple[Kind, str], bytes] = field(default_factory=dict)
    contents: set[str] = field(default_factory=set)


class _Log:
    """One tenant's record while a transaction adds to it."""

    def __init__(
        self, connection: Connection, head: sa.Row[Any], keys: Keys | None, now_us: int
    ) -> None:
        self._connection, self._keys, self._now_us = connection, keys, now_us
        self.tenant: str = head.tenant
        self._seq: int = head.seq
        self._period: int = head.period
        hashes = bytes(head.frontier)
        self._tree = Frontier(
            head.size,
            [hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)],
        )
        self._before = self._tree.size
        self._known = _Known()
        self.changed = False
        self.events: list[Row] = []
        self.entries: list[Row] = []
        self.nodes: list[Row] = []
        self.checkpoints: list[Row] = []

    def look_up(self, given: Sequence[Prepared]) -> None:
        """Ask which of the ids are there already."""
        known = self._known
        ids = [row[_ID] for p in given for row in p.rows]
        known.events.update((name, bytes(digest)) for name, digest in self._of("events", ids))
        ids = [leaf.entry.id for p in given for leaf in p.leaves]
        known.entries.update(
            ((kind, name), bytes(raw)) for kind, name, raw in self._of("entries", ids)
        )
        ids = [content.id for p in given for content in p.contents]
        known.contents.update(name for (name,) in self._of("contents", ids))

    def _of(self, table: str, ids: Sequence[str]) -> Iterable[Any]:
        """Read what a table holds under some ids, by one statement for any number of them."""
        if not ids:
            return ()
        if self._connection.dialect.name == "sqlite":
            asked = f"{_KNOWN[table]} WHERE tenant = ? AND {_IN_SQLITE}"
            values: Any = msgspec.json.encode(ids).decode()
        else:
            asked = f"{_KNOWN[table]} WHERE tenant = %s AND id = ANY(%s)"
            values = list(ids)
        return self._connection.exec_driver_sql(asked, (self.tenant, values))

    def take(self, given: Prepared) -> Committed | Rejected:
        """Add one append, or nothing of it."""
        last = self._seq + len({row[_ID] for row in given.rows} - self._known.events.keys())
        try:
            self._check_periods(given.leaves, last)
            duplicates = self._seal(given.contents)
        except TocsinError as e:
            return Rejected(tenant=self.tenant, reason=str(e))
        differing: list[str] = []
        first = self._seq + 1
        for row in given.rows:
            known = self._known.events.get(row[_ID])
            if known is None:
                self._add_event(row)
            else:
                duplicates.append(row[_ID])
                differing += [row[_ID]] if known != row[_HASH] else []
        for leaf in given.leaves:
            stored = self._known.entries.get((leaf.entry.kind, leaf.entry.id))
            if stored is None:
                self._add_entry(leaf)
            else:
                duplicates.append(leaf.entry.id)
                same = stored.startswith(leaf.before) and stored.endswith(leaf.after)
                differing += [] if same else [leaf.entry.id]
        added = self._seq >= first
        return Committed(
            tenant=self.tenant,
            first=first if added else 0,
            last=self._seq if added else 0,
            duplicates=tuple(duplicates),
            differing=tuple(differing),
        )

    def sign(self) -> str | None:
        """Sign the log as it stands now; None where there is none."""
        if self._tree.size == self._before:
            c = t.checkpoints.c
            asked = sa.select(c.note).where(c.tenant == self.tenant, c.size == self._before)
            return self._connection.execute(asked).scalar()
        assert self._keys is not None  # noqa: S101 - `prepare` let no entry pass without
        signer, top = self._keys.signer, self._tree.root()
        origin = origin_of(signer.name, self.tenant)
        note = sign_checkpoint(Checkpoint(origin, self._tree.size, top), signer)
        self.checkpoints.append((self.tenant, self._tree.size, top, note, self._now_us))
        return note

    def head_row(self) -> dict[str, Any]:
        """Give the head as it is to be."""
        return {
            "of": self.tenant,
            "seq": self._seq,
            "size": self._tree.size,
            "frontier": b"".join(self._tree.hashes),
            "period": self._period,
            "updated_us": self._now_us,
        }

    def _add_event(self, row: Row) -> None:
        self._seq += 1
        self._known.events[row[_ID]] = row[_HASH]
        self.events.append((self.tenant, self._seq, *row))
        self.changed = True

    def _add_entry(self, leaf: Leaf) -> None:
        raw = leaf.at(self._seq)
        self._known.entries[leaf.entry.kind, leaf.entry.id] = raw
        self.entries.append((
            self.tenant,
            self._tree.size,
            leaf.entry.kind,
            leaf.entry.id,
            self._seq,
            self._now_us,
            raw,
        ))  # fmt: skip
        self.nodes += (
            (self.tenant, node.level, node.index, node.hash)
            for node in self._tree.append(leaf_hash(raw))
        )
        if leaf.period is not None:
            self._period = leaf.period.last
        self.changed = True

    def _check_periods(self, leaves: Iterable[Leaf], last: int) -> None:
        """Refuse a period that does not begin where the last one ended."""
        covered = self._period
        for leaf in leaves:
            period = leaf.period
            if period is None or (leaf.entry.kind, leaf.entry.id) in self._known.entries:
                continue
            if period.first != covered + 1 or not period.first <= period.last <= last:
                raise InputError(
                    f"period {leaf.entry.id} is from {period.first} to {period.last}: "
                    f"it has to begin at {covered + 1} and to end by {last}"
                )
            covered = period.last

    def _seal(self, contents: Iterable[Content]) -> list[str]:
        """Encrypt and store contents; give the ids of those that are there already."""
        known = [c.id for c in contents if c.id in self._known.contents]
        fresh = [c for c in contents if c.id not in self._known.contents]
        if fresh:
            seal(self._connection, self._keys, self.tenant, fresh, self._now_us)
            self._known.contents.update(c.id for c in fresh)
        return known


def seal(
    connection: Connection,
    keys: Keys | None,
    tenant: str,
    contents: Iterable[Content],
    now_us: int,
) -> None:
    """Have the vault encrypt contents, and store them; all of them or none."""
    from tocsin.store import vault

    if keys is None:
        raise InputError("raw content is encrypted, and this store has no keys")
    with connection.begin_nested():
        rows = [vault.seal(connection, keys, tenant, content, now_us) for content in contents]
        connection.execute(sa.insert(t.contents), rows)


def _heads(
    connection: Connection, tenants: Sequence[str], now_us: int
) -> Iterator[tuple[str, sa.Row[Any]]]:
    """Lock and read the heads; make those of new tenants."""
    asked = (
        sa.select(t.heads)
        .where(t.heads.c.tenant.in_(tenants))
        .order_by(t.heads.c.tenant)
        .with_for_update()
    )
    found = {row.tenant: row for row in connection.execute(asked)}
    missing = [tenant for tenant in tenants if tenant not in found]
    if missing:
        connection.execute(
            _NEW_HEAD, [{"tenant": x, "empty": b"", "now_us": now_us} for x in missing]
        )
        found = {row.tenant: row for row in connection.execute(asked)}
    yield from ((tenant, found[tenant]) for tenant in tenants)


_NEW_HEAD = sa.text(
    "INSERT INTO heads (tenant, seq, size, frontier, period, updated_us) "
    "VALUES (:tenant, 0, 0, :empty, 0, :now_us) ON CONFLICT DO NOTHING"
)

_HEAD = (
    sa.update(t.heads)
    .where(t.heads.c.tenant == sa.bindparam("of"))
    .values({
        name: sa.bindparam(name)
        for name in ("seq", "size", "frontier", "period", "updated_us")
    })
)  # fmt: skip


_KNOWN = {
    "events": "SELECT id, hash FROM events",
    "entries": "SELECT kind, id, entry FROM entries",
    "contents": "SELECT id FROM contents",
}
"""What has to be known of ids that are there already."""

_IN_SQLITE = "id IN (SELECT value FROM json_each(?))"


def _update_heads(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(_HEAD, rows)


def _insert(connection: Connection, table: sa.Table, rows: Iterable[Row]) -> None:
    """Insert rows past SQLAlchemy, whose work on each of them would take as long as SQLite's."""
    found = list(rows)
    if found:
        connection.exec_driver_sql(_insertion(table, connection.dialect.name), found)


@functools.cache
def _insertion(table: sa.Table, dialect: str) -> str:
    mark = "?" if dialect == "sqlite" else "%s"
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    marks = ", ".join([mark] * len(table.columns))
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})'  # noqa: S608 - ours
