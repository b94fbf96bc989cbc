"""The vocabulary: small frozen structs that every floor shares.

Signals are safe-high (a higher score means safer); statistics are danger-high (a higher value
means more dangerous). Nothing here imports NumPy, so that a monitor starts fast.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import msgspec

Risk = Literal["false_alarm", "missed_detection"]
"""false_alarm: alarm on a safe trajectory. missed_detection: no alarm on an unsafe one."""

Bound = Literal["crc", "exact", "hoeffding_bentkus"]
"""How the number of calibration errors that may be allowed is derived from epsilon and delta."""

Comparison = Literal[">", ">="]
"""The monitor alarms when ``statistic <comparison> threshold``."""

MissingPolicy = Literal["skip", "worst", "error"]
"""What a missing score (NaN, a verifier time-out) does: nothing, an alarm, or an error."""

SignalKind = Literal["probability", "real"]
"""A probability of being safe, or any real number; both safe-high."""

Objective = Literal["power", "saved", "balanced"]
"""What learn-then-test optimises among monitors that all keep the guarantee."""

Unit = Literal["trajectory", "one_per_group", "cluster_mean"]
"""The exchangeable unit: every trajectory, one drawn from each group, or the group's mean loss."""

RISKS: tuple[Risk, ...] = ("false_alarm", "missed_detection")
BOUNDS: tuple[Bound, ...] = ("crc", "exact", "hoeffding_bentkus")
COMPARISON: dict[Risk, Comparison] = {"false_alarm": ">", "missed_detection": ">="}
PROTECTED_CLASS: dict[Risk, str] = {"false_alarm": "safe", "missed_detection": "unsafe"}


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a verifier's score means; part of a calibration's identity.

    Args:
        kind: ``"probability"`` (of being safe, in [0, 1]) or ``"real"`` (any real number). Both
            are safe-high.
        verifier: name of the verifier, or ``"unspecified"``.
        verifier_version: its version, or ``"unspecified"``.
        step_definition: what one step is (``"line"``, ``"turn"``, ...), or ``"unspecified"``.

    Example:
        >>> Signal(verifier="math-shepherd", step_definition="line").kind
        'probability'
    """

    kind: SignalKind = "probability"
    verifier: str = "unspecified"
    verifier_version: str = "unspecified"
    step_definition: str = "unspecified"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor says after one step, or after the end of the output.

    Args:
        step: steps seen so far, 1-based; the closing decision repeats the last step.
        alarm: True from the step at which the monitor rang, for ever (latched).
        rang: True only on the decision at which the alarm first rang.
        alarm_step: step at which it rang, or None.
        statistic: the statistic here (danger-high); None before the first usable score.
        threshold: lambda, in the units of the statistic.
        comparison: the alarm rings when ``statistic <comparison> threshold``.
        closing: True when this is the decision taken at the end of the output.
        missing: True when this step had no usable score.
    """

    step: int
    alarm: bool
    rang: bool
    alarm_step: int | None
    statistic: float | None
    threshold: float
    comparison: Comparison
    closing: bool = False
    missing: bool = False


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag="refusal", forbid_unknown_fields=True):
    """Why no threshold can be given: a value, not an exception.

    Args:
        bound, epsilon, delta: what was asked; delta is None for `crc`.
        n: trajectories (or groups) of the protected class at hand.
        n_needed: the fewest that could support epsilon and delta.
        epsilon_smallest: the smallest epsilon that n supports (1.0 when n is 0).
        protected: ``"safe"`` or ``"unsafe"``.
        reason: set when something else than n is the matter.
    """

    bound: Bound
    epsilon: float
    delta: float | None
    n: int
    n_needed: int
    epsilon_smallest: float
    protected: str = "safe"
    reason: str = ""

    def sentence(self) -> str:
        """Say it to a person.

        Example:
            >>> r = Refusal(
            ...     bound="exact",
            ...     epsilon=0.01,
            ...     delta=0.1,
            ...     n=120,
            ...     n_needed=230,
            ...     epsilon_smallest=0.01901,
            ... )
            >>> print(r.sentence().split(" (")[0])
            epsilon = 0.01 needs at least 230 safe trajectories at delta = 0.1, you have 120
        """
        if self.reason:
            return self.reason
        at = "" if self.delta is None else f" at delta = {self.delta:g}"
        head = (
            f"epsilon = {self.epsilon:g} needs at least {self.n_needed} {self.protected} "
            f"trajectories{at}, you have {self.n}"
        )
        if self.n == 0:
            return f"{head} (bound {self.bound}). Label some {self.protected} trajectories."
        return (
            f"{head} (bound {self.bound}); the smallest epsilon for {self.n} is "
            f"{_round_up(self.epsilon_smallest)}. Label more, or ask for less."
        )


def _round_up(value: float) -> str:
    """Three significant digits, never below the value, so that what is printed can be used.

    More digits where three would round up to 1, which is no level.
    """
    exact = Fraction(repr(value))
    for digits in range(3, 18):
        exponent = math.floor(math.log10(value)) + 1 - digits
        rounded = math.ceil(exact / Fraction(10) ** exponent) * Fraction(10) ** exponent
        if rounded < 1:
            return f"{float(rounded):.{digits}g}"
    return repr(value)


# ------------------------------------------------------------------------------- text and scores

ChannelKind = Literal["text", "reasoning", "tool_arguments", "refusal", "observation"]
"""What kind of text a channel carries. All but `observation` are written by the generator; an
observation is what it saw on the way: a tool's result, a retrieved passage, a user's turn."""

Ends = Literal["tool_call", "turn"]
"""What ends with a delta: the arguments of one tool call, or the whole turn."""

