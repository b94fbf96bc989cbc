"""
The promise: a strong verifier is asked only where the band says, and within the budget.

Which steps are escalated depends on the cheap scores of the same response alone; no response has
more than its share, and the mean share keeps to the budget as often as delta says.
"""

import asyncio
import itertools
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from verifiers.fusion_fakes import (
    Fake,
    Holding,
    Late,
    LateSparing,
    Sparing,
    members,
    text_of,
    world,
)

from tocsin.cli.main import cli
from tocsin.errors import InputError
from tocsin.model import Context, Delta, Outcome, Score, Unknown
from tocsin.testing.verifiers import check_verifier
from tocsin.verifiers import registry
from tocsin.verifiers.cascade import SCHEMA, CascadeFile, cascade, check_budget, spares
from tocsin.verifiers.cascade_fit import (
    Band,
    band,
    choose_band,
    escalated,
    fit_cascade,
    group_shares,
    mixed,
)
from tocsin.verifiers.contract import AnyVerifier, AsyncSelective, AsyncVerifier, Verifier
from tocsin.verifiers.fusion import FitSummary, Logistic, seal, to_json
from tocsin.verifiers.fusion_fit import Scored, auc
from tocsin.verifiers.remote.session import RemoteVerifier

ALONE = Logistic(intercept=0.2, weights=(0.5,))
BOTH = Logistic(intercept=0.1, weights=(0.3, 1.0))


def file_of(
    *fakes: Fake | Late,
    low: float | None = 0.3,
    high: float | None = 0.7,
    budget: float = 0.5,
    burst: int = 1,
) -> CascadeFile:
    return seal(
        CascadeFile(
            schema=SCHEMA,
            library_version="0",
            steps="sentence",
            members=members(*fakes),
            data=FitSummary(
                digests=("a", "b"), n=1, n_safe=1, n_groups=1, steps=1, steps_left_out=0
            ),
            held_out={},
            alone=ALONE,
            both=BOTH,
            low=low,
            high=high,
            budget=budget,
            delta=0.1,
            burst=burst,
            share=0.4,
        )
    )


def run(verifier: AnyVerifier, text: str) -> list[Outcome]:
    delta = Delta(text=text, ends="turn")
    if isinstance(verifier, Verifier):
        session = verifier.open(Context())
        return session.feed(delta) + session.close()

    async def go() -> list[Outcome]:
        late = verifier.open_async(Context())
        return await late.feed(delta) + await late.close()

    return asyncio.run(go())


# ------------------------------------------------------------------------------------- the verifier


@pytest.mark.parametrize("strong", [Fake("s"), Sparing("s")])
def test_a_cascade_of_members_that_answer_at_once_conforms(strong: Fake) -> None:
    cheap = Fake("c")
    made = cascade(file_of(cheap, strong), cheap, strong)
    assert isinstance(made, Verifier)
    assert check_verifier(made, streams=15) > 0


@pytest.mark.parametrize("strong", [Late(Fake("s")), LateSparing(Fake("s")), Sparing("s")])
@pytest.mark.parametrize("late", [True, False])
def test_a_cascade_that_is_waited_for_conforms_and_says_the_same(strong: Any, late: bool) -> None:
    cheap = Fake("c")
    first = Late(cheap) if late else cheap
    made = cascade(file_of(cheap, strong), first, strong)
    assert isinstance(made, AsyncVerifier) == (late or isinstance(strong, Late))
    assert check_verifier(made, streams=6) > 0
    plain = Fake("s")
    assert run(made, text_of(9)) == run(cascade(file_of(cheap, plain), cheap, plain), text_of(9))


def test_the_strong_verifier_judges_the_escalated_steps_and_no_other() -> None:
    cheap, strong = Fake("c"), Sparing("s")
    text = text_of(30)
    values = [o.value for o in run(cheap, text) if isinstance(o, Score)]
    run(cascade(file_of(cheap, strong, budget=0.9, burst=100), cheap, strong), text)
    assert strong.judged == [i for i, v in enumerate(values, 1) if 0.3 <= v <= 0.7]
    assert 0 < len(strong.judged) < 30


