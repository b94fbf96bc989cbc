"""Where a store is, and connections that keep their word: what is committed has been synced."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url

from tocsin import durable
from tocsin.errors import (
    InputError,
    StoreAway,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
)
from tocsin.limits import STORE_BUSY_MS_MAX, STORE_WAL_BYTES_KEPT

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_BLOCK_BYTES = 1 << 20

_AGAIN_S = 0.005

_FULL = 2
"""`PRAGMA synchronous` of SQLite that syncs with every commit."""


class Engines:
    """A writing engine with one connection, and a reading one with several.

    Args:
        url: as `parse` gives it.
        synchronous: of SQLite. Anything but FULL loses acknowledged events in a power cut; it is
            there so that a test can show it.
    """

    def __init__(self, url: URL, *, synchronous: str = "FULL") -> None:
        self.url = url
        self.sqlite = url.get_backend_name() == "sqlite"
        if self.sqlite:
            self.writing = _sqlite(url, "BEGIN IMMEDIATE", synchronous, readonly=False)
            self.reading = _sqlite(url, "BEGIN", synchronous, readonly=True)
        else:
            self.writing = _postgresql(url, readonly=False)
            self.reading = _postgresql(url, readonly=True)

    def close(self) -> None:
        """Close every connection."""
        self.reading.dispose()
        self.writing.dispose()


def parse(url: str) -> URL:
    """Read where a store is.

    Args:
        url: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``postgresql://user@host/name``,
            or the path of a SQLite file.

    Raises:
        InputError: it is neither; the message holds no password.

    Example:
        >>> parse("record.db").database
        'record.db'
        >>> parse("postgresql://me:secret@db.example/record").drivername
        'postgresql+psycopg'
    """
    if "://" not in url:
        if not url or "\0" in url:
            raise InputError("a store needs a path or a URL")
        return URL.create("sqlite", database=url)
    try:
        found = make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise InputError("a store's URL begins with sqlite:/// or postgresql://") from None
    name = found.get_backend_name()
    if name == "sqlite":
        if found.query or not found.database or found.database == ":memory:":
            raise InputError("a SQLite store is a file: sqlite:///record.db")
        return URL.create("sqlite", database=found.database)
    if name in {"postgresql", "postgres"}:
        if found.drivername not in {"postgresql", "postgres", "postgresql+psycopg"}:
            raise InputError(f"no driver {found.drivername!r}: write postgresql://...")
        return found.set(drivername="postgresql+psycopg")
    raise InputError(f"no store is kept in {name!r}: sqlite and postgresql are known")


def shown(url: URL) -> str:
    """Write a store's URL as people may read it: without passwords.

    Example:
        >>> shown(parse("postgresql://me:secret@db.example/record?password=secret"))
        'postgresql://me:***@db.example/record?password=***'
    """
    if url.get_backend_name() == "sqlite":
        return url.render_as_string()
    query = {key: "***" if key in _SECRETS else value for key, value in url.query.items()}
    plain = url.set(drivername="postgresql", query=query).render_as_string()
    return plain.replace("=%2A%2A%2A", "=***")


_SECRETS = frozenset({"password", "sslpassword"})


def make_file(url: URL) -> None:
    """Make the file of a SQLite store, readable by its owner alone; `sync_folder` is to follow."""
    if url.get_backend_name() != "sqlite":
        return
    path = Path(str(url.database))
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as e:
        raise InputError(f"cannot make the store {str(path)!r}: {e.strerror}") from None


def sync_folder(url: URL) -> None:
    """Make the names of a SQLite store's files survive a power cut.

    SQLite does that too when it makes its log, but says nothing where it fails.

    Raises:
        StoreFailed: it cannot be done.
    """
    if url.get_backend_name() != "sqlite":
        return
    folder = Path(str(url.database)).parent
    try:
        durable.sync_folder(folder)
    except OSError as e:
        raise StoreFailed(f"cannot sync the folder {str(folder)!r}: {e.strerror}") from None


def mark_unsynced(url: URL) -> None:
    """Leave word that a sync failed, for whoever opens the store next; see `rewrite_log`."""
    if url.get_backend_name() == "sqlite":
        with contextlib.suppress(OSError):
            _mark(url).touch(mode=0o600)


def is_unsynced(url: URL) -> bool:
    """Say whether there is such a word."""
    return url.get_backend_name() == "sqlite" and _mark(url).exists()


def _mark(url: URL) -> Path:
    # It need not survive a power cut: what it is about does not either.
    return Path(f"{url.database}-unsynced")


def rewrite_log(url: URL) -> None:
    """Write SQLite's log over itself, and sync it; the caller holds the lock of all writers.

    A sync that fails may leave pages in memory that are read like any others and are never written
    again, though later syncs succeed. A log that an earlier process left behind after such a
    failure has a hole on the disk, and what is committed behind the hole would be lost with it.
    Afterwards there is none, and the word of `mark_unsynced` is taken back.

    Raises:
        StoreFull: there is no room for it.
        StoreFailed: it cannot be done.
    """
    path = Path(f"{url.database}-wal")
    try:
        if path.exists():
            with path.open("r+b") as log:
                at = 0
                while block := log.read(_BLOCK_BYTES):
                    log.seek(at)
                    log.write(block)
                    at += len(block)
                    log.seek(at)
                log.flush()
                os.fsync(log.fileno())
        _mark(url).unlink(missing_ok=True)
    except OSError as e:
        kind = StoreFull if e.errno == errno.ENOSPC else StoreFailed
        raise kind(f"cannot write {str(path)!r}: {e.strerror}") from None


def present(url: URL) -> bool:
    """Say whether there is a file to open; of a server that is not known beforehand."""
    return url.get_backend_name() != "sqlite" or Path(str(url.database)).is_file()


def _sqlite(url: URL, begin: str, synchronous: str, *, readonly: bool) -> Engine:
    path = Path(str(url.database))

    def connect() -> sqlite3.Connection:
        # A URI, so that SQLite never makes a file: `make_file` does, with its own permissions.
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=STORE_BUSY_MS_MAX / 1000,
        )
        try:
            _prepare(connection, path, synchronous, readonly=readonly)
        except BaseException:
            connection.close()
            raise
        return connection

    pool: dict[str, Any] = {"pool_size": 1, "max_overflow": 0} if not readonly else {"pool_size": 4}
    engine = sa.create_engine(
        "sqlite://", creator=connect, poolclass=sa.QueuePool, hide_parameters=True, **pool
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _prepare(
    connection: sqlite3.Connection, path: Path, synchronous: str, *, readonly: bool
) -> None:
    """Set what durability and privacy rest on, and look whether it was taken."""

    def said(pragma: str) -> Any:
        row = connection.execute(f"PRAGMA {pragma}").fetchone()
        return None if row is None else row[0]

    mode = _into_wal(connection)
    if mode != "wal":
        raise InputError(
            f"{str(path)!r} cannot be kept in WAL mode (it is {mode!r}): "
            "put the store on a local file system"
        )
    said(f"synchronous = {synchronous}")
    said("foreign_keys = ON")
    said("secure_delete = ON")
    said(f"journal_size_limit = {STORE_WAL_BYTES_KEPT}")
    # The store makes checkpoints itself: SQLite swallows the errors of its own.
    said("wal_autocheckpoint = 0")
    if readonly:
        said("query_only = ON")
        # Text that is none is to be found and named, and not to end the reading.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    kept = (said("foreign_keys"), said("secure_delete"))
    if kept != (1, 1) or (synchronous == "FULL" and said("synchronous") != _FULL):
        raise InputError(f"this SQLite does not do what {str(path)!r} needs: {kept}")


def _into_wal(connection: sqlite3.Connection) -> str:
    """Switch to WAL mode, and say which mode it is afterwards.

    Where two processes do that to a new file at once, SQLite tells one of them that the other holds
    it, without waiting as it does everywhere else.
    """
    until = time.monotonic() + STORE_BUSY_MS_MAX / 1000
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as e:
            if e.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() >= until:
                raise
        time.sleep(_AGAIN_S)


def is_database(url: URL) -> bool:
    """Say whether there is what SQLite made, sound or not; of a server, that there is."""
    if url.get_backend_name() != "sqlite":
        return True
    try:
        with Path(str(url.database)).open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


_MAGIC = b"SQLite format 3\0"


def server(url: URL, **options: Any) -> Engine:
    """Make an engine for PostgreSQL that says where it could not connect to, and why.

    Args:
        url: as `parse` gives it.
        options: of `sqlalchemy.create_engine`.
    """
    try:
        import psycopg
    except ImportError:
        raise InputError(
            "a store in PostgreSQL needs psycopg: pip install 'tocsin[postgres]'"
        ) from None
    engine = sa.create_engine(url, hide_parameters=True, **options)

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, _record: Any, given: Any, named: Any) -> Any:
        try:
            return dialect.connect(*given, **named)
        except psycopg.OperationalError as e:
            raise StoreAway(f"cannot connect to {shown(url)}: {_reason(e)}") from None
        except psycopg.ProgrammingError as e:
            raise InputError(f"cannot connect to {shown(url)}: {_reason(e)}") from None

    return engine


def _reason(e: Exception) -> str:
    """Say why nothing was connected, in the words of server or library, in one line."""
    said = (str(e).splitlines() or [type(e).__name__])[0]
    said = said.removeprefix("connection failed: ").removeprefix("connection is bad: ")
    return said.replace("FATAL:  ", "").strip()


def _postgresql(url: URL, *, readonly: bool) -> Engine:
    # Who writes locks rows and has to see the latest; who reads has to see one state.
    if readonly:
        engine = server(url, pool_size=4, isolation_level="REPEATABLE READ", pool_pre_ping=True)
    else:
        engine = server(url, pool_size=1, max_overflow=0)

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
            fsync, commit = cursor.fetchone()
            if fsync != "on":
                raise InputError("this PostgreSQL runs with fsync off: it keeps no record safe")
            if commit == "off":
                cursor.execute("SET synchronous_commit = on")
            cursor.execute(f"SET lock_timeout = {STORE_BUSY_MS_MAX}")
            if readonly:
                cursor.execute("SET default_transaction_read_only = on")
        connection.commit()

    return engine


DATABASE_ERRORS = (sa.exc.DBAPIError, sqlite3.Error)
"""What a database raises, through SQLAlchemy or past it."""


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what a database raises into the store's own errors."""
    try:
        yield
    except DATABASE_ERRORS as e:
        raise meaning(e, doing) from e
    except sa.exc.TimeoutError:
        raise StoreBusy(f"cannot {doing}: no connection is free") from None


