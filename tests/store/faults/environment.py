"""Where these tests run their programs, and how much they do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from store.faults.workload import Plan

TESTS = Path(__file__).parents[2]
"""The folder that programs import `store.faults` from."""

PROVE = bool(os.environ.get("TOCSIN_PROVE"))
"""Whether the counts are those of the proof, which take minutes, or fewer."""

PROGRAM_S = 250.0
"""Longest time that a program of these tests may take."""


def environment() -> dict[str, str]:
    """Give the environment of a program that imports from the tests."""
    before = os.environ.get("PYTHONPATH")
    path = str(TESTS) if before is None else os.pathsep.join((before, str(TESTS)))
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder in memory, where there is one: what is written there is soon gone."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder below it is made safely
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(os.path.realpath(folder))


def program(
    name: str, *arguments: str, prefix: Sequence[str] = (), timeout_s: float = PROGRAM_S
) -> bytes:
    """Run a program of this folder to its good end; give what it wrote."""
    command = [*prefix, sys.executable, str(Path(__file__).with_name(name)), *arguments]
    done = subprocess.run(
        command, capture_output=True, timeout=timeout_s, env=environment(), check=False
    )
    assert done.returncode == 0, (done.stdout[-2000:] + done.stderr[-4000:]).decode()
    return done.stdout


def plan(root: Path, **more: object) -> Plan:
    """Make a plan whose store and keys are in a folder."""
    places = {"url": f"sqlite:///{root / 'db'}", "keys": str(root / "keys")}
    return msgspec.convert({**places, **more}, Plan)
