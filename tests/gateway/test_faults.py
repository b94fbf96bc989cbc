"""Clients that leave, upstreams that fail, and the order to stop: nothing is left open."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import socket
import sys
import termios
import threading
from typing import Any

import pytest
from gateway.world import FILTERED, STALE_S, WAIT_S, Gate, asked, on_literal, saying, within
from guarded_streams import FORBIDDEN, literal_rules

from tocsin.gateway.outlet import Outlet
from tocsin.gateway.threaded import Threaded
from tocsin.gateway.upstream import Call
from tocsin.guarding.plan import Appeal, Check, Verdict
from tocsin.model import Context, Delta, Outcome
from tocsin.policy.failures import Failure
from tocsin.stream.events import APIS, Api
from tocsin.testing.fake_model import Choice, Fault, Reply
from tocsin.verifiers.contract import Declaration

each_api = pytest.mark.parametrize("api", APIS)
each_form = pytest.mark.parametrize("stream", [True, False])
SAID = "All is well on this calm and sunny day by the sea; no more than that. " * 4

# ------------------------------------------------------------------------------- clients that leave


@each_api
@each_form
def test_a_client_that_leaves_before_the_headers_takes_the_upstream_with_it(
    api: Api, stream: bool
) -> None:
    async def test() -> None:
        async with Gate(Reply(faults=(Fault(kind="hang"),))) as gate:
            waits = asyncio.create_task(gate.post(api, stream=stream))
            await gate.fake.until(held=1)
            waits.cancel()
            await gate.fake.until(open=0, wait_s=STALE_S)
            await gate.quiet()
            assert (gate.meters.outcomes, gate.fake.gone) == (["client_gone"], 1)

    within(test())


@each_api
@pytest.mark.parametrize("frames", [1, 2, 3, 10, 40])
def test_a_client_that_leaves_in_the_stream_takes_the_upstream_with_it(
    api: Api, frames: int
) -> None:
    async def test() -> None:
        reply = saying(SAID, faults=(Fault(kind="hang", after_frames=frames),))
        policy = {"hold": "optimistic"}
        async with Gate(reply, on_literal(), guard=policy, site={"head_ms": 1}) as gate:
            async with gate.open(api) as response:
                await response.content.readany()
                await gate.fake.until(held=1)
            response.close()
            await gate.fake.until(open=0, wait_s=STALE_S)
            await gate.quiet()
            assert gate.meters.outcomes == ["client_gone"]

    within(test())


class _Decides:
    """Never decides."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def decide(self, appeal: Appeal) -> Verdict:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


def test_a_client_that_leaves_while_a_person_decides_takes_the_upstream_with_it() -> None:
    async def test() -> None:
        person = _Decides()
        check = on_literal("require_approval")
        async with Gate(saying(SAID + FORBIDDEN + SAID * 50), check, approver=person) as gate:
            waits = asyncio.create_task(gate.post("chat"))
            await asyncio.wait_for(person.asked.wait(), WAIT_S)
            waits.cancel()
            await gate.fake.until(open=0, wait_s=STALE_S)
            await gate.quiet()
            assert gate.meters.outcomes == ["client_gone"]

    within(test())


def _waiting(gate: Gate) -> dict[str, int]:
    """Measure what one stalled stream keeps: in the process, and in the kernel on its behalf."""
    (call,) = [one for one in gate.plane._watched if isinstance(one, Call)]
    (outlet,) = [one for one in gate.plane._watched if isinstance(one, Outlet)]
    assert call._reader is not None and call._response is not None
    assert call._response.connection is not None and outlet._request.transport is not None
    upstream, client = call._response.connection.transport, outlet._request.transport
    assert upstream is not None
    return {
        "read ahead": call._reader._size,
        "to be read": _queued(upstream, termios.FIONREAD),
        "to be written": client.get_write_buffer_size(),
        "written ahead": _queued(client, termios.TIOCOUTQ),
    }


def _queued(transport: asyncio.BaseTransport, which: int) -> int:
    answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), which, b"\0" * 4)
    return int.from_bytes(answer, sys.byteorder)