def test_a_verifier_that_cannot_leave_steps_out_judges_all_and_says_the_same() -> None:
    cheap, sparing, plain = Fake("c"), Sparing("s"), Fake("s")
    a, b = (cascade(file_of(cheap, s), cheap, s) for s in (sparing, plain))
    assert run(a, text_of(20)) == run(b, text_of(20))
    assert len(plain.judged) == 20 > len(sparing.judged)
    assert spares(sparing) and spares(LateSparing(plain)) and not spares(plain)


def test_a_remote_verifier_can_leave_steps_out() -> None:
    assert issubclass(RemoteVerifier, AsyncSelective)


def test_scores_are_the_formulas() -> None:
    cheap, strong = Fake("c"), Sparing("s")
    text = text_of(12)
    found = run(cascade(file_of(cheap, strong, burst=100), cheap, strong), text)
    first, second = run(cheap, text), run(Fake("s"), text)
    for said, c, s in zip(found, first, second, strict=True):
        assert isinstance(said, Score) and isinstance(c, Score) and isinstance(s, Score)
        x = [float(np.log(o.value / (1 - o.value))) for o in (c, s)]
        model = BOTH if 0.3 <= c.value <= 0.7 else ALONE
        wanted = model.probability(x[: len(model.weights)])
        assert said.value == pytest.approx(wanted, rel=1e-12)


@given(
    st.lists(st.floats(0.0, 1.0), max_size=60),
    st.floats(0.01, 0.99),
    st.integers(1, 5),
)
def test_no_prefix_of_a_response_has_more_than_its_share(
    scores: list[float], budget: float, burst: int
) -> None:
    data = Scored(
        kinds=("probability", "probability"),
        scores=np.array([[s, s] for s in scores] or [[0.5, 0.5]]),
        starts=np.array([0]),
        safe=np.array([True]),
        groups=np.array([0]),
    )
    steps = escalated(data, Band(0.3, 0.7), budget, burst)
    counts = np.cumsum(steps)
    assert np.all(counts <= burst + budget * np.arange(1, len(counts) + 1))


@given(st.integers(0, 10**6), st.floats(0.05, 0.9), st.integers(1, 3))
def test_the_session_escalates_what_the_fit_counted(seed: int, budget: float, burst: int) -> None:
    cheap, strong = Fake(f"c{seed}"), Sparing("s")
    text = text_of(25)
    values = [o.value for o in run(cheap, text) if isinstance(o, Score)]
    data = Scored(
        kinds=("probability", "probability"),
        scores=np.array([[v, v] for v in values]),
        starts=np.array([0]),
        safe=np.array([True]),
        groups=np.array([0]),
    )
    run(cascade(file_of(cheap, strong, budget=budget, burst=burst), cheap, strong), text)
    counted = np.flatnonzero(escalated(data, Band(0.3, 0.7), budget, burst)) + 1
    assert strong.judged == counted.tolist()


def test_a_step_past_the_limit_has_the_cheap_score() -> None:
    cheap = Fake("c", lambda text: 0.5)
    strong = Sparing("s", lambda text: 0.01)
    found = run(cascade(file_of(cheap, strong, budget=0.1), cheap, strong), text_of(12))
    low, high = BOTH.probability([0.0, float(np.log(0.01 / 0.99))]), ALONE.probability([0.0])
    values = [round(o.value, 9) for o in found if isinstance(o, Score)]
    assert values == [round(v, 9) for v in [low, *[high] * 8, low, high, high]]


@pytest.mark.parametrize(("silent", "named"), [("c", "c: no answer"), ("s", "s: no answer")])
def test_no_score_of_a_member_that_was_asked_is_no_score(silent: str, named: str) -> None:
    quiet = {silent: lambda text: None}
    fakes = [
        cls(name, quiet.get(name, lambda text: 0.5)) for cls, name in ((Fake, "c"), (Sparing, "s"))
    ]
    found = run(cascade(file_of(*fakes), *fakes), "One.")
    assert isinstance(found[0], Unknown)
    assert (found[0].reason, found[0].detail) == ("timeout", named)


