"""Anthropic messages: the codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tocsin.stream.codec import Codec, ErrorKind, Made
from tocsin.stream.events import Api, Asked, Event, Refused
from tocsin.stream.messages_reading import MessagesDecoder, error_code
from tocsin.stream.messages_request import read_request
from tocsin.stream.messages_writing import MessagesBody, MessagesEncoder
from tocsin.stream.utf16 import decode_json

_ERROR_TYPES: dict[ErrorKind, str] = {
    "bad_request": "invalid_request_error",
    "unauthenticated": "authentication_error",
    "forbidden": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "too_many": "rate_limit_error",
    "blocked": "invalid_request_error",
    "unavailable": "overloaded_error",
    "upstream": "api_error",
    "timeout": "timeout_error",
    "internal": "api_error",
}


class _Failure(msgspec.Struct):
    error: Any = None


class MessagesCodec:
    """Anthropic messages, as `tocsin.stream.codec.Codec` describes.

    Example:
        >>> CODEC.error("bad_request", "must be a list", "messages")
        {'type': 'error', 'error': {'type': 'invalid_request_error',
         'message': 'messages: must be a list'}}
    """

    api: Api = "messages"
    in_order = True

    def read_request(self, body: Mapping[str, Any]) -> Asked | Refused:
        """Read a request that is decoded already."""
        return read_request(body)

    def decoder(self, asked: Asked) -> MessagesDecoder:
        """Begin to read a stream."""
        return MessagesDecoder(asked)

    def read_body(self, asked: Asked, raw: bytes) -> list[Event]:
        """Read a whole response; it ends with `Done` or `Broken`."""
        return MessagesDecoder(asked).message(raw)

    def encoder(self, asked: Asked, made: Made) -> MessagesEncoder:
        """Begin to write a stream."""
        return MessagesEncoder(asked, made)

    def body(self, asked: Asked, made: Made) -> MessagesBody:
        """Begin to write a whole response."""
        return MessagesBody(asked, made)

    def error(self, kind: ErrorKind, message: str, param: str | None = None) -> dict[str, Any]:
        """Give the body of an error. The API has no field for `param`: it leads the message."""
        text = f"{param}: {message}" if param else message
        return {"type": "error", "error": {"type": _ERROR_TYPES[kind], "message": text}}

    def error_code(self, raw: bytes) -> str:
        """Give the code, or else the type, in an upstream's error body; empty without one.

        Example:
            >>> CODEC.error_code(b'{"type": "error", "error": {"type": "overloaded_error"}}')
            'overloaded_error'
        """
        try:
            return error_code(decode_json(raw, _Failure).error)
        except (ValueError, RecursionError, msgspec.MsgspecError):
            return ""


CODEC: Codec = MessagesCodec()
