"""What comes from an upstream is taken in its order, once, and by nobody after the end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from tocsin.gateway.arrivals import Arrivals, Rest
from tocsin.gateway.site import Upstream
from tocsin.gateway.upstream import Call, Failed

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
READ_BYTES = 16


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Wire:
    """A transport that remembers whether it is read."""

    def __init__(self) -> None:
        self.paused = False
        self.resumed = 0
        self.closed = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self.resumed += 1

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Scene:
    """A call whose head has come."""

    def __init__(self, call: Call, connection: Arrivals, wire: Wire) -> None:
        self.call = call
        self.connection = connection
        self.wire = wire
        self.came = connection.data_received


async def scene() -> Scene:
    connection = Arrivals(asyncio.get_running_loop())
    wire = Wire()
    connection.transport = cast("asyncio.Transport", wire)
    connection.set_response_params(read_bufsize=READ_BYTES)
    connection.data_received(HEAD)
    _, reader = await connection.read()
    call = Call(cast("Any", None), cast("Upstream", SimpleNamespace(idle_ms=60_000)))
    held = SimpleNamespace(protocol=connection)
    response = SimpleNamespace(connection=held, closed=False, close=wire.close)
    reader.on_eof(lambda: setattr(response, "connection", None))  # as it goes back to the pool
    call._response, call._reader = cast("aiohttp.ClientResponse", response), reader
    return Scene(call, connection, wire)


def play(test: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            await test(await scene())

    asyncio.run(run())


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_comes_is_taken_in_the_callback_that_brings_it() -> None:
    async def test(on: Scene) -> None:
        taken: list[bytes] = []
        pouring = asyncio.create_task(on.call.pour(taken.append))
        await turns()
        for data in (b"one", b"two"):
            on.came(chunk(data))
            assert taken[-1] == data  # no turn of the loop in between
        on.came(chunk(b"three") + END)
        assert await pouring is None
        assert taken == [b"one", b"two", b"three"]
        assert on.connection.listener is None

    play(test)


def test_what_came_before_the_head_was_looked_at_is_taken_too() -> None:
    async def test(on: Scene) -> None:
        taken: list[bytes] = []
        on.came(chunk(b"early") + END)
        assert await on.call.pour(taken.append) is None
        assert taken == [b"early"]

    play(test)


def test_nothing_is_taken_while_there_is_something_to_wait_for() -> None:
    async def test(on: Scene) -> None:
        taken: list[bytes] = []
        waited: list[bytes] = []

        async def rest(data: bytes) -> None:
            waited.append(data)

        def take(data: bytes) -> Rest | None:
            taken.append(data)
            return rest(data) if data == b"slow" else None

        pouring = asyncio.create_task(on.call.pour(take))
        await turns()
        on.came(chunk(b"slow"))
        for at in range(8):
            on.came(chunk(b"%d" % at * 8))
        assert taken == [b"slow"] and on.wire.paused and not on.wire.resumed
        left = await pouring
        assert left is not None and not isinstance(left, Failed)
        await left
        assert waited == [b"slow"]
        pouring = asyncio.create_task(on.call.pour(take))
        await turns()
        assert on.wire.resumed > 0
        on.came(chunk(b"last") + END)
        assert await pouring is None
        assert b"".join(taken) == b"slow" + b"".join(b"%d" % n * 8 for n in range(8)) + b"last"

    play(test)


def test_more_than_may_wait_at_once_keeps_its_order() -> None:
    async def test(on: Scene) -> None:
        pieces = [b"%03d" % n * 10 for n in range(50)]
        taken: list[bytes] = []
        pouring = asyncio.create_task(on.call.pour(taken.append))
        await turns()
        on.came(b"".join(map(chunk, pieces)) + END)
        assert await pouring is None
        assert b"".join(taken) == b"".join(pieces)

    play(test)


def test_a_fault_of_the_taker_is_raised_and_is_none_of_the_upstreams() -> None:
    async def test(on: Scene) -> None:
        def take(data: bytes) -> None:
            raise ConnectionResetError(data)

        pouring = asyncio.create_task(on.call.pour(take))
        await turns()
        on.came(chunk(b"x"))
        with pytest.raises(ConnectionResetError):
            await pouring
        assert on.connection.listener is None

    play(test)


def test_an_interrupt_and_a_lost_connection_are_failures() -> None:
    async def interrupted(on: Scene) -> None:
        pouring = asyncio.create_task(on.call.pour(lambda _: None))
        await turns()
        on.call.interrupt("stopping")
        assert await pouring == Failed(failure="stopping")

    async def lost(on: Scene) -> None:
        pouring = asyncio.create_task(on.call.pour(lambda _: None))
        await turns()
        on.connection.connection_lost(None)
        failed = await pouring
        assert isinstance(failed, Failed) and failed.failure == "upstream_cut_off"

    play(interrupted)
    play(lost)


def test_a_task_that_is_cancelled_leaves_nobody_listening_and_nothing_unawaited() -> None:
    async def test(on: Scene) -> None:
        async def rest() -> None:
            raise AssertionError("nobody waits for it")

        for began in (False, True):
            pouring = asyncio.create_task(on.call.pour(lambda _: rest()))
            await turns()
            if began:
                on.came(chunk(b"x"))
            pouring.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pouring
            assert on.connection.listener is None
        gc.collect()  # a coroutine that was never awaited would warn

    play(test)
