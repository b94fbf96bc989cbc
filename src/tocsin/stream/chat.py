"""OpenAI chat completions: the codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin.stream import chat_errors, chat_reading, chat_request, chat_writing
from tocsin.stream.codec import Body, Codec, Decoder, Encoder, ErrorKind, Made
from tocsin.stream.events import Api, Asked, Event, Refused


class ChatCodec:
    """Chat completions; see `tocsin.stream.codec.Codec`."""

    api: Api = "chat"
    in_order = False

    def read_request(self, body: Mapping[str, Any]) -> Asked | Refused:
        """Read a request that is decoded already."""
        return chat_request.read_request(body)

    def decoder(self, asked: Asked) -> Decoder:
        """Begin to read a stream."""
        return chat_reading.ChatDecoder(asked)

    def read_body(self, asked: Asked, raw: bytes) -> list[Event]:
        """Read a whole response; it ends with `Done` or `Broken`."""
        return chat_reading.read_body(asked, raw)

    def encoder(self, asked: Asked, made: Made) -> Encoder:
        """Begin to write a stream."""
        return chat_writing.ChatEncoder(asked, made)

    def body(self, asked: Asked, made: Made) -> Body:
        """Begin to write a whole response."""
        return chat_writing.ChatBody(asked, made)

    def error(self, kind: ErrorKind, message: str, param: str | None = None) -> dict[str, Any]:
        """Give the body of an error."""
        return chat_errors.error(kind, message, param)

    def error_code(self, raw: bytes) -> str:
        """Give the code, or else the type, in an upstream's error body, by shape."""
        return chat_reading.error_code(raw)


CODEC: Codec = ChatCodec()