class Silent(Sparing):
    """One that does not answer when asked for the first step."""

    def open_selected(self, context: Context, wanted: Any) -> Any:
        return super().open_selected(context, lambda step: step > 1 and wanted(step))


def test_an_answer_that_never_comes_is_unknown() -> None:
    cheap, strong = Fake("c", lambda text: 0.5), Silent("s")
    found = run(cascade(file_of(cheap, strong), cheap, strong), "One. ")
    assert isinstance(found[0], Unknown)
    assert found[0].reason == "failed"


def test_an_answer_that_never_comes_holds_nothing_up_after_the_next_one() -> None:
    cheap, strong = Fake("c", lambda text: 0.5), Silent("s")
    session = cascade(file_of(cheap, strong, burst=9), cheap, strong)
    assert isinstance(session, Verifier)
    given = session.open(Context()).feed(Delta(text=text_of(4)))
    assert [(o.step, type(o)) for o in given] == [(1, Unknown), (2, Score), (3, Score)]


def test_an_answer_that_comes_late_is_waited_for() -> None:
    class Slow(Fake):
        def open(self, context: Context) -> Any:
            session = super().open(context)
            held: list[Outcome] = []
            feed = session.feed

            def late(delta: Delta) -> list[Outcome]:
                held.extend(feed(delta))
                given, held[:] = held[:-1], held[-1:]
                return given

            session.feed = late  # type: ignore[method-assign]
            close = session.close
            session.close = lambda: held + close()  # type: ignore[method-assign]
            return session

    cheap, slow, prompt = Fake("c", lambda text: 0.5), Slow("s"), Fake("s")
    text = text_of(6)
    a, b = (cascade(file_of(cheap, s, burst=9), cheap, s) for s in (slow, prompt))
    assert run(a, text) == run(b, text)


def test_an_open_end_of_the_band_has_no_limit() -> None:
    cheap, strong = Fake("c", lambda text: 1e-9), Sparing("s")
    run(cascade(file_of(cheap, strong, low=None, high=0.5), cheap, strong), "One.")
    assert strong.judged == [1]


# ------------------------------------------------------------------------------------------ the fit


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0, 1), st.floats(0.001, 1))
def test_bands_of_one_place_lie_within_each_other(
    scores: list[float], place: float, width: float
) -> None:
    cheap = np.array(scores)
    inner, outer = band(cheap, place, width / 2), band(cheap, place, width)
    assert outer.low <= inner.low + 1e-12 and inner.high <= outer.high + 1e-12


@given(st.integers(0, 10**6), st.floats(0.05, 0.9), st.integers(1, 4))
def test_a_wider_band_never_spends_less_in_any_group(seed: int, budget: float, burst: int) -> None:
    data = world(n=30, seed=seed)
    everyone = np.ones(30, dtype=bool)
    spent = [
        group_shares(data, escalated(data, Band(0.5 - w, 0.5 + w), budget, burst), everyone)
        for w in (0.05, 0.1, 0.3, 0.5)
    ]
    assert all(np.all(a <= b) for a, b in itertools.pairwise(spent))


def test_the_share_of_a_group_is_the_mean_over_its_responses() -> None:
    data = Scored(
        kinds=("probability", "probability"),
        scores=np.zeros((5, 2)),
        starts=np.array([0, 2, 3]),
        safe=np.array([True, True, False]),
        groups=np.array([7, 7, 8]),
    )
    steps = np.array([True, False, True, False, True])
    assert group_shares(data, steps, np.ones(3, dtype=bool)).tolist() == [0.75, 0.5]


@pytest.mark.slow
def test_the_budget_is_kept_as_often_as_delta_says() -> None:
    # 40 draws; each fails with probability at most .2, so 17 failures or more happen by chance
    # with probability below .001.
    truth = world(n=6000, seed=10_000)
    everyone = np.ones(6000, dtype=bool)
    over = 0
    for seed in range(40):
        found = choose_band(world(n=120, seed=seed), budget=0.2, burst=1, delta=0.2, seed=seed)
        share = group_shares(truth, escalated(truth, found.band, 0.2, 1), everyone).mean()
        over += share > 0.2
    assert over <= 16


