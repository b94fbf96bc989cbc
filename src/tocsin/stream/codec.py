"""What a codec is: one API's requests, streams and bodies, to events and back. Sans I/O.

A decoder is fed bytes as they come, cut anywhere, and gives the same events however they are cut
(`Wrote` may be split differently; its texts joined are the same). It never raises on what an
upstream sends: that is `Broken`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

from tocsin.stream.events import Api, Asked, Event, Refused

ErrorKind = Literal[
    "bad_request",
    "unauthenticated",
    "forbidden",
    "not_found",
    "too_large",
    "too_many",
    "blocked",
    "unavailable",
    "upstream",
    "timeout",
    "internal",
]
"""Why a request gets no answer; each codec names its API's own type and status for it."""

STATUS: dict[ErrorKind, int] = {
    "bad_request": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "too_large": 413,
    "too_many": 429,
    "blocked": 400,
    "unavailable": 503,
    "upstream": 502,
    "timeout": 504,
    "internal": 500,
}
"""The HTTP status of each. An input that policy blocks is the client's matter, so 400."""


class Frame(msgspec.Struct, frozen=True):
    """One server-sent event before it is written.

    Args:
        data: the payload, encoded as JSON when written; a string is written as it is.
        event: the event's name; no such line where empty.
    """

    data: Any
    event: str = ""


class Decoder(Protocol):
    """Reads one streamed response."""

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes of the body, cut anywhere. After `Broken` or `Done` nothing more comes."""

    def take(self, payload: Mapping[str, Any]) -> list[Event]:
        """Take one frame that is decoded already, as an SDK gives it."""

    def close(self) -> list[Event]:
        """Say that the upstream ended: ``Broken("cut_off")`` unless `Done` came."""


class Encoder(Protocol):
    """Writes one streamed response. It is given events in the order of `stream.events`.

    `Blocked` may come at any place, before `Opened` too, and is the last; the frames then end the
    response validly, and no tool call looks complete that was not.
    """

    def encode(self, event: Event) -> list[Frame]:
        """Give the frames of an event."""


class Body(Protocol):
    """Writes one whole response."""

    def take(self, event: Event) -> None:
        """Take an event, as `Encoder.encode` does."""

    def result(self) -> dict[str, Any]:
        """Give the body."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What an encoder needs where the upstream said nothing: who made the response, and when.

    Args:
        id: identifier of the response, with the prefix of the API.
        created_s: seconds since 1970.
    """

    id: str
    created_s: int


class Codec(Protocol):
    """One API."""

    api: Api
    in_order: bool
    """Whether blocks must follow each other (responses, messages); in chat the channels are
    independent of each other."""

    def read_request(self, body: Mapping[str, Any]) -> Asked | Refused:
        """Read a request that is decoded already."""

    def decoder(self, asked: Asked) -> Decoder:
        """Begin to read a stream."""

    def read_body(self, asked: Asked, raw: bytes) -> list[Event]:
        """Read a whole response; it ends with `Done` or `Broken`."""

    def encoder(self, asked: Asked, made: Made) -> Encoder:
        """Begin to write a stream."""

    def body(self, asked: Asked, made: Made) -> Body:
        """Begin to write a whole response."""

    def error(self, kind: ErrorKind, message: str, param: str | None = None) -> dict[str, Any]:
        """Give the body of an error, in the API's own form."""

    def error_code(self, raw: bytes) -> str:
        """Give the code (or else the type) in an upstream's error body, by shape; never its text.

        Empty where there is none that has the shape of an identifier.
        """
