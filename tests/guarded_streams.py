"""Responses under guard, driven by hand: for tests of whatever stands on the engine."""

from __future__ import annotations

import itertools
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from tocsin.guarding.doors import heard
from tocsin.guarding.plan import Appeal, Check, Guard, Verdict
from tocsin.guarding.response import Guarded
from tocsin.model import Channel, Context, Delta, Finding, Outcome, Score, Signal
from tocsin.monitor import Monitor
from tocsin.stream.events import Blocked, Done, Event, Stopped, Wrote
from tocsin.stream.steps import StepDefinition
from tocsin.testing.worlds import example_calibration
from tocsin.verifiers.contract import Declaration
from tocsin.verifiers.patterns import Patterns
from tocsin.verifiers.patterns.rulebook import Rule

T = TypeVar("T")

FORBIDDEN = "SEVEN-7-GATES"

MONITOR = Monitor(
    msgspec.structs.replace(example_calibration(epsilon=0.1, delta=0.1), signal=Signal())
)
"""A calibration that names no verifier, and so is taken with any."""


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits."""
    try:
        coroutine.send(None)
    except StopIteration as e:
        result: T = e.value
        return result
    raise AssertionError("it waited")


def literal_rules(literal: str = FORBIDDEN, steps: str = "chars:32") -> Patterns:
    """Forbid a literal, and nothing else."""
    escaped = "".join(c if c.isalnum() else f"[{c}]" for c in literal)
    rule = Rule(id="forbidden", pattern=escaped)
    return Patterns([rule], steps=StepDefinition.parse(steps), forms=())


class Doors:
    """Nobody is waited for; appeals go to `stronger`, or get `verdict`."""

    def __init__(self, stronger: Check | None = None, verdict: Verdict | None = None) -> None:
        self.stronger = stronger
        self.verdict = verdict
        self.appeals: list[Appeal] = []

    async def ask(self, calls: Sequence[Any]) -> list[Any]:
        return [await answer for _, answer in calls]

    async def appeal(self, appeal: Appeal) -> Verdict:
        self.appeals.append(appeal)
        if self.verdict is not None:
            return self.verdict
        if self.stronger is None:
            return Verdict(safe=None, reason="there is nobody to ask")
        return await heard(self.stronger, appeal)


class Scripted:
    """A verifier that scores a step 1 unless it holds a word with a score of its own."""

    def __init__(self, words: dict[str, float], steps: str = "line", **more: Any) -> None:
        self.words = words
        self.declares = Declaration(
            name="scripted", version="1", steps=StepDefinition.parse(steps), **more
        )

    def open(self, context: Context) -> Any:
        from tocsin.verifiers.stepwise import Judgement, StepwiseSession

        words = self.words

        class Session(StepwiseSession):
            def judge(self, channel: Channel, step: Any) -> Judgement:
                scores = [score for word, score in words.items() if word in step.text]
                return Judgement(min(scores, default=1.0))

        return Session(self.declares)


def texts(events: Iterable[Event]) -> dict[Channel, str]:
    """Join what was shown, by channel."""
    shown: dict[Channel, str] = {}
    for event in events:
        if isinstance(event, Wrote):
            shown[event.channel] = shown.get(event.channel, "") + event.text
    return shown


def blocked(events: Sequence[Event]) -> Blocked | None:
    """Return how it was ended, where it was."""
    ends = [e for e in events if isinstance(e, Blocked | Done)]
    assert len(ends) <= 1
    return ends[0] if ends and isinstance(ends[0], Blocked) else None


def run(
    guard: Guard,
    pieces: Sequence[tuple[Channel, str]],
    *,
    doors: Doors | None = None,
    in_order: bool = False,
    choices: int = 1,
) -> tuple[Guarded, list[Event]]:
    """Feed pieces of text, then the end."""
    guarded = Guarded(guard, Context(), doors or Doors(), in_order=in_order)
    out: list[Event] = []
    for channel, text in pieces:
        out += now(guarded.take([Wrote(channel=channel, text=text)]))
    ends: list[Event] = [Stopped(choice=i) for i in range(choices)]
    out += now(guarded.take([*ends, Done()]))
    return guarded, out


def cut(text: str, places: Iterable[int]) -> list[str]:
    """Cut a text at offsets."""
    at = [0, *sorted(p for p in set(places) if 0 < p < len(text)), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(at)]


__all__ = [
    "FORBIDDEN", "MONITOR", "Delta", "Doors", "Finding", "Outcome", "Score", "Scripted",
    "blocked", "cut", "literal_rules", "now", "run", "texts",
]  # fmt: skip
