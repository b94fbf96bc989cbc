"""Remote verifiers of a fake guard, for the tests of both."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tocsin.model import Context, Delta, Message, Outcome, Unknown
from tocsin.testing.fake_guard import ChatStyle, FakeGuard, Reply, hashed
from tocsin.verifiers.remote import RemoteVerifier, parse

T = TypeVar("T")

GUARDS: dict[str, tuple[str, ChatStyle, dict[str, Any]]] = {
    "llama_guard": ("/v1/chat/completions", "llama_guard", {}),
    "qwen3guard": ("/v1/chat/completions", "qwen3guard", {}),
    "safeguard": ("/v1/chat/completions", "safeguard", {"policy": "Be kind."}),
    "judge": ("/v1/chat/completions", "judge", {"prompt": "Be strict."}),
    "classify": ("/classify", "word", {"labels": ["safe", "unsafe"], "safe": ["safe"]}),
    "score": ("/score", "word", {"higher": "safe", "first": "Is it kind?"}),
    "pooling": ("/pooling", "word", {"step_token": "<extra_0>"}),
}
BATCHED = ("classify", "score", "pooling")
CONTEXT = Context(messages=(Message("user", "What is a hash?"),))
SECRET = "s3cr3t-key"  # noqa: S105 - made up


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def fake(dialect: str, rule: Callable[[str], float] = hashed) -> FakeGuard:
    step_token = str(GUARDS[dialect][2].get("step_token", ""))
    return FakeGuard(rule, chat=GUARDS[dialect][1], step_token=step_token)


def remote(guard: FakeGuard, dialect: str = "judge", **more: Any) -> RemoteVerifier:
    path, _, options = GUARDS[dialect]
    limits_ = {"deadline_ms": 20_000} | more.pop("limits", {})
    clock = more.pop("clock", Clock())
    key = more.pop("key", "")
    raw = {
        "url": guard.url + path,
        "model": "m",
        "version": "1",
        "guard": {"dialect": dialect, **options, **more.pop("options", {})},
        "limits": limits_,
        **more,
    }
    return RemoteVerifier(parse(raw, "test.toml"), key=key, clock=clock)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


@asynccontextmanager
async def opened(
    guard: FakeGuard, dialect: str = "judge", **more: Any
) -> AsyncIterator[RemoteVerifier]:
    verifier = remote(guard, dialect, **more)
    try:
        yield verifier
    finally:
        await verifier.aclose()


async def score(verifier: RemoteVerifier, text: str = "It is a number.") -> list[Outcome]:
    session = verifier.open_async(CONTEXT)
    return [*await session.feed(Delta(text=text, ends="turn")), *await session.close()]


async def one(verifier: RemoteVerifier, text: str = "It is a number.") -> Outcome:
    (outcome,) = await score(verifier, text)
    return outcome


def once(reply: Reply, dialect: str = "judge", **more: Any) -> Outcome:
    """Give what comes of one step where this is the reply to all requests."""

    async def ask() -> Outcome:
        async with opened(guard, dialect, **more) as verifier:
            return await one(verifier)

    with fake(dialect) as guard:
        guard.always(reply)
        return run(ask())


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Unknown), outcome
    return outcome.reason


async def queued(verifier: RemoteVerifier, count: int) -> None:
    """Turn the event loop until so many steps wait for a call."""
    while len(verifier._client._lane._waiting) < count:  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0)
