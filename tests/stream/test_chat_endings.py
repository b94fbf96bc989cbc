"""Chat completions: how streams end, what is no response at all, and whole bodies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.chat import chunk, stream
from stream.chat_streams import (
    ASKED,
    CALLED,
    GOLDEN,
    LOOKED,
    SECOND_CALL,
    STOP,
    TEXT,
    merged,
    read,
    scored,
    seen,
    with_logprobs,
)

from tocsin.limits import SSE_EVENT_BYTES_MAX
from tocsin.model import Channel
from tocsin.stream.chat import CODEC
from tocsin.stream.events import (
    Began,
    Broken,
    Done,
    Opened,
    Sealed,
    Spent,
    Stopped,
    Wrote,
)


def test_after_the_end_nothing_is_read() -> None:
    raw = stream(chunk(content="a", reason="stop")) + stream(chunk(content="b"))
    assert [type(e) for e in read(raw)] == [Opened, Wrote, Stopped, Done]
    decoder = CODEC.decoder(ASKED)
    decoder.feed(raw)
    assert decoder.feed(raw) == decoder.take(chunk(content="c")) == decoder.close() == []


def test_a_stream_may_end_without_its_last_words_once_every_choice_has_stopped() -> None:
    assert seen(chunk(content="a", reason="stop"), done=False)[-2:] == [STOP, Done()]


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [chunk(content="a")],
        [chunk(content="a", reason="stop"), chunk(1, content="b")],
        [chunk(1, content="b", reason="stop")],
    ],
)
def test_a_choice_that_never_stopped_was_cut_off(chunks: list[Any], done: bool) -> None:
    events = seen(*chunks, done=done)
    assert [e.reason for e in events if isinstance(e, Broken)] == ["cut_off"]
    assert not any(isinstance(e, Done) for e in events)


def test_half_an_event_at_the_end_does_not_count_and_a_whole_one_does() -> None:
    start = stream(chunk(content="a"), done=False)
    assert read(start + b'data: {"choices":[{"ind')[-1] == Broken(
        reason="cut_off", detail="the response ended before every choice had stopped"
    )
    assert (
        read(stream(chunk(content="a", reason="stop"), done=False) + b"data: [DONE]")[-1] == Done()
    )


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b'data: {"error":{"message":"secret","code":"overloaded","type":"x"}}\n\n', "overloaded"),
        (b'data: {"error":{"message":"secret","code":503}}\n\n', "503"),
        (
            b'data: {"error":{"message":"s","code":"two words","type":"server_error"}}\n\n',
            "server_error",
        ),
        (b'data: {"error":"secret words"}\n\n', ""),
        (b'data: {"object":"error","message":"secret"}\n\n', ""),
        (b'event: error\ndata: {"message":"secret"}\n\n', ""),
    ],
)
def test_an_error_in_the_stream_breaks_it_and_only_its_code_is_told(
    frame: bytes, code: str
) -> None:
    start = stream(chunk(content="a"), done=False)
    assert read(start + frame + stream(chunk(content="b")))[-2:] == [
        Wrote(channel=TEXT, text="a"),
        Broken(reason="error", detail=code),
    ]


@pytest.mark.parametrize(
    "data",
    [
        "not json",
        "[]",
        "7",
        '"x"',
        "null",
        '{"choices":{}}',
        '{"choices":[{"delta":{"content":["a"]}}]}',
        '{"choices":[{"delta":{"content":7}}]}',
        '{"choices":[{"index":2,"delta":{}}]}',
        '{"choices":[{"index":-1,"delta":{}}]}',
        '{"choices":[{"index":"0","delta":{}}]}',
        '{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{}}}]}}]}',
        '{"choices":[{"delta":{"content":NaN}}]}',
        "[" * 5_000,
        '{"id":' + "[" * 5_000,
    ],
)
def test_what_the_api_does_not_allow_is_garbage(data: str) -> None:
    events = read(stream(chunk(content="a"), done=False) + f"data: {data}\n\n".encode())
    assert isinstance(events[-1], Broken)
    assert events[-1].reason == "garbage"
    assert len(events) == 3


def test_bytes_that_are_no_utf8_are_garbage() -> None:
    raw = stream(chunk(content="a?")).replace(b"?", b"\xc3\x28")
    assert read(raw) == [Broken(reason="garbage", detail="an event of another shape")]


@pytest.mark.parametrize(
    "payload",
    [{"choices": 7}, {"choices": [{"index": 9}]}, {"choices": [{"delta": {"content": []}}]}],
)
def test_a_chunk_of_another_shape_from_an_sdk_is_garbage_too(payload: Any) -> None:
    decoder = CODEC.decoder(ASKED)
    events = decoder.take(payload)
    assert [e.reason for e in events if isinstance(e, Broken)] == ["garbage"]
    assert decoder.take(chunk(content="a")) == decoder.close() == []


def test_an_empty_event_says_nothing() -> None:
    raw = b"data:\n\ndata: {}\n\n" + stream(chunk(content="a", reason="stop"))
    assert [type(e) for e in read(raw)] == [Opened, Wrote, Stopped, Done]


def test_an_endless_line_is_too_long() -> None:
    decoder = CODEC.decoder(ASKED)
    fed = [
        decoder.feed(b"data: " + b"x" * 1_000_000) for _ in range(SSE_EVENT_BYTES_MAX // 10**6 + 1)
    ]
    broken = Broken(reason="too_long", detail="a line or an event beyond the limit")
    assert [event for events in fed for event in events] == [broken]
    assert decoder.close() == []


SEEDS = [GOLDEN, stream(with_logprobs("ab", scored("a"), scored("b"))), b"data: [DONE]\n\n"]


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 30), st.binary(max_size=6))),
    st.integers(0, 2_000),
)
def test_no_bytes_make_the_decoder_raise(
    seed: bytes, changes: list[tuple[int, int, bytes]], cut: int
) -> None:
    raw = seed
    for at, length, new in changes:
        raw = raw[:at] + new + raw[at + length :]
    events = read(raw)
    assert merged(events) == merged(read(raw[:cut], raw[cut:]))
    assert isinstance(events[-1], Done | Broken)
    assert sum(isinstance(e, Done | Broken) for e in events) == 1


# ------------------------------------------------------------------------------------- whole bodies


def body(message: dict[str, Any], reason: str | None = "stop", **more: Any) -> bytes:
    """A whole response."""
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return json.dumps(
        {"id": "chatcmpl-up1", "object": "chat.completion", "model": "small-1", "choices": [choice]}
        | more
    ).encode()


def test_a_body_is_read_as_a_stream_is() -> None:
    message = {
        "role": "assistant",
        "content": "Hi\ud83d",
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}},
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        ],
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert CODEC.read_body(ASKED, body(message, "tool_calls", usage=usage)) == [
        Opened(fields={"id": "chatcmpl-up1", "model": "small-1"}),
        Began(channel=Channel("reasoning"), fields={"as": "reasoning_content"}),
        Wrote(channel=Channel("reasoning"), text="hm"),
        Wrote(channel=TEXT, text="Hi"),
        LOOKED[0],
        LOOKED[1],
        Began(channel=SECOND_CALL, fields={"name": "look", "id": "c1"}),
        Wrote(channel=SECOND_CALL, text="{}"),
        Sealed(channel=Channel("reasoning")),
        Wrote(channel=TEXT, text="\ufffd"),
        LOOKED[2],
        Sealed(channel=SECOND_CALL),
        CALLED,
        Spent(fields=usage),
        Done(),
    ]


def test_a_body_without_a_finish_reason_has_stopped() -> None:
    assert CODEC.read_body(ASKED, body({"content": "a"}, None))[-2:] == [STOP, Done()]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "garbage"),
        (b"<html>", "garbage"),
        (b'{"error":{"code":"x"}}', "error"),
        (b'{"choices":[]}', "cut_off"),
        (b"{}", "cut_off"),
        (stream(chunk(content="a")), "garbage"),
        (body({"content": [{"type": "text", "text": "a"}]}), "garbage"),
    ],
)
def test_a_body_that_cannot_be_read_is_broken(raw: bytes, reason: str) -> None:
    assert [e.reason for e in CODEC.read_body(ASKED, raw) if isinstance(e, Broken)] == [reason]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (
            b'{"error":{"message":"m","type":"invalid_request_error","code":null}}',
            "invalid_request_error",
        ),
        (b'{"error":{"code":"model_not_found"}}', "model_not_found"),
        (b'{"error":{"code":"a sentence of it"}}', ""),
        (b'{"error":"x"}', ""),
        (b"<html>", ""),
        (b"[]", ""),
    ],
)
def test_the_code_of_an_error_is_told_by_its_shape(raw: bytes, code: str) -> None:
    assert code == CODEC.error_code(raw)


def test_nothing_of_a_choice_comes_after_it_has_stopped() -> None:
    call = {"index": 0, "function": {"name": "not_offered", "arguments": "{}"}}
    more = chunk(content="more", tool_calls=[call])
    events = read(stream(chunk(content="a"), chunk(reason="stop"), more))
    assert [type(e) for e in events] == [Opened, Wrote, Stopped, Broken]
