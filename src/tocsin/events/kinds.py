"""What can happen: one struct a kind, whose docstring is its entry in the catalogue."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tocsin.model import ChannelKind, GuardStatus, Hold, Intervention, Mode, Phase

Ruling = Literal["allow", "refuse", "ask_clarify", "require_approval"]
"""What a policy says about a request, a response or an action; and what was enforced of it."""

Subject = Literal["input", "output", "tool", "retrieval", "budget"]
"""What a ruling is about."""

Ended = Literal[
    "ok", "blocked", "blocked_input", "failed", "upstream_failed", "client_gone", "refused"
]
"""How a stream ended."""

FeedbackVerdict = Literal["up", "down", "report", "escalate", "appeal"]
"""thumbs up or down, a report of harm, a wish for a person, an appeal against a stop."""

Count = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0})]
"""How many. Ranges are looked at where an event comes in (`tocsin.events.ranges`) and not where a
stored one is read: what is there stays readable."""

Millis = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0})]
"""How long, in milliseconds."""

Tenth = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 9})]
"""Which tenth of a verifier's range, from the least safe one."""

Part = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 1})]
"""A part of a whole."""

Chance = Annotated[float, msgspec.Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": 1})]
"""With which something was drawn that was drawn."""

Times = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1})]
"""How often something happened that happened."""


