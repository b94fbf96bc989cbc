"""Is the escalation path used as designed: who was asked, who answered, how fast?"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from tocsin.errors import InputError
from tocsin.events.envelope import Event
from tocsin.events.kinds import (
    Alarmed,
    Decided,
    Failed,
    Feedback,
    Reviewed,
    StreamEnded,
    ToolReturned,
)
from tocsin.limits import AUDIT_ROWS_MAX
from tocsin.record.audit.sources import Sources, Told, response_of
from tocsin.record.audit.statistics import Share, share

KINDS = (
    "alarm", "failure", "feedback", "policy.decided", "review.outcome", "stream.ended",
    "tool.returned",
)  # fmt: skip
"""What this audit reads."""

NEEDED = KINDS
"""What it cannot do without."""

WITHIN_US = 24 * 3_600_000_000
"""How soon a person should have answered, unless another time is given."""

Path = Literal["stronger check", "approval", "user"]
"""Who is asked: a stronger verifier or a person while the stream waits; a person afterwards."""

_LIVE = {"escalate": "stronger check", "require_approval": "approval"}
_ASKS = {"report", "escalate", "appeal"}


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One way of asking.

    Args:
        path: who is asked.
        asked: responses.
        upheld, overruled, unclear: what was answered.
        unanswered: nobody did, in time.
        open: the time for an answer is not over.
        observed: the policy only observes, so nobody was asked.
        bypassed: what should have been asked first was done without.
        answered: of those whose time is over.
        median_us, slowest_us: time to an answer: of half, and of nine in ten of those whose time is
            over, microseconds; None where fewer were answered, or the answer comes at once.
    """

    path: Path
    asked: int
    upheld: int
    overruled: int
    unclear: int
    unanswered: int
    open: int
    observed: int
    bypassed: int
    answered: Share
    median_us: int | None = None
    slowest_us: int | None = None


