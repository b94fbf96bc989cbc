"""Anthropic messages, requests: what the guard needs to understand of them.

Everything else is sent on as it came. Each text of the request becomes a message of the context:
the system prompt, what people and the model wrote, the arguments of earlier tool calls, earlier
thinking, and the results of tools under the role "tool". Documents and search results stand apart.
What holds no text that can be read here (images, files, what tools did on the server) is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin.limits import DOCUMENTS_MAX, IDENTIFIER_CHARS_MAX, MESSAGES_MAX, TOOLS_MAX
from tocsin.model import Context, Document, Message, Tool
from tocsin.stream.events import Asked, Refused
from tocsin.stream.messages_shapes import json_text, too_deep
from tocsin.stream.shapes import identifier
from tocsin.stream.utf16 import whole

_TOOLSETS = ("computer_toolset_", "browser_toolset_")
_CLIENT_TOOLS = ("custom", "bash_", "text_editor_", "computer_", "memory_")
"""Types of tools that the client runs, so that calls of them come as `tool_use`. Others run on the
server."""


class _BadError(Exception):
    """Leaves the reading of a request at once; never leaves this module."""

    def __init__(self, message: str, param: str) -> None:
        self.refused = Refused(message=message, param=param)


def read_request(body: Mapping[str, Any]) -> Asked | Refused:
    """Read a request that is decoded already.

    Args:
        body: mappings, lists and plain values all through.

    Example:
        >>> asked = read_request({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
        >>> asked.context.messages
        (Message(role='user', content='Hi'),)
        >>> read_request({"model": "m", "messages": "Hi"})
        Refused(message='must be a list', param='messages')
    """
    if too_deep(body):
        return Refused(message="is nested too deeply", param="request")
    try:
        return _Reading().request(body)
    except _BadError as bad:
        return bad.refused


class _Reading:
    """One request while it is read."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._documents: list[Document] = []
        self._unread = 0

    def request(self, body: Mapping[str, Any]) -> Asked:
        model = body.get("model")
        if not identifier(model):
            raise _BadError("must be the name of a model", "model")
        stream = body.get("stream")
        if not isinstance(stream, bool | None):
            raise _BadError("must be true or false", "stream")
        self._content("system", body.get("system"), "system")
        messages = _listed(body.get("messages"), "messages", MESSAGES_MAX)
        for number, message in enumerate(messages):
            self._message(message, f"messages.{number}")
        tools = self._tools(body.get("tools"))
        if body.get("mcp_servers") is not None:
            self._unread += len(_listed(body["mcp_servers"], "mcp_servers", TOOLS_MAX))
        sent, conversation = _without_conversation(body)
        return Asked(
            api="messages",
            model=str(model),
            stream=bool(stream),
            tools=frozenset(tool.name for tool in tools),
            context=Context(
                messages=tuple(self._messages),
                tools=tuple(tools),
                documents=tuple(self._documents),
            ),
            conversation=conversation,
            unread=self._unread,
            body=sent,
        )

    # ------------------------------------------------------------------------------- messages

    def _message(self, message: Any, param: str) -> None:
        role = _mapping(message, param).get("role")
        if not identifier(role):
            raise _BadError('must be "user" or "assistant"', f"{param}.role")
        if message.get("content") is None:
            raise _BadError("must be a string or a list of blocks", f"{param}.content")
        self._content(str(role), message["content"], f"{param}.content")

    def _content(self, role: str, content: Any, param: str) -> None:
        if content is None:
            return
        if isinstance(content, str):
            self._text(role, content, param)
            return
        for number, block in enumerate(_listed(content, param, MESSAGES_MAX)):
            self._block(role, block, f"{param}.{number}")

    def _block(self, role: str, block: Any, param: str) -> None:
        kind = _mapping(block, param).get("type")
        if kind == "text":
            self._text(role, block.get("text"), f"{param}.text")
        elif kind == "thinking":
            self._text(role, block.get("thinking"), f"{param}.thinking")
        elif kind in ("tool_use", "server_tool_use"):  # no set: it may be a list
            self._text(role, json_text(block.get("input")), f"{param}.input")
        elif kind == "tool_result":
            self._content("tool", block.get("content"), f"{param}.content")
        elif kind == "document":
            self._document(block, param)
        elif kind == "search_result":
            texts = self._texts(block.get("content"), f"{param}.content")
            self._add_document((block.get("title"), block.get("source")), texts, param)
        else:
            self._unread += 1

    def _text(self, role: str, text: Any, param: str) -> None:
        if not isinstance(text, str):
            raise _BadError("must be a string", param)
        if len(self._messages) >= MESSAGES_MAX:
            raise _BadError(f"the request has more than {MESSAGES_MAX} texts", param)
        if text:
            self._messages.append(Message(role, whole(text)))

    # ------------------------------------------------------------------------------ documents

    def _document(self, block: Mapping[str, Any], param: str) -> None:
        source = _mapping(block.get("source"), f"{param}.source")
        texts: list[str] = []
        if source.get("type") == "text":
            texts = self._texts(source.get("data"), f"{param}.source.data")
        elif source.get("type") == "content":
            texts = self._texts(source.get("content"), f"{param}.source.content")
        else:
            self._unread += 1
        self._add_document((block.get("title"), block.get("context")), texts, param)

    def _texts(self, content: Any, param: str) -> list[str]:
        """Gather the texts of a string, or of a list of blocks."""
        if isinstance(content, str):
            return [content]
        texts = []
        for number, block in enumerate(_listed(content, param, MESSAGES_MAX)):
            text = _mapping(block, f"{param}.{number}").get("text")
            if block.get("type") == "text" and isinstance(text, str):
                texts.append(text)
            else:
                self._unread += 1
        return texts

    def _add_document(self, heads: tuple[Any, ...], texts: list[str], param: str) -> None:
        """Add what can be read of a document; the generator is shown its heads too."""
        for head in heads:
            if not isinstance(head, str | None):
                raise _BadError("title, context and source must be strings", param)
        text = "\n".join([*filter(None, heads), *texts])
        if not text:
            return
        if len(self._documents) >= DOCUMENTS_MAX:
            raise _BadError(f"the request has more than {DOCUMENTS_MAX} documents", param)
        self._documents.append(Document(id=param, text=whole(text)))

    # ---------------------------------------------------------------------------------- tools

    def _tools(self, value: Any) -> list[Tool]:
        tools = []
        for number, tool in enumerate(_listed(value, "tools", TOOLS_MAX) if value else ()):
            param = f"tools.{number}"
            kind = _mapping(tool, param).get("type") or "custom"
            if not isinstance(kind, str):
                raise _BadError("must be a string", f"{param}.type")
            if kind.startswith(_TOOLSETS):
                message = "tool sets are not supported: declare each tool by its name"
                raise _BadError(message, f"{param}.type")
            if kind.startswith(_CLIENT_TOOLS):
                tools.append(_tool(tool, param))
            else:
                self._unread += 1
        return tools


def _tool(tool: Mapping[str, Any], param: str) -> Tool:
    name, description = identifier(tool.get("name")), tool.get("description")
    if not name:
        raise _BadError("must be made of letters, digits, _ and -", f"{param}.name")
    if not isinstance(description, str | None):
        raise _BadError("must be a string", f"{param}.description")
    schema = tool.get("input_schema")
    parameters = "" if schema is None else json_text(schema)
    if parameters is None:
        raise _BadError("must be a JSON Schema", f"{param}.input_schema")
    return Tool(name, whole(description or ""), parameters)


def _without_conversation(body: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Take the conversation's id out: it is for us, and an upstream may refuse it."""
    sent = dict(body)
    metadata = body.get("metadata")
    if metadata is None:
        return sent, None
    rest = dict(_mapping(metadata, "metadata"))
    conversation = rest.pop("conversation_id", None)
    if conversation is None:
        return sent, None
    if not isinstance(conversation, str) or not 0 < len(conversation) <= IDENTIFIER_CHARS_MAX:
        message = f"must be a string of 1 to {IDENTIFIER_CHARS_MAX} characters"
        raise _BadError(message, "metadata.conversation_id")
    if rest:
        sent["metadata"] = rest
    else:
        del sent["metadata"]
    return sent, conversation


def _mapping(value: Any, param: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _BadError("must be an object", param)
    return value


def _listed(value: Any, param: str, count_max: int) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _BadError("must be a list", param)
    if len(value) > count_max:
        raise _BadError(f"has more than {count_max} entries", param)
    return value
