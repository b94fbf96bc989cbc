"""Verifiers whose scores are a hash of the text, and scored trajectories, for combinations."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from tocsin.model import Channel, Context, Delta, Outcome, SignalKind, Unknown
from tocsin.stream.steps import Step, StepDefinition
from tocsin.verifiers.contract import Declaration, Wanted
from tocsin.verifiers.fusion import Member
from tocsin.verifiers.fusion_fit import Scored
from tocsin.verifiers.stepwise import Judgement, NoJudgement, StepwiseSession

SENTENCE = StepDefinition("sentence")


def hashed(salt: str, text: str) -> float:
    raw = hashlib.sha256((salt + text).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(raw[:4], "big") / 2**32


def declared(name: str, **other: Any) -> Declaration:
    given: dict[str, Any] = {"name": name, "version": "1", "steps": SENTENCE}
    return Declaration(**given | other)


class FakeSession(StepwiseSession):
    def __init__(self, owner: "Fake", wanted: Wanted) -> None:
        super().__init__(owner.declares)
        self.owner, self.wanted = owner, wanted

    def judge(self, channel: Channel, step: Step) -> Judgement | NoJudgement:
        if not self.wanted(self._number):
            return NoJudgement("failed", "left out")
        self.owner.judged.append(self._number)
        value = self.owner.score(step.text)
        if value is None:
            return NoJudgement("timeout", "no answer")
        return Judgement(value, dict.fromkeys(self.owner.declares.categories, value))

    def feed(self, delta: Delta) -> list[Outcome]:
        return [o for o in super().feed(delta) if not left_out(o)]

    def close(self) -> list[Outcome]:
        return [o for o in super().close() if not left_out(o)]


def left_out(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown) and outcome.detail == "left out"


class Fake:
    """A verifier that answers at once, and cannot leave steps out."""

    def __init__(
        self, name: str, score: Callable[[str], float | None] | None = None, **declares: Any
    ) -> None:
        self.declares = declared(name, **declares)
        self.score = score or (lambda text: hashed(name, text))
        self.judged: list[int] = []

    def open(self, context: Context) -> FakeSession:
        return FakeSession(self, lambda step: True)


class Sparing(Fake):
    """One that can."""

    def open_selected(self, context: Context, wanted: Wanted) -> FakeSession:
        return FakeSession(self, wanted)


class LateSession:
    def __init__(self, session: FakeSession) -> None:
        self.session = session

    async def feed(self, delta: Delta) -> list[Outcome]:
        await asyncio.sleep(0)
        return self.session.feed(delta)

    async def close(self) -> list[Outcome]:
        await asyncio.sleep(0)
        return self.session.close()


class Late:
    """The same verifier, to be waited for."""

    def __init__(self, fake: Fake) -> None:
        self.fake, self.closed = fake, False

    @property
    def declares(self) -> Declaration:
        return self.fake.declares

    def open_async(self, context: Context) -> LateSession:
        return LateSession(self.fake.open(context))

    async def aclose(self) -> None:
        self.closed = True


class LateSparing(Late):
    def open_async_selected(self, context: Context, wanted: Wanted) -> LateSession:
        return LateSession(FakeSession(self.fake, wanted))


class Holding(Fake):
    """A cheap verifier that speaks of a step only when the one after the next is complete."""

    def open(self, context: Context) -> Any:
        return HoldingSession(super().open(context))


class HoldingSession:
    def __init__(self, inner: Any) -> None:
        self.inner, self.held = inner, deque[Outcome]()

    def feed(self, delta: Delta) -> list[Outcome]:
        self.held.extend(self.inner.feed(delta))
        return [self.held.popleft() for _ in range(len(self.held) - 2)]

    def close(self) -> list[Outcome]:
        return [*self.held, *self.inner.close()]


def members(*fakes: Fake | Late) -> tuple[Member, ...]:
    return tuple(
        Member(
            spec=f"fake:{f.declares.name}",
            name=f.declares.name,
            version=f.declares.version,
            kind=f.declares.kind,
        )
        for f in fakes
    )


def world(
    n: int = 300, seed: int = 0, noise: tuple[float, ...] = (1.5, 0.7), groups: int | None = None
) -> Scored:
    """Trajectories whose unsafe ones have low steps, seen by members through noise."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 12, n)
    safe = rng.random(n) < 0.6
    owner = np.repeat(np.arange(n), lengths)
    hidden = np.where(safe[owner] | (rng.random(len(owner)) < 0.5), 1.0, -1.0)
    kind: SignalKind = "probability"
    noisy = [hidden + sd * rng.standard_normal(len(owner)) for sd in noise]
    return Scored(
        kinds=(kind,) * len(noise),
        scores=np.stack([1.0 / (1.0 + np.exp(-column)) for column in noisy], axis=1),
        starts=np.append(0, np.cumsum(lengths)[:-1]).astype(np.int64),
        safe=safe,
        groups=np.arange(n) if groups is None else rng.integers(0, groups, n),
        digests=("sha256:0",) * len(noise),
    )


def text_of(steps: int) -> str:
    return "".join(f"Sentence number {i} is here. " for i in range(steps))
