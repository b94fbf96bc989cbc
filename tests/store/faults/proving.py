"""Every fault in great number: `proving.py OPTIONS` prints what was done, and what was lost.

Progress goes to standard error. `benchmarks/faults.py` runs it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from store.faults import (
    crashing,
    faulting,
    filling,
    gateway_kills,
    kills,
    outages,
    outages_after_faults,
    traced,
)
from store.faults.environment import program, scratch

from tocsin.testing.fake_model import FakeModel

Row = dict[str, str | int | None]

HOUR_S = 3_600.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: all tables or `only` some, less with `quick`; `seed` of everything random."""

    quick: bool = False
    seed: int = 0
    only: tuple[str, ...] = ()


IMAGES, IMAGES_QUICK = 3_000, 100
"""Of each of the four ways to work; a tenth of them where the test has to fail."""

KILLS, KILLS_QUICK = (
    {"store": 250, "gateway": 60, "PostgreSQL": 30},
    {
        "store": 20,
        "gateway": 5,
        "PostgreSQL": 2,
    },
)
"""How often writers on SQLite, whole gateways and a database server are killed."""

RUNS_QUICK = 2
"""System calls that fail, of each kind, with --quick; otherwise every one of the workload."""


class Found(msgspec.Struct, kw_only=True):
    """Rows by the name of their table, and what was left out, and why."""

    tables: dict[str, list[Row]] = {}
    skipped: list[str] = []


def run(options: Options) -> Found:
    """Let go wrong what can, and count what was lost: nothing should be."""
    found = Found()
    parts: dict[str, Callable[[Options], list[Row]]] = {"kill -9": killed}
    if filling.mounting() is None:
        found.skipped.append("a full disk needs the right to mount one")
    else:
        parts["full disk"] = full_disks
    if traced.works():
        parts["power cuts"] = power_cuts
        parts["power cuts after a failed sync"] = power_cuts_after_faults
        parts["system calls"] = system_calls
    else:
        found.skipped.append("power cuts and failing system calls need strace")
    for name, part in parts.items():
        if not options.only or name in options.only:
            found.tables[name] = part(options)
            say(f"{name}: {msgspec.json.encode(found.tables[name]).decode()}")
    return found


def power_cuts(options: Options) -> list[Row]:
    """Cut the power of the store, and of two stores that are not made to bear it."""
    images = IMAGES_QUICK if options.quick else IMAGES
    rows: list[Row] = []
    settings: list[tuple[str, int, dict[str, Any]]] = [
        ("FULL", images, {}),
        ("NORMAL", images // 10, {"synchronous": "NORMAL"}),
        ("FULL on a disk that lies", images // 10, {"deaf": True}),
    ]
    for synchronous, count, more in settings:
        for way in outages.WAYS:
            say(f"faults: power cuts, {synchronous}, {way}")
            tally = outages.tally(way, images=count, seed=options.seed + 1, **more)
            wrong = Counter(why.partition(":")[0] for _, why in tally.wrong)
            rows.append(
                {
                    "synchronous": synchronous,
                    "workload": way,
                    "images": tally.images,
                    "most open changes": tally.unsure,
                    "broken": len(tally.wrong),
                    "how": ", ".join(f"{word} {n}" for word, n in wrong.most_common()) or None,
                }
            )
    return rows


def power_cuts_after_faults(options: Options) -> list[Row]:
    """Let each sync of the log fail, have another process go on, and cut the power."""
    images = (IMAGES_QUICK if options.quick else IMAGES) // 10
    numbers = outages_after_faults.failing("/db-wal")
    rows: list[Row] = []
    for told in (True, False):
        say(f"faults: power cuts after a failed sync, told: {told}")
        found = [
            outages_after_faults.tally(
                number, images=images, seed=options.seed + 1, forgetful=not told
            )
            for number in (numbers[:2] if options.quick else numbers)
        ]
        rows.append(
            {
                "next process": "knows of the failure" if told else "does not know",
                "failed syncs": len(found),
                "images": sum(one.images for one in found),
                "broken": sum(len(one.wrong) for one in found),
            }
        )
    return rows


def system_calls(options: Options) -> list[Row]:
    """Let each system call of a short workload fail once."""
    rows: list[Row] = []
    for way, call, fault in faulting.FAULTS:
        say(f"faults: {call} {fault}, {way}")
        runs = RUNS_QUICK if options.quick else None
        with faulting.injected(way, call, fault, runs) as cases:
            broken = sum(faulting.left(case) is not None for case in cases)
            for case in cases:
                faulting.judge(case, way, call, fault)
            faulting.begin_again(way, call, cases)
        ends = Counter(case.ran.status for case in cases)
        rows.append(
            {
                "workload": way,
                "call": call,
                "fault": fault.partition("=")[2],
                "runs": len(cases),
                "went on": ends[0],
                "gave up": ends[74] + ends[1],
                "killed": ends[-9],
                "broken": broken,
            }
        )
    return rows


def killed(options: Options) -> list[Row]:
    """Kill writers, gateways and a database server."""
    counts = KILLS_QUICK if options.quick else KILLS
    rows: list[Row] = []
    with scratch() as folder:
        say("faults: writers are killed")
        asked = kills.Request(
            folder=str(folder), cycles=counts["store"], seed=options.seed, contents=True
        )
        store = msgspec.json.decode(_program("kills.py", asked), type=kills.Outcome)
        rows.append(_row("writers on SQLite", store.cycles, store.acks, store.wrong))
    with scratch() as folder, FakeModel(gateway_kills.reply) as fake:
        say("faults: gateways are killed")
        request = gateway_kills.Request(
            folder=str(folder), url=fake.url, cycles=counts["gateway"], seed=options.seed
        )
        whole = msgspec.json.decode(
            _program("gateway_kills.py", request), type=gateway_kills.Outcome
        )
        rows.append(_row("gateways under streams", whole.cycles, whole.recorded, whole.wrong))
    with scratch() as folder:
        say("faults: PostgreSQL is killed")
        crash = crashing.Request(
            folder=str(folder), crashes=counts["PostgreSQL"], seed=options.seed
        )
        server = msgspec.json.decode(_program("crashing.py", crash), type=crashing.Outcome)
        rows.append(_row("PostgreSQL under writers", server.crashes, server.acks, server.wrong))
    return rows


def full_disks(options: Options) -> list[Row]:
    """Write to a file system that is full again and again."""
    prefix = filling.mounting()
    assert prefix is not None
    rows: list[Row] = []
    for mode in ("commit", "writer"):
        with scratch() as folder:
            asked = msgspec.json.encode(filling.Request(folder=str(folder), mode=mode)).decode()
            out = program("filling.py", asked, prefix=prefix)
        found = msgspec.json.decode(out, type=filling.Outcome)
        rows.append(
            {
                "workload": mode,
                "refused": found.refused,
                "acknowledged": found.acks,
                "broken": len(found.wrong),
            }
        )
    return rows


def _program(name: str, request: msgspec.Struct) -> bytes:
    return program(name, msgspec.json.encode(request).decode(), timeout_s=HOUR_S)


def _row(what: str, cycles: int, acknowledged: int, wrong: list[str]) -> Row:
    return {
        "killed": what,
        "times": cycles,
        "acknowledged": acknowledged,
        "broken": len(wrong),
        "first": wrong[0][:100] if wrong else None,
    }


def say(text: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=Options)
    sys.stdout.buffer.write(msgspec.json.encode(run(given)))
