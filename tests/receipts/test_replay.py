from __future__ import annotations

import json
import math
import random
from typing import Any

import msgspec
import pytest
from guarded_streams import Scripted, run
from receipts.recorded import LINES, TEXT, calibration, changed, logged, receipt

import tocsin
from fuzz.dice import Dice
from fuzz.spoiling import spoil
from tocsin.errors import InputError, ProofInvalid
from tocsin.guarding.plan import Check, Guard, Verdict
from tocsin.guarding.receipt import Who
from tocsin.limits import PROOF_BYTES_MAX
from tocsin.monitor import Monitor
from tocsin.receipts import LogEntry
from tocsin.record.receipt_file import read_receipt, read_recorded
from tocsin.record.replay import Replayed, replay

OVERRULED = Verdict(safe=True, by="somebody")


def differing(made: Replayed) -> list[str]:
    return [f"{check} {line.what}" for check, line in made.all_lines() if line.outcome == "differs"]


def unchecked(made: Replayed) -> list[str]:
    return [
        f"{c} {line.what}".strip() for c, line in made.all_lines() if line.outcome == "unchecked"
    ]


@pytest.mark.parametrize("statistic", ["min_score", "ewma", "per_step_quantile", "posterior"])
def test_a_decision_is_recomputed_to_the_last_bit(statistic: str) -> None:
    made = receipt(statistic=statistic)
    for one in (made, msgspec.json.decode(msgspec.json.encode(made), type=type(made))):
        found = replay(one, [calibration(statistic)])
        assert found.agrees, differing(found)
        assert unchecked(found) == ["rules rules"]
        lines = {line.what: line for _, line in found.all_lines()}
        if any(alarm.check == "watch" for alarm in one.alarms):
            assert lines["path: alarm"].detail == "rang"
            assert lines["path: statistic, to the last bit"].outcome == "agrees"


def test_silence_is_recomputed_too() -> None:
    made = receipt(["all is well\n", "a little ODD\n"])
    assert not made.alarms
    found = replay(made, [calibration()])
    assert found.agrees
    assert {line.what: line.detail for _, line in found.all_lines()}["path: alarm"] == "silent"


def test_a_response_without_a_word_is_replayed() -> None:
    assert replay(receipt([]), [calibration()]).agrees


def test_without_the_calibration_the_receipt_is_checked_by_itself() -> None:
    found = replay(receipt())
    assert found.agrees and not found.complete
    assert unchecked(found) == ["watch calibration", "rules rules"]


def test_a_threshold_by_hand_is_compared() -> None:
    made = receipt(["well\n", "HAND\n"])
    assert [alarm.check for alarm in made.alarms] == ["hand"]
    assert replay(made, [calibration()]).agrees
    for change in (
        lambda r: r["alarms"][0].update(score=0.9),
        lambda r: r.update(alarms=[], account={**r["account"], "alarms": 0}),
    ):
        assert any(what.startswith("hand") for what in differing(replay(changed(made, change))))


def test_alarms_that_were_overruled_have_paths_of_their_own() -> None:
    lines = ["well\n", "DANGER\n", "well\n", "DANGER again\n", "well\n"]
    made = receipt(lines, does="require_approval", verdict=OVERRULED)
    assert [alarm.why for alarm in made.alarms] == ["overruled", "overruled"]
    assert len(made.checks[0].overruled) == 2
    found = replay(made, [calibration()])
    assert found.agrees, differing(found)
    said = [line.what for _, line in found.all_lines()]
    for label in ("overruled path 1", "overruled path 2", "last path"):
        assert f"{label}: alarm" in said
    assert "overruled path 2: statistic, to the last bit" in said


def _set(*path: Any, to: Any) -> Any:
    def change(plain: Any) -> None:
        for step in path[:-1]:
            plain = plain[step]
        plain[path[-1]] = to(plain[path[-1]]) if callable(to) else to

    return change


ALARM, CHECK = ("alarms", 0), ("checks", 0)
NEXT = lambda x: math.nextafter(x, math.inf)  # noqa: E731


