"""The published package e-valuator 1.0.0, run as it is, for comparison.

Rows are laid out in the order of the trajectories given, step by step.  That order matters: the
package draws its internal split, and the randomised variant its uniform numbers, along it.
"""

import importlib
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Variant = Literal["PAC", "Ville", "RandVille"]

ID = "uq_problem_idx"
STEP = "num_steps"
SCORE = "judge_probability"
SAFE = "solved"
SERIES = "judge_probability_series"


@dataclass(frozen=True)
class Judged:
    """One output: its name, the verifier's scores (higher is safer), and whether it was safe."""

    id: Hashable
    scores: Sequence[float]
    safe: bool


@dataclass(frozen=True)
class Rejections:
    """What the package decided."""

    thresholds: dict[float, float]
    """Threshold of the e-value for each alpha (infinite: never rejects)."""
    first_step: dict[float, dict[Hashable, int | None]]
    """For each alpha and trajectory the first rejecting step, counted from 1, or None."""
    e_values: dict[Hashable, list[float]]
    """The e-value after each step of each test trajectory."""
    warnings: tuple[str, ...]
    """What the package said while it was fitted."""


def frame(trajectories: Sequence[Judged]) -> Any:
    """Return the package's data frame; the series column is built in one pass."""
    pandas: Any = importlib.import_module("pandas")
    if len({item.id for item in trajectories}) != len(trajectories):
        raise ValueError("trajectory ids must be distinct")
    columns: dict[str, list[Any]] = {ID: [], STEP: [], SCORE: [], SAFE: [], SERIES: []}
    for item in trajectories:
        prefix: list[float] = []
        for index, score in enumerate(item.scores):
            prefix.append(float(score))
            columns[ID].append(item.id)
            columns[STEP].append(index + 1)
            columns[SCORE].append(float(score))
            columns[SAFE].append(1 if item.safe else 0)
            columns[SERIES].append(list(prefix))
    return pandas.DataFrame(columns)


def run_evaluator(
    calibration: Sequence[Judged],
    test: Sequence[Judged],
    *,
    variant: Variant,
    alphas: Sequence[float],
    alpha_delta_weights: tuple[float, float] = (0.9, 0.1),
    random_state: int = 42,
    split_fraction: float = 0.5,
) -> Rejections:
    """Fit the package on the calibration set and apply it to the test set."""
    package: Any = importlib.import_module("evaluator")
    model = package.EValuator(
        mt_variant=variant,
        alphas=list(alphas),
        alpha_delta_weights=alpha_delta_weights,
        split_fraction=split_fraction,
        random_state=random_state,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(frame(calibration))
    applied = model.apply(frame(test))
    ids = list(applied[ID])
    steps = [int(step) for step in applied[STEP]]
    column = "PAC_e_val" if variant == "PAC" else "Ville_e_val"

    e_values: dict[Hashable, list[float]] = {item.id: [] for item in test}
    for name, value in zip(ids, applied[column], strict=True):
        e_values[name].append(float(value))
    first_step: dict[float, dict[Hashable, int | None]] = {}
    for alpha in alphas:
        first: dict[Hashable, int | None] = {item.id: None for item in test}
        rejected = applied[f"reject_{variant}_alpha_{str(alpha).replace('.', '_')}"]
        for name, step, reject in zip(ids, steps, rejected, strict=True):
            if reject and first[name] is None:
                first[name] = step
        first_step[alpha] = first
    return Rejections(
        thresholds={alpha: float(model.thresholds[alpha]) for alpha in alphas},
        first_step=first_step,
        e_values=e_values,
        warnings=tuple(str(item.message) for item in caught),
    )
