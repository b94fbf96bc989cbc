"""The table of failures, cell by cell, as a client sees it on each API.

Each cell that says what is done is provoked before the gateway's doors, and what the client got is
held against the table; a cell that cannot be reached has its reason here. A new failure has neither
and makes this fail.
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from gateway.failing_parts import (
    BREAK,
)
from gateway.kept import kept, plan, whole
from gateway.live import LOOPS, Live, eventually, stage
from gateway.provocations import (
    DISK,
    MID_FRAMES,
    PATIENT,
    PROVOKED,
    TEXT,
    UNREACHABLE,
    Provoke,
    at,
    broken,
)
from gateway.raw_client import (
    FILTERED,
    PATHS,
    Answer,
    asking,
    connect,
    ending,
    post,
    read,
)

from tocsin.gateway import plane
from tocsin.gateway.keeper import RecordKeeper
from tocsin.gateway.site import Route, Site, Upstream
from tocsin.guarding.plan import Guard
from tocsin.policy.failures import CHECKS_FAIL, FAILURES, PHASES, TABLE, Failure
from tocsin.store import Scope
from tocsin.stream.events import APIS
from tocsin.testing.fake_model import Exchange, FakeModel, Reply

CELLS = [cell for cell in TABLE if TABLE[cell] != "none" and cell not in UNREACHABLE]
WAYS = [(*cell, way) for cell in CELLS for way in range(len(PROVOKED[cell[0]].get(cell[1], [0])))]


# ------------------------------------------------------------------------------------ the claims


def test_every_cell_of_the_table_is_provoked_or_has_its_reason() -> None:
    reached = {
        (failure, phase, mode)
        for failure, phases in PROVOKED.items()
        for phase in phases
        for mode in ("enforce", "observe")
    }
    assert set(PROVOKED) == set(FAILURES)
    assert all(UNREACHABLE.values())
    assert {cell for cell in TABLE if TABLE[cell] == "none"} & reached == set()
    assert {c for c in TABLE if TABLE[c] != "none"} == (reached - set(UNREACHABLE)) | set(
        UNREACHABLE
    )


@pytest.mark.parametrize(("failure", "phase", "mode", "way"), WAYS)
def test_what_the_client_sees_is_what_the_table_says(
    failure: Failure, phase: str, mode: str, way: int, tmp_path: Path, monkeypatch: Any
) -> None:
    walk(PROVOKED[failure][phase][way], failure, phase, mode, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("failure", "phase"),
    [
        *((failure, phase) for failure in sorted(CHECKS_FAIL) for phase in PHASES[:2]),
        ("record_unavailable", "before_first_byte"),
    ],
)
def test_a_failure_that_may_pass_passes_and_the_status_never_says_ok(
    failure: Failure, phase: str, tmp_path: Path, monkeypatch: Any
) -> None:
    for way, provoke in enumerate(PROVOKED[failure][phase]):
        folder = tmp_path / str(way)
        folder.mkdir()
        passing = replace(provoke, guard={**provoke.guard, "passed": frozenset({failure})})
        walk(passing, failure, phase, "enforce", folder, monkeypatch, passes=True)


# ------------------------------------------------------------------------------------ the walk


class Rule:
    """The reply that is tested; to a model of another name, one that never ends."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __call__(self, exchange: Exchange) -> Reply:
        if exchange.body["model"] == "held":
            return broken(at("hang", MID_FRAMES))
        return self._reply


def walk(
    provoke: Provoke,
    failure: Failure,
    phase: str,
    mode: str,
    folder: Path,
    monkeypatch: Any,
    *,
    passes: bool = False,
) -> None:
    monkeypatch.setattr(plane, "TICK_MS", 20)
    for name, value in provoke.patches.items():
        monkeypatch.setattr(name, value)
    DISK.be_sound()
    expected = "pass" if passes else TABLE[failure, phase, mode]  # type: ignore[index]
    with ExitStack() as stack, asyncio.Runner(loop_factory=LOOPS["served"]) as runner:
        urls = {"refusing": refusing(stack), "silent": silent(stack)}
        for stream in provoke.forms:
            DISK.be_sound()
            place = folder / f"streamed-{stream}"
            place.mkdir()
            keeps = records(provoke, mode)
            runner.run(
                _walk(provoke, failure, phase, mode, place, expected, stream, urls, keeps=keeps)
            )
            if keeps:
                with kept(place) as record:
                    whole(record)


