"""Trains a model and measures it: out of fold by group, and on sources that it has not seen.

Weights are learned on all data; level and steepness of the probability on evidence out of fold.
Answers that turn late are few in labelled data, so spliced trajectories stand for them where the
model is measured: a safe one, followed by another from the same fold, whose label counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.limits import LINEAR_HEAD_UNSAFE_MIN, LINEAR_TRAIN_MIN
from tocsin.verifiers.linear import measures
from tocsin.verifiers.linear.learning import Bools, Floats, Ints, Rows, Table, minimise
from tocsin.verifiers.linear.model_file import SCHEMA, Features, Head, Header, Model, sealed
from tocsin.verifiers.linear.prefix import Prefix, Weights

FOLDS = 5
SOURCE_PARTS = 5
_SPLICES_MAX = 4_000
_DIGITS = 6

Tick = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Data:
    """Labelled text to learn from: n trajectories, the rows of one lying together.

    Args:
        text, obs: of each row; "" where nothing.
        starts: shape (n + 1,), first row of each trajectory, and the number of rows.
        safe: shape (n,), the label.
        group: shape (n,), numbers; a group is never split.
        file: shape (n,), number of the file; each file counts the same.
        source: shape (n,), names, or "" where unknown.
        category: shape (n,), our category of the trajectory, or "".
        harmless: shape (n,), True where the prompt is known to be harmless, for over-refusal.
    """

    text: Sequence[str]
    obs: Sequence[str]
    starts: Ints
    safe: Bools
    group: Ints
    file: Ints
    source: NDArray[np.object_]
    category: NDArray[np.object_]
    harmless: Bools = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def n(self) -> int:
        """Trajectories."""
        return len(self.safe)

    @property
    def lengths(self) -> Ints:
        """Shape (n,), rows of each."""
        return np.diff(self.starts)

    def by_row(self, values: NDArray[Any]) -> NDArray[Any]:
        """Repeat a value of each trajectory for each of its rows."""
        return np.repeat(values, self.lengths)


@dataclass(frozen=True, eq=False)
class Measured:
    """What training found out, for the card.

    Args:
        probability: shape (rows, heads), out of fold.
        late: AUC of the lowest score on spliced trajectories, out of fold.
        unseen: shape (rows,), scores by models that saw neither source nor group; None without
            two sources.
    """

    probability: Floats
    late: float | None
    unseen: Floats | None


def train(
    data: Data,
    *,
    task: str,
    steps: str,
    features: Features,
    seed: int,
    describe: Callable[[Data, Sequence[str], Measured], dict[str, Any]],
    tick: Tick = lambda _done, _total: None,
) -> Model:
    """Train a model, seal it and say how good it is.

    Args:
        data: what to learn from.
        task: what is learned, in one word.
        steps: the model's default step definition.
        features: how text becomes evidence.
        seed: of the folds and the splices.
        describe: makes the card of the measurements.
        tick: told how much is done.

    Raises:
        InputError: too few trajectories or groups of a class.
    """
    _check(data)
    rng = np.random.default_rng(seed)
    targets = _targets(data)
    names = ["", *_categories(data)]
    parts = _source_parts(data, rng)
    total = 2 + FOLDS + len(parts)
    rows = Rows.of(data.text, data.obs, data.starts)
    table = Table(rows, features)
    tick(1, total)
    fold = _folds(data.group, FOLDS, rng)
    evidence = np.zeros((len(data.text), len(names)))
    spliced: list[_Splice] = []
    for number in range(FOLDS):
        model = _fit(table, data, targets, fold != number)
        held = np.flatnonzero(fold == number)
        for i in held:
            _follow(model, rows, features, [i], evidence)
        spliced += _splices(model, rows, data, features, held, rng)
        tick(2 + number, total)
    heads, probability = [], np.zeros(evidence.shape[:2])
    for number, name in enumerate(names):
        head = _calibrated(name, data, targets[number], evidence[:, number])
        heads.append(head)
        probability[:, number] = _probability(head, evidence[:, number])
    unseen = np.zeros(len(data.text)) if parts else None
    for number, (learn, judge) in enumerate(parts):
        model = _fit(table, data, targets[:1], learn)
        scratch = np.zeros((len(data.text), 1))
        for i in np.flatnonzero(judge):
            _follow(model, rows, features, [i], scratch)
        if unseen is not None:
            where = data.by_row(judge)
            unseen[where] = _probability(heads[0], scratch[where, 0])
        tick(2 + FOLDS + number, total)
    weights, units = _fit(table, data, targets, np.ones(data.n, bool))
    late = _late(heads[0], spliced)
    card = describe(data, names[1:], Measured(probability, late, unseen))
    tick(total, total)
    scaled = [_scaled(head, unit) for head, unit in zip(heads, units, strict=True)]
    header = Header(
        schema=SCHEMA, task=task, steps=steps, features=features, heads=tuple(scaled), card=card
    )
    return sealed(Model(header, weights))


# ------------------------------------------------------------------------------------------ splits


def _check(data: Data) -> None:
    for name, found in (("safe", data.safe), ("unsafe", ~data.safe)):
        n, groups = int(found.sum()), len(np.unique(data.group[found]))
        if n < LINEAR_TRAIN_MIN or groups < FOLDS:
            raise InputError(
                f"{n} {name} trajectories in {groups} groups are too few to learn from: "
                f"{LINEAR_TRAIN_MIN} in {FOLDS} groups are needed; label more"
            )


def _folds(group: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Deal groups out at random; shape (n,)."""
    _, codes = np.unique(group, return_inverse=True)
    return np.asarray(rng.permutation(codes.max() + 1)[codes] % count, dtype=np.int64)


