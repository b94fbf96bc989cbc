"""
The promise: rows become trajectories whole and in order, or an error names the row and column.
"""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from risk.worlds import trajectories

from tocsin.errors import InputError
from tocsin.risk import trajectories as module
from tocsin.risk.trajectories import Trajectories, from_columns

ROWS: dict[str, list[Any]] = {
    "trajectory_id": ["b", "a", "a", "b", "c"],
    "step": [1, 1, 2, 2, 1],
    "score": [0.5, 0.9, 0.2, 0.6, None],
    "label": [1, 0, 0, 1, 1],
    "tokens": [3, 1, 4, 5, 0],
    "group": ["p", "q", "q", "p", "p"],
    "segment": ["x", "y", "y", "x", "x"],
    "onset_step": [-1, 2, 2, -1, -1],
}


def with_columns(**changes: Any) -> Any:
    return from_columns(**(ROWS | changes))


def replaced(column: str, row: int, value: Any) -> dict[str, list[Any]]:
    """The rows with one value changed; `row` counts from 1."""
    values = list(ROWS[column])
    values[row - 1] = value
    return {column: values}


# --------------------------------------------------------------------------------------- reading


def test_rows_become_trajectories_sorted_by_name_and_step() -> None:
    t = with_columns()
    assert t.ids.tolist() == ["a", "b", "c"]
    assert t.starts.tolist() == [0, 2, 4] and t.lengths.tolist() == [2, 2, 1]
    assert t.scores[:4].tolist() == [0.9, 0.2, 0.5, 0.6] and math.isnan(t.scores[4])
    assert t.safe.tolist() == [False, True, True]
    assert t.tokens.tolist() == [1, 4, 3, 5, 0]
    assert t.groups.tolist() == ["q", "p", "p"] and t.has_groups and t.has_tokens
    assert t.segments.tolist() == ["y", "x", "x"]
    assert t.onset.tolist() == [2, -1, -1]
    assert t.owner.tolist() == [0, 0, 1, 1, 2]
    assert t.step_number.tolist() == [1, 2, 1, 2, 1]
    assert (t.n, t.n_steps) == (3, 5)


def test_what_is_not_given_has_a_plain_default() -> None:
    t = from_columns(trajectory_id=["b", "a"], step=[1, 1], score=[0.5, 0.4], label=[1, 0])
    assert t.groups.tolist() == ["a", "b"] and not t.has_groups
    assert t.segments.tolist() == ["all", "all"]
    assert t.tokens.tolist() == [1.0, 1.0] and not t.has_tokens
    assert t.onset.tolist() == [-1, -1]


def test_a_missing_score_is_kept_as_not_a_number() -> None:
    for nothing in (None, "", "nan", math.nan):
        assert math.isnan(with_columns(**replaced("score", 1, nothing)).scores[2])


def test_numbers_may_come_as_text_and_as_arrays() -> None:
    t = with_columns(**{name: [str(v or 0) for v in ROWS[name]] for name in ("score", "tokens")})
    assert t.scores.tolist() == [0.9, 0.2, 0.5, 0.6, 0.0]
    arrays = {name: np.array(ROWS[name]) for name in ("step", "label", "tokens", "onset_step")}
    assert with_columns(**arrays).digest() == with_columns().digest()
    booleans = [bool(v) for v in ROWS["label"]]
    assert with_columns(label=booleans).digest() == with_columns().digest()


@given(order=st.permutations(range(5)))
def test_shuffled_rows_are_the_same_trajectories(order: list[int]) -> None:
    moved = {name: [values[i] for i in order] for name, values in ROWS.items()}
    assert from_columns(**moved).digest() == with_columns().digest()
    assert from_columns(**moved).tokens.tolist() == with_columns().tokens.tolist()


@pytest.mark.parametrize(
    "change",
    [
        replaced("score", 1, 0.51),
        replaced("score", 5, 0.5),
        replaced("label", 5, 0),
        replaced("group", 5, "r"),
        replaced("trajectory_id", 5, "d"),
        {"trajectory_id": ["b", "a", "a", "b", "b"], "step": [1, 1, 2, 2, 3]},
        {"score": [0.5, 0.2, 0.9, 0.6, None]},
    ],
)
def test_the_digest_names_the_content(change: dict[str, list[Any]]) -> None:
    assert with_columns(**change).digest() != with_columns().digest()


