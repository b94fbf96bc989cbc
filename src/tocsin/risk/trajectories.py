"""Labelled trajectories as arrays: one row per step, one label per trajectory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.limits import TOKENS_PER_STEP_MAX, TRAJECTORY_STEPS_MAX

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Names = NDArray[np.object_]
Column = Sequence[Any] | NDArray[Any]

_WHOLE_MAX = 2.0**53
"""Largest whole number that every float below it can still tell apart."""


@dataclass(frozen=True, eq=False)
class Trajectories:
    """n trajectories with N steps in all, the steps of one trajectory lying together, in order.

    Args:
        ids: shape (n,), distinct names, sorted.
        starts: shape (n,), index of each trajectory's first step.
        scores: shape (N,), the verifier's score of each prefix (safe-high); NaN where missing.
        safe: shape (n,), True where the whole trajectory was labelled safe.
        tokens: shape (N,), tokens of each step alone.
        groups: shape (n,), what must not be split apart (prompt, user); the id by default.
        segments: shape (n,), the part of the traffic, for reports and per-segment calibration.
        onset: shape (n,), first unsafe step (1-based) where known, else -1.

    Example:
        >>> t = from_columns(
        ...     trajectory_id=["a", "a", "b"],
        ...     step=[1, 2, 1],
        ...     score=[0.9, 0.2, 0.8],
        ...     label=[0, 0, 1],
        ... )
        >>> t.n, t.n_steps, t.safe.tolist(), t.lengths.tolist()
        (2, 3, [False, True], [2, 1])
    """

    ids: Names
    starts: Ints
    scores: Floats
    safe: Bools
    tokens: Floats
    groups: Names
    segments: Names
    onset: Ints
    has_groups: bool = field(default=False)
    has_tokens: bool = field(default=False)

    @property
    def n(self) -> int:
        """Trajectories."""
        return len(self.ids)

    @property
    def n_steps(self) -> int:
        """Steps in all."""
        return len(self.scores)

    @cached_property
    def lengths(self) -> Ints:
        """Shape (n,), steps of each."""
        return np.diff(np.append(self.starts, self.n_steps))

    @cached_property
    def owner(self) -> Ints:
        """Shape (N,), the trajectory of each step."""
        return np.repeat(np.arange(self.n), self.lengths)

    @cached_property
    def step_number(self) -> Ints:
        """Shape (N,), 1-based step within its trajectory."""
        return np.arange(self.n_steps) - self.starts[self.owner] + 1

    @cached_property
    def segment_codes(self) -> tuple[list[str], Ints]:
        """Sorted segment names, and the index of each trajectory's among them."""
        names, codes = _factorise(self.segments)
        return [str(name) for name in names], codes

    @cached_property
    def group_codes(self) -> Ints:
        """Shape (n,), a number for each trajectory's group."""
        return _factorise(self.groups)[1]

    def share_of_tokens(self, rows: Ints) -> Floats:
        """Share of each trajectory's tokens used up to and including one of its rows.

        Where a trajectory has no tokens at all, the share of its steps.

        Args:
            rows: shape (n,), index of a step of each trajectory.

        Returns:
            Shape (n,), in [0, 1]; exactly 1 at the last step.

        Example:
            >>> t = from_columns(
            ...     trajectory_id=["a", "a"],
            ...     step=[1, 2],
            ...     score=[0.9, 0.2],
            ...     label=[0, 0],
            ...     tokens=[30, 10],
            ... )
            >>> t.share_of_tokens(np.array([0])).tolist()
            [0.75]
        """
        ends = self.starts + self.lengths - 1
        # Whole numbers: sums are exact in any order. Odd places hold what comes after `rows`.
        places = np.stack([self.starts, np.minimum(rows + 1, ends)], axis=1).reshape(-1)
        used = np.add.reduceat(self.tokens, places)[::2]
        whole = np.add.reduceat(self.tokens, self.starts)
        by_steps = (rows - self.starts + 1) / self.lengths
        share = np.divide(used, whole, out=by_steps, where=whole > 0)
        return np.where(rows == ends, 1.0, share)

    def take(self, index: Ints | Bools) -> Trajectories:
        """Select trajectories by index or mask, kept in the order of the index.

        Example:
            >>> t = from_columns(
            ...     trajectory_id=["a", "b"], step=[1, 1], score=[0.9, 0.8], label=[0, 1]
            ... )
            >>> t.take(np.array([False, True])).ids.tolist()
            ['b']
        """
        chosen = np.flatnonzero(index) if index.dtype == bool else index
        lengths = self.lengths[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        rows = np.repeat(self.starts[chosen] - starts, lengths) + np.arange(int(lengths.sum()))
        return Trajectories(
            ids=self.ids[chosen],
            starts=starts[: len(chosen)],
            scores=self.scores[rows],
            safe=self.safe[chosen],
            tokens=self.tokens[rows],
            groups=self.groups[chosen],
            segments=self.segments[chosen],
            onset=self.onset[chosen],
            has_groups=self.has_groups,
            has_tokens=self.has_tokens,
        )

    def with_segments(self, segments: Sequence[str]) -> Trajectories:
        """Return the same trajectories with other segments, one for each in order of `ids`."""
        if len(segments) != self.n:
            raise InputError(f"{self.n} trajectories need {self.n} segments, got {len(segments)}")
        return replace(self, segments=np.asarray(segments, dtype=object))

    def digest(self) -> str:
        """Name the content: SHA-256 over ids, lengths, scores, labels and groups.

        The same rows in another order have the same digest.
        """
        h = hashlib.sha256(b"tocsin.trajectories/1")
        for names in (self.ids, self.groups):
            for name in names:
                raw = str(name).encode("utf-8", "surrogatepass")
                h.update(len(raw).to_bytes(8, "big") + raw)
        scores = np.where(np.isnan(self.scores), np.nan, self.scores) + 0.0  # one NaN, one zero
        for array in (self.lengths, scores, self.safe):
            kind = "<i8" if array.dtype == np.int64 else "<f8" if array.dtype.kind == "f" else "|u1"
            h.update(np.ascontiguousarray(array, dtype=kind).view(np.uint8).data)
        return "sha256:" + h.hexdigest()


def from_columns(
    *,
    trajectory_id: Column,
    step: Column,
    score: Column,
    label: Column,
    tokens: Column | None = None,
    group: Column | None = None,
    segment: Column | None = None,
    onset_step: Column | None = None,
) -> Trajectories:
    """Build trajectories from columns, one row per step, in any order of rows.

    Args:
        trajectory_id: names the trajectory of each row.
        step: 1, 2, 3, ... within each trajectory, without gaps or repeats.
        score: the verifier's score of the prefix up to this step; NaN or None where missing.
        label: of the whole trajectory, 1 safe and 0 unsafe, the same on each of its rows.
        tokens: of this step alone, not cumulative; 1 for each step where not given.
        group, segment: of the whole trajectory, the same on each of its rows.
        onset_step: first unsafe step where known, else -1.

    Raises:
        InputError: naming the row (counted from 1) and the column.
    """
    n_rows = len(trajectory_id)
    if n_rows == 0:
        raise InputError("no rows: a calibration needs labelled trajectories")
    columns = {"step": step, "score": score, "label": label, "tokens": tokens}
    columns |= {"group": group, "segment": segment, "onset_step": onset_step}
    for name, column in columns.items():
        if column is not None and len(column) != n_rows:
            raise InputError(f"column {name!r} has {len(column)} rows, trajectory_id has {n_rows}")
    names = np.asarray([str(v) for v in trajectory_id], dtype=object)
    steps = _whole("step", step)
    ids, inverse = _factorise(names)
    order = np.lexsort((steps, inverse))
    _check_steps(ids, inverse, steps, order)
    counts = np.bincount(inverse, minlength=len(ids))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    first = order[starts]
    labels = _whole("label", label)
    bad = np.flatnonzero((labels != 0) & (labels != 1))
    if len(bad):
        raise InputError(
            f"row {bad[0] + 1}, column 'label': {labels[bad[0]]} is neither 1 (safe) nor 0 (unsafe)"
        )
    weights = np.ones(n_rows, dtype=np.int64) if tokens is None else _whole("tokens", tokens)
    bad = np.flatnonzero((weights < 0) | (weights > TOKENS_PER_STEP_MAX))
    if len(bad):
        raise InputError(
            f"row {bad[0] + 1}, column 'tokens': {weights[bad[0]]} is no count of the tokens of "
            f"this step alone, from 0 to {TOKENS_PER_STEP_MAX}"
        )
    per_row: dict[str, Any] = {
        "label": labels,
        "group": names if group is None else _names(group),
        "segment": np.full(n_rows, "all", dtype=object) if segment is None else _names(segment),
        "onset_step": np.full(n_rows, -1)
        if onset_step is None
        else _whole("onset_step", onset_step),
    }
    for name, column in per_row.items():
        _check_constant(name, column, ids, inverse, first)
    onset = per_row["onset_step"][first]
    outside = np.flatnonzero((onset != -1) & ((onset < 1) | (onset > counts)))
    if len(outside):
        at = int(outside[0])
        raise InputError(
            f"row {first[at] + 1}, column 'onset_step': {onset[at]} is no step of trajectory "
            f"{ids[at]!r}, which has {counts[at]}; -1 where the onset is unknown or there is none"
        )
    return Trajectories(
        ids=ids,
        starts=starts,
        scores=_numbers("score", score)[order],
        safe=labels[first] == 1,
        tokens=weights[order].astype(np.float64),
        groups=per_row["group"][first],
        segments=per_row["segment"][first],
        onset=per_row["onset_step"][first].astype(np.int64),
        has_groups=group is not None,
        has_tokens=tokens is not None,
    )


def _factorise(names: Names) -> tuple[Names, Ints]:
    """Sorted distinct names and the index of each row's name among them."""
    table: dict[str, int] = {}
    codes = np.fromiter((table.setdefault(v, len(table)) for v in names), np.int64, len(names))
    distinct = np.empty(len(table), dtype=object)
    distinct[:] = list(table)
    order = np.argsort(distinct, kind="stable")
    rank = np.empty(len(table), np.int64)
    rank[order] = np.arange(len(table))
    return distinct[order], rank[codes]


def _names(values: Column) -> Names:
    out = np.empty(len(values), dtype=object)
    out[:] = ["" if v is None else str(v) for v in values]
    return out


def _numbers(name: str, values: Column) -> Floats:
    """Float64, None and empty text as NaN; an InputError that names the row otherwise."""
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise InputError(f"column {name!r} has {values.ndim} dimensions; give one number a row")
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values.astype(np.float64)
    out = np.empty(len(values))
    for i, value in enumerate(values):
        try:
            out[i] = float("nan") if value is None or value == "" else float(value)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"row {i + 1}, column {name!r}: {value!r} is not a number") from None
    return out


