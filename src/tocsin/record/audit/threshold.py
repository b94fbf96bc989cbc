"""Is a threshold too conservative: how many of its alarms were false?"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import msgspec

from tocsin.errors import InputError
from tocsin.events.envelope import Event
from tocsin.events.kinds import Alarmed, Reviewed, StreamEnded
from tocsin.limits import AUDIT_RESPONSES_MAX
from tocsin.record.audit.sources import Sources, Told, response_of
from tocsin.record.audit.statistics import LEVEL, weighted_share
from tocsin.risk.estimates import clopper_pearson

KINDS = ("stream.ended", "alarm", "review.outcome")
"""What this audit reads."""

NEEDED = KINDS
"""What it cannot do without."""

RULE = "rule"
"""What stands in place of a calibration where a rule or a chosen threshold rang."""

SAMPLED = (
    "assumes that the cases were drawn with the probabilities that the reviews state, and that "
    "labels do not depend on the draw"
)
CENSUS = "assumes that future alarms are drawn like these; of these themselves it is no estimate"


class CheckAlarms(msgspec.Struct, frozen=True, kw_only=True):
    """The alarms of one check under one calibration, and what reviews said of them.

    A response counts once. Shares are of its responses with an alarm.

    Args:
        check, calibration: whose; `RULE` in place of the digest for a rule.
        responses: that ended under this check; None where no event says so.
        alarms: responses with an alarm of it.
        overruled: of those, the ones that an appeal overruled at once.
        reviewed: by people; of those called safe, unsafe, unclear.
        drawn: of the reviewed ones, those drawn with a known probability.
        basis: ``census``: all were reviewed. ``sample``: drawn ones were. ``bounds``: some were,
            nobody knows how they were chosen, so that only what is certain is given. ``none``.
        false_share, low, high: share of false alarms: an estimate and its 90 % interval; for
            ``bounds`` no estimate, and ends that hold whatever the others are. None for ``none``.
        rate_low, rate_high: false alarms by responses of any label, from the same ends.
        epsilon: the rate of false alarms among safe outputs that was promised, where it was given.
        verdict: a sentence.
        assumption: what the interval rests on.
    """

    check: str
    calibration: str
    responses: int | None
    alarms: int
    overruled: int
    reviewed: int
    safe: int
    unsafe: int
    unclear: int
    drawn: int
    basis: str
    verdict: str
    false_share: float | None = None
    low: float | None = None
    high: float | None = None
    rate_low: float | None = None
    rate_high: float | None = None
    epsilon: float | None = None
    assumption: str = ""


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    Args:
        level: of the intervals.
        checks: by name and calibration.
        missed: responses that ended without any alarm, and that a review called unsafe.
        told: by whom the responses were told of.
    """

    level: float
    checks: tuple[CheckAlarms, ...]
    missed: int
    told: Told = Told()


@dataclass
class _Group:
    rang: set[str] = field(default_factory=set)
    overruled: set[str] = field(default_factory=set)


@dataclass
class _Read:
    groups: dict[tuple[str, str], _Group] = field(default_factory=dict)
    ended: dict[tuple[str, str], int] = field(default_factory=dict)
    reviews: dict[str, Reviewed] = field(default_factory=dict)
    rang: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)


def threshold(
    events: Iterable[Event], *, epsilon: float | None = None, only: Collection[str] = ()
) -> Thresholds:
    """Estimate how many alarms were false, for each check and calibration.

    A later review of a case takes the place of an earlier one. Where reviewed cases were drawn with
    known probabilities the estimate weighs them (Hájek) and its interval holds at any sample size;
    an unclear label counts as unsafe for the lower end and as safe for the upper one. Where some
    were reviewed and nobody knows how they were chosen, only bounds are given that hold whatever
    the others are.

    Args:
        events: of the kinds `KINDS`; others are passed over.
        epsilon: the rate of false alarms that was promised, in (0, 1); None compares with nothing.
        only: sources of events to which the answer is restricted; all where empty.

    Raises:
        InputError: epsilon is no rate, or there are more than `AUDIT_RESPONSES_MAX` responses.

    Example:
        >>> threshold([]).checks
        ()
    """
    if epsilon is not None and not 0.0 < epsilon < 1.0:
        raise InputError(f"epsilon must lie strictly between 0 and 1, got {epsilon!r}")
    heard = Sources(events, only)
    read = _read(heard)
    checks = [_judged(key, read.groups[key], read, epsilon) for key in sorted(read.groups)]
    missed = sum(
        review.label == "unsafe" and name in read.seen and name not in read.rang
        for name, review in read.reviews.items()
    )
    return Thresholds(level=LEVEL, checks=tuple(checks), missed=missed, told=heard.told)


def _read(events: Iterable[Event]) -> _Read:
    read = _Read()
    for event in events:
        name = response_of(event)
        body = event.body
        if isinstance(body, StreamEnded):
            _end(read, name, event, body)
        elif isinstance(body, Alarmed):
            group = read.groups.setdefault((body.check, body.calibration or RULE), _Group())
            group.rang.add(name)
            read.rang.add(name)
            if body.overruled:
                group.overruled.add(name)
        elif isinstance(body, Reviewed):
            before = read.reviews.get(name)
            if before is not None and body.selection_probability is None:
                body = msgspec.structs.replace(
                    body, selection_probability=before.selection_probability
                )
            read.reviews[name] = body
    return read


