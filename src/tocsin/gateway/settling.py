"""What became of a request or a response: counted, told to the record, and given a receipt."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from tocsin import __version__
from tocsin.events.envelope import UNKNOWN, Segment
from tocsin.events.kinds import Body, ContentKept
from tocsin.gateway import telling
from tocsin.gateway.books import RawContent
from tocsin.gateway.collecting import Collecting, asked_texts
from tocsin.gateway.job import Job
from tocsin.gateway.meters import Outcome, Place
from tocsin.guarding.receipt import Who
from tocsin.guarding.response import Guarded
from tocsin.stream.shapes import identifier


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What is known when a request was checked, or a response is over or was left.

    Args:
        place: which of the two.
        receipt: id of its receipt.
        outcome: how the response ended; None where it has not.
        upstream, model: who wrote.
        conversation: hash of what it belongs to.
        is_fallback: it is what the reader got in the place of another answer: cause enough for a
            receipt.
        first_ms: until the first text of a stream went out; None where none did.
        collected: what was written, where that may be kept.
    """

    place: Place
    receipt: str
    outcome: Outcome | None = None
    upstream: str = ""
    model: str = ""
    conversation: str | None = None
    is_fallback: bool = False
    first_ms: float | None = None
    collected: Collecting | None = None

    def has_receipt(self, guarded: Guarded) -> bool:
        """Whether there is cause for one."""
        return bool(guarded.alarms or guarded.failures) or self.is_fallback


def settle(job: Job, guarded: Guarded, what: Settled) -> asyncio.Future[bool] | None:
    """Count what became of a request or a response, tell it, and give a receipt with cause.

    Returns:
        What tells whether the receipt is on disk; None without one, or without a record.
    """
    _count(job, guarded, what)
    made = None
    if what.has_receipt(guarded):
        salt = job.plane.books.salt(job.tenant.name, what.receipt)
        made = guarded.receipt(_who(job, what), salt)
    story = job.story
    if not story.told:
        return story.tell(job.id, (), receipt=made)
    contents = _contents(job, guarded, what)
    bodies: list[Body | tuple[Body, str]] = [*_bodies(job, guarded, what), *_kept(contents)]
    call = what.receipt if what.place == "response" else job.id
    ends = None
    if what.outcome is not None and story.is_open(call):
        ends = call
        given = None if made is None else what.receipt
        bodies.append(telling.ended(guarded, what.place, what.outcome, given))
    return story.tell(
        call,
        bodies,
        ends=ends,
        segment=_segment(job, guarded, what),
        receipt=made,
        contents=contents,
    )


def _count(job: Job, guarded: Guarded, what: Settled) -> None:
    meters, route = job.plane.meters, job.route.name
    for alarm in guarded.alarms:
        meters.alarm(route, what.place, alarm.check, alarm.done)
    for failure in guarded.failures:
        meters.failure(route, failure.failure, failure.response)
    if what.place == "response":
        account = guarded.account()
        meters.chars(route, account.scanned, account.held, account.released)
        job.access.chars += account.released


def _who(job: Job, what: Settled) -> Who:
    asked = job.asked
    return Who(
        id=what.receipt,
        tenant=job.tenant.name,
        route=job.route.name,
        api=job.codec.api,
        model=identifier(what.model or asked.model),
        asked=identifier(asked.model),
        unread=asked.unread,
        upstream=what.upstream,
        conversation=what.conversation,
        asked_at=_utc(job.asked_at),
        ended_at=_utc(job.plane.now()),
        made_by=f"tocsin {__version__}",
    )


def _bodies(job: Job, guarded: Guarded, what: Settled) -> Iterator[Body | tuple[Body, str]]:
    """Tell all but the end."""
    yield telling.decided(guarded, what.place)
    yield from telling.alarms(guarded, what.receipt)
    yield from telling.interventions(guarded)
    yield from telling.failures(guarded)
    if what.place == "input":
        return
    for window in guarded.tools:
        named = identifier(window.begins.get("call_id") or window.begins.get("id"))
        for body in telling.tool(window, guarded):
            yield body, named
    yield from telling.classified(guarded)
    total_ms = (asyncio.get_running_loop().time() - job.began_s) * 1_000
    yield telling.used(guarded.spent, what.first_ms, total_ms)


def _segment(job: Job, guarded: Guarded, what: Settled) -> Segment:
    if what.place == "input":
        return job.story.segment
    return msgspec.structs.replace(
        job.story.segment,
        model=identifier(what.model) or job.story.segment.model,
        model_version=identifier(guarded.head.get("model")) or UNKNOWN,
    )


# ------------------------------------------------------------------------------------ raw content


def _contents(job: Job, guarded: Guarded, what: Settled) -> tuple[RawContent, ...]:
    """Give what is kept: of a response that was drawn, or in which an alarm rang."""
    plan = job.site.record
    evidence = job.route.evidence and bool(guarded.alarms)
    if plan is None:
        return ()
    if not evidence and not (job.sampled and what.place == "response"):
        return ()
    texts = asked_texts(job.asked.context)
    if what.collected is not None:
        texts["output"] = what.collected.output()
    expires_us = int(job.plane.now().timestamp() * 1_000_000) + plan.content_us
    return tuple(
        RawContent(
            id=f"{what.receipt}-{name}",
            what=name,
            user=job.story.user,
            call=what.receipt,
            request=job.story.request,
            text=text,
            why="evidence" if evidence else "sample",
            expires_us=expires_us,
        )
        for name, text in texts.items()
        if text
    )


def _kept(contents: Iterable[RawContent]) -> Iterator[ContentKept]:
    for one in contents:
        yield ContentKept(
            content=one.id,
            what=one.what,
            why=one.why,
            chars=len(one.text),
            expires_us=one.expires_us,
        )


def _utc(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
