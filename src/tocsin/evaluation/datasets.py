"""Files of labelled trajectories, read into `Trajectories`.

The layouts that are known, with an example row of each, are described in docs/how-to/data.md.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.errors import InputError
from tocsin.evaluation import cells, files
from tocsin.evaluation.adapters import (
    EVALUATOR,
    LLAMA,
    LLAMA_SCORES,
    REFERENCE,
    TOCSIN,
    turns,
)
from tocsin.evaluation.adapters_fineharm import FINEHARM
from tocsin.evaluation.adapters_transcripts import RED_TEAM
from tocsin.evaluation.layouts import (
    UNSAFE_RATING_MIN,
    Adapted,
    Layout,
    Options,
    Table,
    TurnScores,
    View,
)
from tocsin.risk.trajectories import Trajectories, from_columns

LAYOUTS: tuple[Layout, ...] = (TOCSIN, REFERENCE, EVALUATOR, RED_TEAM, LLAMA, FINEHARM)
"""In the order in which they are tried: what an earlier one recognises, a later one never sees."""

_MESSAGE_MAX = 2_000
_ROW = re.compile(r"row (\d+), column ('(?:[^'\\]|\\.)*'|\"[^\"]*\")")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Reading:
    """Trajectories, the layout they were found in, and what must be said about them."""

    trajectories: Trajectories
    layout: str
    notes: tuple[str, ...]


def read(
    path: str | os.PathLike[str],
    *,
    layout: str = "auto",
    columns: Mapping[str, str] | None = None,
    score_column: str | None = None,
    segment_column: str | None = None,
    scores: str | os.PathLike[str] | None = None,
    unsafe_rating_min: float = UNSAFE_RATING_MIN,
) -> Trajectories:
    """Read labelled trajectories from a file, one row per step.

    Trajectories that had to be left out, and scores that are missing by the nature of the layout,
    are logged as warnings; `read_with_notes` returns them.

    Args:
        path: .parquet, .csv, .jsonl, .npz, .csv.gz or .jsonl.gz; text in UTF-8.
        layout: a name from `LAYOUTS`, or ``auto`` to recognise one by the file's columns.
        columns: our names (or a layout's own) to the file's, such as ``{"score": "p_safe"}``. A
            column named by one of ours is taken in our meaning: score safe-high, label 1 for safe.
        score_column: short for ``columns={"score": ...}``.
        segment_column: short for ``columns={"segment": ...}``.
        scores: for ``red-team-attempts``, a CSV of scores, one row per turn, in layout ``llama``.
            Without it every score is missing, and calibration refuses such data.
        unsafe_rating_min: for ``red-team-attempts``, the rating from which a transcript is unsafe.

    Raises:
        InputError: naming the file, and the row, line and column where there is one.
        MissingExtra: for parquet without pyarrow.
    """
    found = read_with_notes(
        path,
        layout=layout,
        columns=columns,
        score_column=score_column,
        segment_column=segment_column,
        scores=scores,
        unsafe_rating_min=unsafe_rating_min,
    )
    for note in found.notes:
        _log.warning("%s: %s", _shown_path(Path(path)), note)
    return found.trajectories


def read_with_notes(
    path: str | os.PathLike[str],
    *,
    layout: str = "auto",
    columns: Mapping[str, str] | None = None,
    score_column: str | None = None,
    segment_column: str | None = None,
    scores: str | os.PathLike[str] | None = None,
    unsafe_rating_min: float = UNSAFE_RATING_MIN,
) -> Reading:
    """Read as `read` does, and return layout and notes beside the trajectories."""
    given = _given(columns, score=score_column, segment=segment_column)
    place = Path(path)
    allowed = _allowed(place, layout, given)
    chosen, table = _load(place, allowed, given, asked=layout != "auto")
    if scores is not None and chosen is not RED_TEAM:
        raise InputError(
            f"{_shown_path(place)}: scores= belongs to layout {RED_TEAM.name!r}, this file is "
            f"{chosen.name!r}"
        )
    if not np.isfinite(unsafe_rating_min):
        raise InputError(f"unsafe_rating_min={unsafe_rating_min}: give a rating from 0 to 4")
    options = Options(
        unsafe_rating_min=unsafe_rating_min,
        scores=None if scores is None else _turn_scores(Path(scores)),
    )
    view = View(table, chosen.places(table.names, given), frozenset(given))
    try:
        adapted = chosen.adapt(view, options)
    except InputError as e:
        raise InputError(_located(place, table, str(e))) from None
    built = _built(place, view, adapted)
    return Reading(built, chosen.name, adapted.notes)


def describe(trajectories: Trajectories) -> dict[str, Any]:
    """Count what there is: trajectories, steps, labels, groups, segments, missing scores.

    Example:
        >>> t = from_columns(
        ...     trajectory_id=["a", "a", "b"],
        ...     step=[1, 2, 1],
        ...     score=[0.9, None, 0.8],
        ...     label=[0, 0, 1],
        ... )
        >>> found = describe(t)
        >>> found["n"], found["steps"], found["unsafe"], found["missing_scores"]
        (2, 3, 1, 1)
    """
    names, codes = trajectories.segment_codes
    counts = np.bincount(codes, minlength=len(names)).tolist()
    safe = int(trajectories.safe.sum())
    return {
        "n": trajectories.n,
        "steps": trajectories.n_steps,
        "safe": safe,
        "unsafe": trajectories.n - safe,
        "groups": len(set(trajectories.groups)),
        "segments": dict(zip(names, counts, strict=True)),
        "steps_min": int(trajectories.lengths.min()),
        "steps_median": float(np.median(trajectories.lengths)),
        "steps_max": int(trajectories.lengths.max()),
        "missing_scores": int(np.isnan(trajectories.scores).sum()),
    }


# ------------------------------------------------------------------------------------------ layout


def _given(columns: Mapping[str, str] | None, **shortcuts: str | None) -> dict[str, str]:
    given = dict(columns or {})
    for ours, theirs in shortcuts.items():
        if theirs is not None and given.setdefault(ours, theirs) != theirs:
            raise InputError(
                f"{ours}_column={theirs!r} and columns={{{ours!r}: {given[ours]!r}}} contradict "
                "each other; give one of them"
            )
    known = {role: None for layout in LAYOUTS for role in layout.roles}
    for ours in given:
        if ours not in known:
            raise InputError(f"columns: {cells.shown(ours)} is none of {', '.join(known)}")
    return given


def _allowed(place: Path, name: str, given: Mapping[str, str]) -> tuple[Layout, ...]:
    """Layouts that the caller's words and the format leave."""
    arrays = place.name.lower().endswith(".npz")
    if name == "auto":
        return tuple(
            layout
            for layout in LAYOUTS
            if given.keys() <= layout.roles.keys() and (arrays or not layout.arrays)
        )
    for layout in LAYOUTS:
        if layout.name == name:
            if layout.arrays and not arrays:
                raise InputError(f"{_shown_path(place)}: layout {name!r} is made of .npz arrays")
            for ours in given:
                if ours not in layout.roles:
                    raise InputError(
                        f"columns: layout {name!r} has no {cells.shown(ours)}; "
                        f"it has {', '.join(layout.roles)}"
                    )
            return (layout,)
    known = ", ".join(layout.name for layout in LAYOUTS)
    raise InputError(f"layout {cells.shown(name)} is none of auto, {known}")


def _load(
    place: Path, allowed: tuple[Layout, ...], given: Mapping[str, str], *, asked: bool
) -> tuple[Layout, Table]:
    """Read the columns of the first layout that the file's names fit."""
    fitting: list[Layout] = []

    def choose(names: tuple[str, ...]) -> list[str]:
        for ours, theirs in given.items():
            if theirs not in names:
                raise InputError(
                    f"has no column {cells.shown(theirs)}, which was named for {ours!r}; "
                    f"it has {cells.listed(names)}"
                )
        fitting.extend(layout for layout in allowed if not layout.missing(names, given))
        if not fitting:
            raise InputError(_unfit(allowed, names, given, asked=asked))
        return sorted(set(fitting[0].places(names, given).values()))

    candidates = {name for layout in LAYOUTS for known in layout.roles.values() for name in known}
    try:
        table = files.load(place, choose, frozenset(candidates | set(given.values())))
    except InputError as e:
        raise InputError(_located(place, None, str(e))) from None
    if not fitting[0].arrays and (problem := _uneven(table)):
        raise InputError(_located(place, None, problem))
    return fitting[0], table


def _uneven(table: Table) -> str | None:
    """Say what keeps the columns from being rows; only arrays can be so."""
    shapes = {
        name: column.shape if isinstance(column, np.ndarray) else (len(column),)
        for name, column in table.columns.items()
    }
    first = next(iter(shapes))
    for name, shape in shapes.items():
        if len(shape) != 1 or shape != shapes[first]:
            return (
                f"array {cells.shown(name)} has shape {shape}, {cells.shown(first)} has "
                f"{shapes[first]}; one number or name per step is needed"
            )
    return None if shapes[first][0] else "has no rows; it needs one per step"


def _unfit(
    allowed: tuple[Layout, ...], names: tuple[str, ...], given: Mapping[str, str], *, asked: bool
) -> str:
    """Say why no layout fits."""
    has = f"it has {cells.listed(names)}"
    ours = TOCSIN.missing(names, given) if TOCSIN in allowed else []
    several = sorted(name for name in names if name.startswith("score_"))
    if ours == ["'score'"] and several:
        return (
            f"has no column 'score' but {cells.listed(several)}: choose one with "
            f"score_column={cells.shown(several[0])} (--score-column on the command line)"
        )
    if asked:
        layout = allowed[0]
        lacks = "; ".join(layout.missing(names, given))
        return f"layout {layout.name!r} needs {lacks}; {has}"
    if ours and len(ours) < len(TOCSIN.needed):
        return (
            f"has no column {' and no '.join(ours)}; {has}. Name the file's own columns "
            "(columns=..., --column OURS=THEIRS), or the layout"
        )
    known = ", ".join(layout.name for layout in LAYOUTS)
    return (
        f"its columns are those of no known layout ({known}); {has}. Name trajectory_id, step, "
        "score and label (columns=..., --column OURS=THEIRS), or the layout"
    )


# ------------------------------------------------------------------------------------------- build


def _built(place: Path, view: View, adapted: Adapted) -> Trajectories:
    try:
        built = from_columns(**adapted.columns)
    except InputError as e:
        said = _their_names(str(e), view)
        if adapted.step_shift and (match := _ROW.match(str(e))) and match[2] == "'step'":
            said += "; the file counts steps from 0, this message from 1"
        raise InputError(_located(place, view.table, said)) from None
    if adapted.left_out:
        kept = np.array([name not in adapted.left_out for name in built.ids], dtype=np.bool_)
        if not kept.any():
            raise InputError(_located(place, None, f"nothing is left: {adapted.notes[0]}"))
        built = built.take(kept)
    return built


def _their_names(message: str, view: View) -> str:
    """Call a column what the file calls it, in a message that begins with row and column."""
    if match := _ROW.match(message):
        ours = match[2][1:-1]
        theirs = cells.shown(view.places.get(ours, ours))
        return f"row {match[1]}, column {theirs}{message[match.end() :]}"
    return message


def _located(place: Path, table: Table | None, message: str) -> str:
    """Put the file in front, and the line behind the row where they differ."""
    match = _ROW.match(message)
    lines = table.lines if table is not None else None
    if match and lines and int(match[1]) <= len(lines):
        line = lines[int(match[1]) - 1]
        message = f"row {match[1]} (line {line}), column {match[2]}{message[match.end() :]}"
    if len(message) > _MESSAGE_MAX:
        message = message[:_MESSAGE_MAX] + " …"
    return f"{_shown_path(place)}: {message}"


def _shown_path(path: Path) -> str:
    text = str(path)
    return text if text.isprintable() else repr(text)


def _turn_scores(place: Path) -> TurnScores:
    """Read the scores of single turns, whose conversations are named by their place, from 0."""
    layout, table = _load(place, (LLAMA_SCORES,), {}, asked=True)
    view = View(table, layout.places(table.names, {}))
    try:
        step, score, _ = turns(view)
        return TurnScores(view.whole("trajectory_id"), step, score)
    except InputError as e:
        raise InputError(_located(place, table, str(e))) from None
