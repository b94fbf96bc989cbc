"""The record over HTTP: events and traces in, receipts and chains out. See `routes`."""

from __future__ import annotations

import asyncio
import secrets
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from tocsin.errors import (
    InputError,
    MissingExtra,
    StoreAway,
    StoreBusy,
    StoreError,
    StoreFull,
    TocsinError,
)
from tocsin.events.chain import chain
from tocsin.events.cloudevents import BATCH, SINGLE
from tocsin.events.envelope import Event
from tocsin.events.ids import own_event
from tocsin.events.kinds import Accessed
from tocsin.events.reading import Flaw
from tocsin.events.spans import events_of
from tocsin.limits import (
    EVENT_ID_CHARS_MAX,
    EVENTS_BATCH_MAX,
    EVENTS_BODY_MS_MAX,
    EVENTS_BYTES_MAX,
    EVENTS_INLINE_BYTES,
    EVENTS_READ_AT_ONCE,
    EVENTS_UNDER_WAY_ALL_MAX,
    EVENTS_UNDER_WAY_MAX,
    LIMIT_TOLD_S,
    RECORD_READS_MAX,
    RECORD_RETRY_AFTER_S,
)
from tocsin.record import otlp
from tocsin.record.bodies import Unread, read_body
from tocsin.record.ingest import BatchFlaw, Outcome, bounded, ingest, read_batch, read_one
from tocsin.record.log import ASKS, Ask, Given, Withheld
from tocsin.record.recorder import Recorder
from tocsin.record.whole import Whole
from tocsin.store.append import Append
from tocsin.store.reading import Stored
from tocsin.store.roles import ACTIONS, Action, Principal
from tocsin.store.scope import Scope
from tocsin.store.store import Store

SOURCE = "tocsin/http"
PROOF = "text/plain"

_JSON = "application/json"
_ANY_JSON = frozenset({_JSON, SINGLE, BATCH})
_GZIP = b"\x1f\x8b"
_STATUS = {"accepted": 201, "duplicate": 200, "rejected": 400}
_UNREAD: Mapping[Unread, tuple[int, str]] = {
    "too_large": (413, f"the body has more than {EVENTS_BYTES_MAX:,} bytes; split the batch"),
    "late": (408, "the body did not come in time"),
    "broken": (400, "the body cannot be read"),
}
_CHANGES: tuple[Action, ...] = ("record.write", "control.change")
NEEDS: Mapping[str, tuple[Action, ...]] = {
    "review.outcome": ("review.write",),
    "control.changed": _CHANGES,
    "policy.changed": _CHANGES,
    "calibration.changed": _CHANGES,
    "rollout.stage": _CHANGES,
}
"""Kinds that take something else than `record.write` to be sent: what they say is acted on."""

R = TypeVar("R")
_Handler = Callable[[web.Request], Awaitable[web.Response]]
_encode = msgspec.json.Encoder().encode


class Tracing(Protocol):
    """What gives the events of a chain; see `tocsin.record.whole.Whole`."""

    def trace(self, scope: Scope, any_id: str) -> list[Stored]:
        """Read all events that are linked with an id."""


class Reading(Tracing, Protocol):
    """What is read of the store; see `tocsin.store.Store`."""

    def proof(self, scope: Scope, entry_id: str) -> str:
        """Prove a receipt."""

    def receipt(self, scope: Scope, entry_id: str) -> Any:
        """Read a receipt, None where there is none."""


