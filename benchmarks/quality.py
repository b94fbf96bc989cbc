"""Better at the same guarantee: every monitor of the roster on the same splits of real scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from common import (
    DELTA,
    EPSILONS,
    SETS,
    Cell,
    Found,
    Options,
    Row,
    machine,
    plain,
    read,
    say,
)

from tocsin import __version__
from tocsin.evaluation import plots
from tocsin.evaluation.evaluate import Report, Setting, evaluate
from tocsin.evaluation.roster import NAMES
from tocsin.risk.plan import Plan
from tocsin.risk.trajectories import Trajectories

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
IMAGES = ROOT / "docs" / "images"

SPLITS = 50
SPLITS_QUICK = 3
BASELINE = "paper_ucb"

SIZES: dict[str, tuple[float, int | None]] = {
    "20 % of the": (0.2, None),
    "100": (0.2, 100),
    "300": (0.2, 300),
}
"""How much calibrates, in words: the share, and the number where there is one."""

FIGURE = "20 % of the"
_MEASURES = {
    "FAR": "far_mean",
    "power": "power_mean",
    "saved": "saved_mean",
    "violations": "violation_rate",
    "nominal": "violation_nominal",
    "refused": "refused_rate",
}


def run(options: Options) -> Found:
    """Evaluate, average over data sets and epsilon, and compare with the paper's monitor.

    Needs all three data sets, for a mean over fewer would be another number.
    """
    sets = {name: read(name) for name in SETS}
    names = [FIGURE] if options.quick else list(SIZES)
    reports = {size: _evaluated(sets, size, options) for size in names}
    cells = [
        _cell(size, name, row)
        for size, of_sets in reports.items()
        for name, report in of_sets.items()
        for row in report.results
    ]
    tables = {f"calibrating with {size} trajectories": _means(cells, size) for size in names}
    found = Found(tables={**tables, "cells": cells}, hidden=frozenset({"cells"}))
    found.notes.append(
        f"Means over {len(SETS)} data sets ({', '.join(SETS)}), epsilon "
        f"{', '.join(f'{e:g}' for e in EPSILONS)} and {_splits(options)} splits; delta {DELTA:g}. "
        f"'power x' and 'saved x' divide a monitor's mean by that of {BASELINE}."
    )
    found.notes.append(
        "'violations' is how often the test set's false-alarm rate was above epsilon, 'nominal' "
        "how often a valid monitor's would be (means over the cells where it is defined)."
    )
    if options.save:
        found.notes += _save(tables, cells, reports[FIGURE], found.notes, options)
    return found


def _evaluated(sets: dict[str, Trajectories], size: str, options: Options) -> dict[str, Report]:
    reports = {}
    for name, trajectories in sets.items():
        say(f"quality: {name}, {size} trajectories calibrate")
        share, count = SIZES[size]
        setting = Setting(
            plan=Plan(epsilons=EPSILONS, delta=DELTA),
            calibration_share=share,
            calibration_size=count,
            splits=_splits(options),
            seed=options.seed,
            jobs=options.jobs,
        )
        reports[name] = evaluate(trajectories, setting, library_version=__version__)
    return reports


def _splits(options: Options) -> int:
    return SPLITS_QUICK if options.quick else SPLITS


def _cell(size: str, name: str, row: object) -> Row:
    fields: dict[str, Cell] = {"calibration": size, "data": name}
    for column in (
        "monitor", "statistic", "bound", "epsilon", "delta", "splits", "n_calibration",
        "far_mean", "far_sd", "power_mean", "power_sd", "saved_mean", "saved_sd",
        "delay_steps_mean", "delay_tokens_mean", "violation_rate", "violation_nominal",
        "refused_rate",
    ):  # fmt: skip
        fields[column] = getattr(row, column)
    return fields


def _means(cells: list[Row], size: str) -> list[Row]:
    """One row per monitor: means over data sets and epsilon, and ratios to the baseline."""

    def mean(monitor: str, column: str) -> float | None:
        values = [
            float(c[column] or 0.0)
            for c in cells
            if c["calibration"] == size and c["monitor"] == monitor and not _none(c[column])
        ]
        return float(np.mean(values)) if values else None

    base = {word: mean(BASELINE, column) for word, column in _MEASURES.items()}
    rows: list[Row] = []
    for monitor in NAMES:
        row: Row = {"monitor": monitor}
        row |= {word: mean(monitor, column) for word, column in _MEASURES.items()}
        for word in ("power", "saved"):
            row[f"{word} x"] = _ratio(row[word], base[word])
        rows.append(row)
    return rows


def _none(value: Cell) -> bool:
    return value is None or (isinstance(value, float) and bool(np.isnan(value)))


def _ratio(value: Cell, base: Cell) -> float | None:
    return float(value) / float(base) if value is not None and base else None


def _save(
    tables: dict[str, list[Row]],
    cells: list[Row],
    reports: dict[str, Report],
    notes: list[str],
    options: Options,
) -> list[str]:
    """Write the JSON, the Markdown and the figure; return what to say about it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    data = {name: reports[name].data for name in reports}
    told = {
        "command": options.command,
        "version": __version__,
        "seed": options.seed,
        "machine": machine(),
        "data": data,
        "means": tables,
        "cells": cells,
    }
    text = json.dumps(plain(told), indent=1, allow_nan=False) + "\n"
    (RESULTS / "quality.json").write_text(text, encoding="utf-8")
    (RESULTS / "quality.md").write_text(_markdown(tables, notes, options), encoding="utf-8")
    (IMAGES / "evaluation.png").write_bytes(plots.render(reports, format="png"))
    (IMAGES / "evaluation.svg").write_bytes(plots.render(reports, format="svg"))
    return ["Written: benchmarks/results/quality.json, quality.md; docs/images/evaluation.*"]


def _markdown(tables: dict[str, list[Row]], notes: list[str], options: Options) -> str:
    lines = [
        "# Quality at the same guarantee",
        "",
        f"`{options.command}`, Tocsin {__version__}, seed {options.seed}.",
        "",
        *(line for note in notes for line in (note, "")),
    ]
    head = [*(f"{word} %" for word in _MEASURES), "power ×", "saved ×"]
    for title, rows in tables.items():
        lines += [
            f"## {title[0].upper()}{title[1:]}",
            "",
            f"| monitor | {' | '.join(head)} |",
            "|---|" + "---:|" * len(head),
        ]
        for row in rows:
            shown = [_text(row[word], 100.0, 1) for word in _MEASURES]
            shown += [_text(row[f"{word} x"], 1.0, 2) for word in ("power", "saved")]
            lines.append(f"| {row['monitor']} | {' | '.join(shown)} |")
        lines.append("")
    return "\n".join(lines)


def _text(value: Cell, factor: float, digits: int) -> str:
    return "–" if value is None else f"{factor * float(value):.{digits}f}"