class Astray(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of departure from the design, with examples.

    Args:
        what: a sentence.
        count: how often.
        examples: calls, at most `AUDIT_ROWS_MAX`.
    """

    what: str
    count: int
    examples: tuple[str, ...]


class Escalations(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    Args:
        within_us: how soon a person should have answered.
        routes: the ways that were used or should have been.
        astray: where the path was not used as designed; none where it was.
        times_us: of the answers to users, ascending, microseconds.
        cases: users' wishes of which that is known: answered, or in vain; `times_us` has those
            that were answered.
        verdict: a sentence.
        told: by whom the responses were told of.
    """

    within_us: int
    routes: tuple[Route, ...]
    astray: tuple[Astray, ...]
    times_us: tuple[int, ...]
    verdict: str
    cases: int = 0
    told: Told = Told()


@dataclass
class _Call:
    """What happened to one response."""

    mode: str = "enforce"
    alarms: list[Alarmed] = field(default_factory=list)
    silent: bool = False
    asked_us: int | None = None
    reviews: list[tuple[int, Reviewed]] = field(default_factory=list)
    decisions: list[tuple[int, Decided, str | None]] = field(default_factory=list)
    returned: list[tuple[int, str | None]] = field(default_factory=list)


@dataclass
class _Count:
    asked: int = 0
    upheld: int = 0
    overruled: int = 0
    unclear: int = 0
    unanswered: int = 0
    open: int = 0
    observed: int = 0
    bypassed: int = 0


def escalations(
    events: Iterable[Event],
    *,
    within_us: int = WITHIN_US,
    until_us: int | None = None,
    only: Collection[str] = (),
) -> Escalations:
    """Compare what was asked and answered with what the policy wants.

    While the stream waits: an alarm that wants a stronger check or an approval is answered by what
    was done. Afterwards: a user's report, escalation or appeal is answered by a review of the same
    response; safe means that the alarm is overruled. An action of a tool that needed approval has
    been bypassed where the tool answered without a review in between.

    Args:
        events: of the kinds `KINDS`, in order; others are passed over.
        within_us: how soon a person should have answered, above 0.
        until_us: when the record ends; None takes the time of the last event.
        only: sources of events to which the answer is restricted; all where empty.

    Raises:
        InputError: no time for an answer.

    Example:
        >>> escalations([]).verdict
        'nobody was asked, and nobody should have been'
    """
    if within_us <= 0:
        raise InputError("the time for an answer must be longer than nothing")
    heard = Sources(events, only)
    calls, last_us = _read(heard)
    until = last_us if until_us is None else until_us
    counts: dict[Path, _Count] = {p: _Count() for p in ("stronger check", "approval", "user")}
    astray: dict[str, list[str]] = {}
    times: list[int] = []
    waits: list[float] = []
    for name, call in calls.items():
        for alarm in call.alarms:
            _live(name, call, alarm, counts, astray)
        _tools(name, call, counts["approval"], astray)
        if call.asked_us is not None:
            wait = _user(name, call, counts["user"], astray, within_us, until)
            if wait is not None:
                waits.append(wait)
                times += [int(wait)] if math.isfinite(wait) else []
    routes = tuple(
        _route(path, count, waits if path == "user" else ())
        for path, count in counts.items()
        if count.asked or count.observed or count.bypassed
    )
    return Escalations(
        within_us=within_us,
        routes=routes,
        astray=tuple(
            Astray(what=what, count=len(names), examples=tuple(names[:AUDIT_ROWS_MAX]))
            for what, names in sorted(astray.items(), key=lambda item: -len(item[1]))
        ),
        times_us=tuple(sorted(times)),
        cases=len(waits),
        verdict=_verdict(routes, sum(len(names) for names in astray.values())),
        told=heard.told,
    )


def _read(events: Iterable[Event]) -> tuple[dict[str, _Call], int]:
    calls: dict[str, _Call] = {}
    last_us = 0
    for event in events:
        last_us = max(last_us, event.time_us)
        call = calls.setdefault(response_of(event), _Call())
        body = event.body
        if isinstance(body, StreamEnded):
            call.mode = body.mode
        elif isinstance(body, Alarmed):
            call.alarms.append(body)
        elif isinstance(body, Failed):
            call.silent |= body.failure == "appeal_unanswered"
        elif isinstance(body, Feedback):
            if body.verdict in _ASKS and call.asked_us is None:
                call.asked_us = event.time_us
        elif isinstance(body, Reviewed):
            call.reviews.append((event.time_us, body))
        elif isinstance(body, Decided):
            call.decisions.append((event.time_us, body, event.links.tool_call))
        elif isinstance(body, ToolReturned):
            call.returned.append((event.time_us, event.links.tool_call))
    return calls, last_us


def _live(
    name: str, call: _Call, alarm: Alarmed, counts: dict[Path, _Count], astray: dict[str, list[str]]
) -> None:
    """Count an alarm that wants somebody to be asked while the stream waits."""
    path = _LIVE.get(alarm.wanted)
    if path is None:
        return
    count = counts["stronger check" if path == "stronger check" else "approval"]
    if call.mode == "observe":
        count.observed += 1
        return
    count.asked += 1
    if alarm.overruled:
        count.overruled += 1
    elif call.silent or alarm.done == alarm.wanted:
        count.unanswered += 1
        astray.setdefault(f"{path}: nobody answered while the stream waited", []).append(name)
    elif alarm.done in {"allow", "shadow"}:
        count.bypassed += 1
        astray.setdefault(f"{path}: wanted, and let pass without an answer", []).append(name)
    else:
        count.upheld += 1


def _tools(name: str, call: _Call, count: _Count, astray: dict[str, list[str]]) -> None:
    """Count actions that need an approval."""
    for time_us, decided, tool_call in call.decisions:
        if decided.verdict != "require_approval":
            continue
        if call.mode == "observe":
            count.observed += 1
            continue
        count.asked += 1
        answers = [review for at, review in call.reviews if at >= time_us]
        done = [at for at, of in call.returned if at >= time_us and of == tool_call]
        first = min((at for at, _ in call.reviews if at >= time_us), default=None)
        if decided.action == "allow" or (done and (first is None or min(done) < first)):
            count.bypassed += 1
            astray.setdefault("approval: wanted, and done without", []).append(name)
        elif answers:
            _answer(count, answers[0])
        elif decided.action == "refuse":
            count.upheld += 1
        else:
            count.unanswered += 1
            astray.setdefault("approval: nobody answered", []).append(name)


def _user(
    name: str, call: _Call, count: _Count, astray: dict[str, list[str]], within_us: int, until: int
) -> float | None:
    """Count a user's wish for a person; the wait, inf where it was in vain, None while it lasts."""
    asked = call.asked_us or 0
    count.asked += 1
    answers = sorted(
        ((at, review) for at, review in call.reviews if at >= asked), key=lambda item: item[0]
    )
    if answers:
        at, review = answers[0]
        _answer(count, review)
        if at - asked > within_us:
            astray.setdefault("user: answered too late", []).append(name)
        return float(at - asked)
    if until - asked <= within_us:
        count.open += 1
        return None
    count.unanswered += 1
    astray.setdefault("user: nobody answered in time", []).append(name)
    return math.inf


def _answer(count: _Count, review: Reviewed) -> None:
    if review.label == "safe":
        count.overruled += 1
    elif review.label == "unsafe":
        count.upheld += 1
    else:
        count.unclear += 1


def _route(path: Path, count: _Count, waits: Sequence[float]) -> Route:
    answered = count.upheld + count.overruled + count.unclear
    over = answered + count.unanswered + count.bypassed
    return Route(
        path=path,
        asked=count.asked,
        upheld=count.upheld,
        overruled=count.overruled,
        unclear=count.unclear,
        unanswered=count.unanswered,
        open=count.open,
        observed=count.observed,
        bypassed=count.bypassed,
        answered=share(answered, over),
        median_us=_quantile(waits, 0.5),
        slowest_us=_quantile(waits, 0.9),
    )


def _quantile(waits: Sequence[float], level: float) -> int | None:
    """Return the wait of so many of them, those in vain counted as endless."""
    if not waits:
        return None
    found = sorted(waits)[math.ceil(level * len(waits)) - 1]
    return int(found) if math.isfinite(found) else None


def _verdict(routes: tuple[Route, ...], astray: int) -> str:
    asked = sum(route.asked for route in routes)
    if not routes:
        return "nobody was asked, and nobody should have been"
    if not asked:
        return "nobody was asked: the policy only observes"
    if not astray:
        return f"used as designed: all {asked} that wanted an answer got one in time, or still may"
    return f"not as designed in {astray} of {asked} cases"
