"""Writes an answer in the responses API, streamed or whole, from what was released.

The API repeats every text at the end of its part, of its item and of the response. All of these are
rebuilt here from the released deltas; nothing that the upstream repeated gets this far.
"""

from __future__ import annotations

from typing import Any

from tocsin.model import Channel, Token
from tocsin.stream.codec import Frame, Made
from tocsin.stream.events import (
    Asked,
    Began,
    Blocked,
    Broken,
    Done,
    Event,
    Opened,
    Sealed,
    Spent,
    Stopped,
    Wrote,
)
from tocsin.stream.responses_echo import echoed, is_structured
from tocsin.stream.responses_items import Status
from tocsin.stream.responses_parts import CALLS, CUSTOM, FUNCTION, PARTS, Part, digest
from tocsin.stream.utf16 import whole

_TEXT = Channel()
_IMPLIED = {"text": "output_text", "refusal": "refusal", "reasoning": "summary_text"}
_PREFIX = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
}
_CALL = "call"
_BROKEN = "The model's answer could not be read to its end."


class _OpenPart:
    """A part that is being written."""

    __slots__ = ("at", "delta", "logprobs", "name", "part", "texts")

    def __init__(self, part: Part, item: _OpenItem, number: int) -> None:
        self.part = part
        self.at = item.at | {part.number: number}
        self.texts: list[str] = []
        self.logprobs: list[dict[str, Any]] = []
        self.name = f"{part.written}.delta"
        # A delta's payload but for its number and its text, to be copied.
        self.delta: dict[str, Any] = {"type": self.name, "sequence_number": 0, **self.at}
        self.delta["delta"] = ""
        if part.kind == "output_text":
            self.delta["logprobs"] = []

    def shown(self) -> dict[str, Any]:
        """Give the part as it stands."""
        content: dict[str, Any] = {"type": self.part.kind, self.part.field: "".join(self.texts)}
        if self.part.kind == "output_text":
            content |= {"annotations": [], "logprobs": self.logprobs}
        return content


class _OpenItem:
    """An item, as far as it is written."""

    __slots__ = ("at", "body", "digests", "key", "part")

    def __init__(self, body: dict[str, Any], index: int, key: Any) -> None:
        self.body = body  # in its final form once the item is closed
        self.key = key
        self.at = {"item_id": body["id"], "output_index": index}
        self.digests: tuple[str, ...] = ()
        self.part: _OpenPart | None = None


