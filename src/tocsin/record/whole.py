"""A record read as one: rows of the store, and the files of hours that were closed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, Unpack

import sqlalchemy as sa

from tocsin.store import tables as t
from tocsin.store.reading import Stored, Which
from tocsin.store.scope import Scope

if TYPE_CHECKING:
    from tocsin.store.history import History
    from tocsin.store.store import Store


class Whole:
    """Reads events from rows alone for as long as a tenant has no closed hours. Thread-safe.

    Hours may be closed meanwhile: each call looks. The libraries that read files are imported when
    the first one is there.

    Args:
        store: stays open when this is closed.

    Example:
        >>> import tempfile
        >>> from tocsin.events.envelope import Event
        >>> from tocsin.events.kinds import Feedback
        >>> from tocsin.store import Append, Scope, Store
        >>> event = Event(id="e1", time_us=0, source="shop", body=Feedback(verdict="down"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Store.open(f"{folder}/record.db") as store, Whole(store) as whole:
        ...         done = store.commit([Append(tenant="acme", events=(event,))])
        ...         whole.events(Scope("acme"), limit=5)[0].seq
        1
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._history: History | None = None

    def events(self, scope: Scope, *, limit: int, **which: Unpack[Which]) -> Sequence[Stored]:
        """Read events in the order of their sequence numbers, as `Store.events` does.

        Raises:
            InputError, HistoryDamaged: files of closed hours cannot be found or read.
        """
        if not self._closed(scope):
            return self._store.events(scope, limit=limit, **which)
        with self._lock:
            return self._opened().events(scope, limit=limit, **which)

    def trace(self, scope: Scope, any_id: str) -> list[Stored]:
        """Read everything that is linked with an id, as `Store.trace` does."""
        if not self._closed(scope):
            return self._store.trace(scope, any_id)
        with self._lock:
            return self._opened().trace(scope, any_id)

    def close(self) -> None:
        """Close what files are read with."""
        with self._lock:
            if self._history is not None:
                self._history.shut()
                self._history = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _closed(self, scope: Scope) -> bool:
        asked = sa.select(t.segments.c.first).where(t.segments.c.tenant == scope.tenant).limit(1)
        with self._store.reading("look for closed hours") as connection:
            return connection.execute(asked).first() is not None

    def _opened(self) -> History:
        if self._history is None:
            from tocsin.store.history import History

            self._history = History(self._store)
        return self._history
