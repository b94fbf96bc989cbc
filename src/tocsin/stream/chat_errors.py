"""Errors in the form of OpenAI's APIs."""

from __future__ import annotations

from typing import Any

from tocsin.stream.codec import ErrorKind

_TYPE_AND_CODE: dict[ErrorKind, tuple[str, str | None]] = {
    "bad_request": ("invalid_request_error", None),
    "unauthenticated": ("invalid_request_error", "invalid_api_key"),
    "forbidden": ("permission_error", "forbidden"),
    "not_found": ("invalid_request_error", "not_found"),
    "too_large": ("invalid_request_error", "request_too_large"),
    "too_many": ("rate_limit_error", "rate_limit_exceeded"),
    "blocked": ("invalid_request_error", "content_filter"),
    "unavailable": ("server_error", "unavailable"),
    "upstream": ("server_error", "upstream_error"),
    "timeout": ("server_error", "timeout"),
    "internal": ("server_error", "internal_error"),
}


def error(kind: ErrorKind, message: str, param: str | None = None) -> dict[str, Any]:
    """Give the body of an error.

    Example:
        >>> error("too_many", "Slow down.")["error"]["code"]
        'rate_limit_exceeded'
    """
    type_, code = _TYPE_AND_CODE[kind]
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}