def _end(read: _Read, name: str, event: Event, body: StreamEnded) -> None:
    """Count a response under each check and calibration that it had."""
    if name in read.seen:
        return
    if len(read.seen) >= AUDIT_RESPONSES_MAX:
        raise InputError(f"more than {AUDIT_RESPONSES_MAX:,} responses: ask about a shorter time")
    read.seen.add(name)
    for check in body.steps.keys() | body.lowest.keys():
        for under in (*event.segment.calibrations, RULE):
            read.ended[check, under] = read.ended.get((check, under), 0) + 1


def _judged(key: tuple[str, str], group: _Group, read: _Read, epsilon: float | None) -> CheckAlarms:
    reviews = [read.reviews[name] for name in sorted(group.rang & read.reviews.keys())]
    labels = [review.label for review in reviews]
    drawn = [review for review in reviews if review.selection_probability is not None]
    basis, ends = _ends(len(group.rang), reviews, drawn)
    estimate, low, high = ends
    responses = read.ended.get(key)
    if responses is not None:
        responses = max(responses, len(group.rang))
    by_response = None if responses is None else len(group.rang) / responses
    found = CheckAlarms(
        check=key[0],
        calibration=key[1],
        responses=responses,
        alarms=len(group.rang),
        overruled=len(group.overruled),
        reviewed=len(reviews),
        safe=labels.count("safe"),
        unsafe=labels.count("unsafe"),
        unclear=labels.count("unclear"),
        drawn=len(drawn),
        basis=basis,
        false_share=estimate,
        low=low,
        high=high,
        rate_low=None if low is None or by_response is None else low * by_response,
        rate_high=None if high is None or by_response is None else high * by_response,
        epsilon=None if key[1] == RULE else epsilon,
        assumption={"sample": SAMPLED, "census": CENSUS}.get(basis, ""),
        verdict="",
    )
    return msgspec.structs.replace(found, verdict=_verdict(found))


def _ends(
    rang: int, reviews: list[Reviewed], drawn: list[Reviewed]
) -> tuple[str, tuple[float | None, float | None, float | None]]:
    """Return what the numbers rest on, and estimate, low and high."""
    safe = sum(review.label == "safe" for review in reviews)
    unsafe = sum(review.label == "unsafe" for review in reviews)
    if len(reviews) == rang:
        estimate = safe / rang if safe + unsafe == rang else None
        low = clopper_pearson(safe, rang, LEVEL)[0]
        return "census", (estimate, low, clopper_pearson(rang - unsafe, rang, LEVEL)[1])
    if drawn:
        chances = [review.selection_probability or 1.0 for review in drawn]
        least = weighted_share([review.label == "safe" for review in drawn], chances)
        most = weighted_share([review.label != "unsafe" for review in drawn], chances)
        estimate = least[0] if least[0] == most[0] else None
        return "sample", (estimate, least[1], most[2])
    if reviews:
        return "bounds", (None, safe / rang, 1.0 - unsafe / rang)
    return "none", (None, None, None)


def _verdict(found: CheckAlarms) -> str:
    """Say what the numbers back, and no more."""
    if found.low is None or found.high is None:
        return f"no alarm was reviewed: of {found.alarms} alarms nobody knows how many were false"
    between = (
        f"between {100 * found.low:.0f} % and {100 * found.high:.0f} % of the alarms are false"
    )
    if found.basis == "bounds":
        return (
            f"{between}, whatever the {found.alarms - found.reviewed} are that nobody reviewed; "
            "draw cases at random to learn more"
        )
    if found.epsilon is None or found.rate_low is None or found.rate_high is None:
        return between
    return f"{between}; {_beside_promise(found)}"


def _beside_promise(found: CheckAlarms) -> str:
    """Compare with epsilon, which is a rate among safe outputs.

    Of the responses at most all, and at least those not known to be unsafe, are safe: the rate
    among safe ones lies between false alarms by all responses and false alarms by the responses
    that did not ring rightly.
    """
    assert found.epsilon is not None  # noqa: S101 - asked before
    assert found.rate_low is not None and found.rate_high is not None  # noqa: S101, PT018
    promised = f"the {100 * found.epsilon:g} % that were promised"
    if found.rate_low > found.epsilon:
        return f"more than {promised}: the threshold rings too easily, or the traffic has changed"
    rang = found.alarms / found.responses if found.responses else 1.0
    quiet = 1.0 - rang
    worst = found.rate_high / (quiet + found.rate_high) if quiet + found.rate_high else 1.0
    if worst < found.epsilon / 2:
        return (
            f"less than half of {promised}, if those without an alarm are mostly safe: "
            "the check could ring more readily and keep its promise"
        )
    return f"compatible with {promised}"
