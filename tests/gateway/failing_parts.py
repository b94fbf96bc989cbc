"""Parts that fail when told: verifiers that hang, break or have nothing to say."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Literal

import numpy as np

from tocsin.guarding.plan import Check
from tocsin.model import (
    Channel,
    Context,
    Delta,
    MissingPolicy,
    Outcome,
    Refusal,
    Score,
    Signal,
    UnknownReason,
)
from tocsin.monitor import Monitor
from tocsin.risk.calibrate import calibrate
from tocsin.risk.plan import Plan
from tocsin.stream.steps import StepDefinition
from tocsin.testing.worlds import trajectories
from tocsin.verifiers.contract import Declaration
from tocsin.verifiers.stepwise import Judgement, NoJudgement, StepwiseSession

BREAK = "BREAK"
"""The word in a text at which such a part fails."""


def _calibrated(missing: MissingPolicy) -> Monitor:
    """Calibrate for whatever verifier there is."""
    data = trajectories(500, 0.4, np.random.default_rng(0))
    plan = Plan(signal=Signal(), epsilons=(0.1,), missing=missing)
    made = calibrate(data, plan, library_version="test")
    assert not isinstance(made, Refusal)
    return Monitor(made)


MONITOR = _calibrated("error")
SKIPPING = _calibrated("skip")
"""To which a missing score changes nothing."""


class Unable:
    """A verifier that has no judgement of a step with the word in it, or one that is none.

    Args:
        says: why, or the value that it gives.
        high: of its declared range.
    """

    def __init__(self, says: UnknownReason | float, high: float = 1.0) -> None:
        self._says = says
        self.declares = Declaration(
            name="unable", version="1", steps=StepDefinition.parse("chars:16"), high=high
        )

    def open(self, context: Context) -> Any:
        says = self._says

        class Session(StepwiseSession):
            def judge(self, channel: Channel, step: Any) -> Judgement | NoJudgement:
                if BREAK not in step.text:
                    return Judgement(0.9)
                if isinstance(says, float):
                    return Judgement(says)
                return NoJudgement(says, "in the test")

        return Session(self.declares)


class Lawless:
    """A verifier that gives no number as a score, whatever its contract says."""

    declares = Declaration(name="lawless", version="1", steps=StepDefinition.parse("chars:16"))

    def open(self, context: Context) -> Any:
        declares = self.declares

        class Session(StepwiseSession):
            def judge(self, channel: Channel, step: Any) -> Judgement:
                return Judgement(0.0 if BREAK in step.text else 0.9)

            def feed(self, delta: Delta) -> list[Outcome]:
                return [
                    Score(value=math.nan, step=s.step, upto=s.upto, channel=s.channel)
                    if isinstance(s, Score) and s.value == 0.0
                    else s
                    for s in super().feed(delta)
                ]

        return Session(declares)


class Breaking:
    """A verifier that raises: where it opens, where it reads the word, or where it closes."""

    def __init__(self, where: Literal["open", "feed", "close"] = "feed") -> None:
        self._where = where
        self.declares = Declaration(
            name="breaking", version="1", steps=StepDefinition.parse("chars:16")
        )

    def open(self, context: Context) -> Any:
        where = self._where
        if where == "open":
            raise ZeroDivisionError("the words of somebody")

        class Session(StepwiseSession):
            def judge(self, channel: Channel, step: Any) -> Judgement:
                if where == "feed" and BREAK in step.text:
                    raise ZeroDivisionError("the words of somebody")
                return Judgement(0.9)

            def close(self) -> list[Outcome]:
                if where == "close":
                    raise ZeroDivisionError("the words of somebody")
                return super().close()

        return Session(self.declares)


class Waiting:
    """A verifier that is waited for, and that hangs or raises where it reads the word.

    Attributes:
        hanging: how many of its sessions hang.
        gate: lets all go on that hang.
    """

    def __init__(self, does: Literal["hang", "raise"] = "hang") -> None:
        self._does = does
        self.gate = asyncio.Event()
        self.hanging = 0
        self.declares = Declaration(
            name="waiting", version="1", steps=StepDefinition.parse("chars:16")
        )

    def open_async(self, context: Context) -> Any:
        outer = self
        inner = Unable(0.9).open(context)

        class Session:
            async def feed(self, delta: Delta) -> list[Outcome]:
                if BREAK in delta.text:
                    if outer._does == "raise":
                        raise ZeroDivisionError("the words of somebody")
                    outer.hanging += 1
                    try:
                        await outer.gate.wait()
                    finally:
                        outer.hanging -= 1
                said: list[Outcome] = inner.feed(delta)
                return said

            async def close(self) -> list[Outcome]:
                said: list[Outcome] = inner.close()
                return said

        return Session()

    async def aclose(self) -> None:
        return


class Line(Unable):
    """A verifier of whole lines, so that a line without an end is held back."""

    def __init__(self) -> None:
        super().__init__(0.9)
        self.declares = Declaration(name="line", version="1", steps=StepDefinition("line"))


class Nobody:
    """An approver who never answers."""

    async def decide(self, appeal: Any) -> Any:
        await asyncio.Event().wait()


def scored(name: str, verifier: Any, deadline_ms: int = 100) -> Check:
    """Give a check with a threshold that no score of these parts is below."""
    return Check(name=name, verifier=verifier, alarm_below=0.2, deadline_ms=deadline_ms)
