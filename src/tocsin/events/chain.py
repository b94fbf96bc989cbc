"""The events of one request as one chain: input, retrieval, output, tool calls, alarm, action.

Clocks of several services differ by more than a model takes between two events, so the order is
by stage first, and by time only within a stage. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from tocsin.events.envelope import Event
from tocsin.events.kinds import Decided, Failed

Stage = Literal["input", "retrieval", "output", "tools", "alarm", "action", "after"]
"""after: what people did later: feedback, reviews, reading of raw content."""

STAGES: tuple[Stage, ...] = get_args(Stage)

_STAGE: dict[str, Stage] = {
    "stream.opened": "input",
    "limit": "input",
    "retrieval": "retrieval",
    "output.classified": "output",
    "usage": "output",
    "tool.attempted": "tools",
    "tool.denied": "tools",
    "tool.returned": "tools",
    "alarm": "alarm",
    "intervention": "action",
    "stream.ended": "action",
}
_ABOUT: dict[str, Stage] = {
    "input": "input",
    "budget": "input",
    "retrieval": "retrieval",
    "tool": "tools",
    "output": "action",
}
_LAST = {"stream.opened": -1, "stream.ended": 1}
_OF_A_TOOL = {"tool.denied": 1, "tool.returned": 2}


class Link(msgspec.Struct, frozen=True):
    """One event in its place.

    Args:
        stage: where in the chain.
        position: in what was given, from 0.
        event: itself.
    """

    stage: Stage
    position: int
    event: Event


class Branch(msgspec.Struct, frozen=True):
    """One call of a model.

    Args:
        request, call: ids; None for events that name none.
        links: its events in order.
    """

    request: str | None
    call: str | None
    links: tuple[Link, ...]


def stage(event: Event) -> Stage:
    """Say where in the chain an event belongs.

    Example:
        >>> from tocsin.events.kinds import Feedback
        >>> stage(Event(id="e", time_us=0, source="shop", body=Feedback(verdict="up")))
        'after'
    """
    if isinstance(event.body, Decided):
        return _ABOUT[event.body.about]
    if isinstance(event.body, Failed):
        return "input" if event.body.phase == "before_first_byte" else "action"
    return _STAGE.get(event.kind, "after")


def chain(events: Sequence[Event]) -> tuple[Branch, ...]:
    """Put events into order: a branch for each call, the branches by their first moment.

    Events of a request that name no call (its limits, its input's decision, its retrieval) stand
    in the first branch of that request; those that name neither in a branch of their own.

    Args:
        events: of one request or session, in the order in which they were recorded.

    Example:
        >>> from tocsin.events.envelope import Links
        >>> from tocsin.events.kinds import StreamEnded, StreamOpened
        >>> ended = Event(
        ...     id="b", time_us=9, source="s", body=StreamEnded(outcome="ok"), links=Links(call="c")
        ... )
        >>> opened = Event(
        ...     id="a", time_us=9, source="s", body=StreamOpened(api="chat"), links=Links(call="c")
        ... )
        >>> [(b.call, [link.event.kind for link in b.links]) for b in chain([ended, opened])]
        [('c', ['stream.opened', 'stream.ended'])]
    """
    groups: dict[tuple[str | None, str | None], list[int]] = {}
    request_of = {e.links.call: e.links.request for e in events if e.links.call and e.links.request}
    first_call: dict[str, str] = {}
    for event in sorted(events, key=lambda e: e.time_us):
        if event.links.call and event.links.request:
            first_call.setdefault(event.links.request, event.links.call)
    for position, event in enumerate(events):
        request, call = event.links.request, event.links.call
        if call is None and request is not None:
            call = first_call.get(request)
        if request is None and call is not None:
            request = request_of.get(call)
        groups.setdefault((request, call), []).append(position)
    began: dict[str, int] = {}
    for event in events:
        tool = event.links.tool_call
        if tool is not None and stage(event) == "tools":
            began[tool] = min(event.time_us, began.get(tool, event.time_us))
    branches = []
    for (request, call), positions in groups.items():
        links = sorted(
            (Link(stage(events[p]), p, events[p]) for p in positions),
            key=lambda link: _place(link, began),
        )
        branches.append(
            (min(events[p].time_us for p in positions), positions[0], links, request, call)
        )
    branches.sort(key=lambda b: b[:2])
    return tuple(Branch(request, call, tuple(links)) for _, _, links, request, call in branches)


def _place(link: Link, began: dict[str, int]) -> tuple[int, int, int, str, int, int, int]:
    """Order by stage, opening and ending, then time; a tool's calls stay together."""
    event = link.event
    time_us, tool = event.time_us, ""
    if link.stage == "tools" and event.links.tool_call is not None:
        tool = event.links.tool_call
        time_us = began[tool]
    rank = _OF_A_TOOL.get(event.kind, 0) if tool else 0
    return (
        STAGES.index(link.stage),
        _LAST.get(event.kind, 0),
        time_us,
        tool,
        rank,
        event.time_us,
        link.position,
    )
