"""What a response of the responses API repeats of its request.

It is the client's own word, not the generator's. Only what the API itself repeats is repeated, and
what the request left open has the API's default: clients demand each of these fields. A hosted
tool's entry may hold credentials, and instructions may not all be the client's; both are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tocsin.stream.events import Asked

_NUMBERS: Mapping[str, float | None] = {
    "max_output_tokens": None,
    "max_tool_calls": None,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_logprobs": 0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
_SWITCHES: Mapping[str, bool] = {
    "parallel_tool_calls": True, "store": True, "background": False,
}  # fmt: skip
_NAMES = ("previous_response_id", "prompt_cache_key", "safety_identifier")
_TIERS = frozenset({"auto", "default", "flex", "priority", "scale"})
_TRUNCATIONS = frozenset({"auto", "disabled"})
_FORMATS = frozenset({"text", "json_object", "json_schema"})
_VERBOSITIES = frozenset({"low", "medium", "high"})
_CHOICES = frozenset({"none", "auto", "required"})
_TOOL_FIELDS = ("type", "name", "description", "parameters", "strict", "format")
_FORMAT_FIELDS = ("type", "name", "description", "schema", "strict")
_FUNCTION: Mapping[str, None] = {"description": None, "parameters": None, "strict": None}


def echoed(asked: Asked) -> dict[str, Any]:
    """Give the fields of a response that repeat its request, with the API's defaults.

    Example:
        >>> told = echoed(Asked(api="responses", model="m", body={"temperature": 0.5}))
        >>> told["temperature"], told["top_p"]
        (0.5, 1.0)
    """
    told = _echoed(asked.body)
    try:
        msgspec.json.encode(told)
    except (ValueError, TypeError, RecursionError):
        return _echoed({})  # half characters, say: what cannot be written is not repeated
    return told


def _echoed(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = body.get("metadata")
    told: dict[str, Any] = {
        "instructions": None,
        "metadata": metadata if isinstance(metadata, Mapping) else {},
        "reasoning": _reasoning(body.get("reasoning")),
        "service_tier": _among(body.get("service_tier"), _TIERS, "default"),
        "text": _text(body.get("text")),
        "tool_choice": _choice(body.get("tool_choice")),
        "tools": [_tool(tool) for tool in body.get("tools") or () if _is_plain(tool)],
        "truncation": _among(body.get("truncation"), _TRUNCATIONS, "disabled"),
    }
    for name, usual in _NUMBERS.items():
        number = body.get(name)
        told[name] = number if type(number) in (int, float) else usual
    for name, is_usual in _SWITCHES.items():
        switch = body.get(name)
        told[name] = switch if isinstance(switch, bool) else is_usual
    for name in _NAMES:
        value = body.get(name)
        told[name] = value if isinstance(value, str) else None
    return told


def is_structured(asked: Asked) -> bool:
    """Say whether the text of the answer is to be JSON of a schema, which SDKs parse."""
    text = asked.body.get("text")
    form = text.get("format") if isinstance(text, Mapping) else None
    return isinstance(form, Mapping) and form.get("type") == "json_schema"


def _among(value: Any, known: frozenset[str], usual: str | None) -> str | None:
    return value if isinstance(value, str) and value in known else usual


def _choice(choice: Any) -> Any:
    if isinstance(choice, Mapping) and choice.get("type") in ("function", "custom"):
        return {"type": choice["type"], "name": choice.get("name")}
    return _among(choice, _CHOICES, "auto")


def _text(text: Any) -> dict[str, Any]:
    text = text if isinstance(text, Mapping) else {}
    form = text.get("format")
    told: dict[str, Any] = {"format": {"type": "text"}}
    if isinstance(form, Mapping) and _among(form.get("type"), _FORMATS, None):
        told["format"] = {name: form[name] for name in _FORMAT_FIELDS if name in form}
    if verbosity := _among(text.get("verbosity"), _VERBOSITIES, None):
        told["verbosity"] = verbosity
    return told


def _reasoning(reasoning: Any) -> dict[str, Any]:
    reasoning = reasoning if isinstance(reasoning, Mapping) else {}
    found = {name: reasoning.get(name) for name in ("effort", "summary")}
    return {name: value if isinstance(value, str) else None for name, value in found.items()}


def _is_plain(tool: Any) -> bool:
    return isinstance(tool, Mapping) and tool.get("type") in ("function", "custom")


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    usual = _FUNCTION if tool["type"] == "function" else {}
    return {**usual, **{name: tool[name] for name in _TOOL_FIELDS if name in tool}}
