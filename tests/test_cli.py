"""
The promise: the command line calibrates, explains, watches and evaluates as the library does.

Answers of `monitor` come line by line; an error is one clear line, exit status 1, and nothing
written; and no name out of a data file ever drives the terminal.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

import tocsin
from tocsin.cli import monitor as watching
from tocsin.cli.main import cli, main
from tocsin.cli.terminal import json_bytes, plain
from tocsin.limits import LINE_BYTES_MAX
from tocsin.monitor import Monitor
from tocsin.risk.plan import Plan
from tocsin.risk.trajectories import Trajectories
from tocsin.testing import worlds
from tocsin.testing.worlds import example_calibration

HOSTILE = "a\x1b[31m\x07\u202eb\x9b2J\u200bc"
"""A name that would colour, ring, turn round and clear the terminal."""


def write_csv(data: Trajectories, path: Path, segments: Sequence[str] | None = None) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["trajectory_id", "step", "score", "label", "tokens", "segment"])
        for row, i in enumerate(data.owner.tolist()):
            out.writerow(
                [
                    data.ids[i],
                    data.step_number[row],
                    repr(float(data.scores[row])),
                    int(data.safe[i]),
                    int(data.tokens[row]),
                    "all" if segments is None else segments[i],
                ]
            )
    return str(path)


def world(n: int = 400, seed: int = 0) -> Trajectories:
    return worlds.trajectories(n, 0.4, np.random.default_rng(seed))


@dataclass(frozen=True)
class Done:
    """What a run left behind."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What was printed, with all white space as single blanks."""
        return " ".join(self.out.split())


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the real entry point in this process."""

    def go(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["tocsin", *arguments])
        capfd.readouterr()
        try:
            main()
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 1
        else:
            status = 0
        captured = capfd.readouterr()
        return Done(status, captured.out, captured.err)

    return go


Run = Callable[..., Done]


def process(*arguments: str, given: bytes = b"", **environment: str) -> Done:
    """Run it as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tocsin", *arguments],
        input=given,
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    segments = ["odd" if i % 2 else "even" for i in range(400)]
    return write_csv(world(), folder / "world.csv", segments)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("calibration") / "c.json"
    tocsin.save(example_calibration(epsilon=0.1, delta=0.1), path)
    return str(path)


def check_error(done: Done, *words: str) -> None:
    assert done.status == 1
    assert done.out == ""
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.err


# --------------------------------------------------------------------------------- the whole way


def test_calibrate_explain_monitor_evaluate(run: Run, data: str, tmp_path: Path) -> None:
    target = tmp_path / "c.json"
    done = run(
        "calibrate", data, "--epsilon", "0.1,0.2", "--statistic", "min_score", "--out", str(target),
        "--verifier", "v1",
    )  # fmt: skip
    assert (done.status, done.err) == (0, "")
    made = tocsin.load(target, {"verifier": "v1"})
    wanted = tocsin.calibrate(
        data, epsilon=(0.1, 0.2), statistic="min_score", signal=tocsin.Signal(verifier="v1")
    )
    assert made == wanted
    assert made.digest in done.out.replace("\n", "")
    assert "n = 240 safe trajectories" in done.words
    assert "min_score" in done.out and "odd" in done.out and "even" in done.out

    done = run("explain", str(target), "--prevalence", "0.01")
    assert (done.status, done.err) == (0, "")
    assert made.digest in done.out.replace("\n", "")
    assert done.words.count("n = 240 safe trajectories") == 2
    assert "What would break the promise" in done.words
    assert "1.0 %" in done.words

    lines = b"".join(
        json.dumps({"trajectory_id": "r", "score": s}).encode() + b"\n" for s in (0.9, 0.01, 0.8)
    )
    done = process("monitor", str(target), "--epsilon", "0.1", given=lines)
    assert done.status == 0
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [a["alarm"] for a in answers] == [False, True, True]

    done = run("evaluate", data, "--splits", "2", "--monitors", "min_exact,ewma_exact", "--jobs",
               "1", "--calibration-share", "0.5")  # fmt: skip
    assert (done.status, done.err) == (0, "")
    assert "min_exact" in done.out and "ewma_exact" in done.out
    assert "2 splits" in done.words


