"""HTTP/1.1 as the fake model speaks it, and what it remembers of each connection.

Every frame is one write and one HTTP chunk, with `TCP_NODELAY`. The transport's own buffer has no
room beyond the write that is under way: what the kernel does not take, nobody takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

_HEAD_BYTES_MAX = 1 << 20
"""A longer head is no request."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 s: closing discards what is not sent, and resets."""


@dataclass(eq=False, slots=True)
class Exchange:
    """A request that came, and how far its answer is.

    Attributes:
        method, path, headers: of the request; names of headers in lower case.
        raw: the bytes of the body.
        body: the body decoded, or an empty dict where it is no JSON.
        connection: on which it came.
        came_s: when it was whole, as `time.monotonic` has it.
        frames: frames written so far.
        sent_s: when each was written, where the reply is `timed`.
        written_bytes: bytes written so far, whatever became of them.
        ended_s: when the answer was written to its end.
        gone_s: when the client was seen to leave before that.
    """

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    connection: Connection
    body: Any = field(default_factory=dict)
    came_s: float = 0.0
    frames: int = 0
    sent_s: list[float] = field(default_factory=list)
    written_bytes: int = 0
    ended_s: float | None = None
    gone_s: float | None = None

    @property
    def accepted_bytes(self) -> int:
        """Bytes of the answer that the socket has taken."""
        return self.written_bytes - self.connection.unsent_bytes


class Connection(asyncio.Protocol):
    """One connection of a client.

    Args:
        serve: answers a request; it is cancelled when the client leaves.
        opened, closed: are called when it is.
        send_buffer_bytes: for `SO_SNDBUF`; the system's own where None.

    Attributes:
        opened_s: when it was opened, as `time.monotonic` has it.
        gone_s: when the client was seen to close or reset it.
        ended: is done once it is closed, by whomever.
    """

    def __init__(
        self,
        serve: Callable[[Exchange], Awaitable[None]],
        opened: Callable[[Connection], None],
        closed: Callable[[Connection], None],
        send_buffer_bytes: int | None = None,
    ) -> None:
        self._serve = serve
        self._opened = opened
        self._closed = closed
        self._send_buffer_bytes = send_buffer_bytes
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._continued = False
        self._unsent = 0
        self.opened_s = time.monotonic()
        self.gone_s: float | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # ---------------------------------------------------------------------------- for the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._send_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_bytes)
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        self._buffer += data
        self._next()

    def eof_received(self) -> None:
        """See the client close: nobody reads on, so all that is under way ends."""
        self._leave()
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """See the end of the connection; an error is the client's reset."""
        if error is not None:
            self._leave()
        self._transport = None
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()
        self.ended.set_result(None)
        self._closed(self)

    def pause_writing(self) -> None:
        """See that the socket does not take all."""
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """See that the socket has taken all."""
        self._unsent = 0 if self._transport is not None else self._unsent
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # ------------------------------------------------------------------------------- for the answer

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and that the socket has not taken.

        Of a closed connection, as after its last write.
        """
        return self._unsent if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Write at once, if somebody is there."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            self._unsent = self._transport.get_write_buffer_size()

    @property
    def full(self) -> bool:
        """Whether the socket has not taken all."""
        return self._drained is not None

    async def drain(self) -> None:
        """Wait until the socket has taken all."""
        if self._drained is not None:
            await asyncio.shield(self._drained)

    def reset(self) -> None:
        """Close with a reset."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def close(self) -> None:
        """Close once all is sent."""
        if self._transport is not None:
            self._transport.close()

    def half_close(self) -> None:
        """Say that nothing more comes, and go on to read."""
        if self._transport is not None:
            self._transport.write_eof()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    async def stop(self) -> None:
        """Close at once, and wait until nothing is under way."""
        task = self._task
        self.abort()
        await asyncio.shield(self.ended)
        if task is not None:
            await asyncio.wait([task])

    # ---------------------------------------------------------------------------------- the request

    def _leave(self) -> None:
        if self.gone_s is None:
            self.gone_s = time.monotonic()

    def _next(self) -> None:
        """Answer the next request, if one is whole and none is under way."""
        if self._task is not None or self._transport is None or self._transport.is_closing():
            return
        try:
            exchange = self._take()
        except ValueError:
            self.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            self.close()
            return
        if exchange is not None:
            self._task = asyncio.get_running_loop().create_task(self._answer(exchange))

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._serve(exchange)
        finally:
            self._task = None
        if exchange.headers.get("connection", "").lower() == "close":
            self.close()
        self._next()

    def _take(self) -> Exchange | None:
        """Read a request off the buffer.

        Raises:
            ValueError: it is none.
        """
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _HEAD_BYTES_MAX:
                raise ValueError("the head is too long")
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        found = self._body(end + 4, headers)
        if found is None:
            if headers.get("expect", "").lower() == "100-continue" and not self._continued:
                self._continued = True
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        raw, stop = found
        self._continued = False
        del self._buffer[:stop]
        exchange = Exchange(method, path, headers, raw, self, came_s=time.monotonic())
        with contextlib.suppress(ValueError):
            exchange.body = json.loads(raw)
        return exchange

    def _body(self, at: int, headers: dict[str, str]) -> tuple[bytes, int] | None:
        """Give a body and the offset of its end; None where it is not whole."""
        if headers.get("transfer-encoding", "").lower() != "chunked":
            stop = at + int(headers.get("content-length", "0"))
            return (bytes(self._buffer[at:stop]), stop) if len(self._buffer) >= stop else None
        parts: list[bytes] = []
        while (line := self._buffer.find(b"\r\n", at)) >= 0:
            size = int(self._buffer[at:line].split(b";")[0], 16)
            start, at = line + 2, line + 4 + size
            if len(self._buffer) < at:
                return None
            if not size:
                return b"".join(parts), at
            parts.append(bytes(self._buffer[start : start + size]))
        return None


def head(status: int, headers: dict[str, str]) -> bytes:
    """Write the head of an answer."""
    phrase = next((s.phrase for s in HTTPStatus if s == status), "Unknown")
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Write a part of a body whose length nobody knows; the last one where empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)
