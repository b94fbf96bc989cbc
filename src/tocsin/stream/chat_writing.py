"""OpenAI chat completions, written: events to chunks, or to a body.

Every choice is announced in the order of its index, because the official client files what it gets
by position. A tool call is written when its choice stops, and only if it was sealed: in a response
that is blocked no tool call is seen at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tocsin.model import Channel, Token
from tocsin.stream.chat_errors import error
from tocsin.stream.chat_form import USAGE
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

_DONE = Frame("[DONE]")
_FIELD_OF = {"text": "content", "refusal": "refusal"}
_REASONING = "reasoning_content"
_ASSISTANT = {"role": "assistant"}
_NOTHING_SPENT: Mapping[str, Any] = dict.fromkeys(USAGE, 0)


class _ToolCalls:
    """The tool calls of one choice, held until it stops."""

    __slots__ = ("_calls", "_choice", "_made")

    def __init__(self, choice: int, made: Made) -> None:
        self._choice = choice
        self._made = made
        self._calls: dict[int, tuple[Mapping[str, Any], list[str], list[bool]]] = {}

    def take(self, event: Began | Wrote | Sealed) -> None:
        """Take an event of one of them; text of a call that never began is no call."""
        index = event.channel.index
        if isinstance(event, Began):
            self._calls[index] = (event.fields, [], [])
        elif index in self._calls:
            _, text, sealed = self._calls[index]
            if isinstance(event, Sealed):
                sealed.append(True)
            else:
                text.append(event.text)

    def whole(self) -> list[dict[str, Any]]:
        """Give those that are sealed, in the order in which the generator made them."""
        return [
            {
                "id": fields.get("id") or self._id(n),
                "type": "function",
                "function": {"name": fields["name"], "arguments": "".join(text)},
            }
            for n, (fields, text, sealed) in sorted(self._calls.items())
            if sealed and "name" in fields
        ]

    def _id(self, n: int) -> str:
        return f"call_{self._made.id.removeprefix('chatcmpl-')}_{self._choice}_{n}"


def _logprobs(tokens: Iterable[Token]) -> list[dict[str, Any]]:
    """Write tokens without their alternatives, whose texts nobody watched."""
    return [
        {
            "token": t.text,
            "logprob": t.logprob,
            "bytes": list(t.text.encode("utf-8", "replace")),
            "top_logprobs": [],
        }
        for t in tokens
    ]


def _head(kind: str, asked: Asked, made: Made, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give what each chunk begins with."""
    head = {
        "id": fields.get("id") or made.id,
        "object": kind,
        "created": fields.get("created", made.created_s),
        "model": fields.get("model") or asked.model,
    }
    for name in ("service_tier", "system_fingerprint"):
        if name in fields:
            head[name] = fields[name]
    return head


