"""kill -9 of a PostgreSQL server under writers, which wait and go on: `crashing.py REQUEST`."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from gateway.processes import alive
from store.faults import checking, workload
from store.faults.kills import WAIT_S, Child, listen
from store.faults.workload import Plan
from store.postgres import Server


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Args:
        folder: for keys and copies. crashes: how often the server is killed.
        seed: of everything random.
    """

    folder: str
    crashes: int
    seed: int


class Outcome(msgspec.Struct, kw_only=True):
    """What came of it; `wrong` is empty where nothing was.

    Attributes:
        refused: how often a writer was told to try again. known: appends that were there already
            when they were given again, though their writer had never been told.
    """

    crashes: int = 0
    acks: int = 0
    refused: int = 0
    known: int = 0
    wrong: list[str] = []


def crash(server: Server) -> None:
    """Kill every process of the server at once."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    server.process.kill()
    for child in map(int, children):
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    server.process.wait()
    while any(alive(int(child)) for child in children):
        time.sleep(0.005)


def run(request: Request) -> Outcome:
    """Let writers write through so many crashes."""
    chance, outcome = random.Random(request.seed), Outcome()
    folder, server = Path(request.folder), Server()
    try:
        url = server.url()
        plans = [
            Plan(
                url=url,
                keys=str(folder / "keys"),
                writer=name,
                appends=100_000,
                seed=request.seed,
                mode=mode,
                threads=4,
                batch=3,
                retries=100_000,
                pause_s=0.1,
            )
            for name, mode in (("one", "commit"), ("two", "writer"), ("three", "commit"))
        ]
        said = _crash_and_go_on(request, server, plans, chance, outcome)
        _look(url, folder, said, outcome)
    finally:
        server.stop()
    return outcome


def _crash_and_go_on(
    request: Request,
    server: Server,
    plans: Sequence[Plan],
    chance: random.Random,
    outcome: Outcome,
) -> list[bytes]:
    children = [Child(plan) for plan in plans]
    for child in children:  # who has not begun has no connection to lose
        listen([child], 1, time.monotonic() + WAIT_S)
    for _ in range(request.crashes):
        seen = sum(child.acknowledged for child in children)
        listen(children, seen + chance.randint(5, 60), time.monotonic() + WAIT_S)
        listen(children, 10**9, time.monotonic() + chance.random() * 0.01)
        crash(server)
        server.start()
        outcome.crashes += 1
    seen = sum(child.acknowledged for child in children)
    listen(children, seen + 50, time.monotonic() + WAIT_S)
    for child in children:
        child.kill()
    for child in children:
        status = child.bury()
        if status != -signal.SIGKILL:
            outcome.wrong.append(f"a writer ended by itself with {status}: {child.lines[-3:]}")
    return [line for child in children for line in child.lines]


def _look(url: str, folder: Path, said: Sequence[bytes], outcome: Outcome) -> None:
    promised = checking.acks(said)
    outcome.acks = len(promised)
    outcome.refused = sum(line.startswith(b"REFUSED") for line in said)
    outcome.known = sum(bool(one.known) for one in promised)
    outcome.wrong += [
        line.decode()
        for line in said
        if not line.startswith((b"ACK ", b"AT ", b"REFUSED StoreBusy", b"REFUSED StoreAway"))
    ]
    checking.copy(url, folder / "copy")
    wrong = checking.check(folder / "copy", promised) or checking.fsck(url, folder / "keys")
    if wrong is None and not checking.in_order(promised):
        wrong = "doubled: a sequence number was given out twice"
    if wrong:
        outcome.wrong.append(wrong)


def main(argument: str) -> None:
    """Follow a request; print the outcome."""
    workload.preload()
    sys.stdout.buffer.write(msgspec.json.encode(run(msgspec.json.decode(argument, type=Request))))


if __name__ == "__main__":
    main(sys.argv[1])
