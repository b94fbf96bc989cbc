"""Tool calls of chat completions, from every kind of server."""

from __future__ import annotations

from typing import Any

import pytest
from reference.chat import call, chunk
from stream.chat_streams import (
    ASKED,
    CALL,
    CALLED,
    LOOKED,
    LOOKED_TWICE,
    SECOND_CALL,
    seen,
)

from tocsin.limits import CHANNELS_MAX, HELD_CHARS_MAX
from tocsin.stream.chat_reading import ChatDecoder
from tocsin.stream.events import (
    Asked,
    Began,
    Broken,
    Done,
    Sealed,
    Wrote,
)


@pytest.mark.parametrize(
    "fragments",
    [
        [call(0, "c1", "look", '{"a":1}')],
        [call(0, "c1", "look", ""), call(0, text='{"a"'), call(0, text=":1}")],
        [call(0, "c1"), call(0, name="look"), call(0, text='{"a":1}')],
        [call(0, "c", "lo"), call(0, "1", "ok"), call(0, text='{"a":1}')],
        [call(0, "c1", "look", '{"a"'), call(0, "c1", "look", ":1}")],
        [call(0, "c1", "look", ""), call(0, "c1", "look", '{"a":1}')],
        [call(0, "c1", "look", '{"a"'), call(0, "c9", text=":1}")],
        [call(None, "c1", "look", '{"a":1}')],
        [call(None, "c1", "look", '{"a"'), call(None, text=":1}")],
        [call(5, "c1", "look", '{"a":1}')],
    ],
)
def test_a_tool_call_is_read_however_a_server_cuts_it(fragments: list[dict[str, Any]]) -> None:
    chunks = [chunk(tool_calls=[fragment]) for fragment in fragments]
    assert seen(*chunks, chunk(reason="tool_calls")) == [*LOOKED, CALLED, Done()]
    together = chunk(tool_calls=fragments, reason="tool_calls")
    assert seen(together) == [*LOOKED, CALLED, Done()]


@pytest.mark.parametrize(
    "fragments",
    [
        [call(0, "c1", "look", '{"a":1}'), call(1, "c2", "look", "{}")],
        [call(None, "c1", "look", '{"a":1}'), call(None, "c2", "look", "{}")],
        [call(0, "c1", "look", '{"a":1}'), call(0, "c2", "look", "{}")],
        [call(0, "c1", "look", '{"a"'), call(0, text=":1}"), call(7, "c2", "look", "{}")],
    ],
)
def test_several_tool_calls_are_told_apart(fragments: list[dict[str, Any]]) -> None:
    chunks = [chunk(tool_calls=[fragment]) for fragment in fragments]
    assert seen(*chunks, chunk(reason="tool_calls")) == [*LOOKED_TWICE, CALLED, Done()]


def test_fragments_of_two_tool_calls_may_alternate() -> None:
    events = seen(
        chunk(tool_calls=[call(0, "c1", "look", '{"a"'), call(1, "c2", "look", "{")]),
        chunk(tool_calls=[call(0, text=":1}"), call(1, text="}")], reason="tool_calls"),
    )
    texts = {CALL: "", SECOND_CALL: ""}
    for event in events:
        if isinstance(event, Wrote):
            texts[event.channel] += event.text
    assert texts == {CALL: '{"a":1}', SECOND_CALL: "{}"}
    assert events[-4:] == [Sealed(channel=CALL), Sealed(channel=SECOND_CALL), CALLED, Done()]


def test_a_call_without_arguments_begins_when_its_choice_stops() -> None:
    chunks = [chunk(tool_calls=[call(0, "c1", "look", "")]), chunk(reason="tool_calls")]
    assert seen(*chunks) == [LOOKED[0], LOOKED[2], CALLED, Done()]


def test_two_calls_without_arguments_and_with_one_index_are_two() -> None:
    calls = [call(0, "c1", "look", ""), call(0, "c2", "look", "")]
    events = seen(chunk(tool_calls=calls, reason="tool_calls"))
    assert [e.fields["id"] for e in events if isinstance(e, Began)] == ["c1", "c2"]


@pytest.mark.parametrize("name", ["", "steal", "look_u", "look_upp"])
def test_a_tool_that_was_not_offered_is_garbage(name: str) -> None:
    garbage = Broken(reason="garbage", detail="a tool was called that was not offered")
    assert seen(chunk(tool_calls=[call(0, "c1", name, "{}")])) == [garbage]
    assert seen(chunk(tool_calls=[call(0, "c1", name)], reason="tool_calls")) == [garbage]


@pytest.mark.parametrize(
    "fragments",
    [
        [call(0, "c1", "look", '{"a"'), call(0, "c1", "look", ":1}")],
        [call(0, "c1", "look", ""), call(0, "c1", "look", '{"a":1}')],
        [call(0, "c", "lo"), call(0, "1", "ok"), call(0, text='{"a":1}')],
        [call(None, "c1", "look", '{"a":1}')],
    ],
)
def test_where_the_tools_are_not_known_any_name_of_the_right_shape_is_called(
    fragments: list[dict[str, Any]],
) -> None:
    asked = Asked(api="chat", model="m", tools=None)
    chunks = [chunk(tool_calls=[fragment]) for fragment in fragments]
    assert seen(*chunks, chunk(reason="tool_calls"), asked=asked) == [*LOOKED, CALLED, Done()]
    for name in ("", "two words", "n" * 300):
        events = seen(chunk(tool_calls=[call(0, "c1", name, "{}")]), asked=asked)
        assert [type(e) for e in events] == [Broken]


def test_a_call_that_changes_its_name_is_garbage() -> None:
    chunks = [chunk(tool_calls=[call(0, "c1", "look", "{}")])]
    events = seen(*chunks, chunk(tool_calls=[call(0, name="look_up")]))
    assert events[-1] == Broken(reason="garbage", detail="a tool call changed its name")


def test_a_function_in_the_old_way_is_garbage_since_none_was_offered() -> None:
    events = seen(chunk(function_call={"name": "look", "arguments": "{}"}))
    detail = "a function was called that was not offered"
    assert events == [Broken(reason="garbage", detail=detail)]


def test_an_id_of_another_shape_is_left_out() -> None:
    events = seen(chunk(tool_calls=[call(0, "a secret", "look", "{}")], reason="tool_calls"))
    assert events[0] == Began(channel=CALL, fields={"name": "look"})


def test_a_call_that_ran_out_of_room_is_never_sealed() -> None:
    calls = [call(0, "c1", "look", '{"a":1}'), call(1, "c2", "look", "{")]
    events = seen(chunk(tool_calls=calls, reason="length"))
    assert [e.channel for e in events if isinstance(e, Sealed)] == [CALL]
    events = seen(chunk(tool_calls=calls, reason="content_filter"))
    assert not [e for e in events if isinstance(e, Sealed)]


def test_more_tool_calls_than_channels_are_too_many() -> None:
    calls = [call(i, f"c{i}", "look", "{}") for i in range(CHANNELS_MAX + 1)]
    assert seen(chunk(tool_calls=calls))[-1] == Broken(
        reason="too_long", detail="too many tool calls"
    )


def test_arguments_longer_than_what_may_wait_are_too_long() -> None:
    half = "x" * (HELD_CHARS_MAX // 2)
    decoder = ChatDecoder(ASKED)
    for at in range(2):
        taken = decoder.take(chunk(tool_calls=[call(at, f"c{at}", "look", half)]))
        assert isinstance(taken[-1], Wrote)
    assert decoder.take(chunk(tool_calls=[call(1, text="x")])) == [
        Broken(reason="too_long", detail="the arguments of tool calls are too long")
    ]
