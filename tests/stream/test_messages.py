"""Anthropic messages, read: the same events however the bytes are cut, and none on bad input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from reference.messages import around, block, body, frames, wire

from tocsin.limits import (
    MESSAGES_SIGNATURE_CHARS_MAX,
)
from tocsin.model import TEXT, Channel
from tocsin.stream.codecs import CODECS
from tocsin.stream.events import (
    Asked,
    Began,
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
    stream=True,
    tools=frozenset(["weather"]),
    body={"stop_sequences": ["END"]},
)
THINKING = Channel("reasoning", 0, 0)
CALL = Channel("tool_arguments", 0, 0)
BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Let me see: ünï 😀.", "signature": "EqQBCgIYAhIM+/8="},
    {"type": "text", "text": "Grüße, 世界 😀\x00\n"},
    {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Köln 😀"}},
]


def read(data: bytes, asked: Asked = ASKED) -> list[Event]:
    decoder = CODEC.decoder(asked)
    return [*decoder.feed(data), *decoder.close()]


def read_frames(written: list[Any], asked: Asked = ASKED) -> list[Event]:
    return read(wire(written), asked)


def joined(events: list[Event]) -> list[Event]:
    """Events with neighbouring texts of a channel joined."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Wrote) and isinstance(last, Wrote) and last.channel == event.channel:
            out[-1] = Wrote(channel=event.channel, text=last.text + event.text)
        else:
            out.append(event)
    return out


EXPECTED: list[Event] = [
    Opened(
        fields={
            "id": "msg_01ABC",
            "model": "claude-x",
            "usage": {"input_tokens": 12, "output_tokens": 1},
        }
    ),
    Began(channel=THINKING),
    Wrote(channel=THINKING, text="Let me see: ünï 😀."),
    Sealed(
        channel=THINKING,
        fields={"signature": "EqQBCgIYAhIM+/8=", "digest": ""},
    ),
    Began(channel=TEXT),
    Wrote(channel=TEXT, text="Grüße, 世界 😀\x00\n"),
    Sealed(channel=TEXT),
    Began(channel=CALL, fields={"id": "toolu_01", "name": "weather"}),
    Wrote(channel=CALL, text='{"city": "K\\u00f6ln \\ud83d\\ude00"}'),
    Sealed(channel=CALL),
    Stopped(fields={"stop_reason": "tool_use"}),
    Spent(fields={"input_tokens": 12, "output_tokens": 34}),
    Done(),
]


def without_digest(events: list[Event]) -> list[Event]:
    return [
        Sealed(channel=event.channel, fields={**event.fields, "digest": ""})
        if isinstance(event, Sealed) and "digest" in event.fields
        else event
        for event in events
    ]


# ------------------------------------------------------------------------------------ well formed


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_a_stream_becomes_its_events(cut: int, end: str) -> None:
    written = frames(BLOCKS, cut=cut, stop_reason="tool_use")

    events = read(wire(written, end))

    assert without_digest(EXPECTED) == without_digest(joined(events))


def test_the_events_are_the_same_byte_by_byte_and_at_every_cut() -> None:
    data = wire(frames(BLOCKS, cut=5, stop_reason="tool_use"))
    whole = joined(read(data))
    decoder = CODEC.decoder(ASKED)
    bytewise = [event for at in range(len(data)) for event in decoder.feed(data[at : at + 1])]
    assert whole == joined(bytewise)
    for cut in range(len(data) + 1):
        decoder = CODEC.decoder(ASKED)
        assert whole == joined([*decoder.feed(data[:cut]), *decoder.feed(data[cut:])])


def test_frames_that_are_decoded_already_give_the_same_events() -> None:
    written = frames(BLOCKS, stop_reason="tool_use")
    decoder = CODEC.decoder(ASKED)

    events = [event for frame in written for event in decoder.take(frame)]

    assert read_frames(written) == events


def test_a_body_gives_the_events_of_its_stream() -> None:
    whole = body(BLOCKS, stop_reason="tool_use")
    events = CODEC.read_body(ASKED, json.dumps(whole, ensure_ascii=False).encode())
    streamed = joined(read_frames(frames(BLOCKS, stop_reason="tool_use")))
    # Whitespace and escapes of the arguments are not the upstream's, and all tokens are known.
    expected = [
        Wrote(channel=CALL, text='{"city":"Köln 😀"}')
        if isinstance(event, Wrote) and event.channel == CALL
        else event
        for event in streamed[1:]
    ]
    usage = {"input_tokens": 12, "output_tokens": 34}
    opened = Opened(fields={"id": "msg_01ABC", "model": "claude-x", "usage": usage})
    assert [opened, *expected] == joined(events)


