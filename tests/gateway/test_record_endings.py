"""However a stream ends, the record says so once, and nothing is missing before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway.failing_parts import BREAK, MONITOR, Breaking, Unable, scored
from gateway.kept import kept, plan, whole
from gateway.test_requests import reading_input
from gateway.world import STALE_S, Gate, asked, on_literal, safer, saying, within
from guarded_streams import FORBIDDEN

from tocsin.guarding.plan import Check
from tocsin.stream.events import APIS, Api
from tocsin.testing.fake_model import Call, Choice, Exchange, Fault, Reply

LEAK = f"The gates are called {FORBIDDEN} and so on, and on and on."
SAID = "All is well on this calm and sunny day by the sea; no more than that. " * 4
each_api = pytest.mark.parametrize("api", APIS)
each_form = pytest.mark.parametrize("stream", [True, False])


def make(folder: Path, reply: Any, *checks: Check, **more: Any) -> Gate:
    site = {"record": plan(folder), **more.pop("site", {})}
    return Gate(reply, *checks, site=site, **more)


async def answered(gate: Gate, api: Api, stream: bool) -> None:
    await gate.post(api, stream=stream)


async def leaves_early(gate: Gate, api: Api, stream: bool) -> None:
    waits = asyncio.create_task(gate.post(api, stream=stream))
    await gate.fake.until(held=1)
    waits.cancel()
    await gate.fake.until(open=0, wait_s=STALE_S * 4)
    await gate.quiet()


async def leaves_late(gate: Gate, api: Api, stream: bool) -> None:
    async with gate.open(api) as response:
        await response.content.readany()
        await gate.fake.until(held=1)
    response.close()
    await gate.quiet()


async def drains(gate: Gate, api: Api, stream: bool) -> None:
    waits = asyncio.create_task(gate.post(api, stream=stream))
    await gate.fake.until(held=1)
    gate.draining.end()
    await waits


async def asks_for_it(gate: Gate, api: Api, stream: bool) -> None:
    await gate.post(api, asked(api, f"Tell me {FORBIDDEN}.", stream=stream))


def cut(exchange: Exchange) -> Reply:
    if exchange.body.get("stream"):
        return saying(SAID, faults=(Fault(kind="cut", after_frames=20),))
    return saying(SAID, faults=(Fault(kind="cut", after_bytes=20),))


def hung(frames: int | None) -> Reply:
    return saying(SAID, faults=(Fault(kind="hang", after_frames=frames),))


BROKEN = scored("broken", Breaking())
WAYS: dict[str, tuple[str, Callable[[Path], Gate], Any]] = {
    "to its end": ("ok", lambda f: make(f, saying(SAID), on_literal()), answered),
    "masked": ("ok", lambda f: make(f, saying(LEAK), on_literal("mask")), answered),
    "observed": (
        "ok", lambda f: make(f, saying(LEAK), on_literal(), guard={"mode": "observe"}), answered,
    ),
    "halted": ("blocked", lambda f: make(f, saying(LEAK), on_literal()), answered),
    "replaced": (
        "blocked",
        lambda f: make(f, saying(LEAK), on_literal("replace"), guard={"replacement": "No."}),
        answered,
    ),
    "appeal lost": ("failed", lambda f: make(f, saying(LEAK), on_literal("escalate")), answered),
    "check broke": (
        "failed", lambda f: make(f, saying(SAID + BREAK + SAID), on_literal(), BROKEN), answered,
    ),
    "check broke early": (
        "failed", lambda f: make(f, saying(BREAK + SAID), on_literal(), BROKEN), answered,
    ),
    "model cut off": ("upstream_failed", lambda f: make(f, cut, on_literal()), answered),
    "model refused": ("upstream_failed", lambda f: make(f, saying("", status=500)), answered),
    "wrong request": ("refused", lambda f: make(f, saying("", status=400)), answered),
    "reader left early": ("client_gone", lambda f: make(f, hung(None), on_literal()), leaves_early),
    "told to stop": ("failed", lambda f: make(f, hung(None), on_literal()), drains),
    "request refused": (
        "blocked_input", lambda f: make(f, saying(SAID), route={"input": reading_input()}),
        asks_for_it,
    ),
    "request replaced": (
        "blocked_input",
        lambda f: make(f, saying(SAID), route={"input": reading_input("replace")}),
        asks_for_it,
    ),
}  # fmt: skip


@each_form
@pytest.mark.parametrize("way", WAYS)
def test_a_stream_has_one_end_in_the_record_however_it_ends(
    way: str, stream: bool, tmp_path: Path
) -> None:
    outcome, made, acts = WAYS[way]
    api: Api = APIS[len(way) % len(APIS)]

    async def test() -> None:
        gate = made(tmp_path)
        async with gate:
            await acts(gate, api, stream)
            await gate.quiet()
            told = list(gate.meters.receipts)
        assert set(told) <= {True}
        with kept(tmp_path) as record:
            whole(record)
            assert [one.outcome for one in record.of("stream.ended")] == [outcome]
            assert len(record.receipts) == len(told)
            for name in record.receipts:
                assert record.receipt(name)["who"]["id"] == name
            last = record.of("stream.ended")[0]
            assert last.receipt == (record.receipts[0] if told else None)

    within(test())


@each_api
def test_a_reader_that_leaves_in_the_stream_is_told_of(api: Api, tmp_path: Path) -> None:
    async def test() -> None:
        gate = make(tmp_path, hung(40), on_literal(), guard={"hold": "optimistic"})
        async with gate:
            await leaves_late(gate, api, stream=True)
        with kept(tmp_path) as record:
            whole(record)
            (ended,) = record.of("stream.ended")
            assert (ended.outcome, ended.receipt) == ("client_gone", None)
            assert ended.released > 0

    within(test())


@each_api
@each_form
def test_a_fallback_is_a_call_of_its_own(api: Api, stream: bool, tmp_path: Path) -> None:
    async def test() -> None:
        async with safer() as (_, route):
            gate = make(
                tmp_path, saying(f"{FORBIDDEN} at once"), on_literal("fallback"), route=route
            )
            async with gate:
                answer = await gate.post(api, stream=stream, told={"x-request-id": "one"})
                name = answer.headers["x-tocsin-receipt"]
                assert answer.note["recorded"] is True
        with kept(tmp_path) as record:
            whole(record)
            first = name.removesuffix("-fallback")
            assert record.receipts == [first, name]
            calls = [e.links.call for e in record.events if e.kind == "stream.opened"]
            assert calls == [first, name]
            assert {e.links.request for e in record.events if e.links.call} == {"one"}
            assert [one.outcome for one in record.of("stream.ended")] == ["blocked", "ok"]
            assert [e.segment.model for e in record.events if e.kind == "usage"] == ["m", "safe"]

    within(test())


@each_api
@pytest.mark.parametrize("rings", [True, False])
def test_tools_are_told_by_name_and_size_and_whether_they_were_let_out(
    api: Api, rings: bool, tmp_path: Path
) -> None:
    text = json.dumps({"to": FORBIDDEN if rings else "Ann"})
    call = Call(name="send", arguments=text, id="call_1")
    name = {"name": "send", "description": "", "parameters": {"type": "object"}}
    tools = {
        "chat": [{"type": "function", "function": name}],
        "responses": [{"type": "function", **name}],
        "messages": [{"name": "send", "input_schema": {"type": "object"}}],
    }

    async def test() -> None:
        reply = Reply(choices=(Choice(text="I will send it.", calls=(call,)),))
        async with make(tmp_path, reply, on_literal()) as gate:
            await gate.post(api, asked(api, stream=True, tools=tools[api]))
        with kept(tmp_path) as record:
            whole(record)
            (attempted,) = record.of("tool.attempted")
            assert (attempted.tool, attempted.arguments_chars) == ("send", len(text))
            assert [(one.tool, one.reason) for one in record.of("tool.denied")] == (
                [("send", "halt")] if rings else []
            )
            (event,) = [e for e in record.events if e.kind == "tool.attempted"]
            assert event.links.tool_call == "call_1"

    within(test())


def test_a_calibrated_check_is_told_with_its_calibration_and_a_bin(tmp_path: Path) -> None:
    check = Check(name="calibrated", verifier=Unable(0.05), monitor=MONITOR)

    async def test() -> None:
        async with make(tmp_path, saying(f"{BREAK} {SAID}"), check) as gate:
            await gate.post("chat")
            await gate.post("chat")
        digest = MONITOR.calibration.digest
        with kept(tmp_path) as record:
            whole(record)
            assert [one.digest for one in record.of("calibration.changed")] == [digest]
            assert {e.segment.calibrations for e in record.events} == {(digest,)}
            assert {one.bin for one in record.of("output.classified")} == {0}
            alarm = record.of("alarm")[0]
            assert (alarm.calibration, alarm.check) == (digest, "calibrated")
            assert alarm.threshold is not None

    within(test())


def test_a_conversation_that_is_busy_is_refused_and_told(tmp_path: Path) -> None:
    check = Check(name="calibrated", verifier=Unable(0.9), monitor=MONITOR)

    async def test() -> None:
        gate = make(tmp_path, hung(None), check, route={"conversations": True})
        told = {"x-tocsin-conversation": "talk"}
        async with gate:
            first = asyncio.create_task(gate.post("chat", told=told))
            await gate.fake.until(held=1)
            assert (await gate.post("chat", told=told)).status == 429
            gate.fake.release()
            await first
        with kept(tmp_path) as record:
            whole(record)
            assert sorted(one.outcome for one in record.of("stream.ended")) == ["ok", "refused"]
            assert len({e.links.session for e in record.events if e.links.call}) == 1
            assert "talk" not in {e.links.session for e in record.events}

    within(test())


def test_the_end_of_a_process_is_told_to_whoever_asked_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with make(tmp_path, saying(SAID), on_literal()) as gate:
            await gate.post("chat")
            gate.draining.begin()
        with kept(tmp_path) as record:
            whole(record)
            (change,) = record.of("control.changed")
            assert (change.control, change.to) == ("process", "draining")
            (period,) = record.store.entries(record.scope, kind="period")
            said = json.loads(period.entry)["body"]
            assert (said["opened"], said["ended"], said["alarms"]) == (1, {"ok": 1}, 0)
            assert said["last"] == len(record.stored)

    within(test())


def test_without_a_record_there_are_no_events_and_no_waiting() -> None:
    async def test() -> None:
        async with Gate(saying(LEAK), on_literal()) as gate:
            answer = await gate.post("chat")
            assert answer.note["recorded"] is None
            assert gate.plane.books.keeper is None
            assert gate.plane.books.failure is None

    within(test())
