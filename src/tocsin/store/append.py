"""What is given to the store, all or nothing, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from tocsin.events.envelope import Event
from tocsin.limits import STORE_CONTENT_CHARS_MAX, STORE_ID_CHARS_MAX
from tocsin.receipts.entry import Kind
from tocsin.store.scope import unfit


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A document for the tenant's log.

    Args:
        kind: what it is.
        id: unique within tenant and kind; given again, it changes nothing.
        body: a JSON object, as bytes.
    """

    kind: Kind
    id: str
    body: bytes


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Raw content, which the vault encrypts inside the commit.

    Args:
        id: unique within the tenant; given again, it changes nothing.
        subject: whose it is: under whose key it is encrypted.
        request: that it belongs to; empty where there is none.
        what: input, output, retrieved context...
        text: the content itself.
        why: the policy samples it, or an alarm needs evidence.
        expires_us: when it is deleted, microseconds since 1970.
    """

    id: str
    subject: str
    request: str
    what: str
    text: str
    why: Literal["sample", "evidence"]
    expires_us: int


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """What one tenant's record gets, all of it or nothing of it.

    Example:
        >>> Append(tenant="acme", entries=(Entry(kind="receipt", id="r1", body=b"{}"),)).tenant
        'acme'
    """

    tenant: str
    events: tuple[Event, ...] = ()
    entries: tuple[Entry, ...] = ()
    contents: tuple[Content, ...] = ()


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """An append that is durable.

    Args:
        tenant: whose.
        first, last: sequence numbers of its new events; 0 and 0 where none was new.
        duplicates: ids of events, entries and contents that were there already, and were not
            stored again.
        differing: those among them that were stored with another content: the first one stays.
        checkpoint: of the tenant's log after this commit, a signed note; None where the append
            has no entries.
    """

    tenant: str
    first: int = 0
    last: int = 0
    duplicates: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    checkpoint: str | None = None


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """An append that breaks a rule; nothing of it was stored, and it would be refused again."""

    tenant: str
    reason: str


def fault(append: Append) -> str | None:
    """Say why an append cannot be stored, as far as it alone shows; None where it can."""
    why = unfit(append.tenant)
    if why is not None:
        return f"no tenant can be called {append.tenant[:64]!r}: {why}"
    if not (append.events or append.entries or append.contents):
        return "the append is empty"
    return next(_faults(append), None)


def _faults(append: Append) -> Iterator[str]:
    for event in append.events:
        if not _named(event.id):
            yield f"an event has the id {event.id[:64]!r}: {_NAMES}"
        if not 0 <= event.time_us < 2**63:
            yield f"event {event.id} has the time {event.time_us}: microseconds since 1970"
    for entry in append.entries:
        if not _named(entry.id):
            yield f"an entry has the id {entry.id[:64]!r}: {_NAMES}"
    for content in append.contents:
        for name in (content.id, content.subject, content.what, content.request or "-"):
            if not _named(name):
                yield f"content has the name {name[:64]!r}: {_NAMES}"
        if len(content.text) > STORE_CONTENT_CHARS_MAX:
            yield f"content {content.id} is longer than {STORE_CONTENT_CHARS_MAX} characters"


_NAMES = f"1 to {STORE_ID_CHARS_MAX} printable characters"


def _named(name: str) -> bool:
    return 0 < len(name) <= STORE_ID_CHARS_MAX and name.isprintable()
