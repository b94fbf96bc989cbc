"""
The promise: the front door calibrates, evaluates, saves and loads, and says what went wrong.

A file is written whole or not at all; a choice that is not understood is refused and never dropped;
every error is one that can be caught, shown, and carried between processes.
"""

import copy
import csv
import math
import os
import pickle
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import tocsin
from tocsin import (
    Calibration,
    CalibrationDamaged,
    CalibrationInfeasible,
    CalibrationMismatch,
    InputError,
    MissingExtra,
    MissingScore,
    Monitor,
    Plan,
    SessionMisuse,
    Signal,
    TocsinError,
    Trajectories,
)
from tocsin.errors import TocsinError as Base
from tocsin.evaluation.evaluate import Setting
from tocsin.model import Refusal
from tocsin.risk.calibrate import calibrate as pure
from tocsin.testing import worlds


def world(n: int = 300, unsafe_share: float = 0.4, seed: int = 0) -> Trajectories:
    return worlds.trajectories(n, unsafe_share, np.random.default_rng(seed))


def write_csv(data: Trajectories, path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["trajectory_id", "step", "score", "label", "tokens", "onset_step"])
        for row, i in enumerate(data.owner.tolist()):
            score, tokens = float(data.scores[row]), int(data.tokens[row])
            label, onset = int(data.safe[i]), int(data.onset[i])
            out.writerow([data.ids[i], data.step_number[row], repr(score), label, tokens, onset])
    return path


MADE = tocsin.calibrate(world(), statistic="min_score")


# ------------------------------------------------------------------------------------- calibrating


def test_the_front_door_gives_what_the_pure_function_gives() -> None:
    plan = Plan(epsilons=(0.1, 0.2), statistic="ewma", delta=0.05, seed=3)
    wanted = pure(world(), plan, library_version=tocsin.__version__)
    got = tocsin.calibrate(world(), epsilon=(0.1, 0.2), statistic="ewma", delta=0.05, seed=3)
    assert got == wanted
    assert tocsin.calibrate(world(), epsilon=[0.1, 0.2], statistic="ewma", delta=0.05, seed=3) == (
        wanted
    )


def test_a_file_and_its_trajectories_give_the_same(tmp_path: Path) -> None:
    path = write_csv(world(), tmp_path / "data.csv")
    for place in (path, str(path)):
        assert tocsin.calibrate(place, statistic="min_score") == MADE
    assert tocsin.read(path).digest() == world().digest()


def test_the_tour_of_the_library_holds() -> None:
    calibration = tocsin.calibrate(world(), epsilon=0.1, delta=0.1, statistic="min_score")
    session = Monitor(calibration).session()
    halted = any(session.step(s).alarm for s in (0.9, 0.8, 0.01)) or session.close().alarm
    assert halted
    assert "at most 10 %" in tocsin.guarantee(calibration).sentence()


