"""The store: what was acknowledged is there after a power cut, and nobody reads another's."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Self, Unpack

from tocsin.errors import (
    AppendRefused,
    InputError,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
)
from tocsin.limits import STORE_READ_MAX, STORE_TRACE_EVENTS_MAX, STORE_WAL_PAGES
from tocsin.receipts.entry import Kind
from tocsin.store import engine as engines
from tocsin.store import migrating, proofs, reading
from tocsin.store.append import Append, Committed, Entry, Rejected
from tocsin.store.commit import Prepared, commit, prepare
from tocsin.store.period import make_period
from tocsin.store.reading import By, Head, Stored, Which
from tocsin.store.scope import Scope
from tocsin.store.work import Work, fits, remember, work_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tocsin.store.keys import Keys

_PAGES_A_COMMIT, _PAGES_A_ROW = 16, 3
"""How far a commit lets SQLite's log grow, about."""


class Store:
    """Events, receipts and logs of many tenants, in one SQLite file or PostgreSQL database.

    Safe to share between threads; several processes may write to one store. See `open`.

    Example:
        >>> import tempfile
        >>> from tocsin.events.envelope import Event
        >>> from tocsin.events.kinds import Feedback
        >>> from tocsin.store import Append, Scope, Store
        >>> event = Event(id="e1", time_us=0, source="shop", body=Feedback(verdict="down"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Store.open(f"{folder}/record.db") as store:
        ...         done = store.commit([Append(tenant="acme", events=(event,))])
        ...         read = store.events(Scope("acme"))
        >>> done[0].last, read[0].event == event
        (1, True)
    """

    def __init__(
        self,
        url: str,
        *,
        keys: Keys | None = None,
        create: bool = True,
        clock: Callable[[], float] = time.time,
        synchronous: str = "FULL",
        forward: bool = True,
    ) -> None:
        self.url = engines.parse(url)
        self.keys: Keys | None = None
        self._clock = clock
        self._writing = threading.Lock()
        self._pages = 0
        self._failed: StoreError | None = None
        self._closed = False
        if create:
            engines.make_file(self.url)
        elif not engines.present(self.url):
            raise InputError(f"there is no store at {engines.shown(self.url)!r}")
        self._engines = engines.Engines(self.url, synchronous=synchronous)
        try:
            self._bring_forward(create=create, forward=forward)
            if forward and engines.is_unsynced(self.url):
                with self.transaction("open the store"):
                    engines.rewrite_log(self.url)
            engines.sync_folder(self.url)
            if keys is not None:
                self.use(keys, remembered=create)
        except BaseException:
            self._engines.close()
            raise

    @classmethod
    def open(
        cls,
        url: str,
        *,
        keys: Keys | None = None,
        create: bool = True,
        clock: Callable[[], float] = time.time,
        synchronous: str = "FULL",
        forward: bool = True,
    ) -> Store:
        """Open a store, and bring its tables forward where an earlier version made them.

        Args:
            url: ``sqlite:///path``, ``postgresql://...``, or the path of a SQLite file.
            keys: to sign logs and to encrypt contents; without them there are events alone. Where
                they mask, the store remembers by a fingerprint with which key it began.
            create: make what is missing; otherwise refuse.
            clock: gives seconds since 1970.
            synchronous: of SQLite; anything but ``FULL`` loses acknowledged events in a power cut,
                and is there for the tests that show it.
            forward: bring the tables of an earlier version forward; otherwise refuse them.

        Raises:
            InputError: no such place, or it holds something else, or began with another key of the
                redaction.
            StoreFromTheFuture: a later version wrote it.
            StoreError: it cannot be opened now.
        """
        return cls(
            url, keys=keys, create=create, clock=clock, synchronous=synchronous, forward=forward
        )

    def work(self) -> Work:
        """Say what keys have done here: who opens keys for the store asks first."""
        with self.reading("look what keys have done") as connection:
            return work_of(connection, engines.shown(self.url))

    def use(self, keys: Keys, *, remembered: bool = True) -> None:
        """Sign and encrypt with these keys from now on; before anything else uses the store.

        Args:
            keys: of this store.
            remembered: where no key of the redaction is known, remember the fingerprint of this.

        Raises:
            InputError: the store began with another key of the redaction.
        """
        secret, where = keys.redaction, engines.shown(self.url)
        if secret is not None:
            with self.reading("compare keys") as connection:
                known = fits(connection, secret, where)
            if not known and remembered:
                with self.transaction("remember a key") as connection:
                    remember(connection, secret)
                    fits(connection, secret, where)
        self.keys = keys

    @property
    def failed(self) -> StoreError | None:
        """What stopped the store for good; None while it works."""
        return self._failed

    def now_us(self) -> int:
        """Read the store's clock, in microseconds since 1970."""
        return int(self._clock() * 1_000_000)

    # ------------------------------------------------------------------------------------ writing

    def commit(self, appends: Sequence[Append]) -> list[Committed | Rejected]:
        """Write appends in one transaction with one sync, and return when they are durable.

        Returns:
            One answer an append, in their order. A rejected one was not stored, the others were.

        Raises:
            StoreBusy: nothing was written; or, as `StoreAway`, nobody knows. Give it again.
            StoreFull: nothing was written.
            StoreFailed, StoreDamaged: the store is not to be used any more.
        """
        done = self.commit_prepared([prepare(append, self.keys) for append in appends])
        self.tend()
        return done

    def commit_prepared(self, given: Sequence[Prepared | Rejected]) -> list[Committed | Rejected]:
        """Do the same with what `prepare` made, and leave `tend` to the caller."""
        good = [p for p in given if isinstance(p, Prepared)]
        done: Iterator[Committed | Rejected] = iter(())
        if good:
            with self.transaction("commit") as connection:
                done = iter(commit(connection, good, self.keys, self.now_us()))
            rows = sum(len(p.rows) + 2 * len(p.leaves) + 4 * len(p.contents) for p in good)
            self._pages += _PAGES_A_COMMIT + _PAGES_A_ROW * rows
        return [p if isinstance(p, Rejected) else next(done) for p in given]

    def tend(self, rows: int = 0) -> None:
        """Take SQLite's log back into the file where it has grown; needed after commits only.

        Args:
            rows: so many were written by a `transaction` since the last call.

        An error here is kept, and raised by the next call: what was committed before is durable.
        """
        self._pages += _PAGES_A_ROW * rows
        if not self._engines.sqlite or self._pages < STORE_WAL_PAGES:
            return
        self._pages = 0
        with contextlib.suppress(StoreError):
            self._checkpoint("PASSIVE")

    def truncate_log(self) -> None:
        """Take all of SQLite's log back into the file and cut it, so that nothing old stays in it.

        Raises:
            StoreBusy: a reader still needs the log; try again.
        """
        if self._engines.sqlite and self._checkpoint("TRUNCATE"):
            raise StoreBusy("cannot cut the log: somebody is reading")

    def _checkpoint(self, mode: str) -> bool:
        """Make a checkpoint; say whether somebody was in the way.

        It is made while this process holds the lock that every writer needs. SQLite from 3.7.0 to
        3.51.2 may lose commits where a checkpoint and a commit that begins the log anew run at the
        same instant ("WAL-reset bug"): here they never do.
        """
        with self._writing:
            self._check()
            try:
                with engines.translated("take back the log"):
                    with self._engines.writing.begin():
                        busy = self._run_checkpoint("PASSIVE")
                    # The other modes take that lock themselves, and find nothing left to copy.
                    if mode != "PASSIVE":
                        busy = self._run_checkpoint(mode)
            except (StoreFailed, StoreDamaged) as e:
                self._latch(e)
                raise
        return busy

    def _run_checkpoint(self, mode: str) -> bool:
        raw = self._engines.reading.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute(f"PRAGMA wal_checkpoint({mode})")
            (busy, *_) = cursor.fetchone() or (1,)
        finally:
            raw.close()
        return bool(busy)

    def close_period(self, scope: Scope) -> Committed | None:
        """State what happened since the last period, as an entry of the tenant's log.

        Returns:
            None where nothing happened, or another process has just said it.

        Raises:
            AppendRefused: the store has no keys to sign with.
        """
        with self.reading("read a period") as connection:
            period = make_period(connection, scope, self.now_us())
        if period is None:
            return None
        entry = Entry(kind="period", id=period.id, body=period.write())
        done = self.commit([Append(tenant=scope.tenant, entries=(entry,))])[0]
        if isinstance(done, Committed):
            return done
        if self.head(scope).period >= period.first:
            return None
        raise AppendRefused(done.reason)

    @contextlib.contextmanager
    def transaction(self, doing: str) -> Iterator[Connection]:
        """Give a connection in a writing transaction of its own; it commits where nothing raised.

        On SQLite it keeps every other writer out. For what stands beside the events (keys, grants,
        segments, cursors): what is committed is durable when this returns.

        Raises:
            StoreError: see `commit`.
        """
        with self._writing:
            self._check()
            try:
                with engines.translated(doing), self._engines.writing.begin() as connection:
                    yield connection
            except (StoreFailed, StoreDamaged) as e:
                self._latch(e)
                raise

    # ------------------------------------------------------------------------------------ reading

    @contextlib.contextmanager
    def reading(self, doing: str = "read") -> Iterator[Connection]:
        """Give a connection that sees one state of the store, and cannot write."""
        self._check()
        with engines.translated(doing), self._engines.reading.begin() as connection:
            yield connection

    def events(
        self, scope: Scope, *, limit: int = STORE_READ_MAX, **which: Unpack[Which]
    ) -> list[Stored]:
        """Read events in their order; see `tocsin.store.reading.Which` for what they are found by.

        Example:
            `store.events(Scope("acme"), kind="alarm", since_us=0, limit=10)`
        """
        with self.reading() as connection:
            return reading.events(connection, scope, which, limit)

    def trace(
        self, scope: Scope, any_id: str, *, limit: int = STORE_TRACE_EVENTS_MAX
    ) -> list[Stored]:
        """Read everything linked with the id of an event, request, call, receipt or session."""
        with self.reading() as connection:
            return reading.trace(connection, scope, any_id, limit)

    def counts(self, scope: Scope, by: By, **which: Unpack[Which]) -> dict[str, int]:
        """Count events by kind, route or model."""
        with self.reading() as connection:
            return reading.counts(connection, scope, by, which)

    def head(self, scope: Scope) -> Head:
        """Say where the tenant's record ends; zeros where it has none."""
        with self.reading() as connection:
            found = reading.heads(connection, scope.tenant)
        return found[0] if found else Head(tenant=scope.tenant, seq=0, size=0, period=0)

    def heads(self) -> list[Head]:
        """Say where all records end; for whoever runs the store, not for a tenant."""
        with self.reading() as connection:
            return reading.heads(connection)

    def receipt(
        self, scope: Scope, entry_id: str, *, kind: Kind = "receipt"
    ) -> proofs.Logged | None:
        """Read an entry of the log; None where there is none."""
        with self.reading() as connection:
            return proofs.logged(connection, scope, entry_id, kind)

    def entries(
        self,
        scope: Scope,
        *,
        kind: Kind | None = None,
        after: int = -1,
        limit: int = STORE_READ_MAX,
    ) -> list[proofs.Logged]:
        """Read entries in the order of the log, after an index."""
        with self.reading() as connection:
            return proofs.listed(connection, scope, kind, after, limit)

    def proof(self, scope: Scope, entry_id: str, *, kind: Kind = "receipt") -> str:
        """Prove that an entry is in the log: a ``.tlog-proof`` file with the entry in it.

        Raises:
            InputError: there is none.
        """
        with self.reading() as connection:
            return proofs.proof(connection, scope, entry_id, kind)

    def growth(self, scope: Scope, old: int, new: int) -> str:
        """Prove that the log only grew between two sizes: a text file."""
        with self.reading() as connection:
            return proofs.growth(connection, scope, old, new)

    def checkpoint(self, scope: Scope) -> str | None:
        """Give the latest signed checkpoint; None where the log has no entry."""
        with self.reading() as connection:
            found = proofs.newest(connection, scope)
        return None if found is None else found[1]

    def checkpoints(
        self, scope: Scope, *, after: int = 0, limit: int = STORE_READ_MAX
    ) -> list[str]:
        """Read signed checkpoints of more than `after` entries, oldest first."""
        with self.reading() as connection:
            return proofs.checkpoints(connection, scope, after, limit)

    # ------------------------------------------------------------------------------------- ending

    def close(self) -> None:
        """Close every connection; a second call does nothing.

        Raises:
            StoreFailed: the disk reported an error when SQLite's log was taken back. What was
                committed is in the log, and will be found when the store is opened again.
        """
        if self._closed:
            return
        try:
            # SQLite would do this itself when its last connection closes, and swallow an error.
            if self._pages and self._engines.sqlite and self._failed is None:
                with contextlib.suppress(StoreBusy, StoreFull):
                    self._checkpoint("PASSIVE")
        finally:
            self._closed = True
            self._engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _latch(self, e: StoreError) -> None:
        """Remember what the database itself reported; a single bad row stops nobody else."""
        if isinstance(e.__cause__, engines.DATABASE_ERRORS):
            self._failed = e
            if isinstance(e, StoreFailed):
                engines.mark_unsynced(self.url)

    def _check(self) -> None:
        if self._closed:
            raise InputError("this store was closed")
        if self._failed is not None:
            raise type(self._failed)(str(self._failed))

    def _bring_forward(self, *, create: bool, forward: bool) -> None:
        with engines.translated("open the store"), self._engines.reading.connect() as connection:
            found = migrating.revision(connection)
        if found is None and not create:
            raise InputError(f"there is no store at {engines.shown(self.url)!r}")
        if found not in {None, migrating.REVISIONS[-1]} and not forward:
            raise InputError(
                f"this store has the form {found!r} of an earlier version: commit to it once"
            )
        if found != migrating.REVISIONS[-1]:
            with self.transaction("bring the store forward") as connection:
                migrating.migrate(connection)
