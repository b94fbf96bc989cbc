"""OpenAI chat completions, the request: what a guard must know of it.

Only that is checked; the rest is the upstream's matter and goes on unchanged. Refused is what would
make the answer, or a part of it, something nobody can watch: audio, tools other than functions, the
old `functions` (use `tools`), more choices than the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tocsin.limits import CHOICES_MAX, DOCUMENTS_MAX, MESSAGES_MAX, TOOLS_MAX
from tocsin.model import Context, Document, Message, Tool
from tocsin.stream.events import Asked, Refused
from tocsin.stream.request_fields import Wrong, flag, json_of, listed, model_of, object_in
from tocsin.stream.shapes import identifier
from tocsin.stream.utf16 import whole

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_UNSUPPORTED = {
    "functions": "use tools instead",
    "function_call": "use tool_choice instead",
    "audio": "audio cannot be watched; ask for text",
}


def read_request(body: Mapping[str, Any]) -> Asked | Refused:
    """Read a request that is decoded already.

    Example:
        >>> asked = read_request(
        ...     {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "seed": 1}
        ... )
        >>> asked.context.messages, asked.body["seed"]
        ((Message(role='user', content='Hi'),), 1)
        >>> read_request({"model": "m", "messages": []}).param
        'messages'
    """
    try:
        return _read(body)
    except Wrong as wrong:
        return wrong.refused


def _read(body: Mapping[str, Any]) -> Asked:
    for name, instead in _UNSUPPORTED.items():
        if body.get(name) is not None:
            raise Wrong(name, f"not supported here: {instead}")
    model = model_of(body)
    for modality in listed(body.get("modalities"), "modalities", 8):
        if modality != "text":
            raise Wrong("modalities", 'only ["text"] is supported here')
    tools = tuple(_tools(body))
    reading = _Messages()
    reading.take(listed(body.get("messages"), "messages", MESSAGES_MAX, needed=True))
    _predict(body, reading)
    options = object_in(body, "stream_options")
    return Asked(
        api="chat",
        model=model,
        stream=flag(body, "stream"),
        choices=_choices(body),
        include_usage=flag(options, "include_usage", "stream_options.include_usage"),
        tools=frozenset(tool.name for tool in tools),
        context=Context(
            messages=tuple(reading.messages), tools=tools, documents=tuple(_documents(body))
        ),
        conversation=_conversation(body),
        unread=reading.unread,
        body=dict(body),
    )


def _choices(body: Mapping[str, Any]) -> int:
    n = body.get("n")
    if n is None:
        return 1
    if type(n) is not int or not 1 <= n <= CHOICES_MAX:
        raise Wrong("n", f"must be a whole number from 1 to {CHOICES_MAX}")
    return n


def _conversation(body: Mapping[str, Any]) -> str | None:
    value = object_in(body, "metadata").get("conversation_id")
    if value is None:
        return None
    if not identifier(value):
        raise Wrong("metadata.conversation_id", "must be an identifier, without spaces")
    return str(value)


# ---------------------------------------------------------------------------- tools and documents


def _tools(body: Mapping[str, Any]) -> Iterator[Tool]:
    for i, tool in enumerate(listed(body.get("tools"), "tools", TOOLS_MAX)):
        at = f"tools[{i}]"
        if not isinstance(tool, Mapping) or tool.get("type") != "function":
            raise Wrong(f"{at}.type", 'only "function" is supported here')
        function = object_in(tool, "function", f"{at}.function")
        name = function.get("name")
        if not identifier(name):
            raise Wrong(f"{at}.function.name", "must be an identifier, without spaces")
        description = function.get("description")
        if not isinstance(description, str | None):
            raise Wrong(f"{at}.function.description", "must be a string")
        schema = object_in(function, "parameters", f"{at}.function.parameters")
        yield Tool(
            name=str(name),
            description=whole(description or ""),
            parameters=json_of(schema, f"{at}.function.parameters") if schema else "",
        )


def _documents(body: Mapping[str, Any]) -> Iterator[Document]:
    """Give the documents that some servers take beside the messages."""
    for i, document in enumerate(listed(body.get("documents"), "documents", DOCUMENTS_MAX)):
        if isinstance(document, str):
            yield Document(id=str(i), text=whole(document))
        elif isinstance(document, Mapping):
            # Title and all: whatever is text reaches the generator.
            texts = [whole(value) for value in document.values() if isinstance(value, str)]
            yield Document(id=identifier(document.get("id")) or str(i), text="\n".join(texts))
        else:
            raise Wrong(f"documents[{i}]", "must be an object or a string")


# --------------------------------------------------------------------------------------- messages


class _Messages:
    """The texts of the messages, in order; the parts of one are joined by a line feed."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.unread = 0

    def take(self, given: list[Any]) -> None:
        """Take the `messages` of a request."""
        for i, message in enumerate(given):
            at = f"messages[{i}]"
            if not isinstance(message, Mapping):
                raise Wrong(at, "must be an object")
            role = message.get("role")
            if not isinstance(role, str) or role not in _ROLES:
                raise Wrong(f"{at}.role", f"must be one of {', '.join(sorted(_ROLES))}")
            texts = [
                *self._texts(message.get("reasoning_content"), f"{at}.reasoning_content"),
                *self._texts(message.get("content"), f"{at}.content"),
                *self._texts(message.get("refusal"), f"{at}.refusal"),
                *self._calls(message, at),
            ]
            self.messages.append(Message(role, "\n".join(texts)))

    def add(self, role: str, content: Any, param: str) -> None:
        """Take a text that stands beside the messages."""
        if texts := list(self._texts(content, param)):
            self.messages.append(Message(role, "\n".join(texts)))

    def _texts(self, content: Any, param: str) -> Iterator[str]:
        if isinstance(content, str):
            yield whole(content)
        elif content is not None:
            for i, part in enumerate(listed(content, param, MESSAGES_MAX)):
                if isinstance(part, str):
                    yield whole(part)
                elif not isinstance(part, Mapping):
                    raise Wrong(f"{param}[{i}]", "must be an object")
                else:
                    yield from self._part(part)

    def _part(self, part: Mapping[str, Any]) -> Iterator[str]:
        texts = [part[name] for name in ("text", "refusal") if isinstance(part.get(name), str)]
        if not texts:
            self.unread += 1
        yield from map(whole, texts)

    def _calls(self, message: Mapping[str, Any], at: str) -> Iterator[str]:
        """Give the arguments of the tool calls that the assistant made before."""
        calls = listed(message.get("tool_calls"), f"{at}.tool_calls", MESSAGES_MAX)
        made = [
            *(call.get("function") for call in calls if isinstance(call, Mapping)),
            *(call.get("custom") for call in calls if isinstance(call, Mapping)),
            message.get("function_call"),
        ]
        for function in made:
            if isinstance(function, Mapping):
                for name in ("arguments", "input"):
                    if isinstance(function.get(name), str):
                        yield whole(function[name])


def _predict(body: Mapping[str, Any], reading: _Messages) -> None:
    """Read the text that the generator is told to expect of itself."""
    reading.add("user", object_in(body, "prediction").get("content"), "prediction.content")
