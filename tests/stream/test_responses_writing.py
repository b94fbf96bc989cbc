# What is promised: the official SDK takes every stream and body that is written, wherever it is
# stopped; what is repeated was released; and no tool call looks complete that was not.

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import openai
import pydantic
import pytest
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFailedEvent,
    ResponseFunctionToolCall,
    ResponseIncompleteEvent,
    ResponseOutputMessage,
    ResponseReasoningItem,
    ResponseStreamEvent,
)

from tocsin.model import Channel, Token
from tocsin.stream.codec import Made
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
from tocsin.stream.responses import CODEC
from tocsin.stream.sse import encode
from tocsin.testing.fake_model import responses as fake
from tocsin.testing.fake_model.replies import Call, Choice, Reply, Wanted

TOOLS: list[Any] = [
    {"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False}
    for name in ("look_up", "sum")
]
BODY = {"model": "m", "input": "Hi", "tools": TOOLS, "tool_choice": "auto", "temperature": 0.5}
ASKED = Asked(
    api="responses", model="m", stream=True, tools=frozenset({"look_up", "sum"}), body=BODY
)
MADE = Made(id="resp_made", created_s=1_700_000_000)
TEXT = Channel("text")
REFUSAL = Channel("refusal")
THOUGHT = Channel("reasoning")
CALL = Channel("tool_arguments")
ALL = Choice(
    reasoning="Let me think.",
    text="It is 😀.",
    refusal="But no.",
    calls=(Call(name="look_up", arguments='{"q": "sea"}'), Call(name="sum")),
)
EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)


def read(reply: Reply, asked: Asked = ASKED) -> list[Event]:
    """What a decoder makes of a reply of the fake model."""
    decoder = CODEC.decoder(asked)
    wanted = Wanted("m-1", True, 1, False, False, 0)
    events = [e for _, payload, _ in fake.events(reply, wanted) for e in decoder.take(payload)]
    assert isinstance(events[-1], Done)
    return events


def frames(events: Sequence[Event], asked: Asked = ASKED) -> list[dict[str, Any]]:
    encoder = CODEC.encoder(asked, MADE)
    written = [frame for event in events for frame in encoder.encode(event)]
    assert [frame.event for frame in written] == [frame.data["type"] for frame in written]
    return [frame.data for frame in written]


def whole(events: Sequence[Event], asked: Asked = ASKED) -> dict[str, Any]:
    body = CODEC.body(asked, MADE)
    for event in events:
        body.take(event)
    return body.result()


def answering(content: bytes, kind: str) -> openai.OpenAI:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=content, headers={"content-type": kind})

    transport = httpx2.MockTransport(answer)
    return openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=transport))


def streaming(events: Sequence[Event], asked: Asked = ASKED) -> openai.OpenAI:
    encoder = CODEC.encoder(asked, MADE)
    written = b"".join(encode(encoder.encode(event)) for event in events)
    return answering(written, "text/event-stream")


def heard(events: Sequence[Event], asked: Asked = ASKED) -> Response:
    """The last response as the SDK's plain stream gives it, each event checked strictly."""
    with streaming(events, asked) as client:
        told = list(client.responses.create(model="m", input="Hi", stream=True))
    for event in told:
        EVENT.validate_python(event.to_dict())
    assert [event.sequence_number for event in told] == list(range(len(told)))
    last = told[-1]
    assert isinstance(last, ResponseCompletedEvent | ResponseIncompleteEvent | ResponseFailedEvent)
    return last.response


def accumulated(events: Sequence[Event], asked: Asked = ASKED, **more: Any) -> list[Any]:
    """The events of the SDK's helper, which accumulates and compares."""
    with (
        streaming(events, asked) as client,
        client.responses.stream(model="m", input="Hi", tools=TOOLS, **more) as stream,
    ):
        return list(stream)


def plain(events: Sequence[Event], asked: Asked = ASKED) -> Response:
    """The response as the SDK reads a body, checked strictly."""
    raw = json.dumps(whole(events, asked)).encode()
    with answering(raw, "application/json") as client:
        response = client.responses.create(model="m", input="Hi")
    Response.model_validate(json.loads(raw))
    return response


