"""A record for tests: a store in a folder, a recorder with the real redaction, a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tocsin.errors import StoreError
from tocsin.events.envelope import Event, Links
from tocsin.events.kinds import Body, Feedback
from tocsin.record.http import routes
from tocsin.record.recorder import Recorder
from tocsin.record.redaction import PatternFinder, Redaction
from tocsin.record.surroundings import Bounds
from tocsin.store import Append, Committed, Scope, Store, Writer
from tocsin.store.roles import Principal

NOW_US = 1_700_000_000_000_000
KEYS = {
    "key-of-shop": Principal(tenant="shop", id="k_shop", role="admin"),
    "key-of-bank": Principal(tenant="bank", id="k_bank", role="admin"),
    "key-to-send": Principal(tenant="shop", id="k_send", role="operator", scopes=("record.write",)),
    "key-to-judge": Principal(tenant="shop", id="k_judge", role="reviewer"),
    "key-to-look": Principal(tenant="shop", id="k_look", role="viewer"),
}


def event(number: int = 0, body: Body | None = None, **fields: Any) -> Event:
    """Make an event of now."""
    given: dict[str, Any] = {
        "id": f"e{number}",
        "time_us": NOW_US + number,
        "source": "shop/web",
        "body": body or Feedback(verdict="down"),
        "links": Links(request="q1"),
    }
    return Event(**(given | fields))


def redaction() -> Redaction:
    """Make the real redaction; its patterns are compiled once a process."""
    global _finder  # noqa: PLW0603 - compiling takes a second
    _finder = _finder or PatternFinder()
    return Redaction(_finder, b"k" * 32)


_finder: PatternFinder | None = None


@contextmanager
def store(folder: Path) -> Iterator[Store]:
    """Open a store in a folder."""
    with Store.open(str(folder / "record.db")) as opened:
        yield opened


@asynccontextmanager
async def recording(folder: Path, **options: Any) -> AsyncIterator[tuple[Recorder, Store]]:
    """Run a recorder on a store of its own."""
    with store(folder) as opened, Writer(opened) as writer:
        recorder = Recorder(
            writer, redaction().tenant, clock_us=lambda: NOW_US, **({"bounds": Bounds()} | options)
        )
        await recorder.start()
        try:
            yield recorder, opened
        finally:
            await recorder.close()


class SlowWriter:
    """Commits nothing until it is told to; then with an outcome of the test's choice."""

    def __init__(self) -> None:
        self.given: list[tuple[Append, Future[Committed]]] = []
        self.refuses: StoreError | None = None
        self.refusal: StoreError | None = None

    def submit(self, append: Append) -> Future[Committed]:
        """Take an append, or refuse it."""
        if self.refuses is not None:
            raise self.refuses
        future: Future[Committed] = Future()
        self.given.append((append, future))
        return future

    def settle(self, error: StoreError | None = None) -> list[Append]:
        """Finish all that waits."""
        settled, self.given = self.given, []
        for append, future in settled:
            if error is None:
                future.set_result(Committed(tenant=append.tenant, first=1, last=1))
            else:
                future.set_exception(error)
        return [append for append, _ in settled]


class Untouched:
    """A redactor that changes nothing."""

    def event(self, event: Event) -> Event:
        """Give it as it is."""
        return event

    def person(self, who: str) -> str:
        """Give them as they are."""
        return who


@asynccontextmanager
async def serving(
    folder: Path, *, unpacks: bool = False, **options: Any
) -> AsyncIterator[tuple[str, aiohttp.ClientSession, Store]]:
    """Serve the record's routes on a real socket; gives the URL, a client and the store."""
    async with (
        recording(folder, **options) as (recorder, opened),
        served(recorder, opened, unpacks=unpacks) as url,
        aiohttp.ClientSession() as client,
    ):
        yield url, client, opened


@asynccontextmanager
async def served(
    recorder: Recorder,
    opened: Any,
    clock_us: Callable[[], int] = lambda: NOW_US,
    *,
    unpacks: bool = False,
) -> AsyncIterator[str]:
    """Serve a recorder; with `unpacks`, on a server that unpacks bodies by itself."""

    def principal(request: web.Request) -> Principal | None:
        return KEYS.get(request.headers.get("authorization", "").removeprefix("Bearer "))

    app = web.Application()
    app.add_routes(routes(recorder, principal, opened, clock_us=clock_us))
    runner = web.AppRunner(app, auto_decompress=unpacks, lingering_time=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def bearer(key: str = "key-of-shop") -> dict[str, str]:
    """Give the header of a key."""
    return {"authorization": f"Bearer {key}"}


def stored(opened: Store, tenant: str = "shop") -> list[Event]:
    """Read what a tenant has, but for what the record says about itself."""
    found = [one.event for one in opened.events(Scope(tenant))]
    return [one for one in found if not one.source.startswith("tocsin/")]


def run(main: Any) -> Any:
    """Run a coroutine; what it leaves behind would be a warning, and so an error."""
    return asyncio.run(main)


async def until(holds: Callable[[], Any], pause_s: float = 0.0) -> None:
    """Wait until something holds; a minute at most."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(pause_s)


def found_in(folder: Path, canary: bytes) -> list[Path]:
    """Name the files of a folder that hold a text."""
    return [p for p in folder.rglob("*") if p.is_file() and canary in p.read_bytes()]
