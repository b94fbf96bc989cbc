"""A calibration measured on new data: what its monitor does there, and when its promise fails."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tocsin
from tocsin.cli.main import cli
from tocsin.errors import CalibrationMismatch, InputError
from tocsin.evaluation.measured import measured
from tocsin.monitor import Monitor
from tocsin.risk.calibration import Calibration
from tocsin.risk.trajectories import Trajectories
from tocsin.testing import worlds


def world(n: int, seed: int, unsafe_share: float = 0.4) -> Trajectories:
    made = worlds.trajectories(n, unsafe_share, np.random.default_rng(seed))
    return made.with_segments(["ab"[i % 2] for i in range(made.n)])


def replayed(calibration: Calibration, data: Trajectories, epsilon: float) -> list[int]:
    """Return the alarm step of each trajectory, by the online monitor."""
    monitor = Monitor(calibration, epsilon=epsilon)
    steps = []
    for i in range(data.n):
        session = monitor.session(segment=str(data.segments[i]))
        start = int(data.starts[i])
        for score in data.scores[start : start + int(data.lengths[i])]:
            session.step(float(score))
        steps.append(session.close().alarm_step or 0)
    return steps


@pytest.mark.parametrize("per_segment", [False, True])
@pytest.mark.parametrize("statistic", ["min_score", "auto"])
def test_it_counts_what_the_online_monitor_does(statistic: str, *, per_segment: bool) -> None:
    calibration = tocsin.calibrate(
        world(600, 1), epsilon=[0.1, 0.2], statistic=statistic, per_segment=per_segment
    )
    data = world(200, 2)

    for found in measured(calibration, data):
        rang = np.array(replayed(calibration, data, found.epsilon)) > 0
        assert found.false_alarms.count == int((rang & data.safe).sum())
        assert found.detected.count == int((rang & ~data.safe).sum())
        for segment in found.segments:
            here = data.segments == segment.segment
            assert segment.false_alarms.count == int((rang & data.safe & here).sum())
            assert segment.detected.n == int((~data.safe & here).sum())


def test_a_promise_is_broken_only_where_the_data_say_so() -> None:
    calibration = tocsin.calibrate(world(800, 1), statistic="min_score")
    data = world(800, 5)
    unsafe_called_safe = tocsin.from_columns(
        trajectory_id=data.ids[data.owner],
        step=data.step_number,
        score=data.scores,
        label=np.ones(data.n_steps),
    )

    assert measured(calibration, data)[0].promise == "holds"
    assert measured(calibration, unsafe_called_safe)[0].promise == "broken"
    assert measured(calibration, data.take(~data.safe))[0].promise == "no data"


def test_missed_detections_are_judged_by_the_unsafe() -> None:
    calibration = tocsin.calibrate(world(800, 1), statistic="min_score", risk="missed_detection")
    data = world(800, 6)

    found = measured(calibration, data)[0]

    assert found.promise == "holds" and found.detected.share is not None
    assert found.detected.share > 0.85
    assert measured(calibration, data.take(data.safe))[0].promise == "no data"


def test_missing_scores_are_refused_where_the_policy_is_error() -> None:
    calibration = tocsin.calibrate(world(400, 1), statistic="min_score")
    data = tocsin.from_columns(trajectory_id=["a"], step=[1], score=[None], label=[1])

    with pytest.raises(InputError, match="1 scores are missing"):
        measured(calibration, data)


def test_the_command_prints_and_refuses_the_scores_of_another_verifier(tmp_path: Path) -> None:
    made = tmp_path / "c.json"
    signal = tocsin.Signal(verifier="v", verifier_version="1", step_definition="turn")
    tocsin.save(tocsin.calibrate(world(600, 1), statistic="min_score", signal=signal), made)
    data = world(300, 2)

    def write(verifier: str) -> str:
        path = tmp_path / f"{verifier}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            names = "trajectory_id step score label signal verifier verifier_version"
            out.writerow([*names.split(), "step_definition"])
            for row, i in enumerate(data.owner.tolist()):
                cells = (data.ids[i], data.step_number[row], data.scores[row], int(data.safe[i]))
                out.writerow([*cells, "probability", verifier, "1", "turn"])
        return str(path)

    done = CliRunner().invoke(cli, ["measure", str(made), write("v")], catch_exceptions=False)
    assert done.exit_code == 0 and "not contradicted" in " ".join(done.output.split())
    done = CliRunner().invoke(
        cli, ["measure", str(made), write("v"), "--json"], catch_exceptions=False
    )
    assert json.loads(done.output)["measured"][0]["promise"] == "holds"
    refused = CliRunner().invoke(cli, ["measure", str(made), write("w")])
    assert isinstance(refused.exception, CalibrationMismatch)
