"""System calls that fail, one a run: what has to come of it, and what is left."""

from __future__ import annotations

import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
from store.faults import checking, injecting, traced
from store.faults.environment import environment, plan, program, scratch
from store.faults.injecting import Ran
from store.faults.workload import EX_IOERR, PROGRAM_FILE

WAYS: dict[str, dict[str, object]] = {
    "commits": {"appends": 5, "checkpoint_every": 2, "reopen_every": 3, "retries": 3},
    "a writer": {"appends": 6, "mode": "writer", "threads": 1, "retries": 3},
}

FAULTS = [
    ("commits", "fdatasync", "error=EIO"),
    ("commits", "fdatasync", "error=ENOSPC"),
    ("commits", "fdatasync", "signal=KILL"),
    ("commits", "fsync", "error=EIO"),
    ("commits", "fsync", "signal=KILL"),
    ("commits", "pwrite64", "error=EIO"),
    ("commits", "pwrite64", "error=ENOSPC"),
    ("commits", "pwrite64", "signal=KILL"),
    ("commits", "ftruncate", "error=EIO"),
    ("commits", "ftruncate", "signal=KILL"),
    ("commits", "unlink", "error=EIO"),
    ("commits", "unlink", "signal=KILL"),
    ("commits", "rename", "error=ENOSPC"),
    ("commits", "rename", "signal=KILL"),
    ("commits", "link", "error=ENOSPC"),
    ("commits", "link", "signal=KILL"),
    ("a writer", "fdatasync", "error=EIO"),
    ("a writer", "pwrite64", "error=EIO"),
    ("a writer", "pwrite64", "error=ENOSPC"),
    ("a writer", "pwrite64", "signal=KILL"),
]

FEW = [
    ("commits", "fdatasync", "error=EIO"),
    ("commits", "fdatasync", "signal=KILL"),
    ("commits", "fsync", "error=EIO"),
    ("commits", "pwrite64", "error=ENOSPC"),
    ("commits", "ftruncate", "error=EIO"),
    ("commits", "unlink", "error=EIO"),
    ("commits", "link", "error=ENOSPC"),
    ("a writer", "fdatasync", "error=EIO"),
    ("a writer", "pwrite64", "error=EIO"),
    ("a writer", "pwrite64", "signal=KILL"),
]
"""Enough to see that all is well, where there is no time for all of them."""

Place = tuple[str, int, str]
"""What the program was about, how much it had acknowledged by then, and the file."""


@dataclass(frozen=True)
class Case:
    """One run with one fault: where it struck, and what came of it."""

    folder: Path
    ran: Ran
    about: str
    before: int
    file: str

    @property
    def acknowledged(self) -> int:
        return sum(line.startswith("ACK ") for line in self.ran.lines)

    @property
    def end(self) -> str:
        """The last thing said that is more than where it is."""
        return next((one for one in reversed(self.ran.lines) if not one.startswith("AT ")), "")

    @property
    def words(self) -> set[str]:
        return {line.partition(" ")[0] for line in self.ran.lines}


@cache
def places(way: str) -> tuple[dict[str, list[Place]], Counter[str]]:
    """Run the workload with no fault; for each kind of call, say where each of them is made.

    Calls are those of the thread that commits: strace counts for each thread by itself. Then come
    the numbers of calls in all threads.
    """
    with scratch() as folder:
        root = folder / "counted"
        root.mkdir()
        given = msgspec.json.encode(plan(root, **WAYS[way])).decode()
        calls = traced.run(
            [sys.executable, PROGRAM_FILE, given],
            folder / "trace.txt",
            environment=environment(),
        )
    found: dict[str, list[Place]] = {}
    totals: Counter[str] = Counter()
    main = calls[0].thread
    about, acknowledged = "", 0
    for call in calls:
        names = [call.path or "", *(one.decode(errors="replace") for one in call.strings)]
        if call.name == "write" and call.arguments.startswith("1<"):
            said = call.strings[-1].decode()
            about = said[3:-1] if said.startswith("AT ") else about
            acknowledged += said.startswith("ACK ")
            continue
        totals[call.name] += 1
        if (call.thread == main) != (WAYS[way].get("mode", "commit") == "commit"):
            continue
        if file := next((one for one in names if one.startswith(str(root))), None):
            found.setdefault(call.name, []).append(
                (about, acknowledged, file.removeprefix(str(root)))
            )
    return found, totals


