"""One HTTP request, sent: no redirects, bounded answer, times out; standard library alone."""

from __future__ import annotations

import http.client
import random
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tocsin.errors import InputError
from tocsin.limits import EVENTS_ANSWER_BYTES_MAX, EVENTS_CLIENT_BACKOFF_S_MAX

_FIRST_PAUSE_S = 0.25
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class Answer(msgspec.Struct, frozen=True):
    """What came back.

    Args:
        status: of HTTP; 0 where there was no answer at all.
        body: as much of it as is read.
        retry_after_s: when to come again, where the answer says so.
        why: there was no answer at all, in words.
    """

    status: int
    body: bytes = b""
    retry_after_s: float | None = None
    why: str = ""

    @property
    def said(self) -> str:
        """What came back, in words.

        Example:
            >>> Answer(302).said
            'status 302: redirects are not followed; name the address that it leads to'
        """
        if 300 <= self.status < 400:
            return (
                f"status {self.status}: redirects are not followed; name the address that it "
                "leads to"
            )
        return self.why or f"status {self.status}"

    @property
    def good(self) -> bool:
        """Whether it was taken."""
        return 200 <= self.status < 300

    @property
    def again(self) -> bool:
        """Whether the same may succeed later."""
        return self.status == 0 or self.status in _AGAIN


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send.

    Args:
        secure: by TLS.
        host, port: of the server.
        path: with its leading slash.
    """

    secure: bool
    host: str
    port: int
    path: str


def place(url: str) -> Place:
    """Take a URL apart.

    Raises:
        InputError: it is no URL of HTTP, or holds a user, a query or a fragment.

    Example:
        >>> place("https://tocsin.example/v1/events").port
        443
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    odd = parts.query or parts.fragment or parts.username is not None or parts.password is not None
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in {"http", "https"} or not parts.hostname or odd or not plain:
        raise InputError(
            "write a URL as https://tocsin.example/v1/events, without a user or a query"
        )
    secure = parts.scheme == "https"
    return Place(
        secure=secure,
        host=parts.hostname,
        port=port or (443 if secure else 80),
        path=parts.path or "/",
    )


class Sender:
    """Sends bodies to one place, over a connection that is kept. Not for several threads at once.

    Args:
        to: where.
        headers: sent each time.
        timeout_s: for connecting, and between two pieces of the answer.
        address: gives the address to connect to; the host's own where left out. The name in the
            certificate and in the header stays the host's.
    """

    def __init__(
        self,
        to: Place,
        headers: Mapping[str, str],
        timeout_s: float,
        address: Callable[[], str] | None = None,
    ) -> None:
        self._to = to
        self._headers = dict(headers)
        self._timeout_s = timeout_s
        self._address = address
        self._connection: http.client.HTTPConnection | None = None

    def send(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send once; an error of the network is an answer with status 0."""
        connection = self._connection or self._connect()
        self._connection = None
        try:
            connection.request("POST", self._to.path, body, {**self._headers, **headers})
            response = connection.getresponse()
            read = response.read(EVENTS_ANSWER_BYTES_MAX + 1)
            answer = Answer(response.status, read, _after(response.headers.get("retry-after")))
            if response.isclosed() and not response.will_close:
                self._connection = connection
            else:
                connection.close()
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            reason = getattr(e, "strerror", None) or str(e) or type(e).__name__
            return Answer(0, why=f"nobody answers at {self._to.host}:{self._to.port} ({reason})")
        return answer

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        to = self._to
        made: http.client.HTTPConnection
        if to.secure:
            context = ssl.create_default_context()
            made = http.client.HTTPSConnection(
                to.host, to.port, timeout=self._timeout_s, context=context
            )
        else:
            made = http.client.HTTPConnection(to.host, to.port, timeout=self._timeout_s)
        if self._address is not None:
            find = self._address

            def connect(_: Any, timeout: Any = None, source_address: Any = None) -> socket.socket:
                return socket.create_connection((find(), to.port), timeout, source_address)

            made._create_connection = connect  # type: ignore[attr-defined] # noqa: SLF001 - its seam
        return made


def pause_s(tries: int, answer: Answer, draw: random.Random) -> float:
    """Say how long to wait before the next try: what the answer says, or twice as long each time.

    Args:
        tries: that have failed, from 1.
        answer: to the last one.
        draw: spreads senders that failed together.

    Example:
        >>> 0.125 <= pause_s(1, Answer(0), random.Random(1)) <= 0.25
        True
        >>> pause_s(9, Answer(503, retry_after_s=2.0), random.Random(1))
        2.0
    """
    if answer.retry_after_s is not None:
        return min(answer.retry_after_s, EVENTS_CLIENT_BACKOFF_S_MAX)
    longest: float = min(EVENTS_CLIENT_BACKOFF_S_MAX, _FIRST_PAUSE_S * 2 ** min(tries - 1, 16))
    return longest * (0.5 + draw.random() / 2)


def _after(header: str | None) -> float | None:
    if header is None or not header.strip().isdigit():
        return None
    return float(min(int(header.strip()[:9]), 86_400))
