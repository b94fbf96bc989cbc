"""Anthropic messages, read: frames and bodies to events.

All text blocks are one channel, each thinking block and each tool call is a channel of its own. The
format is held strictly: blocks follow each other, each with a start and a stop. What clients are
told to expect is read over: unknown events, unknown kinds of blocks and deltas.

Not forwarded, and counted in ``Done.fields["dropped"]``: citations (they quote), what tools did on
the server, and `redacted_thinking`. The last is opaque: nobody here can say what it holds, so
nothing of it may reach the reader. A thinking block's signature is forwarded, for the API asks to
have the block back with it; but only with a block that was released whole and unchanged, which the
digest in `Sealed` is for.

A tool call is `Sealed` where its arguments are a whole JSON object. Where the response stopped for
want of room its last call is not, and is never sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, ClassVar

import msgspec

from tocsin.limits import CHANNELS_MAX, HELD_CHARS_MAX
from tocsin.model import TEXT, Channel, ChannelKind
from tocsin.stream.events import (
    Asked,
    Began,
    Broken,
    BrokenReason,
    Done,
    Event,
    Opened,
    Sealed,
    Spent,
    Stopped,
    Wrote,
)
from tocsin.stream.messages_shapes import (
    NEUTRAL,
    arguments,
    is_signature,
    json_text,
    stop,
    usage,
)
from tocsin.stream.shapes import identifier
from tocsin.stream.sse import SseReader
from tocsin.stream.utf16 import Surrogates, decode_json, whole

_DIGEST_BYTES = 16
_FIRST = frozenset(("message_start", "error"))  # frames that may come first
_USUAL = b"content_block_delta"  # the name that nearly all events have
_UNREAD = ""  # the kind of an open block that is read over


class _Delta(msgspec.Struct):
    """Of a block, or of the message: what of either is read."""

    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: Any = None
    stop_sequence: Any = None
    stop_details: Any = None


class _Frame(msgspec.Struct):
    """What of any frame is read."""

    type: str
    index: int = 0
    delta: _Delta | None = None
    content_block: Any = None
    message: Any = None
    usage: Any = None
    error: Any = None


class _Typed(msgspec.Struct):
    type: str


class _Body(msgspec.Struct):
    """What of a whole message is read."""

    type: str = ""
    id: Any = None
    model: Any = None
    content: list[Any] = []
    stop_reason: Any = None
    stop_sequence: Any = None
    stop_details: Any = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Frame).decode
_UNREADABLE = (ValueError, RecursionError, msgspec.MsgspecError)


def digest() -> Any:
    """Begin a digest of the text of a thinking block, in UTF-8."""
    return blake2b(digest_size=_DIGEST_BYTES)


def error_code(error: Any) -> str:
    """Give the code of an error, or else its type, where it has the shape of an identifier."""
    if not isinstance(error, Mapping):
        return ""
    return identifier(error.get("code")) or identifier(error.get("type"))


class MessagesDecoder:
    r"""Reads one streamed response.

    Args:
        asked: the request: its tools and stop sequences are the only ones that are forwarded.

    Example:
        >>> decoder = MessagesDecoder(Asked(api="messages", model="m"))
        >>> decoder.feed(b'data: {"type": "message_start", "message": {"id": "msg_1"}}\n\n')
        [Opened(fields={'id': 'msg_1'})]
        >>> decoder.close()[0].reason
        'cut_off'
    """

    def __init__(self, asked: Asked) -> None:
        self._reader = SseReader()
        self._tools = asked.tools
        self._stop_sequences = _stop_sequences(asked.body)
        self._opened = self._stopped = self._over = False
        self._usage: dict[str, Any] = {}
        self._counts: dict[ChannelKind, int] = {}
        self._dropped = 0
        # The block that is open; no kind: none is.
        self._kind: str | None = None
        self._index = 0
        self._channel = TEXT
        self._halves = Surrogates()
        self._signature: str | None = None
        self._digest = digest()
        self._input: str = ""
        self._parts: list[str] = []
        self._chars = 0
        self._cut_short = False  # a tool call was not whole when its block stopped

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes of the body, cut anywhere. After `Broken` or `Done` nothing more comes."""
        out: list[Event] = []
        if self._over:
            return out
        one = self._reader.one(data)
        if one is not None:
            name, raw = one
            self._raw("" if name == _USUAL else name.decode("utf-8", "replace"), raw, out)
        else:
            self._all(self._reader.feed(data), out)
            if self._reader.failed:
                self._break(out, "too_long", "a line or an event is too long")
        return out

    def take(self, payload: Mapping[str, Any]) -> list[Event]:
        """Take one frame that is decoded already, as an SDK gives it."""
        out: list[Event] = []
        if self._over:
            return out
        try:
            frame = msgspec.convert(payload, _Frame)
        except _UNREADABLE:
            self._unreadable(payload.get("type"), out)
        else:
            self._frame(frame, out)
        return out

    def close(self) -> list[Event]:
        """Say that the upstream ended: ``Broken("cut_off")`` unless `Done` came."""
        out: list[Event] = []
        if not self._over:
            self._all(self._reader.close(), out)
        return self._break(out, "cut_off", "the stream ended before message_stop")

    def message(self, raw: bytes) -> list[Event]:
        """Take a whole response that was not streamed, instead of a stream."""
        out: list[Event] = []
        try:
            body = decode_json(raw, _Body)
        except _UNREADABLE:
            return self._break(out, "garbage", "the body is no message")
        if body.error is not None or body.type == "error":
            return self._break(out, "error", error_code(body.error))
        if body.type != "message":
            return self._break(out, "garbage", "the body is no message")
        message = {"id": body.id, "model": body.model, "usage": body.usage}
        frames = [_Frame("message_start", message=message)]
        for index, block in enumerate(body.content):
            frames.append(_Frame("content_block_start", index, content_block=block))
            frames.append(_Frame("content_block_stop", index))
        reason = _Delta(
            stop_reason=body.stop_reason,
            stop_sequence=body.stop_sequence,
            stop_details=body.stop_details,
        )
        frames.append(_Frame("message_delta", delta=reason, usage=body.usage))
        frames.append(_Frame("message_stop"))
        for frame in frames:
            if not self._over:
                self._frame(frame, out)
        return out

    # --------------------------------------------------------------------------------- frames

    def _all(self, frames: list[tuple[str, bytes]], out: list[Event]) -> None:
        for name, raw in frames:
            if not self._over:
                self._raw(name, raw, out)

    def _raw(self, name: str, raw: bytes, out: list[Event]) -> None:
        if name == "ping":
            return
        try:
            frame = _decode(raw)
        except _UNREADABLE:
            try:
                frame = decode_json(raw, _Frame)
            except _UNREADABLE:
                self._unreadable(_type_of(raw), out)
                return
        if name == "error":  # clients go by the name here
            frame.type = name
        self._frame(frame, out)

    def _frame(self, frame: _Frame, out: list[Event]) -> None:
        kind = frame.type
        if kind == "content_block_delta":
            self._block_delta(frame, out)
        elif kind not in self._HANDLERS:
            self._dropped += kind != "ping"
        elif not self._opened and kind not in _FIRST:
            self._break(out, "garbage", "no message_start came first")
        else:
            self._HANDLERS[kind](self, frame, out)

    def _unreadable(self, kind: Any, out: list[Event]) -> None:
        """Judge a frame that does not fit: an unknown kind may have any fields."""
        if not isinstance(kind, str) or kind in self._HANDLERS:
            self._break(out, "garbage", "a frame cannot be read")
        else:
            self._dropped += 1

    def _break(self, out: list[Event], reason: BrokenReason, detail: str) -> list[Event]:
        if not self._over:
            self._over = True
            out.append(Broken(reason=reason, detail=detail))
        return out

    def _error(self, frame: _Frame, out: list[Event]) -> None:
        self._break(out, "error", error_code(frame.error))

    # -------------------------------------------------------------------------------- message

    def _message_start(self, frame: _Frame, out: list[Event]) -> None:
        message = frame.message
        if self._opened or not isinstance(message, Mapping):
            self._break(out, "garbage", "message_start")
            return
        self._opened = True
        self._usage = usage(message.get("usage"))
        fields: dict[str, Any] = {
            name: found for name in ("id", "model") if (found := identifier(message.get(name)))
        }
        if self._usage:
            fields["usage"] = dict(self._usage)
        if message.get("content"):
            self._dropped += 1
        out.append(Opened(fields=fields))

    def _message_delta(self, frame: _Frame, out: list[Event]) -> None:
        if self._kind is not None:
            self._break(out, "garbage", "message_delta within a block")
            return
        delta = frame.delta
        if delta is not None and delta.stop_reason is not None and not self._stopped:
            if self._cut_short and delta.stop_reason == "tool_use":
                self._break(out, "garbage", "a tool call is no JSON object")
                return
            self._stopped = True
            out.append(Stopped(fields=stop(delta, self._stop_sequences)))
        if new := usage(frame.usage):
            self._usage |= new
            out.append(Spent(fields=dict(self._usage)))

    def _message_stop(self, _frame: _Frame, out: list[Event]) -> None:
        if self._kind is not None or (self._cut_short and not self._stopped):
            self._break(out, "garbage", "message_stop within a block")
            return
        if not self._stopped:
            out.append(Stopped(fields={"stop_reason": NEUTRAL}))
        self._over = True
        out.append(Done(fields={"dropped": self._dropped} if self._dropped else {}))

    # --------------------------------------------------------------------------------- blocks

    def _block_start(self, frame: _Frame, out: list[Event]) -> None:
        block = frame.content_block
        if self._kind is not None or self._stopped or not isinstance(block, Mapping):
            self._break(out, "garbage", "content_block_start")
            return
        if self._cut_short:
            self._break(out, "garbage", "a tool call is no JSON object")
            return
        self._index = frame.index
        kind = block.get("type")
        if kind == "text":
            self._kind, self._channel = kind, TEXT
            self._dropped += bool(block.get("citations"))
            out.append(Began(channel=TEXT))
            self._initial(block.get("text"), out)
        elif kind == "thinking":
            if self._numbered(kind, "reasoning", out):
                self._signature, self._digest = None, digest()
                out.append(Began(channel=self._channel))
                self._initial(block.get("thinking"), out)
                self._signed(block.get("signature"))
        elif kind == "tool_use":
            self._tool_start(block, out)
        else:
            self._kind = _UNREAD
            self._dropped += 1

    def _numbered(self, kind: str, name: ChannelKind, out: list[Event]) -> bool:
        """Open a block that is a channel of its own; say whether there is room."""
        number = self._counts.get(name, 0)
        if sum(self._counts.values()) + 1 >= CHANNELS_MAX:  # the text has one
            self._break(out, "too_long", "too many blocks")
            return False
        self._counts[name] = number + 1
        self._kind, self._channel = kind, Channel(name, 0, number)
        return True

    def _tool_start(self, block: Mapping[str, Any], out: list[Event]) -> None:
        name = identifier(block.get("name"))
        if not name or (self._tools is not None and name not in self._tools):
            self._break(out, "garbage", "a tool that was not offered")
            return
        given = block.get("input")
        text = json_text(given) if isinstance(given, Mapping) else None
        if given is not None and text is None:
            self._break(out, "garbage", "a tool call is no JSON object")
        elif self._numbered("tool_use", "tool_arguments", out):
            self._parts, self._chars, self._input = [], 0, text or "{}"
            fields = {"id": found} if (found := identifier(block.get("id"))) else {}
            out.append(Began(channel=self._channel, fields={**fields, "name": name}))

    def _initial(self, text: Any, out: list[Event]) -> None:
        """Take what a block holds from its start: all of it, where it was not streamed."""
        if isinstance(text, str):
            self._write(text, out)
        elif text is not None:
            self._break(out, "garbage", "content_block_start")

    def _block_delta(self, frame: _Frame, out: list[Event]) -> None:
        kind, delta = self._kind, frame.delta
        if kind is None or delta is None or frame.index != self._index:
            self._break(out, "garbage", "content_block_delta")
            return
        if kind == "text" and delta.type == "text_delta":
            text = delta.text
        elif kind == "tool_use" and delta.type == "input_json_delta":
            text = delta.partial_json
        elif kind == "thinking" and delta.type == "thinking_delta":
            text = delta.thinking
        else:
            if kind == "thinking" and delta.type == "signature_delta":
                self._signed(delta.signature)
            elif kind != _UNREAD:
                self._dropped += 1
            return
        if text:
            self._write(text, out)

    def _write(self, text: str, out: list[Event]) -> None:
        text = self._halves.join(text)
        if not text:
            return
        if self._kind == "thinking":
            self._digest.update(text.encode())
        elif self._kind == "tool_use":
            self._chars += len(text)
            if self._chars > HELD_CHARS_MAX:
                self._break(out, "too_long", "the arguments of a tool call are too long")
                return
            self._parts.append(text)
        out.append(Wrote(channel=self._channel, text=text))

    def _signed(self, signature: Any) -> None:
        """Keep a signature; the last one counts, as for the official clients."""
        if signature:
            self._signature = signature if is_signature(signature) else None
            self._dropped += self._signature is None

    def _block_stop(self, frame: _Frame, out: list[Event]) -> None:
        kind = self._kind
        if kind is None or frame.index != self._index:
            self._break(out, "garbage", "content_block_stop")
            return
        if rest := self._halves.rest():
            self._write(rest, out)
        self._kind = None
        if self._over:
            return
        if kind == "text":
            out.append(Sealed(channel=TEXT))
        elif kind == "thinking":
            fields = {}
            if self._signature is not None:
                fields = {"signature": self._signature, "digest": self._digest.hexdigest()}
            out.append(Sealed(channel=self._channel, fields=fields))
            self._signature = None
        elif kind == "tool_use":
            self._tool_stop(out)

    def _tool_stop(self, out: list[Event]) -> None:
        if not self._parts:
            self._parts.append(self._input)
            out.append(Wrote(channel=self._channel, text=self._input))
        if arguments("".join(self._parts)) is None:
            self._cut_short = True
        else:
            out.append(Sealed(channel=self._channel))
        self._parts = []

    _HANDLERS: ClassVar[dict[str, Callable[[MessagesDecoder, _Frame, list[Event]], None]]] = {
        "message_start": _message_start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
        "error": _error,
    }


def _stop_sequences(body: Mapping[str, Any]) -> frozenset[str]:
    """Give the request's own, as far as they can be written."""
    given = body.get("stop_sequences")
    listed = given if isinstance(given, (list, tuple)) else ()
    return frozenset(one for one in listed if isinstance(one, str) and whole(one) == one)


def _type_of(raw: bytes) -> str | None:
    try:
        kind: str = decode_json(raw, _Typed).type
    except _UNREADABLE:
        return None
    return kind
