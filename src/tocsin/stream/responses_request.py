"""OpenAI responses, the request: what a guard must know of it.

Only that is checked; the rest is the upstream's matter and goes on unchanged. Refused is what would
make the answer something nobody can watch: one that is written in the background and fetched later,
and audio.

Earlier turns that the provider keeps (`previous_response_id`, `conversation`) and stored prompts
are allowed, and each counts as unread: nobody checks here what they say. Of a stored prompt, the
variables are read; the tools that it declares are not known, so that calls of any are let through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tocsin.limits import MESSAGES_MAX, RESPONSES_JSON_DEPTH_MAX, TOOLS_MAX
from tocsin.model import Context, Message, Tool
from tocsin.stream.events import Asked, Refused
from tocsin.stream.request_fields import Wrong, flag, json_of, listed, model_of, object_in
from tocsin.stream.shapes import identifier
from tocsin.stream.utf16 import whole

_ROLES = frozenset({"system", "developer", "user", "assistant"})
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
_TOOLS_TOLD = frozenset({"additional_tools", "tool_search_output"})
_DECLARED = ("function", "custom")
_NO_TEXT = frozenset(
    "type id call_id status role detail file_id file_data file_url image_url encrypted_content "
    "fingerprint container_id server_label approval_request_id input_image caller".split()
)
"""Fields of other items whose strings are identifiers, addresses or encoded bytes."""


def read_request(body: Mapping[str, Any]) -> Asked | Refused:
    """Read a request that is decoded already.

    Example:
        >>> asked = read_request({"model": "m", "instructions": "Be brief.", "input": "Hi"})
        >>> asked.context.messages
        (Message(role='system', content='Be brief.'), Message(role='user', content='Hi'))
        >>> read_request({"model": "m", "input": "Hi", "background": True}).param
        'background'
    """
    try:
        return _read(body)
    except Wrong as wrong:
        return wrong.refused


def _read(body: Mapping[str, Any]) -> Asked:
    model = model_of(body)
    if flag(body, "background"):
        raise Wrong("background", "not supported here: nobody could watch such an answer")
    if body.get("audio") is not None:
        raise Wrong("audio", "audio cannot be watched; ask for text")
    for modality in listed(body.get("modalities"), "modalities", MESSAGES_MAX):
        if modality != "text":
            raise Wrong("modalities", 'only ["text"] is supported here')
    object_in(body, "stream_options")
    reading = _Input()
    reading.take(body)
    tools = (*_tools(body.get("tools"), "tools"), *reading.tools)
    known = body.get("prompt") is None
    return Asked(
        api="responses",
        model=model,
        stream=flag(body, "stream"),
        tools=frozenset(tool.name for tool in tools) if known else None,
        context=Context(messages=tuple(reading.messages), tools=tools),
        conversation=_conversation(body),
        unread=reading.unread,
        body=dict(body),
    )


def _conversation(body: Mapping[str, Any]) -> str | None:
    """Say what links the request to earlier ones: our own word for it first, then the API's."""
    value = object_in(body, "metadata").get("conversation_id")
    param = "metadata.conversation_id"
    if value is None:
        value, param = body.get("conversation"), "conversation"
        if isinstance(value, Mapping):
            value, param = value.get("id"), "conversation.id"
            if value is None:
                raise Wrong(param, "is missing")
    if value is None:
        return None
    if not identifier(value):
        raise Wrong(param, "must be an identifier, without spaces")
    return str(value)


# ------------------------------------------------------------------------------------------ tools


def _tools(value: Any, param: str, depth: int = 0) -> Iterator[Tool]:
    """Give the tools whose calls come to the client. Hosted ones are the provider's matter."""
    for i, tool in enumerate(listed(value, param, TOOLS_MAX)):
        at = f"{param}[{i}]"
        if not isinstance(tool, Mapping) or not isinstance(tool.get("type"), str):
            raise Wrong(at, "must be an object with a type")
        if tool["type"] == "namespace" and depth == 0:
            yield from _tools(tool.get("tools"), f"{at}.tools", 1)
        elif tool["type"] in _DECLARED:
            name = tool.get("name")
            if not identifier(name):
                raise Wrong(f"{at}.name", "must be an identifier, without spaces")
            description = tool.get("description")
            if not isinstance(description, str | None):
                raise Wrong(f"{at}.description", "must be a string")
            schema = tool.get("parameters" if tool["type"] == "function" else "format")
            if not isinstance(schema, Mapping | None):
                raise Wrong(f"{at}.parameters", "must be an object")
            yield Tool(
                name=str(name),
                description=whole(description or ""),
                parameters=json_of(schema, f"{at}.parameters") if schema else "",
            )


