"""The recorder of one process: redacts, bounds what waits, sheds content first and counts that.

Two ways in: `Recorder.record` is answered after the commit, `Recorder.note` is not waited for.
Redaction stands here, before anything durable, whichever way an event came. Receipts are never
shed: where there is no room, the caller learns that they were not taken.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol

import msgspec

from tocsin.errors import AppendRefused, StoreBusy, StoreError, StoreFailed, StoreFull
from tocsin.events.envelope import Event
from tocsin.events.kinds import Shed
from tocsin.limits import (
    RECORD_CLOSE_MS_MAX,
    RECORD_CONTENT_CHARS_MAX,
    RECORD_CONTENTS_UPTO,
    RECORD_EVENTS_WAITING_MAX,
    RECORD_PERIOD_S,
    RECORD_PROBE_MS,
    RECORD_REDACT_MS,
    RECORD_SLOW_MS,
    RECORD_WAITING_MAX,
)
from tocsin.store.append import Append, Committed

State = Literal["ok", "slow", "failed"]
"""ok: what is given is committed soon. slow: the store is busy, full or late; it may come back.
failed: a sync failed; nothing is acknowledged any more and the process has to end."""

SOURCE = "tocsin/recorder"


class Redacting(Protocol):
    """What cleans events; made for one tenant, see `tocsin.record.redaction`."""

    def event(self, event: Event) -> Event:
        """Give the event as it may be stored."""

    def person(self, who: str) -> str:
        """Give the pseudonym of a person; a pseudonym of ours stays what it is."""


class Writing(Protocol):
    """What commits; see `tocsin.store.writer.Writer`."""

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
        period_s: between two signed periods of a tenant.
        close_ms: how long `Recorder.close` waits.
    """

    appends: int = RECORD_WAITING_MAX
    events: int = RECORD_EVENTS_WAITING_MAX
    contents_upto: int = RECORD_CONTENTS_UPTO
    content_chars: int = RECORD_CONTENT_CHARS_MAX
    slow_ms: int = RECORD_SLOW_MS
    probe_ms: int = RECORD_PROBE_MS
    period_s: float = RECORD_PERIOD_S
    close_ms: int = RECORD_CLOSE_MS_MAX


@dataclass(slots=True)
class Redacted:
    """An append that went through redaction; nothing else is committed.

    Args:
        append: to commit.
        dropped: positions of events that could not be redacted at all and were left out.
    """

    append: Append
    dropped: tuple[int, ...] = ()


@dataclass(slots=True)
class _Waiting:
    append: Append
    since: float
    waiter: asyncio.Future[Committed] | None
    chars: int


@dataclass(slots=True)
class _Sheds:
    contents: int = 0
    events: int = 0
    told: bool = field(default=True)


