"""The promise: the simulator of power cuts finds what is lost, and only that."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest
from store.faults import traced
from store.faults.cutting import Tally, cut
from store.faults.disk import Timeline
from store.faults.environment import scratch

PROGRAM = Path(__file__).with_name("plain.py")


def look(folder: Path, said: list[bytes]) -> str | None:
    """Ask SQLite what is left."""
    numbers = [int(one) for one in said]
    file = folder / "db"
    if not file.exists():
        return f"no file, but {numbers[-1]} was said" if numbers else None
    connection = sqlite3.connect(file)
    try:
        (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        there = (
            [one for (one,) in connection.execute("SELECT id FROM t ORDER BY id")] if tables else []
        )
    except sqlite3.DatabaseError as e:
        return f"damaged: {e}"
    finally:
        connection.close()
    if sound != "ok":
        return f"unsound: {sound}"
    if there != list(range(len(there))):
        return f"gaps: {there}"
    return None if len(there) >= len(numbers) else f"lost: {numbers[len(there)]}"


pytestmark = pytest.mark.skipif(not traced.works(), reason="strace cannot be used here")


def trace(folder: Path, synchronous: str, *, deaf: bool = False) -> Timeline:
    root = folder / "disk"
    root.mkdir()
    calls = traced.run(
        [sys.executable, "-S", PROGRAM, root / "db", synchronous], folder / "trace.txt"
    )
    return Timeline(calls, root, deaf=deaf)


def tally(synchronous: str, *, deaf: bool = False, count: int = 300) -> Tally:
    with scratch() as folder:
        timeline = trace(folder, synchronous, deaf=deaf)
        return cut(timeline, folder / "image", look, count=count, seed=1)


def test_synced_commits_outlive_every_cut() -> None:
    found = tally("FULL", count=600)
    assert found.wrong == []
    assert found.images == 600


def test_commits_that_nobody_synced_are_lost() -> None:
    found = tally("NORMAL")
    assert len(found.wrong) > 50
    assert all(why.startswith("lost") for _, why in found.wrong)


@pytest.mark.parametrize("synchronous", ["OFF", "FULL"])
def test_without_syncs_or_with_a_disk_that_lies_everything_may_break(
    synchronous: str,
) -> None:
    found = tally(synchronous, deaf=synchronous == "FULL")
    assert any(why.startswith(("damaged", "unsound")) for _, why in found.wrong)
    assert any(why.startswith("lost") for _, why in found.wrong)
