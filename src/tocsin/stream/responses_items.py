"""The items of an answer while it is read: each text once, however often the upstream repeats it.

The responses API tells each text up to five times: in deltas, at the end of the text, of the part
and of the item, and in the last event. The first is read, the later ones are compared with it. An
upstream that leaves the deltas out is read where its text comes first.

In an item, `Began` stands before every part. `Sealed` stands where the item ends, with ``last``
true, and where its next part is of another channel. Parts of one channel follow each other without:
what is sealed is over, and a word may be cut over two parts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from tocsin.limits import (
    RESPONSES_BLOCKS_MAX,
    RESPONSES_CHARS_MAX,
    RESPONSES_OPAQUE_CHARS_MAX,
    TOP_TOKENS_MAX,
)
from tocsin.model import Channel, Token
from tocsin.stream import utf16
from tocsin.stream.events import Asked, Began, BrokenReason, Event, Sealed, Wrote
from tocsin.stream.responses_parts import CALLS, PARTS, PHASES, PLACES, Part, digest
from tocsin.stream.shapes import identifier

Status = Literal["completed", "incomplete"]

_OWN: dict[str, Status] = {"completed": "completed", "incomplete": "incomplete"}

_NATS_MAX = 10_000  # servers say -9999 for what they do not know
_OPAQUE = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")


class Unreadable(Exception):  # noqa: N818 - a value on its way to becoming `Broken`
    """What came is not what the API allows; it never leaves the decoder."""

    def __init__(self, reason: BrokenReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def among(value: Any, names: frozenset[str]) -> bool:
    """Say whether a value of any type is one of some names."""
    return isinstance(value, str) and value in names


def listed(value: Any) -> list[Any]:
    """Give a list that is not too long; an empty one for what is none."""
    if not isinstance(value, list):
        return []
    if len(value) > RESPONSES_BLOCKS_MAX:
        raise Unreadable("too_long", "more items or parts than are read")
    return value


class Block:
    """One part's text as it is read."""

    __slots__ = ("channel", "digest", "halves", "part", "texts")

    def __init__(self, part: Part, channel: Channel) -> None:
        self.part = part
        self.channel = channel
        self.texts: list[str] = []
        self.halves = utf16.Surrogates()
        self.digest = ""  # set once nothing more may be written


class Item:
    """One item as it is read.

    Attributes:
        fields: what its blocks begin with: its place, and its id where it has one.
        open: the block that was not sealed yet.
        counted: whether what is left out of it was counted.
    """

    __slots__ = ("blocks", "channels", "counted", "ended", "fields", "open", "type")

    def __init__(self, type_: str, fields: dict[str, Any]) -> None:
        self.type = type_
        self.fields = fields
        self.blocks: dict[tuple[str, int], Block] = {}
        self.channels: dict[str, Channel] = {}
        self.open: Block | None = None
        self.ended = False
        self.counted = False


