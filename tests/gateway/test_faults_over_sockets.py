"""Clients that leave or do not read, upstreams that break, verifiers that hang: at every place.

Whatever happens, a stream has one end, its upstream is let go at once, and nothing is left behind:
no task, no file descriptor, no memory.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from gateway.failing_parts import BREAK, Unable, Waiting, scored
from gateway.live import LOOPS, Stage, descriptors, eventually, stage
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

from tocsin.gateway.site import Route, Site, Upstream
from tocsin.gateway.upstream import Call
from tocsin.guarding.plan import Check, Guard
from tocsin.limits import SSE_EVENT_BYTES_MAX
from tocsin.stream.events import APIS
from tocsin.testing.fake_model import Choice, Exchange, FakeModel, Fault, Reply

SAYS = "Nobody on the hill had ever seen the sea so calm, or so they said. "
TEXT = ("text", 0, 0)
GONE_S = 0.25
"""How soon an upstream is closed once its client has left."""

SEND_BYTES = 16_384
STALLED_BYTES_MAX = 262_144
"""Memory of a stream that nobody reads."""

ROOM_BYTES = 131_072
"""Room for what a client does not read. With less than two segments of the loopback device, the
kernel sends on by a timer that doubles, and reading on takes half a minute."""

KERNELS_BYTES_MAX = 2_097_152
"""What the kernels of both sides keep beside, and what was rebuilt and not yet read."""


def site(fake: FakeModel, checks: tuple[Check, ...] = (), **more: Any) -> Site:
    upstream = Upstream(
        name="fake", url=f"{fake.url}/v1", speaks=frozenset(APIS), first_ms=20_000, idle_ms=20_000
    )
    guard = Guard(checks=checks or (scored("plain", Unable(0.9)), rules()))
    route = Route(name="all", models=("*",), upstream=upstream, model=None, guard=guard)
    return Site(routes=(route,), open_to_all=True, **more)


def rules() -> Check:
    return Check(name="rules", verifier=literal_rules("no such word", steps="chars:16"))


def said(text: str, *faults: Fault, **more: Any) -> Reply:
    return Reply(**{"choices": (Choice(text=text),), "cut": 8, "faults": faults, **more})


def run(
    work: Callable[[Stage], Coroutine[Any, Any, None]],
    rule: Any,
    *,
    loop: str = "served",
    checks: tuple[Check, ...] = (),
    **more: Any,
) -> None:
    """Do some work, and look that the gateway is then as it was before."""

    async def act() -> None:
        make = lambda fake: site(fake, checks, **more)  # noqa: E731 - one expression
        async with stage(make, rule, send_buffer_bytes=SEND_BYTES) as made:
            await _asks(made, "chat", "warm-up")
            await _idle(made)
            await made.live.ticks(1)  # a socket is closed a turn after its transport
            tasks, before = asyncio.all_tasks(), descriptors()
            await work(made)
            await _idle(made)
            await eventually(lambda: asyncio.all_tasks() == tasks, "tasks are left")
            await eventually(lambda: descriptors() <= before, "descriptors are left")
            witness = made.live.witness
            assert len(witness.of("started")) == len(witness.of("ended"))
            assert len(made.live.lines.named("request")) == len(witness.of("ended"))
            assert not made.live.lines.named("fault")

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(act())


async def _idle(made: Stage) -> None:
    """Wait until nothing is under way and no connection is kept."""
    plane = made.live.plane
    await eventually(lambda: plane.under_way == 0, "a request is under way")
    await eventually(lambda: made.live._process._connections.count == 0, "a client is left")
    assert plane.session.connector is not None
    for kept in list(plane.session.connector._conns.values()):
        for protocol, _ in kept:
            protocol.close()
    await made.fake.until(open=0)


async def _asks(made: Stage, api: str, model: str) -> Answer:
    async with await connect(made.live.where) as wire:
        wire.transport.write(post("/v1" + PATHS[api], asking(api, model, stream=True)))
        return await wire.answer()


async def _ends(made: Stage, count: int) -> None:
    """Wait until so many requests have ended."""
    await made.live.until(lambda: len(made.live.witness.of("ended")) == count)


async def begin(made: Stage, api: str, *, model: str = "m", stream: bool = True) -> Wire:
    wire = await connect(made.live.where)
    wire.transport.write(post("/v1" + PATHS[api], asking(api, model, stream=stream)))
    return wire


def unless_warm(reply: Reply) -> Callable[[Exchange], Reply]:
    """Give a reply to all requests but the first, which is answered in peace."""
    calm = said(SAYS)
    return lambda exchange: calm if exchange.body["model"] == "warm-up" else reply


# --------------------------------------------------------------------------- clients that leave


def leave_in_order(wire: Wire) -> None:
    wire.close()


def leave_with_a_reset(wire: Wire) -> None:
    wire.reset()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("leave", [leave_in_order, leave_with_a_reset])
@pytest.mark.parametrize("api", APIS)
def test_a_client_that_leaves_after_any_chunk_takes_the_upstream_with_it(
    api: str, leave: Callable[[Wire], None], loop: str
) -> None:
    reply = said(SAYS * 2, stepwise=True)
    took_s: list[float] = []

    async def work(made: Stage) -> None:
        fake, witness = made.fake, made.live.witness
        whole = await _frames_of(made, api)
        assert whole > 15
        for k in range(whole):
            wire = await begin(made, api)
            number = 2 + k
            await fake.until(requests=number + 1, held=1)
            exchange = fake.requests[number]
            fake.step(k)
            await fake.until(lambda exchange=exchange, k=k: exchange.frames == k, held=1)  # type: ignore[misc]
            now = asyncio.get_running_loop().time
            left_s = now()
            leave(wire)
            await fake.until(lambda exchange=exchange: exchange.gone_s is not None)  # type: ignore[misc]
            took_s.append(now() - left_s)
            await made.live.until(
                lambda k=k: len(witness.of("ended", api, "all", "client_gone")) == k + 1  # type: ignore[misc]
            )
            await wire.ended()

    run(work, unless_warm(reply), loop=loop)
    # A machine that is busy with something else may hold up one of them.
    assert statistics.median(took_s) < GONE_S


async def _frames_of(made: Stage, api: str) -> int:
    """Count the frames of the whole answer, which is read to its end."""
    wire = await begin(made, api)
    while not Answer.of(wire.data).whole:
        made.fake.step()
        await asyncio.sleep(0)
    frames = made.fake.requests[1].frames
    wire.close()
    await wire.ended()
    while made.fake._gate._value:  # steps that nobody waited for
        await made.fake._gate.acquire()
    return frames


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", APIS)
def test_a_client_that_leaves_before_the_headers_takes_the_upstream_with_it(
    api: str, stream: bool, loop: str
) -> None:
    took_s: list[float] = []

    async def work(made: Stage) -> None:
        now = asyncio.get_running_loop().time
        for count in range(1, 6):
            wire = await begin(made, api, stream=stream)
            await made.fake.until(requests=count + 1, held=1)
            left_s = now()
            wire.close()
            await made.fake.until(gone=count)
            took_s.append(now() - left_s)
        ended = made.live.witness.of("ended", api, "all", "client_gone")
        await made.live.until(lambda: len(made.live.witness.of("ended")) == 6)
        assert len(ended) + 1 == len(made.live.witness.of("ended"))

    run(work, unless_warm(said(SAYS, Fault(kind="hang"))), loop=loop)
    assert statistics.median(took_s) < GONE_S


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_leaves_while_a_verifier_hangs_takes_the_upstream_with_it(loop: str) -> None:
    async def work(made: Stage) -> None:
        hanging = made.live.site.routes[0].guard.checks[0].verifier
        assert isinstance(hanging, Waiting)
        for count, api in enumerate(APIS, 1):
            wire = await begin(made, api)
            await eventually(lambda: hanging.hanging == 1, "the verifier was not asked")
            wire.close()
            await made.fake.until(gone=count)
            await eventually(lambda: hanging.hanging == 0, "the verifier still hangs")

    # More comes than the gateway reads meanwhile, so that the upstream is not through.
    reply = said(f"{SAYS}{BREAK} {SAYS}", Fault(kind="endless", after_frames=18))
    run(work, unless_warm(reply), loop=loop, checks=(scored("waits", Waiting(), 20_000),))


# ------------------------------------------------------------------------- upstreams that break


KINDS: dict[str, dict[str, Any]] = {
    "reset": {"kind": "reset"},
    "cut": {"kind": "cut"},
    "half_close": {"kind": "half_close"},
    "unfinished": {"kind": "unfinished"},
    "noise": {"kind": "garbage"},  # a line that is no field: readers of events skip it
    "garbage": {"kind": "garbage", "data": b'data: {"a": \n\n'},
    "babble": {"kind": "babble"},
}


class AtEach:
    """A fault behind as many frames as the model's name says."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self._fault = fault
        self._kept: dict[str, Reply] = {}

    def __call__(self, exchange: Exchange) -> Reply:
        model = exchange.body["model"]
        if model == "warm-up":
            return said(SAYS)
        faults = () if model == "whole" else (Fault(after_frames=int(model), **self._fault),)
        return self._kept.setdefault(model, said(SAYS * 2, *faults))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("api", APIS)
