"""What a response of the responses API repeats of its request.

It is the client's own word, not the generator's. Only what the SDKs read is repeated: a hosted
tool's entry may hold credentials, and instructions may not all be the client's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tocsin.stream.events import Asked

_NUMBERS = ("max_output_tokens", "temperature", "top_p")
_CHOICES = frozenset({"none", "auto", "required"})
_TOOL_FIELDS = ("type", "name", "description", "parameters", "strict", "format")


def echoed(asked: Asked) -> dict[str, Any]:
    """Give the fields of a response that repeat its request, with the API's defaults.

    Example:
        >>> echoed(Asked(api="responses", model="m", body={"temperature": 0.5}))["temperature"]
        0.5
    """
    told = _echoed(asked.body)
    try:
        msgspec.json.encode(told)
    except (ValueError, TypeError, RecursionError):
        return _echoed({})  # half characters, say: what cannot be written is not repeated
    return told


def _echoed(body: Mapping[str, Any]) -> dict[str, Any]:
    choice = body.get("tool_choice")
    parallel = body.get("parallel_tool_calls")
    previous = body.get("previous_response_id")
    metadata = body.get("metadata")
    told: dict[str, Any] = {
        "instructions": None,
        "metadata": metadata if isinstance(metadata, Mapping) else {},
        "parallel_tool_calls": parallel if isinstance(parallel, bool) else True,
        "previous_response_id": previous if isinstance(previous, str) else None,
        "tool_choice": "auto",
        "tools": [_tool(tool) for tool in body.get("tools") or () if _is_plain(tool)],
    }
    if isinstance(choice, str) and choice in _CHOICES:
        told["tool_choice"] = choice
    elif isinstance(choice, Mapping) and choice.get("type") in ("function", "custom"):
        told["tool_choice"] = {"type": choice["type"], "name": choice.get("name")}
    for name in _NUMBERS:
        number = body.get(name)
        told[name] = number if type(number) in (int, float) else None
    return told


def is_structured(asked: Asked) -> bool:
    """Say whether the text of the answer is to be JSON of a schema, which SDKs parse."""
    text = asked.body.get("text")
    form = text.get("format") if isinstance(text, Mapping) else None
    return isinstance(form, Mapping) and form.get("type") == "json_schema"


def _is_plain(tool: Any) -> bool:
    return isinstance(tool, Mapping) and tool.get("type") in ("function", "custom")


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tool[name] for name in _TOOL_FIELDS if name in tool}
