# What is promised: every text of a request reaches the guard, in order; what nobody could watch is
# refused; everything else goes on as it came; and no request makes the reader raise.

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin import limits
from tocsin.model import Message, Tool
from tocsin.stream.codec import Made
from tocsin.stream.events import Asked, Done, Refused
from tocsin.stream.responses import CODEC


def asked(**body: Any) -> Asked:
    found = CODEC.read_request({"model": "m", **body})
    assert isinstance(found, Asked), found
    return found


def refused(**body: Any) -> str | None:
    """The field that is refused."""
    found = CODEC.read_request({"model": "m", **body})
    assert isinstance(found, Refused)
    assert found.message.endswith(".")
    return found.param


def texts(*items: Any) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in asked(input=list(items)).context.messages]


def test_a_request_is_read_and_kept_whole() -> None:
    body = {"model": "m", "input": "Hi", "stream": True, "seed": 3, "text": {"verbosity": "low"}}
    found = CODEC.read_request(body)
    assert isinstance(found, Asked)
    assert (found.api, found.model, found.stream, found.choices) == ("responses", "m", True, 1)
    assert found.context.messages == (Message("user", "Hi"),)
    assert found.body == body
    assert found.unread == 0


def test_every_text_is_read_in_its_order() -> None:
    items = [
        {"role": "developer", "content": "a"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "c"}],
            "content": [{"type": "reasoning_text", "text": "d"}],
        },
        {"type": "function_call", "name": "f", "call_id": "1", "arguments": '{"e": 1}'},
        {"type": "function_call_output", "call_id": "1", "output": "f"},
        {"type": "custom_tool_call", "name": "f", "call_id": "2", "input": "g"},
        {
            "type": "custom_tool_call_output",
            "call_id": "2",
            "output": [{"type": "input_text", "text": "h"}, {"type": "input_text", "text": "i"}],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "j"},
                {"type": "refusal", "refusal": "k"},
            ],
        },
    ]
    found = asked(instructions="0", input=items)
    assert [(m.role, m.content) for m in found.context.messages] == [
        ("system", "0"),
        ("developer", "a"),
        ("user", "b"),
        ("assistant", "c\nd"),
        ("assistant", '{"e": 1}'),
        ("tool", "f"),
        ("assistant", "g"),
        ("tool", "h\ni"),
        ("assistant", "j\nk"),
    ]
    assert found.unread == 0


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (
            {"type": "file_search_call", "id": "x", "queries": ["q"], "results": [{"text": "r"}]},
            "q\nr",
        ),
        (
            {"type": "code_interpreter_call", "code": "c", "outputs": [{"logs": "l"}]},
            "c\nl",
        ),
        ({"type": "shell_call_output", "output": [{"stdout": "o", "stderr": "e"}]}, "o\ne"),
        ({"type": "mcp_call", "arguments": "a", "output": "o", "id": "x"}, "a\no"),
        ({"type": "local_shell_call", "action": {"command": ["ls", "-l"]}}, "ls\n-l"),
        ({"type": "of_a_later_day", "anything": {"at": [{"all": "t"}]}}, "t"),
    ],
)
def test_texts_of_hosted_tools_are_read_wherever_they_stand(item: Any, text: str) -> None:
    assert texts(item) == [("tool", text)]


@pytest.mark.parametrize(
    ("body", "unread"),
    [
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, 1),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "e"}]}]}, 1),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, 1),
        ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "g"}]}, 1),
        ({"input": [{"type": "computer_call_output", "output": {"image_url": "data:"}}]}, 1),
        ({"previous_response_id": "resp_1", "input": "Hi"}, 1),
        ({"conversation": "conv_1", "input": "Hi"}, 1),
        ({"prompt": {"id": "pmpt_1", "variables": {"a": "b"}}}, 1),
        ({"prompt": {"id": "pmpt_1"}}, 2),
    ],
)
def test_what_nobody_can_read_here_is_counted(body: Any, unread: int) -> None:
    assert asked(**body).unread == unread


def test_the_variables_of_a_stored_prompt_are_read_and_its_tools_are_not_known() -> None:
    variables = {"a": "b", "c": {"type": "input_text", "text": "d"}}
    found = asked(prompt={"id": "pmpt_1", "variables": variables})
    assert found.context.messages == (Message("user", "b\nd"),)
    assert found.tools is None


