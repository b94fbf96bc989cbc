"""One response under guard: what the generator wrote goes in, what may be shown comes out.

Sans I/O: no clock, no network; what has to be waited for goes through `Doors`. The same code serves
a gateway, an in-process guard and a test that feeds one character at a time.

Three rules make what is released a function of the text, never of how it was cut. Text goes to the
checks in cells of a grid that is fixed to the text, one cell at a time. All checks see a cell
before anything follows from it. And a character is let out once every check has cleared it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from tocsin.errors import TocsinError
from tocsin.guarding.appeals import Appeals
from tocsin.guarding.findings import Findings
from tocsin.guarding.ledger import STRENGTH, Ledger
from tocsin.guarding.outlet import ChannelWindow, Outlet
from tocsin.guarding.plan import Check, Doors, Guard
from tocsin.guarding.receipt import Account, AlarmRecord, FailureRecord, Receipt, Who
from tocsin.guarding.running import Running, Trajectory
from tocsin.limits import CHANNELS_MAX, HELD_CHARS_MAX, LANE_MAX
from tocsin.model import (
    Channel,
    Context,
    Delta,
    Ends,
    Finding,
    GuardStatus,
    Intervention,
    Outcome,
    Phase,
    Score,
    Token,
    Unknown,
    UnknownReason,
)
from tocsin.monitor.states import ALARM_STATES
from tocsin.policy.failures import FROM_BROKEN, FROM_UNKNOWN, Failure, respond
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

Batch = list[tuple[Running, list[Outcome]]]
"""What checks said about one cell, in the order of the checks."""


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
        over: nothing more will come out; the upstream can be let go.
        refused: the failure for which the request is answered with an error instead.
        falls_back: another model is to answer; nothing was let out.
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
        self._context = context
        self._doors = doors
        self._is_fallback = is_fallback
        self._roles = roles or {}
        self._trajectory = trajectory
        self._bases = {} if trajectory is None else trajectory.bases
        self._running: list[Running] = []
        self._outlet = Outlet(guard.hold, guard.hold_chars, in_order=in_order)
        self._windows = self._outlet.windows
        self._ledger = Ledger(self._bases)
        self._findings = Findings(guard, self._windows, self._bases, self._ledger)
        self._appeals = Appeals(guard, context, doors, self._windows)
        self._stop: Intervention | None = None
        self._begun = self._left = False
        self._keeps_text = guard.appeals
        self._optimistic = guard.hold == "optimistic"
        self.waits = guard.waits
        self.over = False
        self.refused: Failure | None = None
        self.falls_back = False

    # ------------------------------------------------------------------------------------ events

    @property
    def phase(self) -> Phase:
        """Where the response is."""
        if self.over and self._outlet.shown:
            return "after_end"
        return "mid_stream" if self._outlet.shown else "before_first_byte"

    async def begin(self, observed: Sequence[str] = ()) -> list[Event]:
        """Open the checks, before anything else; a conversation that has rung may end right here.

        Args:
            observed: what the generator saw on the way (tools' results, say), for checks that read
                along but do not score it.
        """
        out: list[Event] = []
        self._begun = True
        if self._trajectory is None:
            self._open_checks(out)
        else:
            self._running = self._trajectory.running
        for running in self._running:
            running.upto.clear()
            if running.alarm is not None and running.alarm.state in ALARM_STATES:
                await self._ring(
                    running, None, running.check.on_alarm, out, why="the conversation had rung"
                )
        if self._stop is not None and not self.over:
            self._block(out)
        for index, text in enumerate(observed):
            readers = [r for r in self._running if r.alive and not r.reads("observation")]
            if readers and not self.over:
                channel = Channel("observation", index=index)
                await self._feed(readers, Delta(text=text, channel=channel, ends="turn"), out)
        return out

    async def take(self, events: Sequence[Event]) -> list[Event]:
        """Take what the generator said; give what may be shown. After `over` it gives nothing."""
        out: list[Event] = []
        if not self._begun:
            out += await self.begin()
        for event in events:
            if self.over:
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
        if type(event) is not Wrote or self.over or self._keeps_text or self._optimistic:
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
        self._fail(failure, out, detail=detail)
        return out

    def show_head(self) -> list[Event]:
        """Begin to answer, though nothing is cleared: for a keep-alive."""
        out: list[Event] = []
        if not self._outlet.shown and not self.over:
            self._outlet.emit(None, out)
        return out

    def leave(self) -> None:
        """Say that nothing more comes, however it ended: where a conversation goes on from.

        Its checks count on from what they were given, whether or not it was shown.
        """
        if self._trajectory is None or self._left:
            return
        self._left = True
        for window in self._windows.values():
            channel = window.channel
            self._bases[channel] = self._bases.get(channel, 0) + window.fed

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
            self._fail(FROM_BROKEN[event.reason], out, detail=event.detail)

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
        if not self.over:
            self._outlet.drain(window.lane, out)
        if len(window.lane) > LANE_MAX and not self.over:
            self._fail("upstream_too_long", out, detail=f"more than {LANE_MAX} blocks wait")

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

    async def _due(self, window: ChannelWindow, out: list[Event]) -> None:
        """Show the checks the cells that are whole, and let out what they clear."""
        for text, tokens in window.cells():
            await self._check(window, text, tokens, None, out)
            if self.over:
                return
            self._outlet.drain(window.lane, out)
        if self._outlet.held > HELD_CHARS_MAX:
            self._overflow(out)

    def _overflow(self, out: list[Event]) -> None:
        """Hold back no more; where the table lets that pass, let go of what is held."""
        self._fail("hold_overflow", out)
        if self.over:
            return
        self._optimistic = True
        self._outlet.let_go(out)
        if self._outlet.held > HELD_CHARS_MAX:  # tool calls, and what stands behind them
            self._fail("upstream_too_long", out)

    # ------------------------------------------------------------------------------------ checks

    def _open_checks(self, out: list[Event]) -> None:
        for i, check in enumerate(self._guard.checks):
            try:
                self._running.append(Running(check, i, self._context))
            except Exception as e:  # noqa: BLE001 - whatever breaks in a verifier is a failure
                self._fail("verifier_failed", out, check=check.name, detail=type(e).__name__)
                if self.over:
                    return

    def _window(self, channel: Channel, out: list[Event]) -> ChannelWindow | None:
        window = self._windows.get(channel)
        if window is not None:
            return window
        if len(self._windows) >= CHANNELS_MAX:
            self._fail("upstream_garbage", out, detail=f"more than {CHANNELS_MAX} channels")
            return None
        role = self._roles.get(channel)
        readers = [
            r
            for r in self._running
            if r.alive
            and r.reads(channel.kind)
            and (not r.check.roles or role is None or role in r.check.roles)
        ]
        return self._outlet.open(channel, readers, len(self._guard.checks))

    async def _check(
        self,
        window: ChannelWindow,
        text: str,
        tokens: tuple[Token, ...],
        ends: Ends | None,
        out: list[Event],
    ) -> None:
        """Show a cell to the checks, then draw the consequences."""
        if not window.readers:
            return
        delta = Delta(text=text, channel=window.channel, tokens=tokens, ends=ends)
        batch = await self._feed(window.readers, delta, out)
        if batch and not self.over:
            await self._judge(batch, out)

    async def _feed(self, readers: list[Running], delta: Delta, out: list[Event]) -> Batch:
        got: list[tuple[Running, Any]] = []
        for running in list(readers):
            try:
                got.append((running, running.session.feed(delta)))
            except Exception as e:  # noqa: BLE001 - whatever breaks in a verifier is a failure
                self._lose(running, "verifier_failed", type(e).__name__, out)
        return await self._answers(got, out)

    async def _answers(self, got: list[tuple[Running, Any]], out: list[Event]) -> Batch:
        """Wait for those that have to be waited for."""
        waiting: list[tuple[Check, Awaitable[list[Outcome]]]] = [
            (running.check, answer) for running, answer in got if running.waits
        ]
        if not waiting:
            return [(running, answer) for running, answer in got if answer]
        answers = iter(await self._doors.ask(waiting))
        batch: Batch = []
        for running, answer in got:
            said: list[Outcome] | UnknownReason = next(answers) if running.waits else answer
            if isinstance(said, str):
                reason: UnknownReason = said
                self._lose(running, FROM_UNKNOWN[reason], "", out)
            elif said:
                batch.append((running, said))
        return batch

    async def _judge(self, batch: Batch, out: list[Event]) -> None:
        """Draw the consequences of one cell, after all checks have seen it."""
        for running, outcomes in batch:
            for outcome in outcomes:
                if not await self._hear(running, outcome, out):
                    break
            if self.over:
                return
        if self._stop is not None:
            self._block(out)

    async def _hear(self, running: Running, outcome: Outcome, out: list[Event]) -> bool:
        """Clear what an outcome clears; False where nothing more of this check counts."""
        running.steps += 1
        channel = outcome.channel
        window = self._windows.get(channel)
        upto = outcome.upto - self._bases.get(channel, 0)
        if window is not None:  # nobody clears what nobody has given him
            upto = min(upto, window.fed)
        if isinstance(outcome, Score) and not running.admits(outcome.value):
            outcome = Unknown(
                reason="out_of_range", step=outcome.step, upto=outcome.upto, channel=channel
            )
        if isinstance(outcome, Unknown):
            running.unknown += 1
            failure = FROM_UNKNOWN[outcome.reason]
            self._fail(failure, out, check=running.check.name, detail=outcome.detail)
            if self.over:
                return False
            running.skip()
        elif not await self._score(running, outcome, upto, out):
            return False
        running.upto[channel] = upto
        if window is not None:
            self._clear(running, window, upto)
        return True

    @staticmethod
    def _clear(running: Running, window: ChannelWindow, upto: int) -> None:
        last = window.ended and upto >= window.received
        if last and running.closing:
            return  # the check at the end of the response has the last word on the last step
        if upto > window.cleared[running.index]:
            window.cleared[running.index] = upto

    async def _score(self, running: Running, score: Score, upto: int, out: list[Event]) -> bool:
        """Take a score; False where the response may not go on past it."""
        running.lowest = min(running.lowest, score.value)
        check = running.check
        statistic, rang = None, True
        if running.alarm is not None:
            try:
                decision = running.alarm.step(score.value)
            except TocsinError as e:
                self._fail("monitor_failed", out, check=check.name, detail=type(e).__name__)
                return not self.over
            if not decision.alarm:
                return True
            statistic, rang = decision.statistic, decision.rang
        elif check.alarm_below is None:
            worst = self._findings.heed(running, score)
            return worst is None or await self._ring(
                running, score, worst[0], out, finding=worst[1]
            )
        elif score.value >= check.alarm_below:
            return True
        if self._guard.does(check.on_alarm) == "mask":
            self._findings.mask(score.channel, running.upto.get(score.channel, 0), upto)
        if not rang:
            return True
        return await self._ring(running, score, check.on_alarm, out, statistic=statistic)

    # ------------------------------------------------------------------------------------ alarms

    async def _ring(
        self,
        running: Running,
        score: Score | None,
        wanted: Intervention,
        out: list[Event],
        *,
        finding: Finding | None = None,
        statistic: float | None = None,
        closing: bool = False,
        why: str = "",
    ) -> bool:
        """Follow an alarm; False where the response ends with it."""
        does, appeal = self._guard.does(wanted), ""
        if does != wanted:
            why = "the policy observes"
        if does in {"escalate", "require_approval"}:
            does, why, appeal = await self._appeal(running, does, score, out)
        if does == "fallback" and (self._outlet.shown or self._is_fallback):
            why = "this was the fallback" if self._is_fallback else "some of it had been shown"
            does = self._guard.otherwise
        self._ledger.alarm(
            running.check.name, score, wanted, does, finding,
            statistic=statistic, closing=closing, why=why, appeal=appeal,
        )  # fmt: skip
        if self.over:
            return False
        if does == "mask" and closing:
            for window in self._windows.values():
                self._findings.mask(window.channel, window.released, window.received)
        if STRENGTH[does] < STRENGTH["fallback"]:
            return True
        if self._stop is None or STRENGTH[does] > STRENGTH[self._stop]:
            self._stop = does
        return False

    async def _appeal(
        self, running: Running, kind: Intervention, score: Score | None, out: list[Event]
    ) -> tuple[Intervention, str, str]:
        """Pause, and ask; what follows, why, and who said so."""
        if self._stop is not None:
            return self._stop, "the response ends anyway", ""
        does, why, by = await self._appeals.hear(running, kind, score)
        if does is not None:
            return does, why, by
        self._fail("appeal_unanswered", out, check=running.check.name, detail=why)
        return ("halt" if self.over else "shadow"), "nobody answered", by

    def _fail(
        self, failure: Failure, out: list[Event], *, check: str = "", detail: str = ""
    ) -> None:
        """Do what the table says."""
        phase = self.phase
        response = respond(failure, phase, self._guard.mode, self._guard.passed)
        self._ledger.failure(failure, phase, response, check, detail)
        if response == "refuse":
            self.refused, self.over = failure, True
        elif response == "stop":
            self._stop = "halt"
            self._block(out)

    def _lose(self, running: Running, failure: Failure, detail: str, out: list[Event]) -> None:
        """Go on without a verifier whose session is of no use any more, or not at all."""
        self._fail(failure, out, check=running.check.name, detail=detail)
        running.alive = False
        running.unknown += 1
        for window in self._windows.values():
            window.lose(running)

    # ------------------------------------------------------------------------------------- ends

    def _block(self, out: list[Event]) -> None:
        if self._stop == "fallback":
            self.falls_back = True
        else:
            self._outlet.block(self._guard.replacement if self._stop == "replace" else "", out)
        self.over = True

    async def _end(self, window: ChannelWindow, ends: Ends, out: list[Event]) -> None:
        """Nothing more comes on a channel: its checks are told, and speak for its last step."""
        if window.ended or self.over:
            return
        window.ended = True
        cells = [*window.cells(final=True)] or [("", ())]
        for at, (text, tokens) in enumerate(cells, 1):
            await self._check(window, text, tokens, ends if at == len(cells) else None, out)
            if self._is_over():
                return
            self._outlet.drain(window.lane, out)

    def _is_over(self) -> bool:
        """Say whether it is over by now: a type checker takes the attribute for settled."""
        return self.over

    async def _finish(self, done: Done, out: list[Event]) -> None:
        """Hear what the checks have to say at the end, then let everything out."""
        for window in list(self._windows.values()):
            await self._end(window, "turn", out)
        if self._trajectory is not None:
            await self._end_turn(out)
            self.leave()
        else:
            await self._close_checks(out)
        if not self._is_over():
            self._hear_silence(out)
        if self._is_over():
            return
        if not self._outlet.tools_are_json():
            self._stop = self._ledger.done = self._guard.otherwise
            self._block(out)
            return
        self._outlet.finish(done, out)
        self.over = True

    async def _end_turn(self, out: list[Event]) -> None:
        """Tell checks that wait for more than the end of a tool call that the turn is over.

        A conversation's checks are not closed; what they have not spoken of would go unchecked.
        """
        for window in list(self._windows.values()):
            late = [r for r in window.readers if self._is_silent(r, window)]
            if late and not self.over:
                delta = Delta(text="", channel=window.channel, ends="turn")
                batch = await self._feed(late, delta, out)
                if batch and not self._is_over():
                    await self._judge(batch, out)

    def _hear_silence(self, out: list[Event]) -> None:
        """Take a check that has not spoken of all the text for one that broke: nothing is cleared
        by silence.
        """  # noqa: D205 - one sentence
        for window in self._windows.values():
            for running in list(window.readers):
                if self._is_silent(running, window) and not self.over:
                    self._lose(running, "verifier_failed", "it did not speak of all the text", out)

    @staticmethod
    def _is_silent(running: Running, window: ChannelWindow) -> bool:
        return running.upto.get(window.channel, 0) < window.received

    async def _close_checks(self, out: list[Event]) -> None:
        """Close verifiers and monitors; either may have a last word."""
        got: list[tuple[Running, Any]] = []
        for running in self._running:
            if running.alive and not self.over:
                try:
                    got.append((running, running.session.close()))
                except Exception as e:  # noqa: BLE001 - whatever breaks in a verifier is a failure
                    self._lose(running, "verifier_failed", type(e).__name__, out)
        batch = await self._answers(got, out)
        if not self._is_over():
            await self._judge(batch, out)
        for running in self._running:
            if self._is_over() or running.alarm is None or not self._has_text_for(running):
                continue
            try:
                decision = running.close()
            except TocsinError as e:
                name = type(e).__name__
                self._fail("monitor_failed", out, check=running.check.name, detail=name)
                continue
            if decision is not None and decision.rang:
                await self._ring(
                    running, None, running.check.on_alarm, out,
                    statistic=decision.statistic, closing=True,
                )  # fmt: skip
        if self._stop is not None and not self._is_over():
            self._block(out)

    def _has_text_for(self, running: Running) -> bool:
        """Whether there was anything for a check to score."""
        return any(running in w.readers and w.received for w in self._windows.values())

    # ----------------------------------------------------------------------------------- account

    @property
    def status(self) -> GuardStatus:
        """How well what was shown was checked."""
        shown = [w for w in self._windows.values() if w.shown]
        if any(not w.readers for w in shown) or (shown and self._optimistic):
            return "bypassed"
        return "degraded" if self._ledger.degraded else "ok"

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
            alarms=self._ledger.alarm_count,
            done=self._ledger.done,
            failure=self._ledger.stopped_by,
        )

    def receipt(self, who: Who, salt: bytes = b"") -> Receipt:
        """Say all of it; under a salt, also what was withheld, see `ChannelRecord`."""
        ledger = self._ledger
        return Receipt(
            who=who,
            policy=self._guard.name,
            policy_digest=self._guard.digest,
            account=self.account(),
            checks=tuple(running.record() for running in self._running),
            alarms=tuple(ledger.alarms),
            alarms_more=ledger.alarm_count - len(ledger.alarms),
            failures=tuple(ledger.failures),
            channels=tuple(window.record(salt) for window in self._windows.values()),
        )

    @property
    def alarms(self) -> tuple[AlarmRecord, ...]:
        """The alarms, up to a limit; `account` counts them all."""
        return tuple(self._ledger.alarms)

    @property
    def failures(self) -> tuple[FailureRecord, ...]:
        """What failed on the way."""
        return tuple(self._ledger.failures)

    @property
    def running(self) -> Sequence[Running]:
        """The checks at work, in the order of the policy."""
        return self._running

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
