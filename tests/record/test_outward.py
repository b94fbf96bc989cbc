"""Out after a cursor: at least once, in order, only to where it may go, signed."""

from __future__ import annotations

import asyncio
import hmac
import random
import threading
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record.world import NOW_US, event, run, store, stored

from tocsin.errors import InputError
from tocsin.events.cloudevents import from_cloudevent
from tocsin.events.envelope import Event
from tocsin.events.kinds import StreamOpened, Used
from tocsin.limits import SPANS_OBJECTS_MAX
from tocsin.record import otlp
from tocsin.record.addresses import AddressRefused, address_of, check_host
from tocsin.record.outward import Exporter, Otlp, Webhook
from tocsin.record.sending import Answer, pause_s
from tocsin.store import Append, Scope, Store, Stored
from tocsin.store.history import History

_SECRET = b"0123456789abcdef"
_SHOP = Scope("shop")


class Receiver:
    """Takes batches, or not."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.got: list[list[int]] = []

    def deliver(self, tenant: str, batch: Sequence[Stored]) -> Answer:
        self.got.append([one.seq for one in batch])
        return self.answers.pop(0) if self.answers else Answer(200)


def _fill(opened: Store, n: int, tenant: str = "shop", **fields: Any) -> None:
    events = tuple(event(k, **fields) for k in range(n))
    opened.commit([Append(tenant=tenant, events=events)])


def test_everything_goes_out_once_and_in_order(tmp_path: Path) -> None:
    with store(tmp_path) as opened:
        _fill(opened, 450)
        to = Receiver()
        exporter = Exporter(opened, _SHOP, "hook", to)
        assert [exporter.step() for _ in range(4)] == ["sent", "sent", "sent", "nothing"]
        assert [len(batch) for batch in to.got] == [200, 200, 50]
        assert [seq for batch in to.got for seq in batch] == list(range(1, 451))
        assert exporter.cursor == 450
        assert exporter.done.events == 450
        opened.commit([Append(tenant="shop", events=(event(999),))])
        assert Exporter(opened, _SHOP, "hook", to).step() == "sent"
        assert to.got[-1] == [451]


@pytest.mark.parametrize(
    ("answer", "did"), [(Answer(0), "again"), (Answer(503), "again"), (Answer(400), "refused")]
)
def test_what_was_not_taken_comes_again(tmp_path: Path, answer: Answer, did: str) -> None:
    with store(tmp_path) as opened:
        _fill(opened, 3)
        to = Receiver(answer, answer)
        exporter = Exporter(opened, _SHOP, "hook", to)
        assert [exporter.step(), exporter.step()] == [did, did]
        assert exporter.done.tries == 2
        assert exporter.pause_s() > 0
        assert exporter.step() == "sent"
        assert to.got == [[1, 2, 3]] * 3
        assert exporter.done.tries == 0


@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.sampled_from(["event", "step", "fail", "crash"]), max_size=30))
def test_each_event_arrives_at_least_once_whatever_happens(
    tmp_path_factory: Any, story: list[str]
) -> None:
    """A crash between sending and the cursor sends again, and never leaves out."""
    with store(tmp_path_factory.mktemp("outward")) as opened:
        to = Receiver()
        written = 0
        exporter = Exporter(opened, _SHOP, "hook", to)
        for what in story:
            if what == "event":
                written += 1
                opened.commit([Append(tenant="shop", events=(event(written),))])
            elif what == "fail":
                to.answers = [Answer(503)]
                exporter.step()
                to.answers = []
            elif what == "crash":
                move, exporter._move = exporter._move, lambda *_: None  # type: ignore[method-assign]
                exporter.step()
                exporter._move = move  # type: ignore[method-assign]
                exporter = Exporter(opened, _SHOP, "hook", to)
            else:
                exporter.step()
        while exporter.step() == "sent":
            pass
        assert {seq for batch in to.got for seq in batch} == set(range(1, written + 1))
        assert exporter.cursor == written


def test_two_exporters_of_one_cursor_leave_nothing_out_and_never_go_back(tmp_path: Path) -> None:
    with store(tmp_path) as opened:
        _fill(opened, 250)
        slow, fast = Receiver(), Receiver()
        first = Exporter(opened, _SHOP, "hook", slow)
        deliver = slow.deliver

        def overtaken(tenant: str, batch: Sequence[Stored]) -> Answer:
            second = Exporter(opened, _SHOP, "hook", fast)
            while second.step() == "sent":
                pass
            return deliver(tenant, batch)

        slow.deliver = overtaken  # type: ignore[method-assign]
        first.step()
        assert first.cursor == 250
        assert [seq for batch in fast.got for seq in batch] == list(range(1, 251))


def test_cursors_are_by_name_and_tenant(tmp_path: Path) -> None:
    with store(tmp_path) as opened:
        _fill(opened, 2)
        _fill(opened, 3, tenant="bank")
        to = Receiver()
        for tenant, name in (("shop", "a"), ("shop", "b"), ("bank", "a")):
            Exporter(opened, Scope(tenant), name, to).step()
        assert [len(batch) for batch in to.got] == [2, 2, 3]


def test_kinds_that_are_not_wanted_are_passed_over_once(tmp_path: Path) -> None:
    with store(tmp_path) as opened:
        _fill(opened, 5)
        opened.commit([Append(tenant="shop", events=(event(9, StreamOpened(api="chat")),))])
        opened.commit([Append(tenant="shop", events=(event(10),))])
        to = Receiver()
        exporter = Exporter(opened, _SHOP, "hook", to, kinds=["stream.opened"])
        assert exporter.step() == "sent"
        assert to.got == [[6]]
        assert exporter.step() == "nothing"
        assert exporter.cursor == 7


def test_hours_that_close_meanwhile_go_out_as_well(tmp_path: Path) -> None:
    with store(tmp_path) as opened, History(opened) as history:
        _fill(opened, 300)
        to = Receiver()
        exporter = Exporter(opened, _SHOP, "hook", to)
        exporter.step()
        history.close(_SHOP, before_us=NOW_US + 250, uncovered=True)
        while exporter.step() == "sent":
            pass
        assert [seq for batch in to.got for seq in batch] == list(range(1, 301))


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb"])
def test_a_cursor_has_a_name(tmp_path: Path, name: str) -> None:
    with store(tmp_path) as opened, pytest.raises(InputError):
        Exporter(opened, _SHOP, name, Receiver())


# ------------------------------------------------------------------------------- over real sockets


@contextmanager
def listening() -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]], list[int]]]:
    """Serve a receiver in a thread; gives its URL, what it got, and what it shall answer."""
    got: list[tuple[str, dict[str, str], bytes]] = []
    answers: list[int] = []
    urls: list[str] = []
    started, ended = threading.Event(), threading.Event()

    async def answer(request: web.Request) -> web.Response:
        headers = {k.lower(): v for k, v in request.headers.items()}
        got.append((request.path, headers, await request.read()))
        status = answers.pop(0) if answers else 204
        return web.Response(status=status, headers={"location": "/elsewhere"})

    async def main() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        started.set()
        await asyncio.to_thread(ended.wait)
        await runner.cleanup()

    thread = threading.Thread(target=run, args=(main(),))
    thread.start()
    assert started.wait(20)
    try:
        yield urls[0], got, answers
    finally:
        ended.set()
        thread.join()


def test_a_webhook_gets_signed_cloudevents_and_the_same_id_again(tmp_path: Path) -> None:
    with store(tmp_path) as opened, listening() as (url, got, answers):
        _fill(opened, 3)
        answers += [500, 302, 204]
        hook = Webhook(
            url + "/hook", _SECRET, allowed=["127.0.0.1"], private=True, clock_s=lambda: 7.9
        )
        exporter = Exporter(opened, _SHOP, "hook", hook)
        assert [exporter.step() for _ in range(4)] == ["again", "refused", "sent", "nothing"]
        hook.close()
        sent = stored(opened)
    assert {path for path, _, _ in got} == {"/hook"}
    assert len({headers["webhook-id"] for _, headers, _ in got}) == 1
    _, headers, body = got[-1]
    assert headers["content-type"] == "application/cloudevents-batch+json"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + b64encode(hmac.digest(_SECRET, signed, "sha256")).decode()
    assert headers["webhook-signature"] == expected
    assert headers["webhook-timestamp"] == "7"
    assert [from_cloudevent(one) for one in msgspec.json.decode(body)] == sent


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_a_collector_gets_spans(tmp_path: Path, encoding: Any) -> None:
    with store(tmp_path) as opened, listening() as (url, got, _):
        body = Used(total_ms=250.0, tokens_out=5)
        opened.commit([Append(tenant="shop", events=(event(1, body), event(2)))])
        collector = Otlp(
            url + "/v1/traces",
            headers={"authorization": "Bearer token"},
            allowed=["127.0.0.1"],
            private=True,
            encoding=encoding,
        )
        assert Exporter(opened, _SHOP, "otlp", collector).step() == "sent"
        collector.close()
    ((path, headers, raw),) = got
    assert path == "/v1/traces"
    assert headers["authorization"] == "Bearer token"
    spans = otlp.read_json(raw) if encoding == "json" else otlp.read_protobuf(raw)
    assert [span.service for span in spans] == ["shop/web"] * 2
    assert spans[0].attributes["gen_ai.usage.output_tokens"] == 5
    assert spans[0].end_us - spans[0].start_us == 250_000


def test_the_wire_keeps_every_event(tmp_path: Path) -> None:
    from events.drawn import events as drawn

    from tocsin.events.spans import events_of, span_of

    @settings(max_examples=60)
    @given(st.lists(drawn(), max_size=4))
    def both(sent: list[Event]) -> None:
        spans = [span_of(one) for one in sent]
        for back in (
            otlp.read_json(otlp.to_json(spans)),
            otlp.read_protobuf(otlp.to_protobuf(spans)),
        ):
            found = [one for span in back for one in events_of(span)]
            key = lambda e: (e.source, e.id)  # noqa: E731 - resources are grouped by source
            assert sorted(found, key=key) == sorted(sent, key=key)

    both()


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_hostile_bytes_are_spans_or_an_error(body: bytes) -> None:
    for read in (otlp.read_json, otlp.read_protobuf):
        try:
            read(body)
        except InputError:
            continue


@pytest.mark.parametrize("part", [b"{}", b'{"scopeSpans":[{}]}'])
def test_a_body_of_many_small_parts_is_not_looked_at(part: bytes) -> None:
    body = b'{"resourceSpans":[' + b",".join([part] * SPANS_OBJECTS_MAX) + b"]}"
    with pytest.raises(otlp.TooManySpans, match="split it"):
        otlp.read_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"x"}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"tocsin.a","value":{"intValue":"x"}}]}]}]}]}',
        b'{"resourceSpans":7}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"'
        + b"9" * 5_000
        + b'"}]}]}]}',
    ],
)
def test_odd_json_is_an_error(body: bytes) -> None:
    with pytest.raises(InputError):
        otlp.read_json(body)


# --------------------------------------------------------------------------------- where it may go


@pytest.mark.parametrize(
    "found",
    [
        ["10.0.0.1"],
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["192.168.1.1"],
        ["100.64.0.1"],
        ["0.0.0.0"],  # noqa: S104 - nobody listens
        ["224.0.0.1"],
        ["255.255.255.255"],
        ["::1"],
        ["fe80::1%eth0"],
        ["fd00:ec2::254"],
        ["::ffff:10.0.0.1"],
        ["2002:7f00:1::"],
        ["2001:0:c000:201::f5ff:fffe"],
        ["64:ff9b::a00:1"],
        ["168.63.129.16"],
        ["93.184.216.34", "10.0.0.1"],
        ["nonsense"],
        [],
    ],
)
def test_addresses_inside_are_refused(found: list[str]) -> None:
    with pytest.raises(AddressRefused):
        address_of("a.example", 443, private=False, resolve=lambda *_: found)


@pytest.mark.parametrize(
    "found",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "2001:0:c000:201::5601:5601",
        "fe80::1",
        "::",
    ],
)
def test_some_are_refused_even_within_ones_own_network(found: str) -> None:
    with pytest.raises(AddressRefused):
        address_of("a.example", 443, private=True, resolve=lambda *_: [found])


def test_ones_own_network_is_reached_where_that_is_said() -> None:
    for address in ("10.0.0.1", "127.0.0.1", "::1"):
        assert address_of("a", 1, private=True, resolve=lambda *_, a=address: [a]) == address


def test_the_address_that_was_looked_at_is_the_one_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere the second time is asked once."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    monkeypatch.setattr("tocsin.record.addresses.resolve", resolve)
    monkeypatch.setattr("tocsin.record.addresses.address_of.__kwdefaults__", {"resolve": resolve})
    with store(tmp_path) as opened, listening() as (url, got, _):
        _fill(opened, 1)
        port = url.rpartition(":")[2]
        hook = Webhook(
            f"http://hooks.example:{port}/", _SECRET, allowed=["hooks.example"], private=True
        )
        exporter = Exporter(opened, _SHOP, "hook", hook)
        assert exporter.step() == "sent"
        hook.close()
        opened.commit([Append(tenant="shop", events=(event(5),))])
        assert exporter.step() == "again"
        assert exporter.done.status == 0
    assert asked == ["hooks.example"] * 2
    assert [headers["host"] for _, headers, _ in got] == [f"hooks.example:{port}"]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("https://other.example/", {}),
        ("https://hooks.example.evil.example/", {}),
        ("https://example/", {}),
        ("http://hooks.example/", {}),
        ("https://user:pass@hooks.example/", {}),
        ("https://hooks.example/", {"secret": b"short"}),
    ],
)
def test_what_a_webhook_may_not_be(url: str, options: dict[str, Any]) -> None:
    given = {"secret": _SECRET, "allowed": ["hooks.example", "*.sub.example"]} | options
    with pytest.raises(InputError):
        Webhook(url, **given)


def test_hosts_below_a_name_are_listed_with_a_star() -> None:
    check_host("a.sub.example.", ["*.sub.example"])
    for host in ("sub.example", "asub.example"):
        with pytest.raises(InputError):
            check_host(host, ["*.sub.example"])


def test_pauses_grow_to_a_bound() -> None:
    draw = random.Random(1)
    pauses = [pause_s(n, Answer(0), draw) for n in range(1, 40)]
    assert max(pauses) <= 30.0
    assert pauses[-1] >= 15.0
    assert pause_s(1, Answer(503, retry_after_s=1e9), draw) == 30.0
