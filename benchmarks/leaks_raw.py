"""A pass-through of aiohttp and nothing else: what a proxy costs that does not look."""

from __future__ import annotations

import sys

from aiohttp import ClientSession, ClientTimeout, web


def main(port: int, upstream: str) -> None:
    """Serve until stopped."""

    async def passed(request: web.Request) -> web.StreamResponse:
        session: ClientSession = request.app["session"]
        body = await request.read()
        headers = {"Content-Type": "application/json"}
        async with session.post(upstream + request.path, data=body, headers=headers) as got:
            kept = {"Content-Type": got.headers["Content-Type"]}
            answer = web.StreamResponse(status=got.status, headers=kept)
            await answer.prepare(request)
            async for data in got.content.iter_any():
                await answer.write(data)
            await answer.write_eof()
            return answer

    async def opened(app: web.Application) -> None:
        app["session"] = ClientSession(timeout=ClientTimeout(total=None))

    app = web.Application()
    app.router.add_post("/{path:.*}", passed)
    app.router.add_get("/ready", lambda _: web.Response())  # type: ignore[arg-type, return-value]
    app.on_startup.append(opened)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
