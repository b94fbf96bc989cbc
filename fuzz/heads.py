"""Requests on the wire: what is let in is read in the same way by another parser.

Where the gateway takes a request, h11 (strict, and of other people) takes it too, with the same
method, target and fields, and finds the same body. No bytes raise but what aiohttp answers with
400.
"""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import h11
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError

from fuzz.dice import Dice, cut
from tocsin.gateway.strict import LINE, flaw
from tocsin.limits import (
    CLIENT_FIELD_BYTES_MAX,
    CLIENT_FIELDS_MAX,
    CLIENT_LINE_BYTES_MAX,
    CLIENT_READ_BYTES,
)

_LINES = (
    b"POST /v1/messages HTTP/1.1", b"GET / HTTP/1.1", b"POST /a?b=%2f HTTP/1.0", b"HEAD * HTTP/1.1",
    b"GET http://h.example/ HTTP/1.1", b"POST  / HTTP/1.1", b"post / HTTP/1.1", b"POST / HTTP/1.2",
    b"GET /livez HTTP/1.0", b"PRI * HTTP/2.0", b"CONNECT h.example:443 HTTP/1.1",
    b"POST //a HTTP/1.1",
)  # fmt: skip
_FIELDS = (
    b"Host: h.example", b"Host: h.example:80", b"Host: [::1]:8080", b"Host:", b"host: a b",
    b"Host : a",
    b"Content-Length: 5", b"Content-Length: 05", b"Content-Length: +5", b"Content-Length: 5, 5",
    b"Content-Length: 0", b"content-length: 5 ", b"Content_Length: 5", b"Content-Length : 5",
    b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: xchunked", b"Transfer_Encoding: chunked",
    b"Transfer-Encoding\x0b: chunked", b"Transfer-Encoding: \x0bchunked", b"Connection: close",
    b"Connection: upgrade", b"Upgrade: h2c", b"Expect: 100-continue", b"Authorization: Bearer x",
    b" folded", b"\tfolded", b"X: \xff", b"X: a\x00b", b"X: a\rb", b"X:", b":", b"X", b"",
    b"Content-Type: application/json", b"Connection: keep-alive, close", b"TE: trailers",
)  # fmt: skip
_BODIES = (
    b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n",
    b"05\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n",
    b"FFFFFFFFFFFFFFFFF\r\nhello", b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"",
    b"5;a=\nb\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n",
    b"2\r\n{}\r\n",
)  # fmt: skip

Read = tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes | None]
"""Method, target, fields, and the body: None where it is broken or not whole."""


def one(data: bytes) -> None:
    """Check one input."""
    dice = Dice(data)
    sizes = [1 + dice.below(256) for _ in range(2)]
    raw = dice.rest() if dice.flag() else _request(dice)
    theirs = _read_by_h11(raw)
    for pieces in ([raw], cut(raw, sizes)):
        # Taken in pieces and not at once is what comes with the next request in the same breath.
        ours = _read(pieces)
        if ours is not None:
            assert theirs is not None
            assert ours[:3] == theirs[:3]
            assert None in (ours[3], theirs[3]) or ours[3] == theirs[3]


def _request(dice: Dice) -> bytes:
    end = dice.one((b"\r\n", b"\r\n", b"\r\n", b"\n"))
    lines = [dice.one((_LINES[0], _LINES[1], dice.one(_LINES)))]
    lines += [_FIELDS[0]] if dice.below(4) else []
    lines += [dice.one(_FIELDS) for _ in dice.some(4)]
    head = b"".join(line + end for line in (*lines, b""))
    fits = _BODIES[1] if b"hunked" in head else _BODIES[0] if b"Length" in head else b""
    how = dice.below(8)
    return head + (fits if how < 5 else dice.one(_BODIES) if how < 7 else dice.rest())


_LOOP = Mock(asyncio.AbstractEventLoop)  # none that runs: nothing is waited for


def _read(pieces: list[bytes]) -> Read | None:
    """Read the first request as the gateway does; None where it is not taken."""
    parser = HttpRequestParser(
        BaseProtocol(_LOOP),
        _LOOP,
        CLIENT_READ_BYTES,
        max_line_size=CLIENT_LINE_BYTES_MAX,
        max_field_size=CLIENT_FIELD_BYTES_MAX,
        max_headers=CLIENT_FIELDS_MAX,
        payload_exception=web.RequestPayloadError,
        auto_decompress=False,
    )
    raw = b"".join(pieces)
    if b"\n" in raw[:CLIENT_LINE_BYTES_MAX] and LINE.match(raw) is None:
        return None
    found: list[tuple[RawRequestMessage, Any]] = []
    for piece in pieces:
        try:
            found += parser.feed_data(piece)[0]
        except HttpProcessingError:
            break
        if found and found[0][1].is_eof():
            break
    if not found or flaw(found[0][0]) is not None:
        return None
    message, payload = found[0]
    whole = payload.is_eof() and payload.exception() is None
    body = payload.read_nowait(-1) if whole else None
    fields = [
        (lower, value.lower() if lower == b"transfer-encoding" else value)  # as h11 does
        for name, value in message.raw_headers
        for lower in [name.lower()]
    ]
    return message.method.encode(), message.path.encode(), fields, body


def _read_by_h11(raw: bytes) -> Read | None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(raw)
    head: Any = None
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None if head is None else (*head, None)
        if isinstance(event, h11.Request):
            head = event.method, event.target, list(event.headers)
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return (*head, body)
        else:
            return None if head is None else (*head, None)