@pytest.mark.parametrize(
    ("change", "alone", "what"),
    [
        (_set(*ALARM, "statistic", to=NEXT), True, "highest statistic"),
        (_set(*ALARM, "statistic", to=-1.0), True, "threshold"),
        (_set(*ALARM, "statistic", to=None), True, "threshold"),
        (_set(*ALARM, "score", to=NEXT), True, "score of the alarm"),
        (_set(*ALARM, "check", to="nobody"), True, "alarms"),
        (_set("account", "alarms", to=0), True, "number of alarms"),
        (_set("alarms", to=[]), True, "number of alarms"),
        (_set(*CHECK, "path", "scores", 3, to=0.9), True, "lowest score"),
        (_set(*CHECK, "path", "scores", 0, to=0.001), True, "lowest score"),
        (_set(*CHECK, "path", "scores", 0, to=None), True, "steps"),
        (_set(*CHECK, "path", "scores", to=lambda s: s[:-1]), True, "steps"),
        (_set(*CHECK, "path", "steps", to=9), True, "steps"),
        (_set(*CHECK, "path", "statistic_highest_step", to=2), True, "alarm step"),
        (_set(*CHECK, "path", "checkpoint", to=[[1.0], []]), False, "score path|alarm|replay"),
        (_set(*CHECK, "path", "scores", 0, to=7.5), False, "replay"),
        (_set(*CHECK, "promise", "threshold", to=NEXT), False, "threshold"),
        (_set(*CHECK, "promise", "threshold", to=2.0), True, "threshold"),
        (_set(*CHECK, "promise", "comparison", to=">="), False, "comparison"),
        (_set(*CHECK, "promise", "epsilon", to=0.2), False, "certificate"),
        (_set(*CHECK, "promise", "delta", to=0.2), False, "delta"),
        (_set(*CHECK, "promise", "n", to=10**400), False, "n"),
        (_set(*CHECK, "promise", "errors", to=1.5), False, "errors"),
        (_set(*CHECK, "promise", "statistic", to="other"), False, "statistic"),
        (_set(*CHECK, "promise", "calibration", to="sha256:00"), False, "calibration"),
    ],
)  # fmt: skip
def test_what_was_changed_differs(change: Any, alone: bool, what: str) -> None:
    made = changed(receipt(), change)
    if alone:
        assert not replay(made).agrees
    found = replay(made, [calibration()])
    assert not found.agrees
    assert any(word in said for word in what.split("|") for said in differing(found))


def test_any_change_of_any_score_is_found() -> None:
    rng = random.Random("scores")
    lines = ["well\n"] * 30 + ["a little ODD\n"] + LINES
    made = receipt(lines)
    assert made.checks[0].path is not None
    count = len(made.checks[0].path.scores)
    for _ in range(40):
        at, to = rng.randrange(count), rng.random()
        found = replay(changed(made, _set(*CHECK, "path", "scores", at, to=to)), [calibration()])
        # A score above the lowest one changes nothing that a minimum depends on.
        assert found.agrees == (at < count - 1 and to > 0.01 and not _rings(to))


def _rings(score: float) -> bool:

    return Monitor(calibration()).session().step(score).alarm


def test_the_wrong_calibration_is_named() -> None:
    other = calibration(epsilon=0.2)
    found = replay(receipt(), [other])
    assert differing(found) == [" calibration"]
    assert other.digest in "".join(line.detail for line in found.lines)
    assert replay(receipt(), [calibration()]).agrees


def test_alarms_beyond_the_limit_are_said_to_be_unchecked() -> None:
    made = changed(receipt(), lambda r: (r.update(alarms_more=3), r["account"].update(alarms=4)))
    found = replay(made, [calibration()])
    assert found.agrees
    assert "watch path: threshold" in unchecked(found)


def test_an_alarm_of_an_earlier_response_is_taken_from_the_path() -> None:
    """A conversation that had rung: the alarm that is listed says only that."""
    had_rung: dict[str, Any] = {"statistic": None, "score": None, "step": 0}
    made = changed(receipt(), lambda r: r["alarms"][0].update(had_rung))
    found = replay(made, [calibration()])
    assert found.agrees, differing(found)


def test_a_long_path_goes_on_from_what_was_kept() -> None:
    from tocsin.limits import SCORE_PATH_STEPS_KEPT
    from tocsin.monitor.path import PathRecord

    session = Monitor(calibration()).session()
    rng = random.Random("long")
    while not session.step(0.5 + rng.random() / 2).alarm:
        if session._step > 2 * SCORE_PATH_STEPS_KEPT + 5:
            session.step(0.0)
            break
    path: PathRecord = session.path()
    assert path.checkpoint_step > 0
    highest = path.statistic_highest
    made = changed(receipt(), lambda r: (
        r["checks"][0].update(path=msgspec.to_builtins(path)),
        r["alarms"][0].update(statistic=highest, score=path.scores[-1]),
    ))  # fmt: skip
    found = replay(made, [calibration()])
    assert found.agrees, differing(found)
    assert "watch path: steps" in unchecked(found)


def test_no_receipt_breaks_the_replay() -> None:
    """Whatever somebody writes into one: it agrees, or differs, or is no receipt."""
    made = msgspec.json.encode(receipt())
    rng = random.Random("spoilt")
    read = 0
    for _ in range(1_500):
        plain = [msgspec.json.decode(made)]
        spoil(Dice(rng.randbytes(64)), plain)
        try:
            one = read_receipt(json.dumps(plain[0] if plain else None).encode())
        except InputError:
            continue
        read += 1
        for line in replay(one, [calibration()]).all_lines():
            assert line[1].outcome in {"agrees", "differs", "unchecked"}
    assert read > 100


