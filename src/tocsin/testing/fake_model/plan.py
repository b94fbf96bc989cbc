"""From a reply and a request to what is written: frames, faults between them, one write each."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from tocsin.testing.fake_model import chat, messages, responses
from tocsin.testing.fake_model.replies import Fault, Frame, Reply, Wanted
from tocsin.testing.fake_model.wire import chunk, head

FORMS: dict[str, ModuleType] = {
    "/chat/completions": chat,
    "/responses": responses,
    "/messages": messages,
}
"""How a path ends, and what answers there."""


_CHOICES_MAX = 128
_TOP_LOGPROBS_MAX = 20
"""As many as OpenAI gives."""


class Write(NamedTuple):
    """One write: its bytes, those of the body among them, and whether a frame begins or ends here.

    `paced` if a frame begins here that carries a piece of text.
    """

    data: bytes
    payload: bytes
    begins: bool
    ends: bool
    paced: bool


class Plan(NamedTuple):
    """A whole answer: its head, then writes with the faults between them."""

    head: bytes
    steps: list[Write | Fault]
    chunked: bool


def wanted(path: str, body: Any) -> Wanted:
    """Read what a request asks for, whatever its body holds."""
    body = body if isinstance(body, dict) else {}
    options = body.get("stream_options")
    include = body.get("include")
    tops = body.get("top_logprobs")
    count = body.get("n")
    return Wanted(
        model=str(body.get("model", "")),
        stream=body.get("stream") is True,
        choices=_between(1, count, _CHOICES_MAX) if path.endswith("/chat/completions") else 1,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        logprobs=body.get("logprobs") is True
        or (isinstance(include, list) and "message.output_text.logprobs" in include),
        top_logprobs=_between(0, tops, _TOP_LOGPROBS_MAX),
    )


def _between(low: int, value: Any, high: int) -> int:
    return max(low, min(value, high)) if isinstance(value, int) else low


def planned(path: str, reply: Reply, asked: Wanted) -> Plan:
    """Make the plan of an answer."""
    module = next((form for end, form in FORMS.items() if path.endswith(end)), None)
    if reply.logprobs is not None:
        asked = asked._replace(logprobs=reply.logprobs)
    frames: list[Frame]
    status = reply.status
    if reply.raw is not None:
        frames = [Frame(data, paced=True) for data in reply.raw]
    elif module is None:
        status = 404
        frames = [Frame(_encoded({"error": {"message": "no such path"}}))]
    elif reply.status != 200:
        asked = asked._replace(stream=False)
        frames = [Frame(_encoded(module.error(reply.status)))]
    elif asked.stream:
        frames = list(_framed(module.events(reply, asked), reply.newline))
    else:
        frames = [Frame(_encoded(module.body(reply, asked)), paced=True)]
    headers = {"Content-Type": "text/event-stream" if asked.stream else "application/json"}
    if reply.gzip:
        headers["Content-Encoding"] = "gzip"
        frames = _compressed(frames)
    chunked = asked.stream or not reply.sized
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = str(sum(len(frame.data) for frame in frames))
    wrap: Callable[[bytes], bytes] = chunk if chunked else bytes
    steps = list(_steps(frames, reply, wrap))
    return Plan(head(status, headers | dict(reply.headers)), steps, chunked)


def _encoded(payload: Any) -> bytes:
    try:
        return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair: only an escape can say that
        return json.dumps(payload, separators=(",", ":")).encode()


def _framed(events: Iterator[tuple[str, Any, bool]], newline: str) -> Iterator[Frame]:
    end = newline.encode()
    for name, payload, paced in events:
        data = payload.encode() if isinstance(payload, str) else _encoded(payload)
        event = b"event: " + name.encode() + end if name else b""
        yield Frame(event + b"data: " + data + end + end, paced)


def _compressed(frames: list[Frame]) -> list[Frame]:
    """Compress so that each frame can be read as soon as it has come."""
    packer = zlib.compressobj(wbits=31)
    made = [
        Frame(packer.compress(frame.data) + packer.flush(zlib.Z_SYNC_FLUSH), frame.paced)
        for frame in frames
    ]
    return [*made, Frame(packer.flush())]


def _steps(
    frames: list[Frame], reply: Reply, wrap: Callable[[bytes], bytes]
) -> Iterator[Write | Fault]:
    """Put the faults between the frames, and cut frames into writes."""
    waiting = [fault for fault in reply.faults if not fault.early]
    sent = 0
    for number, frame in enumerate(frames):
        rest, begins = frame.data, True
        while True:
            for fault in [f for f in waiting if number == f.after_frames or sent == f.after_bytes]:
                waiting.remove(fault)
                yield fault
            if not rest:
                break
            stops = [f.after_bytes - sent for f in waiting if f.after_bytes is not None]
            size = min([len(rest), *(stop for stop in stops if stop > 0)])
            if reply.write_bytes:
                size = min(size, reply.write_bytes)
            ends = size == len(rest)
            payload = rest[:size]
            yield Write(wrap(payload), payload, begins, ends, frame.paced and begins)
            rest, begins, sent = rest[size:], False, sent + size
    yield from waiting
