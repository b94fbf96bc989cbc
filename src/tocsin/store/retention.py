"""Retention: what is older than its class may be is taken away, in rows and in files.

An event that goes leaves its place behind: sequence number, kind, time, route, model and hash stay,
so that a gap never looks like a loss and every period's root can still be made; what happened, and
to whom it is linked, is gone. Receipts, periods and checkpoints never go. What is going to be taken
away is first recorded as an event of its own: without the event, nothing goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tocsin.errors import InputError, StoreBusy
from tocsin.limits import HISTORY_DELETE_ROWS, RETENTION_DAYS_MAX
from tocsin.store import segment_file, vault
from tocsin.store import tables as t
from tocsin.store.closing import delete_rows
from tocsin.store.history import KINDS, History
from tocsin.store.manifest import (
    Segment,
    alone,
    alone_on_server,
    boundary,
    manifest,
    named,
    sweep,
)
from tocsin.store.oversight import plain
from tocsin.store.roles import Principal
from tocsin.store.scope import Scope

if TYPE_CHECKING:
    from tocsin.store.store import Store

CONTENT = "content"
"""The class of raw content, which is encrypted; its events are of the class `access`."""

CLASSES: dict[str, tuple[str, ...]] = {
    "streams": ("stream.opened", "stream.ended", "output.classified"),
    "decisions": ("policy.decided", "intervention", "failure", "limit"),
    "alarms": ("alarm",),
    "tools": ("tool.attempted", "tool.denied", "tool.returned", "retrieval"),
    "usage": ("usage",),
    "feedback": ("feedback",),
    "reviews": ("review.outcome",),
    "access": ("access", "content.kept", "content.erased"),
    "changes": (
        "control.changed", "policy.changed", "calibration.changed", "rollout.stage", "record.shed",
    ),
}  # fmt: skip
"""Kinds of events by class; together they are all kinds, each in one."""

_DAY_US = 86_400_000_000
_CLEARED = {"request": None, "call": None, "session": None, "user": None, "body": None}
_PLACES = {name: i for i, name in enumerate(segment_file.COLUMNS)}


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a class loses.

    Args:
        name: of the class.
        days: that it is kept.
        before_us: events and content from before go.
        rows, in_files: events in the row store and in files.
        contents: pieces of raw content.
    """

    name: str
    days: float
    before_us: int
    rows: int = 0
    in_files: int = 0
    contents: int = 0

    @property
    def all(self) -> int:
        """Everything that goes."""
        return self.rows + self.in_files + self.contents


class Retained(msgspec.Struct, frozen=True, kw_only=True):
    """What a retention did, or would do.

    Args:
        tenant: whose.
        dry_run: whether it only counted.
        classes: those with a limit.
        files: that were written anew.
        log_cut: whether the database's log holds nothing old any more; otherwise somebody was
            reading, and the next retention cuts it.
    """

    tenant: str
    dry_run: bool
    classes: tuple[Kept, ...]
    files: int = 0
    log_cut: bool = True


def check_rules(keep_days: Mapping[str, float]) -> None:
    """Refuse a class that does not exist, or days that are none, with an InputError."""
    for name, days in keep_days.items():
        if name not in CLASSES and name != CONTENT:
            known = ", ".join([*CLASSES, CONTENT])
            raise InputError(f"there is no class {name!r} to keep: choose from {known}")
        if not 0 <= days <= RETENTION_DAYS_MAX:
            raise InputError(f"{name} kept for {days:g} days: between 0 and {RETENTION_DAYS_MAX}")


def retain(
    history: History,
    scope: Scope,
    keep_days: Mapping[str, float],
    *,
    dry_run: bool = False,
    by: Principal | None = None,
) -> Retained:
    """Take away what is older than its class may be.

    Args:
        history: of the store; its clock says what is old.
        scope: whose.
        keep_days: by class, see `CLASSES` and `CONTENT`; what is not named stays for ever.
        dry_run: count only.
        by: who has it done; the record says so. A program of one's own where None.

    Raises:
        AccessDenied: `by` may not.
        InputError: no such class, or no such number of days.
        StoreBusy: another process is working on this tenant's history.

    Example:
        >>> import tempfile
        >>> from tocsin.store import Scope, Store
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Store.open(f"{folder}/record.db") as store, History(store) as history:
        ...         retain(history, Scope("acme"), {"usage": 30}).classes[0].all
        0
    """
    check_rules(keep_days)
    by = by or Principal(tenant=scope.tenant, id="retention", role="admin")
    store, now_us = history.store, history.store.now_us()
    rules = [
        Kept(name=name, days=days, before_us=now_us - int(days * _DAY_US))
        for name, days in keep_days.items()
    ]
    cut = {kind: one.before_us for one in rules for kind in CLASSES.get(one.name, ())}
    place = history.place
    held = alone_on_server(store, scope) if place is None else alone(store, place, scope)
    with held as folder:
        with store.reading("read segments") as connection:
            segments = manifest(connection, scope)
            edge = boundary(connection, scope)
        in_files = _in_files(history, segments, cut)
        kept = tuple(_counted(history, scope, one, in_files, edge, now_us) for one in rules)
        if dry_run:
            return Retained(tenant=scope.tenant, dry_run=dry_run, classes=kept)
        delete_rows(store, scope)  # what an interrupted closing left beside its file
        if any(one.all for one in kept):
            _say(history, by, kept)
        for one in kept:
            if one.name == CONTENT:
                _expire(history, scope, one.before_us, now_us)
            else:
                _clear_rows(history, scope, one, edge)
        for segment in segments:
            if in_files.get(segment.first) and folder is not None:
                _rewrite(history, folder, scope, segment, cut)
        if folder is not None:
            sweep(folder, history.segments(scope))
    return Retained(
        tenant=scope.tenant,
        dry_run=False,
        classes=kept,
        files=len(in_files),
        log_cut=_log_cut(store),
    )


