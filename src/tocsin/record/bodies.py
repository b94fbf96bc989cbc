"""The body of a request, read within a size and a time; here and in the gateway."""

from __future__ import annotations

import asyncio
from typing import Literal

from aiohttp import web

Unread = Literal["too_large", "late", "broken"]
"""Why a body was not read to its end; some of it may still come."""


async def read_body(request: web.Request, bytes_max: int, body_ms: int) -> bytes | Unread:
    """Read a body as it is sent; no more of one that is too large is kept than it takes to see it.

    Args:
        request: its head has come.
        bytes_max: longest body.
        body_ms: longest wait for all of it.
    """
    if (request.content_length or 0) > bytes_max:
        return "too_large"
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(body_ms / 1_000):
            while data := await request.content.readany():
                parts.append(data)
                size += len(data)
                if size > bytes_max:
                    return "too_large"
    except TimeoutError:
        return "late"
    except web.RequestPayloadError:
        return "broken"
    return b"".join(parts)
