"""`tocsin audit`: four questions that the record answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tocsin.cli.asking import permitted
from tocsin.cli.history import FOLDER, day, moment, opened
from tocsin.cli.terminal import json_bytes, lines, number, percent, plain, prose, table
from tocsin.errors import InputError
from tocsin.limits import AUDIT_WORDS_MAX

if TYPE_CHECKING:
    from rich.console import Console

    from tocsin.events.envelope import Event
    from tocsin.record.audit.clusters import Cell, Dimension
    from tocsin.record.audit.drift import CheckDrift, Period
    from tocsin.record.audit.sources import Told
    from tocsin.record.audit.statistics import Share
    from tocsin.record.audit.threshold import CheckAlarms
    from tocsin.store.history import Taken
    from tocsin.store.reading import Stored

F = TypeVar("F", bound=Callable[..., Any])
_HOUR_US = 3_600_000_000


def asked(f: F) -> F:
    """Whose record, from when to when, and how the answer is shown."""
    options: list[Callable[[F], F]] = [
        click.argument("store"),
        click.option("--tenant", required=True, help="Whose record."),
        click.option("--since", metavar="TIME", help="From then on, such as 2026-01-31T00:00:00Z."),
        click.option("--until", metavar="TIME", help="Before that time."),
        click.option(
            "--source",
            "sources",
            metavar="NAME",
            multiple=True,
            help="Responses that it told of alone, such as tocsin/gateway; repeatable.",
        ),
        click.option(
            "--folder",
            type=FOLDER,
            metavar="FOLDER",
            help="Where the history is, if not remembered.",
        ),
        click.option("--plot", metavar="FILE.png|FILE.svg", help="Draw the answer."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    ]
    for option in reversed(options):
        f = option(f)
    return f


@click.group("audit")
def command() -> None:
    """Ask the record: do alarms gather, have scores drifted, is the threshold right, who answers?

    Every number comes with what is known of it; where the record backs none, none is printed.
    """


@command.command("clusters", short_help="Do alarms gather on prompts, routes, models, users?")
@asked
def clusters(plot: str | None, *, as_json: bool, **given: Any) -> None:
    """Say where alarms gather in STORE, and where that is more than luck.

    Example: tocsin audit clusters record.db --tenant acme --plot clusters.png
    """
    from tocsin.record.audit.clusters import KINDS, NEEDED, clusters

    with _events(KINDS, NEEDED, plot, given) as (events, taken):
        gone = sum(gone.n for gone in taken if gone.kind == "alarm")
        found = clusters(events, taken=gone, only=given["sources"])
    if _shown(found, plot, as_json=as_json):
        return
    console = lines()
    console.print(
        prose(
            f"{found.alarms.count:,} of {found.alarms.n:,} responses rang "
            f"({_share(found.alarms)}). A cluster is called at p <= {found.alpha:g}, corrected "
            f"for the {found.tests:,} tests that could have found one."
        )
    )
    if found.taken:
        console.print(
            prose(
                f"{found.taken:,} alarms of this time were taken away by retention: which "
                "responses rang is taken from their ends, and what rang is counted among the "
                "alarms that are left."
            )
        )
    for dimension in found.dimensions:
        _dimension(console, dimension)
    if found.endless:
        console.print(
            prose(
                f"{found.endless:,} more rang, and no end of them is in the record: they are part "
                "of no number here."
            )
        )
    _told(console, found.told, f"these {found.told.responses:,} responses")
    _drawn(console, plot)


@command.command("drift", short_help="Do scores still look as they did?")
@asked
@click.option("--reference-until", metavar="TIME", help="End of the time taken as right.")
@click.option("--period-hours", default=24.0, show_default=True, help="Length of a period.")
def drift(
    plot: str | None, reference_until: str | None, period_hours: float, *, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Compare the scores of each period in STORE with those of a time that is taken as right.

    Example: tocsin audit drift record.db --tenant acme --period-hours 24
    """
    from tocsin.record.audit.drift import KINDS, NEEDED, drift

    until_us = moment(reference_until, "--reference-until")
    period_us = _microseconds(period_hours, "--period-hours")
    with _events(KINDS, NEEDED, plot, given) as (events, taken):
        found = drift(
            events, reference_until_us=until_us, period_us=period_us, only=given["sources"]
        )
    if _shown(found, plot, as_json=as_json):
        return
    console = lines()
    if not found.checks:
        console.print("no scores are in the record")
    for check in found.checks:
        _check_drift(console, check)
    for change in found.changes:
        console.print(_line(f"changed {day(change.time_us)}: {change.what}"))
    changed = sum(gone.n for gone in taken if gone.kind.endswith(".changed"))
    if changed:
        console.print(prose(f"{changed:,} changes of this time were taken away by retention."))
    console.print(
        prose(
            "Scores move with the traffic and the model as well as with the verifier: a drift says "
            "that they moved, not why."
        )
    )
    _told(console, found.told)
    _drawn(console, plot)