class ResponsesEncoder:
    """Writes one streamed response; see `tocsin.stream.codec.Encoder`.

    Text is written as it is released. A tool call is written when it is sealed, all at once, so
    that one which was stopped on the way never shows.

    Example:
        >>> encoder = ResponsesEncoder(
        ...     Asked(api="responses", model="m"), Made(id="resp_1", created_s=0)
        ... )
        >>> [frame.event for frame in encoder.encode(Blocked())]
        ['response.created', 'response.in_progress', 'response.incomplete']
    """

    def __init__(self, asked: Asked, made: Made) -> None:
        self._asked = asked
        self._made = made
        self._structured = is_structured(asked)
        self._frames: list[Frame] = []
        self._count = 0  # events written
        self._head: dict[str, Any] = {}  # what all forms of the response begin with
        self._items: list[_OpenItem] = []
        self._item_of: dict[Channel, _OpenItem] = {}
        self._calls: dict[Channel, tuple[dict[str, Any], list[str]]] = {}
        self._ids: set[str] = set()
        self._call_ids: set[str] = set()
        self._status: str = "completed"
        self._reason: str | None = None
        self._completed_at: float | None = None
        self._usage: dict[str, Any] | None = None
        self._over = False

    def encode(self, event: Event) -> list[Frame]:
        """Give the frames of an event."""
        if self._over:
            return []
        if not self._head:
            self._open(event)
        if isinstance(event, Wrote):
            self._wrote(event)
        elif isinstance(event, Began):
            self._began(event)
        elif isinstance(event, Sealed):
            self._sealed(event)
        elif isinstance(event, Spent):
            self._usage = _usage(event)
        elif not isinstance(event, Opened):
            self._ending(event)
        frames, self._frames = self._frames, []
        return frames

    def response(self) -> dict[str, Any]:
        """Give the response as it stands."""
        details = {"reason": self._reason} if self._status == "incomplete" else None
        error = {"code": "server_error", "message": _BROKEN} if self._status == "failed" else None
        return self._head | {
            "status": self._status,
            "error": error,
            "incomplete_details": details,
            "completed_at": self._completed_at,
            "output": [item.body for item in self._items],
            "usage": self._usage,
        }

    # --------------------------------------------------------------------------- the response

    def _open(self, event: Event) -> None:
        fields = event.fields if isinstance(event, Opened) else {}
        self._head = {
            "id": fields.get("id", self._made.id),
            "object": "response",
            "created_at": fields.get("created_at", self._made.created_s),
            "model": fields.get("model", whole(self._asked.model)),
        } | echoed(self._asked)
        begun = self._head | {
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "completed_at": None,
            "output": [],
            "usage": None,
        }
        self._frame("response.created", {"response": begun})
        self._frame("response.in_progress", {"response": begun})

    def _ending(self, event: Stopped | Done | Blocked | Broken) -> None:
        match event:
            case Stopped():
                self._stopped(event)
            case Done():
                self._end()
            case Blocked():
                self._blocked(event)
            case Broken():
                self._close_all("incomplete")
                self._status = "failed"
                self._end()

    def _stopped(self, event: Stopped) -> None:
        self._status = event.fields.get("status", "completed")
        self._reason = event.fields.get("reason")
        self._completed_at = event.fields.get("completed_at")
        self._close_all("incomplete" if self._status == "incomplete" else "completed")

    def _end(self) -> None:
        self._close_all("completed")
        self._frame(f"response.{self._status}", {"response": self.response()})
        self._over = True

    def _blocked(self, event: Blocked) -> None:
        if event.text:
            item = self._item_of.get(_TEXT)
            if item is None or item.part is None:
                # A refusal or some reasoning may stand open: it ends before the text begins.
                self._close_all("incomplete")
            self._wrote(Wrote(channel=_TEXT, text=event.text))
        self._close_all("incomplete")
        self._status = "incomplete"
        self._reason = "content_filter"
        self._completed_at = None
        self._end()

    def _frame(self, name: str, fields: dict[str, Any]) -> None:
        data = {"type": name, "sequence_number": self._count} | fields
        self._frames.append(Frame(data, name))
        self._count += 1

    # ------------------------------------------------------------------------------ the items

    def _began(self, event: Began) -> None:
        channel = event.channel
        fields = dict(event.fields)
        if channel.kind == "tool_arguments":
            self._calls[channel] = (fields, [])
            return
        kind = fields.get("type", _IMPLIED.get(channel.kind))
        part = PARTS.get(str(kind))
        item = self._item(channel, "reasoning" if kind == "reasoning" else None, part, fields)
        if item is not None and part is not None:
            self._begin_part(item, part)

    def _item(
        self, channel: Channel, type_: str | None, part: Part | None, fields: dict[str, Any]
    ) -> _OpenItem | None:
        """Give the item that a block stands in; open it if it is new."""
        type_ = part.item if part is not None else type_
        if type_ is None:
            return None
        key = fields.get("item")
        for item in dict.fromkeys(self._item_of.values()):
            if item.body["type"] == type_ and (key is None or item.key == key):
                self._item_of[channel] = item
                return item
        if (old := self._item_of.get(channel)) is not None:
            self._close_item(old, "completed")
        body: dict[str, Any] = {"id": self._id(fields.get("item_id"), _PREFIX[type_])}
        body["type"] = type_
        if type_ == "message":
            body |= {"status": "in_progress", "role": "assistant", "content": []}
            if "phase" in fields:
                body["phase"] = fields["phase"]
        else:
            body["summary"] = []
        item = self._item_of[channel] = self._add(body, key)
        return item

    def _add(self, body: dict[str, Any], key: Any) -> _OpenItem:
        item = _OpenItem(body, len(self._items), key)
        self._items.append(item)
        # Frames must not change any more when the item does.
        begun = {name: [] if isinstance(old, list) else old for name, old in body.items()}
        fields = {"output_index": item.at["output_index"], "item": begun}
        self._frame("response.output_item.added", fields)
        return item

    def _id(self, wanted: Any, prefix: str) -> str:
        """Give an id that no other item of the response has; calls have a second one."""
        used = self._call_ids if prefix == _CALL else self._ids
        id_ = wanted
        if not isinstance(id_, str) or id_ in used:
            id_ = f"{prefix}_{self._made.id.removeprefix('resp_')}_{len(self._items)}"
        while id_ in used:
            id_ += "_"
        used.add(id_)
        return id_

    def _close_item(
        self, item: _OpenItem, status: Status, fields: dict[str, Any] | None = None
    ) -> None:
        self._close_part(item, status)
        for channel in [c for c, other in self._item_of.items() if other is item]:
            del self._item_of[channel]
        if item.body["type"] == "message" or status == "incomplete":
            item.body["status"] = status
        opaque = fields.get("encrypted_content") if fields else None
        # What only its maker can read may go along only with all that could be read.
        if fields and opaque is not None and fields.get("digests") == item.digests:
            item.body["encrypted_content"] = opaque
        at = {"output_index": item.at["output_index"], "item": item.body}
        self._frame("response.output_item.done", at)

    def _close_all(self, status: Status) -> None:
        for item in dict.fromkeys(self._item_of.values()):
            self._close_item(item, status)
        self._calls.clear()  # what was not sealed was never shown

    # ------------------------------------------------------------------------- parts and texts

    def _begin_part(self, item: _OpenItem, part: Part) -> _OpenPart:
        self._close_part(item, "completed")
        place = item.body.setdefault(part.place, [])
        opened = item.part = _OpenPart(part, item, len(place))
        self._frame(f"{part.framed}.added", opened.at | {"part": opened.shown()})
        return opened

    def _close_part(self, item: _OpenItem, status: Status) -> None:
        opened = item.part
        if opened is None:
            return
        item.part = None
        part = opened.part
        shown = opened.shown()
        text = shown[part.field]
        item.body[part.place].append(shown)
        item.digests += (digest(part.kind, text),)
        fields: dict[str, Any] = opened.at | {part.field: text}
        if part.kind == "output_text":
            fields["logprobs"] = opened.logprobs
        # The SDK's helper parses structured text when it is told that it is done.
        if not (self._structured and status == "incomplete" and part.kind == "output_text"):
            self._frame(f"{part.written}.done", fields)
        self._frame(f"{part.framed}.done", opened.at | {"part": shown})

    def _wrote(self, event: Wrote) -> None:
        channel = event.channel
        if not event.text:
            return
        if channel.kind == "tool_arguments":
            self._calls.setdefault(channel, ({}, []))[1].append(event.text)
            return
        item = self._item_of.get(channel)
        opened = item.part if item is not None else None
        if opened is None or opened.part.channel != channel.kind:
            opened = self._implied(channel)
            if opened is None:
                return
        opened.texts.append(event.text)
        data = opened.delta.copy()
        data["sequence_number"] = self._count
        data["delta"] = event.text
        if event.tokens and "logprobs" in data:
            data["logprobs"] = [_logprob(token) for token in event.tokens]
            opened.logprobs += data["logprobs"]
        self._frames.append(Frame(data, opened.name))
        self._count += 1

    def _implied(self, channel: Channel) -> _OpenPart | None:
        """Begin a part for text that came without a beginning."""
        part = PARTS.get(_IMPLIED.get(channel.kind, ""))
        item = self._item(channel, None, part, {})
        return self._begin_part(item, part) if item is not None and part is not None else None

    def _sealed(self, event: Sealed) -> None:
        status: Status = event.fields.get("status", "completed")
        if event.channel.kind == "tool_arguments":
            fields, texts = self._calls.pop(event.channel, ({}, []))
            if "name" in fields:
                self._write_call(fields, "".join(texts), status)
            return
        item = self._item_of.get(event.channel)
        if item is None:
            return
        if event.fields.get("last", True):
            self._close_item(item, status, dict(event.fields))
        else:
            self._close_part(item, status)

    def _write_call(self, fields: dict[str, Any], text: str, status: Status) -> None:
        """Write a whole call. One that is incomplete is not said to be done."""
        part = CALLS.get(fields.get("type", ""), FUNCTION)
        if part is CUSTOM and status == "incomplete":
            return  # it has no status to say so in
        body: dict[str, Any] = {
            "id": self._id(fields.get("item_id"), _PREFIX[part.item]),
            "type": part.item,
            "call_id": self._id(fields.get("id"), _CALL),
            "name": fields["name"],
            part.field: "",
        }
        if part is FUNCTION:
            body["status"] = "in_progress"
        if "namespace" in fields:
            body["namespace"] = fields["namespace"]
        item = self._add(body, fields.get("item"))
        if text:
            self._frame(f"{part.written}.delta", item.at | {"delta": text})
        if status == "completed":
            self._frame(f"{part.written}.done", item.at | {part.field: text})
        body[part.field] = text
        if part is FUNCTION:
            body["status"] = status
        at = {"output_index": item.at["output_index"], "item": body}
        self._frame("response.output_item.done", at)


