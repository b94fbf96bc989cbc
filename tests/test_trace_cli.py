"""`tocsin trace`: one request's events as one chain, from rows and from files, and harmless."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("duckdb")

from tocsin.cli.main import cli
from tocsin.errors import InputError
from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.kinds import (
    Alarmed,
    Body,
    Decided,
    Feedback,
    Intervened,
    Retrieved,
    StreamEnded,
    StreamOpened,
    ToolAttempted,
)
from tocsin.store import Append, Store

NOON = 1_700_049_600_000_000
HOSTILE = "a\x1b[31m\x07\u202eb\x9b2J [bold red]x[/bold red]"

BODIES: list[Body] = [
    StreamEnded(outcome="blocked", alarms=1, done="halt"),
    Intervened(done="halt", by="linear"),
    Alarmed(
        check="linear", verifier="v", verifier_version="1", wanted="halt", done="halt",
        rule=HOSTILE, score=0.0,
    ),
    ToolAttempted(tool=HOSTILE),
    Retrieved(sources=("d1", HOSTILE), found=3, permitted=2, used=1, filter="applied"),
    Decided(about="input", verdict="allow", action="allow"),
    StreamOpened(api="chat", stream=False),
]  # fmt: skip
"""In the worst order: each service's clock was wrong."""


def event(number: int, body: Body, call: str = "r_1", request: str = "q_1") -> Event:
    return Event(
        id=f"{call}-{number}",
        time_us=NOON + number * 1000,
        source="test",
        body=body,
        links=Links(request=request, call=call, session=f"s-{call}"),
        segment=Segment(route="chat"),
    )


@pytest.fixture
def record(tmp_path: Path) -> str:
    path = tmp_path / "record.db"
    events = [event(i, body) for i, body in enumerate(BODIES)]
    events += [event(9, Feedback(verdict="appeal", comment=HOSTILE))]
    events += [event(0, StreamOpened(api="chat"), call="r_2", request="q_2")]
    with Store.open(str(path)) as store:
        store.commit([Append(tenant="acme", events=tuple(events))])
        store.commit([Append(tenant="other", events=(events[0],))])
    return str(path)


def run(*given: str) -> Result:
    found = CliRunner().invoke(cli, list(given), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found


def close(record: str) -> None:
    run("history", "close", record, "--uncovered", "--older-than-hours", "0")


def test_a_closing_that_moves_nothing_says_why(record: str) -> None:
    said = " ".join(run("history", "close", record, "--tenant", "acme").output.split())
    assert "0 events moved to 0 files" in said
    assert "stay because no signed period covers them" in said
    hours = ["--older-than-hours", "1000000"]
    said = " ".join(run("history", "close", record, "--uncovered", *hours).output.split())
    assert "the next one is of 2023-11-15 12:00, and what is older than" in said
    close(record)
    told = json.loads(run("history", "close", record, "--uncovered", "--json").output)
    assert all("next_us" in one["closed"] for one in told["tenants"])


ORDER = [
    ("input", "stream.opened"),
    ("input", "policy.decided"),
    ("retrieval", "retrieval"),
    ("tools", "tool.attempted"),
    ("alarm", "alarm"),
    ("action", "intervention"),
    ("action", "stream.ended"),
    ("after", "feedback"),
]


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("name", ["q_1", "r_1", "s-r_1", "r_1-3"])
def test_the_chain_is_the_same_from_every_id_and_place(
    record: str, name: str, closed: bool
) -> None:
    if closed:
        close(record)
    told: dict[str, Any] = json.loads(
        run("trace", record, name, "--tenant", "acme", "--json").output
    )
    (call,) = told["branches"]
    assert (call["call"], call["request"]) == ("r_1", "q_1")
    assert [(e["stage"], e["event"]["body"]["kind"]) for e in call["events"]] == ORDER
    assert sorted(e["seq"] for e in call["events"]) == list(range(1, 9))


@pytest.mark.parametrize("closed", [False, True])
def test_the_tree_shows_the_stages_and_drives_no_terminal(record: str, closed: bool) -> None:
    if closed:
        close(record)
    said = run("trace", record, "r_1", "--tenant", "acme").output
    places = [said.index(kind) for _, kind in ORDER]
    assert places == sorted(places)
    for character in ("\x1b", "\x07", "\u202e", "\x9b"):
        assert character not in said
    assert "\\x1b[31m" in said and "[bold red]" in said
    assert "stream=False" in said and "score=0.0" in said
    assert "overruled" not in said
    as_json = run("trace", record, "r_1", "--tenant", "acme", "--json").output
    assert as_json.isprintable() or as_json.rstrip("\n").isprintable()


@pytest.mark.parametrize("closed", [False, True])
def test_what_retention_took_away_leaves_a_line(record: str, closed: bool) -> None:
    if closed:
        close(record)
    run("retention", record, "--tenant", "acme", "--keep", "alarms=0", "--keep", "tools=0")
    said = run("trace", record, "r_1", "--tenant", "acme").output
    assert "alarm: 1 taken away by retention" in said
    assert said.index("alarm: 1") < said.index("stream.ended")
    assert "of this or of other requests: 1 alarm, 1 retrieval, 1 tool.attempted" in (
        " ".join(said.split())
    )
    told = json.loads(run("trace", record, "r_1", "--tenant", "acme", "--json").output)
    assert {gone["kind"]: gone["n"] for gone in told["taken"]} == {
        "alarm": 1, "retrieval": 1, "tool.attempted": 1,
    }  # fmt: skip


def test_an_id_may_be_hostile_too(record: str) -> None:
    with pytest.raises(InputError, match="nothing is known of"):
        run("trace", record, HOSTILE, "--tenant", "acme")


def test_another_tenants_events_are_not_known(record: str) -> None:
    with pytest.raises(InputError, match="nothing is known of 'r_2'"):
        run("trace", record, "r_2", "--tenant", "other")
    told = json.loads(run("trace", record, "r_1", "--tenant", "other", "--json").output)
    assert [e["seq"] for e in told["branches"][0]["events"]] == [1]


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no store"):
        run("trace", str(tmp_path / "none.db"), "x", "--tenant", "acme")
    assert list(tmp_path.iterdir()) == []