def prefixes(events: Sequence[Event]) -> Iterator[list[Event]]:
    for at in range(len(events)):
        yield list(events[:at])


REPLIES = {
    "text": Reply(choices=(Choice(text="It is a fine day."),)),
    "refusal": Reply(choices=(Choice(refusal="I cannot help."),)),
    "all": Reply(choices=(ALL,)),
    "thinking": Reply(choices=(ALL,), reasoning_as="text"),
    "calls": Reply(choices=(Choice(calls=ALL.calls),)),
    "length": Reply(choices=(Choice(text="It is", finish="length"),)),
    "filtered": Reply(choices=(Choice(text="It is", finish="content_filter"),)),
    "logprobs": Reply(choices=(Choice(text="It is"),), cut=2, logprobs=True),
    "nothing": Reply(choices=(Choice(),)),
}


# ------------------------------------------------------------------------------- the SDK takes it


@pytest.mark.parametrize("name", REPLIES)
def test_the_sdk_reads_stream_and_body_alike(name: str) -> None:
    events = read(REPLIES[name])
    streamed, body = heard(events), plain(events)
    assert streamed == body
    assert streamed.id == "resp_1"
    assert streamed.model == "m-1"
    assert streamed.output_text == str(REPLIES[name].choices[0].text)
    assert streamed.temperature == 0.5
    assert [tool.to_dict(exclude_none=True) for tool in streamed.tools] == TOOLS
    assert streamed.usage is not None


@pytest.mark.parametrize("name", REPLIES)
def test_the_sdk_accumulates_what_was_released(name: str) -> None:
    reply = REPLIES[name]
    told = accumulated(read(reply))
    ends = {"length": "incomplete", "filtered": "incomplete"}
    assert told[-1].type == f"response.{ends.get(name, 'completed')}"
    deltas = [event for event in told if event.type == "response.output_text.delta"]
    text = str(reply.choices[0].text)
    assert "".join(event.delta for event in deltas) == text
    assert [event.snapshot for event in deltas][-1:] == ([text] if text else [])


@pytest.mark.parametrize("name", REPLIES)
def test_an_unchanged_stream_says_what_the_upstream_said(name: str) -> None:
    wanted = Wanted("m-1", True, 1, False, False, 0)
    theirs: list[dict[str, Any]] = []
    for _, payload, _ in fake.events(REPLIES[name], wanted):
        again = theirs and theirs[-1]["type"] == payload["type"]
        if again and payload["type"] == "response.function_call_arguments.delta":
            theirs[-1]["delta"] += payload["delta"]  # a call is written at once
        else:
            theirs.append(dict(payload))
    ours = frames(read(REPLIES[name]))
    assert [p["type"] for p in ours] == [p["type"] for p in theirs]
    for our, their in zip(ours, theirs, strict=True):
        for field in their.keys() - {"response", "part", "item", "logprobs", "sequence_number"}:
            assert our[field] == their[field]


def test_what_the_upstream_repeats_otherwise_never_shows() -> None:
    events = read(REPLIES["all"])
    masked = [
        Wrote(channel=e.channel, text="#" * len(e.text)) if isinstance(e, Wrote) else e
        for e in events
    ]
    written = json.dumps([frames(masked), whole(masked)])
    for word in ("think", "It is", "no.", "sea"):
        assert word not in written
    assert heard(masked).output_text == "#" * len("It is 😀.")
    assert accumulated(read(REPLIES["text"]))[-1].response.output_text == "It is a fine day."


def test_structured_output_is_parsed() -> None:
    class Day(pydantic.BaseModel):
        fine: bool

    form = {"type": "json_schema", "name": "Day", "schema": {}, "strict": True}
    asked = Asked(api="responses", model="m", body={"text": {"format": form}})
    events = read(Reply(choices=(Choice(text='{"fine": true}'),)))
    assert accumulated(events, asked, text_format=Day)[-1].response.output_parsed == Day(fine=True)
    # Stopped on the way: there is nothing to parse, and the helper must not try.
    cut = [*events[:4], Blocked()]
    assert accumulated(cut, asked, text_format=Day)[-1].type == "response.incomplete"
    assert heard(cut, asked).output_text != ""


