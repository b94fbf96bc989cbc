"""Which requests are refused for their shape, before anything is done about them.

A request that two programs read differently lets one client write another one's request. So what is
unusual is refused rather than interpreted. The parser refuses most of it: both framings at once,
folded or repeated fields of framing, bare line feeds, control characters. What it accepts, and why
each of these is refused here, is the list of `Flaw`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage

Flaw = Literal[
    "line",
    "version",
    "method",
    "target",
    "host",
    "length",
    "transfer_encoding",
    "both_framings",
    "lookalike",
    "body_of_get",
    "body_of_1_0",
    "expect",
    "upgrade",
]
"""A closed list. line: spaces or blank lines that the grammar does not have. version: neither 1.1
nor 1.0, or another protocol that looks like it. method: one that no API here has. target: not a
plain path, so one meant for a proxy. host: missing, repeated or no host. length, transfer_encoding,
both_framings: two readers may see different ends of the body. lookalike: such a field written with
underscores, which some servers take for the real one. body_of_get: many servers leave it unread,
and take it for the next request. body_of_1_0: such a connection may end anywhere, and the end of
an answer could not be told from a cut. expect: any but ``100-continue`` before the body of a POST.
upgrade: another protocol."""

METHODS = frozenset({"GET", "HEAD", "POST"})

LINE = re.compile(rb"[A-Z]+ [!-~]+ HTTP/1\.[01]\r\n")
"""A request line to the letter: the parser takes several spaces for one, and blank lines before."""

_TARGET = re.compile(r"/[!-\"$-~]*")
_HOST = re.compile(rb"(?:[A-Za-z0-9_.~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_ONCE: Mapping[bytes, Flaw] = {
    b"host": "host",
    b"content-length": "length",
    b"transfer-encoding": "transfer_encoding",
}


def flaw(message: RawRequestMessage) -> Flaw | None:
    """Say what is wrong with a request's head; None where nothing is."""
    return _line(message) or _fields(message)


def _line(message: RawRequestMessage) -> Flaw | None:
    if message.version not in (HttpVersion10, HttpVersion11):
        return "version"
    if message.method not in METHODS:
        return "method"
    return None if _TARGET.fullmatch(message.path) else "target"


def _fields(message: RawRequestMessage) -> Flaw | None:
    seen: dict[bytes, bytes] = {}
    for name, value in message.raw_headers:
        lower = name.lower()
        if lower in seen and lower in _ONCE:
            return _ONCE[lower]
        if lower in seen and lower == b"expect":
            return "expect"
        if b"_" in lower and lower.replace(b"_", b"-") in _ONCE:
            return "lookalike"
        seen[lower] = value
    if b"expect" in seen and not _continues(message, seen):
        return "expect"
    if b"upgrade" in seen or message.upgrade:
        return "upgrade"
    return _host(message, seen) or _framing(seen) or _body(message, seen)


def _continues(message: RawRequestMessage, seen: Mapping[bytes, bytes]) -> bool:
    """Whether a client waits for a word of ours before it sends a body, as curl does."""
    return (
        message.method == "POST"
        and message.version == HttpVersion11
        and (b"content-length" in seen or b"transfer-encoding" in seen)
        and seen[b"expect"].lower() == b"100-continue"
    )


def _host(message: RawRequestMessage, seen: Mapping[bytes, bytes]) -> Flaw | None:
    host = seen.get(b"host")
    if host is None:
        return None if message.version == HttpVersion10 else "host"
    return None if _HOST.fullmatch(host) else "host"


def _framing(seen: Mapping[bytes, bytes]) -> Flaw | None:
    length, encoding = seen.get(b"content-length"), seen.get(b"transfer-encoding")
    if length is not None and encoding is not None:
        return "both_framings"
    if length is not None and _LENGTH.fullmatch(length) is None:
        return "length"
    return None if encoding is None or encoding.lower() == b"chunked" else "transfer_encoding"


def _body(message: RawRequestMessage, seen: Mapping[bytes, bytes]) -> Flaw | None:
    posts = message.method == "POST"
    if not posts and (b"transfer-encoding" in seen or seen.get(b"content-length", b"0") != b"0"):
        return "body_of_get"
    return "body_of_1_0" if posts and message.version == HttpVersion10 else None
