"""The promise: what the gateway has to do, the official clients understand.

A stopped answer is a filtered one, which no client takes for a fault; a fault is the error that the
client has for it, and nothing is left open behind a client that has gone.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import openai
import pytest
from gateway.clients import (
    EMAIL,
    KEY,
    LEAK,
    MODEL,
    ONE_KEY,
    SAY,
    TOOLS,
    WAYS,
    Way,
    World,
    chat_chunks,
    chat_helper,
    each_way,
    messages_helper,
    of_anthropic,
    of_openai,
    of_openai_async,
    responses_events,
    responses_helper,
)
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tocsin.testing.fake_model import Call, Choice, Fault, Reply

# --------------------------------------------------------------------------- the gateway has to act

LONG = Choice(text="The sea is calm, and so it goes on. " * 100)
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


def test_langchain_sees_a_filtered_answer(world: World) -> None:
    world.fake.always(LEAK)
    key = SecretStr(KEY)
    model = ChatOpenAI(model="halt", base_url=f"{world.url}/v1", api_key=key, max_retries=0)
    whole, *chunks = model.invoke("How is the sea?"), *model.stream("How is the sea?")
    assert whole.response_metadata["finish_reason"] == "content_filter"
    ends = [chunk.response_metadata.get("finish_reason") for chunk in chunks]
    assert [end for end in ends if end] == ["content_filter"]
    assert EMAIL not in repr((whole, chunks))


# ------------------------------------------------------------------------------------------- errors


def raised(way: Way, url: str, **asked: Any) -> Any:
    """What the client raises."""
    with pytest.raises((openai.APIError, anthropic.APIError)) as caught:
        way(url, **asked)
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
    assert kind(raised(WAYS[api][0], world.url, model="gpt-unknown")) == ("NotFoundError", 404)


@each_api
def test_a_blocked_request_is_a_bad_request_and_no_model_hears_of_it(
    world: World, api: str
) -> None:
    before = len(world.fake.requests)
    said = {"input": EMAIL} if api == "responses" else {"messages": [SAY[0] | {"content": EMAIL}]}
    error = raised(WAYS[api][0], world.url, **said)
    assert kind(error) == ("BadRequestError", 400)
    assert "safety check" in str(error)
    assert EMAIL not in str(error)
    assert before == len(world.fake.requests)


@each_api
def test_an_upstreams_limit_is_a_rate_limit_with_its_retry_after(world: World, api: str) -> None:
    world.fake.always(Reply(status=429, headers={"Retry-After": "7"}))
    error = raised(WAYS[api][0], world.url)
    assert kind(error) == ("RateLimitError", 429)
    assert error.response.headers["retry-after"] == "7"


@each_api
@pytest.mark.parametrize(("status", "shown"), [(500, 502), (503, 503), (529, 503), (401, 502)])
def test_an_upstreams_failure_is_a_server_error(
    world: World, api: str, status: int, shown: int
) -> None:
    world.fake.always(Reply(status=status))
    error = raised(WAYS[api][0], world.url)
    assert shown == error.status_code
    assert isinstance(error, openai.InternalServerError | anthropic.InternalServerError)
    assert "fake error" not in str(error)


@each_api
def test_a_model_that_nobody_serves_is_a_server_error(world: World, api: str) -> None:
    assert kind(raised(WAYS[api][0], world.url, model="nobody")) == ("InternalServerError", 502)


def test_one_request_too_many_is_a_rate_limit(world: World) -> None:
    fake = world.fake
    fake.script(Reply(faults=(Fault(kind="hang", after_frames=0),)))
    ask: Any = {"model": MODEL, "messages": SAY}

    async def test() -> tuple[Any, Any]:
        async with of_openai_async(world.url, api_key=ONE_KEY) as api:
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
    with of_openai(world.url, timeout=1.5) as api, pytest.raises(openai.APITimeoutError):
        api.chat.completions.create(model=MODEL, messages=SAY, stream=stream)
    with of_anthropic(world.url, timeout=1.5) as other, pytest.raises(anthropic.APITimeoutError):
        other.messages.create(model=MODEL, max_tokens=9, messages=SAY, stream=stream)
    world.fake.wait(gone=gone + 2, held=0)


def test_a_client_that_closes_its_stream_ends_the_upstream_too(world: World) -> None:
    gone = world.fake.gone
    world.fake.always(Reply(choices=(LONG,), faults=(Fault(kind="hang", after_frames=400),)))
    with of_openai(world.url) as api:
        ask: Any = {"model": MODEL, "messages": SAY, "stream": True}
        with api.chat.completions.create(**ask) as chunks:
            assert next(iter(chunks)).choices[0].delta.role == "assistant"
    world.fake.wait(gone=gone + 1, held=0)


@each_way("chat", "responses", "messages")
def test_an_answer_that_breaks_off_at_once_is_a_server_error(
    world: World, api: str, way: Way
) -> None:
    world.fake.always(Reply(faults=(Fault(kind="cut", after_bytes=40),)))
    assert kind(raised(way, world.url)) == ("InternalServerError", 502)


@pytest.mark.parametrize(
    ("api", "way"),
    [
        ("chat", chat_chunks),
        ("chat", chat_helper),
        ("responses", responses_events),
        ("responses", responses_helper),
        ("messages", messages_helper),
    ],
)
def test_an_answer_that_breaks_off_later_ends_as_a_filtered_one(
    world: World, api: str, way: Way
) -> None:
    world.fake.always(Reply(choices=(LONG,), faults=(Fault(kind="cut", after_frames=400),)))
    found = way(world.url)
    assert ENDS[api] == end_of(api, found)
    assert str(LONG.text).startswith(text_of(api, found))
    assert len(text_of(api, found)) > 1_000
