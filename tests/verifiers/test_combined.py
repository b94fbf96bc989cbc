"""
The promise: several verifiers become one probability that no member's higher score can lower.

A member without a score leaves the combination without one, and a file is refused when it or a
member is not what it was.
"""

import asyncio
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from verifiers.fusion_fakes import Fake, Late, declared, hashed, members, text_of, world

from tocsin.cli.main import cli
from tocsin.errors import InputError
from tocsin.limits import FUSION_MEMBERS_MAX
from tocsin.model import Context, Delta, Finding, Outcome, Score, Unknown
from tocsin.risk.trajectories import from_columns
from tocsin.stream.steps import StepDefinition
from tocsin.testing.verifiers import check_verifier
from tocsin.verifiers import registry
from tocsin.verifiers.combined import SCHEMA, CombinedFile, combined
from tocsin.verifiers.contract import AnyVerifier, AsyncVerifier, Verifier
from tocsin.verifiers.fusion import FitSummary, Logistic, fused, load, open_members, seal, to_json
from tocsin.verifiers.fusion_fit import (
    apply,
    auc,
    check_classes,
    fit_combined,
    fit_logistic,
    scored,
)

NUMBERS = st.floats(-1e6, 1e6)
DATA = FitSummary(digests=("a",), n=1, n_safe=1, n_groups=1, steps=1, steps_left_out=0)


