"""The table of failures, cell by cell, as a client sees it on each API.

Each cell that says what is done is provoked before the gateway's doors, and what the client got is
held against the table; a cell that cannot be reached has its reason here. A new failure has neither
and makes this fail.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from gateway.failing_parts import (
    BREAK,
    MONITOR,
    SKIPPING,
    Breaking,
    Lawless,
    Line,
    Nobody,
    Unable,
    Waiting,
    scored,
)
from gateway.live import LOOPS, Live, Stage, eventually, stage
from gateway.raw_client import (
    FILTERED,
    PATHS,
    Answer,
    Wire,
    asking,
    connect,
    ending,
    post,
    read,
)
from guarded_streams import literal_rules

from tocsin.errors import InputError
from tocsin.gateway.site import Route, Site, Upstream
from tocsin.guarding.plan import Check, Guard
from tocsin.model import UnknownReason
from tocsin.monitor import Monitor
from tocsin.policy.failures import FAILURES, FROM_UNKNOWN, MAY_PASS, TABLE, Failure
from tocsin.stream.events import APIS
from tocsin.testing.fake_model import Choice, Exchange, FakeModel, Fault, Reply

SAYS = "Nobody on the hill had ever seen the sea so calm, or so they said. "
EARLY = f"{BREAK} {SAYS * 4}"
LATE = f"{SAYS * 2}{BREAK} {SAYS * 2}"
TEXT = ("text", 0, 0)
MID_FRAMES = 40
"""So many frames of four characters are more than a cell and a step."""

ERROR = b'event: error\ndata: {"type":"error","error":{"type":"server_error","message":"no"}}\n\n'

Cell = tuple[Failure, str, str]


@dataclass
class Provoke:
    """How a failure is brought about.

    Args:
        checks: of the policy; for each request anew, since some keep count.
        reply: what the model says.
        upstream: fields of the upstream.
        site: fields of the site.
        route: fields of the route.
        guard: fields of the policy.
        act: what is done while the requests are under way.
        forms: streamed or not.
        apis: on which APIs.
        patches: module attributes for the time of the test.
        listens: the upstream is there.
        checked: receipts, headers and counts are as for any response under a policy.
        then: the second failure, for those that strike after the end.
    """

    checks: Callable[[], tuple[Check, ...]] = lambda: (scored("plain", Unable(0.9)),)
    reply: Reply = field(default_factory=lambda: said(SAYS * 4))
    upstream: dict[str, Any] = field(default_factory=dict)
    site: dict[str, Any] = field(default_factory=dict)
    route: dict[str, Any] = field(default_factory=dict)
    guard: dict[str, Any] = field(default_factory=dict)
    act: Callable[[Stage, list[Wire]], Awaitable[None]] | None = None
    forms: tuple[bool, ...] = (True,)
    apis: tuple[str, ...] = APIS
    patches: dict[str, Any] = field(default_factory=dict)
    unreachable: str = ""
    approver: Any = None


def said(text: str, **more: Any) -> Reply:
    return Reply(choices=(Choice(text=text),), cut=4, **more)


def broken(*faults: Fault, **more: Any) -> Reply:
    return said(SAYS * 4, faults=faults, **more)


# --------------------------------------------------------------------------- checks that fail


def of_checks(*verifiers: Callable[[], Any], **more: Any) -> dict[str, list[Provoke]]:
    """Provoke failures of checks: before the first byte, and in the stream."""

    def checks() -> tuple[Check, ...]:
        return (
            scored("plain", Unable(0.9)),
            *(scored(f"failing {i}", make()) for i, make in enumerate(verifiers)),
        )

    return {
        "before_first_byte": [
            Provoke(checks=checks, reply=said(EARLY), forms=(True, False), **more)
        ],
        "mid_stream": [Provoke(checks=checks, reply=said(LATE), **more)],
    }


def merged(*several: dict[str, list[Provoke]]) -> dict[str, list[Provoke]]:
    found: dict[str, list[Provoke]] = {}
    for one in several:
        for phase, ways in one.items():
            found.setdefault(phase, []).extend(ways)
    return found


def twice(make: Callable[[], Any]) -> dict[str, list[Provoke]]:
    """Two checks fail at one cell: the second one, when the first has ended the response."""
    ways = of_checks(make, make)
    return {"after_end": ways["mid_stream"]}


def only(phase: str, ways: dict[str, list[Provoke]]) -> dict[str, list[Provoke]]:
    return {phase: ways[phase]}


def _unable(reason: UnknownReason) -> Callable[[], Any]:
    return lambda: Unable(reason)


def _monitored(make: Callable[[], Any], monitor: Monitor = MONITOR) -> dict[str, list[Provoke]]:
    def checks() -> tuple[Check, ...]:
        return (Check(name="calibrated", verifier=make(), monitor=monitor),)

    return {
        "before_first_byte": [Provoke(checks=checks, reply=said(EARLY), forms=(True, False))],
        "mid_stream": [Provoke(checks=checks, reply=said(LATE))],
    }


def _breaks_as_it_closes() -> dict[str, list[Provoke]]:
    """All steps were judged by then: only a response that is held to its end shows none of it."""
    made = of_checks(lambda: Breaking("close"))
    for way in (*made["before_first_byte"], *made["mid_stream"]):
        way.reply = said(SAYS * 4)
    made["before_first_byte"][0].guard = {"hold": "end_of_stream"}
    return made


def _appealing(**more: Any) -> dict[str, list[Provoke]]:
    rules = literal_rules(BREAK, steps="chars:16")

    def checks() -> tuple[Check, ...]:
        return (Check(name="rules", verifier=rules, on_finding={"*": more["does"]}),)

    rest = {name: value for name, value in more.items() if name != "does"}
    return {
        "before_first_byte": [
            Provoke(checks=checks, reply=said(EARLY), forms=(True, False), **rest)
        ],
        "mid_stream": [Provoke(checks=checks, reply=said(LATE), **rest)],
    }


def _held() -> dict[str, list[Provoke]]:
    patches = {"tocsin.guarding.response.HELD_CHARS_MAX": 150}
    line = "Not a line in it, and no end of it; " * 8
    made: dict[str, Any] = {"checks": lambda: (scored("lines", Line()),), "patches": patches}
    return {
        "before_first_byte": [Provoke(reply=said(line), forms=(True, False), **made)],
        "mid_stream": [Provoke(reply=said(f"It is so.\n{SAYS}\n{line}"), **made)],
    }


# ------------------------------------------------------------------------ upstreams that fail


async def after_a_comment(stage: Stage, wires: list[Wire]) -> None:
    """Let the upstream go on once the gateway has begun to answer by itself."""
    for wire in wires:
        await wire.until(lambda raw: b": keep-alive" in raw)
    stage.fake.release()


SOON = {"keep_alive_ms": 50}


def of_upstream(
    early: Sequence[Fault],
    late: Sequence[Fault],
    *,
    whole: Sequence[Fault] | Reply | None = None,
    **more: Any,
) -> dict[str, list[Provoke]]:
    """Provoke failures of upstreams; `whole` is for answers that are not streamed."""
    before = [Provoke(reply=broken(*early), **more)]
    if whole is not None:
        reply = whole if isinstance(whole, Reply) else broken(*whole)
        before.append(Provoke(reply=reply, forms=(False,), **more))
    return {
        "before_first_byte": before,
        "mid_stream": [Provoke(reply=broken(*late), **more)],
    }


def of_head(**reply: Any) -> dict[str, list[Provoke]]:
    """Provoke failures that the head of the answer shows; late is behind a keep-alive."""
    return {
        "before_first_byte": [Provoke(reply=said(SAYS, **reply), forms=(True, False))],
        "mid_stream": [
            Provoke(
                reply=said(SAYS, faults=(Fault(kind="hang"),), **reply),
                site=SOON,
                act=after_a_comment,
            )
        ],
    }


def at(kind: Any, frames: int | None, **more: Any) -> Fault:
    return Fault(kind=kind, after_frames=frames, **more)


def both(kind: Any, **more: Any) -> dict[str, Any]:
    """Give the same fault at the first frame and later."""
    return {"early": (at(kind, 0, **more),), "late": (at(kind, MID_FRAMES, **more),)}


TOO_LONG = {
    "tocsin.stream.sse.SSE_EVENT_BYTES_MAX": 65_536,
    "tocsin.gateway.upstream.UPSTREAM_BODY_BYTES_MAX": 65_536,
}
SHORT = {"first_ms": 150, "idle_ms": 150}
PATIENT = {"first_ms": 20_000, "idle_ms": 20_000}


# ------------------------------------------------------------------- the gateway's own failures


async def until_shown(wires: list[Wire]) -> None:
    for wire in wires:
        await wire.until(lambda raw: b"hill" in raw)


async def stops_early(stage: Stage, wires: list[Wire]) -> None:
    await stage.fake.until(held=len(wires))
    stage.live.order_stop()


async def stops_late(stage: Stage, wires: list[Wire]) -> None:
    await until_shown(wires)
    stage.live.order_stop()


async def reloads(stage: Stage, wires: list[Wire]) -> None:
    stage.live.bad = InputError("gateway.yaml:3: no such key")
    stage.live.reload()
    await stage.live.until(lambda: bool(stage.live.lines.named("config_invalid")))


async def reloads_early(stage: Stage, wires: list[Wire]) -> None:
    await stage.fake.until(held=len(wires))
    await reloads(stage, wires)
    stage.fake.release()


async def reloads_late(stage: Stage, wires: list[Wire]) -> None:
    await until_shown(wires)
    await reloads(stage, wires)
    stage.fake.release()


async def reloads_after(stage: Stage, wires: list[Wire]) -> None:
    for wire in wires:
        await wire.answer()
    await reloads(stage, wires)


def lost(stage: Stage) -> int:
    return len(stage.live.lines.named("receipt_unwritten"))


async def loses_early(stage: Stage, wires: list[Wire]) -> None:
    """The receipt of the request is lost before the model has answered."""
    await stage.fake.until(held=len(wires))
    await stage.live.until(lambda: lost(stage) == len(wires))
    assert all(not wire.data for wire in wires)
    stage.fake.release()


class SlowDisk:
    """A disk that takes its time, and then does not write."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def __call__(self, path: Any, content: bytes) -> None:
        assert self.gate.wait(20)
        raise InputError("the disk is full")


