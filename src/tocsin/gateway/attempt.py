"""One attempt to answer a request: an upstream is called, and its answer passed on under guard."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Awaitable, Sequence

import msgspec
from aiohttp import web

from tocsin.gateway import headers
from tocsin.gateway.conversations import Conversation
from tocsin.gateway.doors import GatewayDoors
from tocsin.gateway.errors import Refuse, failed
from tocsin.gateway.job import Ended, Job, outcome_of
from tocsin.gateway.meters import Outcome
from tocsin.gateway.outlet import Outlet
from tocsin.gateway.pump import Pump, Take, take_all
from tocsin.gateway.settling import Settled, settle
from tocsin.gateway.site import Upstream
from tocsin.gateway.upstream import Call, Failed
from tocsin.guarding.plan import Guard
from tocsin.guarding.response import Guarded
from tocsin.limits import OBSERVED_MAX
from tocsin.model import Context
from tocsin.policy.failures import MEANING
from tocsin.stream.codec import ErrorKind
from tocsin.stream.events import Event

_json = msgspec.json.Encoder().encode

_CLIENTS: dict[int, ErrorKind] = {
    400: "bad_request",
    404: "not_found",
    409: "bad_request",
    413: "too_large",
    422: "bad_request",
    429: "too_many",
}
"""An upstream's statuses that are the client's matter, and what they are called."""

_OTHERS: dict[int, ErrorKind] = {
    408: "timeout",
    503: "unavailable",
    504: "timeout",
    529: "unavailable",
}
"""Those that are the upstream's, apart from what is just a failure."""

_RETRY_AFTER = re.compile(r"[0-9A-Za-z ,:.-]{1,40}")
_ERROR_CODE = re.compile(r"[A-Za-z][A-Za-z_.-]{0,63}|[1-5][0-9]{2}", re.ASCII)
"""What upstreams call errors by: words. It is logged and recorded, and a key is no word."""


