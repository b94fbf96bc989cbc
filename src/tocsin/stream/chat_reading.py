"""OpenAI chat completions, read: chunks and bodies to events.

What servers that speak this API do differently is read too, where it is clear what they mean: tool
calls in one piece or without an index, a name or an id that is repeated, `reasoning` beside
`reasoning_content`, an empty finish reason for none, no ``[DONE]`` after every choice has stopped.
A tool call is `Sealed` when its choice stops: only then can no fragment follow. Where the choice
stopped for want of room, its last call is not whole, and is never sealed; where it was filtered,
none is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tocsin.limits import CHANNELS_MAX, HELD_CHARS_MAX, IDENTIFIER_CHARS_MAX
from tocsin.model import Channel, ChannelKind
from tocsin.stream.chat_form import (
    REASONS,
    SERVICE_TIERS,
    Call,
    Chunk,
    ChunkChoice,
    Logprobs,
    Said,
    Scored,
    code_of,
    decode_chunk,
    tokens_of,
    usage_of,
)
from tocsin.stream.chat_template import Template, template_of
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
from tocsin.stream.shapes import count, identifier
from tocsin.stream.sse import SseReader
from tocsin.stream.utf16 import Surrogates, decode_json


class _Unreadable(Exception):  # noqa: N818 - the name says what is the case
    """The response cannot be read on; becomes `Broken`."""

    def __init__(self, reason: BrokenReason, detail: str) -> None:
        super().__init__(detail)
        self.event = Broken(reason=reason, detail=detail)


Tools = frozenset[str] | None
"""The names that may be called; any of the right shape where None."""


def _is_offered(name: str, tools: Tools) -> bool:
    return bool(identifier(name)) if tools is None else name in tools


# ------------------------------------------------------------------------------------ one choice


class _Text:
    """One channel, with the half of a character that waits for the other."""

    __slots__ = ("_halves", "channel")

    def __init__(self, kind: ChannelKind, choice: int, index: int = 0) -> None:
        self.channel = Channel(kind, choice, index)
        self._halves = Surrogates()

    def read(self, text: str, scored: list[Scored] | None, out: list[Event]) -> None:
        """Take text of the channel, with its log-probabilities where the server gives them."""
        text = self._halves.join(text)
        if text:
            tokens = tokens_of(scored, text) if scored else ()
            out.append(Wrote(channel=self.channel, text=text, tokens=tokens))

    def close(self, out: list[Event]) -> None:
        """Say that no more comes."""
        if rest := self._halves.rest():
            out.append(Wrote(channel=self.channel, text=rest))


class _ToolCall:
    """One tool call. It begins when its name is known, which is when its arguments begin."""

    __slots__ = ("_text", "began", "id", "name")

    def __init__(self, choice: int, index: int) -> None:
        self._text = _Text("tool_arguments", choice, index)
        self.began = False
        self.id = ""
        self.name = ""

    def read(self, call: Call, tools: Tools, out: list[Event]) -> None:
        """Take a fragment."""
        name = (call.function.name if call.function is not None else None) or ""
        arguments = (call.function.arguments if call.function is not None else None) or ""
        if not self.began:
            # Some servers repeat the id and the name in each fragment, others cut them.
            if isinstance(call.id, str) and call.id != self.id:
                self.id = (self.id + call.id)[: IDENTIFIER_CHARS_MAX + 1]
            if name != self.name or (tools is not None and self.name + name in tools):
                self.name = (self.name + name)[: IDENTIFIER_CHARS_MAX + 1]
        elif name not in {"", self.name}:
            raise _Unreadable("garbage", "a tool call changed its name")
        if arguments:
            self.begin(tools, out)
            self._text.read(arguments, None, out)

    def begin(self, tools: Tools, out: list[Event]) -> None:
        """Say that it begins, once."""
        if self.began:
            return
        if not _is_offered(self.name, tools):
            raise _Unreadable("garbage", "a tool was called that was not offered")
        self.began = True
        fields = {"name": self.name}
        if identifier(self.id):
            fields["id"] = self.id
        out.append(Began(channel=self._text.channel, fields=fields))

    def close(self, tools: Tools, out: list[Event], *, whole: bool) -> None:
        """Say that no more comes."""
        self.begin(tools, out)
        self._text.close(out)
        if whole:
            out.append(Sealed(channel=self._text.channel))


class _ChoiceReader:
    """What one choice has said so far, as much as reading on needs."""

    __slots__ = ("_by_index", "_calls", "_reasoning", "_reasons", "_refusal", "stopped", "text")

    def __init__(self, choice: int) -> None:
        self.text = _Text("text", choice)
        self._refusal = _Text("refusal", choice)
        self._reasoning = _Text("reasoning", choice)
        self._reasons = False
        self._calls: list[_ToolCall] = []
        self._by_index: dict[int, _ToolCall] = {}
        self.stopped = False

    @property
    def calls(self) -> int:
        """How many tool calls it made."""
        return len(self._calls)

    def read(self, said: Said, logprobs: Logprobs | None, out: list[Event]) -> None:
        """Take its text; tool calls are read by `call`."""
        if said.function_call:
            raise _Unreadable("garbage", "a function was called that was not offered")
        if said.reasoning_content or said.reasoning:
            self._reason(said, out)
        if said.content:
            self.text.read(said.content, None if logprobs is None else logprobs.content, out)
        if said.refusal:
            self._refusal.read(said.refusal, None if logprobs is None else logprobs.refusal, out)

    def _reason(self, said: Said, out: list[Event]) -> None:
        # Servers that write both write the same text twice.
        name = "reasoning_content" if said.reasoning_content else "reasoning"
        text = getattr(said, name)
        if not isinstance(text, str):
            return
        if not self._reasons:
            self._reasons = True
            out.append(Began(channel=self._reasoning.channel, fields={"as": name}))
        self._reasoning.read(text, None, out)

    def call(self, call: Call, tools: Tools, *, whole: bool) -> _ToolCall:
        """Find the tool call that a fragment belongs to; in a whole body, each is one."""
        if not whole:
            last = self._calls[-1] if self._calls else None
            known = last if call.index is None else self._by_index.get(call.index)
            if known is not None and not _is_another(known, call, tools):
                return known
        made = _ToolCall(self.text.channel.choice, len(self._calls))
        self._calls.append(made)
        if call.index is not None:
            self._by_index[call.index] = made
        return made

    def stop(self, reason: str, tools: Tools, out: list[Event]) -> None:
        """End it."""
        self._reasoning.close(out)
        if self._reasons:
            out.append(Sealed(channel=self._reasoning.channel))
        self.text.close(out)
        self._refusal.close(out)
        for call in self._calls:
            cut = reason == "content_filter" or (reason == "length" and call is self._calls[-1])
            call.close(tools, out, whole=not cut)
        self.stopped = True
        choice = self.text.channel.choice
        out.append(Stopped(choice=choice, fields={"finish_reason": reason}))


def _is_another(known: _ToolCall, call: Call, tools: Tools) -> bool:
    """Say whether a fragment begins another call, where its index does not say so.

    Some servers give whole calls without an index, or all of them with index 0.
    """
    name = call.function.name if call.function is not None else None
    if not name:
        return False
    if known.began:
        return call.id != known.id if call.id else call.index is None
    if tools is None or not call.id or call.id == known.id:
        return False
    return known.name in tools and known.name + name not in tools


# -------------------------------------------------------------------------------------- responses


class Reader:
    """Chunks to events; fed by the decoder of a stream, or once with a whole body."""

    __slots__ = ("_arguments", "_asked", "_calls", "_choices", "_opened", "_usage", "_whole")

    def __init__(self, asked: Asked, *, whole: bool) -> None:
        self._asked = asked
        self._whole = whole
        self._opened = False
        self._choices: dict[int, _ChoiceReader] = {}
        self._calls = self._arguments = 0
        self._usage: Mapping[str, Any] | None = None

    def read(self, chunk: Chunk, out: list[Event]) -> None:
        """Take one chunk."""
        if chunk.error or chunk.object == "error":
            raise _Unreadable("error", code_of(chunk.error))
        if not self._opened:
            self._open(chunk, out)
        for choice in chunk.choices or ():
            self._choice(choice, out)
        if isinstance(chunk.usage, dict):
            self._usage = usage_of(chunk.usage)

    def text(self, choice: int, text: str, out: list[Event]) -> bool:
        """Take a chunk of which only the text is new; False where it has to be read in full."""
        reader = self._choices.get(choice)
        if reader is None or reader.stopped:
            return False
        if text:
            reader.text.read(text, None, out)
        return True

    def end(self, out: list[Event]) -> None:
        """Say that nothing more comes. Every choice must have stopped."""
        stopped = sum(choice.stopped for choice in self._choices.values())
        # Each one up to the last that was seen; a server may give fewer than were asked for.
        if stopped != max(self._choices, default=0) + 1:
            raise _Unreadable("cut_off", "the response ended before every choice had stopped")
        if self._usage is not None:
            out.append(Spent(fields=self._usage))
        out.append(Done())

    def _open(self, chunk: Chunk, out: list[Event]) -> None:
        if not chunk.choices and not chunk.id:
            return  # a prelude without an identity
        self._opened = True
        fields: dict[str, Any] = {}
        for name in ("id", "model", "system_fingerprint"):
            if value := identifier(getattr(chunk, name)):
                fields[name] = value
        if (created := count(chunk.created)) is not None:
            fields["created"] = created
        if isinstance(chunk.service_tier, str) and chunk.service_tier in SERVICE_TIERS:
            fields["service_tier"] = chunk.service_tier
        out.append(Opened(fields=fields))

    def _choice(self, choice: ChunkChoice, out: list[Event]) -> None:
        reader = self._choices.get(choice.index)
        if reader is None:
            if not 0 <= choice.index < self._asked.choices:
                raise _Unreadable("garbage", "a choice that was not asked for")
            reader = self._choices[choice.index] = _ChoiceReader(choice.index)
        said = choice.message if self._whole else choice.delta
        if said is not None:
            more: list[Event] = [] if reader.stopped else out
            reader.read(said, choice.logprobs, more)
            for call in said.tool_calls or ():
                self._call(reader, call, more)
            if reader.stopped and (more or said.tool_calls):
                raise _Unreadable("garbage", "a choice went on after it had stopped")
        reason = choice.finish_reason
        if self._whole:
            reason = reason or "stop"
        if reason and not reader.stopped:
            known = isinstance(reason, str) and reason in REASONS
            reader.stop(reason if known else "stop", self._asked.tools, out)

    def _call(self, reader: _ChoiceReader, call: Call, out: list[Event]) -> None:
        before = reader.calls
        tool_call = reader.call(call, self._asked.tools, whole=self._whole)
        self._calls += reader.calls - before
        if self._calls > CHANNELS_MAX:
            raise _Unreadable("too_long", "too many tool calls")
        if call.function is not None:
            self._arguments += len(call.function.arguments or "")
        if self._arguments > HELD_CHARS_MAX:  # all of them wait until the end, whatever the policy
            raise _Unreadable("too_long", "the arguments of tool calls are too long")
        tool_call.read(call, self._asked.tools, out)


_TRIES = 8
"""Chunks that are looked at for what they have in common, while no other is like them."""


class ChatDecoder:
    """Reads one streamed response; see `tocsin.stream.codec.Decoder`."""

    __slots__ = ("_over", "_reader", "_sse", "_template", "_tries")

    def __init__(self, asked: Asked) -> None:
        self._sse = SseReader()
        self._reader = Reader(asked, whole=False)
        self._over = False
        self._template: Template | None = None
        self._tries = _TRIES

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes of the body, cut anywhere."""
        if self._over:
            return []
        out: list[Event] = []
        template = self._template
        if template is not None and self._sse.idle:
            text = template.text(data)
            if text is not None and self._reader.text(template.choice, text, out):
                return out
        one = self._sse.one(data)
        if one is not None and not one[0]:
            self._event("", one[1], out)
            if self._tries and len(out) == 1 and type(out[0]) is Wrote:
                self._learn(one[1])
            return out
        for name, payload in self._sse.feed(data):
            self._event(name, payload, out)
        if self._sse.failed and not self._over:
            self._break("too_long", "a line or an event beyond the limit", out)
        return out

    def _learn(self, payload: bytes) -> None:
        """Expect that the next chunks are like this one; not forever where they never are."""
        self._tries = _TRIES if self._template is not None and self._template.used else self._tries
        self._tries -= 1
        self._template = template_of(payload)

    def take(self, payload: Mapping[str, Any]) -> list[Event]:
        """Take one chunk that is decoded already, as an SDK gives it."""
        out: list[Event] = []
        if self._over:
            return out
        try:
            self._reader.read(msgspec.convert(dict(payload), Chunk), out)
        except _Unreadable as unreadable:
            self._over = True
            out.append(unreadable.event)
        except (ValueError, RecursionError):
            self._break("garbage", "a chunk of another shape", out)
        return out

    def close(self) -> list[Event]:
        """Say that the upstream ended: `Done` where every choice has stopped."""
        out: list[Event] = []
        if not self._over:
            for name, payload in self._sse.close():
                self._event(name, payload, out, last=True)
        if not self._over:
            self._end(out)
        return out

    def _event(self, name: str, payload: bytes, out: list[Event], *, last: bool = False) -> None:
        if self._over or not payload:
            return
        try:
            chunk = decode_chunk(payload)
        except (ValueError, RecursionError):
            if payload.startswith(b"[DONE]"):
                self._end(out)
                return
            try:
                chunk = decode_json(payload, Chunk)
            except msgspec.DecodeError:
                if not last:  # at the very end it is half an event: what was said before counts
                    self._break("garbage", "an event of another shape", out)
                return
        try:
            if name == "error":
                raise _Unreadable("error", code_of(chunk.error))  # noqa: TRY301 - one way out
            self._reader.read(chunk, out)
        except _Unreadable as unreadable:
            self._over = True
            out.append(unreadable.event)

    def _end(self, out: list[Event]) -> None:
        self._over = True
        try:
            self._reader.end(out)
        except _Unreadable as unreadable:
            out.append(unreadable.event)

    def _break(self, reason: BrokenReason, detail: str, out: list[Event]) -> None:
        self._over = True
        out.append(Broken(reason=reason, detail=detail))


def read_body(asked: Asked, raw: bytes) -> list[Event]:
    """Read a whole response; it ends with `Done` or `Broken`."""
    reader = Reader(asked, whole=True)
    out: list[Event] = []
    try:
        reader.read(decode_json(raw, Chunk), out)
        reader.end(out)
    except _Unreadable as unreadable:
        out.append(unreadable.event)
    except msgspec.DecodeError:
        out.append(Broken(reason="garbage", detail="a body of another shape"))
    return out


def error_code(raw: bytes) -> str:
    """Give the code, or else the type, in an error body; empty where none is an identifier."""
    try:
        return code_of(decode_json(raw, Chunk).error)
    except msgspec.DecodeError:
        return ""