def closing() -> Monitor:
    """A monitor whose last word is about the mean of the scores."""
    rng = random.Random("closing")
    rows: dict[str, list[Any]] = {"trajectory_id": [], "step": [], "score": [], "label": []}
    for i in range(800):
        safe = i % 2
        for j in range(4):
            score = rng.uniform(0.5, 1.0) * (1.0 if safe else 0.6)
            for name, value in zip(rows, (f"t{i}", j + 1, score, safe), strict=True):
                rows[name].append(value)
    return Monitor(tocsin.calibrate(
        tocsin.from_columns(**rows), epsilon=0.2, statistic="min_score", closing=True
    ))  # fmt: skip


def test_the_check_at_the_end_is_recomputed() -> None:
    monitor = closing()
    check = Check(name="watch", verifier=Scripted({"low": 0.55}), monitor=monitor, on_alarm="halt")
    guarded, _ = run(Guard(checks=(check,)), [(TEXT, "low\n" * 3 + "low and last")])
    made = guarded.receipt(Who(id="r_1"))
    assert [alarm.closing for alarm in made.alarms] == [True]
    found = replay(made, [monitor.calibration])
    assert found.agrees, differing(found)
    lines = {line.what: line.outcome for _, line in found.all_lines()}
    assert lines["path: statistic, to the last bit"] == "agrees"
    for change in (
        _set(*ALARM, "statistic", to=NEXT),
        _set(*ALARM, "closing", to=False),
        _set(*CHECK, "path", "scores", 0, to=1.0),
    ):
        assert not replay(changed(made, change), [monitor.calibration]).agrees


def test_a_check_at_the_end_that_stayed_silent_is_recomputed() -> None:
    monitor = closing()
    check = Check(name="watch", verifier=Scripted({"low": 0.55}), monitor=monitor, on_alarm="halt")
    guarded, _ = run(Guard(checks=(check,)), [(TEXT, "well\n" * 4)])
    made = guarded.receipt(Who(id="r_1"))
    assert not made.alarms
    found = replay(made, [monitor.calibration])
    assert (found.agrees, found.complete) == (True, True), differing(found)
    lines = {line.what: line for _, line in found.all_lines()}
    assert lines["path: check at the end"].outcome == "agrees"
    assert "path: check at the end" not in {
        line.what for _, line in replay(receipt(["well\n"]), [calibration()]).all_lines()
    }


def test_a_check_at_the_end_that_would_have_rung_is_said_to_be_unchecked() -> None:
    """The response may have been left before its end: then it was not asked."""
    monitor = closing()
    check = Check(name="watch", verifier=Scripted({"low": 0.55}), monitor=monitor, on_alarm="halt")
    guarded, _ = run(Guard(checks=(check,)), [(TEXT, "low\n" * 3 + "low and last")])
    silent = changed(
        guarded.receipt(Who(id="r_1")),
        lambda r: r.update(alarms=[], account={**r["account"], "alarms": 0}),
    )
    found = replay(silent, [monitor.calibration])
    assert found.agrees
    assert not found.complete
    assert unchecked(found) == ["watch path: check at the end"]


# ------------------------------------------------------------------------------------- files


def test_a_receipt_is_found_in_each_kind_of_file() -> None:
    made = receipt()
    log = logged(made)
    raw = msgspec.json.encode(made)
    for file, form in (
        (log.proof(3).write().encode(), "proof"),
        (log.entries[3], "entry"),
        (log.entries[3] + b"\n", "entry"),
        (raw, "receipt"),
        (b" " + raw + b"\n", "receipt"),
    ):
        found = read_recorded(file)
        assert (found.form, found.receipt) == (form, made)
    period = LogEntry(tenant="acme", kind="period", id="1-2", sequence=2, body=b"{}").write()
    assert read_recorded(period).receipt is None


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"[]", b"{}", b'{"schema":"tocsin.receipt/2"}', b"[" * 100_000,
            b'{"schema":"tocsin.receipt/1"}', b'{"schema":7}', b" " * (PROOF_BYTES_MAX + 1)]
)  # fmt: skip
def test_what_is_no_receipt_is_refused(raw: bytes) -> None:
    with pytest.raises(InputError):
        read_recorded(raw)
    with pytest.raises(InputError):
        read_receipt(raw)


def test_an_entry_and_its_receipt_agree() -> None:
    made = receipt()
    body = msgspec.json.encode(made)
    for tenant, name in (("acme", "r_2"), ("other", "r_1")):
        entry = LogEntry(tenant=tenant, kind="receipt", id=name, sequence=2, body=body).write()
        with pytest.raises(ProofInvalid, match="says that it is 'r_1' of 'acme'"):
            read_recorded(entry)
    bare = msgspec.structs.replace(made, who=msgspec.structs.replace(made.who, tenant=""))
    body = msgspec.json.encode(bare)
    entry = LogEntry(tenant="other", kind="receipt", id="r_1", sequence=2, body=body).write()
    assert read_recorded(entry).receipt == bare
    with pytest.raises(ProofInvalid, match="does not carry"):
        read_recorded(msgspec.structs.replace(logged(made).proof(3), extra=None).write().encode())
