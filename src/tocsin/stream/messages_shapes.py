"""What of a message may be forwarded besides text: by name, by shape, or from a closed list.

A value of another shape is left out, whatever it holds: each of these fields could else carry text
that nobody watches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tocsin.limits import MESSAGES_JSON_DEPTH_MAX, MESSAGES_SIGNATURE_CHARS_MAX
from tocsin.stream import utf16
from tocsin.stream.shapes import count

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")

NEUTRAL = "end_turn"
STOP_REASONS = frozenset(
    "end_turn max_tokens stop_sequence tool_use pause_turn refusal "
    "model_context_window_exceeded".split()
)
_REFUSAL_CATEGORIES = frozenset("cyber bio frontier_llm reasoning_extraction general_harms".split())

_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)
_BREAKDOWNS = {
    "cache_creation": ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
    "server_tool_use": ("web_search_requests", "web_fetch_requests"),
    "output_tokens_details": ("thinking_tokens",),
}
_TIERS = frozenset(("standard", "priority", "batch"))


def is_signature(value: Any) -> bool:
    """Say whether a value has the shape of a signature: base64, of either alphabet.

    Example:
        >>> is_signature("EqQBCgIYAhIM=="), is_signature("in clear words")
        (True, False)
    """
    return (
        isinstance(value, str)
        and len(value) <= MESSAGES_SIGNATURE_CHARS_MAX
        and _BASE64.fullmatch(value) is not None
    )


def usage(value: Any) -> dict[str, Any]:
    """Keep of a usage what is a count, or from a closed list.

    Example:
        >>> usage({"input_tokens": 3, "output_tokens": True, "inference_geo": "any words"})
        {'input_tokens': 3}
    """
    if not isinstance(value, Mapping):
        return {}
    kept: dict[str, Any] = _counts(value, _COUNTS)
    for name, counts in _BREAKDOWNS.items():
        parts = value.get(name)
        # All of a breakdown or nothing: clients demand each of its fields.
        if isinstance(parts, Mapping) and len(found := _counts(parts, counts)) == len(counts):
            kept[name] = found
    tier = value.get("service_tier")
    if isinstance(tier, str) and tier in _TIERS:
        kept["service_tier"] = tier
    return kept


def _counts(value: Mapping[str, Any], names: Iterable[str]) -> dict[str, int]:
    found = {name: count(value.get(name)) for name in names}
    return {name: number for name, number in found.items() if number is not None}


def stop(delta: Any, stop_sequences: frozenset[str]) -> dict[str, Any]:
    """Keep of a stop its reason, the stop sequence, and the category of a refusal.

    Args:
        delta: with `stop_reason`, `stop_sequence` and `stop_details`, of any type.
        stop_sequences: the request's own; no other is forwarded, since it would be free text.

    Example:
        >>> class Delta:
        ...     stop_reason, stop_sequence, stop_details = "stop_sequence", "END", None
        >>> stop(Delta, frozenset(["END"]))
        {'stop_reason': 'stop_sequence', 'stop_sequence': 'END'}
        >>> stop(Delta, frozenset())
        {'stop_reason': 'end_turn'}
    """
    reason = delta.stop_reason
    if not isinstance(reason, str) or reason not in STOP_REASONS:
        return {"stop_reason": NEUTRAL}
    if reason == "stop_sequence":
        found = delta.stop_sequence
        if not isinstance(found, str) or found not in stop_sequences:
            return {"stop_reason": NEUTRAL}
        return {"stop_reason": reason, "stop_sequence": found}
    if reason == "refusal" and isinstance(delta.stop_details, Mapping):
        category = delta.stop_details.get("category")
        if isinstance(category, str) and category in _REFUSAL_CATEGORIES:
            return {"stop_reason": reason, "category": category}
    return {"stop_reason": reason}


def json_text(value: Any) -> str | None:
    r"""Write a decoded value as JSON again; None where that cannot be done.

    Example:
        >>> json_text({"a": ["\ud83d", 1.5]})
        '{"a":["�",1.5]}'
    """
    try:
        try:
            return msgspec.json.encode(value).decode()
        except UnicodeEncodeError:  # half a character
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            return utf16.whole(text)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return None


def arguments(text: str) -> dict[str, Any] | None:
    """Read a tool call's arguments; None where they are no whole JSON object, or nested too deeply.

    No proper prefix of a JSON object is one, so what was cut short is never taken for whole.

    Example:
        >>> arguments('{"a": 1}'), arguments('{"a": 1'), arguments("7")
        ({'a': 1}, None, None)
    """
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    if not isinstance(value, dict) or too_deep(value):
        return None
    return value


def too_deep(value: Any, depth_max: int = MESSAGES_JSON_DEPTH_MAX) -> bool:
    """Say whether a decoded value is nested deeper than that.

    Example:
        >>> too_deep({"a": [[]]}, 3), too_deep({"a": [[]]}, 2)
        (False, True)
    """
    level = [value]
    for _ in range(depth_max):
        level = [
            child
            for parent in level
            for child in _children(parent)
            if isinstance(child, (Mapping, list, tuple))
        ]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()
