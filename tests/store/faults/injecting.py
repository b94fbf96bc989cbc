"""Under strace: forked writers, each of which meets one system call that fails.

strace lets the call number `AT` of each process fail. Writer number N first makes `AT - N` such
calls of no consequence, so that it is the store's N-th that fails, and one strace serves them all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from store.faults import workload
from store.faults.kills import Child
from store.faults.workload import Plan


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Args:
        folder: for a folder of each writer, which is called by its number.
        call: that fails. at: which one of each process does; 0 where none shall.
        numbers: of the store's calls that shall fail.
        plan: of each writer; the places in it are filled in.
        then: of another writer that begins where the first one ended, and whose calls succeed.
        forgetful: takes away the word that the first one left of its failure.
    """

    folder: str
    call: str
    at: int
    numbers: tuple[int, ...]
    plan: Plan
    then: Plan | None = None
    forgetful: bool = False


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """What a writer did: its number, how it ended, and the lines that it said."""

    number: int
    status: int
    lines: tuple[str, ...]


def idle(call: str, folder: Path) -> Callable[[], object]:
    """Give a call of no consequence."""
    file = folder / "idle"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    missing = folder / "missing"

    def fails(make: Callable[[], object]) -> Callable[[], object]:
        def made() -> None:
            try:
                make()
            except FileNotFoundError:
                return

        return made

    return {
        "fsync": lambda: os.fsync(descriptor),
        "fdatasync": lambda: os.fdatasync(descriptor),
        "pwrite64": lambda: os.pwrite(descriptor, b"x", 0),
        "ftruncate": lambda: os.ftruncate(descriptor, 1),
        "unlink": fails(missing.unlink),
        "rename": fails(lambda: missing.rename(missing)),
        "link": fails(lambda: os.link(missing, missing)),
    }[call]


def placed(plan: Plan, folder: Path) -> Plan:
    """Give a plan with its store and its keys in a folder."""
    return msgspec.structs.replace(
        plan, url=f"sqlite:///{folder / 'db'}", keys=str(folder / "keys")
    )


class Late(Child):
    """A writer that spends calls before it begins."""

    def __init__(self, plan: Plan, spend: Callable[[], None]) -> None:
        self._plan, self._spend = plan, spend
        super().__init__(plan)

    def before(self) -> None:
        """Spend calls in the thread that commits."""
        if self._plan.mode == "commit":
            self._spend()
            return
        from tocsin.store import Writer

        run, spend = Writer._run, self._spend

        def late(writer: Writer) -> None:
            spend()
            run(writer)

        Writer._run = late  # type: ignore[assignment,method-assign]


def run(request: Request) -> list[Ran]:
    """Run every writer to its end, one after the other."""
    found = []
    for number in request.numbers:
        folder = Path(request.folder) / str(number)
        folder.mkdir(exist_ok=True)
        make = idle(request.call, Path(request.folder))

        def spend(make: Callable[[], object] = make, times: int = request.at - number) -> None:
            for _ in range(times):
                make()

        child = Late(placed(request.plan, folder), spend)
        status = child.bury()
        lines = tuple(one.decode() for one in child.lines)
        found.append(Ran(number=number, status=status, lines=lines))
        if request.forgetful:
            (folder / "db-unsynced").unlink()
        if request.then is not None:
            after = Child(placed(request.then, folder))
            status = after.bury()
            lines = tuple(one.decode() for one in after.lines)
            found.append(Ran(number=number, status=status, lines=lines))
    return found


def main(argument: str) -> None:
    """Follow a request; print what every writer did."""
    workload.preload()
    request = msgspec.json.decode(argument, type=Request)
    sys.stdout.buffer.write(msgspec.json.encode(run(request)))


if __name__ == "__main__":
    main(sys.argv[1])