class Items:
    """Reads items, parts and texts into events.

    Attributes:
        events: what was read and not yet taken.
        left_out: items, parts and annotations that are not forwarded.
    """

    def __init__(self, asked: Asked) -> None:
        self.events: list[Event] = []
        self.left_out = 0
        self._asked = asked
        self._items: dict[int, Item] = {}
        self._index_of: dict[str, int] = {}
        self._speaking: dict[Channel, Item] = {}
        self._reasonings = self._calls = self._blocks = self._chars = 0

    # --------------------------------------------------------------------------------- items

    def begin(self, index: int | None, raw: Any) -> Item:
        """Take an item at its place, as far as it is known."""
        if index is None or not 0 <= index < RESPONSES_BLOCKS_MAX:
            raise Unreadable("garbage", "an item without a place, or beyond those that are read")
        if index in self._items or not isinstance(raw, Mapping):
            raise Unreadable("garbage", "an item that is none, or comes twice")
        type_ = raw.get("type")
        item = Item(type_ if isinstance(type_, str) else "", {"item": index})
        self._items[index] = item
        if id_ := identifier(raw.get("id")):
            item.fields["item_id"] = id_
        for name in filter(None, (id_, identifier(raw.get("call_id")))):
            self._index_of.setdefault(name, index)
        if item.type in CALLS:
            self._call(item, raw)
        elif item.type not in PLACES:
            self.left_out += 1
            item.ended = True
        elif among(raw.get("phase"), PHASES):
            item.fields["phase"] = raw["phase"]
        return item

    def _call(self, item: Item, raw: Mapping[str, Any]) -> None:
        name = identifier(raw.get("name"))
        if not name or not self._offered(name):
            raise Unreadable("garbage", "a call of a tool that was not offered")
        item.fields |= {"name": name}
        if id_ := identifier(raw.get("call_id")):
            item.fields["id"] = id_
        space = identifier(raw.get("namespace"))
        if space and space in self._namespaces():
            item.fields["namespace"] = space
        self.block(item, CALLS[item.type], 0)

    def _offered(self, name: str) -> bool:
        return self._asked.tools is None or name in self._asked.tools

    def _namespaces(self) -> list[Any]:
        tools = self._asked.body.get("tools") or ()
        spaces = [tool for tool in tools if isinstance(tool, Mapping)]
        return [tool.get("name") for tool in spaces if tool.get("type") == "namespace"]

    def place(self, *names: Any) -> int | None:
        """Give the place of an item by what it is called; the next one where it is new."""
        known = [name for name in map(identifier, names) if name]
        if not known:
            return None
        for name in known:
            if name in self._index_of:
                return self._index_of[name]
        return max(self._items, default=-1) + 1

    def done(self, index: int | None, raw: Any, otherwise: Status = "completed") -> None:
        """Take a whole item: read what was not said before, compare the rest."""
        item = self._items.get(index) if index is not None else None
        if item is None:
            item = self.begin(index, raw)
        if not isinstance(raw, Mapping) or raw.get("type") != item.type:
            raise Unreadable("garbage", "an item that changed its type")
        if item.type in CALLS:
            self.whole(item.blocks["", 0], raw.get(CALLS[item.type].field))
        for place in PLACES.get(item.type, ()):
            for number, part in enumerate(listed(raw.get(place))):
                self.whole_part(item, place, number, part)
        item.counted = True
        status = raw.get("status")
        own: Status | None = _OWN.get(status) if isinstance(status, str) else None
        self.end(item, own or otherwise, raw)

    def final(self, output: Any, status: Status) -> None:
        """Take the list of items that the last event has, and end what is still open."""
        for index, raw in enumerate(listed(output)):
            id_ = identifier(raw.get("id")) if isinstance(raw, Mapping) else ""
            item = self._items.get(index)
            if not id_ or (item is not None and item.fields.get("item_id") == id_):
                self.done(index, raw, status)
            else:  # some servers leave items out of this list: the id says which one it is
                self.done(self._index_of.get(id_, index), raw, status)
        for item in self._items.values():
            self.end(item, status, {})

    def end(self, item: Item, status: Status, raw: Mapping[str, Any]) -> None:
        """Say that an item is whole."""
        if item.ended:
            return
        if item.type == "reasoning" and not item.blocks:
            # One that shows nothing: the next request must repeat its id.
            channel = self._channel(item, PARTS["summary_text"])
            self.events.append(Began(channel=channel, fields=item.fields | {"type": "reasoning"}))
            fields = {"last": True, "status": status} | _opaque(item, raw)
            self.events.append(Sealed(channel=channel, fields=fields))
        elif item.open is not None:
            self._seal(item, {"last": True, "status": status}, raw)
        item.ended = True

    def _seal(self, item: Item, fields: dict[str, Any], raw: Mapping[str, Any]) -> None:
        block = item.open
        if block is None:
            return
        self._close(block)
        if fields["last"]:
            fields |= _opaque(item, raw)
        self.events.append(Sealed(channel=block.channel, fields=fields))
        item.open = None
        self._speaking.pop(block.channel, None)

    # --------------------------------------------------------------------------------- parts

    def find(self, index: int | None, part: Part, id_: Any = None) -> Item:
        """Give the item that a part belongs to; one that was never announced begins here."""
        item = self._items.get(index) if index is not None else None
        if item is None:
            item = self.begin(index, {"type": part.item, "id": id_})
        return item

    def block(self, item: Item, part: Part, number: int) -> Block:
        """Give a part's block; begin it if it is new."""
        block = item.blocks.get((part.place, number))
        if block is not None:
            if block.part is not part:
                raise Unreadable("garbage", "a part that changed its type")
            return block
        if item.ended or item.type != part.item:
            raise Unreadable("garbage", "a part in an item that has none such")
        self._blocks += 1
        if self._blocks > RESPONSES_BLOCKS_MAX:
            raise Unreadable("too_long", "more parts than are read")
        channel = self._channel(item, part)
        if (before := item.open) is not None:
            if before.channel == channel:
                self._close(before)  # what begins next in its channel says that it ended
            else:
                # Sealed is sealed: should such a part come again, it is a channel of its own.
                item.channels.pop(before.part.place)
                self._seal(item, {"last": False}, {})
        if (other := self._speaking.get(channel)) is not None and other is not item:
            self.end(other, "completed", {})
        block = Block(part, channel)
        item.blocks[part.place, number] = item.open = block
        self._speaking[channel] = item
        self.events.append(Began(channel=channel, fields=item.fields | {"type": part.kind}))
        return block

    def _channel(self, item: Item, part: Part) -> Channel:
        channel = item.channels.get(part.place)
        if part.channel == "reasoning":
            if channel is None:
                channel = Channel("reasoning", 0, self._reasonings)
                self._reasonings += 1
        elif part.channel == "tool_arguments":
            channel = Channel("tool_arguments", 0, self._calls)
            self._calls += 1
        else:
            channel = Channel(part.channel)
        item.channels[part.place] = channel
        return channel

    def whole_part(self, item: Item, place: str, number: int, raw: Any) -> None:
        """Take a part that is whole."""
        part = PARTS.get(str(raw.get("type"))) if isinstance(raw, Mapping) else None
        if part is None or part.item != item.type or part.place != place:
            self.left_out += not item.counted
            return
        if not item.counted and part.kind == "output_text":
            self.left_out += len(listed(raw.get("annotations")))
        if raw.get(part.field) or (place, number) in item.blocks or not item.ended:
            self.whole(self.block(item, part, number), raw.get(part.field), raw.get("logprobs"))

    # --------------------------------------------------------------------------------- texts

    def write(self, block: Block, delta: Any, logprobs: Any = None) -> None:
        """Take more of a text."""
        if not isinstance(delta, str) or block.digest:
            raise Unreadable("garbage", "a delta that is no text, or comes after the end")
        if text := block.halves.join(delta):
            self._wrote(block, text, logprobs)

    def whole(self, block: Block, text: Any, logprobs: Any = None) -> None:
        """Take a text that is whole: read it if nothing was said before, or else compare."""
        if text is None:
            return
        if not isinstance(text, str):
            raise Unreadable("garbage", "a text that is none")
        text = utf16.whole(text)
        if not block.digest:
            self._flush(block)
            if text and not block.texts:
                self._wrote(block, text, logprobs)
            self._close(block)
        if block.digest != digest(block.part.kind, text):
            raise Unreadable("garbage", "a whole text that is not its deltas joined")

    def _wrote(self, block: Block, text: str, logprobs: Any) -> None:
        self._chars += len(text)
        if self._chars > RESPONSES_CHARS_MAX:
            raise Unreadable("too_long", "more text than is read")
        block.texts.append(text)
        tokens = read_tokens(logprobs, text) if logprobs else ()
        self.events.append(Wrote(channel=block.channel, text=text, tokens=tokens))

    def _flush(self, block: Block) -> None:
        if rest := block.halves.rest():
            self._wrote(block, rest, None)

    def _close(self, block: Block) -> None:
        if not block.digest:
            self._flush(block)
            block.digest = digest(block.part.kind, "".join(block.texts))
            block.texts = []