def test_a_client_that_does_not_read_stops_the_upstream_being_read() -> None:
    async def test() -> None:
        endless = saying(SAID, faults=(Fault(kind="endless", after_frames=5),))
        async with Gate(endless, on_literal()) as gate:
            loop = asyncio.get_running_loop()
            body = json.dumps(asked("chat", stream=True)).encode()
            head = b"POST /chat/completions HTTP/1.1\r\nhost: [::1]\r\ncontent-length: %d\r\n\r\n"
            with gate.socket(receive_bytes=4_096) as client:
                await loop.sock_connect(client, ("127.0.0.1", gate.port))
                await loop.sock_sendall(client, head % len(body) + body)
                await gate.fake.until(stalled=1)
                held = _waiting(gate)
                assert sum(held.values()) <= 256 * 1024, held
            await gate.fake.until(open=0, wait_s=5)
            await gate.quiet()
            assert gate.meters.outcomes == ["client_gone"]

    within(test())


# ------------------------------------------------------------------------------ upstreams that fail


@each_api
@each_form
@pytest.mark.parametrize(
    ("reply", "status", "failure"),
    [
        (Reply(faults=(Fault(kind="reset"),)), 502, "upstream_cut_off"),
        (Reply(faults=(Fault(kind="cut"),)), 502, "upstream_cut_off"),
        (Reply(faults=(Fault(kind="half_close"),)), 502, "upstream_cut_off"),
        (Reply(faults=(Fault(kind="babble"),)), 502, "upstream_garbage"),
        (Reply(faults=(Fault(kind="cut", after_frames=0),)), 502, "upstream_cut_off"),
        (Reply(raw=(b"data: no JSON\n\n",)), 502, "upstream_garbage"),
        (Reply(gzip=True), 502, "upstream_encoded"),
        (Reply(status=500), 502, "upstream_refused"),
        (Reply(status=401), 502, "upstream_refused"),
        (Reply(status=302, headers={"Location": "/elsewhere"}), 502, "upstream_refused"),
        (Reply(status=529), 503, "upstream_refused"),
        (Reply(status=504), 504, "upstream_refused"),
    ],
)
def test_an_upstream_that_fails_before_anything_was_shown_is_an_error(
    api: Api, stream: bool, reply: Reply, status: int, failure: Failure
) -> None:
    async def test() -> None:
        async with Gate(reply, on_literal()) as gate:
            answer = await gate.post(api, stream=stream)
            assert status == answer.status
            assert answer.json["error"]["message"]
            assert [(failure, "refuse")] == gate.meters.failures
            assert gate.meters.outcomes == ["upstream_failed"]

    within(test())


@each_api
@pytest.mark.parametrize("status", [400, 404, 413, 422, 429])
def test_what_an_upstream_says_of_the_request_is_passed_on_by_its_code(
    api: Api, status: int
) -> None:
    async def test() -> None:
        reply = Reply(status=status, headers={"Retry-After": "7"})
        async with Gate(reply, on_literal()) as gate:
            answer = await gate.post(api)
            assert (status, "7") == (answer.status, answer.headers["retry-after"])
            assert gate.meters.outcomes == ["bad_request"]
            assert gate.meters.receipts == []

    within(test())


@pytest.mark.parametrize("stream", [True, False])
def test_the_words_of_an_upstreams_error_are_not_passed_on(stream: bool) -> None:
    async def test() -> None:
        words = {"error": {"message": f"the secret is {FORBIDDEN}", "code": "bad_thing"}}
        reply = Reply(status=400, raw=(json.dumps(words).encode(),))
        async with Gate(reply) as gate:
            answer = await gate.post("chat", stream=stream)
            assert FORBIDDEN not in answer.raw.decode()
            assert "bad_thing" in answer.json["error"]["message"]

    within(test())


@each_api
@each_form
def test_an_upstream_that_is_not_there_is_a_bad_gateway(api: Api, stream: bool) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]

    async def test() -> None:
        async with Gate(upstream={"url": f"http://127.0.0.1:{port}/v1"}) as gate:
            answer = await gate.post(api, stream=stream)
            assert answer.status == 502
            assert gate.meters.failures == [("upstream_unreachable", "refuse")]

    within(test())