def test_names_cannot_run_together_in_the_digest() -> None:
    def digest(*ids: str) -> str:
        n = len(ids)
        columns: dict[str, Any] = {"step": [1] * n, "score": [0.5] * n, "label": [1] * n}
        return from_columns(trajectory_id=list(ids), group=["g"] * n, **columns).digest()

    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a\ud800") != digest("a")
    assert digest("x").startswith("sha256:") and len(digest("x")) == 71


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("score", 4, "high"), r"row 4, column 'score': 'high' is not a number"),
        (replaced("score", 4, [1]), r"row 4, column 'score': \[1\] is not a number"),
        (replaced("score", 4, object), r"row 4, column 'score'"),
        (replaced("tokens", 2, "many"), r"row 2, column 'tokens': 'many' is not a number"),
        (replaced("tokens", 2, -1), r"row 2, column 'tokens': -1 is no count"),
        (replaced("tokens", 2, math.inf), r"row 2, column 'tokens': inf is not a whole"),
        (replaced("tokens", 2, None), r"row 2, column 'tokens': None is not a whole"),
        (replaced("label", 3, 2), r"row 3, column 'label': 2 is neither 1 \(safe\) nor 0"),
        (replaced("label", 3, -1), r"row 3, column 'label': -1 is neither"),
        (replaced("label", 3, 0.5), r"row 3, column 'label': 0.5 is not a whole number"),
        (replaced("label", 3, None), r"row 3, column 'label': None is not a whole number"),
        (replaced("label", 3, "safe"), r"row 3, column 'label': 'safe' is not a number"),
        (replaced("label", 3, 1), r"row 3, column 'label': trajectory 'a' says .* in row 2"),
        (replaced("step", 3, 1.5), r"row 3, column 'step': 1.5 is not a whole number"),
        (replaced("step", 3, math.nan), r"row 3, column 'step': nan is not a whole number"),
        (replaced("step", 3, math.inf), r"row 3, column 'step': inf is not a whole number"),
        (replaced("step", 3, "two"), r"row 3, column 'step': 'two' is not a number"),
        (replaced("step", 3, 1), r"row 3, column 'step': trajectory 'a' has step 1 twice .*row 2"),
        (replaced("step", 3, 3), r"row 3, column 'step': trajectory 'a' has step 3 where 2 was"),
        (replaced("step", 2, 0), r"row 2, column 'step': trajectory 'a' has step 0 where 1 was"),
        (replaced("step", 5, 2), r"row 5, column 'step': trajectory 'c' has step 2 where 1 was"),
        (replaced("step", 5, -1), r"row 5, column 'step': trajectory 'c' has step -1 where 1 was"),
        (replaced("group", 4, "q"), r"row 4, column 'group': trajectory 'b' says 'q'.*row 1"),
        (replaced("segment", 4, "z"), r"row 4, column 'segment': trajectory 'b' says 'z'.*row 1"),
        (replaced("onset_step", 3, 1), r"row 3, column 'onset_step': trajectory 'a' says .*row 2"),
        (replaced("onset_step", 3, 0.5), r"row 3, column 'onset_step': 0.5 is not a whole number"),
    ],
    ids=str,
)
def test_a_bad_value_is_named_by_row_and_column(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_columns(**change)


@pytest.mark.parametrize("column", [name for name in ROWS if name != "trajectory_id"])
def test_a_column_of_another_length_is_named(column: str) -> None:
    with pytest.raises(InputError, match=rf"column '{column}' has 4 rows, trajectory_id has 5"):
        with_columns(**{column: ROWS[column][:4]})


def test_no_rows_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no rows"):
        from_columns(trajectory_id=[], step=[], score=[], label=[])


def test_a_trajectory_that_is_too_long_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRAJECTORY_STEPS_MAX", 3)
    trajectories([[0.5] * 3])
    with pytest.raises(InputError, match="4 steps; at most 3"):
        trajectories([[0.5], [0.5] * 4])


def test_an_integer_beyond_all_floats_is_an_input_error() -> None:
    with pytest.raises(InputError, match="row 1, column 'score'"):
        with_columns(**replaced("score", 1, 10**400))


def test_a_step_beyond_all_integers_is_an_input_error() -> None:
    with pytest.raises(InputError, match="row 3, column 'step'"):
        with_columns(**replaced("step", 3, 1e300))


def test_an_error_shows_numbers_as_people_write_them() -> None:
    with pytest.raises(InputError, match="says 1 here and 0 in row 2"):
        with_columns(**replaced("label", 3, 1))


def test_a_score_of_two_dimensions_is_an_input_error() -> None:
    with pytest.raises(InputError):
        with_columns(score=np.zeros((5, 2)))


# ----------------------------------------------------------------------------------------- taking


def test_taking_keeps_each_trajectory_whole_and_the_order_asked_for() -> None:
    t = with_columns()
    for index in (np.array([2, 0]), np.array([1]), np.array([0, 1, 2]), np.array([], dtype=int)):
        part = t.take(index)
        assert part.ids.tolist() == [t.ids[i] for i in index]
        assert part.lengths.tolist() == [t.lengths[i] for i in index]
        for j, i in enumerate(index):
            mine = part.starts[j] + np.arange(part.lengths[j])
            its = t.starts[i] + np.arange(t.lengths[i])
            assert part.scores[mine].tobytes() == t.scores[its].tobytes()
            assert part.tokens[mine].tolist() == t.tokens[its].tolist()
            assert (part.safe[j], part.groups[j], part.segments[j], part.onset[j]) == (
                t.safe[i],
                t.groups[i],
                t.segments[i],
                t.onset[i],
            )
        assert (part.has_groups, part.has_tokens) == (t.has_groups, t.has_tokens)


def test_a_mask_takes_what_it_marks() -> None:
    t = with_columns()
    assert t.take(np.array([True, False, True])).digest() == t.take(np.array([0, 2])).digest()
    assert t.take(np.ones(3, dtype=bool)).digest() == t.digest()
    assert t.take(np.zeros(3, dtype=bool)).n == 0


def test_other_segments_leave_the_rest_alone() -> None:
    t = with_columns()
    other = t.with_segments(["m", "n", "o"])
    assert other.segments.tolist() == ["m", "n", "o"]
    assert other.digest() == t.digest()
    with pytest.raises(InputError, match="3 segments, got 2"):
        t.with_segments(["m", "n"])


# ----------------------------------------------------------------------------------------- tokens


def every_share(t: Trajectories) -> np.ndarray:
    """The share at every step, asked for one step of each trajectory at a time."""
    out = np.full(t.n_steps, np.nan)
    for step in range(int(t.lengths.max())):
        rows = t.starts + np.minimum(step, t.lengths - 1)
        out[rows] = t.share_of_tokens(rows)
    return out


@given(
    st.lists(
        st.lists(st.integers(0, 10**9), min_size=1, max_size=20),
        min_size=1,
        max_size=8,
    )
)
def test_the_share_of_tokens_is_the_plain_sum_and_ends_in_one(tokens: list[list[int]]) -> None:
    t = trajectories([[0.5] * len(row) for row in tokens], tokens=tokens)
    shares = np.split(every_share(t), t.starts[1:])
    for row, share in zip(tokens, shares, strict=True):
        assert share[-1] == 1.0
        assert ((share >= 0.0) & (share <= 1.0)).all()
        total = math.fsum(row)
        for i, value in enumerate(share[:-1]):
            wanted = math.fsum(row[: i + 1]) / total if total > 1e-6 else None
            assert wanted is None or value == pytest.approx(wanted, abs=1e-6)


def test_without_tokens_the_share_is_that_of_steps() -> None:
    t = trajectories([[0.5] * 4, [0.5] * 2, [0.5]], tokens=[[0] * 4, [1, 3], [0]])
    assert every_share(t).tolist() == [0.25, 0.5, 0.75, 1.0, 0.25, 1.0, 1.0]


def test_the_tokens_of_one_trajectory_do_not_change_the_share_of_another() -> None:
    t = trajectories([[0.5], [0.5, 0.5]], tokens=[[10**9], [1, 1]])
    assert every_share(t).tolist() == [1.0, 0.5, 1.0]