def test_logprobs_are_those_of_released_tokens_without_alternatives() -> None:
    tokens = (Token("It", -0.5, (-0.5, -2.0)), Token(" é", -1.5))
    events: list[Event] = [Wrote(channel=TEXT, text="It é", tokens=tokens), Stopped(), Done()]
    written = frames(events)
    entries = [
        {"token": "It", "logprob": -0.5, "bytes": [73, 116], "top_logprobs": []},
        {"token": " é", "logprob": -1.5, "bytes": [32, 195, 169], "top_logprobs": []},
    ]
    assert [p["logprobs"] for p in written if "logprobs" in p] == [entries, entries]
    message = heard(events).output[0]
    assert isinstance(message, ResponseOutputMessage)
    assert message.to_dict()["content"][0]["logprobs"] == entries  # type: ignore[index]


# ------------------------------------------------------------------------------------ stopped early


@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize("text", ["", "Stopped here."])
def test_a_response_may_be_blocked_anywhere(name: str, text: str) -> None:
    for before in prefixes(read(REPLIES[name])):
        if any(isinstance(event, Stopped) for event in before):
            continue
        events = [*before, Blocked(text=text)]
        streamed = heard(events)
        assert streamed == plain(events)
        assert streamed.status == "incomplete"
        assert streamed.incomplete_details is not None
        assert streamed.incomplete_details.reason == "content_filter"
        assert streamed.output_text.endswith(text)
        shown = "".join(e.text for e in before if isinstance(e, Wrote) and e.channel == TEXT)
        assert streamed.output_text == shown + text
        assert accumulated(events)[-1].type == "response.incomplete"
        sealed = sum(isinstance(e, Sealed) and e.channel.kind == CALL.kind for e in before)
        calls = [i for i in streamed.output if isinstance(i, ResponseFunctionToolCall)]
        assert len(calls) == sealed


def test_a_stop_closes_what_is_open_as_incomplete_and_keeps_what_was_done() -> None:
    events: list[Event] = [
        Opened(),
        Began(channel=THOUGHT, fields={"item": 0, "item_id": "rs_1", "type": "summary_text"}),
        Wrote(channel=THOUGHT, text="Hm."),
        Sealed(channel=THOUGHT, fields={"last": True, "status": "completed"}),
        Began(channel=TEXT, fields={"item": 1, "item_id": "msg_1", "type": "output_text"}),
        Wrote(channel=TEXT, text="It is"),
        Blocked(text=" over."),
    ]
    thought, message = heard(events).output
    assert isinstance(thought, ResponseReasoningItem)
    assert thought.to_dict() == {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Hm."}],
    }
    assert message.to_dict() == {
        "id": "msg_1",
        "type": "message",
        "status": "incomplete",
        "role": "assistant",
        "content": [
            {"type": "output_text", "text": "It is over.", "annotations": [], "logprobs": []}
        ],
    }
    assert [p["type"].removeprefix("response.") for p in frames(events)][-6:] == [
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]


def test_a_call_that_was_not_sealed_never_shows() -> None:
    began = Began(channel=CALL, fields={"id": "call_1", "name": "sum", "item": 0})
    wrote = Wrote(channel=CALL, text='{"a": 1}')
    for ending in (Blocked(), Broken(reason="cut_off")):
        response = heard([Opened(), began, wrote, ending])
        assert response.output == []
    types = {p["type"] for p in frames([Opened(), began, wrote, Blocked()])}
    assert types == {"response.created", "response.in_progress", "response.incomplete"}


def test_a_call_that_the_generator_left_incomplete_is_never_said_to_be_done() -> None:
    for kind, count in (("function_call", 1), ("custom_tool_call", 0)):
        events: list[Event] = [
            Opened(),
            Began(channel=CALL, fields={"id": "call_1", "name": "sum", "type": kind}),
            Wrote(channel=CALL, text='{"a": 1'),
            Sealed(channel=CALL, fields={"last": True, "status": "incomplete"}),
            Stopped(fields={"status": "incomplete", "reason": "max_output_tokens"}),
            Done(),
        ]
        response = heard(events)
        assert [item.to_dict()["status"] for item in response.output] == ["incomplete"] * count
        assert not [p for p in frames(events) if "arguments.done" in p["type"]]