def test_the_json_of_calibrate_holds_the_certificates_and_their_sentences(
    run: Run, data: str, tmp_path: Path
) -> None:
    target = str(tmp_path / "c.json")
    done = run("calibrate", data, "--epsilon", "0.001,0.1", "--statistic", "min_score", "--json",
               "--out", target)  # fmt: skip
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    made = tocsin.load(target)
    assert found["digest"] == made.digest
    assert found["written_to"] == target
    (certificate,) = found["certificates"]
    assert certificate["sentence"] == tocsin.guarantee(made).sentence()
    assert certificate["threshold"] == made.certificate().threshold
    assert certificate["members"][0]["n"] == 240
    (refused,) = found["refused"]
    assert refused["n_needed"] == 2302 and "needs at least 2302" in refused["sentence"]
    assert "statistics" not in found


def test_the_json_of_explain_holds_what_is_printed(run: Run, calibration: str) -> None:
    found = json.loads(run("explain", calibration, "--json", "--prevalence", "0.25").out)
    (certificate,) = found["certificates"]
    assert certificate["planning"][0]["n"] == 22
    assert [p["prevalence"] for p in certificate["at_prevalence"]] == [0.25]
    assert found["digest"] == tocsin.load(calibration).digest
    assert len(found["breaks"]) >= 5 and len(found["curve"]) >= 10


def test_the_json_of_evaluate_is_the_report(run: Run, data: str) -> None:
    done = run("evaluate", data, "--json", "--splits", "2", "--monitors", "min_exact,paper_crc",
               "--jobs", "1", "--epsilon", "0.1,0.2", "--seed", "4")  # fmt: skip
    found = json.loads(done.out)
    assert done.err == ""
    assert [(r["monitor"], r["epsilon"]) for r in found["results"]] == [
        ("paper_crc", 0.1), ("paper_crc", 0.2), ("min_exact", 0.1), ("min_exact", 0.2),
    ]  # fmt: skip
    assert {s["segment"] for s in found["segments"]} == {"odd", "even"}
    assert found["setting"]["seed"] == 4
    assert found["library_version"] == tocsin.__version__


def test_options_reach_the_plan(run: Run, tmp_path: Path) -> None:
    data = write_csv(
        replace(world(600), groups=np.array([f"g{i // 2}" for i in range(600)], dtype=object)),
        tmp_path / "d.csv",
    )
    target = str(tmp_path / "c.json")
    done = run(
        "calibrate", data, "--out", target, "--risk", "missed-detection", "--delta", "0.2",
        "--bound", "hoeffding_bentkus", "--statistic", "ewma", "--closing", "--objective", "saved",
        "--missing", "worst", "--unit", "trajectory", "--fit-share", "0.25", "--seed", "7",
        "--signal", "real", "--verifier", "v", "--verifier-version", "2", "--step-definition",
        "line", "--per-segment", "--segment-column", "segment",
    )  # fmt: skip
    assert (done.status, done.err) == (0, "")
    made = tocsin.load(target)
    certificate = made.certificate()
    assert (certificate.risk, certificate.delta, certificate.bound) == (
        "missed_detection", 0.2, "hoeffding_bentkus",
    )  # fmt: skip
    assert certificate.member.label == "ewma+closing"
    assert (made.objective, made.missing, made.unit) == ("saved", "worst", "trajectory")
    assert (made.fit_share, made.seed, made.data.n_fit) == (0.25, 7, 150)
    assert made.signal == tocsin.Signal(
        kind="real", verifier="v", verifier_version="2", step_definition="line"
    )


def test_columns_may_have_other_names_and_fitting_data_a_file_of_its_own(
    run: Run, tmp_path: Path
) -> None:
    whole = world(600)
    text = Path(write_csv(whole.take(np.arange(0, 600, 2)), tmp_path / "a.csv")).read_text("utf-8")
    (tmp_path / "a.csv").write_text(text.replace("score", "p_safe", 1), "utf-8")
    text = Path(write_csv(whole.take(np.arange(1, 600, 2)), tmp_path / "b.csv")).read_text("utf-8")
    (tmp_path / "b.csv").write_text(text.replace("score", "p_safe", 1), "utf-8")
    target = str(tmp_path / "c.json")
    done = run("calibrate", str(tmp_path / "a.csv"), "--fit-data", str(tmp_path / "b.csv"),
               "--column", "score=p_safe", "--statistic", "posterior", "--out", target)  # fmt: skip
    assert (done.status, done.err) == (0, "")
    assert tocsin.load(target).certificate().member.n == 180
    assert run("calibrate", str(tmp_path / "a.csv"), "--score-column", "p_safe").status == 0


