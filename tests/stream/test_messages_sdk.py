"""The official client takes everything that we write: streams, bodies, refusals and errors.

Each frame is also held against the client's own types, strictly: the client itself builds its
objects without looking.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter
from reference.messages import body, complete, frames, wire

from tocsin.stream import sse
from tocsin.stream.codec import STATUS, Frame, Made
from tocsin.stream.codecs import CODECS
from tocsin.stream.events import Asked, Blocked, Broken, Event

CODEC = CODECS["messages"]
MADE = Made(id="msg_made", created_s=0)
FRAME: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
TOOL: Any = {"name": "weather", "input_schema": {"type": "object"}}
BLOCKS = complete(
    [
        {"type": "thinking", "thinking": "Let me see 😀.", "signature": "EqQBCgIYAhIM+/8="},
        {"type": "text", "text": "Grüße \u2028 😀\n"},
        {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Köln"}},
        {"type": "tool_use", "id": "toolu_02", "name": "weather", "input": {}},
    ]
)
STREAMED = frames(BLOCKS, stop_reason="tool_use")


def gateway(blocked_at: int | None = None, text: str = "") -> anthropic.Anthropic:
    """A client whose requests are answered as a gateway does, by an upstream that is replayed."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked = CODEC.read_request(json.loads(request.content))
        assert isinstance(asked, Asked)
        if asked.stream:
            decoder = CODEC.decoder(asked)
            events = [*decoder.feed(wire(STREAMED)), *decoder.close()]
        else:
            whole = json.dumps(body(BLOCKS, stop_reason="tool_use"))
            events = CODEC.read_body(asked, whole.encode())
        if blocked_at is not None:
            events = [*events[:blocked_at], Blocked(text=text)]
        if asked.stream:
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, headers=headers, content=streamed(asked, events))
        made = CODEC.body(asked, MADE)
        for event in events:
            made.take(event)
        Message.model_validate(made.result(), strict=True)
        return httpx2.Response(200, json=made.result())

    return client(answer)


def client(answer: Any) -> anthropic.Anthropic:
    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    return anthropic.Anthropic(
        api_key="none", base_url="http://127.0.0.1", http_client=transport, max_retries=0
    )


def streamed(asked: Asked, events: list[Event]) -> Iterator[bytes]:
    """What goes over the wire, a frame at a time, each held against the client's types."""
    encoder = CODEC.encoder(asked, MADE)
    yield sse.comment("keep-alive")
    for event in events:
        for frame in encoder.encode(event):
            check(frame)
            yield sse.encode([frame])


def check(frame: Frame) -> None:
    if frame.event != "error":
        FRAME.validate_json(json.dumps(frame.data), strict=True)


ASK: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "How is the weather?"}],
    "tools": [TOOL],
}


def content(message: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = message.to_dict()["content"]
    return found


def test_a_stream_arrives_whole() -> None:
    with gateway() as api:
        events = list(api.messages.create(**ASK, stream=True))
    texts = [
        event.delta.text
        for event in events
        if event.type == "content_block_delta" and event.delta.type == "text_delta"
    ]
    assert "".join(texts) == "Grüße \u2028 😀\n"
    assert events[-1].type == "message_stop"


def test_the_streaming_helper_adds_up_the_message_that_the_upstream_wrote() -> None:
    with gateway() as api, api.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == "Grüße \u2028 😀\n"
    assert content(message) == BLOCKS
    assert (message.id, message.model, message.stop_reason) == ("msg_01ABC", "claude-x", "tool_use")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 34)


def test_a_body_arrives_whole() -> None:
    with gateway() as api:
        message = api.messages.create(**ASK)
    assert content(message) == BLOCKS
    assert (message.stop_reason, message.stop_sequence) == ("tool_use", None)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 34)


def test_an_answer_can_be_sent_back() -> None:
    with gateway() as api:
        message = api.messages.create(**ASK)
        result: Any = {"type": "tool_result", "tool_use_id": "toolu_01", "content": "Rain."}
        turns = [
            *ASK["messages"],
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result]},
        ]
        again = api.messages.create(**{**ASK, "messages": turns})
    assert content(message) == content(again)


EVENTS_MAX = len(CODEC.decoder(Asked(api="messages", model="m", tools=None)).feed(wire(STREAMED)))


@pytest.mark.parametrize("text", ["", "This was stopped."])
@pytest.mark.parametrize("at", range(EVENTS_MAX))
def test_a_block_at_any_place_is_a_refusal_for_the_client(at: int, text: str) -> None:
    with gateway(at, text) as api, api.messages.stream(**ASK) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "refusal"
    last = content(message)[-1:]
    assert not text or last[0]["text"].endswith(text)


@pytest.mark.parametrize("text", ["", "This was stopped."])
@pytest.mark.parametrize("at", range(0, 12, 3))
def test_a_blocked_body_is_a_refusal_for_the_client(at: int, text: str) -> None:
    with gateway(at, text) as api:
        message = api.messages.create(**ASK)
    assert message.stop_reason == "refusal"


def test_a_broken_stream_is_an_error_for_the_client() -> None:
    asked = Asked(api="messages", model="m")
    events = [*CODEC.decoder(asked).feed(wire(STREAMED[:1])), Broken(reason="cut_off")]
    headers = {"content-type": "text/event-stream"}
    answer = httpx2.Response(200, headers=headers, content=b"".join(streamed(asked, events)))
    with client(lambda _: answer) as api, pytest.raises(anthropic.APIStatusError, match="cut_off"):
        list(api.messages.create(**ASK, stream=True))


@pytest.mark.parametrize("kind", STATUS)
def test_the_client_raises_the_error_that_the_status_stands_for(kind: Any) -> None:
    answer = httpx2.Response(STATUS[kind], json=CODEC.error(kind, "what is wrong", "messages"))
    with client(lambda _: answer) as api, pytest.raises(anthropic.APIStatusError) as raised:
        api.messages.create(**ASK)
    assert STATUS[kind] == raised.value.status_code
    assert "messages: what is wrong" in str(raised.value)


def test_frames_that_the_client_decoded_can_be_read_again() -> None:
    with gateway() as api:
        payloads = [event.model_dump() for event in api.messages.create(**ASK, stream=True)]
    decoder = CODEC.decoder(Asked(api="messages", model="m", tools=None))
    events = [event for payload in payloads for event in decoder.take(payload)]
    made = CODEC.body(Asked(api="messages", model="m"), MADE)
    for event in events:
        made.take(event)
    assert made.result()["content"] == BLOCKS
