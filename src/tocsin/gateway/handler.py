"""One request, from its head to its end."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tocsin.events.ids import response_id
from tocsin.gateway import headers
from tocsin.gateway.access import ACCESS, Access
from tocsin.gateway.attempt import Attempt, whole
from tocsin.gateway.conversations import Conversation
from tocsin.gateway.doors import GatewayDoors
from tocsin.gateway.errors import Refuse, failed
from tocsin.gateway.input_check import check_input
from tocsin.gateway.job import Ended, Job
from tocsin.gateway.log import place
from tocsin.gateway.meters import Outcome
from tocsin.gateway.outlet import Outlet
from tocsin.gateway.plane import Plane
from tocsin.gateway.pump import comment
from tocsin.gateway.reading import read_asked
from tocsin.gateway.settling import Settled, settle
from tocsin.gateway.site import Tenant
from tocsin.gateway.story import story_of
from tocsin.guarding.plan import Guard
from tocsin.guarding.response import Guarded
from tocsin.policy.failures import respond
from tocsin.stream import sse
from tocsin.stream.codecs import CODECS
from tocsin.stream.events import Api, Blocked, Event, Opened
from tocsin.stream.shapes import identifier

ELSEWHERE = Refuse(
    kind="forbidden",
    message="without keys only programs of this machine are answered, not pages from elsewhere",
    outcome="unauthenticated",
)
NO_KEY = Refuse(
    kind="unauthenticated",
    message="no API key that is known here; send one as a bearer token or as x-api-key",
    outcome="unauthenticated",
    closes=True,
)
_FAULT = Refuse(kind="internal", message="a fault of the gateway", outcome="broken", closes=True)


async def handle(plane: Plane, api: Api, request: web.Request) -> web.StreamResponse:
    """Answer a request on an API; it is counted once when it comes and once when it ends.

    Raises:
        ConnectionError: the client has gone.
    """
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    access = request.get(ACCESS) or Access(api=api)
    plane.meters.started(api)
    outcome: Outcome = "broken"
    try:
        response, outcome = await _answer(plane, api, request, access, began_s)
    except (asyncio.CancelledError, ConnectionError):
        outcome = plane.left
        raise
    except Exception as e:
        plane.log.say("fault", **place(e))
        if request.writer.output_size:
            raise  # an answer has begun; it is cut off, and does not look whole
        return _FAULT.response(CODECS[api])
    finally:
        access.outcome = outcome
        plane.meters.ended(api, access.route, outcome, (loop.time() - began_s) * 1_000)
    return response


async def _answer(
    plane: Plane, api: Api, request: web.Request, access: Access, began_s: float
) -> Ended:
    """Find out who asks, and let one more of theirs in."""
    site = plane.live.site
    if site.open_to_all and headers.from_elsewhere(request.headers):
        return Ended(ELSEWHERE.response(CODECS[api]), ELSEWHERE.outcome)
    tenant = site.tenant(headers.key_of(request.headers))
    if tenant is None:
        return Ended(NO_KEY.response(CODECS[api]), NO_KEY.outcome)
    access.tenant = tenant.name
    refuse = plane.admits(tenant)
    if refuse is not None:
        return Ended(refuse.response(CODECS[api]), refuse.outcome)
    with plane.admitted(tenant):
        job = await _read(plane, api, request, tenant, access, began_s)
        if isinstance(job, Refuse):
            return Ended(job.response(CODECS[api]), job.outcome)
        return await _respond(job)


async def _read(
    plane: Plane, api: Api, request: web.Request, tenant: Tenant, access: Access, began_s: float
) -> Job | Refuse:
    """Read what is asked for, and find its way."""
    codec, site = CODECS[api], plane.live.site
    asked = await read_asked(request, codec, site.body_bytes_max, site.body_ms)
    if isinstance(asked, Refuse):
        return asked
    route = site.route(tenant, asked.model)
    if route is None or api not in route.upstream.speaks:
        return Refuse(kind="not_found", message="there is no such model here", param="model")
    access.route = route.name
    access.receipt = response_id(plane.new_id())
    return Job(
        plane=plane,
        request=request,
        codec=codec,
        site=site,
        tenant=tenant,
        route=route,
        asked=asked,
        id=access.receipt,
        asked_at=plane.now(),
        began_s=began_s,
        access=access,
        story=story_of(plane, tenant.name, route, asked, request.headers, access.receipt),
        sampled=route.sample > 0 and plane.draw() < route.sample,
        unrecorded=plane.books.failure,
    )


async def _respond(job: Job) -> Ended:
    """Answer a request whose way is known; whatever becomes of it, the record is told its end."""
    failure = job.unrecorded
    if failure is not None:
        guard = job.route.guard
        response = respond(failure, "before_first_byte", guard.mode, guard.passed)
        if response == "refuse":
            job.plane.meters.failure(job.route.name, failure, response)
            return job.refused(failed(failure), guard)
    outcome: Outcome = "broken"
    job.open()
    try:
        ended = await _responded(job)
        outcome = ended.outcome
    except (asyncio.CancelledError, ConnectionError):
        outcome = job.plane.left
        raise
    finally:
        job.story.close(outcome)
    return ended


async def _responded(job: Job) -> Ended:
    """Check the request, then answer it; in a conversation, one at a time."""
    ended = await _check_input(job)
    if ended is not None:
        return ended
    conversation = _enter(job)
    if isinstance(conversation, Refuse):
        return job.refused(conversation, job.route.guard)
    if conversation is None:
        return await _attempts(job, None)
    try:
        return await _attempts(job, conversation)
    finally:
        job.plane.conversations.leave(conversation)


def _enter(job: Job) -> Conversation | Refuse | None:
    """Find the conversation that goes on here; None where there is none."""
    route = job.route
    name = job.request.headers.get(headers.CONVERSATION) or job.asked.conversation
    if not route.conversations or not name:
        return None
    if not identifier(name):
        wrong = "the conversation's id has to be of letters, digits and _.:/@+-, 256 at most"
        return Refuse(kind="bad_request", message=wrong)
    known = job.plane.conversations
    observes = route.guard.mode == "observe"
    try:
        entered = known.enter(
            job.tenant.name, route.name, name, route.guard, job.asked.context, keeps=job.site
        )
    except Exception as e:  # noqa: BLE001 - whatever breaks in a verifier is a failure
        job.plane.log.say("verifier_failed", **place(e))
        if observes:
            return None  # it breaks again where the response is watched alone, and is told there
        job.plane.meters.failure(route.name, "verifier_failed", "refuse")
        return failed("verifier_failed")
    if observes and isinstance(entered, Refuse):
        return None  # a shadow refuses nobody: this response is watched alone
    return entered


async def _attempts(job: Job, conversation: Conversation | None) -> Ended:
    """Ask the route's model, and the one that it falls back to where the policy says so."""
    route = job.route
    other = route.fallback
    if other is not None and job.codec.api not in other.upstream.speaks:
        other = None
    first = Attempt(
        job, route.upstream, route.model,
        is_fallback=other is None, conversation=conversation, receipt=job.id,
    )  # fmt: skip
    ended = await first.run()
    if ended is None and other is not None:
        job.open(f"{job.id}-fallback")
        second = Attempt(
            job, other.upstream, other.model,
            is_fallback=True, conversation=conversation, receipt=f"{job.id}-fallback",
        )  # fmt: skip
        ended = await second.run()
    if ended is None:
        raise RuntimeError("a fallback of a fallback")
    return ended


