"""The promise: where there is no room nothing is half written, and it goes on once there is."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from store.faults import checking, filling
from store.faults.environment import environment, plan, program, scratch
from store.faults.workload import EX_IOERR, PROGRAM_FILE


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["commit", "writer"])
def test_a_disk_that_is_full_again_and_again_holds_whole_appends(mode: str) -> None:
    prefix = filling.mounting()
    if prefix is None:
        pytest.skip("a disk that gets full is a small tmpfs, and nothing may be mounted here")
    with scratch() as folder:
        request = filling.Request(folder=str(folder), mode=mode)
        out = program("filling.py", msgspec.json.encode(request).decode(), prefix=prefix)
    found = msgspec.json.decode(out, type=filling.Outcome)
    assert found.wrong == []
    assert (found.status, found.last) == (0, "DONE")
    assert found.acks == request.appends
    assert found.refused_after > 10


def test_a_file_that_may_not_grow_ends_the_store_and_loses_nothing() -> None:
    """No other error than that of a full disk: it is taken for one of the disk itself."""
    with scratch() as folder:
        made = plan(folder, appends=100)
        done = subprocess.run(
            [sys.executable, PROGRAM_FILE, msgspec.json.encode(made).decode()],
            capture_output=True,
            env=environment(),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000)),
            timeout=60,
            check=False,
        )
        said = done.stdout.splitlines()
        promised = checking.acks(said)
        assert done.returncode == EX_IOERR, done.stderr
        assert b"FAILED StoreFailed" in said and b"UNLATCHED" not in said
        assert promised
        assert checking.check(folder / "db", promised) is None
        assert checking.fsck(made.url, Path(made.keys)) is None
