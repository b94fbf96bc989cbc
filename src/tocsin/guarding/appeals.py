"""The appeals of one response: it pauses, and someone else decides whether it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tocsin.guarding.outlet import ChannelWindow
from tocsin.guarding.plan import Appeal, Doors, Guard
from tocsin.guarding.running import Running
from tocsin.limits import APPEALS_MAX
from tocsin.model import Channel, Context, Intervention, Score


class Ruling(NamedTuple):
    """What follows from an appeal.

    Args:
        does: the intervention; None where nobody answered, which is a failure.
        why: in words.
        by: who said so, with the score where there is one.
    """

    does: Intervention | None
    why: str
    by: str = ""


class Appeals:
    """Who appeals, and how often.

    Args:
        guard: the policy.
        context: what the generator was given.
        doors: the way to wait for a decision.
        windows: of the response, as they are opened.
    """

    __slots__ = ("_context", "_count", "_doors", "_guard", "_windows")

    def __init__(
        self,
        guard: Guard,
        context: Context,
        doors: Doors,
        windows: Mapping[Channel, ChannelWindow],
    ) -> None:
        self._guard = guard
        self._context = context
        self._doors = doors
        self._windows = windows
        self._count = 0

    async def hear(self, running: Running, kind: Intervention, score: Score | None) -> Ruling:
        """Pause, and ask; a check that is overruled watches anew.

        Args:
            running: the check that rang.
            kind: "escalate" or "require_approval".
            score: on which it rang; None where that was no step's.
        """
        otherwise: Intervention = self._guard.otherwise
        # What the checks were given, and not what came with it: a matter of chunks.
        windows = self._windows.values()
        text = tuple((w.channel, "".join(w.parts)[: w.fed]) for w in windows if w.fed)
        if not text:
            return Ruling(otherwise, "it had rung before, and there is nothing new to hear")
        self._count += 1
        if self._count > APPEALS_MAX:
            return Ruling(otherwise, f"{APPEALS_MAX} appeals were heard already")
        read = [w.channel for w in windows if running in w.readers]
        rang = read if score is None else [score.channel]
        verdict = await self._doors.appeal(
            Appeal(
                kind="escalate" if kind == "escalate" else "require_approval",
                check=running.check.name,
                context=self._context,
                text=text,
                about=frozenset(channel.kind for channel in rang),
            )
        )
        said = verdict.by if verdict.score is None else f"{verdict.by}: {verdict.score:g}"
        if verdict.safe is None:
            return Ruling(None, verdict.reason, said)
        if verdict.safe:
            running.restart()
            return Ruling(kind, "overruled", said)
        return Ruling(otherwise, "upheld", said)
