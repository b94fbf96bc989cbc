"""The events of one request stand in one order, whatever the clocks say."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tocsin.events.chain import STAGES, chain, stage
from tocsin.events.envelope import Event, Links
from tocsin.events.kinds import (
    Alarmed,
    Body,
    Classified,
    Decided,
    Feedback,
    Intervened,
    Retrieved,
    StreamEnded,
    StreamOpened,
    ToolAttempted,
    ToolReturned,
    Used,
)


def _event(number: int, body: Body, **links: str) -> Event:
    return Event(
        id=f"e{number}", time_us=number, source="s", body=body,
        links=Links(request="q", call="c", **links),
    )  # fmt: skip


_RINGS = Alarmed(check="c", verifier="v", verifier_version="1", wanted="halt", done="halt")
_STORY: list[Event] = [
    _event(0, StreamOpened(api="chat")),
    _event(1, Decided(about="input", verdict="allow", action="allow")),
    _event(2, Retrieved(found=3)),
    _event(3, Classified(check="c", bin=4)),
    _event(4, Used(total_ms=4.0)),
    _event(5, ToolAttempted(tool="a"), tool_call="t1"),
    _event(7, ToolReturned(tool="a", ok=True), tool_call="t1"),
    _event(6, ToolAttempted(tool="b"), tool_call="t2"),
    _event(8, ToolReturned(tool="b", ok=True), tool_call="t2"),
    _event(9, _RINGS),
    _event(10, Decided(about="output", verdict="refuse", action="refuse")),
    _event(11, Intervened(done="halt", by="c")),
    _event(12, StreamEnded(outcome="blocked")),
    _event(13, Feedback(verdict="appeal")),
]


@given(st.randoms(use_true_random=False))
def test_the_chain_is_the_story_in_whatever_order_it_was_recorded(draw: random.Random) -> None:
    shuffled = list(_STORY)
    draw.shuffle(shuffled)
    (branch,) = chain(shuffled)
    assert [link.event.id for link in branch.links] == [e.id for e in _STORY]
    assert (branch.request, branch.call) == ("q", "c")
    assert all(shuffled[link.position] is link.event for link in branch.links)


def test_every_stage_is_in_the_story() -> None:
    assert {stage(event) for event in _STORY} == set(STAGES)


def test_each_call_has_a_branch_and_what_came_before_is_in_the_first() -> None:
    links = [Links(request="q", call="c2"), Links(request="q", call="c1"), Links(request="q")]
    bodies: list[Body] = [StreamOpened(api="chat"), StreamOpened(api="chat"), Retrieved()]
    events = [
        Event(id=f"e{n}", time_us=9 - n, source="s", body=body, links=link)
        for n, (body, link) in enumerate(zip(bodies, links, strict=True))
    ]
    found = chain(events)
    assert [(b.call, [link.event.id for link in b.links]) for b in found] == [
        ("c1", ["e1", "e2"]),
        ("c2", ["e0"]),
    ]


def test_feedback_that_names_the_call_alone_stands_with_it() -> None:
    said = Event(id="f", time_us=0, source="s", body=Feedback(verdict="up"), links=Links(call="c"))
    assert len(chain([*_STORY, said])) == 1


def test_nothing_gives_nothing() -> None:
    assert chain([]) == ()
