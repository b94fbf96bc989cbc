"""Power cuts of the store: ways to keep a record, and what is left of each when the power goes."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from store.faults import checking, traced
from store.faults.cutting import Look, Tally, cut
from store.faults.disk import Timeline
from store.faults.environment import environment, plan, scratch
from store.faults.workload import PROGRAM_FILE, Plan

WAYS: dict[str, dict[str, object]] = {
    "one by one": {"appends": 25, "again": 0.2, "period_every": 3},
    "in batches, with checkpoints": {
        "appends": 60,
        "batch": 6,
        "checkpoint_every": 4,
        "contents": True,
    },
    "closed and opened": {"appends": 30, "batch": 3, "checkpoint_every": 7, "reopen_every": 5},
    "from several threads": {"appends": 60, "mode": "writer", "threads": 6},
}


def looking(disk: Path) -> Look:
    """Look at images of a disk, whose last state is known."""
    keys = {one.name: one.read_bytes() for one in (disk / "keys").iterdir()}
    assert keys

    def look(folder: Path, said: list[bytes]) -> str | None:
        promised = checking.acks(said)
        for name, data in keys.items():
            file = folder / "keys" / name
            if promised and (not file.exists() or file.read_bytes() != data):
                return f"lost: the key {name}"
        return checking.check(folder / "db", promised)

    return look


def recorded(folder: Path, made: Plan, *, deaf: bool = False) -> Timeline:
    """Run the workload, and give what it did to the disk."""
    root = folder / "disk"
    root.mkdir()
    calls = traced.run(
        [sys.executable, PROGRAM_FILE, msgspec.json.encode(made).decode()],
        folder / "trace.txt",
        environment=environment(),
    )
    return Timeline(calls, root, deaf=deaf)


def tally(
    way: str,
    *,
    images: int,
    seed: int = 1,
    enough: int | None = None,
    deaf: bool = False,
    **more: object,
) -> Tally:
    """Work in one of the `WAYS`, and cut the power so many times.

    Args:
        way: to work. more: fields of the plan beside it.
        images: that differ. seed: of the draw. enough: stop once so many are wrong.
        deaf: the disk does nothing when it is told to sync.
    """
    with scratch() as folder:
        made = plan(folder / "disk", **WAYS[way], **more)
        timeline = recorded(folder, made, deaf=deaf)
        said = [one.data for one in timeline.said]
        assert said[-1] == b"DONE\n"
        assert len(checking.acks(said)) >= made.appends
        look = looking(folder / "disk")
        return cut(timeline, folder / "image", look, count=images, seed=seed, enough=enough)