def test_a_broken_answer_fails_without_a_word_of_why() -> None:
    events: list[Event] = [
        Opened(),
        Wrote(channel=TEXT, text="It"),
        Broken(reason="error", detail="secret"),
    ]
    response = heard(events)
    assert response == plain(events)
    assert (response.status, response.output_text) == ("failed", "It")
    assert response.error is not None
    assert response.error.code == "server_error"
    assert "secret" not in response.to_json()
    assert accumulated(events)[-1].type == "response.failed"


def test_nothing_is_written_after_the_end() -> None:
    for end in (Done(), Blocked(), Broken(reason="garbage")):
        encoder = CODEC.encoder(ASKED, MADE)
        encoder.encode(end)
        assert encoder.encode(Wrote(channel=TEXT, text="x")) == []
        assert encoder.encode(Blocked(text="x")) == []


# ---------------------------------------------------------------------------- what had no beginning


def test_text_without_a_beginning_gets_one() -> None:
    for channel, kind in ((TEXT, "message"), (REFUSAL, "message"), (THOUGHT, "reasoning")):
        events: list[Event] = [Wrote(channel=channel, text="Hm."), Stopped(), Done()]
        response = heard(events)
        assert [item.type for item in response.output] == [kind]
        assert response.id == "resp_made"
        assert str(response.output[0].id).endswith("_made_0")
        assert accumulated(events)[-1].type == "response.completed"


def test_no_two_items_share_an_identifier() -> None:
    def call(index: int) -> list[Event]:
        channel = Channel("tool_arguments", 0, index)
        fields = {"id": "call_1", "item_id": "fc_1", "name": "sum", "type": "function_call"}
        return [Began(channel=channel, fields=fields), Sealed(channel=channel)]

    events: list[Event] = [Opened(), *call(0), *call(1), *call(2), Stopped(), Done()]
    items = [item.to_dict() for item in heard(events).output]
    assert len({item["id"] for item in items} | {item["call_id"] for item in items}) == 6
    assert accumulated(events)[-1].type == "response.completed"


def test_a_call_may_have_one_identifier_for_both() -> None:
    fields = {"id": "call_1", "item_id": "call_1", "name": "sum", "type": "function_call"}
    call: list[Event] = [Began(channel=CALL, fields=fields), Sealed(channel=CALL)]
    item = heard([Opened(), *call, Stopped(), Done()]).output[0].to_dict()
    assert (item["id"], item["call_id"]) == ("call_1", "call_1")


def test_a_message_that_follows_another_closes_it() -> None:
    def text(item: int, word: str) -> list[Event]:
        fields = {"item": item, "type": "output_text", "phase": "commentary"}
        return [Began(channel=TEXT, fields=fields), Wrote(channel=TEXT, text=word)]

    response = heard([Opened(), *text(0, "a"), *text(1, "b"), Stopped(), Done()])
    messages = [i for i in response.output if isinstance(i, ResponseOutputMessage)]
    assert [(m.status, m.phase) for m in messages] == [("completed", "commentary")] * 2
    assert response.output_text == "ab"


@pytest.mark.parametrize("changed", [False, True])
def test_opaque_reasoning_goes_along_only_with_all_that_could_be_read(changed: bool) -> None:
    item = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": t} for t in ("My", " secret")],
        "content": [{"type": "reasoning_text", "text": "deep"}],
        "encrypted_content": "gAAAAABm_-8=",
    }
    events = CODEC.read_body(ASKED, json.dumps({"output": [item]}).encode())
    assert isinstance(events[-1], Done)
    if changed:
        events = [
            Wrote(channel=e.channel, text=e.text.replace("secret", "######"))
            if isinstance(e, Wrote)
            else e
            for e in events
        ]
    thought = heard(events).output[0]
    assert isinstance(thought, ResponseReasoningItem)
    assert thought.encrypted_content == (None if changed else "gAAAAABm_-8=")
    assert [part.text for part in thought.summary] == ["My", " ######" if changed else " secret"]


