"""What the record costs: acknowledged events a second, on SQLite and on a real PostgreSQL.

Acknowledged means synced. The events are those of streams: opened, decided, ended, used, with a
receipt in the log for every fourth append where it says so. A plain write and sync of the same
number of bytes stands beside them, so that the disk's part can be seen.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import Found, Options, Row, say

from tocsin.events.envelope import Event, Links, Segment, encode
from tocsin.events.kinds import Decided, StreamEnded, StreamOpened, Used
from tocsin.receipts import Signer
from tocsin.store import Append, Committed, Entry, Keys, Store, Writer

SECONDS = 4.0
QUICK_SECONDS = 0.5
BATCHES = (1, 100, 1_000)
SUBMITTERS = (1, 16, 256)
EVENTS_A_RESPONSE = 4
RECEIPT = b'{"schema":"example","path":[' + b",".join([b"0.123456789"] * 400) + b"]}"
"""As large as one with the scores of 400 steps."""


def run(options: Options) -> Found:
    """Measure both, batch by batch; then the writer with many who wait at once."""
    found = Found()
    seconds = QUICK_SECONDS if options.quick else SECONDS
    batches: list[Row] = []
    writers: list[Row] = []
    for name in ("SQLite", "PostgreSQL"):
        try:
            with _place(name) as url:
                for batch in BATCHES:
                    say(f"{name}: batches of {batch}")
                    batches.append({"store": name, "batch": batch, **_batches(url, batch, seconds)})
                for submitters in SUBMITTERS:
                    say(f"{name}: {submitters} submitters")
                    writers.append(
                        {
                            "store": name,
                            "submitters": submitters,
                            **asyncio.run(_writer(url, submitters, seconds)),
                        }
                    )
        except (ImportError, RuntimeError, OSError) as e:
            found.skipped.append(f"{name}: {e}")
    found.tables["events, acknowledged"] = batches
    found.tables["responses through the writer"] = writers
    found.tables["the disk alone"] = [_disk(batch, seconds) for batch in BATCHES]
    found.notes.append(
        f"a response through the writer is {EVENTS_A_RESPONSE} events and a receipt of "
        f"{len(RECEIPT):,} bytes, signed and in the log; a submitter waits for its acknowledgement "
        "before it goes on; an event has about "
        f"{len(encode(_event(0, 0))):,} bytes of JSON"
    )
    return found


def _event(response: int, part: int) -> Event:
    bodies = (
        StreamOpened(api="chat"),
        Decided(about="output", verdict="allow", action="allow"),
        StreamEnded(outcome="ok", scanned=2_000, released=2_000, steps={"a": 40}),
        Used(first_ms=120.5, total_ms=2_500.25, tokens_in=900, tokens_out=400),
    )
    return Event(
        id=f"e{response}.{part}",
        time_us=1_700_000_000_000_000 + 1_000 * response + part,
        source="tocsin/gateway",
        body=bodies[part % EVENTS_A_RESPONSE],
        links=Links(
            user=f"u_{response % 5_000:020x}",
            session=f"s{response // 8}",
            request=f"q{response}",
            call=f"c{response}",
        ),
        segment=Segment(
            route=f"route{response % 20}",
            model="example-model",
            model_version="1",
            policy="default",
            policy_digest="0" * 64,
            calibrations=("1" * 64,),
            language="en",
            surface="chat",
        ),
    )


def _batches(url: str, batch: int, seconds: float) -> Row:
    """Commit batches of events, one after the other, by one thread."""
    took: list[float] = []
    number = batch * 10**8
    with Store.open(url) as store:
        until = time.perf_counter() + seconds
        while (start := time.perf_counter()) < until:
            store.commit(
                [
                    Append(
                        tenant="acme",
                        events=tuple(
                            _event(n // EVENTS_A_RESPONSE, n % EVENTS_A_RESPONSE)
                            for n in range(number, number + batch)
                        ),
                    )
                ]
            )
            took.append(time.perf_counter() - start)
            number += batch
    took.sort()
    return {
        "events a second": round(batch * len(took) / sum(took)),
        "commits": len(took),
        "commit p50, ms": round(1_000 * took[len(took) // 2], 2),
        "commit p99, ms": round(1_000 * took[len(took) * 99 // 100], 2),
    }


async def _writer(url: str, submitters: int, seconds: float) -> Row:
    """Have many wait for their own response's record at once."""
    keys = Keys(Signer.from_seed("example.com/log", bytes(32)))
    took: list[float] = []
    loop = asyncio.get_running_loop()
    with Store.open(url, keys=keys) as store, Writer(store) as writer:
        began = loop.time()

        async def submit(own: int) -> None:
            n = submitters * 10**9 + own * 10**6
            while (start := loop.time()) < began + seconds:
                future: Future[Committed] = writer.submit(
                    Append(
                        tenant="acme",
                        events=tuple(_event(n, part) for part in range(EVENTS_A_RESPONSE)),
                        entries=(Entry(kind="receipt", id=f"c{n}", body=RECEIPT),),
                    )
                )
                await asyncio.wrap_future(future)
                took.append(loop.time() - start)
                n += 1

        await asyncio.gather(*(submit(own) for own in range(submitters)))
        spent = loop.time() - began
    took.sort()
    return {
        "responses a second": round(len(took) / spent),
        "events a second": round(EVENTS_A_RESPONSE * len(took) / spent),
        "acknowledged p50, ms": round(1_000 * took[len(took) // 2], 2),
        "acknowledged p99, ms": round(1_000 * took[len(took) * 99 // 100], 2),
    }


def _disk(batch: int, seconds: float) -> Row:
    """Append as many bytes as a batch of events has, and sync; nothing else."""
    body = encode(_event(0, 0)) * batch
    took = 0.0
    count = 0
    with tempfile.TemporaryDirectory() as folder, Path(folder, "raw").open("wb", 0) as file:
        while took < seconds / 4:
            start = time.perf_counter()
            file.write(body)
            os.fdatasync(file.fileno())
            took += time.perf_counter() - start
            count += 1
    return {"batch": batch, "events a second": round(batch * count / took),
            "sync, ms": round(1_000 * took / count, 3)}  # fmt: skip


@contextmanager
def _place(name: str) -> Iterator[str]:
    """Make an empty place for a store."""
    if name == "SQLite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/record.db"
        return
    server = _postgres().Server()
    try:
        yield server.url()
    finally:
        server.stop()


def _postgres() -> Any:
    """Load what starts a real server for the tests; by its path, for its package has our name."""
    path = Path(__file__).parents[1] / "tests" / "store" / "postgres.py"
    spec = importlib.util.spec_from_file_location("benchmark_postgres", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
