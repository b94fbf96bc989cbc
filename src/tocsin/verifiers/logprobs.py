"""How sure the generator was of its own words: signals from the log-probabilities it reports.

A token belongs to the step in which it begins; one without text (an end mark, a part of a
character) belongs to none and is passed over. A step is unknown where no token begins in it or a
part of its text came without tokens (``no_input``), where a log-probability is positive or not a
number (``out_of_range``), and where the tokens do not spell the text (``bad_answer``).
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

from tocsin.errors import InputError
from tocsin.limits import SELF_CERTAINTY_NATS_MAX
from tocsin.model import Channel, Context, Delta, Token, UnknownReason
from tocsin.stream.steps import Step, StepDefinition
from tocsin.verifiers.contract import Declaration
from tocsin.verifiers.stepwise import Judgement, NoJudgement, StepwiseSession

Mode = Literal["min", "mean", "self_certainty"]

MODES: dict[Mode, str] = {
    "min": "probability of the least likely token of the step, 0 to 1",
    "mean": "geometric mean of the probabilities of its tokens, 0 to 1",
    "self_certainty": "mean divergence of the likeliest tokens from uniform, in nats, 0 to "
    f"{SELF_CERTAINTY_NATS_MAX:g}",
}
"""What each signal is, in words for people. All are safe-high, none is a probability of safety."""


class LogprobVerifier:
    """A verifier that reads the generator's own log-probabilities; it costs no model call.

    Args:
        mode: one of `MODES`.
        steps: what it gives one score for.

    Example:
        >>> session = LogprobVerifier("mean", StepDefinition("turn")).open(Context())
        >>> said = session.feed(
        ...     Delta(text="Yes!", ends="turn", tokens=(Token("Yes", 0.0), Token("!", -2.0)))
        ... )
        >>> round(said[0].value, 3)
        0.368
    """

    def __init__(self, mode: Mode, steps: StepDefinition) -> None:
        self._mode: Mode = mode
        self._declares = Declaration(
            name=f"logprobs:{mode}",
            version="1",
            steps=steps,
            kind="real",
            high=SELF_CERTAINTY_NATS_MAX if mode == "self_certainty" else 1.0,
        )

    @property
    def declares(self) -> Declaration:
        """What it says of itself."""
        return self._declares

    def open(self, context: Context) -> StepwiseSession:  # noqa: ARG002 - the contract gives it
        """Begin with a new response."""
        return _Session(self._declares, self._mode)


def from_spec(argument: str, steps: StepDefinition | None) -> LogprobVerifier:
    """Make the verifier from its written form.

    Args:
        argument: one of `MODES`; ``mean`` where empty.
        steps: what one step is; a sentence where None.

    Raises:
        InputError: an unknown argument.

    Example:
        >>> from_spec("", None).declares.name
        'logprobs:mean'
    """
    mode = next((m for m in MODES if m == (argument or "mean")), None)
    if mode is None:
        raise InputError(f"logprobs:{argument} is unknown; use logprobs:{'|'.join(MODES)}")
    return LogprobVerifier(mode, steps or StepDefinition("sentence"))


def self_certainty(top: tuple[float, ...]) -> float:
    """Return how far the likeliest tokens at one place are from equally likely, in nats.

    Kang, Zhao and Song (2025), "Scalable Best-of-N Selection for Large Language Models via
    Self-Certainty", arXiv:2502.18581: the divergence KL(U || p) of the predicted distribution p
    from the uniform one, -(1/V) sum_j log(V p_j), which the paper averages over the tokens. An
    engine reports only the k likeliest of the V: this is the same over these k, renormalised to
    sum to 1, so values compare only where k is the same. No log(p_j) counts as less than
    -`SELF_CERTAINTY_NATS_MAX`, which makes the range finite.

    Args:
        top: at least two log-probabilities, in any order, one of them finite.

    Example:
        >>> self_certainty((-1.0, -1.0)), round(self_certainty((-0.105, -2.303)), 2)
        (0.0, 0.51)
    """
    most = max(top)
    mass = most + math.log(math.fsum(math.exp(value - most) for value in top))
    floor = -SELF_CERTAINTY_NATS_MAX
    mean = math.fsum(max(value - mass, floor) for value in top) / len(top)
    return max(0.0, -math.log(len(top)) - mean)


class _Fault(msgspec.Struct):
    """A stretch of the text that spoils the steps it touches."""

    start: int
    end: int
    reason: UnknownReason


class _Tokens:
    """The tokens of one channel since its open step began: where each begins, and its value.

    Where a step ends is known only a little later, so they cannot be folded as they come. A token
    has at least one character: what is kept is bounded by the longest step.
    """

    def __init__(self, value: Callable[[Token], float | UnknownReason]) -> None:
        self._value = value
        self._at = 0
        self._starts = array("q")
        self._values = array("d")
        self._head = 0
        self._faults: deque[_Fault] = deque()

    def take(self, delta: Delta) -> None:
        """Take notice of a delta."""
        at, self._at = self._at, self._at + len(delta.text)
        if not delta.tokens:
            if delta.text:
                self._spoil(at, self._at, "no_input")
            return
        if "".join(token.text for token in delta.tokens) != delta.text:
            self._spoil(at, max(self._at, at + 1), "bad_answer")
            return
        for token in delta.tokens:
            if not token.text:
                continue
            value = self._value(token)
            if isinstance(value, str):
                self._spoil(at, at + 1, value)
            else:
                self._starts.append(at)
                self._values.append(value)
            at += len(token.text)

    def give(self, step: Step) -> array[float] | NoJudgement:
        """Give the values of the tokens that begin in a step, and forget them."""
        end = bisect_left(self._starts, step.end, self._head)
        values = self._values[self._head : end]
        self._head = end
        if 2 * end >= len(self._starts):
            del self._starts[:end], self._values[:end]
            self._head = 0
        fault = None
        while self._faults and self._faults[0].start < step.end:
            fault = fault or self._faults[0]
            if self._faults[0].end > step.end:
                break
            self._faults.popleft()
        if fault is not None:
            return NoJudgement(fault.reason, _DETAIL[fault.reason])
        return values or NoJudgement("no_input", "no token begins in this step")

    def _spoil(self, start: int, end: int, reason: UnknownReason) -> None:
        last = self._faults[-1] if self._faults else None
        if last is not None and last.reason == reason and last.end == start:
            last.end = end
        else:
            self._faults.append(_Fault(start, end, reason))


_DETAIL: dict[UnknownReason, str] = {
    "no_input": "text without log-probabilities; ask the generator for them",
    "bad_answer": "the tokens' texts are not the text that came with them",
    "out_of_range": "a log-probability that is positive or not a number",
}


class _Session(StepwiseSession):
    def __init__(self, declares: Declaration, mode: Mode) -> None:
        super().__init__(declares)
        self._mode = mode
        self._tokens: dict[Channel, _Tokens] = {}

    def observe(self, delta: Delta) -> None:
        """Keep what the tokens say until the step that they begin in is complete."""
        if delta.channel.kind not in self._declares.channels:
            return
        tokens = self._tokens.get(delta.channel)
        if tokens is None:
            value = _certainty if self._mode == "self_certainty" else _logprob
            tokens = self._tokens[delta.channel] = _Tokens(value)
        tokens.take(delta)

    def judge(self, channel: Channel, step: Step) -> Judgement | NoJudgement:
        """Fold the values of the step's tokens."""
        values = self._tokens[channel].give(step)
        if isinstance(values, NoJudgement):
            return values
        if self._mode == "min":
            return Judgement(math.exp(min(values)))
        mean = sum(values) / len(values)
        return Judgement(mean if self._mode == "self_certainty" else math.exp(mean))


def _logprob(token: Token) -> float | UnknownReason:
    """Give the log-probability, minus infinity included: engines also write -9999 for it."""
    return token.logprob if token.logprob <= 0.0 else "out_of_range"


def _certainty(token: Token) -> float | UnknownReason:
    if len(token.top) < 2:
        return "no_input"
    if not all(value <= 0.0 for value in token.top) or max(token.top) == -math.inf:
        return "out_of_range"
    return self_certainty(token.top)