def test_opaque_reasoning_stays_back_when_its_text_did() -> None:
    item = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "a"}],
        "encrypted_content": "gAAA",
    }
    events = CODEC.read_body(ASKED, json.dumps({"output": [item]}).encode())
    kept = [event for event in events if not isinstance(event, Wrote)]
    assert "gAAA" not in json.dumps(whole(kept))


def test_tokens_used_have_every_count_that_the_sdk_demands() -> None:
    spent = Spent(fields={"input_tokens": 3, "output_tokens": 2})
    usage = heard([Opened(), Stopped(), spent, Done()]).usage
    assert usage is not None
    assert usage.to_dict() == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 5,
    }


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        ({"tool_choice": "x"}, {"tool_choice": "auto"}),
        (
            {"tool_choice": {"type": "function", "name": "sum", "x": 1}},
            {"tool_choice": {"type": "function", "name": "sum"}},
        ),
        ({"parallel_tool_calls": False, "top_p": 1}, {"parallel_tool_calls": False, "top_p": 1}),
        ({"temperature": "hot", "metadata": 7}, {"temperature": 1.0, "metadata": {}}),
        ({"tools": [{"type": "mcp", "authorization": "secret"}, 7]}, {"tools": []}),
        ({"instructions": "secret"}, {"instructions": None}),
        ({"previous_response_id": "resp_0"}, {"previous_response_id": "resp_0"}),
        ({}, {"text": {"format": {"type": "text"}}, "truncation": "disabled", "store": True}),
        ({}, {"reasoning": {"effort": None, "summary": None}, "service_tier": "default"}),
        ({"service_tier": "secret", "truncation": 7}, {"service_tier": "default"}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "x": "secret"}}},
            {"text": {"format": {"type": "json_schema", "name": "n"}}},
        ),
        ({"text": {"format": {"type": "secret"}}}, {"text": {"format": {"type": "text"}}}),
        (
            {"reasoning": {"effort": "low", "summary": 7, "x": "secret"}},
            {"reasoning": {"effort": "low", "summary": None}},
        ),
    ],
)
def test_a_response_repeats_of_its_request_what_sdks_read(asked: Any, told: Any) -> None:
    events: list[Event] = [Opened(), Stopped(), Done()]
    body = whole(events, Asked(api="responses", model="m", body=asked))
    assert {name: body[name] for name in told} == told
    assert "secret" not in json.dumps(body)


@pytest.mark.parametrize(("told", "shown"), [(1_700_000_001, 1_700_000_001), ("soon", None)])
def test_when_a_response_was_completed_is_a_number_of_the_upstreams_or_nothing(
    told: Any, shown: Any
) -> None:
    body = {"object": "response", "status": "completed", "completed_at": told, "output": []}
    events = CODEC.read_body(ASKED, json.dumps(body).encode())
    assert whole(events, ASKED)["completed_at"] == shown
    assert whole([*events[:-1], Blocked()], ASKED)["completed_at"] is None


def test_a_request_that_cannot_be_written_as_json_is_not_repeated() -> None:
    half = "m\ud83d"
    asked = Asked(api="responses", model=half, body={"tools": [{"type": "custom", "name": half}]})
    response = heard([Opened(), Stopped(), Done()], asked)
    assert (response.model, response.tools) == ("m\ufffd", [])


def test_errors_are_raised_by_the_sdk_as_their_own_kinds() -> None:
    def call(status: int, body: dict[str, Any]) -> Callable[[], Any]:
        def answer(_: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(status, json=body)

        http = httpx2.Client(transport=httpx2.MockTransport(answer))
        client = openai.OpenAI(api_key="k", http_client=http, max_retries=0)
        return lambda: client.responses.create(model="m", input="Hi")

    body = CODEC.error("blocked", "No.", "input")
    with pytest.raises(openai.BadRequestError, match=r"No\.") as caught:
        call(400, body)()
    assert (caught.value.code, caught.value.param) == ("content_filter", "input")
    assert CODEC.error_code(json.dumps(body).encode()) == "content_filter"
    assert CODEC.error_code(b"You said") == ""
