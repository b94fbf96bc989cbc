"""Has a verifier drifted: do its scores still look as they did?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np

from tocsin.errors import InputError
from tocsin.events.envelope import Event
from tocsin.events.kinds import Alarmed, CalibrationChanged, PolicyChanged, StreamEnded
from tocsin.limits import AUDIT_PERIODS_MAX, AUDIT_UNITS_MIN
from tocsin.record.audit.sources import Sources, Told
from tocsin.record.audit.statistics import ALPHA, Distance, Floats, distance, holm

KINDS = ("stream.ended", "alarm", "calibration.changed", "policy.changed")
"""What this audit reads."""

NEEDED = ("stream.ended",)
"""What it cannot do without."""

DAY_US = 86_400_000_000
_QUANTILES = (0.1, 0.5, 0.9)


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of one stretch of time.

    Args:
        since_us, until_us: microseconds since 1970; until is not part of it.
        n: units: sessions, or responses that belong to none.
        low, middle, high: the lowest scores' 10th, 50th and 90th percentile, safe-high; None of
            nothing.
        distance: from the reference: largest difference of the shares below any score.
        at_most: the true distance is no larger, with 90 % confidence for all periods at once.
        p: corrected for all periods of all checks; None where it was not compared.
        drifted: whether the scores are others than those of the reference.
        new_models: versions of models that were first seen here.
    """

    since_us: int
    until_us: int
    n: int
    low: float | None = None
    middle: float | None = None
    high: float | None = None
    distance: float | None = None
    at_most: float | None = None
    p: float | None = None
    drifted: bool = False
    new_models: tuple[str, ...] = ()


class CheckDrift(msgspec.Struct, frozen=True, kw_only=True):
    """One check by one version of its verifier, under one set of calibrations.

    Args:
        check: its name.
        verifier: whose scores, with its version; empty where the record does not say.
        calibrations: digests of its own, as far as alarms, changes, or an end of a response with
            one check alone tell which those are; empty where nothing does.
        versions: of its verifier, as far as alarms tell; of all whose check and calibrations these
            are, where the record does not say more.
        reference: the time that the others are compared with.
        periods: later ones, oldest first.
        verdict: a sentence.
    """

    check: str
    verifier: str = ""
    calibrations: tuple[str, ...]
    versions: tuple[str, ...]
    reference: Period
    periods: tuple[Period, ...]
    verdict: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed in that time: where to look for a cause."""

    time_us: int
    what: str


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    Args:
        tests: how many comparisons every p-value is corrected for.
        alpha: chance that any drift is found where there is none.
        checks: by name, then in order of time.
        changes: of policies, calibrations and verifiers.
        told: by whom the responses were told of.
    """

    tests: int
    alpha: float
    checks: tuple[CheckDrift, ...]
    changes: tuple[Change, ...]
    told: Told = Told()


@dataclass
class _Scores:
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)


def drift(
    events: Iterable[Event],
    *,
    reference_until_us: int | None = None,
    period_us: int = DAY_US,
    alpha: float = ALPHA,
    only: Collection[str] = (),
) -> Drift:
    """Compare the scores of each period with those of a time that is taken as right.

    What is compared is the lowest score of a response, on which an alarm depends; of a session only
    the first one, since later ones resemble it. Under another set of calibrations, or with another
    version of the verifier, everything begins anew. Scores move with the traffic and with the model
    as well as with the verifier: the answer says that they moved, not why.

    Args:
        events: of the kinds `KINDS`; others are passed over.
        reference_until_us: end of the reference; None takes the first period, longer where that
            has fewer than `AUDIT_UNITS_MIN` units.
        period_us: length of a period, above 0.
        alpha: chance that any drift is found where there is none, in (0, 1).
        only: sources of events to which the answer is restricted; all where empty.

    Raises:
        InputError: a period without length, or more than `AUDIT_PERIODS_MAX` of them.

    Example:
        >>> drift([]).checks
        ()
    """
    if period_us <= 0:
        raise InputError("a period must be longer than nothing")
    heard = Sources(events, only)
    groups, changes, own = _read(heard)
    found = [
        _Group(*key, scores, *_periods(scores, reference_until_us, period_us))
        for key, scores in sorted(groups.items(), key=lambda g: g[0][0])
    ]
    judged = _judged(found)
    return Drift(
        tests=len(judged),
        alpha=alpha,
        checks=tuple(group.told(judged, alpha, own) for group in found),
        changes=tuple(changes),
        told=heard.told,
    )


