"""Foreign layouts: recognised by their columns, turned the right way, refused when unclear."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tocsin.errors import InputError
from tocsin.evaluation.adapters_transcripts import answers
from tocsin.evaluation.datasets import describe, read, read_with_notes


def csv(folder: Path, text: str, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_text(text.replace(" ", ""), encoding="utf-8")
    return path


def npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "test_predictions.npz"
    np.savez(path, **arrays)
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(path, **options)
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{path}: ")


def lists(values: Any) -> Any:
    return np.round(np.asarray(values, dtype=float), 6).tolist()


# -------------------------------------------------------------------------------------- e-valuator


def test_evaluator_files_are_recognised(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        """,uq_problem_idx,generated_tokens,solved,judge_probability,num_steps
        0,algebra_0,15,1,0.9,1
        1,algebra_0,6,1,0.8,2
        2,algebra_1,6,0,0.3,1
        """,
    )
    found = read_with_notes(path)
    got = found.trajectories
    assert found.layout == "e-valuator" and found.notes == ()
    assert got.ids.tolist() == got.groups.tolist() == ["algebra_0", "algebra_1"]
    assert got.safe.tolist() == [True, False]
    assert got.scores.tolist() == [0.9, 0.8, 0.3]
    assert got.tokens.tolist() == [15, 6, 6]
    assert got.has_groups


def test_evaluator_tokens_that_grow_at_every_step_are_a_running_total(tmp_path: Path) -> None:
    text = """uq_problem_idx,num_steps,judge_probability,solved,generated_tokens
        p,2,0.5,True,12
        p,1,0.5,True,7
        q,1,0.5,False,4
        """
    got = read(csv(tmp_path, text))
    assert got.tokens.tolist() == [7, 5, 4]
    assert got.safe.tolist() == [True, False]
    assert read(csv(tmp_path, text.replace("12", "7"))).tokens.tolist() == [7, 7, 4]
    single = "uq_problem_idx,num_steps,judge_probability,solved,generated_tokens\np,1,0.5,1,9\n"
    assert read(csv(tmp_path, single)).tokens.tolist() == [9]


def test_evaluator_errors_use_the_names_of_the_file(tmp_path: Path) -> None:
    head = "uq_problem_idx,num_steps,judge_probability,solved\n"
    path = csv(tmp_path, head + "p,1,0.5,1\np,3,0.5,1\n")
    assert refusal(path).startswith("row 2 (line 3), column 'num_steps': trajectory 'p' has step 3")
    path = csv(tmp_path, head + "p,1,0.5,maybe\n")
    assert refusal(path).startswith("row 1 (line 2), column 'solved': 'maybe' is neither 1 (safe)")
    path = csv(tmp_path, head + "p,1,0.5,1\np,2,0.5,0\n")
    assert "column 'solved': trajectory 'p' says 0 here" in refusal(path)


# --------------------------------------------------------------------------------------- reference

REFERENCE = """\
    uq_problem_idx,dataset,step_idx,error_stepwise_o3,label_valid,error_final_o3,\
    judge_probability,generated_tokens,num_steps,solved_regex
    a_1,algebra,0,0,True,1,0.9,10,1,1
    a_1,algebra,1,1,True,1,0.4,14,2,1
    a_1,algebra,2,1,True,1,,,,
    a_2,algebra,0,0,True,0,0.8,6,1,1
    g_1,geometry,0,1,True,0,0.7,5,1,0
    g_1,geometry,1,0,True,0,0.6,9,2,0
    g_2,geometry,0,,False,0,0.7,9,1,0
    g_2,geometry,1,,False,0,0.6,5,2,0
