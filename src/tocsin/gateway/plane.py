"""The data plane: what all requests share, and the one timer that watches them."""

from __future__ import annotations

import asyncio
import math
import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

import aiohttp

from tocsin.gateway.books import Books
from tocsin.gateway.conversations import Conversations
from tocsin.gateway.errors import Refuse
from tocsin.gateway.in_force import InForce
from tocsin.gateway.meters import Outcome
from tocsin.gateway.site import Tenant
from tocsin.gateway.story import draining, limited
from tocsin.gateway.surroundings import Surroundings
from tocsin.gateway.turned_away import TurnedAway
from tocsin.gateway.upstream import open_session
from tocsin.guarding.doors import Approver
from tocsin.limits import TICK_MS

_ID_BYTES = 18
_RETRY = {"retry-after": "1"}


class Watched(Protocol):
    """What the ticker looks at."""

    def tick(self, now_s: float) -> None:
        """Look whether anything is late; takes microseconds and never fails."""


class Plane:
    """What all requests share. Lives in one event loop, from `start` to `stop`.

    Args:
        around: the configuration in force, what is counted and logged, the order to stop.
        approver: who is asked for approval.
        new_id: makes identifiers: letters, digits, ``-`` and ``_``, never the same twice.
        now: gives the time, in UTC.
        draw: gives a number from 0 to 1, for what is sampled.

    Attributes:
        session: for the calls of upstreams.
        books: where events and receipts go.
        conversations: those that are remembered.
        in_force: which rules each tenant was told of.
        under_way: requests.
        at_close: is called when all requests have ended and the books are still open.
    """

    session: aiohttp.ClientSession
    conversations: Conversations

    def __init__(
        self,
        around: Surroundings,
        *,
        approver: Approver | None = None,
        new_id: Callable[[], str] = lambda: secrets.token_urlsafe(_ID_BYTES),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.live = around.live
        self.meters = around.meters
        self.log = around.log
        self.draining = around.draining
        self.standing = around.standing
        self.approver = approver
        self.new_id = new_id
        self.now = now
        self.draw = draw
        self.books = Books(self.meters, self.log)
        self.in_force = InForce()
        self.under_way = 0
        self.at_close: list[Callable[[], None]] = []
        self._by_tenant: Counter[str] = Counter()
        self._turned_away = TurnedAway()
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._why_told = True

    async def start(self) -> None:
        """Begin, within the loop.

        Raises:
            TocsinError: the record cannot be opened.
        """
        loop = asyncio.get_running_loop()
        if self.live.site.record is not None and self.books.keeper is None:
            from tocsin.gateway.keeper import open_keeper  # SQLAlchemy: a third of a second

            self.books.keeper = await open_keeper(self.live.site, self.meters, self.log)
        self.session = open_session()
        self.conversations = Conversations(loop.time)
        self._timer = loop.call_later(TICK_MS / 1_000, self._tick, loop)

    async def stop(self) -> None:
        """End: connections are closed, what waits is recorded."""
        if self._timer is not None:
            self._timer.cancel()
        await self.session.close()
        self._tell_turned_away(math.inf)
        self._tell_draining()
        for tell in self.at_close:
            tell()
        await self.books.close()

    @property
    def left(self) -> Outcome:
        """As what a request is counted whose connection was lost: whoever closed it."""
        return "failed" if self.draining.cut else "client_gone"

    def _tell_draining(self) -> None:
        """Tell every tenant that asked for anything that the process takes no more."""
        if self.draining.begun and self.books.keeper is not None:
            boot = self.new_id()
            for tenant in sorted(self.in_force.tenants):
                self.books.note(draining(tenant, boot, self.now()))

    def _tell_turned_away(self, now_s: float) -> None:
        for tenant, times in self._turned_away.due(now_s):
            self.books.note(limited(tenant, self.new_id(), self.now(), times))

    def _look(self) -> None:
        """See how the record is; where it has failed, the process has to go."""
        failure, why = self.books.failure, self.books.why
        if failure == self.standing.failure and (self._why_told or not why):
            return
        was, self.standing.failure = self.standing.failure, failure
        self._why_told = failure is None or bool(why)
        if failure is None:
            self.log.say("record", state="ok")
            return
        self.log.say("record", state=failure, why=why or "what waits is not written in time")
        if failure == "record_failed" and was != failure:
            self.standing.leave()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = loop.time()
        self._look()
        self._tell_turned_away(now_s)
        self.books.tick()
        for watched in list(self._watched):
            watched.tick(now_s)
        self._timer = loop.call_later(TICK_MS / 1_000, self._tick, loop)

    @contextmanager
    def watching(self, watched: Watched) -> Iterator[None]:
        """Have the ticker look at something."""
        self._watched.add(watched)
        try:
            yield
        finally:
            self._watched.discard(watched)

    # ---------------------------------------------------------------------------------- admission

    def admits(self, tenant: Tenant) -> Refuse | None:
        """Say whether a tenant may have one more request under way; a refusal is counted."""
        if self._by_tenant[tenant.name] >= tenant.streams_max:
            self._turned_away.add(tenant.name)
            return Refuse(
                kind="too_many",
                message=f"more than {tenant.streams_max} requests are under way; wait for one",
                outcome="limited",
                headers=_RETRY,
                closes=True,
            )
        return None

    @contextmanager
    def admitted(self, tenant: Tenant) -> Iterator[None]:
        """Count a request while it is under way."""
        self.under_way += 1
        self._by_tenant[tenant.name] += 1
        try:
            yield
        finally:
            self.under_way -= 1
            self._by_tenant[tenant.name] -= 1
            if not self._by_tenant[tenant.name]:
                del self._by_tenant[tenant.name]
