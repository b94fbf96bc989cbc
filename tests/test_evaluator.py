"""e-valuator's monitors: agreement with the published package, and their promise where it holds."""

import importlib
import math
import os
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from scipy.stats import binom

pytest.importorskip("sklearn")
pytest.importorskip("evaluator", reason="the published package e-valuator is not installed")

from reference import evaluator as published

from tocsin.errors import InputError, MissingExtra
from tocsin.evaluation import evaluator
from tocsin.evaluation.evaluator import NO_ALARM, DensityRatio, StepModel
from tocsin.model import Refusal
from tocsin.risk.trajectories import Floats, Ints, Trajectories, from_columns

Variant = Literal["PAC", "Ville", "RandVille"]
VARIANTS: tuple[Variant, ...] = ("PAC", "Ville", "RandVille")
LEVELS = (0.05, 0.1, 0.2, 0.4, 0.6)
WEIGHTS = (0.7, 0.3)
SEED = 42


def build(scores: list[Any], safe: list[Any]) -> Trajectories:
    """One trajectory per entry, named by its place."""
    lengths = [len(row) for row in scores]
    return from_columns(
        trajectory_id=np.repeat([f"t{i:05d}" for i in range(len(scores))], lengths).tolist(),
        step=np.concatenate([np.arange(1, n + 1) for n in lengths]).tolist(),
        score=np.concatenate([np.asarray(row, dtype=float) for row in scores]).tolist(),
        label=np.repeat(np.asarray(safe, dtype=int), lengths).tolist(),
    )


def world(n: int, longest: int, seed: int, decimals: int | None = None) -> Trajectories:
    """Ragged trajectories; rounded scores make ties, and whole prefixes repeat."""
    rng = np.random.default_rng(seed)
    safe = rng.random(n) < 0.6
    scores = []
    for sign, reach in zip(np.where(safe, 1.0, -1.0), rng.uniform(0.05, 0.95, n), strict=True):
        length = 1 + int(rng.binomial(longest - 1, reach))
        row = 1.0 / (1.0 + np.exp(-(0.4 * sign + rng.normal(0.0, 1.3, length))))
        scores.append(row if decimals is None else row.round(decimals))
    return build(scores, safe.tolist())


def judged(trajectories: Trajectories, index: Ints) -> list[published.Judged]:
    ends = trajectories.starts + trajectories.lengths
    return [
        published.Judged(
            id=i,
            scores=trajectories.scores[trajectories.starts[i] : ends[i]].tolist(),
            safe=bool(trajectories.safe[i]),
        )
        for i in index.tolist()
    ]


def halves(calibration: Ints) -> tuple[Ints, Ints]:
    """The package's own split of its calibration set: to fit on, and for the threshold."""
    rng = np.random.default_rng(SEED)
    fit = rng.choice(calibration, max(1, int(len(calibration) * 0.5)), replace=False)
    chosen = np.isin(calibration, fit)
    return calibration[chosen], calibration[~chosen]


def fitted(trajectories: Trajectories, index: Ints) -> DensityRatio:
    ratio = evaluator.fit_density_ratio(trajectories, index)
    assert ratio is not None
    return ratio


def ours(
    trajectories: Trajectories, calibration: Ints, test: Ints, variant: Variant
) -> tuple[Floats, dict[float, float], dict[float, Ints]]:
    """Ratios of the test trajectories; threshold and first alarms at each level."""
    tested = trajectories.take(test)
    thresholds, alarms = {}, {}
    if variant == "PAC":
        fit, held_out = halves(calibration)
        ratio, rest = fitted(trajectories, fit), trajectories.take(held_out)
        of_rest, ratios = ratio.paths(rest), ratio.paths(tested)
        for level in LEVELS:
            answer = evaluator.pac_threshold(of_rest, rest, *(w * level for w in WEIGHTS))
            thresholds[level] = math.inf if isinstance(answer, Refusal) else answer[0]
            alarms[level] = evaluator.alarm_steps(tested, ratios, thresholds[level])
        return ratios, thresholds, alarms
    ratios = fitted(trajectories, calibration).paths(tested)
    uniforms = np.random.default_rng(SEED).uniform(0, 1, tested.n)
    for level in LEVELS:
        thresholds[level] = evaluator.ville_threshold(level)
        alarms[level] = (
            evaluator.alarm_steps(tested, ratios, thresholds[level])
            if variant == "Ville"
            else evaluator.rand_ville_alarm_steps(tested, ratios, level, uniforms)
        )
    return ratios, thresholds, alarms


