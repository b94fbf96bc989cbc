"""Each score of a labelled text stands at the step that it speaks for, also after a crash."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tocsin.cli import score as command
from tocsin.cli.main import cli
from tocsin.evaluation.journal import Journal
from tocsin.evaluation.scoring import Scored, Trajectory, assign, cut, score, score_all
from tocsin.evaluation.texts import read_texts
from tocsin.evaluation.writing import write_columns
from tocsin.model import Channel, Context, Delta, Outcome, Score
from tocsin.stream.steps import Step, StepDefinition
from tocsin.testing.verifiers import generated_text
from tocsin.verifiers.contract import Declaration
from tocsin.verifiers.separation import auc
from tocsin.verifiers.stepwise import Judgement, NoJudgement, StepwiseSession

TURN = StepDefinition("turn")
SENTENCE = StepDefinition("sentence")


class Lengths:
    """A toy: 1 / (1 + characters of the step); unknown where the step says so."""

    def __init__(self, steps: StepDefinition, **declared: Any) -> None:
        self.declares = Declaration(name="lengths", version="1", steps=steps, **declared)
        self.opened = 0

    def open(self, _context: Context) -> LengthsSession:
        self.opened += 1
        return LengthsSession(self.declares)


class LengthsSession(StepwiseSession):
    def judge(self, channel: Channel, step: Step) -> Judgement | NoJudgement:
        if "unknowable" in step.text:
            return NoJudgement("failed")
        return Judgement(1.0 / (1 + len(step.text)), dict.fromkeys(self._declares.categories, 0.5))


class Later:
    """The same behind an event loop; sessions finish out of order."""

    def __init__(self, steps: StepDefinition) -> None:
        self._now = Lengths(steps)
        self.declares = self._now.declares
        self.closed = False
        self.most = self.running = 0

    def open_async(self, context: Context) -> LaterSession:
        return LaterSession(self, self._now.open(context))

    async def aclose(self) -> None:
        self.closed = True


class LaterSession:
    def __init__(self, owner: Later, session: LengthsSession) -> None:
        self._owner, self._session = owner, session
        owner.running += 1
        owner.most = max(owner.most, owner.running)

    async def feed(self, delta: Delta) -> list[Outcome]:
        for _ in range(len(delta.text) % 7):
            await asyncio.sleep(0)
        return self._session.feed(delta)

    async def close(self) -> list[Outcome]:
        self._owner.running -= 1
        return self._session.close()


def trajectory(
    rows: list[str], steps: StepDefinition = TURN, observed: list[str] | None = None
) -> Trajectory:
    return Trajectory(rows, observed or [""] * len(rows), cut(rows, steps))


def lengths(found: Scored) -> list[float | None]:
    return [None if v is None else round(1 / v - 1) for v in found.values]


# ------------------------------------------------------------------------------------ assignment


def test_each_row_has_its_own_score_also_where_it_is_empty() -> None:
    found = score(Lengths(TURN), trajectory(["four", "", "sixsix", "", ""]))

    assert lengths(found) == [4, 0, 6, 0, 0]


def test_sentences_have_scores_of_their_own() -> None:
    rows = ["One. Two is longer. ", "Three.", ""]

    found = score(Lengths(SENTENCE), trajectory(rows, SENTENCE))

    assert lengths(found) == [5, 15, 6]


def test_the_worst_of_an_observation_and_the_text_after_it_counts() -> None:
    both = Lengths(TURN, channels=frozenset({"text", "observation"}))

    found = score(both, trajectory(["abc", "abc"], observed=["a long observation", ""]))

    assert lengths(found) == [18, 3]


def test_a_verifier_of_observations_says_nothing_new_where_there_is_none() -> None:
    watching = Lengths(TURN, channels=frozenset({"observation"}))

    found = score(watching, trajectory(["abc", "abc", "abc"], observed=["", "seen", ""]))

    assert found.values[0] == 1.0 and lengths(found) == [0, 4, 4]


def test_an_unknown_makes_the_step_missing_and_is_counted() -> None:
    found = score(Lengths(TURN), trajectory(["abc", "unknowable", "abc"]))

    assert lengths(found) == [3, None, 3]
    assert found.unknown == {"failed": 1}


def test_categories_have_columns_of_their_own() -> None:
    found = score(Lengths(TURN, categories=("violence",)), trajectory(["abc", "unknowable"]))

    assert found.categories == {"violence": [0.5, None]}


def test_a_score_that_comes_late_stands_where_its_offset_says() -> None:
    class Late(LengthsSession):
        """Holds every outcome back until more text has come."""

        def __init__(self, declares: Declaration) -> None:
            super().__init__(declares)
            self._kept: list[Outcome] = []

        def feed(self, delta: Delta) -> list[Outcome]:
            kept, self._kept = self._kept, super().feed(delta)
            return kept

        def close(self) -> list[Outcome]:
            return self._kept + super().close()

    class Waits(Lengths):
        def open(self, _context: Context) -> Late:
            return Late(self.declares)

    rows = ["One. Two is longer. ", "Three.", "Four four.", "Five"]
    for steps in (TURN, SENTENCE):
        on_time = score(Lengths(steps), trajectory(rows, steps))
        assert score(Waits(steps), trajectory(rows, steps)) == on_time


def test_pieces_cover_the_text_and_keep_to_their_rows() -> None:
    rng = random.Random(3)
    for _ in range(200):
        rows = [generated_text(rng, 20) for _ in range(rng.randrange(1, 5))]
        starts = [sum(map(len, rows[:i])) for i in range(len(rows) + 1)]
        for name in ("sentence", "chars:9", "turn", "reasoning"):
            pieces = cut(rows, StepDefinition.parse(name))
            assert [p.start for p in pieces[1:]] == [p.end for p in pieces[:-1]]
            assert pieces[0].start == 0 and pieces[-1].end == starts[-1]
            assert all(starts[p.row] <= p.start <= p.end <= starts[p.row + 1] for p in pieces)


# ------------------------------------------------------------------------------------ many at once


def collect(verifier: Any, work: list[Trajectory], at_once: int) -> dict[int, Scored]:
    async def run() -> dict[int, Scored]:
        todo: Iterator[tuple[int, Trajectory]] = iter(enumerate(work))
        return {i: scored async for i, scored in score_all(verifier, todo, at_once)}

    return asyncio.run(run())


def test_a_verifier_behind_a_loop_gives_the_same_and_is_closed() -> None:
    rng = random.Random(5)
    work = [
        trajectory([generated_text(rng, 12) for _ in range(rng.randrange(1, 6))], SENTENCE)
        for _ in range(60)
    ]
    later = Later(SENTENCE)

    assert collect(later, work, 4) == collect(Lengths(SENTENCE), work, 4)
    assert later.closed
    assert 2 <= later.most <= 4


# ----------------------------------------------------------------------------------------- the AUC


def test_auc_counts_pairs() -> None:
    rng = random.Random(7)
    values = [rng.randrange(12) / 10 for _ in range(80)]
    safe = [rng.random() < 0.4 for _ in values]
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, is_safe in zip(values, safe, strict=True) if is_safe
        for b, also_safe in zip(values, safe, strict=True) if not also_safe
    ]  # fmt: skip

    assert auc(np.array(values), np.array(safe)) == pytest.approx(
        sum(pairs) / len(pairs), abs=1e-12
    )


def test_auc_takes_a_missing_score_as_the_lowest() -> None:
    safe = np.array([True, False])
    assert auc(np.array([0.5, math.nan]), safe) == 1.0
    assert auc(np.array([math.nan, 0.5]), safe) == 0.0
    assert math.isnan(auc(np.array([0.5]), np.array([True])))


# ------------------------------------------------------------------------------------- the journal


def test_a_torn_line_is_done_again_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.unfinished"
    whole = Journal(path, "run 1", Scored)
    with whole.writing():
        for i in range(5):
            whole.add(i, Scored([i / 10, None]))
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        again = Journal(path, "run 1", Scored)
        again.read()
        kept = sum(1 for k in range(2, 7) if len(b"".join(lines[:k])) <= size)
        assert again.done == {i: Scored([i / 10, None]) for i in range(kept)}
        with again.writing():
            for i in range(kept, 5):
                again.add(i, Scored([i / 10, None]))
        assert path.read_bytes() == content


# ------------------------------------------------------------------------------------- the command


@pytest.fixture
def data(tmp_path: Path) -> str:
    rng = random.Random(11)
    names = ["trajectory_id", "step", "text", "obs", "label", "group", "source"]
    names += ["onset_step", "tokens"]
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for i in range(120):
        unsafe = i % 2
        for step in range(1, 4):
            words = rng.randrange(20, 30) if unsafe and step == 2 else rng.randrange(1, 12)
            cells = (f"t{i}", step, "Word. " * words, "seen", 1 - unsafe, f"g{i // 2}", "s",
                     2 if unsafe else -1, words)  # fmt: skip
            for column, cell in zip(rows.values(), cells, strict=True):
                column.append(cell)
    path = tmp_path / "data.jsonl"
    write_columns(path, rows)
    return str(path)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> list[Lengths]:
    made: list[Lengths] = []

    def make(spec: str, steps: StepDefinition | None) -> Lengths:
        channels = {"observation"} if spec == "observer" else {"text"}
        made.append(Lengths(steps or TURN, channels=frozenset(channels)))
        return made[-1]

    monkeypatch.setattr(command, "make_verifier", make)
    return made


def run(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(cli, ["score", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.usefixtures("toys")
def test_the_command_adds_scores_and_what_they_are(data: str, tmp_path: Path) -> None:
    target = tmp_path / "scored.jsonl"

    said = run(data, "--verifier", "toy", "--verifier", "b=toy", "--out", str(target))

    before, after = rows_of(Path(data)), rows_of(target)
    assert [{k: row[k] for k in before[0]} for row in after] == before
    assert [row["score"] for row in after] == [1 / (1 + len(row["text"])) for row in before]
    assert [row["score_b"] for row in after] == [row["score"] for row in after]
    assert after[0]["verifier"] == "lengths" and after[0]["step_definition"] == "turn"
    first = said["verifiers"][0]
    assert first["auc_min"] == 1.0 and 0.2 < first["auc_first"] < 0.8
    assert (first["steps"], first["missing"], first["unknown"]) == (360, 0, {})
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.usefixtures("toys")
def test_rows_are_cut_into_sentences_with_their_tokens_and_onset(data: str, tmp_path: Path) -> None:
    target = tmp_path / "scored.jsonl"

    run(data, "--verifier", "toy", "--out", str(target), "--steps", "sentence")

    texts = read_texts(target)
    whole = read_texts(data)
    assert texts.tokens is not None and whole.tokens is not None
    assert texts.tokens.sum() == whole.tokens.sum()
    assert "".join(texts.text) == "".join(whole.text)
    assert len(texts.step) == sum(text.count("Word") for text in whole.text)
    assert texts.onset_step is not None
    second = {t: whole.text[i] for i, t in enumerate(whole.trajectory_id) if whole.step[i] == 1}
    for name, onset in zip(texts.trajectory_id, texts.onset_step, strict=True):
        expected = second[name].count("Word") + 1 if int(name[1:]) % 2 else -1
        assert onset == expected


@pytest.mark.usefixtures("toys")
def test_calibrate_takes_the_identity_from_the_file(data: str, tmp_path: Path) -> None:
    target, made = tmp_path / "scored.jsonl", tmp_path / "c.json"
    run(data, "--verifier", "toy", "--out", str(target))

    arguments = ["calibrate", str(target), "--epsilon", "0.1", "--out", str(made)]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)

    assert done.exit_code == 0, done.output
    signal = json.loads(made.read_text(encoding="utf-8"))["signal"]
    assert signal["verifier"] == "lengths" and signal["step_definition"] == "turn"
    other = CliRunner().invoke(cli, [*arguments, "--verifier", "another"])
    assert other.exit_code != 0
    assert "says that its scores are of 'lengths'" in str(other.exception)


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(
    data: str, tmp_path: Path, toys: list[Lengths], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "scored.jsonl"
    run(data, "--verifier", "toy", "--out", str(target))
    expected = target.read_bytes()
    target.unlink()
    add = Journal.add
    left = 37

    def dies(self: Journal[Scored], number: int, item: Scored) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        add(self, number, item)

    with monkeypatch.context() as m:
        m.setattr(Journal, "add", dies)
        arguments = ["score", data, "--verifier", "toy", "--out", str(target)]
        cut_off = CliRunner().invoke(cli, arguments)
    assert cut_off.exit_code != 0 and not target.exists()

    run(data, "--verifier", "toy", "--out", str(target))

    assert target.read_bytes() == expected
    assert toys[-1].opened == 120 - 37


def test_the_journal_of_other_data_is_refused_until_told(
    data: str, tmp_path: Path, toys: list[Lengths]
) -> None:
    target = tmp_path / "scored.jsonl"
    place = tmp_path / "scored.jsonl.toy.unfinished"
    place.write_bytes(b'{"run":"something else"}\n')
    arguments = ["score", data, "--verifier", "toy", "--out", str(target)]

    refused = CliRunner().invoke(cli, arguments)

    assert refused.exit_code != 0 and "another run" in str(refused.exception)
    assert place.read_bytes() == b'{"run":"something else"}\n' and not target.exists()
    run(*arguments[1:], "--restart")
    assert target.exists() and toys[-1].opened == 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.txt"], "must end in one of"),
        (["--out", "x.csv", "--steps", "words"], "step definition 'words' is unknown"),
        (["--out", "x.csv", "--verifier", "toy"], "give every verifier but the first a NAME"),
        (["--out", "x.csv", "--verifier", "toy=toy"], "the name toy is taken"),
        (["--out", "x.csv", "--keep", "colour"], "no column 'colour'"),
        (["--out", "x.csv", "--verifier", "version=toy"], "cannot have this name"),
    ],
)
@pytest.mark.usefixtures("toys")
def test_bad_arguments_are_errors_before_any_work(
    data: str, arguments: list[str], message: str
) -> None:
    done = CliRunner().invoke(cli, ["score", data, "--verifier", "toy", *arguments])

    assert done.exit_code != 0
    assert message in str(done.exception)


@pytest.mark.usefixtures("toys")
def test_a_column_of_nothing_is_not_written(tmp_path: Path) -> None:
    source, target = tmp_path / "data.jsonl", tmp_path / "scored.jsonl"
    columns: dict[str, list[Any]] = {"trajectory_id": ["a", "b"], "step": [1, 1], "label": [1, 0]}

    for text, spec, why in (
        ("plain", "observer", "judges observation, of which the data has nothing"),
        ("unknowable", "toy", "no score for any step (failed); nothing is written"),
    ):
        write_columns(source, columns | {"text": [text, text]})
        arguments = ["score", str(source), "--verifier", spec, "--out", str(target)]
        done = CliRunner().invoke(cli, arguments)
        assert why in str(done.exception)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["data.jsonl"]


def test_an_interrupt_gets_through_between_two_trajectories() -> None:
    work = [trajectory(["a"])] * 50
    done = []

    async def run() -> None:
        async for i, _ in score_all(Lengths(TURN), iter(enumerate(work)), 1):
            done.append(i)
            if i == 3:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())

    assert done == [0, 1, 2, 3]


def test_text_can_be_left_out(data: str, tmp_path: Path, toys: list[Lengths]) -> None:
    target = tmp_path / "scored.csv"

    run(data, "--verifier", "toy", "--out", str(target), "--drop-text")

    assert "Word" not in target.read_text(encoding="utf-8")
    assert toys[0].opened == 120


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("step", "--keep 'step'"),
        ("group", "--keep 'group'"),
        ("score", "--keep 'score'"),
        ("score_b", "--keep 'score_b'"),
        ("verifier", "--keep 'verifier'"),
        ("verifier_b", "--keep 'verifier_b'"),
    ],
)
@pytest.mark.usefixtures("toys")
def test_a_column_that_is_kept_never_takes_the_place_of_another(
    data: str, tmp_path: Path, name: str, message: str
) -> None:
    target = str(tmp_path / "x.csv")
    given = ["--verifier", "toy", "--verifier", "b=toy", "--out", target, "--keep", name]
    done = CliRunner().invoke(cli, ["score", data, *given])

    assert done.exit_code != 0 and message in str(done.exception)


@pytest.mark.usefixtures("toys")
def test_what_is_read_is_never_written_over(data: str) -> None:
    before = Path(data).read_bytes()
    link = Path(data).with_name("link.jsonl")
    link.symlink_to(data)
    for target in (data, str(link), str(Path(data).parent / "." / Path(data).name)):
        done = CliRunner().invoke(cli, ["score", data, "--verifier", "toy", "--out", target])
        assert done.exit_code != 0 and "file that is needed" in str(done.exception)
    assert Path(data).read_bytes() == before


@pytest.mark.usefixtures("toys")
def test_a_journal_that_cannot_be_deleted_is_named(data: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv.toy.unfinished").mkdir()
    given = ["--verifier", "toy", "--out", str(tmp_path / "x.csv"), "--restart"]
    done = CliRunner().invoke(cli, ["score", data, *given])

    assert "cannot delete" in str(done.exception) and "unfinished" in str(done.exception)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5])
@pytest.mark.parametrize("first", [True, False])
def test_a_score_out_of_range_is_missing_whatever_stands_beside_it(
    value: float, first: bool
) -> None:
    both = [Score(value=v, step=1, upto=4) for v in (value, 0.9)]
    trajectory = Trajectory(["Fine."], [""], cut(["Fine."], TURN))
    said = [(0, one) for one in (both if first else both[::-1])]

    found = assign(Lengths(TURN).declares, trajectory, said)

    assert found.values == [None] and found.unknown == {"out_of_range": 1}


@pytest.mark.parametrize("obs", [{"obs": ["", ""]}, {}])
def test_a_file_with_nothing_to_judge_is_refused_and_not_called_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obs: dict[str, list[str]]
) -> None:
    observes = Lengths(TURN, channels=frozenset({"observation"}))
    monkeypatch.setattr(command, "make_verifier", lambda _spec, _steps: observes)
    data, target = tmp_path / "data.jsonl", tmp_path / "x.csv"
    rows: dict[str, Any] = {"trajectory_id": ["a", "b"], "step": [1, 1], "text": ["A.", "B."]}
    write_columns(data, rows | obs)
    given = ["score", str(data), "--verifier", "toy", "--out", str(target)]
    done = CliRunner().invoke(cli, given)

    assert done.exit_code != 0 and "name it with --column obs=" in str(done.exception)
    assert not target.exists()
