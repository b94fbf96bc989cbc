"""A keep-alive never comes between two parts of what is sent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import web

from tocsin.gateway.outlet import KEEP_ALIVE, Outlet
from tocsin.limits import CLIENT_WRITE_BYTES


class Writer:
    """Keeps what is written; while it is drained, the ticker comes by."""

    def __init__(self, protocol: SimpleNamespace) -> None:
        self.protocol = protocol
        self.written: list[bytes] = []
        self.outlet: Outlet

    async def write(self, data: bytes, *, drain: bool) -> None:
        self.written.append(data)
        self.protocol.writing_paused = len(data) == CLIENT_WRITE_BYTES

    async def drain(self) -> None:
        self.protocol.writing_paused = False  # the client has read; the writer does not know it yet
        self.outlet.tick(asyncio.get_running_loop().time() + 3_600)
        for _ in range(3):
            await asyncio.sleep(0)


def test_a_keep_alive_waits_until_a_long_frame_is_written() -> None:
    async def test() -> None:
        protocol = SimpleNamespace(writing_paused=False)
        request = cast("web.Request", SimpleNamespace(protocol=protocol))
        outlet = Outlet(request, {}, 1_000, lambda: b"")
        writer = Writer(protocol)
        writer.outlet = outlet
        outlet._writer = cast("Any", writer)
        frame = bytes(range(256)) * (3 * CLIENT_WRITE_BYTES // 256) + b"\n\n"
        await outlet.write(frame)
        assert frame == b"".join(writer.written)
        outlet.tick(asyncio.get_running_loop().time() + 3_600)
        await asyncio.sleep(0)
        assert writer.written[-1] == KEEP_ALIVE
        outlet.close()

    asyncio.run(test())
