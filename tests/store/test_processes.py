"""Several processes that write to one store at once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tocsin.store import Keys, Scope, Store
from tocsin.store.fsck import fsck

PROCESSES = 3
COMMITS = 20

WRITER = textwrap.dedent("""
    import sys
    from store.making import append
    from tocsin.receipts import Signer
    from tocsin.store import Keys, Scope, Store

    url, mine, commits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    keys = Keys(Signer.from_seed("example.com/log", bytes(32)))
    with Store.open(url, keys=keys) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(commits):
            own = 1_000 * (mine + 1) + n
            # `n` and its receipt are given by every process: the first one wins.
            given = [
                append("acme", own, n, receipts=(f"r{own}", f"r{n}")),
                append(f"t{mine}", own, receipts=(f"r{own}",)),
            ]
            for done in store.commit(given):
                print(done.tenant, done.first, done.last, *done.duplicates, flush=True)
            if n % 7 == 0:
                store.close_period(Scope("acme"))
""")


def run(url: str, processes: int) -> list[list[str]]:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(n), str(COMMITS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate(timeout=120)[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0] * processes
    return said


@pytest.mark.slow
def test_processes_share_sequences_and_logs(
    prepared: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{tests}:{':'.join(sys.path)}")
    said = run(prepared, PROCESSES)
    with Store.open(prepared, keys=keys) as store:
        seen = [s.event.id for s in store.events(Scope("acme"))]
        assert sorted(seen) == sorted(
            [f"e{n}" for n in range(COMMITS)]
            + [f"e{1_000 * (p + 1) + n}" for p in range(PROCESSES) for n in range(COMMITS)]
        )
        taken: list[int] = []
        for line in (line.split() for lines in said for line in lines):
            if line[0] == "acme":
                taken += range(int(line[1]), int(line[2]) + 1)
        assert sorted(taken) == list(range(1, len(seen) + 1))
        for mine in range(PROCESSES):
            assert store.head(Scope(f"t{mine}")).seq == COMMITS
        assert len(store.entries(Scope("acme"), kind="receipt")) == COMMITS * (PROCESSES + 1)
        assert fsck(store, keys=[keys.signer.public]).findings == ()


def test_a_store_is_made_once_by_processes_that_begin_together(
    url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{tests}:{':'.join(sys.path)}")
    script = (
        "import sys; from tocsin.store import Store; sys.stdin.readline(); Store.open(sys.argv[1])"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", script, url], stdin=subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        child.stdin.close()
    assert [child.wait(120) for child in children] == [0] * PROCESSES
    with Store.open(url, keys=keys, create=False) as store:
        assert fsck(store).findings == ()
