"""
The promise: one definition for the live monitor and for calibration, equal to the last bit.

A threshold is an observed value of a statistic, so one unit in the last place is the difference
between an alarm and none.
"""

import math
import typing
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import monitor
from risk.conformance import bits, check_online_is_batch, check_statistic, online
from risk.worlds import long, trajectories

from tocsin.model import SignalKind
from tocsin.risk.arithmetic import PROBABILITY_FLOOR
from tocsin.risk.statistics import (
    NEVER,
    ClosingCheck,
    Ewma,
    LogOdds,
    MinScore,
    PerStepQuantile,
    Posterior,
    Statistic,
    Tree,
)
from tocsin.risk.statistics.features import NAMES, RETENTION, START, feature_table
from tocsin.risk.trajectories import Trajectories

KINDS: tuple[SignalKind, ...] = ("probability", "real")


def a_tree(rng: np.random.Generator) -> Tree:
    """A full tree of depth three over random features."""
    inner, leaves = range(7), range(7, 15)
    return Tree(
        feature=(*(int(rng.integers(0, 8)) for _ in inner), *(-1 for _ in leaves)),
        limit=(*(float(rng.normal(0.0, 2.0)) for _ in inner), *(0.0 for _ in leaves)),
        left=(*(2 * i + 1 for i in inner), *(0 for _ in leaves)),
        right=(*(2 * i + 2 for i in inner), *(0 for _ in leaves)),
        value=(*(0.0 for _ in inner), *(float(rng.normal(0.0, 0.3)) for _ in leaves)),
    )


def a_model(seed: int) -> LogOdds:
    """Log-odds with all the parts that a fitted one has."""
    rng = np.random.default_rng(seed)
    return LogOdds(
        intercept=float(rng.normal()),
        weights=tuple(float(w) for w in rng.normal(0.0, 0.5, size=len(NAMES))),
        base=float(rng.normal()),
        trees=tuple(a_tree(rng) for _ in range(5)),
    )


CLOSING = ClosingCheck(model=a_model(1), intercept=0.3, slope=1.7)
KNOTS = ((-2.0, -1.0, -1.0, 0.0, 0.1), (-3.0, 0.0, 0.5, 0.5, 3.0), (0.1, 0.2, 0.3, 0.7, 0.9))

EXAMPLES: dict[type, Callable[[SignalKind], list[Statistic]]] = {
    MinScore: lambda kind: [MinScore(kind=kind)],
    Ewma: lambda kind: [Ewma(kind=kind, retention=r) for r in (RETENTION, 0.0, 0.7)],
    PerStepQuantile: lambda kind: [
        PerStepQuantile(kind=kind, knots=KNOTS),
        PerStepQuantile(kind=kind, knots=KNOTS[:1]),
    ],
    Posterior: lambda kind: [Posterior(kind=kind, model=a_model(2))],
}
"""For each statistic there is, instances to check."""


def everything() -> Iterator[Statistic]:
    """Every statistic there is, for both kinds of signal, with and without a closing check."""
    for member in typing.get_args(Statistic):
        assert member in EXAMPLES, f"add examples of {member.__name__} here"
        for kind in KINDS:
            for plain in EXAMPLES[member](kind):
                yield plain
                fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
                yield member(**(fields | {"closing": CLOSING}))


def title(statistic: Statistic) -> str:
    """A name for a test."""
    more = f"-{statistic.retention}" if isinstance(statistic, Ewma) else ""
    return f"{statistic.label}-{statistic.kind}{more}"


@pytest.mark.parametrize("statistic", list(everything()), ids=title)
def test_every_statistic_conforms(statistic: Statistic) -> None:
    check_statistic(statistic)


@pytest.mark.parametrize("member", typing.get_args(Statistic), ids=lambda m: str(m.__name__))
def test_ten_thousand_steps_give_the_same_bits(member: type[Statistic]) -> None:
    statistic = next(s for s in everything() if type(s) is member and s.closing is not None)
    check_online_is_batch(statistic, long(statistic.kind, 10_000), "error")


