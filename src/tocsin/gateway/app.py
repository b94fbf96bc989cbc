"""The application: which path is answered by what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from tocsin.gateway.errors import Refuse
from tocsin.gateway.handler import NO_KEY, handle
from tocsin.gateway.headers import key_of
from tocsin.gateway.models import listed
from tocsin.gateway.plane import Plane
from tocsin.gateway.surroundings import Surroundings
from tocsin.gateway.upstream import PATHS
from tocsin.stream.codecs import CODECS
from tocsin.stream.events import Api

PLANE: web.AppKey[Plane] = web.AppKey("tocsin.plane", Plane)
"""Where the application keeps what all requests share."""

VERSIONS = ("", "/v1")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NOT_FOUND = Refuse(kind="not_found", message="there is no such path here", closes=True)
_NOT_ALLOWED = Refuse(
    kind="bad_request", message="this path takes POST", status=405, headers={"allow": "POST"},
    closes=True,
)  # fmt: skip


def make_app(around: Surroundings, **options: Any) -> web.Application:
    """Make the application that answers API requests.

    It has to be served with ``handler_cancellation=True``, or the upstream would go on writing for
    clients that have left.

    Args:
        around: what the process gives it.
        options: for `Plane`: who is asked for approval, where identifiers and times come from.
    """
    app = web.Application()
    app[PLANE] = plane = Plane(around, **options)
    app.cleanup_ctx.append(_running)
    for api, path in PATHS.items():
        for version in VERSIONS:
            app.router.add_post(version + path, _answers(plane, api))
            app.router.add_route("*", version + path, _refuses(_NOT_ALLOWED, api))
    for version in VERSIONS:
        app.router.add_get(f"{version}/models", _models(plane))
    if plane.live.site.record is not None:
        from tocsin.gateway.record_routes import mount  # SQLAlchemy: a third of a second

        mount(app, plane)
    app.router.add_route("*", "/{path:.*}", _refuses(_NOT_FOUND, "chat"))
    return app


async def _running(app: web.Application) -> AsyncIterator[None]:
    await app[PLANE].start()
    yield
    await app[PLANE].stop()


def _answers(plane: Plane, api: Api) -> _Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await handle(plane, api, request)

    return answer


def _refuses(refuse: Refuse, api: Api) -> _Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return refuse.response(CODECS[api])

    return answer


def _models(plane: Plane) -> _Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        anthropic = "anthropic-version" in request.headers
        site = plane.live.site
        tenant = site.tenant(key_of(request.headers))
        if tenant is None:
            return NO_KEY.response(CODECS["messages" if anthropic else "chat"])
        body = msgspec.json.encode(listed(site, tenant, anthropic=anthropic))
        return web.Response(body=body, content_type="application/json")

    return answer
