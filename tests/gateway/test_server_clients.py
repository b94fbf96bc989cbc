"""The promise: no client costs more than a little for longer than a while, whatever it does."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway.processes import (
    Client,
    Process,
    descriptors,
    eventually,
    metric,
    rss_bytes,
    stub,
    talking,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A gateway for tests that leave nothing behind in it."""
    with stub(tmp_path_factory.mktemp("plain")) as gateway:
        yield gateway


HOST = b"Host: gateway.example\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
WAITS = b"Expect: 100-continue\r\n"
CHAT = b"/v1/chat/completions"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


def closed(gateway: Process, why: str) -> float:
    return metric(gateway, f'tocsin_connections_closed_total{{why="{why}"}}')


def test_a_connection_without_a_request_is_closed(tmp_path: Path) -> None:
    with stub(tmp_path, header_ms=100) as gateway, talking(gateway) as client:
        assert client.rest() == b""
        assert closed(gateway, "no_request") == 1


@pytest.mark.parametrize("half", [b"PO", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: a"])
def test_half_a_request_is_answered_with_408(tmp_path: Path, half: bytes) -> None:
    with stub(tmp_path, header_ms=100) as gateway, talking(gateway) as client:
        client.send(half)
        assert client.rest().startswith(b"HTTP/1.1 408 ")
        assert closed(gateway, "slow_head") == 1


def test_a_request_that_comes_byte_by_byte_has_no_more_time_than_another(tmp_path: Path) -> None:
    with stub(tmp_path, header_ms=300) as gateway, talking(gateway) as client:
        client.socket.settimeout(0.02)
        said = b""
        client.send(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(1_000):
            try:
                client.send(b"x")
                said = client.socket.recv(64)
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                pass
            break
        assert said.startswith(b"HTTP/1.1 408 ") or closed(gateway, "slow_head") == 1


def test_the_second_request_of_a_connection_has_a_deadline_too(tmp_path: Path) -> None:
    with stub(tmp_path, header_ms=3_000) as gateway, talking(gateway) as client:
        client.post()
        assert client.answer()[0] == 200
        client.send(b"POST / HT")
        assert client.rest().startswith(b"HTTP/1.1 408 ")


def test_a_connection_is_kept_between_requests_beyond_the_deadline_of_a_head(
    tmp_path: Path,
) -> None:
    with stub(tmp_path, header_ms=3_000) as gateway, talking(gateway) as client:
        client.post()
        assert client.answer()[0] == 200
        with talking(gateway) as other:
            assert other.rest() == b""  # so long is the deadline of a head
        client.post()
        assert client.answer()[0] == 200


def test_clients_that_do_not_read_are_let_go_and_cost_little(tmp_path: Path) -> None:
    """Nothing is measured of one alone: what the process keeps ready for all would be its."""
    count = 100
    with stub(tmp_path, stalled_ms=400) as gateway:
        gateway.where  # noqa: B018 - it listens
        before = rss_bytes(gateway.pid)
        clients = [Client(gateway.where, room_bytes=4_096) for _ in range(count)]
        try:
            for client in clients:
                client.post("flood")
            eventually(lambda: closed(gateway, "stalled") == count)
            grown = rss_bytes(gateway.pid) - before
        finally:
            for client in clients:
                client.socket.close()
        eventually(lambda: metric(gateway, "tocsin_connections") == 0)
    assert grown <= count * 256 * 1024


def test_a_request_behind_another_one_is_not_answered(tmp_path: Path) -> None:
    """What is smuggled comes behind a request, in the same breath."""
    one = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}"
    with stub(tmp_path) as gateway:
        with talking(gateway) as client:
            client.send(one + one)
            assert client.rest().count(b"HTTP/1.1 200 OK") == 1
        assert closed(gateway, "ahead") == 1
        gateway.send(signal.SIGTERM)
        assert gateway.ended() == 0
        assert len(gateway.logged("request")) == 1  # the log is whole once the process has ended


def test_a_request_that_comes_during_an_answer_is_not_answered(tmp_path: Path) -> None:
    with stub(tmp_path, drain_ms=0) as gateway:
        with talking(gateway) as client:
            client.post("stubborn")
            client.until(b"begun ")
            client.post()
            eventually(lambda: closed(gateway, "ahead") == 1)
        gateway.until_logged("request")
        gateway.send(signal.SIGTERM)
        assert gateway.ended() == 0
        assert len(gateway.logged("request")) == 1


def test_a_client_may_ask_again_as_soon_as_the_answer_is_complete(plain: Process) -> None:
    with talking(plain) as client:
        for _ in range(500):
            client.post()
            assert client.answer()[0] == 200
    assert closed(plain, "ahead") == 0


def test_a_body_that_breaks_off_into_nonsense_ends_the_connection(tmp_path: Path) -> None:
    with stub(tmp_path) as gateway, talking(gateway) as client:
        client.begin("echo")
        client.until(b"begun ")
        client.send(b"not a chunk\r\n")
        assert not client.rest().endswith(b"0\r\n\r\n")
        assert closed(gateway, "unreadable") == 1
        assert gateway.until_logged("request")["status"] is None


def test_requests_beyond_the_limit_are_refused_and_the_open_ones_go_on(tmp_path: Path) -> None:
    with stub(tmp_path, streams_max=2) as gateway:
        with talking(gateway) as a, talking(gateway) as b, talking(gateway) as c:
            for client in (a, b):
                client.begin("echo")
                client.until(b"begun ")
            c.post()
            status, body = c.answer()
            assert status == 503
            assert b"overloaded" in body
            assert c.get("/livez") == (200, b"ok\n")
            a.piece(b"on")
            a.until(b"on")
            a.piece(b"")
            a.until(b"0\r\n\r\n")
            eventually(lambda: _asks(c) == 200)
        shed = 'tocsin_requests_shed_total{why="streams_max"}'
        assert metric(gateway, shed) >= 1


def _asks(client: Client) -> int:
    client.post()
    return client.answer()[0]


def test_a_process_that_is_too_slow_takes_nothing_new_until_it_is_not(tmp_path: Path) -> None:
    with (
        stub(tmp_path, lag_ms_max=500) as gateway,
        talking(gateway) as blocks,
        talking(gateway) as client,
    ):

        def refused() -> bool:
            """Soon behind what blocks, if nothing holds up the client too."""
            blocks.post("block&s=1.5")
            blocks.answer()
            return _asks(client) == 503

        eventually(refused)
        eventually(lambda: _asks(client) == 200)
        assert metric(gateway, 'tocsin_requests_shed_total{why="lag"}') >= 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417),
        (b"POST / HTTP/1.1\r\nHost: a\r\n%s%sContent-Length: 1\r\n\r\n" % (WAITS, WAITS), 417),
        (b"POST / HTTP/1.1\r\nHost: a\r\n%s\r\n" % WAITS, 417),
        (b"POST / HTTP/1.0\r\nHost: a\r\n%sContent-Length: 1\r\n\r\n" % WAITS, 417),
        (b"GET / HTTP/1.1\r\nHost: a\r\n%s\r\n" % WAITS, 417),
        (b"POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 01\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n%s0\r\n\r\n" % CHUNKED, 400),
    ],
)
def test_a_request_of_an_unusual_shape_is_refused_and_the_connection_closed(
    plain: Process, request_: bytes, status: int
) -> None:
    with talking(plain) as client:
        client.send(request_)
        said = client.rest()
        assert said.startswith((b"HTTP/1.1 %d " % status, b"HTTP/1.0 %d " % status))
        assert b"100 Continue" not in said
        assert plain.logged("fault") == []


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 5\r\n\r\n", b"hello"),
        (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("waits", [WAITS, WAITS.lower(), WAITS.upper()])
def test_a_client_that_waits_for_a_word_before_its_body_gets_one(
    plain: Process, waits: bytes, framing: bytes, body: bytes
) -> None:
    with talking(plain) as client:
        for _ in range(2):  # the connection is kept
            client.send(b"POST %s?do=ok HTTP/1.1\r\n%s%s%s" % (CHAT, HOST, waits, framing))
            assert client.until(b"\r\n\r\n") == GO_ON
            client.send(body)
            status, said = client.answer()
            assert (status, json.loads(said)["size"]) == (200, 5)


def test_a_client_that_says_so_and_does_not_wait_is_answered_too(plain: Process) -> None:
    with talking(plain) as client:
        client.post(headers=WAITS, body=b"hello")
        assert client.until(b"\r\n\r\n") == GO_ON
        status, body = client.answer()
        assert (status, json.loads(body)["size"]) == (200, 5)


def test_curl_sends_a_long_body(plain: Process) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("the program curl, which is the client here, is not installed")
    host, port = plain.where
    url = f"http://{host}:{port}/v1/chat/completions?do=ok"
    # It goes on by itself after this time: so long that the test would not end well.
    given = ["-sSv", "--noproxy", "*", "--http1.1", "--expect100-timeout", "600"]
    given += [
        "--max-time",
        "50",
        "-H",
        WAITS.decode().strip(),
        "--data-binary",
        "@-",
        "-w",
        "\n%{http_code}",
        url,
    ]
    done = subprocess.run(
        [curl, *given], input=b"x" * 50_000, capture_output=True, timeout=60, check=False
    )
    body, _, status = done.stdout.decode().rpartition("\n")
    assert status == "200", done.stderr.decode()
    assert json.loads(body)["size"] == 50_000
    assert b"< HTTP/1.1 100 Continue" in done.stderr


def test_no_answer_says_which_versions_run(tmp_path: Path) -> None:
    requests = [
        b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno field\r\n\r\n",
        b"\x00\x01\r\n\r\n",
        *(
            b"POST %s?do=%s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % (CHAT, do)
            for do in (b"ok", b"fail", b"flood")
        ),
    ]
    with stub(tmp_path) as gateway:
        for where in (gateway.where, gateway.metrics):
            for request_ in requests:
                with Client(where) as client:
                    client.send(request_)
                    head = client.until(b"\r\n\r\n").decode().lower()
                said = [line for line in head.split("\r\n") if line.startswith("server:")]
                assert said in ([], ["server: tocsin"]), request_
                assert "aiohttp" not in head


def test_a_health_check_may_be_of_http_1_0(plain: Process) -> None:
    with talking(plain) as client:
        client.send(b"GET /livez HTTP/1.0\r\n\r\n")
        assert client.rest().endswith(b"\r\n\r\nok\n")


def test_tenants_cannot_read_metrics(plain: Process) -> None:
    with talking(plain) as client:
        status, body = client.get("/metrics")
        assert status == 404
        assert b"tocsin" not in body


def test_file_descriptors_return_to_the_start_whatever_clients_do(tmp_path: Path) -> None:
    with stub(tmp_path, header_ms=2_000, stalled_ms=500) as gateway:
        with talking(gateway) as client:
            client.post()
            client.answer()
        eventually(lambda: metric(gateway, "tocsin_connections") == 0)
        before = descriptors(gateway.pid)
        clients = []
        for number in range(40):
            client = Client(gateway.where, room_bytes=4_096)
            clients.append(client)
            match number % 5:
                case 0:
                    client.send(b"POST /")
                case 1:
                    client.post("flood")
                case 2:
                    client.post("stubborn")
                    client.until(b"begun ")
                    client.socket.close()
                case 3:
                    client.begin("echo")
                    client.until(b"begun ")
                    client.send(b"not a chunk\r\n")
                case 4:
                    client.post()
                    client.answer()
                    client.socket.shutdown(socket.SHUT_WR)
        eventually(lambda: metric(gateway, "tocsin_connections") == 0)
        for client in clients:
            client.socket.close()
        eventually(lambda: descriptors(gateway.pid) <= before + 1)
        in_flight = 'tocsin_requests_in_flight{api="chat"}'
        assert metric(gateway, in_flight) == 0