def file_of(*fakes: Fake | Late, weights: tuple[float, ...] = (1.0, 0.5)) -> CombinedFile:
    return seal(
        CombinedFile(
            schema=SCHEMA,
            library_version="0",
            steps="sentence",
            members=members(*fakes),
            data=DATA,
            held_out={},
            model=Logistic(intercept=-0.3, weights=weights),
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


def test_a_combination_of_members_that_answer_at_once_conforms() -> None:
    a, b = Fake("a"), Fake("b", lambda text: -3.0 * len(text), kind="real", low=-1e9, high=0.0)
    made = combined(file_of(a, b), [a, b])
    assert isinstance(made, Verifier)
    assert check_verifier(made, streams=15) > 0


def test_a_combination_with_a_member_that_is_waited_for_conforms_and_says_the_same() -> None:
    a, b = Fake("a"), Fake("b")
    at_once, late = combined(file_of(a, b), [a, b]), combined(file_of(a, b), [a, Late(b)])
    assert isinstance(late, AsyncVerifier) and not isinstance(late, Verifier)
    assert check_verifier(late, streams=8) > 0
    assert run(late, text_of(7)) == run(at_once, text_of(7))


def test_members_are_waited_for_at_the_same_time() -> None:
    both_began = asyncio.Barrier(2)

    class Meeting(Late):
        def open_async(self, context: Context) -> Any:
            session = super().open_async(context)

            async def feed(delta: Delta) -> list[Outcome]:
                await both_began.wait()
                return session.session.feed(delta)

            session.feed = feed  # type: ignore[method-assign]
            return session

    a, b = Meeting(Fake("a")), Meeting(Fake("b"))
    assert len(run(combined(file_of(a, b), [a, b]), text_of(3))) == 3


def test_the_score_is_the_formula() -> None:
    a, b = Fake("a"), Fake("b")
    first = run(combined(file_of(a, b), [a, b]), "Only one.")[0]
    p, q = hashed("a", "Only one."), hashed("b", "Only one.")
    z = -0.3 + math.log(p / (1 - p)) + 0.5 * math.log(q / (1 - q))
    assert isinstance(first, Score)
    assert first.value == pytest.approx(1 / (1 + math.exp(-z)), rel=1e-12)


@given(st.lists(NUMBERS, min_size=3, max_size=3), st.integers(0, 2), st.floats(0.0, 1e6))
def test_a_higher_score_never_lowers_the_result(
    scores: list[float], which: int, more: float
) -> None:
    model = Logistic(intercept=0.1, weights=(0.7, 0.0, 1e-3))
    raised = [s + more * (i == which) for i, s in enumerate(scores)]
    assert model.probability(raised) >= model.probability(scores)


@pytest.mark.parametrize("weights", [(-0.1,), (math.nan,), (math.inf,), ()])
def test_a_model_that_could_lower_the_result_is_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Logistic(intercept=0.0, weights=weights)


def test_a_member_without_a_score_leaves_none() -> None:
    a = Fake("a")
    b = Fake("b", lambda text: None if "1" in text else 0.9)
    found = run(combined(file_of(a, b), [a, b]), text_of(3))
    assert [type(o) for o in found] == [Score, Unknown, Score]
    assert isinstance(found[1], Unknown)
    assert (found[1].reason, found[1].detail) == ("timeout", "b: no answer")


def test_a_member_that_stops_early_leaves_unknown_steps() -> None:
    a, b = Fake("a"), Fake("b", steps=StepDefinition("turn"))
    found = run(combined(file_of(a, b), [a, b]), text_of(3))
    assert [o.step for o in found] == [1, 2, 3]
    assert all(isinstance(o, Unknown) and o.reason == "failed" for o in found)


def test_it_declares_what_the_members_declare() -> None:
    a = Fake("a", whole_prefix=True, categories=("violence",))
    b = Fake("b", hold_back_chars=9, kind="real", categories=("evasion",))
    made = combined(file_of(a, b), [a, b])
    d = made.declares
    assert (d.name, d.kind, d.low, d.high) == ("combined(a, b)", "probability", 0.0, 1.0)
    assert (d.whole_prefix, d.hold_back_chars, d.categories) == (True, 9, ("violence",))
    first = run(made, "One.")[0]
    assert isinstance(first, Score)
    assert first.categories == {"violence": hashed("a", "One.")}


def test_findings_of_all_members_are_passed_on_once() -> None:
    one = Finding(rule="r", category="custom", start=0, end=2)
    two = msgspec.structs.replace(one, rule="s")
    scores = [Score(value=0.5, step=1, upto=3, findings=f) for f in ((one,), (two, one))]
    assert fused(declared("x"), 0.4, scores).findings == (one, two)


def test_closing_lets_go_of_every_member() -> None:
    a, b = Late(Fake("a")), Late(Fake("b"))
    made = combined(file_of(a, b), [a, b])
    assert isinstance(made, AsyncVerifier)
    asyncio.run(made.aclose())
    assert a.closed and b.closed


# ------------------------------------------------------------------------------------------ the fit


def test_the_fit_agrees_with_scikit_learn_where_no_weight_is_held_at_zero() -> None:
    data = world()
    everyone = np.ones(len(data.starts), dtype=bool)
    ours = fit_logistic(data, everyone, [0, 1])
    weight = (1.0 / data.lengths)[data.owner]
    centre = np.average(data.x, axis=0, weights=weight)
    scale = np.sqrt(np.average((data.x - centre) ** 2, axis=0, weights=weight))
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000)
    theirs.fit((data.x - centre) / scale, data.safe[data.owner], sample_weight=weight)
    assert ours.weights == pytest.approx(theirs.coef_[0] / scale, rel=1e-4)


def test_a_member_that_points_the_wrong_way_gets_no_weight() -> None:
    data = world()
    data.scores[:, 0] = 1.0 - data.scores[:, 0]
    model = fit_logistic(data, np.ones(len(data.starts), dtype=bool), [0, 1])
    assert model.weights[0] == 0.0 < model.weights[1]


def test_a_long_trajectory_weighs_as_much_as_a_short_one() -> None:
    data = world()
    everyone = np.ones(len(data.starts), dtype=bool)
    rows = np.repeat(np.arange(len(data.scores)), np.where(data.owner % 2, 1, 5))
    lengths = data.lengths * np.where(np.arange(len(data.starts)) % 2, 1, 5)
    starts = np.append(0, np.cumsum(lengths)[:-1]).astype(np.int64)
    repeated = replace(data, scores=data.scores[rows], starts=starts)
    a, b = (fit_logistic(d, everyone, [0, 1]) for d in (data, repeated))
    assert a.weights == pytest.approx(b.weights, rel=1e-4)


def test_the_online_score_is_the_fitted_one() -> None:
    data = world(n=60)
    model = fit_logistic(data, np.ones(60, dtype=bool), [0, 1])
    one_by_one = [model.probability(row) for row in data.x.tolist()]
    assert apply(model, data, [0, 1]) == pytest.approx(one_by_one, rel=1e-12)


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    data = world(n=40)
    values = data.scores[:, 0].round(1)
    low = data.lowest(values)
    pairs = [
        1.0 if s > u else 0.5 if s == u else 0.0 for s in low[data.safe] for u in low[~data.safe]
    ]
    assert auc(data, values, np.ones(40, dtype=bool)) == pytest.approx(sum(pairs) / len(pairs))


def test_a_combination_is_better_than_its_members_on_groups_held_out() -> None:
    data = world(n=600, noise=(1.0, 1.0), groups=200)
    fakes = Fake("a"), Fake("b")
    file = fit_combined(data, members(*fakes), steps="sentence", seed=0, library_version="0")
    assert file.held_out["combined"] > max(file.held_out["a"], file.held_out["b"]) + 0.01


def test_steps_with_a_missing_score_are_left_out_and_counted() -> None:
    data = world()
    data.scores[::7, 1] = np.nan
    file = fit_combined(
        data, members(Fake("a"), Fake("b")), steps="sentence", seed=0, library_version="0"
    )
    assert file.data.steps_left_out == len(data.scores[::7])


def test_too_few_of_a_class_are_refused() -> None:
    data = world(n=24)
    with pytest.raises(InputError, match="at least 10 of each"):
        check_classes(data, data.safe, "the data")


def test_scores_outside_the_declared_range_are_refused_by_place() -> None:
    columns = from_columns(trajectory_id=["a", "a"], step=[1, 2], score=[0.5, 1.5], label=[1, 1])
    with pytest.raises(InputError, match=r"trajectory 'a', step 2: 1\.5 is no score of x"):
        scored([columns, columns], [declared("x"), declared("y")])


def test_scores_of_other_trajectories_are_refused() -> None:
    one, two = (
        from_columns(trajectory_id=[name], step=[1], score=[0.5], label=[1]) for name in "ab"
    )
    with pytest.raises(InputError, match="with the scores of y are others"):
        scored([one, two], [declared("x"), declared("y")])


# ---------------------------------------------------------------------------------------- the files


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fake | Late]:
    """Let `patterns:NAME` be a fake of that name."""
    made: dict[str, Fake | Late] = {"a": Fake("a"), "b": Fake("b")}
    real = registry.verifier

    def verifier(spec: str, steps: Any = None) -> AnyVerifier:
        kind, _, name = spec.partition(":")
        return made[name] if kind == "fake" else real(spec, steps)

    monkeypatch.setattr(registry, "verifier", verifier)
    return made