def _whole(name: str, values: Column) -> Ints:
    """Int64; an InputError that names the row otherwise."""
    numbers = _numbers(name, values)
    with np.errstate(invalid="ignore"):
        whole = (numbers == np.floor(numbers)) & (np.abs(numbers) <= _WHOLE_MAX)
    bad = np.flatnonzero(~whole)
    if len(bad):
        found = _shown(values[int(bad[0])])
        raise InputError(f"row {bad[0] + 1}, column {name!r}: {found} is not a whole number")
    return numbers.astype(np.int64)


def _shown(value: Any) -> str:
    """Write a value as a person would, not as NumPy does."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _check_steps(ids: Names, inverse: Ints, steps: Ints, order: Ints) -> None:
    owner, number = inverse[order], steps[order]
    new = np.append(True, owner[1:] != owner[:-1])
    expected = np.where(new, 1, np.append(0, number[:-1]) + 1)
    wrong = np.flatnonzero(number != expected)
    if len(wrong) == 0:
        longest = int(number.max())
        if longest > TRAJECTORY_STEPS_MAX:
            raise InputError(f"a trajectory has {longest} steps; at most {TRAJECTORY_STEPS_MAX}")
        return
    at = wrong[0]
    row, name = order[at] + 1, ids[owner[at]]
    if not new[at] and number[at] == number[at - 1]:
        raise InputError(
            f"row {row}, column 'step': trajectory {name!r} has step {number[at]} twice "
            f"(also in row {order[at - 1] + 1})"
        )
    raise InputError(
        f"row {row}, column 'step': trajectory {name!r} has step {number[at]} where "
        f"{expected[at]} was expected; steps count 1, 2, 3, ... (leave the score empty where "
        "the verifier gave none)"
    )


def _check_constant(name: str, column: Any, ids: Names, inverse: Ints, first: Ints) -> None:
    differs = np.flatnonzero(column != column[first][inverse])
    if len(differs):
        row = int(differs[0])
        owner = inverse[row]
        raise InputError(
            f"row {row + 1}, column {name!r}: trajectory {ids[owner]!r} says {_shown(column[row])} "
            f"here and {_shown(column[first[owner]])} in row {first[owner] + 1}; it belongs to the "
            "whole trajectory and must be the same on each of its rows"
        )
