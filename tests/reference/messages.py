"""The stream of a messages API, written in the plainest way, and read as a client would."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]

UNSPENT: Json = {
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
"""A usage with every field that the API's own description requires."""


def complete(blocks: list[Json]) -> list[Json]:
    """Give blocks the fields that the API's own description requires."""
    more: Json = {"text": {"citations": None}, "tool_use": {"caller": {"type": "direct"}}}
    return [{**more.get(block["type"], {}), **block} for block in blocks]


def frames(
    blocks: list[Json],
    *,
    cut: int = 4,
    stop_reason: str = "end_turn",
    stop_sequence: str | None = None,
    usage: Json | None = None,
) -> list[Json]:
    """Write whole blocks as the frames of a stream, their texts in pieces of `cut` characters."""
    usage = UNSPENT | (usage or {"input_tokens": 12, "output_tokens": 34})
    message: Json = {
        "id": "msg_01ABC",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": {**usage, "output_tokens": 1},
    }
    out: list[Json] = [{"type": "message_start", "message": message}, {"type": "ping"}]
    for index, block in enumerate(complete(blocks)):
        out += _block(index, block, cut)
    out.append(
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": stop_sequence},
            "usage": {"output_tokens": usage["output_tokens"]},
        }
    )
    out.append({"type": "message_stop"})
    return out


def _block(index: int, block: Json, cut: int) -> list[Json]:
    kind = block["type"]
    deltas: list[Json] = []
    start = block
    if kind == "text":
        start = {**block, "text": ""}
        deltas = [{"type": "text_delta", "text": part} for part in _cut(block["text"], cut)]
    elif kind == "thinking":
        start = {"type": kind, "thinking": "", "signature": ""}
        parts = _cut(block["thinking"], cut)
        deltas = [{"type": "thinking_delta", "thinking": part} for part in parts]
        if block["signature"]:
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif kind == "tool_use":
        start = {**block, "input": {}}
        parts = _cut(json.dumps(block["input"]), cut)
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def block(start: Any, *deltas: Any, index: int = 0) -> list[Any]:
    """One block, and deltas of any kind in it."""
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def around(*inner: Any, stop_reason: Any = "end_turn", **delta: Any) -> list[Any]:
    """A message around frames."""
    first, *_, last = frames([])
    reason = {"stop_reason": stop_reason, **delta}
    ending = {"type": "message_delta", "delta": reason, "usage": {"output_tokens": 7}}
    return [first, *inner, ending, last]


def _cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def wire(written: list[Json], end: str = "\n") -> bytes:
    """Write frames as server-sent events."""
    return "".join(
        f"event: {frame['type']}{end}data: {json.dumps(frame)}{end}{end}" for frame in written
    ).encode()


def body(blocks: list[Json], **changed: Any) -> Json:
    """Write whole blocks as a response that is not streamed."""
    usage = changed.pop("usage", {"input_tokens": 12, "output_tokens": 34})
    return {
        "id": "msg_01ABC",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": complete(blocks),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": UNSPENT | usage,
        **changed,
    }


def read(written: list[Json]) -> Json:
    """Read frames as a client does: give the message that they add up to; check their order."""
    message: Json = {}
    opened: int | None = None
    ended = False
    for frame in written:
        assert not ended, "a frame after the end"
        kind = frame["type"]
        assert (kind == "message_start") == (not message), kind
        if kind == "message_start":
            message = json.loads(json.dumps(frame["message"]))
        elif kind == "content_block_start":
            assert opened is None
            assert frame["index"] == len(message["content"])
            opened = frame["index"]
            message["content"].append({**frame["content_block"], "json": ""})
        elif kind == "content_block_delta":
            assert frame["index"] == opened
            _add(message["content"][-1], frame["delta"])
        elif kind == "content_block_stop":
            assert frame["index"] == opened
            opened = None
            block = message["content"][-1]
            if text := block.pop("json"):
                block["input"] = json.loads(text)
        elif kind == "message_delta":
            assert opened is None
            message |= frame["delta"]
            message["usage"] |= frame["usage"]
        else:
            assert kind == "message_stop"
            assert message["stop_reason"] is not None
            ended = True
    assert ended, "no end"
    return message


def _add(block: Json, delta: Json) -> None:
    kind = delta["type"]
    if kind == "text_delta":
        block["text"] += delta["text"]
    elif kind == "thinking_delta":
        block["thinking"] += delta["thinking"]
    elif kind == "signature_delta":
        block["signature"] = delta["signature"]
    else:
        assert kind == "input_json_delta"
        block["json"] += delta["partial_json"]