def check_agreement(
    trajectories: Trajectories, calibration: Ints, test: Ints, variant: Variant
) -> None:
    limits = importlib.import_module("threadpoolctl").threadpool_limits
    with limits(1):
        theirs = published.run_evaluator(
            judged(trajectories, calibration),
            judged(trajectories, test),
            variant=variant,
            alphas=LEVELS,
            alpha_delta_weights=WEIGHTS,
            random_state=SEED,
        )
    ratios, thresholds, alarms = ours(trajectories, calibration, test, variant)
    wanted = np.concatenate([theirs.e_values[i] for i in test.tolist()])
    np.testing.assert_allclose(ratios, wanted, rtol=1e-9, atol=0.0)
    for level in LEVELS:
        assert thresholds[level] == pytest.approx(theirs.thresholds[level], rel=1e-9)
        steps = [theirs.first_step[level][i] for i in test.tolist()]
        assert alarms[level].tolist() == [NO_ALARM if s is None else s for s in steps]
    raised = [(alarms[level] != NO_ALARM).mean() for level in LEVELS]
    assert 0.0 < max(raised) < 1.0, "nothing to agree about"


# ------------------------------------------------------------------- agreement with the package


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("longest", "decimals"), [(14, None), (6, 1), (25, 1), (1, 2)], ids=str)
def test_agrees_with_the_package(variant: Variant, longest: int, decimals: int | None) -> None:
    trajectories = world(300, longest, seed=longest, decimals=decimals)
    order = np.random.default_rng(1).permutation(trajectories.n)
    calibration, test = np.sort(order[:200]), np.sort(order[200:])
    if longest == 25:
        modelled = len(fitted(trajectories, calibration).models)
        assert modelled < trajectories.take(test).lengths.max(), "no step without a model"
    check_agreement(trajectories, calibration, test, variant)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("name", "n_calibration", "n_test"),
    [("ev_math", 300, 100), ("ev_gsm8k", 300, 100), ("ev_chessgames", 300, 100)],
)
def test_agrees_with_the_package_on_real_data(
    name: str, n_calibration: int, n_test: int, variant: Variant
) -> None:
    folder = os.environ.get("TOCSIN_DATA")
    if folder is None:
        pytest.skip("set TOCSIN_DATA to a folder with ev_math.parquet and its siblings")
    path = Path(folder) / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"TOCSIN_DATA has no {path.name}")
    pandas = importlib.import_module("pandas")
    table = pandas.read_parquet(path)
    trajectories = from_columns(
        trajectory_id=table["trajectory_id"].tolist(),
        step=table["step"].tolist(),
        score=table["score"].tolist(),
        label=table["label"].tolist(),
    )
    order = np.random.default_rng(3).permutation(trajectories.n)
    calibration = np.sort(order[:n_calibration])
    check_agreement(trajectories, calibration, np.sort(order[n_calibration:][:n_test]), variant)


def test_equal_prefixes_have_equal_ratios_wherever_they_stand() -> None:
    trajectories = world(200, 9, seed=5)
    ratio = fitted(trajectories, np.arange(200))
    whole = ratio.paths(trajectories)
    ends = np.append(trajectories.starts, trajectories.n_steps)
    for i in (0, 17, 199):
        alone = ratio.paths(trajectories.take(np.array([i])))
        assert alone.tobytes() == whole[ends[i] : ends[i + 1]].tobytes()


# --------------------------------------------------------------------------- levels and refusals


@pytest.mark.parametrize("n", [1, 5, 21, 22, 23, 60, 133])
@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("delta", [0.05, 0.1, 0.4])
def test_pac_threshold_is_the_tolerance_bound(n: int, epsilon: float, delta: float) -> None:
    ratios = np.random.default_rng(n).exponential(size=n).round(1)
    safe = build([[0.5]] * n, [1] * n)
    alpha, weights = evaluator.package_levels(epsilon, delta)
    assert weights[0] * alpha == pytest.approx(epsilon)
    assert weights[1] * alpha == pytest.approx(delta)
    assert sum(weights) == pytest.approx(1.0)
    package: Any = importlib.import_module("evaluator")
    model = package.EValuator(alphas=[alpha], alpha_delta_weights=weights)
    wanted = model._upper_tolerance_bound(ratios, weights[0] * alpha, weights[1] * alpha)
    got = evaluator.pac_threshold(ratios, safe, epsilon, delta)
    if math.isinf(wanted):
        assert isinstance(got, Refusal)
        assert got.n == n < got.n_needed
    else:
        assert isinstance(got, tuple)
        assert got[0] == wanted
        assert binom.cdf(got[1], n, epsilon) <= delta < binom.cdf(got[1] + 1, n, epsilon)


