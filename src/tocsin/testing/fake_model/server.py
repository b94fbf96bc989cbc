"""The fake model as a server: in a thread of its own, or in the loop of the test."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import repeat
from types import TracebackType
from typing import Any, Self

from tocsin.testing.fake_model.control import control, models_list
from tocsin.testing.fake_model.plan import Plan, Write, planned, wanted
from tocsin.testing.fake_model.replies import Fault, Reply, pauses_ms
from tocsin.testing.fake_model.wire import Connection, Exchange, chunk
from tocsin.testing.own_loop import OwnLoop

WAIT_S = 30.0
"""Longest that a test waits for what never happens."""

STALLED_S = 0.25
"""A client that has read nothing for so long has stopped reading."""

_BLOCK = b"x" * 65_536
_EXACT = ("open", "held", "stalled")
_LINE = b"data: {}\n\n"

_PLANS_MAX = 64
"""Plans that are kept to be used again."""

Rule = Callable[[Exchange], Reply]
"""Finds the reply to a request."""


class FakeModel:
    """A model of your own making, at ``http://127.0.0.1:PORT``.

    Use it in a ``with`` block, where it has a thread of its own, or in an ``async with`` block,
    where it runs in the loop that is there.

    Args:
        reply: to all requests that `script` does not name; or a rule that finds it.
        models: names for the models list.
        port: to listen on; any that is free where 0.
        send_buffer_bytes: room that the kernel is asked to keep for what the client does not read.

    Attributes:
        requests: those that came, in order, each with how far its answer is.
        connections: those that were opened, in order.
        open: connections that are open.
        gone: requests whose client left before the end of the answer.
        ended: requests that were answered to the end.
        held: answers that hang, or wait for a step.
        stalled: answers of which the socket has taken nothing for `STALLED_S`.
        frames: frames written, in all answers.

    Example:
        >>> with FakeModel() as fake:
        ...     fake.script(Reply(faults=(Fault(kind="reset", after_frames=3),)))
        ...     fake.requests
        []
    """

    def __init__(
        self,
        reply: Reply | Rule | None = None,
        *,
        models: tuple[str, ...] = ("fake-model",),
        port: int = 0,
        send_buffer_bytes: int | None = None,
    ) -> None:
        self._always: Reply | Rule = Reply() if reply is None else reply
        self._script: deque[Reply] = deque()
        self._plans: dict[tuple[Any, ...], tuple[Plan, Reply]] = {}
        self._models = models
        self._port = port
        self._send_buffer_bytes = send_buffer_bytes
        self._waiters: list[tuple[Callable[[], bool], Future[None]]] = []
        self._gate = asyncio.Semaphore(0)
        self._open = False
        self._failed: Exception | None = None
        self._own: OwnLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self.requests: list[Exchange] = []
        self.connections: list[Connection] = []
        self.open = self.gone = self.ended = self.held = self.frames = self.stalled = 0
        self.url = ""

    def __enter__(self) -> Self:
        self._own = OwnLoop()
        self._own.start()
        self._own.run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._own is not None:
            self._own.run(self._stop())
            self._own.stop()
        self._raise(error)

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()
        self._raise(error)

    def _raise(self, error: BaseException | None) -> None:
        if self._failed is None:
            return
        if error is None:
            raise self._failed
        error.add_note(f"the fake model failed: {self._failed!r}")

    # ------------------------------------------------------------------------------ what it is told

    def script(self, *replies: Reply) -> None:
        """Give these replies to the next requests, one each."""
        self._script.extend(replies)

    def always(self, reply: Reply | Rule) -> None:
        """Give this reply to all requests that the script does not name."""
        self._always = reply

    def step(self, count: int = 1) -> None:
        """Let so many of those go on that hang or wait for a step, in the order they came."""
        for _ in range(count):
            self._call(self._gate.release)

    def release(self) -> None:
        """Let all go on that hang or wait for a step, now and from here on."""

        def opened() -> None:
            self._open = True
            for _ in range(self.held):
                self._gate.release()

        self._call(opened)

    # ----------------------------------------------------------------------------- what it has seen

    @property
    def closed(self) -> int:
        """Connections that are closed, by whomever."""
        return len(self.connections) - self.open

    def wait(
        self, until: Callable[[], bool] | None = None, *, wait_s: float = WAIT_S, **counts: int
    ) -> None:
        """Wait until something has happened; for tests with a thread of their own.

        Args:
            until: true once it has; asked whenever something has changed.
            wait_s: longest wait, in seconds.
            counts: names of attributes: at least so many ``requests``, ``connections``,
                ``closed``, ``gone``, ``ended``, ``frames``; exactly so many ``open``, ``held``,
                ``stalled``.

        Raises:
            TimeoutError: it does not happen.
        """
        future = self._watch(until, counts)
        try:
            future.result(wait_s)
        except TimeoutError:
            raise TimeoutError(self._told(counts)) from None

    async def until(
        self, until: Callable[[], bool] | None = None, *, wait_s: float = WAIT_S, **counts: int
    ) -> None:
        """Wait as `wait` does, in a loop.

        Raises:
            TimeoutError: it does not happen.
        """
        future = asyncio.wrap_future(self._watch(until, counts))
        try:
            await asyncio.wait_for(future, wait_s)
        except TimeoutError:
            raise TimeoutError(self._told(counts)) from None

    def _watch(self, until: Callable[[], bool] | None, counts: dict[str, int]) -> Future[None]:
        future: Future[None] = Future()

        def seen() -> bool:
            return (until is None or until()) and all(
                self._count(name) == count if name in _EXACT else self._count(name) >= count
                for name, count in counts.items()
            )

        self._waiters.append((seen, future))
        self._call(self._changed)
        return future

    def _count(self, name: str) -> int:
        found = getattr(self, name)
        return found if isinstance(found, int) else len(found)

    def _told(self, counts: dict[str, int]) -> str:
        told = ", ".join(f"{name} {self._count(name)}, not {n}" for name, n in counts.items())
        return told or "it did not happen"

    def _changed(self, _: object = None) -> None:
        for waiter in list(self._waiters):
            seen, future = waiter
            if future.cancelled() or seen():
                self._waiters.remove(waiter)
                if future.set_running_or_notify_cancel():
                    future.set_result(None)

    def _call(self, work: Callable[[], object]) -> None:
        if self._loop is None:
            raise RuntimeError("the fake model is not started: use it in a `with` block")
        self._loop.call_soon_threadsafe(work)

    # ----------------------------------------------------------------------------------- the server

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(
            self._connection, "127.0.0.1", self._port, backlog=4_096
        )
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*(one.stop() for one in self.connections))

    def _connection(self) -> Connection:
        return Connection(self._serve, self._opened, self._ended, self._send_buffer_bytes)

    def _opened(self, one: Connection) -> None:
        self.connections.append(one)
        self.open += 1
        self._changed()

    def _ended(self, _: Connection) -> None:
        self.open -= 1
        self._changed()

    async def _serve(self, exchange: Exchange) -> None:
        if exchange.method == "GET" and exchange.path.endswith("/models"):
            await self._answer(exchange, models_list(self._models, exchange))
            return
        if exchange.path.startswith("/fake/"):
            await self._answer(exchange, control(self, exchange))
            return
        self.requests.append(exchange)
        self._changed()
        try:
            await self._answer(exchange, self._find(exchange))
        except Exception as error:  # noqa: BLE001 - a rule's failure is raised at the end of the test
            self._failed = self._failed or error
            exchange.connection.abort()
        finally:
            if exchange.ended_s is not None:
                self.ended += 1
            elif exchange.connection.gone_s is not None:
                exchange.gone_s = exchange.connection.gone_s
                self.gone += 1
            self._changed()

    def _find(self, exchange: Exchange) -> Reply:
        if self._script:
            return self._script.popleft()
        return self._always if isinstance(self._always, Reply) else self._always(exchange)

    def _plan(self, exchange: Exchange, reply: Reply) -> Plan:
        asked = wanted(exchange.path, exchange.body)
        key = (id(reply), exchange.path, asked)
        if key not in self._plans:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            # The reply is kept too, so that no other can get its identity.
            self._plans[key] = planned(exchange.path, reply, asked), reply
        return self._plans[key][0]

    async def _answer(self, exchange: Exchange, reply: Reply) -> None:
        plan = self._plan(exchange, reply)
        for fault in reply.faults:
            if fault.early and not await self._fail(fault, exchange, plan, None):
                return
        self._write(exchange, plan.head)
        if await self._send(exchange, plan, reply):
            self._end(exchange, plan)

    async def _send(self, exchange: Exchange, plan: Plan, reply: Reply) -> bool:
        """Send the body; false where a fault ends the answer."""
        connection = exchange.connection
        pauses = pauses_ms(reply)
        last: Write | None = None
        for step in plan.steps:
            if isinstance(step, Fault):
                if not await self._fail(step, exchange, plan, last):
                    return False
                continue
            if step.begins and reply.stepwise:
                await self._pass()
            pause_ms = 0.0
            if step.paced:
                last = step
                pause_ms = next(pauses)
            # Without a pause too: the client may have left, and others want their turn.
            await asyncio.sleep(pause_ms / 1_000)
            self._write(exchange, step.data)
            if step.ends:
                self.frames += 1
                exchange.frames += 1
                if reply.timed:
                    exchange.sent_s.append(time.monotonic())
                self._changed()
            if connection.full:
                await self._drain(connection)
        return True

    async def _fail(self, fault: Fault, exchange: Exchange, plan: Plan, last: Write | None) -> bool:
        """Let a fault strike; false where nothing follows it."""
        connection = exchange.connection
        match fault.kind:
            case "hang":
                await self._pass()
                return True
            case "garbage" | "babble" | "line" | "endless":
                framed = plan.chunked and not fault.early and fault.kind != "babble"
                for data in _inserted(fault, last):
                    self._write(exchange, chunk(data) if framed else data)
                    await self._drain(connection)
                return True
            case "reset":
                connection.reset()
            case "cut":
                connection.close()
            case "half_close":
                connection.half_close()
                await asyncio.shield(connection.ended)
            case "unfinished":
                self._end(exchange, plan)
        return False

    @staticmethod
    def _end(exchange: Exchange, plan: Plan) -> None:
        if plan.chunked:
            exchange.connection.write(chunk(b""))
        exchange.ended_s = time.monotonic()

    @staticmethod
    def _write(exchange: Exchange, data: bytes) -> None:
        exchange.written_bytes += len(data)
        exchange.connection.write(data)

    async def _drain(self, connection: Connection) -> None:
        """Wait until the socket takes more, and say so where that is long."""
        await asyncio.sleep(0)
        if not connection.full:
            return
        try:
            # `wait_for` may lose a cancellation that comes together with what it waits for.
            async with asyncio.timeout(STALLED_S):
                await connection.drain()
        except TimeoutError:
            self.stalled += 1
            self._changed()
            try:
                await connection.drain()
            finally:
                self.stalled -= 1

    async def _pass(self) -> None:
        """Wait for a step, or for the release of all."""
        if self._open:
            return
        self.held += 1
        self._changed()
        try:
            await self._gate.acquire()
        finally:
            self.held -= 1


def _inserted(fault: Fault, last: Write | None) -> Iterator[bytes]:
    """Give what a fault writes, bit by bit."""
    if fault.kind == "line":
        for left in range(fault.size_bytes, 0, -len(_BLOCK)):
            yield _BLOCK[:left]
    elif fault.kind == "endless":
        yield from repeat(_LINE if last is None else last.payload)
    else:
        yield fault.data
