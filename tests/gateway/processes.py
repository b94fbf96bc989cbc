"""A gateway in a process of its own, and a client that writes bytes as they are."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

WAIT_S = 60.0
"""Longest wait for what has to happen."""

PROGRAM = Path(__file__).with_name("stub_gateway.py")

HASTY = "from tocsin.cli.serve import command; command()"
"""Serves as `tocsin serve` does, with its arguments."""

SERVE = f"""
from tocsin import limits
limits.RECORD_WAIT_MS = limits.RECORD_SLOW_MS = limits.ENDING_MS_MAX = limits.LAG_MS_MAX = 30_000
{HASTY}
"""
"""The same with patience: a disk is slow where a test says so, a process late where it is held, and
neither where the machine has other things to do."""


class Process:
    """A running gateway.

    Attributes:
        lines: what it has logged, decoded; a line that is no JSON is a string.
    """

    def __init__(self, command: list[str], **environment: str) -> None:
        self._changed = threading.Condition()
        self.lines: list[Any] = []
        self.out: list[str] = []
        self._popen = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._threads = [
            threading.Thread(target=self._read, args=(stream, take), daemon=True)
            for stream, take in (
                (self._popen.stdout, self.out.append),
                (self._popen.stderr, self._line),
            )
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: Any, take: Callable[[str], None]) -> None:
        for line in stream:
            with self._changed:
                take(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _line(self, line: str) -> None:
        try:
            self.lines.append(json.loads(line))
        except ValueError:
            self.lines.append(line)

    def until(self, seen: Callable[[], bool]) -> None:
        """Wait until something is seen in what the process writes."""
        with self._changed:
            if not self._changed.wait_for(seen, WAIT_S):
                raise TimeoutError(f"{self.out} {self.lines}")

    def logged(self, event: str) -> list[dict[str, Any]]:
        """All log lines of one kind."""
        return [one for one in self.lines if isinstance(one, dict) and one.get("event") == event]

    def until_logged(self, event: str, count: int = 1) -> dict[str, Any]:
        """Wait for a log line; give the last of its kind."""
        self.until(lambda: len(self.logged(event)) >= count)
        return self.logged(event)[-1]

    @property
    def where(self) -> tuple[str, int]:
        """Where it listens, once it does."""
        return self._address("listening on http://")

    @property
    def metrics(self) -> tuple[str, int]:
        """Where its metrics are."""
        return self._address("metrics on http://")

    def _address(self, said: str) -> tuple[str, int]:
        self.until(lambda: any(said in line for line in self.out) or not alive(self.pid))
        (line,) = (line for line in self.out if said in line)
        host, port = line.split(said)[1].split("/")[0].split(":")
        return host, int(port)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self._popen.pid, number)

    def ended(self) -> int:
        """Wait for its end; give the exit status."""
        status = self._popen.wait(WAIT_S)
        for thread in self._threads:
            thread.join(WAIT_S)
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._popen.poll() is None:
            self._popen.terminate()
            try:
                self._popen.wait(5)
            except subprocess.TimeoutExpired:
                self._popen.kill()
        self._popen.wait()
        for thread in self._threads:
            thread.join(WAIT_S)
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()


def stub(folder: Path, **site: Any) -> Process:
    """Start the stub gateway; fields of the site as they are given."""
    write(folder, **site)
    command = [sys.executable, str(PROGRAM), str(folder / "site.json")]
    return Process(command, TMPDIR=str(folder))


def write(folder: Path, **site: Any) -> None:
    """Write the stub's configuration."""
    (folder / "site.json").write_text(json.dumps({"port": 0, "digest": "one", **site}))


class Client:
    """A connection that writes and reads bytes."""

    def __init__(self, where: tuple[str, int], *, room_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if room_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room_bytes)
        self.socket.settimeout(WAIT_S)
        try:
            self.socket.connect(where)
        except OSError:
            self.socket.close()
            raise
        self._rest = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def post(self, do: str = "ok", body: bytes = b"{}", headers: bytes = b"") -> None:
        """Send a request."""
        self.send(
            b"POST /v1/chat/completions?do=%s HTTP/1.1\r\nHost: localhost\r\n%s"
            b"Content-Length: %d\r\n\r\n%s" % (do.encode(), headers, len(body), body)
        )

    def begin(self, do: str = "echo") -> None:
        """Send a request whose body goes on."""
        self.send(
            b"POST /v1/chat/completions?do=%s HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" % do.encode()
        )

    def piece(self, data: bytes) -> None:
        """Send a piece of such a body; the last one is empty."""
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask for a path, and give status and body."""
        self.send(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        return self.answer()

    def until(self, ending: bytes) -> bytes:
        """Read up to and with some bytes."""
        while ending not in self._rest:
            data = self.socket.recv(65_536)
            if not data:
                raise ConnectionError(f"ended after {self._rest!r}")
            self._rest += data
        at = self._rest.index(ending) + len(ending)
        taken, self._rest = self._rest[:at], self._rest[at:]
        return taken

    def answer(self) -> tuple[int, bytes]:
        """Read one answer with its body."""
        head = self.until(b"\r\n\r\n").lower()
        status = int(head.split()[1])
        if b"transfer-encoding: chunked" in head:
            body = b""
            while size := int(self.until(b"\r\n"), 16):
                self._more(size + 2)
                body += self._rest[:size]
                self._rest = self._rest[size + 2 :]
            self.until(b"\r\n")
            return status, body
        size = int(head.split(b"content-length:")[1].split()[0])
        self._more(size)
        body, self._rest = self._rest[:size], self._rest[size:]
        return status, body

    def _more(self, size: int) -> None:
        while len(self._rest) < size:
            data = self.socket.recv(65_536)
            if not data:
                raise ConnectionError("ended within an answer")
            self._rest += data

    def rest(self) -> bytes:
        """Read to the end of the connection."""
        try:
            while data := self.socket.recv(65_536):
                self._rest += data
        except ConnectionResetError:
            pass
        return self._rest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@contextmanager
def talking(process: Process) -> Iterator[Client]:
    """Connect to a gateway."""
    with Client(process.where) as client:
        yield client


def eventually(seen: Callable[[], bool]) -> None:
    """Ask again and again, without a pause longer than a turn, until something is so."""
    until_s = time.monotonic() + WAIT_S
    while not seen():
        if time.monotonic() > until_s:
            raise TimeoutError("it did not happen")


def metric(process: Process, line: str) -> float:
    """Give the value of one metric, by its name and labels."""
    with Client(process.metrics) as client:
        status, body = client.get("/metrics")
    assert status == 200
    for one in body.decode().splitlines():
        if one.startswith(line + " "):
            return float(one.rpartition(" ")[2])
    return 0.0


def rss_bytes(pid: int) -> int:
    """Give the memory that a process takes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def children(pid: int) -> set[int]:
    """Give the processes that a process has started."""
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pid: int) -> bool:
    """Say whether a process is still there; one that nobody waits for is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def descriptors(pid: int) -> int:
    """Count the file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