def test_a_cascade_is_better_than_its_cheap_member_on_data_it_has_not_seen() -> None:
    found = choose_band(world(n=600), budget=0.3, burst=1, delta=0.1, seed=0)
    fresh = world(n=3000, seed=5)
    everyone = np.ones(3000, dtype=bool)
    none = np.zeros(len(fresh.scores), dtype=bool)
    steps = escalated(fresh, found.band, 0.3, 1)
    areas = [
        auc(fresh, mixed(fresh, found.alone, found.both, s), everyone) for s in (none, steps, ~none)
    ]
    assert areas[0] + 0.05 < areas[1] < areas[2]
    assert steps.mean() < 0.35


def test_the_second_half_only_counts_what_is_escalated() -> None:
    data = world(n=400)
    found = choose_band(data, budget=0.2, burst=1, delta=0.1, seed=3)
    flipped = np.where(found.fitted, data.safe, ~data.safe)
    again = choose_band(
        Scored(data.kinds, data.scores, data.starts, flipped, data.groups),
        budget=0.2, burst=1, delta=0.1, seed=3,
    )  # fmt: skip
    assert again.band == found.band


def test_groups_are_not_divided() -> None:
    data = world(n=400, groups=90)
    found = choose_band(data, budget=0.3, burst=1, delta=0.1, seed=0)
    assert not set(data.groups[found.fitted]) & set(data.groups[~found.fitted])


@pytest.mark.parametrize("budget", [0.0, 1.0, -0.1, float("nan")])
def test_a_budget_outside_0_and_1_is_refused(budget: float) -> None:
    with pytest.raises(InputError, match="the budget must lie between 0 and 1"):
        choose_band(world(n=80), budget=budget, burst=1, delta=0.1, seed=0)


def test_a_burst_that_is_none_is_refused() -> None:
    for burst in (0, 1001):
        with pytest.raises(InputError, match="burst must lie between 1 and"):
            check_budget(0.1, burst)


def test_too_few_groups_for_a_budget_are_refused_with_the_number_needed() -> None:
    with pytest.raises(InputError, match=r"no band keeps .*at least 230"):
        choose_band(world(n=120), budget=0.01, burst=1, delta=0.1, seed=0)


def test_too_few_of_a_class_are_refused() -> None:
    with pytest.raises(InputError, match="half of the data"):
        choose_band(world(n=30), budget=0.3, burst=1, delta=0.1, seed=0)


# ---------------------------------------------------------------------------------------- the files


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fake]:
    """Let `fake:NAME` be a fake of that name."""
    made: dict[str, Fake] = {"c": Fake("c"), "s": Sparing("s")}
    real = registry.verifier

    def verifier(spec: str, steps: Any = None) -> AnyVerifier:
        kind, _, name = spec.partition(":")
        return made[name] if kind == "fake" else real(spec, steps)

    monkeypatch.setattr(registry, "verifier", verifier)
    return made


def test_a_file_gives_the_same_verifier_back(tmp_path: Path, fakes: dict[str, Fake]) -> None:
    file = fit_cascade(
        world(), members(fakes["c"], fakes["s"]), steps="sentence", budget=0.3, burst=2,
        delta=0.1, seed=0, library_version="0",
    )  # fmt: skip
    path = tmp_path / "f.json"
    path.write_bytes(to_json(file))
    made = registry.verifier(f"cascade:{path}")
    assert (made.declares.name, made.declares.version) == ("cascade(c, s)", file.version())
    assert run(made, text_of(9)) == run(cascade(file, fakes["c"], fakes["s"]), text_of(9))
    assert 0.0 < file.share <= 0.3


