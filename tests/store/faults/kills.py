"""kill -9 in number: `kills.py REQUEST` forks writers, kills them, and looks at what is left.

A process of its own, without threads, so that a fork costs milliseconds and copies no lock.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from store.faults import checking, workload
from store.faults.workload import Ack, Plan

WAIT_S = 60.0
"""Longest wait for a writer's first word."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Args:
        folder: for the stores. cycles: how often writers are killed. seed: of everything random.
        fresh: so many cycles, a new store is begun.
        url: of a server's store, which is there already; None for SQLite files.
        contents: also keep raw content.
    """

    folder: str
    cycles: int
    seed: int
    fresh: int = 25
    contents: bool = False


class Outcome(msgspec.Struct, kw_only=True):
    """What came of it; `wrong` is empty where nothing was.

    Attributes:
        acks: acknowledged appends; known: of them, given before, and found to be there.
        killed: writers that were killed. early: of them, before their first word.
        doubt: appends that were found, though nobody had been told.
    """

    cycles: int = 0
    acks: int = 0
    known: int = 0
    killed: int = 0
    early: int = 0
    wrong: list[str] = []


class Child:
    """A forked writer; what it says is read until it is dead."""

    def __init__(self, plan: Plan) -> None:
        reading, writing = os.pipe()
        heard, telling = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(telling)
            os.dup2(heard, 0)
            _work(plan, writing, self.before)
        os.close(writing)
        os.close(heard)
        self.reading = reading
        self._telling = telling
        self._rest = b""
        self.lines: list[bytes] = []
        self.acknowledged = 0
        self.ended = False

    def before(self) -> None:
        """Do something in the writer's process before it begins."""

    def read(self) -> None:
        """Read what is there."""
        data = os.read(self.reading, 1 << 16)
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += lines
        self.acknowledged += sum(line.startswith(b"ACK ") for line in lines)

    def tell(self) -> None:
        """Write a line to its standard input."""
        os.write(self._telling, b"\n")

    def kill(self) -> None:
        """End it by force."""
        os.kill(self.pid, signal.SIGKILL)

    def bury(self) -> int:
        """Read to the end, and give the status that it ended with."""
        while not self.ended:
            self.read()
        os.close(self.reading)
        os.close(self._telling)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _work(plan: Plan, writing: int, before: Callable[[], None]) -> None:
    """Be the writer; never returns."""
    status = 70
    try:
        os.dup2(writing, 1)
        before()
        status = workload.follow(plan)
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        os.write(1, b"CRASHED " + traceback.format_exc().replace("\n", "|").encode() + b"\n")
    finally:
        os._exit(status)


def listen(children: Sequence[Child], enough: int, until_s: float) -> None:
    """Read until so many appends were acknowledged, or the time is over, or all have ended."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child.reading, selectors.EVENT_READ, child)
        while selector.get_map() and sum(one.acknowledged for one in children) < enough:
            left = until_s - time.monotonic()
            if left <= 0:
                return
            for key, _ in selector.select(left):
                key.data.read()
                if key.data.ended:
                    selector.unregister(key.data.reading)


def _plans(
    request: Request, folder: Path, acked: dict[str, int], chance: random.Random
) -> list[Plan]:
    names = chance.sample(("one", "two", "three"), chance.randint(1, 3))
    return [
        Plan(
            url=f"sqlite:///{folder / 'db'}",
            keys=str(folder / "keys"),
            writer=name,
            start=max(0, acked.get(name, 0) - 2),
            appends=10_000,
            seed=request.seed,
            mode=chance.choice(("commit", "writer")),
            threads=3,
            batch=chance.choice((1, 1, 5)),
            checkpoint_every=chance.choice((0, 3, 10)),
            period_every=chance.choice((0, 0, 4)),
            reopen_every=chance.choice((0, 0, 7)),
            retries=1000,
            contents=request.contents,
        )
        for name in names
    ]


def cycle(plans: Sequence[Plan], chance: random.Random, outcome: Outcome) -> list[bytes]:
    """Start writers, kill them at some moment, and give everything that they said."""
    children = [Child(plan) for plan in plans]
    if chance.random() < 0.3:  # while they open the store
        listen(children, 10**9, time.monotonic() + chance.random() * 0.08)
    else:
        listen(children, chance.randint(1, 40), time.monotonic() + WAIT_S)
        listen(children, 10**9, time.monotonic() + chance.random() * 0.005)
    chance.shuffle(children)
    for child in children:
        child.kill()
    for child in children:
        status = child.bury()
        outcome.killed += status == -signal.SIGKILL
        outcome.early += not child.acknowledged
        if status != -signal.SIGKILL:
            outcome.wrong.append(f"a writer ended by itself with {status}: {child.lines[-3:]}")
    return [line for child in children for line in child.lines]


def run(request: Request) -> Outcome:
    """Kill writers so many times."""
    chance = random.Random(request.seed)
    outcome = Outcome()
    promised: list[Ack] = []
    acked: dict[str, int] = {}
    folder = Path(request.folder)
    for number in range(request.cycles):
        if number % request.fresh == 0:
            folder = Path(request.folder) / f"store-{number}"
            folder.mkdir()
            promised, acked = [], {}
        said = cycle(_plans(request, folder, acked, chance), chance, outcome)
        new = checking.acks(said)
        promised += new
        for one in new:
            for name, at in _numbers(one):
                acked[name] = max(at, acked.get(name, 0))
        outcome.cycles += 1
        outcome.acks += len(new)
        outcome.known += sum(bool(one.known) for one in new)
        outcome.wrong += [
            f"cycle {number}: {line.decode()}"
            for line in said
            if not line.startswith((b"ACK ", b"AT ", b"REFUSED StoreBusy"))
        ]
        last = number % request.fresh == request.fresh - 1 or number == request.cycles - 1
        wrong = _look(folder, promised, thoroughly=last or chance.random() < 0.2)
        if wrong:
            outcome.wrong.append(f"cycle {number}: {wrong}")
    return outcome


def _numbers(one: Ack) -> Iterator[tuple[str, int]]:
    for id_ in (*one.events, *one.known):
        name, number, *_ = id_.split(".")
        yield name, int(number)


def _look(folder: Path, promised: Sequence[Ack], *, thoroughly: bool) -> str | None:
    wrong = checking.check(folder / "db", promised)
    if wrong is None and not checking.in_order(promised):
        wrong = "doubled: a sequence number was given out twice"
    if wrong is None and thoroughly and (folder / "db").exists():
        wrong = checking.fsck(f"sqlite:///{folder / 'db'}", folder / "keys")
    return wrong


def main(argument: str) -> None:
    """Follow a request; print the outcome."""
    request = msgspec.json.decode(argument, type=Request)
    workload.preload()  # once, before the first fork
    sys.stdout.buffer.write(msgspec.json.encode(run(request)))


if __name__ == "__main__":
    main(sys.argv[1])
