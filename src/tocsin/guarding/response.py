"""One response under guard: what the generator wrote goes in, what may be shown comes out.

Sans I/O: no clock, no network; what has to be waited for goes through `Doors`. The same code serves
a gateway, an in-process guard and a test that feeds one character at a time.

Three rules make what is released a function of the text, never of how it was cut. Text goes to the
checks in cells of a grid that is fixed to the text, one cell at a time. All checks see a cell
before anything follows from it. And a character is let out once every check has cleared it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tocsin.guarding.outlet import ChannelWindow, Outlet
from tocsin.guarding.plan import Doors, Guard
from tocsin.guarding.receipt import Account, AlarmRecord, FailureRecord, Receipt, Who
from tocsin.guarding.running import Running, Trajectory
from tocsin.guarding.watch import Watch
from tocsin.limits import CHANNELS_MAX, HELD_CHARS_MAX, LANE_MAX
from tocsin.model import Channel, Context, Ends, GuardStatus, Phase
from tocsin.policy.failures import FROM_BROKEN, Failure
from tocsin.stream.events import (
    NO_FIELDS,
    Began,
    Broken,
    Done,
    Event,
    Opened,
    Sealed,
    Spent,
    Stopped,
    Wrote,
)


class Guarded:
    """One response. Not shared between tasks.

    Args:
        guard: the policy.
        context: what the generator was given.
        doors: the way to wait for verifiers and decisions.
        in_order: whether blocks must follow each other as they came.
        is_fallback: this is the other model's answer; there is no third.
        roles: of each channel's message, where a request is read.
        trajectory: the conversation that goes on here.

    Attributes:
        waits: whether `take` may ever have something to wait for.
    """

    def __init__(
        self,
        guard: Guard,
        context: Context,
        doors: Doors,
        *,
        in_order: bool = False,
        is_fallback: bool = False,
        roles: Mapping[Channel, str] | None = None,
        trajectory: Trajectory | None = None,
    ) -> None:
        self._guard = guard
        self._trajectory = trajectory
        self._outlet = Outlet(guard.hold, guard.hold_chars, in_order=in_order)
        self._windows = self._outlet.windows
        self._watch = Watch(
            guard, context, doors, self._outlet,
            is_fallback=is_fallback, roles=roles or {}, trajectory=trajectory,
        )  # fmt: skip
        self._begun = self._left = False
        self._keeps_text = guard.appeals
        self._optimistic = guard.hold == "optimistic"
        self.waits = guard.waits

    # ------------------------------------------------------------------------------------ events

    @property
    def phase(self) -> Phase:
        """Where the response is."""
        return self._watch.phase

    @property
    def over(self) -> bool:
        """Whether nothing more will come out; the upstream can be let go."""
        return self._watch.over

    @property
    def refused(self) -> Failure | None:
        """The failure for which the request is answered with an error instead."""
        return self._watch.refused

    @property
    def falls_back(self) -> bool:
        """Whether another model is to answer; nothing was let out."""
        return self._watch.falls_back

    async def begin(self, observed: Sequence[str] = ()) -> list[Event]:
        """Open the checks, before anything else; a conversation that has rung may end right here.

        Args:
            observed: what the generator saw on the way (tools' results, say), for checks that read
                along but do not score it.
        """
        out: list[Event] = []
        self._begun = True
        await self._watch.open(out)
        for index, text in enumerate(observed):
            await self._watch.observe(text, Channel("observation", index=index), out)
        return out

    async def take(self, events: Sequence[Event]) -> list[Event]:
        """Take what the generator said; give what may be shown. After `over` it gives nothing."""
        out: list[Event] = []
        if not self._begun:
            out += await self.begin()
        for event in events:
            if self._watch.over:
                break
            if type(event) is Wrote:
                window = self._wrote(event, out)
                if window is not None:
                    await self._due(window, out)
            elif isinstance(event, Done):
                await self._finish(event, out)
            else:
                await self._structure(event, out)
        return out

    def holds(self, event: Event) -> bool:
        """Take text of which nothing is due for the checks yet: most of it, and at once.

        Returns:
            False where nothing was taken, and `take` has to.
        """
        if type(event) is not Wrote or self._watch.over or self._keeps_text or self._optimistic:
            return False
        window = self._windows.get(event.channel)
        size = len(event.text)
        if window is None or not window.readers or not 0 < size < window.due - window.received:
            return False
        self._outlet.write(window, event)
        return True

    async def fail(self, failure: Failure, detail: str = "") -> list[Event]:
        """Say that a part outside failed; give what follows from it."""
        out: list[Event] = []
        self._watch.fail(failure, out, detail=detail)
        return out

    def show_head(self) -> list[Event]:
        """Begin to answer, though nothing is cleared: for a keep-alive."""
        out: list[Event] = []
        if not self._outlet.shown and not self._watch.over:
            self._outlet.emit(None, out)
        return out

    def leave(self) -> None:
        """Say that nothing more comes, however it ended: where a conversation goes on from.

        Its checks count on from what they were given, whether or not it was shown.
        """
        if self._trajectory is None or self._left:
            return
        self._left = True
        bases = self._trajectory.bases
        for window in self._windows.values():
            bases[window.channel] = bases.get(window.channel, 0) + window.fed

    async def _structure(self, event: Event, out: list[Event]) -> None:
        if isinstance(event, Opened):
            self._outlet.head = event
        elif isinstance(event, Began | Sealed):
            await self._block_of(event, out)
        elif isinstance(event, Stopped):
            for window in list(self._windows.values()):
                if window.channel.choice == event.choice:
                    await self._end(window, "turn", out)
            self._outlet.end(event)
        elif isinstance(event, Spent):
            self._outlet.end(event)
        elif isinstance(event, Broken):
            self._watch.fail(FROM_BROKEN[event.reason], out, detail=event.detail)

    async def _block_of(self, event: Began | Sealed, out: list[Event]) -> None:
        """Take a mark around text; the end of a tool call or of reasoning ends its text."""
        window = self._window(event.channel, out)
        if window is None:
            return
        if window.whole and isinstance(event, Began):
            window.begins = event.fields
        if isinstance(event, Sealed) and event.channel.kind in {"tool_arguments", "reasoning"}:
            await self._end(window, "tool_call" if window.whole else "turn", out)
        window.lane.append(event)
        if not self._watch.over:
            self._outlet.drain(window.lane, out)
        if len(window.lane) > LANE_MAX and not self._watch.over:
            self._watch.fail("upstream_too_long", out, detail=f"more than {LANE_MAX} blocks wait")

    # -------------------------------------------------------------------------------------- text

    def _wrote(self, event: Wrote, out: list[Event]) -> ChannelWindow | None:
        """Take text; the window where some of it is due for the checks."""
        if not event.text:
            return None
        window = self._windows.get(event.channel) or self._window(event.channel, out)
        if window is None:
            return None
        self._outlet.write(window, event)
        if self._keeps_text:
            window.parts.append(event.text)
        if self._optimistic or not window.readers:
            self._outlet.drain(window.lane, out)
        if window.received < window.due:
            return None  # most tokens end here: what they are part of is not whole yet
        return window

    def _window(self, channel: Channel, out: list[Event]) -> ChannelWindow | None:
        window = self._windows.get(channel)
        if window is not None:
            return window
        if len(self._windows) >= CHANNELS_MAX:
            self._watch.fail("upstream_garbage", out, detail=f"more than {CHANNELS_MAX} channels")
            return None
        return self._outlet.open(channel, self._watch.readers(channel), len(self._guard.checks))

    async def _due(self, window: ChannelWindow, out: list[Event]) -> None:
        """Show the checks the cells that are whole, and let out what they clear."""
        for text, tokens in window.cells():
            await self._watch.check(window, text, tokens, None, out)
            if self._watch.over:
                return
            self._outlet.drain(window.lane, out)
        if self._outlet.held > HELD_CHARS_MAX:
            self._overflow(out)

    def _overflow(self, out: list[Event]) -> None:
        """Hold back no more; where the table lets that pass, let go of what is held."""
        self._watch.fail("hold_overflow", out)
        if self._watch.over:
            return
        self._optimistic = True
        self._outlet.let_go(out)
        if self._outlet.held > HELD_CHARS_MAX:  # tool calls, and what stands behind them
            self._watch.fail("upstream_too_long", out)

    # ------------------------------------------------------------------------------------- ends

    async def _end(self, window: ChannelWindow, ends: Ends, out: list[Event]) -> None:
        """Nothing more comes on a channel: its checks are told, and speak for its last step."""
        if window.ended or self._watch.over:
            return
        window.ended = True
        cells = [*window.cells(final=True)] or [("", ())]
        for at, (text, tokens) in enumerate(cells, 1):
            await self._watch.check(window, text, tokens, ends if at == len(cells) else None, out)
            if self._watch.is_over():
                return
            self._outlet.drain(window.lane, out)

    async def _finish(self, done: Done, out: list[Event]) -> None:
        """Hear what the checks have to say at the end, then let everything out."""
        for window in list(self._windows.values()):
            await self._end(window, "turn", out)
        if self._trajectory is not None:
            await self._watch.end_turn(out)
            self.leave()
        else:
            await self._watch.close(out)
        if not self._watch.is_over():
            self._watch.hear_silence(out)
        if self._watch.is_over():
            return
        if not self._outlet.tools_are_json():
            self._watch.give_up(out)
            return
        self._outlet.finish(done, out)
        self._watch.over = True

    # ----------------------------------------------------------------------------------- account

    @property
    def status(self) -> GuardStatus:
        """How well what was shown was checked."""
        shown = [w for w in self._windows.values() if w.shown]
        if any(not w.readers for w in shown) or (shown and self._optimistic):
            return "bypassed"
        return "degraded" if self._watch.ledger.degraded else "ok"

    def account(self) -> Account:
        """Say what became of the response so far."""
        windows = self._windows.values()
        return Account(
            status=self.status,
            mode=self._guard.mode,
            hold=self._guard.hold,
            scanned=sum(w.fed for w in windows if w.readers),
            held=sum(w.held for w in windows),
            released=sum(w.released for w in windows),
            alarms=self._watch.ledger.alarm_count,
            done=self._watch.ledger.done,
            failure=self._watch.ledger.stopped_by,
        )

    def receipt(self, who: Who, salt: bytes = b"") -> Receipt:
        """Say all of it; under a salt, also what was withheld, see `ChannelRecord`."""
        ledger = self._watch.ledger
        return Receipt(
            who=who,
            policy=self._guard.name,
            policy_digest=self._guard.digest,
            account=self.account(),
            checks=tuple(running.record() for running in self._watch.running),
            alarms=tuple(ledger.alarms),
            alarms_more=ledger.alarm_count - len(ledger.alarms),
            failures=tuple(ledger.failures),
            channels=tuple(window.record(salt) for window in self._windows.values()),
        )

    @property
    def alarms(self) -> tuple[AlarmRecord, ...]:
        """The alarms, up to a limit; `account` counts them all."""
        return tuple(self._watch.ledger.alarms)

    @property
    def failures(self) -> tuple[FailureRecord, ...]:
        """What failed on the way."""
        return tuple(self._watch.ledger.failures)

    @property
    def running(self) -> Sequence[Running]:
        """The checks at work, in the order of the policy."""
        return self._watch.running

    @property
    def head(self) -> Mapping[str, Any]:
        """What the upstream said of itself where the response began: its model, an id."""
        return self._outlet.head.fields if self._outlet.head is not None else NO_FIELDS

    @property
    def spent(self) -> Mapping[str, Any]:
        """Tokens, as the upstream counted them last; nothing where it has not."""
        return self._outlet.spent

    @property
    def tools(self) -> tuple[ChannelWindow, ...]:
        """The tool calls that the generator wrote, let out or not."""
        return tuple(window for window in self._windows.values() if window.whole)
