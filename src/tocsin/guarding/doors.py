"""Waiting, with deadlines, on asyncio; and the two who hear an appeal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from tocsin.guarding.plan import Appeal, Check, Verdict
from tocsin.limits import APPEAL_DEADLINE_MS_MAX
from tocsin.model import Delta, Outcome, Unknown, UnknownReason
from tocsin.verifiers.contract import Verifier

T = TypeVar("T")


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits, outside of any task.

    Raises:
        RuntimeError: it waits after all.

    Example:
        >>> async def seven():
        ...     return 7
        >>> now(seven())
        7
    """
    try:
        coroutine.send(None)
    except StopIteration as e:
        result: T = e.value
        return result
    coroutine.close()
    raise RuntimeError("there is something to wait for")


class Approver(Protocol):
    """A person, or a queue of them."""

    async def decide(self, appeal: Appeal) -> Verdict:
        """Say whether the response may go on; cancelled at the deadline."""


class AsyncDoors:
    """Wait on the running event loop.

    Args:
        stronger: who hears an escalation: the response is unsafe where this check rings on it.
        approver: who is asked for approval.
        approval_ms: for how long.
    """

    def __init__(
        self,
        stronger: Check | None = None,
        approver: Approver | None = None,
        approval_ms: int = APPEAL_DEADLINE_MS_MAX,
    ) -> None:
        self._stronger = stronger
        self._approver = approver
        self._approval_ms = approval_ms

    async def ask(
        self, calls: Sequence[tuple[Check, Awaitable[list[Outcome]]]]
    ) -> list[list[Outcome] | UnknownReason]:
        """Wait for verifiers, all at once, each for as long as its deadline."""
        if len(calls) == 1:
            return [await _answer(*calls[0])]
        return list(await asyncio.gather(*(_answer(*call) for call in calls)))

    async def appeal(self, appeal: Appeal) -> Verdict:
        """Wait for a decision. Nobody to ask is no approval."""
        escalates = appeal.kind == "escalate"
        if (self._stronger if escalates else self._approver) is None:
            return Verdict(safe=None, reason="there is nobody to ask")
        try:
            if escalates and self._stronger is not None:
                async with asyncio.timeout(self._stronger.deadline_ms / 1000):
                    return await heard(self._stronger, appeal)
            if self._approver is not None:
                async with asyncio.timeout(self._approval_ms / 1000):
                    return await self._approver.decide(appeal)
        except TimeoutError:
            return Verdict(safe=None, reason="no answer by the deadline")
        except Exception as e:  # noqa: BLE001 - whoever decides may break
            return Verdict(safe=None, reason=type(e).__name__)
        return Verdict(safe=None, reason="there is nobody to ask")


async def _answer(check: Check, answer: Awaitable[list[Outcome]]) -> list[Outcome] | UnknownReason:
    try:
        async with asyncio.timeout(check.deadline_ms / 1000):
            return await answer
    except TimeoutError:
        return "timeout"
    except Exception:  # noqa: BLE001 - whatever breaks in a verifier is a failure
        return "failed"


async def heard(stronger: Check, appeal: Appeal) -> Verdict:
    """Put all of a response before a check: it is unsafe where the check rings, at any step.

    A step without a score is no answer, and neither is the word of one who did not read what rang.
    """
    reads = stronger.verifier.declares.channels
    if unread := appeal.about - reads:
        return Verdict(safe=None, reason=f"{stronger.name} reads no {', '.join(sorted(unread))}")
    outcomes: list[Outcome] = []
    deltas = [Delta(text=text, channel=channel, ends="turn") for channel, text in appeal.text]
    verifier = stronger.verifier
    if isinstance(verifier, Verifier):
        session = verifier.open(appeal.context)
        for delta in deltas:
            outcomes += session.feed(delta)
        outcomes += session.close()
    else:
        waiting = verifier.open_async(appeal.context)
        for delta in deltas:
            outcomes += await waiting.feed(delta)
        outcomes += await waiting.close()
    upto = {outcome.channel: outcome.upto for outcome in outcomes}
    if any(c.kind in reads and upto.get(c, 0) < len(text) for c, text in appeal.text):
        return Verdict(safe=None, reason=f"{stronger.name} did not speak of all the text")
    return verdict(stronger, outcomes)


def verdict(stronger: Check, outcomes: Sequence[Outcome]) -> Verdict:
    """Say what a check's outcomes over all of a response mean."""
    by = f"{stronger.name} ({stronger.verifier.declares.version})"
    alarm = None if stronger.monitor is None else stronger.monitor.session(segment=stronger.segment)
    lowest, safe = None, True
    for outcome in outcomes:
        if isinstance(outcome, Unknown):
            return Verdict(safe=None, by=by, reason=outcome.reason)
        lowest = outcome.value if lowest is None else min(lowest, outcome.value)
        if alarm is not None:
            safe = not alarm.step(outcome.value).alarm and safe
        elif stronger.alarm_below is not None:
            safe = outcome.value >= stronger.alarm_below and safe
        else:
            rings = any(
                stronger.finding_does(f) not in {"allow", "shadow"} for f in outcome.findings
            )
            safe = safe and not rings
    if lowest is None:
        return Verdict(safe=None, by=by, reason="no_input")
    if alarm is not None:
        safe = not alarm.close().alarm and safe
    return Verdict(safe=safe, by=by, score=lowest)
