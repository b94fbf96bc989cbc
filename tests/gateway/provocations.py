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
from gateway.live import Stage, eventually
from gateway.raw_client import (
    Wire,
)
from guarded_streams import literal_rules

from tocsin.errors import InputError, StoreError, StoreFailed, StoreFull
from tocsin.gateway.story import draining
from tocsin.guarding.plan import Check, Guard
from tocsin.model import UnknownReason
from tocsin.monitor import Monitor
from tocsin.policy.failures import CHECKS_FAIL, FROM_UNKNOWN, Failure
from tocsin.store import Store
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
        before: what is done before the requests come.
        late: the last byte of each request is sent by `act`.
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
    before: Callable[[Stage], Awaitable[None]] | None = None
    late: bool = False


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


class Disk:
    """The disk under the record: sound, full, failing, or slow until it is told what to be."""

    def __init__(self) -> None:
        self._real = Store.commit_prepared
        self._open = threading.Event()
        self._error: StoreError | None = None
        self.be_sound()

    def be_sound(self) -> None:
        self._error = None
        self._open.set()

    def be_slow(self) -> None:
        self._open.clear()

    def be(self, error: StoreError) -> None:
        self._error = error
        self._open.set()

    def commit_prepared(self) -> Callable[..., Any]:
        """What stands in the place of the store's own method."""

        def commit_prepared(store: Store, given: Any) -> Any:
            assert self._open.wait(20)
            if self._error is not None:
                raise self._error
            return self._real(store, given)

        return commit_prepared


DISK = Disk()
LATE_MS = 300
ERRORS: dict[Failure, StoreError] = {
    "record_unavailable": StoreFull("there is no room"),
    "record_failed": StoreFailed("the disk reported an error"),
}


async def known(stage: Stage, failure: Failure) -> None:
    """Have something recorded, until it is known that this cannot be done."""
    stage.live.plane.books.note(draining("local", "probe", stage.live.plane.now()))
    await eventually(lambda: stage.live.plane.books.failure == failure)


def loses_early(failure: Failure) -> Callable[[Stage], Awaitable[None]]:
    """The record is lost before anybody asks."""

    async def loses(stage: Stage) -> None:
        DISK.be(ERRORS[failure])
        await known(stage, failure)

    return loses


def loses_at_the_last_byte(failure: Failure) -> Callable[[Stage, list[Wire]], Awaitable[None]]:
    """The record is lost while requests are being read: the process takes no others any more."""

    async def loses(stage: Stage, wires: list[Wire]) -> None:
        await eventually(lambda: len(stage.live._process._connections.connections) == len(wires))
        DISK.be(ERRORS[failure])
        await known(stage, failure)
        for wire in wires:
            wire.transport.write(b"}")

    return loses


def lost(stage: Stage, failure: Failure) -> int:
    return len(stage.live.lines.named(failure))


def loses_late(failure: Failure) -> Callable[[Stage, list[Wire]], Awaitable[None]]:
    """The receipts of the requests are lost while answers are being written."""

    async def loses(stage: Stage, wires: list[Wire]) -> None:
        await until_shown(wires)
        DISK.be(ERRORS[failure])
        await stage.live.until(lambda: lost(stage, failure) == len(wires))
        stage.fake.release()

    return loses


def loses_after(failure: Failure) -> Callable[[Stage, list[Wire]], Awaitable[None]]:
    """The receipts of the answers are lost when all of the text was let out."""

    async def loses(stage: Stage, wires: list[Wire]) -> None:
        await stage.live.until(lambda: len(stage.live.lines.named("receipt")) == len(wires))
        DISK.be(ERRORS[failure])
        await stage.live.until(lambda: lost(stage, failure) == len(wires))

    return loses


async def slowly(stage: Stage) -> None:
    DISK.be_slow()


def of_record(failure: Failure) -> dict[str, list[Provoke]]:
    """Provoke failures of the record, in each phase."""
    patches: dict[str, Any] = {"tocsin.store.store.Store.commit_prepared": DISK.commit_prepared()}
    if failure == "record_unavailable":  # its receipts wait; that they are late is what is told
        patches["tocsin.gateway.books.RECORD_WAIT_MS"] = LATE_MS
    early = Provoke(before=loses_early(failure), forms=(True, False), patches=patches)
    if failure == "record_failed":
        early = Provoke(
            late=True, act=loses_at_the_last_byte(failure), forms=(True, False), patches=patches
        )
    return {
        "before_first_byte": [early],
        "mid_stream": [
            Provoke(
                reply=broken(at("hang", MID_FRAMES)), route=ON_INPUT, before=slowly,
                act=loses_late(failure), patches=patches,
            )
        ],
        "after_end": [
            Provoke(
                checks=lambda: (IN_STREAM,), before=slowly, act=loses_after(failure),
                forms=(True, False), patches=patches,
            )
        ],
    }  # fmt: skip


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
    "record_unavailable": of_record("record_unavailable"),
    "record_failed": of_record("record_failed"),
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
        for failure in CHECKS_FAIL - {"verifier_timeout", "verifier_failed"}
    },
    **{(failure, "after_end", "observe"): _OBSERVED for failure in CHECKS_FAIL},
    **{
        ("appeal_unanswered", phase, "observe"): _NO_APPEAL
        for phase in ("before_first_byte", "mid_stream", "after_end")
    },
}
"""Cells that say what would be done, and that nothing leads to: with the reason."""
