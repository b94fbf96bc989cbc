"""What the gateway counts: a small interface, so that the data path knows no metrics library.

Every request is `started` once and `ended` once, with one of a closed list of outcomes: their sums
are equal as soon as nothing is under way. Names of routes, checks and policies come from the
configuration, all else from closed lists: no value here is written by a client or a generator.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from tocsin.model import Intervention
from tocsin.policy.failures import Failure, Response
from tocsin.stream.events import Api

Outcome = Literal[
    "ok",
    "blocked",
    "blocked_input",
    "failed",
    "upstream_failed",
    "bad_request",
    "unauthenticated",
    "limited",
    "client_gone",
    "broken",
]
"""How a request ended. ok: answered to its end, masked places included. blocked: stopped, replaced
or latched by policy. blocked_input: by the policy for requests. failed: refused or stopped because
a part of ours failed (an error block). upstream_failed: the same because the upstream did.
bad_request: the client's matter, also where the upstream says so. unauthenticated: no key that we
know. limited: too many under way. client_gone: the client left first. broken: a fault of ours that
no table foresees."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

Place = Literal["input", "response"]
"""Which of a route's two guards: for the request, or for the response."""


RecordState = Literal["ok", "slow", "failed"]
"""See `tocsin.record.recorder.State`."""


class Meters(Protocol):
    """What is counted. Called within the event loop: each call takes microseconds, and none fails.

    `route` is empty where the request did not get that far.
    """

    def started(self, api: Api) -> None:
        """Count a request that came in."""

    def ended(self, api: Api, route: str, outcome: Outcome, took_ms: float) -> None:
        """Count its end."""

    def first_text(self, api: Api, route: str, took_ms: float) -> None:
        """Tell how long it took until the first byte of a response went out."""

    def upstream(self, upstream: str, took_ms: float) -> None:
        """Tell how long an upstream took until its answer began."""

    def alarm(self, route: str, place: Place, check: str, done: Intervention) -> None:
        """Count an alarm and what followed from it."""

    def failure(self, route: str, failure: Failure, response: Response) -> None:
        """Count a part that failed, and what the table said."""

    def chars(self, route: str, scanned: int, held: int, released: int) -> None:
        """Add up what became of a response, in characters."""

    def receipt(self, *, written: bool) -> None:
        """Count a receipt that was to be written."""

    def recorded(self, events: int, entries: int, took_ms: float) -> None:
        """Count what was committed, and how long it took until it was on disk."""

    def shed(self, contents: int, events: int) -> None:
        """Count what the record left out."""

    def lost(self, entries: int) -> None:
        """Count entries of the log that could not be committed."""

    def redacted(self, masked: int, failed: int) -> None:
        """Count values that were masked, and searches for such that failed: content is dropped."""

    def record_state(self, state: RecordState) -> None:
        """Tell how the record is."""


class NoMeters:
    """Counts nothing."""

    def started(self, api: Api) -> None:
        """Count nothing."""

    def ended(self, api: Api, route: str, outcome: Outcome, took_ms: float) -> None:
        """Count nothing."""

    def first_text(self, api: Api, route: str, took_ms: float) -> None:
        """Count nothing."""

    def upstream(self, upstream: str, took_ms: float) -> None:
        """Count nothing."""

    def alarm(self, route: str, place: Place, check: str, done: Intervention) -> None:
        """Count nothing."""

    def failure(self, route: str, failure: Failure, response: Response) -> None:
        """Count nothing."""

    def chars(self, route: str, scanned: int, held: int, released: int) -> None:
        """Count nothing."""

    def receipt(self, *, written: bool) -> None:
        """Count nothing."""

    def recorded(self, events: int, entries: int, took_ms: float) -> None:
        """Count nothing."""

    def shed(self, contents: int, events: int) -> None:
        """Count nothing."""

    def lost(self, entries: int) -> None:
        """Count nothing."""

    def redacted(self, masked: int, failed: int) -> None:
        """Count nothing."""

    def record_state(self, state: RecordState) -> None:
        """Count nothing."""
