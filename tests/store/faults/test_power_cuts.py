"""The promise: what was acknowledged outlives the power, whatever of the rest the disk kept."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
from store.faults import checking, traced
from store.faults.cutting import Look, Tally, cut
from store.faults.disk import Timeline
from store.faults.environment import PROVE, environment, plan, scratch
from store.faults.workload import Plan

PROGRAM = Path(__file__).with_name("workload.py")

IMAGES = 4_000 if PROVE else 800
"""Images of each way to work."""

WAYS: dict[str, dict[str, object]] = {
    "one by one": {"appends": 25, "again": 0.2},
    "in batches, with checkpoints": {"appends": 60, "batch": 6, "checkpoint_every": 4},
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
        [sys.executable, PROGRAM, msgspec.json.encode(made).decode()],
        folder / "trace.txt",
        environment=environment(),
    )
    return Timeline(calls, root, deaf=deaf)


def tally(way: str, *, images: int, enough: int | None = None, deaf: bool = False, **more: object) -> Tally:
    with scratch() as folder:
        made = plan(folder / "disk", **WAYS[way], **more)
        timeline = recorded(folder, made, deaf=deaf)
        said = [one.data for one in timeline.said]
        assert said[-1] == b"DONE\n"
        assert len(checking.acks(said)) >= made.appends
        look = looking(folder / "disk")
        return cut(timeline, folder / "image", look, count=images, seed=1, enough=enough)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_that_was_acknowledged_is_lost(way: str) -> None:
    found = tally(way, images=IMAGES)
    assert found.wrong == []
    assert found.images == IMAGES
    assert found.unsure >= 10


@pytest.mark.parametrize("way", ["one by one", "from several threads"])
def test_the_simulator_sees_what_is_lost_without_a_sync_for_each_commit(way: str) -> None:
    found = tally(way, images=300, enough=20, synchronous="NORMAL")
    assert len(found.wrong) == 20
    assert all(why.startswith("lost") for _, why in found.wrong)


def test_the_simulator_sees_what_a_disk_that_lies_about_syncs_does() -> None:
    found = tally("in batches, with checkpoints", images=300, enough=50, deaf=True)
    assert {why.partition(":")[0] for _, why in found.wrong} >= {"lost", "damaged"}
