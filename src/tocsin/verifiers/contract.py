"""What a verifier is: it declares itself, opens sessions, and is fed text.

A session is fed deltas and gives one outcome (a score, or unknown with a reason) for each step. The
sequence of outcomes is a function of the text of each channel, of where turns and tool calls end
and of the order in which the channels speak, never of how the text was cut into chunks;
`tocsin.testing.check_verifier` proves it for any verifier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import msgspec

from tocsin.model import ChannelKind, Context, Delta, Outcome, Signal, SignalKind
from tocsin.stream.steps import StepDefinition

GENERATED: frozenset[ChannelKind] = frozenset({"text", "reasoning", "tool_arguments", "refusal"})
"""The channels that the generator writes."""


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """What a verifier says of itself; part of a calibration's identity.

    Args:
        name: its name; the same name and version always give the same scores for the same text.
        version: changes whenever scores may change: for a model, a digest of its weights.
        steps: what it gives one score for.
        kind: ``"probability"`` (of being safe) or ``"real"``; safe-high in both.
        low, high: the range of its scores, ends included; an answer outside is unknown.
        channels: kinds of channels whose steps it scores; others may inform it.
        whole_prefix: it must see the whole text again at each step, so that the cost of a step
            grows with the length of the text; it is called once a step, never once a token.
        hold_back_chars: text must be held back by this many characters for whatever the verifier
            finds to be found before it is released; 0 where a score speaks for whole steps only.
        categories: harm categories that its scores are broken down into.

    Example:
        >>> d = Declaration(name="mine", version="1", steps=StepDefinition("line"))
        >>> d.signal().step_definition
        'line'
    """

    name: str
    version: str
    steps: StepDefinition
    kind: SignalKind = "probability"
    low: float = 0.0
    high: float = 1.0
    channels: frozenset[ChannelKind] = GENERATED
    whole_prefix: bool = False
    hold_back_chars: int = 0
    categories: tuple[str, ...] = ()

    def signal(self) -> Signal:
        """Return the signal that a calibration names."""
        return Signal(
            kind=self.kind,
            verifier=self.name,
            verifier_version=self.version,
            step_definition=str(self.steps),
        )


@runtime_checkable
class Session(Protocol):
    """The scores of one response, as its text comes."""

    def feed(self, delta: Delta) -> list[Outcome]:
        """Take new text; give the outcomes of the steps that are complete by now."""

    def close(self) -> list[Outcome]:
        """Give the outcomes of what is left. The session is used no more."""


@runtime_checkable
class Verifier(Protocol):
    """A verifier that answers at once."""

    @property
    def declares(self) -> Declaration:
        """What it says of itself."""

    def open(self, context: Context) -> Session:
        """Begin with a new response."""


@runtime_checkable
class AsyncSession(Protocol):
    """As `Session`, where answers have to be waited for."""

    async def feed(self, delta: Delta) -> list[Outcome]:
        """Take new text; give the outcomes of the steps that are complete by now."""

    async def close(self) -> list[Outcome]:
        """Give the outcomes of what is left. The session is used no more."""


@runtime_checkable
class AsyncVerifier(Protocol):
    """A verifier that has to be waited for: one behind a network."""

    @property
    def declares(self) -> Declaration:
        """What it says of itself."""

    def open_async(self, context: Context) -> AsyncSession:
        """Begin with a new response."""

    async def aclose(self) -> None:
        """Let go of connections; sessions give ``unreachable`` from here on."""


AnyVerifier = Verifier | AsyncVerifier

Wanted = Callable[[int], bool]
"""Whether the step of this number, as outcomes count them, is to be judged."""


@runtime_checkable
class Selective(Protocol):
    """A verifier that can leave steps out: for one whose judgement of a step costs much.

    Whether a step is wanted is asked once, when it is complete. One that is not wanted costs
    nothing and has no outcome; it counts all the same, and later ones are judged as if it had been.
    """

    def open_selected(self, context: Context, wanted: Wanted) -> Session:
        """Begin with a new response of which only some steps are judged."""


@runtime_checkable
class AsyncSelective(Protocol):
    """As `Selective`, where answers have to be waited for."""

    def open_async_selected(self, context: Context, wanted: Wanted) -> AsyncSession:
        """Begin with a new response of which only some steps are judged."""
