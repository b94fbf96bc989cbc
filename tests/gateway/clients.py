"""The official clients, and a running gateway between them and a model that says what it is told.

A *way* asks through one client in one form, and gives what the client makes of the whole answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import ssl
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from gateway.processes import SERVE, Process
from openai.lib.streaming.chat import ChatCompletionStreamState

from tocsin.testing.fake_model import Call, Choice, FakeModel, Reply

KEY = "sk-clients-0123456789"
ONE_KEY = "sk-one-at-a-time-0123456789"
MODEL = "fake-model"
STRAY = ("OPENAI_", "ANTHROPIC_", "LANGCHAIN_", "LANGSMITH_")
"""How names in the environment begin that would change what the clients do."""

SAY: Any = [{"role": "user", "content": "How is the sea?"}]
EMAIL = "anna.smith@example.com"
TALK = Reply(choices=(Choice(text="It is a fine day 😀, and the sea is calm. Grüße!"),))
LEAK = Reply(choices=(Choice(text=f"It is calm. Write to {EMAIL} about the sea, or do not."),))
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
_FINDINGS = {"verifier": "patterns", "findings": {"*": "halt"}}
_HARM = {"verifier": "linear:harmful_answer", "alarm_below": 0.0001}


def configuration(fake_url: str) -> dict[str, Any]:
    """A gateway whose models are named by what it does to their answers."""
    speaks = ["chat", "responses", "messages"]
    does = {name: {**_FINDINGS, "findings": {"*": name}} for name in ("mask", "halt", "replace")}
    return {
        "listen": {"port": 0},
        "upstreams": {
            "model": {"url": f"{fake_url}/v1", "speaks": speaks, "key": "upstream-key"},
            "nobody": {"url": "http://127.0.0.1:1/v1", "speaks": speaks},
        },
        "tenants": {
            "many": {"keys": [_hashed(KEY)]},
            "one": {"keys": [_hashed(ONE_KEY)], "streams_max": 1},
        },
        "routes": [
            {"name": "plain", "models": [MODEL], "upstream": "model", "policy": "plain"},
            *(
                {"name": n, "models": [n], "upstream": "model", "model": MODEL, "policy": n}
                for n in does
            ),
            {"name": "nobody", "models": ["nobody"], "upstream": "nobody", "policy": "plain"},
        ],
        # Or an answer begins before a client that waits a third of a second gives up.
        "limits": {"head_ms": 60_000},
        "policies": {
            "plain": {"checks": [_FINDINGS, _HARM], "input": [_FINDINGS]},
            **{n: {"checks": [c], "replacement": "Not this."} for n, c in does.items()},
        },
    }


def _hashed(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@dataclass(frozen=True)
class World:
    """Where the model is, and where the gateway is."""

    fake: FakeModel
    url: str


@contextlib.contextmanager
def running(folder: Path) -> Iterator[World]:
    """Run the program as operators do, before a fake model."""
    kept = dict(os.environ)
    for name in [name for name in kept if name.startswith(STRAY)]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    try:
        with FakeModel() as fake:
            file = folder / "gateway.yaml"
            file.write_text(json.dumps(configuration(fake.url)), encoding="utf-8")
            command = [sys.executable, "-c", SERVE, str(file), "--metrics", "off"]
            with Process(command) as gateway:
                gateway.until(lambda: bool(gateway.out) or gateway._popen.poll() is not None)
                assert gateway.out, gateway.lines
                yield World(fake, gateway.out[0].split()[-1])
    finally:
        os.environ.clear()
        os.environ.update(kept)


# --------------------------------------------------------------------------------------- clients


_TLS = ssl.create_default_context()
"""Reading the certificates takes longer than a test, and none of them is needed."""


def of_openai(url: str, **more: Any) -> openai.OpenAI:
    """The official client."""
    http = openai.DefaultHttpxClient(verify=_TLS)
    known = {"api_key": KEY, "base_url": f"{url}/v1", "max_retries": 0, "http_client": http}
    return openai.OpenAI(**{**known, **more})


def of_openai_async(url: str, **more: Any) -> openai.AsyncOpenAI:
    http = openai.DefaultAsyncHttpxClient(verify=_TLS)
    known = {"api_key": KEY, "base_url": f"{url}/v1", "max_retries": 0, "http_client": http}
    return openai.AsyncOpenAI(**{**known, **more})


def of_anthropic(url: str, **more: Any) -> anthropic.Anthropic:
    """The official client."""
    http = anthropic.DefaultHttpxClient(verify=_TLS)
    known = {"api_key": KEY, "base_url": url, "max_retries": 0, "http_client": http}
    return anthropic.Anthropic(**{**known, **more})


def of_anthropic_async(url: str) -> anthropic.AsyncAnthropic:
    http = anthropic.DefaultAsyncHttpxClient(verify=_TLS)
    return anthropic.AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0, http_client=http)


Way = Callable[..., Any]
"""Takes the URL and what else is asked for; gives the client's final object."""