def written(path: Path, file: CombinedFile) -> str:
    path.write_bytes(to_json(file))
    return f"combined:{path}"


def test_a_file_gives_the_same_verifier_back(tmp_path: Path, fakes: dict[str, Fake]) -> None:
    file = file_of(fakes["a"], fakes["b"])
    made = registry.verifier(written(tmp_path / "f.json", file))
    assert made.declares.version == file.version()
    assert run(made, text_of(4)) == run(combined(file, [fakes["a"], fakes["b"]]), text_of(4))


def test_the_version_depends_on_members_and_numbers_and_not_on_where_they_are() -> None:
    a, b = Fake("a"), Fake("b")
    file = file_of(a, b)
    moved = msgspec.structs.replace(
        file, members=tuple(msgspec.structs.replace(m, spec="elsewhere") for m in file.members)
    )
    assert moved.version() == file.version()
    assert file_of(a, b, weights=(1.0, 0.6)).version() != file.version()
    assert file_of(a, Fake("b", version="2")).version() != file.version()


def damaged(change: dict[str, Any]) -> bytes:
    content = msgspec.to_builtins(file_of(Fake("a"), Fake("b")))
    return json.dumps(content | change).encode()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "does not fit"),
        (b"{}", "does not fit"),
        (b"\xff", "does not fit"),
        (damaged({"schema": "tocsin.combined/2"}), "is not 'tocsin.combined/1'"),
        (damaged({"more": 1}), "unknown field"),
        (damaged({"steps": "line"}), "digest does not name"),
        (damaged({"model": {"intercept": 0.0, "weights": [1.0, -1.0]}}), "at least 0"),
        (damaged({"model": {"intercept": 0.0, "weights": [1.0]}}), "1 weights for 2 members"),
        (b" " * 1_048_577, "more than 1,048,576 bytes"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(raw)
    with pytest.raises(InputError, match=said) as caught:
        load(str(path), CombinedFile, SCHEMA)
    assert "f.json" in str(caught.value)


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="cannot read"):
        registry.verifier("combined:nowhere.json")
    with pytest.raises(InputError, match="needs a file"):
        registry.verifier("combined")