def test_an_upstream_that_breaks_behind_any_frame_leaves_one_valid_end(api: str, kind: str) -> None:
    async def work(made: Stage) -> None:
        assert read(api, await _asks(made, api, "whole")) == {TEXT: SAYS * 2}
        whole = made.fake.requests[-1].frames
        answers = await asyncio.gather(*(_asks(made, api, str(k)) for k in range(whole)))
        stopped = 0
        for answer in answers:
            if answer.status != 200:
                assert answer.status == 502
                assert "(upstream_" in answer.json["error"]["message"]
                continue
            text = read(api, answer).get(TEXT, "")
            assert (SAYS * 2).startswith(text)
            note = answer.note
            if ending(api, answer) != [FILTERED[api]]:
                # What an API sends behind its last word is not worth a word to the reader.
                assert (text, note["failure"]) == (SAYS * 2, None)
                continue
            assert note["failure"].startswith("upstream_")
            assert note["released"] == len(text)
            stopped += 1
        assert (stopped == 0) == (kind == "noise")
        ended = made.live.witness.of("ended")
        assert len(ended) == whole + 2

    run(work, AtEach(KINDS[kind]))


def test_a_line_without_an_end_is_read_up_to_the_limit_and_no_further() -> None:
    size = 4 * SSE_EVENT_BYTES_MAX

    async def work(made: Stage) -> None:
        for api in APIS:
            answer = await _asks(made, api, "m")
            assert ending(api, answer) == [FILTERED[api]]
            assert answer.note["failure"] == "upstream_too_long"
            await made.fake.until(lambda: made.fake.requests[-1].gone_s is not None)
            assert made.fake.requests[-1].accepted_bytes < 2 * SSE_EVENT_BYTES_MAX

    run(work, unless_warm(said(SAYS * 2, Fault(kind="line", after_frames=14, size_bytes=size))))