async def loses_late(stage: Stage, wires: list[Wire]) -> None:
    await until_shown(wires)
    assert lost(stage) == 0
    DISK.gate.set()
    await stage.live.until(lambda: lost(stage) == len(wires))
    stage.fake.release()


async def loses_after(stage: Stage, wires: list[Wire]) -> None:
    for wire in wires:
        await wire.answer()
    await stage.live.until(lambda: lost(stage) == len(wires))


DISK = SlowDisk()
HELLO = literal_rules("Go on", steps="chars:16")
ON_INPUT = {
    "input": Guard(
        name="input", checks=(Check(name="rules", verifier=HELLO, on_finding={"*": "shadow"}),)
    )
}
IN_STREAM = Check(
    name="rules", verifier=literal_rules("calm", steps="chars:16"), on_finding={"*": "shadow"}
)


async def fills(stage: Stage, wires: list[Wire]) -> None:
    """The requests came when one was under way already; nothing to do but to end that one."""
    for wire in wires:
        await wire.answer()


PROVOKED: dict[Failure, dict[str, list[Provoke]]] = {
    **{
        FROM_UNKNOWN[reason]: of_checks(_unable(reason))
        for reason in get_args(UnknownReason)
    },
    "verifier_timeout": merged(
        of_checks(Waiting), of_checks(_unable("timeout")), twice(Waiting)
    ),
    "verifier_failed": merged(
        of_checks(Breaking),
        of_checks(lambda: Waiting("raise")),
        of_checks(_unable("failed")),
        only("before_first_byte", of_checks(lambda: Breaking("open"))),
        _breaks_as_it_closes(),
        twice(Breaking),
        twice(lambda: Waiting("raise")),
    ),
    "verifier_out_of_range": merged(
        of_checks(_unable("out_of_range")),
        of_checks(lambda: Unable(float("nan"))),
        of_checks(lambda: Unable(7.0)),
        of_checks(Lawless),
        _monitored(Lawless),
        _monitored(Lawless, SKIPPING),
    ),
    "monitor_failed": _monitored(lambda: Unable(2.0, high=9.0)),
    "hold_overflow": _held(),
    "appeal_unanswered": merged(
        _appealing(does="escalate"),
        _appealing(
            does="escalate",
            route={"stronger": Check(name="slow", verifier=Waiting(), deadline_ms=50)},
        ),
        _appealing(does="require_approval"),
        _appealing(does="require_approval", route={"approval_ms": 50}, approver=Nobody()),
    ),
    "upstream_unreachable": {
        "before_first_byte": [Provoke(upstream={"url": "refusing"}, forms=(True, False))],
        "mid_stream": [Provoke(upstream={"url": "silent", "connect_ms": 500}, site=SOON)],
    },
    "upstream_refused": merged(
        of_head(status=500),
        of_head(status=307, headers={"Location": "/elsewhere"}),
        only("mid_stream", of_head(status=400)),
    ),
    "upstream_encoded": of_head(gzip=True),
    "upstream_stalled": merged(
        of_upstream((at("hang", None),), (at("hang", MID_FRAMES),), upstream=SHORT, whole=(
            at("hang", None),)),
        only("before_first_byte", of_upstream((at("hang", 0),), (), upstream=SHORT, whole=(
            Fault(kind="hang", after_bytes=20),))),
    ),
    "upstream_cut_off": merged(
        of_upstream(**both("cut"), whole=(Fault(kind="cut", after_bytes=20),)),
        of_upstream(**both("half_close")),
        of_upstream(**both("unfinished")),
        only("before_first_byte", of_upstream((at("reset", None),), ())),
    ),
    "upstream_error": of_upstream(
        **both("garbage", data=ERROR), whole=said("", raw=(ERROR.split(b"data: ")[1],))
    ),
    "upstream_garbage": merged(
        of_upstream(
            **both("garbage", data=b"data: {no json\n\n"), whole=said("", raw=(b"no json",))
        ),
        of_upstream(**both("babble")),
    ),
    "upstream_too_long": of_upstream(
        **both("line", size_bytes=200_000), patches=TOO_LONG, whole=said("x" * 100_000)
    ),
    "stopping": {
        "before_first_byte": [
            Provoke(
                reply=broken(at("hang", None)), site={"drain_ms": 50}, act=stops_early,
                forms=(True, False),
            )
        ],
        "mid_stream": [
            Provoke(reply=broken(at("hang", MID_FRAMES)), site={"drain_ms": 50}, act=stops_late)
        ],
    },
    "overloaded": {
        "before_first_byte": [Provoke(site={"streams_max": 1}, act=fills, forms=(True, False))]
    },
    "config_invalid": {
        "before_first_byte": [
            Provoke(reply=broken(at("hang", None)), act=reloads_early, forms=(True, False))
        ],
        "mid_stream": [Provoke(reply=broken(at("hang", MID_FRAMES)), act=reloads_late)],
        "after_end": [Provoke(act=reloads_after, forms=(True, False))],
    },
    "receipt_unwritten": {
        "before_first_byte": [
            Provoke(
                reply=broken(at("hang", None)), route=ON_INPUT, act=loses_early,
                site={"receipts": "no folder"}, forms=(True, False),
            )
        ],
        "mid_stream": [
            Provoke(
                reply=broken(at("hang", MID_FRAMES)), route=ON_INPUT, act=loses_late,
                patches={"tocsin.gateway.receipts.write_whole": DISK},
            )
        ],
        "after_end": [
            Provoke(
                checks=lambda: (IN_STREAM,), act=loses_after, site={"receipts": "no folder"},
                forms=(True, False),
            )
        ],
    },
}  # fmt: skip

