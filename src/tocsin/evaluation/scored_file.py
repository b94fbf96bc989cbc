"""What a run of verifiers over labelled text leaves: columns for a file, and a summary."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from tocsin.evaluation.identity import identity_columns
from tocsin.evaluation.scoring import Piece, Scored, Trajectory
from tocsin.evaluation.texts import Texts
from tocsin.verifiers.contract import Declaration
from tocsin.verifiers.separation import auc


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one verifier said of the whole file.

    Args:
        column: where its scores stand.
        declares: its declaration.
        scored: of each trajectory, in order.
        seconds: spent on those that were scored in this run.
        steps_timed: how many steps those were.
    """

    column: str
    declares: Declaration
    scored: list[Scored]
    seconds: float
    steps_timed: int


def scored_columns(
    texts: Texts,
    work: Sequence[Trajectory],
    results: Sequence[Result],
    *,
    drop_text: bool,
    split: bool,
) -> dict[str, Any]:
    """Return the columns of the output: those of the file, cut as the steps are, and the scores.

    Args:
        texts: the file.
        work: its trajectories, cut into steps.
        results: what each verifier said; the first one is the column `score`. Whose scores
            a column holds stands beside it.
        drop_text: leave text and observations out.
        split: add a column ``score.CATEGORY`` for each harm category of the first verifier.
    """
    made = _carried(texts, work, drop_text=drop_text)
    for result in results:
        made[result.column] = _flat([scored.values for scored in result.scored])
    if split:
        for name in results[0].declares.categories:
            made[f"score.{name}"] = _flat([scored.categories[name] for scored in results[0].scored])
    for result in results:
        for column, value in identity_columns(result.declares.signal(), result.column).items():
            made[column] = [value] * len(made["step"])
    return made


def _carried(texts: Texts, work: Sequence[Trajectory], *, drop_text: bool) -> dict[str, Any]:
    """Return the columns of the file, cut as the steps are."""
    first = texts.starts
    rows = np.array([first[i] + p.row for i, t in enumerate(work) for p in t.pieces], np.int64)
    made: dict[str, Any] = {
        "trajectory_id": texts.trajectory_id[rows],
        "step": [i for t in work for i in range(1, len(t.pieces) + 1)],
    }
    if not drop_text:
        made["text"] = [t.texts[p.row][p.start - o : p.end - o] for t, p, o in _offsets(work)]
        new = [p.start == o for _, p, o in _offsets(work)]
        made["obs"] = np.where(new, texts.obs[rows], "")
    for role in ("label", "group", "source", "category"):
        values = getattr(texts, role)
        if values is not None:
            made[role] = values[rows]
    if texts.onset_step is not None:
        made["onset_step"] = [_onset(int(texts.onset_step[first[i]]), t)
                              for i, t in enumerate(work) for _ in t.pieces]  # fmt: skip
    if texts.tokens is not None:
        made["tokens"] = [
            _share(int(texts.tokens[row]), len(t.texts[p.row]), p.start - o, p.end - o)
            for row, (t, p, o) in zip(rows, _offsets(work), strict=True)
        ]
    for name, values in texts.extra.items():
        made[name] = [values[row] for row in rows]
    return made


def _offsets(work: Sequence[Trajectory]) -> Iterator[tuple[Trajectory, Piece, int]]:
    """Yield each step with the offset at which its row begins."""
    for trajectory in work:
        at = [0, *np.cumsum([len(text) for text in trajectory.texts]).tolist()]
        for piece in trajectory.pieces:
            yield trajectory, piece, at[piece.row]


def _onset(step: int, trajectory: Trajectory) -> int:
    """Return the first step of the row that is marked; -1 where none is, or nothing is left of it.

    A mark on a row says that it is unsafe somewhere: its first step is the earliest it can be.
    """
    if step < 1:
        return -1
    later = [i for i, row in enumerate(trajectory.rows, 1) if row >= step - 1]
    return later[0] if later else -1


def _share(tokens: int, chars: int, start: int, end: int) -> int:
    """Return a part's tokens by its share of the characters; the parts of a row add up."""
    if chars == 0:
        return tokens
    return tokens * end // chars - tokens * start // chars


def _flat(lists: Sequence[Sequence[float | None]]) -> list[float]:
    return [math.nan if value is None else value for values in lists for value in values]


def summary(texts: Texts, work: Sequence[Trajectory], result: Result) -> dict[str, Any]:
    """Count what came out, and how well it tells safe from unsafe trajectories.

    `auc_first`, `auc_min` and `auc_last` are the areas under the ROC curve of the first, the lowest
    and the last score of a trajectory; a missing score counts as the lowest there is.
    """
    values = [_flat([scored.values]) for scored in result.scored]
    unknown: dict[str, int] = {}
    for scored in result.scored:
        for reason, count in scored.unknown.items():
            unknown[reason] = unknown.get(reason, 0) + count
    made: dict[str, Any] = {
        "column": result.column,
        "verifier": result.declares.name,
        "verifier_version": result.declares.version,
        "step_definition": str(result.declares.steps),
        "trajectories": len(work),
        "steps": sum(map(len, values)),
        "missing": sum(math.isnan(v) for row in values for v in row),
        "unknown": unknown,
        "ms_per_step": 1e3 * result.seconds / result.steps_timed if result.steps_timed else None,
    }
    if texts.label is not None:
        safe = texts.label[texts.starts[:-1]] == 1
        picks: dict[str, Callable[[list[float]], float]] = {
            "first": lambda row: row[0],
            "min": lambda row: min(-math.inf if math.isnan(v) else v for v in row),
            "last": lambda row: row[-1],
        }
        for name, pick in picks.items():
            area = auc(np.array([pick(row) for row in values]), safe)
            made[f"auc_{name}"] = None if math.isnan(area) else area
    return made
