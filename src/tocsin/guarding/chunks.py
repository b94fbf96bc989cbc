"""The chunks of an SDK, or plain strings, to events and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from tocsin.errors import InputError
from tocsin.model import TEXT
from tocsin.stream.codec import Codec, Made
from tocsin.stream.codecs import CODECS
from tocsin.stream.events import Api, Asked, Blocked, Done, Event, Stopped, Wrote


class Chunks(Protocol):
    """One way to read and write chunks."""

    in_order: bool

    def read(self, chunk: Any) -> list[Event]:
        """Take a chunk."""

    def close(self) -> list[Event]:
        """Say that no more come."""

    def write(self, events: Iterable[Event]) -> Iterator[Any]:
        """Make chunks."""

    def blocked(self) -> Event:
        """The event that ends a response that may not be shown at all."""


def chunks_like(first: Any) -> Chunks:
    """Say how to read a stream by its first chunk.

    Raises:
        InputError: it is none of the kinds that are known.
    """
    if isinstance(first, str):
        return _Strings()
    payload = _payload(first)
    kind = payload.get("type", "")
    api: Api | None = None
    if payload.get("object") == "chat.completion.chunk" or "choices" in payload:
        api = "chat"
    elif isinstance(kind, str) and kind.startswith("response."):
        api = "responses"
    elif kind in {"message_start", "ping"}:
        api = "messages"
    if api is None:
        raise InputError(
            f"a stream of {type(first).__name__} cannot be guarded; give the chunks of OpenAI chat "
            "completions, OpenAI responses or Anthropic messages, as objects or dictionaries, or "
            "strings"
        )
    return _Frames(CODECS[api], as_objects=not isinstance(first, Mapping))


def _payload(chunk: Any) -> Mapping[str, Any]:
    if isinstance(chunk, Mapping):
        return chunk
    dump = getattr(chunk, "model_dump", None)
    if dump is None:
        return {}
    made: dict[str, Any] = dump(mode="json", exclude_unset=True, warnings=False)
    return made


class _Strings:
    """Plain text."""

    in_order = False

    def read(self, chunk: Any) -> list[Event]:
        if not isinstance(chunk, str):
            raise InputError(f"a stream of strings cannot go on with {type(chunk).__name__}")
        return [Wrote(channel=TEXT, text=chunk)]

    def close(self) -> list[Event]:
        return [Stopped(), Done()]

    def write(self, events: Iterable[Event]) -> Iterator[str]:
        for event in events:
            if isinstance(event, Wrote | Blocked) and event.text:
                yield event.text

    def blocked(self) -> Event:
        return Blocked()


class _Frames:
    """The chunks of an API."""

    def __init__(self, codec: Codec, *, as_objects: bool) -> None:
        asked = Asked(api=codec.api, model="", stream=True, include_usage=True, tools=None)
        self.in_order = codec.in_order
        self._api = codec.api
        self._decoder = codec.decoder(asked)
        self._encoder = codec.encoder(asked, Made(id="tocsin", created_s=0))
        self._as_objects = as_objects

    def read(self, chunk: Any) -> list[Event]:
        return self._decoder.take(_payload(chunk))

    def close(self) -> list[Event]:
        if self._api == "chat":  # SDKs keep the marker to themselves
            return [*self._decoder.feed(b"data: [DONE]\n\n"), *self._decoder.close()]
        return self._decoder.close()

    def write(self, events: Iterable[Event]) -> Iterator[Any]:
        for event in events:
            for frame in self._encoder.encode(event):
                if isinstance(frame.data, str):
                    continue  # the marker that ends a stream of bytes
                yield _object(self._api, frame.data) if self._as_objects else frame.data

    def blocked(self) -> Event:
        return Blocked()


def _object(api: Api, data: Any) -> Any:
    """Make the SDK's object of a frame; the SDK is there, since it made the chunks that came."""
    import pydantic  # the SDKs' own

    return pydantic.TypeAdapter(_type(api)).validate_python(msgspec.to_builtins(data))


def _type(api: Api) -> Any:
    if api == "chat":
        from openai.types.chat import ChatCompletionChunk

        return ChatCompletionChunk
    if api == "responses":
        from openai.types.responses import ResponseStreamEvent

        return ResponseStreamEvent
    from anthropic.types import RawMessageStreamEvent

    return RawMessageStreamEvent
