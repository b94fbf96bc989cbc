"""`tocsin audit`, `history`, `retention`: answers for people and programs, from rows and files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.dom import minidom

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from record.audit_worlds import DAY, START, alarm, at, ended, feedback, review, traffic
from rich.console import Console

pytest.importorskip("duckdb")

from tocsin.cli.main import cli
from tocsin.cli.terminal import table
from tocsin.errors import InputError
from tocsin.events.envelope import Event
from tocsin.events.kinds import PolicyChanged
from tocsin.record.audit.clusters import clusters
from tocsin.record.audit.drift import drift
from tocsin.record.audit.escalations import escalations
from tocsin.record.audit.pictures import draw
from tocsin.record.audit.threshold import threshold
from tocsin.store import Append, Scope, Store
from tocsin.store.history import History

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


def test_whose_word_the_numbers_rest_on_is_said_and_can_be_chosen(tmp_path: Path) -> None:
    def told(source: str, call: str) -> Event:
        made = at(ended(), call, START + 1)
        return msgspec.structs.replace(made, source=source, id=f"{source} {call}")

    path = str(tmp_path / "record.db")
    with Store.open(path) as store:
        own = [told("tocsin/gateway", f"r{n}") for n in range(3)]
        broken = at(review("safe", -3.0), "r0")
        shop = [told("shop", call) for call in ("r0", "s0", "s1")]
        store.commit([Append(tenant="acme", events=(*own, broken, *shop))])
    for question in QUESTIONS:
        said = " ".join(ask(path, question).split())
        five = (
            "these 5 responses" if question == "clusters" else "the 5 responses that ended or rang"
        )
        assert f"2 of {five} were told by other services: shop." in said
        assert "1 events of other services are left aside" in said
        assert ("1 events are left out" in said) == (question in {"threshold", "escalations"})
        found = json.loads(ask(path, question, "--json"))["told"]
        assert (found["by_others"], found["others"], found["aside"]) == (2, ["shop"], 1)
        chosen = json.loads(ask(path, question, "--source", "tocsin/gateway", "--json"))["told"]
        assert (chosen["responses"], chosen["by_others"]) == (3, 0)
        both = ("--source", "tocsin/gateway", "--source", "shop", "--json")
        assert json.loads(ask(path, question, *both))["told"]["responses"] == 5


def test_alarms_of_responses_without_an_end_are_part_of_no_share(tmp_path: Path) -> None:
    path = str(tmp_path / "record.db")
    own = [at(ended(alarms=int(n < 7)), f"r{n}", START) for n in range(9)]
    own += [at(alarm(rule="card"), f"r{n}", START) for n in range(7)]
    own = [msgspec.structs.replace(e, source="tocsin/gateway") for e in own]
    posted = [at(alarm(), f"s{n}", START) for n in range(50)]
    with Store.open(path) as store:
        store.commit([Append(tenant="acme", events=(*own, *posted))])
    found = json.loads(ask(path, "clusters", "--json"))
    assert (found["endless"], found["told"]["responses"], found["told"]["by_others"]) == (50, 9, 0)
    rules = {d["name"]: d["cells"][0]["alarms"] for d in found["dimensions"] if not d["tested"]}
    assert {(share["count"], share["n"]) for share in rules.values()} == {(7, 7)}
    said = " ".join(ask(path, "clusters").split())
    assert "7 of 9 responses rang" in said and "57" not in said and "59" not in said
    assert "50 more rang, and no end of them is in the record" in said


def test_a_source_that_said_nothing_is_not_all_quiet(tmp_path: Path) -> None:
    def told(source: str, day: int = 0) -> Event:
        made = at(PolicyChanged(policy="p", digest="d"), source, START + day * DAY)
        return msgspec.structs.replace(made, source=source)

    path = str(tmp_path / "record.db")
    with Store.open(path) as store:
        named = (*(told(f"s{n}") for n in range(8)), told("late", 3), told("tocsin/gateway"))
        store.commit([Append(tenant="acme", events=named)])
    until = ("--until", "2023-11-16T00:00:00Z")

    def refused(question: str, *more: str) -> str:
        given = ["audit", question, path, "--tenant", "acme", "--source", "s1", *more]
        done = CliRunner().invoke(cli, given, env={"COLUMNS": "110"})
        assert done.exit_code == 2
        return " ".join(done.output.split())

    for question in QUESTIONS:
        ask(path, question, "--source", "s1", "--source", "late")
        for name, time in (("tocsin/", ()), ("late", until)):
            said = refused(question, "--source", name, *time, "--json")
            assert f"there is no event of the source {name!r} in this time" in said
    assert "there are tocsin/gateway, late, s0, s1, s2, s3 and 4 more" in refused(
        "drift", "--source", "nope"
    )
    assert "there is none" in refused("drift", "--until", "2023-01-01T00:00:00Z")


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
    quiet = at(PolicyChanged(policy="p", digest="d"), "p", START)
    with Store.open(record) as store:
        store.commit([Append(tenant="quiet", events=(quiet,))])
    run("audit", question, record, "--tenant", "quiet")


@pytest.mark.parametrize(
    "given",
    [
        *(("audit", question) for question in QUESTIONS),
        ("trace",),
        ("export",),
        ("history", "list"),
        ("history", "close"),
        ("retention",),
    ],
)
def test_a_tenant_that_does_not_exist_is_not_all_quiet(record: str, given: tuple[str, ...]) -> None:
    more: tuple[str, ...] = ("c1",) if given == ("trace",) else ()
    more += ("--keep", "usage=1") if given == ("retention",) else ()
    done = CliRunner().invoke(cli, [*given, record, *more, "--tenant", "nosuch"])
    assert done.exit_code == 2
    assert "there is no tenant 'nosuch'; there is acme" in done.output


def test_tables_in_a_pipe_are_not_cut(record: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    done = CliRunner().invoke(cli, ["audit", "threshold", record, "--tenant", "acme"])
    assert "…" not in done.output.partition("hostile")[0].splitlines()[0]
    close(record)
    shown = CliRunner().invoke(cli, ["history", "list", record]).output
    with Store.open(record) as store, History(store) as history:
        for segment in history.segments(Scope("acme")):
            assert segment.path in shown


@pytest.mark.parametrize("width", [40, 80])
def test_tables_in_a_narrow_terminal_lose_nothing(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", f"{width}")
    console = Console(file=io.StringIO(), width=width)
    console.print(table("", ["name", "n", "m"], [["x" * 50, "1,234,567,890", "9" * 20]]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert (shown.count("x"), shown.count("9"), shown.count("…")) == (50, 21, 0)


def test_a_calibration_is_named_only_where_it_is_known_whose_it_is() -> None:
    both = ended()
    both = msgspec.structs.replace(both, lowest={"linear": 0.5, "private": 1.0})
    events = [at(both, f"c{n}", START + n) for n in range(60)]
    assert [c.calibrations for c in drift(events).checks] == [(), ()]
    told = drift([*events, at(alarm(), "c1", START + 99)]).checks
    assert [c.check for c in told if c.calibrations] == ["linear"]


def test_who_waits_in_vain_is_part_of_the_picture() -> None:
    events = [at(feedback("appeal"), f"c{n}", START) for n in range(4)]
    events += [at(review("safe"), "c0", START + 9), at(feedback("up"), "late", START + 9 * DAY)]
    found = escalations(events)
    assert (len(found.times_us), found.cases) == (1, 4)


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
    for question in ("clusters", "threshold", "escalations"):
        with pytest.raises(InputError, match="taken away by retention"):
            ask(record, question, "--json")


@pytest.mark.parametrize("closed", [False, True])
def test_what_retention_took_away_is_told_by_the_ends_or_refused(
    tmp_path: Path, closed: bool
) -> None:
    record = str(tmp_path / "record.db")
    events = []
    for n in range(40):
        rang = n % 4 == 0
        events += [at(alarm(), f"c{n}", START + n)] if rang else []
        events.append(at(ended(alarms=int(rang)), f"c{n}", START + n + 1))
    with Store.open(record) as store:
        store.commit([Append(tenant="acme", events=tuple(events))])
    if closed:
        close(record)
    before = json.loads(ask(record, "clusters", "--json"))
    run("retention", record, "--keep", "alarms=0")
    after = json.loads(ask(record, "clusters", "--json"))
    assert after["alarms"] == before["alarms"]
    assert (before["taken"], after["taken"]) == (0, 10)
    assert "10 alarms of this time were taken away" in ask(record, "clusters")
    with pytest.raises(InputError, match=r"10 alarm.*--since (\S+),") as refused:
        ask(record, "threshold")
    since = str(refused.value).partition("--since ")[2].partition(",")[0]
    assert "no alarm" in ask(record, "threshold", "--since", since)
    with pytest.raises(InputError, match=r"10 alarm"):
        ask(record, "escalations")
    trace = run("trace", record, "c0", "--tenant", "acme")
    assert "alarm: 1 taken away by retention" in trace.output
    run("retention", record, "--keep", "streams=0")
    for question in QUESTIONS:
        with pytest.raises(InputError, match="taken away by retention"):
            ask(record, question)


@pytest.mark.parametrize("rule", ["alarms", "alarms=x", "nonsense=1", "alarms=-1"])
def test_rules_that_make_no_sense_are_refused(record: str, rule: str) -> None:
    with pytest.raises(InputError):
        run("retention", record, "--keep", rule)
