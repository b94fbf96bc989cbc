"""The record of one process: opened, given what requests leave behind, and closed.

Imported only where there is a record: SQLAlchemy and what belongs to it take a third of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
from collections.abc import Iterable

import msgspec

from tocsin.errors import AppendRefused, InputError, StoreError
from tocsin.gateway.books import RawContent, RecordFailure, Told
from tocsin.gateway.log import Log
from tocsin.gateway.meters import Meters
from tocsin.gateway.site import RecordPlan, Site
from tocsin.gateway.telling import named
from tocsin.guarding.receipt import Receipt, salt_of
from tocsin.limits import (
    CONTENT_EXPIRE_S,
    RECORD_CLOSE_MS_MAX,
    RECORD_SLOW_MS,
)
from tocsin.record.recorder import Recorder, said
from tocsin.record.redaction import PatternFinder, Redaction, Redactor
from tocsin.record.surroundings import Bounds
from tocsin.store import Append, Content, Entry, Keys, Scope, Store, Writer
from tocsin.store.access import Access
from tocsin.store.vault import expire, purge

_json = msgspec.json.Encoder().encode


async def open_keeper(site: Site, meters: Meters, log: Log | None = None) -> RecordKeeper:
    """Open the record that a configuration names, and begin to keep it.

    Raises:
        InputError: there is no record in it, or it cannot be opened; the message says why.
        StoreError: the store is busy, damaged, or of a later version.
    """
    plan = site.record
    if plan is None:
        raise InputError("the configuration names no record")
    keeper = await asyncio.to_thread(_opened, plan, tuple(_names(site)), meters, log)
    await keeper.start()
    return keeper


def _opened(
    plan: RecordPlan, names: Iterable[str], meters: Meters, log: Log | None
) -> RecordKeeper:
    store = Store.open(plan.store)
    try:
        # A key that went missing is not made anew beside what it signed, locked or masked.
        keys = Keys.open(plan.keys, name=plan.log, environment=os.environ, work=store.work())
        store.use(keys)
        return _keeper(plan, names, store, keys, meters, log)
    except BaseException:
        store.close()
        raise


def _keeper(
    plan: RecordPlan,
    names: Iterable[str],
    store: Store,
    keys: Keys,
    meters: Meters,
    log: Log | None,
) -> RecordKeeper:
    secret = keys.redaction
    if secret is None:
        raise InputError(f"there is no key of the redaction in {str(plan.keys)!r}")
    redaction = Redaction(PatternFinder(plan.redaction), secret, names)
    salting = hmac.digest(secret, b"tocsin.salts/1", "sha256")
    return RecordKeeper(store, redaction, salting, plan.period_s, meters, log)


def _names(site: Site) -> Iterable[str]:
    """Give what the configuration calls things by, which is stored as it is."""
    for route in site.routes:
        yield from (route.name, route.upstream.name, route.guard.name, route.guard.digest)
    for check in site.checks:
        declares = check.verifier.declares
        yield from (check.name, declares.name, declares.version, named(declares))
        if check.monitor is not None:
            yield check.monitor.calibration.digest


class RecordKeeper:
    """A store, its writer, and the recorder before them. Used within one event loop.

    Args:
        store: is closed with it.
        redaction: cleans whatever is stored.
        salting: the key that the salts of receipts are made from.
        period_s: how often periods are signed.
        meters: counts.
        log: is told what was not written, since its ids were taken.

    Attributes:
        access: whose key is whose, of those that the store keeps.
    """

    def __init__(
        self,
        store: Store,
        redaction: Redaction,
        salting: bytes,
        period_s: float,
        meters: Meters,
        log: Log | None = None,
    ) -> None:
        self.store = store
        self._redaction = redaction
        self._salting = salting
        self._meters = meters
        self._log = log
        self._counted = (0, 0)
        self._writer = Writer(store)
        self.recorder = Recorder(
            self._writer,
            redaction.tenant,
            bounds=Bounds(period_s=period_s, slow_ms=RECORD_SLOW_MS),
            periods=lambda tenant: store.close_period(Scope(tenant)),
            meters=meters,
            differs=self._differs,
        )
        self.access = Access(store, redact=lambda tenant, text: redaction.tenant(tenant).text(text))
        self._closing = asyncio.Event()
        self._expiring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to sign periods, and to delete raw content that has expired."""
        await self.recorder.start()
        self._expiring = asyncio.get_running_loop().create_task(self._expire())

    @property
    def failure(self) -> RecordFailure | None:
        """Why nothing can be recorded now; None where it can."""
        if self.store.failed is not None:
            return "record_failed"
        match self.recorder.state:
            case "failed":
                return "record_failed"
            case "slow":
                return "record_unavailable"
        return None

    @property
    def why(self) -> str:
        """What is in the way, for the log; empty where nothing is."""
        return self.recorder.why if self.store.failed is None else said(self.store.failed)

    def salt(self, tenant: str, receipt: str) -> bytes:
        """Give the salt for what a receipt says of withheld text."""
        return salt_of(self._salting, tenant, receipt)

    def prompt(self, tenant: str, asked: str) -> str:
        """Give the fingerprint of what was asked, under the tenant's key."""
        return self._redaction.tenant(tenant).prompt(asked)

    def session(self, tenant: str, name: str) -> str:
        """Give the pseudonym of a conversation, under the tenant's key."""
        return self._redaction.tenant(tenant).session(name)

    def tick(self) -> None:
        """Count what the redaction did since the last time."""
        of, (masked, failed) = self._redaction, self._counted
        self._counted = now = (of.masked, of.failures)
        if now != (masked, failed):
            self._meters.redacted(now[0] - masked, now[1] - failed)

    def cleaned(self, receipt: Receipt) -> Receipt:
        """Mask what clients and upstreams wrote in a receipt; all else is ours."""
        who = receipt.who
        redactor = self._redaction.tenant(who.tenant)
        return msgspec.structs.replace(
            receipt,
            who=msgspec.structs.replace(
                who, model=redactor.name(who.model), asked=redactor.name(who.asked)
            ),
            failures=tuple(
                msgspec.structs.replace(one, detail=redactor.text(one.detail))
                if one.detail
                else one
                for one in receipt.failures
            ),
        )

    def note(self, told: Told) -> None:
        """Have events recorded soon; what finds no room is shed and counted."""
        with contextlib.suppress(StoreError):  # it is shed and counted by the recorder
            self.recorder.note(self._append(told))

    async def keep(self, told: Told) -> None:
        """Have a receipt and its events recorded; returns when they are on disk.

        Raises:
            TocsinError: they are not.
        """
        committed = await self.recorder.record(self._append(told))
        if committed.differing:
            raise AppendRefused(_differing(committed.differing))

    def _differs(self, tenant: str, ids: tuple[str, ...]) -> None:
        if self._log is not None:
            self._log.say("record_differs", tenant=tenant, ids=list(ids), why=_differing(ids))

    async def close(self) -> None:
        """Record what waits, but not for ever, and close the store."""
        self._closing.set()
        if self._expiring is not None:
            await self._expiring
        await self.recorder.close()
        self.tick()
        await asyncio.to_thread(self._writer.close, RECORD_CLOSE_MS_MAX / 1_000)
        self.store.close()

    def _append(self, told: Told) -> Append:
        """Put it as the recorder takes it; the receipt is `cleaned` by now."""
        # Made by us, for this once: there is nothing in them to search for.
        ours = {event.id for event in told.events}
        ours.update(event.links.call or "" for event in told.events)
        self._redaction.remember(ours)
        redactor = self._redaction.tenant(told.tenant)
        entries: tuple[Entry, ...] = ()
        if told.receipt is not None:
            body = _json(told.receipt)
            entries = (Entry(kind="receipt", id=told.receipt.who.id, body=body),)
        return Append(
            tenant=told.tenant,
            events=told.events,
            entries=entries,
            contents=tuple(_content(one, redactor) for one in told.contents),
        )

    async def _expire(self) -> None:
        """Delete raw content whose time is over, again and again, until the record closes."""
        while not self._closing.is_set():
            with contextlib.suppress(StoreError):  # the next one finds it
                await asyncio.to_thread(self._expire_once)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), CONTENT_EXPIRE_S)

    def _expire_once(self) -> None:
        gone = 0
        for tenant in [head.tenant for head in self.store.heads()]:
            with self.store.transaction("delete raw content that has expired") as connection:
                gone += expire(connection, tenant, self.store.now_us())
        if gone:
            purge(self.store)


def _differing(ids: tuple[str, ...]) -> str:
    """Say what is not written, and why."""
    return f"not written, since something else is stored under the same id: {', '.join(ids)}"


def _content(one: RawContent, redactor: Redactor) -> Content:
    return Content(
        id=one.id,
        # Clients choose the ids of requests: two of them with one id would share a key.
        subject=redactor.person(one.user) if one.user else redactor.nobody(one.call),
        request=redactor.name(one.request),
        what=one.what,
        text=one.text,
        why=one.why,
        expires_us=one.expires_us,
    )
