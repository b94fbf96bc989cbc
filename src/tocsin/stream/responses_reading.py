"""Reads what an upstream answers in the responses API, streamed or whole, into events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tocsin.limits import SSE_EVENT_BYTES_MAX
from tocsin.stream import utf16
from tocsin.stream.events import Asked, Broken, Done, Event, Opened, Spent, Stopped
from tocsin.stream.responses_items import Block, Items, Status, Unreadable, among
from tocsin.stream.responses_parts import INCOMPLETE_REASONS, PARTS, Part
from tocsin.stream.shapes import count, identifier
from tocsin.stream.sse import SseReader

_NO_EVENT = Broken(reason="garbage", detail="a frame that is no event")
_END = b"[DONE]"  # not of this API, but some servers send it after the last event
_TIME_S_MAX = 2**40  # seconds since 1970, some 35,000 years on


class _Told(msgspec.Struct):
    """One event of the stream, with the fields of all that are read."""

    type: str | None = None
    output_index: int | None = None
    item_id: Any = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    input: Any = None
    logprobs: Any = None
    item: Any = None
    part: Any = None
    response: Any = None
    error: Any = None
    code: Any = None


_DELTAS: dict[str, Part] = {f"{part.written}.delta": part for part in PARTS.values()}
_WHOLES: dict[str, Part] = {f"{part.written}.done": part for part in PARTS.values()}


_decode = msgspec.json.Decoder(_Told).decode


class _Answer:
    """What each event of the stream does."""

    __slots__ = ("_near", "_near_at", "_opened", "items", "over")

    def __init__(self, asked: Asked) -> None:
        self.items = Items(asked)
        self.over = False
        self._opened = False
        # The block that was written to last, and where it is: the next text mostly belongs there.
        self._near: Block | None = None
        self._near_at: tuple[int, int, Part] | None = None

    def taken(self) -> list[Event]:
        """Give what was read since the last time."""
        taken, self.items.events = self.items.events, []
        return taken

    def stop(self, broken: Broken) -> None:
        """Read no more."""
        self.items.events.append(broken)
        self.over = True

    def read(self, told: _Told) -> None:
        """Take one event; those that are not known are read over."""
        type_ = told.type or ""
        if (part := _DELTAS.get(type_)) is not None:
            self.items.write(self._block(told, part), told.delta, told.logprobs)
        elif (part := _WHOLES.get(type_)) is not None:
            self.items.whole(self._block(told, part), getattr(told, part.field), told.logprobs)
        elif (handle := _OTHERS.get(type_)) is not None:
            handle(self, told)
        elif type_ == "error" or (not type_ and told.error):
            raise Unreadable("error", identifier(told.code) or _code_of(told.error))

    def _block(self, told: _Told, part: Part) -> Block:
        number = told.summary_index if part.number == "summary_index" else told.content_index
        number = (number or 0) if part.place else 0
        if self._near is not None and self._near_at == (told.output_index, number, part):
            return self._near
        if not self._opened:
            self.open(None)
        place = self._place(told)
        block = self.items.block(self.items.find(place, part, told.item_id), part, number)
        if place is not None:
            self._near, self._near_at = block, (place, number, part)
        return block

    def open(self, response: Any) -> None:
        """Begin the response, if it has not begun."""
        if self._opened:
            return
        self._opened = True
        fields: dict[str, Any] = {}
        if isinstance(response, Mapping):
            for name in ("id", "model"):
                if value := identifier(response.get(name)):
                    fields[name] = value
            if (created := _time(response.get("created_at"))) is not None:
                fields["created_at"] = created
        self.items.events.append(Opened(fields=fields))

    def began(self, told: _Told) -> None:
        """``response.created`` and the like."""
        self.open(told.response)

    def item_added(self, told: _Told) -> None:
        """An item begins. Its texts are left to what follows: some servers repeat them there."""
        self.open(None)
        self.items.begin(self._place(told), told.item)

    def item_done(self, told: _Told) -> None:
        """An item is whole."""
        self.open(None)
        self.items.done(self._place(told), told.item)

    def part_added(self, told: _Told) -> None:
        """A part begins."""
        if (part := self._announced(told)) is not None:
            self._block(told, part)

    def part_done(self, told: _Told) -> None:
        """A part is whole."""
        if (part := self._announced(told)) is not None:
            block = self._block(told, part)
            self.items.whole(block, told.part.get(part.field), told.part.get("logprobs"))

    def _announced(self, told: _Told) -> Part | None:
        """Give the kind of part that is meant; None for one that is not forwarded."""
        self.open(None)
        part = PARTS.get(str(told.part.get("type"))) if isinstance(told.part, Mapping) else None
        if part is None or not part.framed or not (told.type or "").startswith(part.framed):
            return None
        item = self.items.find(self._place(told), part, told.item_id)
        return part if item.type == part.item else None

    def _place(self, told: _Told) -> int | None:
        """Give the place of an item; some servers say its id alone."""
        if told.output_index is not None:
            return told.output_index
        item = told.item if isinstance(told.item, Mapping) else {}
        return self.items.place(told.item_id, item.get("id"), item.get("call_id"))

    def completed(self, told: _Told) -> None:
        """The response is whole."""
        self._finish(told.response, "completed")

    def incomplete(self, told: _Told) -> None:
        """The response ended early."""
        self._finish(told.response, "incomplete")

    def failed(self, told: _Told) -> None:
        """The upstream gave up."""
        error = told.response.get("error") if isinstance(told.response, Mapping) else None
        raise Unreadable("error", _code_of(error))

    def body(self, response: Any) -> None:
        """Take a whole response instead of a stream."""
        if not isinstance(response, Mapping):
            raise Unreadable("garbage", "a body that is no response")
        status = response.get("status")
        if response.get("error") or status in ("failed", "cancelled"):
            raise Unreadable("error", _code_of(response.get("error")))
        if not isinstance(response.get("output"), list):
            raise Unreadable("garbage", "a body without output")
        if status == "incomplete":
            self._finish(response, "incomplete")
        elif status in ("completed", None):
            self._finish(response, "completed")
        else:
            raise Unreadable("garbage", "a body that is not finished")

    def _finish(self, response: Any, status: Status) -> None:
        if not isinstance(response, Mapping):
            raise Unreadable("garbage", "an end without its response")
        self.open(response)
        self.items.final(response.get("output"), status)
        fields: dict[str, Any] = {"status": status}
        if (completed := _time(response.get("completed_at"))) is not None:
            fields["completed_at"] = completed
        if status == "incomplete":
            details = response.get("incomplete_details")
            reason = details.get("reason") if isinstance(details, Mapping) else None
            fields["reason"] = reason if among(reason, INCOMPLETE_REASONS) else None
        self.items.events.append(Stopped(fields=fields))
        if spent := _usage(response.get("usage")):
            self.items.events.append(Spent(fields=spent))
        left_out = self.items.left_out
        self.items.events.append(Done(fields={"left_out": left_out} if left_out else {}))
        self.over = True


_OTHERS: dict[str, Callable[[_Answer, _Told], None]] = {
    "response.created": _Answer.began,
    "response.queued": _Answer.began,
    "response.in_progress": _Answer.began,
    "response.output_item.added": _Answer.item_added,
    "response.output_item.done": _Answer.item_done,
    "response.content_part.added": _Answer.part_added,
    "response.content_part.done": _Answer.part_done,
    "response.reasoning_summary_part.added": _Answer.part_added,
    "response.reasoning_summary_part.done": _Answer.part_done,
    "response.completed": _Answer.completed,
    "response.incomplete": _Answer.incomplete,
    "response.failed": _Answer.failed,
    "response.cancelled": _Answer.failed,
}


class ResponsesDecoder:
    """Reads one streamed response; see `tocsin.stream.codec.Decoder`.

    `Done` says in its field ``left_out`` how many items, parts and annotations were not forwarded.

    Example:
        >>> decoder = ResponsesDecoder(Asked(api="responses", model="m"))
        >>> delta = {"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"}
        >>> decoder.take(delta)[-1].text
        'Hi'
        >>> decoder.close()
        [Broken(reason='cut_off', detail='')]
    """

    def __init__(self, asked: Asked) -> None:
        self._answer = _Answer(asked)
        self._sse = SseReader()

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes of the body, cut anywhere."""
        answer = self._answer
        if answer.over:
            return []
        one = self._sse.one(data)
        if one is not None:
            self._frame(one[1])
            return answer.taken()
        for _, raw in self._sse.feed(data):
            self._frame(raw)
        if self._sse.failed and not answer.over:
            answer.stop(Broken(reason="too_long", detail="an event beyond the limit"))
        return answer.taken()

    def take(self, payload: Mapping[str, Any]) -> list[Event]:
        """Take one frame that is decoded already, as an SDK gives it."""
        if self._answer.over:
            return []
        try:
            self._answer.read(msgspec.convert(payload, _Told))
        except Unreadable as why:
            self._answer.stop(Broken(reason=why.reason, detail=why.detail))
        except (ValueError, RecursionError):  # also half a character where none is expected
            self._answer.stop(_NO_EVENT)
        return self._answer.taken()

    def close(self) -> list[Event]:
        """Say that the upstream ended."""
        for _, raw in self._sse.close():
            self._frame(raw, cut=True)
        if not self._answer.over:
            self._answer.stop(Broken(reason="cut_off"))
        return self._answer.taken()

    def _frame(self, raw: bytes, *, cut: bool = False) -> None:
        if self._answer.over:
            return
        try:
            try:
                told = _decode(raw)
            except (ValueError, RecursionError):
                told = utf16.decode_json(raw, _Told)
            self._answer.read(told)
        except Unreadable as why:
            self._answer.stop(Broken(reason=why.reason, detail=why.detail))
        except msgspec.DecodeError:
            early = cut or raw.strip() == _END
            self._answer.stop(Broken(reason="cut_off") if early else _NO_EVENT)


