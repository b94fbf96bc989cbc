"""One tenant's events: in their order, out of files and rows, and what its periods say of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import sqlalchemy as sa

from tocsin.errors import InputError, MissingExtra, ProofInvalid, StoreDamaged
from tocsin.events.envelope import decode, event_hash
from tocsin.receipts.entry import read_entry
from tocsin.receipts.period import Period, read_period
from tocsin.store import segment_file
from tocsin.store import tables as t
from tocsin.store.manifest import Segment, known, location, manifest
from tocsin.store.period import Tally, receipts_between
from tocsin.store.scope import Scope

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tocsin.store.store import Store

_AT_ONCE = 1_000
_COLUMNS = ("seq", "id", "time_us", "kind", "hash", "body")


class Adds(Protocol):
    """Takes findings."""

    def add(self, about: str, tenant: str, said: str) -> None:
        """Keep one."""


class _Row(NamedTuple):
    seq: int
    id: str
    time_us: int
    kind: str
    hash: bytes
    body: bytes | None


class EventsCheck:
    """Goes through one tenant's events and periods.

    Args:
        store, connection: that are read.
        head: row of the table `heads`.
        notes: take what is found.
    """

    def __init__(self, store: Store, connection: Connection, head: Any, notes: Adds) -> None:
        self._store, self._connection, self._head, self._notes = store, connection, head, notes
        self._scope = Scope(head.tenant)
        self._periods = self._read_periods()
        self._period: Period | None = None
        self._tally: Tally | None = None
        self._before: Period | None = None
        self._blind = False
        self.seen = 0

    def run(self) -> Iterator[None]:
        """Check them all; gives one None an event."""
        self._turn()
        expected = 1
        for row in self._events():
            if row.seq != expected:
                self._add("sequence", f"after event {expected - 1} comes {row.seq}")
            expected = row.seq + 1
            self._event(row)
            self._tell_period(row)
            self.seen += 1
            yield
        if expected - 1 != self._head.seq:
            self._add("sequence", f"the last event is {expected - 1}, not {self._head.seq}")
        while self._period is not None:
            self._add("period", f"events of the period {self._period.id} are missing")
            self._turn()
        last = 0 if self._before is None else self._before.last
        if last != self._head.period:
            self._add("period", f"periods end at {last}, and the head says {self._head.period}")

    def _events(self) -> Iterator[_Row]:
        edge = 0
        for segment in self._segments():
            if segment.first != edge + 1:
                self._add("segment", f"after event {edge} comes a segment from {segment.first} on")
            edge = segment.last
            yield from self._of_file(segment)
        c = t.events.c
        while True:
            asked = (
                sa.select(*(c[name] for name in _COLUMNS))
                .where(c.tenant == self._scope.tenant, c.seq > edge)
                .order_by(c.seq)
                .limit(_AT_ONCE)
            )
            rows = self._connection.execute(asked).all()
            if not rows:
                return
            yield from (_Row(*row) for row in rows)
            edge = rows[-1].seq

    def _segments(self) -> list[Segment]:
        try:
            return manifest(self._connection, self._scope)
        except StoreDamaged as e:
            self._add("segment", str(e))
            return []

    def _of_file(self, segment: Segment) -> Iterator[_Row]:
        """Read a file of history, if it is the one that was written."""
        try:
            path = known(location(self._store)) / segment.path
            segment_file.check(path, segment.sha256)
            parquet = segment_file.library("pyarrow.parquet")
        except (StoreDamaged, InputError, MissingExtra) as e:
            self._add("segment", f"events {segment.first} to {segment.last} cannot be read: {e}")
            return
        with parquet.ParquetFile(path) as file:
            if file.metadata.num_rows != segment.rows:
                self._add("segment", f"{segment.path} has {file.metadata.num_rows} rows")
            for batch in file.iter_batches(_AT_ONCE, columns=list(_COLUMNS)):
                columns = [batch.column(name).to_pylist() for name in _COLUMNS]
                yield from (_Row(*row) for row in zip(*columns, strict=True))

    def _event(self, row: _Row) -> None:
        if row.body is None:
            return
        body = bytes(row.body)
        if event_hash(body) != bytes(row.hash):
            self._add("event", f"event {row.seq} is not what was written")
            return
        try:
            event = decode(body)
        except msgspec.MsgspecError as e:
            self._add("event", f"event {row.seq} cannot be read: {e}")
            return
        if (event.id, event.time_us, event.kind) != (row.id, row.time_us, row.kind):
            self._add("event", f"event {row.seq} is found by what it does not say")

    def _tell_period(self, row: _Row) -> None:
        """Add an event to the period that it falls into, and judge the period at its end."""
        period, tally = self._period, self._tally
        if period is None or tally is None or row.seq < period.first:
            return
        self._blind |= row.kind == "stream.ended" and row.body is None
        try:
            tally.add(row.seq, row.time_us, row.kind, bytes(row.hash), row.body)
        except (StoreDamaged, msgspec.MsgspecError):
            self._add("period", f"the period {period.id} cannot be shown: an event is missing")
            self._turn()
            return
        if row.seq == period.last:
            self._judge(period, tally)
            self._turn()

    def _judge(self, period: Period, tally: Tally) -> None:
        between = (period.entries_from, period.entries_until)
        receipts = receipts_between(self._connection, self._scope, *between)
        made = tally.period(between, receipts, period.closed_us)
        if self._blind:
            made = msgspec.structs.replace(made, ended=period.ended)
        for name in Period.__struct_fields__:
            if getattr(made, name) != getattr(period, name):
                self._add("period", f"the period {period.id} does not say the truth about {name}")

    def _turn(self) -> None:
        """Go on to the next period."""
        if self._period is not None:
            self._before = self._period
        self._period = next(self._periods, None)
        if self._period is None:
            self._tally = None
            return
        before = self._before
        begins = (1, 0) if before is None else (before.last + 1, before.entries_until)
        if (self._period.first, self._period.entries_from) != begins:
            self._add("period", f"the period {self._period.id} does not follow the one before")
        self._tally, self._blind = Tally(self._period.first), False

    def _read_periods(self) -> Iterator[Period]:
        c = t.entries.c
        after = -1
        while True:
            asked = (
                sa.select(c.index.label("place"), c.entry)
                .where(c.tenant == self._scope.tenant, c.kind == "period", c.index > after)
                .order_by(c.index)
                .limit(_AT_ONCE)
            )
            rows = self._connection.execute(asked).all()
            if not rows:
                return
            for row in rows:
                try:
                    yield read_period(read_entry(bytes(row.entry)).body)
                except (ProofInvalid, InputError) as e:
                    self._add("period", f"entry {row.place} is no period: {e}")
            after = rows[-1].place

    def broken(self, why: StoreDamaged) -> None:
        """Take down that the events could not be read to their end."""
        self._add("event", f"events cannot be read after {self.seen} of them: {why}")

    def _add(self, about: str, said: str) -> None:
        self._notes.add(about, self._scope.tenant, said)
