"""The promise: `tocsin serve` is the gateway, from the command line to a stream's last byte."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from gateway.processes import SERVE, Client, Process, alive, children, eventually, metric, rss_bytes

from tocsin.cli.main import cli
from tocsin.testing.fake_model import Choice, FakeModel, Fault, Reply

RSS_BYTES_MAX = 100 * 1024 * 1024
"""What an idle process may take, with rules and a linear model loaded."""

CONFIG = """
open_to_all = true

[upstreams.one]
url = "{url}/v1"

[[routes]]
name = "all"

[policies.default]
checks = [
  {{ verifier = "patterns", findings = {{ "*" = "halt" }} }},
  {{ verifier = "linear:harmful_answer", calibration = "demonstration", epsilon = 0.05 }},
]

[limits]
drain_ms = {drain_ms}
"""

ASKED = b'{"model": "fake-model", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'


def serve(folder: Path, url: str, *more: str, drain_ms: int = 30_000) -> Process:
    """Start the gateway as users do."""
    config = folder / "gateway.toml"
    config.write_text(CONFIG.format(url=url, drain_ms=drain_ms))
    at = ["--port", "0", "--metrics", "127.0.0.1:0"]
    return Process([sys.executable, "-c", SERVE, str(config), *at, *more], TMPDIR=str(folder))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stream_goes_through_and_is_counted(tmp_path: Path, workers: int) -> None:
    with FakeModel() as fake, serve(tmp_path, fake.url, "--workers", str(workers)) as gateway:
        with Client(gateway.where) as client:
            client.post(body=ASKED)
            status, body = client.answer()
        assert status == 200
        assert b"data: [DONE]" in body
        ended = 'tocsin_requests_ended_total{api="chat",outcome="ok",route="all"}'
        eventually(lambda: metric(gateway, ended) == 1)
        line = gateway.until_logged("request")
        assert (line["tenant"], line["route"], line["outcome"]) == ("local", "all", "ok")
        gateway.send(signal.SIGTERM)
        assert gateway.ended() == 0


def test_an_open_stream_ends_validly_when_its_time_is_over(tmp_path: Path) -> None:
    said = Choice(text="The sea is calm. " * 400)
    reply = Reply(choices=(said,), faults=(Fault(kind="hang", after_frames=300),))
    with FakeModel(reply) as fake, serve(tmp_path, fake.url, drain_ms=100) as gateway:
        with Client(gateway.where) as client:
            client.post(body=ASKED)
            client.until(b"calm")
            gateway.send(signal.SIGTERM)
            told = client.rest()
        assert b'"finish_reason":"content_filter"' in told
        assert b"data: [DONE]" in told
        assert told.endswith(b"0\r\n\r\n")
        assert gateway.ended() == 0
        fake.wait(closed=1)


def test_an_idle_process_is_small(tmp_path: Path) -> None:
    with FakeModel() as fake, serve(tmp_path, fake.url) as gateway:
        assert gateway.where
        assert rss_bytes(gateway.pid) < RSS_BYTES_MAX


def test_a_supervisor_is_smaller_than_its_workers_and_ends_with_them(tmp_path: Path) -> None:
    with FakeModel() as fake, serve(tmp_path, fake.url, "--workers", "2") as gateway:
        assert gateway.where
        workers = children(gateway.pid)
        assert len(workers) == 2
        assert rss_bytes(gateway.pid) < min(rss_bytes(pid) for pid in workers) / 2
        gateway.send(signal.SIGINT)
        assert gateway.ended() == 0
        assert not any(alive(pid) for pid in workers)


@pytest.mark.parametrize(
    "metrics", ["nonsense", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ":"]
)
def test_an_address_that_is_none_is_refused(metrics: str) -> None:
    result = CliRunner().invoke(cli, ["serve", "gateway.toml", "--metrics", metrics])
    assert result.exit_code == 2
    assert "give HOST:PORT, or off" in result.output


def test_the_help_has_an_example() -> None:
    result = CliRunner().invoke(cli, ["serve", "--help"])
    assert "tocsin serve gateway.toml --workers 4" in result.output


def test_a_missing_package_is_named_with_its_extra() -> None:
    hidden = "import sys; sys.modules['aiohttp'] = None; from tocsin.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "serve", "gateway.toml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'tocsin[serve]'" in done.stderr