class _Body(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base: a body names its kind in the field `kind`."""


class StreamOpened(_Body, frozen=True, kw_only=True, tag="stream.opened"):
    """A response began to be asked for.

    Args:
        api: `chat`, `responses`, `messages`, or the user's own name.
        stream: whether the client reads along.
        unread: parts of the request that hold no text, and that nobody checked.
        prompt: keyed fingerprint of what was asked, the same for the same words: ``p_`` and 20
            hexadecimal digits, never the text; None where nothing was asked in words.
    """

    api: str
    stream: bool = True
    unread: Count = 0
    prompt: str | None = None


class StreamEnded(_Body, frozen=True, kw_only=True, tag="stream.ended"):
    """A response is over; exactly one for each that was opened.

    Args:
        outcome: how.
        status: how well what was shown was checked.
        mode, hold: of the policy.
        scanned, held, released: characters.
        alarms, failures: how many.
        done: the strictest intervention.
        failure: what stopped it, where it was no alarm.
        receipt: id, where there is one.
        steps, lowest: per check: how many scores, and the lowest (safe-high); None without any.
        verifiers: per check: whose scores, as its name, a space and its version.
    """

    outcome: Ended
    status: GuardStatus = "ok"
    mode: Mode = "enforce"
    hold: Hold = "window"
    scanned: Count = 0
    held: Count = 0
    released: Count = 0
    alarms: Count = 0
    failures: Count = 0
    done: Intervention | None = None
    failure: str | None = None
    receipt: str | None = None
    steps: dict[str, Count] = {}
    lowest: dict[str, float | None] = {}
    verifiers: dict[str, str] = {}


class Decided(_Body, frozen=True, kw_only=True, tag="policy.decided"):
    """A policy was asked; what it said and what was enforced are two things.

    Args:
        about: what was decided on.
        verdict: what the checks said.
        action: what was enforced: under ``observe`` always ``allow``.
        reason: coarse: a rule, a category or the name of a check; never text of the model.
    """

    about: Subject
    verdict: Ruling
    action: Ruling
    reason: str = ""


class Alarmed(_Body, frozen=True, kw_only=True, tag="alarm"):
    """An alarm rang.

    Args:
        check: whose.
        verifier, verifier_version: of its scores.
        calibration: digest; None where a rule or a chosen threshold rang.
        step: of the check, from 1.
        channel, choice, index: where.
        upto: offset in characters.
        score: of the step, safe-high.
        statistic, threshold: danger-high.
        rule, category: where a rule rang.
        wanted, done: the intervention that the policy names, and the one that followed.
        overruled: an appeal said that it was false.
        receipt: id.
    """

    check: str
    verifier: str
    verifier_version: str
    wanted: Intervention
    done: Intervention
    step: Count = 0
    channel: ChannelKind = "text"
    choice: Count = 0
    index: Count = 0
    upto: Count = 0
    calibration: str | None = None
    score: float | None = None
    statistic: float | None = None
    threshold: float | None = None
    rule: str | None = None
    category: str | None = None
    overruled: bool = False
    receipt: str | None = None


class Intervened(_Body, frozen=True, kw_only=True, tag="intervention"):
    """Something was done to a response.

    Args:
        done: what.
        by: who or what had it done: a check, a control, a person's role.
        why: where it differs from what the policy names.
        released, withheld: characters at that moment.
    """

    done: Intervention
    by: str
    why: str = ""
    released: Count = 0
    withheld: Count = 0


class Failed(_Body, frozen=True, kw_only=True, tag="failure"):
    """A part failed.

    Args:
        failure: which, a name of the failure table.
        phase: where the response was.
        response: what the table said.
        check: whose, where it was one.
        detail: coarse; redacted before it is stored.
    """

    failure: str
    phase: Phase
    response: str
    check: str = ""
    detail: str = ""


class ToolAttempted(_Body, frozen=True, kw_only=True, tag="tool.attempted"):
    """A model wants to use a tool; its arguments are never in an event.

    Args:
        tool: by name.
        arguments_chars: how long the arguments are.
    """

    tool: str
    arguments_chars: Count = 0


class ToolDenied(_Body, frozen=True, kw_only=True, tag="tool.denied"):
    """A tool's use was refused.

    Args:
        tool: by name.
        reason: coarse; redacted before it is stored.
    """

    tool: str
    reason: str


class ToolReturned(_Body, frozen=True, kw_only=True, tag="tool.returned"):
    """A tool answered; what it said is never in an event.

    Args:
        tool: by name.
        ok: whether it did what it was asked.
        duration_ms: from attempt to answer, where that is known.
        result_chars: how long the answer is.
    """

    tool: str
    ok: bool
    duration_ms: Millis | None = None
    result_chars: Count = 0


class Retrieved(_Body, frozen=True, kw_only=True, tag="retrieval"):
    """Documents were searched for.

    Args:
        sources: ids, never text.
        found, permitted, used: how many there were, how many this user may read, how many the
            model got.
        filter: what the permission filter did.
    """

    sources: tuple[str, ...] = ()
    found: Count = 0
    permitted: Count = 0
    used: Count = 0
    filter: Literal["applied", "absent", "failed", "unknown"] = "unknown"


class Classified(_Body, frozen=True, kw_only=True, tag="output.classified"):
    """A verifier's view of a whole output.

    Args:
        check, category: what it looked for.
        bin: of the lowest score (safe-high), from 0 for the least safe tenth to 9; None where
            there is no score.
        label: what follows, where the verifier says more than a number.
    """

    check: str
    category: str = ""
    bin: Tenth | None = None
    label: str = ""


class Feedback(_Body, frozen=True, kw_only=True, tag="feedback"):
    """A user said something about an answer.

    Args:
        verdict: what.
        category: of a list of yours.
        comment: in the user's words; redacted before it is stored.
    """

    verdict: FeedbackVerdict
    category: str = ""
    comment: str = ""


class Used(_Body, frozen=True, kw_only=True, tag="usage"):
    """What a call cost.

    Args:
        first_ms, total_ms: to the first text that a stream showed, and to the end.
        tokens_in, tokens_out: as the upstream counts them.
        spend_micro: money, in millionths of `currency`.
        currency: ISO 4217, such as ``EUR``.
    """

    first_ms: Millis | None = None
    total_ms: Millis | None = None
    tokens_in: Count | None = None
    tokens_out: Count | None = None
    spend_micro: Count | None = None
    currency: str = ""


class Limited(_Body, frozen=True, kw_only=True, tag="limit"):
    """A rate limit or a budget was asked.

    Args:
        limit: which.
        verdict: what it said.
        action: what was enforced.
        left: in units of the limit.
        times: how often it said so, where one event stands for several within a second.
    """

    limit: str
    verdict: Ruling
    action: Ruling
    left: float | None = None
    times: Times = 1


class ControlChanged(_Body, frozen=True, kw_only=True, tag="control.changed"):
    """A kill switch or another control was moved.

    Args:
        control: which.
        to: its new position.
        by: who, by the id of a key.
        reason: given by whoever moved it; redacted before it is stored.
    """

    control: str
    to: str
    by: str
    reason: str = ""


class Accessed(_Body, frozen=True, kw_only=True, tag="access"):
    """Somebody read or changed what not everyone may.

    Args:
        by, role: who; `by` is the id of a key, never the key.
        action: one of `tocsin.store.roles.ACTIONS`; only Tocsin's own parts tell of it.
        target: what, by id.
        reason: given by whoever asked; redacted before it is stored.
        allowed: whether it was granted.
        break_glass: id of the grant that it was done under.
        times: how often, where one event stands for several within a second.
    """

    by: str
    role: str
    action: str
    target: str = ""
    reason: str = ""
    allowed: bool = True
    break_glass: str | None = None
    times: Times = 1


class PolicyChanged(_Body, frozen=True, kw_only=True, tag="policy.changed"):
    """Other rules are in force from now on.

    Args:
        policy, digest: which.
        before: digest of those that were in force; None where there were none.
        by: who, by the id of a key, or what, such as ``start``.
    """

    policy: str
    digest: str
    before: str | None = None
    by: str = ""


class CalibrationChanged(_Body, frozen=True, kw_only=True, tag="calibration.changed"):
    """Another threshold is in force from now on.

    Args:
        check: whose.
        digest: of the calibration.
        before: digest of the one that was in force; None where there was none.
        by: who, by the id of a key, or what, such as ``start``.
    """

    check: str
    digest: str
    before: str | None = None
    by: str = ""


class RolloutStaged(_Body, frozen=True, kw_only=True, tag="rollout.stage"):
    """A rollout went on, back, or was stopped.

    Args:
        rollout: which.
        stage: where it is now.
        share: of the traffic, from 0 to 1.
        by: who, by the id of a key.
        reason: why; redacted before it is stored.
    """

    rollout: str
    stage: str
    share: Part | None = None
    by: str = ""
    reason: str = ""


class Reviewed(_Body, frozen=True, kw_only=True, tag="review.outcome"):
    """A person judged a case.

    Args:
        label: what the response was.
        outcome: what follows.
        reviewer: pseudonym.
        selection_probability: with which the case was drawn, in (0, 1]; None where it was not
            drawn at random.
        note: redacted before it is stored.
    """

    label: Literal["safe", "unsafe", "unclear"]
    outcome: str = ""
    reviewer: str = ""
    selection_probability: Chance | None = None
    note: str = ""


class ContentKept(_Body, frozen=True, kw_only=True, tag="content.kept"):
    """Raw content was encrypted and kept.

    Args:
        content: id in the vault.
        what: input, retrieved context, output, tool arguments...
        why: the policy samples it, or an alarm needs evidence.
        chars: how long it is.
        expires_us: when it is deleted, microseconds since 1970.
    """

    content: str
    what: str
    why: Literal["sample", "evidence"]
    chars: Count
    expires_us: Count


class ContentErased(_Body, frozen=True, kw_only=True, tag="content.erased"):
    """Raw content cannot be read any more: keys were destroyed.

    Args:
        subjects: whose keys: how many.
        by: who, by the id of a key.
        reason: why; redacted before it is stored.
        contents: how many lay under them; 0, and no subjects, where there was nothing to erase.
    """

    subjects: Count
    by: str
    reason: str = ""
    contents: Count = 0


class Shed(_Body, frozen=True, kw_only=True, tag="record.shed"):
    """The record was too slow: what was left out, so that the rest could be kept.

    Args:
        contents, events: how many.
        receipts: how many, of which the log of the process has the whole.
        source: by whom; a service may tell of events that it shed itself.
    """

    contents: Count = 0
    events: Count = 0
    receipts: Count = 0
    source: str = ""


Body = (
    StreamOpened | StreamEnded | Decided | Alarmed | Intervened | Failed
    | ToolAttempted | ToolDenied | ToolReturned | Retrieved | Classified | Feedback
    | Used | Limited | ControlChanged | Accessed | PolicyChanged | CalibrationChanged
    | RolloutStaged | Reviewed | ContentKept | ContentErased | Shed
)  # fmt: skip
"""Everything that can happen."""
