"""Spoils JSON that is right: what a hostile or a broken peer would send instead."""

from __future__ import annotations

import copy
import json
from typing import Any

from fuzz.dice import Dice

SECRET = "so secret, it is!"  # noqa: S105 - words that must not show up where no text belongs
TEXTS = (
    "The sea is calm.",
    "",
    " ",
    "é😀",
    "\ud83d",
    "\ude00",
    "a\ud83d\ude00\ud83d\ude00b",
    '{"a": 1}',
    '{"a": "',
    '{"b": [1, 2.5e3, null]}',
    '{"a": 1} {',
    "7",
    "\x00\r\n\n: data: x\n\n",
    "\u2028\ufeff\u0085",
    SECRET,
    "x" * 40,
)
_NAMES = tuple(
    "type id name text content delta index choices error message arguments input usage role data "
    "tool_calls function item part output response content_block finish_reason stop_reason "
    "output_index content_index summary_index summary signature thinking partial_json".split()
)
_KINDS = tuple(
    "text error tool_use thinking function function_call message reasoning output_text refusal "
    "message_start message_delta message_stop content_block_start content_block_delta "
    "content_block_stop text_delta input_json_delta signature_delta stop length tool_calls "
    "content_filter end_turn max_tokens response.created response.completed response.failed "
    "response.incomplete response.output_item.added response.output_item.done "
    "response.output_text.delta response.output_text.done open rm completed in_progress".split()
)
_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, -1, 2**31, 2**53, 2**63, 10**30, 0.5, -0.0, 1e308, [], {}, [None],
    {"type": []}, [{}], {"index": {}}, [["text"]], [[[[[[[[[[]]]]]]]]]], {"a": {"b": {"c": {}}}},
)  # fmt: skip

Place = tuple[Any, Any]


def places(value: Any) -> list[Place]:
    """Give each value within, as the list or dict that holds it and its index or key."""
    found: list[Place] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found


def spoil(dice: Dice, value: Any, most: int = 6) -> int:
    """Change a list or dict in place; say at how many places."""
    times = dice.some(most)
    for _ in times:
        _once(dice, value)
    return len(times)


def _once(dice: Dice, value: Any) -> None:
    found = places(value)
    if not found:
        return
    place = dice.below(256) + 256 * (dice.below(256) if len(found) > 256 else 0)
    holder, key = found[place % len(found)]
    match dice.below(9):
        case 0:
            holder[key] = dice.one(TEXTS)
        case 1:
            holder[key] = dice.one(_KINDS)
        case 2 | 3:
            holder[key] = copy.deepcopy(dice.one(_ODD))
        case 4:
            del holder[key]
        case 5 if isinstance(holder, dict):
            holder[dice.one(_NAMES)] = holder.pop(key)
        case 5 | 6 if isinstance(holder, list):
            holder.insert(dice.below(len(holder) + 1), copy.deepcopy(holder[key]))
        case 6:
            holder[dice.one(_NAMES)] = dice.one((SECRET, [SECRET], {"text": SECRET}))
        case 7:
            other, where = found[dice.below(256) % len(found)]
            if where in other if isinstance(other, dict) else where < len(other):
                holder[key] = copy.deepcopy(other[where])
        case _ if isinstance(holder, list):
            holder.append(holder.pop(key))
        case _:
            holder[key] = [holder[key]]


def written(dice: Dice, value: Any) -> bytes:
    """Write JSON, in one of the ways that servers do; half a character stays an escape."""
    if dice.flag():
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:
            pass
    return json.dumps(value).encode()
