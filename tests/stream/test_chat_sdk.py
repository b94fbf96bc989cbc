"""Chat completions as the official client reads them: everything that we write, it parses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel
from reference.chat import call, chunk, stream

from tocsin.stream.chat import CODEC
from tocsin.stream.codec import Made
from tocsin.stream.events import Asked, Blocked, Broken, Done, Event
from tocsin.stream.sse import comment, encode

MADE = Made(id="chatcmpl-made1", created_s=1_800_000_000)
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": True},
    },
}
USAGE = chunk() | {
    "choices": [],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


class Guard(httpx2.BaseTransport):
    """A transport that answers with an upstream's stream, read and written again by our codec.

    Args:
        upstream: what the upstream sends.
        blocked: after how many events the response is blocked; never if None.
        text: what is shown instead.
    """

    def __init__(self, upstream: bytes, blocked: int | None = None, text: str = "") -> None:
        self._upstream = upstream
        self._blocked = blocked
        self._text = text
        self.asked = Asked(api="chat", model="")

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer as the request wants it."""
        read = CODEC.read_request(json.loads(request.read()))
        assert isinstance(read, Asked)
        self.asked = read
        events = CODEC.decoder(read).feed(self._upstream)
        if self._blocked is not None:
            events = [*events[: self._blocked], Blocked(text=self._text)]
        if read.stream:
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, headers=headers, stream=_Bytes(self._frames(events)))
        body = CODEC.body(read, MADE)
        for event in events:
            body.take(event)
        return httpx2.Response(200, json=body.result())

    def _frames(self, events: list[Event]) -> Iterator[bytes]:
        encoder = CODEC.encoder(self.asked, MADE)
        for event in events:
            yield comment("still there")
            yield encode(encoder.encode(event))


