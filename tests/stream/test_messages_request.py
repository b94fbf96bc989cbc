"""Anthropic messages, requests and errors: every text is seen, and the rest is counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.limits import DOCUMENTS_MAX, MESSAGES_JSON_DEPTH_MAX, MESSAGES_MAX, TOOLS_MAX
from tocsin.model import Document, Message, Tool
from tocsin.stream.codec import STATUS
from tocsin.stream.codecs import CODECS
from tocsin.stream.events import Asked, Refused

CODEC = CODECS["messages"]


def request(content: Any = "Hi", **changed: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": "claude-x", "max_tokens": 10, "messages": messages, **changed}


def asked(content: Any = "Hi", **changed: Any) -> Asked:
    got = CODEC.read_request(request(content, **changed))
    assert isinstance(got, Asked)
    return got


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def test_every_text_of_a_request_is_seen_in_order() -> None:
    messages = [
        {"role": "user", "content": "one"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "two", "signature": "Eq=="},
                text("three"),
                {"type": "tool_use", "id": "t", "name": "f", "input": {"q": "four"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "five"},
                {"type": "tool_result", "tool_use_id": "t", "content": [text("six")]},
                {"type": "tool_result", "tool_use_id": "t"},
                text("seven"),
            ],
        },
        {"role": "system", "content": "eight"},
    ]
    got = asked(system=[text("zero")], messages=messages)
    expected = [
        ("system", "zero"),
        ("user", "one"),
        ("assistant", "two"),
        ("assistant", "three"),
        ("assistant", '{"q":"four"}'),
        ("tool", "five"),
        ("tool", "six"),
        ("user", "seven"),
        ("system", "eight"),
    ]
    assert [Message(role, content) for role, content in expected] == list(got.context.messages)
    assert got.unread == 0


def test_a_system_prompt_may_be_a_string() -> None:
    assert Message("system", "Be kind.") == asked(system="Be kind.").context.messages[0]


def test_documents_and_search_results_stand_apart_with_what_leads_them() -> None:
    plain = {"type": "text", "media_type": "text/plain", "data": "body"}
    parts = {"type": "content", "content": [text("a"), {"type": "image"}, text("b")]}
    result = {"type": "search_result", "source": "s", "title": "t", "content": [text("found")]}
    content = [
        {"type": "document", "source": plain, "title": "head", "context": "where from"},
        {"type": "document", "source": parts},
        {"type": "document", "source": {"type": "content", "content": "c"}},
        {"type": "document", "source": {"type": "base64", "data": "JVBERi0="}, "title": "pdf"},
        {"type": "document", "source": {"type": "url", "url": "https://files.example/a.pdf"}},
        {"type": "tool_result", "tool_use_id": "t", "content": [result]},
    ]
    got = asked(content)
    at = "messages.0.content"
    expected = (
        Document(f"{at}.0", "head\nwhere from\nbody"),
        Document(f"{at}.1", "a\nb"),
        Document(f"{at}.2", "c"),
        Document(f"{at}.3", "pdf"),
        Document(f"{at}.5.content.0", "t\ns\nfound"),
    )
    assert expected == got.context.documents
    assert got.context.messages == ()
    assert got.unread == 3


def test_parts_without_text_are_counted() -> None:
    kinds = ["image", "redacted_thinking", "web_search_tool_result", "container_upload", "some_day"]
    got = asked([{"type": kind, "text": "x"} for kind in kinds])
    assert (got.unread, got.context.messages) == (5, ())


def test_tools_that_the_client_runs_may_be_called_and_others_are_counted() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [
        {"name": "weather", "description": "Tells it.", "input_schema": schema},
        {"type": "custom", "name": "time", "input_schema": {"type": "object"}},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "code_execution_20250825", "name": "code_execution"},
    ]
    got = asked(tools=tools, mcp_servers=[{"type": "url", "url": "https://tools.example"}])
    names = frozenset(["weather", "time", "bash", "str_replace_based_edit_tool"])
    parameters = '{"type":"object","properties":{"city":{"type":"string"}}}'
    assert names == got.tools
    assert Tool("weather", "Tells it.", parameters) == got.context.tools[0]
    assert got.unread == 3


def test_what_is_not_understood_is_sent_on() -> None:
    given = request(thinking={"type": "enabled", "budget_tokens": 1024}, some_day=[1], stream=True)
    got = CODEC.read_request(given)
    assert isinstance(got, Asked)
    assert (given, True, "claude-x", 1) == (got.body, got.stream, got.model, got.choices)


def test_the_conversation_is_read_and_not_sent_on() -> None:
    given = request(metadata={"user_id": "u", "conversation_id": "c-1"})
    got = CODEC.read_request(given)
    assert isinstance(got, Asked)
    assert (got.conversation, got.body["metadata"]) == ("c-1", {"user_id": "u"})
    assert given["metadata"]["conversation_id"] == "c-1"
    alone = asked(metadata={"conversation_id": "c-1"})
    assert "metadata" not in alone.body
    assert asked(metadata={"user_id": "u"}).conversation is None
    assert asked(metadata=None).conversation is None


def test_half_a_character_becomes_one_that_can_be_written() -> None:
    assert asked("a\ud83d").context.messages[0].content == "a\ufffd"


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"model": None}, "model"),
        ({"model": "two words"}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"messages": None}, "messages"),
        ({"messages": ["Hi"]}, "messages.0"),
        ({"messages": [{"content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "u", "content": [text(None)]}]}, "messages.0.content.0.text"),  # type: ignore[arg-type]
        ({"messages": [{"role": "u", "content": "x"}] * (MESSAGES_MAX + 1)}, "messages"),
        ({"system": 7}, "system"),
        ({"system": [text("x")] * (MESSAGES_MAX + 1)}, "system"),
        ({"system": [text("x")] * MESSAGES_MAX}, "messages.0.content"),
        ({"tools": {}, "mcp_servers": 7}, "mcp_servers"),
        ({"tools": "x"}, "tools"),
        ({"tools": [7]}, "tools.0"),
        ({"tools": [{"name": "two words"}]}, "tools.0.name"),
        ({"tools": [{"name": "f", "description": 7}]}, "tools.0.description"),
        ({"tools": [{"name": "f", "type": 7}]}, "tools.0.type"),
        ({"tools": [{"name": "f", "input_schema": {1: object()}}]}, "tools.0.input_schema"),
        ({"tools": [{"type": "computer_toolset_20260801"}]}, "tools.0.type"),
        ({"tools": [{"name": "f"}] * (TOOLS_MAX + 1)}, "tools"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"conversation_id": ""}}, "metadata.conversation_id"),
        ({"metadata": {"conversation_id": 7}}, "metadata.conversation_id"),
        ({"some_day": deep(MESSAGES_JSON_DEPTH_MAX)}, "request"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(changed: Any, param: str) -> None:
    got = CODEC.read_request(request(**changed))
    assert isinstance(got, Refused)
    assert param == got.param
    assert got.message


def test_more_documents_than_the_limit_are_refused() -> None:
    document = {"type": "document", "source": {"type": "content", "content": "x"}}
    got = CODEC.read_request(request([document] * (DOCUMENTS_MAX + 1)))
    assert isinstance(got, Refused)
    assert f"messages.0.content.{DOCUMENTS_MAX}" == got.param


WORDS = st.sampled_from(
    [
        "type",
        "text",
        "role",
        "content",
        "user",
        "system",
        "model",
        "messages",
        "tools",
        "name",
        "source",
        "data",
        "document",
        "tool_result",
        "tool_use",
        "input",
        "metadata",
        "conversation_id",
        "search_result",
        "title",
        "thinking",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=12,
)


@given(st.dictionaries(WORDS, VALUES), VALUES)
def test_no_request_makes_the_reader_raise(body: dict[str, Any], content: Any) -> None:
    assert isinstance(CODEC.read_request(body), Asked | Refused)
    assert isinstance(CODEC.read_request({**request(content), **body}), Asked | Refused)
    assert isinstance(CODEC.read_request(request(content)), Asked | Refused)


# ----------------------------------------------------------------------------------------- errors


def test_every_kind_of_error_has_the_form_of_the_api() -> None:
    for kind in STATUS:
        got = CODEC.error(kind, "is wrong", "model")
        assert {"type", "error"} == set(got)
        assert got["error"]["message"] == "model: is wrong"
        assert got["error"]["type"] == CODEC.error_code(str(got).replace("'", '"').encode())


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"error": {"type": "a", "code": "b"}}', "b"),
        (b'{"error": {"type": "two words", "code": null}}', ""),
        (b'{"error": "not_an_object"}', ""),
        (b"<html>", ""),
        (b"\xff", ""),
        (b"[" * 9_000, ""),
    ],
)
def test_an_upstreams_error_is_told_by_its_code_alone(raw: bytes, code: str) -> None:
    assert code == CODEC.error_code(raw)