class ChatEncoder:
    """Writes one streamed response; see `tocsin.stream.codec.Encoder`."""

    __slots__ = (
        "_announced",
        "_asked",
        "_calls",
        "_head",
        "_made",
        "_over",
        "_reasoning",
        "_stopped",
        "_usage",
    )

    def __init__(self, asked: Asked, made: Made) -> None:
        self._asked = asked
        self._made = made
        self._head = self._begin({})
        self._announced = 0  # choices 0, 1, ... that the client knows of
        self._stopped: set[int] = set()
        self._calls: dict[int, _ToolCalls] = {}
        self._reasoning: dict[int, str] = {}
        self._usage: Mapping[str, Any] | None = None
        self._over = False

    def encode(self, event: Event) -> list[Frame]:
        """Give the frames of an event; none after the last."""
        if self._over:
            return []
        match event:
            case Wrote() if event.channel.kind != "tool_arguments":
                return self._wrote(event)
            case Wrote() | Began() | Sealed():
                self._block(event)
            case Opened():
                if not self._announced:  # one response has one name, from its first chunk on
                    self._head = self._begin(event.fields)
            case Stopped():
                return self._stop(event.choice, event.fields.get("finish_reason") or "stop")
            case Spent():
                self._usage = event.fields
            case _:
                return self._last(event)
        return []

    def _begin(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        head = _head("chat.completion.chunk", self._asked, self._made, fields)
        if self._asked.include_usage:
            head["usage"] = None
        return head

    def _wrote(self, event: Wrote) -> list[Frame]:
        channel = event.channel
        if channel.choice in self._stopped or not event.text:
            return []
        name = _FIELD_OF.get(channel.kind)
        if name is None:
            if channel.kind != "reasoning":
                return []
            name = self._reasoning.get(channel.choice, _REASONING)
        logprobs = None
        if event.tokens and channel.kind != "reasoning":
            logprobs = {name: _logprobs(event.tokens)}
        return self._delta(channel.choice, {name: event.text}, logprobs=logprobs)

    def _block(self, event: Began | Wrote | Sealed) -> None:
        channel = event.channel
        if channel.kind == "tool_arguments":
            calls = self._calls.setdefault(channel.choice, _ToolCalls(channel.choice, self._made))
            calls.take(event)
        elif isinstance(event, Began) and channel.kind == "reasoning":
            self._reasoning[channel.choice] = event.fields.get("as", _REASONING)

    def _delta(
        self,
        choice: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> list[Frame]:
        """Give the frame of a delta, and before it those of the choices that come before."""
        frames: list[Frame] = []
        while self._announced <= choice:
            if self._announced == choice:
                delta = _ASSISTANT | delta
            else:
                frames.append(self._frame(self._announced, dict(_ASSISTANT), None, None))
            self._announced += 1
        frames.append(self._frame(choice, delta, logprobs, reason))
        return frames

    def _frame(
        self,
        choice: int,
        delta: Mapping[str, Any],
        logprobs: dict[str, Any] | None,
        reason: str | None,
    ) -> Frame:
        entry = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return Frame(self._head | {"choices": [entry]})

    def _stop(self, choice: int, reason: str) -> list[Frame]:
        if choice in self._stopped:
            return []
        frames: list[Frame] = []
        if choice in self._calls and reason != "content_filter":
            for n, call in enumerate(self._calls[choice].whole()):
                frames += self._delta(choice, {"tool_calls": [{"index": n, **call}]})
        frames += self._delta(choice, {}, reason=reason)
        self._stopped.add(choice)
        return frames

    def _block_all(self, text: str) -> list[Frame]:
        frames: list[Frame] = []
        self._calls.clear()
        for choice in range(max(self._asked.choices, self._announced)):
            if choice not in self._stopped:
                if text:
                    frames += self._delta(choice, {"content": text})
                frames += self._stop(choice, "content_filter")
        return frames

    def _last(self, event: Done | Blocked | Broken) -> list[Frame]:
        self._over = True
        if isinstance(event, Broken):
            return [Frame(error("upstream", f"The response broke off: {event.reason}."))]
        frames: list[Frame] = []
        usage = self._usage
        if isinstance(event, Blocked):
            frames = self._block_all(event.text)
            usage = usage or _NOTHING_SPENT
        if self._asked.include_usage and usage is not None:
            frames.append(Frame(self._head | {"choices": [], "usage": usage}))
        return [*frames, _DONE]


class _Answer:
    """One choice of a body, as it grows."""

    __slots__ = ("calls", "reason", "reasoning", "text", "tokens")

    def __init__(self, choice: int, made: Made) -> None:
        self.text: dict[str, list[str]] = {"text": [], "refusal": [], "reasoning": []}
        self.tokens: dict[str, list[Token]] = {"text": [], "refusal": []}
        self.reasoning = _REASONING
        self.calls = _ToolCalls(choice, made)
        self.reason: str | None = None

    def take(self, event: Began | Wrote | Sealed) -> None:
        """Take an event of one of its channels."""
        kind = event.channel.kind
        if self.reason is not None:
            return
        if kind == "tool_arguments":
            self.calls.take(event)
        elif isinstance(event, Wrote) and kind in self.text:
            self.text[kind].append(event.text)
            if kind in self.tokens:
                self.tokens[kind] += event.tokens
        elif isinstance(event, Began) and kind == "reasoning":
            self.reasoning = event.fields.get("as", _REASONING)

    def result(self, index: int) -> dict[str, Any]:
        """Give it; one that never stopped ends as a filtered one, without tool calls."""
        joined = {kind: "".join(parts) for kind, parts in self.text.items()}
        calls = self.calls.whole() if self.reason not in {None, "content_filter"} else []
        empty = None if calls or joined["refusal"] else ""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": joined["text"] or empty,
            "refusal": joined["refusal"] or None,
        }
        if joined["reasoning"]:
            message[self.reasoning] = joined["reasoning"]
        if calls:
            message["tool_calls"] = calls
        logprobs = {
            _FIELD_OF[kind]: _logprobs(tokens) for kind, tokens in self.tokens.items() if tokens
        }
        return {
            "index": index,
            "message": message,
            "logprobs": logprobs or None,
            "finish_reason": self.reason or "content_filter",
        }


class ChatBody:
    """Writes one whole response; see `tocsin.stream.codec.Body`."""

    __slots__ = ("_answers", "_asked", "_head", "_made", "_over", "_usage")

    def __init__(self, asked: Asked, made: Made) -> None:
        self._asked = asked
        self._made = made
        self._head = self._begin({})
        self._answers: dict[int, _Answer] = {}
        self._usage: Mapping[str, Any] | None = None
        self._over = False

    def take(self, event: Event) -> None:
        """Take an event; the ones after the last change nothing."""
        if self._over:
            return
        match event:
            case Wrote() | Began() | Sealed():
                self._answer(event.channel.choice).take(event)
            case Opened():
                self._head = self._begin(event.fields)
            case Stopped():
                answer = self._answer(event.choice)
                answer.reason = answer.reason or event.fields.get("finish_reason") or "stop"
            case Spent():
                self._usage = event.fields
            case Blocked():
                self._block(event.text)
            case Done() | Broken():
                self._over = True

    def result(self) -> dict[str, Any]:
        """Give the body."""
        body = {**self._head, "choices": [a.result(i) for i, a in sorted(self._answers.items())]}
        if self._usage is not None:
            body["usage"] = self._usage
        return body

    def _begin(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return _head("chat.completion", self._asked, self._made, fields)

    def _answer(self, choice: int) -> _Answer:
        if choice not in self._answers:
            self._answers[choice] = _Answer(choice, self._made)
        return self._answers[choice]

    def _block(self, text: str) -> None:
        self._over = True
        for choice in range(self._asked.choices):
            answer = self._answer(choice)
            if answer.reason is None:
                answer.take(Wrote(channel=Channel("text", choice), text=text))
                answer.reason = "content_filter"
        self._usage = self._usage or _NOTHING_SPENT
