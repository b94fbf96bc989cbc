"""The client never blocks, never raises, sends again, and cleans before anything leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from record.world import SlowWriter, Untouched, event, recording, run, served, stored

from tocsin.errors import InputError, StoreBusy
from tocsin.events.envelope import Links
from tocsin.events.kinds import Feedback
from tocsin.limits import EVENTS_BYTES_MAX, EVENTS_CLIENT_BATCH
from tocsin.record.client import Counts, Events
from tocsin.record.recorder import Recorder
from tocsin.record.sending import Answer, Sender, place

_GOOD = Answer(200)


class _Sends:
    """Answers as it is told to, and remembers what was sent."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.sent: list[list[dict[str, Any]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def send(self, body: bytes, headers: dict[str, str]) -> Answer:
        assert headers == {"content-type": "application/cloudevents-batch+json"}
        assert self.gate.wait(20)
        self.sent.append(msgspec.json.decode(body))
        answer = self.answers.pop(0) if self.answers else _GOOD
        if answer is not _GOOD:
            return answer
        told = [{"verdict": "accepted", "index": n} for n in range(len(self.sent[-1]))]
        return Answer(200, msgspec.json.encode({"events": told}))

    def close(self) -> None:
        pass


def _client(sends: _Sends | None = None, **options: Any) -> Events:
    given: dict[str, Any] = {"source": "shop", "redactor": None, "linger_s": 0.0} | options
    if sends is not None:
        given["sender"] = lambda: sends
    client = Events("http://127.0.0.1:9", "key-of-shop", **given)
    client._pause = lambda _: None
    return client


@contextmanager
def _gateway(folder: Path) -> Iterator[tuple[str, Any]]:
    """Serve a record in a thread of its own, as it is for a service."""
    started, ended = threading.Event(), threading.Event()
    found: list[Any] = []

    async def main() -> None:
        async with recording(folder) as (recorder, store), served(recorder, store, _now) as url:
            found.extend([url, store])
            started.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=run, args=(main(),))
    thread.start()
    assert started.wait(20)
    try:
        yield found[0], found[1]
    finally:
        ended.set()
        thread.join()


def _now() -> int:
    import time

    return time.time_ns() // 1_000


def test_what_is_said_is_stored_and_cleaned_on_the_way(tmp_path: Path) -> None:
    with _gateway(tmp_path) as (url, store):
        bodies: list[bytes] = []
        to = place(url + "/v1/events")

        class Tells(Sender):
            def send(self, body: bytes, headers: Any) -> Answer:
                bodies.append(body)
                return super().send(body, headers)

        with Events(
            url,
            "key-of-shop",
            source="shop",
            sender=lambda: Tells(to, {"authorization": "Bearer key-of-shop"}, 10.0),
        ) as client:
            body = Feedback(verdict="report", comment="ask ann@example.com")
            first = client.say(body, links=Links(user="ann", call="r_1"))
            for n in range(1_200):
                client.say(Feedback(verdict="up"), event_id=f"own-{n}")
            assert client.flush()
            assert client.counts == Counts(accepted=1_201)
            client.say(Feedback(verdict="up"), event_id="own-1")
        assert client.counts.duplicates == 1
        found = {e.id: e for e in stored(store)}
    assert len(found) == 1_201
    assert found[first].links.call == "r_1"
    assert (found[first].links.user or "").startswith("u_")
    assert b"ann@example.com" not in b"".join(bodies)


def test_a_wrong_key_and_a_role_that_may_not_are_counted_as_failed(tmp_path: Path) -> None:
    with _gateway(tmp_path) as (url, store):
        for key in ("nobody's", "key-to-look"):
            with Events(url, key, source="shop", redactor=None) as client:
                client.say(Feedback(verdict="up"))
            assert client.counts == Counts(failed=1)
        assert stored(store) == []


@pytest.mark.parametrize("status", [0, 408, 429, 500, 502, 503, 504])
def test_what_may_succeed_later_is_sent_again_under_the_same_id(status: int) -> None:
    sends = _Sends(Answer(status), Answer(status, retry_after_s=1.0))
    with _client(sends) as client:
        client.say(Feedback(verdict="up"))
        assert client.flush()
    assert client.counts == Counts(accepted=1)
    assert len(sends.sent) == 3
    assert len({batch[0]["id"] for batch in sends.sent}) == 1


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 413, 415])
def test_what_will_not_succeed_is_sent_once(status: int) -> None:
    sends = _Sends(Answer(status))
    with _client(sends) as client:
        client.say(Feedback(verdict="up"))
        assert client.flush()
    assert client.counts == Counts(failed=1)
    assert len(sends.sent) == 1


def test_rejected_events_are_counted_one_by_one() -> None:
    told = [
        {"verdict": "rejected", "index": 0, "reason": "x"},
        {"verdict": "duplicate", "index": 1},
    ]
    sends = _Sends(Answer(207, msgspec.json.encode({"events": told})))
    with _client(sends, linger_s=5.0) as client:
        client.give(event(0))
        client.give(event(1))
        assert client.flush()
    assert client.counts == Counts(rejected=1, duplicates=1)


def test_an_answer_of_something_else_is_a_failure() -> None:
    with _client(_Sends(Answer(200, b"<html>"))) as client:
        client.say(Feedback(verdict="up"))
        assert client.flush()
    assert client.counts == Counts(failed=1)


