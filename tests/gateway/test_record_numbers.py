"""The numbers of an answer are the same wherever they are told, and say when text was shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway.failing_parts import BREAK, Breaking, scored
from gateway.kept import kept, plan, whole
from gateway.world import Answer, Gate, asked, on_literal, safer, saying, within
from guarded_streams import FORBIDDEN

from tocsin.stream.events import APIS, Api
from tocsin.testing.fake_model import Call, Choice, Fault, Reply

CALM = "All is well on this calm and sunny day by the sea; no more than that. " * 4
LEAK = f"{CALM}The gates are called {FORBIDDEN} and so on, and on and on. {CALM}"
SEND = Call(name="send", arguments=f'{{"to":"{FORBIDDEN}"}}')
each_api = pytest.mark.parametrize("api", APIS)
each_form = pytest.mark.parametrize("stream", [True, False])


def make(folder: Path, reply: Any, *checks: Any, **more: Any) -> Gate:
    return Gate(reply, *checks, site={"record": plan(folder), **more.pop("site", {})}, **more)


# ----------------------------------------------------------------------------------- how much of it

WAYS: dict[str, Callable[[Path], Gate]] = {
    "halted": lambda f: make(f, saying(LEAK), on_literal()),
    "halted at once": lambda f: make(f, saying(f"{FORBIDDEN} {CALM}"), on_literal()),
    "halted late": lambda f: make(
        f, saying(LEAK), on_literal(), guard={"hold": "optimistic"}
    ),
    "masked": lambda f: make(f, saying(LEAK), on_literal("mask")),
    "in the shadow": lambda f: make(f, saying(LEAK), on_literal("shadow")),
    "observed": lambda f: make(f, saying(LEAK), on_literal(), guard={"mode": "observe"}),
    "replaced": lambda f: make(
        f, saying(LEAK), on_literal("replace"), guard={"replacement": "No."}
    ),
    "not checked": lambda f: make(
        f, saying(CALM + BREAK + CALM), on_literal(), scored("broken", Breaking())
    ),
    "passed unchecked": lambda f: make(
        f,
        saying(CALM + BREAK + CALM),
        on_literal(),
        scored("broken", Breaking()),
        guard={"passed": frozenset({"verifier_failed"})},
    ),
    "with a tool": lambda f: make(
        f, Reply(choices=(Choice(text=CALM, calls=(SEND,)),)), on_literal()
    ),
}  # fmt: skip


@each_api
@each_form
@pytest.mark.parametrize("way", WAYS)
def test_what_the_client_is_told_is_what_receipt_and_events_say(
    way: str, api: Api, stream: bool, tmp_path: Path
) -> None:
    async def test() -> None:
        async with WAYS[way](tmp_path) as gate:
            answer = await gate.post(api, stream=stream)
        agree(tmp_path, answer, gate)

    within(test())


@each_api
@each_form
def test_the_numbers_of_a_fallback_are_its_own(api: Api, stream: bool, tmp_path: Path) -> None:
    async def test() -> None:
        async with safer() as (_, route):
            reply = saying(f"{FORBIDDEN} {CALM}")
            async with make(tmp_path, reply, on_literal("fallback"), route=route) as gate:
                answer = await gate.post(api, stream=stream)
        assert answer.note["released"] == len("A safe answer.")
        agree(tmp_path, answer, gate)

    within(test())


def agree(folder: Path, answer: Answer, gate: Gate) -> None:
    """The note at the end, the headers, the receipt, the events and the meters say the same."""
    note = answer.note
    with kept(folder) as record:
        whole(record)
        receipt = record.receipt(note["receipt"])
        ended = record.of("stream.ended")[-1]
    account = receipt["account"]
    assert answer.headers["x-tocsin-receipt"] == note["receipt"] == ended.receipt
    assert {name: note[name] for name in account} == account
    assert {name: getattr(ended, name) for name in account} == account
    policy = f"{receipt['policy']}@{receipt['policy_digest'][:12]}"
    assert answer.headers["x-tocsin-policy"] == note["policy"] == policy
    assert answer.headers["x-tocsin-mode"] == account["mode"]
    assert answer.headers.get("x-tocsin-guard") == (None if answer.streamed else account["status"])
    channels = receipt["channels"]
    assert account["released"] == sum(channel["released"] for channel in channels)
    assert gate.meters.chars_[-1] == (account["scanned"], account["held"], account["released"])
    if account["done"] not in {"mask", "replace"}:
        shown = sum(channel["shown"] for channel in channels if channel["kind"] == "text")
        assert shown == len(answer.text)


# ------------------------------------------------------------------------------------- how soon


def first_ms(folder: Path) -> list[float | None]:
    with kept(folder) as record:
        whole(record)
        used = record.of("usage")
    for one in used:
        assert one.first_ms is None or 0 < one.first_ms <= one.total_ms
    return [one.first_ms for one in used]


OTHERS: dict[str, Callable[[Path], Gate]] = {
    "to its end": lambda f: make(f, saying(CALM), on_literal()),
    **WAYS,
}


@each_api
@pytest.mark.parametrize("way", OTHERS)
def test_the_time_to_the_first_text_is_told_where_a_stream_showed_any(
    api: Api, way: str, tmp_path: Path
) -> None:
    async def test() -> None:
        async with OTHERS[way](tmp_path) as gate:
            released = (await gate.post(api)).note["released"]
        (first,) = first_ms(tmp_path)
        assert (first is not None) == (released > 0)

    within(test())


@each_api
def test_text_that_comes_with_the_end_was_shown_too(api: Api, tmp_path: Path) -> None:
    async def test() -> None:
        guard = {"hold": "end_of_stream"}
        for check in (on_literal(), on_literal("shadow", "calm")):
            async with make(tmp_path, saying(CALM), check, guard=guard) as gate:
                assert (await gate.post(api)).note["released"] == len(CALM)
        assert None not in first_ms(tmp_path)

    within(test())


@each_api
@pytest.mark.parametrize("shown", [True, False])
def test_a_comment_that_bridges_the_silence_is_no_text(
    api: Api, shown: bool, tmp_path: Path
) -> None:
    async def test() -> None:
        reply = saying(CALM if shown else LEAK[len(CALM) :], faults=(Fault(kind="hang"),))
        guard = {} if shown else {"hold": "end_of_stream"}
        site = {"keep_alive_ms": 1}
        async with (
            make(tmp_path, reply, on_literal(), site=site, guard=guard) as gate,
            gate.open(api) as response,
        ):
            raw = await response.content.readany()
            began_s = asyncio.get_running_loop().time()
            while raw.count(b": keep-alive") < 6:
                raw += await response.content.readany()
            silent_ms = (asyncio.get_running_loop().time() - began_s) * 1_000
            gate.fake.release()
            await response.read()
        (first,) = first_ms(tmp_path)
        assert (first is not None) == shown
        assert first is None or first > silent_ms

    within(test())


def test_an_answer_that_is_not_streamed_has_no_first_text_of_its_own(tmp_path: Path) -> None:
    async def test() -> None:
        async with make(tmp_path, saying(CALM), on_literal()) as gate:
            await gate.post("chat", asked("chat", stream=False))
        assert first_ms(tmp_path) == [None]

    within(test())


@each_api
def test_a_reader_that_left_before_the_first_text_was_shown_none(api: Api, tmp_path: Path) -> None:
    async def test() -> None:
        reply = saying(CALM, faults=(Fault(kind="hang", after_frames=0),))
        async with make(tmp_path, reply, on_literal()) as gate:
            waits = asyncio.create_task(gate.post(api))
            await gate.fake.until(held=1)
            waits.cancel()
            await gate.fake.until(open=0)
            await gate.quiet()
        assert first_ms(tmp_path) == [None]

    within(test())