@command.command("threshold", short_help="How many alarms were false?")
@asked
@click.option("--epsilon", type=float, help="The rate of false alarms that was promised.")
def threshold(plot: str | None, epsilon: float | None, *, as_json: bool, **given: Any) -> None:
    """Say what share of the alarms in STORE reviews called safe, with an interval.

    Example: tocsin audit threshold record.db --tenant acme --epsilon 0.05
    """
    from tocsin.record.audit.threshold import KINDS, NEEDED, threshold

    with _events(KINDS, NEEDED, plot, given) as (events, _):
        found = threshold(events, epsilon=epsilon, only=given["sources"])
    if _shown(found, plot, as_json=as_json):
        return
    console = lines()
    heads = ["check", "calibration", "alarms", "reviewed", "safe", "unsafe", "false", "90 %"]
    rows = [_check_alarms(check) for check in found.checks]
    if not rows:
        console.print("no alarm is in the record")
        _told(console, found.told)
        return
    console.print(table("", heads, rows))
    for check in found.checks:
        console.print(prose(f"{plain(check.check)}: {check.verdict}."))
    for said in dict.fromkeys(check.assumption for check in found.checks if check.assumption):
        console.print(prose(f"The interval {said}."))
    if found.missed:
        console.print(prose(f"{found.missed:,} responses without any alarm were called unsafe."))
    _told(console, found.told)
    _drawn(console, plot)


@command.command("escalations", short_help="Is the escalation path used as designed?")
@asked
@click.option("--within-hours", default=24.0, show_default=True, help="When an answer is due.")
def escalations(plot: str | None, within_hours: float, *, as_json: bool, **given: Any) -> None:
    """Say who was asked in STORE, who answered and how fast, and where that was not as designed.

    Example: tocsin audit escalations record.db --tenant acme --within-hours 4
    """
    from tocsin.record.audit.escalations import KINDS, NEEDED, escalations

    within_us = _microseconds(within_hours, "--within-hours")
    with _events(KINDS, NEEDED, plot, given) as (events, _):
        until_us = moment(given["until"], "--until")
        found = escalations(events, within_us=within_us, until_us=until_us, only=given["sources"])
    if _shown(found, plot, as_json=as_json):
        return
    console = lines()
    heads = ["path", "asked", "upheld", "overruled", "unclear", "unanswered", "open", "bypassed",
             "answered", "half within", "90 % within"]  # fmt: skip
    rows = [
        [r.path, *(f"{n:,}" for n in (r.asked, r.upheld, r.overruled, r.unclear, r.unanswered,
                                      r.open, r.bypassed)),
         percent(r.answered.share), _wait(r.median_us), _wait(r.slowest_us)]
        for r in found.routes
    ]  # fmt: skip
    if rows:
        console.print(table("", heads, rows))
    console.print(prose(f"{found.verdict.capitalize()}."))
    for astray in found.astray:
        some = ", ".join(_short(name) for name in astray.examples[:3])
        console.print(_line(f"{astray.count:,} × {astray.what}: {some}"))
    _told(console, found.told)
    _drawn(console, plot)


