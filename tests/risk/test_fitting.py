"""
The promise: what is fitted uses its own split only, and is what the library fitted, as numbers.
"""

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn.ensemble
from numpy.typing import NDArray
from risk.conformance import check_statistic
from risk.worlds import sinking, trajectories

from tocsin.errors import InputError, MissingExtra
from tocsin.limits import PER_STEP_KNOTS, PER_STEP_TRAJECTORIES_MIN
from tocsin.model import SignalKind
from tocsin.risk.fitting import (
    CLASS_MIN,
    check_fittable,
    fit_closing,
    fit_per_step_quantile,
    fit_posterior,
)
from tocsin.risk.statistics import Ewma, LogOdds, MinScore, PerStepQuantile, Posterior, Statistic
from tocsin.risk.statistics.features import SAFE_HIGH, FeatureTable, feature_table
from tocsin.risk.statistics.log_odds import forest_rows
from tocsin.risk.trajectories import Trajectories

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Case:
    """A world, its features, and the half on which is fitted."""

    world: Trajectories
    table: FeatureTable
    fit: Bools
    posterior: Posterior


@pytest.fixture(scope="module")
def case() -> Case:
    world = sinking(600, seed=60)
    table = feature_table(world, "probability")
    fit = np.arange(world.n) % 2 == 0
    return Case(world, table, fit, fit_posterior(world, table, fit, "probability"))


def auc(maxima: Floats, safe: Bools) -> float:
    """Probability that an unsafe trajectory's maximum exceeds a safe one's, ties half."""
    unsafe, kept = maxima[~safe][:, None], maxima[safe][None, :]
    return float((unsafe > kept).mean() + 0.5 * (unsafe == kept).mean())


def with_scores(world: Trajectories, scores: Floats) -> Trajectories:
    return dataclasses.replace(world, scores=scores)


# -------------------------------------------------------------------------------------- posterior


def test_the_posterior_separates_what_it_was_not_fitted_on(case: Case) -> None:
    held = ~case.fit
    maxima = case.posterior.paths(case.world).maxima(case.world.starts)
    assert auc(maxima[held], case.world.safe[held]) > 0.8
    # Danger-high: the other direction would be near 0.
    assert auc(-maxima[held], case.world.safe[held]) < 0.2


def test_a_fitted_posterior_conforms(case: Case) -> None:
    check_statistic(case.posterior)


def test_a_fitted_posterior_with_its_closing_check_conforms(case: Case) -> None:
    closing = fit_closing(case.world, case.table, case.fit, case.posterior)
    check_statistic(Posterior(model=case.posterior.model, closing=closing))


@pytest.mark.parametrize("kind", ["probability", "real"])
def test_a_posterior_keeps_the_kind_of_its_signal(case: Case, kind: SignalKind) -> None:
    table = feature_table(case.world, kind)
    assert fit_posterior(case.world, table, case.fit, kind).kind == kind


def risen(features: Floats) -> Floats:
    """The same features with each safe-high one raised by random amounts, often by none."""
    rng = np.random.default_rng(61)
    rise = rng.exponential(size=features.shape) * (rng.uniform(size=features.shape) < 0.5)
    higher: Floats = features + rise * np.array(SAFE_HIGH)
    return higher


def test_the_forest_never_finds_a_safer_prefix_more_dangerous(case: Case) -> None:
    model = case.posterior.model
    before = forest_rows(model.base, model.trees, case.table.steps)
    after = forest_rows(model.base, model.trees, risen(case.table.steps))
    assert (after <= before + 1e-9).all()
    assert (after < before - 0.1).any()


def test_nothing_outside_the_split_is_looked_at(case: Case) -> None:
    outside = ~case.fit[case.world.owner]
    scores = np.where(outside, 1.0 - case.world.scores, case.world.scores)
    other = dataclasses.replace(
        with_scores(case.world, scores), safe=np.where(case.fit, case.world.safe, ~case.world.safe)
    )
    table = feature_table(other, "probability")
    assert fit_posterior(other, table, case.fit, "probability") == case.posterior
    for statistic in (Ewma(), MinScore(), case.posterior):
        assert fit_closing(other, table, case.fit, statistic) == fit_closing(
            case.world, case.table, case.fit, statistic
        )
    assert fit_per_step_quantile(other, table, case.fit, "probability") == fit_per_step_quantile(
        case.world, case.table, case.fit, "probability"
    )


def test_fitting_twice_gives_the_same_model(case: Case) -> None:
    again = fit_posterior(case.world, case.table, case.fit, "probability")
    assert again == case.posterior


def test_what_is_inside_the_split_matters(case: Case) -> None:
    flipped = dataclasses.replace(case.world, safe=~case.world.safe)
    assert fit_posterior(flipped, case.table, case.fit, "probability") != case.posterior


class Recording(sklearn.ensemble.HistGradientBoostingClassifier):  # type: ignore[misc]
    """The library's classifier, remembering what it was fitted on."""

    fitted: "list[tuple[Recording, Floats]]" = []  # noqa: RUF012 - reset by the fixture below

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        self.fitted.append((self, X.copy()))
        return super().fit(X, y, sample_weight=sample_weight)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recording, Floats]]:
    monkeypatch.setattr(Recording, "fitted", [])
    monkeypatch.setattr(sklearn.ensemble, "HistGradientBoostingClassifier", Recording)
    return Recording.fitted


