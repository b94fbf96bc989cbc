"""The call of an upstream: its deadlines, and its failures as values.

The upstream is read only when somebody asks for more; what arrives meanwhile waits in one small
buffer, and then in the kernel, and then at the upstream.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping

import aiohttp
import msgspec
from aiohttp.abc import AbstractCookieJar

from tocsin.gateway.arrivals import Connector, Pouring, Rest, Take, connection_of
from tocsin.gateway.site import Upstream
from tocsin.limits import (
    UPSTREAM_BODY_BYTES_MAX,
    UPSTREAM_ERROR_BYTES_MAX,
    UPSTREAM_LINGER_MS,
    UPSTREAM_POOL_MS,
    UPSTREAM_READ_BYTES,
    UPSTREAM_SOCKET_BYTES,
)
from tocsin.policy.failures import Failure
from tocsin.stream.events import Api

PATHS: Mapping[Api, str] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "messages": "/messages",
}

_OK = 200


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """What came instead of an answer, or of its next piece.

    Args:
        failure: of the table.
        detail: for the log, without any of the upstream's text.
        status, error, retry_after: of an answer that is an error; `error` is its raw body.
    """

    failure: Failure
    detail: str = ""
    status: int = 0
    error: bytes = b""
    retry_after: str | None = None


class _Interrupted(Exception):  # noqa: N818 - it carries a value, and never leaves this module
    def __init__(self, failure: Failure) -> None:
        self.failure = failure


def open_session() -> aiohttp.ClientSession:
    """Make what all calls share: connections that are kept, and nothing else.

    No proxy and no netrc from the environment, no cookies, no redirects, no decompression.
    """
    connector = Connector(
        limit=0,
        keepalive_timeout=UPSTREAM_POOL_MS / 1_000,
        socket_factory=_socket,
    )
    jar: AbstractCookieJar = aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=jar,
        auto_decompress=False,
        read_bufsize=UPSTREAM_READ_BYTES,
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
    )


def _socket(found: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    family, kind, protocol, _, _ = found
    made = socket.socket(family=family, type=kind, proto=protocol)
    # Set before the connection is made, or the window that was offered stays as wide as it was.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UPSTREAM_SOCKET_BYTES)
    return made


def _named(error: Exception) -> Failure:
    """Name what the client library says went wrong."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return "upstream_unreachable"
    if isinstance(error, aiohttp.ClientResponseError):
        return "upstream_garbage"
    return "upstream_cut_off"


def _failed(error: Exception) -> Failed:
    """Say what an error of the client library, or of `Call.interrupt`, means."""
    if isinstance(error, _Interrupted):
        return Failed(failure=error.failure)
    if isinstance(error, (aiohttp.ClientError, OSError)):
        return Failed(failure=_named(error), detail=type(error).__name__)
    return Failed(failure="upstream_garbage", detail=type(error).__name__)


