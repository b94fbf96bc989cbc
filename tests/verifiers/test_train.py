"""`tocsin train` and what it stands on: learning, measuring, cards."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy.optimize import minimize as scipy_minimise
from verifiers.linear_worlds import data

from tocsin.calibration_file import load as load_calibration
from tocsin.cli.main import cli
from tocsin.errors import InputError
from tocsin.evaluation.scoring import score, trajectories
from tocsin.evaluation.texts import read_texts
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.contract import Verifier
from tocsin.verifiers.linear import ENDING, demonstration, from_spec, measures, shipped
from tocsin.verifiers.linear.card import markdown
from tocsin.verifiers.linear.features import Hasher
from tocsin.verifiers.linear.learning import STRENGTH, Rows, Table, minimise
from tocsin.verifiers.linear.model_file import Features, Model, load
from tocsin.verifiers.linear.training import Data, folds, held_out, source_parts, train

FEATURES = Features(bits=12)


def trained(made: Data, seed: int = 0) -> Model:
    return train(
        made,
        task="sea",
        steps="turn",
        features=FEATURES,
        seed=seed,
        describe=lambda d, names, m: {
            "places": measures.by_place(m.probability[:, 0], d.starts, d.safe),
            "late": m.late,
            "unseen": None if m.unseen is None else measures.by_place(m.unseen, d.starts, d.safe),
            "names": list(names),
        },
    )


def write(place: Path, made: Data) -> Path:
    rows = []
    for i in range(made.n):
        for step, row in enumerate(range(made.starts[i], made.starts[i + 1]), 1):
            rows.append(
                {
                    "trajectory_id": f"t{i:04}",
                    "step": step,
                    "text": made.text[row],
                    "label": int(made.safe[i]),
                    "group": f"g{made.group[i]}",
                    "source": str(made.source[i]),
                    "category": "at sea" if made.category[i] else "",
                    "kind": i % 3,
                }
            )
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["train", *[str(word) for word in words]])


def test_what_can_be_learned_is_learned_and_told_on_unseen_sources_too() -> None:
    made = trained(data())
    card = made.header.card
    assert card["places"]["last"] > 0.99
    assert card["places"]["first"] == pytest.approx(0.5, abs=0.15)  # first steps are all alike
    assert card["late"] > 0.95
    assert card["unseen"]["last"] > 0.95
    assert card["names"] == ["violence"]


def test_labels_without_meaning_are_not_learned() -> None:
    made = data()
    shuffled = np.random.default_rng(5).permutation(made.n // 2).repeat(2) % 2 == 0
    noise = Data(**{**vars(made), "safe": shuffled, "category": np.full(made.n, "", object)})
    assert trained(noise).header.card["places"]["last"] == pytest.approx(0.5, abs=0.15)


def test_the_same_data_and_seed_give_the_same_digest() -> None:
    made = data(120)
    assert trained(made).header.digest == trained(made).header.digest
    assert trained(made).header.digest != trained(made, seed=1).header.digest


def test_heads_are_ordered_safe_high() -> None:
    assert all(head.slope > 0 for head in trained(data()).header.heads)


def test_a_group_is_never_split() -> None:
    group = np.random.default_rng(0).integers(0, 40, 300)
    fold = folds(group, 5, np.random.default_rng(1))
    assert all(len(np.unique(fold[group == g])) == 1 for g in range(40))
    assert set(fold.tolist()) == set(range(5))


@pytest.mark.parametrize("spans", [True, False])
def test_unseen_means_that_neither_source_nor_group_was_seen(spans: bool) -> None:
    made = data()
    source = np.array([f"s{(i if spans else i // 2) % 4}" for i in range(made.n)], object)
    made = Data(**{**vars(made), "source": source})
    parts = source_parts(made, np.random.default_rng(0))
    judged = np.zeros(made.n, int)
    for learn, judge in parts:
        assert not set(source[learn]) & set(source[judge])
        assert not set(made.group[learn]) & set(made.group[judge])
        judged += judge
    assert (judged == 1).all()


def test_too_few_trajectories_are_an_error_that_names_the_number() -> None:
    with pytest.raises(InputError, match=r"10 safe trajectories.*50 in 5 groups are needed"):
        trained(data(20))


def test_all_prefixes_are_learned_from_as_if_each_were_a_row() -> None:
    made = data(60)
    rows = Rows.of(made.text, made.obs, made.starts)
    table = Table(rows, FEATURES)
    weight = np.ones(len(made.text))
    fast = table.fit(made.by_row(made.safe), weight, np.ones(len(made.text), bool))
    prefixes = [
        b"".join(rows.written[begin : row + 1])
        for begin, end in pairwise(made.starts)
        for row in range(begin, end)
    ]
    x = np.zeros((len(prefixes), len(table.columns)))
    for i, prefix in enumerate(prefixes):
        places = Hasher(FEATURES.orders, FEATURES.bits).feed(prefix)
        x[i] = np.bincount(places.ravel(), minlength=table.size)[table.columns]
        x[i] /= len(prefix) ** 0.5
    sign = np.where(made.by_row(made.safe), 1.0, -1.0)

    def loss(v: Any) -> Any:
        margin = sign * (x @ v[:-1] + v[-1])
        slope = -sign / (1 + np.exp(margin))
        gradient = np.append(x.T @ slope + v[:-1] / STRENGTH, slope.sum())
        return np.logaddexp(0, -margin).sum() + (v[:-1] ** 2).sum() / (2 * STRENGTH), gradient

    slow = scipy_minimise(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    assert np.corrcoef(x @ fast, x @ slow[:-1])[0, 1] > 0.999


def test_lbfgs_finds_the_minimum_that_scipy_finds() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 12)), rng.random(200) < 0.5
    sign = np.where(y, 1.0, -1.0)

    def loss(w: Any) -> Any:
        margin = sign * (x @ w)
        slope = -sign / (1 + np.exp(margin))
        return np.logaddexp(0, -margin).sum() + 0.5 * w @ w, x.T @ slope + w

    expected = scipy_minimise(loss, np.zeros(12), jac=True, method="BFGS").x
    assert minimise(loss, np.zeros(12), 100) == pytest.approx(expected, abs=1e-4)


def test_auc_counts_pairs_and_ties_by_half() -> None:
    rng = np.random.default_rng(2)
    scores, safe = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.4
    pairs = [(s > u) + (s == u) / 2 for s in scores[safe] for u in scores[~safe]]
    assert measures.auc(scores, safe) == pytest.approx(np.mean(pairs), abs=1e-4)
    assert measures.auc(scores, np.ones(60, bool)) is None


def test_perfect_probabilities_have_no_calibration_error() -> None:
    found = measures.calibration(np.array([0.0, 1.0, 1.0]), np.array([False, True, True]))
    assert found["brier"] == found["ece"] == 0.0
    assert found["brier_of_share"] == pytest.approx(2 / 9, abs=1e-4)


def test_held_out_groups_are_a_share_that_depends_on_the_seed_alone() -> None:
    names = [f"g{i}" for i in range(2000)]
    chosen = [held_out(name, 0.2, 3) for name in names]
    assert 340 < sum(chosen) < 460  # five standard deviations are 89
    assert chosen == [held_out(name, 0.2, 3) for name in names]
    assert chosen != [held_out(name, 0.2, 4) for name in names]


# ------------------------------------------------------------------------------------ the command


def test_the_command_writes_a_model_that_scores(tmp_path: Path) -> None:
    source = write(tmp_path / "words.jsonl", data())
    target, card = tmp_path / f"sea{ENDING}", tmp_path / "sea.md"
    said = run(source, "--out", target, "--task", "sea", "--card", card, "--licence", "CC0-1.0",
               "--category", "at sea=violence", "--over-refusal", "kind=1",
               "--bits", 12)  # fmt: skip
    assert said.exit_code == 0, said.output
    assert "not seen" in said.output and "Over-refusal" in said.output
    model = load(target)
    assert [head.name for head in model.header.heads] == ["", "violence"]
    text = card.read_text()
    assert text == markdown(model.header)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert model.header.card["data"][0]["digest"] == digest
    assert digest[:16] in text and "CC0-1.0" in text and model.header.digest in text
    made = from_spec(str(target), StepDefinition("turn"))
    assert isinstance(made, Verifier)
    texts = read_texts(source)
    last = [score(made, t).values[-1] for t in trajectories(texts, StepDefinition("turn"))]
    assert texts.label is not None
    found = measures.auc(np.array(last, float), texts.label[texts.starts[:-1]] == 1)
    assert found is not None and found > 0.99


def test_scoring_what_was_learned_from_is_said_out_loud(tmp_path: Path) -> None:
    place, model = write(tmp_path / "sea.jsonl", data()), tmp_path / f"sea{ENDING}"
    assert run(place, "--out", model, "--bits", 12).exit_code == 0
    again = tmp_path / "again.jsonl"
    again.write_text(place.read_text() + "\n")

    for source, warned in ((place, True), (again, False)):
        given = [str(source), "--verifier", f"linear:{model}", "--out", str(tmp_path / "s.csv")]
        done = CliRunner().invoke(cli, ["score", *given])
        assert done.exit_code == 0, done.output
        assert ("was trained on this very file" in done.stderr) is warned


def test_several_files_are_told_apart(tmp_path: Path) -> None:
    first = write(tmp_path / "one.jsonl", data(120))
    second = write(tmp_path / "two.jsonl", data(120, seed=1))
    target = tmp_path / f"both{ENDING}"
    said = run(first, second, "--out", target, "--bits", 12, "--json")
    assert said.exit_code == 0, said.output
    told = json.loads(said.output)
    assert [d["trajectories"] for d in told["card"]["data"]] == [120, 120]
    assert {s["source"].split(":")[0] for s in told["card"]["sources"]} == {"one", "two"}
    assert told["digest"] == load(target).header.digest


def test_what_is_held_out_is_not_touched(tmp_path: Path) -> None:
    source = write(tmp_path / "words.jsonl", data())
    target = tmp_path / f"sea{ENDING}"
    said = run(source, "--out", target, "--hold-out", 0.3, "--bits", 12)
    assert said.exit_code == 0, said.output
    kept = sum(not held_out(f"g{g}", 0.3, 0) for g in data().group)
    assert load(target).header.card["data"][0]["trajectories"] == kept < 240


def test_hostile_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    source = write(tmp_path / "words.jsonl", data(120))
    target = tmp_path / f"a\x1b[31m{ENDING}"
    said = run(source, "--out", target, "--bits", 12)
    assert said.exit_code == 0, said.output
    assert "\x1b" not in said.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--category", "at sea=piracy"], "THEIRS=OURS"),
        (["--over-refusal", "kind"], "COLUMN=VALUE"),
        (["--licence", "a", "--licence", "b"], "2 licences for 1 files"),
        (["--steps", "bananas"], "step definition"),
        (["--column", "label=absent"], "no column"),
    ],
)
def test_a_wrong_option_is_an_error_that_says_what_to_write(
    tmp_path: Path, words: list[str], message: str
) -> None:
    source = write(tmp_path / "words.jsonl", data(120))
    said = run(source, "--out", tmp_path / "x", *words)
    assert isinstance(said.exception, InputError)
    assert message in str(said.exception)


def test_text_without_labels_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "plain.jsonl"
    source.write_text('{"trajectory_id": "a", "step": 1, "text": "x"}\n')
    said = run(source, "--out", tmp_path / "x")
    assert "label" in str(said.exception)


# ------------------------------------------------------------------------------ what comes with it


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_model_has_a_card_that_says_whose_data_it_is(name: str) -> None:
    header = from_spec(name, None).model.header
    text = markdown(header)
    for licence in ("MIT", "Apache-2.0"):
        assert licence in text
    assert header.task == name
    place = demonstration("harmful_answer").with_name(f"{name}.md")
    assert place.read_text(encoding="utf-8") == text
    assert header.card["in_domain"]["min"] > 0.7


@pytest.mark.slow
def test_training_a_shipped_model_again_gives_the_same_model(tmp_path: Path) -> None:
    """To the last bit on a processor like the one it was trained on, nearly so on any other.

    NumPy's exponential differs in the last bit between instruction sets, and so may the last of six
    digits of a slope, or a weight that lies halfway between two whole numbers.
    """
    if "TOCSIN_DATA" not in os.environ:
        pytest.skip("set TOCSIN_DATA to the folder that holds bigbench_mistake.parquet")
    script = Path(__file__).parents[2] / "benchmarks" / "linear_weights.py"
    subprocess.run([sys.executable, script, tmp_path, "reasoning_error"], check=True)
    made = load(tmp_path / f"reasoning_error{ENDING}")
    shipped_one = from_spec("reasoning_error", None).model
    apart = made.weights.astype(int) - shipped_one.weights
    assert np.abs(apart).max() <= 1 and np.count_nonzero(apart) <= made.weights.size / 1000
    for head, other in zip(made.header.heads, shipped_one.header.heads, strict=True):
        assert head.slope == pytest.approx(other.slope, rel=1e-3)
        assert head.intercept == pytest.approx(other.intercept, rel=1e-3, abs=1e-3)
    for name in ("first", "min", "last"):
        found, said = (m.header.card["in_domain"][name] for m in (made, shipped_one))
        assert found == pytest.approx(said, abs=1e-3)
    if (
        np.array_equal(apart, np.zeros_like(apart))
        and made.header.heads == shipped_one.header.heads
    ):
        assert made.header.digest == shipped_one.header.digest


def test_the_demonstration_calibration_fits_the_model_it_comes_with() -> None:
    made = from_spec("harmful_answer", StepDefinition("sentence"))
    calibration = load_calibration(
        demonstration("harmful_answer"),
        {
            "verifier": made.declares.name,
            "verifier_version": made.declares.version,
            "step_definition": "sentence",
        },
    )
    assert [c.epsilon for c in calibration.certificates] == [0.05, 0.1]


def test_there_is_no_demonstration_where_none_was_made() -> None:
    with pytest.raises(InputError, match="harmful_answer"):
        demonstration("reasoning_error")


def test_shipped_files_are_those_of_the_manifest() -> None:
    folder = demonstration("harmful_answer").parent
    listed = json.loads((folder / "MANIFEST.json").read_text())
    here = {p.name for p in folder.iterdir()} - {"MANIFEST.json"}
    assert set(listed) == here
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--out", "DATA"], "written over a file that is needed"),
        (["--out", "m", "--card", "m"], "written over a file that is needed"),
        (["--out", "m", "--card", "DATA"], "written over a file that is needed"),
        (["--out", "absent/m"], "no such folder"),
        (["--out", "m", "--card", "absent/card.md"], "no such folder"),
        (["--out", "."], "it is a folder"),
        (["--out", "m" * 300], "File name too long"),
        (["--out", "\udcff"], "is not UTF-8"),
        (["--out", "m", "--task", "a\x1b[31m"], "cannot be shown"),
        (["--out", "m", "--task", "\udcff"], "cannot be shown"),
        (["--out", "m", "--over-refusal", "nothing=1"], "no file has a column 'nothing'"),
        (["--out", "m", "--seed", "-1"], "--seed"),
    ],
)
def test_what_could_not_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    place = write(tmp_path / "data.jsonl", data(n=20))
    before = place.read_bytes()
    given = ["data.jsonl" if one == "DATA" else one for one in given]
    result = CliRunner().invoke(cli, ["train", str(place), *given])
    assert result.exit_code != 0
    assert said in str(result.exception) + result.output
    assert [p.name for p in tmp_path.iterdir()] == ["data.jsonl"]
    assert place.read_bytes() == before