_CUT_SHORT = (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError)
"""What the helper raises at the end of an answer whose tools or form it was to parse."""


# ------------------------------------------------------------------------------------------ chat


def _chat(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "messages": SAY, **asked}


def _chat_streamed(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"stream_options": {"include_usage": True}, **_chat(asked)}


def chat(url: str, **asked: Any) -> Any:
    """Ask for a whole answer."""
    with of_openai(url) as api:
        return api.chat.completions.create(**_chat(asked))


def chat_chunks(url: str, **asked: Any) -> Any:
    """Ask for chunks, and add them up."""
    state: Any = ChatCompletionStreamState()
    ask = _chat_streamed(asked)
    with of_openai(url) as api, api.chat.completions.create(**ask, stream=True) as chunks:
        for chunk in chunks:
            list(state.handle_chunk(chunk))
    return state.current_completion_snapshot


def chat_helper(url: str, **asked: Any) -> Any:
    """Ask with the client's helper for streams."""
    with of_openai(url) as api, api.chat.completions.stream(**_chat_streamed(asked)) as stream:
        with contextlib.suppress(*_CUT_SHORT):
            list(stream)
        return stream.current_completion_snapshot


async def chat_async(url: str, **asked: Any) -> Any:
    async with of_openai_async(url) as api:
        return await api.chat.completions.create(**_chat(asked))


async def chat_helper_async(url: str, **asked: Any) -> Any:
    ask = _chat_streamed(asked)
    async with of_openai_async(url) as api, api.chat.completions.stream(**ask) as stream:
        with contextlib.suppress(*_CUT_SHORT):
            [_ async for _ in stream]
        return stream.current_completion_snapshot


# ------------------------------------------------------------------------------------- responses


def _responses(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "input": "How is the sea?", **asked}


def responses(url: str, **asked: Any) -> Any:
    """Ask for a whole answer."""
    with of_openai(url) as api:
        return api.responses.create(**_responses(asked))


def responses_events(url: str, **asked: Any) -> Any:
    """Ask for events; the last one has the whole response."""
    with of_openai(url) as api, api.responses.create(**_responses(asked), stream=True) as events:
        return list(events)[-1].response


def responses_helper(url: str, **asked: Any) -> Any:
    """Ask with the client's helper for streams."""
    with of_openai(url) as api, api.responses.stream(**_responses(asked)) as stream:
        return list(stream)[-1].response  # type: ignore[union-attr]


async def responses_async(url: str, **asked: Any) -> Any:
    async with of_openai_async(url) as api:
        return await api.responses.create(**_responses(asked))


async def responses_helper_async(url: str, **asked: Any) -> Any:
    async with of_openai_async(url) as api, api.responses.stream(**_responses(asked)) as stream:
        return [event async for event in stream][-1].response  # type: ignore[union-attr]


# -------------------------------------------------------------------------------------- messages


def _messages(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 4_096, "messages": SAY, **asked}


def messages(url: str, **asked: Any) -> Any:
    """Ask for a whole answer."""
    with of_anthropic(url) as api:
        return api.messages.create(**_messages(asked))


def messages_helper(url: str, **asked: Any) -> Any:
    """Ask with the client's helper for streams."""
    with of_anthropic(url) as api, api.messages.stream(**_messages(asked)) as stream:
        return stream.get_final_message()


async def messages_async(url: str, **asked: Any) -> Any:
    async with of_anthropic_async(url) as api:
        return await api.messages.create(**_messages(asked))


async def messages_helper_async(url: str, **asked: Any) -> Any:
    async with of_anthropic_async(url) as api, api.messages.stream(**_messages(asked)) as stream:
        return await stream.get_final_message()


def _now(way: Callable[..., Coroutine[Any, Any, Any]]) -> Way:
    def asked(url: str, **more: Any) -> Any:
        return asyncio.run(way(url, **more))

    asked.__name__ = way.__name__
    return asked


WAYS: Mapping[str, tuple[Way, ...]] = {
    "chat": (chat, chat_chunks, chat_helper, _now(chat_async), _now(chat_helper_async)),
    "responses": (
        responses, responses_events, responses_helper,
        _now(responses_async), _now(responses_helper_async),
    ),
    "messages": (
        messages, messages_helper, _now(messages_async), _now(messages_helper_async),
    ),
}  # fmt: skip
"""The ways to ask, by API."""


def each_way(*apis: str) -> pytest.MarkDecorator:
    """Run a test for each way to ask, with the name of the API."""
    ways = [(api, way) for api in apis for way in WAYS[api]]
    return pytest.mark.parametrize(("api", "way"), ways, ids=[way.__name__ for _, way in ways])
