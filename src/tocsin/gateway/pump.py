"""One guarded stream: from the upstream through the guard to the client.

Nothing is read from the upstream while a check is waited for or the client does not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec

from tocsin.gateway.arrivals import Rest
from tocsin.gateway.outlet import Outlet
from tocsin.gateway.slicing import long, slices
from tocsin.gateway.upstream import Call, Failed
from tocsin.guarding.doors import now
from tocsin.guarding.response import Guarded
from tocsin.stream import sse
from tocsin.stream.codec import Decoder, Encoder, Frame
from tocsin.stream.events import Done, Event

_json = msgspec.json.Encoder().encode

Note = Callable[[], dict[str, object]]
"""Says what became of the response, for the comment before its end."""

Settles = Callable[[], Awaitable[None] | None]
"""Called once the response is over and before its end goes out: what has to be waited for first."""

Take = Callable[[Sequence[Event]], Coroutine[Any, Any, list[Event]]]


class Pump:
    """A stream at work.

    Args:
        guarded: the response under guard.
        encoder: writes what may be shown.
        note: see `Note`.
        settles: see `Settles`.
        take: what the guard does with events.

    Attributes:
        finished: the upstream has said all.
        outlet: to the client; set before `run`, since its keep-alive asks for the `head` here.
    """

    __slots__ = (
        "_direct",
        "_encode",
        "_feed",
        "_guarded",
        "_note",
        "_settles",
        "_take",
        "finished",
        "outlet",
    )

    outlet: Outlet

    def __init__(
        self, guarded: Guarded, encoder: Encoder, note: Note, settles: Settles, take: Take
    ) -> None:
        self._guarded = guarded
        self._encode = encoder.encode
        self._note = note
        self._settles = settles
        self._take = take
        self._direct = take == guarded.take  # nobody else sees the events first
        self.finished = False

    def head(self) -> bytes | None:
        """Begin to answer for a keep-alive; None where an answer of another kind is on its way."""
        guarded = self._guarded
        events = guarded.show_head()
        if guarded.phase == "before_first_byte":
            return None
        return sse.encode(self._frames(events))

    async def run(self, call: Call, decoder: Decoder) -> None:
        """Pass on what the guard lets out, until it is over.

        Raises:
            ConnectionError: the client has gone.
        """
        guarded = self._guarded
        self._feed = decoder.feed
        while not guarded.over:
            came = await (self._read(call) if guarded.waits else call.pour(self._pass_on))
            if isinstance(came, Failed):
                await self._sent(await guarded.fail(came.failure, came.detail))
            elif came is not None:
                await came
            else:
                await self._close(decoder.close())

    def _pass_on(self, data: bytes) -> Rest | None:
        """Take bytes, and send what they let out; what takes time is left to be awaited."""
        events = self._feed(data)
        if not events or (self._direct and len(events) == 1 and self._guarded.holds(events[0])):
            return None
        if long(events) or type(events[-1]) is Done:
            return self._slowly(events)
        out = now(self._take(events))
        if self._guarded.over:
            return self._sent(out)
        if out:
            sent = sse.encode(self._frames(out))
            if sent:
                return self.outlet.put(sent)
        return None

    async def _read(self, call: Call) -> Rest | Failed | None:
        """Read where the guard may have to wait for its checks."""
        data = await call.read()
        if isinstance(data, Failed):
            return data
        return self._slowly(self._feed(data)) if data else None

    async def _sent(self, events: Sequence[Event]) -> None:
        if events:
            await self.send(events)

    async def _close(self, events: Sequence[Event]) -> None:
        """Take what comes with the end of the body."""
        await self._slowly(events)
        if not self._guarded.over:  # a decoder that knows no end
            await self._sent(await self._guarded.fail("upstream_cut_off"))

    async def _slowly(self, events: Sequence[Event]) -> None:
        """Take long texts in slices; others have their turn in between."""
        if events and type(events[-1]) is Done:
            self.finished = True
        if not long(events):
            await self._sent(await self._take(events))
            return
        for event in slices(events):
            out = await self._take((event,))
            if out:
                await self.send(out)
            if self._guarded.over:
                return
            await asyncio.sleep(0)

    async def send(self, events: Sequence[Event]) -> None:
        """Send what may be shown; what ends the response, with a note before it.

        Raises:
            ConnectionError: the client has gone.
        """
        if not self._guarded.over:
            data = sse.encode(self._frames(events))
            rest = self.outlet.put(data) if data else None
            if rest is not None:
                await rest
            return
        first, last = sse.encode(self._frames(events[:-1])), sse.encode(self._frames(events[-1:]))
        waited_for = self._settles()
        if waited_for is not None:  # what was cleared before does not wait for the disk
            if first:
                await self.outlet.write(first)
                first = b""
            await waited_for
        await self.outlet.end(first + comment(self._note()) + last)

    def _frames(self, events: Sequence[Event]) -> list[Frame]:
        encode = self._encode
        if len(events) == 1:
            return encode(events[0])
        frames: list[Frame] = []
        for event in events:
            frames += encode(event)
        return frames


def comment(note: dict[str, object]) -> bytes:
    r"""Write the note as a comment, which readers of events skip.

    Example:
        >>> comment({"status": "ok"})
        b': tocsin {"status":"ok"}\n\n'
    """
    return sse.comment("tocsin " + _json(note).decode())


async def take_all(guarded: Guarded, events: Sequence[Event], out: list[Event]) -> None:
    """Take a whole response, in slices."""
    if not long(events):
        out += await guarded.take(events)
        return
    for event in slices(events):
        out += await guarded.take((event,))
        if guarded.over:
            return
        await asyncio.sleep(0)
