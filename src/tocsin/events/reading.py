"""Events that come from outside: read strictly, bounded, with a sentence for whoever sent them.

A message names the field and what is wrong with it, never the value: it may be shown and logged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, cast, get_args

import msgspec

from tocsin.events.envelope import SCHEMA, Event, Links, Segment
from tocsin.events.ids import is_our_source, is_ours
from tocsin.events.kinds import Body, Shed
from tocsin.events.ranges import range_flaw
from tocsin.limits import (
    EVENT_AHEAD_US_MAX,
    EVENT_BEHIND_US_MAX,
    EVENT_ID_CHARS_MAX,
    EVENT_ITEMS_MAX,
    EVENT_TEXT_CHARS_MAX,
)

OUR_SOURCES = "tocsin/"
"""What the sources of Tocsin's own parts begin with; nobody else may speak for them."""

OUR_KINDS = frozenset({"access", "content.kept", "content.erased", "record.shed"})
"""Kinds that only Tocsin's own parts can know of; `tells_of_itself` is the one exception."""

FREE_TEXT = frozenset({"comment", "note", "reason", "detail", "why"})
"""Fields in which people write; all other strings name something."""

BODIES: dict[str, type[msgspec.Struct]] = {
    str(body.__struct_config__.tag): body for body in get_args(Body)
}
"""Every kind, and the struct of its body."""

_FIELDS = {kind: frozenset(body.__struct_fields__) | {"kind"} for kind, body in BODIES.items()}
_TOP = frozenset(Event.__struct_fields__)
_PARTS = {
    "links": frozenset(Links.__struct_fields__),
    "segment": frozenset(Segment.__struct_fields__),
}
_SOURCE = re.compile(r"[!-~]+")
_INT_MAX = 2**63 - 1


class Flaw(msgspec.Struct, frozen=True):
    """Why something is not taken.

    Args:
        message: for people: which field, what is wrong with it.
    """

    message: str


def read_event(fields: Any) -> Event | Flaw:
    """Read one event from its plain form, the fields that `tocsin.events.envelope.encode` writes.

    Example:
        >>> body = {"kind": "feedback", "verdict": "up"}
        >>> read_event({"id": "e1", "time_us": 0, "source": "shop", "body": body}).kind
        'feedback'
        >>> read_event({"id": "e1", "time_us": 0, "source": "shop", "body": {**body, "mood": 1}})
        Flaw(message='body.mood: feedback has no such field')
    """
    if not isinstance(fields, dict):
        return Flaw("an event has to be a JSON object")
    flaw = next(_unknown(fields), None)
    if flaw is not None:
        return flaw
    try:
        return msgspec.convert(fields, Event)
    except msgspec.ValidationError as error:
        return Flaw(plainly(error))


def plainly(error: msgspec.ValidationError) -> str:
    """Put what msgspec says into a form that repeats no value."""
    said, _, where = str(error).partition(" - at ")
    place = where.strip("`").removeprefix("$").removeprefix(".")
    if said.startswith("Invalid"):
        said = "is not one of the allowed values"
    return f"{place}: {said}" if place else said


def _unknown(fields: dict[str, Any]) -> Iterator[Flaw]:
    body = fields.get("body")
    if not isinstance(body, dict):
        yield Flaw("body: has to be an object with its kind")
        return
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS:
        yield Flaw(f"body.kind: has to be one of {', '.join(BODIES)}")
        return
    for name in fields.keys() - _TOP:
        yield Flaw(f"{_shown(name)}: an event has no such field")
    for name in body.keys() - _FIELDS[kind]:
        yield Flaw(f"body.{_shown(name)}: {kind} has no such field")
    for part, known in _PARTS.items():
        inner = fields.get(part)
        for name in inner.keys() - known if isinstance(inner, dict) else ():
            yield Flaw(f"{part}.{_shown(name)}: there is no such field")
    if fields.get("schema", SCHEMA) != SCHEMA:
        yield Flaw(f"schema: this reads {SCHEMA}")


def _shown(name: object) -> str:
    """Give a name that a stranger chose, as far as it looks like a name."""
    text = str(name)
    return text if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}", text) else "(a field)"