def _log_cut(store: Store) -> bool:
    try:
        store.truncate_log()
    except StoreBusy:
        return False
    return True


def _counted(
    history: History,
    scope: Scope,
    rule: Kept,
    in_files: Mapping[int, Mapping[str, int]],
    edge: int,
    now_us: int,
) -> Kept:
    """Count what a class loses; in files that was done before."""
    if rule.name == CONTENT:
        n = _contents(history, scope, rule.before_us, now_us)
        return msgspec.structs.replace(rule, contents=n)
    asked = sa.select(sa.func.count()).where(*_old(scope, rule, edge))
    with history.store.reading("count events") as connection:
        rows = int(connection.execute(asked).scalar_one())
    filed = sum(n.get(kind, 0) for n in in_files.values() for kind in CLASSES[rule.name])
    return msgspec.structs.replace(rule, rows=rows, in_files=filed)


def _old(scope: Scope, rule: Kept, edge: int) -> tuple[sa.ColumnElement[bool], ...]:
    """Say which rows go; those that a file holds as well are that file's matter."""
    c = t.events.c
    return (
        c.tenant == scope.tenant,
        c.kind.in_(CLASSES[rule.name]),
        c.time_us < rule.before_us,
        c.seq > edge,
        c.body.is_not(None),
    )


def _contents(history: History, scope: Scope, before_us: int, now_us: int) -> int:
    c = t.contents.c
    old = sa.or_(c.made_us < before_us, c.expires_us <= now_us)
    asked = sa.select(sa.func.count()).where(c.tenant == scope.tenant, old)
    with history.store.reading("count contents") as connection:
        return int(connection.execute(asked).scalar_one())


def _in_files(
    history: History, segments: list[Segment], cut: Mapping[str, int]
) -> dict[int, dict[str, int]]:
    """Count what goes, by the first number of the segment and by kind; files without are absent."""
    kinds = [kind for kind in KINDS if kind in cut]
    query = """SELECT kind, count(*) FROM read_parquet($files)
        WHERE body IS NOT NULL
        AND time_us < list_extract($cuts, list_position($kinds, kind)) GROUP BY kind"""
    found = {}
    for segment in segments:
        if not kinds or segment.from_us >= max(cut.values()):
            continue
        values = {"kinds": kinds, "cuts": [cut[kind] for kind in kinds]}
        counted = {str(k): int(n) for k, n in history.ask_files([segment.path], query, values)}
        if counted:
            found[segment.first] = counted
    return found


def _say(history: History, by: Principal, kept: tuple[Kept, ...]) -> None:
    """Record what goes, before it goes."""
    told = ", ".join(f"{one.all} of {one.name} after {one.days:g} days" for one in kept if one.all)
    plain(history.store).tell(by, "retention.apply", target="record", reason=told)


def _clear_rows(history: History, scope: Scope, rule: Kept, edge: int) -> None:
    c, store = t.events.c, history.store
    few = sa.select(c.seq).where(*_old(scope, rule, edge)).limit(HISTORY_DELETE_ROWS)
    while True:
        with store.transaction("take events away") as connection:
            seqs = list(connection.execute(few).scalars())
            if not seqs:
                return
            change = sa.update(t.events).where(c.tenant == scope.tenant, c.seq.in_(seqs))
            connection.execute(change.values(**_CLEARED))
        store.tend(len(seqs))


def _expire(history: History, scope: Scope, before_us: int, now_us: int) -> None:
    """Have raw content expire that is too old, and the vault delete it with its keys."""
    c = t.contents.c
    with history.store.transaction("expire contents") as connection:
        old = sa.update(t.contents).where(c.tenant == scope.tenant, c.made_us < before_us)
        connection.execute(old.where(c.expires_us > now_us).values(expires_us=now_us))
        vault.expire(connection, scope.tenant, now_us)


def _rewrite(
    history: History, folder: Path, scope: Scope, segment: Segment, cut: Mapping[str, int]
) -> None:
    """Put a file in a segment's place that no longer holds what goes."""
    path = history.folder / segment.path
    segment_file.check(path, segment.sha256)
    written = segment_file.write(folder, _without(history, segment, cut))
    assert written is not None  # noqa: S101 - a segment has rows, and none is left out
    new = named(folder, written, history.store.now_us())
    replace(history, scope, segment, new)
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}{segment_file.IDS}").unlink(missing_ok=True)


def replace(history: History, scope: Scope, old: Segment, new: Segment) -> None:
    """Name another file for a segment: from now on it is what is read."""
    c = t.segments.c
    values = {"path": new.path, "sha256": new.sha256, "made_us": new.made_us}
    mine = (c.tenant == scope.tenant, c.first == old.first, c.sha256 == old.sha256)
    with history.store.transaction("replace a segment") as connection:
        done = connection.execute(sa.update(t.segments).where(*mine).values(**values))
        if done.rowcount != 1:
            raise StoreBusy(f"segment {old.first} was changed meanwhile: try again")


def _without(
    history: History, segment: Segment, cut: Mapping[str, int]
) -> Iterator[list[segment_file.Row]]:
    time, kind = _PLACES["time_us"], _PLACES["kind"]
    cleared = {_PLACES[name] for name in _CLEARED}
    for part in history.rows([segment]):
        yield [
            tuple(None if i in cleared else value for i, value in enumerate(row))
            if row[time] < cut.get(row[kind], 0)
            else row
            for row in part
        ]
