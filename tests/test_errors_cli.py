"""What commands say where something is wrong: one line, a status, no traceback, JSON as asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from record.world import event

from tocsin.store import Append, Keys, Store


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A record with two hundred events of one tenant, and its keys in `keys` beside it."""
    keys = Keys.open(tmp_path / "keys", name="example.com/log")
    with Store.open(str(tmp_path / "record.db"), keys=keys) as store:
        store.commit([Append(tenant="shop", events=tuple(event(n) for n in range(200)))])
    return tmp_path / "record.db"


def tocsin(
    folder: Path, *arguments: str, out: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the real command, with its standard output in a file if one is named."""
    with Path(out or folder / "out").open("w") as file:
        done = subprocess.run(
            [sys.executable, "-m", "tocsin", *arguments],
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    done.stdout = "" if out else (folder / "out").read_text()
    return done


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "STORE", "--tenant", "shop"],
        ["trace", "STORE", "e1", "--tenant", "shop"],
        ["trace", "STORE", "nothing", "--tenant", "shop", "--json"],
        ["fsck", "STORE", "--json"],
        ["access", "roles"],
        ["check", "--schema"],
        ["--help"],
    ],
    ids=" ".join,
)
def test_a_full_disk_under_standard_output_is_one_line(arguments: list[str], record: Path) -> None:
    given = [str(record) if one == "STORE" else one for one in arguments]
    done = tocsin(record.parent, *given, out="/dev/full")
    assert (done.returncode, done.stderr) == (
        1, "error: cannot write the output: No space left on device\n"
    )  # fmt: skip


def test_a_pipe_that_nobody_reads_is_no_traceback(record: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tocsin", "export", str(record), "--tenant", "shop"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        said = started.stderr.read()
        assert started.wait(60) in {1, 141}
    assert said == ""


WRONG = [
    (["fsck", "nowhere.db"], 3),
    (["fsck", "nowhere.db", "--key", "nokey"], 2),
    (["trace", "nowhere.db", "x", "--tenant", "shop"], 1),
    (["trace", "STORE", "x", "--tenant", "typo"], 2),
    (["audit", "clusters", "STORE", "--tenant", "typo"], 2),
    (["history", "list", "nowhere.db"], 1),
    (["retention", "STORE", "--keep", "usage"], 1),
    (["check", "nowhere.yaml"], 1),
    (["access", "list", "STORE", "--tenant", "typo"], 2),
]


@pytest.mark.parametrize(("arguments", "status"), WRONG, ids=str)
def test_errors_are_json_where_json_was_asked_for(
    arguments: list[str], status: int, record: Path
) -> None:
    given = [str(record) if one == "STORE" else one for one in arguments]
    plain = tocsin(record.parent, *given)
    assert (plain.returncode, plain.stdout) == (status, "")
    asked = tocsin(record.parent, *given, "--json")
    assert (asked.returncode, asked.stderr.splitlines()[-1:]) == (
        status, plain.stderr.splitlines()[-1:]
    )  # fmt: skip
    told = json.loads(asked.stdout)
    assert list(told) == ["error"]
    assert told["error"].splitlines()[0] in plain.stderr


FOLDERS = [
    ["trace", "STORE", "x", "--tenant", "shop", "--keys", "nowhere"],
    ["trace", "STORE", "x", "--tenant", "shop", "--folder", "nowhere"],
    ["audit", "drift", "STORE", "--tenant", "shop", "--folder", "nowhere"],
    ["retention", "STORE", "--keep", "usage=30", "--folder", "nowhere"],
    ["history", "list", "STORE", "--folder", "nowhere"],
    ["history", "close", "STORE", "--keys", "nowhere"],
    ["access", "list", "STORE", "--tenant", "shop", "--keys", "nowhere"],
    ["access", "list", "STORE", "--tenant", "shop", "--folder", "nowhere"],
    ["content", "list", "STORE", "--tenant", "shop", "--keys", "nowhere"],
    ["content", "rewrap", "STORE", "--keys", "nowhere"],
]


@pytest.mark.parametrize("arguments", FOLDERS, ids=" ".join)
def test_a_folder_that_is_not_there_is_refused(arguments: list[str], record: Path) -> None:
    done = tocsin(record.parent, *[str(record) if one == "STORE" else one for one in arguments])
    assert done.returncode == 2
    assert "'nowhere' does not exist" in done.stderr