class _Refused(Exception):  # noqa: N818 - it carries an answer
    """The answer to a request that is not worked on."""

    def __init__(self, status: int, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.retry = retry


def routes(
    recorder: Recorder,
    principal: Callable[[web.Request], Principal | None],
    store: Reading,
    *,
    clock_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    at_close: Callable[[Callable[[], None]], None] = lambda _: None,
) -> list[web.RouteDef]:
    """Give the routes of the record, for `aiohttp.web.Application.add_routes`.

    - ``POST /v1/events``: CloudEvents, or events as they are, alone or in batches.
    - ``POST /v1/traces``: OTLP over HTTP, protobuf or JSON, also packed with gzip.
    - ``GET /v1/receipts/{id}``: the receipt with its proof, as a text file or as JSON.
    - ``GET /v1/traces/{id}``: what is linked with an id, as a chain.
    - ``GET /v1/log/...``: checkpoints, proofs and periods, where the store is a `Store`.

    The application has to allow bodies of its own size: they are read here, with a bound.

    Args:
        recorder: of this process.
        principal: says whose a request is, by its key; None where no key is known.
        store: is read from, in threads; closed hours too, where it is a `Store`.
        clock_us: microseconds since 1970.
        at_close: is given what has to be called before the recorder closes: it tells of refused
            reads that were counted and not told of yet.
    """
    doors = _Doors(
        recorder, principal, store, Whole(store) if isinstance(store, Store) else store, clock_us
    )
    at_close(doors.close)
    log: list[web.RouteDef] = []
    if isinstance(store, Store):
        log = [web.get(path, _answers(doors.log(store, path, ask))) for path, ask in ASKS.items()]
    return [
        *log,
        web.post("/v1/events", _answers(doors.events)),
        web.post("/v1/traces", _answers(doors.traces)),
        web.get("/v1/receipts/{id}", _answers(doors.receipt)),
        web.get("/v1/traces/{id}", _answers(doors.trace)),
    ]


def _answers(handler: _Handler) -> _Handler:
    """Turn what a handler refuses into its answer."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except _Refused as refused:
            return _refusal(refused, protobuf=_content(request) == otlp.PROTOBUF)

    return answer


class _Doors:
    def __init__(
        self,
        recorder: Recorder,
        principal: Callable[[web.Request], Principal | None],
        store: Reading,
        whole: Tracing,
        clock_us: Callable[[], int],
    ) -> None:
        self._recorder = recorder
        self._principal = principal
        self._store = store
        self._whole = whole
        self._clock_us = clock_us
        self._under_way: Counter[str] = Counter()
        self._refusals: dict[tuple[Principal, Action], int] = {}  # that are still to be told of
        self._decodes = asyncio.Semaphore(EVENTS_READ_AT_ONCE)
        self._reads = asyncio.Semaphore(RECORD_READS_MAX)

    # ------------------------------------------------------------------------------------------ in

    async def events(self, request: web.Request) -> web.Response:
        """Answer ``POST /v1/events``."""
        who = self._who(request, "record.write", "review.write")
        if _content(request) not in _ANY_JSON:
            raise _Refused(415, f"send {BATCH}, {SINGLE} or {_JSON}")
        with _Place(self._under_way, who.tenant):
            read = await self._aside(await _body(request), self._read_events)
            if isinstance(read, BatchFlaw):
                raise _Refused(413 if read.too_large else 400, read.message)
            return _verdicts(await self._ingest(who, *read))

    async def traces(self, request: web.Request) -> web.Response:
        """Answer ``POST /v1/traces``."""
        who = self._who(request, "record.write")
        kind = _content(request)
        if kind not in {otlp.PROTOBUF, otlp.JSON}:
            raise _Refused(415, f"send {otlp.PROTOBUF} or {otlp.JSON}")
        protobuf = kind == otlp.PROTOBUF
        with _Place(self._under_way, who.tenant):
            reads = self._read_protobuf if protobuf else self._read_json
            batch, spans = await self._aside(await _body(request), reads)
            rejected, message = await self._spans(who, batch, spans)
        make = otlp.answer_protobuf if protobuf else otlp.answer_json
        return web.Response(body=make(rejected, message), content_type=kind)

    async def _aside(self, body: bytes, read: Callable[[bytes], R]) -> R:
        """Read a small body here, a large one in a thread, a few of them at once."""
        if len(body) <= EVENTS_INLINE_BYTES:
            return read(body)
        async with self._decodes:
            return await asyncio.to_thread(read, body)

    def _read_events(self, body: bytes) -> tuple[list[Event | Flaw], list[str | None]] | BatchFlaw:
        raw = read_batch(body)
        if isinstance(raw, BatchFlaw):
            return raw
        now_us = self._clock_us()
        found = [read_one(one, now_us) for one in raw]
        return [event for event, _ in found], [sent for _, sent in found]

    def _read_protobuf(self, body: bytes) -> tuple[list[Event | Flaw], list[int]]:
        return self._read_spans(body, otlp.read_protobuf)

    def _read_json(self, body: bytes) -> tuple[list[Event | Flaw], list[int]]:
        return self._read_spans(body, otlp.read_json)

    def _read_spans(
        self, body: bytes, read: Callable[[bytes], list[Any]]
    ) -> tuple[list[Event | Flaw], list[int]]:
        """Give the events of all spans, and for each the number of its span."""
        try:
            spans = read(body)
        except otlp.TooManySpans as error:
            raise _Refused(413, str(error)) from None
        except InputError as error:
            raise _Refused(400, str(error)) from None
        except MissingExtra as error:
            raise _Refused(415, str(error)) from None
        now_us = self._clock_us()
        batch: list[Event | Flaw] = []
        numbers: list[int] = []
        for number, span in enumerate(spans):
            if not span.trace or not span.span:
                found: list[Event | Flaw] = [Flaw("a span has no ids of 16 and 8 bytes")]
            else:
                found = events_of(span)
            batch += [e if isinstance(e, Flaw) else bounded(e, now_us) for e in found]
            numbers += [number] * len(found)
        return batch, numbers

    async def _spans(
        self, who: Principal, batch: list[Event | Flaw], numbers: list[int]
    ) -> tuple[int, str]:
        """Commit the events of spans; how many spans were rejected, and why the first was."""
        rejected: set[int] = set()
        message = ""
        for start in range(0, len(batch), EVENTS_BATCH_MAX):
            part = batch[start : start + EVENTS_BATCH_MAX]
            for outcome in await self._ingest(who, part, [None] * len(part)):
                if outcome.verdict == "rejected":
                    rejected.add(numbers[start + outcome.index])
                    message = message or outcome.reason
        return len(rejected), message

    async def _ingest(
        self, who: Principal, batch: list[Event | Flaw], ids: Sequence[str | None]
    ) -> list[Outcome]:
        try:
            permitted = [_permitted(who, event) for event in batch]
            return await ingest(self._recorder, who.tenant, permitted, ids)
        except StoreAway:
            late = "no commit in time; it may still come: send the same again, that is safe"
            raise _Refused(503, late, retry=True) from None
        except (StoreBusy, StoreFull):
            raise _Refused(503, "the record takes nothing now; try again", retry=True) from None
        except StoreError:
            raise _Refused(503, "the record has failed; whoever runs it has to look") from None

    # ----------------------------------------------------------------------------------------- out

    async def receipt(self, request: web.Request) -> web.Response:
        """Answer ``GET /v1/receipts/{id}``."""
        who, wanted = self._asked(request, "receipts")
        found = await self._read(self._store.receipt, Scope(who.tenant), wanted)
        if found is None:
            raise await self._without_receipt(who, wanted)
        proof = await self._read(self._store.proof, Scope(who.tenant), wanted)
        self._accessed(who, "record.read", f"receipts/{wanted}", allowed=True)
        if _JSON in request.headers.get("accept", ""):
            entry = msgspec.Raw(found.entry)
            return _answer({"index": found.index, "entry": entry, "proof": proof})
        return web.Response(text=proof, content_type=PROOF, headers=_PRIVATE)

    async def trace(self, request: web.Request) -> web.Response:
        """Answer ``GET /v1/traces/{id}``."""
        who, wanted = self._asked(request, "traces")
        body = await self._read(self._chain, Scope(who.tenant), wanted)
        if body is None:
            self._missed(who, "record.read", f"traces/{wanted}")
            raise _Refused(404, "nothing is linked with this id")
        self._accessed(who, "record.read", f"traces/{wanted}", allowed=True)
        return web.Response(body=body, content_type=_JSON, headers=_PRIVATE)

    def log(self, store: Store, path: str, ask: Ask) -> _Handler:
        """Answer what is asked of a tenant's own log."""
        what = path.removeprefix("/v1/").removesuffix("/{id}")

        async def answer(request: web.Request) -> web.Response:
            who, wanted = self._asked(request, what)

            def read(scope: Scope, name: str) -> Given | Withheld:
                return ask(store, scope, name, request.query)

            target = _target(what, wanted)
            found = await self._read(read, Scope(who.tenant), wanted)
            if isinstance(found, Withheld):
                if found.status == 404:
                    self._missed(who, "record.read", target)
                raise _Refused(found.status, found.why)
            self._accessed(who, "record.read", target, allowed=True)
            form = PROOF if found.form == "text" else _JSON
            return web.Response(body=found.body, content_type=form, headers=_PRIVATE)

        return answer

    async def _without_receipt(self, who: Principal, wanted: str) -> _Refused:
        """Tell a response that needs no receipt from an id that this tenant does not know."""
        target = f"receipts/{wanted}"
        linked = await self._read(self._whole.trace, Scope(who.tenant), wanted)
        if not any(wanted == stored.event.links.call for stored in linked):
            self._missed(who, "record.read", target)
            return _Refused(404, "there is no such receipt")
        self._accessed(who, "record.read", target, allowed=True)
        return _Refused(
            404,
            "this response has no receipt: one is made where an alarm rang or something failed; "
            "what happened is told by its events, under /v1/traces/ and the same id",
        )

    def _chain(self, scope: Scope, wanted: str) -> bytes | None:
        """Read and write a chain, in a thread: a long session has thousands of events."""
        found = self._whole.trace(scope, wanted)
        return _encode({"id": wanted, "branches": branches(found)}) if found else None

    async def _read(self, read: Callable[[Scope, str], R], scope: Scope, wanted: str) -> R:
        async with self._reads:
            try:
                return await asyncio.to_thread(read, scope, wanted)
            except StoreBusy:
                raise _Refused(503, "the record cannot be read now", retry=True) from None
            except TocsinError:
                raise _Refused(503, "the record cannot be read") from None

    # --------------------------------------------------------------------------------------- who

    def _asked(self, request: web.Request, what: str) -> tuple[Principal, str]:
        wanted = request.match_info.get("id", "")
        if len(wanted) > EVENT_ID_CHARS_MAX or not wanted.isprintable():
            raise _Refused(404, "there is no such id")
        return self._who(request, "record.read", target=_target(what, wanted)), wanted

    def _who(self, request: web.Request, *actions: Action, target: str = "") -> Principal:
        """Say whose request it is, who may do at least one of these actions."""
        who = self._principal(request)
        if who is None:
            raise _Refused(401, "no key that is known here")
        if not any(map(who.may, actions)):
            self._missed(who, actions[0], target)
            raise _Refused(403, f"this key may not {ACTIONS[actions[0]]}")
        return who

    def _missed(self, who: Principal, action: Action, target: str) -> None:
        """Tell that somebody was refused, or asked for an id that is not this tenant's.

        The first time at once. What follows within a second is told when that is over, as one
        event that says how often.
        """
        if (who, action) in self._refusals:
            self._refusals[who, action] += 1
            return
        self._accessed(who, action, target, allowed=False)
        self._count(who, action)

    def _count(self, who: Principal, action: Action) -> None:
        self._refusals[who, action] = 0
        asyncio.get_running_loop().call_later(LIMIT_TOLD_S, self._tell, who, action)

    def _tell(self, who: Principal, action: Action) -> None:
        """Say how often somebody was refused since it was last told."""
        times = self._refusals.pop((who, action), 0)
        if times:
            self._accessed(who, action, "", allowed=False, times=times)
            self._count(who, action)

    def close(self) -> None:
        """Tell what is still to be told of."""
        untold, self._refusals = self._refusals, {}
        for (who, action), times in untold.items():
            if times:
                self._accessed(who, action, "", allowed=False, times=times)

    def _accessed(
        self, who: Principal, action: Action, target: str, *, allowed: bool, times: int = 1
    ) -> None:
        body = Accessed(
            by=who.id, role=who.role, action=action, target=target, allowed=allowed, times=times
        )
        event = Event(
            id=own_event("access", secrets.token_hex(12)),
            time_us=self._clock_us(),
            source=SOURCE,
            body=body,
        )
        self._recorder.note(Append(tenant=who.tenant, events=(event,)))


def _target(what: str, wanted: str) -> str:
    return f"{what}/{wanted}" if wanted else what


def _permitted(who: Principal, event: Event | Flaw) -> Event | Flaw:
    if isinstance(event, Flaw):
        return event
    needs = NEEDS.get(event.kind, ("record.write",))
    missing = next((action for action in needs if not who.may(action)), None)
    return event if missing is None else Flaw(f"this key may not {ACTIONS[missing]}")


def branches(found: Sequence[Stored]) -> list[dict[str, Any]]:
    """Give stored events as branches of a chain, ready to be written as JSON."""
    return [
        {
            "request": branch.request,
            "call": branch.call,
            "events": [
                {"seq": found[link.position].seq, "stage": link.stage, "event": link.event}
                for link in branch.links
            ],
        }
        for branch in chain([stored.event for stored in found])
    ]


class _Place:
    """A batch under way; there is only so much room for them."""

    def __init__(self, under_way: Counter[str], tenant: str) -> None:
        self._under_way = under_way
        self._tenant = tenant

    def __enter__(self) -> None:
        mine = self._under_way[self._tenant]
        if mine >= EVENTS_UNDER_WAY_MAX or self._under_way.total() >= EVENTS_UNDER_WAY_ALL_MAX:
            raise _Refused(429, "too many batches at once; try again", retry=True)
        self._under_way[self._tenant] = mine + 1

    def __exit__(self, *_: object) -> None:
        self._under_way[self._tenant] -= 1
        if not self._under_way[self._tenant]:
            del self._under_way[self._tenant]


# ----------------------------------------------------------------------------------------- bodies


def _content(request: web.Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _body(request: web.Request) -> bytes:
    packing = request.headers.get("content-encoding", "identity").strip().lower()
    if packing not in {"identity", "gzip", ""}:
        raise _Refused(415, "content-encoding: send the body as it is, or packed with gzip")
    body = await read_body(request, EVENTS_BYTES_MAX, EVENTS_BODY_MS_MAX)
    if isinstance(body, str):
        raise _Refused(*_UNREAD[body])
    # A server may have unpacked it already; neither JSON nor protobuf begins as gzip does.
    if not body.startswith(_GZIP):
        return body
    unpacked = await asyncio.to_thread(unpack, body, EVENTS_BYTES_MAX)
    if unpacked is None:
        raise _Refused(
            413, f"the body is no gzip, or unpacks to more than {EVENTS_BYTES_MAX:,} bytes"
        )
    return unpacked


def unpack(packed: bytes, most: int) -> bytes | None:
    """Unpack gzip, but never to more than so many bytes; None where it is more or no gzip.

    Example:
        >>> import gzip
        >>> unpack(gzip.compress(b"abc"), 3), unpack(gzip.compress(bytes(9)), 8)
        (b'abc', None)
    """
    stream = zlib.decompressobj(wbits=31)
    try:
        body = stream.decompress(packed, most + 1)
    except zlib.error:
        return None
    if len(body) > most or not stream.eof or stream.unused_data:
        return None
    return body


# ---------------------------------------------------------------------------------------- answers

_PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def _verdicts(outcomes: Sequence[Outcome]) -> web.Response:
    counted = Counter(outcome.verdict for outcome in outcomes)
    told = [
        {"status": _STATUS[outcome.verdict], **msgspec.to_builtins(outcome)} for outcome in outcomes
    ]
    body = {
        "accepted": counted["accepted"],
        "duplicates": counted["duplicate"],
        "rejected": counted["rejected"],
        "events": told,
    }
    return _answer(body, status=207 if counted["rejected"] else 200)


def _answer(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=_encode(body), status=status, content_type=_JSON, headers=_PRIVATE)


def _refusal(refused: _Refused, *, protobuf: bool = False) -> web.Response:
    headers = {**_PRIVATE}
    if refused.retry:
        headers["retry-after"] = str(RECORD_RETRY_AFTER_S)
    if refused.status == 401:
        headers["www-authenticate"] = "Bearer"
    if protobuf:
        body, kind = otlp.status_protobuf(str(refused)), otlp.PROTOBUF
    else:
        body, kind = _encode({"error": {"message": str(refused), "status": refused.status}}), _JSON
    response = web.Response(body=body, status=refused.status, content_type=kind, headers=headers)
    if refused.status in {401, 403, 408, 413, 415, 429}:
        response.force_close()  # some of the body may not have been read
    return response