class Attempt:
    """One attempt. Used once.

    Args:
        job: the request.
        upstream: whom to ask.
        model: for which model; the one that was asked for where None.
        is_fallback: there is nobody else to ask.
        conversation: what it is a turn of.
        receipt: id of its receipt.
    """

    def __init__(
        self,
        job: Job,
        upstream: Upstream,
        model: str | None,
        *,
        is_fallback: bool,
        conversation: Conversation | None,
        receipt: str,
    ) -> None:
        route = job.route
        self._job = job
        self._upstream = upstream
        self._model = model or job.asked.model
        self._conversation = conversation
        self._receipt = receipt
        trajectory = None if conversation is None else conversation.trajectory
        self._guard = route.guard if conversation is None else conversation.guard
        if not job.asked.stream and not is_fallback:
            # Nothing is sent before all of it is known: it is never too late to ask someone else.
            self._guard = dataclasses.replace(self._guard, hold="end_of_stream")
        self._doors = GatewayDoors(route.stronger, job.plane.approver, route.approval_ms)
        self._guarded = Guarded(
            self._guard,
            job.asked.context,
            self._doors,
            in_order=job.codec.in_order,
            is_fallback=is_fallback,
            trajectory=trajectory,
        )
        self._call = Call(job.plane.session, upstream)
        self._checking = False  # a check is being waited for
        self._finished = False  # the upstream said all
        self._collected = job.collecting()
        self._outlet: Outlet | None = None
        self._settled = False
        self._recording: asyncio.Future[bool] | None = None
        self._recorded: bool | None = None

    async def run(self) -> Ended | None:
        """Answer; None where another model is to answer instead.

        Raises:
            ConnectionError: the client has gone.
        """
        plane = self._job.plane
        outcome: Outcome = "broken"
        try:
            with plane.watching(self._call), plane.draining.tells(self._end):
                ended = await (self._stream() if self._job.asked.stream else self._whole())
            outcome = outcome_of(self._guarded) if ended is None else ended.outcome
        except (asyncio.CancelledError, ConnectionError):
            outcome = plane.left
            raise
        finally:
            self._settle(outcome)
        return ended

    def _end(self) -> None:
        """Hear the order to stop."""
        self._doors.end()
        self._call.interrupt("stopping")

    def _settle(self, outcome: Outcome) -> None:
        """End the call, and tell what became of it, once; whatever happened, without waiting."""
        if self._settled:
            return
        self._settled = True
        guarded, call = self._guarded, self._call
        first_ms = self._first_ms(outcome)
        if self._finished:
            call.let_go()
        else:
            call.close()
        guarded.leave()
        conversation = self._conversation
        if conversation is not None and self._checking:
            conversation.lost = True
        self._recording = settle(
            self._job,
            guarded,
            Settled(
                place="response",
                receipt=self._receipt,
                outcome=outcome,
                upstream=self._upstream.name,
                model=self._model,
                conversation=(
                    None
                    if conversation is None
                    else self._job.plane.books.session(*conversation.key)
                ),
                is_fallback=self._is_second,
                first_ms=first_ms,
                collected=self._collected,
            ),
        )

    def _first_ms(self, outcome: Outcome) -> float | None:
        """Say how long the first text of a stream took; None where none was shown."""
        outlet = self._outlet
        if outlet is None or not self._guarded.account().released:
            return None
        shown_s = outlet.shown_s
        if shown_s is None:
            if outcome == "client_gone":
                return None
            # What was cleared goes out with the end, as soon as this is told.
            shown_s = asyncio.get_running_loop().time()
        return (shown_s - self._job.began_s) * 1_000

    @property
    def _is_second(self) -> bool:
        """Whether another answer came before this one."""
        return self._receipt != self._job.id

    def _settles(self) -> Awaitable[None] | None:
        """Give the receipt, where there is one, before the end goes out, and after the stop."""
        guarded = self._guarded
        if not (guarded.alarms or guarded.failures or self._is_second):
            return None
        if self._job.plane.books.keeper is None:
            return None
        self._settle(outcome_of(guarded))
        return self._wait()

    async def _wait(self) -> None:
        self._recorded = await self._job.recorded(self._recording)

    # ------------------------------------------------------------------------------- the two forms

    async def _stream(self) -> Ended | None:
        job, guarded = self._job, self._guarded
        take: Take = guarded.take if self._conversation is None else self._take
        if self._collected is not None:
            take = self._collected.before(take)

        def settles() -> Awaitable[None] | None:
            self._finished = pump.finished
            return self._settles()

        pump = Pump(guarded, job.codec.encoder(job.asked, job.made), self._note, settles, take)
        told = headers.of_guard(self._guard, self._receipt)
        outlet = Outlet(job.request, told, job.site.keep_alive_ms, pump.head)
        pump.outlet = self._outlet = outlet
        try:
            with job.plane.watching(outlet):
                out = await self._begin()
                if not guarded.over:
                    refuse = await self._ask(out)
                    if refuse is not None:
                        return job.refused(refuse, self._guard, self._receipt)
                if out:
                    await pump.send(out)
                if job.route.fallback is None:
                    now_s = asyncio.get_running_loop().time()
                    outlet.begins_s = now_s + job.site.head_ms / 1_000
                if not guarded.over:
                    await pump.run(self._call, job.codec.decoder(job.asked))
        finally:
            outlet.close()
            if outlet.opened_s is not None:
                took_ms = (outlet.opened_s - job.began_s) * 1_000
                job.plane.meters.first_text(job.codec.api, job.route.name, took_ms)
        self._finished = pump.finished
        return self._ended(outlet.response)

    async def _whole(self) -> Ended | None:
        job, guarded = self._job, self._guarded
        out = await self._begin()
        if not guarded.over:
            refuse = await self._ask(out)
            if refuse is not None:
                return job.refused(refuse, self._guard, self._receipt)
        if not guarded.over:
            raw = await self._call.read_all()
            if isinstance(raw, Failed):
                out += await guarded.fail(raw.failure, raw.detail)
            else:
                self._finished = True
                events = job.codec.read_body(job.asked, raw)
                if self._collected is not None:
                    self._collected.add(events)
                self._checking = True
                await take_all(guarded, events, out)
                self._checking = False
                if not guarded.over:
                    out += await guarded.fail("upstream_cut_off")
        if guarded.refused is not None or guarded.falls_back:
            return self._ended(None)
        waited_for = self._settles()
        if waited_for is not None:
            await waited_for
        return self._ended(whole(job, guarded, self._guard, out, self._receipt, self._note()))

    async def _take(self, events: Sequence[Event]) -> list[Event]:
        self._checking = True
        out = await self._guarded.take(events)
        self._checking = False
        return out

    # -------------------------------------------------------------------------------------- parts

    async def _begin(self) -> list[Event]:
        """Open the checks; a conversation goes on from what the generator has seen since."""
        conversation, unrecorded = self._conversation, self._job.unrecorded
        if conversation is None or conversation.turns == 1:
            out = await self._guarded.begin()
        else:
            self._checking = True
            out = await self._guarded.begin(observed(self._job.asked.context))
            self._checking = False
        if unrecorded is not None and not self._guarded.over:
            out += await self._guarded.fail(unrecorded)
        return out

    async def _ask(self, out: list[Event]) -> Refuse | None:
        """Call the upstream; what a failure leads to is added to `out`.

        Returns:
            The answer, where the upstream says that the request is wrong, and nothing was sent yet.
        """
        job, upstream, guarded = self._job, self._upstream, self._guarded
        try:
            body = _json({**job.asked.body, "model": self._model})
        except RecursionError:
            return Refuse(kind="bad_request", message="the body is nested too deeply")
        sent = headers.for_upstream(
            upstream, job.codec.api, job.request.headers, stream=job.asked.stream
        )
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        failure = await self._call.open(job.codec.api, body, sent)
        job.plane.meters.upstream(upstream.name, (loop.time() - began_s) * 1_000)
        if failure is None:
            return None
        code = job.codec.error_code(failure.error) if failure.error else ""
        code = code if _ERROR_CODE.fullmatch(code) else ""
        if failure.status in _CLIENTS and guarded.phase == "before_first_byte":
            return _relayed(failure, _CLIENTS[failure.status], code)
        detail = f"{failure.detail} {code}".strip()
        out += await guarded.fail(failure.failure, detail)
        if guarded.refused is not None and failure.status in _OTHERS:
            refuse = _relayed(failure, _OTHERS[failure.status], code)
            return msgspec.structs.replace(refuse, outcome="upstream_failed")
        return None

    def _ended(self, response: web.StreamResponse | None) -> Ended | None:
        guarded = self._guarded
        if guarded.falls_back:
            return None
        if guarded.refused is not None:
            return self._job.refused(failed(guarded.refused), self._guard, self._receipt)
        if response is None:
            raise RuntimeError("a response that is over, and has no end")
        return Ended(response, outcome_of(guarded))

    def _note(self) -> dict[str, object]:
        return self._job.note(self._guarded, self._guard, self._receipt, recorded=self._recorded)


