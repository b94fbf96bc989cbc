"""Chat completions, the request: every text is found, and what nobody can watch is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.limits import CHOICES_MAX, MESSAGES_MAX, TOOLS_MAX
from tocsin.model import Document, Message, Tool
from tocsin.stream.chat import CODEC
from tocsin.stream.events import Asked, Refused

HELLO = {"role": "user", "content": "Hi"}


def request(**more: Any) -> dict[str, Any]:
    """A request with a message."""
    return {"model": "m", "messages": [HELLO]} | more


def asked(**more: Any) -> Asked:
    """A request that is read."""
    read = CODEC.read_request(request(**more))
    assert isinstance(read, Asked), read
    return read


def tool(name: Any = "look", **more: Any) -> dict[str, Any]:
    """A tool."""
    return {"type": "function", "function": {"name": name} | more}


def test_a_plain_request_is_read() -> None:
    read = asked()
    assert (read.api, read.model, read.stream, read.choices) == ("chat", "m", False, 1)
    assert (read.include_usage, read.tools, read.conversation) == (False, frozenset(), None)
    assert read.unread == 0
    assert read.context.messages == (Message("user", "Hi"),)


def test_what_is_not_understood_goes_on_unchanged() -> None:
    body = request(seed=7, chat_template_kwargs={"x": [1]}, stream=None, n=None, tools=None)
    read = CODEC.read_request(body)
    assert isinstance(read, Asked)
    assert body == read.body


def test_options_of_the_answer_are_read() -> None:
    read = asked(
        stream=True,
        n=3,
        stream_options={"include_usage": True, "include_obfuscation": False},
        metadata={"conversation_id": "conv-7", "other": "x"},
        modalities=["text"],
    )
    assert (read.stream, read.choices, read.include_usage, read.conversation) == (
        True,
        3,
        True,
        "conv-7",
    )


def test_every_text_of_the_messages_is_found_in_order() -> None:
    messages = [
        {"role": "system", "content": "s"},
        {
            "role": "developer",
            "content": [{"type": "text", "text": "d1"}, {"type": "text", "text": "d2"}],
        },
        {
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "no"}],
            "reasoning_content": "hm",
            "refusal": "never",
            "tool_calls": [
                {
                    "id": "1",
                    "type": "function",
                    "function": {"name": "look", "arguments": '{"a":1}'},
                },
                {"id": "2", "type": "custom", "custom": {"name": "run", "input": "ls"}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "result"}]},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "old result"},
        {"role": "user", "content": ["plain", {"type": "odd", "text": "odd text"}]},
        {"role": "user", "content": ""},
    ]
    read = asked(messages=messages, prediction={"type": "content", "content": "expected"})
    assert read.context.messages == (
        Message("system", "s"),
        Message("developer", "d1\nd2"),
        Message("assistant", 'hm\nno\nnever\n{"a":1}\nls'),
        Message("tool", "result"),
        Message("assistant", "{}"),
        Message("function", "old result"),
        Message("user", "plain\nodd text"),
        Message("user", ""),
        Message("user", "expected"),
    )
    assert read.unread == 0


def test_parts_without_text_are_counted() -> None:
    content = [
        {"type": "image_url", "image_url": {"url": "data:,"}},
        {"type": "text", "text": "what is this?"},
        {"type": "input_audio", "input_audio": {}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "text", "text": None},
    ]
    read = asked(messages=[{"role": "user", "content": content}])
    assert read.unread == 4
    assert read.context.messages == (Message("user", "what is this?"),)


def test_tools_are_read_as_their_texts() -> None:
    schema = {"type": "object", "properties": {"q": {"description": "what to look for"}}}
    read = asked(tools=[tool("look", description="Looks.", parameters=schema), tool("b-2.x")])
    assert read.tools == frozenset({"look", "b-2.x"})
    assert read.context.tools == (
        Tool(
            "look",
            "Looks.",
            '{"type":"object","properties":{"q":{"description":"what to look for"}}}',
        ),
        Tool("b-2.x"),
    )


def test_documents_beside_the_messages_are_read() -> None:
    read = asked(
        documents=[{"id": "d1", "title": "T", "text": "x"}, "plain", {"text": "y", "id": "a b"}]
    )
    assert read.context.documents == (
        Document("d1", "d1\nT\nx"),
        Document("1", "plain"),
        Document("2", "y\na b"),
    )


def test_half_characters_do_not_reach_a_verifier() -> None:
    read = asked(messages=[{"role": "user", "content": "a\ud83d"}])
    assert read.context.messages == (Message("user", "a\ufffd"),)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        (request(model=""), "model"),
        (request(model=7), "model"),
        (request(model="m" * 300), "model"),
        ({"model": "m"}, "messages"),
        (request(messages=[]), "messages"),
        (request(messages="Hi"), "messages"),
        (request(messages=[7]), "messages[0]"),
        (request(messages=[HELLO, {"role": "owner", "content": "x"}]), "messages[1].role"),
        (request(messages=[{"role": ["user"], "content": "x"}]), "messages[0].role"),
        (request(messages=[{"role": "user", "content": 7}]), "messages[0].content"),
        (request(messages=[{"role": "user", "content": {}}]), "messages[0].content"),
        (request(messages=[{"role": "user", "content": [7]}]), "messages[0].content[0]"),
        (request(messages=[{"role": "assistant", "tool_calls": {}}]), "messages[0].tool_calls"),
        (request(messages=[HELLO] * (MESSAGES_MAX + 1)), "messages"),
        (request(stream="yes"), "stream"),
        (request(stream_options=[]), "stream_options"),
        (request(stream_options={"include_usage": 1}), "stream_options.include_usage"),
        (request(n=0), "n"),
        (request(n=True), "n"),
        (request(n=1.0), "n"),
        (request(n=CHOICES_MAX + 1), "n"),
        (request(tools={}), "tools"),
        (request(tools=[7]), "tools[0].type"),
        (request(tools=[tool(), {"type": "custom", "custom": {"name": "x"}}]), "tools[1].type"),
        (request(tools=[{"type": "function", "function": 7}]), "tools[0].function"),
        (request(tools=[tool("two words")]), "tools[0].function.name"),
        (request(tools=[tool(None)]), "tools[0].function.name"),
        (request(tools=[tool(description=7)]), "tools[0].function.description"),
        (request(tools=[tool(parameters=[])]), "tools[0].function.parameters"),
        (request(tools=[tool(parameters={"x": "\ud83d"})]), "tools[0].function.parameters"),
        (request(tools=[tool()] * (TOOLS_MAX + 1)), "tools"),
        (request(metadata=7), "metadata"),
        (request(metadata={"conversation_id": "two words"}), "metadata.conversation_id"),
        (request(documents=[7]), "documents[0]"),
        (request(prediction="x"), "prediction"),
        (request(prediction={"content": 7}), "prediction.content"),
        (request(modalities=["text", "audio"]), "modalities"),
        (request(modalities="audio"), "modalities"),
        (request(audio={"voice": "x"}), "audio"),
        (request(functions=[{"name": "f"}]), "functions"),
        (request(function_call="auto"), "function_call"),
    ],
)
def test_a_request_that_cannot_be_read_or_watched_is_refused_by_field(
    body: dict[str, Any], param: str
) -> None:
    refused = CODEC.read_request(body)
    assert isinstance(refused, Refused)
    assert param == refused.param
    assert refused.message.startswith(param)
    assert refused.message.endswith(".")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "function", "name", "tool_calls"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
names = st.sampled_from(
    ["model", "messages", "n", "stream", "stream_options", "tools", "metadata", "documents"]
)


@given(st.dictionaries(names, values))
def test_no_request_makes_the_reader_raise(changes: dict[str, Any]) -> None:
    assert isinstance(CODEC.read_request(request(**changes)), Asked | Refused)
