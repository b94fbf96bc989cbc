"""The promise: a process starts whole or not at all, and no order to stop or to reload breaks a
stream that is open."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from gateway.processes import Client, metric, stub, talking, write

ENDED = b"\r\n0\r\n\r\n"
"""The last bytes of an answer in chunks: a client can tell that it is complete."""


def test_a_process_listens_once_it_is_ready_and_ends_when_told(tmp_path: Path) -> None:
    with stub(tmp_path) as gateway:
        with talking(gateway) as client:
            assert client.get("/livez") == (200, b"ok\n")
            assert client.get("/readyz") == (200, b"ok\n")
        gateway.send(signal.SIGTERM)
        assert gateway.ended() == 0
        assert gateway.until_logged("stopped")["cut_off"] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_configuration_is_one_line_and_nothing_listens(tmp_path: Path, workers: int) -> None:
    with stub(tmp_path, workers=workers, nonsense=1) as gateway:
        assert gateway.ended() == 1
        assert [f"error: {tmp_path / 'site.json'}: TypeError\n"] == gateway.lines
        assert gateway.out == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_is_an_error_not_a_share_of_its_clients(
    tmp_path: Path, workers: int
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with stub(first, workers=workers) as gateway:
        host, port = gateway.where
        with stub(second, port=port, workers=workers) as other:
            assert other.ended() == 1
            assert other.out == []
            assert f"error: cannot listen on {host}" in other.lines[-1]


def test_an_open_stream_goes_on_while_the_process_drains(tmp_path: Path) -> None:
    with stub(tmp_path) as gateway, talking(gateway) as client:
        client.begin("echo")
        client.until(b"begun ")
        gateway.send(signal.SIGTERM)
        assert gateway.until_logged("draining")["under_way"] == 1
        client.piece(b"still here")
        client.until(b"still here")
        client.piece(b"")
        assert client.rest().endswith(ENDED.lstrip())
        assert gateway.ended() == 0


def test_nothing_is_accepted_and_readiness_is_off_while_the_process_drains(tmp_path: Path) -> None:
    with stub(tmp_path) as gateway, talking(gateway) as client, Client(gateway.metrics) as watcher:
        assert watcher.get("/readyz") == (200, b"ok\n")
        client.begin("echo")
        client.until(b"begun ")
        gateway.send(signal.SIGTERM)
        gateway.until_logged("draining")
        assert watcher.get("/readyz") == (503, b"draining\n")
        assert watcher.get("/livez") == (200, b"ok\n")
        with pytest.raises(ConnectionRefusedError), talking(gateway):
            pass
        client.piece(b"")
        assert gateway.ended() == 0


def test_an_idle_connection_is_closed_when_the_process_drains(tmp_path: Path) -> None:
    with stub(tmp_path) as gateway, talking(gateway) as idle, talking(gateway) as client:
        idle.post()
        assert idle.answer()[0] == 200
        client.begin("echo")
        client.until(b"begun ")
        gateway.send(signal.SIGINT)
        assert idle.rest() == b""
        client.piece(b"")
        client.rest()
        assert gateway.ended() == 0


def test_a_stream_that_outlives_its_time_is_told_and_ends_validly(tmp_path: Path) -> None:
    with stub(tmp_path, drain_ms=100) as gateway, talking(gateway) as client:
        client.begin("echo")
        client.until(b"begun ")
        gateway.send(signal.SIGTERM)
        told = client.rest()
        assert b"told" in told
        assert told.endswith(ENDED)
        assert gateway.ended() == 0


def test_a_stream_that_does_not_listen_is_cut_off_and_the_status_says_so(tmp_path: Path) -> None:
    with stub(tmp_path, drain_ms=0) as gateway, talking(gateway) as client:
        client.post("stubborn")
        client.until(b"begun ")
        gateway.send(signal.SIGTERM)
        assert not client.rest().endswith(ENDED)
        assert gateway.ended() == 1
        assert gateway.until_logged("stopped")["cut_off"] == 1


def test_a_second_order_ends_the_process_at_once(tmp_path: Path) -> None:
    with stub(tmp_path, drain_ms=600_000) as gateway, talking(gateway) as client:
        client.begin("echo")
        client.until(b"begun ")
        gateway.send(signal.SIGTERM)
        gateway.until_logged("draining")
        gateway.send(signal.SIGTERM)
        assert client.rest().endswith(ENDED)  # it could still be told
        assert gateway.ended() == 0


def test_a_request_whose_body_is_on_its_way_is_answered_while_the_process_drains(
    tmp_path: Path,
) -> None:
    with stub(tmp_path) as gateway, talking(gateway) as client:
        client.begin("ok")
        client.piece(b"first")
        with talking(gateway) as other:
            other.post()
            other.answer()
        gateway.send(signal.SIGTERM)
        gateway.until_logged("draining")
        client.piece(b"second")
        client.piece(b"")
        status, body = client.answer()
        assert status == 200
        assert b'"size": 11' in body
        assert gateway.ended() == 0


def test_a_reload_takes_a_new_configuration_and_open_streams_go_on(tmp_path: Path) -> None:
    with stub(tmp_path) as gateway, talking(gateway) as stream, talking(gateway) as client:
        stream.begin("echo")
        stream.until(b"begun ")
        write(tmp_path, digest="two")
        gateway.send(signal.SIGHUP)
        assert gateway.until_logged("reloaded")["digest"] == "two"
        client.post()
        assert b'"two"' in client.answer()[1]
        stream.piece(b"on")
        stream.until(b"on")
        assert metric(gateway, 'tocsin_reloads_total{result="ok"}') == 1


def test_a_bad_configuration_changes_nothing_when_it_is_reloaded(tmp_path: Path) -> None:
    with stub(tmp_path) as gateway, talking(gateway) as client:
        gateway.where  # noqa: B018 - it listens
        (tmp_path / "site.json").write_text('{"digest": "two", "nonsense": 1}')
        gateway.send(signal.SIGHUP)
        said = gateway.until_logged("config_invalid")
        assert said["why"] == f"{tmp_path / 'site.json'}: TypeError"
        client.post()
        assert b'"one"' in client.answer()[1]
        assert metric(gateway, 'tocsin_reloads_total{result="config_invalid"}') == 1
        failed = 'tocsin_failures_total{failure="config_invalid",response="keep_last",route=""}'
        assert metric(gateway, failed) == 1


def test_the_access_log_has_a_line_for_each_request_and_no_query(tmp_path: Path) -> None:
    with stub(tmp_path) as gateway, talking(gateway) as client:
        client.post("ok&key=abc", headers=b"Authorization: Bearer sesame\r\n")
        client.answer()
        line = gateway.until_logged("request")
        assert set(line) == {
            "time", "event", "tenant", "route", "api", "status", "outcome", "ms", "chars",
            "receipt", "path",
        }  # fmt: skip
        assert (line["tenant"], line["route"], line["api"]) == ("acme", "all", "chat")
        assert (line["status"], line["outcome"], line["receipt"]) == (200, "ok", "r_1")
        assert "sesame" not in str(gateway.lines)
        assert "abc" not in str(gateway.lines)


def test_a_fault_is_answered_and_logged_without_its_words(tmp_path: Path) -> None:
    with stub(tmp_path) as gateway, talking(gateway) as client:
        client.post("fail")
        status, body = client.answer()
        assert (status, body) == (500, b"")
        assert gateway.until_logged("fault")["error"] == "ValueError"
        assert gateway.until_logged("request")["outcome"] == "broken"
        assert "words of somebody" not in str(gateway.lines)


def test_a_client_that_leaves_is_logged_as_gone(tmp_path: Path) -> None:
    with stub(tmp_path) as gateway:
        with talking(gateway) as client:
            client.post("stubborn")
            client.until(b"begun ")
        line = gateway.until_logged("request")
        assert line["status"] is None