# ------------------------------------------------------------------------------------- parts


@contextmanager
def _events(
    kinds: tuple[str, ...], needed: tuple[str, ...], plot: str | None, given: dict[str, Any]
) -> Iterator[tuple[Iterable[Event], list[Taken]]]:
    """Open the record and give what is asked about, and what of it was taken away.

    What cannot be drawn is refused before, and so is a time of which needed events are gone;
    a source that said nothing is refused when all was read.
    """
    from tocsin.record.audit.gaps import refuse_gaps
    from tocsin.store import Scope
    from tocsin.store.history import KINDS

    if plot is not None:
        from tocsin.evaluation.canvas import library

        _format(plot)
        library("matplotlib")
    which: dict[str, Any] = {"kind": kinds}
    for name in ("since", "until"):
        time_us = moment(given[name], f"--{name}")
        if time_us is not None:
            which[f"{name}_us"] = time_us
    with opened(given["store"], folder=given["folder"]) as (store, history):
        permitted(store, given["tenant"], "audit.ask")
        scope = Scope(given["tenant"])
        taken = history.taken(scope, **which)
        refuse_gaps(taken, needed)
        events = _Again(partial(history.stream, scope, **which))
        yield events, taken
        silent = [name for name in given["sources"] if name not in events.sources]
        if silent:
            anything = _Again(partial(history.stream, scope, **(which | {"kind": KINDS})))
            _refuse_silent(silent, anything)


class _Again:
    """Events that are read anew whenever they are gone through.

    Attributes:
        sources: who said those that were gone through.
    """

    def __init__(self, stream: Callable[[], Iterator[Stored]]) -> None:
        self._stream = stream
        self.sources: set[str] = set()

    def __iter__(self) -> Iterator[Event]:
        for stored in self._stream():
            self.sources.add(stored.event.source)
            yield stored.event


def _refuse_silent(silent: list[str], events: _Again) -> None:
    """Refuse a source of which there is nothing: a wrong name must not look like all quiet."""
    from tocsin.events.reading import OUR_SOURCES

    for _ in events:
        pass
    strange = next((name for name in silent if name not in events.sources), None)
    if strange is None:
        return
    ours_first = sorted(events.sources, key=lambda name: (not name.startswith(OUR_SOURCES), name))
    known = [_short(name) for name in ours_first]
    some = ", ".join(known[:_SHOWN]) or "none"
    more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
    there = "there are" if len(known) > 1 else "there is"
    raise click.UsageError(
        f"there is no event of the source {strange[:64]!r} in this time; {there} {some}{more}"
    )


def _shown(found: Any, plot: str | None, *, as_json: bool) -> bool:
    """Draw where that is asked for; print JSON where that is, and say so."""
    if plot is not None:
        from tocsin.durable import write_whole
        from tocsin.record.audit.pictures import draw

        write_whole(plot, draw(found, _format(plot)))
    if as_json:
        click.echo(json_bytes(found))
    return as_json


def _format(name: str) -> Any:
    ending = name.rpartition(".")[2].lower()
    if ending not in {"png", "svg"}:
        raise InputError(f"--plot {name!r}: the name must end in .png or .svg")
    return ending


def _microseconds(hours: float, option: str) -> int:
    if not 0 < hours <= 24 * 36_525:
        raise InputError(f"{option} {hours:g}: above 0")
    return int(hours * _HOUR_US)


def _told(console: Console, told: Told, all_of_them: str = "") -> None:
    """Say whose word the numbers rest on, where it is not that of Tocsin alone."""
    if told.by_others:
        all_of_them = all_of_them or f"the {told.responses:,} responses that ended or rang"
        others = ", ".join(_short(name) for name in told.others)
        console.print(
            prose(f"{told.by_others:,} of {all_of_them} were told by other services: {others}.")
        )
    if told.aside:
        console.print(
            prose(
                f"{told.aside:,} events of other services are left aside: they are about the "
                "course of responses that Tocsin itself told of."
            )
        )
    if told.broken:
        console.print(
            prose(f"{told.broken:,} events are left out: they hold a number that cannot be.")
        )


