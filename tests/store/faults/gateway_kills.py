"""kill -9 of whole gateways under live streams: `gateway_kills.py REQUEST`.

A process of its own, without threads, which forks gateways and is their client.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import selectors
import signal
import socket
import sqlite3
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from gateway.processes import alive, children, eventually
from store.faults import checking, workload
from store.faults.workload import Ack

from tocsin import limits
from tocsin.testing.fake_model import Choice, Exchange, Fault, Reply

WAIT_S = 60.0
"""Longest wait for a gateway to listen, and for an answer."""

PATIENCE_MS = 30_000
"""How long disk and machine may take: this is about what is lost, not about what is late."""

TENANT = "local"
ENDING = b"\r\n0\r\n\r\n"
NOTE = b": tocsin "
BAD = "alarming"
"""Word of a request that the model answers with what must not be shown."""

UNENDING = "unending"
"""Word of a request whose answer the model begins and never ends."""

CONFIG = """
open_to_all = true

[upstreams.one]
url = "{url}/v1"

[[routes]]
name = "all"

[policies.default]
checks = [{{ verifier = "patterns", findings = {{ "*" = "halt" }} }}]

[record]
store = "{folder}/db"
keys = "{folder}/keys"
log = "gateway.example/log"
period_s = 1.0
"""


CARD = "My card is 4111 1111 1111 1111. "


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Args:
        folder: for the store and all else. url: of the model.
        cycles: how often a gateway is killed. seed: of everything random.
        streams: open at once. unending: so many of them are amid an answer at every kill.
    """

    folder: str
    url: str
    cycles: int
    seed: int
    streams: int = 12
    unending: int = 2


class Outcome(msgspec.Struct, kw_only=True):
    """What came of it; `wrong` is empty where nothing was.

    Attributes:
        answers: that came whole. recorded: of them, those that said that their receipt was.
        cut: answers that the kill cut off.
    """

    cycles: int = 0
    answers: int = 0
    recorded: int = 0
    cut: int = 0
    wrong: list[str] = []


class Gateway:
    """A forked gateway."""

    def __init__(self, config: Path, log: Path, workers: int) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _serve(config, log, workers, writing)
        os.close(writing)
        said, until_s = b"", time.monotonic() + WAIT_S
        while b"/" not in said.partition(b"http://")[2] and b"\n" not in said:
            data = os.read(reading, 4096)
            if not data or time.monotonic() > until_s:
                raise RuntimeError(f"no gateway: {said!r} {log.read_text()[-2000:]}")
            said += data
        os.close(reading)
        host, _, port = said.decode().partition("http://")[2].split()[0].strip("/").partition(":")
        self.where = host, int(port)

    def kill(self) -> None:
        """End it at once, with its workers."""
        workers = children(self.pid)
        for pid in (self.pid, *workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        eventually(lambda: not any(alive(pid) for pid in workers))


def _serve(config: Path, log: Path, workers: int, writing: int) -> None:
    """Be the gateway; never returns."""
    status = 70
    try:
        os.dup2(writing, 1)
        errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(errors, 2)
        from tocsin.cli.serve import command

        at = ["--port", "0", "--metrics", "off", "--workers", str(workers)]
        command([str(config), *at], standalone_mode=False)
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 1
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


class Stream:
    """One question after the other on one connection."""

    def __init__(
        self, where: tuple[str, int], name: str, chance: random.Random, word: str | None
    ) -> None:
        self.socket = socket.create_connection(where, WAIT_S)
        self._name, self._chance, self._asked = name, chance, 0
        self._word = word
        self._data = b""
        self.answers: list[bytes] = []
        self.over = False
        self.ask()

    def ask(self) -> None:
        """Ask the next question."""
        self._asked += 1
        word = self._word or (BAD if self._chance.random() < 0.6 else "calm")
        asked = {
            "model": "fake-model",
            "stream": True,
            "messages": [{"role": "user", "content": f"Say something {word}."}],
        }
        body = json.dumps(asked).encode()
        with contextlib.suppress(OSError):
            self.socket.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"x-request-id: %s-%d\r\nContent-Length: %d\r\n\r\n%s"
                % (self._name.encode(), self._asked, len(body), body)
            )

    def read(self) -> None:
        """Read what is there; ask again after a whole answer."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self._data += data
        if not data:
            self.over = True
        elif self._data.endswith(ENDING):
            self.answers.append(self._data)
            self._data = b""
            self.ask()

    @property
    def cut(self) -> bool:
        """Whether an answer has begun and not ended."""
        return bool(self._data)


def _read(streams: Sequence[Stream], enough: Callable[[], bool], until_s: float) -> None:
    """Read until it is enough, or the time is over, or nobody answers any more."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            if not stream.over:
                selector.register(stream.socket, selectors.EVENT_READ, stream)
        while selector.get_map() and not enough():
            left = until_s - time.monotonic()
            if left <= 0:
                return
            for key, _ in selector.select(left):
                key.data.read()
                if key.data.over:
                    selector.unregister(key.data.socket)


