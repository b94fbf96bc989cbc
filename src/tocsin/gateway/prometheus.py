"""What is counted, for Prometheus.

Several worker processes count into one private folder of memory-mapped files, and whoever is asked
adds them up: `prometheus_client` does so where ``PROMETHEUS_MULTIPROC_DIR`` is set before it is
first imported, so it is imported here and nowhere above.

Sums that hold as soon as nothing changes: requests started = requests ended, over all outcomes, +
requests in flight. An answer that policy stopped (``blocked``, ``blocked_input``) is never counted
with one that a fault stopped (``failed``, ``upstream_failed``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, values
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from tocsin.gateway.connections import Closed
from tocsin.gateway.meters import Outcome, Place, RecordState
from tocsin.gateway.strict import Flaw
from tocsin.model import Intervention
from tocsin.policy.failures import Failure, Response
from tocsin.stream.events import Api

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder which workers count into."""

_Mode = Literal["livesum", "livemin", "livemax"]

_RESPONSE_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_COMMIT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10)
_FIRST_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class _Made:
    """What is made for one registry; children are given by a call with the values of the labels.

    Finding a child takes longer than counting, so it is found once: the labels are closed lists
    and names of the configuration.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def counter(self, name: str, says: str, *labels: str) -> Callable[..., Counter]:
        made = Counter(f"tocsin_{name}", says, labels, registry=self.registry)
        return cache(made.labels) if labels else lambda: made

    def seconds(
        self, name: str, says: str, buckets: tuple[float, ...], *labels: str
    ) -> Callable[..., Histogram]:
        made = Histogram(
            f"tocsin_{name}_seconds", says, labels, buckets=buckets, registry=self.registry
        )
        return cache(made.labels) if labels else lambda: made

    def gauge(self, name: str, says: str, mode: _Mode, *labels: str) -> Gauge:
        return Gauge(f"tocsin_{name}", says, labels, registry=self.registry, multiprocess_mode=mode)


class Prometheus:
    """The counters of one process; `tocsin.gateway.meters.Meters`, and what the server itself adds.

    Example:
        >>> meters = Prometheus()
        >>> meters.started("chat")
        >>> meters.ended("chat", "all", "ok", 1500.0)
        >>> b'tocsin_requests_ended_total{api="chat",outcome="ok",route="all"} 1.0' in meters.text()
        True
    """

    def __init__(self) -> None:
        if FOLDER in os.environ and values.ValueClass is values.MutexValue:
            raise RuntimeError(f"prometheus_client was imported before {FOLDER} was set")
        made = _Made()
        self._registry = made.registry
        counter, seconds, gauge = made.counter, made.seconds, made.gauge
        self._started = counter("requests_started", "Requests that came in.", "api")
        self._ended = counter(
            "requests_ended",
            "Requests that ended; policy blocks are blocked and blocked_input, error blocks are "
            "failed and upstream_failed.",
            "api", "route", "outcome",
        )  # fmt: skip
        self._in_flight = cache(
            gauge("requests_in_flight", "Requests under way.", "livesum", "api").labels
        )
        self._took = seconds("request", "From request to end.", _RESPONSE_S, "api")
        self._first = seconds(
            "first_text", "From request to the first byte of the answer.", _FIRST_S, "api", "route"
        )
        self._upstream = seconds(
            "upstream", "Until an upstream's answer began.", _FIRST_S, "upstream"
        )
        self._alarms = counter(
            "alarms", "Alarms, and what followed.", "route", "place", "check", "done"
        )
        self._failures = counter(
            "failures", "Parts that failed, and what the table of failures said.",
            "route", "failure", "response",
        )  # fmt: skip
        self._chars = counter(
            "chars", "Characters given to the checks, never shown, shown.", "route", "what"
        )
        self._receipts = counter("receipts", "Receipts that were to be written.", "written")
        self._recorded = counter("recorded", "Written to the record, and on disk.", "what")
        self._record_shed = counter(
            "record_shed", "Left out, since the record took nothing.", "what"
        )
        self._redacted = counter(
            "redacted", "Values masked before they were recorded, and searches that failed.", "what"
        )
        self._commit = seconds("record_commit", "From hand to disk.", _COMMIT_S)
        self._record_ok = gauge(
            "record_ok", "1 where every record takes what it is given, or there is none.", "livemin"
        )
        self._reloads = counter("reloads", "Orders to reload the configuration.", "result")
        self._refused = counter("requests_refused", "Requests refused for their shape.", "flaw")
        self._closed = counter("connections_closed", "Connections closed from our side.", "why")
        self._shed = counter("requests_shed", "Requests not taken.", "why")
        self._dropped = counter("log_lines_dropped", "Log lines that nobody took.")
        self._connections = gauge("connections", "Connections of clients.", "livesum")
        self._lag = gauge("loop_lag_seconds", "How late the event loop is.", "livemax")
        self._ready = gauge("ready", "1 where every worker takes requests.", "livemin")
        self._record_ok.set(1)
        if FOLDER not in os.environ:
            ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Give all of it as Prometheus reads it, all workers together."""
        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    # -------------------------------------------------------------------------------- the data path

    def started(self, api: Api) -> None:
        """Count a request that came in."""
        self._started(api).inc()
        self._in_flight(api).inc()

    def ended(self, api: Api, route: str, outcome: Outcome, took_ms: float) -> None:
        """Count its end."""
        self._ended(api, route, outcome).inc()
        self._in_flight(api).dec()
        self._took(api).observe(took_ms / 1_000)

    def first_text(self, api: Api, route: str, took_ms: float) -> None:
        """Tell how long it took until the first byte of a response went out."""
        self._first(api, route).observe(took_ms / 1_000)

    def upstream(self, upstream: str, took_ms: float) -> None:
        """Tell how long an upstream took until its answer began."""
        self._upstream(upstream).observe(took_ms / 1_000)

    def alarm(self, route: str, place: Place, check: str, done: Intervention) -> None:
        """Count an alarm and what followed from it."""
        self._alarms(route, place, check, done).inc()

    def failure(self, route: str, failure: Failure, response: Response) -> None:
        """Count a part that failed, and what the table said."""
        self._failures(route, failure, response).inc()

    def chars(self, route: str, scanned: int, held: int, released: int) -> None:
        """Add up what became of a response, in characters."""
        self._chars(route, "scanned").inc(scanned)
        self._chars(route, "held").inc(held)
        self._chars(route, "released").inc(released)

    def receipt(self, *, written: bool) -> None:
        """Count a receipt that was to be written."""
        self._receipts("yes" if written else "no").inc()

    # ----------------------------------------------------------------------------------- the record

    def recorded(self, events: int, entries: int, took_ms: float) -> None:
        """Count what was committed, and how long it took until it was on disk."""
        self._recorded("event").inc(events)
        self._recorded("entry").inc(entries)
        self._commit().observe(took_ms / 1_000)

    def shed(self, contents: int, events: int) -> None:
        """Count what the record left out."""
        self._record_shed("content").inc(contents)
        self._record_shed("event").inc(events)

    def lost(self, entries: int) -> None:
        """Count entries of the log that could not be committed."""
        self._record_shed("entry").inc(entries)

    def redacted(self, masked: int, failed: int) -> None:
        """Count values that were masked, and searches for such that failed."""
        self._redacted("masked").inc(masked)
        self._redacted("failed").inc(failed)

    def record_state(self, state: RecordState) -> None:
        """Tell how the record is."""
        self._record_ok.set(int(state == "ok"))

    # ----------------------------------------------------------------------------------- the server

    def reloaded(self, *, valid: bool) -> None:
        """Count an order to reload."""
        self._reloads("ok" if valid else "config_invalid").inc()

    def refused(self, flaw: Flaw) -> None:
        """Count a request refused for its shape."""
        self._refused(flaw).inc()

    def closed(self, why: Closed) -> None:
        """Count a connection closed from our side."""
        self._closed(why).inc()

    def not_taken(self, why: str) -> None:
        """Count a request not taken; `why` is a fixed word."""
        self._shed(why).inc()

    def state(self, *, connections: int, lag_ms: float, ready: bool) -> None:
        """Tell how the process is."""
        self._connections.set(connections)
        self._lag.set(lag_ms / 1_000)
        self._ready.set(int(ready))

    def dropped(self, lines: int) -> None:
        """Count log lines that nobody took."""
        self._dropped().inc(lines)
