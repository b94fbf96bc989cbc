"""Labelled text is read as it stands, and a flaw is an error that names file, row and column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tocsin.errors import InputError
from tocsin.evaluation.texts import read_texts
from tocsin.evaluation.writing import write_columns

COLUMNS: dict[str, list[Any]] = {
    "trajectory_id": ["b", "a", "b"],
    "step": [2, 1, 1],
    "text": ["second", "NA", ""],
    "obs": ["seen", None, "before"],
    "label": [0, 1, 0],
    "group": ["g", "h", "g"],
    "onset_step": [2, -1, 2],
    "tokens": [3, 4, 5],
    "colour": ["red", "blue", "green"],
}


def written(path: Path, **changes: Any) -> Path:
    write_columns(path, {k: v for k, v in (COLUMNS | changes).items() if v is not None})
    return path


@pytest.mark.parametrize("suffix", ["parquet", "csv", "csv.gz", "jsonl", "jsonl.gz"])
def test_what_is_written_is_read_sorted_by_trajectory_and_step(tmp_path: Path, suffix: str) -> None:
    texts = read_texts(written(tmp_path / f"data.{suffix}"), extra=["colour"])

    assert texts.trajectory_id.tolist() == ["b", "b", "a"]
    assert texts.step.tolist() == [1, 2, 1]
    assert texts.text.tolist() == ["", "second", "NA"]
    assert texts.obs.tolist() == ["before", "seen", ""]
    assert texts.label is not None and texts.label.tolist() == [0, 0, 1]
    assert texts.group is not None and texts.group.tolist() == ["g", "g", "h"]
    assert texts.tokens is not None and texts.tokens.tolist() == [5, 3, 4]
    assert texts.onset_step is not None and texts.onset_step.tolist() == [2, 2, -1]
    assert list(texts.extra["colour"]) == ["green", "red", "blue"]
    assert texts.source is None and texts.starts.tolist() == [0, 2, 3]


def test_columns_of_other_names_are_read_in_our_meaning(tmp_path: Path) -> None:
    path = written(tmp_path / "data.jsonl", answer=COLUMNS["text"], text=None)

    texts = read_texts(path, columns={"text": "answer"})

    assert texts.text.tolist() == ["", "second", "NA"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": None}, "no column 'text'"),
        ({"label": [0, 1, 1]}, "row 1, column 'label'"),
        ({"label": [0, 1, 7]}, "row 3, column 'label'"),
        ({"step": [3, 1, 1]}, "row 1, column 'step'"),
        ({"step": [1, 1, 1]}, "row 3, column 'step'"),
        ({"tokens": [1, -1, 1]}, "row 2, column 'tokens'"),
        ({"trajectory_id": ["b", "", "b"]}, "row 2, column 'trajectory_id'"),
        ({"group": ["g", "h", "k"]}, "column 'group'"),
    ],
)
def test_a_flaw_names_the_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = written(tmp_path / "data.jsonl", **changes)

    with pytest.raises(InputError, match=message) as caught:
        read_texts(path)

    assert str(path) in str(caught.value)


def test_missing_values_are_written_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    write_columns(path, {"score": np.array([0.5, np.nan]), "text": ["a", "b"]})

    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {"score": 0.5, "text": "a"},
        {"score": None, "text": "b"},
    ]


def test_a_name_without_a_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in one of \.parquet"):
        write_columns(tmp_path / "out.txt", {"score": [1.0]})