_ENDED = (
    "what a check says is heard up to the outcome that ends the response, and no further; only two "
    "checks that fail at the same cell, without an outcome, are both told of"
)
_OBSERVED = "a policy that observes ends no response, so that no check speaks after its end"
_NO_APPEAL = "a policy that observes appeals to nobody"

UNREACHABLE: dict[Cell, str] = {
    **{
        (failure, "after_end", "enforce"): _ENDED
        for failure in MAY_PASS - {"verifier_timeout", "verifier_failed"}
    },
    **{(failure, "after_end", "observe"): _OBSERVED for failure in MAY_PASS},
    **{
        ("appeal_unanswered", phase, "observe"): _NO_APPEAL
        for phase in ("before_first_byte", "mid_stream", "after_end")
    },
}
"""Cells that say what would be done, and that nothing leads to: with the reason."""

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


@pytest.mark.parametrize("phase", ["before_first_byte", "mid_stream"])
@pytest.mark.parametrize("failure", sorted(MAY_PASS))
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
    monkeypatch.setattr("tocsin.gateway.plane.TICK_MS", 20)
    for name, value in provoke.patches.items():
        monkeypatch.setattr(name, value)
    DISK.gate.clear()
    expected = "pass" if passes else TABLE[failure, phase, mode]  # type: ignore[index]
    with ExitStack() as stack, asyncio.Runner(loop_factory=LOOPS["served"]) as runner:
        urls = {"refusing": refusing(stack), "silent": silent(stack)}
        for stream in provoke.forms:
            runner.run(_walk(provoke, failure, phase, mode, folder, expected, stream, urls))


