"""Closing: events that are old enough go from rows to files, and are never read twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tocsin.events.moments import YEAR_10000_US, rfc3339
from tocsin.limits import HISTORY_DELETE_ROWS, HISTORY_GROUP_ROWS, HISTORY_ROWS_MAX
from tocsin.store import segment_file
from tocsin.store import tables as t
from tocsin.store.manifest import Segment, alone, boundary, manifest, named, remember, sweep
from tocsin.store.oversight import plain
from tocsin.store.scope import Scope

if TYPE_CHECKING:
    from tocsin.store.roles import Principal
    from tocsin.store.store import Store

_DAY_US = 86_400_000_000


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """What a closing did.

    Args:
        segments: new ones.
        deleted: rows that were taken out of the row store, those of an interrupted closing too.
        orphans: files that no row named, removed.
        uncovered: events that no signed period covers, and that stayed for that reason.
        next_us: when the first one was, of those that stayed since it is not old enough.
    """

    segments: tuple[Segment, ...] = ()
    deleted: int = 0
    orphans: int = 0
    uncovered: int = 0
    next_us: int | None = None


def close(
    store: Store,
    root: Path,
    scope: Scope,
    *,
    before_us: int,
    uncovered: bool = False,
    progress: Callable[[int, int], None] | None = None,
    by: Principal | None = None,
) -> Closed:
    """Move events that are older than a moment into files; see `History.close`."""
    if by is not None:
        plain(store).demand(by, "history.close", target="record")
    untold = by
    with alone(store, root, scope) as folder:
        with store.reading("read segments") as connection:
            orphans = sweep(folder, manifest(connection, scope))
        deleted = delete_rows(store, scope)
        if store.keys is not None:
            store.close_period(scope)
        head = store.head(scope)
        upto = head.seq if uncovered else head.period
        made = []
        while True:
            start = _boundary(store, scope) + 1
            written = segment_file.write(folder, stretch(store, scope, start, upto, before_us))
            if written is None:
                break
            if untold is not None and _has_more_than_acts(store, scope, written):
                told = f"events from {written.first} on, before {_said(before_us)}"
                plain(store).tell(untold, "history.close", target="record", reason=told)
                untold = None
            made.append(named(folder, written, store.now_us()))
            record(store, root, scope, made[-1])
            deleted += delete_rows(store, scope)
            if progress is not None:
                progress(written.last, upto)
    return Closed(
        segments=tuple(made),
        deleted=deleted,
        orphans=orphans,
        uncovered=head.seq - upto,
        next_us=_next_us(store, scope, upto),
    )


def _next_us(store: Store, scope: Scope, upto: int) -> int | None:
    c = t.events.c
    asked = sa.select(c.time_us).where(c.tenant == scope.tenant, c.seq <= upto)
    with store.reading("read events") as connection:
        return connection.execute(asked.order_by(c.seq).limit(1)).scalar()


def stretch(
    store: Store, scope: Scope, start: int, upto: int, before_us: int
) -> Iterator[list[segment_file.Row]]:
    """Read the rows of the next file, in parts: at most one day and `HISTORY_ROWS_MAX` rows."""
    taken, newest, day = 0, 0, None
    while taken < HISTORY_ROWS_MAX:
        room = min(HISTORY_GROUP_ROWS, HISTORY_ROWS_MAX - taken)
        kept = []
        for row in _rows(store, scope, start, upto, room):
            newest = max(newest, row[2])
            day = newest // _DAY_US if day is None else day
            if row[2] >= before_us or newest // _DAY_US != day:
                break
            kept.append(row)
        if kept:
            yield kept
            start = kept[-1][0] + 1
            taken += len(kept)
        if len(kept) < room:
            return


def _has_more_than_acts(store: Store, scope: Scope, written: segment_file.Written) -> bool:
    """Whether anything moves but what the record holds of who did what."""
    c = t.events.c
    mine = (c.tenant == scope.tenant, c.seq >= written.first, c.seq <= written.last)
    with store.reading("read events") as connection:
        found = connection.execute(sa.select(c.seq).where(*mine, c.kind != "access").limit(1))
        return found.first() is not None


def _said(time_us: int) -> str:
    return rfc3339(min(max(time_us, 0), YEAR_10000_US - 1))[:19] + "Z"


def record(store: Store, root: Path, scope: Scope, segment: Segment) -> None:
    """Name a file: from now on it is what is read."""
    with store.transaction("record a segment") as connection:
        remember(connection, root)
        row = {"tenant": scope.tenant, **msgspec.structs.asdict(segment)}
        connection.execute(sa.insert(t.segments), row)


def delete_rows(store: Store, scope: Scope) -> int:
    """Take the rows out that files hold, a few at a time; return how many."""
    c, edge, deleted = t.events.c, _boundary(store, scope), 0
    mine = c.tenant == scope.tenant
    few = sa.select(c.seq).where(mine, c.seq <= edge).order_by(c.seq).limit(HISTORY_DELETE_ROWS)
    last_of_few = sa.select(sa.func.max(few.subquery().c.seq))
    while True:
        with store.transaction("delete rows") as connection:
            last = connection.execute(last_of_few).scalar()
            if last is None:
                return deleted
            done = connection.execute(sa.delete(t.events).where(mine, c.seq <= last)).rowcount
        deleted += done
        store.tend(done)


def _rows(store: Store, scope: Scope, start: int, upto: int, limit: int) -> list[segment_file.Row]:
    c = t.events.c
    asked = (
        sa.select(*(c[name] for name in segment_file.COLUMNS))
        .where(c.tenant == scope.tenant, c.seq >= start, c.seq <= upto)
        .order_by(c.seq)
        .limit(limit)
    )
    with store.reading("read events") as connection:
        return [tuple(row) for row in connection.execute(asked)]


def _boundary(store: Store, scope: Scope) -> int:
    with store.reading("read segments") as connection:
        return boundary(connection, scope)
