"""What the gateway writes into its record: each stream once, in order, and receipts that verify."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from gateway.kept import kept, plan, whole
from gateway.live import Live, serving, stage
from gateway.raw_client import ask, asking
from gateway.world import Gate, on_literal, saying, within

from tocsin.cli.main import cli
from tocsin.errors import InputError
from tocsin.gateway.keeper import open_keeper
from tocsin.gateway.meters import NoMeters
from tocsin.gateway.site import Route, Site, Upstream
from tocsin.guarding.plan import Guard
from tocsin.record.redaction import Redaction
from tocsin.store import Keys
from tocsin.stream.events import APIS, Api
from tocsin.testing.fake_model import FakeModel

LEAK = "The gates are called SEVEN-7-GATES and so on, and on and on."
SAID = "A quiet day at the sea, and nothing else to tell of."
each_api = pytest.mark.parametrize("api", APIS)


def recording(folder: Path, **site: Any) -> dict[str, Any]:
    return {"record": plan(folder), **site}


@each_api
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_is_good_is_told_from_its_beginning_to_its_end(
    api: Api, stream: bool, tmp_path: Path
) -> None:
    async def test() -> None:
        async with Gate(saying(SAID), on_literal(), site=recording(tmp_path)) as gate:
            told = {
                "x-request-id": "req-1", "x-tocsin-surface": "shop", "x-tocsin-user": "ann",
                "accept-language": "de-CH,en;q=0.5", "x-tocsin-conversation": "talk-1",
            }  # fmt: skip
            answer = await gate.post(api, stream=stream, told=told)
            assert (answer.text, answer.note["recorded"]) == (SAID, None)
        with kept(tmp_path) as record:
            whole(record)
            assert record.kinds == [
                "policy.changed", "stream.opened", "policy.decided", "output.classified", "usage",
                "stream.ended",
            ]  # fmt: skip
            (ended,) = record.of("stream.ended")
            assert (ended.outcome, ended.status, ended.released) == ("ok", "ok", len(SAID))
            event = record.events[-1]
            assert event.links.call == answer.headers["x-tocsin-receipt"]
            assert event.links.request == "req-1"
            assert event.links.user is not None
            assert event.links.user.startswith("u_")
            key = Keys.open(tmp_path / "keys", create=False).redaction or b""
            assert event.links.session == Redaction(None, key).tenant("local").session("talk-1")
            segment = event.segment
            assert (segment.route, segment.model, segment.policy) == ("way", "m", "policy")
            assert (segment.surface, segment.language) == ("shop", "de-CH")
            assert segment.model_version != "unknown"
            (used,) = record.of("usage")
            assert (used.tokens_out is None) == (api == "chat" and stream)  # nobody asked for them
            assert record.receipts == []

    within(test())


@each_api
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_was_stopped_ends_after_its_receipt_is_on_disk(
    api: Api, stream: bool, tmp_path: Path
) -> None:
    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site=recording(tmp_path)) as gate:
            answer = await gate.post(api, stream=stream)
            name = answer.headers["x-tocsin-receipt"]
            assert (answer.note["recorded"], answer.note["receipt"]) == (True, name)
            assert gate.meters.outcomes == ["blocked"]
        with kept(tmp_path) as record:
            whole(record)
            assert record.kinds[2:] == [
                "policy.decided", "alarm", "intervention", "output.classified", "usage",
                "stream.ended",
            ]  # fmt: skip
            (decided,) = record.of("policy.decided")
            assert (decided.verdict, decided.action, decided.reason) == (
                "refuse", "refuse", "forbidden"
            )  # fmt: skip
            (alarm,) = record.of("alarm")
            assert (alarm.done, alarm.rule, alarm.receipt) == ("halt", "forbidden", name)
            (ended,) = record.of("stream.ended")
            assert (ended.outcome, ended.receipt) == ("blocked", name)
            assert record.receipts == [name]
            assert record.receipt(name)["who"]["id"] == name
        assert b"SEVEN" not in gate.logged.getvalue()

    within(test())


def test_events_and_receipts_of_all_routes_name_a_conversation_alike(tmp_path: Path) -> None:
    async def test() -> None:
        site, told = recording(tmp_path), {"x-tocsin-conversation": "talk-1"}
        for way in ("way", "other"):
            on = {"conversations": True, "name": way}
            async with Gate(saying(LEAK), on_literal(), site=site, route=on) as gate:
                assert (await gate.post("chat", told=told)).note["recorded"] is True
        with kept(tmp_path) as record:
            key = Keys.open(tmp_path / "keys", create=False).redaction or b""
            talk = Redaction(None, key).tenant("local").session("talk-1")
            assert {e.links.session for e in record.events if e.links.call} == {talk}
            ask_for = [
                "trace",
                str(tmp_path / "record.db"),
                "talk-1",
                "--tenant",
                "local",
                "--json",
            ]
            traced = CliRunner().invoke(cli, [*ask_for, "--keys", str(tmp_path / "keys")])
            assert traced.stdout.count('"alarm"') >= 2
            told_of = {record.receipt(name)["who"]["conversation"] for name in record.receipts}
            assert (len(record.receipts), told_of) == (2, {talk})

    within(test())


@pytest.mark.parametrize("lost", ["log.pem", "master.key", "redaction.key"])
def test_a_key_that_went_missing_stops_the_start(lost: str, tmp_path: Path) -> None:
    async def test() -> None:
        site, route = recording(tmp_path), {"evidence": True}
        async with Gate(saying(LEAK), on_literal(), site=site, route=route) as gate:
            await gate.post("chat")
        path = tmp_path / "keys" / lost
        away = path.rename(tmp_path / "away")
        public = (tmp_path / "keys" / "log.vkey").read_bytes()
        with pytest.raises(InputError, match=f"{lost}' is missing"):
            await open_keeper(Site(routes=(), record=plan(tmp_path)), NoMeters())
        assert not path.exists()
        assert (tmp_path / "keys" / "log.vkey").read_bytes() == public
        away.rename(path)
        await (await open_keeper(Site(routes=(), record=plan(tmp_path)), NoMeters())).close()

    within(test())


def test_without_a_record_nothing_of_a_database_is_loaded() -> None:
    program = (
        "import sys; from tocsin.gateway.app import make_app; "
        "from tocsin.gateway.building import load; from tocsin.gateway.server import serve; "
        "heavy = {'sqlalchemy', 'alembic', 'cryptography', 'duckdb', 'pyarrow', 'psycopg'}; "
        "assert not heavy & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_is_warm_before_anybody_is_told_that_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warming holds the loop up: who came meanwhile was turned away, and it was not ready."""
    order: list[str] = []
    real = Live._listens

    def listens(live: Live, where: str, operating: str) -> None:
        order.append("listens")
        real(live, where, operating)

    monkeypatch.setattr(Site, "warm", lambda _: order.append("warm"))
    monkeypatch.setattr(Live, "_listens", listens)

    async def test() -> None:
        async with serving(Site(routes=(), open_to_all=True)):
            assert order == ["warm", "listens"]

    within(test())


