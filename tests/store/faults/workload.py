"""A program that keeps a record and says what was acknowledged: `workload.py PLAN`.

The plan is JSON, see `Plan`. Each acknowledgement is a line `ACK {...}` in one write to standard
output. `AT WHERE` says what comes next: open, commit, close, or other, which is what another
process might do. A refusal that may pass is `REFUSED NAME`; a failure that is final is
`FAILED NAME`, and ends the program with `EX_IOERR`. Once nothing is left to do it says `DONE`.
"""

from __future__ import annotations

import importlib
import os
import random
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

EX_IOERR = 74

PROGRAM_FILE = Path(__file__)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Args:
        url: of the store. keys: folder of its keys.
        writer: name that this process gives its events.
        start, appends: number of the first append, and how many there are.
        tenants: in turn. seed: of what they contain.
        mode: `commit` calls the store, `writer` goes through its thread for group commits.
        threads: that submit to the writer.
        batch: most appends to one commit.
        checkpoint_every: so many commits, SQLite's log is copied back; 0 for never.
        period_every: so many commits, it is stated for a tenant what happened; 0 for never.
        reopen_every: so many commits, the store is closed and opened again; 0 for never.
        synchronous: of SQLite; anything but FULL loses data.
        again: share of the appends that are given a second time.
        retries: how often an append that was refused is given again.
        space: says `SPACE` at a refusal and waits for a line on standard input before it retries.
        pause_s: between such tries.
        contents: also keep raw content.
    """

    url: str
    keys: str
    writer: str = "w"
    start: int = 0
    appends: int = 20
    tenants: tuple[str, ...] = ("acme", "beta")
    seed: int = 0
    mode: str = "commit"
    threads: int = 1
    batch: int = 1
    checkpoint_every: int = 0
    period_every: int = 0
    reopen_every: int = 0
    synchronous: str = "FULL"
    again: float = 0.0
    retries: int = 0
    space: bool = False
    pause_s: float = 0.0
    contents: bool = False


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """What was acknowledged: of one append.

    Args:
        first, last: sequence numbers of the events that were new; 0 and 0 without any.
        events: ids of those. known: ids that were there already.
        entries: ids in the log. contents: ids in the vault.
        checkpoint: the signed note.
    """

    tenant: str
    first: int = 0
    last: int = 0
    events: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    checkpoint: str | None = None


def preload() -> None:
    """Import what will be needed."""
    importlib.import_module("alembic.command")
    importlib.import_module("tocsin.store")


def say(*words: bytes) -> None:
    """Write a line at once."""
    os.write(1, b" ".join(words) + b"\n")


def make(plan: Plan, number: int) -> Any:
    """Make an append; the same number gives the same one."""
    from tocsin.events.envelope import Event, Links
    from tocsin.events.kinds import Feedback, Used
    from tocsin.store import Append, Entry

    chance = random.Random(f"{plan.writer} {plan.seed} {number}")
    of = chance.randint(1, 4)
    with_receipt = chance.random() < 0.6
    name = f"{plan.writer}.{number}"
    events = tuple(
        Event(
            id=f"{name}.{k}.{of}.{'r' if with_receipt else '-'}",
            time_us=1_700_000_000_000_000 + number,
            source="tocsin/gateway",
            body=Used(total_ms=float(k))
            if k % 2
            else Feedback(verdict="down", comment="x" * chance.choice((0, 40, 900))),
            links=Links(request=f"q{name}", call=f"r_{name}"),
        )
        for k in range(of)
    )
    entry = Entry(kind="receipt", id=f"r_{name}", body=b'{"n":%d}' % number)
    tenant = plan.tenants[number % len(plan.tenants)]
    more = {"contents": (_content(name),)} if plan.contents and with_receipt else {}
    return Append(tenant=tenant, events=events, entries=(entry,) if with_receipt else (), **more)


def _content(name: str) -> Any:
    from tocsin.store import Content

    return Content(
        id=f"c_{name}",
        subject=f"u_{name}",
        request=f"q{name}",
        what="output",
        text="what was written" * 5,
        why="evidence",
        expires_us=1_900_000_000_000_000,
    )


def acknowledge(append: Any, committed: Any) -> None:
    """Say what a commit promised."""
    known = set(committed.duplicates)
    new = tuple(one.id for one in append.events if one.id not in known)
    ack = Ack(
        tenant=append.tenant,
        first=committed.first,
        last=committed.last,
        events=new,
        known=tuple(one.id for one in append.events if one.id in known),
        entries=tuple(one.id for one in append.entries),
        contents=tuple(one.id for one in append.contents),
        checkpoint=committed.checkpoint,
    )
    say(b"ACK", msgspec.json.encode(ack))


class Work:
    """The store under work, opened and opened again."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.commits = 0
        self.store: Any = self._open()

    def _open(self) -> Any:
        from tocsin.store import Keys, Store

        say(b"AT open")
        keys = Keys.open(Path(self.plan.keys), create=True)
        store = Store.open(self.plan.url, keys=keys, synchronous=self.plan.synchronous)
        say(b"AT commit")
        return store

    def close(self) -> None:
        """Close the store."""
        say(b"AT close")
        store, self.store = self.store, None
        store.close()

    def _between(self) -> None:
        self.commits += 1
        plan = self.plan
        if plan.checkpoint_every and self.commits % plan.checkpoint_every == 0:
            self._copy_back(
                ("PASSIVE", "RESTART", "TRUNCATE")[self.commits // plan.checkpoint_every % 3]
            )
        if plan.period_every and self.commits % plan.period_every == 0:
            self._close_period(plan.tenants[self.commits % len(plan.tenants)])
        if plan.reopen_every and self.commits % plan.reopen_every == 0:
            self.close()
            self.store = self._open()

    def _close_period(self, tenant: str) -> None:
        from tocsin.errors import StoreBusy, StoreFull
        from tocsin.store import Scope

        try:
            committed = self.store.close_period(Scope(tenant))
        except (StoreBusy, StoreFull) as e:
            refused(self.plan, e)
            return
        if committed is not None:
            ack = Ack(tenant=tenant, checkpoint=committed.checkpoint)
            say(b"ACK", msgspec.json.encode(ack))

    def _copy_back(self, how: str) -> None:
        """Copy SQLite's log back, as another process might."""
        say(b"AT other")
        other = sqlite3.connect(self.plan.url.removeprefix("sqlite:///"))
        try:
            other.execute(f"PRAGMA synchronous={self.plan.synchronous}")
            other.execute(f"PRAGMA wal_checkpoint({how})").fetchall()
        except sqlite3.OperationalError:
            pass  # a fault of its own
        finally:
            other.close()
        say(b"AT commit")

    def commit(self, appends: list[Any]) -> None:
        """Commit, say what was acknowledged, and see to what is due."""
        from tocsin.errors import StoreBusy, StoreFull

        for attempt in range(self.plan.retries + 1):
            try:
                results = self.store.commit(appends)
            except (StoreBusy, StoreFull) as e:
                refused(self.plan, e)
                if attempt == self.plan.retries:
                    return
            else:
                break
        for append, result in zip(appends, results, strict=True):
            acknowledge(append, result)
        self._between()

    def run(self) -> None:
        """Commit one after the other, in batches."""
        plan, chance = self.plan, random.Random(self.plan.seed)
        number, until = plan.start, plan.start + plan.appends
        while number < until:
            size = min(chance.randint(1, plan.batch), until - number)
            appends = [make(plan, number + k) for k in range(size)]
            self.commit(appends)
            if chance.random() < plan.again:
                self.commit(appends)
            number += size

    def write(self) -> None:
        """Submit from several threads to the thread that commits."""
        from tocsin.store import Writer

        writer = Writer(self.store)
        failed: list[BaseException] = []

        def submit(offset: int) -> None:
            try:
                for number in range(plan.start + offset, plan.start + plan.appends, plan.threads):
                    self._submit(writer, make(plan, number))
            except BaseException as e:  # noqa: BLE001 - raised again where it is seen
                failed.append(e)

        plan = self.plan
        threads = [threading.Thread(target=submit, args=(k,)) for k in range(plan.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        writer.close()

    def _submit(self, writer: Any, append: Any) -> None:
        from tocsin.errors import StoreBusy, StoreFull

        for attempt in range(self.plan.retries + 1):
            try:
                committed = writer.submit(append).result()
            except (StoreBusy, StoreFull) as e:
                refused(self.plan, e)
                if attempt == self.plan.retries:
                    raise
            else:
                acknowledge(append, committed)
                return


def refused(plan: Plan, why: Exception) -> None:
    """Say that nothing was written, and wait where the plan wants it."""
    say(b"REFUSED", type(why).__name__.encode())
    if plan.space:
        say(b"SPACE")
        sys.stdin.readline()
    elif plan.pause_s:
        time.sleep(plan.pause_s)


def follow(plan: Plan) -> int:
    """Do what a plan says; give the exit status."""
    from tocsin.errors import StoreFailed, TocsinError

    work = None
    try:
        work = Work(plan)
        work.run() if plan.mode == "commit" else work.write()
        work.close()
    except StoreFailed as e:
        say(b"FAILED", type(e).__name__.encode())
        if work is not None and work.store is not None:
            _still_failed(work, plan)
        return EX_IOERR
    except TocsinError as e:
        say(b"ERROR", type(e).__name__.encode(), str(e).encode())
        return 1
    say(b"DONE")
    return 0


def _still_failed(work: Work, plan: Plan) -> None:
    """Try again after a failure that is final: it has to stay one."""
    from tocsin.errors import StoreFailed

    for number in (plan.start, plan.start + plan.appends + 1):
        append = make(plan, number)
        try:
            (result,) = work.store.commit([append])
        except StoreFailed:
            continue
        say(b"UNLATCHED")
        acknowledge(append, result)


if __name__ == "__main__":
    sys.exit(follow(msgspec.json.decode(sys.argv[1], type=Plan)))
