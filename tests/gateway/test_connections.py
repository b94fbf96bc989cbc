"""The promise: who does not read is let go in time, and who reads slowly never is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from tocsin.gateway.connections import Connection, Connections

STALLED_S = 9.75


class Wire(asyncio.Transport):
    """A transport that has as much waiting as is said."""

    def __init__(self) -> None:
        super().__init__()
        self.unread = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True


SOCKET_BYTES = 65_536
"""What the system may hold of an answer, on either side; it takes some times as much."""


async def _flood(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 16_384)


async def _answer(_: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError


def let_go_s(seen: Iterable[tuple[float, int, int]]) -> float | None:
    """Give when a client is let go whose answer is so long, and waits so much, at some times.

    Args:
        seen: seconds since it came, less a half; bytes written; and of them bytes that wait.
    """

    async def look() -> float | None:
        said: list[str] = []
        connection: Any = Connections(_answer, None, 1, lambda why, _: said.append(why))()
        assert isinstance(connection, Connection)
        wire = Wire()
        connection.connection_made(wire)
        begun_s = asyncio.get_running_loop().time()
        for at_s, written, unread in seen:
            connection._since_s = None  # its request has come
            connection.serves(cast("Any", SimpleNamespace(output_size=written)), cast("Any", None))
            wire.unread = unread
            connection.sweep(begun_s + at_s + 0.5, STALLED_S, STALLED_S)
            assert wire.aborted == (said == ["stalled"])
            if wire.aborted:
                return at_s
        return None

    return asyncio.run(look())


def test_who_reads_nothing_is_let_go_once_the_time_is_over() -> None:
    assert let_go_s((s, 500, 500) for s in range(60)) == 10


def test_who_reads_nothing_is_let_go_though_more_is_written_for_it() -> None:
    assert let_go_s((s, 500 + s, 500 + s) for s in range(60)) == 10


def test_who_has_nothing_to_read_stays() -> None:
    assert let_go_s((s, 500, 0) for s in range(60)) is None


@pytest.mark.parametrize("unread", [lambda _: 64, lambda s: 64 + s, lambda s: 640 - s])
def test_who_reads_slowly_stays(unread: Any) -> None:
    """Whether what waits stays the same, or grows, or becomes less."""
    assert let_go_s((s, 1_000 + unread(s) + 2 * (s // 9), unread(s)) for s in range(60)) is None


def test_who_stops_amid_an_answer_has_the_whole_time_from_then() -> None:
    told = ((s, 1_000 + min(s, 20), 64) for s in range(60))
    assert let_go_s(told) == 30


def test_who_reads_slowly_through_a_socket_stays_until_nothing_more_is_read() -> None:
    """The writer and the transport are real, and the time is not."""
    said: list[str] = []

    async def look() -> None:
        loop = asyncio.get_running_loop()
        connections = Connections(_flood, None, 1, lambda why, _: said.append(why))
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        listening.bind(("127.0.0.1", 0))
        async with await loop.create_server(connections, sock=listening):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
            client.setblocking(False)
            with client:
                await loop.sock_connect(client, listening.getsockname())
                await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                begun_s = loop.time()
                for at_s in range(60):
                    read = 0
                    while read < 16 * SOCKET_BYTES:  # more than the system holds
                        data = await loop.sock_recv(client, SOCKET_BYTES)
                        assert data, said
                        read += len(data)
                    (one,) = connections.each()
                    one.sweep(begun_s + at_s, STALLED_S, STALLED_S)
                assert said == []
                while not said:
                    at_s += 1
                    await asyncio.sleep(0)
                    one.sweep(begun_s + at_s, STALLED_S, STALLED_S)
        await connections.shutdown(0.1)

    async def limited() -> None:
        async with asyncio.timeout(60):
            await look()

    asyncio.run(limited())
    assert said == ["stalled"]
