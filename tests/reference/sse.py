"""Server-sent events, slow and obvious: all of the bytes at once, by the words of the standard."""

from __future__ import annotations

import json
from typing import Any


def events(raw: bytes) -> list[tuple[str, bytes]]:
    """Give (name, data) of each event; one that the end cuts off counts as given."""
    text = raw.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found: list[tuple[str, bytes]] = []
    name, data = "", list[bytes]()
    for line in [*text.split(b"\n"), b""]:
        if not line:
            if data:
                found.append((name, b"\n".join(data)))
            name, data = "", []
        field, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if field == b"data":
            data.append(value)
        if field == b"event":
            name = value.decode("utf-8", "replace")
    return found


def payloads(raw: bytes) -> list[Any]:
    """Give the data of each event, decoded, without a closing ``[DONE]``."""
    return [json.loads(data) for _, data in events(raw) if data != b"[DONE]"]
