"""What an alarm leaves behind: enough to defend it, or to find that it was wrong.

A receipt holds numbers, names and hashes, never the text.
"""

from __future__ import annotations

import hmac

import msgspec

from tocsin.model import (
    ChannelKind,
    Comparison,
    GuardStatus,
    Hold,
    Intervention,
    Mode,
    Phase,
    SignalKind,
)
from tocsin.monitor import PathRecord
from tocsin.monitor.path import Real
from tocsin.policy.failures import Failure, Response

SCHEMA = "tocsin.receipt/1"


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """The calibration behind a check.

    Args:
        segment: whose threshold it is, where there are several; None for the pooled one.
        calibration: its digest.
        statistic: what is compared with the threshold (danger-high), by name.
        threshold: lambda; the alarm rings when ``statistic <comparison> threshold``.
        risk, bound, epsilon, delta: what is promised; delta is None for `crc`.
        n, errors: units of the protected class behind lambda, and those allowed to err.
        sentence: the guarantee in words, with its assumption.
    """

    calibration: str
    segment: str | None
    statistic: str
    threshold: Real
    comparison: Comparison
    risk: str
    bound: str
    epsilon: float
    delta: float | None
    n: int
    errors: float
    sentence: str


class CheckRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one check saw.

    Args:
        name: of the check.
        verifier, verifier_version, step_definition, signal: of the scores; safe-high.
        promise: None where the check has no calibration, and so no guarantee.
        alarm_below: a threshold that somebody chose, where there is one.
        path: the scores, where a calibrated monitor took them: enough to replay its decision.
        overruled: the paths to alarms that an appeal overruled; after each one the monitor began
            anew, and `path` is the last of them.
        steps, unknown: outcomes, and those without a score.
        lowest: the lowest score.
    """

    name: str
    verifier: str
    verifier_version: str
    step_definition: str
    signal: SignalKind
    promise: Promise | None
    alarm_below: float | None
    path: PathRecord | None
    overruled: tuple[PathRecord, ...]
    steps: int
    unknown: int
    lowest: Real | None


class AlarmRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One alarm.

    Args:
        check: whose.
        step: at which of its steps, from 1; 0 where a trajectory had rung before.
        channel, choice, index: where.
        upto: offset in characters of the channel's text up to which the step speaks.
        closing: whether the check at the end of the response rang.
        score: safe-high.
        statistic: danger-high, where a monitor rang.
        rule, category, start, end: what was found and where, where a rule rang.
        wanted: the intervention that the policy names.
        done: the one that followed.
        why: why the two differ.
        appeal: what a stronger verifier or a person said: who, and the score.
        late: some of the place had been shown before.
    """

    check: str
    step: int
    channel: ChannelKind
    choice: int
    index: int
    upto: int
    wanted: Intervention
    done: Intervention
    closing: bool = False
    score: Real | None = None
    statistic: Real | None = None
    rule: str | None = None
    category: str | None = None
    start: int | None = None
    end: int | None = None
    why: str = ""
    appeal: str = ""
    late: bool = False


class FailureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A part that failed on the way, and what the table said."""

    failure: Failure
    phase: Phase
    response: Response
    check: str = ""
    detail: str = ""


def salt_of(key: bytes, tenant: str, receipt: str) -> bytes:
    """Make the salt for what a receipt says of withheld text.

    A salt inside the receipt would let anybody guess short texts, a telephone number say. This one
    is known to who holds the key, and can be shown for one receipt without giving away the others.

    Args:
        key: secret, 32 bytes.
        tenant, receipt: whose, and its id.

    Example:
        >>> salt_of(bytes(32), "acme", "r_1").hex()[:16]
        '20aab800a9b58879'
    """
    said = f"{len(tenant)}:{tenant}{receipt}".encode("utf-8", "surrogatepass")
    return hmac.digest(key, b"tocsin.withheld/1\0" + said, "sha256")


class ChannelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One channel, in characters of its raw text.

    Args:
        received: what the generator wrote.
        scanned: what the checks were given.
        released: what was let out, masked places included.
        masked: of those, what stands behind a marker.
        shown: characters that the reader got, markers included, and the text of ``replace`` not.
        shown_sha256: hash of those, in UTF-8.
        withheld: characters that the reader never got: behind markers, and what was not let out.
        withheld_sha256: HMAC-SHA256, under a salt that is not in the receipt, of the SHA-256 of
            those in UTF-8, what is behind markers first; None where there are none, or no salt.
    """

    kind: ChannelKind
    choice: int
    index: int
    received: int
    scanned: int
    released: int
    masked: int
    shown: int
    shown_sha256: str
    withheld: int = 0
    withheld_sha256: str | None = None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a response, for headers, the last comment and the body's extension.

    Args:
        status: how well what was shown was checked.
        mode, hold: of the policy.
        scanned, held, released: characters over all channels: given to the checks, never shown,
            shown.
        alarms: how many rang.
        done: the strictest intervention that followed; None without an alarm.
        failure: what stopped the response, where it was no alarm.
    """

    status: GuardStatus
    mode: Mode
    hold: Hold
    scanned: int
    held: int
    released: int
    alarms: int
    done: Intervention | None
    failure: Failure | None


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked whom, and when: what only the surroundings of a response know.

    Args:
        id: of the response; headers carry it.
        tenant, route, api, model, upstream: who asked, on what way, and who wrote.
        asked: the model that was asked for, which a route may call by another name.
        unread: parts of the request that hold no text, and that nobody checked: images, files,
            earlier turns that the upstream keeps.
        conversation: hash of what links it to other requests, where anything does.
        asked_at, ended_at: UTC, ISO 8601.
        made_by: the program that wrote the receipt, and its version.
    """

    id: str
    tenant: str = ""
    route: str = ""
    api: str = ""
    model: str = ""
    upstream: str = ""
    asked: str = ""
    unread: int = 0
    conversation: str | None = None
    asked_at: str = ""
    ended_at: str = ""
    made_by: str = ""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one response in which an alarm rang, or a part failed.

    Args:
        who: who asked whom, and when; the receipt's id among it.
        policy, policy_digest: under which rules.
        account: what became of it.
        checks, alarms, failures, channels: the parts.
        alarms_more: alarms beyond those that are listed.
    """

    who: Who
    policy: str
    policy_digest: str
    account: Account
    checks: tuple[CheckRecord, ...]
    alarms: tuple[AlarmRecord, ...]
    alarms_more: int
    failures: tuple[FailureRecord, ...]
    channels: tuple[ChannelRecord, ...]
    schema: str = SCHEMA