# ---------------------------------------------------------------------------------------- the input


async def _check_input(job: Job) -> Ended | None:
    """Check the request; an answer where it goes no further."""
    guard = job.route.input
    if guard is None:
        return None
    doors = GatewayDoors(job.route.stronger, job.plane.approver, job.route.approval_ms)
    with job.plane.draining.tells(doors.end):
        guarded, events = await check_input(guard, job.asked.context, doors)
    receipt = f"{job.id}-input"
    last = events[-1] if events else None
    outcome: Outcome | None = None
    if guarded.refused is not None:
        outcome = "failed"
    elif isinstance(last, Blocked):
        outcome = "blocked_input"
    recording = settle(job, guarded, Settled(place="input", receipt=receipt, outcome=outcome))
    if guarded.refused is not None:
        refuse = failed(guarded.refused)
        if guarded.refused == "hold_overflow":
            refuse = Refuse(kind="too_large", message="the request is too long to be checked")
        return job.refused(refuse, guard, receipt)
    if not isinstance(last, Blocked):
        return None
    if not last.text:
        blocked = Refuse(
            kind="blocked",
            message="the request was stopped by a safety check",
            outcome="blocked_input",
        )
        return job.refused(blocked, guard, receipt)
    recorded = await job.recorded(recording)
    note = job.note(guarded, guard, receipt, recorded=recorded)
    return await _replaced(job, guarded, guard, last, receipt, note)


async def _replaced(
    job: Job,
    guarded: Guarded,
    guard: Guard,
    blocked: Blocked,
    receipt: str,
    note: dict[str, object],
) -> Ended:
    """Answer with the policy's own text."""
    events: list[Event] = [Opened(), blocked]
    if not job.asked.stream:
        return Ended(whole(job, guarded, guard, events, receipt, note), "blocked_input")
    outlet = Outlet(
        job.request, headers.of_guard(guard, receipt), job.site.keep_alive_ms, lambda: None
    )
    encoder = job.codec.encoder(job.asked, job.made)
    frames = [frame for event in events for frame in encoder.encode(event)]
    await outlet.end(comment(note) + sse.encode(frames))
    if outlet.response is None:
        raise RuntimeError("a response that is over, and has no end")
    return Ended(outlet.response, "blocked_input")
