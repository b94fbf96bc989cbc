"""Requests of odd shapes, made from a seed, and what two other parsers make of them.

The shapes are those by which requests have been smuggled: two framings, framings that only some
parsers see, line ends and spaces that only some accept, targets and versions of other protocols.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from random import Random

import h11
import httptools

CANARY = b"GET /canary HTTP/1.1\r\nHost: a.example\r\n\r\n"
"""Sent behind each request: who finds its end elsewhere reads this as something else."""


@dataclass(frozen=True)
class Meaning:
    """What a parser takes a request for."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True)
class Read:
    """What a parser made of some bytes: the first request, and the target of the second."""

    first: Meaning
    then: bytes | None


def field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Give a field as it is compared: the case of names and of codings means nothing."""
    name = name.lower()
    return name, value.lower() if name == b"transfer-encoding" else value


METHODS = (
    b"POST", b"POST", b"POST", b"GET", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"post", b"PRI",
    b"SOURCE", b"BREW", b"P\x00ST", b"",
)  # fmt: skip
TARGETS = (
    b"/", b"/v1/chat/completions", b"/v1/messages?a=b", b"*", b"http://a.example/", b"a.example:80",
    b"/a#b", b"/a b", b"/\xff", b"/a\tb", b"//a", b"/%00", b"", b"/a\\b", b"/\x7f",
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2",
    b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/11", b"RTSP/1.0", b"ICE/1.0", b"",
)  # fmt: skip
SPACES = (b" ",) * 12 + (b"  ", b"\t", b" \t", b"\x0b", b"")
ENDS = (b"\r\n",) * 40 + (b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\r\n ", b"\x00\r\n", b"")
COLONS = (b": ",) * 20 + (b":", b" : ", b" :", b":\t", b":  ", b";", b":\r\n ", b":\x0b", b"")
LENGTHS = (
    b"2", b"2", b"2", b"0", b"4", b"+2", b"-2", b"02", b"2, 2", b"2,2", b"2 2", b"0x2", b"2.0", b"",
    b"2\x00", b"\x0b2", b"9999999999999999999999", b"2;", b"\xb2", b"1_0",
)  # fmt: skip
CODINGS = (
    b"chunked", b"chunked", b"chunked", b"Chunked", b"CHUNKED", b"gzip, chunked", b"chunked, gzip",
    b"chunked, chunked", b"identity", b"xchunked", b"chunked;q=1", b" chunked", b"chunked ",
    b"\tchunked", b"\x0bchunked", b"chunked,", b",chunked", b'"chunked"', b"", b"ch\x00unked",
    b"chunk\xeb",
)  # fmt: skip
HOSTS = (b"a.example",) * 8 + (
    b"",
    b"a b",
    b"a/b",
    b"a@b",
    b"a:80",
    b"a:x",
    b"[::1]",
    b"a\x00b",
    b"\xe9",
)
FIELDS = (
    (b"X-One", b"1"), (b"X-Two", b""), (b"Accept", b"*/*"), (b"Connection", b"close"),
    (b"Connection", b"keep-alive"), (b"Connection", b"upgrade"), (b"Upgrade", b"h2c"),
    (b"Upgrade", b"websocket"), (b"Expect", b"100-continue"), (b"Content_Length", b"4"),
    (b"Transfer_Encoding", b"chunked"), (b"Connection", b"transfer-encoding"), (b"TE", b"trailers"),
    (b"Trailer", b"X"), (b"X\x01", b"1"), (b"X Y", b"1"), (b"X", b"a\x00b"), (b"X", b"a\rb"),
    (b"X", b"a\r\n b"), (b"X", b"a\nContent-Length: 4"), (b"", b"x"), (b"X\xff", b"1"),
    (b"X", b"\xff"), (b"Content-Encoding", b"gzip"), (b"X", b"\x7f"), (b"Sec-WebSocket-Key1", b"x"),
)  # fmt: skip
SIZES = (
    b"2", b"2", b"2", b"2", b"02", b"2;a=b", b"2;a", b"2 ", b" 2", b"0x2", b"+2", b"-2", b"2\t",
    b"2;\n",    b"2;a\rb", b"G", b"", b"10000000000000002", b'2;a="b\r\nc"',
)  # fmt: skip
TAILS = (b"0\r\n\r\n",) * 12 + (
    b"0\r\nX: y\r\n\r\n", b"0\r\nContent-Length: 4\r\n\r\n", b"0\n\n", b"0\r\n\n", b"0\r\n\r\r\n",
    b"0;a\r\n\r\n",    b"00\r\n\r\n", b"0\r\n X: y\r\n\r\n", b"", b"0\r\nX\r\n\r\n",
)  # fmt: skip


def request(seed: int) -> bytes:
    """Make one request; about a third of them are of a usual shape in all but one place."""
    random = Random(seed)
    odd = random.choice((0.0, 0.05, 0.2, 0.5))

    def pick(choices: tuple[bytes, ...]) -> bytes:
        return random.choice(choices) if random.random() < odd or odd == 0.5 else choices[0]

    lines = [pick(METHODS) + pick(SPACES) + pick(TARGETS) + pick(SPACES) + pick(VERSIONS)]
    fields: list[tuple[bytes, bytes]] = [(b"Host", pick(HOSTS))]
    framing = random.choice(("length", "length", "chunked", "chunked", "both", "none", "twice"))
    body = b""
    if framing in ("length", "both", "twice"):
        name = random.choice((b"Content-Length", b"content-length", b"CONTENT-LENGTH"))
        fields.append((name, pick(LENGTHS)))
        body = b"ab"
    if framing in ("chunked", "both"):
        fields.append((b"Transfer-Encoding", pick(CODINGS)))
        body = pick(SIZES) + pick(ENDS) + b"ab" + pick(ENDS) + pick(TAILS)
    if framing == "twice":
        fields.append(random.choice(fields))
    fields += [random.choice(FIELDS) for _ in range(random.choice((0, 0, 1, 1, 2)))]
    random.shuffle(fields)
    lines += [name + pick(COLONS) + value for name, value in fields]
    raw = b"".join(line + pick(ENDS) for line in lines) + pick(ENDS) + body
    if random.random() < 0.15:
        raw = random.choice((b"\r\n", b"\n", b" ", b"\x00")) + raw
    if random.random() < 0.25 and raw:
        at = random.randrange(len(raw))
        new = random.choice((b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x00", b":", b"0", b"\x80"))
        raw = raw[:at] + new + raw[at + random.choice((0, 1)) :]
    return raw


def by_h11(raw: bytes) -> Read | None:
    """Read with h11; None where it refuses the first request, or waits for more of it."""
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(raw + CANARY)
        event = connection.next_event()
        if not isinstance(event, h11.Request):
            return None
        body = b""
        while not isinstance(got := connection.next_event(), h11.EndOfMessage):
            if not isinstance(got, h11.Data):
                return None
            body += bytes(got.data)
        first = Meaning(
            bytes(event.method),
            bytes(event.target),
            tuple(field(bytes(n), bytes(v)) for n, v in event.headers),
            body,
        )
    except h11.RemoteProtocolError:
        return None
    try:
        connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        connection.send(h11.EndOfMessage())
        connection.start_next_cycle()
        then = connection.next_event()
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return Read(first, None)
    return Read(first, bytes(then.target) if isinstance(then, h11.Request) else None)


class _Told:
    """What httptools says, request by request."""

    def __init__(self) -> None:
        self.parser: httptools.HttpRequestParser = httptools.HttpRequestParser(self)
        self.all: list[Meaning] = []
        self.targets: list[bytes] = []
        self._fields: list[tuple[bytes, bytes]] = []
        self._body = b""
        self._whole = False

    def on_message_begin(self) -> None:
        self._fields, self._body, self._whole = [], b"", False
        self.targets.append(b"")

    def on_url(self, url: bytes) -> None:
        self.targets[-1] += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._whole:
            self._fields.append(field(name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self._whole = True

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = bytes(self.parser.get_method())
        self.all.append(Meaning(method, self.targets[-1], tuple(self._fields), self._body))


def by_httptools(raw: bytes) -> Read | None:
    """Read with httptools; None where it refuses the first request, or waits for more of it."""
    told = _Told()
    with suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
        told.parser.feed_data(raw + CANARY)
    if not told.all:
        return None
    return Read(told.all[0], told.all[1].target if len(told.all) > 1 else None)
