"""Group commit: one thread that shares a sync between all who wait for one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import NamedTuple, Self

from tocsin.errors import AppendRefused, InputError, StoreBusy, StoreError, StoreFailed
from tocsin.limits import (
    STORE_APPENDS_MAX,
    STORE_BATCH_EVENTS_MAX,
    STORE_LINGER_MS_MAX,
    STORE_RETRY_MS_MAX,
    STORE_WAITING_MAX,
)
from tocsin.store.append import Append, Committed, Rejected
from tocsin.store.commit import Prepared, prepare
from tocsin.store.store import Store

_PAUSE_S = 0.05
"""Between two tries of a commit, at first; it doubles up to a second."""


class _Waiting(NamedTuple):
    given: Prepared
    done: Future[Committed]


class Writer:
    """Takes appends from any thread and commits them together.

    A future is done when its append is durable, and not before. Order is kept: what one thread
    submits first gets the lower sequence numbers.

    Args:
        store: that is written to; it stays open when the writer closes.
        linger_ms: how long the first append of a commit waits for others, up to 5 ms.
        waiting_max: appends that may wait.
        retry_ms_max: how long a commit is tried again where the store is busy or away. The same
            ids are given again, so that a commit whose outcome was lost is not doubled.

    Example:
        >>> import tempfile
        >>> from tocsin.events.envelope import Event
        >>> from tocsin.events.kinds import Feedback
        >>> from tocsin.store import Append, Store, Writer
        >>> event = Event(id="e1", time_us=0, source="shop", body=Feedback(verdict="down"))
        >>> with tempfile.TemporaryDirectory() as folder, Store.open(f"{folder}/r.db") as store:
        ...     with Writer(store) as writer:
        ...         writer.submit(Append(tenant="acme", events=(event,))).result().last
        1
    """

    def __init__(
        self,
        store: Store,
        *,
        linger_ms: float = 1.0,
        waiting_max: int = STORE_WAITING_MAX,
        retry_ms_max: float = STORE_RETRY_MS_MAX,
        on_failed: Callable[[StoreError], None] | None = None,
    ) -> None:
        if not 0 <= linger_ms <= STORE_LINGER_MS_MAX:
            raise InputError(f"a commit lingers from 0 to {STORE_LINGER_MS_MAX} ms: {linger_ms}")
        self._store = store
        self._linger_s = linger_ms / 1000
        self._waiting_max = waiting_max
        self._retry_s = retry_ms_max / 1000
        self._on_failed = on_failed
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._failed: StoreError | None = None
        self._refusal: StoreBusy | None = None
        self._thread = threading.Thread(target=self._run, name="tocsin-writer", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> StoreError | None:
        """What stopped the writer for good; None while it works."""
        return self._failed

    @property
    def refusal(self) -> StoreBusy | None:
        """Why a commit is being tried again; None where the last one went through at once."""
        return self._refusal

    @property
    def waiting(self) -> int:
        """How many appends wait now."""
        return len(self._waiting)

    def submit(self, append: Append) -> Future[Committed]:
        """Hand in an append; the future is done when it is durable.

        Its exception may be `AppendRefused` (it breaks a rule), `StoreBusy` or `StoreFull`
        (nothing was written), or `StoreFailed` (the process has to end).

        Raises:
            StoreBusy: too many wait already, or the writer is closed.
            StoreFailed: the store has failed before.
        """
        future: Future[Committed] = Future()
        given = prepare(append, self._store.keys)
        with self._changed:
            if self._failed is not None:
                raise type(self._failed)(str(self._failed))
            if self._closing:
                raise StoreBusy("the store is being closed")
            if len(self._waiting) >= self._waiting_max:
                raise StoreBusy(f"{self._waiting_max} appends wait for the store already")
            if isinstance(given, Rejected):
                future.set_exception(AppendRefused(given.reason))
                return future
            self._waiting.append(_Waiting(given, future))
            self._changed.notify()
        return future

    def close(self, timeout_s: float | None = None) -> None:
        """Commit what waits, and end the thread; a second call does nothing.

        Args:
            timeout_s: how long to wait; what has not been committed by then fails as busy.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._fail_waiting(StoreBusy("the store was closed before it got to this"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            batch = self._next()
            if not batch:
                return
            try:
                self._commit(batch)
            except StoreFailed as e:
                self._stop(batch, e)
                return
            except StoreError as e:
                if self._store.failed is not None:
                    self._stop(batch, e)
                    return
                _fail(batch, e)
            except BaseException as e:  # noqa: BLE001 - whoever waits must never wait for good
                self._stop(batch, StoreFailed(f"the writer broke: {type(e).__name__}: {e}"))
                return
            self._store.tend()

    def _next(self) -> list[_Waiting]:
        """Wait for appends, and a little for more of them; nothing where the writer is closed."""
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return []
                self._changed.wait()
            until = time.monotonic() + self._linger_s
            while len(self._waiting) < STORE_APPENDS_MAX and not self._closing:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch: list[_Waiting] = []
            events = 0
            while self._waiting and len(batch) < STORE_APPENDS_MAX:
                events += len(self._waiting[0].given.rows)
                if batch and events > STORE_BATCH_EVENTS_MAX:
                    break
                one = self._waiting.popleft()
                if one.done.set_running_or_notify_cancel():
                    batch.append(one)
            return batch or self._next()

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        until = time.monotonic() + self._retry_s
        pause = _PAUSE_S
        while True:
            try:
                done = self._store.commit_prepared([one.given for one in batch])
                break
            except StoreBusy as e:
                self._refusal = e
                if time.monotonic() + pause > until:
                    raise
            with self._changed:
                self._changed.wait(pause if not self._closing else min(pause, _PAUSE_S))
            pause = min(2 * pause, 1.0)
        self._refusal = None
        for one, answer in zip(batch, done, strict=True):
            if isinstance(answer, Rejected):
                _settle(one.done, error=AppendRefused(answer.reason))
            else:
                _settle(one.done, answer)

    def _stop(self, batch: Sequence[_Waiting], e: StoreError) -> None:
        """Fail everything that waits, and all that comes later."""
        with self._changed:
            self._failed = e
        _fail(batch, e)
        self._fail_waiting(e)
        if self._on_failed is not None:
            self._on_failed(e)

    def _fail_waiting(self, e: StoreError) -> None:
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
        _fail(left, e)


def _fail(batch: Sequence[_Waiting], e: StoreError) -> None:
    for one in batch:
        _settle(one.done, error=type(e)(str(e)))


def _settle(
    future: Future[Committed], answer: Committed | None = None, *, error: StoreError | None = None
) -> None:
    """Settle a future, unless whoever waited has given up on it."""
    try:
        if error is not None:
            future.set_exception(error)
        else:
            assert answer is not None  # noqa: S101 - one of the two is given
            future.set_result(answer)
    except InvalidStateError:
        pass
