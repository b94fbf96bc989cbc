"""Trains a model and measures it: out of fold by group, and on sources that it has not seen.

Weights are learned on all data; level and steepness of the probability on evidence out of fold.
Answers that turn late are few in labelled data, so spliced trajectories stand for them where the
model is measured: a safe one, followed by another from the same fold, whose label counts.
"""

from __future__ import annotations

import hashlib
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

    def take(self, chosen: Bools) -> Data:
        """Return some of the trajectories."""
        rows = np.flatnonzero(self.by_row(chosen)).tolist()
        return Data(
            text=[self.text[row] for row in rows],
            obs=[self.obs[row] for row in rows],
            starts=np.concatenate([[0], np.cumsum(self.lengths[chosen])]).astype(np.int64),
            safe=self.safe[chosen],
            group=self.group[chosen],
            file=self.file[chosen],
            source=self.source[chosen],
            category=self.category[chosen],
            harmless=self.harmless[chosen] if len(self.harmless) else self.harmless,
        )

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


def held_out(group: str, share: float, seed: int) -> bool:
    """Say whether a group is held out, by SHA-256 of seed and name: known without the data.

    Example:
        >>> sum(held_out(f"prompt {i}", 0.2, 0) for i in range(1000))
        202
    """
    digest = hashlib.sha256(f"{seed} {group}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") < share * 2**48


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
    parts = source_parts(data, rng)
    total = 2 + FOLDS + len(parts)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        tick(done, total)

    rows = Rows.of(data.text, data.obs, data.starts)
    work = Work(data, rows, Table(rows, features), features, _targets(data), step)
    step()
    heads, probability, late = _out_of_fold(work, rng)
    unseen = _unseen(work, heads[0], parts) if parts else None
    weights, units = work.fit(np.ones(data.n, bool), work.targets)
    card = describe(data, _categories(data), Measured(probability, late, unseen))
    step()
    scaled = [_scaled(head, float(unit)) for head, unit in zip(heads, units, strict=True)]
    header = Header(
        schema=SCHEMA, task=task, steps=steps, features=features, heads=tuple(scaled), card=card
    )
    return sealed(Model(header, weights))


_Fitted = tuple[Weights, Floats]


@dataclass(frozen=True, eq=False)
class Work:
    """What all parts of training share."""

    data: Data
    rows: Rows
    table: Table
    features: Features
    targets: Sequence[Bools]
    step: Callable[[], None]

    def fit(self, learn: Bools, targets: Sequence[Bools]) -> _Fitted:
        """Learn the weights of some heads on some trajectories."""
        used = self.data.by_row(learn)
        fitted = []
        for safe in targets:
            weight = _shares(self.data, safe, balanced=True)
            fitted.append(self.table.fit(self.data.by_row(safe), weight, used))
        return self.table.quantised(fitted)

    def follow(self, model: _Fitted, chain: Sequence[int]) -> Floats:
        """Return the evidence at each row of the last trajectory of a chain, shape (., heads)."""
        weights, units = model
        prefix = Prefix(weights, self.features.orders, self.features.block)
        found: list[Floats] = []
        for i in chain:
            found = []
            for row in range(self.rows.starts[i], self.rows.starts[i + 1]):
                if self.rows.observed[row]:
                    prefix.observe(0, self.rows.observed[row])
                prefix.write(0, self.rows.written[row])
                found.append(prefix.evidence() * units)
        return np.array(found)

    def place(self, i: int) -> slice:
        """Return the rows of a trajectory."""
        return slice(int(self.rows.starts[i]), int(self.rows.starts[i + 1]))


def _out_of_fold(work: Work, rng: np.random.Generator) -> tuple[list[Head], Floats, float | None]:
    """Return calibrated heads, probabilities out of fold, and the AUC on spliced trajectories."""
    data = work.data
    names = ["", *_categories(data)]
    fold = folds(data.group, FOLDS, rng)
    evidence = np.zeros((len(data.text), len(names)))
    lowest, safe = [], []
    for number in range(FOLDS):
        model = work.fit(fold != number, work.targets)
        held = np.flatnonzero(fold == number).tolist()
        for i in held:
            evidence[work.place(i)] = work.follow(model, [i])
        for first, second in _spliced(data, held, rng):
            # Within a fold the probability grows with the evidence: ranks are the same.
            lowest.append(float(work.follow(model, [first, second])[:, 0].min()))
            safe.append(bool(data.safe[second]))
        work.step()
    heads = [
        _calibrated(name, data, work.targets[i], evidence[:, i]) for i, name in enumerate(names)
    ]
    columns = [_probability(head, evidence[:, i]) for i, head in enumerate(heads)]
    late = measures.auc(np.array(lowest), np.array(safe))
    return heads, np.stack(columns, axis=1), late


def _unseen(work: Work, head: Head, parts: Sequence[tuple[Bools, Bools]]) -> Floats:
    """Return probabilities by models that have seen neither the source nor the group."""
    found = np.zeros(len(work.data.text))
    for learn, judge in parts:
        model = work.fit(learn, work.targets[:1])
        for i in np.flatnonzero(judge).tolist():
            found[work.place(i)] = _probability(head, work.follow(model, [i])[:, 0])
        work.step()
    return found


# ------------------------------------------------------------------------------------------ splits


def _check(data: Data) -> None:
    for name, found in (("safe", data.safe), ("unsafe", ~data.safe)):
        n, groups = int(found.sum()), len(np.unique(data.group[found]))
        if n < LINEAR_TRAIN_MIN or groups < FOLDS:
            raise InputError(
                f"{n} {name} trajectories in {groups} groups are too few to learn from: "
                f"{LINEAR_TRAIN_MIN} in {FOLDS} groups are needed; label more"
            )


def folds(group: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Deal groups out at random; shape (n,)."""
    _, codes = np.unique(group, return_inverse=True)
    return np.asarray(rng.permutation(codes.max() + 1)[codes] % count, dtype=np.int64)


def source_parts(data: Data, rng: np.random.Generator) -> list[tuple[Bools, Bools]]:
    """Return (learn, judge) so that judged sources and groups are not learned from.

    Sources are dealt into at most `SOURCE_PARTS` parts. Where groups span them, each part is
    judged in halves of the groups, by what was learned on the other half.
    """
    sources, codes = np.unique(data.source.astype(str), return_inverse=True)
    if len(sources) < 2:
        return []
    part = (rng.permutation(len(sources)) % min(SOURCE_PARTS, len(sources)))[codes]
    spans = len(np.unique(np.stack([data.group, part]), axis=1).T) > len(np.unique(data.group))
    half = folds(data.group, 2, rng) if spans else np.zeros(data.n, np.int64)
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


def _spliced(data: Data, held: Sequence[int], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Pair trajectories of one fold, each behind a safe one of the same file."""
    among = np.array(held)
    made = []
    for second in rng.permutation(among)[: _SPLICES_MAX // FOLDS].tolist():
        first = among[data.safe[among] & (data.file[among] == data.file[second])]
        first = first[first != second]
        if len(first):
            made.append((int(first[rng.integers(len(first))]), second))
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
