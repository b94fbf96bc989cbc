"""One request that was read and routed: what everyone who works on its answer needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec
from aiohttp import web

from tocsin import __version__
from tocsin.gateway import headers
from tocsin.gateway.access import Access
from tocsin.gateway.errors import Refuse
from tocsin.gateway.meters import Outcome, Place
from tocsin.gateway.plane import Plane
from tocsin.gateway.site import Route, Site, Tenant
from tocsin.guarding.plan import Guard
from tocsin.guarding.receipt import Who
from tocsin.guarding.response import Guarded
from tocsin.stream.codec import Codec, Made
from tocsin.stream.events import Api, Asked
from tocsin.stream.shapes import identifier

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

    @property
    def made(self) -> Made:
        """What encoders need where the upstream says nothing."""
        return Made(
            id=_PREFIX[self.codec.api] + self.id.removeprefix("r_"),
            created_s=int(self.asked_at.timestamp()),
        )

    def refused(self, refuse: Refuse, guard: Guard, receipt: str = "") -> Ended:
        """Answer with an error."""
        told = headers.of_guard(guard, receipt or self.id)
        return Ended(refuse.response(self.codec, told), refuse.outcome)

    def note(self, guarded: Guarded, guard: Guard, receipt: str = "") -> dict[str, object]:
        """Say what became of a response, for its end."""
        return {
            **msgspec.structs.asdict(guarded.account()),
            "unread": self.asked.unread,
            "receipt": receipt or self.id,
            "policy": headers.policy_name(guard),
        }

    def settle(
        self,
        guarded: Guarded,
        place: Place,
        receipt: str,
        *,
        upstream: str = "",
        model: str = "",
        conversation: str | None = None,
        is_fallback: bool = False,
    ) -> None:
        """Count what became of a request or a response, and give a receipt where there is cause.

        Args:
            guarded: it is over, or was left.
            place: which of the two.
            receipt: its id.
            upstream, model: who wrote.
            conversation: hash of what it belongs to.
            is_fallback: it is what the reader got in the place of another answer: cause enough.
        """
        meters, route = self.plane.meters, self.route.name
        account = guarded.account()
        for alarm in guarded.alarms:
            meters.alarm(route, place, alarm.check, alarm.done)
        for failure in guarded.failures:
            meters.failure(route, failure.failure, failure.response)
        if place == "response":
            meters.chars(route, account.scanned, account.held, account.released)
            self.access.chars += account.released
        if not (guarded.alarms or guarded.failures or is_fallback):
            return
        who = Who(
            id=receipt,
            tenant=self.tenant.name,
            route=route,
            api=self.codec.api,
            model=identifier(model or self.asked.model),
            asked=identifier(self.asked.model),
            unread=self.asked.unread,
            upstream=upstream,
            conversation=conversation,
            asked_at=_utc(self.asked_at),
            ended_at=_utc(self.plane.now()),
            made_by=f"tocsin {__version__}",
        )
        self.plane.receipts.give(guarded.receipt(who), self.site.receipts)


def outcome_of(guarded: Guarded) -> Outcome:
    """Say as what a response is counted that is over."""
    account = guarded.account()
    if account.failure is not None:
        return "upstream_failed" if account.failure.startswith("upstream_") else "failed"
    return "blocked" if account.done in {"halt", "replace", "fallback"} else "ok"


def _utc(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
