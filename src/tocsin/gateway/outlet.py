"""The stream to a client: opened with its first bytes, paused while nobody reads, ended once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from aiohttp import web
from aiohttp.http import StreamWriter

from tocsin.guarding.doors import now
from tocsin.limits import CLIENT_SOCKET_BYTES, CLIENT_WRITE_BYTES

_STREAM: Mapping[str, str] = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
    "server": "tocsin",
}

KEEP_ALIVE = b": keep-alive\n\n"


def narrow(request: web.BaseRequest) -> None:
    """Keep little for a client that does not read: in the process, and in the kernel."""
    transport = request.transport
    if transport is None:
        return
    transport.set_write_buffer_limits(high=CLIENT_WRITE_BYTES)
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CLIENT_SOCKET_BYTES)


class Outlet:
    """One stream of server-sent events.

    Args:
        request: whose answer it is.
        headers: beside those that every stream has.
        keep_alive_ms: a comment goes out after so long a silence.
        head: gives what has to come before the first comment; None where no comment may come.

    Attributes:
        response: what goes to the client; None before the first byte.
        opened_s: when it did, on the loop's clock.
        shown_s: when the first bytes went out that are more than a keep-alive and its head.
        begins_s: from when on the first bytes may go out although there is no text yet; on the
            loop's clock, never where None.
    """

    __slots__ = (
        "_comment",
        "_ended",
        "_head",
        "_headers",
        "_keep_alive_s",
        "_loop",
        "_protocol",
        "_request",
        "_within",
        "_writer",
        "_wrote_s",
        "begins_s",
        "opened_s",
        "response",
        "shown_s",
    )

    def __init__(
        self,
        request: web.Request,
        headers: Mapping[str, str],
        keep_alive_ms: int,
        head: Callable[[], bytes | None],
    ) -> None:
        self._request = request
        self._protocol = request.protocol
        self._headers = headers
        self._keep_alive_s = keep_alive_ms / 1_000
        self._head = head
        self._loop = asyncio.get_running_loop()
        self._wrote_s = self._loop.time()
        self._comment: asyncio.Task[None] | None = None
        self._ended = False
        self._within = False  # some of what is sent has gone out, and some has not
        self._writer: StreamWriter | None = None
        self.opened_s: float | None = None
        self.shown_s: float | None = None
        self.begins_s: float | None = None
        self.response: web.StreamResponse | None = None

    def put(self, data: bytes) -> Coroutine[Any, Any, None] | None:
        """Send at once, where that takes no time.

        Returns:
            What has to be awaited before anything else is sent.

        Raises:
            ConnectionError: the client has gone.
        """
        writer = self._writer
        if writer is None or len(data) > CLIENT_WRITE_BYTES:
            return self.write(data)
        self._shows()
        now(writer.write(data, drain=False))
        return writer.drain() if self._protocol.writing_paused else None

    async def write(self, data: bytes) -> None:
        """Send, and wait while the client has much to read.

        Raises:
            ConnectionError: the client has gone.
        """
        writer = self._writer or await self._open()
        self._shows()
        if len(data) <= CLIENT_WRITE_BYTES:
            await writer.write(data, drain=False)
            if self._protocol.writing_paused:
                await writer.drain()
            return
        self._within = True
        try:
            for at in range(0, len(data), CLIENT_WRITE_BYTES):
                await writer.write(data[at : at + CLIENT_WRITE_BYTES], drain=False)
                if self._protocol.writing_paused:
                    await writer.drain()
        finally:
            self._within = False

    async def end(self, data: bytes) -> None:
        """Send the last bytes.

        Raises:
            ConnectionError: the client has gone.
        """
        if len(data) > CLIENT_WRITE_BYTES:
            await self.write(data)
            data = b""
        elif self._writer is None:
            await self._open()
        self._shows()
        self._ended = True
        if self.response is not None:
            await self.response.write_eof(data)

    def _shows(self) -> None:
        self._wrote_s = self._loop.time()
        if self.shown_s is None:
            self.shown_s = self._wrote_s

    async def _open(self) -> StreamWriter:
        narrow(self._request)
        self.response = response = web.StreamResponse(headers={**_STREAM, **self._headers})
        self.opened_s = self._loop.time()
        self._writer = writer = cast("StreamWriter", await response.prepare(self._request))
        return writer

    def close(self) -> None:
        """Forget a comment that was to come."""
        if self._comment is not None:
            self._comment.cancel()

    def abort(self) -> None:
        """Cut the connection: the client sees that this is no end."""
        if self._request.transport is not None:
            self._request.transport.abort()

    # ------------------------------------------------------------------------------ for the ticker

    def tick(self, now_s: float) -> None:
        """Look whether the client has heard nothing for too long."""
        if self._ended or self._comment:
            return
        begins_s = self.begins_s
        early = self._writer is None and begins_s is not None and now_s > begins_s
        if early or now_s - self._wrote_s > self._keep_alive_s:
            self._comment = self._loop.create_task(self._say())

    async def _say(self) -> None:
        """Send a comment, with what has to come before it.

        Nothing in here suspends before all is written, so that it cannot come between two writes.
        """
        try:
            if self._ended or self._within or self._protocol.writing_paused:
                return
            head = self._head()
            if head is None:
                return
            writer = self._writer or await self._open()
            self._wrote_s = self._loop.time()
            await writer.write(head + KEEP_ALIVE, drain=False)
        except ConnectionError:
            pass  # whoever writes next finds out
        finally:
            self._comment = None