def flaw_from_outside(event: Event, now_us: int) -> Flaw | None:
    """Say why an event from outside is not taken, None where nothing speaks against it.

    Args:
        event: as it was read.
        now_us: microseconds since 1970, by the clock of whoever takes it.

    Example:
        >>> from tocsin.events.kinds import Feedback
        >>> event = Event(id="e1", time_us=10, source="tocsin/gateway", body=Feedback(verdict="up"))
        >>> flaw_from_outside(event, now_us=0).message
        'source: what begins with tocsin/, or reads like it, is said by Tocsin itself; ...'
    """
    flaw = next(_foreign(event, now_us), None)
    if flaw is not None or _plainly_fits(event):
        return flaw
    return _sizes(msgspec.to_builtins(event), "")


def _foreign(event: Event, now_us: int) -> Iterator[Flaw]:
    if is_our_source(event.source):
        yield Flaw(
            f"source: what begins with {OUR_SOURCES}, or reads like it, is said by Tocsin itself; "
            "name your service"
        )
    if not _SOURCE.fullmatch(event.source):
        yield Flaw("source: write it in ASCII, without spaces, such as shop/checkout")
    if event.kind in OUR_KINDS and not tells_of_itself(event):
        yield Flaw(f"body.kind: {event.kind} is said by Tocsin itself")
    if is_ours(event.id):
        yield Flaw(
            "id: what begins with tocsin. or looks like r_ID.1 names an event of Tocsin itself; "
            "give each event an id of your own"
        )
    if (out_of_range := range_flaw(event)) is not None:
        yield Flaw(out_of_range)
    if event.time_us > now_us + EVENT_AHEAD_US_MAX:
        yield Flaw("time_us: more than five minutes ahead; is it in microseconds since 1970?")
    if event.time_us < now_us - EVENT_BEHIND_US_MAX or event.time_us < 0:
        yield Flaw("time_us: more than 90 days back; is it in microseconds since 1970?")
    if not event.id:
        yield Flaw("id: is empty; give each event one of its own")


def tells_of_itself(event: Event) -> bool:
    """Whether a service says how many events it had no room for, and nothing of others.

    Example:
        >>> event = Event(id="e", time_us=0, source="shop", body=Shed(events=3, source="shop"))
        >>> tells_of_itself(event)
        True
    """
    body = event.body
    return (
        isinstance(body, Shed)
        and body.source == event.source
        and not body.contents
        and not body.receipts
    )


def _plainly_fits(event: Event) -> bool:
    """Whether nothing of it comes near a bound; False where `_sizes` has to look closely."""
    if not (_is_name(event.id) and _is_name(event.source)):
        return False
    for part in (event.links, event.segment, event.body):
        for name in part.__struct_fields__:
            value = getattr(part, name)
            if value is not None and not _value_fits(value):
                return False
    return True


def _value_fits(value: Any) -> bool:
    if isinstance(value, str):
        return _is_name(value)
    if isinstance(value, int):
        return -_INT_MAX <= value <= _INT_MAX
    if isinstance(value, float):
        return math.isfinite(value)
    return not value  # an empty list or table


def _is_name(text: str) -> bool:
    return len(text) <= EVENT_ID_CHARS_MAX and text.isprintable()


def _sizes(value: Any, where: str) -> Flaw | None:
    """Look for a string, a number or a list that is too large, or holds what no name has."""
    if isinstance(value, str):
        return _string(value, where)
    if isinstance(value, float | int):
        return _number(value, where)
    if isinstance(value, list | tuple | dict) and len(value) > EVENT_ITEMS_MAX:
        return Flaw(f"{where}: has more than {EVENT_ITEMS_MAX} items")
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value).items()
        deeper = ((f"{where}.{_shown(name)}".lstrip("."), name, inner) for name, inner in named)
        flaws = (_string(name, place) or _sizes(inner, place) for place, name, inner in deeper)
        return next(filter(None, flaws), None)
    if isinstance(value, list | tuple):
        return next(filter(None, (_sizes(inner, where) for inner in value)), None)
    return None


def _number(value: float, where: str) -> Flaw | None:
    if not isinstance(value, int):
        return None if math.isfinite(value) else Flaw(f"{where}: is no number that can be written")
    return Flaw(f"{where}: is too large") if abs(value) > _INT_MAX else None


def _string(value: str, where: str) -> Flaw | None:
    free = where.rpartition(".")[2] in FREE_TEXT and where.startswith("body.")
    most = EVENT_TEXT_CHARS_MAX if free else EVENT_ID_CHARS_MAX
    if len(value) > most:
        return Flaw(f"{where}: has more than {most:,} characters")
    if "\x00" in value or (not free and not value.isprintable()):
        return Flaw(f"{where}: holds control characters")
    return None