_Key = tuple[str, str, tuple[str, ...]]
"""A check, its verifier with the version, and the calibrations in force."""


def _read(
    events: Iterable[Event],
) -> tuple[dict[_Key, _Scores], list[Change], set[tuple[str, str]]]:
    """Return the scores, what was changed, and which check has which calibration."""
    groups: dict[_Key, _Scores] = {}
    versions: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    verifiers: dict[tuple[str, str], list[str]] = {}
    changes: list[Change] = []
    own: set[tuple[str, str]] = set()
    for event in events:
        body, calibrations = event.body, event.segment.calibrations
        own |= _own(event)
        if isinstance(body, StreamEnded):
            for check, value in body.lowest.items():
                by = body.verifiers.get(check, "")
                changes += _replaced(verifiers, check, event, by)
                if value is not None and math.isfinite(value):
                    _add(groups.setdefault((check, by, calibrations), _Scores()), event, value)
        elif isinstance(body, Alarmed):
            versions.setdefault((body.check, calibrations), set()).add(body.verifier_version)
        elif isinstance(body, CalibrationChanged):
            what = f"calibration of {body.check}: {body.digest}"
            changes.append(Change(time_us=event.time_us, what=what))
        elif isinstance(body, PolicyChanged):
            changes.append(
                Change(time_us=event.time_us, what=f"policy {body.policy}: {body.digest}")
            )
    for (check, by, calibrations), scores in groups.items():
        seen = versions.get((check, calibrations), set())
        scores.versions |= {v for v in seen if not by or by.endswith(f" {v}")}
    return groups, changes, own


def _own(event: Event) -> set[tuple[str, str]]:
    """Say of which check a calibration is, where an event tells."""
    body, calibrations = event.body, event.segment.calibrations
    if isinstance(body, Alarmed) and body.calibration is not None:
        return {(body.check, body.calibration)}
    if isinstance(body, CalibrationChanged):
        return {(body.check, body.digest)}
    if isinstance(body, StreamEnded) and len(calibrations) == 1:
        checks = body.steps.keys() | body.lowest.keys()
        return {(check, calibrations[0]) for check in checks if len(checks) == 1}
    return set()


def _replaced(
    seen: dict[tuple[str, str], list[str]], check: str, event: Event, by: str
) -> Iterator[Change]:
    """Name a verifier, or a version, that a policy's check had not had before."""
    known = seen.setdefault((check, event.segment.policy), [])
    if not by or by in known:
        return
    if known:
        what = f"verifier of {check}: {by}, before {known[-1]}"
        yield Change(time_us=event.time_us, what=what)
    known.append(by)


def _add(scores: _Scores, event: Event, value: float) -> None:
    session = event.links.session
    if session is not None:
        if session in scores.sessions:
            return
        scores.sessions.add(session)
    scores.times.append(event.time_us)
    scores.values.append(value)
    scores.models.append(f"{event.segment.model} {event.segment.model_version}")


@dataclass(frozen=True, eq=False)
class _Part:
    since_us: int
    until_us: int
    values: Floats
    new_models: tuple[str, ...]

    def told(self, judged: tuple[Distance, float] | None, alpha: float) -> Period:
        """Make what is shown."""
        quantiles = (
            [None] * 3 if not len(self.values) else np.quantile(self.values, _QUANTILES).tolist()
        )
        d, p = judged or (None, None)
        return Period(
            since_us=self.since_us,
            until_us=self.until_us,
            n=len(self.values),
            low=quantiles[0],
            middle=quantiles[1],
            high=quantiles[2],
            distance=None if d is None else d.largest,
            at_most=None if d is None else d.at_most,
            p=p,
            drifted=p is not None and p <= alpha,
            new_models=self.new_models,
        )


