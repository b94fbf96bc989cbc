"""One event: what happened, when, to whom it belongs, and what links it to others."""

from __future__ import annotations

import hashlib

import msgspec

from tocsin.events.kinds import Body

SCHEMA = "tocsin.event/1"
"""Fields are only ever added under this name; a change of meaning gets a new one."""

UNKNOWN = "unknown"
"""What a segment says where nobody knows: a blind spot that can be counted."""


class Links(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What links an event to others; None where there is nothing to link to.

    Args:
        user: pseudonym, a keyed hash; never a name (see `tocsin.record`).
        session: conversation, or the visit that the request is part of.
        request: of a client; one may lead to several calls.
        call: of a model: the id of the response, which is also the id of its receipt.
        retrieval, tool_call: of a search and of a tool's use.
    """

    user: str | None = None
    session: str | None = None
    request: str | None = None
    call: str | None = None
    retrieval: str | None = None
    tool_call: str | None = None


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Where it happened. Every field is always written, since each missing one is a blind spot.

    Args:
        route: of the gateway, or the feature of a user's own service.
        model, model_version: as the upstream names them.
        policy, policy_digest: under which rules.
        calibrations: digests of the calibrations in force, in the order of the checks.
        language: BCP 47, as far as it is known.
        surface: where people meet it: ``chat``, ``api``, ``copilot``...
    """

    route: str = UNKNOWN
    model: str = UNKNOWN
    model_version: str = UNKNOWN
    policy: str = UNKNOWN
    policy_digest: str = UNKNOWN
    calibrations: tuple[str, ...] = ()
    language: str = UNKNOWN
    surface: str = UNKNOWN


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event.

    Args:
        id: unique within its tenant; giving an event again under the same id changes nothing.
        time_us: when it happened, in microseconds since 1970, UTC.
        source: who says so: ``tocsin/gateway``, or the name of a user's service.
        links, segment: see there.
        body: what happened.
        schema: `tocsin.event/1`.

    Example:
        >>> from tocsin.events.kinds import Feedback
        >>> said = Feedback(verdict="down")
        >>> event = Event(id="e1", time_us=0, source="shop", body=said, links=Links(call="r_1"))
        >>> decode(encode(event)) == event
        True
    """

    id: str
    time_us: int
    source: str
    body: Body
    links: Links = Links()
    segment: Segment = Segment()
    schema: str = SCHEMA

    @property
    def kind(self) -> str:
        """The kind of the body, such as ``"stream.opened"``."""
        return str(self.body.__struct_config__.tag)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """Write an event as the bytes that are stored and hashed; equal events give equal bytes."""
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """Read what `encode` wrote; fields that a later version added are left aside.

    Raises:
        msgspec.ValidationError: it is no event.
    """
    return _decoder.decode(data)


def event_hash(data: bytes) -> bytes:
    """Hash the bytes of an event, as a leaf of a Merkle tree (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()
