"""A small client of ``POST /v1/events`` for your own services: it never blocks and never raises.

Events wait in a bounded queue, go out in batches from a thread of their own, and are sent again
under the same ids until they are answered. What finds no room is counted, and told to the record.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import random
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol, Self

import msgspec

from tocsin.errors import InputError
from tocsin.events.cloudevents import BATCH, encode_batch
from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.ids import is_our_source
from tocsin.events.kinds import Body, Shed
from tocsin.events.reading import OUR_SOURCES
from tocsin.limits import (
    EVENTS_BYTES_MAX,
    EVENTS_CLIENT_BATCH,
    EVENTS_CLIENT_LINGER_S,
    EVENTS_CLIENT_TIMEOUT_S,
    EVENTS_CLIENT_WAITING_MAX,
)
from tocsin.record.sending import Answer, Sender, pause_s, place

_log = logging.getLogger("tocsin.record.client")


class Redacting(Protocol):
    """What cleans events before they leave; see `tocsin.record.redaction.Redactor`."""

    def event(self, event: Event) -> Event:
        """Give the event as it may be sent."""


class Sending(Protocol):
    """What sends; see `tocsin.record.sending.Sender`."""

    def send(self, body: bytes, headers: dict[str, str]) -> Answer:
        """Send once."""

    def close(self) -> None:
        """Close the connection."""


class Counts(msgspec.Struct, kw_only=True):
    """What became of events so far.

    Args:
        accepted, duplicates: answered so; a duplicate is an event that was sent twice.
        rejected: refused one by one; the reasons are logged.
        failed: in batches that were refused whole, such as for the wrong key.
        shed: for which there was no room, or that were left at the end.
        unredacted: that could not be cleaned, and were left out.
    """

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    failed: int = 0
    shed: int = 0
    unredacted: int = 0


class _Told(msgspec.Struct):
    verdict: str
    index: int
    reason: str = ""


class _Verdicts(msgspec.Struct):
    events: list[_Told]


class Events:
    """Sends events of one service. Safe to share between threads, and after a fork.

    Args:
        url: of the gateway, such as ``https://tocsin.example``.
        key: of the tenant, allowed to send events.
        source: names your service, such as ``shop/checkout``.
        redactor: cleans text before it leaves; the built-in patterns where left out (they need the
            extra ``patterns``); None to send as it is, to be cleaned by the gateway alone. Users'
            ids are left to the gateway in any case, so that it gives one user one pseudonym,
            whoever told of them.
        waiting_max: events that wait, beyond which new ones are shed.
        linger_s: how long the first event of a batch waits for others.
        sender: makes what sends; for tests.
        clock_us: microseconds since 1970, for events without a time of their own.

    Raises:
        InputError: the URL, the key or the source cannot be used.
        MissingExtra: the patterns are not installed.

    Example: see `docs/how-to/send-events.md`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        source: str,
        redactor: Redacting | Literal["patterns"] | None = "patterns",
        waiting_max: int = EVENTS_CLIENT_WAITING_MAX,
        linger_s: float = EVENTS_CLIENT_LINGER_S,
        sender: Callable[[], Sending] | None = None,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        if not key or not key.isascii() or not key.isprintable():
            raise InputError("the key is empty or holds what no key holds")
        if not source or not source.isascii() or not source.isprintable() or " " in source:
            raise InputError("name your service in ASCII without spaces, such as shop/checkout")
        if is_our_source(source):
            raise InputError(
                f"a source that begins with {OUR_SOURCES}, or reads like it, is ours: name your own"
            )
        self._source = source
        self._redactor = _patterns(key) if redactor == "patterns" else redactor
        self._most = waiting_max
        self._linger_s = linger_s
        to = place(url.rstrip("/") + "/v1/events")
        headers = {"authorization": f"Bearer {key}", "user-agent": "tocsin-client"}
        self._make = sender or partial(Sender, to, headers, EVENTS_CLIENT_TIMEOUT_S)
        self._clock_us = clock_us
        self._draw = random.Random(secrets.randbits(64))  # noqa: S311 - spreads tries, no secret
        self._closing = threading.Event()
        self._pause: Callable[[float], object] = self._closing.wait
        self._counts = Counts()
        self._begin()
        begin = weakref.WeakMethod(self._begin)
        os.register_at_fork(after_in_child=lambda: (again := begin()) and again())
        atexit.register(self.close)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._under_way = 0
        self._untold = 0
        self._flushing = 0
        self._sender: Sending = self._make()
        self._thread: threading.Thread | None = None

    # --------------------------------------------------------------------------------------- giving

    def say(
        self,
        body: Body,
        *,
        links: Links | None = None,
        segment: Segment | None = None,
        event_id: str | None = None,
        time_us: int | None = None,
    ) -> str:
        """Have an event sent; returns its id at once.

        Args:
            body: what happened.
            links: what it belongs to: the receipt's id of an answer as `call`, for example.
            segment: where it happened.
            event_id: of your own, so that saying it twice changes nothing; random where left out.
            time_us: when; now where left out.
        """
        event = Event(
            id=event_id or f"ev_{secrets.token_hex(16)}",
            time_us=self._clock_us() if time_us is None else time_us,
            source=self._source,
            body=body,
            links=links or Links(),
            segment=segment or Segment(),
        )
        self.give(event)
        return event.id

    def give(self, event: Event) -> bool:
        """Have an event of your own making sent; whether there was room for it."""
        cleaned = self._cleaned(event)
        if cleaned is None:
            return False
        with self._changed:
            if self._closing.is_set() or len(self._waiting) + self._under_way >= self._most:
                self._counts.shed += 1
                self._untold += 1
                return False
            self._waiting.append(cleaned)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tocsin-events", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return True

    def _cleaned(self, event: Event) -> Event | None:
        if self._redactor is None:
            return event
        try:
            cleaned = self._redactor.event(event)
        except Exception:  # noqa: BLE001 - whatever fails there, nothing unredacted leaves
            with self._changed:
                self._counts.unredacted += 1
            return None
        links = msgspec.structs.replace(cleaned.links, user=event.links.user)
        return msgspec.structs.replace(cleaned, links=links)

    @property
    def counts(self) -> Counts:
        """What became of events so far: a copy."""
        with self._changed:
            return msgspec.structs.replace(self._counts)

    def flush(self, timeout_s: float | None = 10.0) -> bool:
        """Wait until all that was given has been answered; False where it was not in time."""
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            done = self._changed.wait_for(
                lambda: not self._waiting and not self._under_way, timeout_s
            )
            self._flushing -= 1
            return done

    def close(self, timeout_s: float = 5.0) -> bool:
        """Send what waits, and end; False where something was left. A second call does nothing."""
        atexit.unregister(self.close)
        sent = self._thread is None or self._closing.is_set() or self.flush(timeout_s)
        self._closing.set()
        with self._changed:
            self._counts.shed += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return sent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -------------------------------------------------------------------------------------- sending

    def _run(self) -> None:
        while batch := self._next():
            self._send(batch)
            with self._changed:
                self._under_way = 0
                self._changed.notify_all()
        self._sender.close()

    def _next(self) -> list[Event]:
        """Wait for events, and a little for more; none when the client is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            self._changed.wait_for(
                lambda: (
                    len(self._waiting) >= EVENTS_CLIENT_BATCH
                    or self._flushing
                    or self._closing.is_set()
                ),
                self._linger_s,
            )
            batch = [
                self._waiting.popleft() for _ in range(min(EVENTS_CLIENT_BATCH, len(self._waiting)))
            ]
            if batch and self._untold:
                body = Shed(events=self._untold, source=self._source)
                shed_id = f"ev_{secrets.token_hex(16)}"
                now_us = self._clock_us()
                batch.append(Event(id=shed_id, time_us=now_us, source=self._source, body=body))
                self._untold = 0
            self._under_way = len(batch)
            return batch

    def _send(self, batch: list[Event]) -> None:
        body = encode_batch(batch)
        if len(body) > EVENTS_BYTES_MAX and len(batch) > 1:
            self._send(batch[: len(batch) // 2])
            self._send(batch[len(batch) // 2 :])
            return
        tries = 0
        while True:
            answer = self._sender.send(body, {"content-type": BATCH})
            tries += 1
            if answer.good or not answer.again:
                break
            if self._closing.is_set():
                self._count(failed=len(batch))
                return
            self._pause(pause_s(tries, answer, self._draw))
        if answer.good:
            self._read(batch, answer)
        else:
            _log.error("events were refused with status %d", answer.status)
            self._count(failed=len(batch))

    def _read(self, batch: list[Event], answer: Answer) -> None:
        try:
            told = msgspec.json.decode(answer.body, type=_Verdicts).events
        except msgspec.MsgspecError:
            _log.error("events were answered by something that is not Tocsin")
            self._count(failed=len(batch))
            return
        verdicts = [one.verdict for one in told]
        for one in told:
            if one.verdict == "rejected":
                _log.warning("event %d of %d was rejected: %s", one.index, len(batch), one.reason)
        self._count(
            accepted=verdicts.count("accepted"),
            duplicates=verdicts.count("duplicate"),
            rejected=verdicts.count("rejected"),
        )

    def _count(self, **more: int) -> None:
        with self._changed:
            for name, number in more.items():
                setattr(self._counts, name, getattr(self._counts, name) + number)


def _patterns(key: str) -> Redacting:
    """Make the redactor of the built-in patterns; equal values stay equal under one API key."""
    from tocsin.record.redaction import PatternFinder, Redaction

    secret = hashlib.sha256(b"tocsin.client/1\0" + key.encode()).digest()
    return Redaction(PatternFinder(), secret).tenant("client")
