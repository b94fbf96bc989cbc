"""A batch of events of one tenant: read, bounded, redacted, committed; a verdict for each event."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from tocsin.errors import AppendRefused, StoreAway
from tocsin.events.cloudevents import from_cloudevent
from tocsin.events.envelope import Event
from tocsin.events.reading import Flaw, flaw_from_outside, read_event
from tocsin.limits import EVENT_BYTES_MAX, EVENTS_BATCH_MAX, EVENTS_COMMIT_MS_MAX
from tocsin.record.recorder import Recorder, Redacted
from tocsin.store.append import Append, Committed

Verdict = Literal["accepted", "duplicate", "rejected"]
"""accepted: durable. duplicate: an event with this id was there already, and stays as it is.
rejected: not taken, and would not be taken if it were sent again."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one event.

    Args:
        index: in the batch, from 0.
        verdict: in a word.
        id: as it was sent, where it had one.
        reason: why it was rejected, or how a duplicate differs from what is stored.
    """

    index: int
    verdict: Verdict
    id: str | None = None
    reason: str = ""


class BatchFlaw(msgspec.Struct, frozen=True):
    """Why a whole batch is not looked at.

    Args:
        message: for people.
        too_large: it has to be split.
    """

    message: str
    too_large: bool = False


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


_array = msgspec.json.Decoder(list[msgspec.Raw])
_envelope = msgspec.json.Decoder(_Envelope)
_decode = msgspec.json.Decoder().decode


def read_batch(body: bytes) -> list[bytes] | BatchFlaw:
    """Cut a JSON document into events: one, an array of them, or an object with `events`.

    They are decoded one by one later: a document of many small parts takes a hundred times its
    size in memory.

    Example:
        >>> read_batch(b'[{"id": "a"}, 7]')
        [b'{"id": "a"}', b'7']
        >>> read_batch(b"[").message
        'the body is no JSON that can be read'
    """
    text = body.lstrip(b" \t\r\n")
    try:
        if text.startswith(b"["):
            found = _array.decode(text)
        elif text.startswith(b"{"):
            found = _in_object(text)
        else:
            return BatchFlaw(
                "the body has to be an event, an array of them, or an object with events"
            )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return BatchFlaw("the body is no JSON that can be read")
    if len(found) > EVENTS_BATCH_MAX:
        message = f"the batch has more than {EVENTS_BATCH_MAX:,} events; split it"
        return BatchFlaw(message, too_large=True)
    return [bytes(one) for one in found]


def _in_object(text: bytes) -> list[msgspec.Raw]:
    try:
        return _envelope.decode(text).events
    except msgspec.ValidationError:
        return [msgspec.json.decode(text, type=msgspec.Raw)]


def read_one(raw: bytes, now_us: int) -> tuple[Event | Flaw, str | None]:
    """Read one event, as a CloudEvent or as it is, and see that it may come from outside.

    Args:
        raw: JSON.
        now_us: microseconds since 1970.

    Returns:
        The event, or why it is none; and its id as it was sent, where it has one to be shown.
    """
    if len(raw) > EVENT_BYTES_MAX:
        return Flaw(f"the event has more than {EVENT_BYTES_MAX:,} bytes"), None
    try:
        fields = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Flaw("this is no JSON that can be read"), None
    sent = sent_id(fields)
    if isinstance(fields, dict) and "specversion" in fields:
        event = from_cloudevent(fields)
    else:
        event = read_event(fields)
    return (event if isinstance(event, Flaw) else bounded(event, now_us)), sent


def bounded(event: Event, now_us: int) -> Event | Flaw:
    """See that an event may come from outside."""
    flaw = flaw_from_outside(event, now_us)
    if flaw is not None:
        return flaw
    if len(msgspec.json.encode(event)) > EVENT_BYTES_MAX:
        return Flaw(f"the event has more than {EVENT_BYTES_MAX:,} bytes")
    return event


async def ingest(
    recorder: Recorder, tenant: str, batch: Sequence[Event | Flaw], ids: Sequence[str | None]
) -> list[Outcome]:
    """Commit what may be committed; answered after the commit, one outcome for each, in order.

    Args:
        recorder: of this process.
        tenant: from the key of whoever sent it.
        batch: events, or why one is none.
        ids: of each, as sent.

    Raises:
        StoreAway: the commit takes too long; it may still be committed later.
        StoreBusy, StoreFull, StoreFailed: nothing of it was taken; see `Recorder.record`.
    """
    outcomes: dict[int, Outcome] = {}
    places: list[int] = []
    seen: set[str] = set()
    for index, (event, sent) in enumerate(zip(batch, ids, strict=True)):
        if isinstance(event, Flaw):
            outcomes[index] = _rejected(index, sent, event.message)
        elif event.id in seen:
            reason = "the batch has another event with this id"
            outcomes[index] = Outcome(index=index, verdict="duplicate", id=sent, reason=reason)
        else:
            seen.add(event.id)
            places.append(index)
    events = tuple(event for p in places if isinstance(event := batch[p], Event))
    redacted = await recorder.redact(Append(tenant=tenant, events=events))
    dropped = set(redacted.dropped)
    for position in dropped:
        index = places[position]
        outcomes[index] = _rejected(index, ids[index], "it could not be redacted")
    kept = list(itertools.compress(places, (n not in dropped for n in range(len(places)))))
    try:
        committed = await _committed(recorder, redacted)
    except AppendRefused as refused:
        return [outcomes.get(i) or _rejected(i, ids[i], str(refused)) for i in range(len(batch))]
    known, other = set(committed.duplicates), set(committed.differing)
    for index, event in zip(kept, redacted.append.events, strict=True):
        if event.id in known:
            reason = "what is stored under this id is something else" if event.id in other else ""
            made = Outcome(index=index, verdict="duplicate", id=ids[index], reason=reason)
        else:
            made = Outcome(index=index, verdict="accepted", id=ids[index])
        outcomes[index] = made
    return [outcomes[index] for index in range(len(batch))]


async def _committed(recorder: Recorder, redacted: Redacted) -> Committed:
    """Commit, but do not let a sender wait for a store that somebody holds."""
    try:
        async with asyncio.timeout(EVENTS_COMMIT_MS_MAX / 1_000):
            return await recorder.commit(redacted)
    except TimeoutError:
        raise StoreAway(
            f"no commit in {EVENTS_COMMIT_MS_MAX} ms; give the same ids again, that is safe"
        ) from None


def sent_id(raw: Any) -> str | None:
    """Give the id of what was sent, as far as it has one that can be shown."""
    found = raw.get("id") if isinstance(raw, dict) else None
    return found[:256] if isinstance(found, str) else None


def _rejected(index: int, sent: str | None, reason: str) -> Outcome:
    return Outcome(index=index, verdict="rejected", id=sent, reason=reason)
