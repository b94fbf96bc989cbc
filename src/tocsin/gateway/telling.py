"""What became of a response, in the words of the record: from a guard to the bodies of events."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tocsin.events.kinds import (
    Alarmed,
    Classified,
    Decided,
    Ended,
    Failed,
    Intervened,
    Retrieved,
    Ruling,
    StreamEnded,
    ToolAttempted,
    ToolDenied,
    Used,
)
from tocsin.gateway.meters import Outcome, Place
from tocsin.guarding.ledger import STRENGTH
from tocsin.guarding.outlet import ChannelWindow
from tocsin.guarding.receipt import Account, AlarmRecord
from tocsin.guarding.response import Guarded
from tocsin.guarding.running import Running
from tocsin.limits import RETRIEVED_IDS_MAX
from tocsin.model import Context, Intervention
from tocsin.stream.shapes import count, identifier
from tocsin.verifiers.contract import Declaration

ENDED: Mapping[Outcome, Ended] = {
    "ok": "ok",
    "blocked": "blocked",
    "blocked_input": "blocked_input",
    "failed": "failed",
    "upstream_failed": "upstream_failed",
    "bad_request": "refused",
    "unauthenticated": "refused",
    "limited": "refused",
    "client_gone": "client_gone",
    "broken": "failed",
}
"""How a request was counted, as the end of its stream."""

_BINS = 10
_STOPS: frozenset[Intervention] = frozenset({"halt", "replace", "fallback"})


def asked_of(context: Context) -> str:
    r"""Give what is asked in words: the last message of a user, else the whole input.

    Example:
        >>> from tocsin.model import Message
        >>> asked_of(Context(messages=(Message("user", "Why?"), Message("tool", "since"))))
        'Why?'
        >>> asked_of(Context(messages=(Message("system", "Sum up."), Message("tool", "1, 2"))))
        'Sum up.\n1, 2'
    """
    messages = context.messages
    last = next((m.content for m in reversed(messages) if m.role == "user" and m.content), None)
    return last if last is not None else "\n".join(m.content for m in messages if m.content)


def ended(guarded: Guarded, place: Place, outcome: Outcome, receipt: str | None) -> StreamEnded:
    """Say how a response ended; of a request that went no further, why."""
    account = guarded.account()
    steps: dict[str, int] = {}
    lowest: dict[str, float | None] = {}
    verifiers: dict[str, str] = {}
    if place == "input":
        account = msgspec.structs.replace(account, scanned=0, held=0, released=0)
    else:
        for running in guarded.running:
            name, value = running.check.name, running.lowest
            steps[name] = running.steps
            lowest[name] = value if math.isfinite(value) else None
            verifiers[name] = named(running.declares)
    return StreamEnded(
        outcome=ENDED[outcome],
        status=account.status,
        mode=account.mode,
        hold=account.hold,
        scanned=account.scanned,
        held=account.held,
        released=account.released,
        alarms=account.alarms,
        failures=len(guarded.failures),
        done=account.done,
        failure=account.failure,
        receipt=receipt,
        steps=steps,
        lowest=lowest,
        verifiers=verifiers,
    )


def named(declares: Declaration) -> str:
    """Name a verifier, and which version of it."""
    return f"{declares.name} {declares.version}"


def decided(guarded: Guarded, place: Place) -> Decided:
    """Say what the checks said of a request or a response, and what was enforced."""
    account = guarded.account()
    worst = max(guarded.alarms, key=lambda alarm: STRENGTH[alarm.wanted], default=None)
    verdict: Ruling = "allow"
    reason = ""
    if worst is not None:
        verdict = _ruling(worst.wanted)
        reason = worst.rule or worst.category or worst.check
    if account.failure is not None:
        reason = account.failure
    return Decided(
        about="input" if place == "input" else "output",
        verdict=verdict,
        action=_action(account),
        reason=reason,
    )


def _ruling(wanted: Intervention) -> Ruling:
    if wanted == "require_approval":
        return "require_approval"
    return "refuse" if wanted in _STOPS or wanted == "escalate" else "allow"


def _action(account: Account) -> Ruling:
    stopped = account.failure is not None or account.done in _STOPS
    return "refuse" if stopped else "allow"


def alarms(guarded: Guarded, receipt: str) -> Iterator[Alarmed]:
    """Tell of each alarm."""
    by_name = {running.check.name: running for running in guarded.running}
    for alarm in guarded.alarms:
        yield _alarm(alarm, by_name.get(alarm.check), receipt)


def _alarm(alarm: AlarmRecord, running: Running | None, receipt: str) -> Alarmed:
    declares = None if running is None else running.declares
    promise = None if running is None else running.check.promise
    return Alarmed(
        check=alarm.check,
        verifier="" if declares is None else declares.name,
        verifier_version="" if declares is None else declares.version,
        wanted=alarm.wanted,
        done=alarm.done,
        step=alarm.step,
        channel=alarm.channel,
        choice=alarm.choice,
        index=alarm.index,
        upto=alarm.upto,
        calibration=None if promise is None else promise.calibration,
        score=_number(alarm.score),
        statistic=_number(alarm.statistic),
        threshold=None if promise is None else _number(promise.threshold),
        rule=alarm.rule,
        category=alarm.category,
        overruled=bool(alarm.appeal) and alarm.done in {"allow", "shadow"},
        receipt=receipt,
    )


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def interventions(guarded: Guarded) -> Iterator[Intervened]:
    """Tell of the strictest thing that was done."""
    account = guarded.account()
    if account.done is None or account.done in {"allow", "shadow"}:
        return
    by = next((a for a in guarded.alarms if a.done == account.done), None)
    yield Intervened(
        done=account.done,
        by="policy" if by is None else by.check,
        why="" if by is None else by.why,
        released=account.released,
        withheld=account.held,
    )


def failures(guarded: Guarded) -> Iterator[Failed]:
    """Tell of each part that failed."""
    for failure in guarded.failures:
        yield Failed(
            failure=failure.failure,
            phase=failure.phase,
            response=failure.response,
            check=failure.check,
            detail=failure.detail,
        )


def classified(guarded: Guarded) -> Iterator[Classified]:
    """Tell how each check saw the whole response, by its lowest score."""
    for running in guarded.running:
        if running.steps:
            declares = running.declares
            where = bin_of(running.lowest, declares.low, declares.high)
            yield Classified(check=running.check.name, bin=where)


def bin_of(score: float, low: float, high: float) -> int | None:
    """Give the tenth of the verifier's range that a score lies in, 0 for the least safe one.

    Example:
        >>> bin_of(0.0, 0.0, 1.0), bin_of(1.0, 0.0, 1.0), bin_of(0.31, 0.0, 1.0)
        (0, 9, 3)
        >>> bin_of(0.5, 0.0, float("inf"))
    """
    width = high - low
    if not (math.isfinite(score) and math.isfinite(width) and width > 0):
        return None
    return min(max(int((score - low) / width * _BINS), 0), _BINS - 1)


def retrieved(context: Context) -> Iterator[Retrieved]:
    """Tell of documents that a request carries: their ids, and how many there are."""
    documents = context.documents
    if documents:
        found = len(documents)
        ids = tuple(filter(None, (identifier(d.id) for d in documents[:RETRIEVED_IDS_MAX])))
        yield Retrieved(sources=ids, found=found, permitted=found, used=found)


def tool(window: ChannelWindow, guarded: Guarded) -> Iterator[ToolAttempted | ToolDenied]:
    """Tell of the use of a tool, and where it was withheld, why."""
    name = str(window.begins.get("name") or "unknown")
    yield ToolAttempted(tool=name, arguments_chars=window.received)
    if guarded.over and window.released < window.received:
        account = guarded.account()
        yield ToolDenied(tool=name, reason=account.failure or account.done or "withheld")


def used(spent: Mapping[str, Any], first_ms: float | None, total_ms: float) -> Used:
    """Say what a call cost, as far as it is known.

    Example:
        >>> used({"prompt_tokens": 3, "completion_tokens": 9}, None, 12.0).tokens_out
        9
    """
    return Used(
        first_ms=None if first_ms is None else round(first_ms, 3),
        total_ms=round(total_ms, 3),
        tokens_in=_first_count(spent, "prompt_tokens", "input_tokens"),
        tokens_out=_first_count(spent, "completion_tokens", "output_tokens"),
    )


def _first_count(spent: Mapping[str, Any], *names: str) -> int | None:
    return next((n for name in names if (n := count(spent.get(name))) is not None), None)