class Call:
    """One call. Not shared between tasks; `tick` and `interrupt` are for the ticker.

    Args:
        session: from `open_session`.
        upstream: whom to ask.
    """

    __slots__ = (
        "_first",
        "_idle_s",
        "_interrupted",
        "_loop",
        "_lost_since",
        "_pouring",
        "_reader",
        "_response",
        "_session",
        "_since",
        "_upstream",
    )

    def __init__(self, session: aiohttp.ClientSession, upstream: Upstream) -> None:
        self._session = session
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._idle_s = upstream.idle_ms / 1_000
        self._first: asyncio.Timeout | None = None
        self._interrupted: Failure | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._reader: aiohttp.StreamReader | None = None
        self._lost_since = 0.0
        self._pouring: Pouring | None = None
        self._since = 0.0  # when the wait for bytes began; 0: nobody waits

    async def open(self, api: Api, body: bytes, headers: Mapping[str, str]) -> Failed | None:
        """Send the request and wait for the head of the answer."""
        try:
            response = await self._post(PATHS[api], body, headers)
        except aiohttp.ConnectionTimeoutError:
            return Failed(failure="upstream_unreachable", detail="no connection by the deadline")
        except TimeoutError:
            return Failed(failure=self._interrupted or "upstream_stalled", detail="no answer")
        except (aiohttp.ClientError, OSError, ValueError) as e:
            return Failed(failure=_named(e), detail=type(e).__name__)
        if response.status != _OK:
            return await self._refused(response)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            self.close()
            return Failed(failure="upstream_encoded")
        return None

    async def _post(
        self, path: str, body: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        upstream = self._upstream
        first_s = 0 if self._interrupted else upstream.first_ms / 1_000
        try:
            async with asyncio.timeout(first_s) as self._first:
                response = await self._session.post(
                    upstream.url + path,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=upstream.connect_ms / 1_000),
                )
        finally:
            self._first = None
        self._response, self._reader = response, response.content
        return response

    async def _refused(self, response: aiohttp.ClientResponse) -> Failed:
        error = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._idle_s):
                while isinstance(data := await self.read(), bytes) and data:
                    error += data
                    if len(error) > UPSTREAM_ERROR_BYTES_MAX:
                        break
        self.close()
        return Failed(
            failure="upstream_refused",
            detail=str(response.status),
            status=response.status,
            error=error[:UPSTREAM_ERROR_BYTES_MAX],
            retry_after=response.headers.get("retry-after"),
        )

    async def read(self) -> bytes | Failed:
        """Wait for more of the body; empty at its end."""
        reader = self._reader
        if reader is None:
            return b""
        self._since = self._loop.time()
        try:
            return await reader.readany()
        except Exception as e:  # noqa: BLE001 - what a parser raises on hostile bytes is no fault of ours
            return _failed(e)
        finally:
            self._since = 0.0

    async def pour(self, take: Take) -> Rest | Failed | None:
        """Have the body taken as it comes, without a turn of the event loop for each piece.

        Args:
            take: is given bytes in the callback that brings them. It must not wait; what it gives
                instead ends this, and nothing is read before the next call.

        Returns:
            What has to be awaited; None at the end of the body.

        Raises:
            Exception: what `take` raises.
        """
        connection = None if self._response is None else connection_of(self._response)
        if connection is None or self._reader is None:
            return await self._rest_of_body(take)
        woken = self._loop.create_future()
        self._pouring = pouring = Pouring(connection, self._reader, take, woken)
        try:
            await woken
        except asyncio.CancelledError:
            pouring.leave()
            raise
        except Exception as e:  # noqa: BLE001 - as in `read`
            return _failed(e)
        finally:
            self._pouring = None
        if pouring.fault is not None:
            raise pouring.fault
        return pouring.rest

    async def _rest_of_body(self, take: Take) -> Rest | Failed | None:
        """Have taken what is in the buffer: all of the body has come."""
        while data := await self.read():
            if isinstance(data, Failed):
                return data
            rest = take(data)
            if rest is not None:
                return rest
        return None

    async def read_all(self) -> bytes | Failed:
        """Wait for the whole body."""
        parts: list[bytes] = []
        size = 0
        while True:
            data = await self.read()
            if isinstance(data, Failed):
                return data
            if not data:
                return b"".join(parts)
            parts.append(data)
            size += len(data)
            if size > UPSTREAM_BODY_BYTES_MAX:
                self.close()
                return Failed(failure="upstream_too_long", detail=f"over {UPSTREAM_BODY_BYTES_MAX}")

    # ------------------------------------------------------------------------------ for the ticker

    def tick(self, now_s: float) -> None:
        """Look whether the upstream has been silent for too long."""
        since_s = self._since if self._pouring is None else self._pouring.since_s
        if not since_s:
            return
        if now_s - since_s > self._idle_s:
            self.interrupt("upstream_stalled")
        elif self._is_lost():
            # aiohttp closes a connection that stops being HTTP, and does not tell whoever reads.
            # Seen twice in the same wait, so that an end that is just being told is not cut off.
            if self._lost_since == since_s:
                self.interrupt("upstream_garbage")
            self._lost_since = since_s

    def _is_lost(self) -> bool:
        connection = None if self._response is None else self._response.connection
        protocol = None if connection is None else connection.protocol
        return protocol is not None and not protocol.is_connected()

    def interrupt(self, failure: Failure) -> None:
        """Let `open` or `read` end with a failure: at once, or when it is called next."""
        if self._interrupted is not None:
            return
        self._interrupted = failure
        if self._first is not None:
            with contextlib.suppress(RuntimeError):  # it is expiring just now
                self._first.reschedule(self._loop.time())
        elif self._reader is not None:
            self._reader.set_exception(_Interrupted(failure))
            if self._pouring is not None:
                self._pouring.came()

    # ------------------------------------------------------------------------------------- the end

    def let_go(self) -> None:
        """End after all was said: the connection is kept, if its body ends in time."""
        response = self._response
        if response is not None and not response.closed:
            self._loop.call_later(UPSTREAM_LINGER_MS / 1_000, response.close)

    def close(self) -> None:
        """End at once: nothing more is wanted, and nobody is to go on writing it."""
        if self._response is not None:
            self._response.close()
