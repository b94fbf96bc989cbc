"""Anthropic messages, written: valid at every end, and nothing in it but what was released."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.messages import UNSPENT, body, complete, frames, wire
from reference.messages import read as read_as_client

from tocsin.model import TEXT, Channel
from tocsin.stream import sse
from tocsin.stream.codec import Frame, Made
from tocsin.stream.codecs import CODECS
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

CODEC = CODECS["messages"]
ASKED = Asked(
    api="messages",
    model="claude-x",
    tools=frozenset(["weather"]),
    body={"stop_sequences": ["END"]},
)
MADE = Made(id="msg_made", created_s=0)
THINKING = Channel("reasoning", 0, 0)
CALL = Channel("tool_arguments", 0, 0)
BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Let me see.", "signature": "EqQBCgIYAhIM+/8="},
    {"type": "text", "text": "First 😀."},
    {"type": "text", "text": "Second."},
    {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Köln"}},
]


def decode(written: list[Any]) -> list[Event]:
    decoder = CODEC.decoder(ASKED)
    return [*decoder.feed(wire(written)), *decoder.close()]


def encode(events: list[Event]) -> list[Frame]:
    encoder = CODEC.encoder(ASKED, MADE)
    return [frame for event in events for frame in encoder.encode(event)]


def client(events: list[Event]) -> dict[str, Any]:
    """What a client holds at the end; it checks the order of the frames."""
    written = encode(events)
    assert [frame.data["type"] for frame in written] == [frame.event for frame in written]
    return read_as_client([frame.data for frame in written])


def whole(events: list[Event]) -> dict[str, Any]:
    made = CODEC.body(ASKED, MADE)
    for event in events:
        made.take(event)
    result = made.result()
    assert result == made.result()
    return result


EVENTS = decode(frames(BLOCKS, stop_reason="tool_use"))


def test_a_stream_that_nobody_changed_says_the_same() -> None:
    assert body(BLOCKS, stop_reason="tool_use") == client(EVENTS)


def test_a_body_that_nobody_changed_says_the_same() -> None:
    usage = {
        "input_tokens": 12,
        "output_tokens": 34,
        "cache_read_input_tokens": 5,
        "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0},
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        "service_tier": "standard",
    }
    upstream = body(BLOCKS, stop_reason="stop_sequence", stop_sequence="END", usage=usage)
    events = CODEC.read_body(ASKED, json.dumps(upstream).encode())
    assert upstream == whole(events)


def test_the_category_of_a_refusal_arrives() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": None}
    upstream = body([], stop_reason="refusal", stop_details=details)
    events = CODEC.read_body(ASKED, json.dumps(upstream).encode())
    assert upstream == whole(events)
    assert details == client(events)["stop_details"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
BLOCK = st.one_of(
    TEXTS.map(lambda text: {"type": "text", "text": text}),
    st.tuples(TEXTS, st.sampled_from(["", "Eq=="])).map(
        lambda pair: {"type": "thinking", "thinking": pair[0], "signature": pair[1]}
    ),
    st.dictionaries(TEXTS, TEXTS | st.integers(-(2**60), 2**60), max_size=3).map(
        lambda given: {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": given}
    ),
)


@given(st.lists(BLOCK, max_size=5), st.sampled_from(["end_turn", "max_tokens"]))
def test_streaming_and_not_agree(blocks: list[dict[str, Any]], reason: str) -> None:
    upstream = body(blocks, stop_reason=reason)
    events = CODEC.read_body(ASKED, json.dumps(upstream).encode())
    written = encode(events)
    again = CODEC.decoder(ASKED).feed(sse.encode(written))
    assert events == again
    assert upstream == whole(events) == read_as_client([frame.data for frame in written])


@given(st.data())
def test_text_may_be_cut_and_joined_on_the_way(data: st.DataObject) -> None:
    events: list[Event] = []
    for event in EVENTS:
        if isinstance(event, Wrote):
            at = data.draw(st.integers(0, len(event.text)))
            parts = event.text[:at], event.text[at:]
            events += [Wrote(channel=event.channel, text=part) for part in parts]
        else:
            events.append(event)
    assert client(EVENTS) == client(events)


# ---------------------------------------------------------------------------------------- blocked


@pytest.mark.parametrize("text", ["", "This was stopped."])
@pytest.mark.parametrize("at", range(len(EVENTS)))
def test_a_block_at_any_place_ends_validly_as_a_refusal(at: int, text: str) -> None:
    events = [*EVENTS[:at], Blocked(text=text)]

    got = client(events)

    assert got["stop_reason"] == "refusal"
    assert got["stop_sequence"] is None
    assert got == whole(events)
    texts = "".join(block["text"] for block in got["content"] if block["type"] == "text")
    seen = "".join(e.text for e in events if isinstance(e, Wrote) and e.channel == TEXT)
    assert seen + text == texts
    sealed = [e for e in events if isinstance(e, Sealed) and e.channel == CALL]
    assert len(sealed) == sum(block["type"] == "tool_use" for block in got["content"])
    assert [block for block in got["content"] if block.get("text") == ""] == []


@pytest.mark.parametrize("at", range(len(EVENTS) + 1))
def test_nothing_comes_after_a_block(at: int) -> None:
    ended = encode([*EVENTS[:at], Blocked(text="Stop.")])
    assert ended == encode([*EVENTS[:at], Blocked(text="Stop."), *EVENTS[at:], Blocked()])


def test_a_block_before_anything_is_a_message_of_ours() -> None:
    got = client([Blocked(text="No.")])
    assert (got["id"], got["model"]) == ("msg_made", "claude-x")
    assert got["content"] == complete([{"type": "text", "text": "No."}])
    assert got["usage"] == UNSPENT


def test_a_blocked_stream_tells_the_tokens_that_are_known() -> None:
    assert client([EVENTS[0], Blocked()])["usage"] == UNSPENT | {
        "input_tokens": 12,
        "output_tokens": 1,
    }


def test_the_text_of_a_block_goes_on_in_the_open_text_block() -> None:
    events: list[Event] = [Opened(), Began(channel=TEXT), Wrote(channel=TEXT, text="So ")]
    assert client([*events, Blocked(text="[end]")])["content"] == complete(
        [{"type": "text", "text": "So [end]"}]
    )


def test_a_body_without_an_end_is_a_refusal() -> None:
    got = whole([Opened(), Began(channel=TEXT), Wrote(channel=TEXT, text="So")])
    shown = complete([{"type": "text", "text": "So"}])
    assert (got["stop_reason"], got["content"]) == ("refusal", shown)


def test_a_broken_response_is_an_error_as_clients_know_it() -> None:
    events = [*EVENTS[:3], Broken(reason="garbage", detail="a secret")]
    last = encode(events)[-1]
    assert (last.event, last.data["error"]["type"]) == ("error", "api_error")
    assert "secret" not in repr(last)
    assert last.data == whole(events)


# ------------------------------------------------------------------------------- nothing half open


def test_a_text_block_of_which_nothing_is_released_does_not_appear() -> None:
    events: list[Event] = [
        Opened(),
        Began(channel=TEXT),
        Wrote(channel=TEXT, text=""),
        Sealed(channel=TEXT),
        Began(channel=THINKING),
        Sealed(channel=THINKING, fields={"signature": "Eq==", "digest": "of something else"}),
        Done(),
    ]
    assert client(events)["content"] == []


def test_a_signature_is_given_only_with_a_block_that_is_unchanged() -> None:
    changed = [
        Wrote(channel=event.channel, text="***")
        if isinstance(event, Wrote) and event.channel == THINKING
        else event
        for event in EVENTS[:7]
    ]
    shortened = [event for event in EVENTS if event != EVENTS[3]]
    for events in (changed, shortened):
        block = client([*events, Done()])["content"][0]
        assert (block["type"], block["signature"]) == ("thinking", "")
    assert client(EVENTS)["content"][0]["signature"] == "EqQBCgIYAhIM+/8="


def test_thinking_that_is_not_shown_keeps_its_signature() -> None:
    blocks = [{"type": "thinking", "thinking": "", "signature": "Eq=="}]
    assert blocks == client(decode(frames(blocks)))["content"]


def call(text: str, name: str = "weather") -> list[Event]:
    return [
        Began(channel=CALL, fields={"id": "toolu_01", "name": name}),
        Wrote(channel=CALL, text=text),
        Sealed(channel=CALL),
    ]


def test_a_call_appears_only_when_it_is_sealed() -> None:
    encoder = CODEC.encoder(ASKED, MADE)
    *before, sealed = call('{"a": 1}')
    assert [f.event for f in encoder.encode(Opened())] == ["message_start"]
    assert [frame for event in before for frame in encoder.encode(event)] == []
    assert [f.event[14:] for f in encoder.encode(sealed)] == ["start", "delta", "stop"]


@pytest.mark.parametrize("text", ['{"a": ***}', '{"a": 1', "[1]", '{"a": "\\ud83d"}'])
def test_a_call_that_is_no_json_object_any_more_is_left_out(text: str) -> None:
    stopped = Stopped(fields={"stop_reason": "tool_use"})
    got = client([Opened(), *call(text), stopped, Done()])
    assert (got["content"], got["stop_reason"]) == ([], "refusal")
    some = client([Opened(), *call("{}"), *call(text), stopped, Done()])
    assert (len(some["content"]), some["stop_reason"]) == (1, "tool_use")


def test_a_call_without_an_id_gets_one_of_its_own() -> None:
    began = Began(channel=CALL, fields={"name": "weather"})
    got = client([Opened(), began, Sealed(channel=CALL), began, Sealed(channel=CALL), Done()])
    ids = [(block["id"], block["input"]) for block in got["content"]]
    assert ids == [("toolu_msg_made_0", {}), ("toolu_msg_made_1", {})]


def test_text_between_calls_is_numbered_in_the_order_of_writing() -> None:
    events: list[Event] = [Opened(), Wrote(channel=TEXT, text="a"), *call("{}")]
    got = client([*events, Wrote(channel=TEXT, text="b"), Done()])
    assert [block["type"] for block in got["content"]] == ["text", "tool_use", "text"]


def test_the_last_count_of_tokens_is_told() -> None:
    spent = [Spent(fields={"output_tokens": count}) for count in (5, 9)]
    assert client([Opened(), *spent, Done()])["usage"] == UNSPENT | {"output_tokens": 9}


def test_a_second_beginning_and_observations_are_not_written() -> None:
    seen = Wrote(channel=Channel("observation"), text="what a tool said")
    events: list[Event] = [Opened(fields={"id": "msg_a"}), Opened(fields={"id": "msg_b"}), seen]
    assert (client([*events, Done()])["id"], client([*events, Done()])["content"]) == ("msg_a", [])
