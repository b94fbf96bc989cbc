"""How each failure of the table is brought about, or why nothing leads there."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

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
from gateway.live import Stage
from gateway.raw_client import (
    Wire,
)
from guarded_streams import literal_rules

from tocsin.errors import InputError
from tocsin.guarding.plan import Check, Guard
from tocsin.model import UnknownReason
from tocsin.monitor import Monitor
from tocsin.policy.failures import FROM_UNKNOWN, MAY_PASS, Failure
from tocsin.stream.events import APIS
from tocsin.testing.fake_model import Choice, Fault, Reply

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
        approver: who is asked for approval.
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