def test_too_little_data_is_an_error_with_its_numbers() -> None:
    with pytest.raises(CalibrationInfeasible, match="needs at least 22 safe trajectories") as e:
        tocsin.calibrate(world(16, 6 / 16))
    refusal = e.value.refusal
    assert (refusal.n, refusal.n_needed, refusal.epsilon, refusal.delta) == (10, 22, 0.1, 0.1)
    assert str(e.value) == refusal.sentence()


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"alpha": 0.1}, "unknown choice 'alpha'; known: .*delta"),
        ({"epsilons": (0.05,)}, "unknown choice 'epsilons'; known: epsilon"),
        ({"delta": "0.1"}, "a choice does not fit: .*delta"),
        ({"bound": "ucb"}, "bound"),
        ({"epsilon": "0.1"}, "a choice does not fit"),
        ({"epsilon": ()}, "epsilon values"),
        ({"epsilon": 1.5}, "epsilon must lie strictly between 0 and 1"),
        ({"epsilon": math.nan}, "epsilon must lie strictly between 0 and 1"),
        ({"seed": 0.5}, "a choice does not fit: .*seed"),
        ({"seed": -1}, "seed must not be negative"),
        ({"signal": "probability"}, "a choice does not fit: .*signal"),
        ({"closing": True}, "'auto' brings its own closing check"),
    ],
    ids=str,
)
def test_a_choice_that_is_not_understood_is_refused(choices: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tocsin.calibrate(world(60), **choices)


def test_fitting_data_may_come_from_a_file(tmp_path: Path) -> None:
    whole = world(400)
    first, second = whole.take(np.arange(200)), whole.take(np.arange(200, 400))
    path = write_csv(first, tmp_path / "fit.csv")
    made = tocsin.calibrate(second, fit_on=path, statistic="posterior", epsilon=0.2)
    assert made.certificate().member.n == int(second.safe.sum())
    assert made.data.n_fit == 200
    with pytest.raises(InputError, match="promises nothing"):
        tocsin.calibrate(first, fit_on=path, statistic="posterior", epsilon=0.2)


def test_an_evaluation_takes_a_file_or_trajectories(tmp_path: Path) -> None:
    path = write_csv(world(120), tmp_path / "data.csv")
    setting = Setting(splits=2, monitors=("min_exact",), calibration_share=0.5)
    told: list[tuple[int, int]] = []
    report = tocsin.evaluate(path, setting, progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (2, 2)
    assert report.library_version == tocsin.__version__
    again = tocsin.evaluate(world(120), setting)
    assert msgspec.json.encode(again) == msgspec.json.encode(report)


# ------------------------------------------------------------------------------- saving and loading


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    for place in (path, str(path)):
        tocsin.save(MADE, place)
        assert tocsin.load(place) == MADE
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.json"]
    assert tocsin.load(path, {"verifier": "unspecified", "digest": MADE.digest}) == MADE
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_calibration_for_something_else_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    tocsin.save(MADE, path)
    with pytest.raises(CalibrationMismatch, match="verifier is 'unspecified', expected 'other'"):
        tocsin.load(path, {"verifier": "other", "kind": "probability"})


def test_a_damaged_file_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    tocsin.save(MADE, path)
    path.write_bytes(path.read_bytes().replace(b'"delta":0.1', b'"delta":0.2'))
    with pytest.raises(CalibrationDamaged, match="changed or damaged"):
        tocsin.load(path)


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for place in (tmp_path / "none" / "c.json", folder, tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="cannot write"):
            tocsin.save(MADE, place)
    assert [p.name for p in tmp_path.rglob("*")] == ["folder"]


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("os.fsync", "pathlib.Path.replace"):
        with monkeypatch.context() as patched:
            patched.setattr(name, fail)
            with pytest.raises(InputError, match="No space left"):
                tocsin.save(MADE, path)
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["c.json"]
    tocsin.save(MADE, path)
    assert tocsin.load(path) == MADE


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match="cannot read"):
            tocsin.load(place)


# ------------------------------------------------------------------------------------------ errors


REFUSAL = Refusal(bound="exact", epsilon=0.1, delta=0.1, n=10, n_needed=22, epsilon_smallest=0.2057)
ERRORS: list[Base] = [
    CalibrationInfeasible(REFUSAL),
    *(
        kind("what is wrong")
        for kind in (
            CalibrationDamaged, CalibrationMismatch, InputError, MissingExtra, MissingScore,
            SessionMisuse,
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_every_error_can_be_caught_and_carried_between_processes(error: Base) -> None:
    assert str(error)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_the_base_error_says_nothing_and_is_not_raised() -> None:
    with pytest.raises(TypeError, match="raise a subclass"):
        TocsinError("something")
    assert issubclass(InputError, ValueError)
    assert all(isinstance(error, TocsinError) for error in ERRORS)


# -------------------------------------------------------------------------------- what is offered


def test_every_public_name_is_there_and_no_other() -> None:
    for name in tocsin.__all__:
        assert getattr(tocsin, name) is not None
    assert dir(tocsin) == sorted(tocsin.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tocsin.nothing
    assert isinstance(MADE, Calibration)


def test_an_online_monitor_loads_neither_readers_nor_trainers(tmp_path: Path) -> None:
    """What a service that only watches has to import."""
    path = tmp_path / "c.json"
    tocsin.save(MADE, path)
    code = (
        "import sys, tocsin\n"
        f"session = tocsin.Monitor(tocsin.load({str(path)!r})).session()\n"
        "assert session.step(0.01).alarm\n"
        "print(sorted({'sklearn', 'pandas', 'matplotlib', 'pyarrow', 'click', 'rich'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_a_signal_is_part_of_a_calibration() -> None:
    signal = Signal(verifier="v", verifier_version="2", step_definition="line", kind="real")
    data = world()
    made = tocsin.calibrate(
        replace(data, scores=data.scores * 40.0 - 20.0), signal=signal, statistic="min_score"
    )
    assert made.signal == signal
    assert made.statistics[0].kind == "real"
