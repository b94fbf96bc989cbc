"""The record's own paths, on the gateway's port: events in, receipts and traces out.

A tenant's key sends events, and reads receipts and traces of its own tenant. Keys of people are
kept in the store and have roles (`tocsin access key`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from tocsin.errors import StoreError
from tocsin.gateway import headers
from tocsin.gateway.access import ACCESS
from tocsin.gateway.plane import Plane
from tocsin.gateway.site import Site
from tocsin.record.http import routes
from tocsin.record.log import ASKS
from tocsin.store.access import Principal
from tocsin.store.roles import Action, key_hash

WHO: web.RequestKey[Principal] = web.RequestKey("tocsin.principal", Principal)
"""Where a request carries whose it is."""

_HASH_CHARS = 12
_SCOPES: tuple[Action, ...] = ("record.write", "record.read")
"""What a tenant's own key is for, beside asking models."""

_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def mount(app: web.Application, plane: Plane) -> None:
    """Add the paths; they answer once the record is open."""
    made: dict[tuple[str, str], _Answer] = {}  # one set for all paths: they share their bounds
    for method, path in PATHS:
        app.router.add_route(method, path, _answers(plane, made, method, path))


PATHS = (
    ("POST", "/v1/events"),
    ("POST", "/v1/traces"),
    ("GET", "/v1/receipts/{id}"),
    ("GET", "/v1/traces/{id}"),
    *(("GET", path) for path in ASKS),
)
"""What `tocsin.record.http.routes` answers."""


def _answers(plane: Plane, made: dict[tuple[str, str], _Answer], method: str, path: str) -> _Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        from tocsin.gateway.keeper import RecordKeeper

        keeper = plane.books.keeper
        if not isinstance(keeper, RecordKeeper):
            raise web.HTTPNotFound
        if (access := request.get(ACCESS)) is not None:
            access.path = path
        if not made:
            store, at_close = keeper.store, plane.at_close.append
            for one in routes(keeper.recorder, _who, store, at_close=at_close):
                made[one.method, one.path] = one.handler
        who = of_site(plane.live.site, request)
        if who is None and (key := headers.key_of(request.headers)):
            try:
                who = await asyncio.to_thread(keeper.access.principal, key)
            except StoreError:
                return web.Response(status=503, headers={"retry-after": "1"})
        if who is not None:
            request[WHO] = who
            if access is not None:
                access.tenant = who.tenant
        return await made[method, path](request)

    return answer


def _who(request: web.Request) -> Principal | None:
    return request.get(WHO)


def of_site(site: Site, request: web.Request) -> Principal | None:
    """Say whose request it is by the keys of the configuration; None where they do not tell."""
    if site.open_to_all:
        if headers.from_elsewhere(request.headers):
            return None
        return Principal(tenant="local", id="gateway:local", role="operator", scopes=_SCOPES)
    key = headers.key_of(request.headers)
    tenant = site.tenant(key)
    if tenant is None or key is None:
        return None
    hashed = key_hash(key).removeprefix("sha256:")[:_HASH_CHARS]
    return Principal(tenant=tenant.name, id=f"gateway:{hashed}", role="operator", scopes=_SCOPES)