def test_tools_that_the_client_runs_are_read() -> None:
    tools: list[Any] = [
        {
            "type": "function",
            "name": "f",
            "description": "d",
            "parameters": {"type": "object"},
        },
        {"type": "custom", "name": "c"},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "inner"}]},
        {"type": "web_search"},
        {"type": "mcp", "server_label": "s"},
    ]
    later = {"type": "additional_tools", "role": "developer", "tools": [tools[1] | {"name": "z"}]}
    found = asked(input=[later], tools=tools)
    assert found.tools == frozenset({"f", "c", "inner", "z"})
    assert found.context.tools[0] == Tool("f", "d", '{"type":"object"}')


def test_the_conversation_is_named_by_metadata_or_by_the_api() -> None:
    assert asked(input="x").conversation is None
    assert asked(input="x", conversation="conv_1").conversation == "conv_1"
    assert asked(input="x", conversation={"id": "conv_1"}).conversation == "conv_1"
    both = asked(input="x", conversation="conv_1", metadata={"conversation_id": "mine"})
    assert both.conversation == "mine"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": "x" * 300}, "model"),
        ({"background": True}, "background"),
        ({"background": 1}, "background"),
        ({"audio": {}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 7}, "stream_options"),
        ({"input": 7}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "root", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": ["x"]}]}, "input[0].content[0]"),
        ({"input": [{"type": 7}]}, "input[0].type"),
        ({"input": [{"type": "function_call_output", "output": 7}]}, "input[0].output"),
        ({"instructions": 7}, "instructions"),
        ({"tools": 7}, "tools"),
        ({"tools": [7]}, "tools[0]"),
        ({"tools": [{"type": "function", "name": "two words"}]}, "tools[0].name"),
        ({"tools": [{"type": "custom", "name": "c", "description": 7}]}, "tools[0].description"),
        ({"tools": [{"type": "function", "name": "f", "parameters": 7}]}, "tools[0].parameters"),
        ({"metadata": 7}, "metadata"),
        ({"metadata": {"conversation_id": "two words"}}, "metadata.conversation_id"),
        ({"conversation": 7}, "conversation"),
        ({"conversation": {}}, "conversation.id"),
        ({"previous_response_id": 7}, "previous_response_id"),
        ({"prompt": 7}, "prompt"),
        ({"input": [{}] * (limits.MESSAGES_MAX + 1)}, "input"),
        ({"tools": [{}] * (limits.TOOLS_MAX + 1)}, "tools"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_field(body: Any, param: str) -> None:
    assert refused(**body) == param


def test_depth_is_bounded() -> None:
    deep: Any = "x"
    for _ in range(limits.RESPONSES_JSON_DEPTH_MAX + 1):
        deep = [deep]
    assert refused(input=[{"type": "later", "a": deep}]) == "input"
    for _ in range(5_000):
        deep = [deep]
    function = {"type": "function", "name": "f", "parameters": {"a": deep}}
    assert refused(tools=[function]) == "tools[0].parameters"


def test_half_characters_are_made_whole() -> None:
    assert texts({"role": "user", "content": "a\ud83d\ude00\ud83d"}) == [("user", "a😀\ufffd")]


NAMES = (
    "type role content text refusal summary output arguments input name tools id parameters "
    "variables conversation_id encrypted_content"
)
WORDS = "message reasoning function_call function_call_output function custom namespace user"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES.split()), inner | st.sampled_from(WORDS.split()), max_size=4
        )
    ),
    max_leaves=10,
)
FIELDS = (
    "input instructions tools prompt conversation metadata previous_response_id stream text "
    "background modalities tool_choice"
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS.split()), VALUES | st.lists(VALUES, max_size=3)))
def test_no_request_makes_the_reader_raise_and_none_that_is_read_the_writer(body: Any) -> None:
    found = CODEC.read_request({"model": "m", **body})
    if isinstance(found, Asked):
        written = CODEC.body(found, Made(id="resp_1", created_s=0))
        written.take(Done())
        assert json.dumps(written.result()["tools"]) is not None
        assert found.body == {"model": "m", **body}
    else:
        assert isinstance(found, Refused)