# --------------------------------------------------------------------------- verifiers that hang


def test_a_verifier_that_hangs_is_bridged_with_comments_and_the_upstream_waits() -> None:
    waiting = Waiting()

    async def work(made: Stage) -> None:
        for api in APIS:
            waiting.gate.clear()
            wire = await begin(made, api)
            await made.fake.until(stalled=1)
            assert waiting.hanging == 1
            exchange = made.fake.requests[-1]
            (taken,) = await _stopped(made, [exchange])
            seen = wire.data.count(b": keep-alive")
            await wire.until(lambda raw, seen=seen: raw.count(b": keep-alive") > seen + 1)  # type: ignore[misc]
            assert exchange.accepted_bytes == taken
            assert BREAK.encode() not in wire.data
            waiting.gate.set()
            await wire.until(lambda raw: len(raw) > 30_000)
            wire.close()
            await made.fake.until(lambda e=exchange: e.gone_s is not None)  # type: ignore[misc]
            await wire.ended()

    reply = said(f"{SAYS}{BREAK} {SAYS}", Fault(kind="endless", after_frames=18))
    run(
        work,
        unless_warm(reply),
        checks=(scored("waits", waiting, 20_000),),
        keep_alive_ms=50,
    )


# ------------------------------------------------------------------------ readers that do not read


