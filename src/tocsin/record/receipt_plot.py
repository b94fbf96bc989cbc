"""A receipt's score paths as a picture: scores, what the monitor made of them, and lambda.

matplotlib is loaded only when something is drawn. The same receipt gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.errors import InputError
from tocsin.evaluation.canvas import (
    FORBIDDEN,
    INK,
    LARGE,
    MUTED,
    SMALL,
    Format,
    add_axes,
    drawing,
    library,
    picture,
    shown,
    write,
)
from tocsin.guarding.receipt import CheckRecord, Promise, Receipt
from tocsin.monitor import Monitor, PathRecord
from tocsin.risk.calibration import Calibration
from tocsin.risk.statistics import NEVER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _TOP, _PANEL, _GAP, _LEFT, _RIGHT = 7.5, 0.6, 1.1, 0.75, 0.8, 0.3
PATHS_MAX = 12
"""Most paths of one picture; a receipt with more has them in its JSON."""


@dataclass(frozen=True)
class _Row:
    """One path: steps from `first` on, scores, the statistic where a calibration is at hand."""

    title: str
    first: int
    scores: list[float]
    statistic: list[float] | None
    threshold: float | None


def render(receipt: Receipt, calibrations: Sequence[Calibration], kind: Format) -> bytes:
    """Draw the score paths of the calibrated checks.

    Args:
        receipt: as it was read.
        calibrations: of its checks; without one, scores alone are drawn.
        kind: ``"png"`` or ``"svg"``.

    Raises:
        InputError: no check of this receipt has a score path, or the format is unknown.
        MissingExtra: matplotlib is not installed.
    """
    known = {made.digest: made for made in calibrations}
    rows = [row for check in receipt.checks for row in _rows(check, known)][:PATHS_MAX]
    if not rows:
        raise InputError("there is nothing to draw: no check of this receipt has a score path")
    height = _TOP + sum(2 * _PANEL + _GAP + 0.35 for _ in rows)
    with drawing() as figure:
        figure.set_size_inches(_WIDTH, height)
        name = shown(figure, f"receipt {receipt.who.id}", _WIDTH - 1.0, fontsize=LARGE)
        write(figure, _LEFT, height - 0.35, name, fontsize=LARGE)
        at = height - _TOP
        for row in rows:
            _draw(figure, row, at)
            at -= 2 * _PANEL + _GAP + 0.35
        return picture(figure, kind)


def _rows(check: CheckRecord, known: dict[str, Calibration]) -> list[_Row]:
    if check.promise is None or check.path is None:
        return []
    paths = [*check.overruled, check.path]
    made = known.get(check.promise.calibration)
    promise = check.promise
    return [
        _Row(
            title=check.name if path is check.path else f"{check.name}, overruled",
            first=path.checkpoint_step + 1,
            scores=[math.nan if score is None else float(score) for score in path.scores],
            statistic=None if made is None else _statistic(path, made, promise),
            threshold=float(promise.threshold),
        )
        for path in paths
        if path.scores
    ]


def _statistic(path: PathRecord, made: Calibration, promise: Promise) -> list[float] | None:
    """Run the statistic along a path; NaN before the first usable score, None where it breaks."""
    state = path.checkpoint
    value = NEVER if path.checkpoint_value is None else float(path.checkpoint_value)
    found = []
    try:
        monitor = Monitor(made, epsilon=promise.epsilon, risk=promise.risk)  # type: ignore[arg-type]
        for score in path.scores:
            if score is not None:
                state, value = monitor.statistic.step(state, float(score))
            found.append(math.nan if value == NEVER else value)
    except Exception:  # noqa: BLE001 - a hostile path may break any statistic; the replay says so
        return None
    return found


def _draw(figure: Figure, row: _Row, top: float) -> None:
    title = shown(figure, row.title, _WIDTH - _LEFT - _RIGHT, fontsize=SMALL)
    write(figure, _LEFT, top - 0.15, title, fontsize=SMALL, color=INK, weight="bold")
    width = _WIDTH - _LEFT - _RIGHT
    upper = add_axes(figure, _LEFT, top - 0.25 - _PANEL, width, _PANEL)
    lower = add_axes(figure, _LEFT, top - 0.35 - 2 * _PANEL, width, _PANEL)
    steps = list(range(row.first, row.first + len(row.scores)))
    marker = "." if len(steps) < 200 else None
    _panel(upper, steps, row.scores, "score, safe-high", marker)
    upper.tick_params(labelbottom=False)
    lower.set_xlabel("step")
    if row.statistic is None:
        lower.set_xlim(upper.get_xlim())
        lower.set_yticks([])
        lower.text(0.5, 0.5, "without its calibration the statistic is not computed", ha="center",
                   va="center", color=MUTED, transform=lower.transAxes)  # fmt: skip
        return
    _panel(lower, steps, row.statistic, "statistic,\ndanger-high", marker)
    if row.threshold is not None and math.isfinite(row.threshold):
        lower.axhline(row.threshold, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
        _, high = lower.get_ylim()
        high = max(high, row.threshold + 0.05 * abs(row.threshold) + 1e-9)
        lower.axhspan(row.threshold, high, color=FORBIDDEN, zorder=0, linewidth=0)
        lower.set_ylim(top=high)
        lower.annotate("λ", (1.0, row.threshold), xycoords=("axes fraction", "data"),
                       xytext=(3, 0), textcoords="offset points", va="center")  # fmt: skip


def _panel(
    axes: Axes, steps: list[int], values: list[float], label: str, marker: str | None
) -> None:
    finite = [v if math.isfinite(v) else math.nan for v in values]
    axes.plot(steps, finite, color="#0072B2", linewidth=1.0, marker=marker, markersize=4)
    axes.set_xlim(steps[0] - 0.5, steps[-1] + 0.5)
    ticks = library("matplotlib.ticker")
    axes.xaxis.set_major_locator(ticks.MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_ylabel(label)