async def _walk(
    provoke: Provoke,
    failure: Failure,
    phase: str,
    mode: str,
    folder: Path,
    expected: str,
    stream: bool,
    urls: dict[str, str],
    *,
    keeps: bool,
) -> None:
    def site(fake: FakeModel) -> Site:
        fields = {"url": f"{fake.url}/v1", **PATIENT, **provoke.upstream}
        fields["url"] = urls.get(fields["url"], fields["url"])
        upstream = Upstream(name="fake", speaks=frozenset(APIS), **fields)
        guard = Guard(
            name="tested",
            digest="ab" * 32,
            mode=mode,  # type: ignore[arg-type]
            checks=provoke.checks(),
            **provoke.guard,
        )
        route = Route(
            name="tested", models=("*",), upstream=upstream, model=None, guard=guard,
            **provoke.route,
        )  # fmt: skip
        record = plan(folder) if keeps else None
        # A busy machine may be slow with what is tested: the answer does not begin before.
        fields = {"head_ms": 60_000, **provoke.site}
        return Site(routes=(route,), open_to_all=True, record=record, **fields)

    before = asyncio.all_tasks()
    async with stage(site, Rule(provoke.reply)) as made:
        live = made.live
        if provoke.approver is not None:
            live.plane.approver = provoke.approver
        wires = []
        if provoke.before is not None:
            await provoke.before(made)
        if failure == "overloaded":
            first = await connect(live.where)
            first.transport.write(post("/v1/chat/completions", asking("chat", "held", stream=True)))
            await first.until(lambda raw: b"hill" in raw)
        for api in provoke.apis:
            wire = await connect(live.where)
            data = post("/v1" + PATHS[api], asking(api, "m", stream=stream))
            wire.transport.write(data[:-1] if provoke.late else data)
            wires.append(wire)
        if provoke.act is not None:
            await provoke.act(made, wires)
        answers = [await wire.answer() for wire in wires]
        for wire in wires:
            wire.transport.abort()
            await wire.ended()
        if failure == "overloaded":
            _, counted = live._process._meters.text().split(b"tocsin_failures_total{", 1)
            assert b'failure="overloaded",response="refuse",route=""} 3.0' in counted
            first.transport.abort()
        for api, answer in zip(provoke.apis, answers, strict=True):
            seen = Seen(provoke, failure, phase, expected, api, stream, answer)
            await seen.judge(live)
        await _counted(live, failure, expected, len(wires))
    await eventually(lambda: asyncio.all_tasks() == before, "tasks are left")


async def _counted(live: Live, failure: Failure, expected: str, count: int) -> None:
    """Each failure is counted as what the table says, and each request has one end."""
    if failure == "overloaded":
        return
    witness = live.witness
    times = 1 if failure == "config_invalid" else count
    route = "" if failure == "config_invalid" else "tested"
    if failure == "config_invalid":
        text = live._process._meters.text()
        assert b'failure="config_invalid",response="keep_last",route=""} 1.0' in text
    else:
        found = witness.of("failure", route, failure, expected)
        assert len(found) >= times
    await live.until(lambda: len(witness.of("ended")) == count)
    assert len(live.lines.named("request")) == count


