"""Chat completions, written: nothing but what was released, and a valid end at any place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.chat import accumulate, call, chunk, stream
from reference.sse import payloads

from tocsin.model import Channel, Token
from tocsin.stream.chat import CODEC
from tocsin.stream.codec import Frame, Made
from tocsin.stream.events import (
    Asked,
    Began,
    Blocked,
    Broken,
    Done,
    Event,
    Opened,
    Sealed,
    Spent,
    Stopped,
    Wrote,
)
from tocsin.stream.sse import encode

MADE = Made(id="chatcmpl-made1", created_s=1_800_000_000)
TEXT, SECOND = Channel("text"), Channel("text", 1)
CALL = Channel("tool_arguments")
NOTHING_SPENT = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
HEAD = {
    "id": "chatcmpl-made1",
    "object": "chat.completion.chunk",
    "created": 1_800_000_000,
    "model": "m",
}


def asked(choices: int = 1, *, include_usage: bool = False) -> Asked:
    """A request."""
    return Asked(
        api="chat",
        model="m",
        stream=True,
        choices=choices,
        include_usage=include_usage,
        tools=frozenset({"look"}),
    )


def frames(*events: Event, request: Asked | None = None) -> list[Frame]:
    """What an encoder gives."""
    encoder = CODEC.encoder(request or asked(), MADE)
    return [frame for event in events for frame in encoder.encode(event)]


def choices(*events: Event, request: Asked | None = None) -> list[dict[str, Any]]:
    """The choices of the chunks, one each, before ``[DONE]``."""
    given = frames(*events, request=request)
    return [c for f in given if isinstance(f.data, dict) for c in f.data["choices"]]


def body(*events: Event, request: Asked | None = None) -> dict[str, Any]:
    """What a body is in the end."""
    writer = CODEC.body(request or asked(), MADE)
    for event in events:
        writer.take(event)
    return writer.result()


def entry(index: int, reason: str | None = None, **delta: Any) -> dict[str, Any]:
    """One choice of a chunk."""
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def stopped(choice: int = 0, reason: str = "stop") -> Stopped:
    """The end of a choice."""
    return Stopped(choice=choice, fields={"finish_reason": reason})


def called(index: int = 0, text: str = "{}", **fields: str) -> list[Event]:
    """A whole tool call."""
    channel = Channel("tool_arguments", 0, index)
    return [
        Began(channel=channel, fields={"name": "look"} | fields),
        Wrote(channel=channel, text=text),
        Sealed(channel=channel),
    ]


# -------------------------------------------------------------------------------------- as it comes


def test_text_is_written_as_chunks() -> None:
    fields = {
        "id": "x1",
        "model": "up",
        "created": 5,
        "system_fingerprint": "fp",
        "service_tier": "flex",
    }
    head = HEAD | fields
    assert frames(
        Opened(fields=fields), Wrote(channel=TEXT, text="a"), stopped(), Spent(), Done()
    ) == [
        Frame(head | {"choices": [entry(0, role="assistant", content="a")]}),
        Frame(head | {"choices": [entry(0, "stop")]}),
        Frame("[DONE]"),
    ]


def test_what_the_upstream_did_not_say_is_made() -> None:
    first = frames(Opened(), Wrote(channel=TEXT, text="a"))[0]
    assert first.data == HEAD | {"choices": [entry(0, role="assistant", content="a")]}


def test_a_response_that_has_begun_keeps_its_name() -> None:
    first, second = Opened(fields={"id": "x1"}), Opened(fields={"id": "x2"})
    begun = frames(first, Wrote(channel=TEXT, text="a"), second, Wrote(channel=TEXT, text="b"))
    assert [f.data["id"] for f in begun] == ["x1", "x1"]
    assert frames(first, second, Wrote(channel=TEXT, text="a"))[0].data["id"] == "x2"


def test_choices_are_announced_in_order_whichever_comes_first() -> None:
    assert choices(
        Wrote(channel=SECOND, text="b"), Wrote(channel=TEXT, text="a"), request=asked(2)
    ) == [
        entry(0, role="assistant"),
        entry(1, role="assistant", content="b"),
        entry(0, content="a"),
    ]


def test_each_kind_of_text_has_its_field() -> None:
    reasoning = Channel("reasoning")
    written = choices(
        Began(channel=reasoning, fields={"as": "reasoning"}),
        Wrote(channel=reasoning, text="r"),
        Sealed(channel=reasoning),
        Wrote(channel=Channel("refusal"), text="n"),
        Wrote(channel=Channel("observation"), text="secret"),
        Wrote(channel=TEXT, text=""),
    )
    assert written == [entry(0, role="assistant", reasoning="r"), entry(0, refusal="n")]
    assert choices(Wrote(channel=reasoning, text="r")) == [
        entry(0, role="assistant", reasoning_content="r")
    ]


def test_tokens_are_written_without_their_alternatives() -> None:
    tokens = (Token("é", -0.5, (-1.0, -2.0)), Token("b", -1.0))
    expected = [
        {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": []},
        {"token": "b", "logprob": -1.0, "bytes": [98], "top_logprobs": []},
    ]
    event = Wrote(channel=TEXT, text="éb", tokens=tokens)
    assert choices(event)[0]["logprobs"] == {"content": expected}
    assert body(event, stopped())["choices"][0]["logprobs"] == {"content": expected}
    event = Wrote(channel=Channel("refusal"), text="éb", tokens=tokens)
    assert choices(event)[0]["logprobs"] == {"refusal": expected}


def test_a_tool_call_is_never_shown_before_its_choice_stops() -> None:
    events = called(text='{"a":1}', id="c1")
    for n in range(4):
        assert choices(*events[:n]) == []
    function = {"name": "look", "arguments": '{"a":1}'}
    shown = {"id": "c1", "type": "function", "function": function}
    assert choices(*events, stopped(0, "tool_calls")) == [
        entry(0, role="assistant", tool_calls=[{"index": 0, **shown}]),
        entry(0, "tool_calls"),
    ]
    assert body(*events, stopped(0, "tool_calls"))["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [shown],
    }


def test_a_tool_call_that_was_not_sealed_is_never_shown() -> None:
    half = called(0)[:2]
    whole = called(1, id="c2")
    written = choices(*half, *whole, stopped(0, "length"))
    assert [c["id"] for w in written for c in w["delta"].get("tool_calls", [])] == ["c2"]
    assert written[0]["delta"]["tool_calls"][0]["index"] == 0
    assert (
        len(body(*half, *whole, stopped(0, "length"))["choices"][0]["message"]["tool_calls"]) == 1
    )


def test_tool_calls_are_written_in_the_order_of_their_index_whichever_began_first() -> None:
    events = [*called(1, id="c1"), *called(0, id="c0"), stopped(0, "tool_calls")]
    written = [c for w in choices(*events) for c in w["delta"].get("tool_calls", [])]
    assert [(c["index"], c["id"]) for c in written] == [(0, "c0"), (1, "c1")]


def test_text_of_a_call_that_never_began_is_no_call() -> None:
    stray: list[Event] = [Wrote(channel=CALL, text="{}"), Sealed(channel=CALL)]
    assert choices(*stray, stopped()) == [entry(0, "stop", role="assistant")]


def test_ids_that_are_missing_are_made_and_differ() -> None:
    events = [*called(0), *called(1), stopped(0, "tool_calls")]
    ids = [c["id"] for w in choices(*events) for c in w["delta"].get("tool_calls", [])]
    assert ids == ["call_made1_0_0", "call_made1_0_1"]


@pytest.mark.parametrize("include_usage", [True, False])
def test_usage_is_written_only_if_asked_for(include_usage: bool) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    request = asked(include_usage=include_usage)
    given = frames(
        Wrote(channel=TEXT, text="a"), stopped(), Spent(fields=usage), Done(), request=request
    )
    assert [f.data["usage"] for f in given if "usage" in f.data] == (
        [None, None, usage] if include_usage else []
    )
    if include_usage:
        assert given[-2].data["choices"] == []
    assert given[-1] == Frame("[DONE]")


def test_a_choice_that_stopped_writes_nothing_more() -> None:
    after: list[Event] = [Wrote(channel=TEXT, text="b"), *called(), stopped(0, "tool_calls")]
    assert choices(stopped(), *after) == [entry(0, "stop", role="assistant")]
    answer = body(Wrote(channel=TEXT, text="a"), stopped(), *after)["choices"][0]
    assert (answer["message"]["content"], answer["finish_reason"]) == ("a", "stop")
    assert "tool_calls" not in answer["message"]


def test_an_observation_is_no_part_of_a_response() -> None:
    observation = Wrote(channel=Channel("observation"), text="secret")
    assert choices(observation) == []
    assert body(observation, stopped())["choices"][0]["message"]["content"] == ""


def test_usage_that_nobody_counted_is_not_made_up() -> None:
    given = frames(stopped(), Done(), request=asked(include_usage=True))
    assert [f.data["usage"] for f in given if isinstance(f.data, dict)] == [None]


def test_a_response_that_broke_off_ends_in_an_error_and_not_as_done() -> None:
    given = frames(Wrote(channel=TEXT, text="a"), Broken(reason="garbage", detail="secret"), Done())
    assert len(given) == 2
    assert given[1].data["error"]["message"] == "The response broke off: garbage."


# --------------------------------------------------------------------------------------- blocked


@pytest.mark.parametrize("text", ["", "No."])
def test_a_blocked_stream_ends_as_a_filtered_one_on_every_open_choice(text: str) -> None:
    request = asked(3, include_usage=True)
    events: list[Event] = [
        Opened(),
        Wrote(channel=TEXT, text="a"),
        stopped(0),
        Wrote(channel=SECOND, text="b"),
        Blocked(text=text),
        Wrote(channel=SECOND, text="secret"),
        Done(),
    ]
    given = frames(*events, request=request)
    held = accumulate(payloads(encode(given)))
    assert {i: c["finish_reason"] for i, c in held.items()} == {
        0: "stop",
        1: "content_filter",
        2: "content_filter",
    }
    assert [held[i].get("content", "") for i in range(3)] == ["a", "b" + text, text]
    assert given[-2].data["usage"] == NOTHING_SPENT
    assert given[-1] == Frame("[DONE]")
    whole = body(*events, request=request)
    assert [c["finish_reason"] for c in whole["choices"]] == [
        "stop",
        "content_filter",
        "content_filter",
    ]
    assert [c["message"]["content"] for c in whole["choices"]] == ["a", "b" + text, text]
    assert whole["usage"] == NOTHING_SPENT


def test_a_block_before_the_response_began_is_a_whole_response() -> None:
    assert frames(Blocked(text="No.")) == [
        Frame(HEAD | {"choices": [entry(0, role="assistant", content="No.")]}),
        Frame(HEAD | {"choices": [entry(0, "content_filter")]}),
        Frame("[DONE]"),
    ]
    assert body(Blocked(text="No."))["choices"][0]["message"]["content"] == "No."


def test_a_block_after_every_choice_stopped_only_ends_the_stream() -> None:
    given = frames(stopped(), Blocked(text="No."))
    assert [f.data for f in given[1:]] == ["[DONE]"]


def test_what_was_spent_is_told_of_a_blocked_response_too() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    given = frames(Spent(fields=usage), Blocked(), request=asked(include_usage=True))
    assert given[-2].data["usage"] == usage
    assert body(Spent(fields=usage), Blocked())["usage"] == usage


@pytest.mark.parametrize("n", range(7))
def test_a_blocked_response_shows_no_tool_call_wherever_it_was_blocked(n: int) -> None:
    events = [*called(0), *called(1)][:n]
    for written in (
        choices(*events, Blocked()),
        choices(*events, stopped(0, "content_filter")),
    ):
        assert written == [entry(0, "content_filter", role="assistant")]
    for whole in (body(*events, Blocked()), body(*events, stopped(0, "content_filter"))):
        assert "tool_calls" not in whole["choices"][0]["message"]


def test_a_body_that_never_stopped_is_a_filtered_one() -> None:
    for last in ([], [Broken(reason="cut_off")]):
        answer = body(Wrote(channel=TEXT, text="a"), *called(), *last)["choices"][0]
        assert answer["finish_reason"] == "content_filter"
        assert "tool_calls" not in answer["message"]


# ---------------------------------------------------------------------------- there and back again


texts = st.text(st.sampled_from('ab {}"\\\n é日😀\x00\ud83d\ude00\u2028'), max_size=8)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Whole responses, of one or two choices."""
    given = []
    for index in range(draw(st.integers(1, 2))):
        message = {
            name: draw(st.none() | texts)
            for name in (
                "content",
                "refusal",
                draw(st.sampled_from(["reasoning", "reasoning_content"])),
            )
        }
        calls = [
            {
                "id": f"c{n}",
                "type": "function",
                "function": {"name": "look", "arguments": draw(texts)},
            }
            for n in range(draw(st.integers(0, 2)))
        ]
        reason = (
            "tool_calls" if calls else draw(st.sampled_from(["stop", "length", "content_filter"]))
        )
        given.append(
            {"index": index, "message": message | {"tool_calls": calls}, "finish_reason": reason}
        )
    made = {"id": "chatcmpl-1", "created": 7, "model": "up", "choices": given}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return made | ({"usage": usage} if draw(st.booleans()) else {})


