"""The checks of one response at work: they are shown text, and what they say has consequences.

All checks see a cell before anything follows from it. What no check has spoken of is not cleared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from tocsin.errors import TocsinError
from tocsin.guarding.appeals import Appeals
from tocsin.guarding.findings import Findings
from tocsin.guarding.ledger import STRENGTH, Ledger
from tocsin.guarding.outlet import ChannelWindow, Outlet
from tocsin.guarding.plan import Check, Doors, Guard
from tocsin.guarding.running import Running, Trajectory
from tocsin.model import (
    Channel,
    Context,
    Delta,
    Ends,
    Finding,
    Intervention,
    Outcome,
    Phase,
    Score,
    Token,
    Unknown,
    UnknownReason,
)
from tocsin.monitor.states import ALARM_STATES
from tocsin.policy.failures import FROM_UNKNOWN, Failure, respond
from tocsin.stream.events import Event

Batch = list[tuple[Running, list[Outcome]]]
"""What checks said about one cell, in the order of the checks."""


class Watch:
    """The checks over one response, and whether it goes on.

    Args:
        guard: the policy.
        context: what the generator was given.
        doors: the way to wait for verifiers and decisions.
        outlet: the way out, where an alarm may end it.
        is_fallback: this is the other model's answer; there is no third.
        roles: of each channel's message, where a request is read.
        trajectory: the conversation that goes on here.

    Attributes:
        running: the checks, in the order of the policy.
        ledger: what happened on the way.
        over: nothing more will come out.
        refused: the failure for which the request is answered with an error instead.
        falls_back: another model is to answer; nothing was let out.
    """

    def __init__(
        self,
        guard: Guard,
        context: Context,
        doors: Doors,
        outlet: Outlet,
        *,
        is_fallback: bool,
        roles: Mapping[Channel, str],
        trajectory: Trajectory | None,
    ) -> None:
        self._guard = guard
        self._context = context
        self._doors = doors
        self._outlet = outlet
        self._windows = outlet.windows
        self._is_fallback = is_fallback
        self._roles = roles
        self._trajectory = trajectory
        self._bases = {} if trajectory is None else trajectory.bases
        self._stop: Intervention | None = None
        self.running: list[Running] = []
        self.ledger = Ledger(self._bases)
        self._findings = Findings(guard, self._windows, self._bases, self.ledger)
        self._appeals = Appeals(guard, context, doors, self._windows)
        self.over = False
        self.refused: Failure | None = None
        self.falls_back = False

    @property
    def phase(self) -> Phase:
        """Where the response is."""
        if self.over and self._outlet.shown:
            return "after_end"
        return "mid_stream" if self._outlet.shown else "before_first_byte"

    def is_over(self) -> bool:
        """Say whether it is over by now: a type checker takes the attribute for settled."""
        return self.over

    async def open(self, out: list[Event]) -> None:
        """Open the checks; a conversation that has rung may end right here."""
        if self._trajectory is None:
            self._open_checks(out)
        else:
            self.running = self._trajectory.running
        for running in self.running:
            running.upto.clear()
            if running.alarm is not None and running.alarm.state in ALARM_STATES:
                await self._ring(
                    running, None, running.check.on_alarm, out, why="the conversation had rung"
                )
        if self._stop is not None and not self.over:
            self._block(out)

    def _open_checks(self, out: list[Event]) -> None:
        for i, check in enumerate(self._guard.checks):
            try:
                self.running.append(Running(check, i, self._context))
            except Exception as e:  # noqa: BLE001 - whatever breaks in a verifier is a failure
                self.fail("verifier_failed", out, check=check.name, detail=type(e).__name__)
                if self.over:
                    return

    # ----------------------------------------------------------------------------------------- text

    def readers(self, channel: Channel) -> list[Running]:
        """Name the checks that score a channel."""
        role = self._roles.get(channel)
        return [
            r
            for r in self.running
            if r.alive
            and r.reads(channel.kind)
            and (not r.check.roles or role is None or role in r.check.roles)
        ]

    async def observe(self, text: str, channel: Channel, out: list[Event]) -> None:
        """Show a text to the checks that read such along and do not score it."""
        readers = [r for r in self.running if r.alive and not r.reads(channel.kind)]
        if readers and not self.over:
            await self._feed(readers, Delta(text=text, channel=channel, ends="turn"), out)

    async def check(
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
        waits = False
        for running in list(readers):
            try:
                got.append((running, running.session.feed(delta)))
                waits = waits or running.waits
            except Exception as e:  # noqa: BLE001 - whatever breaks in a verifier is a failure
                self._lose(running, "verifier_failed", type(e).__name__, out)
        if waits:
            return await self._answers(got, out)
        return [(running, said) for running, said in got if said]

    async def _answers(self, got: list[tuple[Running, Any]], out: list[Event]) -> Batch:
        """Wait for those that have to be waited for."""
        waiting: list[tuple[Check, Awaitable[list[Outcome]]]] = [
            (running.check, answer) for running, answer in got if running.waits
        ]
        answers = iter(await self._doors.ask(waiting) if waiting else ())
        batch: Batch = []
        for running, answer in got:
            said: list[Outcome] | UnknownReason = next(answers) if running.waits else answer
            if isinstance(said, str):
                reason: UnknownReason = said
                self._lose(running, FROM_UNKNOWN[reason], "", out)
            elif said:
                batch.append((running, said))
        return batch

    # --------------------------------------------------------------------------------------- scores

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
            self.fail(failure, out, check=running.check.name, detail=outcome.detail)
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
                self.fail("monitor_failed", out, check=check.name, detail=type(e).__name__)
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

    # --------------------------------------------------------------------------------------- alarms

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
        self.ledger.alarm(
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
        self.fail("appeal_unanswered", out, check=running.check.name, detail=why)
        return ("halt" if self.over else "shadow"), "nobody answered", by

    def _block(self, out: list[Event]) -> None:
        if self._stop == "fallback":
            self.falls_back = True
        else:
            self._outlet.block(self._guard.replacement if self._stop == "replace" else "", out)
        self.over = True

    def give_up(self, out: list[Event]) -> None:
        """End the response as the policy does where what was to follow cannot be done."""
        self._stop = self.ledger.done = self._guard.otherwise
        self._block(out)

    # ------------------------------------------------------------------------------------- failures

    def fail(
        self, failure: Failure, out: list[Event], *, check: str = "", detail: str = ""
    ) -> None:
        """Do what the table of failures says."""
        phase = self.phase
        response = respond(failure, phase, self._guard.mode, self._guard.passed)
        self.ledger.failure(failure, phase, response, check, detail)
        if response == "refuse":
            self.refused, self.over = failure, True
        elif response == "stop":
            self._stop = "halt"
            self._block(out)

    def _lose(self, running: Running, failure: Failure, detail: str, out: list[Event]) -> None:
        """Go on without a verifier whose session is of no use any more, or not at all."""
        self.fail(failure, out, check=running.check.name, detail=detail)
        running.alive = False
        running.unknown += 1
        for window in self._windows.values():
            window.lose(running)

    # ----------------------------------------------------------------------------------------- ends

    async def end_turn(self, out: list[Event]) -> None:
        """Tell checks that wait for more than the end of a tool call that the turn is over.

        A conversation's checks are not closed; what they have not spoken of would go unchecked.
        """
        for window in list(self._windows.values()):
            late = [r for r in window.readers if self._is_silent(r, window)]
            if late and not self.over:
                delta = Delta(text="", channel=window.channel, ends="turn")
                batch = await self._feed(late, delta, out)
                if batch and not self.is_over():
                    await self._judge(batch, out)

    async def close(self, out: list[Event]) -> None:
        """Close verifiers and monitors; either may have a last word."""
        got: list[tuple[Running, Any]] = []
        for running in self.running:
            if running.alive and not self.over:
                try:
                    got.append((running, running.session.close()))
                except Exception as e:  # noqa: BLE001 - whatever breaks in a verifier is a failure
                    self._lose(running, "verifier_failed", type(e).__name__, out)
        batch = await self._answers(got, out)
        if not self.is_over():
            await self._judge(batch, out)
        for running in self.running:
            if self.is_over() or running.alarm is None or not self._has_text_for(running):
                continue
            try:
                decision = running.close()
            except TocsinError as e:
                name = type(e).__name__
                self.fail("monitor_failed", out, check=running.check.name, detail=name)
                continue
            if decision is not None and decision.rang:
                await self._ring(
                    running, None, running.check.on_alarm, out,
                    statistic=decision.statistic, closing=True,
                )  # fmt: skip
        if self._stop is not None and not self.is_over():
            self._block(out)

    def hear_silence(self, out: list[Event]) -> None:
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

    def _has_text_for(self, running: Running) -> bool:
        """Whether there was anything for a check to score."""
        return any(running in w.readers and w.received for w in self._windows.values())
