"""Everything that a configuration names, ready for use: what a request is answered with."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from tocsin.guarding.plan import Check, Guard
from tocsin.stream.events import Api
from tocsin.verifiers.contract import AsyncVerifier
from tocsin.verifiers.patterns import Rule


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A model behind a URL.

    Args:
        name: as the configuration calls it.
        url: up to and with the version, without a final slash: ``https://models.example/v1``.
        speaks: which APIs it offers.
        key: sent as the API's own kind of credential; never shown.
        headers: sent with each request; never shown.
        connect_ms, first_ms, idle_ms: longest wait for a connection, for the answer's headers, and
            between two pieces of it.
    """

    name: str
    url: str
    speaks: frozenset[Api]
    key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_ms: int = 10_000
    first_ms: int = 120_000
    idle_ms: int = 60_000


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """Who answers anew where a policy says ``fallback``.

    Args:
        upstream, model: whom to ask.
    """

    upstream: Upstream
    model: str


@dataclass(frozen=True, kw_only=True)
class Route:
    """The way of a request: to which model, under which policy.

    Args:
        name: as the configuration calls it.
        models: patterns of the models asked for, as in ``gpt-*``.
        upstream: who answers.
        model: the name that the upstream gets; None for the one asked for.
        guard: for the response.
        input: for the request; None where it is not checked.
        stronger: who hears escalations.
        fallback: who answers anew.
        approval_ms: how long a person may take.
        conversations: a trajectory is all responses of one conversation, not each of them.
        sample: share of responses whose raw content is kept.
        evidence: whether that of responses with alarms is.
    """

    name: str
    models: tuple[str, ...]
    upstream: Upstream
    model: str | None
    guard: Guard
    input: Guard | None = None
    stronger: Check | None = None
    fallback: Fallback | None = None
    approval_ms: int = 60_000
    conversations: bool = False
    sample: float = 0.0
    evidence: bool = False


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """Whose requests these are.

    Args:
        name: as the configuration calls it.
        keys: SHA-256 of each API key, in hexadecimal digits.
        routes: names of the routes that it may use; all of them where empty.
        streams_max: its requests under way at once.
    """

    name: str
    keys: tuple[str, ...] = field(repr=False)
    routes: frozenset[str] = frozenset()
    streams_max: int = 1_000


@dataclass(frozen=True, kw_only=True)
class RecordPlan:
    """Where events and receipts are kept. It is in force from the start of a process to its end.

    Args:
        store: a URL, or the path of a file.
        keys: the folder of the keys.
        log: name of the log.
        redaction: rules for what must not be stored; the built-in ones where None.
        period_s: how often periods are signed.
        content_us: how long raw content is kept.
    """

    store: str = field(repr=False)  # a URL may hold a password
    keys: Path
    log: str
    redaction: tuple[Rule, ...] | None
    period_s: float
    content_us: int


@dataclass(frozen=True, kw_only=True)
class Site:
    """A configuration, ready for use. A reload makes a new one; open responses keep theirs.

    Args:
        routes: tried in this order.
        tenants: who may ask. Nobody, where there are none and `open_to_all` is False.
        open_to_all: no key is asked for; for a gateway that only this machine reaches.
        record: where events and receipts are kept; None where receipts go to the log alone.
        digest: of the configuration, without its secrets.
        host, port: where to listen.
        streams_max: requests under way at once.
        body_bytes_max: of a request.
        head_ms: so long after the upstream's answer began, ours begins too, though nothing is
            cleared yet; until then a failure is answered with an error of its own.
        keep_alive_ms: a comment goes out after so long a silence.
        header_ms, body_ms: how long a client may take to send them.
        stalled_ms: how long a client may read nothing while there is something to read.
        drain_ms: how long open responses may go on after the order to stop.
    """

    routes: tuple[Route, ...]
    tenants: tuple[Tenant, ...] = ()
    open_to_all: bool = False
    record: RecordPlan | None = None
    digest: str = ""
    host: str = "127.0.0.1"
    port: int = 8080
    streams_max: int = 4_000
    body_bytes_max: int = 8 * 1024 * 1024
    head_ms: int = 250
    keep_alive_ms: int = 15_000
    header_ms: int = 10_000
    body_ms: int = 30_000
    stalled_ms: int = 30_000
    drain_ms: int = 30_000

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks of all routes."""
        found: list[Check] = []
        for route in self.routes:
            found += route.guard.checks
            found += () if route.input is None else route.input.checks
            found += () if route.stronger is None else (route.stronger,)
        return tuple(found)

    @property
    def waited_for(self) -> tuple[AsyncVerifier, ...]:
        """Verifiers that have to be let go of when the site is not used any more."""
        found = {
            id(check.verifier): check.verifier
            for check in self.checks
            if isinstance(check.verifier, AsyncVerifier)
        }
        return tuple(found.values())

    def warm(self) -> None:
        """Put promises into words now: the first receipt must not wait for it. Takes half a second.

        May run on another thread than the one that uses the site.
        """
        for check in self.checks:
            _ = check.promise

    def tenant(self, key: str | None) -> Tenant | None:
        """Return whose key this is; every stored hash is compared, in constant time."""
        if self.open_to_all:
            return Tenant(name="local", keys=())
        if not key:
            return None
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for tenant in self.tenants:
            for known in tenant.keys:
                if hmac.compare_digest(known, digest):
                    found = tenant
        return found

    def route(self, tenant: Tenant, model: str) -> Route | None:
        """Return the first route for a model that a tenant may use."""
        for route in self.routes:
            if tenant.routes and route.name not in tenant.routes:
                continue
            if any(fnmatchcase(model, pattern) for pattern in route.models):
                return route
        return None
