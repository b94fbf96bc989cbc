"""The fake model's answers in the form of OpenAI's responses."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from tocsin.testing.fake_model.chat import error
from tocsin.testing.fake_model.replies import (
    Choice,
    Reply,
    Text,
    Wanted,
    pieces,
    token_logprob,
    usage,
    whole,
)

__all__ = ["body", "error", "events"]

_CREATED_S = 1_700_000_000
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

_EMPTY: dict[str, dict[str, Any]] = {
    "reasoning": {"summary": [], "content": []},
    "message": {"status": "in_progress", "content": []},
    "function_call": {"status": "in_progress", "arguments": ""},
}
"""What an item has as it begins."""

_REPEATED: dict[str, Any] = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}
"""What a response repeats of a request that asked for nothing in particular."""

_Told = tuple[str, dict[str, Any], bool]


def events(reply: Reply, wanted: Wanted) -> Iterator[tuple[str, Any, bool]]:
    """Give the frames of a stream: the name of the event, its payload, whether it carries text."""
    for number, (name, fields, paced) in enumerate(_events(reply, wanted)):
        yield name, {"type": name} | fields | {"sequence_number": number} | reply.extra, paced


def _events(reply: Reply, wanted: Wanted) -> Iterator[_Told]:
    one = reply.choices[0]
    opened = _response(reply, wanted, "in_progress", [])
    yield "response.created", {"response": opened}, False
    yield "response.in_progress", {"response": opened}, False
    done = _items(one, reply, wanted)
    for index, item in enumerate(done):
        at = {"output_index": index}
        empty = copy.deepcopy(_EMPTY[item["type"]])
        yield "response.output_item.added", at | {"item": item | empty}, False
        at["item_id"] = item["id"]
        if item["type"] == "reasoning":
            yield from _reasoning(one.reasoning, at, reply)
        elif item["type"] == "message":
            yield from _message(one, at, reply, wanted)
        else:
            text = one.calls[index - len(done)].arguments
            yield from _written("response.function_call_arguments", "arguments", text, at, reply)
        del at["item_id"]
        yield "response.output_item.done", at | {"item": item}, False
    name = "incomplete" if one.finish in _INCOMPLETE else "completed"
    yield f"response.{name}", {"response": _response(reply, wanted, name, done)}, False


def _written(
    name: str, field: str, text: Text, at: dict[str, Any], reply: Reply
) -> Iterator[_Told]:
    for piece in pieces(text, reply.cut):
        yield f"{name}.delta", at | {"delta": piece}, True
    yield f"{name}.done", at | {field: whole(text)}, False


def _reasoning(text: Text, at: dict[str, Any], reply: Reply) -> Iterator[_Told]:
    if reply.reasoning_as == "text":
        at = at | {"content_index": 0}
        kind, name = "reasoning_text", "response.content_part"
        written = "response.reasoning_text"
    else:
        at = at | {"summary_index": 0}
        kind, name = "summary_text", "response.reasoning_summary_part"
        written = "response.reasoning_summary_text"
    yield f"{name}.added", at | {"part": {"type": kind, "text": ""}}, False
    yield from _written(written, "text", text, at, reply)
    yield f"{name}.done", at | {"part": {"type": kind, "text": whole(text)}}, False


def _message(one: Choice, at: dict[str, Any], reply: Reply, wanted: Wanted) -> Iterator[_Told]:
    for number, part in enumerate(_parts(one, reply, wanted)):
        here = at | {"content_index": number}
        empty: dict[str, Any]
        if part["type"] == "refusal":
            empty = {"refusal": ""}
            yield "response.content_part.added", here | {"part": part | empty}, False
            yield from _written("response.refusal", "refusal", one.refusal, here, reply)
        else:
            empty = {"text": "", "logprobs": []}
            yield "response.content_part.added", here | {"part": part | empty}, False
            for piece in pieces(one.text, reply.cut):
                logprobs = [token_logprob(piece, reply, wanted)] if wanted.logprobs else []
                fields = here | {"delta": piece, "logprobs": logprobs}
                yield "response.output_text.delta", fields, True
            fields = here | {"text": part["text"], "logprobs": part["logprobs"]}
            yield "response.output_text.done", fields, False
        yield "response.content_part.done", here | {"part": part}, False


def body(reply: Reply, wanted: Wanted) -> dict[str, Any]:
    """Give a whole answer."""
    one = reply.choices[0]
    name = "incomplete" if one.finish in _INCOMPLETE else "completed"
    return _response(reply, wanted, name, _items(one, reply, wanted)) | reply.extra


def _response(
    reply: Reply, wanted: Wanted, status: str, output: list[dict[str, Any]]
) -> dict[str, Any]:
    incomplete = None
    if status == "incomplete":
        incomplete = {"reason": _INCOMPLETE[str(reply.choices[0].finish)]}
    spent, made = usage(reply, wanted)
    told = {
        "input_tokens": spent,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spent + made,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": _CREATED_S,
        "status": status,
        "error": None,
        "incomplete_details": incomplete,
        "completed_at": _CREATED_S + 1 if status == "completed" else None,
        "model": wanted.model,
        "output": output,
        "usage": None if status == "in_progress" else told,
        **copy.deepcopy(_REPEATED),  # whoever gets it may change it
    }


def _items(one: Choice, reply: Reply, wanted: Wanted) -> list[dict[str, Any]]:
    """Give the items of a whole answer."""
    items: list[dict[str, Any]] = []
    if one.reasoning:
        reasoning = whole(one.reasoning)
        item: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": []}
        if reply.reasoning_as == "text":
            item |= {"content": [{"type": "reasoning_text", "text": reasoning}]}
        else:
            item["summary"] = [{"type": "summary_text", "text": reasoning}]
        items.append(item)
    if one.text or one.refusal or not one.calls:
        items.append(
            {
                "id": "msg_1",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [part | reply.extra for part in _parts(one, reply, wanted)],
            }
        )
    items.extend(
        {
            "id": f"fc_{number}",
            "type": "function_call",
            "status": "completed",
            "arguments": whole(call.arguments),
            "call_id": call.id or f"call_{number}",
            "name": call.name,
        }
        for number, call in enumerate(one.calls)
    )
    return items


def _parts(one: Choice, reply: Reply, wanted: Wanted) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if one.text or not one.refusal:
        tokens = pieces(one.text, reply.cut) if wanted.logprobs else ()
        parts.append(
            {
                "type": "output_text",
                "annotations": [],
                "logprobs": [token_logprob(piece, reply, wanted) for piece in tokens],
                "text": whole(one.text),
            }
        )
    if one.refusal:
        parts.append({"type": "refusal", "refusal": whole(one.refusal)})
    return parts