def never() -> bool:
    """Say that it is not enough yet."""
    return False


def cycle(gateway: Gateway, request: Request, name: str, chance: random.Random) -> list[Stream]:
    """Keep a gateway busy, and kill it at some moment, amid some answers."""
    streams = [
        Stream(
            gateway.where,
            f"{name}-{number}",
            chance,
            UNENDING if number < request.unending else None,
        )
        for number in range(request.streams)
    ]
    answers = chance.randint(0, 40)

    def enough() -> bool:
        begun = all(stream.cut for stream in streams[: request.unending])
        return begun and sum(len(stream.answers) for stream in streams) >= answers

    _read(streams, enough, time.monotonic() + WAIT_S)
    _read(streams, never, time.monotonic() + chance.random() * 0.03)
    gateway.kill()
    _read(streams, never, time.monotonic() + WAIT_S)
    for stream in streams:
        stream.socket.close()
    return streams


def run(request: Request) -> Outcome:
    """Kill gateways so many times, all of them on one store."""
    chance, outcome, folder = random.Random(request.seed), Outcome(), Path(request.folder)
    config, log = folder / "gateway.toml", folder / "log"
    from tocsin.gateway import building

    config.write_text(CONFIG.format(url=request.url, folder=folder))
    building.load(str(config))  # once: what it compiles is kept
    receipts: list[str] = []
    for number in range(request.cycles):
        gateway = Gateway(config, log, chance.choice((1, 1, 2)))
        streams = cycle(gateway, request, f"c{number}", chance)
        outcome.cycles += 1
        outcome.cut += sum(stream.cut for stream in streams)
        for answer in (one for stream in streams for one in stream.answers):
            outcome.answers += 1
            receipts += noted(answer, outcome)
        wrong = look(folder, receipts, thoroughly=number % 5 == 4 or number + 1 == request.cycles)
        outcome.wrong += [f"cycle {number}: {one}" for one in wrong]
    outcome.recorded = len(receipts)
    return outcome


def noted(answer: bytes, outcome: Outcome) -> list[str]:
    """Give the receipt of an answer that says that it was recorded."""
    note = json.loads(answer.partition(NOTE)[2].partition(b"\n")[0])
    if note["recorded"] is False or (note["alarms"] > 0) != (note["recorded"] is True):
        outcome.wrong.append(f"not recorded: {note}")
    return [note["receipt"]] if note["recorded"] else []


def look(folder: Path, receipts: Sequence[str], *, thoroughly: bool) -> list[str]:
    """Give what is wrong with a record that was promised to hold some receipts."""
    promised = [Ack(tenant=TENANT, entries=tuple(receipts))] if receipts else []
    found = [checking.check(folder / "db", promised)]
    if len(set(receipts)) != len(receipts):
        found.append("doubled: a receipt was given to two answers")
    if checking.begun(folder / "db"):
        found.append(_stories(folder / "db", receipts))
        if thoroughly:
            found.append(checking.fsck(f"sqlite:///{folder / 'db'}", folder / "keys"))
    return [one for one in found if one is not None]


def _stories(database: Path, receipts: Sequence[str]) -> str | None:
    """See that each answer that was recorded has its alarm, and one end; no other has two."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT call, kind FROM events WHERE kind IN ('alarm', 'stream.ended')"
        ).fetchall()
        ids = connection.execute("SELECT id FROM entries WHERE kind = 'receipt'").fetchall()
    counts = Counter(rows)
    twice = [call for (call, kind), count in counts.items() if kind == "stream.ended" and count > 1]
    if twice:
        return f"doubled: the end of {twice[:3]}"
    for (receipt,) in ids:
        if counts[receipt, "alarm"] < 1 or counts[receipt, "stream.ended"] != 1:
            return f"torn: receipt {receipt} without its alarm or its end"
    lost = [one for one in receipts if (one,) not in set(ids)]
    return f"lost: {lost[:3]}" if lost else None


def reply(exchange: Exchange) -> Reply:
    """Answer as the question wants it, for some while or at once."""
    bad = BAD in str(exchange.body)
    text = "The sea is calm today. " * 8 + (CARD if bad else "") + "And so it stays. " * 8
    hang = (Fault(kind="hang", after_frames=5),) if UNENDING in str(exchange.body) else ()
    return Reply(choices=(Choice(text=text),), cut=12, pause_ms=(0.5,) * 10, faults=hang)


def main(argument: str) -> None:
    """Follow a request; print the outcome."""
    # Before the gateway is imported.
    limits.RECORD_WAIT_MS = limits.RECORD_SLOW_MS = limits.LAG_MS_MAX = PATIENCE_MS
    workload.preload()
    import tocsin.cli.serve
    import tocsin.gateway.app  # no part that counts: it wants to be loaded in each worker
    import tocsin.verifiers.patterns  # noqa: F401

    sys.stdout.buffer.write(msgspec.json.encode(run(msgspec.json.decode(argument, type=Request))))


if __name__ == "__main__":
    main(sys.argv[1])
