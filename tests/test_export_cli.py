"""`tocsin export`: files of every form, and what is sent."""

from __future__ import annotations

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
from tocsin.events.cloudevents import from_cloudevent
from tocsin.events.envelope import Event
from tocsin.events.kinds import Feedback, StreamOpened
from tocsin.record import export
from tocsin.record.outward import Exported
from tocsin.store import Append, Scope, Stored
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
        assert msgspec.json.decode(first.stdout) == {"events": 6, "status": 204, "refused": False}
        assert msgspec.json.decode(_run(*hook).stdout)["events"] == 0
        answers.append(400)
        spans = _run(made, "--tenant", "shop", "--format", "otlp", *to)
        assert spans.exit_code == 1
        assert "refused a batch: status 400" in spans.output
        again = _run(made, "--tenant", "shop", "--format", "otlp-json", *to)
        assert msgspec.json.decode(again.stdout)["events"] == 6
    assert "webhook-signature" in got[0][1]
    assert len(got) == 3


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