def test_pings_comments_and_what_follows_the_end_are_read_over() -> None:
    data = wire(frames(BLOCKS, stop_reason="tool_use"))
    noisy = b"\xef\xbb\xbf: hello\n\n" + data.replace(
        b"event: content_block_stop",
        b": ping\n\nevent: ping\ndata: {}\n\nevent: content_block_stop",
    )

    events = read(noisy + wire(frames(BLOCKS)) + b"data: [DONE]\n\n")

    assert read(data) == events


def test_a_last_frame_without_its_blank_line_is_read() -> None:
    data = wire(frames([])).rstrip(b"\n")
    assert Done() == read(data)[-1]


def test_halves_of_a_character_over_two_deltas_are_joined() -> None:
    pieces = [{"type": "text_delta", "text": text} for text in ("a\ud83d", "\ude00b", "\ud83d")]
    events = joined(read_frames(around(*block({"type": "text", "text": ""}, *pieces))))
    assert [Wrote(channel=TEXT, text="a😀b\ufffd")] == [e for e in events if type(e) is Wrote]


def test_all_text_blocks_are_one_channel_and_thinking_blocks_are_several() -> None:
    blocks = [
        {"type": "thinking", "thinking": "one", "signature": ""},
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "two", "signature": ""},
        {"type": "text", "text": "b"},
    ]
    events = read_frames(frames(blocks))
    channels = [event.channel for event in events if isinstance(event, Began)]
    assert [THINKING, TEXT, Channel("reasoning", 0, 1), TEXT] == channels


def test_text_at_the_start_of_a_block_is_not_lost() -> None:
    start = {"type": "text", "text": "early "}
    events = read_frames(around(*block(start, {"type": "text_delta", "text": "late"})))
    assert Wrote(channel=TEXT, text="early late") in joined(events)


def test_a_call_without_arguments_is_an_empty_object() -> None:
    start = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
    empty = {"type": "input_json_delta", "partial_json": ""}
    for inner in (block(start), block(start, empty)):
        events = read_frames(around(*inner, stop_reason="tool_use"))
        assert Wrote(channel=CALL, text="{}") in events
        assert Sealed(channel=CALL) in events


def test_arguments_that_stand_at_the_start_are_read_unless_deltas_follow() -> None:
    start = {"type": "tool_use", "id": "t", "name": "weather", "input": {"a": 1}}
    delta = {"type": "input_json_delta", "partial_json": '{"b": 2}'}
    assert Wrote(channel=CALL, text='{"a":1}') in read_frames(around(*block(start)))
    texts = [e.text for e in read_frames(around(*block(start, delta))) if isinstance(e, Wrote)]
    assert texts == ['{"b": 2}']


# ------------------------------------------------------------------------------- the allow-list


@pytest.mark.parametrize(
    "reason",
    [
        "end_turn",
        "max_tokens",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
    ],
)
def test_every_stop_reason_is_kept(reason: str) -> None:
    assert Stopped(fields={"stop_reason": reason}) in read_frames(around(stop_reason=reason))


@pytest.mark.parametrize("reason", ["the secret is 1234", "", 7, {"a": "b"}])
def test_an_unknown_stop_reason_becomes_the_neutral_one(reason: Any) -> None:
    events = read_frames(around(stop_reason=reason))
    assert Stopped(fields={"stop_reason": "end_turn"}) in events


def test_only_a_stop_sequence_that_was_asked_for_is_kept() -> None:
    mine = read_frames(around(stop_reason="stop_sequence", stop_sequence="END"))
    other = read_frames(around(stop_reason="stop_sequence", stop_sequence="a secret"))
    assert Stopped(fields={"stop_reason": "stop_sequence", "stop_sequence": "END"}) in mine
    assert Stopped(fields={"stop_reason": "end_turn"}) in other


def test_of_a_refusal_only_the_category_is_kept() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "a secret"}
    events = read_frames(around(stop_reason="refusal", stop_details=details))
    assert Stopped(fields={"stop_reason": "refusal", "category": "bio"}) in events


