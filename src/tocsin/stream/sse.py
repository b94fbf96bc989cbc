"""Server-sent events: bytes to (name, data) and back, however the bytes are cut.

Reading follows the HTML standard, with two differences. An event that the end of the stream cuts
off is given by `SseReader.close`, since some servers leave out the last blank line. And there is a
limit: an event or a line beyond `SSE_EVENT_BYTES_MAX` ends the reading, as a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from tocsin.limits import SSE_EVENT_BYTES_MAX, SSE_NAME_BYTES_MAX
from tocsin.stream.codec import Frame

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")
_ENDS = (b"\r", b"\n")

_json = msgspec.json.Encoder().encode


class SseReader:
    r"""Reads events from bytes that come cut anywhere.

    The cost is linear in the bytes. Comments, ``id`` and ``retry`` are read over, and so is an
    event without a ``data`` line.

    Attributes:
        failed: why nothing more is read: ``"too_long"``; empty while all is well.

    Example:
        >>> reader = SseReader()
        >>> reader.feed(b"event: ping\ndata: 1\n\nda")
        [('ping', b'1')]
        >>> reader.feed(b"ta: 2\r\ndata: 3\r\n\r\n")
        [('', b'2\n3')]
    """

    __slots__ = ("_after_cr", "_data", "_first", "_idle", "_name", "_tail", "failed")

    def __init__(self) -> None:
        self.failed = ""
        self._first = True  # no line was read: a byte order mark may come
        self._after_cr = False  # a line feed that comes next belongs to the line before
        self._tail = bytearray()  # the line that is open
        self._name = ""
        self._data: bytearray | None = None  # None: no data line yet
        self._idle = False  # between events, with nothing held

    @property
    def idle(self) -> bool:
        """Whether it is between two events."""
        return self._idle

    def one(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take bytes that are one whole event with one line of data.

        Returns:
            Its name as it came, and its data; None where that is not what came: then nothing was
            taken.
        """
        return _one_event(data) if self._idle else None

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Take bytes; give the events that are whole by now, as (name, data)."""
        if self._idle and (event := _one_event(data)):
            return [(event[0].decode("utf-8", "replace"), event[1])]
        if self.failed or not data:
            return []
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
            if not data:
                return []
        found: list[tuple[str, bytes]] = []
        lines = data.splitlines(keepends=True)
        rest = b"" if lines[-1].endswith(_ENDS) else lines.pop()
        for line in lines:
            if not self._line(line.rstrip(b"\r\n"), found):
                return found
        self._after_cr = data.endswith(b"\r")
        self._tail += rest
        if len(self._tail) > SSE_EVENT_BYTES_MAX:
            self._fail()
            return found
        self._idle = not (
            self._tail or self._name or self._after_cr or self._data is not None or self._first
        )
        return found

    def close(self) -> list[tuple[str, bytes]]:
        """Say that no more bytes come; give the event that was open, which may be cut short."""
        if self.failed:
            return []
        found: list[tuple[str, bytes]] = []
        if not self._tail or self._line(b"", found):
            self._line(b"", found)
        return found

    def _line(self, line: bytes, found: list[tuple[str, bytes]]) -> bool:
        """Take one line without its end; say whether to read on."""
        if self._tail:
            self._tail += line
            line = bytes(self._tail)
            self._tail.clear()
        if len(line) > SSE_EVENT_BYTES_MAX:
            return self._fail()
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(found)
            return True
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            return self._add(value)
        if name == b"event":
            if len(value) > SSE_NAME_BYTES_MAX:
                return self._fail()
            self._name = value.decode("utf-8", "replace")
        return True

    def _add(self, value: bytes) -> bool:
        if self._data is None:
            self._data = bytearray(value)
            return True
        if len(self._data) + len(value) >= SSE_EVENT_BYTES_MAX:
            return self._fail()
        self._data += b"\n"
        self._data += value
        return True

    def _dispatch(self, found: list[tuple[str, bytes]]) -> None:
        if self._data is not None:
            found.append((self._name, bytes(self._data)))
            self._data = None
        self._name = ""

    def _fail(self) -> Literal[False]:
        self.failed = "too_long"
        self._idle = False
        self._tail = bytearray()
        self._data = None
        return False


def _one_event(data: bytes) -> tuple[bytes, bytes] | None:
    """Read the usual chunk: one whole event with one line of data."""
    lines = data.split(b"\n", 4)
    name = b""
    if len(lines) == 4:
        line, value, blank, rest = lines
        if line[:7] != b"event: " or len(line) > SSE_NAME_BYTES_MAX:
            return None
        name = line[7:]
    elif len(lines) == 3:
        value, blank, rest = lines
    else:
        return None
    if blank or rest or value[:6] != b"data: ":
        return None
    if data.find(b"\r") >= 0 or len(data) > SSE_EVENT_BYTES_MAX:
        return None
    return name, value[6:]


def encode(frames: Iterable[Frame]) -> bytes:
    r"""Write frames as they go over the wire.

    A line end in the data begins another ``data`` line, so that no text can begin a field or an
    event of its own; in a name it is left out.

    Example:
        >>> encode([Frame({"a": "b\n\ndata: c"}), Frame("x\ny", event="ping\n")])
        b'data: {"a":"b\\n\\ndata: c"}\n\nevent: ping\ndata: x\ndata: y\n\n'
    """
    out: list[bytes] = []
    for frame in frames:
        data = frame.data
        # A string goes out as it is; what stands for no character becomes a question mark.
        raw = data.encode("utf-8", "replace") if isinstance(data, str) else _json(data)
        if b"\n" in raw or b"\r" in raw:
            raw = _LINE_END.sub(b"\ndata: ", raw)
        if frame.event:
            name = frame.event.replace("\r", "").replace("\n", "")
            out.append(b"event: %b\ndata: %b\n\n" % (name.encode("utf-8", "replace"), raw))
        else:
            out.append(b"data: %b\n\n" % raw)
    return b"".join(out)


def comment(text: str) -> bytes:
    r"""Write a comment, which readers skip: a keep-alive, or a note for people.

    Example:
        >>> comment("still\nthere")
        b': still\n: there\n\n'
    """
    return b": %b\n\n" % _LINE_END.sub(b"\n: ", text.encode("utf-8", "replace"))
