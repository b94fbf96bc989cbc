"""Requests: any JSON object is `Asked` or `Refused`, and what is asked for is all read.

No object raises. Every text that stands where an API has texts is in the context; no half of a
character is; what is sent on can be written as JSON, and reads the same again.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from fuzz.dice import Dice
from fuzz.spoiling import spoil
from tocsin.limits import CHOICES_MAX, DOCUMENTS_MAX, TOOLS_MAX
from tocsin.stream.codecs import CODECS
from tocsin.stream.events import APIS, Api, Asked, Refused
from tocsin.stream.utf16 import decode_json

_READ = {api: CODECS[api].read_request for api in APIS}  # loaded now, so that they are instrumented
_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
_RIGHT: dict[Api, dict[str, Any]] = {
    "chat": {
        "model": "m",
        "stream": True,
        "n": 2,
        "stream_options": {"include_usage": True},
        "metadata": {"conversation_id": "c-1"},
        "messages": [
            {"role": "system", "content": "MARK0"},
            {"role": "user", "content": [{"type": "text", "text": "MARK1"}, {"type": "image_url"}]},
            {
                "role": "assistant",
                "refusal": "MARK2",
                "reasoning_content": "MARK3",
                "tool_calls": [{"id": "a", "function": {"name": "open", "arguments": "MARK4"}}],
            },
            {"role": "tool", "tool_call_id": "a", "content": "MARK5"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "open", "description": "MARK6", "parameters": _SCHEMA},
            }
        ],
        "documents": ["MARK7", {"id": "d", "text": "MARK8"}],
        "prediction": {"type": "content", "content": "MARK9"},
        "modalities": ["text"],
    },
    "responses": {
        "model": "m",
        "stream": True,
        "instructions": "MARK0",
        "conversation": {"id": "c-1"},
        "prompt": {"id": "p", "variables": {"city": "MARK1"}},
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "MARK2"}]},
            {"type": "message", "role": "assistant", "content": "MARK3"},
            {"type": "function_call", "call_id": "a", "name": "open", "arguments": "MARK4"},
            {"type": "function_call_output", "call_id": "a", "output": "MARK5"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "MARK6"}]},
            {"type": "web_search_call", "id": "w", "action": {"query": "MARK7"}},
        ],
        "tools": [
            {"type": "function", "name": "open", "description": "MARK8", "parameters": _SCHEMA},
            {"type": "namespace", "name": "n", "tools": [{"type": "custom", "name": "free"}]},
        ],
        "background": False,
    },
    "messages": {
        "model": "m",
        "stream": True,
        "max_tokens": 10,
        "system": [{"type": "text", "text": "MARK0"}],
        "metadata": {"conversation_id": "c-1", "user_id": "u"},
        "stop_sequences": ["END"],
        "messages": [
            {"role": "user", "content": "MARK1"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "MARK2", "signature": "abc="},
                    {"type": "tool_use", "id": "t", "name": "open", "input": {"a": "MARK3"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "content": [{"type": "text", "text": "MARK4"}]},
                    {
                        "type": "document",
                        "title": "MARK5",
                        "source": {"type": "text", "data": "MARK6"},
                    },
                    {"type": "search_result", "content": [{"type": "text", "text": "MARK7"}]},
                    {"type": "image", "source": {}},
                ],
            },
        ],
        "tools": [{"name": "open", "description": "MARK8", "input_schema": _SCHEMA}],
    },
}


def one(data: bytes) -> None:
    """Check one input."""
    dice = Dice(data)
    api = dice.one(APIS)
    if dice.flag():
        holder = [copy.deepcopy(_RIGHT[api])]
        spoil(dice, holder, most=4)
        value = holder[0] if holder else None
    else:
        try:
            value = decode_json(dice.rest())
        except msgspec.DecodeError:
            return
    if isinstance(value, dict):
        _check(api, value)


def _check(api: Api, value: dict[str, Any]) -> None:
    before = json.dumps(value)
    asked = _READ[api](value)
    assert json.dumps(value) == before
    if isinstance(asked, Refused):
        asked.message.encode()
        assert len(asked.message) < 500
        return
    _check_asked(asked, value)
    try:
        sent = msgspec.json.encode(asked.body)
    except UnicodeEncodeError:  # half a character: no such request comes over the wire
        return
    again = _READ[api](msgspec.json.decode(sent))
    assert isinstance(again, Asked)
    if api != "messages":  # the conversation is taken out of what is sent on
        assert again == asked


def _check_asked(asked: Asked, value: dict[str, Any]) -> None:
    context = asked.context
    read = [m.content for m in context.messages] + [m.role for m in context.messages]
    read += [d.text for d in context.documents]
    read += [
        part for tool in context.tools for part in (tool.name, tool.description, tool.parameters)
    ]
    everything = "\n".join(read)
    everything.encode()
    assert asked.tools is None or asked.tools == {tool.name for tool in context.tools}
    assert 1 <= asked.choices <= CHOICES_MAX
    assert len(context.tools) <= TOOLS_MAX * 2
    assert len(context.documents) <= DOCUMENTS_MAX
    assert len(everything) <= 64 * len(json.dumps(value))
    for text in _markers(_RIGHT[asked.api], value):
        assert text in everything, text


def _markers(right: Any, value: Any) -> Iterator[str]:
    """Give the texts of the right request that still stand where they stood."""
    if isinstance(right, str) and right.startswith("MARK") and right == value:
        yield right
    elif isinstance(right, dict) and isinstance(value, dict):
        if all(right.get(name) == value.get(name) for name in ("type", "role")):
            for name in right.keys() & value.keys():
                yield from _markers(right[name], value[name])
    elif isinstance(right, list) and isinstance(value, list):
        for one_right, one_value in zip(right, value, strict=False):
            yield from _markers(one_right, one_value)
