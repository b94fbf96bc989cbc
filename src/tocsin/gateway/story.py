"""One request, as the record is told of it: each call is opened once and ends once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from tocsin.events.envelope import UNKNOWN, Event, Links, Segment
from tocsin.events.ids import event_of_response, own_event
from tocsin.events.kinds import Body, ControlChanged, Limited, StreamEnded, StreamOpened
from tocsin.gateway.books import Books, RawContent, Told
from tocsin.gateway.headers import CONVERSATION
from tocsin.gateway.meters import Outcome
from tocsin.gateway.site import Route
from tocsin.gateway.telling import ENDED, asked_of
from tocsin.guarding.plan import Guard
from tocsin.guarding.receipt import Receipt
from tocsin.limits import LANGUAGE_CHARS_MAX, USER_CHARS_MAX
from tocsin.model import Context
from tocsin.stream.events import Asked
from tocsin.stream.shapes import identifier

SOURCE = "tocsin/gateway"

REQUEST = "x-request-id"
USER = "x-tocsin-user"
SURFACE = "x-tocsin-surface"
LANGUAGE = "x-tocsin-language"

_NO_LINKS = Links()
_NO_SEGMENT = Segment()
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*")


class Telling(Protocol):
    """What a story needs of the plane."""

    books: Books
    now: Callable[[], datetime]


class Story:
    """What one request does.

    Args:
        books: where it is told; nothing is made where they keep no record.
        now: gives the time, in UTC.
        tenant, route: whose, and on what way.
        name: of the request within the tenant: events are called ``NAME.1``, ``NAME.2``...
        links: the request, its session and user.
        segment: where it happens.
    """

    def __init__(
        self,
        books: Books,
        now: Callable[[], datetime],
        *,
        tenant: str,
        route: str,
        name: str,
        links: Links = _NO_LINKS,
        segment: Segment = _NO_SEGMENT,
    ) -> None:
        self._books = books
        self._now = now
        self._tenant = tenant
        self._route = route
        self._name = name
        self._links = links
        self._count = 0
        self._open: dict[str, StreamOpened] = {}
        self.segment = segment

    @property
    def told(self) -> bool:
        """Whether anybody listens."""
        return self._books.keeper is not None

    def prompt(self, context: Context) -> str | None:
        """Give the fingerprint of what is asked; None where nobody listens, or no word is."""
        return self._books.prompt(self._tenant, asked_of(context)) if self.told else None

    @property
    def user(self) -> str:
        """As the client names them; empty where it does not."""
        return self._links.user or ""

    @property
    def request(self) -> str:
        """Id of the request."""
        return self._links.request or self._name

    def is_open(self, call: str) -> bool:
        """Whether a call has begun and not ended."""
        return call in self._open

    def open(self, call: str, opened: StreamOpened, before: Iterable[Body] = (),
             after: Iterable[Body] = ()) -> None:  # fmt: skip
        """Tell that a response is being asked for.

        Args:
            call: its id.
            opened: how.
            before: what is told ahead of it, and belongs to no request.
            after: what is known with it.
        """
        if not self.told:
            return
        self._open[call] = opened
        events = [self._event(body, Links(), self.segment) for body in before]
        links = self._linked(call)
        events += [self._event(body, links, self.segment) for body in (opened, *after)]
        self._books.note(self._told(events))

    def tell(
        self,
        call: str,
        bodies: Iterable[Body | tuple[Body, str]],
        *,
        ends: str | None = None,
        segment: Segment | None = None,
        receipt: Receipt | None = None,
        contents: Iterable[RawContent] = (),
    ) -> asyncio.Future[bool] | None:
        """Tell what became of a call.

        Args:
            call: its id.
            bodies: of events, with the id of a tool call where they are about one.
            ends: the call that is over with them.
            segment: the story's own where None.
            receipt: where there is cause for one.
            contents: raw content.

        Returns:
            What tells whether a receipt is on disk; None without one, or without a record.
        """
        if ends is not None:
            self._open.pop(ends, None)
        events = []
        if self.told:
            links = self._linked(call)
            for body in bodies:
                linked = links
                if isinstance(body, tuple):
                    body, tool_call = body  # noqa: PLW2901 - the body and what it is about
                    linked = msgspec.structs.replace(links, tool_call=tool_call or None)
                events.append(self._event(body, linked, segment or self.segment))
        return self._books.give(self._told(events, receipt, tuple(contents)))

    def close(self, outcome: Outcome) -> None:
        """End whatever has not ended, as the whole request did."""
        events = [
            self._event(StreamEnded(outcome=ENDED[outcome]), self._linked(call), self.segment)
            for call in self._open
        ]
        self._open.clear()
        if events:
            self._books.note(self._told(events))

    def _linked(self, call: str) -> Links:
        return msgspec.structs.replace(self._links, call=call)

    def _event(self, body: Body, links: Links, segment: Segment) -> Event:
        self._count += 1
        return Event(
            id=event_of_response(self._name, self._count),
            time_us=_micros(self._now()),
            source=SOURCE,
            body=body,
            links=links,
            segment=segment,
        )

    def _told(
        self,
        events: Iterable[Event],
        receipt: Receipt | None = None,
        contents: tuple[RawContent, ...] = (),
    ) -> Told:
        return Told(
            tenant=self._tenant,
            route=self._route,
            events=tuple(events),
            receipt=receipt,
            contents=contents,
        )


def story_of(
    plane: Telling,
    tenant: str,
    route: Route,
    asked: Asked,
    headers: Mapping[str, str],
    name: str,
) -> Story:
    """Begin the story of a request.

    Args:
        plane: where it is told.
        tenant, route: whose it is, and its way.
        asked, headers: the request.
        name: the id of its response.
    """
    books = plane.books
    if books.keeper is None:
        return Story(books, plane.now, tenant=tenant, route=route.name, name=name)
    conversation = identifier(headers.get(CONVERSATION) or asked.conversation)
    links = Links(
        user=user_of(asked, headers),
        session=conversation or None,  # a pseudonym before it is stored, like the user
        request=identifier(headers.get(REQUEST)) or name,
    )
    segment = segment_of(route.name, route.guard, asked, headers)
    return Story(
        books, plane.now,
        tenant=tenant, route=route.name, name=name, links=links, segment=segment,
    )  # fmt: skip


def draining(tenant: str, name: str, now: datetime) -> Told:
    """Tell that a process takes no more requests.

    Args:
        tenant: who is told.
        name: of the event, within the tenant.
        now: in UTC.
    """
    event = Event(
        id=own_event("draining", name),
        time_us=_micros(now),
        source=SOURCE,
        body=ControlChanged(control="process", to="draining", by="operator"),
    )
    return Told(tenant=tenant, route="", events=(event,))


def limited(tenant: str, name: str, now: datetime, times: int) -> Told:
    """Tell that requests were turned away since a tenant had too many under way.

    Args:
        tenant: who is told.
        name: of the event, within the tenant.
        now: in UTC.
        times: how many.
    """
    body = Limited(limit="streams_max", verdict="refuse", action="refuse", left=0.0, times=times)
    event = Event(id=own_event("limited", name), time_us=_micros(now), source=SOURCE, body=body)
    return Told(tenant=tenant, route="", events=(event,))


def _micros(when: datetime) -> int:
    return int(when.timestamp() * 1_000_000)


def segment_of(route: str, guard: Guard, asked: Asked, headers: Mapping[str, str]) -> Segment:
    """Say where a request happens, as far as it is known before the upstream has answered.

    Example:
        >>> asked = Asked(api="chat", model="small")
        >>> where = segment_of("all", Guard(name="strict"), asked, {"x-tocsin-surface": "shop"})
        >>> where.surface, where.model, where.language
        ('shop', 'small', 'unknown')
    """
    return Segment(
        route=route,
        model=identifier(asked.model) or UNKNOWN,
        policy=guard.name,
        policy_digest=guard.digest or UNKNOWN,
        calibrations=tuple(
            check.monitor.calibration.digest for check in guard.checks if check.monitor is not None
        ),
        language=language_of(headers),
        surface=identifier(headers.get(SURFACE)) or UNKNOWN,
    )


def language_of(headers: Mapping[str, str]) -> str:
    """Give the language of a request: what it says itself, else what its client prefers.

    Example:
        >>> language_of({"accept-language": "de-CH, en;q=0.5"}), language_of({})
        ('de-CH', 'unknown')
    """
    said = headers.get(LANGUAGE) or headers.get("accept-language") or ""
    tag = said.partition(",")[0].partition(";")[0].strip()
    return tag if len(tag) <= LANGUAGE_CHARS_MAX and _LANGUAGE.fullmatch(tag) else UNKNOWN


def user_of(asked: Asked, headers: Mapping[str, str]) -> str | None:
    """Find who asks, as the client names them; it is stored as a pseudonym alone.

    Example:
        >>> user_of(Asked(api="chat", model="m", body={"user": "ann"}), {})
        'ann'
    """
    metadata = asked.body.get("metadata")
    for value in (
        headers.get(USER),
        asked.body.get("safety_identifier"),
        asked.body.get("user"),
        metadata.get("user_id") if isinstance(metadata, Mapping) else None,
    ):
        if isinstance(value, str) and value:
            return value[:USER_CHARS_MAX]
    return None
