"""What holds of every answer, whatever the bytes: laws of decoders, encoders and bodies."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from guarded_streams import Doors, now
from reference import sse as standard

from fuzz.answers import Texts
from fuzz.dice import Dice, cut
from fuzz.spoiling import SECRET
from tocsin.guarding.plan import Guard
from tocsin.guarding.response import Guarded
from tocsin.model import Channel, Context
from tocsin.stream import sse
from tocsin.stream.codec import Codec, Encoder, Made
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
from tocsin.stream.utf16 import decode_json

MADE = Made(id="made-1", created_s=1)
SHAPE = re.compile(r"[A-Za-z0-9_.:/@+=-]*")
"""Of any string beside the texts: no words fit in."""

TEXT_PER_BYTE_MAX = 32
"""Characters that a byte may become: numbers in a tool's arguments may be written longer anew."""

Said = tuple[Texts, list[Any], list[Any]]


def check_stream(
    codec: Codec, request: Asked, raw: bytes, said: Texts | None, sizes: Sequence[int], dice: Dice
) -> None:
    """Check a decoder on a stream, whole and cut, and what follows from it.

    Args:
        codec, request: of the stream.
        raw: its bytes.
        said: its texts, where they are known.
        sizes: of the pieces.
        dice: for what is left to choose.
    """
    events = decoded(codec, request, [raw])
    assert merged(events) == merged(decoded(codec, request, cut(raw, sizes)))
    if said is not None and isinstance(events[-1], Done):
        assert said == client(codec, events)[0]
    check_order(events, request, len(raw))
    check_order(taken(codec, request, raw), request, len(raw))
    check_written(codec, request, events, dice)


def check_body(codec: Codec, request: Asked, raw: bytes, said: Texts | None, dice: Dice) -> None:
    """Check the reading of a whole answer, and what follows from it, as `check_stream` does."""
    events = codec.read_body(request, raw)
    if said is not None and isinstance(events[-1], Done):
        assert said == client(codec, events)[0]
    check_order(events, request, len(raw))
    check_written(codec, request, events, dice)
    code = codec.error_code(raw)
    assert SHAPE.fullmatch(code)
    assert len(code) <= 256


def decoded(codec: Codec, request: Asked, pieces: Iterable[bytes]) -> list[Event]:
    """Decode pieces to the end; after the end nothing more comes."""
    decoder = codec.decoder(request)
    events: list[Event] = []
    for piece in pieces:
        events += decoder.feed(piece)
    events += decoder.close()
    assert decoder.feed(b'data: {"type": "error"}\n\n') == []
    assert decoder.close() == []
    return events


def taken(codec: Codec, request: Asked, raw: bytes) -> list[Event]:
    """Decode the frames of a stream one by one, as an SDK would hand them over."""
    decoder = codec.decoder(request)
    events: list[Event] = []
    for _, payload in standard.events(raw):
        with contextlib.suppress(msgspec.DecodeError):
            frame = decode_json(payload)
            if isinstance(frame, dict):
                events += decoder.take(frame)
    return events + decoder.close()


def merged(events: Iterable[Event]) -> list[Any]:
    """Join texts that follow each other."""
    out: list[Any] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Wrote) and isinstance(last, Wrote) and event.channel == last.channel:
            text, tokens = last.text + event.text, last.tokens + event.tokens
            out[-1] = Wrote(channel=event.channel, text=text, tokens=tokens)
        else:
            out.append(event)
    return out


# ------------------------------------------------------------------------------------------ order


def check_order(events: Sequence[Event], request: Asked, size: int) -> None:
    """Check that events come as `tocsin.stream.events` says, bounded, and with nothing secret."""
    assert [e for e in events if isinstance(e, Done | Broken)] == list(events[-1:])
    assert len(events) <= size + 16
    texts = [e.text for e in events if isinstance(e, Wrote)]
    assert sum(map(len, texts)) <= TEXT_PER_BYTE_MAX * size
    order = _Order(request)
    for event in events:
        order.take(event)


class _Order:
    def __init__(self, request: Asked) -> None:
        self._request = request
        self._opened = False
        self._began: dict[Channel, bool] = {}  # whether it is sealed
        self._stopped: set[int] = set()
        self._seen: set[int] = set()

    def take(self, event: Event) -> None:
        if not isinstance(event, Broken):
            assert _is_shaped(getattr(event, "fields", None)), event
            assert self._opened != isinstance(event, Opened), event
            self._opened = True
        match event:
            case Began() | Wrote() | Sealed():
                self._block(event)
            case Stopped():
                assert event.choice not in self._stopped
                self._stopped.add(event.choice)
            case Done():
                assert self._stopped
                assert self._seen <= self._stopped
                numbers = sorted((c.choice, c.index) for c in self._began)
                assert all(
                    index == 0 or (choice, index - 1) in numbers for choice, index in numbers
                )
            case Broken():
                assert SHAPE.fullmatch(event.detail.replace(" ", "").replace(",", "")), event
                assert SECRET not in event.detail

    def _block(self, event: Began | Wrote | Sealed) -> None:
        channel = event.channel
        assert channel.choice not in self._stopped
        assert 0 <= channel.choice < self._request.choices
        self._seen.add(channel.choice)
        if isinstance(event, Wrote):
            assert event.text
            event.text.encode()
            assert not event.tokens or event.text == "".join(t.text for t in event.tokens)
        if channel.kind != "tool_arguments":
            return
        if isinstance(event, Began):
            assert channel not in self._began
            assert event.fields["name"]
            tools = self._request.tools
            assert tools is None or event.fields["name"] in tools
            self._began[channel] = False
        else:
            assert self._began[channel] is False
            self._began[channel] = isinstance(event, Sealed)