def _source_parts(data: Data, rng: np.random.Generator) -> list[tuple[Bools, Bools]]:
    """Return (learn, judge) so that judged sources and groups are not learned from.

    Sources are dealt into at most `SOURCE_PARTS` parts. Where groups span them, each part is
    judged in halves of the groups, by what was learned on the other half.
    """
    sources, codes = np.unique(data.source.astype(str), return_inverse=True)
    if len(sources) < 2:
        return []
    part = (rng.permutation(len(sources)) % min(SOURCE_PARTS, len(sources)))[codes]
    spans = len(np.unique(np.stack([data.group, part]), axis=1).T) > len(np.unique(data.group))
    half = _folds(data.group, 2, rng) if spans else np.zeros(data.n, np.int64)
    found = []
    for number in range(part.max() + 1):
        for side in range(half.max() + 1):
            judge = (part == number) & (half == side)
            learn = (part != number) & ((half != side) | (not spans))
            if judge.any() and len(np.unique(data.safe[learn])) == 2:
                found.append((learn, judge))
    return found


def _categories(data: Data) -> list[str]:
    names, counts = np.unique(data.category[~data.safe].astype(str), return_counts=True)
    few = LINEAR_HEAD_UNSAFE_MIN
    return [str(name) for name, n in zip(names, counts, strict=True) if name and n >= few]


def _targets(data: Data) -> list[Bools]:
    """Return what each head calls safe: a category's head all but the unsafe of the category."""
    return [data.safe, *(data.safe | (data.category != name) for name in _categories(data))]


# ---------------------------------------------------------------------------------------- learning

_Fitted = tuple[Weights, Floats]


def _shares(data: Data, safe: Bools, *, balanced: bool) -> Floats:
    """Weigh rows: each file alike, each trajectory of it alike, both classes alike if `balanced`.

    They add up to the number of trajectories.
    """
    share = np.zeros(data.n)
    files = np.unique(data.file)
    for file in files:
        inside = data.file == file
        for part in [inside & safe, inside & ~safe] if balanced else [inside]:
            if part.any():
                share[part] = 1 / part.sum()
    if balanced:  # a file may lack one class
        for part in (safe, ~safe):
            share[part] /= max(share[part].sum(), 1e-300)
    share *= data.n / share.sum()
    return np.asarray(data.by_row(share / data.lengths))


