"""The promise: a gateway may be killed at any moment, its disk may fail, and its word is kept.

Where an answer ended with `recorded: true`, its receipt is there when the gateway is back, once,
with the alarm that it is about. After a sync that failed no answer says so any more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest
from gateway.processes import SERVE, Client, Process, alive
from store.faults import gateway_kills, traced
from store.faults.environment import PROVE, program, scratch

from tocsin.testing.fake_model import FakeModel


@pytest.mark.slow
def test_a_gateway_that_is_killed_under_streams_loses_and_doubles_no_receipt() -> None:
    with scratch() as folder, FakeModel(gateway_kills.reply) as fake:
        request = gateway_kills.Request(
            folder=str(folder), url=fake.url, cycles=100 if PROVE else 12, seed=1
        )
        out = program("gateway_kills.py", msgspec.json.encode(request).decode())
    found = msgspec.json.decode(out, type=gateway_kills.Outcome)
    assert found.wrong == []
    assert found.cycles == request.cycles
    assert found.recorded > 3 * request.cycles
    assert found.cut >= request.unending * request.cycles


ASKED = {
    "model": "fake-model",
    "stream": True,
    "messages": [{"role": "user", "content": gateway_kills.BAD}],
}


def started(folder: Path, url: str, *prefix: str) -> Process:
    """Start a gateway as users do."""
    config = folder / "gateway.toml"
    config.write_text(gateway_kills.CONFIG.format(url=url, folder=folder))
    at = ("--port", "0", "--metrics", "off")
    return Process([*prefix, sys.executable, "-c", SERVE, str(config), *at])


def answer(gateway: Process) -> bytes | None:
    """Ask for an alarm, and read the answer to its end; None where nobody is there any more."""
    try:
        with Client(gateway.where) as client:
            client.post(body=json.dumps(ASKED).encode())
            status, body = client.answer()
    except (OSError, ValueError):
        return None
    return body if status == 200 else None


@pytest.mark.slow
@pytest.mark.skipif(not traced.works(), reason="strace cannot be used here")
def test_a_gateway_whose_sync_failed_says_so_and_ends() -> None:
    """The third sync of the thread that commits fails, and all that come after it."""
    with scratch() as folder, FakeModel(gateway_kills.reply) as fake:
        with started(folder, fake.url) as gateway:
            assert answer(gateway)
            gateway.send(signal.SIGTERM)
            assert gateway.ended() == 0
        faulty = ("-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=3+")
        log = str(folder / "trace.txt")
        strace = ("strace", "-f", "-qq", "--seccomp-bpf", "-o", log, "-e", "signal=none")
        outcome, receipts, unrecorded = gateway_kills.Outcome(), [], 0
        with started(folder, fake.url, *strace, *faulty) as gateway:
            while alive(gateway.pid) and (body := answer(gateway)) is not None:
                assert body.endswith(b"data: [DONE]\n\n")
                found = gateway_kills.noted(body, outcome)
                receipts += found
                unrecorded += not found
                assert not (found and unrecorded), "recorded after a failure"
            assert gateway.ended() == os.EX_IOERR
        assert unrecorded >= 1
        assert gateway_kills.look(folder, receipts, thoroughly=True) == []
        with started(folder, fake.url) as gateway:
            body = answer(gateway)
            assert body is not None
            assert gateway_kills.noted(body, outcome)
