"""One process of the gateway, from the first byte of its configuration to its last answer.

A process listens once everything is ready. The first order to stop (SIGTERM, SIGINT) closes the
doors: nothing is accepted, `/readyz` says no, open responses go on until `drain_ms`, then they are
told to end, and the process goes. A second order tells them to end at once, validly all the same; a
third one cuts them off. SIGHUP reloads. Where a sync of the record fails, the process stops as if
it had been ordered to, with a status of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

from tocsin.errors import InputError
from tocsin.gateway import garbage
from tocsin.gateway.connections import Closed, Connections
from tocsin.gateway.door import Door
from tocsin.gateway.doorstep import Doorstep, Shed
from tocsin.gateway.lag import Lag
from tocsin.gateway.listening import address, bound, connections_max
from tocsin.gateway.log import Log, place
from tocsin.gateway.operating import Operating
from tocsin.gateway.prometheus import Prometheus
from tocsin.gateway.reloading import Reloading
from tocsin.gateway.site import Site
from tocsin.gateway.surroundings import Live, MakeApp, Surroundings
from tocsin.limits import (
    ENDING_MS_MAX,
    LAG_TICK_MS,
    LISTEN_BACKLOG,
)

RECORD_FAILED = os.EX_IOERR
"""Status of a process that ended because it could no longer keep what it answers: 74."""

_SWEEP_S_MAX = 1.0
_SWEEPS_IN_TIME = 8


def serve(load: Callable[[], Site], make_app: MakeApp, door: Door) -> int:
    """Serve until told to stop.

    Args:
        load: reads the configuration; called again for each reload, in a thread.
        make_app: makes the application that answers API requests.
        door: how the process is reached.

    Returns:
        Exit status: 0 where all open responses ended, 1 where some had to be cut off,
        `RECORD_FAILED` where a sync of the record failed.

    Raises:
        TocsinError: the configuration is bad, or an address is taken.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the file is read now, there is no other order
    site = load()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_Process(load, make_app, door, site, garbage.settle).run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Process:
    def __init__(
        self,
        load: Callable[[], Site],
        make_app: MakeApp,
        door: Door,
        site: Site,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._door = door
        self._settle = settle
        self._make_app = make_app
        self._log = Log() if door.log is None else door.log
        self._meters = Prometheus()
        self._live = Live(site)
        around = Surroundings(live=self._live, meters=self._meters, log=self._log)
        self._around = around
        self._draining = around.draining
        self._reloading = Reloading(load, self._live, self._meters, self._log)
        self._lag = Lag(LAG_TICK_MS / 1_000)
        self._stop = asyncio.Event()
        self._end_now = asyncio.Event()
        self._cut_now = asyncio.Event()
        self._dropped = 0
        self._lost = False  # a sync of the record failed
        around.standing.leave = self._leave
        self._connections: Connections

    # ------------------------------------------------------------------------------------- its life

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._fault)
        app = self._make_app(self._around)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            with self._signals(loop):
                return await self._serve(runner)
        finally:
            await self._reloading.close()
            await runner.cleanup()
            for verifier in self._live.site.waited_for:
                await verifier.aclose()
            self._log.close()

    async def _serve(self, runner: web.AppRunner) -> int:
        inner = runner.server
        assert inner is not None  # noqa: S101 - `setup` made it
        doorstep = Doorstep(
            inner.request_handler,
            shed=self._shed,
            ready=self._not_ready,
            meters=self._meters,
            log=self._log,
        )
        self._connections = Connections(
            doorstep,
            inner.request_factory,
            connections_max(),
            self._closed,
        )
        async with contextlib.AsyncExitStack() as stack:
            # Both hold the loop for a while: a process that is late would turn requests away.
            await asyncio.to_thread(self._live.site.warm)
            self._settle()
            operating = await self._operating(stack)
            ticking = asyncio.create_task(self._tick())
            stack.callback(ticking.cancel)
            server, where = await self._listen()
            self._log.say("listening", address=where, digest=self._live.site.digest)
            if self._door.ready is not None:
                self._door.ready(where, operating)
            await self._stop.wait()
            return await self._drain(server)

    async def _listen(self) -> tuple[asyncio.AbstractServer, str]:
        site, door = self._live.site, self._door
        host = site.host if door.host is None else door.host
        port = site.port if door.port is None else door.port
        return await _listening(self._connections, host, port, shared=door.shared)

    async def _operating(self, stack: contextlib.AsyncExitStack) -> str:
        """Open the operator's door; say where it is."""
        if self._door.metrics is None:
            return ""
        operating = Operating(self._meters, self._not_ready, self._closed)
        server, where = await _listening(operating, *self._door.metrics, shared=self._door.shared)
        stack.callback(operating.cut)
        stack.callback(server.close)
        return where

    async def _drain(self, server: asyncio.AbstractServer) -> int:
        """Let open responses end, then all the rest."""
        drain_ms = self._live.site.drain_ms
        self._draining.begin()
        self._tell()
        server.close()
        self._log.say("draining", under_way=self._connections.busy, drain_ms=drain_ms)
        if not await self._empty(drain_ms, self._end_now):
            self._draining.end()
            await self._empty(ENDING_MS_MAX, self._cut_now)
        left = self._connections.busy
        self._draining.cut = True
        self._connections.cut()
        await self._connections.shutdown(ENDING_MS_MAX / 1_000)
        self._log.say("stopped", cut_off=left)
        if self._lost:
            return RECORD_FAILED
        return 1 if left else 0

    async def _empty(self, wait_ms: float, hurry: asyncio.Event) -> bool:
        """Wait until no request is under way; false where the time ends first, or all patience."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_ms / 1_000
        while True:
            self._connections.let_go()
            if not self._connections.busy:
                return True
            left_s = until_s - loop.time()
            if left_s <= 0 or hurry.is_set():
                return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), min(left_s, LAG_TICK_MS / 1_000))

    # ------------------------------------------------------------------------------------ its state

    def _not_ready(self) -> str:
        if self._lost:
            return "record_failed"
        if self._draining.begun:
            return "draining"
        return "slow" if self._lag.ms > self._door.lag_ms_max else ""

    def _shed(self, under_way: int) -> Shed | None:
        if self._draining.begun:
            return "draining"
        workers = self._door.workers
        if under_way >= -(-self._live.site.streams_max // workers):
            return "streams_max"
        return "lag" if self._lag.ms > self._door.lag_ms_max else None

    async def _tick(self) -> None:
        """Look at the clock and at the connections: the one ticker of the process."""
        loop = asyncio.get_running_loop()
        tick_s = LAG_TICK_MS / 1_000
        swept_s = loop.time()
        while True:
            self._lag.tick(loop.time())
            site = self._live.site
            each_s = min(site.header_ms, site.stalled_ms) / 1_000 / _SWEEPS_IN_TIME
            if loop.time() - swept_s >= min(each_s, _SWEEP_S_MAX):
                self._connections.sweep(site.header_ms, site.stalled_ms)
                swept_s = loop.time()
            self._tell()
            await asyncio.sleep(tick_s)

    def _tell(self) -> None:
        self._meters.state(
            connections=self._connections.count,
            lag_ms=self._lag.ms,
            ready=not self._not_ready(),
        )
        if (lost := self._log.dropped - self._dropped) > 0:
            self._meters.dropped(lost)
            self._dropped += lost

    def _closed(self, why: Closed, error: BaseException | None = None) -> None:
        self._meters.closed(why)
        if why == "fault":
            self._log.say("fault", **place(error))

    def _fault(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what nobody waited for, without its words."""
        error = context.get("exception")
        if not isinstance(error, ConnectionError):
            self._log.say("fault", **place(error))

    # ---------------------------------------------------------------------------------- its signals

    @contextlib.contextmanager
    def _signals(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        ends = (signal.SIGTERM, signal.SIGINT)
        for number in ends:
            loop.add_signal_handler(number, self._order)
        loop.add_signal_handler(signal.SIGHUP, self._reloading.order)
        lifeline = self._door.lifeline
        if lifeline is not None:
            loop.add_reader(lifeline, self._orphaned, loop, lifeline)
        try:
            yield
        finally:
            for number in (*ends, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _order(self) -> None:
        if self._end_now.is_set():
            self._cut_now.set()
        elif self._stop.is_set():
            self._end_now.set()
        self._stop.set()

    def _leave(self) -> None:
        """Go in order when the record has failed: what is answered from now on is not kept."""
        self._lost = True
        self._stop.set()

    def _orphaned(self, loop: asyncio.AbstractEventLoop, lifeline: int) -> None:
        """Go in order when the supervisor has died."""
        loop.remove_reader(lifeline)
        self._stop.set()


async def _listening(
    server: web.Server, host: str, port: int, *, shared: bool
) -> tuple[asyncio.AbstractServer, str]:
    made: socket.socket = bound(host, port, shared=shared)
    where = address(made)
    try:
        listening = await asyncio.get_running_loop().create_server(
            server, sock=made, backlog=LISTEN_BACKLOG
        )
    except OSError as e:
        made.close()
        raise InputError(f"cannot listen on {where}: {e.strerror}") from None
    return listening, where
