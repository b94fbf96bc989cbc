"""What questions over a long record cost: a trace, five minutes of a route, a day by five minutes.

The events of one day of one tenant, which is harder than the same number spread over many. Closed
hours are written straight to files, by the code that closing uses, and the open hour straight to
the table: both hold what commits and closings would have made, but for the log of receipts, which
no question here reads. Commits and closings are measured too, on fewer events.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa
from common import Found, Options, Row, say

from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.kinds import (
    Alarmed,
    Body,
    Classified,
    Decided,
    Retrieved,
    StreamEnded,
    StreamOpened,
    ToolAttempted,
    Used,
)
from tocsin.store import Append, Scope, Store, segment_file
from tocsin.store import tables as t
from tocsin.store.closing import record
from tocsin.store.commit import Prepared, prepare
from tocsin.store.history import History
from tocsin.store.manifest import named, tenant_folder

EVENTS, QUICK_EVENTS = 10_000_000, 500_000
ROWS, QUICK_ROWS = 1_000_000, 100_000
CLOSED, QUICK_CLOSED = 200_000, 20_000
A_RESPONSE = 8
ROUTES = 12
HOURS = 24
MIDNIGHT = 1_700_006_400_000_000
_MINUTES, _HOUR, _DAY = 300_000_000, 3_600_000_000, 86_400_000_000
_REPEATS = 40
ACME = Scope("acme")


def run(options: Options) -> Found:
    """Build, ask, and tell."""
    found = Found()
    total = QUICK_EVENTS if options.quick else EVENTS
    rows = QUICK_ROWS if options.quick else ROWS
    closed = QUICK_CLOSED if options.quick else CLOSED
    with tempfile.TemporaryDirectory() as folder:
        world = _World(total, options.seed)
        with Store.open(f"{folder}/day.db") as store, History(store) as history:
            began = time.perf_counter()
            _fill(store, history, world)
            say(f"built in {time.perf_counter() - began:.0f} s")
            found.tables["questions"] = _questions(history, world, options.seed)
            files = [p.stat().st_size for p in Path(history.folder).rglob("*.parquet")]
        found.tables["size"] = [
            {
                "events": total,
                "files": len(files),
                "bytes an event in files": sum(files) / (total * (HOURS - 1) / HOURS),
            }
        ]
        world = _World(rows, options.seed)
        with Store.open(f"{folder}/rows.db") as store, History(store) as history:
            say(f"{rows:,} events in rows alone")
            _insert(store, world, 1, rows)
            found.tables["the same in rows alone"] = _questions(history, world, options.seed)
        world = _World(closed, options.seed)
        with Store.open(f"{folder}/closing.db") as store, History(store) as history:
            say(f"closing {closed:,} events")
            _insert(store, world, 1, closed)
            found.tables["closing"] = [_closing(history, closed)]
    found.notes.append(
        f"{total:,} events of one tenant in 24 hours: 23 in files, the last in rows of SQLite"
    )
    return found


class _World:
    """The events of a day, each made from its number alone."""

    def __init__(self, total: int, seed: int) -> None:
        self.total, self._seed = total, seed
        self._step = _DAY // total

    def name(self, kind: str, number: int) -> str:
        """Make an id as random as those of a gateway."""
        digest = hashlib.blake2b(f"{self._seed}{kind}{number}".encode(), digest_size=12)
        return f"{kind}_{digest.hexdigest()}"

    def event(self, seq: int) -> Event:
        """Make one event, from its sequence number."""
        response, place = divmod(seq - 1, A_RESPONSE)
        links = Links(
            user=f"u_{response // 20 % 50_000:020x}",
            session=self.name("s", response // 5),
            request=self.name("q", response),
            call=self.name("r", response),
        )
        segment = Segment(
            route=f"route-{response * 7 % ROUTES}", model="model", model_version="2026-01",
            policy="default", policy_digest="sha256:" + "a" * 64,
            calibrations=("sha256:" + "b" * 64,), language="en", surface="chat",
        )  # fmt: skip
        return Event(
            id=self.name("e", seq),
            time_us=MIDNIGHT + (seq - 1) * self._step,
            source="tocsin/gateway",
            body=_body(response, place),
            links=links,
            segment=segment,
        )

    def parts(self, first: int, last: int, size: int) -> Iterator[list[segment_file.Row]]:
        """Make rows as a commit makes them."""
        for start in range(first, last + 1, size):
            stop = min(last + 1, start + size)
            made = prepare(
                Append(tenant="acme", events=tuple(self.event(n) for n in range(start, stop))), None
            )
            assert isinstance(made, Prepared)  # noqa: S101 - events of ours
            yield [(start + i, *row) for i, row in enumerate(made.rows)]


def _body(response: int, place: int) -> Body:
    bodies: tuple[Callable[[], Body], ...] = (
        lambda: StreamOpened(api="chat"),
        lambda: Decided(about="input", verdict="allow", action="allow"),
        lambda: Retrieved(
            sources=(f"d{response % 99}", "d2"), found=9, permitted=5, used=2, filter="applied"
        ),
        lambda: Classified(check="linear", bin=response % 10),
        lambda: _seldom(response),
        lambda: Decided(about="output", verdict="allow", action="allow"),
        lambda: Used(first_ms=120.5, total_ms=2_345.6, tokens_in=321, tokens_out=432),
        lambda: StreamEnded(
            outcome="ok", scanned=1_900, released=1_900, steps={"linear": 21},
            lowest={"linear": response % 1000 / 1000},
        ),
    )  # fmt: skip
    return bodies[place]()


def _seldom(response: int) -> Body:
    if response % 40:
        return ToolAttempted(tool="search", arguments_chars=77)
    return Alarmed(check="linear", verifier="linear", verifier_version="1", wanted="halt",
                   done="halt", calibration="sha256:" + "b" * 64, score=0.1)  # fmt: skip


def _fill(store: Store, history: History, world: _World) -> None:
    """Closed hours to files, the open one to rows."""
    folder = history.folder / tenant_folder(ACME)
    segment_file.make_folder(folder)
    each = world.total // HOURS
    for hour in range(HOURS - 1):
        first, last = hour * each + 1, (hour + 1) * each
        written = segment_file.write(folder, world.parts(first, last, 65_536))
        assert written is not None  # noqa: S101 - there are rows
        record(store, history.folder, ACME, named(folder, written, MIDNIGHT + _DAY))
        say(f"hour {hour + 1} of {HOURS}")
    _insert(store, world, (HOURS - 1) * each + 1, world.total)


def _insert(store: Store, world: _World, first: int, last: int) -> None:
    """Write rows as a commit writes them, and the head."""
    for part in world.parts(first, last, 10_000):
        with store.transaction("fill") as connection:
            names = segment_file.COLUMNS
            rows = [{"tenant": "acme", **dict(zip(names, row, strict=True))} for row in part]
            connection.execute(sa.insert(t.events), rows)
        store.tend(len(part))
    head = {"tenant": "acme", "seq": last, "size": 0, "frontier": b"", "period": 0, "updated_us": 0}
    with store.transaction("fill") as connection:
        connection.execute(sa.insert(t.heads), head)


def _questions(history: History, world: _World, seed: int) -> list[Row]:
    draw = random.Random(seed)
    responses = world.total // A_RESPONSE
    told = []
    for kind, each in (("request", "q"), ("call", "r"), ("session", "s"), ("event", "e")):
        most = {"s": responses // 5, "e": world.total}.get(each, responses)
        ids = [world.name(each, draw.randrange(1, most)) for _ in range(_REPEATS)]
        asks = [lambda x=x: history.trace(ACME, x) for x in ids]  # type: ignore[misc]
        told.append(_timed(f"trace by {kind}", asks, 20))
    for where, hours in (("closed hours", HOURS - 1), ("the open hour", 1)):
        begins = MIDNIGHT if hours > 1 else MIDNIGHT + (HOURS - 1) * _HOUR
        starts = [
            begins + draw.randrange(hours * _HOUR // _MINUTES) * _MINUTES for _ in range(_REPEATS)
        ]
        asks = [
            lambda s=s: history.counts(  # type: ignore[misc]
                ACME, since_us=s, until_us=s + _MINUTES, route=f"route-{s % ROUTES}"
            )
            for s in starts
        ]
        told.append(_timed(f"five minutes of a route, {where}", asks, 200))
        asks = [
            lambda s=s: history.counts(ACME, since_us=s, until_us=s + _MINUTES)  # type: ignore[misc]
            for s in starts
        ]
        told.append(_timed(f"five minutes of all routes, {where}", asks, 200))
    day = {"since_us": MIDNIGHT, "until_us": MIDNIGHT + _DAY}
    asks = [lambda: history.counts(ACME, **day, step_us=_MINUTES) for _ in range(5)]
    told.append(_timed("24 hours by five minutes", asks, 2_000))
    return told


def _timed(name: str, asks: list[Callable[[], object]], target_ms: float) -> Row:
    taken = []
    found = 0
    for ask in asks:
        began = time.perf_counter()
        answer = ask()
        taken.append((time.perf_counter() - began) * 1_000)
        found = max(found, len(answer))  # type: ignore[arg-type]
    first, rest = taken[0], sorted(taken[1:])
    return {
        "question": name,
        "first ms": first,
        "median ms": rest[len(rest) // 2],
        "worst ms": rest[-1],
        "target ms": target_ms,
        "rows of the answer": found,
    }


def _closing(history: History, total: int) -> Row:
    began = time.perf_counter()
    done = history.close(ACME, before_us=MIDNIGHT + _DAY, uncovered=True)
    seconds = time.perf_counter() - began
    assert done.deleted == total  # noqa: S101 - all of them are old
    return {"events": total, "seconds": seconds, "events a second": total / seconds}
