"""The fake model's answers in the form of OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from tocsin.testing.fake_model.replies import (
    Choice,
    Reply,
    Wanted,
    pieces,
    said,
    token_logprob,
    usage,
    whole,
)

_CREATED_S = 1_700_000_000


def events(reply: Reply, wanted: Wanted) -> Iterator[tuple[str, Any, bool]]:
    """Give the frames of a stream: the name of the event, its payload, whether it carries text."""

    def chunk(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        made = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": _CREATED_S,
            "model": wanted.model,
            "system_fingerprint": "fp_fake",
            "choices": choices,
        }
        if wanted.include_usage:
            made["usage"] = None
        return made | more | reply.extra

    streams = [_choice(one, i, reply, wanted) for i, one in enumerate(said(reply, wanted))]
    for turn in zip_longest(*streams):
        for found in turn:
            if found is not None:
                yield "", chunk([found[0]]), found[1]
    if wanted.include_usage:
        yield "", chunk([], usage=_usage(reply, wanted)), False
    yield "", "[DONE]", False


def _choice(
    one: Choice, index: int, reply: Reply, wanted: Wanted
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Give what one choice has in its chunks."""

    def part(
        delta: dict[str, Any], logprobs: dict[str, Any] | None = None, finish: str | None = None
    ) -> dict[str, Any]:
        delta = delta | reply.extra if delta else delta
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    yield part({"role": "assistant", "content": "", "refusal": None}), False
    for piece in pieces(one.reasoning, reply.cut):
        yield part({reply.reasoning_as or "reasoning_content": piece}), True
    for name, text in (("content", one.text), ("refusal", one.refusal)):
        for piece in pieces(text, reply.cut):
            logprobs = _logprobs(name, (piece,), reply, wanted)
            yield part({name: piece}, logprobs), True
    for number, call in enumerate(one.calls):
        opened = {
            "index": number,
            "id": call.id or f"call_{index}_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        yield part({"tool_calls": [opened]}), False
        for piece in pieces(call.arguments, reply.cut):
            more = {"index": number, "function": {"arguments": piece}}
            yield part({"tool_calls": [more]}), True
    yield part({}, finish=_finish(one)), False


def body(reply: Reply, wanted: Wanted) -> dict[str, Any]:
    """Give a whole answer."""
    choices = []
    for index, one in enumerate(said(reply, wanted)):
        message: dict[str, Any] = {
            "role": "assistant",
            "content": whole(one.text) or None,
            "refusal": whole(one.refusal) or None,
        }
        if one.reasoning:
            message[reply.reasoning_as or "reasoning_content"] = whole(one.reasoning)
        if one.calls:
            message["tool_calls"] = [
                {
                    "id": call.id or f"call_{index}_{number}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": whole(call.arguments)},
                }
                for number, call in enumerate(one.calls)
            ]
        tokens = pieces(one.text, reply.cut)
        choices.append(
            {
                "index": index,
                "message": message | reply.extra,
                "logprobs": _logprobs("content", tokens, reply, wanted),
                "finish_reason": _finish(one),
            }
        )
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": _CREATED_S,
        "model": wanted.model,
        "system_fingerprint": "fp_fake",
        "choices": choices,
        "usage": _usage(reply, wanted),
        **reply.extra,
    }


def error(status: int) -> dict[str, Any]:
    """Give the body of an error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    told = {"message": f"fake error {status}", "type": kind, "param": None, "code": "fake_error"}
    return {"error": told}


def _finish(one: Choice) -> str:
    return one.finish or ("tool_calls" if one.calls else "stop")


def _usage(reply: Reply, wanted: Wanted) -> dict[str, int]:
    prompt, completion = usage(reply, wanted)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _logprobs(
    name: str, tokens: tuple[str, ...], reply: Reply, wanted: Wanted
) -> dict[str, Any] | None:
    if not wanted.logprobs:
        return None
    told = [token_logprob(piece, reply, wanted) for piece in tokens]
    return {"content": None, "refusal": None, name: told}