def test_the_version_changes_with_the_band_and_the_limit() -> None:
    fakes = Fake("c"), Fake("s")
    made = {
        file_of(*fakes).version(),
        file_of(*fakes, low=0.2).version(),
        file_of(*fakes, burst=2).version(),
    }
    assert len(made) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": 1.5}, "between 0 and 1"),
        ({"burst": 0}, "burst must lie"),
        ({"both": {"intercept": 0.0, "weights": [1.0]}}, "two members"),
        ({"share": 0.1}, "digest does not name"),
        ({"schema": "tocsin.combined/1"}, "is not 'tocsin.cascade/1'"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "f.json"
    content = msgspec.to_builtins(file_of(Fake("c"), Fake("s"))) | change
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        registry.verifier(f"cascade:{path}")


def test_a_file_is_needed() -> None:
    with pytest.raises(InputError, match="cascade needs a file"):
        registry.verifier("cascade")


# -------------------------------------------------------------------------------------- the command


def labelled(path: Path) -> None:
    data = world(n=200)
    step = np.arange(len(data.scores)) - data.starts[data.owner] + 1
    rows = ["trajectory_id,step,label,score_c,score_s"]
    rows += [
        f"t{o:03},{n},{int(data.safe[o])},{c:.4f},{s:.4f}"
        for o, n, (c, s) in zip(data.owner, step, data.scores, strict=True)
    ]
    path.write_text("\n".join(rows) + "\n")


def test_the_command_fits_writes_and_says_what_is_promised(
    tmp_path: Path, fakes: dict[str, Fake]
) -> None:
    data, target = tmp_path / "scored.csv", tmp_path / "f.json"
    labelled(data)
    given = [str(data), "--cheap", "score_c=fake:c", "--strong", "score_s=fake:s"]
    given += ["--budget", "0.3", "--out", str(target)]
    result = CliRunner().invoke(cli, ["cascade", *given], catch_exceptions=False)
    assert result.exit_code == 0
    assert "at most 30.0 % with probability 0.9, and never more than 1 + 0.3 x" in result.stdout
    assert "calibrate on other groups" in result.stderr
    assert "cannot leave steps out" not in result.stderr
    assert registry.verifier(f"cascade:{target}").declares.name == "cascade(c, s)"
    fakes["s"] = Fake("s")
    assert "s cannot leave steps out" in CliRunner().invoke(cli, ["cascade", *given]).stderr
    told = json.loads(CliRunner().invoke(cli, ["cascade", *given, "--json"]).stdout)
    assert told["spares"] is False and told["file"]["budget"] == 0.3


def test_the_command_refuses_a_budget_before_it_opens_anything(tmp_path: Path) -> None:
    given = ["none.csv", "--cheap", "a=fake:c", "--strong", "b=fake:s", "--budget", "1"]
    result = CliRunner().invoke(cli, ["cascade", *given, "--out", str(tmp_path / "f.json")])
    assert isinstance(result.exception, InputError)
    assert "budget must lie" in str(result.exception)


@pytest.mark.parametrize("late", [False, True])
def test_a_cheap_member_that_speaks_late_costs_answers_but_changes_none(late: bool) -> None:
    cheap, plain = Holding("c"), Fake("c")
    sparing: Any = LateSparing(Fake("s")) if late else Sparing("s")
    file = file_of(cheap, sparing, budget=0.9, burst=100)
    text = text_of(30)
    expected = run(cascade(file, plain, Sparing("s")), text)
    made = cascade(file, cheap, sparing)
    assert run(made, text) == expected
    if isinstance(made, Verifier):
        session = made.open(Context())
        said = [o for c in text for o in session.feed(Delta(text=c))]
        assert said + session.feed(Delta(ends="turn")) + session.close() == expected
        assert any(isinstance(o, Score) for o in said)


@pytest.mark.parametrize("odd", ["c", "s"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_unknown(odd: str, value: float) -> None:
    cheap, strong = Fake("c", score=lambda _: 0.5), Fake("s")
    made = cascade(file_of(cheap, strong, budget=0.9, burst=100), cheap, strong)
    assert isinstance(made, Verifier)
    session = made.open(Context())
    said = Score(value=value, step=1, upto=4)
    fine = Score(value=0.5, step=1, upto=4)
    session._cheap = session._strong = None  # type: ignore[attr-defined]
    choice = session._choice  # type: ignore[attr-defined]
    choice.hear_cheap([said if odd == "c" else fine])
    (outcome,) = choice.hear_strong([said if odd == "s" else fine])
    assert isinstance(outcome, Unknown) and outcome.reason == "out_of_range"
    assert outcome.detail.startswith(f"{odd}: ")