def test_a_member_that_changed_is_refused(tmp_path: Path, fakes: dict[str, Fake]) -> None:
    spec = written(tmp_path / "f.json", file_of(fakes["a"], fakes["b"]))
    fakes["b"] = Fake("b", version="2")
    with pytest.raises(InputError, match=r"was b 1 .* now is b 2 .* fit it again"):
        registry.verifier(spec)


def test_other_steps_than_it_was_fitted_for_are_refused(
    tmp_path: Path, fakes: dict[str, Fake]
) -> None:
    spec = written(tmp_path / "f.json", file_of(fakes["a"], fakes["b"]))
    assert registry.verifier(spec, StepDefinition("sentence")).declares.name == "combined(a, b)"
    with pytest.raises(InputError, match="was fitted for steps sentence, not line"):
        registry.verifier(spec, StepDefinition("line"))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"steps": StepDefinition("line")}, "choose one for all with --steps"),
        ({"channels": frozenset({"observation"})}, "members must score the same ones"),
    ],
)
def test_members_that_judge_different_things_are_refused(
    fakes: dict[str, Fake], other: dict[str, Any], said: str
) -> None:
    fakes["b"] = Fake("b", **other)
    with pytest.raises(InputError, match=said):
        open_members(["fake:a", "fake:b"], None)


def test_one_member_and_too_many_are_refused(fakes: dict[str, Fake]) -> None:
    for count in (1, FUSION_MEMBERS_MAX + 1):
        with pytest.raises(InputError, match=f"{count} members; give 2 to"):
            open_members(["fake:a"] * count, None)


def test_a_file_that_names_itself_is_refused(tmp_path: Path, fakes: dict[str, Fake]) -> None:
    path = tmp_path / "f.json"
    file = file_of(fakes["a"], fakes["b"])
    inner = msgspec.structs.replace(file.members[0], spec=f"combined:{path}")
    spec = written(path, seal(msgspec.structs.replace(file, members=(inner, file.members[1]))))
    with pytest.raises(InputError, match="does a file name itself"):
        registry.verifier(spec)


def test_combinations_may_stand_within_each_other(tmp_path: Path, fakes: dict[str, Any]) -> None:
    fakes["c"] = Fake("c")
    inner = written(tmp_path / "inner.json", file_of(fakes["a"], fakes["b"]))
    nested = registry.verifier(inner)
    one = msgspec.structs.replace(members(nested)[0], spec=inner)  # type: ignore[arg-type]
    file = file_of(fakes["c"], fakes["a"])
    outer = seal(msgspec.structs.replace(file, members=(file.members[0], one)))
    made = registry.verifier(written(tmp_path / "outer.json", outer))
    assert made.declares.name == "combined(c, combined(a, b))"
    assert len(run(made, text_of(3))) == 3