@dataclass
class Seen:
    """What one client saw."""

    provoke: Provoke
    failure: Failure
    phase: str
    expected: str
    api: str
    stream: bool
    answer: Answer

    async def judge(self, live: Live) -> None:
        assert "words of somebody" not in str(live.lines.said)
        match self.expected:
            case "refuse":
                self._refused()
            case "stop":
                await self._stopped(live)
            case "pass":
                await self._passed(live)
            case "report" if self.failure in CHECKS_FAIL:
                await self._reported(live)
            case "report" | "keep_last":
                self._untouched(live)
            case _:
                raise AssertionError(self.expected)

    def _refused(self) -> None:
        answer = self.answer
        stalled = {"upstream_stalled": 504}
        usual = 502 if self.failure.startswith("upstream_") else 503
        assert answer.status == stalled.get(self.failure, usual)
        assert f"({self.failure})" in self._message()
        assert "Nobody" not in answer.raw.decode()
        if self.failure != "overloaded":
            self._has_headers()
        else:
            assert answer.headers["retry-after"] == "1"

    def _message(self) -> str:
        error = self.answer.json["error"]
        assert (self.answer.json.get("type") == "error") == (self.api == "messages")
        assert isinstance(error["type"], str)
        return str(error["message"])

    def _has_headers(self) -> None:
        headers = self.answer.headers
        assert headers["x-tocsin-receipt"].startswith("r_")
        assert headers["x-tocsin-policy"] == "tested@abababababab"

    def _text(self) -> str:
        assert self.answer.status == 200
        assert self.answer.streamed == self.stream
        shown = read(self.api, self.answer)
        assert set(shown) <= {TEXT}
        return shown.get(TEXT, "")

    def _said(self) -> str:
        text = self.provoke.reply.choices[0].text
        assert isinstance(text, str)
        return text

    async def _stopped(self, live: Live) -> None:
        self._has_headers()
        text = self._text()
        assert self._said().startswith(text)
        assert BREAK not in text
        assert ending(self.api, self.answer) == [FILTERED[self.api]]
        note = self.answer.note
        done = "halt" if self.failure == "appeal_unanswered" else None
        assert (note["failure"], note["done"], note["released"]) == (self.failure, done, len(text))
        line = await live.line_of(self.answer.headers["x-tocsin-receipt"])
        upstream = self.failure.startswith("upstream_")
        assert line["outcome"] == ("upstream_failed" if upstream else "failed")
        await self._in_receipt(live, "stop")

    async def _passed(self, live: Live) -> None:
        self._has_headers()
        assert self._text() == self._said()
        assert ending(self.api, self.answer) != [FILTERED[self.api]]
        note = self.answer.note
        assert note["status"] in {"degraded", "bypassed"}
        assert note["failure"] is None
        assert note["held"] == 0
        if not self.stream:
            assert self.answer.headers["x-tocsin-guard"] == note["status"]
        await self._in_receipt(live, "pass")

    async def _reported(self, live: Live) -> None:
        """The answer was over by another failure; this one is told in the receipt."""
        assert ending(self.api, self.answer) == [FILTERED[self.api]]
        await self._in_receipt(live, "report")

    def _untouched(self, live: Live) -> None:
        self._has_headers()
        assert self._text() == self._said()
        assert self.answer.note["status"] == "ok"
        if self.failure == "config_invalid":
            assert live.around.live.site is live.site
            assert live.lines.named("config_invalid")[0]["why"] == "gateway.yaml:3: no such key"

    async def _in_receipt(self, live: Live, response: str) -> None:
        DISK.be_sound()  # what waits for it is recorded then
        await live.until(
            lambda: len(live.witness.of("receipt")) == len(live.lines.named("receipt")) > 0
        )
        record = receipt(live, self.answer.headers["x-tocsin-receipt"])
        told = {(one["failure"], one["phase"], one["response"]) for one in record["failures"]}
        assert (self.failure, self.phase, response) in told


def records(provoke: Provoke, mode: str) -> bool:
    """Whether a walk keeps a record: where that is what is tested, and once for each other row."""
    return "tocsin.store.store.Store.commit_prepared" in provoke.patches or (
        mode == "enforce"
        and any(provoke is ways[0] for row in PROVOKED.values() for ways in row.values())
    )


def receipt(live: Live, name: str) -> Any:
    """Find a receipt: in the record, or in the log where it could not be recorded."""
    for line in live.lines.said:
        if isinstance(found := line.get("receipt"), dict) and found["who"]["id"] == name:
            return found
    keeper = live.plane.books.keeper
    assert isinstance(keeper, RecordKeeper)
    logged = keeper.store.receipt(Scope("local"), name)
    assert logged is not None
    return json.loads(logged.entry)["body"]


# ------------------------------------------------------------------------------ where nobody is


def refusing(stack: ExitStack) -> str:
    """Give the URL of a port that nobody listens on."""
    sock = stack.enter_context(socket.socket())
    sock.bind(("127.0.0.1", 0))
    return f"http://127.0.0.1:{sock.getsockname()[1]}/v1"


def silent(stack: ExitStack) -> str:
    """Give the URL of a port where connections are neither taken nor refused."""
    sock = stack.enter_context(socket.socket())
    sock.bind(("127.0.0.1", 0))
    sock.listen(0)
    for _ in range(4):
        filler = stack.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(sock.getsockname())
    return f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