def test_levels_reach_the_package_unchanged() -> None:
    trajectories = world(300, 6, seed=8)
    calibration, test = np.arange(0, 260), np.arange(260, 300)
    alpha, weights = evaluator.package_levels(0.1, 0.1)
    theirs = published.run_evaluator(
        judged(trajectories, calibration),
        judged(trajectories, test),
        variant="PAC",
        alphas=[alpha],
        alpha_delta_weights=weights,
        random_state=SEED,
    )
    fit, held_out = halves(calibration)
    rest = trajectories.take(held_out)
    answer = evaluator.pac_threshold(fitted(trajectories, fit).paths(rest), rest, 0.1, 0.1)
    assert isinstance(answer, tuple)
    assert answer[0] == pytest.approx(theirs.thresholds[alpha], rel=1e-9)


def test_where_the_package_never_alarms_there_is_a_refusal() -> None:
    trajectories = world(70, 4, seed=2)
    calibration, test = np.arange(0, 60), np.arange(60, 70)
    alpha, weights = evaluator.package_levels(0.05, 0.1)
    theirs = published.run_evaluator(
        judged(trajectories, calibration),
        judged(trajectories, test),
        variant="PAC",
        alphas=[alpha],
        alpha_delta_weights=weights,
        random_state=SEED,
    )
    assert theirs.thresholds[alpha] == math.inf
    assert any("too small" in said for said in theirs.warnings)
    fit, held_out = halves(calibration)
    rest = trajectories.take(held_out)
    answer = evaluator.pac_threshold(fitted(trajectories, fit).paths(rest), rest, 0.05, 0.1)
    assert isinstance(answer, Refusal)
    assert answer.n == int(rest.safe.sum())
    assert answer.n_needed == 45


@pytest.mark.parametrize("n", [0, 3])
def test_without_a_safe_trajectory_there_is_a_refusal(n: int) -> None:
    """The package's threshold is 0.0 here: an alarm for everybody."""
    unsafe = build([[0.5], [0.4], [0.3]], [0, 0, 0]).take(np.arange(n))
    answer = evaluator.pac_threshold(np.ones(n), unsafe, 0.5, 0.5)
    assert isinstance(answer, Refusal)
    assert answer.n == 0


@pytest.mark.parametrize(("n_safe", "n_unsafe"), [(4, 20), (20, 4), (0, 9), (0, 0)])
def test_too_few_of_a_class_have_no_ratio(n_safe: int, n_unsafe: int) -> None:
    scores = np.random.default_rng(0).random((40, 3)).tolist()
    trajectories = build(scores, [1] * 20 + [0] * 20)
    index = np.concatenate([np.arange(n_safe), 20 + np.arange(n_unsafe)]).astype(np.int64)
    assert evaluator.fit_density_ratio(trajectories, index) is None
    if len(index):
        with pytest.raises(AssertionError, match="5 examples per class"):
            published.run_evaluator(
                judged(trajectories, index),
                judged(trajectories, index),
                variant="Ville",
                alphas=[0.1],
            )


def test_five_of_each_class_are_enough() -> None:
    trajectories = build(np.random.default_rng(0).random((10, 3)).tolist(), [1, 0] * 5)
    mask = np.ones(10, dtype=bool)
    ratio = evaluator.fit_density_ratio(trajectories, mask)
    assert ratio is not None and len(ratio.models) == 3 and ratio.safe_share == 0.5


