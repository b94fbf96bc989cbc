"""`tocsin receipt`, as a person and as a script meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from guarded_streams import run
from offline import heavy_parts
from receipts.attack_making import FOLDER
from receipts.recorded import Files, calibration, receipt
from receipts.small_log import SmallLog, filled

from tocsin import calibration_file
from tocsin.cli.main import cli
from tocsin.cli.receipt_drawing import sparkline
from tocsin.guarding.plan import Check, Guard, Verdict
from tocsin.guarding.receipt import FailureRecord, Who
from tocsin.model import TEXT
from tocsin.monitor import Monitor
from tocsin.receipts import LogEntry
from tocsin.risk.calibration import to_json
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.linear import demonstration, from_spec

HOSTILE = "\x1b[31mred\u202e\x07[bold]not bold[/bold]\u2028"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path, receipt())


def tocsin(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["receipt", *map(str, arguments)])


def good(*arguments: object) -> str:
    result = tocsin(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


# -------------------------------------------------------------------------------------- verify


def test_verify_needs_the_public_key_alone(files: Files) -> None:
    for key in (files.key, files.log.key.line, files.log.signer.public.line):
        said = good("verify", files.proof, "--key", key)
        assert "receipt r_1 of acme is entry 3 of the 4 of example.com/log/acme" in said
        assert "was recorded" in said and "That it was correct" in said
    shown = json.loads(good("verify", files.proof, "--key", files.key, "--json"))
    assert shown["good"] is True
    assert shown["results"][0] | {"says": ""} == {
        "file": str(files.proof), "good": True, "says": "", "kind": "receipt", "id": "r_1",
        "tenant": "acme", "sequence": 3, "origin": "example.com/log/acme", "index": 3, "size": 4,
    }  # fmt: skip


def test_one_bad_file_among_good_ones_is_status_1(files: Files, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tlog-proof"
    bad.write_text(files.proof.read_text().replace("index 3", "index 2"))
    empty = tmp_path / "empty"
    empty.touch()
    for wrong, is_proof in (
        (bad, True), (files.bare, False), (files.entry, False), (files.key, False), (empty, False)
    ):  # fmt: skip
        result = tocsin("verify", files.proof, wrong, "--key", files.key)
        assert result.exit_code == 1
        said = " ".join(result.output.split())
        assert "good" in said
        assert ("BAD" in said, "proves nothing" in said) == (is_proof, is_proof)
        assert ("shows nothing, for or against" in said) is (not is_proof)
    result = tocsin("verify", files.proof, bad, empty, "--key", files.key, "--json")
    assert result.exit_code == 1
    results = json.loads(result.output)["results"]
    assert [r["good"] for r in results] == [True, False, False]
    assert [r.get("proof") for r in results] == [None, True, False]
    stranger = filled(1, "acme", bytes(32)).key.line
    assert tocsin("verify", files.proof, "--key", stranger).exit_code == 1


def test_a_file_that_was_cut_off_is_refused_and_the_error_says_so(files: Files) -> None:
    whole = files.proof.read_bytes()
    bad = files.proof.with_name("bad.tlog-proof")
    ends = [i + 1 for i, byte in enumerate(whole[:-1]) if byte == 10]
    for size in (5, 22, *ends, *(end + 30 for end in ends), len(whole) - 40, len(whole) - 1):
        bad.write_bytes(whole[:size])
        result = tocsin("verify", bad, "--key", files.key)
        assert (result.exit_code, "seems to end early" in result.output) == (1, True), size
    bad.write_bytes(whole + b"\n")
    assert "an empty line was added" in " ".join(
        tocsin("verify", bad, "--key", files.key).output.split()
    )
    bad.write_bytes(whole[: len(whole) // 2])
    assert "seems to end early" in str(tocsin("show", bad).exception)
    files.bare.write_bytes(files.bare.read_bytes()[:-40])
    assert "seems to end early" in str(tocsin("show", files.bare).exception)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
def test_a_file_with_other_line_ends_is_refused_and_the_error_says_so(
    files: Files, line_end: bytes
) -> None:
    bad = files.proof.with_name("bad.tlog-proof")
    bad.write_bytes(files.proof.read_bytes().replace(b"\n", line_end))
    result = tocsin("verify", bad, "--key", files.key)
    assert result.exit_code == 1
    assert "its line ends were changed" in " ".join(result.output.split())


def test_a_file_that_is_something_else_gets_no_such_hint(files: Files) -> None:
    bad = files.proof.with_name("bad.tlog-proof")
    changed = files.proof.read_bytes().replace(b"index 3", b"index 2")
    for content in (b"", b"nothing", b"{}", files.entry.read_bytes(), changed):
        bad.write_bytes(content)
        result = tocsin("verify", bad, "--key", files.key)
        assert result.exit_code == 1
        assert "end early" not in result.output
        assert "line ends" not in result.output


def test_the_key_of_a_tenants_log_is_named_by_it(files: Files) -> None:
    line = good("key", "acme", "--key", files.log.signer.public.line)
    assert line == files.log.key.line
    good("verify", files.proof, "--key", line)


def test_the_tenant_may_be_asked_for(files: Files) -> None:
    good("verify", files.proof, "--key", files.key, "--tenant", "acme")
    result = tocsin("verify", files.proof, "--key", files.key, "--tenant", "other")
    assert result.exit_code == 1 and "not of 'other'" in result.output


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.tlog-proof")), ids=lambda p: p.stem)
def test_no_attack_gets_status_0(path: Path) -> None:
    result = tocsin("verify", path, "--key", FOLDER / "keys.txt")
    # What the good one logs is no receipt that could be read; it was recorded all the same.
    assert result.exit_code == (0 if path.stem == "good" else 1), result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",),
        ("verify", "PROOF"),
        ("verify", "nothing", "--key", "KEY"),
        ("verify", "PROOF", "--key", "nothing"),
        ("verify", "PROOF", "--key", "PROOF"),
        ("verify", "PROOF", "--key", "a+b+c"),
        ("verify", "PROOF", "--key", "NOISE"),
        ("verify", "PROOF", "--key", "HUGE"),
        ("verify", "PROOF\0", "--key", "KEY"),
        ("show", "nothing"),
        ("show",),
        ("replay", "nothing"),
        ("replay", "PERIOD"),
        ("replay", "PROOF", "--calibration", "nothing"),
        ("replay", "PROOF", "--key", "nothing"),
        ("replay", "PROOF", "--plot", "picture.gif"),
        ("key", "acme"),
        ("key", "", "--key", "KEY"),
        ("none",),
    ],
)
def test_a_wrong_command_is_status_2(files: Files, tmp_path: Path, arguments: Any) -> None:
    (tmp_path / "noise").write_bytes(b"\xff\xfe")
    (tmp_path / "huge").write_bytes(b"#" * 1_048_577)
    period = LogEntry(tenant="acme", kind="period", id="1-2", sequence=2, body=b"{}").write()
    (tmp_path / "period").write_bytes(period)
    known = {"PROOF": files.proof, "KEY": files.key, "NOISE": tmp_path / "noise",
             "HUGE": tmp_path / "huge", "PERIOD": tmp_path / "period"}  # fmt: skip
    result = tocsin(*(known.get(a, a) for a in arguments))
    assert result.exit_code == 2, result.output


@pytest.mark.parametrize("name", ["show", "verify", "replay", "key"])
def test_each_command_has_help_with_an_example(name: str) -> None:
    said = good(name, "--help")
    assert "Example: tocsin receipt" in said
    assert "network" in good("verify", "--help")


def test_the_status_leaves_the_process(files: Files) -> None:
    """Click returns some statuses instead of leaving with them."""
    for proof, status in ((files.proof, 0), (files.bare, 1), (files.proof.parent / "none", 2)):
        done = subprocess.run(
            [sys.executable, "-m", "tocsin", "receipt", "verify", proof, "--key", files.key],
            check=False,
            capture_output=True,
        )
        assert done.returncode == status


def test_verify_works_without_network_and_store(files: Files) -> None:
    assert heavy_parts("receipt", "verify", files.proof, "--key", files.key) == "[]"


# ---------------------------------------------------------------------------------------- show


def test_show_says_first_what_happened(files: Files) -> None:
    for file in (files.proof, files.entry, files.bare):
        said = good("show", file)
        assert said.startswith("receipt r_1 The answer was stopped.")
        assert "Not verified" in said
    said = good("show", files.proof, "--key", files.key)
    assert "Verified: it was recorded as entry 3 of the 4 of example.com/log/acme" in said
    for words in (
        "61 checked, 36 shown (markers included), 25 withheld (0 of them behind markers)",
        "statistic -0.01 at step 4",
        "halt",
        "with 90 % confidence",
        "alarm when min_score > lambda = -0.416281",
        "scores ██▇▁ lowest 0.01 at 4 of 4; statistic up to -0.01, lambda -0.416281",
        "which somebody chose: no guarantee",
        "m-1 by up (chat), asked for as m",
    ):
        assert words in said


def test_show_as_json_is_what_was_recorded(files: Files) -> None:
    shown = json.loads(good("show", files.proof, "--key", files.key, "--json"))
    assert shown["verified"] == {"origin": "example.com/log/acme", "index": 3, "size": 4}
    assert shown["entry"] == {"tenant": "acme", "kind": "receipt", "id": "r_1", "sequence": 3}
    assert shown["body"] == json.loads(files.bare.read_bytes())
    bare = json.loads(good("show", files.bare, "--json"))
    assert (bare["form"], bare["verified"], bare["entry"]) == ("receipt", None, None)
    assert bare["body"] == shown["body"]


def test_show_with_a_key_shows_nothing_that_was_changed(files: Files) -> None:
    files.proof.write_text(files.proof.read_text().replace("index 3", "index 2"))
    for command in ("show", "replay"):
        result = tocsin(command, files.proof, "--key", files.key)
        assert result.exit_code == 1
        assert "receipt r_1" not in result.output
        good(command, files.proof)


def test_show_tells_the_rest(tmp_path: Path) -> None:
    made = receipt(
        ["well\n", "DANGER\n", "HAND SEVEN-7-GATES\n"],
        does="require_approval", verdict=Verdict(safe=True, by="somebody"),
    )  # fmt: skip
    failed = FailureRecord(
        failure="verifier_failed", phase="mid_stream", response="pass", check="hand"
    )
    account = msgspec.structs.replace(
        made.account, status="degraded", mode="observe", failure="upstream_too_long"
    )
    made = msgspec.structs.replace(made, failures=(failed,), account=account, alarms_more=7)
    said = good("show", Files(tmp_path, made).bare)
    for words in (
        "A failure stopped it: upstream_too_long. The policy only observes.",
        "Not all that was shown was checked: degraded.",
        "alarms, the first",
        "Wanted require_approval, done require_approval (overruled, somebody)",
        "overruled 1: scores █▁ lowest 0.01 at 2 of 2",
        "verifier_failed mid_stream pass hand",
    ):
        assert words in said


def test_a_period_is_shown(tmp_path: Path) -> None:
    log = SmallLog("acme")
    body = b'{"first":1,"last":9,"kinds":{"alarm":2},"events_root":"AAAA"}'
    entry = LogEntry(tenant="acme", kind="period", id="1-9", sequence=9, body=body)
    log.append(entry.write())
    path = tmp_path / "period.tlog-proof"
    path.write_text(log.proof(0).write())
    said = good("show", path, "--key", log.key.line)
    assert "period 1-9 of acme" in said and 'kinds {"alarm": 2}' in said
    assert "Verified" in said
    shown = json.loads(good("show", path, "--json"))
    assert shown["body"]["kinds"] == {"alarm": 2}
    assert "period 1-9 of acme" in good("verify", path, "--key", log.key.line)


def test_a_hostile_receipt_does_not_drive_the_terminal(tmp_path: Path) -> None:
    made = receipt()
    one = msgspec.structs.replace
    alarm = one(
        made.alarms[0], why=HOSTILE, appeal=HOSTILE, rule=HOSTILE, category=HOSTILE, statistic=None
    )
    promise = made.checks[0].promise
    assert promise is not None
    check = one(
        made.checks[0], verifier=HOSTILE, name=HOSTILE, step_definition=HOSTILE,
        promise=one(promise, sentence=HOSTILE, statistic=HOSTILE, calibration=HOSTILE),
    )  # fmt: skip
    hostile = one(
        made,
        who=one(made.who, id=HOSTILE, tenant=HOSTILE, route=HOSTILE, model=HOSTILE, asked=HOSTILE),
        policy=HOSTILE,
        alarms=(alarm,),
        checks=(check,),
        failures=(
            FailureRecord(
                failure="verifier_failed", phase="mid_stream", response="pass", detail=HOSTILE
            ),
        ),
    )
    log = SmallLog(HOSTILE)
    log.receipt(HOSTILE, msgspec.json.encode(hostile))
    proof, bare = tmp_path / "hostile.tlog-proof", tmp_path / "hostile.json"
    proof.write_text(log.proof(0).write())
    bare.write_bytes(msgspec.json.encode(hostile))
    key = log.key.line
    for arguments in (
        ("show", proof),
        ("show", bare),
        ("show", proof, "--key", key),
        ("show", proof, "--json"),
        ("verify", proof, "--key", key),
        ("verify", proof, "--key", key, "--json"),
        ("verify", proof, "--key", key, "--tenant", HOSTILE + "x"),
        ("replay", proof, "--key", key),
        ("replay", bare, "--json"),
    ):
        result = tocsin(*arguments)
        assert result.exit_code in {0, 1}, result.exception
        assert isinstance(result.exception, SystemExit | None)
        for c in "\x1b\u202e\x07\u2028":
            assert c not in result.output, arguments
        assert "[bold]" in result.output or "--json" in arguments or "replay" in arguments


# -------------------------------------------------------------------------------------- replay


def test_replay_recomputes_with_the_calibration(files: Files) -> None:
    arguments = ("replay", files.proof, "--calibration", files.calibration, "--key", files.key)
    said = good(*arguments)
    for words in (
        "watch agrees path: alarm rang",
        "watch agrees path: alarm at step 4",
        "watch agrees path: statistic, to the last bit -0.01",
        "Verified",
    ):
        assert words in said
    shown = json.loads(good(*arguments, "--json"))
    assert (shown["agrees"], shown["complete"]) == (True, False)
    assert shown["verified"]["index"] == 3
    assert shown["checks"][0]["calibration"] == calibration().digest


def test_replay_without_the_calibration_says_what_it_did_not_check(files: Files) -> None:
    said = good("replay", files.bare)
    assert "watch unchecked calibration give the file of" in said
    assert "what is marked unchecked was not" in said
    assert "Not verified" in said


def test_replay_says_that_all_agrees_where_it_does(tmp_path: Path) -> None:
    made = receipt(["well\n"])
    made = msgspec.structs.replace(made, checks=made.checks[:1])
    files = Files(tmp_path, made)
    said = good("replay", files.bare, "--calibration", files.calibration)
    assert "All of it agrees" in said


def test_replay_finds_the_calibration_that_comes_with_tocsin_by_itself(tmp_path: Path) -> None:
    place = demonstration("harmful_answer")
    made = calibration_file.load(place)
    steps = StepDefinition.parse(made.signal.step_definition)
    check = Check(
        name="harm",
        verifier=from_spec("harmful_answer", steps),
        monitor=Monitor(made, epsilon=0.1),
        on_alarm="shadow",
    )
    guarded, _ = run(Guard(checks=(check,)), [(TEXT, "Take it to the bank. Then go home. Rest.")])
    bare = tmp_path / "r_1.json"
    bare.write_bytes(msgspec.json.encode(guarded.receipt(Who(id="r_1", tenant="acme"))))
    shown = json.loads(good("replay", bare, "--json"))
    assert (shown["agrees"], shown["complete"]) == (True, True)
    assert shown == json.loads(good("replay", bare, "--calibration", place, "--json"))
    changed = json.loads(bare.read_text())
    changed["checks"][0]["promise"]["threshold"] = 0.0
    bare.write_text(json.dumps(changed))
    assert tocsin("replay", bare).exit_code == 1


def test_replay_of_something_else_is_status_1(files: Files, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(to_json(calibration(epsilon=0.2)))
    result = tocsin("replay", files.proof, "--calibration", other)
    assert result.exit_code == 1
    assert "Something differs" in result.output
    files.bare.write_text(files.bare.read_text().replace('"statistic":-0.01,', '"statistic":0.5,'))
    result = tocsin("replay", files.bare)
    assert result.exit_code == 1 and "highest statistic" in result.output


def test_replay_draws_scores_statistic_and_threshold(files: Files, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture, scores = tmp_path / "picture.svg", tmp_path / "scores.svg"
    good("replay", files.proof, "--calibration", files.calibration, "--plot", picture)
    drawn = picture.read_text()
    for words in ("receipt r_1", "watch", "score, safe-high", "danger-high", "λ", "step"):
        assert words in drawn
    again = tmp_path / "again.svg"
    good("replay", files.proof, "--calibration", files.calibration, "--plot", again)
    assert again.read_bytes() == picture.read_bytes()
    good("replay", files.proof, "--plot", scores)
    assert "without its calibration" in scores.read_text()
    png = tmp_path / "picture.png"
    good("replay", files.proof, "--calibration", files.calibration, "--plot", png)
    assert png.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made = msgspec.structs.replace(receipt(), checks=(), alarms=())
    result = tocsin("replay", Files(tmp_path, made).bare, "--plot", tmp_path / "picture.svg")
    assert "nothing to draw" in str(result.exception)


# ----------------------------------------------------------------------------------- sparkline


def test_a_sparkline_shows_the_lowest_of_each_stretch() -> None:
    assert sparkline([]) == ""
    assert sparkline([1.0] * 100 + [0.0] + [1.0] * 100).count("▁") == 1
    assert len(sparkline([0.5] * 10_000)) <= 60
    assert sparkline([-3.0, 0.0, 5.0]) == "▁▄█"
    assert sparkline([4.0, 4.0]) == "▁▁"
    assert sparkline([float("inf"), float("-inf"), 0.5]) == "█▁▅"
    assert sparkline([None, float("nan")]) == "··"
