"""Who tells of a response, and whose word counts: what the gateway told of, it alone tells of.

Any service may say that a response ended or rang. Of a response that the gateway itself told of,
others add what it cannot know: feedback, reviews, what a tool did. What they say of its
course, its model or its route counts neither for nor against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

import msgspec

from tocsin.errors import InputError
from tocsin.events.envelope import Event
from tocsin.events.kinds import (
    Alarmed,
    Body,
    Classified,
    Decided,
    Failed,
    Feedback,
    Intervened,
    Reviewed,
    StreamEnded,
    StreamOpened,
    ToolReturned,
    Used,
)
from tocsin.events.ranges import range_flaw
from tocsin.events.reading import OUR_SOURCES
from tocsin.limits import AUDIT_RESPONSES_MAX, AUDIT_ROWS_MAX

_COURSE = (StreamOpened, StreamEnded, Alarmed, Intervened, Failed, Classified, Used)
_RESPONSE: tuple[type[Body], ...] = (StreamEnded, Alarmed)
_ADDED = (Feedback, Reviewed, ToolReturned)
_OF_THE_STREAM = frozenset({"input", "output"})


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """By whom the responses were told of that an audit counts.

    Args:
        responses: that ended or rang; for `clusters`, that ended.
        by_others: of those, the ones that services other than Tocsin told of.
        others: these services, those with the most responses first, at most `AUDIT_ROWS_MAX`.
        aside: what other services said of the course of responses that Tocsin told of: events that
            do not count.
        broken: events with a number that cannot be, such as a negative count: left out.
    """

    responses: int = 0
    by_others: int = 0
    others: tuple[str, ...] = ()
    aside: int = 0
    broken: int = 0


class Sources:
    """The events that count, one after the other; they are gone through twice.

    Args:
        events: that can be gone through again; of what cannot, all is kept meanwhile.
        only: sources to which the answer is restricted; all where empty. What others add to the
            responses of these sources stays.
        shown_by: the kinds of which one makes a response count.

    Example:
        >>> from tocsin.events.envelope import Links
        >>> ended = StreamEnded(outcome="ok")
        >>> own = Event(
        ...     id="a", time_us=0, source="tocsin/gateway", body=ended, links=Links(call="r")
        ... )
        >>> other = Event(id="b", time_us=0, source="shop", body=ended, links=Links(call="r"))
        >>> said = Sources([other, own])
        >>> [event.id for event in said], said.told.aside
        (['a'], 1)
    """

    def __init__(
        self,
        events: Iterable[Event],
        only: Collection[str] = (),
        *,
        shown_by: tuple[type[Body], ...] = _RESPONSE,
    ) -> None:
        self._events = tuple(events) if iter(events) is events else events
        self._only = frozenset(only)
        self._shown_by = shown_by
        self._responses: set[str] = set()
        self._by: dict[str, str] = {}  # the responses of others, and the first who told of each
        self._aside = 0
        self._broken = 0

    def __iter__(self) -> Iterator[Event]:
        """Give what counts, in order."""
        self._responses, self._by, self._aside, self._broken = set(), {}, 0, 0
        ours, chosen = self._known()
        for event in self._events:
            if range_flaw(event) is not None:
                self._broken += 1
                continue
            name = response_of(event)
            own = event.source.startswith(OUR_SOURCES)
            if not own and name in ours and _of_course(event):
                self._aside += 1
                continue
            if self._only and not self._is_chosen(event, name, chosen):
                continue
            if isinstance(event.body, self._shown_by):
                self._count(name, event.source, own=own)
            yield event

    @property
    def told(self) -> Told:
        """By whom, of what was gone through."""
        counted = Counter(self._by.values())
        return Told(
            responses=len(self._responses),
            by_others=len(self._by),
            others=tuple(name for name, _ in counted.most_common(AUDIT_ROWS_MAX)),
            aside=self._aside,
            broken=self._broken,
        )

    def _known(self) -> tuple[set[str], set[str]]:
        """Name the responses that Tocsin told of, and those that the chosen sources did."""
        ours: set[str] = set()
        chosen: set[str] = set()
        for event in self._events:
            if _of_course(event):
                if event.source.startswith(OUR_SOURCES):
                    _add(ours, response_of(event))
                if event.source in self._only:
                    _add(chosen, response_of(event))
        return ours, chosen

    def _is_chosen(self, event: Event, name: str, chosen: set[str]) -> bool:
        if isinstance(event.body, _ADDED):
            return name in chosen
        return event.source in self._only

    def _count(self, name: str, source: str, *, own: bool) -> None:
        _add(self._responses, name)
        if not own:
            self._by.setdefault(name, source)


def response_of(event: Event) -> str:
    """Name the response that an event is about, as far as it says."""
    return event.links.call or event.links.request or event.id


def _of_course(event: Event) -> bool:
    """Whether an event tells of the course of a response, which the gateway knows best."""
    body = event.body
    if isinstance(body, Decided):
        return body.about in _OF_THE_STREAM
    return isinstance(body, _COURSE)


def _add(names: set[str], name: str) -> None:
    if len(names) >= AUDIT_RESPONSES_MAX and name not in names:
        raise InputError(f"more than {AUDIT_RESPONSES_MAX:,} responses: ask about a shorter time")
    names.add(name)
