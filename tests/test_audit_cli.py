"""`tocsin audit`, `history`, `retention`: answers for people and programs, from rows and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.dom import minidom

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from record.audit_worlds import DAY, START, alarm, at, ended, feedback, review, traffic

pytest.importorskip("duckdb")

from tocsin.cli.main import cli
from tocsin.errors import InputError
from tocsin.events.envelope import Event
from tocsin.events.kinds import PolicyChanged
from tocsin.record.audit.clusters import clusters
from tocsin.record.audit.drift import drift
from tocsin.record.audit.escalations import escalations
from tocsin.record.audit.pictures import draw
from tocsin.record.audit.threshold import threshold
from tocsin.store import Append, Store

HOSTILE = "a\x1b[31m\x07\u202eb\x9b2J $\\frac{1}$ [bold]x[/bold]"
QUESTIONS = ("clusters", "drift", "threshold", "escalations")


def world() -> list[Event]:
    """A record with an answer to every question, and with hostile names in it."""
    events = traffic(np.random.default_rng(0), 500, rates={"chat": 0.02, HOSTILE: 0.2}, days=4)
    events += [
        at(review("safe" if i % 3 else "unsafe", 0.5), e.links.call or "", e.time_us + 9)
        for i, e in enumerate(e for e in list(events) if e.kind == "alarm")
    ]
    events += [at(alarm(check=HOSTILE, rule=HOSTILE, calibration=None), "h1"), at(ended(), "h1")]
    events += [at(feedback("appeal"), f"c{i}") for i in range(5)]
    events += [at(PolicyChanged(policy=HOSTILE, digest="d"), "p", START + DAY)]
    return sorted(events, key=lambda e: e.time_us)


@pytest.fixture
def record(tmp_path: Path) -> str:
    path = tmp_path / "record.db"
    with Store.open(str(path)) as store:
        store.commit([Append(tenant="acme", events=tuple(world()))])
    return str(path)


def run(*given: str) -> Result:
    found = CliRunner().invoke(cli, list(given), catch_exceptions=False, env={"COLUMNS": "110"})
    assert found.exit_code == 0, found.output
    return found


def ask(record: str, question: str, *more: str) -> str:
    return run("audit", question, record, "--tenant", "acme", *more).output


def close(record: str, hours: int = 0) -> None:
    run("history", "close", record, "--uncovered", "--older-than-hours", f"{hours}")


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_the_same_from_rows_and_from_files(record: str, question: str) -> None:
    shown, told = ask(record, question), ask(record, question, "--json")
    close(record)
    assert ask(record, question) == shown
    assert ask(record, question, "--json") == told
    for character in ("\x1b", "\x07", "\u202e", "\x9b"):
        assert character not in shown + told


def test_the_answers_are_those_of_the_library(record: str) -> None:
    events = world()
    for question, found in (
        ("clusters", clusters(events)),
        ("drift", drift(events)),
        ("threshold", threshold(events)),
        ("escalations", escalations(events)),
    ):
        assert json.loads(ask(record, question, "--json")) == json.loads(msgspec.json.encode(found))


def test_what_was_planted_is_said(record: str) -> None:
    said = ask(record, "clusters")
    assert "alarms cluster on 1 of 2" in said
    said = " ".join(ask(record, "threshold", "--epsilon", "0.05").split())
    assert "of the alarms are false" in said and "nobody knows how many were false" in said
    assert "not as designed in 5 of 5" in ask(record, "escalations", "--within-hours", "1").lower()
    assert "no drift seen in 3 periods" in ask(record, "drift")


def test_a_question_can_be_about_a_part_of_the_time(record: str) -> None:
    day = json.loads(ask(record, "clusters", "--json", "--until", "2023-11-16T00:00:00Z"))
    rest = json.loads(ask(record, "clusters", "--json", "--since", "2023-11-16T00:00:00Z"))
    whole = json.loads(ask(record, "clusters", "--json"))
    assert 0 < day["alarms"]["n"] < whole["alarms"]["n"]
    assert day["alarms"]["n"] + rest["alarms"]["n"] == whole["alarms"]["n"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_picture_is_drawn(record: str, question: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for ending in ("png", "svg"):
        said = ask(record, question, "--plot", str(tmp_path / f"x.{ending}"))
        assert "picture:" in said
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    found = minidom.parse(str(tmp_path / "x.svg")).getElementsByTagName("text")  # noqa: S318
    texts = ["".join(getattr(part, "data", "") for part in text.childNodes) for text in found]
    assert texts and all(text.isprintable() for text in texts)


@pytest.mark.parametrize("make", [clusters, drift, threshold, escalations])
def test_an_empty_record_has_a_picture_too(make: Any) -> None:
    pytest.importorskip("matplotlib")
    assert draw(make([])).startswith(b"\x89PNG")


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_empty_record_is_no_error(record: str, question: str) -> None:
    run("audit", question, record, "--tenant", "nobody")


@pytest.mark.parametrize(
    "given",
    [
        ("clusters", "--since", "yesterday"),
        ("clusters", "--plot", "x.gif"),
        ("drift", "--period-hours", "0"),
        ("drift", "--period-hours", "nan"),
        ("escalations", "--within-hours", "-1"),
        ("threshold", "--epsilon", "2"),
    ],
)
def test_what_makes_no_sense_is_refused(record: str, given: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        ask(record, *given)


# ------------------------------------------------------------------------ history and retention


def test_history_is_closed_and_listed(record: str) -> None:
    assert "every event is in the store" in run("history", "list", record).output
    told = json.loads(
        run("history", "close", record, "--uncovered", "--json", "--tenant", "acme").output
    )
    (closed,) = told["tenants"]
    assert len(closed["closed"]["segments"]) == 4
    said = run("history", "list", record).output
    assert "2023-11-15" in said and "2023-11-18" in said
    listed = json.loads(run("history", "list", record, "--json").output)
    assert listed["tenants"][0]["segments"] == closed["closed"]["segments"]


def test_what_no_period_covers_stays_and_is_said_to(record: str) -> None:
    assert "no signed period covers them" in " ".join(
        run("history", "close", record).output.split()
    )


def test_retention_counts_then_does(record: str) -> None:
    close(record)
    rules = ("--keep", "alarms=1", "--keep", "content=1")
    would = json.loads(run("retention", record, *rules, "--dry-run", "--json").output)
    does = json.loads(run("retention", record, *rules, "--json").output)
    assert would[0]["dry_run"] and not does[0]["dry_run"]
    counts = [
        [(k["name"], k["rows"], k["in_files"], k["contents"]) for k in found[0]["classes"]]
        for found in (would, does)
    ]
    assert counts[0] == counts[1]
    assert does[0]["classes"][0]["in_files"] > 20
    said = run("retention", record, *rules).output
    assert "what went" in said and "alarms" in said
    assert json.loads(ask(record, "clusters", "--json"))["alarms"]["count"] == 0


@pytest.mark.parametrize("rule", ["alarms", "alarms=x", "nonsense=1", "alarms=-1"])
def test_rules_that_make_no_sense_are_refused(record: str, rule: str) -> None:
    with pytest.raises(InputError):
        run("retention", record, "--keep", rule)