STALLED = said(SAYS * 2, Fault(kind="endless", after_frames=14))


async def _stopped(made: Stage, exchanges: list[Exchange]) -> list[int]:
    """Wait until nothing is taken of any of them any more; give what was."""
    async with asyncio.timeout(60):
        while True:
            await made.fake.until(stalled=len(exchanges))
            taken = [exchange.accepted_bytes for exchange in exchanges]
            await made.live.ticks(3)
            if [exchange.accepted_bytes for exchange in exchanges] == taken:
                return taken


async def _stall(made: Stage, api: str, count: int) -> tuple[list[Wire], list[int]]:
    """Begin with so many streams that nobody reads; give them, and what their upstreams wrote."""
    wires = []
    for number in range(1, count + 1):
        wire = await connect(made.live.where, room_bytes=ROOM_BYTES)
        wire.transport.pause_reading()
        wire.transport.write(post("/v1" + PATHS[api], asking(api, "m", stream=True)))
        wires.append(wire)
        await made.fake.until(requests=number + 1)
    return wires, await _stopped(made, made.fake.requests[1:])


async def _leave(made: Stage, wires: list[Wire]) -> None:
    for wire in wires:
        wire.reset()
    await made.fake.until(gone=len(wires))
    for wire in wires:
        await wire.ended()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("api", APIS)
def test_a_reader_that_stalls_stops_its_upstream_and_no_other(api: str, loop: str) -> None:
    async def work(made: Stage) -> None:
        wires, taken = await _stall(made, api, 2)
        assert len(taken) == 2 and max(taken) < KERNELS_BYTES_MAX
        waiting = 0
        for one in made.live._process._connections.each():
            assert one._wire is not None
            waiting += one._wire.get_write_buffer_size()
        for call in made.live.plane._watched:
            if isinstance(call, Call):
                assert call._reader is not None
                waiting += call._reader._size
        assert 0 < waiting <= 2 * STALLED_BYTES_MAX
        # One reads on, and only its upstream goes on.
        exchanges = made.fake.requests[1:]
        wires[0].transport.resume_reading()
        await eventually(lambda: exchanges[0].accepted_bytes > taken[0], "nothing goes on")
        assert exchanges[1].accepted_bytes == taken[1]
        await _leave(made, wires)

    run(work, unless_warm(STALLED), loop=loop, stalled_ms=120_000)


@pytest.mark.parametrize("api", ["chat", "messages"])
def test_a_reader_that_stalls_costs_little_memory(api: str) -> None:
    # Responses repeats all of its text at its end, so that there memory grows with the text.
    count = 3

    async def work(made: Stage) -> None:
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            wires, _ = await _stall(made, api, count)
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()
        assert each <= STALLED_BYTES_MAX
        await _leave(made, wires)

    run(work, unless_warm(STALLED), loop="asyncio", stalled_ms=120_000)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_reader_that_stalls_for_too_long_is_let_go(loop: str) -> None:
    async def work(made: Stage) -> None:
        for count, api in enumerate(APIS, 1):
            wire = await connect(made.live.where, room_bytes=ROOM_BYTES)
            wire.transport.pause_reading()
            wire.transport.write(post("/v1" + PATHS[api], asking(api, "m", stream=True)))
            await made.fake.until(gone=count)
            await _ends(made, count + 1)
            assert len(made.live.witness.of("ended", api, "all", "client_gone")) == 1
            wire.reset()
            await wire.ended()

    run(work, unless_warm(STALLED), loop=loop, stalled_ms=300)