def test_what_finds_no_room_is_shed_and_told() -> None:
    sends = _Sends()
    sends.gate.clear()
    with _client(sends, waiting_max=3) as client:
        taken = [client.give(event(n)) for n in range(10)]
        assert taken == [True] * 3 + [False] * 7
        sends.gate.set()
        assert client.flush()
        client.say(Feedback(verdict="up"))
        assert client.flush()
    assert client.counts.shed == 7
    told = [e["data"] for batch in sends.sent for e in batch if e["type"] == "tocsin.record.shed"]
    assert sum(d["events"] for d in told) == 7
    assert {d["source"] for d in told} == {"shop"}


def test_many_events_go_in_batches_and_long_ones_in_smaller_ones() -> None:
    sends = _Sends()
    sends.gate.clear()
    long = Feedback(verdict="up", comment="x" * (EVENTS_BYTES_MAX // 300))
    with _client(sends, waiting_max=2_000) as client:
        for _ in range(EVENTS_CLIENT_BATCH):
            client.say(long)
        sends.gate.set()
        assert client.flush(60)
    assert sum(map(len, sends.sent)) == EVENTS_CLIENT_BATCH
    assert all(len(msgspec.json.encode(batch)) <= EVENTS_BYTES_MAX for batch in sends.sent)


def test_an_event_that_cannot_be_cleaned_does_not_leave() -> None:
    class Fails(Untouched):
        def event(self, event: Any) -> Any:
            raise RuntimeError

    sends = _Sends()
    with _client(sends, redactor=Fails()) as client:
        client.say(Feedback(verdict="up", comment="a canary"))
    assert client.counts == Counts(unredacted=1)
    assert sends.sent == []


def test_closing_gives_up_in_time_and_counts_what_is_left() -> None:
    sends = _Sends()
    sends.gate.clear()
    client = _client(sends)
    for n in range(3):
        client.give(event(n))
    assert not client.close(timeout_s=0.05)
    assert not client.give(event(4))
    sends.gate.set()
    assert client.counts.shed >= 1
    client.close()


def test_a_server_that_is_not_there_holds_nobody_up() -> None:
    client = _client()
    for n in range(100):
        assert client.give(event(n))
    assert not client.flush(0.05)
    client.close(timeout_s=0.05)


def test_a_busy_record_is_waited_for() -> None:
    async def main() -> None:
        writer = SlowWriter()
        writer.refuses = StoreBusy("busy")
        recorder = Recorder(writer, lambda _: Untouched())
        async with served(recorder, None, _now) as url:
            given: dict[str, Any] = {"source": "shop", "redactor": None, "linger_s": 0.0}
            client = Events(url, "key-of-shop", **given)
            pauses: list[float] = []

            def pause(seconds: float) -> None:
                pauses.append(seconds)
                writer.refuses = None

            client._pause = pause
            client.say(Feedback(verdict="up"))
            async with asyncio.timeout(60):
                while not writer.given:  # noqa: ASYNC110 - what is waited for has no event
                    await asyncio.sleep(0.01)
            writer.settle()
            assert await asyncio.to_thread(client.close)
            assert client.counts == Counts(accepted=1)
            assert pauses == [1.0]

    run(main())


@pytest.mark.parametrize(
    ("url", "key", "source"),
    [
        ("ftp://a.example", "k", "s"),
        ("https://u:p@a.example", "k", "s"),
        ("https://a.example/?x=1", "k", "s"),
        ("https://a.example:99999", "k", "s"),
        ("https://", "k", "s"),
        ("https://a.example\r\nx: y", "k", "s"),
        ("https://a.example", "", "s"),
        ("https://a.example", "k\r\nx: y", "s"),
        ("https://a.example", "k", ""),
        ("https://a.example", "k", "my shop"),
        ("https://a.example", "k", "Tocsin/gateway"),
    ],
)
def test_what_cannot_be_used_is_said_at_once(url: str, key: str, source: str) -> None:
    with pytest.raises(InputError):
        Events(url, key, source=source, redactor=None)


def test_a_process_that_forks_sends_from_both_sides() -> None:
    sends = _Sends()
    with _client(sends) as client:
        client.say(Feedback(verdict="up"))
        assert client.flush()
        client._begin()  # what a fork does in the child
        client.say(Feedback(verdict="down"))
        assert client.flush()
    assert len(sends.sent) == 2


def test_no_thread_is_left_behind() -> None:
    before = set(threading.enumerate())
    for _ in range(5):
        with _client(_Sends()) as client:
            client.say(Feedback(verdict="up"))
    assert set(threading.enumerate()) <= before


def test_a_large_answer_is_read_to_a_bound_and_redirects_are_not_followed() -> None:
    async def main() -> None:
        from aiohttp import web

        asked: list[str] = []

        async def answer(request: web.Request) -> web.Response:
            asked.append(request.path)
            if request.path == "/moved":
                return web.Response(status=307, headers={"location": "/there"})
            return web.Response(body=b"x" * 3_000_000, headers={"retry-after": "soon"})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"

        def send(path: str) -> Answer:
            sender = Sender(place(url + path), {}, 10.0)
            try:
                return sender.send(b"{}", {})
            finally:
                sender.close()

        moved = await asyncio.to_thread(send, "/moved")
        large = await asyncio.to_thread(send, "/large")
        assert (moved.status, moved.good, moved.again) == (307, False, False)
        assert len(large.body) == 1_048_577
        assert large.retry_after_s is None
        assert asked == ["/moved", "/large"]
        await runner.cleanup()

    run(main())
