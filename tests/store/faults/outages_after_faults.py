"""Power cuts after a sync that failed: the process gave up, another one went on from the disk."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from store.faults import checking, faulting, injecting, traced
from store.faults.cutting import Tally, cut
from store.faults.disk import Timeline
from store.faults.environment import environment, plan, scratch
from store.faults.outages import looking

AT = 200
"""Which call of its own the failing process does; the other one does not come so far."""


def failing(file: str) -> list[int]:
    """Number the syncs of a file that commits of the workload wait for."""
    places, _ = faulting.places("commits")
    found = enumerate(places["fdatasync"], 1)
    return [number for number, (about, _, name) in found if about == "commit" and name == file]


def tally(number: int, *, images: int, seed: int = 1, forgetful: bool = False) -> Tally:
    """Let one sync fail, go on in another process, and cut the power so many times.

    Args:
        number: of the workload's sync that fails.
        images: that differ. seed: of the draw.
        forgetful: nobody tells the other process of the failure.
    """
    with scratch() as folder:
        root = folder / str(number)
        request = injecting.Request(
            folder=str(folder),
            call="fdatasync",
            at=AT,
            numbers=(number,),
            plan=plan(root, **faulting.WAYS["commits"]),
            then=plan(root, appends=15),
            forgetful=forgetful,
        )
        calls = traced.run(
            [
                sys.executable,
                Path(injecting.__file__),
                msgspec.json.encode(request).decode(),
            ],
            folder / "trace.txt",
            environment=environment(),
            inject=f"fdatasync:error=EIO:when={AT}",
        )
        timeline = Timeline(calls, root)
        said = [one.data for one in timeline.said]
        assert any(one.startswith(b"FAILED") for one in said)
        assert b"DONE\n" in said
        assert len(checking.acks(said)) >= 15
        # The store writes what it has over itself, which bears torn sectors, but no rubbish.
        return cut(
            timeline, folder / "image", looking(root), count=images, seed=seed, rubbish=False
        )
