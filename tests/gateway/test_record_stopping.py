"""Orders to stop, one after the other: what is open ends validly, or is cut off, and it is told."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from gateway.failing_parts import BREAK, Waiting, scored
from gateway.kept import kept, plan, whole
from gateway.live import Stage, eventually, stage
from gateway.processes import SERVE, Client, Process
from gateway.provocations import Disk
from gateway.raw_client import FILTERED, PATHS, Answer, asking, connect, ending, post
from gateway.world import DIGEST, on_literal
from guarded_streams import FORBIDDEN

from tocsin.errors import StoreFull
from tocsin.gateway import books, server
from tocsin.gateway.keeper import RecordKeeper
from tocsin.gateway.site import Route, Site, Upstream
from tocsin.guarding.plan import Check, Guard
from tocsin.store import Store
from tocsin.stream.events import APIS, Api
from tocsin.testing.fake_model import Choice, Exchange, FakeModel, Fault, Reply

CALM = "All is well on this calm and sunny day by the sea; no more than that. " * 16
PATIENCE_MS = 600_000
"""Longer than any test waits: what ends sooner was told to."""

CONFIG = """
open_to_all: true
upstreams: {{one: {{url: "{url}/v1", speaks: [chat, responses, messages]}}}}
routes: [{{name: all}}]
policies:
  default:
    checks: [{{verifier: patterns, findings: {{"*": halt}}}}]