def test_a_stream_that_names_no_reason_stops_with_the_neutral_one() -> None:
    first, *_, last = frames([])
    assert [Stopped(fields={"stop_reason": "end_turn"}), Done()] == read_frames([first, last])[1:]


SECRET = "the secret is 1234"  # noqa: S105 - no password


@pytest.mark.parametrize(
    "inner",
    [
        block({"type": "redacted_thinking", "data": SECRET}),
        block({"type": "server_tool_use", "id": "s", "name": SECRET, "input": {"query": SECRET}}),
        block({"type": "web_search_tool_result", "content": [{"title": SECRET}]}),
        block({"type": "some_day", "text": SECRET}, {"type": "text_delta", "text": SECRET}),
        block({"type": "text", "text": ""}, {"type": "citations_delta", "citation": SECRET}),
        block({"type": "text", "text": ""}, {"type": "some_day", "text": SECRET}),
        block({"type": "text", "text": "", "citations": [{"cited_text": SECRET}]}),
        block({"type": "text", "text": ""}, {"type": "thinking_delta", "thinking": SECRET}),
        block(
            {"type": "thinking", "thinking": ""}, {"type": "signature_delta", "signature": SECRET}
        ),
        [{"type": "some_day", "text": SECRET}],
        [{"type": "some_day", "delta": SECRET, "index": SECRET}],
    ],
)
def test_what_is_not_understood_is_dropped_and_counted(inner: list[Any]) -> None:
    events = read_frames(around(*inner))
    assert SECRET not in repr(events)
    assert Done(fields={"dropped": 1}) == events[-1]


def test_identifiers_models_and_counts_of_another_shape_are_left_out() -> None:
    first, *rest = frames([])
    message = {"id": SECRET, "model": SECRET, "usage": {"input_tokens": SECRET, "x": SECRET}}
    rest[-2]["usage"] = {"output_tokens": True, "server_tool_use": {"web_search_requests": 1}}
    events = read_frames([{**first, "message": message}, *rest])
    assert [Opened(), Stopped(fields={"stop_reason": "end_turn"}), Done()] == events


def test_a_call_keeps_no_id_of_another_shape() -> None:
    start = {"type": "tool_use", "id": SECRET, "name": "weather", "input": {}}
    assert Began(channel=CALL, fields={"name": "weather"}) in read_frames(around(*block(start)))


def test_a_signature_beyond_the_limit_is_dropped() -> None:
    long = "A" * (MESSAGES_SIGNATURE_CHARS_MAX + 1)
    start = {"type": "thinking", "thinking": "x", "signature": long}
    assert Sealed(channel=THINKING) in read_frames(around(*block(start)))


def test_content_in_the_first_frame_is_dropped_and_counted() -> None:
    first, *rest = frames([])
    first["message"]["content"] = [{"type": "text", "text": SECRET}]
    events = read_frames([first, *rest])
    assert SECRET not in repr(events)
    assert events[-1] == Done(fields={"dropped": 1})


def test_halves_of_characters_in_a_body_become_ones_that_can_be_written() -> None:
    call = {"type": "tool_use", "id": "t", "name": "weather", "input": {"a": "\ud83d"}}
    whole = body([{"type": "text", "text": "a\ud83d"}, call])
    events = joined(CODEC.read_body(ASKED, json.dumps(whole).encode()))
    texts = [event.text for event in events if isinstance(event, Wrote)]
    assert texts == ["a\ufffd", '{"a":"\ufffd"}']


def test_a_stop_sequence_that_cannot_be_written_is_not_told() -> None:
    asked = Asked(api="messages", model="m", body={"stop_sequences": ["\ud83d", 7]})
    written = around(stop_reason="stop_sequence", stop_sequence="\ud83d")
    assert Stopped(fields={"stop_reason": "end_turn"}) in read_frames(written, asked)


def test_a_half_that_ends_the_arguments_is_written_out() -> None:
    start = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
    half = {"type": "input_json_delta", "partial_json": "{}\ud83d"}
    events = read_frames(around(*block(start, half), stop_reason="max_tokens"))
    assert [event.text for event in events if isinstance(event, Wrote)] == ["{}", "\ufffd"]
    assert Sealed(channel=CALL) not in events
