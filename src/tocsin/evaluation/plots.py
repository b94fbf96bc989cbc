"""Figures of evaluations: rates and delay against epsilon, and rates by segment.

Nothing is written: the functions return the bytes of a picture. Equal reports give equal bytes
under one version of matplotlib, whatever the user's own matplotlib settings are; those are set
aside while a picture is drawn, so two threads should not draw at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tocsin.errors import InputError
from tocsin.evaluation.canvas import (
    FORBIDDEN,
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
    renderer_of,
    shift,
    shown,
    write,
)
from tocsin.evaluation.evaluate import Report, Row
from tocsin.evaluation.roster import contestants
from tocsin.limits import COLUMNS_MAX
from tocsin.model import Risk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

MONITORS: tuple[str, ...] = (
    "paper_crc",
    "paper_ucb",
    "evaluator_pac",
    "evaluator_anytime",
    "ewma_exact",
    "auto",
)
"""What `render` draws unless told otherwise: the published monitors, and two of ours."""


# The colours of Okabe and Ito, by family; dashes and markers tell the lines apart without them.
_LOOKS: dict[str, tuple[str, Any, str]] = {
    "paper_crc": ("#E69F00", "-", "^"),
    "paper_ucb": ("#D55E00", (0, (4, 1.5)), "v"),
    "evaluator_pac": ("#56B4E9", "-", "s"),
    "evaluator_anytime": ("#0072B2", (0, (1.2, 1.4)), "D"),
    "min_exact": ("#CC79A7", (0, (4, 1.5)), "<"),
    "per_step_exact": ("#CC79A7", (0, (1.2, 1.4)), ">"),
    "ewma_exact": ("#009E73", (0, (5, 1.2, 1.2, 1.2)), "P"),
    "posterior_exact": ("#CC79A7", "-", "p"),
    "closing_exact": ("#009E73", (0, (1.2, 1.4)), "h"),
    "auto": ("#000000", "-", "o"),
    "auto_power": ("#000000", (0, (4, 1.5)), "X"),
    "auto_saved": ("#000000", (0, (1.2, 1.4)), "*"),
}


@dataclass(frozen=True)
class _Point:
    """A mean and its band over splits; NaN where there is none."""

    mean: float
    low: float
    high: float


def _far(row: Row) -> _Point:
    return _Point(row.far_mean, row.far_p10, row.far_p90)


def _power(row: Row) -> _Point:
    return _Point(row.power_mean, row.power_p10, row.power_p90)


def _missed(row: Row) -> _Point:
    return _Point(1.0 - row.power_mean, 1.0 - row.power_p90, 1.0 - row.power_p10)


def _delay(row: Row) -> _Point:
    return _Point(row.delay_tokens_mean, row.delay_tokens_p10, row.delay_tokens_p90)


@dataclass(frozen=True)
class _Measure:
    """One row of panels.

    Args:
        title, unit: the two lines beside the axis.
        read: the point of one row of a report.
        promised: it is the rate that epsilon bounds.
        rate: it is a rate over all splits; a delay has no value where nothing was detected.
    """

    title: str
    unit: str
    read: Callable[[Row], _Point]
    promised: bool = False
    rate: bool = True


_WAIT = _Measure("Detection delay", "share of tokens, if detected", _delay, rate=False)
_MEASURES: dict[Risk, tuple[_Measure, ...]] = {
    "false_alarm": (
        _Measure("False-alarm rate", "share of the safe", _far, promised=True),
        _Measure("Power", "share of the unsafe", _power),
        _WAIT,
    ),
    "missed_detection": (
        _Measure("Missed-detection rate", "share of the unsafe", _missed, promised=True),
        _Measure("False-alarm rate", "share of the safe", _far),
        _WAIT,
    ),
}


@dataclass(frozen=True)
class _Scene:
    """What all panels of one figure share."""

    reports: dict[str, Report]
    risk: Risk
    monitors: tuple[str, ...]
    epsilons: tuple[float, ...]

    @property
    def single(self) -> bool:
        """One epsilon: points side by side, no lines."""
        return len(self.epsilons) == 1

    def rows(self, report: Report, monitor: str) -> list[Row]:
        """The rows of one monitor, by epsilon."""
        found = [row for row in report.results if row.monitor == monitor]
        return sorted(found, key=lambda row: row.epsilon)

    def drawn(self) -> Iterator[Row]:
        """Every row that the figure shows."""
        for report in self.reports.values():
            for monitor in self.monitors:
                yield from self.rows(report, monitor)


def render(
    reports: Mapping[str, Report],
    *,
    monitors: Sequence[str] | None = None,
    format: Format = "png",  # noqa: A002 - the word that matplotlib and the command line use
) -> bytes:
    """Draw the rate that was promised, the other rate and the delay against epsilon.

    One column per data set, one line per monitor, bands from the 10th to the 90th percentile of
    the splits. A monitor that refused in every split is an open marker at 0, outside its line.

    Args:
        reports: by the name of the data set, in the order of the columns, all about one risk.
        monitors: names from the roster; None draws those of `MONITORS` that the reports hold.
        format: ``png``, or ``svg`` with its text kept as text.

    Raises:
        InputError: nothing to draw, two risks at once, an unknown or absent monitor.
        MissingExtra: matplotlib is not installed.
    """
    scene = _scene(reports, monitors)
    with drawing() as figure:
        _draw(figure, scene)
        return picture(figure, format)


def _scene(reports: Mapping[str, Report], monitors: Sequence[str] | None) -> _Scene:
    if not 0 < len(reports) <= COLUMNS_MAX:
        raise InputError(f"{len(reports)} reports to draw: between 1 and {COLUMNS_MAX} are needed")
    rows = [row for report in reports.values() for row in report.results]
    risks = {row.risk for row in rows}
    if len(risks) > 1:
        raise InputError("draw false alarms and missed detections in figures of their own")
    risk: Risk = "missed_detection" if "missed_detection" in risks else "false_alarm"
    present = {row.monitor for row in rows}
    if monitors is None:
        wanted = [m for m in MONITORS if m in present]
        if risk == "missed_detection":  # which e-valuator always refuses, by its design
            wanted = [m for m in wanted if not m.startswith("evaluator")]
    else:
        wanted = [c.monitor for c in contestants(monitors)]
        absent = [m for m in wanted if m not in present]
        if absent:
            raise InputError(f"no report holds the monitor {absent[0]!r}")
    if not wanted:
        raise InputError("the reports hold no monitor to draw: name some of those they hold")
    return _Scene(
        reports=dict(reports),
        risk=risk,
        monitors=tuple(wanted),
        epsilons=tuple(sorted({row.epsilon for row in rows if row.monitor in wanted})),
    )


# -------------------------------------------------------------------------------------- matplotlib


_LEFT, _RIGHT, _HEAD, _FOOT, _BETWEEN, _HEIGHT = 0.95, 0.15, 0.86, 0.5, 0.16, 1.5
_WIDTHS = {1: 3.9, 2: 3.1}
_WIDTH = 2.3
_GAP = 0.2


def _draw(figure: Figure, scene: _Scene) -> None:
    columns, measures = len(scene.reports), _MEASURES[scene.risk]
    panel = _WIDTHS.get(columns, _WIDTH)
    width = _LEFT + columns * panel + (columns - 1) * _GAP + _RIGHT
    floor = _legends(figure, scene, width) + _FOOT
    height = floor + len(measures) * (_HEIGHT + _BETWEEN) - _BETWEEN + _HEAD
    figure.set_size_inches(width, height)
    name = measures[0].title.lower()
    title = f"{measures[0].title}: promised and observed"
    write(figure, 0.15, height - 0.14, title, size=LARGE, weight="bold", va="top")
    tops = [_top(scene, measure) for measure in measures]
    for i, (data, report) in enumerate(scene.reports.items()):
        left = _LEFT + i * (panel + _GAP)
        ceiling = height - _HEAD
        head = {"size": PLAIN, "weight": "bold"}
        write(figure, left, ceiling + 0.27, shown(figure, data, panel, **head), **head)
        write(figure, left, ceiling + 0.1, _size(report), size=SMALL, color=MUTED)
        for j, measure in enumerate(measures):
            bottom = ceiling - _HEIGHT - j * (_HEIGHT + _BETWEEN)
            axes = add_axes(figure, left, bottom, panel, _HEIGHT)
            _frame(axes, scene, measure, tops[j])
            _lines(figure, axes, scene, report, measure)
            if i == 0:
                middle = bottom + _HEIGHT / 2
                label = {"rotation": 90, "va": "center", "ha": "right"}
                write(figure, 0.26, middle, measure.title, size=PLAIN, **label)
                write(
                    figure,
                    0.49,
                    middle,
                    measure.unit,
                    size=SMALL,
                    color=MUTED,
                    ma="center",
                    **label,
                )
            else:
                axes.tick_params(labelleft=False)
            if measure is measures[-1]:
                axes.set_xlabel(f"ε, the {name} promised", size=SMALL, labelpad=3)
            else:
                axes.tick_params(labelbottom=False)


def _size(report: Report) -> str:
    splits = max((row.splits for row in report.results), default=0)
    n = report.data.get("n")
    counted = f"{n:,} trajectories, " if isinstance(n, int) else ""
    return f"{counted}{splits} split{'' if splits == 1 else 's'}"


def _top(scene: _Scene, measure: _Measure) -> float:
    """Where the axis of a row of panels ends: 1, or for the promised rate what is drawn."""
    if not measure.promised:
        return 1.0
    points = [measure.read(row) for row in scene.drawn() if row.refused_rate < 1.0]
    drawn = [v for point in points for v in (point.mean, point.high) if math.isfinite(v)]
    return min(1.0, 1.1 * max([*scene.epsilons, *drawn]))


def _frame(axes: Axes, scene: _Scene, measure: _Measure, top: float) -> None:
    """Limits, ticks and, where a rate is promised, the promise."""
    last = max(scene.epsilons)
    right = 2.0 * last if scene.single else 1.06 * last
    axes.set_xlim(0.0, right)
    axes.set_ylim(0.0, top)
    axes.set_xticks(_ticks(scene.epsilons, right))
    axes.xaxis.set_major_formatter(lambda value, _place: f"{value:g}")
    axes.yaxis.set_major_locator(library("matplotlib.ticker").MaxNLocator(5, steps=[1, 2, 2.5, 5]))
    axes.yaxis.set_major_formatter(lambda value, _place: f"{value:.4g}")
    axes.grid(visible=True, axis="y", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    if measure.promised:
        promise = [last, last] if scene.single else [0.0, right]
        axes.fill_between([0.0, right], promise, max(top, right), color=FORBIDDEN, linewidth=0)
        axes.plot([0.0, right], promise, color=MUTED, linewidth=0.9, zorder=1.5)


def _ticks(epsilons: Sequence[float], span: float) -> list[float]:
    """Those epsilons whose labels have room, the largest first."""
    kept: list[float] = []
    for epsilon in reversed(epsilons):
        if not kept or kept[-1] - epsilon >= 0.12 * span:
            kept.append(epsilon)
    return kept[::-1]


def _lines(figure: Figure, axes: Axes, scene: _Scene, report: Report, measure: _Measure) -> None:
    count = len(scene.monitors)
    step = min(16.0, 110.0 / count) if scene.single else 0.0
    refused: dict[float, list[tuple[int, str]]] = {}
    empty = True
    for i, monitor in enumerate(scene.monitors):
        rows = scene.rows(report, monitor)
        _line(axes, monitor, rows, measure, shift(figure, axes, (i - (count - 1) / 2) * step))
        for row in rows:
            if row.refused_rate >= 1.0:
                refused.setdefault(row.epsilon, []).append((i, monitor))
            else:
                empty &= not math.isfinite(measure.read(row).mean)
    if measure.rate:
        for epsilon, those in refused.items():
            for k, (i, monitor) in enumerate(those):
                # Side by side, since all of them lie at 0.
                aside = (i - (count - 1) / 2) * step if step else (k - (len(those) - 1) / 2) * 5.0
                place = shift(figure, axes, aside)
                look = _marker(monitor, hollow=True)
                axes.plot([epsilon], [0.0], transform=place, clip_on=False, zorder=4, **look)
    elif empty:
        axes.text(
            0.5, 0.5, "nothing detected",
            color=MUTED, size=SMALL, ha="center", va="center", transform=axes.transAxes,
        )  # fmt: skip


def _line(axes: Axes, monitor: str, rows: Sequence[Row], measure: _Measure, place: Any) -> None:
    """One monitor in one panel, interrupted where it refused or has no value."""
    colour, dashes, _ = _LOOKS[monitor]
    missing = _Point(math.nan, math.nan, math.nan)
    points = [missing if row.refused_rate >= 1.0 else measure.read(row) for row in rows]
    x = [row.epsilon for row in rows]
    means = [point.mean for point in points]
    # The widest line lies lowest, so that one that coincides with it still shows.
    wide = monitor == "auto"
    order = 2.2 if wide else 2.5
    axes.fill_between(
        x, [p.low for p in points], [p.high for p in points],
        color=colour, alpha=0.13, linewidth=0, zorder=2,
    )  # fmt: skip
    width = 2.0 if wide else 1.4
    axes.plot(x, means, color=colour, linestyle=dashes, linewidth=width, zorder=order)
    known = [math.isfinite(mean) for mean in means]
    for i, (row, point) in enumerate(zip(rows, points, strict=True)):
        if not known[i]:
            continue
        if not any(known[max(0, i - 1) : i] + known[i + 1 : i + 2]):  # no neighbour, so no band
            axes.plot(
                [x[i]] * 2, [point.low, point.high],
                color=colour, linewidth=1.2, alpha=0.6, transform=place, zorder=order,
            )  # fmt: skip
        look = _marker(monitor, hollow=row.refused_rate > 0.0)
        axes.plot([x[i]], [point.mean], transform=place, clip_on=False, zorder=order + 0.5, **look)


def _marker(monitor: str, *, hollow: bool) -> dict[str, Any]:
    colour, _, marker = _LOOKS[monitor]
    return {
        "linestyle": "none",
        "marker": marker,
        "markersize": 4.5,
        "markeredgecolor": colour,
        "markeredgewidth": 1.0,
        "markerfacecolor": "white" if hollow else colour,
    }


def _legends(figure: Figure, scene: _Scene, width: float) -> float:
    """Put the legends at the foot of the figure; return their height in inches."""
    make = library("matplotlib.lines").Line2D
    patch = library("matplotlib.patches").Patch
    who = [
        (
            make([], [], **_marker(m, hollow=False) | {
                "color": _LOOKS[m][0],
                "linestyle": "none" if scene.single else _LOOKS[m][1],
                "linewidth": 2.0 if m == "auto" else 1.4,
            }),
            m,
        )
        for m in scene.monitors
    ]  # fmt: skip
    band = (
        (make([], [], color=MUTED, alpha=0.6, linewidth=1.2), "bar: 10–90 % of splits")
        if scene.single
        else (patch(color=MUTED, alpha=0.25, linewidth=0), "band: 10–90 % of splits")
    )
    what = [
        (make([], [], color=MUTED, linewidth=0.9), "ε, the promise"),
        (patch(color=FORBIDDEN, linewidth=0), "above the promise"),
        band,
    ]
    hollow = make([], [], **_marker("auto", hollow=True) | {"markeredgecolor": MUTED})
    shares = [row.refused_rate for row in scene.drawn()]
    if any(share >= 1.0 for share in shares):
        what.append((hollow, "open, at 0: refused in all splits"))
    if any(0.0 < share < 1.0 for share in shares):
        what.append((hollow, "open: refused in some splits, counted as no alarm"))
    below = _legend(figure, what, width, 0.1)
    return 0.1 + below + 0.04 + _legend(figure, who, width, 0.1 + below + 0.04)


def _legend(
    figure: Figure, entries: Sequence[tuple[Any, str]], width: float, bottom: float
) -> float:
    """Place a legend in as few lines as fit the width; return its height in inches."""
    renderer = renderer_of(figure)
    left = _LEFT if width > 6.0 else 0.15
    for columns in range(len(entries), 0, -1):
        lines = math.ceil(len(entries) / columns)
        # matplotlib fills columns first; people read lines first.
        places = (j * columns + i for i in range(columns) for j in range(lines))
        order = [entries[place] for place in places if place < len(entries)]
        legend: Legend = figure.legend(
            [handle for handle, _ in order],
            [label for _, label in order],
            loc="lower left",
            bbox_to_anchor=(left, bottom),
            bbox_transform=figure.dpi_scale_trans,
            ncols=columns,
            frameon=False,
            fontsize=SMALL,
            borderpad=0,
            borderaxespad=0,
            columnspacing=1.3,
            handlelength=2.6,
            handletextpad=0.5,
        )
        box = legend.get_window_extent(renderer)
        if columns == 1 or left + box.width / figure.dpi <= width - 0.05:
            break
        legend.remove()
    return float(box.height) / figure.dpi


# -------------------------------------------------------------------------------------- by segment
