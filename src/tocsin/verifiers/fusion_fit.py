"""Fit verifiers that read others, on labels: the data side by side, logistics, `combined`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.model import SignalKind
from tocsin.risk.arithmetic import transform
from tocsin.risk.trajectories import Trajectories
from tocsin.risk.vector import VECTOR
from tocsin.verifiers import separation
from tocsin.verifiers.combined import SCHEMA as COMBINED
from tocsin.verifiers.combined import CombinedFile
from tocsin.verifiers.contract import Declaration
from tocsin.verifiers.fusion import FitSummary, Logistic, Member, seal

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CLASS_MIN = 10
"""Fewest safe and fewest unsafe trajectories on which anything is fitted, as for statistics."""

_RIDGE = 1.0
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Scored:
    """Labelled trajectories with one score for each member and step.

    Args:
        kinds: of the members' signals.
        scores: shape (N, k), safe-high; NaN where missing.
        starts: shape (n,), first step of each trajectory.
        safe: shape (n,), True where labelled safe.
        groups: shape (n,), a number for what must not be split apart.
        digests: of the data with each member's scores.
    """

    kinds: tuple[SignalKind, ...]
    scores: Floats
    starts: Ints
    safe: Bools
    groups: Ints
    digests: tuple[str, ...] = ()

    @cached_property
    def lengths(self) -> Ints:
        """Shape (n,), steps of each trajectory."""
        return np.diff(np.append(self.starts, len(self.scores)))

    @cached_property
    def owner(self) -> Ints:
        """Shape (N,), the trajectory of each step."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)

    @cached_property
    def x(self) -> Floats:
        """Shape (N, k), transformed scores."""
        columns = [transform(VECTOR, kind, self.scores[:, j]) for j, kind in enumerate(self.kinds)]
        return np.stack(columns, axis=1)

    @cached_property
    def known(self) -> Bools:
        """Shape (N,), where every member has a score."""
        return np.asarray(~np.isnan(self.scores).any(axis=1))

    def lowest(self, values: Floats) -> Floats:
        """Shape (n,), least value of each trajectory; NaN where it has none."""
        return np.asarray(np.fmin.reduceat(values, self.starts))

    def summary(self) -> FitSummary:
        """Say what this is."""
        return FitSummary(
            digests=self.digests,
            n=len(self.starts),
            n_safe=int(self.safe.sum()),
            n_groups=len(np.unique(self.groups)),
            steps=len(self.scores),
            steps_left_out=int((~self.known).sum()),
        )


def scored(columns: Sequence[Trajectories], declares: Sequence[Declaration]) -> Scored:
    """Put the scores of several members side by side.

    Args:
        columns: the same trajectories, with the scores of each member.
        declares: what each member says of itself, in the same order.

    Raises:
        InputError: other trajectories, scores out of range, or too few of either class.
    """
    first = columns[0]
    for one, said in zip(columns, declares, strict=True):
        if not (np.array_equal(one.ids, first.ids) and np.array_equal(one.starts, first.starts)):
            raise InputError(f"the trajectories with the scores of {said.name} are others")
        bad = np.flatnonzero((one.scores < said.low) | (one.scores > said.high))
        if len(bad):
            row = int(bad[0])
            raise InputError(
                f"trajectory {str(first.ids[first.owner[row]])!r}, step "
                f"{int(first.step_number[row])}: {float(one.scores[row])!r} is no score of "
                f"{said.name}, which lie within {said.low!r} to {said.high!r}"
            )
    made = Scored(
        kinds=tuple(said.kind for said in declares),
        scores=np.stack([one.scores for one in columns], axis=1),
        starts=first.starts,
        safe=first.safe,
        groups=first.group_codes,
        digests=tuple(one.digest() for one in columns),
    )
    check_classes(made, np.ones(first.n, dtype=bool), "the data")
    return made


def check_classes(data: Scored, among: Bools, where: str) -> None:
    """Refuse to fit on too few trajectories of either class."""
    usable = among & ~np.isnan(data.lowest(np.where(data.known, 0.0, np.nan)))
    safe, unsafe = int((usable & data.safe).sum()), int((usable & ~data.safe).sum())
    if min(safe, unsafe) < CLASS_MIN:
        raise InputError(
            f"{where}: {safe} safe and {unsafe} unsafe trajectories with scores of every member; "
            f"at least {CLASS_MIN} of each are needed"
        )