def _opaque(item: Item, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Give reasoning that only its maker can read, and what must be shown for it to go along."""
    value = raw.get("encrypted_content")
    if item.type != "reasoning" or not isinstance(value, str):
        return {}
    if len(value) > RESPONSES_OPAQUE_CHARS_MAX or not _OPAQUE.fullmatch(value):
        return {}
    return {
        "encrypted_content": value,
        "digests": tuple(block.digest for block in item.blocks.values()),
    }


def read_tokens(logprobs: Any, text: str) -> tuple[Token, ...]:
    """Read log-probabilities; none unless the tokens are the text.

    Example:
        >>> read_tokens([{"token": "a", "logprob": -0.5}], "a")
        (Token(text='a', logprob=-0.5, top=()),)
        >>> read_tokens([{"token": "a", "logprob": -0.5}], "ab")
        ()
    """
    if not isinstance(logprobs, list):
        return ()
    tokens: list[Token] = []
    for entry in logprobs:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("token"), str):
            return ()
        logprob = _logprob(entry.get("logprob"))
        if logprob is None:
            return ()
        others = entry.get("top_logprobs")
        tops = (
            _logprob(other.get("logprob"))
            for other in (others[:TOP_TOKENS_MAX] if isinstance(others, list) else ())
            if isinstance(other, Mapping)
        )
        top = tuple(value for value in tops if value is not None)
        tokens.append(Token(entry["token"], logprob, top))
    return tuple(tokens) if "".join(token.text for token in tokens) == text else ()


def _logprob(value: Any) -> float | None:
    """Read a log-probability; rounding may have put it a little above 0."""
    if type(value) is float and math.isfinite(value):
        return min(value, 0.0)
    # An integer may be too large for a float.
    return float(max(value, -_NATS_MAX)) if type(value) is int and value <= 0 else None