@contextmanager
def injected(way: str, call: str, fault: str, runs: int | None = None) -> Iterator[list[Case]]:
    """Run the workload once for each of its calls that may fail, or for so many of them."""
    found, totals = places(way)
    where, at = found[call], totals[call] + 1
    numbers = list(range(1, len(where) + 1))
    if runs is not None and len(numbers) > runs:
        numbers = sorted(random.Random(f"{call} {fault}").sample(numbers, runs))
    with scratch() as folder:
        request = injecting.Request(
            folder=str(folder),
            call=call,
            at=at,
            numbers=tuple(numbers),
            plan=plan(folder, **WAYS[way]),
        )
        # With this filter strace 6.1 lets calls fail much faster, but forgets the signals.
        fast = ("--seccomp-bpf",) if fault.startswith("error=") else ()
        strace = ("strace", "-f", "-qq", *fast, "-o", str(folder / "t"), "-e", "signal=none")
        inject = ("-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={at}")
        ran = run_all(request, (*strace, *inject))
        yield [Case(folder / str(one.number), one, *where[one.number - 1]) for one in ran]


def run_all(request: injecting.Request, prefix: Sequence[str] = ()) -> list[Ran]:
    out = program("injecting.py", msgspec.json.encode(request).decode(), prefix=prefix)
    ran = msgspec.json.decode(out, type=list[Ran])
    assert len(ran) == len(request.numbers)
    return ran


def left(case: Case, *more: str) -> str | None:
    """Say what is wrong with what a run left behind."""
    promised = checking.acks(line.encode() for line in (*case.ran.lines, *more))
    wrong = checking.check(case.folder / "db", promised)
    if wrong is None and checking.begun(case.folder / "db"):
        wrong = checking.fsck(f"sqlite:///{case.folder / 'db'}", case.folder / "keys")
    return wrong


def begin_again(way: str, call: str, cases: Sequence[Case]) -> None:
    """Start from what was left, and give everything again: it is there once."""
    request = injecting.Request(
        folder=str(cases[0].folder.parent),
        call=call,
        at=0,
        numbers=tuple(case.ran.number for case in cases),
        plan=plan(cases[0].folder, **WAYS[way]),
    )
    for case, ran in zip(cases, run_all(request), strict=True):
        assert ran.status == 0 and ran.lines[-1] == "DONE", (case, ran)
        assert sum(line.startswith("ACK ") for line in ran.lines) == request.plan.appends
        assert left(case, *ran.lines) is None


def judge(case: Case, way: str, call: str, fault: str) -> None:
    """See that the program did what a fault there has to lead to."""
    appends = int(str(WAYS[way]["appends"]))
    assert case.words <= {"AT", "ACK", "REFUSED", "FAILED", "ERROR", "DONE"}, case
    if fault == "signal=KILL":
        assert case.ran.status == -signal.SIGKILL, case
        assert case.acknowledged == case.before, case
    elif case.about in {"close", "other"}:
        assert (case.ran.status, case.acknowledged) in {(0, appends), (EX_IOERR, case.before)}, case
    elif call == "fdatasync" and not case.file:
        assert case.ran.status == 0, (
            case
        )  # SQLite's sync of the folder, which it does not insist on
    elif call in {"fdatasync", "fsync"}:
        assert case.ran.status != 0, case
        assert case.acknowledged == case.before, case
        assert case.about != "commit" or case.ran.status == EX_IOERR, case
    elif fault == "error=ENOSPC" and case.about == "commit":
        assert (case.ran.status, case.acknowledged) == (0, appends), case
        assert "REFUSED" in case.words or case.file.endswith("-shm"), case
    elif case.ran.status != 0:
        assert case.end.startswith(("FAILED ", "ERROR ")), case