def read_body(asked: Asked, raw: bytes) -> list[Event]:
    """Read a whole response; see `tocsin.stream.codec.Codec.read_body`."""
    if len(raw) > SSE_EVENT_BYTES_MAX:
        return [Broken(reason="too_long", detail="a body beyond the limit")]
    answer = _Answer(asked)
    try:
        answer.body(utf16.decode_json(raw))
    except Unreadable as why:
        answer.stop(Broken(reason=why.reason, detail=why.detail))
    except msgspec.DecodeError:
        answer.stop(Broken(reason="garbage", detail="a body that is no JSON"))
    return answer.taken()


def _time(value: Any) -> float | None:
    return value if type(value) in (int, float) and 0 <= value < _TIME_S_MAX else None


def _code_of(error: Any) -> str:
    if not isinstance(error, Mapping):
        return ""
    return identifier(error.get("code")) or identifier(error.get("type"))


def _usage(raw: Any) -> dict[str, Any]:
    """Read the tokens used: numbers under names that are known."""
    if not isinstance(raw, Mapping):
        return {}
    found = _counts(raw, ("input_tokens", "output_tokens", "total_tokens"))
    if not found:
        return {}
    for name, inner in (
        ("input_tokens_details", ("cached_tokens", "cache_write_tokens")),
        ("output_tokens_details", ("reasoning_tokens",)),
    ):
        details = raw.get(name)
        if isinstance(details, Mapping) and (counts := _counts(details, inner)):
            found[name] = counts
    return found


def _counts(raw: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    found = {name: count(raw.get(name)) for name in names}
    return {name: number for name, number in found.items() if number is not None}
