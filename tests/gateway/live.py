"""A gateway, whole, in the event loop of the test: its process, its doors, its real sockets.

Nothing here sleeps: whoever waits is told of each log line and each count, or asks once a turn.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from tocsin.gateway.app import PLANE, make_app
from tocsin.gateway.door import Door
from tocsin.gateway.lag import Lag
from tocsin.gateway.log import Log
from tocsin.gateway.plane import Plane
from tocsin.gateway.server import _loop_factory, _Process
from tocsin.gateway.site import Site
from tocsin.gateway.surroundings import Surroundings
from tocsin.testing.fake_model import FakeModel

WAIT_S = 10.0
"""Longest wait for what has to happen."""

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "served": _loop_factory() or asyncio.new_event_loop,
}
"""The loop that every Python has, and the one that `serve` runs on."""


class Lines(Log):
    """A log that is read by tests.

    Attributes:
        said: the lines, as they were given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said: list[dict[str, Any]] = []
        self.changed = asyncio.Event()

    def say(self, event: str, **fields: Any) -> None:
        self.said.append({"event": event, **fields})
        self.changed.set()

    def named(self, event: str) -> list[dict[str, Any]]:
        """All lines of one kind."""
        return [line for line in self.said if line["event"] == event]


@dataclass
class Witness:
    """What the data path counts, one after the other, as tuples that begin with the name."""

    lines: Lines
    counted: list[tuple[Any, ...]] = field(default_factory=list)

    def _count(self, *counted: Any) -> None:
        self.counted.append(counted)
        self.lines.changed.set()

    def started(self, api: str) -> None:
        self._count("started", api)

    def ended(self, api: str, route: str, outcome: str, took_ms: float) -> None:
        self._count("ended", api, route, outcome)

    def first_text(self, api: str, route: str, took_ms: float) -> None:
        self._count("first_text", api, route)

    def upstream(self, upstream: str, took_ms: float) -> None:
        self._count("upstream", upstream)

    def alarm(self, route: str, place: str, check: str, done: str) -> None:
        self._count("alarm", route, place, check, done)

    def failure(self, route: str, failure: str, response: str) -> None:
        self._count("failure", route, failure, response)

    def chars(self, route: str, scanned: int, held: int, released: int) -> None:
        self._count("chars", route, scanned, held, released)

    def receipt(self, *, written: bool) -> None:
        self._count("receipt", written)

    def recorded(self, events: int, entries: int, took_ms: float) -> None:
        self._count("recorded", events, entries)

    def shed(self, contents: int, events: int) -> None:
        self._count("shed", contents, events)

    def redacted(self, masked: int, failed: int) -> None:
        self._count("redacted", masked, failed)

    def lost(self, entries: int) -> None:
        self._count("lost", entries)

    def record_state(self, state: str) -> None:
        self._count("record_state", state)

    def of(self, name: str, *fields: Any) -> list[tuple[Any, ...]]:
        """What was counted under a name, and whose first fields are these."""
        wanted = (name, *fields)
        return [one for one in self.counted if one[: len(wanted)] == wanted]


class Punctual(Lag):
    """A loop that is never late: a test may hold it up, and a busy machine does."""

    def tick(self, now_s: float) -> float:
        return 0.0


class Live:
    """A gateway at work.

    Args:
        site: the configuration in force; what a reload loads, unless `bad` is set.

    Attributes:
        lines, witness: what it logs and counts.
        bad: what a reload raises.
        where: host and port.
    """

    def __init__(self, site: Site) -> None:
        self.lines = Lines()
        self.witness = Witness(self.lines)
        self.site = site
        self.bad: Exception | None = None
        self.where: tuple[str, int] = ("", 0)
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        door = Door(host="127.0.0.1", port=0, ready=self._listens, log=self.lines)
        self._process = _Process(self._load, self._app, door, site)
        self._process._lag = Punctual(1.0)
        self._task: asyncio.Task[int] | None = None

    def _load(self) -> Site:
        if self.bad is not None:
            raise self.bad
        return self.site

    def _app(self, around: Surroundings) -> web.Application:
        self.around = replace(around, meters=self.witness)
        self.app = make_app(self.around)
        return self.app

    def _listens(self, where: str, _: str) -> None:
        host, _, port = where.rpartition(":")
        self.where = host, int(port)
        self._ready.set_result(None)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._process.run())
        async with asyncio.timeout(WAIT_S):
            both: set[asyncio.Future[Any]] = {self._task, self._ready}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                self._task.result()

    @property
    def plane(self) -> Plane:
        """What all requests share."""
        return self.app[PLANE]

    async def ticks(self, count: int) -> None:
        """Wait for so many ticks of the one timer of the data path."""
        ticked: asyncio.Queue[None] = asyncio.Queue()

        class Ticked:
            def tick(self, now_s: float) -> None:
                ticked.put_nowait(None)

        with self.plane.watching(Ticked()):
            for _ in range(count):
                await asyncio.wait_for(ticked.get(), WAIT_S)

    def reload(self) -> None:
        """Do as SIGHUP."""
        self._process._reloading.order()

    def order_stop(self) -> None:
        """Do as SIGTERM."""
        self._process._order()

    async def stop(self) -> int:
        """Stop, and give the exit status."""
        assert self._task is not None
        if not self._process._stop.is_set():
            self.order_stop()
            self.order_stop()  # whatever a failed test has left open ends at once
        async with asyncio.timeout(WAIT_S):
            return await self._task

    async def until(self, seen: Callable[[], bool]) -> None:
        """Wait until something is seen in what is logged and counted."""
        async with asyncio.timeout(WAIT_S):
            while not seen():
                self.lines.changed.clear()
                await self.lines.changed.wait()

    async def line_of(self, receipt: str) -> dict[str, Any]:
        """Wait for the access log's line of a response."""
        found: list[dict[str, Any]] = []

        def seen() -> bool:
            found[:] = [one for one in self.lines.named("request") if one["receipt"] == receipt]
            return bool(found)

        await self.until(seen)
        assert len(found) == 1
        return found[0]


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[Live]:
    """Run a gateway."""
    live = Live(site)
    await live.start()
    try:
        yield live
    finally:
        await live.stop()


@asynccontextmanager
async def stage(
    make_site: Callable[[FakeModel], Site], rule: Any, **options: Any
) -> AsyncIterator[Stage]:
    """Run a fake model with its options, and a gateway before it."""
    async with FakeModel(rule, **options) as fake, serving(make_site(fake)) as live:
        yield Stage(fake, live)


@dataclass
class Stage:
    """A model and the gateway before it."""

    fake: FakeModel
    live: Live


async def eventually(seen: Callable[[], bool], what: str = "it did not happen") -> None:
    """Ask once a turn of the loop until something is so."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + WAIT_S
    while not seen():
        assert loop.time() < until_s, what
        await asyncio.sleep(0)


def descriptors() -> int:
    """How many file descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count is all that is wanted