def test_a_reload_keeps_to_the_record_that_is_open(tmp_path: Path) -> None:
    def site(fake: FakeModel) -> Site:
        upstream = Upstream(name="model", url=f"{fake.url}/v1", speaks=frozenset(APIS))
        guard = Guard(name="policy", digest="ab" * 32, checks=(on_literal(),))
        way = Route(name="way", models=("*",), upstream=upstream, model=None, guard=guard)
        return Site(routes=(way,), open_to_all=True, record=plan(tmp_path))

    async def test() -> None:
        async with stage(site, saying(LEAK)) as made:
            live = made.live
            changed = replace(live.site.routes[0].guard, digest="cd" * 32)
            routes = (replace(live.site.routes[0], guard=changed),)
            opened = live.site.record
            for record in (opened, None, opened, None):
                await ask(live.where, "chat", asking("chat", "m", stream=True), "/v1")
                live.site = replace(live.site, routes=routes, record=record)
                live.reload()
                await live.until(lambda: live.around.live.site is live.site)
            await ask(live.where, "chat", asking("chat", "m", stream=True), "/v1")
            assert len(live.lines.named("records_as_before")) == 2  # of each that is another one
        with kept(tmp_path) as record_:
            whole(record_)
            changes = record_.of("policy.changed")
            assert [(one.before, one.digest) for one in changes] == [
                (None, "ab" * 32), ("ab" * 32, "cd" * 32)
            ]  # fmt: skip
            assert len(record_.receipts) == 5

    within(test())