# ------------------------------------------------------------------------------------------ input


class _Input:
    """The texts of a request, in order; the parts of one item are joined by a line feed."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.tools: list[Tool] = []
        self.unread = 0

    def take(self, body: Mapping[str, Any]) -> None:
        """Take a request."""
        self._earlier(body)
        self._add("system", self._texts(body.get("instructions"), "instructions"))
        self._prompt(object_in(body, "prompt"))
        given = body.get("input")
        if isinstance(given, str):
            self._add("user", [whole(given)])
            return
        for i, item in enumerate(listed(given, "input", MESSAGES_MAX)):
            if not isinstance(item, Mapping):
                raise Wrong(f"input[{i}]", "must be an object")
            self._item(item, f"input[{i}]")

    def _add(self, role: str, texts: list[str]) -> None:
        if texts:
            self.messages.append(Message(role, "\n".join(texts)))

    def _earlier(self, body: Mapping[str, Any]) -> None:
        previous = body.get("previous_response_id")
        if not isinstance(previous, str | None):
            raise Wrong("previous_response_id", "must be a string")
        self.unread += previous is not None
        self.unread += body.get("conversation") is not None

    def _prompt(self, prompt: Mapping[str, Any]) -> None:
        if prompt:
            self.unread += 1
            self._other("user", prompt.get("variables"))

    def _item(self, item: Mapping[str, Any], at: str) -> None:
        type_ = item.get("type")
        if type_ == "message" or (type_ is None and "role" in item):
            role = item.get("role")
            if not isinstance(role, str) or role not in _ROLES:
                raise Wrong(f"{at}.role", f"must be one of {', '.join(sorted(_ROLES))}")
            self._add(role, self._texts(item.get("content"), f"{at}.content"))
        elif isinstance(type_, str) and type_ in _CALLS:
            field = _CALLS[type_]
            self._add("assistant", self._texts(item.get(field), f"{at}.{field}"))
        elif isinstance(type_, str) and type_ in _RESULTS:
            self._add("tool", self._texts(item.get("output"), f"{at}.output"))
        elif type_ == "reasoning":
            texts = self._texts(item.get("summary"), f"{at}.summary")
            texts += self._texts(item.get("content"), f"{at}.content")
            self._add("assistant", texts)
            self.unread += item.get("encrypted_content") is not None
        elif isinstance(type_, str) and type_ in _TOOLS_TOLD:
            self.tools += _tools(item.get("tools"), f"{at}.tools")
        elif not isinstance(type_, str | None):
            raise Wrong(f"{at}.type", "must be a string")
        else:  # what a hosted tool did, or a mere reference
            self._other("tool", item)

    def _texts(self, content: Any, param: str) -> list[str]:
        """Read a text, or a list of parts; a part without text is counted."""
        if isinstance(content, str):
            return [whole(content)]
        texts: list[str] = []
        for i, part in enumerate(listed(content, param, MESSAGES_MAX)):
            if not isinstance(part, Mapping):
                raise Wrong(f"{param}[{i}]", "must be an object")
            found = [part[name] for name in ("text", "refusal") if isinstance(part.get(name), str)]
            self.unread += not found
            texts += map(whole, found)
        return texts

    def _other(self, role: str, value: Any) -> None:
        """Read every string of something that has no form of its own here."""
        texts: list[str] = []
        waiting: list[tuple[Any, int]] = [(value, 0)]
        while waiting:
            one, depth = waiting.pop()
            if isinstance(one, str):
                texts.append(whole(one))
            elif depth > RESPONSES_JSON_DEPTH_MAX:
                raise Wrong("input", f"is nested deeper than {RESPONSES_JSON_DEPTH_MAX}")
            elif isinstance(one, Mapping):
                if one.get("type") in ("input_image", "input_file"):
                    self.unread += 1
                inner = [inner for name, inner in one.items() if name not in _NO_TEXT]
                waiting += [(each, depth + 1) for each in reversed(inner)]
            elif isinstance(one, list):
                waiting += [(each, depth + 1) for each in reversed(one)]
        self._add(role, texts)
        self.unread += not texts