@pytest.mark.parametrize(("value", "what"), [(math.nan, "missing"), (-math.inf, "infinite")])
def test_an_unusable_score_is_an_error_that_names_the_trajectory(value: float, what: str) -> None:
    scores = np.random.default_rng(0).random((12, 3))
    ratio = fitted(build(scores.tolist(), [1, 0] * 6), np.arange(12))
    scores[7, 1] = value
    trajectories = build(scores.tolist(), [1, 0] * 6)
    with pytest.raises(InputError, match=f"'t00007', step 2: the score is {what}"):
        evaluator.fit_density_ratio(trajectories, np.arange(12))
    with pytest.raises(InputError, match=f"'t00007', step 2: the score is {what}"):
        ratio.paths(trajectories)
    without = np.delete(np.arange(12), 7)
    assert evaluator.fit_density_ratio(trajectories, without) is not None


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    trajectories = build(np.random.default_rng(0).random((10, 3)).tolist(), [1, 0] * 5)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"tocsin\[learn\]"):
        evaluator.fit_density_ratio(trajectories, np.arange(10))


@pytest.mark.parametrize("epsilon", [0.0, 1.0, -0.1, math.nan])
def test_levels_outside_the_unit_interval_are_refused(epsilon: float) -> None:
    trajectories = build([[0.5]], [1])
    with pytest.raises(InputError, match="epsilon"):
        evaluator.ville_threshold(epsilon)
    with pytest.raises(InputError, match="epsilon"):
        evaluator.rand_ville_alarm_steps(trajectories, np.ones(1), epsilon, np.ones(1))
    with pytest.raises(InputError, match="sum below 1"):
        evaluator.package_levels(epsilon, 0.1)
    with pytest.raises(InputError, match="sum below 1"):
        evaluator.package_levels(0.1, epsilon)


def test_levels_that_sum_to_one_are_refused() -> None:
    with pytest.raises(InputError, match="sum below 1"):
        evaluator.package_levels(0.5, 0.5)


@pytest.mark.parametrize("uniforms", [[0.5], [0.5, 1.5], [0.5, math.nan], [[0.5, 0.5]]])
def test_uniform_numbers_must_fit(uniforms: Any) -> None:
    trajectories = build([[0.5], [0.5]], [1, 0])
    with pytest.raises(InputError, match="uniform"):
        evaluator.rand_ville_alarm_steps(trajectories, np.ones(2), 0.1, np.array(uniforms))


# ------------------------------------------------------- steps of an alarm, written out by hand


def test_an_alarm_is_strictly_above_and_the_first_counts() -> None:
    trajectories = build([[0.5] * 4, [0.5] * 2, [0.5]], [1, 1, 0])
    values = np.array([1.0, 2.0, 3.0, 9.0, 2.0, 2.0, 2.5])
    assert evaluator.alarm_steps(trajectories, values, 2.0).tolist() == [3, NO_ALARM, 1]
    assert evaluator.alarm_steps(trajectories, values, math.inf).tolist() == [NO_ALARM] * 3
    per_step = np.array([0.5, 0, 0, 0, 9, 1, 3])
    assert evaluator.alarm_steps(trajectories, values, per_step).tolist() == [1, 2, NO_ALARM]


def test_only_the_final_step_is_randomised() -> None:
    trajectories = build([[0.5] * 2] * 3, [1, 1, 1])
    ratios = np.array([9.0, 1.0, 11.0, 0.0, 9.0, 2.1])
    uniforms = np.array([0.1, 0.0, 0.2])
    got = evaluator.rand_ville_alarm_steps(trajectories, ratios, 0.1, uniforms)
    assert got.tolist() == [NO_ALARM, 1, 2]


def test_after_the_last_model_the_ratio_is_carried() -> None:
    model = StepModel(
        centre=np.array([0.5]), scale=np.array([2.0]), weights=np.array([-1.0]), intercept=0.0
    )
    ratio = DensityRatio(models=(model,), safe_share=0.8)
    trajectories = build([[0.5, 9.0, 9.0], [2.5]], [1, 0])
    wanted = [4.0, 4.0, 4.0, 4.0 * math.e]
    np.testing.assert_allclose(ratio.paths(trajectories), wanted, rtol=1e-12)
    assert DensityRatio(models=(), safe_share=0.8).paths(trajectories).tolist() == [1.0] * 4


# --------------------------------------------------------------- the anytime promise, where true


HORIZON = 40
MANY = 20_000


