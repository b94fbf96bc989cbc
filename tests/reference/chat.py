"""Chat completions, slow and obvious: what a client that follows the API's description would hold
after a stream. It knows no limits and trusts everything."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def chunk(choice: int = 0, *, reason: Any = None, **delta: Any) -> dict[str, Any]:
    """Give one chunk as a server writes it."""
    return {
        "id": "chatcmpl-up1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "small-1",
        "choices": [
            {"index": choice, "delta": delta, "logprobs": None, "finish_reason": reason},
        ],
    }


def call(
    index: int | None,
    id: str | None = None,  # noqa: A002 - as the API calls it
    name: str | None = None,
    text: str | None = None,
) -> dict[str, Any]:
    """Give a fragment of a tool call; what is None is left out."""
    function = {k: v for k, v in {"name": name, "arguments": text}.items() if v is not None}
    entry = {"index": index, "id": id, "type": "function" if id else None, "function": function}
    return {k: v for k, v in entry.items() if v is not None}


def stream(*chunks: Any, done: bool = True) -> bytes:
    """Give the bytes of a stream; half a character may stand at the end of a string."""
    lines = [b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def accumulate(chunks: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Give, by choice, its texts, its tool calls as [id, name, arguments], its finish reason."""
    held: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk.get("choices") or []:
            mine = held.setdefault(choice["index"], {"tool_calls": {}, "finish_reason": None})
            delta = choice["delta"]
            for name in ("content", "refusal", "reasoning_content", "reasoning"):
                if delta.get(name):
                    mine[name] = mine.get(name, "") + delta[name]
            for call in delta.get("tool_calls") or []:
                parts = mine["tool_calls"].setdefault(call["index"], ["", "", ""])
                function = call.get("function") or {}
                parts[0] += call.get("id") or ""
                parts[1] += function.get("name") or ""
                parts[2] += function.get("arguments") or ""
            mine["finish_reason"] = choice.get("finish_reason") or mine["finish_reason"]
    return held