def told(events: list[Event]) -> dict[Any, Any]:
    """What events say, however their texts are cut and interleaved."""
    held: dict[Any, Any] = {}
    for event in events:
        match event:
            case Wrote():
                held[event.channel] = held.get(event.channel, "") + event.text
            case Began() | Sealed():
                held[type(event), event.channel] = event.fields
            case Stopped():
                held["stopped", event.choice] = event.fields
            case Opened() | Spent() | Done() | Broken():
                held[type(event)] = event
    return held


@given(bodies(), st.integers(1, 40))
def test_what_is_read_is_what_is_written_in_a_stream_and_in_a_body(
    given_body: dict[str, Any], size: int
) -> None:
    request = asked(2, include_usage=True)
    events = CODEC.read_body(request, json.dumps(given_body).encode())
    raw = encode(frames(*events, request=request))
    decoder = CODEC.decoder(request)
    back = [e for at in range(0, len(raw), size) for e in decoder.feed(raw[at : at + size])]
    assert isinstance(back[-1], Done)
    assert told(events) == told(back)
    again = CODEC.read_body(request, json.dumps(body(*events, request=request)).encode())
    assert told(events) == told(again)


def test_a_stream_that_nobody_changes_means_the_same() -> None:
    chunks = [
        chunk(role="assistant", content=""),
        chunk(1, role="assistant", content=""),
        chunk(content="a"),
        chunk(1, reasoning="hm"),
        chunk(1, content="b", reason="stop"),
        chunk(tool_calls=[call(0, "c1", "look", "")]),
        chunk(tool_calls=[call(0, text='{"a"')]),
        chunk(tool_calls=[call(0, text=":1}")]),
        chunk(reason="tool_calls"),
    ]
    events = CODEC.decoder(asked(2)).feed(stream(*chunks))
    written = payloads(encode(frames(*events, request=asked(2))))
    assert accumulate(chunks) == accumulate(written)
    assert {"chatcmpl-up1"} == {c["id"] for c in written}
    assert {"small-1"} == {c["model"] for c in written}


@pytest.mark.parametrize("status", ["bad_request", "too_many", "internal", "blocked"])
def test_an_error_has_the_apis_own_form(status: Any) -> None:
    error = CODEC.error(status, "What to do.", "n")["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert (error["message"], error["param"]) == ("What to do.", "n")
    assert CODEC.error_code(json.dumps({"error": error}).encode()) in {error["code"], error["type"]}
