"""Who read or changed what not everyone may: from rows and from history alike."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from tocsin.errors import InputError
from tocsin.store.history import History
from tocsin.store.reading import Stored, Which
from tocsin.store.scope import Scope

if TYPE_CHECKING:
    from tocsin.store.store import Store


def newest(
    store: Store, scope: Scope, *, since_us: int, limit: int, folder: str | None
) -> list[Stored]:
    """Return the newest events of access and erasure, in their order.

    Args:
        store: whose record.
        scope: of which tenant.
        since_us: from then on, microseconds since 1970.
        limit: so many at most.
        folder: where the history is; None where the store knows.

    Raises:
        InputError: the history is elsewhere.
        HistoryDamaged, StoreDamaged: an event is not what was written.
    """
    which: Which = {"kind": ("access", "content.erased"), "since_us": since_us}
    with _history(store, folder) as history:
        return list(deque(history.stream(scope, **which), maxlen=limit))


def _history(store: Store, folder: str | None) -> History:
    """Open the history of a store; of a server that has none yet, rows alone are read."""
    try:
        return History(store, folder)
    except InputError:
        if folder is not None:
            raise
        return History(store, os.curdir)  # no closing has given it a place: there is no file
