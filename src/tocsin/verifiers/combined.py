"""Several verifiers as one: a logistic of their scores, fitted on labels.

All members read the same text, cut into the same steps; the score of a step is the fitted
probability that the trajectory is safe. Where one member has no score, the combined one has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tocsin.errors import InputError
from tocsin.model import Context, Delta, Outcome, Score
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.contract import (
    AnyVerifier,
    AsyncSession,
    Declaration,
    Session,
    Verifier,
)
from tocsin.verifiers.fusion import (
    Aligned,
    FusionFile,
    Logistic,
    close_all,
    fused,
    heard,
    joint,
    load,
    open_waited,
    reopen,
    same_place,
    transformed,
    unknown_like,
)

SCHEMA = "tocsin.combined/1"


class CombinedFile(FusionFile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fitted combination; see `FusionFile` for the other fields.

    Args:
        model: weighs the members' transformed scores, in their order.
    """

    model: Logistic

    def __post_init__(self) -> None:
        """Refuse a model of another number of scores."""
        if len(self.model.weights) != len(self.members):
            raise ValueError(f"{len(self.model.weights)} weights for {len(self.members)} members")


def from_spec(argument: str, steps: StepDefinition | None) -> AnyVerifier:
    """Make the verifier from its written form.

    Args:
        argument: a file that `tocsin combine` wrote.
        steps: what one step is; only what the file was fitted for.

    Raises:
        InputError: no such file, a damaged one, or a member that is not what it was.
        MissingExtra: a member needs an optional library.
    """
    if not argument:
        raise InputError("combined needs a file that `tocsin combine` wrote: combined:FILE")
    file = load(argument, CombinedFile, SCHEMA)
    return combined(file, reopen(file, argument, steps))


def combined(file: CombinedFile, members: Sequence[AnyVerifier]) -> AnyVerifier:
    """Make the verifier of a file and its open members, in their order.

    Returns:
        One that has to be waited for where any member has to be.
    """
    at_once = [one for one in members if isinstance(one, Verifier)]
    if len(at_once) == len(members):
        return Combined(file, at_once)
    return AsyncCombined(file, members)


class Combined:
    """A combination of verifiers that answer at once."""

    def __init__(self, file: CombinedFile, members: Sequence[Verifier]) -> None:
        self._file, self._members = file, members
        self._declares = _declared(file, members)

    @property
    def declares(self) -> Declaration:
        """What it says of itself."""
        return self._declares

    def open(self, context: Context) -> Session:
        """Begin with a new response."""
        return _Session(
            _Fusion(self._file, self._declares), [one.open(context) for one in self._members]
        )


class AsyncCombined:
    """A combination of verifiers of which some have to be waited for; all are asked at once."""

    def __init__(self, file: CombinedFile, members: Sequence[AnyVerifier]) -> None:
        self._file, self._members = file, members
        self._declares = _declared(file, members)

    @property
    def declares(self) -> Declaration:
        """What it says of itself."""
        return self._declares

    def open_async(self, context: Context) -> AsyncSession:
        """Begin with a new response."""
        return _AsyncSession(
            _Fusion(self._file, self._declares),
            [open_waited(one, context) for one in self._members],
        )

    async def aclose(self) -> None:
        """Let go of the members' connections."""
        await close_all(self._members)


def _declared(file: CombinedFile, members: Sequence[AnyVerifier]) -> Declaration:
    return joint(
        [one.declares for one in members],
        name="combined",
        version=file.version(),
        steps=file.steps,
    )


class _Fusion:
    """The outcomes of one response's steps from those of the members."""

    def __init__(self, file: CombinedFile, declares: Declaration) -> None:
        self._file, self._declares = file, declares
        self._aligned = Aligned(len(file.members))

    def take(self, answers: Sequence[Sequence[Outcome]]) -> list[Outcome]:
        return [self._outcome(row) for row in self._aligned.take(answers)]

    def end(self, answers: Sequence[Sequence[Outcome]]) -> list[Outcome]:
        out = self.take(answers)
        return out + [unknown_like(row[0], self._declares.name) for row in self._aligned.rest()]

    def _outcome(self, row: Sequence[Outcome]) -> Outcome:
        if not same_place(row):
            return unknown_like(row[0], self._declares.name)
        scores = []
        for member, answer in zip(self._file.members, row, strict=True):
            said = heard(member, answer)
            if not isinstance(said, Score):
                return said
            scores.append(said)
        x = [transformed(m.kind, s.value) for m, s in zip(self._file.members, scores, strict=True)]
        return fused(self._declares, self._file.model.probability(x), scores)


class _Session:
    def __init__(self, fusion: _Fusion, sessions: Sequence[Session]) -> None:
        self._fusion, self._sessions = fusion, sessions

    def feed(self, delta: Delta) -> list[Outcome]:
        return self._fusion.take([one.feed(delta) for one in self._sessions])

    def close(self) -> list[Outcome]:
        return self._fusion.end([one.close() for one in self._sessions])


class _AsyncSession:
    def __init__(self, fusion: _Fusion, sessions: Sequence[AsyncSession]) -> None:
        self._fusion, self._sessions = fusion, sessions

    async def feed(self, delta: Delta) -> list[Outcome]:
        return self._fusion.take(await asyncio.gather(*(one.feed(delta) for one in self._sessions)))

    async def close(self) -> list[Outcome]:
        return self._fusion.end(await asyncio.gather(*(one.close() for one in self._sessions)))