def whole(
    job: Job,
    guarded: Guarded,
    guard: Guard,
    events: Sequence[Event],
    receipt: str,
    note: dict[str, object],
) -> web.Response:
    """Write a response that is not streamed."""
    body = job.codec.body(job.asked, job.made)
    for event in events:
        body.take(event)
    told = headers.of_guard(guard, receipt)
    told[headers.GUARD] = guarded.status
    told["content-type"] = "application/json"
    result = {**body.result(), "tocsin": note}
    return web.Response(body=_json(result), headers=told)


def _relayed(failure: Failed, kind: ErrorKind, code: str) -> Refuse:
    told = {}
    if failure.retry_after is not None and _RETRY_AFTER.fullmatch(failure.retry_after):
        told["retry-after"] = failure.retry_after
    said = f": {code}" if code else ""
    return Refuse(
        kind=kind,
        message=f"{MEANING['upstream_refused']} {failure.status}{said}",
        status=None if kind in {"timeout", "unavailable"} else failure.status,
        headers=told,
    )


def observed(context: Context) -> list[str]:
    """Give what came after the generator's last message: what it has seen since.

    Example:
        >>> from tocsin.model import Message
        >>> observed(Context(messages=(Message("assistant", "a"), Message("tool", "b"))))
        ['b']
    """
    since: list[str] = []
    for message in context.messages:
        if message.role == "assistant":
            since.clear()
        elif message.content:
            since.append(message.content)
    if len(since) > OBSERVED_MAX:
        since = ["\n\n".join(since[: 1 - OBSERVED_MAX]), *since[1 - OBSERVED_MAX :]]
    return since
