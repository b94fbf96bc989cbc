"""A client's request, read: within its time and size, as JSON, as its API has it."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from tocsin.gateway.errors import Refuse
from tocsin.record.bodies import Unread, read_body
from tocsin.stream.codec import Codec
from tocsin.stream.events import Asked, Refused

_decode = msgspec.json.Decoder().decode


async def read_asked(
    request: web.Request, codec: Codec, bytes_max: int, body_ms: int
) -> Asked | Refuse:
    """Read a request.

    Args:
        request: its head has come.
        codec: of its API.
        bytes_max: longest body.
        body_ms: longest wait for all of it.
    """
    raw = await _body(request, bytes_max, body_ms)
    if isinstance(raw, Refuse):
        return raw
    try:
        body = _decode(raw)
        if isinstance(body, dict):
            fields: dict[str, Any] = body
            asked = codec.read_request(fields)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Refuse(kind="bad_request", message="the body is no JSON that can be read")
    if not isinstance(body, dict):
        return Refuse(kind="bad_request", message="the body has to be a JSON object")
    if isinstance(asked, Refused):
        return Refuse(kind="bad_request", message=asked.message, param=asked.param)
    return asked


async def _body(request: web.Request, bytes_max: int, body_ms: int) -> bytes | Refuse:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        return Refuse(
            kind="bad_request",
            message="content-encoding is not supported; send the body as it is",
            status=415,
            closes=True,
        )
    raw = await read_body(request, bytes_max, body_ms)
    return _refusal(raw, bytes_max) if isinstance(raw, str) else raw


def _refusal(why: Unread, bytes_max: int) -> Refuse:
    if why == "too_large":
        message = f"the body has more than {bytes_max} bytes"
        return Refuse(kind="too_large", message=message, closes=True)
    if why == "late":
        message = "the body did not come in time"
        return Refuse(kind="bad_request", message=message, status=408, closes=True)
    return Refuse(kind="bad_request", message="the body cannot be read", closes=True)
