"""What happens to a request before the application sees it, and after: shape, load, access log.

Requests that are no API's (`/livez`, `/readyz`) are answered here, also when the process is full.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Literal

from aiohttp import web

from tocsin.gateway.access import ACCESS, Access
from tocsin.gateway.connections import Handler
from tocsin.gateway.errors import Refuse, failed
from tocsin.gateway.log import Log
from tocsin.gateway.prometheus import Prometheus
from tocsin.gateway.strict import Flaw, flaw
from tocsin.gateway.upstream import PATHS
from tocsin.stream.codecs import CODECS
from tocsin.stream.events import Api

Shed = Literal["draining", "streams_max", "lag"]
"""Why a request is not taken: the process is about to end, has enough of them, or is too slow."""

APIS: Mapping[str, Api] = {
    version + path: api for version in ("", "/v1") for api, path in PATHS.items()
}
"""The paths that are answered with a stream."""

_STATUS: Mapping[Flaw, int] = {"expect": 417, "version": 505, "body_of_1_0": 505, "method": 405}


class Doorstep:
    """Answers for the process, and lets others through to the application.

    Args:
        application: answers what is let through.
        shed: why no request is taken now; None where one is.
        ready: why the process is not ready; empty where it is.
        meters: what is counted.
        log: where the access log goes.

    Attributes:
        under_way: requests that the application answers.
    """

    def __init__(
        self,
        application: Handler,
        *,
        shed: Callable[[int], Shed | None],
        ready: Callable[[], str],
        meters: Prometheus,
        log: Log,
    ) -> None:
        self._application = application
        self._shed = shed
        self._ready = ready
        self._meters = meters
        self._log = log
        self.under_way = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        wrong = flaw(request._message)  # noqa: SLF001 - as it was parsed, before any convenience
        if wrong is not None:
            return self._refuse(wrong)
        if (answer := health(request, self._ready)) is not None:
            return answer
        access = request[ACCESS] = Access(api=APIS.get(request.path, ""))
        start_s = time.monotonic()
        status: int | None = None
        try:
            why = self._shed(self.under_way)
            response = self._full(access, why) if why else await self._through(request)
            status = response.status
        except web.HTTPException as e:
            status = e.status
            raise
        except asyncio.CancelledError:
            access.outcome = access.outcome or "client_gone"
            raise
        except ConnectionError:
            access.outcome = access.outcome or "client_gone"
            raise
        except Exception:
            # The data path has words of its own for all that can fail; the connection logs this.
            access.outcome, status = "broken", 500
            raise
        finally:
            self._line(access, status, (time.monotonic() - start_s) * 1_000)
        return response

    async def _through(self, request: web.BaseRequest) -> web.StreamResponse:
        self.under_way += 1
        try:
            return await self._application(request)
        finally:
            self.under_way -= 1

    def _refuse(self, wrong: Flaw) -> web.Response:
        self._meters.refused(wrong)
        self._log.say("refused", flaw=wrong)
        refuse = Refuse(
            kind="bad_request",
            message=f"the request is not understood ({wrong})",
            status=_STATUS.get(wrong, 400),
            closes=True,
        )
        return refuse.response(CODECS["chat"])

    def _full(self, access: Access, why: Shed) -> web.Response:
        self._meters.not_taken(why)
        access.outcome = "limited"
        api: Api = access.api or "chat"  # type: ignore[assignment]
        if access.api:
            self._meters.started(api)
            self._meters.ended(api, "", "limited", 0.0)
            self._meters.failure("", "overloaded", "refuse")
        response = failed("overloaded").response(CODECS[api], {"retry-after": "1"})
        if why == "draining":
            response.force_close()
        return response

    def _line(self, access: Access, status: int | None, took_ms: float) -> None:
        self._log.say(
            "request",
            tenant=access.tenant,
            route=access.route,
            api=access.api,
            status=status,
            outcome=access.outcome,
            ms=round(took_ms, 1),
            chars=access.chars,
            receipt=access.receipt,
            path=access.path,
        )


def health(request: web.BaseRequest, ready: Callable[[], str]) -> web.Response | None:
    """Answer whether the process lives and is ready; None where that was not the question."""
    if request.path == "/livez":
        return web.Response(text="ok\n")
    if request.path == "/readyz":
        why = ready()
        return web.Response(status=503 if why else 200, text=f"{why or 'ok'}\n")
    return None