class ResponsesBody:
    """Writes one whole response; see `tocsin.stream.codec.Body`.

    Example:
        >>> body = ResponsesBody(Asked(api="responses", model="m"), Made(id="resp_1", created_s=0))
        >>> body.take(Blocked(text="Stopped."))
        >>> body.result()["output"][0]["content"][0]["text"]
        'Stopped.'
    """

    def __init__(self, asked: Asked, made: Made) -> None:
        self._encoder = ResponsesEncoder(asked, made)

    def take(self, event: Event) -> None:
        """Take an event."""
        self._encoder.encode(event)

    def result(self) -> dict[str, Any]:
        """Give the body."""
        return self._encoder.response()


def _logprob(token: Token) -> dict[str, Any]:
    """Write a token's log-probability, without the alternatives: they are text of the generator."""
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": list(token.text.encode()),
        "top_logprobs": [],
    }


def _usage(event: Spent) -> dict[str, Any]:
    """Write the tokens used, with every count that the SDK's type demands."""
    given = event.fields
    spent, made = given.get("input_tokens", 0), given.get("output_tokens", 0)
    read = {"cached_tokens": 0, "cache_write_tokens": 0}
    return {
        "input_tokens": spent,
        "input_tokens_details": read | given.get("input_tokens_details", {}),
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0} | given.get("output_tokens_details", {}),
        "total_tokens": given.get("total_tokens", spent + made),
    }