@pytest.fixture(scope="module")
def exact() -> tuple[Trajectories, Floats]:
    """
    Safe trajectories of independent N(1, 1) scores, and the true ratio against N(0, 1).

    A step's ratio is exp((s - 1)^2 / 2 - s^2 / 2) = exp(1/2 - s); so with equal shares the
    log-odds of being safe given a prefix are the sum of s - 1/2, which is logistic.
    """
    rng = np.random.default_rng(20)
    lengths = rng.integers(1, HORIZON + 1, MANY)
    scores = [rng.normal(1.0, 1.0, n) for n in lengths]
    models = tuple(
        StepModel(centre=np.full(t, 0.5), scale=np.ones(t), weights=np.ones(t), intercept=0.0)
        for t in range(1, HORIZON + 1)
    )
    trajectories = build(scores, [1] * MANY)
    ratios = DensityRatio(models=models, safe_share=0.5).paths(trajectories)
    products = np.concatenate([np.exp(np.cumsum(0.5 - row)) for row in scores])
    np.testing.assert_allclose(ratios, np.clip(products, 1e-6, 1e6), rtol=2e-6)
    return trajectories, ratios


@pytest.mark.parametrize("epsilon", [0.02, 0.05, 0.1, 0.2, 0.5])
def test_the_true_ratio_keeps_villes_promise(
    exact: tuple[Trajectories, Floats], epsilon: float
) -> None:
    trajectories, ratios = exact
    slack = 4.0 * math.sqrt(epsilon * (1.0 - epsilon) / MANY)
    plain = evaluator.alarm_steps(trajectories, ratios, evaluator.ville_threshold(epsilon))
    uniforms = np.random.default_rng(21).random(MANY)
    coin = evaluator.rand_ville_alarm_steps(trajectories, ratios, epsilon, uniforms)
    rate, with_coin = (plain != NO_ALARM).mean(), (coin != NO_ALARM).mean()
    assert 0.25 * epsilon < rate <= epsilon + slack
    assert rate < with_coin <= epsilon + slack


def test_the_promise_is_exact_for_a_doubling_ratio() -> None:
    """
    Safe: the ratio doubles or drops to 0 by a fair coin, so P(it ever exceeds 2^j) = 2^-(j+1).

    Here all 2^6 equally likely outcomes are enumerated; nothing is random.
    """
    outcomes = (np.arange(64)[:, None] >> np.arange(6)) & 1
    ratios = np.cumprod(2.0 * outcomes, axis=1)
    trajectories = build(ratios.tolist(), [1] * 64)
    for j in range(1, 6):
        lam = evaluator.ville_threshold(2.0**-j)
        alarms = evaluator.alarm_steps(trajectories, ratios.ravel(), lam)
        assert (alarms != NO_ALARM).mean() == 2.0 ** -(j + 1)
        assert set(alarms.tolist()) == {NO_ALARM, j + 1}


def test_the_randomised_promise_is_tight_at_one_step() -> None:
    """P(M > U / epsilon) = E[min(1, epsilon M)] = epsilon for M in {0, 2}, up to the grid of U."""
    n = 1000
    uniforms = np.tile((np.arange(n) + 0.5) / n, 2)
    ratios = np.repeat([0.0, 2.0], n)
    trajectories = build([[0.5]] * (2 * n), [1] * (2 * n))
    for epsilon in (0.05, 0.1, 0.3, 0.5):
        alarms = evaluator.rand_ville_alarm_steps(trajectories, ratios, epsilon, uniforms)
        assert (alarms != NO_ALARM).mean() == pytest.approx(epsilon)


def test_the_pac_guarantee_does_not_need_a_good_ratio(
    exact: tuple[Trajectories, Floats],
) -> None:
    """With shuffled labels the ratio is worthless; the false-alarm rate is bounded all the same."""
    trajectories, _ = exact
    rng = np.random.default_rng(22)
    noise = rng.random(trajectories.n) < 0.5
    part = trajectories.take(np.arange(300))
    shuffled = build(
        [part.scores[a : a + n] for a, n in zip(part.starts, part.lengths, strict=True)],
        noise[:300].tolist(),
    )
    ratios = fitted(shuffled, np.arange(300)).paths(trajectories)
    maxima = np.maximum.reduceat(ratios, trajectories.starts)
    rest = 300 + rng.permutation(MANY - 300)
    failures = 0
    for block in range(150):
        index = rest[block * 60 : (block + 1) * 60]
        calibration = trajectories.take(index)
        one_each = build([[0.5]] * 60, calibration.safe.tolist())
        answer = evaluator.pac_threshold(maxima[index], one_each, 0.1, 0.1)
        assert isinstance(answer, tuple)
        failures += int((np.delete(maxima, index) > answer[0]).mean() > 0.1)
    assert failures <= binom.ppf(0.999, 150, 0.1)