def test_names_are_those_of_files_and_the_command_line() -> None:
    names = [member.__struct_config__.tag for member in typing.get_args(Statistic)]
    assert names == ["min_score", "ewma", "per_step_quantile", "posterior"]


@pytest.mark.parametrize("kind", KINDS)
def test_min_score_is_minus_the_lowest_score(kind: SignalKind) -> None:
    world = trajectories([[0.5, 0.2, 0.9], [0.7], [math.inf, -math.inf]])
    statistic = MinScore(kind=kind)
    assert statistic.paths(world).maxima(world.starts).tolist() == [-0.2, -0.7, math.inf]
    for row in ([0.5, 0.2, 0.9], [0.7]):
        assert online(statistic, row)[0] == monitor.min_score_path(row)


@given(
    scores=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60),
    retention=st.floats(0.0, 0.9999),
)
def test_ewma_is_the_formula(scores: list[float], retention: float) -> None:
    values, _ = online(Ewma(retention=retention), scores)
    wanted = monitor.ewma_path(scores, retention, PROBABILITY_FLOOR)
    assert values == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_a_missing_score_repeats_the_value_before_it() -> None:
    nan = math.nan
    world = trajectories([[nan, 0.5, nan, 0.1, nan]])
    values = Ewma().paths(world, "skip").values
    assert values[0] == NEVER and values[1] == values[2] and values[3] == values[4]
    whole = Ewma().paths(trajectories([[0.5, 0.1]])).values
    assert bits(values[[1, 3]]) == bits(whole)


def test_a_trajectory_without_any_score_never_alarms_under_skip_and_always_under_worst() -> None:
    world = trajectories([[math.nan, math.nan], [0.5, 0.5]])
    for statistic in everything():
        assert statistic.paths(world, "skip").maxima(world.starts)[0] == -math.inf, statistic.label
        assert statistic.paths(world, "worst").maxima(world.starts)[0] == math.inf, statistic.label


def scored(world: Trajectories, statistic: Statistic) -> float:
    return float(statistic.paths(world).maxima(world.starts)[0])


@given(
    scores=st.lists(st.floats(allow_nan=False), min_size=1, max_size=30),
    data=st.data(),
    retention=st.sampled_from([0.0, 0.3, RETENTION, 0.95]),
    kind=st.sampled_from(KINDS),
)
def test_lowering_a_score_never_lowers_the_danger(
    scores: list[float], data: st.DataObject, retention: float, kind: SignalKind
) -> None:
    place = data.draw(st.integers(0, len(scores) - 1))
    worse = scores.copy()
    worse[place] = data.draw(st.floats(max_value=scores[place], allow_nan=False))
    for statistic in (MinScore(kind=kind), Ewma(kind=kind, retention=retention)):
        before = scored(trajectories([scores]), statistic)
        assert scored(trajectories([worse]), statistic) >= before


@given(
    scores=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=10),
    data=st.data(),
)
def test_per_step_danger_falls_with_the_score_of_its_step(
    scores: list[float], data: st.DataObject
) -> None:
    statistic = PerStepQuantile(knots=KNOTS)
    place = data.draw(st.integers(0, len(scores) - 1))
    worse = scores.copy()
    worse[place] = data.draw(st.floats(0.0, scores[place]))
    before, after = online(statistic, scores)[0], online(statistic, worse)[0]
    # An interpolation rounds: equal quantiles may differ in the last place.
    assert after[place] >= before[place] - 1e-12
    assert [v for i, v in enumerate(after) if i != place] == [
        v for i, v in enumerate(before) if i != place
    ]