def _drawn(console: Console, plot: str | None) -> None:
    if plot is not None:
        console.print(_line(f"picture: {plot}"))


def _line(text: str) -> Any:
    """Make text that is never read as markup."""
    from rich.text import Text

    return Text(plain(text))


def _share(found: Share) -> str:
    if found.low is None or found.high is None:
        return "-"
    return f"{percent(found.share)}, {100 * found.low:.1f}-{100 * found.high:.1f}"


def _dimension(console: Console, found: Dimension) -> None:
    heads = [found.name, "alarms", "of", "share", "90 %", "elsewhere", "users", "p"]
    rows = [_cell(cell) for cell in found.cells[:_SHOWN]]
    some = any(cell.clusters for cell in found.cells)
    told = some or not found.tested or 1 < found.values <= _SHOWN
    console.print()
    if told:
        console.print(table("", heads, rows))
    said = found.verdict
    if told and found.values > _SHOWN:
        said += f"; {found.values - _SHOWN:,} more are counted and not shown"
    if found.unknown and found.tested:
        said += f"; {found.unknown:,} responses do not say where they belong"
    console.print(prose(f"{plain(found.name).capitalize()}: {plain(said)}."))


_SHOWN = 6


def _cell(cell: Cell) -> list[str]:
    low, high = cell.alarms.low or 0.0, cell.alarms.high or 0.0
    return [
        ("! " if cell.clusters else "  ") + _short(cell.value),
        f"{cell.alarms.count:,}",
        f"{cell.alarms.n:,}",
        percent(cell.alarms.share),
        f"{100 * low:.1f}-{100 * high:.1f}",
        percent(cell.elsewhere),
        f"{cell.users:,}",
        "-" if cell.p is None else f"{cell.p:.2g}",
    ]


def _check_drift(console: Console, check: CheckDrift) -> None:
    under = ", ".join(_short(digest, 14) for digest in check.calibrations)
    heads = ["period", "sessions", "10 %", "middle", "90 %", "distance", "at most", "p"]
    shown = [p for p in check.periods if p.drifted][-_SHOWN:] or check.periods[-_SHOWN:]
    rows = [_period(check.reference, "reference ")] + [_period(p) for p in shown]
    by = f" by {check.verifier}" if check.verifier else ""
    title = f"{check.check}{by} under {under}" if under else f"{check.check}{by}"
    console.print(table(title, heads, rows))
    console.print(prose(f"{plain(check.check)}: {check.verdict}."))


def _period(period: Period, name: str = "") -> list[str]:
    return [
        f"{'! ' if period.drifted else '  '}{name}{day(period.since_us)}",
        f"{period.n:,}",
        number(period.low, 2),
        number(period.middle, 2),
        number(period.high, 2),
        number(period.distance, 2),
        number(period.at_most, 2),
        "-" if period.p is None else f"{period.p:.2g}",
    ]


def _check_alarms(check: CheckAlarms) -> list[str]:
    ends = "-"
    if check.low is not None and check.high is not None:
        ends = f"{100 * check.low:.1f}-{100 * check.high:.1f}"
        ends += " (certain)" if check.basis == "bounds" else ""
    return [
        _short(check.check),
        _short(check.calibration, 14),
        *(f"{n:,}" for n in (check.alarms, check.reviewed, check.safe, check.unsafe)),
        percent(check.false_share),
        ends,
    ]


def _wait(time_us: int | None) -> str:
    if time_us is None:
        return "-"
    minutes = time_us / 60_000_000
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _short(name: str, longest: int = AUDIT_WORDS_MAX) -> str:
    shown = plain(" ".join(name.split()))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