"""


def test_reference_files_are_recognised_before_evaluator(tmp_path: Path) -> None:
    found = read_with_notes(csv(tmp_path, REFERENCE))
    got = found.trajectories
    assert found.layout == "reference"
    assert got.ids.tolist() == got.groups.tolist() == ["a_1", "a_2", "g_1"]
    assert got.safe.tolist() == [False, True, True]
    assert got.segments.tolist() == ["algebra", "algebra", "geometry"]
    assert np.isnan(got.scores).tolist() == [False, False, True, False, False, False]
    assert got.tokens.tolist() == [10, 4, 0, 6, 5, 4]


def test_reference_trajectories_without_a_valid_label_are_left_out_and_counted(
    tmp_path: Path,
) -> None:
    found = read_with_notes(csv(tmp_path, REFERENCE))
    assert found.notes == ("1 of 4 trajectories left out: they have no valid label",)
    assert "g_2" not in found.trajectories.ids
    one = csv(tmp_path, REFERENCE.replace("g_2,geometry,0,,False", "g_2,geometry,0,,True"))
    assert "g_2" not in read(one).ids
    none = csv(tmp_path, REFERENCE.replace("True", "False"))
    assert (
        refusal(none) == "nothing is left: 4 of 4 trajectories left out: they have no valid label"
    )


def test_reference_onset_is_the_first_wrong_step_of_an_unsafe_trajectory(tmp_path: Path) -> None:
    assert read(csv(tmp_path, REFERENCE)).onset.tolist() == [2, -1, -1]


def test_reference_tokens_must_not_fall(tmp_path: Path) -> None:
    path = csv(tmp_path, REFERENCE.replace("0.6,9,2", "0.6,4,2"))
    message = refusal(path)
    assert message.startswith("row 6 (line 7), column 'generated_tokens': 4 after 5 in row 5;")
    assert message.endswith("give columns={'tokens': 'generated_tokens'}")
    path = csv(tmp_path, REFERENCE.replace("0.8,6,1", "0.8,-6,1"))
    assert "-6 after nothing; " in refusal(path)
    own = "uq_problem_idx,step_idx,error_final_o3,judge_probability,generated_tokens\n"
    path = csv(tmp_path, own + "p,0,0,0.5,9\np,1,0,0.5,4\n")
    assert read(path, columns={"tokens": "generated_tokens"}).tokens.tolist() == [9, 4]


def test_reference_gap_in_the_join_gives_its_tokens_to_the_next_step(tmp_path: Path) -> None:
    text = """uq_problem_idx,step_idx,error_final_o3,judge_probability,generated_tokens
        p,0,0,0.5,10
        p,1,0,,
        p,2,0,0.5,25
        """
    got = read(csv(tmp_path, text))
    assert got.tokens.tolist() == [10, 0, 15]
    empty = text.replace("0.5,10", ",").replace("0.5,25", ",")
    assert not read(csv(tmp_path, empty)).has_tokens


def test_reference_steps_that_do_not_begin_at_0_are_explained(tmp_path: Path) -> None:
    text = "uq_problem_idx,step_idx,error_final_o3,judge_probability\np,1,0,0.5\n"
    message = refusal(csv(tmp_path, text))
    assert message.startswith(
        "row 1 (line 2), column 'step_idx': trajectory 'p' has step 2 where 1"
    )
    assert message.endswith("the file counts steps from 0, this message from 1")


def test_reference_columns_can_be_overridden(tmp_path: Path) -> None:
    path = csv(tmp_path, REFERENCE)
    got = read(path, columns={"score": "solved_regex", "group": "dataset"}, layout="reference")
    assert got.scores.tolist()[3:] == [1.0, 0.0, 0.0]
    assert got.groups.tolist() == ["algebra", "algebra", "geometry"]


# ------------------------------------------------------------------------------------------- llama


@pytest.mark.parametrize(
    "name", ["conversation_id", "transcript_id", "dialogue_id", "uq_problem_idx", "idx"]
)
@pytest.mark.parametrize("turn", ["turn", "turn_idx", "step_idx", "num_steps"])
@pytest.mark.parametrize("first", [0, 1])
def test_llama_names_are_known_and_turns_count_from_either(
    name: str, turn: str, first: int, tmp_path: Path
) -> None:
    text = f"{name},{turn},p_safe,is_harmful\n7,{first},0.9,1\n7,{first + 1},0.2,1\n8,{first},1,0\n"
    found = read_with_notes(csv(tmp_path, text))
    assert found.layout == "llama"
    assert found.trajectories.ids.tolist() == ["7", "8"]
    assert found.trajectories.scores.tolist() == [0.9, 0.2, 1.0]
    assert found.trajectories.safe.tolist() == [False, True]


@pytest.mark.parametrize(
    ("column", "score"),
    [("judge_probability", 0.2), ("p_safe", 0.2), ("prob_safe", 0.2), ("safe_prob", 0.2),
     ("p_unsafe", 0.8), ("prob_unsafe", 0.8), ("unsafe_prob", 0.8)],
)  # fmt: skip
def test_llama_scores_are_turned_safe_high(column: str, score: float, tmp_path: Path) -> None:
    got = read(csv(tmp_path, f"conversation_id,turn,{column},harmful\na,1,0.2,0\n"))
    assert lists(got.scores) == [score]


@pytest.mark.parametrize(
    ("column", "value", "safe"),
    [("harmful", "1", False), ("is_harmful", "true", False), ("is_unsafe", "0", True),
     ("error_final", "1", False), ("error_final_o3", "0", True), ("solved", "1", True),
     ("label", "safe", True), ("label", "Harmful", False)],
)  # fmt: skip
def test_llama_labels_are_turned_the_right_way(
    column: str, value: str, *, safe: bool, tmp_path: Path
) -> None:
    text = f"conversation_id,turn,p_safe,{column}\na,1,0.2,{value}\n"
    assert read(csv(tmp_path, text)).safe.tolist() == [safe]


def test_llama_label_of_unknown_direction_is_refused_until_it_is_said(tmp_path: Path) -> None:
    path = csv(tmp_path, "conversation_id,turn,p_safe,label\na,1,0.2,1\n")
    assert refusal(path).startswith(
        "row 1 (line 2), column 'label': '1' does not say which way it points; "
    )
    assert read(path, columns={"label": "label"}).safe.tolist() == [True]
    assert read(path, columns={"harmful": "label"}).safe.tolist() == [False]


def test_llama_columns_override_the_known_names(tmp_path: Path) -> None:
    path = csv(tmp_path, "conversation_id,turn,judge_probability,p_safe,harmful\na,1,0.3,0.9,0\n")
    assert read(path).scores.tolist() == [0.3]
    assert read(path, score_column="p_safe").scores.tolist() == [0.9]
    # A column that is declared unsafe-high must not be read safe-high through its known name.
    assert lists(read(path, columns={"p_unsafe": "judge_probability"}).scores) == [0.7]
    strange = csv(tmp_path, "c,t,guard,verdict,topic\nx,0,0.25,0,fire\nx,1,0.75,0,fire\n")
    names = {"trajectory_id": "c", "step": "t", "p_unsafe": "guard", "harmful": "verdict"}
    got = read(strange, columns=names, segment_column="topic")
    assert got.scores.tolist() == [0.75, 0.25] and got.segments.tolist() == ["fire"]
    assert got.safe.tolist() == [True]


# ---------------------------------------------------------------------------------------- fineharm

P = np.array([[0.1, 0.9, 0.0], [0.2, 0.3, 0.4]])
PADDED = np.array([[0, 1, -100], [0, 0, 0]])
EXPECTED = [0.9, 0.1, 0.8, 0.7, 0.6]


@pytest.mark.parametrize("name", ["probs", "probabilities", "scores", "predictions", "preds"])
@pytest.mark.parametrize("labels", ["labels", "token_labels", "targets"])
def test_fineharm_padded_tokens_and_their_labels(name: str, labels: str, tmp_path: Path) -> None:
    found = read_with_notes(npz(tmp_path, **{name: P, labels: PADDED}))
    got = found.trajectories
    assert found.layout == "fineharm"
    assert got.ids.tolist() == ["0", "1"] and got.lengths.tolist() == [2, 3]
    assert lists(got.scores) == EXPECTED
    assert got.safe.tolist() == [False, True] and got.onset.tolist() == [2, -1]


@pytest.mark.parametrize(
    "padding",
    [
        {"lengths": np.array([2, 3])},
        {"attention_mask": np.array([[1, 1, 0], [1, 1, 1]])},
        {"probs": np.where(PADDED == -100, np.nan, P)},
        {"response_labels": np.array([1, 0]), "labels": PADDED},
    ],
)
def test_fineharm_padding_and_response_labels(padding: dict[str, Any], tmp_path: Path) -> None:
    arrays = {"probs": P.astype(np.float32), "labels": np.array([1, 0]), **padding}
    got = read(npz(tmp_path, **arrays))
    assert lists(got.scores) == EXPECTED
    assert got.safe.tolist() == [False, True]


@pytest.mark.parametrize(
    "cut",
    [
        {"lengths": np.array([2, 3])},
        {"offsets": np.array([0, 2, 5])},
        {"offsets": np.array([0, 2])},
        {"offsets": np.array([2, 5])},
    ],
)
@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("classes", [False, True])
def test_fineharm_flat_tokens_are_cut(
    cut: dict[str, Any], *, per_token: bool, classes: bool, tmp_path: Path
) -> None:
    keep = PADDED != -100
    p = P[keep]
    labels = PADDED[keep] if per_token else np.array([1, 0])
    probs = np.stack([1 - p, p], axis=-1) if classes else p
    got = read(npz(tmp_path, probs=probs, labels=labels, ids=np.array(["x", "y"]), **cut))
    assert got.ids.tolist() == ["x", "y"] and got.lengths.tolist() == [2, 3]
    assert lists(got.scores) == EXPECTED
    assert got.safe.tolist() == [False, True]
    assert got.onset.tolist() == ([2, -1] if per_token else [-1, -1])


def test_fineharm_classes_and_logits_become_probabilities(tmp_path: Path) -> None:
    inside = np.clip(P, 0.05, 0.95)
    expected = lists(1 - inside[PADDED != -100])
    pairs = np.stack([1 - inside, inside], axis=-1)
    shifted = np.log(pairs) + 3.0
    for arrays in (
        {"probs": pairs},
        {"logits": shifted},
        {"scores": shifted},
        {"logits": np.log(inside / (1 - inside))},
    ):
        got = read(npz(tmp_path, labels=PADDED, **arrays))
        assert lists(got.scores) == expected


def test_fineharm_tokens_ignored_by_their_label_are_no_steps(tmp_path: Path) -> None:
    got = read(npz(tmp_path, probs=P, labels=np.array([[-100, 0, 1], [-100, -100, -100]])))
    assert got.lengths.tolist() == [2] and got.onset.tolist() == [2]
    found = read_with_notes(
        npz(tmp_path, probs=P, labels=np.array([[-100, 0, 1], [-100, -100, -100]]))
    )
    assert found.notes == ("1 of 2 responses left out: they have no token",)


def test_fineharm_hard_decisions_are_noted(tmp_path: Path) -> None:
    found = read_with_notes(npz(tmp_path, predictions=P.round(), labels=PADDED))
    assert "decisions, not probabilities" in found.notes[0]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": P, "b": PADDED}, "it has 'a', 'b'"),
        ({"probs": P}, "it has 'probs'"),
        ({"probs": P * 5 - 1, "labels": PADDED}, "which is no probability; where it holds logits"),
        ({"probs": P, "labels": [1, 0]}, "does not tell tokens from padding: add 'lengths'"),
        ({"probs": P, "labels": [1, 0, 0]}, "array 'labels' has shape (3,); there are 2 responses"),
        ({"probs": P, "labels": PADDED * 2}, "array 'labels' holds 2; labels are 1 (harmful)"),
        ({"probs": P, "labels": np.where(PADDED == 1, np.nan, PADDED)}, "array 'labels' holds nan"),
        ({"probs": P[0], "labels": [1, 0]}, "to cut it into responses, 'lengths'"),
        ({"probs": P[0], "labels": [1], "offsets": [5]}, "does not cut 3 tokens into responses"),
        ({"probs": P[..., None, None], "labels": PADDED}, "array 'probs' has shape (2, 3, 1, 1)"),
        ({"probs": [["x"]], "labels": PADDED}, "array 'probs' is <U1 of shape (1, 1), not numbers"),
        ({"probs": P, "labels": PADDED, "ids": ["x", "x"]}, "must hold 2 different names"),
        ({"probs": P, "labels": [1, 0], "lengths": [9, 1]}, "does not give the tokens of 2 resp"),
        ({"probs": P, "labels": [1, 0], "mask": [1, 0]}, "must hold 0 and 1 in the shape (2, 3)"),
        ({"probs": P, "token_labels": PADDED, "response_labels": [0, 0]}, "response 0 (from 0) is"),
        ({"probs": P, "labels": PADDED * 0 - 100}, "no rows"),
    ],
)
def test_fineharm_arrays_that_do_not_fit_are_refused(
    arrays: dict[str, Any], said: str, tmp_path: Path
) -> None:
    made = {name: np.asarray(array) for name, array in arrays.items()}
    assert said in refusal(npz(tmp_path, **made))


def test_fineharm_arrays_can_be_named_in_its_own_words(tmp_path: Path) -> None:
    path = npz(tmp_path, a=P, b=PADDED)
    assert lists(read(path, columns={"p_harmful": "a", "labels": "b"}).scores) == EXPECTED
    # Declared logits must not be read as probabilities through a known name.
    path = npz(tmp_path, scores=np.zeros((2, 3)), labels=PADDED)
    assert lists(read(path, columns={"logits": "scores"}).scores) == [0.5] * 5


# ------------------------------------------------------------------------------- red-team-attempts


def attempt(*said: str, **more: Any) -> dict[str, Any]:
    turns = "".join(f"\n\nHuman: question {i}\n\nAssistant: {text}" for i, text in enumerate(said))
    return {
        "transcript": turns + "\n\nHuman: thanks",
        "rating": 0,
        "min_harmlessness_score_transcript": -1.5,
        "num_params": "52B",
        "model_type": "rlhf",
        "task_description": "ask about the weather",
        "tags": None,
        **more,
    }


ATTEMPTS = [
    attempt("I would rather not.", "No."),
    attempt("Sure, here it is", rating=4.0, model_type="plain lm"),
    attempt(" ", rating=3, task_description=" "),
]


def attempts(folder: Path, made: list[dict[str, Any]], *, array: bool = False) -> Path:
    path = folder / "red_team_attempts.jsonl"
    lines = b"".join(msgspec.json.encode(one) + b"\n" for one in made)
    path.write_bytes(msgspec.json.encode(made) if array else lines)
    return path


@pytest.mark.parametrize("array", [False, True])
def test_red_team_attempts_are_one_step_an_answer(*, array: bool, tmp_path: Path) -> None:
    found = read_with_notes(attempts(tmp_path, ATTEMPTS, array=array))
    got = found.trajectories
    assert found.layout == "red-team-attempts"
    assert got.ids.tolist() == ["0", "1", "2"] and got.lengths.tolist() == [2, 1, 1]
    assert got.safe.tolist() == [True, False, False]
    assert got.tokens.tolist() == [4, 1, 4, 0]
    assert got.segments.tolist() == ["rlhf", "plain lm", "rlhf"]
    assert got.groups[0] == got.groups[1] != got.groups[2]
    assert got.groups[0].startswith("task-") and "weather" not in got.groups[0]
    assert np.isnan(got.scores).all()
    assert len(found.notes) == 1 and "calibration needs them" in found.notes[0]


def test_red_team_cut_decides_the_label(tmp_path: Path) -> None:
    path = attempts(tmp_path, ATTEMPTS)
    assert read(path, unsafe_rating_min=3.5).safe.tolist() == [True, False, True]
    with pytest.raises(InputError, match="give a rating from 0 to 4"):
        read(path, unsafe_rating_min=float("nan"))


def test_red_team_transcripts_without_rating_or_answer_are_left_out_and_counted(
    tmp_path: Path,
) -> None:
    made = [*ATTEMPTS, attempt("Hm.", rating=None), attempt(), attempt()]
    found = read_with_notes(attempts(tmp_path, made))
    assert found.trajectories.n == 3
    assert found.notes[1:] == (
        "1 of 6 transcripts left out: they have no rating, so no label",
        "2 of 6 transcripts left out: the assistant says nothing in them",
    )
    assert refusal(attempts(tmp_path, [attempt()])).startswith("no transcript has both a rating")


def test_red_team_errors_name_the_row(tmp_path: Path) -> None:
    path = attempts(tmp_path, [attempt("a"), attempt("b", rating="high")])
    assert refusal(path) == "row 2, column 'rating': 'high' is not a number"
    path = attempts(tmp_path, [attempt("a"), attempt("b", transcript=["\x1b"])])
    assert refusal(path) == "row 2, column 'transcript': ['\\x1b'] is no transcript"


@pytest.mark.parametrize("first", [0, 1])
def test_red_team_scores_are_joined_by_conversation_and_turn(first: int, tmp_path: Path) -> None:
    path = attempts(tmp_path, ATTEMPTS)
    text = f"idx,turn,p_unsafe\n0,{first + 1},0.4\n0,{first},0.1\n1,{first},0.9\n2,{first},\n"
    scores = csv(tmp_path, text, "scores.csv")
    found = read_with_notes(path, scores=scores)
    assert lists(found.trajectories.scores)[:3] == [0.9, 0.6, 0.1]
    assert found.notes == ("1 of 4 answers have no score",)
    assert describe(found.trajectories)["missing_scores"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("idx,turn,p_safe\n9,1,0.5\n", "scores, row 1: there is no conversation 9; the 3 transc"),
        ("idx,turn,p_safe\n0,1,0.5\n0,1,0.6\n", "scores, row 2: conversation 0 has turn 1 twice"),
        ("idx,turn,p_safe\nconv-1,1,0.5\n", "row 1 (line 2), column 'idx': 'conv-1' is not a num"),
        ("idx,turn\n0,1\n", "layout 'llama' needs 'judge_probability' or 'p_safe'"),
    ],
)
def test_red_team_scores_that_fit_nothing_are_refused(text: str, said: str, tmp_path: Path) -> None:
    scores = csv(tmp_path, text, "scores.csv")
    assert said in refusal(attempts(tmp_path, ATTEMPTS), scores=scores)


def test_red_team_scores_beyond_the_answers_are_counted(tmp_path: Path) -> None:
    scores = csv(tmp_path, "idx,turn,p_safe\n1,1,0.5\n1,2,0.5\n", "scores.csv")
    found = read_with_notes(attempts(tmp_path, ATTEMPTS), scores=scores)
    assert found.notes == ("3 of 4 answers have no score; 1 scores fit no answer",)


@pytest.mark.parametrize(
    ("transcript", "expected"),
    [
        ("", []),
        ("Human: a\n\nAssistant: b", ["b"]),
        ("\n\nAssistant: first", ["first"]),
        ("\n\nHuman: a\n\nAssistant: one\n\ntwo\n\nHuman: b", ["one\n\ntwo"]),
        ("\n\nHuman: say Assistant: no\n\nAssistant:", [""]),
    ],
)
def test_transcripts_are_cut_at_their_speakers(transcript: str, expected: list[str]) -> None:
    assert answers(transcript) == expected
