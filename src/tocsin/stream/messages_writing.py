"""Anthropic messages, written: events to frames and bodies.

Blocks are numbered anew, in the order in which they are written. A block of text is opened by its
first character that was released, so none stands there empty. A tool call is written in one go,
once it is sealed and where its arguments are a JSON object; masks may have made them none, and the
call is then left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from tocsin.model import Channel
from tocsin.stream.codec import Frame, Made
from tocsin.stream.events import (
    Asked,
    Began,
    Blocked,
    Broken,
    Done,
    Event,
    Opened,
    Sealed,
    Spent,
    Stopped,
    Wrote,
)
from tocsin.stream.messages_reading import digest
from tocsin.stream.messages_shapes import NEUTRAL, arguments

_UPDATED = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "server_tool_use",
    "output_tokens_details",
)
"""What of a usage the end of a stream repeats; the rest stands at its beginning."""

_UNSPENT = {
    "cache_creation": None,
    "cache_creation_input_tokens": None,
    "cache_read_input_tokens": None,
    "inference_geo": None,
    "input_tokens": 0,
    "output_tokens": 0,
    "output_tokens_details": None,
    "server_tool_use": None,
    "service_tier": None,
}
"""A usage of which nothing is known: the API has each of these in every message."""

_SHOWN = {"text": "text", "refusal": "text", "reasoning": "thinking"}
"""The block that shows a channel. The API has none for refusals: they are text."""


class _Call(msgspec.Struct):
    """A tool call that is being gathered."""

    id: str
    name: str
    parts: list[str]


class MessagesEncoder:
    """Writes one streamed response.

    Args:
        asked: the request.
        made: who made the response, where the upstream does not say.

    Example:
        >>> asked = Asked(api="messages", model="m")
        >>> encoder = MessagesEncoder(asked, Made(id="msg_1", created_s=0))
        >>> [frame.event for frame in encoder.encode(Blocked(text="No."))]
        ['message_start', 'content_block_start', 'content_block_delta', 'content_block_stop',
         'message_delta', 'message_stop']
    """

    def __init__(self, asked: Asked, made: Made) -> None:
        self._model = asked.model
        self._id = made.id
        self._started = self._over = False
        self._index = -1  # of the block that was opened last
        self._open = ""  # its type, while it is open
        self._digest = digest()
        self._calls: dict[Channel, _Call] = {}
        self._begun = self._written = self._withheld = 0  # tool calls
        self._stop: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}

    def encode(self, event: Event) -> list[Frame]:
        """Give the frames of an event. After `Blocked`, `Broken` or `Done` there are none."""
        if self._over:
            return []
        if type(event) is Wrote:
            if self._open == "text" and event.channel.kind == "text" and event.text:
                return [self._delta({"type": "text_delta", "text": event.text})]
            return self._wrote(event)
        frames: list[Frame] = []
        self._writers[type(event)](self, event, frames)
        return frames

    # --------------------------------------------------------------------------------- events

    def _opened(self, event: Opened, frames: list[Frame]) -> None:
        if self._started:
            return
        self._id = event.fields.get("id", self._id)
        self._model = event.fields.get("model", self._model)
        self._usage = dict(event.fields.get("usage", {}))
        self._start(frames)

    def _began(self, event: Began, frames: list[Frame]) -> None:
        if event.channel.kind == "tool_arguments":
            number, self._begun = self._begun, self._begun + 1
            self._calls[event.channel] = _Call(
                event.fields.get("id", f"toolu_{self._id}_{number}"), event.fields["name"], []
            )
        else:
            self._close(frames)
            self._digest = digest()

    def _wrote(self, event: Wrote) -> list[Frame]:
        frames: list[Frame] = []
        if not event.text:
            return frames
        if (call := self._calls.get(event.channel)) is not None:
            call.parts.append(event.text)
        elif (kind := _SHOWN.get(event.channel.kind)) is not None:
            self._show(kind, frames)
            if kind == "text":
                frames.append(self._delta({"type": "text_delta", "text": event.text}))
            else:
                self._digest.update(event.text.encode())
                frames.append(self._delta({"type": "thinking_delta", "thinking": event.text}))
        return frames

    def _sealed(self, event: Sealed, frames: list[Frame]) -> None:
        if event.channel.kind == "tool_arguments":
            if (call := self._calls.pop(event.channel, None)) is not None:
                self._call(call, frames)
            return
        signature = event.fields.get("signature")
        # With a block that is not as it was signed, the API would refuse the next request.
        if signature and event.fields.get("digest") == self._digest.hexdigest():
            self._show("thinking", frames)
            frames.append(self._delta({"type": "signature_delta", "signature": signature}))
        self._close(frames)

    def _stopped(self, event: Stopped, _frames: list[Frame]) -> None:
        self._stop = dict(event.fields)

    def _spent(self, event: Spent, _frames: list[Frame]) -> None:
        self._usage |= event.fields

    def _done(self, _event: Done, frames: list[Frame]) -> None:
        reason = self._stop.get("stop_reason", NEUTRAL)
        if reason == "tool_use" and self._withheld and not self._written:
            self._stop = {"stop_reason": "refusal"}  # there is no call to wait for
        self._end(frames)

    def _blocked(self, event: Blocked, frames: list[Frame]) -> None:
        if event.text:
            self._show("text", frames)
            frames.append(self._delta({"type": "text_delta", "text": event.text}))
        self._stop = {"stop_reason": "refusal"}
        self._end(frames)

    def _broken(self, event: Broken, frames: list[Frame]) -> None:
        """Say it as the API does: clients raise this as an error."""
        self._over = True
        error = {"type": "api_error", "message": f"The upstream's response broke: {event.reason}."}
        frames.append(Frame({"type": "error", "error": error}, "error"))

    _writers: ClassVar[dict[type, Callable[[MessagesEncoder, Any, list[Frame]], None]]] = {
        Opened: _opened,
        Began: _began,
        Sealed: _sealed,
        Stopped: _stopped,
        Spent: _spent,
        Done: _done,
        Blocked: _blocked,
        Broken: _broken,
    }

    # --------------------------------------------------------------------------------- frames

    def _start(self, frames: list[Frame]) -> None:
        if self._started:
            return
        self._started = True
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            "usage": {**_UNSPENT, **self._usage},
        }
        frames.append(Frame({"type": "message_start", "message": message}, "message_start"))

    def _show(self, kind: str, frames: list[Frame]) -> None:
        """See that a block of that type is open."""
        if self._open == kind:
            return
        empty = {"type": "text", "text": "", "citations": None}
        if kind == "thinking":
            empty = {"type": "thinking", "thinking": "", "signature": ""}
        self._begin(kind, empty, frames)

    def _begin(self, kind: str, block: dict[str, Any], frames: list[Frame]) -> None:
        self._start(frames)
        self._close(frames)
        self._index += 1
        self._open = kind
        data = {"type": "content_block_start", "index": self._index, "content_block": block}
        frames.append(Frame(data, "content_block_start"))

    def _delta(self, delta: dict[str, Any]) -> Frame:
        data = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return Frame(data, "content_block_delta")

    def _close(self, frames: list[Frame]) -> None:
        if self._open:
            self._open = ""
            data = {"type": "content_block_stop", "index": self._index}
            frames.append(Frame(data, "content_block_stop"))

    def _call(self, call: _Call, frames: list[Frame]) -> None:
        text = "".join(call.parts) or "{}"
        if arguments(text) is None:
            self._withheld += 1
            return
        self._written += 1
        block = {
            "type": "tool_use",
            "id": call.id,
            "name": call.name,
            "input": {},
            "caller": {"type": "direct"},
        }
        self._begin("tool_use", block, frames)
        frames.append(self._delta({"type": "input_json_delta", "partial_json": text}))
        self._close(frames)

    def _end(self, frames: list[Frame]) -> None:
        self._over = True
        self._start(frames)
        self._close(frames)
        delta: dict[str, Any] = {
            "stop_reason": self._stop.get("stop_reason", NEUTRAL),
            "stop_sequence": self._stop.get("stop_sequence"),
        }
        if category := self._stop.get("category"):
            delta["stop_details"] = {"type": "refusal", "category": category, "explanation": None}
        spent = {name: self._usage[name] for name in _UPDATED if name in self._usage}
        data = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 0, **spent}}
        frames.append(Frame(data, "message_delta"))
        frames.append(Frame({"type": "message_stop"}, "message_stop"))


class MessagesBody:
    """Writes one whole response: what a client makes of the frames of the stream.

    Args:
        asked, made: as for `MessagesEncoder`.

    Example:
        >>> body = MessagesBody(Asked(api="messages", model="m"), Made(id="msg_1", created_s=0))
        >>> body.take(Wrote(channel=Channel(), text="Hello"))
        >>> body.take(Done())
        >>> body.result()["content"]
        [{'type': 'text', 'text': 'Hello', 'citations': None}]
    """

    _ADDED: ClassVar = {
        "text_delta": "text",
        "thinking_delta": "thinking",
        "signature_delta": "signature",
        "input_json_delta": "partial_json",
    }

    def __init__(self, asked: Asked, made: Made) -> None:
        self._encoder = MessagesEncoder(asked, made)
        self._usage: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        self._block: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}

    def take(self, event: Event) -> None:
        """Take an event, as `MessagesEncoder.encode` does."""
        if type(event) is Spent:
            self._usage = dict(event.fields)
        for frame in self._encoder.encode(event):
            self._add(frame.data)

    def result(self) -> dict[str, Any]:
        """Give the body. One whose end was not taken ends here, as a refusal."""
        self.take(Blocked())
        return self._message

    def _add(self, data: dict[str, Any]) -> None:
        kind = data["type"]
        if kind == "content_block_delta":
            name = self._ADDED[data["delta"]["type"]]
            self._texts.setdefault(name, []).append(data["delta"][name])
        elif kind == "message_start":
            self._message = {**data["message"], "content": []}
        elif kind == "content_block_start":
            self._block, self._texts = data["content_block"], {}
        elif kind == "content_block_stop":
            self._message["content"].append(self._whole_block())
        elif kind == "message_delta":
            self._message |= data["delta"]
            self._message["usage"] = {**self._message["usage"], **self._usage, **data["usage"]}
        elif kind == "error":
            self._message = data

    def _whole_block(self) -> dict[str, Any]:
        texts = {name: "".join(parts) for name, parts in self._texts.items()}
        if self._block["type"] == "tool_use":
            return {**self._block, "input": arguments(texts["partial_json"])}
        return {**self._block, **texts}