def meaning(e: sa.exc.DBAPIError | sqlite3.Error, doing: str) -> StoreError:
    """Say what a database's error means for whoever waits for the record."""
    if isinstance(e, sqlite3.Error):
        return _of_sqlite(e, doing)
    if isinstance(e.orig, sqlite3.Error):
        return _of_sqlite(e.orig, doing)
    return _of_postgresql(e, doing)


def _of_sqlite(e: sqlite3.Error, doing: str) -> StoreError:
    name = getattr(e, "sqlite_errorname", "") or ""
    for beginning, make, advice in _SQLITE:
        if name.startswith(beginning):
            return make(f"cannot {doing}: {advice} ({name})")
    return StoreFailed(f"cannot {doing}: {e} ({name or type(e).__name__})")


_SQLITE: tuple[tuple[str, Callable[[str], StoreError], str], ...] = (
    ("SQLITE_BUSY", StoreBusy, "another process holds the store"),
    ("SQLITE_LOCKED", StoreBusy, "another connection holds the store"),
    ("SQLITE_CANTOPEN", StoreBusy, "the file cannot be opened now"),
    ("SQLITE_NOMEM", StoreBusy, "there is no memory"),
    ("SQLITE_FULL", StoreFull, "there is no room left on the disk"),
    ("SQLITE_IOERR_SHMSIZE", StoreFull, "there is no room left for the index of the log"),
    ("SQLITE_IOERR", StoreFailed, "the disk reported an error"),
    ("SQLITE_CORRUPT", StoreDamaged, "the file is damaged"),
    ("SQLITE_NOTADB", StoreDamaged, "the file is no SQLite database"),
)

_POSTGRESQL: tuple[tuple[str, Callable[[str], StoreError], str], ...] = (
    ("40", StoreBusy, "another transaction was in the way"),
    ("55P03", StoreBusy, "another process holds the tenant"),
    ("53100", StoreFull, "the server's disk is full"),
    ("53", StoreBusy, "the server is short of something"),
    ("57", StoreAway, "the server is going down or coming up"),
    ("08", StoreAway, "the connection was lost"),
    ("58", StoreFailed, "the server's disk reported an error"),
    ("XX", StoreDamaged, "the server says that its data are damaged"),
)


def _of_postgresql(e: sa.exc.DBAPIError, doing: str) -> StoreError:
    state = getattr(e.orig, "sqlstate", None) or ""
    for beginning, make, advice in _POSTGRESQL:
        if state.startswith(beginning):
            return make(f"cannot {doing}: {advice} (SQLSTATE {state})")
    if e.connection_invalidated or (isinstance(e, sa.exc.OperationalError) and not state):
        return StoreAway(f"cannot {doing}: the connection was lost")
    return StoreFailed(f"cannot {doing}: {type(e.orig).__name__} (SQLSTATE {state or 'unknown'})")
