"""What comes out of a guarded response, and in which order.

Each channel has a window; each window stands in a lane, behind what was written before it. In chat
every channel has a lane of its own; where blocks must follow each other there is one lane for all.
Tool calls, and what ends a choice, wait until the whole response is cleared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tocsin.guarding.receipt import ChannelRecord
from tocsin.guarding.running import Running
from tocsin.model import Channel, Hold
from tocsin.stream.events import (
    NO_FIELDS,
    Began,
    Blocked,
    Done,
    Event,
    Opened,
    Sealed,
    Spent,
    Stopped,
    Wrote,
)
from tocsin.stream.window import Window

EVERYTHING = 2**62
"""Cleared up to here: all that may ever come."""


@dataclass
class _Span:
    """Text of a window up to an offset, in its place in a lane."""

    window: ChannelWindow
    end: int


class Lane(deque["_Span | Began | Sealed"]):
    """What waits, in the order in which it goes out; `texts` are the spans among it."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: deque[_Span] = deque()


class ChannelWindow(Window):
    """A window with its place and its readers.

    Args:
        channel: which one.
        lane: where it stands.
        readers: the checks that score it.
        checks: how many there are in all.

    Attributes:
        hold_back: characters that the readers declare to need before a place is settled.
    """

    def __init__(self, channel: Channel, lane: Lane, readers: list[Running], checks: int) -> None:
        super().__init__(channel, checks)
        self.lane = lane
        self.readers = readers
        self.hold_back = max((r.declares.hold_back_chars for r in readers), default=0)
        self.whole = channel.kind == "tool_arguments"
        read = {r.index for r in readers}
        self.cleared = [0 if i in read else EVERYTHING for i in range(checks)]
        self.parts: list[str] = []  # all of it, where an appeal may need it
        self.begins: Mapping[str, Any] = NO_FIELDS  # of a tool call: its name and id

    def lose(self, reader: Running) -> None:
        """A check reads it no more."""
        if reader in self.readers:
            self.readers.remove(reader)
            self.cleared[reader.index] = EVERYTHING

    def record(self, salt: bytes = b"") -> ChannelRecord:
        """Say what became of it; under a salt, also what was withheld."""
        return ChannelRecord(
            kind=self.channel.kind,
            choice=self.channel.choice,
            index=self.channel.index,
            received=self.received,
            scanned=self.fed if self.readers else 0,
            released=self.released,
            masked=self.masked,
            shown=self.shown,
            shown_sha256=self.digest,
            withheld=self.withheld,
            withheld_sha256=self.withheld_digest(salt) if salt else None,
        )


