"""The promise: the official clients work as if no gateway were there, until it has to act.

Nothing is simulated but the model: the program is run, and the clients speak to it over sockets.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest
from gateway.clients import (
    KEY,
    MODEL,
    ONE_KEY,
    SAY,
    WAYS,
    Way,
    World,
    of_anthropic,
    of_openai,
    running,
)
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from tocsin.testing.fake_model import Call, Choice, Fault, Reply


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.fixture(autouse=True)
def _silent(world: World) -> None:
    """What one test scripts is not said to another."""
    world.fake.always(Reply())


def each_way(*apis: str) -> pytest.MarkDecorator:
    """Run a test for each way to ask, with the name of the API."""
    ways = [(api, way) for api in apis for way in WAYS[api]]
    return pytest.mark.parametrize(("api", "way"), ways, ids=[way.__name__ for _, way in ways])


# ------------------------------------------------------------------------------ nothing is changed

DIFFERENCES: tuple[tuple[str, Callable[[Any], Any], str], ...] = (
    ("tocsin", lambda _: None, "says in a whole answer what the guard did; SDKs keep it as extra"),
    (
        "top_logprobs",
        lambda told: [] if isinstance(told, list) else told,
        "is empty: nobody watched the texts of the alternatives",
    ),
    ("content", lambda told: told or None, "of a mere refusal in chat is null, never empty"),
    ("tools", lambda _: None, "are repeated as the client sent them; the fake repeats none"),
    ("include", lambda _: None, "is for the request alone"),
)
"""All that may differ: a field by its name, what is compared of it, and why."""

_NOT_REPEATED = ("text", "top_logprobs", "reasoning")
"""What a response repeats of its request, as `tools`, and the fake does not."""

TALK = Reply(choices=(Choice(text="It is a fine day 😀, and the sea is calm. Grüße!"),))
TWO = Reply(choices=(Choice(text="It is a fine day."), Choice(text="The sea is calm.")))
THOUGHT = Reply(choices=(Choice(reasoning="Let me think of the sea.", text="It is calm."),))
REFUSED = Reply(choices=(Choice(refusal="I will not say that."),))
SHORT = Reply(choices=(Choice(text="It was cut off he", finish="length"),))
FILTERED = Reply(choices=(Choice(text="It was filtered", finish="content_filter"),))
EMPTY = Reply(choices=(Choice(),))
CALLS = Reply(
    choices=(
        Choice(
            text="Let me look.",
            calls=(
                Call(name="weather", arguments='{"city": "Kiel"}'),
                Call(name="weather", arguments='{"city": "Köln"}'),
            ),
        ),
    )
)
SCHEMA: Any = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: dict[str, Any] = {
    "chat": {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}},
    "responses": {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False},
    "messages": {"name": "weather", "input_schema": SCHEMA},
}
LOGPROBS: dict[str, Any] = {
    "chat": {"logprobs": True, "top_logprobs": 2},
    "responses": {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
}
THINKING: dict[str, Any] = {
    "chat": {"reasoning_effort": "low"},
    "responses": {"reasoning": {"effort": "low", "summary": "auto"}},
    "messages": {"thinking": {"type": "enabled", "budget_tokens": 1_024}},
}


def dumped(found: Any) -> Any:
    """What the client holds, without what may differ."""
    told = found.model_dump(mode="json", warnings=False)
    if told.get("object") == "response":
        for name in _NOT_REPEATED:
            told[name] = None
    return _compared(told)


def _compared(told: Any) -> Any:
    if isinstance(told, list):
        return [_compared(one) for one in told]
    if not isinstance(told, dict):
        return told
    told = {name: _compared(value) for name, value in told.items()}
    for name, compared, _ in DIFFERENCES:
        if name in told:
            told[name] = compared(told[name])
    return {name: value for name, value in told.items() if value is not None}


def same(world: World, way: Way, reply: Reply, **asked: Any) -> Any:
    """Ask the model and the gateway; what comes back, and what the model was asked, is the same."""
    world.fake.always(reply)
    direct = way(world.fake.url, **asked)
    guarded = way(world.url, **asked)
    one, other = world.fake.requests[-2:]
    assert one.body == other.body
    assert dumped(direct) == dumped(guarded)
    return guarded


@each_way("chat", "responses", "messages")
@pytest.mark.parametrize(
    "reply",
    [TALK, REFUSED, SHORT, FILTERED, EMPTY],
    ids=["talk", "refused", "short", "filtered", "empty"],
)
def test_an_answer_is_what_the_model_said(world: World, api: str, way: Way, reply: Reply) -> None:
    same(world, way, reply)


@each_way("chat", "responses", "messages")
def test_tool_calls_are_what_the_model_said(world: World, api: str, way: Way) -> None:
    same(world, way, CALLS, tools=[TOOLS[api]])


@each_way("chat", "responses", "messages")
def test_reasoning_is_what_the_model_said(world: World, api: str, way: Way) -> None:
    same(world, way, THOUGHT, **THINKING[api])


@each_way("chat", "responses")
def test_log_probabilities_are_those_of_the_model(world: World, api: str, way: Way) -> None:
    told = dumped(same(world, way, TALK, **LOGPROBS[api]))
    assert '"logprob": -0.25' in json.dumps(told)


@each_way("chat")
def test_two_choices_are_those_of_the_model(world: World, api: str, way: Way) -> None:
    told = same(world, way, TWO, n=2)
    said = [choice.message.content for choice in told.choices]
    assert said == ["It is a fine day.", "The sea is calm."]


def test_a_stream_has_usage_only_where_it_is_asked_for(world: World) -> None:
    world.fake.always(TALK)
    for options, expected in (({"include_usage": True}, [True]), (openai.omit, [])):
        with of_openai(world.url) as api:
            chunks = api.chat.completions.create(
                model=MODEL, messages=SAY, stream=True, stream_options=options
            )
            assert expected == [True for chunk in chunks if chunk.usage]


def test_a_raw_stream_of_messages_is_the_text_of_the_model(world: World) -> None:
    world.fake.always(TALK)
    with of_anthropic(world.url) as api:
        events = list(api.messages.create(model=MODEL, max_tokens=9, messages=SAY, stream=True))
    deltas = [e.delta for e in events if e.type == "content_block_delta"]
    assert TALK.choices[0].text == "".join(d.text for d in deltas if d.type == "text_delta")
    assert events[-1].type == "message_stop"


def test_raw_responses_name_receipt_policy_and_guard(world: World) -> None:
    with of_openai(world.url) as api:
        raw = api.chat.completions.with_raw_response.create(model=MODEL, messages=SAY)
    told = [raw.headers[f"x-tocsin-{name}"] for name in ("mode", "guard")]
    assert told == ["enforce", "ok"]
    assert raw.headers["x-tocsin-policy"].startswith("plain@")
    note = (raw.parse().model_extra or {})["tocsin"]
    assert raw.headers["x-tocsin-receipt"] == note["receipt"]


# ------------------------------------------------------------------------------------ tools, forms


class Answer(BaseModel):
    """A structured answer."""

    n: int


FORM = Reply(choices=(Choice(text='{"n": 7}'),))


def test_structured_output_is_parsed_on_each_api(world: World) -> None:
    world.fake.always(FORM)
    with of_openai(world.url) as api, of_anthropic(world.url) as other:
        chat = {"model": MODEL, "messages": SAY, "response_format": Answer}
        given: list[Any] = [api.chat.completions.parse(**chat).choices[0].message.parsed]
        with api.chat.completions.stream(**chat) as stream:
            given.append(stream.get_final_completion().choices[0].message.parsed)
        asked: Any = {"model": MODEL, "input": "Which?", "text_format": Answer}
        given.append(api.responses.parse(**asked).output_parsed)
        with api.responses.stream(**asked) as events:
            given.append(events.get_final_response().output_parsed)
        said: Any = {"model": MODEL, "max_tokens": 9, "messages": SAY, "output_format": Answer}
        given.append(other.messages.parse(**said).parsed_output)
        with other.messages.stream(**said) as helper:
            given.append(helper.get_final_message().parsed_output)
    assert [Answer(n=7)] * 6 == given


def _loop(world: World) -> None:
    world.fake.script(CALLS, TALK)


def test_a_tool_loop_in_chat_goes_round(world: World) -> None:
    _loop(world)
    said = [*SAY]
    with of_openai(world.url) as api:
        ask: Any = {"model": MODEL, "messages": said, "tools": [TOOLS["chat"]]}
        with api.chat.completions.stream(**ask) as stream:
            called = stream.get_final_completion().choices[0].message
        said.append(called.model_dump(exclude_none=True, exclude={"parsed"}))
        for call in called.tool_calls or ():
            city = json.loads(call.function.arguments)["city"]
            said.append({"role": "tool", "tool_call_id": call.id, "content": f"{city}: calm"})
        answer = api.chat.completions.create(**ask).choices[0].message.content
    assert TALK.choices[0].text == answer
    heard = world.fake.requests[-1].body["messages"]
    assert [m["content"] for m in heard[-2:]] == ["Kiel: calm", "Köln: calm"]
    assert [call["id"] for call in heard[1]["tool_calls"]] == [m["tool_call_id"] for m in heard[2:]]


def test_a_tool_loop_in_responses_goes_round(world: World) -> None:
    _loop(world)
    said: list[Any] = [*SAY]
    with of_openai(world.url) as api:
        ask: Any = {"model": MODEL, "input": said, "tools": [TOOLS["responses"]]}
        with api.responses.stream(**ask) as stream:
            called = stream.get_final_response().output
        said += [item.model_dump(exclude_none=True) for item in called]
        for item in called:
            if item.type == "function_call":
                told = {"call_id": item.call_id, "output": "calm"}
                said.append({"type": "function_call_output", **told})
        answer = api.responses.create(**ask).output_text
    assert TALK.choices[0].text == answer
    heard = world.fake.requests[-1].body["input"]
    assert [item["call_id"] for item in heard[-2:]] == ["call_0", "call_1"]


def test_a_tool_loop_in_messages_goes_round(world: World) -> None:
    _loop(world)
    said: list[Any] = [*SAY]
    with of_anthropic(world.url) as api:
        ask: Any = {
            "model": MODEL,
            "max_tokens": 99,
            "messages": said,
            "tools": [TOOLS["messages"]],
        }
        with api.messages.stream(**ask) as stream:
            called = stream.get_final_message()
        said.append({"role": "assistant", "content": called.content})
        uses = [block for block in called.content if block.type == "tool_use"]
        told = [{"type": "tool_result", "tool_use_id": u.id, "content": "calm"} for u in uses]
        said.append({"role": "user", "content": told})
        answer = api.messages.create(**ask)
    assert [use.input for use in uses] == [{"city": "Kiel"}, {"city": "Köln"}]
    assert [TALK.choices[0].text] == [b.text for b in answer.content if b.type == "text"]
    heard = world.fake.requests[-1].body["messages"][-1]["content"]
    assert [use.id for use in uses] == [result["tool_use_id"] for result in heard]


# --------------------------------------------------------------------------- the gateway has to act

EMAIL = "anna.smith@example.com"
LEAK = Reply(choices=(Choice(text=f"It is calm. Write to {EMAIL} about the sea, or do not."),))
LEAKED_CALL = Reply(
    choices=(Choice(calls=(Call(name="weather", arguments=json.dumps({"city": EMAIL})),)),)
)
ENDS = {"chat": "content_filter", "responses": "content_filter", "messages": "refusal"}


def text_of(api: str, found: Any) -> str:
    if api == "chat":
        return found.choices[0].message.content or ""
    if api == "responses":
        return str(found.output_text)
    return "".join(block.text for block in found.content if block.type == "text")


def end_of(api: str, found: Any) -> Any:
    if api == "chat":
        return found.choices[0].finish_reason
    if api == "responses":
        return found.incomplete_details and found.incomplete_details.reason
    return found.stop_reason


def calls_of(api: str, found: Any) -> list[Any]:
    if api == "chat":
        calls = found.choices[0].message.tool_calls or ()
        return [json.loads(call.function.arguments) for call in calls]
    if api == "responses":
        items = [item for item in found.output if item.type == "function_call"]
        return [json.loads(item.arguments) for item in items]
    return [block.input for block in found.content if block.type == "tool_use"]


@each_way("chat", "responses", "messages")
def test_what_is_masked_is_a_marker_in_an_answer_like_any_other(
    world: World, api: str, way: Way
) -> None:
    world.fake.always(LEAK)
    found = way(world.url, model="mask")
    assert str(LEAK.choices[0].text).replace(EMAIL, "[email]") == text_of(api, found)
    assert EMAIL not in repr(found)
    assert end_of(api, found) in {"stop", "end_turn", None}


@each_way("chat", "responses", "messages")
def test_masked_arguments_of_a_tool_are_json(world: World, api: str, way: Way) -> None:
    world.fake.always(LEAKED_CALL)
    found = way(world.url, model="mask", tools=[TOOLS[api]])
    assert calls_of(api, found) == [{"city": "[email]"}]


@each_way("chat", "responses", "messages")
def test_a_block_is_a_filtered_answer_and_not_an_error(world: World, api: str, way: Way) -> None:
    world.fake.always(LEAK)
    found = way(world.url, model="halt")
    assert ENDS[api] == end_of(api, found)
    assert str(LEAK.choices[0].text).partition(EMAIL)[0].startswith(text_of(api, found))
    assert EMAIL not in repr(found)


@each_way("chat", "responses", "messages")
def test_a_blocked_tool_call_never_came(world: World, api: str, way: Way) -> None:
    world.fake.always(LEAKED_CALL)
    found = way(world.url, model="halt", tools=[TOOLS[api]])
    assert ([], ENDS[api]) == (calls_of(api, found), end_of(api, found))


@each_way("chat", "responses", "messages")
def test_a_replaced_answer_ends_with_the_policys_words(world: World, api: str, way: Way) -> None:
    world.fake.always(LEAK)
    found = way(world.url, model="replace")
    assert text_of(api, found).endswith("Not this.")
    assert ENDS[api] == end_of(api, found)


@each_way("chat")
def test_a_block_ends_every_choice(world: World, api: str, way: Way) -> None:
    world.fake.always(Reply(choices=(Choice(text="It is calm."), LEAK.choices[0])))
    found = way(world.url, model="halt", n=2)
    assert [choice.finish_reason for choice in found.choices] == ["content_filter"] * 2


def test_a_block_is_not_retried(world: World) -> None:
    world.fake.always(LEAK)
    before = len(world.fake.requests)
    with (
        of_openai(world.url, max_retries=2) as api,
        of_anthropic(world.url, max_retries=2) as other,
    ):
        api.chat.completions.create(model="halt", messages=SAY)
        with other.messages.stream(model="halt", max_tokens=9, messages=SAY) as stream:
            stream.get_final_message()
    assert len(world.fake.requests) - before == 2


# ------------------------------------------------------------------------------------------- errors


def raised(world: World, api: str, **asked: Any) -> Any:
    """What the client raises."""
    (way, *_) = WAYS[api]
    with pytest.raises((openai.APIError, anthropic.APIError)) as caught:
        way(world.url, **asked)
    return caught.value


APIS = ("chat", "responses", "messages")
each_api = pytest.mark.parametrize("api", APIS)


def kind(error: Any) -> tuple[str, int]:
    return type(error).__name__, error.status_code


def test_an_unknown_key_is_an_authentication_error(world: World) -> None:
    with of_openai(world.url, api_key="sk-other") as api, pytest.raises(openai.AuthenticationError):
        api.models.list()
    with (
        of_anthropic(world.url, api_key="sk-other") as other,
        pytest.raises(anthropic.AuthenticationError),
    ):
        other.messages.create(model=MODEL, max_tokens=9, messages=SAY)


@each_api
def test_an_unknown_model_is_not_found(world: World, api: str) -> None:
    assert kind(raised(world, api, model="gpt-unknown")) == ("NotFoundError", 404)


@each_api
def test_a_blocked_request_is_a_bad_request_and_no_model_hears_of_it(
    world: World, api: str
) -> None:
    before = len(world.fake.requests)
    said = {"input": EMAIL} if api == "responses" else {"messages": [SAY[0] | {"content": EMAIL}]}
    error = raised(world, api, **said)
    assert kind(error) == ("BadRequestError", 400)
    assert "safety check" in str(error)
    assert EMAIL not in str(error)
    assert before == len(world.fake.requests)


@each_api
def test_an_upstreams_limit_is_a_rate_limit_with_its_retry_after(world: World, api: str) -> None:
    world.fake.always(Reply(status=429, headers={"Retry-After": "7"}))
    error = raised(world, api)
    assert kind(error) == ("RateLimitError", 429)
    assert error.response.headers["retry-after"] == "7"


@each_api
@pytest.mark.parametrize(("status", "shown"), [(500, 502), (503, 503), (529, 503), (401, 502)])
def test_an_upstreams_failure_is_a_server_error(
    world: World, api: str, status: int, shown: int
) -> None:
    world.fake.always(Reply(status=status))
    error = raised(world, api)
    assert shown == error.status_code
    assert isinstance(error, openai.InternalServerError | anthropic.InternalServerError)
    assert "fake error" not in str(error)


@each_api
def test_a_model_that_nobody_serves_is_a_server_error(world: World, api: str) -> None:
    assert kind(raised(world, api, model="nobody")) == ("InternalServerError", 502)


def test_one_request_too_many_is_a_rate_limit(world: World) -> None:
    fake = world.fake
    fake.script(Reply(faults=(Fault(kind="hang", after_frames=2),)))
    ask: Any = {"model": MODEL, "messages": SAY}

    async def test() -> tuple[Any, Any]:
        async with openai.AsyncOpenAI(
            api_key=ONE_KEY, base_url=f"{world.url}/v1", max_retries=0
        ) as api:
            first = asyncio.create_task(api.chat.completions.create(**ask))
            await fake.until(held=1)
            with pytest.raises(openai.RateLimitError) as caught:
                await api.chat.completions.create(**ask)
            fake.step()
            return caught.value, await first

    error, first = asyncio.run(test())
    assert error.response.headers["retry-after"] == "1"
    assert first.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_waits_no_longer_ends_the_upstream_too(world: World, stream: bool) -> None:
    gone = world.fake.gone
    world.fake.always(Reply(faults=(Fault(kind="hang", after_frames=0),)))
    with of_openai(world.url, timeout=0.3) as api, pytest.raises(openai.APITimeoutError):
        api.chat.completions.create(model=MODEL, messages=SAY, stream=stream)
    with of_anthropic(world.url, timeout=0.3) as other, pytest.raises(anthropic.APITimeoutError):
        other.messages.create(model=MODEL, max_tokens=9, messages=SAY, stream=stream)
    world.fake.wait(gone=gone + 2, held=0)


def test_a_client_that_closes_its_stream_ends_the_upstream_too(world: World) -> None:
    gone = world.fake.gone
    endless = Choice(text="The sea is calm, and so it goes on. " * 100)
    world.fake.always(Reply(choices=(endless,), faults=(Fault(kind="hang", after_frames=400),)))
    with of_openai(world.url) as api:
        ask: Any = {"model": MODEL, "messages": SAY, "stream": True}
        with api.chat.completions.create(**ask) as chunks:
            assert next(iter(chunks)).choices[0].delta.role == "assistant"
    world.fake.wait(gone=gone + 1, held=0)


@each_way("chat", "responses", "messages")
def test_an_answer_that_breaks_off_is_an_error(world: World, api: str, way: Way) -> None:
    long = Choice(text="The sea is calm, and so it goes on. " * 100)
    for choice, frames in ((Choice(text="It is calm."), 4), (long, 400)):
        world.fake.always(
            Reply(choices=(choice,), faults=(Fault(kind="cut", after_frames=frames),))
        )
        with pytest.raises((openai.APIError, anthropic.APIError)):
            way(world.url)


# ------------------------------------------------------------------------------- models, frameworks

NAMED = [MODEL, "mask", "halt", "replace", "nobody"]


def test_models_are_listed_in_the_form_of_each_client(world: World) -> None:
    with of_openai(world.url) as api, of_anthropic(world.url) as other:
        assert [model.id for model in api.models.list()] == NAMED
        assert [model.id for model in other.models.list()] == NAMED


def langchain(world: World, model: str = MODEL) -> ChatOpenAI:
    return ChatOpenAI(
        model=model, base_url=f"{world.url}/v1", api_key=SecretStr(KEY), max_retries=0
    )


def test_langchain_streams_what_the_model_said(world: World) -> None:
    world.fake.always(TALK)
    chunks = list(langchain(world).stream("How is the sea?"))
    assert TALK.choices[0].text == "".join(chunk.text for chunk in chunks)
    world.fake.always(LEAK)
    (*_, last) = langchain(world, "halt").stream("How is the sea?")
    assert EMAIL not in repr(last)


def test_langchain_calls_tools_and_sees_a_filtered_answer(world: World) -> None:
    world.fake.always(CALLS)
    called = langchain(world).bind_tools([TOOLS["chat"]]).invoke("How is the sea?")
    assert [call["args"] for call in called.tool_calls] == [{"city": "Kiel"}, {"city": "Köln"}]
    world.fake.always(LEAK)
    found = langchain(world, "halt").invoke("How is the sea?")
    assert found.response_metadata["finish_reason"] == "content_filter"