@each_api
@each_form
@pytest.mark.parametrize("after", [None, 0])
def test_an_upstream_that_is_silent_before_it_says_anything_is_a_gateway_timeout(
    api: Api, stream: bool, after: int | None
) -> None:
    async def test() -> None:
        reply = Reply(faults=(Fault(kind="hang", after_frames=after),))
        async with Gate(reply, upstream={"first_ms": 50, "idle_ms": 50}) as gate:
            answer = await gate.post(api, stream=stream)
            assert answer.status == 504
            assert gate.meters.failures == [("upstream_stalled", "refuse")]
            await gate.fake.until(open=0, wait_s=STALE_S)

    within(test())


@each_api
@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("hang", "upstream_stalled"),
        ("reset", "upstream_cut_off"),
        ("cut", "upstream_cut_off"),
        ("half_close", "upstream_cut_off"),
        ("unfinished", "upstream_cut_off"),
        ("garbage", "upstream_garbage"),
        ("babble", "upstream_garbage"),
        ("line", "upstream_too_long"),
    ],
)
def test_an_upstream_that_fails_in_the_stream_ends_it_validly(
    api: Api, kind: Any, failure: Failure
) -> None:
    async def test() -> None:
        fault = Fault(
            kind=kind, after_frames=60, data=b"data: no JSON\n\n", size_bytes=10 * 1024 * 1024
        )
        reply = saying(SAID, faults=(fault,), pause_ms=0.2)
        async with Gate(reply, on_literal(), upstream={"idle_ms": 2_000}) as gate:
            answer = await gate.post(api)
            assert answer.status == 200
            assert [FILTERED[api]] == answer.ends
            assert answer.text and SAID.startswith(answer.text)
            assert failure == answer.note["failure"]
            assert [(failure, "stop")] == gate.meters.failures
            assert gate.meters.outcomes == ["upstream_failed"]
            if kind != "unfinished":  # as HTTP goes, that connection can be used again
                await gate.fake.until(open=0, wait_s=STALE_S)

    within(test())


# --------------------------------------------------------------------------------------- keep-alive


@each_api
@pytest.mark.parametrize("after", [None, 0, 3])
def test_a_silent_upstream_is_bridged_with_comments(api: Api, after: int | None) -> None:
    async def test() -> None:
        reply = saying(SAID, faults=(Fault(kind="hang", after_frames=after),))
        async with Gate(reply, on_literal(), site={"keep_alive_ms": 1}) as gate:
            async with gate.open(api) as response:
                raw = b""
                while raw.count(b": keep-alive\n\n") < 2:
                    raw += await response.content.readany()
                gate.fake.release()
                raw += await response.read()
                assert response.status == 200
            told = [line for line in raw.decode().split("\n\n") if not line.startswith(":")]
            whole = (await gate.post(api)).raw.decode().split("\n\n")
            if after:  # the head came from the upstream
                assert [line for line in whole if not line.startswith(":")] == told
            assert raw.endswith(b"\n\n")
            assert gate.meters.outcomes == ["ok", "ok"]

    within(test())


@each_api
def test_an_answer_begins_soon_though_nothing_is_cleared_yet(api: Api) -> None:
    async def test() -> None:
        reply = saying(SAID, faults=(Fault(kind="hang", after_frames=3),))
        async with Gate(reply, on_literal(), site={"head_ms": 1}) as gate:
            async with gate.open(api) as response:  # or it would wait for what never comes
                assert response.status == 200
                assert (await response.content.readany()).endswith(b": keep-alive\n\n")
                gate.fake.release()
                await response.read()
            assert gate.meters.outcomes == ["ok"]

    within(test())


@each_api
def test_an_upstream_that_refuses_after_a_comment_ends_the_stream_validly(api: Api) -> None:
    async def test() -> None:
        reply = Reply(status=500, faults=(Fault(kind="hang"),))
        async with Gate(reply, on_literal(), site={"keep_alive_ms": 1}) as gate:
            async with gate.open(api) as response:
                raw = await response.content.readany()
                assert b": keep-alive\n\n" in raw
                gate.fake.release()
                raw += await response.read()
            assert b'"failure":"upstream_refused"' in raw
            assert gate.meters.failures == [("upstream_refused", "stop")]
            assert gate.meters.outcomes == ["upstream_failed"]

    within(test())


