"""Who may ask when: a bounded queue before a bounded number of calls.

Several that wait go into one call where the server takes lists. No timer gathers them: what has
queued up while the last call ran, or within one turn of the event loop, goes together.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from tocsin.verifiers.remote.dialect import Said
from tocsin.verifiers.remote.text import Case
from tocsin.verifiers.stepwise import NoJudgement

CLOSED = NoJudgement("unreachable", "the verifier is closed")


class _Ask:
    """One case that waits for its judgement; the future is cancelled when nobody waits any more."""

    def __init__(self, case: Case, future: asyncio.Future[Said]) -> None:
        self.case = case
        self.future = future
        self.trip: Trip | None = None


class Trip:
    """A call under way.

    Attributes:
        timed_out: somebody's deadline has passed while waiting for it.
    """

    def __init__(self, asks: list[_Ask]) -> None:
        self.asks = asks
        self.timed_out = False
        self.task: asyncio.Task[None] | None = None

    def leave(self) -> None:
        """Cancel the call when its last asker has left."""
        if self.task is not None and all(ask.future.done() for ask in self.asks):
            self.task.cancel()


Call = Callable[[Sequence[Case], Trip], Awaitable[list[Said]]]


class Lane:
    """Cases in, judgements out.

    Args:
        call: asks the server; it is cancelled when nobody waits for the answer any more.
        calls: how many calls may be under way at once.
        batch: how many cases go into one call.
        queue: how many cases may wait.
    """

    def __init__(self, call: Call, *, calls: int, batch: int, queue: int) -> None:
        self._call = call
        self._calls = calls
        self._batch = batch
        self._queue = queue
        self._waiting: deque[_Ask] = deque()
        self._running: set[Trip] = set()
        self._begun = False
        self._closed = False

    async def ask(self, case: Case, seconds: float) -> Said:
        """Wait for a judgement, no longer than so many seconds."""
        if self._closed:
            return CLOSED
        room = self._queue + self._batch * (self._calls - len(self._running))
        if len(self._waiting) >= room:
            return NoJudgement("overloaded", f"{self._queue} steps wait already")
        loop = asyncio.get_running_loop()
        ask = _Ask(case, loop.create_future())
        self._waiting.append(ask)
        self._begin_soon(loop)
        try:
            async with asyncio.timeout(seconds):
                return await ask.future
        except TimeoutError:
            if ask.trip is None:
                return NoJudgement("timeout", f"no free call within {seconds:g} s")
            ask.trip.timed_out = True
            return NoJudgement("timeout", f"no answer within {seconds:g} s")
        finally:
            ask.future.cancel()
            if ask.trip is not None:
                ask.trip.leave()
            elif ask in self._waiting:
                self._waiting.remove(ask)

    async def close(self) -> None:
        """Cancel all calls; who waits learns that the verifier is closed."""
        self._closed = True
        tasks = [trip.task for trip in self._running if trip.task is not None]
        for ask in [*self._waiting, *(ask for trip in self._running for ask in trip.asks)]:
            if not ask.future.done():
                ask.future.set_result(CLOSED)
        self._waiting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin calls at the end of this turn of the loop, when all who ask in it have asked."""
        if not self._begun:
            self._begun = True
            loop.call_soon(self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun = False
        while self._waiting and len(self._running) < self._calls:
            count = min(self._batch, len(self._waiting))
            trip = Trip([self._waiting.popleft() for _ in range(count)])
            for ask in trip.asks:
                ask.trip = trip
            self._running.add(trip)
            trip.task = loop.create_task(self._run(trip))
            # Not in a `finally` of the task, which does not run if it is cancelled at once.
            trip.task.add_done_callback(functools.partial(self._end, trip, loop))

    async def _run(self, trip: Trip) -> None:
        said = await self._call([ask.case for ask in trip.asks], trip)
        for ask, judgement in zip(trip.asks, said, strict=True):
            if not ask.future.done():
                ask.future.set_result(judgement)

    def _end(self, trip: Trip, loop: asyncio.AbstractEventLoop, _: asyncio.Task[None]) -> None:
        self._running.discard(trip)
        if not self._closed:
            self._begin_soon(loop)