UnknownReason = Literal[
    "timeout",
    "unreachable",
    "overloaded",
    "refused",
    "bad_answer",
    "out_of_range",
    "breaker_open",
    "too_long",
    "no_input",
    "failed",
]
"""Why a verifier has no score: a closed list, so that a policy can name each one.

timeout: no answer by the deadline. unreachable: no connection, or it was cut. overloaded: told to
come back later (429, 503), or our own queue is full. refused: another error status. bad_answer: an
answer that cannot be read. out_of_range: a number outside the declared range, or none.
breaker_open: not asked, since it failed too often just before. too_long: more than it reads.
no_input: what it needs (log-probabilities, say) was not given. failed: anything else went wrong.
"""


class Channel(msgspec.Struct, frozen=True):
    """One stream of text within a response.

    Args:
        kind: what it carries.
        choice: which of several answers to one request, from 0.
        index: which of several of its kind (tool calls, observations), from 0.

    Example:
        >>> Channel("tool_arguments", index=1).choice
        0
    """

    kind: ChannelKind = "text"
    choice: int = 0
    index: int = 0


TEXT = Channel()
"""The text of the first choice."""


class Token(msgspec.Struct, frozen=True):
    """One token as the generator reports it.

    Args:
        text: its text.
        logprob: natural logarithm of its probability, at most 0.
        top: log-probabilities of the likeliest tokens at this place, in any order, as reported.
    """

    text: str
    logprob: float
    top: tuple[float, ...] = ()


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """New text of one channel.

    Args:
        text: the characters, appended to what the channel held; a chunk boundary means nothing.
        channel: where they belong.
        tokens: the tokens behind `text`, where the generator gives them; their texts joined are
            `text`.
        ends: set when a tool call or the whole turn is complete with this text.

    Example:
        >>> Delta(text="Hello", ends="turn").channel.kind
        'text'
    """

    text: str = ""
    channel: Channel = TEXT
    tokens: tuple[Token, ...] = ()
    ends: Ends | None = None


class Message(msgspec.Struct, frozen=True):
    """One message of the conversation that led to the response."""

    role: str
    content: str


class Tool(msgspec.Struct, frozen=True):
    """A tool that the generator was offered; `parameters` is its JSON Schema, as text."""

    name: str
    description: str = ""
    parameters: str = ""


class Document(msgspec.Struct, frozen=True):
    """A retrieved passage that the generator was given."""

    id: str
    text: str


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator was given before it began to write. All of it is data, none of it orders.

    Example:
        >>> Context(messages=(Message("user", "What is the capital of France?"),)).tools
        ()
    """

    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    documents: tuple[Document, ...] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the text that a rule names.

    Args:
        rule: the rule's identifier.
        category: what it is a case of: an identifier of `tocsin.verifiers.taxonomy`.
        start, end: offsets in characters of the channel's raw text, end exclusive.
        form: in which form of the text it was seen: ``"raw"``, or the name of a normal form.
        goes_on: whether it is more of the place that this rule named before, and that ended where
            this begins: a long value is told step by step, and rings once.
    """

    rule: str
    category: str
    start: int
    end: int
    form: str = "raw"
    goes_on: bool = False


class Score(msgspec.Struct, frozen=True, kw_only=True, tag="score"):
    """What a verifier says about a response up to a place in it. Safe-high.

    Args:
        value: in the range that the verifier declares; higher is safer.
        step: 1, 2, 3, ... over the whole session, all channels together.
        upto: offset in characters of the channel's text up to which it speaks, exclusive.
        channel: the channel whose step it is.
        categories: scores for single harm categories, safe-high, in the same range.
        findings: the places that led to it, where the verifier can name them.
    """

    value: float
    step: int
    upto: int
    channel: Channel = TEXT
    categories: dict[str, float] = {}
    findings: tuple[Finding, ...] = ()


class Unknown(msgspec.Struct, frozen=True, kw_only=True, tag="unknown"):
    """A verifier has no score for a step: a value, not an exception, and never safe.

    Args:
        reason: one of a closed list.
        step, upto, channel: as in `Score`.
        detail: for the log, without any of the text that was judged.
    """

    reason: UnknownReason
    step: int
    upto: int
    channel: Channel = TEXT
    detail: str = ""


Outcome = Score | Unknown
"""What a verifier gives for a step."""


# ------------------------------------------------------------------------------ what is done

Intervention = Literal[
    "allow", "shadow", "mask", "escalate", "require_approval", "fallback", "replace", "halt"
]
"""What an alarm does, from the mildest to the strictest.

allow: nothing, and it is no alarm. shadow: it is recorded, the reader sees everything. mask: the
place is shown as a marker. escalate: the stream pauses, a stronger verifier decides.
require_approval: the stream pauses, a person decides. fallback: another model answers anew.
replace: the response ends with a configured text. halt: it ends here.
"""

INTERVENTIONS: tuple[Intervention, ...] = (
    "allow", "shadow", "mask", "escalate", "require_approval", "fallback", "replace", "halt"
)  # fmt: skip

Mode = Literal["enforce", "observe"]
"""Whether a policy acts, or only records what it would have done."""

Hold = Literal["window", "end_of_stream", "optimistic"]
"""What the reader waits for. window: until no check can still object to a character. end_of_stream:
for the whole response. optimistic: for nothing; what is shown was not checked before."""

Phase = Literal["before_first_byte", "mid_stream", "after_end"]
"""Where a response is: nothing was sent, something was, or its end was."""

GuardStatus = Literal["ok", "degraded", "bypassed"]
"""How well what was shown was checked. ok: all of it, by every check, before it was shown.
degraded: some check gave no result for some of it. bypassed: some of it was shown that no check
had cleared."""
