"""The operator's door: `/metrics`, `/livez` and `/readyz`, on an address of its own.

Metrics tell which routes and policies there are and what tenants do, so tenants must not read them.
On the gateway's own port a proxy on the same machine makes every client look like the machine
itself, so there is no telling them apart there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from tocsin.gateway.connections import Connections, Said
from tocsin.gateway.doorstep import health
from tocsin.gateway.prometheus import CONTENT_TYPE, Prometheus
from tocsin.gateway.strict import flaw

_CONNECTIONS_MAX = 64


class Operating(Connections):
    """Answers the operator.

    Args:
        meters: what was counted.
        ready: why the process is not ready; empty where it is.
        closed: told of connections that were closed from our side.
    """

    def __init__(self, meters: Prometheus, ready: Callable[[], str], closed: Said) -> None:
        super().__init__(self._answer, None, _CONNECTIONS_MAX, closed)
        self._meters = meters
        self._ready = ready

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if flaw(request._message) is not None:  # noqa: SLF001 - as it was parsed
            return web.Response(status=400)
        if (answer := health(request, self._ready)) is not None:
            return answer
        if request.path != "/metrics":
            return web.Response(status=404)
        # Workers' files are read, which is no matter for the loop.
        text = await asyncio.to_thread(self._meters.text)
        return web.Response(body=text, headers={"content-type": CONTENT_TYPE})
