"""In a mount namespace of its own: a writer on a file system that fills up, `filling.py REQUEST`.

Each time the writer says that there is no room, what is there is looked at, and the file system is
made a little larger.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
from store.faults import checking, workload
from store.faults.environment import plan, scratch
from store.faults.kills import Child


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Args:
        folder: where the file system is mounted, and copies are made.
        size: of the file system at first, and how much it grows each time; KiB.
        appends: to write. mode: of the workload.
    """

    folder: str
    size: int = 400
    growth: int = 150
    appends: int = 150
    mode: str = "commit"


class Outcome(msgspec.Struct, kw_only=True):
    """What came of it: how often there was no room, how it ended, and what was wrong."""

    refused: int = 0
    refused_after: int = 0
    status: int | None = None
    acks: int = 0
    wrong: list[str] = []
    last: str = ""


def mounting() -> tuple[str, ...] | None:
    """Give a command in front of which a program may mount what only it sees; None where none."""
    if shutil.which("unshare") is None:
        return None
    for how in ("-m", "-rm"):
        with scratch() as folder:
            trying = ["unshare", how, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
            if subprocess.run(trying, capture_output=True, check=False).returncode == 0:
                return ("unshare", how)
    return None


def mount(folder: Path, size: int, *options: str) -> None:
    """Mount memory as a file system of so many KiB."""
    how = ",".join(("nosuid", f"size={size}k", *options))
    subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", folder], check=True)


def run(request: Request) -> Outcome:
    """Let the writer run into the wall until it has written everything."""
    outcome, size = Outcome(), request.size
    disk, copy = Path(request.folder) / "disk", Path(request.folder) / "copy"
    disk.mkdir()
    mount(disk, size)
    made = plan(disk, appends=request.appends, space=True, retries=1000, checkpoint_every=9)
    child = Child(msgspec.structs.replace(made, mode=request.mode))
    seen = 0
    while not child.ended:
        child.read()
        for line in child.lines[seen:]:
            if line != b"SPACE":
                continue
            outcome.refused += 1
            promised = checking.acks(child.lines)
            outcome.refused_after += bool(promised)
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(disk, copy, ignore=shutil.ignore_patterns("*-shm"))
            if wrong := checking.check(copy / "db", promised):
                outcome.wrong.append(f"after {len(promised)} appends: {wrong}")
            size += request.growth
            mount(disk, size, "remount")
            child.tell()
        seen = len(child.lines)
    outcome.status = child.bury()
    promised = checking.acks(child.lines)
    outcome.acks = len(promised)
    outcome.last = child.lines[-1].decode() if child.lines else ""
    wrong = checking.check(disk / "db", promised) or checking.fsck(made.url, disk / "keys")
    if wrong:
        outcome.wrong.append(f"at the end: {wrong}")
    return outcome


def main(argument: str) -> None:
    """Follow a request; print the outcome."""
    workload.preload()
    sys.stdout.buffer.write(msgspec.json.encode(run(msgspec.json.decode(argument, type=Request))))


if __name__ == "__main__":
    main(sys.argv[1])
