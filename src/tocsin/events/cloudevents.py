"""Events as CloudEvents 1.0 in JSON (structured mode), one by one and in batches, out and in.

`type` is ``tocsin.`` and the kind; `subject` is the call or the request; `data` holds links,
segment, schema and the fields of the body. Extension attributes of others are left aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from tocsin.events.envelope import SCHEMA, Event
from tocsin.events.moments import from_rfc3339, rfc3339
from tocsin.events.reading import BODIES, Flaw, read_event

SINGLE = "application/cloudevents+json"
"""Media type of one event."""

BATCH = "application/cloudevents-batch+json"
"""Media type of an array of events."""

TYPE = "tocsin."
DATA_SCHEMA = "urn:tocsin:event:1"

_ENVELOPE = frozenset({"schema", "links", "segment"})
_encoder = msgspec.json.Encoder()


def to_cloudevent(event: Event) -> dict[str, Any]:
    """Write an event as the fields of a CloudEvent.

    Raises:
        ValueError: its time lies outside the years 1 to 9999.

    Example:
        >>> from tocsin.events.kinds import Feedback
        >>> event = Event(id="e1", time_us=0, source="shop", body=Feedback(verdict="up"))
        >>> fields = to_cloudevent(event)
        >>> fields["type"], fields["time"]
        ('tocsin.feedback', '1970-01-01T00:00:00.000000Z')
        >>> from_cloudevent(fields) == event
        True
    """
    plain: dict[str, Any] = msgspec.to_builtins(event)
    fields: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": TYPE + event.kind,
        "time": rfc3339(event.time_us),
        "datacontenttype": "application/json",
        "dataschema": DATA_SCHEMA,
        "data": {
            "schema": event.schema,
            "links": plain.get("links", {}),
            "segment": plain["segment"],
            **plain["body"],
        },
    }
    subject = event.links.call or event.links.request
    if subject:
        fields["subject"] = subject
    return fields


def encode_cloudevent(event: Event) -> bytes:
    """Write an event as one CloudEvent, of media type `SINGLE`."""
    return _encoder.encode(to_cloudevent(event))


def encode_batch(events: Iterable[Event]) -> bytes:
    """Write events as an array, of media type `BATCH`."""
    return _encoder.encode([to_cloudevent(event) for event in events])


def from_cloudevent(fields: Any) -> Event | Flaw:
    """Read a CloudEvent, strictly as far as it is ours.

    Example:
        >>> from_cloudevent({"specversion": "1.0", "id": "1", "source": "shop"})
        Flaw(message='type: has to be given, as a string')
    """
    if not isinstance(fields, dict):
        return Flaw("an event has to be a JSON object")
    flaw = next(_context(fields), None)
    if flaw is not None:
        return flaw
    kind, data = fields["type"].removeprefix(TYPE), fields["data"]
    given: dict[str, Any] = {
        "id": fields["id"],
        "source": fields["source"],
        "time_us": from_rfc3339(fields["time"]),
        "body": {"kind": kind, **{k: v for k, v in data.items() if k not in _ENVELOPE}},
        "schema": data.get("schema", SCHEMA),
    }
    given |= {part: data[part] for part in ("links", "segment") if part in data}
    event = read_event(given)
    if isinstance(event, Flaw):
        return Flaw(event.message.replace("body.", "data.", 1))
    return event


def _context(fields: dict[str, Any]) -> Iterator[Flaw]:
    """Look at what stands around the data; the first flaw is the one that is told."""
    if fields.get("specversion") != "1.0":
        yield Flaw('specversion: has to be "1.0"')
    for name in ("id", "source", "type", "time"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            yield Flaw(f"{name}: has to be given, as a string")
    kind = fields["type"].removeprefix(TYPE)
    if not fields["type"].startswith(TYPE) or kind not in BODIES:
        yield Flaw(f"type: has to be tocsin. and one of {', '.join(BODIES)}")
    try:
        from_rfc3339(fields["time"])
    except ValueError as error:
        yield Flaw(f"time: {error}")
    yield from _content(fields, kind)


def _content(fields: dict[str, Any], kind: str) -> Iterator[Flaw]:
    if "data_base64" in fields:
        yield Flaw("data_base64: give the data as a JSON object in `data`")
    content = fields.get("datacontenttype", "application/json")
    if not isinstance(content, str) or content.partition(";")[0].strip() != "application/json":
        yield Flaw("datacontenttype: has to be application/json")
    if fields.get("dataschema", DATA_SCHEMA) != DATA_SCHEMA:
        yield Flaw(f"dataschema: this reads {DATA_SCHEMA}")
    data = fields.get("data")
    if not isinstance(data, dict):
        yield Flaw("data: has to be an object")
    elif data.get("kind", kind) != kind:
        yield Flaw("data.kind: is another one than type says")
