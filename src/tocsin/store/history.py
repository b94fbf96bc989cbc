"""Closed hours of events as Parquet files, and questions over rows and files together.

Events that are old enough leave the table `events` in the order of their sequence: a file is made
durable, then a row of `segments` names it, and from that moment on the file is what is read; the
rows are deleted afterwards, a few at a time, so that no writer waits long. Whatever step a crash
falls on, each event is read once: sequence numbers up to the last one of the last segment are read
from files, all others from rows. A file that no row names is removed at the next closing.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast, get_args

import msgspec
import sqlalchemy as sa

from tocsin.errors import HistoryDamaged, InputError
from tocsin.events.kinds import Body
from tocsin.limits import (
    HISTORY_BUCKETS_MAX,
    HISTORY_GROUP_ROWS,
    STORE_READ_MAX,
    STORE_TRACE_EVENTS_MAX,
)
from tocsin.store import closing, reading, segment_file
from tocsin.store import tables as t
from tocsin.store.closing import Closed
from tocsin.store.commit import indexed
from tocsin.store.manifest import Segment, boundary, known, location, manifest
from tocsin.store.reading import Stored, Which
from tocsin.store.scope import Scope

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tocsin.store.roles import Principal
    from tocsin.store.store import Store

T = TypeVar("T")

KINDS: tuple[str, ...] = tuple(sorted(str(b.__struct_config__.tag) for b in get_args(Body)))
"""Every kind of event; named in a query, they make an index of kind and time usable."""

_ASKED_AGAIN = 3
"""How often a question is asked anew because a file was replaced meanwhile."""


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How many events of one kind there were on one route, from `start_us` on."""

    start_us: int
    route: str
    kind: str
    n: int


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """How many events of one kind retention has taken away; the last one was at `last_us`."""

    kind: str
    n: int
    last_us: int