def test_per_step_danger_is_one_minus_the_share_of_quantiles_below() -> None:
    statistic = PerStepQuantile(kind="real", knots=((0.0, 1.0, 2.0, 4.0), (10.0, 11.0, 12.0, 13.0)))
    state, value = statistic.step(statistic.start(), 3.0)
    assert value == pytest.approx(1.0 - 2.5 / 3.0)
    state, value = statistic.step(state, 9.0)
    assert value == 2.0
    state, value = statistic.step(state, 13.0)
    assert value == 0.0
    assert statistic.step(state, 15.0)[1] == -2.0


@given(
    scores=st.lists(st.floats(-50.0, 50.0), min_size=1, max_size=40),
)
def test_features_are_the_whole_prefix_formulas(scores: list[float]) -> None:
    table = feature_table(trajectories([scores]), "real")
    smooth = 0.0
    for t in range(1, len(scores) + 1):
        x = np.array(scores[:t])
        smooth = x[0] if t == 1 else RETENTION * smooth + (1.0 - RETENTION) * x[-1]
        difference = 0.0 if t == 1 else x[-1] - x[-2]
        wanted = [x[-1], x.min(), x.mean(), smooth, difference, x.std(), math.log(t), x[0]]
        assert table.steps[t - 1].tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-6)
    assert table.final[0].tolist() == table.steps[-1].tolist()


def test_features_of_nothing_are_marked_and_not_used() -> None:
    world = trajectories([[math.nan, 0.5], [math.nan]])
    table = feature_table(world, "probability")
    assert table.scored.tolist() == [False, True, False]
    assert table.scored_final.tolist() == [True, False]
    assert len(START) == len(NAMES)


def test_log_odds_one_by_one_are_log_odds_together() -> None:
    rng = np.random.default_rng(3)
    model = a_model(4)
    features = rng.normal(0.0, 3.0, size=(2_000, len(NAMES)))
    # On the limits too: "at most" goes left.
    features[:500, 0] = rng.choice([v for tree in model.trees for v in tree.limit], size=500)
    assert bits(model.rows(features)) == bits([model.one(tuple(map(float, f))) for f in features])


def test_log_odds_are_half_of_a_linear_model_and_a_forest() -> None:
    model = LogOdds(
        intercept=1.0,
        weights=(2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0),
        base=0.5,
        trees=(
            Tree(
                feature=(7, -1, -1),
                limit=(3.0, 0.0, 0.0),
                left=(1, 0, 0),
                right=(2, 0, 0),
                value=(0.0, 10.0, 20.0),
            ),
            Tree(feature=(-1,), limit=(0.0,), left=(0,), right=(0,), value=(100.0,)),
        ),
    )
    at = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0)
    assert model.one(at) == 0.5 * (1.0 + 2.0 - 3.0 + 0.5 + 10.0 + 100.0)
    assert model.one((*at[:7], 3.5)) == 0.5 * (1.0 + 2.0 - 3.5 + 0.5 + 20.0 + 100.0)


def test_the_closing_check_speaks_the_units_of_its_statistic() -> None:
    model = LogOdds(intercept=4.0, weights=(0.0,) * 8, base=4.0, trees=())
    statistic = MinScore(closing=ClosingCheck(model=model, intercept=1.0, slope=2.0))
    world = trajectories([[0.5, 0.4], [math.nan]])
    paths = statistic.paths(world, "skip")
    assert paths.closing is not None
    assert paths.closing.tolist() == [1.5, -math.inf]
    assert paths.maxima(world.starts).tolist() == [1.5, -math.inf]
    assert statistic.close(statistic.step(statistic.start(), 0.5)[0]) == 1.5
    assert statistic.close(statistic.start()) == NEVER


def test_a_table_at_hand_changes_nothing() -> None:
    world = trajectories([[0.5, 0.4, 0.9], [0.1]])
    for statistic in everything():
        table = feature_table(world, statistic.kind)
        one, other = statistic.paths(world), statistic.paths(world, table=table)
        assert bits(one.values) == bits(other.values)
        assert (one.closing is None) == (other.closing is None)
        if one.closing is not None and other.closing is not None:
            assert bits(one.closing) == bits(other.closing)