_Judged = dict[_Part, tuple[Distance, float]]
"""Of the periods that were compared, the distance and the corrected p."""


@dataclass(frozen=True)
class _Group:
    check: str
    verifier: str
    calibrations: tuple[str, ...]
    scores: _Scores
    reference: _Part
    periods: list[_Part]

    def told(self, judged: _Judged, alpha: float, own: set[tuple[str, str]]) -> CheckDrift:
        """Make what is shown."""
        first = self.reference.told(None, alpha)
        later = tuple(period.told(judged.get(period), alpha) for period in self.periods)
        return CheckDrift(
            check=self.check,
            verifier=self.verifier,
            calibrations=tuple(d for d in self.calibrations if (self.check, d) in own),
            versions=tuple(sorted(self.scores.versions)),
            reference=first,
            periods=later,
            verdict=_verdict(first, later),
        )


def _judged(groups: list[_Group]) -> _Judged:
    """Compare every period that has enough with its reference; correct for all of them at once."""
    pairs = [
        (group.reference, period)
        for group in groups
        for period in group.periods
        if min(len(group.reference.values), len(period.values)) >= AUDIT_UNITS_MIN
    ]
    found = [distance(one.values, other.values, len(pairs)) for one, other in pairs]
    corrected = holm(np.array([d.p for d in found]))
    return {
        period: (d, float(p)) for (_, period), d, p in zip(pairs, found, corrected, strict=True)
    }


def _periods(
    scores: _Scores, reference_until_us: int | None, period_us: int
) -> tuple[_Part, list[_Part]]:
    """Divide scores into the reference and what came later."""
    order = np.argsort(np.asarray(scores.times, dtype=np.int64), kind="stable")
    times = np.asarray(scores.times, dtype=np.int64)[order]
    values = np.asarray(scores.values, dtype=float)[order]
    models = [scores.models[i] for i in order.tolist()]
    start = int(times[0]) // period_us * period_us
    if reference_until_us is None:
        enough = times[min(len(times), AUDIT_UNITS_MIN) - 1]
        until = start + (int(enough) - start) // period_us * period_us + period_us
    else:
        until = reference_until_us
    count = max(0, -(-(int(times[-1]) + 1 - until) // period_us))
    if count > AUDIT_PERIODS_MAX:
        raise InputError(
            f"{count:,} periods: at most {AUDIT_PERIODS_MAX} are compared; take longer ones"
        )
    edges = [min(start, until), *(until + i * period_us for i in range(count + 1))]
    seen: set[str] = set()
    parts: list[_Part] = []
    for since, end in itertools.pairwise(edges):
        low, high = np.searchsorted(times, [since, end])
        new = [m for m in dict.fromkeys(models[low:high]) if m not in seen]
        seen |= set(new)
        parts.append(_Part(since, end, values[low:high], tuple(sorted(new)) if parts else ()))
    return parts[0], parts[1:]


def _verdict(reference: Period, periods: tuple[Period, ...]) -> str:
    """Say what the numbers back, and no more."""
    if reference.n < AUDIT_UNITS_MIN:
        return f"{reference.n} sessions in the reference: at least {AUDIT_UNITS_MIN} are needed"
    judged = [period for period in periods if period.p is not None]
    if not judged:
        return f"no later period has the {AUDIT_UNITS_MIN} sessions that a comparison needs"
    moved = [period for period in judged if period.drifted]
    if moved:
        worst = max(moved, key=lambda period: period.distance or 0.0)
        way = (worst.middle or 0.0) - (reference.middle or 0.0)
        where = "lower" if way < 0 else "higher" if way > 0 else "spread otherwise"
        return (
            f"scores have moved in {len(moved)} of {len(judged)} periods: {where}, "
            f"by up to {100 * (worst.distance or 0.0):.0f} points of share"
        )
    bound = max(period.at_most or 0.0 for period in judged)
    return (
        f"no drift seen in {len(judged)} periods; in none is the distance likely to be above "
        f"{100 * bound:.0f} points of share"
    )
