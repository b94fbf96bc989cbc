"""Sessions that judge whole steps: they cut the text and keep the numbers, subclasses judge.

The text of each channel is cut by a segmenter of its own; steps are numbered over all channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tocsin import limits
from tocsin.errors import SessionMisuse
from tocsin.model import (
    Channel,
    ChannelKind,
    Delta,
    Finding,
    Outcome,
    Score,
    Unknown,
    UnknownReason,
)
from tocsin.stream.steps import Segmenter, Step, StepDefinition
from tocsin.verifiers.contract import Declaration, Wanted


@dataclass(frozen=True)
class Judgement:
    """What a subclass says of a step; `value` is safe-high."""

    value: float
    categories: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class NoJudgement:
    """Why it says nothing."""

    reason: UnknownReason
    detail: str = ""


class Cutter:
    """The steps of all channels of one response.

    Args:
        steps: what a step is.
        channels: kinds whose text is cut into steps.
    """

    def __init__(self, steps: StepDefinition, channels: frozenset[ChannelKind]) -> None:
        self._definition = steps
        self._kinds = channels
        self._segmenters: dict[Channel, Segmenter] = {}
        self._closed = False

    def feed(self, delta: Delta) -> list[tuple[Channel, Step]]:
        """Give the steps that are complete with this delta.

        Raises:
            SessionMisuse: after `close`, or on more channels than `limits.CHANNELS_MAX`.
        """
        if self._closed:
            raise SessionMisuse("the session is closed; open a new one for the next response")
        if delta.channel.kind not in self._kinds:
            return []
        channel = delta.channel
        segmenter = self._segmenters.get(channel)
        if segmenter is None:
            if len(self._segmenters) >= limits.CHANNELS_MAX:
                raise SessionMisuse(f"a response has at most {limits.CHANNELS_MAX} channels")
            segmenter = self._segmenters[channel] = Segmenter(self._definition)
        return [(channel, step) for step in segmenter.feed(delta.text, delta.ends)]

    def close(self) -> Iterator[tuple[Channel, Step]]:
        """Give what is left of each channel, in the order in which the channels first spoke."""
        if self._closed:
            return
        self._closed = True
        for channel, segmenter in self._segmenters.items():
            for step in segmenter.close():
                yield channel, step


class StepwiseSession:
    """A session that is asked for a judgement of each step.

    Subclasses give `judge`, and `observe` where more than the text of the step informs them. Those
    that can leave steps out give `leave_out` where they keep something of the steps before.

    Args:
        declares: the verifier's declaration.
        wanted: which steps are judged; all of them where None.
    """

    def __init__(self, declares: Declaration, wanted: Wanted | None = None) -> None:
        self._declares = declares
        self._wanted = wanted
        self._cutter = Cutter(declares.steps, declares.channels)
        self._number = 0

    def feed(self, delta: Delta) -> list[Outcome]:
        """Take new text; give the outcomes of the steps that are complete by now."""
        steps = self._cutter.feed(delta)
        self.observe(delta)
        return list(self._outcomes(steps))

    def close(self) -> list[Outcome]:
        """Give the outcomes of what is left."""
        return list(self._outcomes(self._cutter.close()))

    def judge(self, channel: Channel, step: Step) -> Judgement | NoJudgement:
        """Judge the response up to and with this step; every subclass defines this.

        The work is linear in the step.
        """
        raise NotImplementedError

    def observe(self, delta: Delta) -> None:
        """Take notice of a delta before its steps are judged: of log-probabilities, say.

        What is judged must not depend on how the deltas are cut.
        """

    def leave_out(self, channel: Channel, step: Step) -> None:
        """Take notice of a step that is not to be judged."""

    def _outcomes(self, steps: Iterable[tuple[Channel, Step]]) -> Iterator[Outcome]:
        for channel, step in steps:
            self._number += 1
            number = self._number
            if self._wanted is None or self._wanted(number):
                said = self.judge(channel, step)
                yield outcome(self._declares, said, number, channel, step.end)
            else:
                self.leave_out(channel, step)


def outcome(
    declares: Declaration, said: Judgement | NoJudgement, step: int, channel: Channel, upto: int
) -> Outcome:
    """Make a score of a judgement that keeps to the declared range, else unknown.

    Example:
        >>> from tocsin.model import TEXT
        >>> d = Declaration(name="mine", version="1", steps=StepDefinition("line"))
        >>> outcome(d, Judgement(1.5), 1, TEXT, 10).reason
        'out_of_range'
    """
    if isinstance(said, NoJudgement):
        return Unknown(
            reason=said.reason, detail=said.detail, step=step, upto=upto, channel=channel
        )
    for value in (said.value, *said.categories.values()):
        if math.isnan(value) or not declares.low <= value <= declares.high:
            return Unknown(
                reason="out_of_range",
                detail=f"{value!r} is not within {declares.low!r} to {declares.high!r}",
                step=step,
                upto=upto,
                channel=channel,
            )
    return Score(
        value=float(said.value),
        step=step,
        upto=upto,
        channel=channel,
        categories=dict(said.categories),
        findings=said.findings,
    )
