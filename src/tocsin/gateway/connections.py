"""Connections of clients: how many, how long they may be silent, and that they do not read ahead.

aiohttp's server waits for a request, or for a client that reads, without an end. Here one sweep,
called by the one ticker of the process, looks at all connections: what is late is closed. There is
no timer for each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from tocsin.gateway.strict import LINE
from tocsin.limits import (
    CLIENT_FIELD_BYTES_MAX,
    CLIENT_FIELDS_MAX,
    CLIENT_IDLE_MS_MAX,
    CLIENT_LEFTOVER_MS_MAX,
    CLIENT_LINE_BYTES_MAX,
    CLIENT_READ_BYTES,
)

Closed = Literal["too_many", "no_request", "slow_head", "stalled", "ahead", "unreadable", "fault"]
"""Why a connection was closed from our side. too_many: the limit of connections. no_request:
nothing came. slow_head: the head of a request took too long. stalled: the client did not read.
ahead: another request came before the answer to the first had ended. unreadable: what came is no
request. fault: a fault of ours."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Factory = Callable[
    [
        RawRequestMessage,
        StreamReader,
        web.RequestHandler,
        AbstractStreamWriter,
        "asyncio.Task[None]",
    ],
    web.BaseRequest,
]
Said = Callable[[Closed, BaseException | None], None]

_CLOSES = b"content-length: 0\r\nconnection: close\r\n\r\n"
_LATE = b"HTTP/1.1 408 Request Timeout\r\n" + _CLOSES
_UNREADABLE = b"HTTP/1.1 400 Bad Request\r\n" + _CLOSES
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n" + _CLOSES