def fit_logistic(data: Scored, among: Bools, members: Sequence[int]) -> Logistic:
    """Fit P(the trajectory is safe) on the scores of single steps.

    Ridge logistic regression on standardised scores with weights of at least 0, by L-BFGS-B. Every
    trajectory weighs the same, whatever its length.

    Args:
        data: scores and labels.
        among: shape (n,), trajectories to fit on.
        members: columns to use.
    """
    from scipy.optimize import minimize

    rows = np.flatnonzero(among[data.owner] & data.known)
    _, place, counts = np.unique(data.owner[rows], return_inverse=True, return_counts=True)
    weight = (1.0 / counts)[place]
    x = data.x[rows][:, list(members)]
    sign = np.where(data.safe[data.owner[rows]], 1.0, -1.0)
    centre = np.average(x, axis=0, weights=weight)
    scale = np.sqrt(np.average((x - centre) ** 2, axis=0, weights=weight))
    scale = np.where(scale > 0.0, scale, 1.0)
    z = (x - centre) / scale

    def loss(b: Floats) -> tuple[float, Floats]:
        margin = sign * (b[0] + (z * b[1:]).sum(axis=1))
        pull = -sign * weight * np.exp(-np.logaddexp(0.0, margin))
        value = (weight * np.logaddexp(0.0, -margin)).sum() + _RIDGE / 2.0 * (b[1:] ** 2).sum()
        slope = np.append(pull.sum(), (z * pull[:, None]).sum(axis=0) + _RIDGE * b[1:])
        return float(value), slope

    found = minimize(
        loss,
        np.zeros(1 + len(members)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None), *[(0.0, None)] * len(members)],
        options={"ftol": 1e-14, "gtol": 1e-7, "maxiter": 1000},
    )
    weights = found.x[1:] / scale
    return Logistic(
        intercept=float(found.x[0] - (weights * centre).sum()),
        weights=tuple(float(w) for w in weights),
    )


def apply(model: Logistic, data: Scored, members: Sequence[int]) -> Floats:
    """P(safe) of every step, shape (N,); NaN where a score is missing."""
    z = np.full(len(data.scores), model.intercept)
    for weight, j in zip(model.weights, members, strict=True):
        z = z + weight * data.x[:, j]
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(z, -700.0, 700.0))))


def auc(data: Scored, values: Floats, among: Bools) -> float:
    """Area under the ROC curve of the lowest score of a trajectory; .5 says nothing.

    NaN where a class is empty.
    """
    lowest = data.lowest(values)
    used = among & ~np.isnan(lowest)
    return separation.auc(lowest[used], data.safe[used])


# --------------------------------------------------------------------------------------- combined


def fit_combined(
    data: Scored, members: tuple[Member, ...], *, steps: str, seed: int, library_version: str
) -> CombinedFile:
    """Fit a combination, and measure it on groups that were held out in turn.

    Args:
        data: scores and labels.
        members: of the columns, in order.
        steps: what one step is.
        seed: of the division into folds.
        library_version: to be written down.
    """
    every = list(range(len(members)))
    everyone = np.ones(len(data.starts), dtype=bool)
    areas: list[list[float]] = []
    for held in _folds(data, seed):
        model = fit_logistic(data, ~held, every)
        values = [data.x[:, j] for j in every] + [apply(model, data, every)]
        areas.append([auc(data, np.where(data.known, v, np.nan), held) for v in values])
    names = [*_labels(members), "combined"]
    means = [_mean(column) for column in zip(*areas, strict=True)]
    return seal(
        CombinedFile(
            schema=COMBINED,
            library_version=library_version,
            steps=steps,
            members=members,
            data=data.summary(),
            held_out=dict(zip(names, means, strict=True)),
            model=fit_logistic(data, everyone, every),
        )
    )


def _labels(members: Sequence[Member]) -> list[str]:
    """Names of members, told apart where two are the same."""
    names = [member.name for member in members]
    return [n if names.count(n) == 1 else f"{n} ({i})" for i, n in enumerate(names, 1)]


def _mean(values: Sequence[float]) -> float:
    """Mean of those that are numbers, .5 where none is."""
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else 0.5


def _folds(data: Scored, seed: int) -> Iterator[Bools]:
    """Yield who is held out, where what is left has enough of both classes."""
    codes = shuffled(data, seed) % _FOLDS
    for fold in range(_FOLDS):
        held = codes == fold
        check_classes(data, ~held, "four of five parts, divided by group")
        if held.any():
            yield held


def shuffled(data: Scored, seed: int) -> Ints:
    """Shape (n,): a random number of its own for each group, 0, 1, 2, ..."""
    _, codes = np.unique(data.groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(int(codes.max()) + 1)
    return np.asarray(order[codes])