def _fit(table: Table, data: Data, targets: Sequence[Bools], learn: Bools) -> _Fitted:
    rows = data.by_row(learn)
    fitted = []
    for safe in targets:
        weight = _shares(data, safe, balanced=True)
        fitted.append(table.fit(data.by_row(safe), weight, rows))
    return table.quantised(fitted)


def _follow(
    model: _Fitted, rows: Rows, features: Features, chain: Sequence[int], out: Floats
) -> None:
    """Write the evidence at each row of the last trajectory of a chain into `out`."""
    weights, units = model
    prefix = Prefix(weights, features.orders, features.block)
    for i in chain:
        for row in range(rows.starts[i], rows.starts[i + 1]):
            if rows.observed[row]:
                prefix.observe(0, rows.observed[row])
            prefix.write(0, rows.written[row])
            if i == chain[-1]:
                out[row] = prefix.evidence() * units


@dataclass(frozen=True, eq=False)
class _Splice:
    """A trajectory that follows a safe one, with the evidence at its rows."""

    begin: int
    rows: slice
    which: int
    safe: bool
    evidence: Floats


def _splices(
    model: _Fitted,
    rows: Rows,
    data: Data,
    features: Features,
    held: Ints,
    rng: np.random.Generator,
) -> list[_Splice]:
    """Splice trajectories of one fold, each behind a safe one of the same file."""
    made = []
    chosen = rng.permutation(held)[: _SPLICES_MAX // FOLDS]
    scratch = np.zeros((len(rows.written), model[0].shape[1]))
    for which in chosen:
        first = held[data.safe[held] & (data.file[held] == data.file[which]) & (held != which)]
        if not len(first):
            continue
        begin = int(first[rng.integers(len(first))])
        place = slice(int(rows.starts[which]), int(rows.starts[which + 1]))
        _follow(model, rows, features, [begin, int(which)], scratch)
        made.append(
            _Splice(begin, place, int(which), bool(data.safe[which]), scratch[place].copy())
        )
    return made


# ------------------------------------------------------------------------------------- calibration


def _calibrated(name: str, data: Data, safe: Bools, evidence: Floats) -> Head:
    """Fit level and steepness by logistic regression, each trajectory of a file counting alike."""
    weight = _shares(data, safe, balanced=False)
    sign = np.where(data.by_row(safe), 1.0, -1.0)
    scale = max(float(evidence.std()), 1e-12)

    def loss(v: Floats) -> tuple[float, Floats]:
        margin = sign * (v[0] + v[1] * evidence / scale)
        slope = -sign * weight / (1 + np.exp(np.clip(margin, -700, 700)))
        gradient = np.array([slope.sum(), (slope * evidence).sum() / scale])
        return float((weight * np.logaddexp(0, -margin)).sum()), gradient

    intercept, slope = minimise(loss, np.array([0.0, 1.0]), 200)
    return Head(name=name, intercept=float(intercept), slope=max(float(slope) / scale, 0.0))


def _probability(head: Head, evidence: Floats) -> Floats:
    z = head.intercept + head.slope * evidence
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -700, 700))))


def _scaled(head: Head, unit: float) -> Head:
    """Take slopes from evidence in real units to evidence in units of the 8-bit weights."""
    return Head(
        name=head.name,
        intercept=float(f"{head.intercept:.{_DIGITS}g}"),
        slope=float(f"{head.slope * unit:.{_DIGITS}g}"),
    )


def _late(head: Head, spliced: Sequence[_Splice]) -> float | None:
    """Return the AUC of the lowest score within what follows a safe beginning."""
    if not spliced:
        return None
    low = np.array([_probability(head, s.evidence[:, 0]).min() for s in spliced])
    return measures.auc(low, np.array([s.safe for s in spliced]))
