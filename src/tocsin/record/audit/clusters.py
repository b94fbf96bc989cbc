"""Do alarms cluster on certain prompts, routes, models, sessions, users or rules?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from tocsin.errors import InputError
from tocsin.events.envelope import UNKNOWN, Event, Segment
from tocsin.events.kinds import Alarmed, StreamEnded, StreamOpened
from tocsin.limits import AUDIT_RESPONSES_MAX, AUDIT_ROWS_MAX
from tocsin.record.audit.sources import Sources, Told, response_of
from tocsin.record.audit.statistics import ALPHA, Floats, Share, share, tarone, upper_tail

KINDS = ("stream.opened", "stream.ended", "alarm")
"""What this audit reads."""

NEEDED = ("stream.ended",)
"""What it cannot do without; alarms that are gone are told by the ends of their responses."""

_DIMENSIONS: dict[str, Callable[[_Response], str | None]] = {
    "route": lambda r: _known(r.segment.route),
    "model": lambda r: _known(r.segment.model),
    "model version": lambda r: _known(r.segment.model_version),
    "policy": lambda r: _known(r.segment.policy),
    "language": lambda r: _known(r.segment.language),
    "surface": lambda r: _known(r.segment.surface),
    "prompt": lambda r: r.prompt,
    "session": lambda r: r.session,
    "user": lambda r: r.user,
}
"""Where a response belongs; each is tested."""

_PEOPLE = {"session", "user"}

_RINGERS: dict[str, Callable[[Alarmed], str | None]] = {
    "check": lambda a: a.check,
    "rule": lambda a: a.rule,
    "category": lambda a: a.category,
}
"""What rang; counted, not tested: no rule is due any share of the alarms."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One value of one dimension.

    Args:
        value: such as the name of a route.
        alarms: responses with an alarm, of its responses; for a rule, of all responses whose alarms
            are in the record.
        part: of all responses with an alarm, in [0, 1].
        sessions, users: distinct ones among the responses with an alarm that say so.
        elsewhere: the share among the responses of all other known values; None for a rule.
        p: corrected for all values of all dimensions; None where it is not tested.
        clusters: whether more alarms are here than luck gives.
    """

    value: str
    alarms: Share
    part: float
    sessions: int
    users: int
    elsewhere: float | None = None
    p: float | None = None
    clusters: bool = False


class Dimension(msgspec.Struct, frozen=True, kw_only=True):
    """All values of one dimension, those with the most surprising alarms first.

    Args:
        name: such as `route`.
        values: how many there are; `cells` holds at most `AUDIT_ROWS_MAX`.
        unknown: responses that do not say where they belong: a blind spot.
        tested: whether a rate here is compared with a rate elsewhere.
        judged: whether any outcome could have been a cluster; otherwise there is too little.
        verdict: a sentence.
    """

    name: str
    values: int
    unknown: int
    tested: bool
    judged: bool
    verdict: str
    cells: tuple[Cell, ...]


class Clusters(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: about responses of which the end is in the record.

    Args:
        alarms: responses with an alarm among all.
        tests: for how many tests every p-value is corrected.
        alpha: chance that any cluster is found where there is none.
        dimensions: in a fixed order; one of which nothing is known is left out.
        taken: alarms that retention took away. Which responses rang is known from their ends all
            the same; what rang, only of the alarms that are left.
        endless: responses that rang and have no end in the record; they count nowhere else.
        told: by whom the responses were told of.
    """

    alarms: Share
    tests: int
    alpha: float
    dimensions: tuple[Dimension, ...]
    taken: int = 0
    endless: int = 0
    told: Told = Told()


def _known(value: str) -> str | None:
    return None if value == UNKNOWN else value


@dataclass(slots=True)
class _Response:
    segment: Segment
    session: str | None
    user: str | None
    prompt: str | None = None
    alarms: int = 0


@dataclass
class _Tally:
    """What is counted for one value."""

    responses: int = 0
    rang: int = 0
    visits: set[str] = field(default_factory=set)
    visits_rang: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)

    def add(self, visit: str, response: _Response, *, rang: bool) -> None:
        self.responses += 1
        self.visits.add(visit)
        if rang:
            self.rang += 1
            self.visits_rang.add(visit)
            self.sessions |= {response.session} - {None}  # type: ignore[arg-type]
            self.users |= {response.user} - {None}  # type: ignore[arg-type]