async def _walk(
    provoke: Provoke,
    failure: Failure,
    phase: str,
    mode: str,
    folder: Path,
    expected: str,
    stream: bool,
    urls: dict[str, str],
) -> None:
    receipts = folder / f"receipts-{stream}"
    if provoke.site.get("receipts"):
        (folder / "a file").write_text("no folder")
        receipts = folder / "a file" / "receipts"

    def site(fake: FakeModel) -> Site:
        fields = {"url": f"{fake.url}/v1", **PATIENT, **provoke.upstream}
        fields["url"] = urls.get(fields["url"], fields["url"])
        upstream = Upstream(name="fake", speaks=frozenset(APIS), **fields)  # type: ignore[arg-type]
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
        return Site(routes=(route,), open_to_all=True, **{**provoke.site, "receipts": receipts})

    before = asyncio.all_tasks()
    async with stage(site, Rule(provoke.reply)) as made:
        live = made.live
        if provoke.approver is not None:
            live.plane.approver = provoke.approver
        wires = []
        if failure == "overloaded":
            first = await connect(live.where)
            first.transport.write(post("/v1/chat/completions", asking("chat", "held", stream=True)))
            await first.until(lambda raw: b"hill" in raw)
        for api in provoke.apis:
            wire = await connect(live.where)
            wire.transport.write(post("/v1" + PATHS[api], asking(api, "m", stream=stream)))
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
            case "report" if self.failure in MAY_PASS:
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
        assert (note["failure"], note["done"], note["released"]) == (self.failure, None, len(text))
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
        await live.until(
            lambda: len(live.witness.of("receipt")) == len(live.lines.named("receipt")) > 0
        )
        name = self.answer.headers["x-tocsin-receipt"]
        folder = live.site.receipts
        assert folder is not None
        record = json.loads((folder / f"{name}.json").read_bytes())
        told = {(one["failure"], one["phase"], one["response"]) for one in record["failures"]}
        assert (self.failure, self.phase, response) in told


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
