"""A cheap verifier always, a strong one where the cheap one is unsure, as one signal.

The strong verifier is asked for a step when the cheap score lies in a band and the response has not
yet had more than its share: both depend on the cheap scores of this response alone, so the same
text always has the same score. The probability of being safe is fitted once on the cheap score and
once on both, so that a score means the same whoever gave it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tocsin.errors import InputError
from tocsin.limits import CASCADE_BURST_MAX
from tocsin.model import Context, Delta, Outcome, Score
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.contract import (
    AnyVerifier,
    AsyncSelective,
    AsyncSession,
    Declaration,
    Selective,
    Session,
    Verifier,
    Wanted,
)
from tocsin.verifiers.fusion import (
    FusionFile,
    Logistic,
    Waited,
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

SCHEMA = "tocsin.cascade/1"


class CascadeFile(FusionFile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fitted cascade; see `FusionFile` for the other fields. The cheap member comes first.

    Args:
        alone: from the transformed cheap score.
        both: from the transformed cheap and strong scores.
        low, high: the band of cheap scores, ends included; None where it has no end.
        budget: mean share of a response's steps that is escalated, at most, on traffic like the
            data.
        delta: probability, over the draw of the data, that this fails.
        burst: after t steps of a response at most ``burst + budget * t`` have been escalated.
        share: mean share of a response's steps that the band escalated in the data.
    """

    alone: Logistic
    both: Logistic
    low: float | None
    high: float | None
    budget: float
    delta: float
    burst: int
    share: float

    def __post_init__(self) -> None:
        """Refuse what is no cascade."""
        if len(self.members) != 2 or len(self.alone.weights) != 1 or len(self.both.weights) != 2:
            raise ValueError("a cascade has two members, weights for one score and for two")
        check_budget(self.budget, self.burst)


def check_budget(budget: float, burst: int) -> None:
    """Refuse a budget outside (0, 1) or a burst that is none, with an InputError."""
    if not 0.0 < budget < 1.0:
        raise InputError(f"the budget must lie between 0 and 1, got {budget!r}")
    if not 1 <= burst <= CASCADE_BURST_MAX:
        raise InputError(f"the burst must lie between 1 and {CASCADE_BURST_MAX}, got {burst!r}")


def may_ask(asked: int, step: int, budget: float, burst: int) -> bool:
    """Whether one more step may be escalated, at this step of a response.

    Example:
        >>> may_ask(2, 10, budget=0.1, burst=2), may_ask(3, 10, budget=0.1, burst=2)
        (True, False)
    """
    return asked + 1 <= burst + budget * step


def from_spec(argument: str, steps: StepDefinition | None) -> AnyVerifier:
    """Make the verifier from its written form.

    Args:
        argument: a file that `tocsin cascade` wrote.
        steps: what one step is; only what the file was fitted for.

    Raises:
        InputError: no such file, a damaged one, or a member that is not what it was.
        MissingExtra: a member needs an optional library.
    """
    if not argument:
        raise InputError("cascade needs a file that `tocsin cascade` wrote: cascade:FILE")
    file = load(argument, CascadeFile, SCHEMA)
    cheap, strong = reopen(file, argument, steps)
    return cascade(file, cheap, strong)


def cascade(file: CascadeFile, cheap: AnyVerifier, strong: AnyVerifier) -> AnyVerifier:
    """Make the verifier of a file and its open members.

    Returns:
        One that has to be waited for where a member has to be.
    """
    if isinstance(cheap, Verifier) and isinstance(strong, Verifier):
        return Cascade(file, cheap, strong)
    return AsyncCascade(file, cheap, strong)


def spares(strong: AnyVerifier) -> bool:
    """Whether a verifier can leave steps out, so that a cascade saves its cost."""
    return isinstance(strong, Selective | AsyncSelective)


class Cascade:
    """A cascade of verifiers that answer at once."""

    def __init__(self, file: CascadeFile, cheap: Verifier, strong: Verifier) -> None:
        self._file, self._cheap, self._strong = file, cheap, strong
        self._declares = _declared(file, cheap, strong)

    @property
    def declares(self) -> Declaration:
        """What it says of itself."""
        return self._declares

    def open(self, context: Context) -> Session:
        """Begin with a new response."""
        choice = _Choice(self._file, self._declares)
        if isinstance(self._strong, Selective):
            strong = self._strong.open_selected(context, choice.wanted)
        else:
            strong = self._strong.open(context)
        return _Session(choice, self._cheap.open(context), strong)


