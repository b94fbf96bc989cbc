"""OpenAI chat completions, the form: what is read of a chunk or a body, and nothing else.

A field that is not named here is not forwarded. `Any` stands where a value of another shape is left
out; elsewhere it makes the whole chunk unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tocsin.limits import TOP_TOKENS_MAX
from tocsin.model import Token
from tocsin.stream.shapes import count, identifier

REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
"""The finish reasons of the API. Another one is read as ``"stop"``."""

USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
USAGE_DETAILS: Mapping[str, tuple[str, ...]] = {
    "prompt_tokens_details": (
        "audio_tokens",
        "cache_write_tokens",
        "cached_tokens",
        "image_tokens",
        "text_tokens",
    ),
    "completion_tokens_details": (
        "accepted_prediction_tokens",
        "audio_tokens",
        "reasoning_tokens",
        "rejected_prediction_tokens",
        "text_tokens",
    ),
}
SERVICE_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})


# ------------------------------------------------------------------ what is read of a chunk, a body


class Function(msgspec.Struct):
    """The name and the arguments of a tool call, or a fragment of them."""

    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct):
    """A tool call, or a fragment of one."""

    index: int | None = None
    id: Any = None
    function: Function | None = None


class Said(msgspec.Struct):
    """A `delta`, or a `message`."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: list[Call] | None = None
    function_call: Any = None


class Alternative(msgspec.Struct):
    """A token that was not chosen: its number, not its text."""

    logprob: float | None = None


class Scored(msgspec.Struct):
    """A token that was chosen."""

    token: str
    logprob: float | None = None
    top_logprobs: list[Alternative] | None = None


class Logprobs(msgspec.Struct):
    """The tokens behind `content` and `refusal`."""

    content: list[Scored] | None = None
    refusal: list[Scored] | None = None


class ChunkChoice(msgspec.Struct):
    """A choice, or what is new of it."""

    index: int = 0
    delta: Said | None = None
    message: Said | None = None
    logprobs: Logprobs | None = None
    finish_reason: Any = None


class Chunk(msgspec.Struct):
    """A chunk of a stream, or a whole body."""

    id: Any = None
    model: Any = None
    created: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    choices: list[ChunkChoice] | None = None
    usage: Any = None
    error: Any = None
    object: Any = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
"""For the usual chunk; the others need `tocsin.stream.utf16.decode_json`."""


def tokens_of(scored: list[Scored], text: str) -> tuple[Token, ...]:
    """Give the tokens where they say what the text says, else none: they are no way around it."""
    if "".join([s.token for s in scored]) != text:
        return ()
    tokens: list[Token] = []
    for s in scored:
        if s.logprob is None:
            return ()
        top = [t.logprob for t in (s.top_logprobs or ())[:TOP_TOKENS_MAX] if t.logprob is not None]
        if s.token:
            tokens.append(Token(s.token, min(s.logprob, 0.0), tuple([min(t, 0.0) for t in top])))
    return tuple(tokens)


def usage_of(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the numbers of a `usage` object; 0 where one is missing that clients rely on."""
    fields: dict[str, Any] = {name: count(given.get(name)) or 0 for name in USAGE}
    for name, parts in USAGE_DETAILS.items():
        details = given.get(name)
        if isinstance(details, dict):
            fields[name] = {
                part: n for part in parts if (n := count(details.get(part))) is not None
            }
    return fields


def code_of(error: Any) -> str:
    """Give the code, or else the type, of an error object, where it is an identifier."""
    if not isinstance(error, dict):
        return ""
    for name in ("code", "type"):
        value = error.get(name)
        text = identifier(value if isinstance(value, str) else str(count(value) or ""))
        if text:
            return text
    return ""