class Recorder:
    """Everything that is recorded by this process. Used within one event loop.

    Args:
        writer: commits; it belongs to whoever made it, and is closed after the recorder.
        redactors: gives the redactor of a tenant.
        bounds: how much may wait.
        periods: signs the next period of a tenant, such as `Store.close_period`; called in a
            thread. Without it, no periods are signed.
        meters: counts.
        clock_us: microseconds since 1970, for the events that the recorder makes itself.
        new_id: makes their ids.

    Example: see `docs/how-to/send-events.md`.
    """

    def __init__(
        self,
        writer: Writing,
        redactors: Callable[[str], Redacting],
        *,
        bounds: Bounds | None = None,
        periods: Callable[[str], object] | None = None,
        meters: Meters | None = None,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
        new_id: Callable[[], str] = lambda: f"rec_{secrets.token_hex(12)}",
    ) -> None:
        self._writer = writer
        self._redactors = redactors
        self._bounds = bounds or Bounds()
        self._periods = periods
        self._meters: Meters = meters or NoMeters()
        self._clock_us = clock_us
        self._new_id = new_id
        self._tokens = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._events = 0
        self._chars = 0
        self._sheds: dict[str, _Sheds] = {}
        self._touched: set[str] = set()
        self._refused_for: str | None = None
        self._idle = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = asyncio.Event()
        """Set once a sync has failed: the process has to stop."""

    # ------------------------------------------------------------------------------------ its state

    @property
    def state(self) -> State:
        """How the record is at this moment."""
        if self.failed.is_set():
            return "failed"
        if self._refused_for is not None or self._full() or self._late():
            return "slow"
        return "ok"

    @property
    def waiting(self) -> int:
        """Appends that were taken and are not committed yet."""
        return len(self._waiting)

    def _full(self) -> bool:
        return len(self._waiting) >= self._bounds.appends or self._events >= self._bounds.events

    def _late(self) -> bool:
        if not self._waiting:
            return False
        oldest = next(iter(self._waiting.values()))
        return (time.monotonic() - oldest.since) * 1_000 > self._bounds.slow_ms

    # ---------------------------------------------------------------------------------- the ways in

    async def record(self, append: Append) -> Committed:
        """Redact and commit; returns when it is durable.

        Raises:
            StoreBusy: there is no room or the store takes nothing now; nothing was written.
            StoreFull: the disk is full; nothing was written.
            StoreFailed: a sync failed; whether it was written is unknown.
            AppendRefused: it breaks a rule of the store, and would again.
        """
        return await self.commit(await self.redact(append))

    def note(self, append: Append) -> bool:
        """Redact and have it committed soon, without waiting; whether it was taken.

        The subject of raw content becomes a pseudonym too, but for content without a user, whose
        subject is its request.

        Events that find no room are shed, counted, and told of in a later `record.shed` event.

        Raises:
            StoreBusy, StoreFailed: it was not taken although it holds entries, which are never
                shed.
        """
        redactor = self._redactors(append.tenant)
        kept: list[Event] = []
        dropped: list[int] = []
        for position, event in enumerate(append.events):
            self._clean(redactor, append.tenant, position, event, kept, dropped)
        redacted = _redacted(append, redactor, kept, dropped)
        if _empty(redacted.append):
            return False
        try:
            self._submit(redacted.append, None)
        except StoreError:
            if append.entries:
                self._meters.lost(len(append.entries))
                raise
            self._shed(append.tenant, len(append.contents), len(append.events))
            return False
        return True

    async def redact(self, append: Append) -> Redacted:
        """Clean the events of an append, with pauses for other work where there are many."""
        redactor = self._redactors(append.tenant)
        kept: list[Event] = []
        dropped: list[int] = []
        until = time.monotonic() + RECORD_REDACT_MS / 1_000
        for position, event in enumerate(append.events):
            self._clean(redactor, append.tenant, position, event, kept, dropped)
            if time.monotonic() > until:
                await asyncio.sleep(0)
                until = time.monotonic() + RECORD_REDACT_MS / 1_000
        return _redacted(append, redactor, kept, dropped)

    async def commit(self, redacted: Redacted) -> Committed:
        """Commit what `redact` gave; returns and raises as `record` does."""
        append = redacted.append
        if _empty(append):
            return Committed(tenant=append.tenant)
        waiter: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        try:
            self._submit(append, waiter)
        except StoreError:
            self._meters.lost(len(append.entries))
            raise
        return await waiter

    def _clean(
        self,
        redactor: Redacting,
        tenant: str,
        position: int,
        event: Event,
        kept: list[Event],
        dropped: list[int],
    ) -> None:
        try:
            kept.append(redactor.event(event))
        except Exception:  # noqa: BLE001 - whatever fails there, nothing unredacted is stored
            dropped.append(position)
            self._shed(tenant, 0, 1)

    # ----------------------------------------------------------------------------- towards the disk

    def _submit(self, append: Append, waiter: asyncio.Future[Committed] | None) -> None:
        if self.failed.is_set():
            raise StoreFailed("the record failed before; nothing more is taken by this process")
        bounds = self._bounds
        if self._full() or self._events + len(append.events) > bounds.events:
            raise StoreBusy("too much waits to be recorded; try again in a moment")
        chars = sum(len(content.text) for content in append.contents)
        crowded = len(self._waiting) >= bounds.contents_upto
        if append.contents and (crowded or self._chars + chars > bounds.content_chars):
            self._shed(append.tenant, len(append.contents), 0)
            append, chars = msgspec.structs.replace(append, contents=()), 0
        try:
            future = self._writer.submit(append)
        except (StoreBusy, StoreFull):
            self._refused_for = append.tenant
            raise
        except StoreError as error:
            self._fail()
            raise StoreFailed(str(error)) from error
        token = next(self._tokens)
        self._waiting[token] = _Waiting(append, time.monotonic(), waiter, chars)
        self._events += len(append.events)
        self._chars += chars
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda done: _soon(loop, self._done, token, done))

    def _done(self, token: int, future: Future[Committed]) -> None:
        waiting = self._waiting.pop(token)
        if not self._waiting:
            self._idle.set()
        append = waiting.append
        self._events -= len(append.events)
        self._chars -= waiting.chars
        error = _error(future)
        if error is None:
            took_ms = (time.monotonic() - waiting.since) * 1_000
            self._refused_for = None
            if append.events:
                self._touched.add(append.tenant)
            self._meters.recorded(len(append.events), len(append.entries), took_ms)
            if waiting.waiter is not None and not waiting.waiter.done():
                waiting.waiter.set_result(future.result())
            return
        if isinstance(error, StoreBusy | StoreFull):
            self._refused_for = append.tenant
        elif not isinstance(error, AppendRefused):
            self._fail()
        self._meters.lost(len(append.entries))
        if waiting.waiter is None:
            self._shed(append.tenant, len(append.contents), len(append.events))
        elif not waiting.waiter.done():
            waiting.waiter.set_exception(error)

    def _fail(self) -> None:
        self.failed.set()
        self._idle.set()
        self._meters.record_state("failed")

    # ----------------------------------------------------------------------- what was shed, periods

    def _shed(self, tenant: str, contents: int, events: int) -> None:
        if not contents and not events:
            return
        sheds = self._sheds.setdefault(tenant, _Sheds())
        sheds.contents += contents
        sheds.events += events
        self._meters.shed(contents, events)

    def _tell(self) -> None:
        """Append what was shed; this is also how a store that refused is asked again."""
        if self.failed.is_set() or len(self._waiting) >= self._bounds.contents_upto:
            return
        tenants = [tenant for tenant, sheds in self._sheds.items() if sheds.told]
        if not tenants and self._refused_for is not None and not self._waiting:
            tenants = [self._refused_for]
        for tenant in tenants:
            sheds = self._sheds.setdefault(tenant, _Sheds())
            told = _Sheds(sheds.contents, sheds.events)
            body = Shed(contents=told.contents, events=told.events, source=SOURCE)
            event = Event(id=self._new_id(), time_us=self._clock_us(), source=SOURCE, body=body)
            waiter: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
            try:
                self._submit(Append(tenant=tenant, events=(event,)), waiter)
            except StoreError:
                return
            sheds.told = False
            waiter.add_done_callback(partial(self._told, tenant, told))

    def _told(self, tenant: str, told: _Sheds, done: asyncio.Future[Committed]) -> None:
        sheds = self._sheds[tenant]
        sheds.told = True
        if done.cancelled() or done.exception() is not None:
            return
        sheds.contents -= told.contents
        sheds.events -= told.events
        if not sheds.contents and not sheds.events:
            del self._sheds[tenant]

    async def _sign_periods(self) -> None:
        if self._periods is None or self.failed.is_set():
            return
        touched, self._touched = self._touched, set()
        for tenant in sorted(touched):
            try:
                await asyncio.to_thread(self._periods, tenant)
            except (StoreBusy, StoreFull):
                self._touched.add(tenant)
            except StoreError:
                self._fail()
                return

    # -------------------------------------------------------------------------------- begin and end

    async def start(self) -> None:
        """Begin to sign periods and to tell what was shed."""
        self._stopping.clear()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._tick()), loop.create_task(self._period_tick())]

    async def close(self) -> None:
        """Tell what was shed, sign the last periods and wait for the disk, but not for ever."""
        self._stopping.set()
        try:
            async with asyncio.timeout(self._bounds.close_ms / 1_000):
                # A period that is being signed is not cut off: its thread would go on alone.
                await asyncio.gather(*self._tasks)
                await self._drained()
                self._tell()
                await self._drained()
                await self._sign_periods()
        except TimeoutError:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._meters.record_state(self.state)

    async def _drained(self) -> None:
        if self._waiting and not self.failed.is_set():
            self._idle.clear()
            await self._idle.wait()

    async def _tick(self) -> None:
        while not await self._stopped(self._bounds.probe_ms / 1_000):
            self._tell()
            self._meters.record_state(self.state)

    async def _period_tick(self) -> None:
        while not await self._stopped(self._bounds.period_s):
            await self._sign_periods()

    async def _stopped(self, within_s: float) -> bool:
        """Wait so long, or until the end has begun; whether it has."""
        try:
            async with asyncio.timeout(within_s):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True


def _soon(
    loop: asyncio.AbstractEventLoop,
    call: Callable[[int, Future[Committed]], None],
    token: int,
    done: Future[Committed],
) -> None:
    """Go on in the loop; the writer's thread calls this, perhaps after the loop has ended."""
    if not loop.is_closed():
        try:
            loop.call_soon_threadsafe(call, token, done)
        except RuntimeError:  # closed between the two lines
            return


def _redacted(
    append: Append, redactor: Redacting, kept: list[Event], dropped: list[int]
) -> Redacted:
    contents = tuple(
        content
        if content.subject == content.request
        else msgspec.structs.replace(content, subject=redactor.person(content.subject))
        for content in append.contents
    )
    made = msgspec.structs.replace(append, events=tuple(kept), contents=contents)
    return Redacted(made, tuple(dropped))


def _empty(append: Append) -> bool:
    return not (append.events or append.entries or append.contents)


def _error(future: Future[Committed]) -> BaseException | None:
    if future.cancelled():
        return StoreBusy("the store was closed before this was committed; give it again")
    return future.exception()
