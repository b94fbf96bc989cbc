"""The record of a gateway under test: where it is, and what stands in it afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tocsin.events.envelope import Event
from tocsin.gateway.site import RecordPlan
from tocsin.receipts.keys import read_keys
from tocsin.receipts.verify import verify
from tocsin.store import Scope, Store, Stored
from tocsin.store.access import Access
from tocsin.store.roles import Action, Role, local

LOG = "gateway.example/log"
DAY_US = 86_400_000_000


def plan(folder: Path, **changes: Any) -> RecordPlan:
    """Say that the record is in a folder; periods are signed at the end alone."""
    fields: dict[str, Any] = {
        "store": str(folder / "record.db"),
        "keys": folder / "keys",
        "log": LOG,
        "redaction": None,
        "period_s": 86_400.0,
        "content_us": DAY_US,
    }
    return RecordPlan(**{**fields, **changes})


def new_key(store: Store, role: Role, *scopes: Action) -> str:
    """Make a key for the shop's record."""
    access = Access(store, redact=lambda _, text: text)
    return access.add_key(local("shop", "ann"), role, scopes=scopes).key


class Kept:
    """What one tenant's record holds.

    Args:
        store: of the gateway.
        folder: of the record.
        tenant: whose.
    """

    def __init__(self, store: Store, folder: Path, tenant: str) -> None:
        self.store = store
        self.scope = Scope(tenant)
        self._folder = folder

    @property
    def stored(self) -> list[Stored]:
        """All events, in their order."""
        return self.store.events(self.scope, limit=100_000)

    @property
    def events(self) -> list[Event]:
        """The same, without their numbers."""
        return [one.event for one in self.stored]

    @property
    def kinds(self) -> list[str]:
        """Of the events."""
        return [event.kind for event in self.events]

    def of(self, kind: str) -> list[Any]:
        """The bodies of one kind."""
        return [event.body for event in self.events if event.kind == kind]

    @property
    def receipts(self) -> list[str]:
        """Ids, in the order of the log."""
        return [entry.id for entry in self.store.entries(self.scope, kind="receipt")]

    def receipt(self, name: str) -> dict[str, Any]:
        """The receipt, after its proof was verified with the public key alone."""
        keys = read_keys((self._folder / "keys" / "log.vkey").read_text())
        signed = tuple(key.named(f"{key.name}/{self.scope.tenant}") for key in keys)
        verified = verify(self.store.proof(self.scope, name), signed)
        found: dict[str, Any] = json.loads(verified.raw)
        assert (found["kind"], found["id"], found["tenant"]) == (
            "receipt", name, self.scope.tenant
        )  # fmt: skip
        return dict(found["body"])


@contextmanager
def kept(folder: Path, tenant: str = "local") -> Iterator[Kept]:
    """Read a record, while the gateway runs or after it."""
    with Store.open(str(folder / "record.db"), create=False) as store:
        yield Kept(store, folder, tenant)


def everything(folder: Path) -> bytes:
    """All bytes of the record but its keys."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("record.db*")))


def whole(record: Kept) -> None:
    """Each stream that was opened ended once, after it began; nothing is missing in between."""
    stored = record.stored
    assert [one.seq for one in stored] == list(range(1, len(stored) + 1))
    under_way: list[str] = []
    over: set[str] = set()
    for event in record.events:
        call = str(event.links.call)
        if event.kind == "stream.opened":
            assert call not in over
            assert call not in under_way
            under_way.append(call)
        if event.kind == "stream.ended":
            under_way.remove(call)
            over.add(call)
    assert under_way == []