class Outlet:
    """The way out.

    Args:
        hold: what the reader waits for.
        hold_chars: at least so many characters are held back.
        in_order: whether blocks must follow each other as they came.

    Attributes:
        windows: by channel.
        shown: whether anything went out.
        head: what the response begins with; it goes out with the first thing that does.
        held: characters that wait, of all channels.
    """

    def __init__(self, hold: Hold, hold_chars: int, *, in_order: bool) -> None:
        self._hold = hold
        self._hold_chars = hold_chars
        self._in_order = in_order
        self._lanes: dict[Channel | None, Lane] = {}
        self._endings: list[Stopped | Spent] = []
        self.windows: dict[Channel, ChannelWindow] = {}
        self.head: Opened | None = None
        self.shown = False
        self.held = 0

    def open(self, channel: Channel, readers: list[Running], checks: int) -> ChannelWindow:
        """Begin with a channel."""
        lane = self._lanes.setdefault(None if self._in_order else channel, Lane())
        window = self.windows[channel] = ChannelWindow(channel, lane, readers, checks)
        return window

    def write(self, window: ChannelWindow, event: Wrote) -> None:
        """Take text; it waits."""
        window.add(event.text, event.tokens)
        self.held += len(event.text)
        last = window.lane[-1] if window.lane else None
        if isinstance(last, _Span) and last.window is window:
            last.end = window.received
        else:
            span = _Span(window, window.received)
            window.lane.append(span)
            window.lane.texts.append(span)

    def end(self, event: Stopped | Spent) -> None:
        """Take what comes out with the end of the response; the last word on tokens counts."""
        last = self._endings[-1] if self._endings else None
        if isinstance(event, Spent) and isinstance(last, Spent):
            self._endings.pop()
        self._endings.append(event)

    @property
    def spent(self) -> Mapping[str, Any]:
        """Tokens, as the upstream counted them last."""
        for ending in reversed(self._endings):
            if isinstance(ending, Spent):
                return ending.fields
        return NO_FIELDS

    def let_go(self, out: list[Event]) -> None:
        """Hold back no more."""
        self._hold, self._hold_chars = "optimistic", 0
        for lane in self._lanes.values():
            self.drain(lane, out)

    def drain(self, lane: Lane, out: list[Event], *, final: bool = False) -> None:
        """Let out what is cleared; everything, where `final`."""
        while lane:
            item = lane[0]
            if isinstance(item, _Span):
                window = item.window
                upto = item.end if final else min(item.end, self._limit(window))
                if upto > window.released:
                    waited = window.held
                    text = window.release(upto)
                    self.held -= waited - window.held
                    tokens = window.tokens_shown()
                    if text:
                        self.emit(Wrote(channel=window.channel, text=text, tokens=tokens), out)
                if window.released < item.end:
                    return
                lane.texts.popleft()
            else:
                if item.channel.kind == "tool_arguments" and not final:
                    return
                if not (self.shown or final or self._has_text_behind(lane)):
                    return
                self.emit(item, out)
            lane.popleft()

    def _has_text_behind(self, lane: Lane) -> bool:
        """Whether the first block has text to show: until then, another model may still answer."""
        first = lane.texts[0].window if lane.texts else None
        return first is not None and self._limit(first) > first.released

    def _limit(self, window: ChannelWindow) -> int:
        """Offset up to which a channel may be shown now."""
        if window.whole or self._hold == "end_of_stream":
            return 0
        if self._hold == "optimistic":
            return window.received
        upto = min(window.cleared, default=EVERYTHING)
        back = max(self._hold_chars, window.hold_back)
        if back and not window.ended:  # what a check finds may begin so far before what it has read
            upto = min(upto, window.fed - back)
        return upto

    def block(self, text: str, out: list[Event]) -> None:
        """Let out what was cleared before, then the end; the rest never is."""
        for lane in self._lanes.values():
            self.drain(lane, out)
        self.emit(Blocked(text=text), out)

    def finish(self, done: Done, out: list[Event]) -> None:
        """Let everything out."""
        for lane in self._lanes.values():
            self.drain(lane, out, final=True)
        for ending in self._endings:
            self.emit(ending, out)
        self.emit(done, out)

    def emit(self, event: Event | None, out: list[Event]) -> None:
        """Put an event out, behind the head."""
        if not self.shown:
            self.shown = True
            out.append(self.head or Opened())
        if event is not None:
            out.append(event)

    def tools_are_json(self) -> bool:
        """Whether tool calls are still JSON, where some of their arguments are masked.

        Of the same shape, too: a match that reaches from one string into another would take what
        stands between them away.
        """
        for window in self.windows.values():
            if window.whole and window.masks:
                try:
                    came = msgspec.json.decode(window.waiting)
                    goes = msgspec.json.decode(window.preview())
                except (msgspec.MsgspecError, ValueError, RecursionError):
                    return False
                if not _differ_in_strings_alone(came, goes):
                    return False
        return True


def _differ_in_strings_alone(one: object, other: object) -> bool:
    waiting: list[tuple[object, object]] = [(one, other)]
    while waiting:
        a, b = waiting.pop()
        if isinstance(a, str) and isinstance(b, str):
            continue
        if isinstance(a, dict) and isinstance(b, dict) and len(a) == len(b):
            waiting += zip(a.values(), b.values(), strict=True)
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            waiting += zip(a, b, strict=True)
        elif type(a) is not type(b) or isinstance(a, dict | list) or a != b:
            return False
    return True