def clusters(
    events: Iterable[Event], *, alpha: float = ALPHA, taken: int = 0, only: Collection[str] = ()
) -> Clusters:
    """Find where alarms gather.

    A response that ended counts once however often it rang. A value is called a cluster where its
    responses ring more often than those of all other values, and so do its people (users; sessions
    where users are unknown): one person who rings fifty times makes no route dangerous. Both tests
    are Fisher's, the larger p-value counts, corrected over everything that was tested (Tarone). A
    session or a user is tested by its responses alone.

    Args:
        events: of the kinds `KINDS`; others are passed over.
        alpha: chance that any cluster is found where there is none, in (0, 1).
        taken: alarms of this time that retention took away.
        only: sources of events to which the answer is restricted; all where empty.

    Raises:
        InputError: more than `AUDIT_RESPONSES_MAX` responses, or alarms were taken away that no
            end of a response tells of.

    Example:
        >>> clusters([]).alarms.n
        0
    """
    heard = Sources(events, only, shown_by=(StreamEnded,))
    responses, rang = _read(heard)
    ringers = {name: alarms for name, alarms in rang.items() if name in responses}
    _refuse_untold(responses, ringers, taken)
    answer = _answer(responses, ringers, alpha)
    endless = len(rang) - len(ringers)
    return msgspec.structs.replace(answer, taken=taken, endless=endless, told=heard.told)


def _refuse_untold(
    responses: dict[str, _Response], ringers: dict[str, list[Alarmed]], taken: int
) -> None:
    told = sum(max(0, r.alarms - len(ringers.get(name, ()))) for name, r in responses.items())
    if told < taken:
        raise InputError(
            f"{taken:,} alarms of this time were taken away by retention, and the ends of the "
            f"responses tell of {told:,} of them: how many responses rang is not known; ask about "
            "a later time"
        )


def _read(events: Iterable[Event]) -> tuple[dict[str, _Response], dict[str, list[Alarmed]]]:
    responses: dict[str, _Response] = {}
    ringers: dict[str, list[Alarmed]] = defaultdict(list)
    prompts: dict[str, str] = {}
    segments: dict[Segment, Segment] = {}  # one of each, or every response would hold its own
    for event in events:
        name = response_of(event)
        if isinstance(event.body, StreamEnded):
            _refuse_more_than_fit(len(responses))
            responses[name] = _Response(
                segment=segments.setdefault(event.segment, event.segment),
                session=event.links.session,
                user=event.links.user,
                alarms=event.body.alarms,
            )
        elif isinstance(event.body, StreamOpened):
            if event.body.prompt is not None:
                _refuse_more_than_fit(len(prompts))
                prompts[name] = event.body.prompt
        elif isinstance(event.body, Alarmed):
            ringers[name].append(event.body)
    for name, response in responses.items():
        response.prompt = prompts.get(name)
    return responses, ringers


def _refuse_more_than_fit(n: int) -> None:
    if n >= AUDIT_RESPONSES_MAX:
        raise InputError(f"more than {AUDIT_RESPONSES_MAX:,} responses: ask about a shorter time")


def _answer(
    responses: dict[str, _Response], ringers: dict[str, list[Alarmed]], alpha: float
) -> Clusters:
    rung = {name for name, response in responses.items() if response.alarms or name in ringers}
    rang = len(rung)
    tallies: list[dict[str, _Tally]] = [defaultdict(_Tally) for _ in _DIMENSIONS]
    unknown = [0] * len(_DIMENSIONS)
    for name, response in responses.items():
        who = response.user or response.session
        visit = f"response {name}" if who is None else f"by {who}"
        for i, value in enumerate(read(response) for read in _DIMENSIONS.values()):
            if value is None:
                unknown[i] += 1
            else:
                tallies[i][value].add(visit, response, rang=name in rung)
    p, least = _tests(tallies)
    corrected = tarone(np.concatenate(p), np.concatenate(least), alpha)
    found, start = [], 0
    for i, name in enumerate(_DIMENSIONS):
        size = len(tallies[i])
        part = corrected.p[start : start + size]
        useful = bool(np.any(least[i] <= alpha / corrected.counted))
        start += size
        if size:
            found.append(_dimension(name, tallies[i], unknown[i], part, useful=useful, alpha=alpha))
    found += _rung(responses, ringers, rang)
    return Clusters(
        alarms=share(rang, len(responses)),
        tests=corrected.counted,
        alpha=alpha,
        dimensions=tuple(found),
    )


