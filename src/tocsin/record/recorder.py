"""The recorder of one process: redacts, bounds what waits, sheds content first and counts that.

Two ways in: `Recorder.record` is answered after the commit, `Recorder.note` is not waited for.
Redaction stands here, before anything durable, whichever way an event came. Receipts and both ends
of streams stay while the store is full, busy or away, and are given again under the same ids, for
as long as there is room for them. Where there is none, the caller of a receipt learns that it was
not taken, and all that was dropped is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import msgspec

from tocsin.errors import AppendRefused, StoreBusy, StoreError, StoreFailed, StoreFull
from tocsin.events.envelope import Event
from tocsin.events.ids import own_event
from tocsin.events.kinds import Shed
from tocsin.limits import (
    RECORD_AGAIN_MAX,
    RECORD_CLOSE_REFUSED_MS,
    RECORD_REDACT_MS,
)
from tocsin.record.appends import (
    has_more_than_contents,
    is_empty,
    is_kept,
    is_ours,
    without_contents,
)
from tocsin.record.sheds import Sheds
from tocsin.record.surroundings import Bounds, Meters, NoMeters, Redacting, State, Writing
from tocsin.store.append import Append, Committed

SOURCE = "tocsin/recorder"


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
        differs: is told the tenant and the ids of what this process had to say and what was not
            written, since something else is stored under them; it is counted as shed, too.

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
        new_id: Callable[[], str] = lambda: own_event("recorder", secrets.token_hex(12)),
        differs: Callable[[str, tuple[str, ...]], None] = lambda _tenant, _ids: None,
    ) -> None:
        self._writer = writer
        self._redactors = redactors
        self._bounds = bounds or Bounds()
        self._periods = periods
        self._meters: Meters = meters or NoMeters()
        self._clock_us = clock_us
        self._new_id = new_id
        self._differs = differs
        self._tokens = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._held: list[int] = []  # of those, what the store has refused and gets again: a heap
        self._events = 0
        self._chars = 0
        self._sheds = Sheds(SOURCE)
        self._touched: set[str] = set()
        self._refused_for: str | None = None
        self._broken: dict[bool, float] = {}  # when rules were said to be; by: with entries or not
        self._why = ""
        self._idle = asyncio.Event()
        self._stopping = asyncio.Event()
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = asyncio.Event()
        """Set once a sync has failed: the process has to stop."""

    # ------------------------------------------------------------------------------------ its state

    @property
    def state(self) -> State:
        """How the record is at this moment."""
        if self.failed.is_set():
            return "failed"
        if self._refused_for is not None or self._refused() or self._full() or self._late():
            return "slow"
        return "ok"

    @property
    def why(self) -> str:
        """What is in the way, for the log; empty where nothing is, or where nobody said yet."""
        if self.state == "ok":
            return ""
        if self.failed.is_set() or self._refused_for is not None or self._refused():
            return self._why
        refusal = self._writer.refusal
        return "" if refusal is None else said(refusal)

    @property
    def waiting(self) -> int:
        """Appends that were taken and are not committed yet."""
        return len(self._waiting)

    def _refused(self) -> bool:
        until = time.monotonic() - self._bounds.refused_ms / 1_000
        return any(since > until for since in self._broken.values())

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

        What holds entries stays while the store takes nothing, and this waits along; whoever
        cannot wait so long sets a time of their own, and the append stays all the same.

        Raises:
            StoreBusy: there is no room, or the recorder was closed before the store took it; of
                what holds no entries, also where the store takes nothing now. It was not written.
            StoreFull: the same, since the disk is full.
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
        if is_empty(redacted.append):
            return False
        try:
            self._submit(redacted.append, None)
        except StoreError:
            if append.entries:
                raise
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
        if is_empty(append):
            return Committed(tenant=append.tenant)
        waiter: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._submit(append, waiter)
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
        """Take an append, or count it as dropped and say why.

        Raises:
            StoreError: it was not taken.
        """
        error: StoreError | None = None
        bounds = self._bounds
        if self.failed.is_set():
            error = StoreFailed("the record failed before; nothing more is taken by this process")
        elif self._full() or self._events + len(append.events) > bounds.events:
            error = StoreBusy("too much waits to be recorded; try again in a moment")
        if error is not None:
            self._drop(append, waiter)
            raise error
        chars = sum(len(content.text) for content in append.contents)
        crowded = len(self._waiting) >= bounds.contents_upto
        if append.contents and (crowded or self._chars + chars > bounds.content_chars):
            self._shed(append.tenant, len(append.contents), 0)
            append, chars = without_contents(append), 0
        token = next(self._tokens)
        self._waiting[token] = _Waiting(append, time.monotonic(), waiter, chars)
        self._events += len(append.events)
        self._chars += chars
        error = self._give(token)
        if error is not None:
            self._forget(token)
            self._drop(append, waiter)
            raise error

    def _give(self, token: int) -> StoreError | None:
        """Give an append that waits to the writer; why it cannot be taken, where it is not held."""
        waiting = self._waiting[token]
        try:
            future = self._writer.submit(waiting.append)
        except (StoreBusy, StoreFull) as error:
            self._refused_for, self._why = waiting.append.tenant, said(error)
            return None if self._hold(token, waiting) else error
        except StoreError as error:
            self._fail(error)
            return StoreFailed(str(error))
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda done: _soon(loop, self._done, token, done))
        return None

    def _done(self, token: int, future: Future[Committed]) -> None:
        waiting = self._waiting.get(token)
        if waiting is None:  # given up on
            return
        error = _error(future)
        if isinstance(error, AppendRefused) and has_more_than_contents(waiting.append):
            # What cannot be locked takes nothing else along.
            self._shed_contents(waiting)
            if (error := self._give(token)) is None:
                return
        if error is None:
            self._committed(token, future.result())
            return
        append = waiting.append
        if isinstance(error, StoreBusy | StoreFull):
            self._refused_for, self._why = append.tenant, said(error)
            if not self.failed.is_set() and self._hold(token, waiting):
                return
        self._forget(token)
        self._drop(append, waiting.waiter, error)
        if isinstance(error, AppendRefused):
            if is_ours(append, waiting.waiter) and not is_empty(append):
                self._broken[bool(append.entries)] = time.monotonic()
                self._why = said(error)
        elif not isinstance(error, StoreBusy | StoreFull):
            self._fail(error)

    def _committed(self, token: int, committed: Committed) -> None:
        """Tell whoever waits, and go on with what the store had refused."""
        waiting = self._waiting[token]
        append = waiting.append
        self._forget(token)
        took_ms = (time.monotonic() - waiting.since) * 1_000
        self._refused_for = None
        if is_ours(append, waiting.waiter):
            self._broken.pop(bool(append.entries), None)
            self._tell_differing(append, committed.differing)
        if append.events:
            self._touched.add(append.tenant)
        self._meters.recorded(len(append.events), len(append.entries), took_ms)
        if waiting.waiter is not None and not waiting.waiter.done():
            waiting.waiter.set_result(committed)
        self._again()

    def _shed_contents(self, waiting: _Waiting) -> None:
        self._shed(waiting.append.tenant, len(waiting.append.contents), 0)
        left = without_contents(waiting.append)
        self._events -= len(waiting.append.events) - len(left.events)
        self._chars -= waiting.chars
        waiting.append, waiting.chars = left, 0

    def _tell_differing(self, append: Append, differing: tuple[str, ...]) -> None:
        """Count and tell what was not written, since its ids were taken."""
        if differing:
            events = len({event.id for event in append.events}.intersection(differing))
            self._shed(append.tenant, 0, events, len(differing) - events)
            self._differs(append.tenant, differing)

    def _forget(self, token: int) -> None:
        """Let an append wait no longer."""
        waiting = self._waiting.pop(token)
        self._events -= len(waiting.append.events)
        self._chars -= waiting.chars
        if not self._waiting:
            self._idle.set()

    # --------------------------------------------------------- what the store has refused for now

    def _hold(self, token: int, waiting: _Waiting) -> bool:
        """Keep what the store has refused, to give it again; false where it is not worth it."""
        if self._closed or not is_kept(waiting.append, waiting.waiter):
            return False
        heapq.heappush(self._held, token)
        return True

    def _again(self) -> None:
        """Give the store what it has refused: the oldest, and once it takes that, the others."""
        while self._held and not self.failed.is_set():
            under_way = len(self._waiting) - len(self._held)
            if under_way >= (1 if self._refused_for is not None else RECORD_AGAIN_MAX):
                return
            token = heapq.heappop(self._held)
            if (error := self._give(token)) is not None and token in self._waiting:
                self._leave(token, error)
            elif self._refused_for is not None:
                return

    def _leave(self, token: int, error: BaseException) -> None:
        """Give up on an append, and say so to whoever waits."""
        waiting = self._waiting[token]
        self._forget(token)
        self._drop(waiting.append, waiting.waiter, error)

    def _leave_held(self, error: StoreError) -> None:
        held, self._held = sorted(self._held), []
        for token in held:
            self._leave(token, type(error)(str(error)))

    def _drop(
        self,
        append: Append,
        waiter: asyncio.Future[Committed] | None,
        error: BaseException | None = None,
    ) -> None:
        """Count what is not recorded, once: all of it where nobody waits who could send it again.

        Args:
            append: that is dropped.
            waiter: who waits for it.
            error: is set as what the waiter gets.
        """
        self._meters.lost(len(append.entries))
        if waiter is None or append.entries:
            self._shed(append.tenant, len(append.contents), len(append.events), len(append.entries))
        if error is not None and waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def _fail(self, error: BaseException) -> None:
        self._why = said(error)
        self.failed.set()
        self._leave_held(StoreFailed("the record failed; this was not written"))
        self._idle.set()
        self._meters.record_state("failed")

    # ----------------------------------------------------------------------- what was shed, periods

    def _shed(self, tenant: str, contents: int, events: int, receipts: int = 0) -> None:
        if not contents and not events and not receipts:
            return
        self._sheds.add(tenant, contents, events, receipts)
        self._meters.shed(contents, events)

    def _tell(self) -> None:
        """Append what was shed; this is also how a store that refused is asked again."""
        if self.failed.is_set() or len(self._waiting) >= self._bounds.contents_upto:
            return
        if self._held and self._refused_for is not None:  # asked by `_again`
            return
        tenants = self._sheds.due()
        if not tenants and self._refused_for is not None and not self._waiting:
            tenants = [self._refused_for]
        for tenant in tenants:
            body = self._sheds.telling(tenant)
            event = Event(id=self._new_id(), time_us=self._clock_us(), source=SOURCE, body=body)
            waiter: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
            try:
                self._submit(Append(tenant=tenant, events=(event,)), waiter)
            except StoreError:
                self._sheds.told(tenant, body, written=False)
                return
            waiter.add_done_callback(partial(self._told, tenant, body))

    def _told(self, tenant: str, body: Shed, done: asyncio.Future[Committed]) -> None:
        written = not done.cancelled() and done.exception() is None
        self._sheds.told(tenant, body, written=written)

    async def _sign_periods(self) -> None:
        if self._periods is None or self.failed.is_set():
            return
        touched, self._touched = self._touched, set()
        for tenant in sorted(touched):
            try:
                await asyncio.to_thread(self._periods, tenant)
            except (StoreBusy, StoreFull):
                self._touched.add(tenant)
            except StoreError as error:
                self._fail(error)
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
        self._leave_held(StoreBusy("the store took nothing until the record was closed"))
        self._closed, self._tasks = True, []
        self._meters.record_state(self.state)

    async def _drained(self) -> None:
        """Wait until nothing waits; what the store goes on to refuse is given up on soon."""
        until = time.monotonic() + RECORD_CLOSE_REFUSED_MS / 1_000
        while self._waiting and not self.failed.is_set():
            self._again()
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._bounds.probe_ms / 1_000):
                    await self._idle.wait()
            if self._held and time.monotonic() > until:
                self._leave_held(StoreBusy("the store took nothing until the record was closed"))

    async def _tick(self) -> None:
        while not await self._stopped(self._bounds.probe_ms / 1_000):
            self._again()
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


def said(error: BaseException) -> str:
    """Put an error into a line of the log."""
    return f"{type(error).__name__}: {error}"


def _error(future: Future[Committed]) -> BaseException | None:
    if future.cancelled():
        return StoreBusy("the store was closed before this was committed; give it again")
    return future.exception()