# -------------------------------------------------------------------------------------- the command


def labelled(path: Path, n: int = 120) -> None:
    rng = random.Random(1)
    lines = ["trajectory_id,step,label,score_a,score_b"]
    for i in range(n):
        safe = i % 2
        for step in (1, 2, 3):
            a, b = (min(max(rng.gauss(0.4 + 0.2 * safe, 0.2), 0.0), 1.0) for _ in "ab")
            lines.append(f"t{i},{step},{safe},{a:.3f},{b:.3f}")
    path.write_text("\n".join(lines) + "\n")


def test_the_command_fits_writes_and_warns(tmp_path: Path, fakes: dict[str, Fake]) -> None:
    data, target = tmp_path / "scored.csv", tmp_path / "both.json"
    labelled(data)
    given = [str(data), "--score", "score_a=fake:a", "--score", "score_b=fake:b"]
    result = CliRunner().invoke(
        cli, ["combine", *given, "--out", str(target)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "calibrate on other groups" in result.stderr
    assert registry.verifier(f"combined:{target}").declares.name == "combined(a, b)"
    again = CliRunner().invoke(cli, ["combine", *given, "--out", str(target), "--json"])
    told = json.loads(again.stdout)
    assert told["file"]["data"]["n"] == 120
    assert told["version"] == registry.verifier(f"combined:{target}").declares.version


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--score", "score_a"], "write COLUMN=SPEC"),
        (["--score", "score_a=fake:a", "--score", "score_z=fake:b"], "score_z"),
        (["--score", "score_a=fake:a"], "1 members"),
    ],
)
def test_the_command_refuses_what_it_cannot_read(
    tmp_path: Path, fakes: dict[str, Fake], given: list[str], said: str
) -> None:
    data = tmp_path / "scored.csv"
    labelled(data)
    result = CliRunner().invoke(
        cli, ["combine", str(data), *given, "--out", str(tmp_path / "f.json")]
    )
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)


def test_a_column_that_another_verifier_gave_is_refused(
    tmp_path: Path, fakes: dict[str, Fake]
) -> None:
    data = tmp_path / "scored.csv"
    labelled(data)
    lines = data.read_text().replace("score_a", "score").splitlines()
    identity = "probability,a,2,sentence"
    lines = [lines[0] + ",signal,verifier,verifier_version,step_definition"] + [
        f"{line},{identity}" for line in lines[1:]
    ]
    data.write_text("\n".join(lines) + "\n")
    given = ["--score", "score=fake:a", "--score", "score_b=fake:b"]
    result = CliRunner().invoke(
        cli, ["combine", str(data), *given, "--out", str(tmp_path / "f.json")]
    )
    assert isinstance(result.exception, InputError)
    assert "score the data again" in str(result.exception)


@pytest.mark.parametrize("kind", ["probability", "real"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_unknown(kind: str, value: float) -> None:
    class Odd(Fake):
        def open(self, context: Context) -> Any:
            return OddSession(value)

    a, b = Fake("a"), Odd("b", kind=kind)
    made = combined(file_of(a, b), [a, b])
    assert isinstance(made, Verifier)
    (said,) = made.open(Context()).feed(Delta(text="One.", ends="turn"))
    assert isinstance(said, Unknown) and said.reason == "out_of_range"
    assert said.detail.startswith("b: ")


class OddSession:
    def __init__(self, value: float) -> None:
        self.value = value

    def feed(self, delta: Delta) -> list[Outcome]:
        return [Score(value=self.value, step=1, upto=len(delta.text))]
