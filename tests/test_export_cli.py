"""`tocsin export`: files of every form, and what is sent."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from events.drawn import events
from hypothesis import given, settings
from hypothesis import strategies as st
from record.test_outward import listening
from record.world import NOW_US, event, store

from tocsin.cli.export import _send
from tocsin.cli.main import cli
from tocsin.errors import InputError
from tocsin.events.cloudevents import from_cloudevent
from tocsin.events.envelope import Event, Links
from tocsin.events.kinds import Accessed, Feedback, Reviewed, StreamOpened
from tocsin.record import export
from tocsin.record.outward import Exported
from tocsin.record.redaction import Redaction
from tocsin.store import Append, Keys, Scope, Store, Stored
from tocsin.store.history import History


def _made(folder: Path, n: int = 5) -> str:
    with store(folder) as opened:
        made = tuple(event(k, Feedback(verdict="up", comment=f"\x1b[31m{k}")) for k in range(n))
        last = event(n, StreamOpened(api="chat"))
        opened.commit([Append(tenant="shop", events=(*made, last))])
        opened.commit([Append(tenant="bank", events=(event(77),))])
    return str(folder / "record.db")


def _run(*arguments: Any, **options: Any) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, arguments)], **options)


def _lines(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.output
    return [msgspec.json.decode(line) for line in result.stdout_bytes.splitlines()]


def test_json_lines_are_the_events_of_one_tenant(tmp_path: Path) -> None:
    found = _lines(_run(_made(tmp_path), "--tenant", "shop"))
    assert [one["id"] for one in found] == [f"e{k}" for k in range(6)]
    assert [one["seq"] for one in found] == list(range(1, 7))


def test_cloudevents_are_read_again(tmp_path: Path) -> None:
    found = _lines(_run(_made(tmp_path), "--tenant", "shop", "--format", "cloudevents"))
    assert all(isinstance(from_cloudevent(one), Event) for one in found)
    assert found[0]["sequence"] == "00000000000000000001"


def test_kinds_and_times_narrow_it(tmp_path: Path) -> None:
    made = _made(tmp_path)
    found = _lines(_run(made, "--tenant", "shop", "--kind", "stream.opened"))
    assert [one["id"] for one in found] == ["e5"]
    times = ["--since", "2023-11-14T22:13:20.000002Z", "--until", "2023-11-14T22:13:20.000004Z"]
    assert [one["id"] for one in _lines(_run(made, "--tenant", "shop", *times))] == ["e2", "e3"]


def test_parquet_has_a_column_for_each_link(tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    result = _run(
        _made(tmp_path), "--tenant", "shop", "--format", "parquet", "--output", target, "--json"
    )
    assert result.exit_code == 0, result.output
    assert msgspec.json.decode(result.stdout) == {"events": 6, "written_to": str(target)}
    table = pq.read_table(target)
    assert table.column("request").to_pylist() == ["q1"] * 6
    assert table.column("time").to_pylist()[0].timestamp() == NOW_US / 1e6
    bodies = [msgspec.json.decode(body) for body in table.column("body").to_pylist()]
    assert bodies[-1]["kind"] == "stream.opened"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_closed_hours_are_in_it_as_well(tmp_path: Path) -> None:
    made = _made(tmp_path)
    with store(tmp_path) as opened, History(opened) as history:
        closed = history.close(Scope("shop"), before_us=NOW_US + 3, uncovered=True)
        assert closed.deleted == 3
    found = _lines(_run(made, "--tenant", "shop"))
    assert [one["id"] for one in found] == [f"e{k}" for k in range(6)]


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    made = _made(tmp_path)
    target = tmp_path / "folder"
    target.mkdir()
    result = _run(made, "--tenant", "shop", "--output", target)
    assert result.exit_code == 1
    assert list(target.iterdir()) == []
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--format", "webhook"], 2, "--to URL"),
        (["--format", "webhook", "--to", "https://a.example"], 2, "--secret"),
        (["--to", "https://a.example"], 2, "are for"),
        (["--format", "parquet"], 2, "--output"),
        (
            ["--format", "otlp", "--to", "https://a.example", "--since", "2026-01-01T00:00:00Z"],
            2,
            "no --output",
        ),
        (["--kind", "nothing"], 1, "there is stream.opened"),
        (["--since", "yesterday"], 1, "write a time"),
        (["--format", "otlp", "--to", "https://a.example"], 1, "not among the hosts"),
        (
            ["--format", "webhook", "--to", "https://a.example", "--secret", "TOCSIN_NOT_THERE"],
            1,
            "is empty",
        ),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    result = _run(_made(tmp_path), "--tenant", "shop", *arguments)
    assert result.exit_code == status
    shown = result.output + str(result.exception)
    assert said in shown


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    result = _run(tmp_path / "nothing.db", "--tenant", "shop")
    assert result.exit_code == 1
    assert not (tmp_path / "nothing.db").exists()


def test_events_are_sent_and_a_second_run_sends_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "0123456789abcdef")
    made = _made(tmp_path)
    with listening() as (url, got, answers):
        to = ["--to", f"{url}/hook", "--allow", "127.0.0.1", "--private", "--json"]
        hook = [made, "--tenant", "shop", "--format", "webhook", "--secret", "HOOK_SECRET", *to]
        first = _run(*hook)
        assert first.exit_code == 0, first.output
        # With them goes the event that tells that they do; then the one that tells how many did.
        assert msgspec.json.decode(first.stdout) == {"events": 7, "status": 204, "refused": False}
        assert msgspec.json.decode(_run(*hook).stdout)["events"] == 1
        assert msgspec.json.decode(_run(*hook).stdout)["events"] == 0
        answers.append(400)
        spans = _run(made, "--tenant", "shop", "--format", "otlp", *to)
        assert spans.exit_code == 1
        assert "refused a batch: status 400" in spans.output
        assert "trying again" not in spans.output
        answers.append(302)
        led = _run(made, "--tenant", "shop", "--format", "otlp", *to)
        assert (led.exit_code, led.stderr.count("\n")) == (1, 1), led.stderr
        assert "status 302: redirects are not followed" in led.stderr
        again = _run(made, "--tenant", "shop", "--format", "otlp-json", *to)
        assert msgspec.json.decode(again.stdout)["events"] == 13
    assert "webhook-signature" in got[0][1]
    assert len(got) == 5
    assert _accesses(tmp_path) == [
        ("webhook", "begins: events after 0"),
        ("webhook", "done: 7 events"),
        ("otlp", "begins: events after 0"),
        ("otlp", "done: 0 events"),
        ("otlp", "begins: events after 0"),
        ("otlp", "done: 0 events"),
        ("otlp", "begins: events after 0"),
        ("otlp", "done: 13 events"),
    ]


def test_a_port_where_nobody_listens_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.cli.export.time.sleep", lambda _: None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        to = ["--to", f"http://127.0.0.1:{port}/v1", "--allow", "127.0.0.1", "--private"]
        done = _run(_made(tmp_path), "--tenant", "shop", "--format", "otlp-json", *to)
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    where = f"nobody answers at 127.0.0.1:{port} (Connection refused)"
    assert [lines[0], lines[-1]] == [f"{where}; trying again", f"nothing more was sent: {where}"]


def _accesses(folder: Path) -> list[tuple[str, str]]:
    """What the record says of exports: where to, and what."""
    with store(folder) as opened:
        bodies = [s.event.body for s in opened.events(Scope("shop"), kind="access")]
    found = [body for body in bodies if isinstance(body, Accessed)]
    assert all(b.action == "events.export" and b.by.startswith("local:") for b in found)
    return [(body.target, body.reason) for body in found]


def test_an_export_is_told_of_before_anything_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, target = _made(tmp_path), tmp_path / "out.jsonl"
    assert len(_lines(_run(made, "--tenant", "shop", "--kind", "feedback"))) == 5
    assert _run(made, "--tenant", "shop", "--output", target).exit_code == 0
    assert _accesses(tmp_path) == [
        ("standard output", "begins: as jsonl, only feedback"),
        ("standard output", "done: 5 events as jsonl, only feedback"),
        ("file", "8 events as jsonl"),
    ]

    def refuse(*_: object) -> None:
        raise InputError("no room")

    monkeypatch.setattr("tocsin.store.oversight.commit", refuse)
    target.unlink()
    for more in ((), ("--output", target)):
        result = _run(made, "--tenant", "shop", *more)
        assert "no room" in str(result.exception)
        assert result.stdout == ""
    assert not target.exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_file_is_its_owners_alone_and_is_not_replaced_unasked(tmp_path: Path) -> None:
    made, target = _made(tmp_path), tmp_path / "out.jsonl"
    target.write_text("mine")
    target.chmod(0o644)
    refused = _run(made, "--tenant", "shop", "--output", target)
    assert "--force replaces it" in str(refused.exception)
    assert target.read_text() == "mine"
    assert _accesses(tmp_path) == []
    for form in ("jsonl", "parquet"):
        done = _run(made, "--tenant", "shop", "--format", form, "--output", target, "--force")
        assert done.exit_code == 0, done.output
        assert target.stat().st_mode & 0o777 == 0o600


def test_everything_about_one_person_goes_into_a_file(tmp_path: Path) -> None:
    keys = Keys.open(tmp_path / "keys", create=True)
    assert keys.redaction is not None
    of = Redaction(None, keys.redaction).tenant("shop")
    ann, bob = of.person("ann"), of.person("bob")

    def made(number: int, **links: str) -> Event:
        return event(number, links=Links(**links))

    told = (
        made(0, user=ann, call="r_1", request="q_1"),
        made(1, call="r_1"),
        made(2, user=bob, call="r_2", request="q_2"),
        made(3, user=bob, request="q_1"),
        event(4, Reviewed(label="safe", reviewer=ann), links=Links(call="r_2")),
        made(5, call="r_3"),
    )
    with Store.open(str(tmp_path / "record.db"), keys=keys) as opened:
        opened.commit([Append(tenant="shop", events=told)])
    asked = [tmp_path / "record.db", "--tenant", "shop", "--user", "ann"]
    given = [*asked, "--keys", tmp_path / "keys"]
    assert [one["id"] for one in _lines(_run(*given))] == ["e0", "e1", "e4"]
    assert [one["id"] for one in _lines(_run(*given, "--kind", "feedback"))] == ["e0", "e1"]
    assert "give --keys" in str(_run(*asked).exception)
    Keys.open(tmp_path / "other", create=True)
    wrong = _run(*asked, "--keys", tmp_path / "other")
    assert "not the one that the store" in str(wrong.exception)
    assert ("standard output", f"begins: as jsonl, of {ann}") in _accesses(tmp_path)
    traced = ["trace", *map(str, asked), "--keys", str(tmp_path / "keys"), "--json"]
    shown = msgspec.json.decode(CliRunner().invoke(cli, traced).stdout)
    found = [e["event"]["id"] for branch in shown["branches"] for e in branch["events"]]
    assert sorted(found) == ["e0", "e1", "e4"]
    assert shown["id"] == ann
    nobody = CliRunner().invoke(cli, [*traced[:5], "eve", *traced[6:]])
    assert "nothing is known of this person, u_" in str(nobody.exception)


class _Script:
    """An exporter that does what it is told."""

    def __init__(self, *did: str) -> None:
        self.did = list(did)
        self.done = Exported()

    def step(self) -> str:
        found = self.did.pop(0) if self.did else "again"
        self.done.tries = self.done.tries + 1 if found in {"again", "refused"} else 0
        return found

    def pause_s(self) -> float:
        return 7.0


def test_a_run_gives_up_in_time_and_one_that_follows_does_not() -> None:
    pauses: list[float] = []
    away: Any = _Script("sent")
    assert _send(away, follow=False, pause=pauses.append)
    assert pauses == [7.0] * 8

    class Enough(Exception):  # noqa: N818 - ends what would not end
        pass

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 40:
            raise Enough

    follows: Any = _Script("nothing", "sent", "refused")
    pauses.clear()
    with pytest.raises(Enough):
        _send(follows, follow=True, pause=pause)
    assert pauses[:3] == [1.0, 7.0, 7.0]


@settings(max_examples=40)
@given(st.lists(events(), max_size=4))
def test_lines_hold_everything(drawn: list[Event]) -> None:
    for number, one in enumerate(drawn):
        line = export.json_line(Stored(number, one))
        fields = msgspec.json.decode(line)
        assert fields.pop("seq") == number
        assert msgspec.convert(fields, Event) == one
        assert line.count(b"\n") == 1