class History:
    """Events in files and in rows, read as one.

    Args:
        store: whose history.
        folder: where its files are; None takes the place that the store remembers, or
            ``NAME.history`` beside a SQLite file.

    Raises:
        InputError: the store remembers another place.

    Example:
        >>> import tempfile
        >>> from tocsin.events.envelope import Event
        >>> from tocsin.events.kinds import Feedback
        >>> from tocsin.store import Append, Scope, Store
        >>> event = Event(id="e1", time_us=0, source="shop", body=Feedback(verdict="down"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Store.open(f"{folder}/record.db") as store, History(store) as history:
        ...         done = store.commit([Append(tenant="acme", events=(event,))])
        ...         closed = history.close(Scope("acme"), before_us=1, uncovered=True)
        ...         rows, read = store.events(Scope("acme")), history.events(Scope("acme"))
        >>> closed.deleted, len(rows), read[0].event == event
        (1, 0, True)
    """

    def __init__(self, store: Store, folder: str | os.PathLike[str] | None = None) -> None:
        self.store = store
        self.place = location(store, folder)
        self._reader: segment_file.Reader | None = None
        self._known_ids: segment_file.Ids | None = None

    @property
    def folder(self) -> Path:
        """Where the files are; an InputError where a server's history has no place yet."""
        return known(self.place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()

    def shut(self) -> None:
        """Close what files are read with; the store stays open."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def close(
        self,
        scope: Scope,
        *,
        before_us: int,
        uncovered: bool = False,
        progress: Callable[[int, int], None] | None = None,
        by: Principal | None = None,
    ) -> Closed:
        """Move events that are older than a moment into files.

        They move in the order of their sequence: the first one that is not old enough ends it, and
        so does the end of the last signed period. Where the store has keys, a period is made first.
        From then on an event that is given again under an id that has moved is not recognised, and
        is stored again.

        Args:
            scope: whose.
            before_us: events from this time on stay, microseconds since 1970.
            uncovered: move events, too, that no signed period covers yet. For stores that never
                have keys: a period over events that have moved cannot be made any more.
            progress: called with sequence numbers done, and to do.
            by: who has it done. The record says so, unless nothing moves but what it holds of
                such acts: each closing would have the next one tell of it.

        Raises:
            AccessDenied: `by` may not.
            InputError: a file cannot be written; every event is where it was.
            StoreBusy: another process is working on this tenant's history.
        """
        return closing.close(
            self.store, self.folder, scope,
            before_us=before_us, uncovered=uncovered, progress=progress, by=by,
        )  # fmt: skip

    def segments(self, scope: Scope) -> list[Segment]:
        """Return a tenant's segments, in order."""
        with self.store.reading("read segments") as connection:
            return manifest(connection, scope)

    def rows(self, segments: Sequence[Segment]) -> Iterator[list[segment_file.Row]]:
        """Read all rows of segments in order, those without body too, in parts."""
        query = f"""SELECT {_SELECTED} FROM read_parquet($files)
            WHERE seq >= $start AND seq < $stop ORDER BY seq"""  # noqa: S608 - names of ours
        for segment in segments:
            for start in range(segment.first, segment.last + 1, HISTORY_GROUP_ROWS):
                stop = start + HISTORY_GROUP_ROWS
                values = {"start": start, "stop": stop}
                yield self._files().rows([segment.path], query, values)

    def events(
        self, scope: Scope, *, limit: int = STORE_READ_MAX, **which: Unpack[Which]
    ) -> list[Stored]:
        """Read events from files and rows, in the order of their sequence numbers.

        As `Store.events`; what retention took away is left out.

        Raises:
            HistoryDamaged, StoreDamaged: an event is not what was written.
        """
        if limit < 0:
            raise InputError(f"a limit cannot be {limit}")

        def ask(connection: Connection) -> list[Stored]:
            names = _holding(manifest(connection, scope), which)
            for column in segment_file.FOUND_BY:
                if names and column in which:
                    names = self._ids.among(names, str(which.get(column)))
            where, values = _conditions(which)
            query = f"""SELECT seq, hash, body FROM read_parquet($files)
                WHERE body IS NOT NULL{where} ORDER BY seq LIMIT $limit"""  # noqa: S608
            old = self._checked(names, query, {**values, "limit": limit}, scope)
            if len(old) == limit:
                return old
            after = max(which.get("after_seq", 0), boundary(connection, scope))
            later: Which = {**which, "after_seq": after}
            return old + reading.events(connection, scope, later, limit - len(old))

        return self._asked(ask)

    def stream(self, scope: Scope, **which: Unpack[Which]) -> Iterator[Stored]:
        """Read all such events one after the other, however many; takes memory for some thousands.

        Events that are added meanwhile may come, too; a closing or a retention meanwhile does no
        harm.
        """
        after, done = which.get("after_seq", 0), False
        while not done:
            found, after, done = self._asked(partial(self._next, scope, which, after))
            yield from found

    def _next(
        self, scope: Scope, which: Which, after: int, connection: Connection
    ) -> tuple[list[Stored], int, bool]:
        """Read a part: its events, the last sequence number looked at, and whether that was all."""
        segment = next((s for s in manifest(connection, scope) if s.last > after), None)
        if segment is None:
            rest: Which = {**which, "after_seq": after}
            rows = reading.events(connection, scope, rest)
            return rows, (rows[-1].seq if rows else after), len(rows) < STORE_READ_MAX
        if not _holding([segment], which):
            return [], segment.last, False
        start = max(after + 1, segment.first)
        stop = min(segment.last + 1, start + HISTORY_GROUP_ROWS)
        where, values = _conditions(which)
        query = f"""SELECT seq, hash, body FROM read_parquet($files)
            WHERE body IS NOT NULL AND seq >= $start AND seq < $stop{where}
            ORDER BY seq"""  # noqa: S608 - names of ours
        values |= {"start": start, "stop": stop}
        return self._checked([segment.path], query, values, scope), stop - 1, False

    def trace(self, scope: Scope, any_id: str, limit: int = STORE_TRACE_EVENTS_MAX) -> list[Stored]:
        """Read everything that is linked with an id, from files and rows, in order.

        As `Store.trace`: the id may be of an event, a request, a call (and so of a receipt) or a
        session; for all but a session, the other events of the same requests and calls come along.
        """
        any_id = any_id.encode(errors="replace").decode()

        def ask(connection: Connection) -> list[Stored]:
            names = [segment.path for segment in manifest(connection, scope)]
            found = {s.seq: s for s in reading.trace(connection, scope, any_id, limit)}
            if names:
                self._widen(names, scope, any_id, found, limit)
                edge = boundary(connection, scope)
                # Events of one request may lie on both sides.
                for name in ("request", "call"):
                    for value in sorted(_linked(found, any_id, name)):
                        which = {name: value, "after_seq": edge}
                        more = reading.events(connection, scope, cast("Which", which), limit)
                        found.update((s.seq, s) for s in more)
            return [found[seq] for seq in sorted(found)][:limit]

        return self._asked(ask)

    def _widen(
        self, names: list[str], scope: Scope, any_id: str, found: dict[int, Stored], limit: int
    ) -> None:
        """Add what files hold of an id, and of the requests and calls that it leads to."""
        # A query for each column, so that the filters of each are used.
        one = "SELECT seq, hash, body FROM read_parquet($files) WHERE body IS NOT NULL AND {} = {}"

        def ask(*wanted: tuple[str, str]) -> None:
            parts = [one.format(f'"{name}"', f"$v{i}") for i, (name, _) in enumerate(wanted)]
            query = f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY seq LIMIT $limit"  # noqa: S608 - names of ours
            values: dict[str, Any] = {f"v{i}": indexed(v) for i, (_, v) in enumerate(wanted)}
            values["limit"] = limit * len(wanted)  # an event may be found by several columns
            among = {path for v in {v for _, v in wanted} for path in self._ids.among(names, v)}
            found.update((s.seq, s) for s in self._checked(sorted(among), query, values, scope))

        ask(*((name, any_id) for name in segment_file.FOUND_BY))
        linked = (
            [(name, value) for value in sorted(_linked(found, any_id, name) - {any_id})]
            for name in ("request", "call")
        )
        # A request and a call at once: most events have one of each.
        for pair in itertools.zip_longest(*linked):
            ask(*filter(None, pair))

    def counts(
        self,
        scope: Scope,
        *,
        since_us: int,
        until_us: int,
        step_us: int | None = None,
        route: str | None = None,
    ) -> list[Count]:
        """Count events by route and kind, in one window or in buckets of time.

        Args:
            scope: whose.
            since_us, until_us: from the first, and before the second, microseconds since 1970.
            step_us: length of a bucket, which begins at a multiple of it; None for one window.
            route: this one alone.

        Returns:
            In the order of start, route and kind; without those of which there are none. What
            retention took away counts too.

        Raises:
            InputError: a window without length, or more than `HISTORY_BUCKETS_MAX` buckets.
        """
        length = until_us - since_us
        if length <= 0 or (step_us is not None and step_us <= 0):
            raise InputError("a window has to be longer than nothing")
        if step_us is not None and length / step_us > HISTORY_BUCKETS_MAX:
            raise InputError(f"more than {HISTORY_BUCKETS_MAX:,} buckets: take longer ones")
        which: Which = {"since_us": since_us, "until_us": until_us}
        if route is not None:
            which["route"] = route

        def ask(connection: Connection) -> list[Count]:
            names = _holding(manifest(connection, scope), which)
            where, values = _conditions(which)
            start = "$since_us" if step_us is None else "time_us - time_us % $step"
            if step_us is not None:
                values["step"] = step_us
            query = f"""SELECT {start} AS start, route, kind, count(*) FROM read_parquet($files)
                WHERE true{where} GROUP BY ALL"""  # noqa: S608 - names of ours
            found: dict[tuple[int, str, str], int] = {}
            for begins, on, kind, n in self._files().rows(names, query, values) if names else ():
                found[begins, on, kind] = n
            for begins, on, kind, n in _row_counts(connection, scope, which, step_us):
                key = (begins, on, kind)
                found[key] = found.get(key, 0) + n
            return [
                Count(start_us=begins, route=on, kind=kind, n=n)
                for (begins, on, kind), n in sorted(found.items())
            ]

        return self._asked(ask)

    def taken(self, scope: Scope, **which: Unpack[Which]) -> list[Taken]:
        """Count what retention took away: events of which place, kind and time are left.

        Their ids and links are gone: only kind, route, model, time and sequence can be asked for.

        Args:
            scope: whose.
            **which: as for `events`; a time or a kind is quick, nothing takes a walk over all.

        Returns:
            By kind; without those of which there are none.
        """

        def ask(connection: Connection) -> list[Taken]:
            names = _holding(manifest(connection, scope), which)
            where, values = _conditions(which)
            query = f"""SELECT kind, count(*), max(time_us) FROM read_parquet($files)
                WHERE body IS NULL{where} GROUP BY kind"""  # noqa: S608 - names of ours
            found = list(self._files().rows(names, query, values)) if names else []
            c = t.events.c
            after = max(which.get("after_seq", 0), boundary(connection, scope))
            later: Which = {**which, "after_seq": after}
            asked = sa.select(c.kind, sa.func.count(), sa.func.max(c.time_us))
            asked = asked.where(*reading.conditions(scope, later), c.body.is_(None))
            found += [tuple(row) for row in connection.execute(asked.group_by(c.kind))]
            totals: dict[str, tuple[int, int]] = {}
            for kind, n, last_us in found:
                before = totals.get(kind, (0, 0))
                totals[kind] = (before[0] + int(n), max(before[1], int(last_us)))
            return [Taken(kind=k, n=n, last_us=at) for k, (n, at) in sorted(totals.items())]

        return self._asked(ask)

    def ask_files(
        self, paths: Sequence[str], query: str, values: Mapping[str, Any]
    ) -> list[segment_file.Row]:
        """Ask files alone; see `segment_file.Reader.rows`."""
        return self._files().rows(paths, query, values)

    def _files(self) -> segment_file.Reader:
        if self._reader is None:
            self._reader = segment_file.Reader(self.folder)
        return self._reader

    @property
    def _ids(self) -> segment_file.Ids:
        if self._known_ids is None:
            self._known_ids = segment_file.Ids(self.folder)
        return self._known_ids

    def _checked(
        self, names: Sequence[str], query: str, values: dict[str, Any], scope: Scope
    ) -> list[Stored]:
        if not names:
            return []
        found = self._files().rows(names, query, values)
        return [
            Stored(seq, reading.checked(seq, digest, body, scope)) for seq, digest, body in found
        ]

    def _asked(self, ask: Callable[[Connection], T]) -> T:
        """Ask in one transaction; anew where retention has replaced a file meanwhile."""
        missing = ""
        for _ in range(_ASKED_AGAIN):
            with self.store.reading("read history") as connection:
                try:
                    return ask(connection)
                except FileNotFoundError as e:
                    missing = Path(str(e)).name
        raise HistoryDamaged(f"the file of history {missing!r} is not there: restore it")


_SELECTED = ", ".join(f'"{name}"' for name in segment_file.COLUMNS)


def _holding(segments: list[Segment], which: Which) -> list[str]:
    """Name the files that may hold what is asked for."""
    return [
        s.path
        for s in segments
        if s.until_us > which.get("since_us", s.from_us)
        and s.from_us < which.get("until_us", s.until_us)
        and s.last > which.get("after_seq", 0)
    ]


def _conditions(which: Which) -> tuple[str, dict[str, Any]]:
    """Say in SQL for files what `reading.conditions` says for rows."""
    parts: list[str] = []
    values: dict[str, Any] = {}
    for name, given in which.items():
        values[name] = given
        if name in _ONE:
            parts.append(f' AND "{name}" = ${name}')
            values[name] = indexed(str(given))
        elif name in _SEVERAL:
            parts.append(f' AND list_contains(${name}, "{name}")')
            several = [given] if isinstance(given, str) else cast("tuple[str, ...]", given)
            values[name] = [indexed(v) for v in several]
        else:
            parts.append(f" AND {_BOUNDS[name]} ${name}")
    return "".join(parts), values


_ONE = {"request", "call", "session", "user", "id"}
_SEVERAL = {"kind", "route", "model"}
_BOUNDS = {"since_us": "time_us >=", "until_us": "time_us <", "after_seq": "seq >"}


def _row_counts(
    connection: Connection, scope: Scope, which: Which, step_us: int | None
) -> Iterator[tuple[int, str, str, int]]:
    """Count among the rows that no file holds."""
    c = t.events.c
    edge = boundary(connection, scope)
    conditions = reading.conditions(scope, which)
    conditions.append(c.kind.in_(KINDS))  # for the index
    if edge:
        left = sa.select(c.seq).where(c.tenant == scope.tenant, c.seq <= edge).limit(1)
        if connection.execute(left).scalar() is not None:  # an interrupted closing
            conditions.append(c.seq > edge)
    since = sa.literal(which["since_us"])
    start = since if step_us is None else c.time_us - c.time_us % step_us
    asked = sa.select(start.label("start"), c.route, c.kind, sa.func.count())
    asked = asked.where(*conditions).group_by("start", c.route, c.kind)
    for begins, route, kind, n in connection.execute(asked):
        yield int(begins), route, kind, int(n)


def _linked(found: dict[int, Stored], any_id: str, name: str) -> set[str]:
    """Requests or calls of the events that an id leads to, unless it leads there by its session."""
    wanted = indexed(any_id)
    return {
        value
        for s in found.values()
        if wanted in (s.event.id, indexed(s.event.links.request), indexed(s.event.links.call))
        if (value := getattr(s.event.links, name)) is not None
    }
