"""Whose word counts in an audit: of the gateway's responses the gateway's, and others' are told."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record.audit_worlds import START, alarm, at, ended, feedback, review

from tocsin.events.envelope import Event, Links
from tocsin.events.kinds import Body, Decided, PolicyChanged, Reviewed, StreamOpened, ToolReturned
from tocsin.record.audit.clusters import clusters
from tocsin.record.audit.drift import drift
from tocsin.record.audit.escalations import escalations
from tocsin.record.audit.sources import Sources, Told
from tocsin.record.audit.threshold import threshold

OURS = "tocsin/gateway"
AUDITS: dict[str, Callable[..., Any]] = {
    "clusters": clusters, "drift": drift, "threshold": threshold, "escalations": escalations,
}  # fmt: skip
each_audit = pytest.mark.parametrize("audit", AUDITS.values(), ids=AUDITS)


def by(source: str, body: Body, call: str, number: int = 0, **where: Any) -> Event:
    """One event of a source; its id tells it from the same of another source."""
    made = at(body, call, START + number, **where)
    return msgspec.structs.replace(made, source=source, id=f"{source} {made.id}")


def gateways() -> list[Event]:
    """Twenty responses, twelve of which rang."""
    found = []
    for n in range(20):
        rang = n < 12
        if rang:
            found.append(by(OURS, alarm(), f"r{n}", n, route="way"))
        found.append(by(OURS, ended(0.5, alarms=int(rang)), f"r{n}", n, route="way"))
    return found


def about(calls: list[str], source: str = "shop", **where: Any) -> list[Event]:
    """What another service says of the course of responses: all quiet, on another way."""
    return [
        by(source, body, call, 50, route="other", **where)
        for call in calls
        for body in (
            StreamOpened(api="chat", prompt="p_x"), ended(0.9, mode="observe"),
            alarm("harm", wanted="require_approval"),
            Decided(about="output", verdict="require_approval", action="allow"),
        )
    ]  # fmt: skip


def counted(answer: Any) -> Any:
    return msgspec.structs.replace(answer, told=Told())


@each_audit
@pytest.mark.parametrize("first", [True, False])
def test_what_others_say_of_the_gateways_responses_changes_nothing(
    audit: Callable[..., Any], first: bool
) -> None:
    own, other = gateways(), about([f"r{n}" for n in range(20)])
    answer = audit(other + own if first else own + other)
    assert counted(answer) == counted(audit(own))
    assert (answer.told.responses, answer.told.by_others) == (20, 0)
    assert answer.told.aside == sum(len(list(Sources([e]))) for e in other) == 80


def test_what_others_tell_of_their_own_responses_counts_and_is_said() -> None:
    own = gateways()
    other = [by("shop", ended(), f"s{n}") for n in range(7)] + [by("bank", ended(), "b1")]
    answer = clusters(own + other)
    assert (answer.alarms.count, answer.alarms.n) == (12, 28)
    assert answer.told == Told(responses=28, by_others=8, others=("shop", "bank"))


@each_audit
def test_a_source_restricts_the_answer_to_its_responses(audit: Callable[..., Any]) -> None:
    own, other = gateways(), [*about(["s1", "s2"]), by("bank", feedback("appeal"), "s1")]
    added = [by("reviews", review("safe"), "r1", 60), by("app", feedback("appeal"), "r2", 61)]
    assert audit(own + other + added, only=(OURS,)) == audit(own + added)
    assert counted(audit(own + other, only=("shop", OURS, "bank"))) == counted(audit(own + other))
    assert audit(own + other, only=("shop",)).told.others == ("shop",)
    assert audit(own, only=("nobody",)).told == Told()


def test_what_others_add_joins_the_gateways_responses() -> None:
    added = [
        by("reviews", review("safe"), "r1", 60),
        by("app", feedback("appeal"), "r2", 61),
        by("tools", Decided(about="tool", verdict="require_approval", action="allow"), "r3", 62),
        by("tools", ToolReturned(tool="t", ok=True), "r3", 63),
    ]
    (check,) = threshold(gateways() + added).checks
    assert (check.reviewed, check.safe) == (1, 1)
    assert {(r.path, r.asked) for r in escalations(gateways() + added).routes} == {
        ("user", 1), ("approval", 1),
    }  # fmt: skip


@each_audit
def test_a_stored_number_that_cannot_be_is_left_out_and_counted(audit: Callable[..., Any]) -> None:
    own = gateways()
    broken = [
        by("old", Reviewed(label="safe", selection_probability=p), f"r{n}", 70 + n)
        for n, p in enumerate((-3.0, 0.0, 7.0))
    ]
    broken.append(by("old", ended(alarms=-5), "o1"))
    answer = audit(own + broken)
    assert counted(answer) == counted(audit(own))
    assert answer.told.broken == 4


def test_changes_are_those_of_the_sources_that_are_asked_about() -> None:
    told = [
        Event(id=s, time_us=START, source=s, body=PolicyChanged(policy=s, digest="d"))
        for s in (OURS, "shop")
    ]
    assert len(drift(told).changes) == 2
    assert [c.what for c in drift(told, only=(OURS,)).changes] == [f"policy {OURS}: d"]


def test_events_that_can_be_read_once_are_enough() -> None:
    events = gateways() + about(["r1"])

    def once() -> Iterator[Event]:
        yield from events

    assert clusters(once()) == clusters(events)


@given(st.randoms(use_true_random=False))
def test_the_order_decides_nothing_of_whose_word_counts(draw: random.Random) -> None:
    events = gateways() + about(["r1", "r19", "s1"]) + [by("app", feedback("appeal"), "r1")]
    whole = list(events)
    draw.shuffle(events)
    mixed, sorted_ = Sources(events), Sources(whole)
    assert {e.id for e in mixed} == {e.id for e in sorted_}
    assert mixed.told == sorted_.told


def test_an_event_that_names_no_call_is_about_its_request() -> None:
    own = by(OURS, ended(), "r1")
    stray = msgspec.structs.replace(by("shop", ended(), "x"), links=Links(request="r1"))
    assert [e.source for e in Sources([own, stray])] == [OURS]