class AsyncCascade:
    """A cascade with a verifier that has to be waited for."""

    def __init__(self, file: CascadeFile, cheap: AnyVerifier, strong: AnyVerifier) -> None:
        self._file, self._cheap, self._strong = file, cheap, strong
        self._declares = _declared(file, cheap, strong)

    @property
    def declares(self) -> Declaration:
        """What it says of itself."""
        return self._declares

    def open_async(self, context: Context) -> AsyncSession:
        """Begin with a new response."""
        choice = _Choice(self._file, self._declares)
        strong = _open_selected(self._strong, context, choice.wanted)
        return _AsyncSession(choice, open_waited(self._cheap, context), strong)

    async def aclose(self) -> None:
        """Let go of the members' connections."""
        await close_all((self._cheap, self._strong))


def _open_selected(strong: AnyVerifier, context: Context, wanted: Wanted) -> AsyncSession:
    if isinstance(strong, AsyncSelective):
        return strong.open_async_selected(context, wanted)
    if isinstance(strong, Selective):
        return Waited(strong.open_selected(context, wanted))
    return open_waited(strong, context)


def _declared(file: CascadeFile, *members: AnyVerifier) -> Declaration:
    return joint(
        [one.declares for one in members],
        name="cascade",
        version=file.version(),
        steps=file.steps,
    )


class _Choice:
    """Which steps of one response are escalated, and what is said of each."""

    def __init__(self, file: CascadeFile, declares: Declaration) -> None:
        self._file, self._declares = file, declares
        self._low = float("-inf") if file.low is None else file.low
        self._high = float("inf") if file.high is None else file.high
        self._asked = 0
        self._waiting: deque[Outcome] = deque()
        self._escalated: set[int] = set()
        self._strong: dict[int, Outcome] = {}
        self._spoken = 0  # last step of which the cheap verifier has spoken
        self._heard = 0  # the same of the strong one

    def wanted(self, step: int) -> bool:
        """Whether the strong verifier is to judge a step.

        A cheap one that holds text back may not have spoken yet: then nobody knows, and it is.
        """
        return step in self._escalated or step > self._spoken

    def hear_cheap(self, outcomes: Sequence[Outcome]) -> None:
        """Take what the cheap verifier says, and decide which of it to escalate."""
        for answer in outcomes:
            said = heard(self._file.members[0], answer)
            self._waiting.append(said)
            self._spoken = max(self._spoken, said.step)
            if (
                isinstance(said, Score)
                and self._low <= said.value <= self._high
                and may_ask(self._asked, said.step, self._file.budget, self._file.burst)
            ):
                self._asked += 1
                self._escalated.add(said.step)

    def hear_strong(self, outcomes: Sequence[Outcome], *, last: bool = False) -> list[Outcome]:
        """Take what the strong verifier says; give the outcomes that are settled by now.

        It speaks in order: once it has spoken of a later step, no answer is to be waited for.
        """
        for said in outcomes:
            self._strong[said.step] = said
            self._heard = max(self._heard, said.step)
        out: list[Outcome] = []
        while self._waiting:
            step = self._waiting[0].step
            if step in self._escalated and step > self._heard and not last:
                break
            out.append(self._outcome(self._waiting.popleft(), self._strong.pop(step, None)))
            self._escalated.discard(step)
        return out

    def _outcome(self, cheap: Outcome, strong: Outcome | None) -> Outcome:
        first, second = self._file.members
        if not isinstance(cheap, Score):
            return cheap
        x = transformed(first.kind, cheap.value)
        if cheap.step not in self._escalated:
            return fused(self._declares, self._file.alone.probability([x]), [cheap])
        if strong is None or not same_place((cheap, strong)):
            return unknown_like(cheap, self._declares.name)
        strong = heard(second, strong)
        if not isinstance(strong, Score):
            return strong
        value = self._file.both.probability([x, transformed(second.kind, strong.value)])
        return fused(self._declares, value, [cheap, strong])


class _Session:
    def __init__(self, choice: _Choice, cheap: Session, strong: Session) -> None:
        self._choice, self._cheap, self._strong = choice, cheap, strong

    def feed(self, delta: Delta) -> list[Outcome]:
        self._choice.hear_cheap(self._cheap.feed(delta))
        return self._choice.hear_strong(self._strong.feed(delta))

    def close(self) -> list[Outcome]:
        self._choice.hear_cheap(self._cheap.close())
        return self._choice.hear_strong(self._strong.close(), last=True)


class _AsyncSession:
    def __init__(self, choice: _Choice, cheap: AsyncSession, strong: AsyncSession) -> None:
        self._choice, self._cheap, self._strong = choice, cheap, strong

    async def feed(self, delta: Delta) -> list[Outcome]:
        self._choice.hear_cheap(await self._cheap.feed(delta))
        return self._choice.hear_strong(await self._strong.feed(delta))

    async def close(self) -> list[Outcome]:
        self._choice.hear_cheap(await self._cheap.close())
        return self._choice.hear_strong(await self._strong.close(), last=True)
