"""Periods: what there was between two sequence numbers, and so also what there was not.

A period names every event of its range by one root, and counts them. Who holds it can be shown
later that a stream was recorded, or that nothing else was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from tocsin.errors import StoreDamaged
from tocsin.receipts.entry import read_entry
from tocsin.receipts.merkle import Frontier
from tocsin.receipts.period import Period, read_period
from tocsin.receipts.strict import tobase64
from tocsin.store import tables as t
from tocsin.store.scope import Scope

if TYPE_CHECKING:
    from sqlalchemy import Connection

_AT_ONCE = 1_000


class _EndedBody(msgspec.Struct):
    outcome: str


class _EndedEvent(msgspec.Struct):
    """The only field of an event that a period looks at."""

    body: _EndedBody


_ended = msgspec.json.Decoder(_EndedEvent)


class Tally:
    """Counts and the root, from events in their order; takes memory for a few hashes.

    Args:
        first: sequence number of the first event to come.
    """

    def __init__(self, first: int) -> None:
        self.first, self.last = first, first - 1
        self.kinds: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        self._from_us: int | None = None
        self._until_us = 0
        self._tree = Frontier()

    def add(self, seq: int, time_us: int, kind: str, digest: bytes, body: bytes | None) -> None:
        """Count one event.

        Args:
            seq: the next sequence number.
            time_us, kind, digest: of the event.
            body: of the event; None where retention took it away, so that its outcome is unknown.

        Raises:
            StoreDamaged: a sequence number is missing.
        """
        if seq != self.last + 1:
            raise StoreDamaged(f"event {self.last + 1} is missing: run `tocsin fsck`")
        self.last = seq
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if kind == "stream.ended":
            outcome = "unknown" if body is None else _ended.decode(body).body.outcome
            self.ended[outcome] = self.ended.get(outcome, 0) + 1
        self._from_us = time_us if self._from_us is None else min(self._from_us, time_us)
        self._until_us = max(self._until_us, time_us)
        self._tree.append(digest)

    def root(self) -> str:
        """Over the events so far, base64."""
        return tobase64(self._tree.root())

    def period(self, entries: tuple[int, int], receipts: int, closed_us: int) -> Period:
        """Say it."""
        return Period(
            first=self.first,
            last=self.last,
            entries_from=entries[0],
            entries_until=entries[1],
            from_us=self._from_us or 0,
            until_us=self._until_us,
            kinds=dict(sorted(self.kinds.items())),
            opened=self.kinds.get("stream.opened", 0),
            ended=dict(sorted(self.ended.items())),
            alarms=self.kinds.get("alarm", 0),
            receipts=receipts,
            events_root=self.root(),
            closed_us=closed_us,
        )


def make_period(connection: Connection, scope: Scope, now_us: int) -> Period | None:
    """Make the period from the end of the last one to the last event; None where there is none."""
    head = connection.execute(
        sa.select(t.heads.c.seq, t.heads.c.period, t.heads.c.size).where(
            t.heads.c.tenant == scope.tenant
        )
    ).one_or_none()
    if head is None or head.seq == head.period:
        return None
    tally = Tally(head.period + 1)
    for row in rows_between(connection, scope, head.period + 1, head.seq):
        tally.add(row.seq, row.time_us, row.kind, bytes(row.hash), row.body)
    if tally.last != head.seq:
        raise StoreDamaged(f"event {tally.last + 1} is missing: run `tocsin fsck`")
    before = last_period(connection, scope)
    entries = (0 if before is None else before.entries_until, head.size)
    return tally.period(entries, receipts_between(connection, scope, *entries), now_us)


def last_period(connection: Connection, scope: Scope) -> Period | None:
    """Read the last period of a tenant; None where there is none."""
    c = t.entries.c
    raw = connection.execute(
        sa.select(c.entry)
        .where(c.tenant == scope.tenant, c.kind == "period")
        .order_by(c.index.desc())
        .limit(1)
    ).scalar()
    return None if raw is None else read_period(read_entry(bytes(raw)).body)


def rows_between(connection: Connection, scope: Scope, first: int, last: int) -> Iterator[Any]:
    """Read what a tally needs of each event, in order, a thousand at a time."""
    c = t.events.c
    body = sa.case((c.kind == "stream.ended", c.body)).label("body")
    after = first - 1
    while True:
        asked = (
            sa.select(c.seq, c.time_us, c.kind, c.hash, body)
            .where(c.tenant == scope.tenant, c.seq > after, c.seq <= last)
            .order_by(c.seq)
            .limit(_AT_ONCE)
        )
        rows = connection.execute(asked).all()
        if not rows:
            return
        yield from rows
        after = rows[-1].seq


def receipts_between(connection: Connection, scope: Scope, start: int, end: int) -> int:
    """Count the receipts in a part of the log: indexes, `end` not included."""
    c = t.entries.c
    found = connection.execute(
        sa.select(sa.func.count()).where(
            c.tenant == scope.tenant, c.kind == "receipt", c.index >= start, c.index < end
        )
    ).scalar_one()
    return int(found)
