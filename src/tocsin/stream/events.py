"""What a response says, in one form for all APIs: the words between decoders and encoders.

A decoder turns an upstream's bytes into events; an encoder turns events into the frames or the body
that the client reads. In between stands whoever holds back, masks and stops. What has no event here
cannot reach the client: each frame is rebuilt from events, never copied.

`fields` holds what an API needs besides text (identifiers, block types, reasons): values that the
codec allow-listed by name and by shape, never free text written by the generator.

The order that decoders keep to::

    Opened(Began(Wrote) * Sealed | Wrote | Stopped | Spent) * Done

with `Began` and `Sealed` around every tool call, around other blocks where the API marks them, and
one `Stopped` for each choice. `Broken` may come anywhere and is the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from tocsin.model import Channel, Context, Token

Api = Literal["chat", "responses", "messages"]
"""OpenAI chat completions, OpenAI responses, Anthropic messages."""

APIS: tuple[Api, ...] = ("chat", "responses", "messages")

NO_FIELDS: Mapping[str, Any] = {}

BrokenReason = Literal["garbage", "error", "cut_off", "encoded", "too_long"]
"""Why a response cannot be read on. garbage: what the API's format does not allow, a tool that was
not offered among it. error: the upstream says so itself. cut_off: it ended before its end. encoded:
a content encoding that was not asked for. too_long: a line or an event beyond the limit."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The response begins: its id, its model."""

    fields: Mapping[str, Any] = NO_FIELDS


class Began(msgspec.Struct, frozen=True, kw_only=True):
    """A block of a channel begins: a tool call with its id and name, an item, a content part."""

    channel: Channel
    fields: Mapping[str, Any] = NO_FIELDS


class Wrote(msgspec.Struct, frozen=True, kw_only=True):
    """Text of a channel. `tokens`, where given, join to `text`."""

    channel: Channel
    text: str
    tokens: tuple[Token, ...] = ()


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """The block that began last in a channel is whole."""

    channel: Channel
    fields: Mapping[str, Any] = NO_FIELDS


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """A choice is over, with the API's own reason in `fields`."""

    choice: int = 0
    fields: Mapping[str, Any] = NO_FIELDS


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens used, as the upstream counted them."""

    fields: Mapping[str, Any] = NO_FIELDS


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The upstream ended the response as its API demands."""

    fields: Mapping[str, Any] = NO_FIELDS


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """The response cannot be read on.

    Args:
        reason: one of a closed list.
        detail: for the log, without any of the text.
    """

    reason: BrokenReason
    detail: str = ""


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """For encoders only: end validly here, on every choice that is open, as a filtered response.

    Args:
        text: written to the text channel of every choice first; nothing where empty.
    """

    text: str = ""


Event = Opened | Began | Wrote | Sealed | Stopped | Spent | Done | Broken | Blocked


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request, as far as the guard needs to understand it.

    Args:
        api: which API it was made on.
        model: as asked for.
        stream: whether the answer is wanted as a stream.
        choices: how many answers are wanted.
        include_usage: whether a stream is to tell the tokens used (chat).
        tools: names that the generator may call; a call of another is `Broken`. None where they
            are not known: any name of the right shape.
        context: messages, tools and documents, as verifiers get them.
        conversation: what links it to earlier requests, where its metadata says.
        unread: parts that hold no text (images, audio, files): nobody checks them.
        body: what is sent on: the request, re-encoded, never the client's bytes.
    """

    api: Api
    model: str
    stream: bool = False
    choices: int = 1
    include_usage: bool = False
    tools: frozenset[str] | None = frozenset()
    context: Context = Context()
    conversation: str | None = None
    unread: int = 0
    body: Mapping[str, Any] = NO_FIELDS


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A request that cannot be read, or asks for what is not supported: a value, not an exception.

    Args:
        message: for the client: what is wrong, at which field, what to do.
        param: the field.
    """

    message: str
    param: str | None = None