record: {{store: record.db, keys: keys, log: gateway.example/log, period_s: 3600}}
limits: {{drain_ms: {drain_ms}}}
"""


def serve(folder: Path, url: str) -> Process:
    config = folder / "gateway.yaml"
    config.write_text(CONFIG.format(url=url, drain_ms=PATIENCE_MS))
    at = ["--port", "0", "--metrics", "off"]
    return Process([sys.executable, "-c", SERVE, str(config), *at], TMPDIR=str(folder))


def hangs(exchange: Exchange) -> Reply:
    """A stream that has begun and goes on no more; another answer that never begins."""
    after = 200 if exchange.body.get("stream") else None
    fault = Fault(kind="hang", after_frames=after)
    return Reply(choices=(Choice(text=CALM),), cut=4, faults=(fault,))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_order_ends_what_is_open_validly_and_says_why(
    number: signal.Signals, tmp_path: Path
) -> None:
    asked = [*((api, True) for api in APIS), ("chat", False)]
    with ExitStack() as stack:
        fake = stack.enter_context(FakeModel(hangs))
        gateway = stack.enter_context(serve(tmp_path, fake.url))
        begun = []
        for api, stream in asked:
            client = stack.enter_context(Client(gateway.where))
            client.send(post("/v1" + PATHS[api], asking(api, "m", stream=stream)))
            begun.append((client, client.until(b"calm") if stream else b""))
        fake.wait(held=len(asked))
        gateway.send(number)
        assert gateway.until_logged("draining")["under_way"] == len(asked)
        gateway.send(number)
        answers = [Answer.of(before + client.rest()) for client, before in begun]
        assert gateway.ended() == 0
        assert gateway.until_logged("stopped")["cut_off"] == 0

    names = []
    for (api, stream), answer in zip(asked, answers, strict=True):
        assert answer.whole
        names.append(answer.headers["x-tocsin-receipt"])
        if stream:
            assert ending(api, answer) == [FILTERED[api]]
            assert (answer.note["failure"], answer.note["recorded"]) == ("stopping", True)
        else:
            assert answer.status == 503
            assert "(stopping)" in answer.json["error"]["message"]
    logged = {line["id"]: line["failure"] for line in gateway.logged("receipt")}
    assert logged == dict.fromkeys(names, "stopping")
    requests = {line["receipt"]: line["outcome"] for line in gateway.logged("request")}
    assert requests == dict.fromkeys(names, "failed")
    with kept(tmp_path) as record:
        whole(record)
        ended = {one.receipt: (one.outcome, one.failure) for one in record.of("stream.ended")}
        assert ended == dict.fromkeys(names, ("failed", "stopping"))
        assert sorted(record.receipts) == sorted(names)
        for name in names:
            assert record.receipt(name)["account"]["failure"] == "stopping"


# ------------------------------------------------------------------------------ within this process


def site_of(folder: Path, *checks: Check) -> Any:
    def make(fake: FakeModel) -> Site:
        upstream = Upstream(name="fake", url=f"{fake.url}/v1", speaks=frozenset(APIS))
        guard = Guard(name="policy", digest=DIGEST, checks=checks)
        route = Route(name="way", models=("*",), upstream=upstream, model=None, guard=guard)
        return Site(routes=(route,), open_to_all=True, record=plan(folder), drain_ms=PATIENCE_MS)

    return make


@pytest.mark.parametrize("api", APIS)
def test_a_third_order_cuts_off_what_does_not_end(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ENDING_MS_MAX", PATIENCE_MS)
    verifier = Waiting()
    check = scored("waiting", verifier, deadline_ms=PATIENCE_MS)
    reply = Reply(choices=(Choice(text=CALM + BREAK + CALM),), cut=4)

    async def test() -> None:
        async with stage(site_of(tmp_path, check), reply) as made:
            live = made.live
            async with await connect(live.where) as wire:
                wire.transport.write(post("/v1" + PATHS[api], asking(api, "m", stream=True)))
                await eventually(lambda: verifier.hanging == 1)
                await wire.until(lambda raw: b"calm" in raw)
                live.order_stop()
                await live.until(lambda: bool(live.lines.named("draining")))
                live.order_stop()
                await eventually(lambda: live.plane.draining.over)
                await live.ticks(2)
                assert not wire.lost
                assert not live.lines.named("request")
                live.order_stop()
                await wire.ended()
                assert not Answer.of(wire.data).whole
            assert await live.stop() == 1
            assert live.lines.named("stopped") == [{"event": "stopped", "cut_off": 1}]
            (line,) = live.lines.named("request")
            assert line["outcome"] == "failed"  # it was not the client who left
            assert live.witness.of("ended") == [("ended", api, "way", "failed")]
        assert verifier.hanging == 0
        with kept(tmp_path) as record:
            whole(record)
            assert [one.outcome for one in record.of("stream.ended")] == ["failed"]

    asyncio.run(test())


@pytest.mark.parametrize("takes_others", [True, False])
def test_receipts_that_a_full_disk_refuses_to_the_end_are_whole_in_the_log_and_told_once(
    takes_others: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, count = Disk(), 3
    real = Store.commit_prepared
    refuses = disk.commit_prepared()

    def commit_prepared(store: Store, given: Any) -> Any:
        small = takes_others and not any(one.leaves for one in given)
        return (real if small else refuses)(store, given)

    monkeypatch.setattr(Store, "commit_prepared", commit_prepared)
    monkeypatch.setattr(books, "RECORD_WAIT_MS", 20)
    reply = Reply(choices=(Choice(text=CALM + FORBIDDEN),), faults=(Fault(kind="hang"),))

    async def test() -> None:
        async with stage(site_of(tmp_path, on_literal()), reply) as made:
            live = made.live
            names = await stopped(made, disk, count)
            assert await live.stop() == 0
            lines = [one for one in live.lines.named("record_unavailable") if "receipt" in one]
            whole_ones = {one["receipt"]["who"]["id"]: one["receipt"] for one in lines}
            assert sorted(one["receipt"]["who"]["id"] for one in lines) == sorted(names)
            assert all(one["account"]["done"] == "halt" for one in whole_ones.values())
            assert all(one["channels"] and one["alarms"] for one in whole_ones.values())
            assert live.witness.of("receipt") == [("receipt", False)] * count
            assert sum(one[1] for one in live.witness.of("lost")) == count
        with kept(tmp_path) as record:
            assert record.receipts == record.of("stream.ended") == record.of("alarm") == []
            assert len(record.of("stream.opened")) == count
            told = record.of("record.shed")
            assert [one.receipts for one in told] == ([count] if takes_others else [])
            assert all(one.events >= 3 * count for one in told)  # alarms, ends, and what else

    asyncio.run(test())


async def stopped(made: Stage, disk: Disk, count: int) -> list[str]:
    """Have answers stopped, and their receipts meet a full disk; give their ids."""
    live = made.live
    keeper = live.plane.books.keeper
    assert isinstance(keeper, RecordKeeper)
    wires = [await connect(live.where) for _ in range(count)]
    for wire in wires:
        wire.transport.write(post("/v1/chat/completions", asking("chat", "m", stream=True)))
    await made.fake.until(held=count)
    await eventually(lambda: keeper.recorder.waiting == 0)  # that they were opened is on disk
    disk.be(StoreFull("there is no room"))
    made.fake.release()
    answers = [await wire.answer() for wire in wires]
    for wire in wires:
        wire.transport.abort()
        await wire.ended()
    for answer in answers:
        assert ending("chat", answer) == ["content_filter"]
        assert answer.note["recorded"] is False
    await eventually(lambda: live.plane.books.failure == "record_unavailable")
    return [answer.headers["x-tocsin-receipt"] for answer in answers]
