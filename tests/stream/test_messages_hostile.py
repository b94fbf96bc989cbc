"""Anthropic messages, hostile: whatever an upstream sends is a value, and ends once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.messages import around, block, frames, wire
from reference.messages import read as client

from tocsin.limits import CHANNELS_MAX, HELD_CHARS_MAX, SSE_EVENT_BYTES_MAX
from tocsin.model import Channel
from tocsin.stream import sse
from tocsin.stream.codec import Frame, Made
from tocsin.stream.codecs import CODECS
from tocsin.stream.events import Asked, Began, Blocked, Broken, Done, Event, Sealed

CODEC = CODECS["messages"]
ASKED = Asked(api="messages", model="claude-x", stream=True, tools=frozenset(["weather"]))
CALL = Channel("tool_arguments", 0, 0)
SECRET = "the secret is 1234"  # noqa: S105 - no password
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


def broken(events: list[Event]) -> str:
    assert [Broken] == [type(event) for event in events if isinstance(event, (Broken, Done))]
    last = events[-1]
    assert isinstance(last, Broken)
    assert SECRET not in last.detail
    return last.reason


def test_a_tool_that_was_not_offered_is_garbage() -> None:
    start = {"type": "tool_use", "id": "t", "name": "rm", "input": {}}
    written = around(*block(start))
    unknown = Asked(api="messages", model="m", tools=None)
    assert broken(read_frames(written)) == "garbage"
    assert Began(channel=CALL, fields={"id": "t", "name": "rm"}) in read_frames(written, unknown)


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "tool_use"])
def test_a_call_that_was_cut_short_is_never_sealed(reason: str) -> None:
    start = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
    cut = {"type": "input_json_delta", "partial_json": '{"city": "Par'}
    events = read_frames(around(*block(start, cut), stop_reason=reason))
    assert [event for event in events if isinstance(event, Sealed)] == []
    assert (Broken if reason == "tool_use" else Done) is type(events[-1])


def test_nothing_may_follow_a_call_that_was_cut_short() -> None:
    start = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
    cut = {"type": "input_json_delta", "partial_json": "{"}
    more = block({"type": "text", "text": "x"}, index=1)
    assert broken(read_frames(around(*block(start, cut), *more))) == "garbage"


@pytest.mark.parametrize("name", ["error", "ping2"])
def test_an_error_in_the_stream_is_broken_with_its_type_alone(name: str) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": SECRET}}
    data = wire(frames(BLOCKS)[:6]) + f"event: {name}\ndata: {json.dumps(error)}\n\n".encode()
    last = read(data)[-1]
    assert Broken(reason="error", detail="overloaded_error") == last


def test_an_error_that_is_told_by_its_name_alone_is_broken() -> None:
    assert broken(read(b'event: error\ndata: {"type": "text", "x": 1}\n\n')) == "error"


@pytest.mark.parametrize("at", range(1, len(frames(BLOCKS))))
def test_a_stream_that_ends_early_is_cut_off(at: int) -> None:
    assert broken(read_frames(frames(BLOCKS)[:at])) == "cut_off"


START, PING, BLOCK_START, BLOCK_DELTA, BLOCK_STOP, DELTA, STOP = frames(
    [{"type": "text", "text": "ab"}]
)


@pytest.mark.parametrize(
    "written",
    [
        [BLOCK_START],
        [BLOCK_DELTA],
        [STOP],
        [START, START],
        [START, BLOCK_DELTA],
        [START, BLOCK_STOP],
        [START, BLOCK_START, BLOCK_START],
        [START, BLOCK_START, {**BLOCK_DELTA, "index": 1}],
        [START, BLOCK_START, {**BLOCK_STOP, "index": 1}],
        [START, BLOCK_START, {**BLOCK_DELTA, "delta": None}],
        [START, BLOCK_START, {**BLOCK_DELTA, "delta": {"type": "text_delta", "text": 7}}],
        [START, BLOCK_START, DELTA],
        [START, BLOCK_START, STOP],
        [START, DELTA, BLOCK_START],
        [START, {**BLOCK_START, "content_block": "text"}],
        [START, {**BLOCK_START, "content_block": {"type": "text", "text": [SECRET]}}],
        [{**START, "message": SECRET}],
        [{"type": 7}],
    ],
)
def test_an_order_or_a_type_that_the_format_does_not_know_is_garbage(written: list[Any]) -> None:
    data = "".join(f"data: {json.dumps(frame)}\n\n" for frame in written).encode()
    assert broken(read(data)) == "garbage"


@pytest.mark.parametrize("data", [b"[DONE]", b"{", b'{"type": "x', b"\xff", b"[" * 9_000, b"null"])
def test_what_is_no_json_object_is_garbage(data: bytes) -> None:
    assert broken(read(wire(frames(BLOCKS)[:4]) + b"data: " + data + b"\n\n")) == "garbage"
    assert broken(CODEC.read_body(ASKED, data)) == "garbage"


def test_an_endless_line_is_too_long() -> None:
    decoder = CODEC.decoder(ASKED)
    events = decoder.feed(b"data: ")
    for _ in range(SSE_EVENT_BYTES_MAX // 2**20 + 1):
        events += decoder.feed(b"x" * 2**20)
    assert broken(events) == "too_long"
    assert decoder.feed(wire(frames(BLOCKS))) == []
    assert decoder.close() == []


def test_more_channels_than_the_limit_are_too_long() -> None:
    blocks = [{"type": "thinking", "thinking": "", "signature": ""}] * CHANNELS_MAX
    fits = frames(blocks[:-1])
    assert broken(read_frames(frames(blocks))) == "too_long"
    assert Done() == read_frames(fits)[-1]


def test_arguments_nested_too_deeply_are_not_sealed() -> None:
    start = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
    deep = {"type": "input_json_delta", "partial_json": '{"a":' + "[" * 500 + "]" * 500 + "}"}
    written = around(*block(start, deep), stop_reason="tool_use")
    assert broken(read_frames(written)) == "garbage"


@pytest.mark.parametrize("kind", [{"type": "error"}, {}])
def test_an_error_body_is_broken_with_its_type_alone(kind: dict[str, str]) -> None:
    raw = json.dumps({**kind, "error": {"type": "api_error", "message": SECRET}})
    assert CODEC.read_body(ASKED, raw.encode()) == [Broken(reason="error", detail="api_error")]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_make_the_decoder_raise(chunks: list[bytes]) -> None:
    decoder = CODEC.decoder(ASKED)
    events = [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.close()
    assert type(events[-1]).__name__ == "Broken"
    assert type(CODEC.read_body(ASKED, b"".join(chunks))[-1]).__name__ == "Broken"


TEXTS = st.text() | st.sampled_from(["\ud83d", "a\ude00"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS | st.sampled_from(["text", "thinking", "tool_use", "weather", "text_delta"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "name", "id", "input", "index"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
FRAMES = st.sampled_from(frames(BLOCKS, stop_reason="tool_use"))
NAMES = st.sampled_from(["type", "index", "delta", "content_block", "message", "usage", "error"])


@settings(max_examples=300)
@given(st.lists(st.tuples(FRAMES, st.none() | st.tuples(NAMES, VALUES)), max_size=12))
def test_no_frames_make_the_decoder_raise_and_it_ends_once(parts: list[Any]) -> None:
    written = [
        frame if change is None else {**frame, change[0]: change[1]} for frame, change in parts
    ]
    taking, reading = CODEC.decoder(ASKED), CODEC.decoder(ASKED)
    taken = [event for frame in written for event in taking.take(frame)] + taking.close()
    data = "".join(f"data: {json.dumps(frame)}\n\n" for frame in written).encode()
    assert taken == [*reading.feed(data), *reading.close()]
    ends = [number for number, event in enumerate(taken) if isinstance(event, (Broken, Done))]
    assert [len(taken) - 1] == ends
    # Whatever came, the client gets a message that is valid to its end.
    encoder = CODEC.encoder(ASKED, Made(id="msg_made", created_s=0))
    out: list[Frame] = []
    for event in taken:
        out += encoder.encode(Blocked() if isinstance(event, Broken) else event)
    assert sse.encode(out).endswith(b"\n\n")
    assert client([frame.data for frame in out])["role"] == "assistant"


def test_a_body_of_another_kind_is_garbage() -> None:
    assert broken(CODEC.read_body(ASKED, b'{"type": "completion"}')) == "garbage"


@pytest.mark.parametrize("given", ["a", [1], 7])
def test_arguments_at_the_start_that_are_no_object_are_garbage(given: Any) -> None:
    start = {"type": "tool_use", "id": "t", "name": "weather", "input": given}
    assert broken(read_frames(around(*block(start)))) == "garbage"


def test_arguments_beyond_the_limit_are_too_long() -> None:
    start = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
    part = {"type": "input_json_delta", "partial_json": " " * (HELD_CHARS_MAX // 4)}
    decoder = CODEC.decoder(ASKED)
    events = [
        event for frame in around(*block(start, *[part] * 5)) for event in decoder.take(frame)
    ]
    assert broken(events) == "too_long"
