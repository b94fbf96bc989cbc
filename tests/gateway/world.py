"""A gateway on a real socket in the loop of the test, before a model that says what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
from aiohttp import web
from guarded_streams import literal_rules

from tocsin.gateway.app import PLANE, make_app
from tocsin.gateway.draining import Draining
from tocsin.gateway.log import Log
from tocsin.gateway.meters import NoMeters, Outcome, Place
from tocsin.gateway.site import Fallback, Route, Site, Upstream
from tocsin.gateway.surroundings import Live, Surroundings
from tocsin.guarding.plan import Check, Guard
from tocsin.model import Intervention
from tocsin.policy.failures import Failure, Response
from tocsin.stream.events import APIS, Api
from tocsin.testing.fake_model import Choice, FakeModel, Reply

PATHS: dict[Api, str] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
DIGEST = "0123456789abcdef" * 4
WAIT_S = 20.0
STALE_S = 0.25
"""How long an upstream may still be open once nobody wants its answer."""


def asked(api: Api, text: str = "Good day.", **more: Any) -> dict[str, Any]:
    """Give the body of a request."""
    if api == "responses":
        return {"model": "m", "input": text, **more}
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return body | ({"max_tokens": 100} if api == "messages" else {})


def saying(text: str, *, cut: int = 4, **more: Any) -> Reply:
    """Give a reply of one text."""
    return Reply(choices=(Choice(text=text),), cut=cut, **more)


@contextlib.asynccontextmanager
async def safer() -> AsyncIterator[tuple[FakeModel, dict[str, Any]]]:
    """Run another model, with a safe answer; what a route needs to fall back on it comes along."""
    async with FakeModel(saying("A safe answer.")) as model:
        upstream = Upstream(name="other", url=f"{model.url}/v1", speaks=frozenset(APIS))
        yield model, {"fallback": Fallback(upstream=upstream, model="safe")}


def on_literal(does: Intervention = "halt", literal: str = "SEVEN-7-GATES") -> Check:
    """Give a check that rings at a literal."""
    return Check(name="literal", verifier=literal_rules(literal), on_finding={"*": does})


@dataclass
class Counted(NoMeters):
    """Keeps what it is told."""

    started_: list[Api] = field(default_factory=list)
    ended_: list[tuple[str, Outcome]] = field(default_factory=list)
    alarms: list[tuple[Place, str, Intervention]] = field(default_factory=list)
    failures: list[tuple[Failure, Response]] = field(default_factory=list)
    receipts: list[bool] = field(default_factory=list)
    chars_: list[tuple[int, int, int]] = field(default_factory=list)

    def started(self, api: Api) -> None:
        self.started_.append(api)

    def ended(self, api: Api, route: str, outcome: Outcome, took_ms: float) -> None:
        self.ended_.append((route, outcome))

    def alarm(self, route: str, place: Place, check: str, done: Intervention) -> None:
        self.alarms.append((place, check, done))

    def failure(self, route: str, failure: Failure, response: Response) -> None:
        self.failures.append((failure, response))

    def chars(self, route: str, scanned: int, held: int, released: int) -> None:
        self.chars_.append((scanned, held, released))

    def receipt(self, *, written: bool) -> None:
        self.receipts.append(written)

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for _, outcome in self.ended_]


class Answer(NamedTuple):
    """What came back."""

    api: Api
    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def streamed(self) -> bool:
        return str(self.headers["content-type"]).startswith("text/event-stream")

    @property
    def frames(self) -> list[Any]:
        """The payloads of a stream, comments left out."""
        found = []
        for part in self.raw.decode().split("\n\n"):
            for line in part.split("\n"):
                data = line.removeprefix("data: ")
                if data != line:
                    found.append(data if data == "[DONE]" else json.loads(data))
        return found

    @property
    def note(self) -> Any:
        """What the guard says at the end."""
        if not self.streamed:
            return self.json["tocsin"]
        (note,) = [ln for ln in self.raw.decode().split("\n") if ln.startswith(": tocsin ")]
        return json.loads(note.removeprefix(": tocsin "))

    @property
    def text(self) -> str:
        """All text of all choices that a reader sees."""
        if self.streamed:
            return "".join(text for frame in self.frames for text in _written(self.api, frame))
        body = self.json
        if self.api == "chat":
            return "".join(c["message"]["content"] or "" for c in body["choices"])
        if self.api == "messages":
            return "".join(part.get("text", "") for part in body["content"])
        parts = [part for item in body["output"] for part in item.get("content", [])]
        return "".join(part.get("text", "") for part in parts)

    @property
    def ends(self) -> list[str]:
        """Why each choice ended; exactly one for each in a valid answer."""
        if not self.streamed:
            return list(_ends_of_body(self.api, self.json))
        frames = [frame for frame in self.frames if frame != "[DONE]"]
        return [end for frame in frames for end in _ends(self.api, frame)]


def _written(api: Api, frame: Any) -> Iterator[str]:
    if frame == "[DONE]":
        return
    if api == "chat":
        for choice in frame["choices"]:
            yield choice["delta"].get("content") or ""
    elif api == "responses" and frame["type"] == "response.output_text.delta":
        yield frame["delta"]
    elif api == "messages" and frame["type"] == "content_block_delta":
        yield frame["delta"].get("text", "")


def _ends(api: Api, frame: Any) -> Iterator[str]:
    if api == "chat":
        yield from (c["finish_reason"] for c in frame["choices"] if c["finish_reason"])
    elif api == "messages" and frame["type"] == "message_delta":
        yield frame["delta"]["stop_reason"]
    elif api == "responses" and frame["type"] in {"response.completed", "response.incomplete"}:
        yield from _ends_of_body(api, frame["response"])


def _ends_of_body(api: Api, body: Any) -> Iterator[str]:
    if api == "chat":
        yield from (choice["finish_reason"] for choice in body["choices"])
    elif api == "messages":
        yield body["stop_reason"]
    else:
        yield (body["incomplete_details"] or {"reason": body["status"]})["reason"]


WHOLE = {"chat": "stop", "responses": "completed", "messages": "end_turn"}
FILTERED = {"chat": "content_filter", "responses": "content_filter", "messages": "refusal"}


class Gate:
    """A gateway with one route to a fake model; in an ``async with`` block.

    Args:
        reply: the model's.
        checks: of the response.
        upstream: changes of the upstream.
        route: changes of the route.
        site: changes of the site.
        guard: changes of the guard.
    """

    def __init__(
        self,
        reply: Any = None,
        *checks: Check,
        upstream: dict[str, Any] | None = None,
        route: dict[str, Any] | None = None,
        site: dict[str, Any] | None = None,
        guard: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.fake = FakeModel(reply)
        self.meters = Counted()
        self.draining = Draining()
        self.logged = BytesIO()
        self._log = Log(self.logged)
        self._changes = upstream or {}, route or {}, site or {}
        self._guard = Guard(name="policy", digest=DIGEST, checks=checks, **(guard or {}))
        self._options = options
        self._stack = contextlib.AsyncExitStack()
        self._descriptors = _descriptors()
        self.live: Live
        self.port = 0
        self.client: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        stack = self._stack
        await stack.enter_async_context(self.fake)
        self.live = Live(self._site())
        around = Surroundings(
            live=self.live, meters=self.meters, log=self._log, draining=self.draining
        )
        app = make_app(around, **self._options)
        self.plane = app[PLANE]
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listener = web.TCPSite(runner, "127.0.0.1", 0)
        await listener.start()
        self.port = runner.addresses[0][1]
        self.client = await stack.enter_async_context(aiohttp.ClientSession())
        return self

    def _site(self) -> Site:
        upstream, route, site = self._changes
        made = Upstream(
            name="model", url=f"{self.fake.url}/v1", speaks=frozenset(APIS), key="secret-key"
        )
        way = Route(
            name="way",
            models=("m", "m-*"),
            upstream=replace(made, **upstream),
            model=None,
            guard=self._guard,
        )
        # A busy machine may be slow with what is tested: no answer begins before.
        fields = {"open_to_all": True, "head_ms": 60_000, **site}
        return Site(routes=(replace(way, **route),), **fields)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.quiet()
        await self._stack.aclose()
        self._log.close()
        if error is None:
            assert len(self.meters.started_) == len(self.meters.ended_)
            await _until(lambda: _descriptors() <= self._descriptors)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    async def quiet(self) -> None:
        """Wait until no request is under way."""
        await _until(lambda: not (self.plane.under_way or self.plane.books.waiting))

    async def post(
        self,
        api: Api,
        body: Any = None,
        *,
        path: str = "",
        stream: bool = True,
        told: dict[str, str] | None = None,
    ) -> Answer:
        """Ask, and read all of the answer."""
        body = asked(api, stream=stream) if body is None else body
        async with self.open(api, body, path=path, told=told) as response:
            return Answer(api, response.status, response.headers, await response.read())

    @contextlib.asynccontextmanager
    async def open(
        self,
        api: Api,
        body: Any = None,
        *,
        path: str = "",
        told: dict[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, and read as much of the answer as is wanted."""
        url = f"http://127.0.0.1:{self.port}{path or PATHS[api]}"
        data = body if isinstance(body, bytes) else json.dumps(body or asked(api, stream=True))
        async with self.client.post(url, data=data, headers=told) as response:
            yield response

    def socket(self, receive_bytes: int | None = None) -> socket.socket:
        """Connect with a plain socket, for a client that does what no library does."""
        made = socket.socket()
        if receive_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        made.setblocking(False)
        return made

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What was logged, so far."""
        return [json.loads(line) for line in self.logged.getvalue().splitlines()]


async def _until(so: Callable[[], bool]) -> None:
    """Wait for what nobody tells of."""
    async with asyncio.timeout(WAIT_S):
        while not so():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.001)


def _descriptors() -> int:
    """Count what the process has open, where that can be seen."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def within(test: Coroutine[Any, Any, None]) -> None:
    """Run a test, but not for ever."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(limited())