def _tests(
    tallies: list[dict[str, _Tally]],
) -> tuple[list[Floats], list[Floats]]:
    """Of each dimension: p-values, and the smallest that the sizes allow."""
    p, least = [], []
    for name, cells in zip(_DIMENSIONS, tallies, strict=True):
        by_response = _fisher([(c.rang, c.responses) for c in cells.values()])
        if name in _PEOPLE:
            p.append(by_response[0])
            least.append(by_response[1])
            continue
        # Who was on two routes is one person on each.
        by_visit = _fisher([(len(c.visits_rang), len(c.visits)) for c in cells.values()])
        p.append(np.maximum(by_response[0], by_visit[0]))
        least.append(np.maximum(by_response[1], by_visit[1]))
    return p, least


def _fisher(pairs: list[tuple[int, int]]) -> tuple[Floats, Floats]:
    if not pairs:
        return np.zeros(0), np.zeros(0)
    rang, size = (np.asarray(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    rang_all, size_all = int(rang.sum()), int(size.sum())
    most = np.minimum(size, rang_all)
    return (
        upper_tail(rang, size, rang_all, size_all),
        upper_tail(most, size, rang_all, size_all),
    )


def _dimension(
    name: str, tallies: dict[str, _Tally], unknown: int, p: Floats,
    *, useful: bool, alpha: float,
) -> Dimension:  # fmt: skip
    rang = sum(tally.rang for tally in tallies.values())
    size = sum(tally.responses for tally in tallies.values())
    cells = []
    order = sorted(
        zip(tallies.items(), p.tolist(), strict=True),
        key=lambda item: (item[1], -item[0][1].rang, -item[0][1].responses, item[0][0]),
    )
    for (value, tally), chance in order[:AUDIT_ROWS_MAX]:
        others = size - tally.responses
        cells.append(
            Cell(
                value=value,
                alarms=share(tally.rang, tally.responses),
                part=tally.rang / rang if rang else 0.0,
                sessions=len(tally.sessions),
                users=len(tally.users),
                elsewhere=(rang - tally.rang) / others if others else None,
                p=chance,
                clusters=chance <= alpha,
            )
        )
    guilty = int(np.sum(p <= alpha))
    if len(tallies) == 1:
        verdict = "one value alone: nothing to compare"
    elif guilty:
        top = cells[0]
        verdict = (
            f"alarms cluster on {guilty} of {len(tallies)}; the most on {top.value!r}: "
            f"{100 * (top.alarms.share or 0):.1f} % of its responses"
        )
        if top.elsewhere is not None:
            verdict += f", {100 * top.elsewhere:.1f} % elsewhere"
    elif useful:
        verdict = f"no cluster among {len(tallies)}"
    else:
        verdict = "too few alarms to tell: no outcome could have been a cluster"
    return Dimension(
        name=name, values=len(tallies), unknown=unknown, tested=True, judged=useful,
        verdict=verdict, cells=tuple(cells),
    )  # fmt: skip


def _rung(
    responses: dict[str, _Response], ringers: dict[str, list[Alarmed]], rang: int
) -> list[Dimension]:
    """Count by what rang: only an alarm says so, and of some no more than the end is here."""
    found = []
    everyone = len(ringers)
    which = "with an alarm" if everyone == rang else f"whose alarms are here ({everyone:,})"
    for name, read in _RINGERS.items():
        tallies: dict[str, _Tally] = defaultdict(_Tally)
        for call, alarms in ringers.items():
            for value in {read(alarm) for alarm in alarms} - {None}:
                assert value is not None  # noqa: S101 - None was taken out
                tallies[value].add(call, responses[call], rang=True)
        if not tallies:
            continue
        order = sorted(tallies.items(), key=lambda item: (-item[1].rang, item[0]))
        cells = [
            Cell(
                value=value,
                alarms=share(tally.rang, everyone),
                part=tally.rang / everyone,
                sessions=len(tally.sessions),
                users=len(tally.users),
            )
            for value, tally in order[:AUDIT_ROWS_MAX]
        ]
        most = cells[0]
        verdict = f"{most.value!r} rang in {100 * most.part:.1f} % of the responses {which}"
        unknown = sum(all(read(alarm) is None for alarm in them) for them in ringers.values())
        found.append(
            Dimension(
                name=name,
                values=len(tallies),
                unknown=unknown,
                tested=False,
                judged=False,
                verdict=verdict,
                cells=tuple(cells),
            )
        )
    return found
