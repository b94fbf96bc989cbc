"""A new configuration, while requests are answered: all of it, or none."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tocsin.errors import TocsinError
from tocsin.gateway.log import Log, place
from tocsin.gateway.prometheus import Prometheus
from tocsin.gateway.site import Site
from tocsin.gateway.surroundings import Live
from tocsin.verifiers.contract import AsyncVerifier


class Reloading:
    """Builds a site beside the loop and puts it into force. Open responses keep theirs.

    A configuration that is bad in any place changes nothing; it is logged and counted.

    Args:
        load: reads the configuration, and raises where it is bad.
        live: where it is put. What is in force at first says where the process keeps its record
            and listens, for as long as it lives.
        meters: what is counted.
        log: told of each reload.
    """

    def __init__(self, load: Callable[[], Site], live: Live, meters: Prometheus, log: Log) -> None:
        self._load = load
        self._live = live
        self._record = live.site.record
        self._address = (live.site.host, live.site.port)
        self._meters = meters
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._leaving: set[asyncio.Task[Any]] = set()

    def order(self) -> None:
        """Reload, soon. An order that comes during a reload is carried out after it."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._reload())

    async def close(self) -> None:
        """Wait for a reload that is under way: a thread cannot be stopped."""
        if self._task is not None:
            self._again = False
            await self._task

    async def _reload(self) -> None:
        while True:
            self._again = False
            await self._once()
            if not self._again:
                return

    def _warmed(self) -> Site:
        site = self._load()
        site.warm()
        return site

    async def _once(self) -> None:
        old = self._live.site
        try:
            site = await asyncio.to_thread(self._warmed)
        except Exception as e:  # noqa: BLE001 - whatever is wrong with it, the old one stays
            # Our own errors name the place in the file, and show no secrets.
            why = {"why": str(e)} if isinstance(e, TocsinError) else place(e)
            self._meters.reloaded(valid=False)
            self._meters.failure("", "config_invalid", "keep_last")
            self._log.say("config_invalid", digest=old.digest, **why)
            return
        self._live.site = site
        # Open responses still use the old one's verifiers: they go with the last of them.
        loop = asyncio.get_running_loop()
        weakref.finalize(old, self._later, loop, old.waited_for).atexit = False
        self._meters.reloaded(valid=True)
        self._log.say("reloaded", digest=site.digest, before=old.digest)
        if site.record != self._record:
            self._log.say("records_as_before", why="the record changes with the next start")
        if (site.host, site.port) != self._address:
            self._log.say("listens_as_before", why="host and port change with the next start")

    def _later(self, loop: asyncio.AbstractEventLoop, verifiers: Sequence[AsyncVerifier]) -> None:
        """Let go of verifiers, in the loop; called wherever the last user went."""
        if verifiers and not loop.is_closed():
            loop.call_soon_threadsafe(self._leave, [one.aclose() for one in verifiers])

    def _leave(self, closing: Sequence[Coroutine[Any, Any, None]]) -> None:
        for one in closing:
            task = asyncio.get_running_loop().create_task(one)
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
