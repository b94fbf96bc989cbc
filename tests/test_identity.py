"""A file says whose scores each of its columns holds, and nobody can take one for another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tocsin
from tocsin.errors import InputError
from tocsin.evaluation.identity import identity_columns, read_identity, read_signal
from tocsin.evaluation.writing import write_columns
from tocsin.testing import worlds

MINE = tocsin.Signal(verifier="mine", verifier_version="7", step_definition="line")
OTHER = tocsin.Signal(kind="real", verifier="other", verifier_version="8", step_definition="line")


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    data = worlds.trajectories(300, 0.4, np.random.default_rng(1))
    said = identity_columns(MINE) | identity_columns(OTHER, "score_b")
    path = tmp_path / "scored.csv"
    write_columns(
        path,
        {
            "trajectory_id": data.ids[data.owner],
            "step": data.step_number,
            "score": data.scores,
            "score_b": data.scores,
            "score_c": data.scores,
            "label": data.safe[data.owner].astype(np.int64),
            **{name: [value] * data.n_steps for name, value in said.items()},
        },
    )
    return path


def test_each_column_has_its_own_identity(scored: Path) -> None:
    assert read_signal(scored) == MINE
    assert read_signal(scored, "score_b") == OTHER
    assert read_identity(scored, "score_c") == {}
    assert read_signal(scored, "score_c") == tocsin.Signal()


def test_the_library_takes_the_identity_from_the_file_as_the_command_does(scored: Path) -> None:
    assert tocsin.calibrate(scored, epsilon=0.2).signal == MINE
    assert tocsin.calibrate(scored, epsilon=0.2, signal=OTHER).signal == OTHER
    assert tocsin.calibrate(tocsin.read(scored), epsilon=0.2).signal == tocsin.Signal()


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.jsonl"
    said = identity_columns(MINE)
    columns = {name: [value, value] for name, value in said.items()} | {"verifier": ["a", "b"]}
    write_columns(path, columns)

    with pytest.raises(InputError, match="column 'verifier' holds 2 values"):
        read_identity(path)

    write_columns(path, columns | {"verifier": ["a", "a"], "signal": ["odd", "odd"]})
    with pytest.raises(InputError, match="neither probability nor real"):
        read_signal(path)
