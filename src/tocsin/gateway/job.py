"""One request that was read and routed: what everyone who works on its answer needs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec
from aiohttp import web

from tocsin.events.kinds import StreamOpened
from tocsin.gateway import headers, telling
from tocsin.gateway.access import Access
from tocsin.gateway.books import RecordFailure
from tocsin.gateway.collecting import Collecting
from tocsin.gateway.errors import Refuse
from tocsin.gateway.meters import Outcome
from tocsin.gateway.plane import Plane
from tocsin.gateway.site import Route, Site, Tenant
from tocsin.gateway.story import Story
from tocsin.guarding.plan import Guard
from tocsin.guarding.response import Guarded
from tocsin.stream.codec import Codec, Made
from tocsin.stream.events import Api, Asked

_PREFIX: dict[Api, str] = {"chat": "chatcmpl-", "responses": "resp_", "messages": "msg_"}


class Ended(NamedTuple):
    """What the client got, and as what that is counted."""

    response: web.StreamResponse
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request.

    Args:
        plane: what all requests share.
        request: the client's.
        codec: of its API.
        site: the configuration that it keeps to.
        tenant, route: whose it is, and its way.
        asked: what it asks for.
        id: of the response.
        asked_at: when it came, in UTC.
        began_s: the same on the clock of the loop.
        access: for the access log.
        story: what the record is told of it.
        sampled: whether its raw content is kept, whatever becomes of it.
        unrecorded: why nothing can be recorded, where that does not stop the request.
    """

    plane: Plane
    request: web.Request
    codec: Codec
    site: Site
    tenant: Tenant
    route: Route
    asked: Asked
    id: str
    asked_at: datetime
    began_s: float
    access: Access
    story: Story
    sampled: bool = False
    unrecorded: RecordFailure | None = None

    @property
    def made(self) -> Made:
        """What encoders need where the upstream says nothing."""
        return Made(
            id=_PREFIX[self.codec.api] + self.id.removeprefix("r_"),
            created_s=int(self.asked_at.timestamp()),
        )

    def open(self, call: str = "") -> None:
        """Tell the record that a response is asked for; the first one where no id is given."""
        if not self.story.told:
            return
        first = not call
        opened = StreamOpened(
            api=self.codec.api,
            stream=self.asked.stream,
            unread=self.asked.unread,
            prompt=self.story.prompt(self.asked.context),
        )
        changes = self.plane.in_force.changes(self.tenant.name, self.route.guard)
        self.story.open(
            call or self.id,
            opened,
            before=changes if first else (),
            after=telling.retrieved(self.asked.context) if first else (),
        )

    async def recorded(self, recording: asyncio.Future[bool] | None) -> bool | None:
        """Wait, not for long, until a receipt is on disk; None where none is to be."""
        if recording is None:
            return None
        return await self.plane.books.settled(recording)

    def collecting(self) -> Collecting | None:
        """Begin to keep what is written, where some of it may be stored."""
        if self.story.told and (self.sampled or self.route.evidence):
            return Collecting()
        return None

    def refused(self, refuse: Refuse, guard: Guard, receipt: str = "") -> Ended:
        """Answer with an error."""
        told = headers.of_guard(guard, receipt or self.id)
        return Ended(refuse.response(self.codec, told), refuse.outcome)

    def note(
        self, guarded: Guarded, guard: Guard, receipt: str = "", *, recorded: bool | None = None
    ) -> dict[str, object]:
        """Say what became of a response, for its end.

        Args:
            guarded: it is over.
            guard: what it was under.
            receipt: its id.
            recorded: whether its receipt is on disk; None where it has none, or nothing is kept.
        """
        return {
            **msgspec.structs.asdict(guarded.account()),
            "unread": self.asked.unread,
            "receipt": receipt or self.id,
            "recorded": recorded,
            "policy": headers.policy_name(guard),
        }


def outcome_of(guarded: Guarded) -> Outcome:
    """Say as what a response is counted that is over."""
    account = guarded.account()
    if account.failure is not None:
        return "upstream_failed" if account.failure.startswith("upstream_") else "failed"
    return "blocked" if account.done in {"halt", "replace", "fallback"} else "ok"
