"""Labelled text: a file of what a model wrote, step by step, read as columns and checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tocsin.errors import InputError
from tocsin.evaluation import cells, files
from tocsin.evaluation.layouts import OUR_LABEL, Table
from tocsin.risk.trajectories import Column, Ints, Names

ROLES: Mapping[str, str] = {
    "trajectory_id": "names one output",
    "step": "1, 2, 3, ... within it, without gaps",
    "text": "what the model wrote in this step",
    "obs": "what it saw before: a tool's result, a retrieved passage, a user's turn",
    "label": "of the whole trajectory, 1 safe and 0 unsafe",
    "group": "what must not be split apart: the prompt, the user",
    "source": "the generator, the file, the route",
    "onset_step": "the first unsafe step where it is known, else -1",
    "tokens": "of this step alone",
    "category": "the harm category of the prompt or of the output",
}
"""Columns by role. The first three are needed."""

NEEDED = ("trajectory_id", "step", "text")


@dataclass(frozen=True, eq=False)
class Texts:
    """Steps of text, one row each, sorted by trajectory and step.

    Args:
        trajectory_id: shape (N,), the trajectory of each row.
        step: shape (N,), 1, 2, 3, ... within it.
        text, obs: shape (N,), what the model wrote, and what it saw before; "" where nothing.
        label: shape (N,), 1 safe and 0 unsafe, the same on each row of a trajectory; None where
            the file has none.
        group, source, category: shape (N,), text; None where the file has none.
        onset_step: shape (N,), -1 where unknown; None where the file has none.
        tokens: shape (N,), of the step alone; None where the file has none.
        extra: other columns that were asked for, in the same order of rows.
    """

    trajectory_id: Names
    step: Ints
    text: Names
    obs: Names
    label: Ints | None = None
    group: Names | None = None
    source: Names | None = None
    category: Names | None = None
    onset_step: Ints | None = None
    tokens: Ints | None = None
    extra: Mapping[str, Column] = field(default_factory=dict)

    @property
    def starts(self) -> Ints:
        """Shape (n + 1,): first row of each trajectory, and the number of rows."""
        new = np.flatnonzero(self.step == 1)
        return np.append(new, len(self.step)).astype(np.int64)


def read_texts(
    path: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    extra: Iterable[str] = (),
) -> Texts:
    """Read labelled text from a file, one row per step.

    Args:
        path: .parquet, .csv, .jsonl, .csv.gz or .jsonl.gz; text in UTF-8.
        columns: our roles (the keys of `ROLES`) to the file's names, where they differ.
        extra: other columns to bring along as they are.

    Raises:
        InputError: naming the file, the row and the column.
        MissingExtra: for parquet without pyarrow.
    """
    given = dict(columns or {})
    for ours in given:
        if ours not in ROLES:
            raise InputError(f"columns: {cells.shown(ours)} is none of {', '.join(ROLES)}")
    wanted = {role: given.get(role, role) for role in ROLES}
    more = list(extra)
    place = Path(path)

    def choose(names: tuple[str, ...]) -> list[str]:
        asked = [*(wanted[role] for role in (*NEEDED, *given)), *more]
        for name in asked:
            if name not in names:
                raise InputError(f"has no column {cells.shown(name)}; it has {cells.listed(names)}")
        return sorted({name for name in (*wanted.values(), *more) if name in names})

    shown = str(place) if str(place).isprintable() else repr(str(place))
    try:
        table = files.load(place, choose, frozenset([*wanted.values(), *more]))
        return _texts(table, wanted, more)
    except InputError as e:
        raise InputError(f"{shown}: {e}") from None


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _texts(table: Table, wanted: Mapping[str, str], more: Sequence[str]) -> Texts:
    def found(role: str) -> Column | None:
        return table.columns.get(wanted[role])

    def words(role: str, advice: str | None = None) -> Names | None:
        column = found(role)
        return None if column is None else cells.names(wanted[role], column, advice=advice)

    def whole(role: str, missing: int | None = None) -> Ints | None:
        column = found(role)
        return None if column is None else cells.whole(wanted[role], column, missing=missing)

    ids = words("trajectory_id", "each row must name its trajectory")
    step, text, obs = whole("step"), words("text"), words("obs")
    if ids is None or step is None or text is None:  # chosen above
        raise InputError("lacks a column that is needed")
    column = found("label")
    label = None if column is None else cells.flags(wanted["label"], column, meaning=OUR_LABEL)
    onset, tokens = whole("onset_step", -1), whole("tokens")
    if tokens is not None and (tokens < 0).any():
        row = int(np.argmax(tokens < 0))
        raise InputError(f"{cells.at(row, wanted['tokens'])}: {tokens[row]} is no count")
    order = _order(ids, step, wanted)
    empty = np.full(len(ids), "", dtype=object)

    def taken(values: Names | None) -> Names | None:
        return None if values is None else values[order]

    made = Texts(
        trajectory_id=ids[order],
        step=step[order],
        text=text[order],
        obs=empty if obs is None else obs[order],
        label=None if label is None else label.astype(np.int64)[order],
        group=taken(words("group")),
        source=taken(words("source")),
        category=taken(words("category")),
        onset_step=None if onset is None else onset[order],
        tokens=None if tokens is None else tokens[order],
        extra={name: _reordered(table.columns[name], order) for name in more},
    )
    _check_constant(made, order, wanted)
    return made


def _reordered(column: Column, order: Ints) -> Column:
    if isinstance(column, np.ndarray):
        return column[order]
    return [column[i] for i in order]


def _order(ids: Names, step: Ints, wanted: Mapping[str, str]) -> Ints:
    """Rows by first appearance of their trajectory, then by step; steps must be 1, 2, 3, ..."""
    code: dict[str, int] = {}
    owner = np.fromiter((code.setdefault(i, len(code)) for i in ids), np.int64, len(ids))
    order = np.lexsort((step, owner))
    sorted_owner, sorted_step = owner[order], step[order]
    new = np.append(True, sorted_owner[1:] != sorted_owner[:-1])
    expected = np.where(new, 1, np.append(0, sorted_step[:-1]) + 1)
    wrong = np.flatnonzero(sorted_step != expected)
    if len(wrong):
        row = int(order[wrong[0]])
        raise InputError(
            f"{cells.at(row, wanted['step'])}: trajectory {cells.shown(ids[row])} has step "
            f"{step[row]} where {expected[wrong[0]]} was expected; steps count 1, 2, 3, ..."
        )
    return order.astype(np.int64)


def _check_constant(texts: Texts, order: Ints, wanted: Mapping[str, str]) -> None:
    starts = texts.starts
    first = np.repeat(starts[:-1], np.diff(starts))
    for role in ("label", "group", "onset_step"):
        column = getattr(texts, role)
        if column is None:
            continue
        differs = np.flatnonzero(column != column[first])
        if len(differs):
            at = int(differs[0])
            raise InputError(
                f"{cells.at(int(order[at]), wanted[role])}: {cells.shown(column[at])} where "
                f"trajectory {cells.shown(texts.trajectory_id[at])} began with "
                f"{cells.shown(column[first[at]])}; it must be the same on each of its rows"
            )