# -------------------------------------------------------------------------------- the order to stop


@each_api
@pytest.mark.parametrize("after", [None, 0, 60])
def test_the_order_to_stop_ends_open_responses_validly(api: Api, after: int | None) -> None:
    async def test() -> None:
        reply = saying(SAID, faults=(Fault(kind="hang", after_frames=after),), pause_ms=0.2)
        async with Gate(reply, on_literal()) as gate:
            waits = asyncio.create_task(gate.post(api))
            await gate.fake.until(held=1)
            gate.draining.end()
            answer = await waits
            if after:
                assert [FILTERED[api]] == answer.ends
                assert answer.note["failure"] == "stopping"
            else:
                assert answer.status == 503
            assert gate.meters.outcomes == ["failed"]

    within(test())


def test_the_order_to_stop_waits_for_no_person() -> None:
    async def test() -> None:
        person = _Decides()
        check = on_literal("require_approval")
        async with Gate(saying(SAID + FORBIDDEN), check, approver=person) as gate:
            waits = asyncio.create_task(gate.post("chat"))
            await asyncio.wait_for(person.asked.wait(), WAIT_S)
            gate.draining.end()
            assert (await waits).ends == ["content_filter"]

    within(test())


# --------------------------------------------------------------------------------- our own failures


class _Broken:
    """A verifier with a fault."""

    declares = literal_rules().declares

    def open(self, context: Context) -> Any:
        return self

    def feed(self, delta: Delta) -> list[Outcome]:
        raise ZeroDivisionError(delta.text)

    def close(self) -> list[Outcome]:
        return []


@each_api
@each_form
def test_a_verifier_that_breaks_lets_nothing_through(api: Api, stream: bool) -> None:
    async def test() -> None:
        async with Gate(saying(SAID), Check(name="broken", verifier=_Broken())) as gate:
            answer = await gate.post(api, stream=stream)
            assert answer.status == 503
            assert gate.meters.failures == [("verifier_failed", "refuse")]
            assert gate.meters.outcomes == ["failed"]
            await gate.fake.until(open=0)
        assert SAID[:20].encode() not in gate.logged.getvalue()

    within(test())


class _Slow:
    """A verifier that blocks its thread until it is let go."""

    def __init__(self) -> None:
        self._rules = literal_rules()
        self.begun = threading.Event()
        self.go = threading.Event()

    @property
    def declares(self) -> Declaration:
        return self._rules.declares

    def open(self, context: Context) -> Any:
        session = self._rules.open(context)
        slow = self

        class Session:
            def feed(self, delta: Delta) -> list[Outcome]:
                slow.begun.set()
                assert slow.go.wait(WAIT_S)
                return session.feed(delta)

            def close(self) -> list[Outcome]:
                return session.close()

        return Session()


def test_a_slow_verifier_on_a_thread_does_not_hold_up_the_others() -> None:
    async def test() -> None:
        slow = _Slow()
        check = Check(name="slow", verifier=Threaded(slow), on_finding={"*": "halt"})
        reply = Reply(choices=(Choice(text=SAID + FORBIDDEN),))
        async with Gate(reply, check) as gate:
            waits = asyncio.create_task(gate.post("chat"))
            await asyncio.to_thread(slow.begun.wait, WAIT_S)
            assert (await gate.post("chat", path="/other")).status == 404
            slow.go.set()
            answer = await waits
            assert answer.ends == ["content_filter"]
            assert FORBIDDEN not in answer.text

    within(test())


def test_a_long_text_in_one_frame_is_checked_and_shown_whole() -> None:
    async def test() -> None:
        text = "It is calm. " * 20_000
        for said, end in ((text, "stop"), (text + FORBIDDEN, "content_filter")):
            async with Gate(saying(said, cut=0), on_literal()) as gate:
                answer = await gate.post("chat")
                assert [end] == answer.ends
                assert text.startswith(answer.text) and len(text) - len(answer.text) < 100

    within(test())