def _is_shaped(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_shaped, value)) and all(map(_is_shaped, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_shaped, value))
    if isinstance(value, str):
        return SHAPE.fullmatch(value) is not None
    return value is None or isinstance(value, int | float)


# ------------------------------------------------------------------------------ what is made of it


def check_written(codec: Codec, request: Asked, events: Sequence[Event], dice: Dice) -> None:
    """Check what a client gets of these events: as a stream, as a body, and when blocked."""
    guarded = Guarded(Guard(), Context(), Doors(), in_order=codec.in_order)
    shown = now(guarded.take(events))
    assert guarded.over
    if guarded.refused is not None:
        assert shown == []
        return
    encoder = codec.encoder(request, MADE)
    raw = written(encoder, shown)
    assert encoder.encode(Wrote(channel=Channel(), text="more")) == []
    again = decoded(codec, request, [raw])
    check_order(again, request, len(raw))
    _nothing_secret(raw, shown)
    assert isinstance(again[-1], Done)
    _same(codec, shown, again)

    body = codec.body(request, MADE)
    for event in shown:
        body.take(event)
    whole = msgspec.json.encode(body.result())
    read = codec.read_body(request, whole)
    check_order(read, request, len(whole))
    _nothing_secret(whole, shown)
    assert isinstance(read[-1], Done)
    _same(codec, shown, read)

    upto = dice.below(256) % len(shown)
    _check_blocked(codec, request, shown[:upto])


def _check_blocked(codec: Codec, request: Asked, shown: Sequence[Event]) -> None:
    stopped = [Blocked(text="No.")]
    raw = written(codec.encoder(request, MADE), [*shown, *stopped])
    again = decoded(codec, request, [raw])
    assert isinstance(again[-1], Done)
    sealed = [e.channel for e in shown if isinstance(e, Sealed)]
    calls = [e.channel for e in again if isinstance(e, Sealed)]
    assert {c for c in calls if c.kind == "tool_arguments"} <= set(sealed)


def written(encoder: Encoder, events: Iterable[Event]) -> bytes:
    """Write events as a stream."""
    return sse.encode(frame for event in events for frame in encoder.encode(event))


def client(codec: Codec, events: Iterable[Event]) -> Said:
    """Give what a client holds: texts, tool calls that are whole, and why each choice ended.

    Blocks of thinking are joined, for an encoder leaves out empty ones.
    """
    texts: dict[Channel, str] = {}
    calls: dict[Channel, list[Any]] = {}
    whole: list[Channel] = []
    stops: list[tuple[int, dict[str, Any]]] = []
    for event in events:
        match event:
            case Began() if event.channel.kind == "tool_arguments":
                calls[event.channel] = [event.fields["name"], event.fields.get("id"), ""]
            case Sealed() if event.channel.kind == "tool_arguments":
                whole.append(event.channel)
            case Wrote() if event.channel.kind == "tool_arguments":
                calls[event.channel][2] += event.text
            case Wrote():
                texts[event.channel] = texts.get(event.channel, "") + event.text
            case Stopped():
                stops.append((event.choice, dict(event.fields)))
    joined: Texts = {}
    for channel in sorted(texts, key=lambda c: c.index):
        at = channel.kind, channel.choice
        joined[at] = joined.get(at, "") + texts[channel]
    # Of a chat that ended for want of room, nobody can say whether the last call is whole.
    short = {c for c, fields in stops if fields.get("finish_reason") == "length"}
    whole = [c for c in whole if c.choice not in short]
    if not codec.in_order:  # calls then have the order in which they began
        whole.sort(key=lambda c: (c.choice, c.index))
    told = [(c.choice, *calls[c]) for c in whole]
    return joined, told, sorted(stops, key=str)


def _same(codec: Codec, shown: Sequence[Event], read: Sequence[Event]) -> None:
    """A client holds what was shown; of a blocked response, its texts and no tool call."""
    texts, calls, stops = client(codec, shown)
    texts_read, calls_read, stops_read = client(codec, read)
    assert texts == texts_read
    assert len(calls) == len(calls_read)
    ids = [call[2] for call in calls]
    for (*call, text), (*call_read, text_read) in zip(calls, calls_read, strict=True):
        # Identifiers that are missing or there twice are made anew, and a body may write the same
        # value otherwise.
        assert call == call_read or call[2] is None or ids.count(call[2]) > 1
        assert text == text_read or json.loads(text) == json.loads(text_read)
    assert isinstance(shown[-1], Blocked) or stops == stops_read


def _nothing_secret(raw: bytes, shown: Sequence[Event]) -> None:
    """What must not be told is in what a client gets only where it was told as text."""
    if SECRET.encode() in raw:
        texts: dict[Channel, str] = {}
        for event in shown:
            if isinstance(event, Wrote):
                texts[event.channel] = texts.get(event.channel, "") + event.text
        assert any(SECRET in text for text in texts.values())


__all__ = ["Spent", "check_body", "check_order", "check_stream", "decoded", "merged"]
