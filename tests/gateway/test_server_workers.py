"""The promise: several processes look like one, and the death of one harms no other's streams."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from gateway.processes import (
    Client,
    Process,
    alive,
    children,
    eventually,
    metric,
    stub,
    talking,
    write,
)


def pids(gateway: Process, count: int) -> set[int]:
    """Ask on new connections until so many workers have answered."""
    seen: set[int] = set()

    def all_seen() -> bool:
        seen.add(pid_of(gateway))
        return len(seen) >= count

    eventually(all_seen)
    return seen


def pid_of(gateway: Process) -> int:
    while True:
        try:
            with talking(gateway) as client:
                client.post()
                return int(json.loads(client.answer()[1])["pid"])
        except ConnectionError:
            continue  # it had come to a worker that is dying


def stream(gateway: Process) -> tuple[Client, int]:
    """Open a stream, and find out which worker has it."""
    client = Client(gateway.where)
    client.post()
    pid = json.loads(client.answer()[1])["pid"]
    client.begin("echo")
    client.until(b"begun ")
    return client, pid


def test_workers_share_a_port_that_the_system_picked(tmp_path: Path) -> None:
    with stub(tmp_path, workers=3) as gateway:
        workers = pids(gateway, 3)
        assert children(gateway.pid) == workers


def test_a_worker_that_dies_is_replaced_and_the_others_streams_go_on(tmp_path: Path) -> None:
    with stub(tmp_path, workers=2) as gateway:
        client, mine = stream(gateway)
        with client:
            (other,) = pids(gateway, 2) - {mine}
            os.kill(other, signal.SIGKILL)
            died = gateway.until_logged("worker_died")
            assert (died["pid"], died["status"]) == (other, -signal.SIGKILL)
            assert other not in pids(gateway, 2)
            client.piece(b"on")
            client.until(b"on")
            client.piece(b"")
            client.until(b"0\r\n\r\n")


def test_a_worker_that_keeps_dying_is_started_with_growing_pauses(tmp_path: Path) -> None:
    with stub(tmp_path, workers=2) as gateway:
        for count in range(1, 6):
            pids(gateway, 1)
            with talking(gateway) as client:
                client.post("die")
                client.rest()
            gateway.until_logged("worker_died", count)
        pauses = [died["again_ms"] for died in gateway.logged("worker_died")]
        assert pauses[0] == 100
        assert max(pauses) >= 200
        assert {died["status"] for died in gateway.logged("worker_died")} == {9}


def test_workers_drain_together(tmp_path: Path) -> None:
    with stub(tmp_path, workers=2) as gateway:
        streams = [stream(gateway)[0] for _ in range(6)]
        gateway.send(signal.SIGTERM)
        gateway.until_logged("draining", 2)
        for client in streams:
            with client:
                client.piece(b"still")
                client.until(b"still")
                client.piece(b"")
                client.until(b"0\r\n\r\n")
        assert gateway.ended() == 0


def test_each_worker_reloads_and_a_bad_file_changes_none(tmp_path: Path) -> None:
    with stub(tmp_path, workers=2) as gateway:
        pids(gateway, 2)
        write(tmp_path, digest="two")
        gateway.send(signal.SIGHUP)
        gateway.until_logged("reloaded", 2)
        write(tmp_path, digest="three", nonsense=1)
        gateway.send(signal.SIGHUP)
        gateway.until_logged("config_invalid", 2)
        digests = set()
        for _ in range(20):
            with talking(gateway) as client:
                client.post()
                digests.add(json.loads(client.answer()[1])["digest"])
        assert digests == {"two"}


def test_metrics_add_up_over_all_workers_and_those_that_died(tmp_path: Path) -> None:
    with stub(tmp_path, workers=2) as gateway:
        for _ in range(10):
            pid_of(gateway)
        doomed = next(iter(pids(gateway, 2)))
        os.kill(doomed, signal.SIGKILL)
        gateway.until_logged("worker_died")
        pids(gateway, 2)
        gateway.until_logged("request", 11)
        asked = len(gateway.logged("request"))
        eventually(lambda: metric(gateway, 'tocsin_requests_in_flight{api="chat"}') == 0)
        started = metric(gateway, 'tocsin_requests_started_total{api="chat"}')
        ended = metric(gateway, 'tocsin_requests_ended_total{api="chat",outcome="ok",route="all"}')
        assert started == ended
        assert started >= asked
        assert metric(gateway, "tocsin_ready") == 1


def test_the_limit_of_streams_is_that_of_all_workers_together(tmp_path: Path) -> None:
    with stub(tmp_path, workers=2, streams_max=2) as gateway:
        pids(gateway, 2)
        held: dict[int, Client] = {}

        def one_each() -> bool:
            client = Client(gateway.where)
            client.begin("echo")
            head = client.until(b"\r\n\r\n")
            if b" 200 " in head.split(b"\r\n")[0]:
                held[len(held)] = client
            else:
                client.socket.close()
            return len(held) == 2

        eventually(one_each)
        for _ in range(10):
            with talking(gateway) as client:
                client.post()
                assert client.answer()[0] == 503
        for client in held.values():
            client.socket.close()


def test_workers_end_in_order_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with stub(tmp_path, workers=2) as gateway:
        workers = pids(gateway, 2)
        client, _ = stream(gateway)
        with client:
            gateway.send(signal.SIGKILL)
            gateway.until_logged("draining", 2)
            client.piece(b"on")
            client.until(b"on")
            client.piece(b"")
        eventually(lambda: not any(alive(pid) for pid in workers))


def test_the_folder_of_counters_is_private_and_removed(tmp_path: Path) -> None:
    with stub(tmp_path, workers=2) as gateway:
        pids(gateway, 2)
        (made,) = tmp_path.glob("tocsin-metrics-*")
        assert made.stat().st_mode & 0o077 == 0
        gateway.send(signal.SIGTERM)
        assert gateway.ended() == 0
        assert not made.exists()
