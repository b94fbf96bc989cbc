"""A gateway whose application does what the query asks for; run as a program by tests.

It takes one argument, a JSON file with the fields of a site, and `workers` and `lag_ms_max` beside.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from tocsin.errors import InputError, TocsinError
from tocsin.gateway.access import ACCESS
from tocsin.gateway.door import Door
from tocsin.gateway.outlet import Outlet
from tocsin.gateway.several import serve_several
from tocsin.gateway.site import Site
from tocsin.gateway.surroundings import Surroundings


def read(path: str) -> dict[str, Any]:
    return dict(json.loads(Path(path).read_text()))


def load(path: str) -> Site:
    try:
        fields = read(path)
        for name in ("workers", "lag_ms_max"):
            fields.pop(name, None)
        return Site(routes=(), **fields)
    except (ValueError, TypeError) as e:
        raise InputError(f"{path}: {type(e).__name__}") from None


def make_app(around: Surroundings) -> web.Application:
    app = web.Application()

    async def answer(request: web.Request) -> web.StreamResponse:
        do = request.query.get("do", "ok")
        access = request[ACCESS]
        access.tenant, access.route, access.outcome, access.receipt = "acme", "all", "ok", "r_1"
        around.meters.started("chat")
        try:
            return await DEEDS[do](around, request)
        finally:
            around.meters.ended("chat", "all", "ok", 1.0)

    app.router.add_post("/v1/chat/completions", answer)
    return app


async def ok(around: Surroundings, request: web.Request) -> web.StreamResponse:
    body = await request.read()
    site = around.live.site
    return web.json_response({"pid": os.getpid(), "digest": site.digest, "size": len(body)})


async def echo(around: Surroundings, request: web.Request) -> web.StreamResponse:
    """Send back each piece of the body when it comes; end as asked when the time is over."""
    task = asyncio.current_task()
    assert task is not None
    response = web.StreamResponse()
    await response.prepare(request)
    told = asyncio.Event()
    with around.draining.tells(told.set):
        await response.write(b"begun ")
        ends = asyncio.ensure_future(told.wait())
        try:
            while True:
                piece = asyncio.ensure_future(request.content.readany())
                await asyncio.wait({piece, ends}, return_when=asyncio.FIRST_COMPLETED)
                if not piece.done():
                    piece.cancel()
                    await response.write(b"told")
                    break
                if not piece.result():
                    break
                await response.write(piece.result())
        finally:
            ends.cancel()
    await response.write_eof()
    return response


async def flood(_: Surroundings, request: web.Request) -> web.StreamResponse:
    """Write as fast as the client reads, without an end: as every stream is written."""
    outlet = Outlet(request, {}, keep_alive_ms=3_600_000, head=lambda: None)
    while True:
        await outlet.write(b"x" * 65_536)


async def stubborn(_: Surroundings, request: web.Request) -> web.StreamResponse:
    """Go on, whatever the process wants."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun ")
    await asyncio.Event().wait()
    return response


async def block(_: Surroundings, request: web.Request) -> web.StreamResponse:
    """Keep the loop from turning."""
    time.sleep(float(request.query["s"]))  # noqa: ASYNC251 - the fault that is tested
    return web.Response()


async def fail(_: Surroundings, request: web.Request) -> web.StreamResponse:
    raise ValueError("the words of somebody")


async def die(_: Surroundings, request: web.Request) -> web.StreamResponse:
    os._exit(9)


DEEDS = {
    "ok": ok, "echo": echo, "flood": flood, "stubborn": stubborn, "block": block, "fail": fail,
    "die": die,
}  # fmt: skip


def ready(where: str, metrics: str) -> None:
    sys.stdout.write(f"listening on http://{where}\nmetrics on http://{metrics}/metrics\n")
    sys.stdout.flush()


def main(path: str) -> int:
    workers = int(read(path).get("workers", 1))
    # A machine that is busy with other tests must not look like a gateway that is too slow.
    lag_ms_max = int(read(path).get("lag_ms_max", 60_000))
    door = Door(metrics=("127.0.0.1", 0), workers=workers, ready=ready, lag_ms_max=lag_ms_max)
    try:
        if workers == 1:
            from tocsin.gateway.server import serve

            return serve(lambda: load(path), make_app, door)
        site = load(path)
        return serve_several(
            lambda: load(path), make_app, door,
            host=site.host, port=site.port, drain_ms=site.drain_ms,
        )  # fmt: skip
    except TocsinError as e:
        sys.stderr.write(f"error: {e}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
