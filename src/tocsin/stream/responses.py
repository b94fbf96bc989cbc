"""OpenAI responses: the codec.

What is not forwarded: items of hosted tools (searches, code that the provider runs, images, calls
over MCP), annotations, alternatives in log-probabilities, and every field without a name here. The
decoder counts what it leaves out. A provider that stores the response stores it unguarded: this
gateway has no path on which it could be fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin.stream import (
    chat_errors,
    chat_reading,
    responses_reading,
    responses_request,
    responses_writing,
)
from tocsin.stream.codec import Body, Codec, Decoder, Encoder, ErrorKind, Made
from tocsin.stream.events import Api, Asked, Event, Refused


class ResponsesCodec:
    """Responses; see `tocsin.stream.codec.Codec`."""

    api: Api = "responses"
    in_order = True

    def read_request(self, body: Mapping[str, Any]) -> Asked | Refused:
        """Read a request that is decoded already."""
        return responses_request.read_request(body)

    def decoder(self, asked: Asked) -> Decoder:
        """Begin to read a stream."""
        return responses_reading.ResponsesDecoder(asked)

    def read_body(self, asked: Asked, raw: bytes) -> list[Event]:
        """Read a whole response; it ends with `Done` or `Broken`."""
        return responses_reading.read_body(asked, raw)

    def encoder(self, asked: Asked, made: Made) -> Encoder:
        """Begin to write a stream."""
        return responses_writing.ResponsesEncoder(asked, made)

    def body(self, asked: Asked, made: Made) -> Body:
        """Begin to write a whole response."""
        return responses_writing.ResponsesBody(asked, made)

    def error(self, kind: ErrorKind, message: str, param: str | None = None) -> dict[str, Any]:
        """Give the body of an error: OpenAI has one form for all of its APIs."""
        return chat_errors.error(kind, message, param)

    def error_code(self, raw: bytes) -> str:
        """Give the code, or else the type, in an upstream's error body, by shape."""
        return chat_reading.error_code(raw)


CODEC: Codec = ResponsesCodec()