# ------------------------------------------------------------------------------------------ errors


def test_an_error_is_one_line_and_nothing_is_written(run: Run, data: str, tmp_path: Path) -> None:
    target = tmp_path / "c.json"
    few = write_csv(world(20), tmp_path / "few.csv")
    kept = ["few.csv"]
    out = ("--out", str(target))
    cases: list[tuple[tuple[str, ...], str]] = [
        ((few, "--statistic", "min_score"), "needs at least 22 safe trajectories"),
        ((few, "--statistic", "posterior"), "at least 10 safe and 10 unsafe"),
        ((str(tmp_path / "none.csv"),), "no such file"),
        ((str(tmp_path),), "must end in one of"),
        ((data, "--epsilon", "a tenth"), "give numbers separated by commas"),
        ((data, "--epsilon", ""), "give numbers separated by commas"),
        ((data, "--epsilon", "nan"), "epsilon must lie strictly between"),
        ((data, "--epsilon", "0.2,0.1"), "must increase"),
        ((data, "--delta", "0"), "delta must lie strictly between"),
        ((data, "--seed", "-1"), "seed must not be negative"),
        ((data, "--closing"), "'auto' brings its own closing check"),
        ((data, "--epsilon-missed", "0.1"), "needs risk 'both'"),
        ((data, "--risk", "both", "--epsilon-missed", "0"), "epsilon must lie strictly between"),
        ((data, "--risk", "both", "--epsilon", "0.02", "--statistic", "min_score"), "cross"),
        ((data, "--column", "score"), "write OURS=THEIRS"),
        ((data, "--score-column", "nothing"), "nothing"),
        ((data, "--fit-data", data), "promises nothing"),
        ((data, "--sign", str(tmp_path / "no.pem")), "cannot read the key"),
        ((data, "--statistic", "min_score", "--sign", few), "no unencrypted PEM private key"),
    ]
    for arguments, words in cases:
        check_error(run("calibrate", *arguments, *out), words)
        assert sorted(p.name for p in tmp_path.iterdir()) == kept, arguments
        check_error(run("calibrate", *arguments, *out, "--json"), words)
        target.write_bytes(b"old")
        check_error(run("calibrate", *arguments, *out), words)
        assert target.read_bytes() == b"old"
        target.unlink()


def test_a_place_that_cannot_be_written_is_an_error(run: Run, data: str, tmp_path: Path) -> None:
    for place in (tmp_path / "none" / "c.json", tmp_path):
        done = run("calibrate", data, "--statistic", "min_score", "--out", str(place))
        check_error(done, "cannot write")
    assert list(tmp_path.iterdir()) == []


