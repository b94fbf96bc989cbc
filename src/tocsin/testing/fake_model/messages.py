"""The fake model's answers in the form of Anthropic's messages.

A refusal has no channel of its own there: it is text, with ``refusal`` as the reason of the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tocsin.testing.fake_model.replies import Choice, Reply, Text, Wanted, pieces, usage, whole

_STOP = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
_SIGNATURE = "ZmFrZSBzaWduYXR1cmU="


def events(reply: Reply, wanted: Wanted) -> Iterator[tuple[str, Any, bool]]:
    """Give the frames of a stream: the name of the event, its payload, whether it carries text."""

    def told(name: str, **fields: Any) -> tuple[str, Any, bool]:
        paced = "delta" in fields and name == "content_block_delta"
        paced = paced and fields["delta"]["type"] != "signature_delta"
        return name, {"type": name} | fields | reply.extra, paced

    one = reply.choices[0]
    spent, made = usage(reply, wanted)
    opened = _message(reply, wanted) | {"content": [], "stop_reason": None}
    opened["usage"] = _usage(spent, 1)
    yield told("message_start", message=opened)
    for index, (block, field, delta_type, text) in enumerate(_blocks(one)):
        yield told("content_block_start", index=index, content_block=block)
        if not index:
            yield told("ping")
        for piece in pieces(text, reply.cut):
            delta = {"type": delta_type, field: piece} | reply.extra
            yield told("content_block_delta", index=index, delta=delta)
        if block["type"] == "thinking":
            delta = {"type": "signature_delta", "signature": _SIGNATURE}
            yield told("content_block_delta", index=index, delta=delta)
        yield told("content_block_stop", index=index)
    end = {"stop_reason": _stop(one), "stop_sequence": None}
    yield told("message_delta", delta=end, usage={"output_tokens": made})
    yield told("message_stop")


def body(reply: Reply, wanted: Wanted) -> dict[str, Any]:
    """Give a whole answer."""
    one = reply.choices[0]
    content = []
    for block, field, _, text in _blocks(one):
        filled: dict[str, Any] = dict(block)
        if field == "partial_json":
            filled["input"] = _decoded(whole(text))
        else:
            filled[field] = whole(text)
        if field == "thinking":
            filled["signature"] = _SIGNATURE
        content.append(filled | reply.extra)
    return _message(reply, wanted) | {"content": content, "stop_reason": _stop(one)} | reply.extra


def error(status: int) -> dict[str, Any]:
    """Give the body of an error."""
    kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
    kind = kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": f"fake error {status}"}}


def _blocks(one: Choice) -> Iterator[tuple[dict[str, Any], str, str, Text]]:
    """Give each block as it begins, the field that its text goes to, the type of its deltas."""
    if one.reasoning:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        yield block, "thinking", "thinking_delta", one.reasoning
    for text in (one.text, one.refusal):
        if text:
            yield {"type": "text", "text": "", "citations": None}, "text", "text_delta", text
    for number, call in enumerate(one.calls):
        call_block: dict[str, Any] = {
            "type": "tool_use",
            "id": call.id or f"toolu_{number}",
            "name": call.name,
            "input": {},
            "caller": {"type": "direct"},
        }
        yield call_block, "partial_json", "input_json_delta", call.arguments


def _message(reply: Reply, wanted: Wanted) -> dict[str, Any]:
    spent, made = usage(reply, wanted)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": wanted.model,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": _usage(spent, made),
    }


def _usage(spent: int, made: int) -> dict[str, Any]:
    return {
        "cache_creation": None,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "inference_geo": None,
        "input_tokens": spent,
        "output_tokens": made,
        "output_tokens_details": None,
        "server_tool_use": None,
        "service_tier": "standard",
    }


def _stop(one: Choice) -> str:
    if one.finish is not None:
        return _STOP.get(one.finish, one.finish)
    return "tool_use" if one.calls else "refusal" if one.refusal else "end_turn"


def _decoded(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return {}
