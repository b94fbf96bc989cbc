"""The answers as pictures: what was counted as points, what is known of it as bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tocsin.evaluation.canvas import (
    INK,
    LARGE,
    MUTED,
    PLAIN,
    RULE,
    SMALL,
    Format,
    add_axes,
    drawing,
    library,
    picture,
    shown,
    write,
)
from tocsin.events.moments import YEAR_10000_US, rfc3339
from tocsin.record.audit.clusters import Clusters, Dimension
from tocsin.record.audit.drift import CheckDrift, Drift, Period
from tocsin.record.audit.escalations import Escalations, Route
from tocsin.record.audit.threshold import CheckAlarms, Thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PLAIN, _LOUD = "#3b6ea5", "#c0392b"
_NAMES, _WIDTH, _PANEL = 2.1, 8.0, 5.5
_LINE, _HEAD, _GAP = 0.2, 0.52, 0.42
_CELLS, _PANELS, _DATES = 6, 8, 6
_ANSWERS = (
    ("upheld", "upheld", "#2f5d8a"),
    ("overruled", "overruled", "#8fb3d4"),
    ("unclear", "unclear", "#c9b458"),
    ("open", "time not over", "#e3e3e3"),
    ("unanswered", "unanswered", "#c0392b"),
    ("bypassed", "done without", "#7d2118"),
)


def clusters(found: Clusters, kind: Format = "png") -> bytes:
    """Draw the rates of each value beside the rate of all, with their intervals."""
    dimensions = [d for d in found.dimensions if d.judged and d.values > 1][:_PANELS]
    with drawing() as figure:
        heights = [_LINE * min(_CELLS, len(d.cells)) for d in dimensions]
        height = _frame(
            figure, heights, "Where alarms gather",
            f"{found.alarms.count:,} of {found.alarms.n:,} responses rang; bars hold the true "
            f"share with 90 %; red: more than luck gives (of {found.tests:,} tests, "
            f"{100 * found.alpha:g} % for all together)",
        )  # fmt: skip
        top = max([c.alarms.high or 0.0 for d in dimensions for c in d.cells[:_CELLS]] or [1.0])
        for dimension, tall in zip(dimensions, heights, strict=True):
            height -= _HEAD + tall
            axes = _panel(figure, height, tall, dimension.name, _tail(dimension))
            for i, cell in enumerate(dimension.cells[:_CELLS]):
                colour = _LOUD if cell.clusters else _PLAIN
                ends = (cell.alarms.low, cell.alarms.share, cell.alarms.high)
                _bar(figure, axes, i, cell.value, ends, colour)
            _rows(axes, len(dimension.cells[:_CELLS]), min(1.0, 1.05 * top))
            if found.alarms.share is not None:
                axes.axvline(found.alarms.share, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.xaxis.set_major_formatter(_percent)
            if dimension is dimensions[-1]:
                axes.set_xlabel("share of responses with an alarm (dashed: all)", size=SMALL)
        if not dimensions:
            _nothing(figure, "nothing to compare")
        return picture(figure, kind)


def drift(found: Drift, kind: Format = "png") -> bytes:
    """Draw the lowest scores of each period: their middle, and where eight in ten lie."""
    checks = [check for check in found.checks if check.periods][:_PANELS]
    with drawing() as figure:
        heights = [1.35] * len(checks)
        height = _frame(
            figure, heights, "Do scores still look as they did?",
            f"lowest score of each first response of a session: middle, and where eight in ten "
            f"lie; red: not as in the reference ({found.tests:,} tests, {100 * found.alpha:g} % "
            "for all together)",
        )  # fmt: skip
        for check, tall in zip(checks, heights, strict=True):
            height -= _HEAD + tall
            label = f"{len(check.periods)} periods"
            name = f"{check.check} · {check.verifier}" if check.verifier else check.check
            axes = _panel(figure, height, tall, name, label, left=0.7, wide=7.1)
            _scores(axes, check, found)
        if not checks:
            _nothing(figure, "no scores to compare")
        return picture(figure, kind)


def threshold(found: Thresholds, kind: Format = "png") -> bytes:
    """Draw the share of false alarms of each check, with what is known of it."""
    checks = found.checks[: _CELLS * 4]
    with drawing() as figure:
        heights = [_LINE * max(1, len(checks))]
        height = _frame(
            figure, heights, "How many alarms were false?",
            "share of alarms that reviews call safe: point: estimate; bar: 90 % interval, or (red) "
            "what is certain where nobody knows how cases were chosen",
        )  # fmt: skip
        height -= _HEAD + heights[0]
        axes = _panel(figure, height, heights[0], "check", f"{len(found.checks)} in all")
        for i, check in enumerate(checks):
            ends = (check.low, check.false_share, check.high)
            colour = _LOUD if check.basis == "bounds" else _PLAIN
            _bar(figure, axes, i, _told(check), ends, colour)
            if check.low is None:
                axes.text(0.01, i, "nobody looked", color=MUTED, size=SMALL, va="center")
        _rows(axes, max(1, len(checks)), 1.0)
        axes.xaxis.set_major_formatter(_percent)
        axes.set_xlabel("share of the check's alarms", size=SMALL)
        return picture(figure, kind)


def escalations(found: Escalations, kind: Format = "png") -> bytes:
    """Draw what became of those who were asked, and how soon people answered."""
    with drawing() as figure:
        routes = found.routes
        heights = [0.34 * max(1, len(routes))]
        timed = bool(found.times_us)
        if timed:
            heights.append(1.3)
        height = _frame(
            figure, heights, "Is the escalation path used as designed?", found.verdict
        )  # fmt: skip
        height -= _HEAD + heights[0]
        axes = _panel(figure, height, heights[0], "asked", "")
        for i, route in enumerate(routes):
            _stack(figure, axes, i, route)
        _rows(axes, max(1, len(routes)), max([_size(r) for r in routes] or [1]) * 1.02)
        axes.xaxis.set_major_locator(library("matplotlib.ticker").MaxNLocator(6, integer=True))
        _key(axes)
        if timed:
            height -= _HEAD + heights[1]
            label = f"{len(found.times_us):,} answers in {found.cases:,} cases"
            axes = _panel(figure, height, heights[1], "time to a person's answer", label)
            _times(axes, found)
        return picture(figure, kind)


# ------------------------------------------------------------------------------------- parts


def _frame(figure: Figure, heights: Sequence[float], title: str, said: str) -> float:
    """Size the figure and write its head; return where the panels begin, in inches."""
    lines = _wrapped(said)
    head = 0.3 + 0.16 * len(lines)
    height = head + sum(heights) + _HEAD * max(1, len(heights)) + _GAP + 0.1
    figure.set_size_inches(_WIDTH, height)
    write(figure, 0.15, height - 0.14, title, size=LARGE, weight="bold", va="top")
    for i, line in enumerate(lines):
        write(figure, 0.15, height - 0.4 - 0.16 * i, line, size=SMALL, color=MUTED, va="top")
    return height - head


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 118)


def _panel(
    figure: Figure, bottom: float, tall: float, name: str, tail: str,
    *, left: float = _NAMES, wide: float = _PANEL,
) -> Axes:  # fmt: skip
    axes = add_axes(figure, left, bottom, wide, tall)
    head = {"size": PLAIN, "weight": "bold"}
    write(figure, 0.15, bottom + tall + 0.1, shown(figure, name, 3.5, **head), **head)
    if tail:
        write(figure, left + wide, bottom + tall + 0.1, tail, size=SMALL, color=MUTED, ha="right")
    return axes


def _bar(
    figure: Figure,
    axes: Axes,
    i: int,
    name: str,
    ends: tuple[float | None, float | None, float | None],
    colour: str,
) -> None:
    low, middle, high = ends
    cut = shown(figure, name, _NAMES - 0.3, size=SMALL)
    axes.annotate(
        cut, (0.0, i), (-6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="center", size=SMALL, color=INK,
    )  # fmt: skip
    if low is not None and high is not None:
        axes.plot([low, high], [i, i], color=colour, linewidth=2.2, alpha=0.45, zorder=2)
    if middle is not None:
        axes.plot([middle], [i], color=colour, marker="o", markersize=4.5, zorder=3, clip_on=False)


def _rows(axes: Axes, count: int, right: float) -> None:
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlim(0.0, right or 1.0)
    axes.set_yticks([])
    axes.grid(visible=True, axis="x", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)


def _percent(value: float, _place: object) -> str:
    return f"{100 * value:g} %"


def _tail(dimension: Dimension) -> str:
    more = dimension.values - min(_CELLS, len(dimension.cells))
    return f"{more:,} more" if more else ""


def _nothing(figure: Figure, text: str) -> None:
    write(figure, 0.15, 0.2, text, size=PLAIN, color=MUTED)


def _scores(axes: Axes, check: CheckDrift, found: Drift) -> None:
    """One check over time."""
    reference = check.reference
    periods = [p for p in (reference, *check.periods) if p.n]
    start = min(p.since_us for p in (reference, *check.periods))

    def days(time_us: float) -> float:
        return (time_us - start) / 86_400_000_000

    for period in periods:
        colour = INK if period is reference else _LOUD if period.drifted else _PLAIN
        at = days((period.since_us + period.until_us) / 2)
        low, middle, high = (v or 0.0 for v in (period.low, period.middle, period.high))
        axes.plot([at, at], [low, high], color=colour, linewidth=2.2, alpha=0.45)
        judged = period is reference or period.p is not None
        axes.plot(
            [at], [middle], color=colour, marker="o", markersize=4.2,
            markerfacecolor=colour if judged else "white",
        )  # fmt: skip
    axes.axvspan(days(reference.since_us), days(reference.until_us), color=RULE, alpha=0.5, lw=0)
    for change in found.changes:
        axes.axvline(days(change.time_us), color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)))
    axes.grid(visible=True, axis="y", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlim(0.0, days(max(p.until_us for p in (reference, *check.periods))))
    axes.set_ylabel("score (high: safe)", size=SMALL)
    _dates(axes, [reference, *check.periods], days)
    axes.set_xlabel(
        "day and time (UTC); grey: the reference; dashed: a change; hollow: too few", size=SMALL
    )


def _dates(axes: Axes, periods: Sequence[Period], days: Callable[[float], float]) -> None:
    """Name the beginnings of some periods."""
    some = periods[:: -(-len(periods) // _DATES)]
    times = [min(max(p.since_us, 0), YEAR_10000_US - 1) for p in some]
    told = [rfc3339(time_us)[:16].split("T") for time_us in times]
    whole = all(clock == "00:00" for _, clock in told)
    axes.set_xticks(
        [days(p.since_us) for p in some],
        [date if whole else f"{date} {clock}" for date, clock in told],
    )


def _told(check: CheckAlarms) -> str:
    digest = check.calibration.removeprefix("sha256:")[:8]
    return f"{check.check} · {digest} ({check.reviewed} of {check.alarms})"


def _size(route: Route) -> int:
    return sum(getattr(route, name) for name, _, _ in _ANSWERS)


def _stack(figure: Figure, axes: Axes, i: int, route: Route) -> None:
    _bar(figure, axes, i, route.path, (None, None, None), INK)
    left = 0
    for name, _, colour in _ANSWERS:
        count = getattr(route, name)
        axes.barh(i, count, left=left, height=0.55, color=colour, linewidth=0)
        left += count


def _key(axes: Axes) -> None:
    patch = library("matplotlib.patches").Patch
    axes.legend(
        [patch(color=colour, linewidth=0) for _, _, colour in _ANSWERS],
        [label for _, label, _ in _ANSWERS],
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(_ANSWERS), frameon=False,
        fontsize=SMALL, borderpad=0, borderaxespad=0.4, columnspacing=1.0, handlelength=1.0,
        handletextpad=0.4,
    )  # fmt: skip


def _times(axes: Axes, found: Escalations) -> None:
    """Share of the cases that were answered, by the wait; who waits in vain never is."""
    hours = [time_us / 3_600_000_000 for time_us in found.times_us]
    cases = max(found.cases, len(hours))
    shares = [(i + 1) / cases for i in range(len(hours))]
    within = found.within_us / 3_600_000_000
    right = max(hours[-1], within) * 1.05
    steps = [0.0, *shares, shares[-1]]
    axes.step([0.0, *hours, right], steps, where="post", color=_PLAIN, linewidth=1.4)
    axes.axvline(within, color=_LOUD, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_ylim(0.0, 1.02)
    axes.set_xlim(0.0, right if math.isfinite(right) else 1.0)
    axes.yaxis.set_major_formatter(_percent)
    axes.grid(visible=True, color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel("hours (dashed: when an answer is due)", size=SMALL)
    axes.set_ylabel("cases answered", size=SMALL)


def draw(found: Any, kind: Format = "png") -> bytes:
    """Draw an answer, whichever it is."""
    if isinstance(found, Clusters):
        return clusters(found, kind)
    if isinstance(found, Drift):
        return drift(found, kind)
    if isinstance(found, Thresholds):
        return threshold(found, kind)
    return escalations(found, kind)