def test_explain_and_monitor_refuse_what_they_cannot_trust(
    run: Run, calibration: str, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.json"
    damaged.write_bytes(Path(calibration).read_bytes().replace(b'"delta":0.1', b'"delta":0.2'))
    junk = tmp_path / "junk.json"
    junk.write_bytes(b"\xff\xfe not a calibration " + b"[" * 50_000)
    for command in ("explain", "monitor"):
        check_error(run(command, str(damaged)), "changed or damaged")
        check_error(run(command, str(junk)), "not a calibration")
        check_error(run(command, str(tmp_path / "none.json")), "cannot read")
        check_error(run(command, calibration, "--epsilon", "0.3"), "choose one certificate")
    check_error(run("explain", calibration, "--prevalence", "1.5"), "between 0 and 1")
    for option in ("--verifier", "--verifier-version", "--step-definition"):
        check_error(run("monitor", calibration, option, "another"), "made for something else")
    check_error(run("monitor", calibration, "--trust", str(tmp_path / "no.pem")), "cannot read")
    check_error(run("monitor", calibration, "--trust", str(junk)), "no PEM public key")


def test_evaluate_refuses_what_it_cannot_do(run: Run, data: str, tmp_path: Path) -> None:
    cases: list[tuple[tuple[str, ...], str]] = [
        (("--monitors", "magic"), "unknown monitor 'magic'"),
        (("--splits", "0"), "at least 1"),
        (("--jobs", "0"), "at least 1"),
        (("--calibration-share", "1"), "between 0 and 1"),
        (("--calibration-size", "400"), "nothing on one side"),
        (("--figure", str(tmp_path / "figure.gif")), "must end in .png or .svg"),
        (("--seed", "-3"), "seed must not be negative"),
    ]
    for arguments, words in cases:
        check_error(run("evaluate", data, *arguments), words)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_option_is_a_usage_error(run: Run, data: str) -> None:
    for arguments in (
        ("calibrate", data, "--nothing"),
        ("calibrate",),
        ("calibrate", data, "--bound", "ucb"),
        ("nothing",),
        ("calibrate", data, "--delta", "x"),
        ("demo", "--seed", "-1"),
    ):
        done = run(*arguments)
        assert (done.status, done.out) == (2, "")
        assert "Error: " in done.err and "Traceback" not in done.err


def test_a_signed_calibration_is_trusted_by_its_key(run: Run, data: str, tmp_path: Path) -> None:
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    kind = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    key, other = (kind.Ed25519PrivateKey.generate() for _ in range(2))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    for name, public in (("good.pem", key.public_key()), ("bad.pem", other.public_key())):
        (tmp_path / name).write_bytes(
            public.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    target = str(tmp_path / "c.json")
    done = run("calibrate", data, "--statistic", "min_score", "--out", target, "--sign",
               str(tmp_path / "key.pem"))  # fmt: skip
    assert (done.status, done.err) == (0, "")
    good = process("monitor", target, "--trust", str(tmp_path / "good.pem"))
    assert (good.status, good.out, good.err) == (0, "", "")
    check_error(run("monitor", target, "--trust", str(tmp_path / "bad.pem")), "not by this key")


# ------------------------------------------------------------------------------------ the monitor


def watched(monitor: Monitor, *lines: Any) -> tuple[int, list[dict[str, Any]]]:
    """Feed lines, given as text or as objects."""
    source = b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )
    sink = BytesIO()
    failed = watching.watch(monitor, BytesIO(source), sink)
    return failed, [json.loads(line) for line in sink.getvalue().splitlines()]


@pytest.fixture
def alert() -> Monitor:
    return Monitor(example_calibration(epsilon=0.1, delta=0.1))


@contextmanager
def streaming(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tocsin", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def test_each_line_is_answered_before_the_next_is_read(calibration: str) -> None:
    session = Monitor(tocsin.load(calibration)).session()
    with streaming("monitor", calibration) as child:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        for score in (0.95, 0.7, 0.05, 0.99):
            child.stdin.write(json.dumps({"trajectory_id": "r1", "score": score}).encode() + b"\n")
            child.stdin.flush()
            answer = json.loads(child.stdout.readline())
            decision = session.step(score)
            assert answer["trajectory_id"] == "r1"
            assert answer["step"] == decision.step
            assert (answer["alarm"], answer["rang"]) == (decision.alarm, decision.rang)
            assert answer["statistic"] == decision.statistic
            assert answer["threshold"] == decision.threshold
        child.stdin.write(b'{"trajectory_id": "r1", "end": true}\n')
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["alarm_step"] == 3
        child.stdin.close()
        assert child.stdout.read() == b"" and child.stderr.read() == b""
        assert child.wait(30) == 0


def test_interleaved_responses_do_not_mix(alert: Monitor) -> None:
    rows = {"a": [0.9, 0.01, 0.8], "b": [0.9, 0.8, 0.85, 0.7], 7: [0.02], "7": [0.99, 0.98]}
    lines: list[dict[str, Any]] = []
    rest = {name: list(scores) for name, scores in rows.items()}
    rng = np.random.default_rng(1)
    while any(rest.values()):
        name = [n for n, scores in rest.items() if scores][
            int(rng.integers(sum(map(bool, rest.values()))))
        ]
        line: dict[str, Any] = {"trajectory_id": name, "score": rest[name].pop(0)}
        if not rest[name]:
            line["end"] = True
        lines.append(line)
    failed, answers = watched(alert, *lines)
    assert failed == 0
    for name, scores in rows.items():
        session = alert.session()
        wanted = [*(session.step(s) for s in scores), session.close()]
        got = [a for a in answers if a["trajectory_id"] == name]
        assert [(a["step"], a["alarm"], a["closing"]) for a in got] == [
            (d.step, d.alarm, d.closing) for d in wanted
        ]


BAD = [
    b"not json",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b'{"trajectory_id": "x"}',
    b'{"trajectory_id": "x", "score": "0.5"}',
    b'{"trajectory_id": "x", "score": true}',
    b'{"trajectory_id": "x", "score": 1.5}',
    b'{"trajectory_id": "x", "score": -1}',
    b'{"trajectory_id": "x", "score": 1e999}',
    b'{"trajectory_id": "x", "score": NaN}',
    b'{"trajectory_id": "x", "score": null}',
    b'{"trajectory_id": null, "score": 0.5}',
    b'{"trajectory_id": "x\xff", "score": 0.5}',
    b'{"trajectory_id": "\\ud800", "score": 0.5}',
    b'{"trajectory_id": "x", "score": 0.5, "end": "yes"}',
    b'{"trajectory_id": "x", "deep": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"trajectory_id": "x", "pad": "' + b"x" * LINE_BYTES_MAX + b'"}',
    b'{"trajectory_id": "x", "pad": "' + b"x" * 3 * LINE_BYTES_MAX,
]


@pytest.mark.parametrize("bad", BAD, ids=lambda b: b[:40].decode("ascii", "replace"))
def test_a_line_that_cannot_be_used_is_answered_and_changes_nothing(
    alert: Monitor, bad: bytes
) -> None:
    good = [{"trajectory_id": "x", "score": s} for s in (0.9, 0.8, 0.01)]
    _, wanted = watched(alert, *good)
    failed, answers = watched(alert, good[0], bad, good[1], b"", bad, b"  ", good[2])
    assert failed == 2
    errors = [a for a in answers if "error" in a]
    assert [a for a in answers if "error" not in a] == wanted
    assert [a["line"] for a in errors] == [2, 5]
    assert all(a["error"] for a in errors)


def test_a_first_line_that_cannot_be_used_opens_nothing(
    alert: Monitor, capsys: pytest.CaptureFixture[str]
) -> None:
    failed, answers = watched(
        alert,
        {"trajectory_id": "x", "score": 9.0, "segment": "odd"},
        {"trajectory_id": "y", "end": True},
        {"trajectory_id": "x", "score": 0.9, "segment": "even", "end": True},
    )
    assert failed == 2
    assert ["error" in a for a in answers] == [True, True, False, False]
    assert "ended without any score" in answers[1]["error"]
    assert capsys.readouterr().err == ""


def test_a_response_stays_in_the_segment_that_it_began_in(alert: Monitor) -> None:
    failed, answers = watched(
        alert,
        {"trajectory_id": "x", "score": 0.9, "segment": "odd"},
        {"trajectory_id": "x", "score": 0.9, "segment": "even"},
        {"trajectory_id": "x", "score": 0.9},
        {"trajectory_id": "x", "score": 0.9, "segment": "odd"},
    )
    assert failed == 1
    assert "segment 'odd'" in answers[1]["error"]
    assert [a.get("step") for a in answers] == [1, None, 2, 3]


def test_bad_lines_make_the_exit_status_one_and_the_rest_is_watched(calibration: str) -> None:
    lines = b'junk\n{"trajectory_id": "r", "score": 0.9}\n{"trajectory_id": "r", "end": true}\n'
    done = process("monitor", calibration, given=lines)
    assert done.status == 1
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert "error" in answers[0] and answers[0]["line"] == 1
    assert [a["closing"] for a in answers[1:]] == [False, True]
    assert done.err == ""


def test_responses_left_open_are_mentioned_and_no_error(calibration: str) -> None:
    done = process("monitor", calibration, given=b'{"trajectory_id": "r", "score": 0.9}')
    assert done.status == 0
    assert json.loads(done.out)["step"] == 1
    assert "1 response(s) did not end" in done.err


def test_a_response_may_begin_again_after_its_end(alert: Monitor) -> None:
    line = {"trajectory_id": "r", "score": 0.01, "end": True}
    failed, answers = watched(alert, line, {"trajectory_id": "r", "score": 0.9})
    assert failed == 0
    assert [(a["step"], a["alarm"]) for a in answers] == [(1, True), (1, True), (1, False)]


def test_a_score_that_is_not_there_follows_the_policy() -> None:
    data = world(300)
    for policy, alarm in (("skip", False), ("worst", True)):
        made = tocsin.calibrate(data, statistic="min_score", missing=policy)
        failed, answers = watched(
            Monitor(made),
            {"trajectory_id": "r", "score": 0.9},
            {"trajectory_id": "r", "score": None},
        )
        assert failed == 0
        assert (answers[1]["alarm"], answers[1]["missing"]) == (alarm, True)
        assert answers[1]["statistic"] == ("Infinity" if alarm else -0.9)


def test_a_segment_is_watched_at_its_own_threshold() -> None:
    data = world(600).with_segments(["odd" if i % 2 else "even" for i in range(600)])
    made = tocsin.calibrate(data, statistic="min_score", per_segment=True)
    monitor = Monitor(made)
    names = ("odd", "even", "unknown")
    _, answers = watched(
        monitor, *({"trajectory_id": n, "score": 0.9, "segment": n} for n in names)
    )
    assert [a["threshold"] for a in answers] == [monitor.threshold(n) for n in names]
    assert len({a["threshold"] for a in answers}) == 3


def test_the_number_of_open_responses_is_bounded(
    alert: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "OPEN_SESSIONS_MAX", 2)
    failed, answers = watched(
        alert,
        *({"trajectory_id": n, "score": 0.9} for n in "abc"),
        {"trajectory_id": "a", "end": True},
        {"trajectory_id": "c", "score": 0.9},
    )
    assert failed == 1
    assert "2 responses are open" in answers[2]["error"]
    assert answers[-1]["step"] == 1


# -------------------------------------------------------------------------------- hostile names


def visible(text: str) -> None:
    """Nothing but plain characters, new lines aside."""
    assert plain(text) == text
    assert "\x1b" not in text and "\x9b" not in text and "\u202e" not in text


def test_hostile_names_never_reach_the_terminal_raw(run: Run, tmp_path: Path) -> None:
    data = world(400)
    data = replace(data, ids=np.array([f"{HOSTILE} {i:04d}" for i in range(400)], dtype=object))
    segments = [f"{HOSTILE}{i % 2}" for i in range(400)]
    path = write_csv(data, tmp_path / "d.csv", segments)
    target = str(tmp_path / "c.json")
    runs = [
        run("calibrate", path, "--statistic", "min_score", "--out", target, "--verifier", HOSTILE),
        run("calibrate", path, "--statistic", "min_score", "--json", "--verifier", HOSTILE),
        run("explain", target),
        run("explain", target, "--json"),
        run("evaluate", path, "--splits", "1", "--monitors", "min_exact", "--jobs", "1"),
        run("evaluate", path, "--splits", "1", "--monitors", "min_exact", "--jobs", "1", "--json"),
    ]
    for done in runs:
        assert (done.status, done.err) == (0, "")
        visible(done.out)
    assert r"\x1b" in runs[0].out and r"\u001b" in runs[1].out
    assert json.loads(runs[1].out)["signal"]["verifier"] == HOSTILE
    assert {s["segment"] for s in json.loads(runs[5].out)["segments"]} == set(segments)

    broken = replace(data, scores=np.where(data.owner == 3, 7.0, data.scores))
    for arguments in (("calibrate",), ("evaluate",), ("calibrate", "--json")):
        done = run(arguments[0], write_csv(broken, tmp_path / "b.csv"), *arguments[1:])
        check_error(done, "is no probability")
        visible(done.err)
    refused = run("monitor", target, "--verifier", "b")
    check_error(refused, "made for something else")
    visible(refused.err)


def test_a_hostile_response_is_answered_by_its_own_name_and_harmlessly(calibration: str) -> None:
    lines = [
        {"trajectory_id": HOSTILE, "score": 0.9},
        {"trajectory_id": HOSTILE, "score": 9.0},
        {"trajectory_id": HOSTILE + "\n\u2028", "score": 0.9, "segment": HOSTILE},
        {"trajectory_id": HOSTILE, "score": HOSTILE},
    ]
    given = b"".join(json.dumps(x, ensure_ascii=False).encode() + b"\n" for x in lines)
    done = process("monitor", calibration, given=given + HOSTILE.encode() + b"\n")
    assert done.status == 1
    visible(done.out)
    visible(done.err)
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [a["trajectory_id"] for a in answers] == [
        HOSTILE, HOSTILE, HOSTILE + "\n\u2028", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "plain", "\u00e9\u4e2d\U0001f600", HOSTILE, "\x7f\x00\ue000\U000e0041\U000f0000"]
)
def test_json_for_a_terminal_keeps_the_value(text: str) -> None:
    raw = json_bytes({"id": text, text: [text]})
    assert json.loads(raw) == {"id": text, text: [text]}
    visible(raw.decode())


# ------------------------------------------------------------------------------- help, and pipes


COMMANDS = ("calibrate", "monitor", "evaluate", "explain", "demo")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_option_with_its_words(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    words = " ".join(shown.output.split())
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert options
    for option in options:
        assert option.help and len(option.help) > 5, option.name
        assert all(form in words for form in option.opts)
        assert " ".join(option.help.split())[:20] in words
    assert (command.help or "").split("\n")[0][:30] in words
    assert command.short_help
    if name != "demo":
        assert CliRunner().invoke(cli, [name]).exit_code == 2


def test_help_lists_every_command(run: Run) -> None:
    done = run("--help")
    assert done.status == 0
    for name in COMMANDS:
        assert f"  {name}" in done.out
    assert run("--version").out.strip().endswith(tocsin.__version__)
    assert run("-h").out == done.out


def test_every_choice_of_a_plan_is_an_option() -> None:
    command = cli.get_command(click.Context(cli), "calibrate")
    assert command is not None
    names = {p.name for p in command.params}
    assert set(Plan.__struct_fields__) - {"epsilons", "signal"} <= names
    assert {"epsilon", "signal", "verifier", "verifier_version", "step_definition"} <= names


def test_a_broken_pipe_is_quiet(calibration: str) -> None:
    with streaming("monitor", calibration) as child:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        line = json.dumps({"trajectory_id": "r", "score": 0.9}).encode() + b"\n"
        child.stdin.write(line)
        child.stdin.flush()
        child.stdout.readline()
        child.stdout.close()
        child.stdin.write(line)
        child.stdin.flush()
        assert child.stderr.read() == b""
        assert child.wait(30) != 0


def test_explain_into_a_closed_pipe_is_quiet(calibration: str) -> None:
    with streaming("explain", calibration) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
        child.wait(30)


# -------------------------------------------------------------------------------------- the demo


def test_the_demo_without_data_says_that_its_world_is_simulated(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.cli.demo._WORLD_SIZE", 1_000)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.delenv("TOCSIN_DATA", raising=False)
    done = run("demo", "--splits", "1")
    assert (done.status, done.err) == (0, "")
    assert "TOCSIN_DATA is not set" in done.words
    assert "simulated" in done.words and "world" in done.words
    assert "real data" not in done.words
    for word in ("calibrate", "ALARM", "evaluate", "paper_crc", "auto"):
        assert word in done.words
    monkeypatch.setenv("TOCSIN_DATA", str(tmp_path))
    from tocsin.cli.demo import demo_data

    _, what = demo_data(0)
    assert "TOCSIN_DATA holds no ev_math.parquet" in what and "simulated" in what


def test_the_demo_refuses_a_folder_that_cannot_be_made(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.cli.demo._WORLD_SIZE", 400)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.delenv("TOCSIN_DATA", raising=False)
    (tmp_path / "file").write_bytes(b"")
    done = run("demo", "--splits", "1", "--out", str(tmp_path / "file"))
    assert done.status == 1
    assert done.err.splitlines()[-1].startswith("error: cannot make the folder")
    assert "Traceback" not in done.err


def test_what_was_typed_is_made_harmless_before_it_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tocsin", "calibrate", "a.csv", HOSTILE])

    with pytest.raises(SystemExit) as left:
        main()

    shown = capsys.readouterr().err
    assert left.value.code == 2 and "unexpected extra argument" in shown
    assert not set(HOSTILE) & {"\x1b", "\x07", "\u202e", "\x9b"} & set(shown)
