"""The promise: where nothing is found, the official clients work as if no gateway were there.

Nothing is simulated but the model: the program is run, and the clients speak to it over sockets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from gateway.clients import (
    CALLS,
    KEY,
    MODEL,
    SAY,
    TALK,
    TOOLS,
    Way,
    World,
    each_way,
    of_anthropic,
    of_openai,
)
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from tocsin.testing.fake_model import Choice, Reply

# ------------------------------------------------------------------------------ nothing is changed

DIFFERENCES: tuple[tuple[str, Callable[[Any], Any], str], ...] = (
    ("tocsin", lambda _: None, "says in a whole answer what the guard did; SDKs keep it as extra"),
    (
        "top_logprobs",
        lambda told: [] if isinstance(told, list) else None,
        "is empty, since nobody watched the alternatives; as a number it repeats the request",
    ),
    ("content", lambda told: told or None, "of a mere refusal in chat is null, never empty"),
    ("tools", lambda _: None, "repeats the request, which the fake model does not"),
    (
        "reasoning",
        lambda told: None if isinstance(told, dict) else told,
        "repeats the request, which the fake model does not",
    ),
)
"""All that may differ: a field by its name, what is compared of it, and why."""

TWO = Reply(choices=(Choice(text="It is a fine day."), Choice(text="The sea is calm.")))
THOUGHT = Reply(choices=(Choice(reasoning="Let me think of the sea.", text="It is calm."),))
REFUSED = Reply(choices=(Choice(refusal="I will not say that."),))
SHORT = Reply(choices=(Choice(text="It was cut off he", finish="length"),))
FILTERED = Reply(choices=(Choice(text="It was filtered", finish="content_filter"),))
EMPTY = Reply(choices=(Choice(),))
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
    return _compared(found.model_dump(mode="json", warnings=False))


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
    told = []
    for more in ({"stream_options": {"include_usage": True}}, {}):
        ask: Any = {"model": MODEL, "messages": SAY, "stream": True, **more}
        with of_openai(world.url) as api, api.chat.completions.create(**ask) as chunks:
            told.append([chunk.usage.total_tokens for chunk in chunks if chunk.usage])
    assert told == [[21], []]


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


# ------------------------------------------------------------------------------- models, frameworks

NAMED = [MODEL, "mask", "halt", "replace", "nobody"]


def test_models_are_listed_in_the_form_of_each_client(world: World) -> None:
    with of_openai(world.url) as api, of_anthropic(world.url) as other:
        assert [model.id for model in api.models.list()] == NAMED
        assert [model.id for model in other.models.list()] == NAMED


def langchain(world: World) -> ChatOpenAI:
    return ChatOpenAI(
        model=MODEL, base_url=f"{world.url}/v1", api_key=SecretStr(KEY), max_retries=0
    )


def test_langchain_streams_what_the_model_said(world: World) -> None:
    world.fake.always(TALK)
    chunks = list(langchain(world).stream("How is the sea?"))
    assert TALK.choices[0].text == "".join(chunk.text for chunk in chunks)


def test_langchain_calls_tools(world: World) -> None:
    world.fake.always(CALLS)
    called = langchain(world).bind_tools([TOOLS["chat"]]).invoke("How is the sea?")
    assert [call["args"] for call in called.tool_calls] == [{"city": "Kiel"}, {"city": "Köln"}]
