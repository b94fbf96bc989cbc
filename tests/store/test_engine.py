"""Connections: where a store is, what its errors mean, and that nothing of them stays behind."""

from __future__ import annotations

import gc
import os
import re
import sqlite3
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from store.making import append
from store.postgres import Server, server

from tocsin.errors import (
    InputError,
    StoreAway,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
)
from tocsin.store import Committed, Keys, Scope, Store, Writer
from tocsin.store.engine import make_file, meaning, parse

ACME = Scope("acme")


def sqlite_error(name: str) -> sqlite3.Error:
    made = sqlite3.OperationalError("x")
    made.sqlite_errorname = name
    return made


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SQLITE_BUSY", StoreBusy),
        ("SQLITE_BUSY_SNAPSHOT", StoreBusy),
        ("SQLITE_LOCKED", StoreBusy),
        ("SQLITE_FULL", StoreFull),
        ("SQLITE_IOERR_FSYNC", StoreFailed),
        ("SQLITE_IOERR_WRITE", StoreFailed),
        ("SQLITE_IOERR_SHMSIZE", StoreFull),
        ("SQLITE_CORRUPT", StoreDamaged),
        ("SQLITE_NOTADB", StoreDamaged),
        ("SQLITE_READONLY", StoreFailed),
        ("SQLITE_CONSTRAINT", StoreFailed),
    ],
)
def test_what_an_error_of_sqlite_means(name: str, kind: type[StoreError]) -> None:
    assert type(meaning(sqlite_error(name), "commit")) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.SerializationFailure, StoreBusy),
        (psycopg.errors.DeadlockDetected, StoreBusy),
        (psycopg.errors.LockNotAvailable, StoreBusy),
        (psycopg.errors.TooManyConnections, StoreBusy),
        (psycopg.errors.DiskFull, StoreFull),
        (psycopg.errors.AdminShutdown, StoreAway),
        (psycopg.errors.ConnectionFailure, StoreAway),
        (psycopg.errors.IoError, StoreFailed),
        (psycopg.errors.DataCorrupted, StoreDamaged),
        (psycopg.errors.UniqueViolation, StoreFailed),
        (psycopg.OperationalError, StoreAway),
    ],
)
def test_what_an_error_of_postgresql_means(error: Any, kind: type[StoreError]) -> None:
    base = sa.exc.OperationalError if issubclass(error, psycopg.OperationalError) else None
    made = (base or sa.exc.DBAPIError)("statement", {}, error("x"))
    assert type(meaning(made, "commit")) is kind


def test_an_error_tells_no_statement_and_no_value() -> None:
    made = sa.exc.IntegrityError("INSERT secret", {"a": "secret"}, sqlite_error("SQLITE_FULL"))
    assert "secret" not in str(meaning(made, "commit"))


