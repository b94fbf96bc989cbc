"""What a recorder is given and how it is, apart from what it does: see `tocsin.record.recorder`."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Literal, Protocol

import msgspec

from tocsin.errors import StoreError
from tocsin.events.envelope import Event
from tocsin.limits import (
    RECORD_CLOSE_MS_MAX,
    RECORD_CONTENT_CHARS_MAX,
    RECORD_CONTENTS_UPTO,
    RECORD_EVENTS_WAITING_MAX,
    RECORD_PERIOD_S,
    RECORD_PROBE_MS,
    RECORD_REFUSED_MS,
    RECORD_SLOW_MS,
    RECORD_WAITING_MAX,
)
from tocsin.store.append import Append, Committed

State = Literal["ok", "slow", "failed"]
"""ok: what is given is committed soon. slow: the store is busy, full or late, or
refuses what this process has to say; it may come back.
failed: a sync failed; nothing is acknowledged any more and the process has to end."""


class Redacting(Protocol):
    """What cleans events; made for one tenant, see `tocsin.record.redaction`."""

    def event(self, event: Event) -> Event:
        """Give the event as it may be stored."""

    def person(self, who: str) -> str:
        """Give the pseudonym of a person; a pseudonym of ours stays what it is."""


class Writing(Protocol):
    """What commits; see `tocsin.store.writer.Writer`."""

    @property
    def refusal(self) -> StoreError | None:
        """Why what waits is being tried again; None where it is not."""

    def submit(self, append: Append) -> Future[Committed]:
        """Take an append; the future is done when it is durable, or cannot be."""


class Meters(Protocol):
    """What is counted. Called within the event loop; no call fails or takes long."""

    def recorded(self, events: int, entries: int, took_ms: float) -> None:
        """Count what was committed, and how long it took from hand to disk."""

    def shed(self, contents: int, events: int) -> None:
        """Count what was left out."""

    def lost(self, entries: int) -> None:
        """Count entries that were not taken or not committed; whoever waits learns it too."""

    def record_state(self, state: State) -> None:
        """Tell how the record is."""


class NoMeters:
    """Counts nothing."""

    def recorded(self, events: int, entries: int, took_ms: float) -> None:
        """Count nothing."""

    def shed(self, contents: int, events: int) -> None:
        """Count nothing."""

    def lost(self, entries: int) -> None:
        """Count nothing."""

    def record_state(self, state: State) -> None:
        """Count nothing."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much may wait, and for how long; see `tocsin.limits` for why.

    Args:
        appends, events: that wait to be committed.
        contents_upto: appends that wait, from which on raw content is shed.
        content_chars: of raw content that waits.
        slow_ms: how long the oldest append may wait before the record is called slow.
        probe_ms: how often a store that refused is asked again.
        refused_ms: how long the record is called slow after the store called something of this
            process itself against its rules.
        period_s: between two signed periods of a tenant.
        close_ms: how long `Recorder.close` waits.
    """

    appends: int = RECORD_WAITING_MAX
    events: int = RECORD_EVENTS_WAITING_MAX
    contents_upto: int = RECORD_CONTENTS_UPTO
    content_chars: int = RECORD_CONTENT_CHARS_MAX
    slow_ms: int = RECORD_SLOW_MS
    probe_ms: int = RECORD_PROBE_MS
    refused_ms: int = RECORD_REFUSED_MS
    period_s: float = RECORD_PERIOD_S
    close_ms: int = RECORD_CLOSE_MS_MAX