def test_the_exported_forest_answers_as_the_library_does(
    case: Case, recorded: list[tuple[Recording, Floats]]
) -> None:
    model = fit_posterior(case.world, case.table, case.fit, "probability").model
    classifier, codes = recorded[-1]
    rows = np.flatnonzero(case.fit[case.world.owner])
    assert len(codes) == len(rows) and len(recorded) == 2
    ours = forest_rows(model.base, model.trees, case.table.steps[rows])
    assert np.abs(ours - classifier.decision_function(codes)).max() < 1e-9
    for tree in model.trees:
        inner = [i for i, f in enumerate(tree.feature) if f >= 0]
        assert all(tree.left[i] > i and tree.right[i] > i for i in inner)
        assert all(tree.value[i] == 0.0 for i in inner)


def test_a_library_that_answers_differently_is_refused(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Changed(sklearn.ensemble.HistGradientBoostingClassifier):  # type: ignore[misc]
        def decision_function(self, X: Any) -> Any:
            return super().decision_function(X) + 1e-6

    monkeypatch.setattr(sklearn.ensemble, "HistGradientBoostingClassifier", Changed)
    with pytest.raises(MissingExtra, match=r"tocsin\[learn\]"):
        fit_posterior(case.world, case.table, case.fit, "probability")


def test_a_trajectory_weighs_the_same_whatever_its_length() -> None:
    """
    Two hundred long unsafe-looking steps of one trajectory do not outweigh sixty short ones.

    The base rate of the forest is that of trajectories, not of steps.
    """
    rng = np.random.default_rng(62)
    rows = [rng.uniform(0.4, 0.6, size=2 if i % 2 else 60).tolist() for i in range(80)]
    world = trajectories(rows, [i % 2 == 0 for i in range(80)])
    model = fit_posterior(
        world, feature_table(world, "probability"), np.ones(80, dtype=bool), "probability"
    ).model
    assert model.base == pytest.approx(0.0, abs=1e-6)


def test_a_prefix_without_a_score_is_not_fitted_on(case: Case) -> None:
    scores = case.world.scores.copy()
    scores[case.world.starts[::3]] = np.nan
    holes = with_scores(case.world, scores)
    table = feature_table(holes, "probability")
    statistic = fit_posterior(holes, table, case.fit, "probability")
    maxima = statistic.paths(holes, "skip").maxima(holes.starts)
    assert np.isfinite(maxima).all()
    assert auc(maxima[~case.fit], holes.safe[~case.fit]) > 0.8


# ---------------------------------------------------------------------------------------- refusals


def test_too_few_of_a_class_is_an_input_error(case: Case) -> None:
    safe = np.flatnonzero(case.world.safe)
    unsafe = np.flatnonzero(~case.world.safe)
    few = CLASS_MIN - 1
    for kept in ((safe[:few], unsafe), (safe, unsafe[:few]), (safe, unsafe[:0])):
        fit = np.zeros(case.world.n, dtype=bool)
        for part in kept:
            fit[part] = True
        counts = f"got {len(kept[0])} and {len(kept[1])}"
        with pytest.raises(InputError, match=counts):
            fit_posterior(case.world, case.table, fit, "probability")
        with pytest.raises(InputError, match=counts):
            fit_closing(case.world, case.table, fit, Ewma())
    check_fittable(np.array([True] * CLASS_MIN + [False] * CLASS_MIN))


def test_a_class_without_any_score_is_an_input_error_of_ours(case: Case) -> None:
    scores = np.where(case.world.safe[case.world.owner], case.world.scores, np.nan)
    holes = with_scores(case.world, scores)
    table = feature_table(holes, "probability")
    try:
        fit_posterior(holes, table, case.fit, "probability")
    except InputError:
        return
    pytest.fail("fitted on one class")


@pytest.mark.parametrize(
    "module", ["sklearn.ensemble", "sklearn.linear_model", "threadpoolctl"], ids=str
)
def test_without_the_library_the_error_names_the_extra(
    case: Case, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"pip install 'tocsin\[learn\]'.*ewma, min_score"):
        fit_posterior(case.world, case.table, case.fit, "probability")
    with pytest.raises(MissingExtra, match=r"tocsin\[learn\]"):
        fit_closing(case.world, case.table, case.fit, Ewma())
    fit_per_step_quantile(case.world, case.table, case.fit, "probability")


# ----------------------------------------------------------------------------------------- closing


def the_statistics(case: Case) -> list[Statistic]:
    quantile = fit_per_step_quantile(case.world, case.table, case.fit, "probability")
    return [MinScore(), Ewma(), quantile]


def test_the_conversion_of_a_closing_check_rises(case: Case) -> None:
    for statistic in the_statistics(case):
        closing = fit_closing(case.world, case.table, case.fit, statistic)
        assert closing.slope > 0.0
        finals = [tuple(map(float, row)) for row in case.table.final[:50]]
        odds = np.array([closing.model.one(f) for f in finals])
        values = np.array([closing.one(f) for f in finals])
        assert (np.diff(values[np.argsort(odds)]) >= 0.0).all()
        back = closing.intercept + closing.slope * values
        assert back.tolist() == pytest.approx(odds.tolist(), abs=1e-9)


def test_a_posterior_and_its_closing_check_share_their_units(case: Case) -> None:
    closing = fit_closing(case.world, case.table, case.fit, case.posterior)
    assert (closing.intercept, closing.slope) == (0.0, 1.0)


def test_the_closing_check_knows_more_than_the_maximum_alone(case: Case) -> None:
    held = ~case.fit
    plain = MinScore()
    closing = fit_closing(case.world, case.table, case.fit, plain)
    complete = MinScore(closing=closing).paths(case.world)
    assert complete.closing is not None
    safe = case.world.safe[held]
    alone = auc(plain.paths(case.world).maxima(case.world.starts)[held], safe)
    assert auc(complete.closing[held], safe) > max(alone, 0.8)


def test_a_statistic_that_points_the_wrong_way_gets_no_closing_check(case: Case) -> None:
    flipped = dataclasses.replace(case.world, safe=~case.world.safe)
    for statistic in (MinScore(), Ewma()):
        with pytest.raises(InputError, match=f"closing check .* '{statistic.name}'"):
            fit_closing(flipped, case.table, case.fit, statistic)


# ---------------------------------------------------------------------------------------- per step


def test_the_quantiles_rise_and_later_steps_share_the_last(case: Case) -> None:
    statistic = fit_per_step_quantile(case.world, case.table, case.fit, "probability")
    chosen = case.fit & case.world.safe
    reached = [int((case.world.lengths[chosen] >= t).sum()) for t in range(1, 15)]
    assert len(statistic.knots) == sum(r >= PER_STEP_TRAJECTORIES_MIN for r in reached)
    for row in statistic.knots:
        assert len(row) == PER_STEP_KNOTS
        assert (np.diff(row) >= 0.0).all()
    last = len(statistic.knots)
    values = statistic.paths(trajectories([[0.8] * (last + 5)])).values
    assert len(set(values[last - 1 :].tolist())) == 1


def test_the_quantiles_are_those_of_the_safe_scores_at_their_step(case: Case) -> None:
    statistic = fit_per_step_quantile(case.world, case.table, case.fit, "probability")
    chosen = (case.fit & case.world.safe)[case.world.owner]
    for t, row in enumerate(statistic.knots, start=1):
        x = case.table.steps[chosen & (case.world.step_number == t), 0]
        assert (row[0], row[-1]) == (x.min(), x.max())
        assert row[PER_STEP_KNOTS // 2] == pytest.approx(float(np.median(x)))


def test_on_its_own_split_the_danger_at_a_step_is_nearly_uniform(case: Case) -> None:
    statistic = fit_per_step_quantile(case.world, case.table, case.fit, "probability")
    chosen = (case.fit & case.world.safe)[case.world.owner] & (case.world.step_number == 2)
    values = np.sort(statistic.paths(case.world).values[chosen])
    uniform = (np.arange(len(values)) + 0.5) / len(values)
    assert np.abs(values - uniform).max() < 0.05


def test_too_few_safe_ones_for_quantiles_is_an_input_error(case: Case) -> None:
    few = np.flatnonzero(case.world.safe)[: PER_STEP_TRAJECTORIES_MIN - 1]
    fit = np.zeros(case.world.n, dtype=bool)
    fit[few] = True
    fit[np.flatnonzero(~case.world.safe)] = True
    with pytest.raises(InputError, match=f"needs {PER_STEP_TRAJECTORIES_MIN} safe .* got 19"):
        fit_per_step_quantile(case.world, case.table, fit, "probability")


def test_a_step_counts_from_the_scores_there_are_when_fitted_and_when_applied() -> None:
    statistic = PerStepQuantile(kind="real", knots=((0.0, 1.0), (10.0, 11.0)))
    values = statistic.paths(trajectories([[0.5, np.nan, 10.5]]), "skip").values
    assert values.tolist() == [0.5, 0.5, 0.5]
    rng = np.random.default_rng(5)
    full = trajectories(rng.random((60, 3)).tolist())
    holes = [[a, np.nan, b, c] for a, b, c in full.scores.reshape(60, 3).tolist()]
    fits = [
        fit_per_step_quantile(t, feature_table(t, "real"), np.ones(60, dtype=bool), "real")
        for t in (full, trajectories(holes))
    ]
    assert fits[0] == fits[1]


def test_a_model_is_plain_numbers(case: Case) -> None:
    model = case.posterior.model
    assert isinstance(model, LogOdds)
    numbers = [model.intercept, model.base, *model.weights]
    for tree in model.trees:
        numbers += [*tree.limit, *tree.value]
        assert all(type(v) is int for v in (*tree.feature, *tree.left, *tree.right))
        assert all(0 <= v < len(tree.feature) for v in (*tree.left, *tree.right))
    assert all(type(v) is float and np.isfinite(v) for v in numbers)