class _Bytes(httpx2.SyncByteStream):
    """A body that comes in pieces, one byte at a time for the worst of them."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            yield from (piece[i : i + 1] for i in range(len(piece)))


def client(upstream: bytes, blocked: int | None = None, text: str = "") -> openai.OpenAI:
    """The official client in front of our codec."""
    return openai.OpenAI(
        api_key="none",
        base_url="http://gateway.example/v1",
        http_client=httpx2.Client(transport=Guard(upstream, blocked, text)),
        max_retries=0,
    )


MESSAGES: Any = [{"role": "user", "content": "Hi"}]

TALK = stream(
    chunk(role="assistant", content=""),
    chunk(1, content="zwei\ud83d"),
    chunk(0, reasoning_content="hm", content="eins "),
    chunk(1, content="\ude00", reason="stop"),
    chunk(0, content="und", reason="length"),
    USAGE,
)
CALLS = stream(
    chunk(content="Let me look."),
    chunk(tool_calls=[call(0, "c1", "look", "")]),
    chunk(tool_calls=[call(0, text='{"a":'), call(1, "c2", "look", "{}")]),
    chunk(tool_calls=[call(0, text="1}")]),
    chunk(reason="tool_calls"),
    USAGE,
)


def test_create_with_stream_reads_every_chunk() -> None:
    with client(TALK).chat.completions.create(
        model="m", messages=MESSAGES, n=2, stream=True, stream_options={"include_usage": True}
    ) as chunks:
        read = list(chunks)
    texts = {0: "", 1: ""}
    for each in read:
        for choice in each.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: "eins und", 1: "zwei😀"}
    assert read[-1].usage is not None
    assert (read[-1].choices, read[-1].usage.total_tokens) == ([], 3)
    assert {"chatcmpl-up1"} == {each.id for each in read}


def test_the_stream_helper_files_the_choices_by_index_whichever_spoke_first() -> None:
    upstream = stream(
        chunk(1, content="b", reason="stop"), chunk(0, content="a", reason="stop"), USAGE
    )
    with client(upstream).chat.completions.stream(
        model="m", messages=MESSAGES, n=2, stream_options={"include_usage": True}
    ) as helper:
        kinds = [event.type for event in helper]
        final = helper.get_final_completion()
    assert [(c.index, c.message.content, c.finish_reason) for c in final.choices] == [
        (0, "a", "stop"),
        (1, "b", "stop"),
    ]
    assert kinds.count("content.done") == 2
    assert final.usage is not None
    assert final.usage.completion_tokens == 2


def test_the_stream_helper_reads_tool_calls() -> None:
    with client(CALLS).chat.completions.stream(
        model="m", messages=MESSAGES, tools=[TOOL]
    ) as helper:
        done = [e for e in helper if e.type == "tool_calls.function.arguments.done"]
        final = helper.get_final_completion()
    assert [(e.name, e.arguments) for e in done] == [("look", '{"a":1}'), ("look", "{}")]
    calls = final.choices[0].message.tool_calls or []
    assert [c.id for c in calls] == ["c1", "c2"]
    assert final.choices[0].finish_reason == "tool_calls"


def test_create_without_stream_reads_the_body() -> None:
    talk = client(TALK).chat.completions.create(model="m", messages=MESSAGES, n=2)
    assert [(c.message.content, c.finish_reason) for c in talk.choices] == [
        ("eins und", "length"),
        ("zwei😀", "stop"),
    ]
    assert talk.usage is not None
    assert talk.usage.total_tokens == 3
    assert ChatCompletion.model_validate(talk.to_dict(), strict=True) == talk
    looked = client(CALLS).chat.completions.create(model="m", messages=MESSAGES, tools=[TOOL])
    calls: list[Any] = [*(looked.choices[0].message.tool_calls or [])]
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [
        ("c1", "look", '{"a":1}'),
        ("c2", "look", "{}"),
    ]


class Answer(BaseModel):
    """A structured answer."""

    n: int


def test_structured_output_is_ordinary_text() -> None:
    upstream = stream(chunk(content='{"n"'), chunk(content=":7}"), chunk(reason="stop"))
    with client(upstream).chat.completions.stream(
        model="m", messages=MESSAGES, response_format=Answer
    ) as helper:
        final = helper.get_final_completion()
    assert final.choices[0].message.parsed == Answer(n=7)
    parsed = client(upstream).chat.completions.parse(
        model="m", messages=MESSAGES, response_format=Answer
    )
    assert parsed.choices[0].message.parsed == Answer(n=7)


def test_a_refusal_and_log_probabilities_are_read() -> None:
    said = chunk(refusal="no")
    said["choices"][0]["logprobs"] = {
        "refusal": [{"token": "no", "logprob": -0.5, "bytes": None, "top_logprobs": []}]
    }
    with client(stream(said, chunk(reason="stop"))).chat.completions.stream(
        model="m", messages=MESSAGES
    ) as helper:
        kinds = {event.type for event in helper}
        final = helper.get_final_completion()
    assert {"refusal.delta", "refusal.done", "logprobs.refusal.done"} <= kinds
    assert final.choices[0].message.refusal == "no"
    assert final.choices[0].logprobs is not None
    assert [t.token for t in final.choices[0].logprobs.refusal or []] == ["no"]


@pytest.mark.parametrize("upstream", [TALK, CALLS])
@pytest.mark.parametrize("text", ["", "Withheld."])
def test_a_response_that_is_blocked_anywhere_ends_validly(upstream: bytes, text: str) -> None:
    request = Asked(api="chat", model="m", choices=2, tools=frozenset({"look"}))
    events = CODEC.decoder(request).feed(upstream)
    assert isinstance(events[-1], Done)
    for n in range(len(events)):
        guarded = client(upstream, n, text)
        with guarded.chat.completions.stream(
            model="m",
            messages=MESSAGES,
            n=2,
            tools=[TOOL],
            stream_options={"include_usage": True},
        ) as helper:
            list(helper)
            final = helper.current_completion_snapshot
        assert [c.index for c in final.choices] == [0, 1]
        assert final.usage is not None
        whole = guarded.chat.completions.create(model="m", messages=MESSAGES, n=2, tools=[TOOL])
        for streamed, given in zip(final.choices, whole.choices, strict=True):
            assert streamed.finish_reason == given.finish_reason
            assert (streamed.message.content or "") == (given.message.content or "")
            if streamed.finish_reason == "content_filter":
                assert (streamed.message.content or "").endswith(text)
                assert not streamed.message.tool_calls
                assert not given.message.tool_calls


def test_every_chunk_has_the_clients_own_type() -> None:
    request = Asked(api="chat", model="m", choices=2, include_usage=True, tools=frozenset({"look"}))
    encoder = CODEC.encoder(request, MADE)
    state = ChatCompletionStreamState()
    for event in CODEC.decoder(request).feed(TALK):
        for frame in encoder.encode(event):
            if frame.data != "[DONE]":
                parsed = ChatCompletionChunk.model_validate(frame.data, strict=True)
                list(state.handle_chunk(parsed))
    final = state.current_completion_snapshot
    assert [c.message.content for c in final.choices] == ["eins und", "zwei😀"]


def test_a_stream_that_broke_off_is_an_error_to_the_client() -> None:
    upstream = stream(chunk(content="a"), done=False) + b"data: garbage\n\n"
    with (
        client(upstream).chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        ) as chunks,
        pytest.raises(openai.APIError, match="broke off: garbage"),
    ):
        list(chunks)


def test_what_the_client_parsed_can_be_guarded_too() -> None:
    request = Asked(api="chat", model="m", choices=2)
    decoder = CODEC.decoder(request)
    with client(TALK).chat.completions.create(
        model="m", messages=MESSAGES, n=2, stream=True
    ) as chunks:
        events = [e for each in chunks for e in decoder.take(each.to_dict())] + decoder.close()
    assert isinstance(events[-1], Done)
    assert not any(isinstance(e, Broken) for e in events)