def test_another_process_that_holds_the_file_makes_the_store_busy(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.store.engine.STORE_BUSY_MS_MAX", 20)
    with Store.open(str(sqlite_path)) as store:
        other = sqlite3.connect(sqlite_path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            store.commit([append("acme", 1)])
        other.execute("COMMIT")
        other.close()
        assert store.failed is None
        assert isinstance(store.commit([append("acme", 1)])[0], Committed)


def test_a_store_that_failed_stays_failed(sqlite_path: Path, monkeypatch: Any) -> None:
    with Store.open(str(sqlite_path)) as store:
        store.commit([append("acme", 1)])
        with pytest.raises(StoreFailed), store.transaction("fail") as connection:
            raise sa.exc.OperationalError("x", {}, sqlite_error("SQLITE_IOERR_FSYNC"))
        assert isinstance(store.failed, StoreFailed)
        for call in (
            lambda: store.commit([append("acme", 2)]),
            lambda: store.events(ACME),
            lambda: store.close_period(ACME),
        ):
            with pytest.raises(StoreFailed):
                call()
        del connection
    with Store.open(str(sqlite_path)) as store:
        assert store.head(ACME).seq == 1


def test_one_bad_row_stops_nobody_else(store: Store) -> None:
    def find() -> None:
        with store.transaction("look"):
            raise StoreDamaged("this one row")

    with pytest.raises(StoreDamaged):
        find()
    assert store.failed is None
    assert isinstance(store.commit([append("acme", 1)])[0], Committed)


def test_the_log_of_sqlite_is_taken_back(sqlite_path: Path) -> None:
    with Store.open(str(sqlite_path)) as store:
        for n in range(60):
            store.commit([append("acme", *range(100 * n, 100 * n + 100))])
        log = sqlite_path.with_name("record.db-wal")
        assert log.stat().st_size < 20_000_000
        assert sqlite_path.stat().st_size > 2_000_000
        store.truncate_log()
        assert log.stat().st_size == 0


def test_no_other_process_commits_while_the_log_is_taken_back(sqlite_path: Path) -> None:
    """Or commits may be lost by the WAL-reset bug of SQLite before 3.51.3."""
    with Store.open(str(sqlite_path)) as store:
        store.commit([append("acme", *range(100))])
        other = sqlite3.connect(sqlite_path, isolation_level=None, timeout=0)
        tried: list[tuple[str, str]] = []

        def watch(statement: str) -> None:
            try:
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
                tried.append((statement, "free"))
            except sqlite3.OperationalError as e:
                tried.append((statement, str(e)))

        raw = store._engines.reading.raw_connection()
        raw.driver_connection.set_trace_callback(watch)  # type: ignore[union-attr]
        raw.close()
        store.tend(rows=10_000)
        other.close()
    assert tried == [("PRAGMA wal_checkpoint(PASSIVE)", "database is locked")]


def test_a_reader_in_the_way_makes_cutting_the_log_busy(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.store.engine.STORE_BUSY_MS_MAX", 20)
    with Store.open(str(sqlite_path)) as store:
        store.commit([append("acme", 1)])
        with store.reading() as connection:
            connection.execute(sa.text("SELECT count(*) FROM events")).scalar()
            store.commit([append("acme", 2)])
            with pytest.raises(StoreBusy):
                store.truncate_log()
        store.truncate_log()


def test_a_closed_store_is_not_used(store: Store) -> None:
    store.commit([append("acme", 1)])
    store.close()
    store.close()
    with pytest.raises(InputError, match="closed"):
        store.commit([append("acme", 2)])
    with pytest.raises(InputError, match="closed"):
        store.events(ACME)


def test_a_failure_while_closing_is_told(sqlite_path: Path, monkeypatch: Any) -> None:
    store = Store.open(str(sqlite_path))
    store.commit([append("acme", 1)])
    failing = sa.exc.OperationalError("x", {}, sqlite_error("SQLITE_IOERR_FSYNC"))
    monkeypatch.setattr(store._engines.reading, "raw_connection", raiser(failing))
    with pytest.raises(StoreFailed):
        store.close()
    store.close()
    with Store.open(str(sqlite_path)) as again:
        assert again.head(ACME).seq == 1


def test_a_failure_while_the_log_is_taken_back_is_told_by_the_next_call(
    sqlite_path: Path, monkeypatch: Any
) -> None:
    with Store.open(str(sqlite_path)) as store:
        assert isinstance(store.commit([append("acme", 1)])[0], Committed)
        failing = sa.exc.OperationalError("x", {}, sqlite_error("SQLITE_IOERR_FSYNC"))
        with monkeypatch.context() as patched:
            patched.setattr(store._engines.reading, "raw_connection", raiser(failing))
            store.tend(rows=10_000)
        with pytest.raises(StoreFailed):
            store.commit([append("acme", 2)])


def raiser(error: Exception) -> Any:
    def fail() -> None:
        raise error

    return fail


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all, but long enough to be one" * 100)
    with pytest.raises(StoreDamaged):
        Store.open(str(tmp_path / "x.db"))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
def test_opening_and_closing_leaves_no_descriptors_and_threads(prepared: str, keys: Keys) -> None:
    def once(n: int) -> None:
        with Store.open(prepared, keys=keys) as store, Writer(store) as writer:
            writer.submit(append("acme", n, receipts=(f"r{n}",))).result(20)
            store.events(ACME)

    once(0)
    gc.collect()
    files, threads = open_files(), threading.active_count()
    for n in range(1, 21):
        once(n)
    gc.collect()
    assert open_files() <= files + 2
    assert threading.active_count() <= threads


@pytest.mark.parametrize("prepared", ["postgresql"], indirect=True)
def test_syncs_that_a_url_switches_off_are_switched_on(prepared: str) -> None:
    off = f"{prepared}&options=-c%20synchronous_commit%3Doff"
    with Store.open(off) as store, store.transaction("look") as connection:
        said = connection.exec_driver_sql("SHOW synchronous_commit").scalar()
    assert said == "on"


def test_a_server_without_fsync_is_refused() -> None:
    own = Server(fsync="off")
    try:
        with pytest.raises(InputError, match="fsync off"):
            Store.open(own.url())
    finally:
        own.stop()


def test_a_server_that_is_not_there_is_away(tmp_path: Path) -> None:
    with pytest.raises(StoreAway) as told:
        Store.open(f"postgresql://me:secret@/x?host={tmp_path}")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("user", "at", "said"),
    [
        ("me:secret", "127.0.0.1:1/x", "Connection refused"),
        ("me:secret", "no.such.host.invalid/x", "failed to resolve host 'no.such.host.invalid'"),
        ("postgres", "/nothing?host={server}", 'database "nothing" does not exist'),
        ("nobody:secret", "/postgres?host={server}", 'role "nobody" does not exist'),
        ("me", "/x?host=/nowhere&password=secret", "No such file or directory"),
    ],
)
def test_what_keeps_from_connecting_is_said(user: str, at: str, said: str) -> None:
    url = f"postgresql://{user}@{at.format(server=server().folder)}"
    with pytest.raises(StoreAway, match=re.escape(said)) as told:
        Store.open(url)
    assert str(told.value).startswith(f"cannot connect to postgresql://{user.partition(':')[0]}")
    assert "secret" not in str(told.value)
    assert "lost" not in str(told.value)
    assert "\n" not in str(told.value)


def test_an_option_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match='invalid connection option "foo"'):
        Store.open("postgresql://me@127.0.0.1:1/x?foo=1")


def test_a_server_that_was_restarted_is_found_again(keys: Keys) -> None:
    own = Server()
    try:
        with Store.open(own.url(), keys=keys) as store, Writer(store) as writer:
            writer.submit(append("acme", 1, receipts=("r1",))).result(20)
            own.kill()
            own.start()
            done = writer.submit(append("acme", 2, receipts=("r2",))).result(30)
            assert done.last == 2
            assert [s.event.id for s in store.events(ACME)] == ["e1", "e2"]
    finally:
        own.stop()


def test_the_process_is_the_only_user_of_its_server() -> None:
    assert os.stat(server().folder).st_mode & 0o077 == 0  # noqa: PTH116


def test_a_url_says_which_driver() -> None:
    assert parse("postgres://db.example/x").drivername == "postgresql+psycopg"


def test_a_new_file_that_another_process_switches_to_wal_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says at once that it is held there, whatever the time that it is told to wait."""
    url = parse(str(tmp_path / "record.db"))
    make_file(url)
    other = sqlite3.connect(tmp_path / "record.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits = iter((lambda: None, lambda: other.execute("COMMIT")))
    monkeypatch.setattr("tocsin.store.engine.time.sleep", lambda _s: next(waits)())
    Store.open(str(tmp_path / "record.db")).close()
    assert next(waits, None) is None
    other.close()