class Connection(web.RequestHandler):
    """One connection. It takes one request at a time.

    A request that comes before the answer to the last one has ended gets none: what follows a
    request in the same breath is how a smuggled one arrives. The connection is closed after the
    answer, and a client that meant it asks again.
    """

    __slots__ = (
        "_line",
        "_payload",
        "_progress_s",
        "_read_bytes",
        "_since_s",
        "_wire",
        "_writer",
    )

    def __init__(self, manager: Connections, **options: Any) -> None:
        super().__init__(manager, **options)
        self._wire: asyncio.Transport | None = None  # kept until it is lost, unlike `transport`
        self._since_s: float | None = None  # when the head that is awaited began to be late
        self._line: bytearray | None = bytearray()  # the request line; None once it is complete
        self._writer: AbstractStreamWriter | None = None
        self._payload: StreamReader | None = None
        self._read_bytes = 0  # of the answer: what was written, and is not waiting here
        self._progress_s = 0.0

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self._request_in_progress or bool(self._messages)

    @property
    def _between(self) -> bool:
        """Whether the next byte is the first of a request, or in its head."""
        if self._messages:
            return False
        if self._writer is None or self._payload is None:
            return True
        # A client may know that the answer is complete before the handler has returned.
        return bool(getattr(self._writer, "_eof", False)) and self._payload.is_eof()

    def serves(self, writer: AbstractStreamWriter, payload: StreamReader) -> None:
        """Take note of the request that is answered now."""
        self._writer, self._payload = writer, payload

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse where there are too many."""
        manager = cast("Connections", self._manager)
        self._wire = cast("asyncio.Transport", transport)
        self._progress_s = self._loop.time()
        if manager.count >= manager.connections_max:
            self._leave("too_many", _FULL)
            return
        self._since_s = self._progress_s
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._wire = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes: of one request, and of no other before it is answered."""
        if self._close or self._force_close:
            return
        between = self._between
        if between and data and not self._head(data):
            self._leave("unreadable", _UNREADABLE)
            return
        payload = self._messages[-1][1] if self._messages else self._payload
        before = self._request_count
        super().data_received(data)
        came = self._request_count - before
        if came == 0:
            return
        self._since_s, self._line = None, bytearray()
        if not between and payload is not None and not payload.is_eof():
            self._leave("unreadable", b"")  # no request comes within a body: it is broken
        elif ahead := came - between:
            for _ in range(ahead):
                self._messages.pop()
            self._said("ahead")
            self.close()

    def _head(self, data: bytes) -> bool:
        """Look at a request line as it was written; false where it is none."""
        if self._since_s is None:
            self._since_s = self._loop.time()
        if self._line is None:
            return True
        self._line += data[:CLIENT_LINE_BYTES_MAX]
        if b"\n" not in self._line:
            return True  # the parser has a limit of its own
        fits = LINE.match(self._line) is not None
        self._line = None
        return fits

    def sweep(self, now_s: float, header_s: float, stalled_s: float) -> None:
        """Close the connection where it is late."""
        wire = self._wire
        if wire is None:
            return
        unread = wire.get_write_buffer_size()
        # What waits may well be more each time though the client reads: it is filled up again.
        read = (0 if self._writer is None else self._writer.output_size) - unread
        if unread == 0 or read != self._read_bytes:
            self._progress_s = now_s
        self._read_bytes = read
        if unread and now_s - self._progress_s > stalled_s:
            self._said("stalled")
            wire.abort()
        elif self._since_s is not None and now_s - self._since_s > header_s and self._between:
            began = self._line is None or bool(self._line)
            self._leave("slow_head" if began else "no_request", _LATE if began else b"")

    def cut(self) -> None:
        """Close now, whatever is under way."""
        if self._wire is not None:
            self._wire.abort()

    def _leave(self, why: Closed, words: bytes) -> None:
        self._said(why)
        wire = self._wire
        if wire is not None and not wire.is_closing():
            wire.write(words)
            wire.close()
        self.force_close()

    def _said(self, why: Closed, error: BaseException | None = None) -> None:
        manager = cast("Connections | None", self._manager)
        if manager is not None:
            manager.closed(why, error)

    # ------------------------------------------------------------- what aiohttp would say by itself

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; it says who answers, and not which versions of what."""
        if not resp.prepared:
            resp.headers["server"] = "tocsin"
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it repeats what the client wrote
    ) -> web.StreamResponse:
        """Answer what could not be read, or a fault; never with the client's words or a trace.

        Raises:
            ConnectionError: an answer has begun; it can only be cut off. Or the client has left.
        """
        if isinstance(exc, ConnectionError):
            raise exc
        self._said("unreadable" if status == 400 else "fault", exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        response = web.Response(status=status)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:  # noqa: ARG002 - texts stay out of logs
        """Log that there was one."""
        self._said("fault", kw.get("exc_info"))


class Connections(web.Server):
    """All connections of one process.

    Args:
        handler: answers a request.
        factory: makes one.
        connections_max: one more is refused.
        closed: told of each connection that is closed from our side, and of faults.
    """

    def __init__(
        self, handler: Handler, factory: Factory | None, connections_max: int, closed: Said
    ) -> None:
        super().__init__(handler, request_factory=factory, handler_cancellation=True)
        self._made = self.request_factory
        self.request_factory = self._request
        self.connections_max = connections_max
        self.closed = closed

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._connections)

    def __call__(self) -> web.RequestHandler:
        """Make one, for a client that has come."""
        return Connection(
            self,
            loop=self._loop,
            keepalive_timeout=CLIENT_IDLE_MS_MAX / 1_000,
            access_log=None,
            max_line_size=CLIENT_LINE_BYTES_MAX,
            max_field_size=CLIENT_FIELD_BYTES_MAX,
            max_headers=CLIENT_FIELDS_MAX,
            lingering_time=CLIENT_LEFTOVER_MS_MAX / 1_000,
            read_bufsize=CLIENT_READ_BYTES,
            auto_decompress=False,
        )

    def each(self) -> Iterator[Connection]:
        """Go through all of them."""
        return (cast("Connection", one) for one in self.connections)

    def sweep(self, header_ms: float, stalled_ms: float) -> None:
        """Close those that are late."""
        now_s = self._loop.time()
        for one in self.each():
            one.sweep(now_s, header_ms / 1_000, stalled_ms / 1_000)

    def let_go(self) -> None:
        """Close those that have no request under way."""
        for one in self.each():
            if not one.busy:
                one.force_close()

    def cut(self) -> None:
        """Close all, whatever is under way."""
        for one in self.each():
            one.cut()

    @property
    def busy(self) -> int:
        """How many have a request under way."""
        return sum(one.busy for one in self.each())

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        cast("Connection", protocol).serves(writer, payload)
        return self._made(message, payload, protocol, writer, task)
