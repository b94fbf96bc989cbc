"""Which files hold a tenant's history, where they are, and who may change them now."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tocsin.errors import HistoryDamaged, InputError, StoreBusy
from tocsin.store import segment_file
from tocsin.store import tables as t
from tocsin.store.scope import Scope

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tocsin.store.store import Store

FOLDER = "history.folder"
"""Key in the table `meta`: where the files are, if not beside the store."""


_LOCK = ".lock"


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A file that holds a stretch of events; a row of the table `segments`.

    Args:
        first, last: sequence numbers, both included.
        from_us, until_us: of the events' times; until is not part of it.
        path: below the folder of history.
        sha256: of the file, in hex.
        rows: events in it.
        made_us: when.
    """

    first: int
    last: int
    from_us: int
    until_us: int
    path: str
    sha256: str
    rows: int
    made_us: int


def location(store: Store, folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Say where a store's history is.

    Args:
        store: whose.
        folder: where it is to be; None takes the place that the store remembers, or
            ``NAME.history`` beside a SQLite file.

    Returns:
        The place; None where a server's history has none yet.

    Raises:
        InputError: the store remembers another place.
    """
    with store.reading("read where history is") as connection:
        known = connection.execute(sa.select(t.meta.c.value).where(t.meta.c.key == FOLDER)).scalar()
    if folder is not None:
        given = Path(folder).absolute()
        if known is not None and Path(known) != given:
            raise InputError(f"the history of this store is in {known!r}, not in {str(given)!r}")
        return given
    if known is not None:
        return Path(known)
    if store.url.get_backend_name() == "sqlite":
        return Path(f"{store.url.database}.history").absolute()
    return None


def known(place: Path | None) -> Path:
    """Insist on a place; an InputError where a server's history has none yet."""
    if place is None:
        raise InputError("say in which folder the history of this server is: --folder")
    return place


def tenant_folder(scope: Scope) -> str:
    """Name a tenant's folder: no tenant chooses a path.

    Example:
        >>> tenant_folder(Scope(".."))
        '5ec1f7e700f37c3d0b2981d04855fc34'
    """
    return hashlib.sha256(scope.tenant.encode()).hexdigest()[:32]


def boundary(connection: Connection, scope: Scope) -> int:
    """Return the last sequence number that is read from files; 0 where there are none."""
    c = t.segments.c
    found = connection.execute(sa.select(sa.func.max(c.last)).where(c.tenant == scope.tenant))
    return int(found.scalar() or 0)


def manifest(connection: Connection, scope: Scope) -> list[Segment]:
    """Return a tenant's segments, in order.

    Raises:
        HistoryDamaged: a path is none that a closing makes.
    """
    c = t.segments.c
    asked = sa.select(*(c[name] for name in Segment.__struct_fields__))
    asked = asked.where(c.tenant == scope.tenant).order_by(c.first)
    found = [Segment(**row._asdict()) for row in connection.execute(asked)]
    inside = tenant_folder(scope)
    for s in found:
        if s.path != f"{inside}/{s.first}-{s.last}-{s.sha256[:16]}.parquet" or ".." in s.path:
            raise HistoryDamaged(f"segment {s.first} names a file that no closing makes")
    return found


def remember(connection: Connection, folder: Path) -> None:
    """Write down where the files are; a place that is known already stays."""
    asked = sa.select(t.meta.c.value).where(t.meta.c.key == FOLDER)
    if connection.execute(asked).scalar() is None:
        connection.execute(sa.insert(t.meta), {"key": FOLDER, "value": str(folder)})


@contextlib.contextmanager
def alone(store: Store, root: Path, scope: Scope) -> Iterator[Path]:
    """Hold a tenant's history against others who would change it; yield its folder, made.

    On PostgreSQL by an advisory lock of the server, elsewhere by a lock on a file.

    Raises:
        StoreBusy: somebody holds it.
    """
    folder = root / tenant_folder(scope)
    segment_file.make_folder(root)
    segment_file.make_folder(folder)
    if store.url.get_backend_name() != "sqlite":
        with alone_on_server(store, scope):
            yield folder
        return
    import fcntl

    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _busy(scope) from None
        yield folder
    finally:
        os.close(handle)


@contextlib.contextmanager
def alone_on_server(store: Store, scope: Scope) -> Iterator[None]:
    """Hold a tenant's history on PostgreSQL, where it may have no folder yet.

    Raises:
        StoreBusy: somebody holds it.
    """
    key = int.from_bytes(bytes.fromhex(tenant_folder(scope)[:16]), signed=True)
    with store.reading("lock the history") as connection:
        lock = sa.select(sa.func.pg_try_advisory_xact_lock(key))
        if not connection.execute(lock).scalar():
            raise _busy(scope)
        yield


def _busy(scope: Scope) -> StoreBusy:
    return StoreBusy(f"another process works on the history of {scope.tenant!r}: try again later")


def sweep(folder: Path, segments: list[Segment]) -> int:
    """Remove files that no segment names, which a crash left behind; return how many.

    Whoever calls this holds the tenant's history alone.
    """
    named = {Path(s.path).name for s in segments}
    named |= {f"{name}{segment_file.IDS}" for name in named}
    orphans = [
        path
        for path in folder.iterdir()
        if path.is_file() and path.name not in named and path.name != _LOCK
    ]
    for path in orphans:
        path.unlink(missing_ok=True)
    return len(orphans)


def named(folder: Path, written: segment_file.Written, now_us: int) -> Segment:
    """Make the row that names a file."""
    return Segment(
        first=written.first,
        last=written.last,
        from_us=written.from_us,
        until_us=written.until_us,
        path=f"{folder.name}/{written.name}",
        sha256=written.sha256,
        rows=written.rows,
        made_us=now_us,
    )
