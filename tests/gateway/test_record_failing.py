"""A record that is slow, full, away or broken: streams end validly, and nobody is told a lie."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from gateway.kept import LOG, kept, plan, whole
from gateway.processes import HASTY, SERVE, Client, Process, eventually, metric
from gateway.provocations import Disk
from gateway.test_serve import ASKED
from gateway.world import FILTERED, WHOLE, Gate, on_literal, saying, within

from tocsin.errors import InputError, StoreFailed, StoreFull
from tocsin.gateway import books, keeper
from tocsin.gateway.meters import NoMeters
from tocsin.gateway.site import Site
from tocsin.guarding.plan import Guard
from tocsin.store import Keys, Rejected, Store, vault
from tocsin.stream.events import APIS, Api
from tocsin.testing.fake_model import Choice, FakeModel, Fault, Reply

LEAK = "The gates are called SEVEN-7-GATES and so on, and on and on."
SAID = "All is well on this calm and sunny day by the sea; no more than that. " * 4
each_api = pytest.mark.parametrize("api", APIS)
each_form = pytest.mark.parametrize("stream", [True, False])


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that a test can break."""
    made = Disk()
    monkeypatch.setattr(Store, "commit_prepared", made.commit_prepared())
    return made


@contextmanager
def impatient() -> Iterator[None]:
    """What is not recorded at once is waited for no longer."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(books, "RECORD_WAIT_MS", 50)
        yield


def recording(folder: Path) -> dict[str, Any]:
    return {"record": plan(folder)}


async def until(gate: Gate, failure: str | None) -> None:
    """Wait until the gateway knows how its record is."""
    async with asyncio.timeout(60):
        while gate.plane.books.failure != failure:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.005)


@each_api
@each_form
def test_a_stop_does_not_wait_for_the_disk_and_its_note_does(
    api: Api, stream: bool, tmp_path: Path, disk: Disk
) -> None:
    async def test() -> None:
        said = Choice(text="x" * 640 + LEAK + SAID * 40)
        reply = Reply(choices=(said,), cut=4)
        async with Gate(reply, on_literal(), site=recording(tmp_path)) as gate:
            disk.be_slow()
            waits = asyncio.create_task(gate.post(api, stream=stream))
            async with asyncio.timeout(60):
                while not gate.meters.alarms:  # noqa: ASYNC110 - nobody tells of it
                    await asyncio.sleep(0.005)
            if stream:
                await gate.fake.until(open=0)  # the upstream is let go of while the disk is asleep
            assert not waits.done()
            disk.be_sound()
            answer = await waits
            assert answer.note["recorded"] is True
            assert [FILTERED[api]] == answer.ends
            assert "SEVEN" not in answer.raw.decode()
        with kept(tmp_path) as record:
            whole(record)
            assert record.receipts == [answer.headers["x-tocsin-receipt"]]

    within(test())


@each_api
@each_form
def test_a_disk_that_is_too_slow_is_waited_for_no_longer_than_the_limit(
    api: Api, stream: bool, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "RECORD_WAIT_MS", 50)

    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site=recording(tmp_path)) as gate:
            disk.be_slow()
            answer = await gate.post(api, stream=stream)
            assert answer.note["recorded"] is False
            assert [FILTERED[api]] == answer.ends
            assert ("record_unavailable", "report") in gate.meters.failures
            disk.be_sound()
            await gate.quiet()
            assert gate.meters.receipts == [True]  # it came after all
        with kept(tmp_path) as record:
            whole(record)
            assert record.receipts == [answer.headers["x-tocsin-receipt"]]

    within(test())


def test_a_receipt_that_is_late_and_then_lost_is_one_failure(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "RECORD_WAIT_MS", 50)

    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site=recording(tmp_path)) as gate:
            disk.be_slow()
            assert (await gate.post("chat")).note["recorded"] is False
            disk.be(StoreFull("there is no room"))
            await gate.plane.books.close()
            gate.plane.books.keeper = None
        assert gate.meters.receipts == [False]
        assert gate.meters.failures.count(("record_unavailable", "report")) == 1

    within(test())


@pytest.mark.parametrize("error", [StoreFailed("it broke")])
@each_form
def test_a_receipt_that_cannot_be_recorded_is_in_the_log_whole(
    error: Any, stream: bool, tmp_path: Path, disk: Disk
) -> None:
    failure = "record_failed"

    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site=recording(tmp_path)) as gate:
            disk.be_slow()
            waits = asyncio.create_task(gate.post("chat", stream=stream))
            async with asyncio.timeout(60):
                while not gate.meters.alarms:  # noqa: ASYNC110 - nobody tells of it
                    await asyncio.sleep(0.005)
            disk.be(error)
            answer = await waits
            assert (answer.ends, answer.note["recorded"]) == (["content_filter"], False)
            await until(gate, failure)
            assert (failure, "report") in gate.meters.failures
            assert (await gate.post("chat", stream=stream)).status == 503
        assert gate.meters.receipts == [False]
        (line,) = [one for one in gate.lines if one["event"] == failure and "receipt" in one]
        assert line["receipt"]["who"]["id"] == answer.headers["x-tocsin-receipt"]
        with kept(tmp_path) as record:
            whole(record)
            assert answer.headers["x-tocsin-receipt"] not in record.receipts

    within(test())


def test_receipts_and_ends_that_met_a_full_disk_come_when_there_is_room(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "RECORD_WAIT_MS", 50)

    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site=recording(tmp_path)) as gate:
            disk.be_slow()
            waits = [asyncio.create_task(gate.post("chat")) for _ in range(4)]
            async with asyncio.timeout(60):
                while len(gate.meters.alarms) < 4:  # noqa: ASYNC110 - nobody tells of it
                    await asyncio.sleep(0.005)
            disk.be(StoreFull("no room"))
            answers = await asyncio.gather(*waits)
            assert [one.note["recorded"] for one in answers] == [False] * 4
            disk.be_sound()
            await until(gate, None)
            await gate.quiet()
            assert gate.meters.receipts == [True] * 4
        with kept(tmp_path) as record:
            whole(record)
            ids = sorted(one.headers["x-tocsin-receipt"] for one in answers)
            assert sorted(record.receipts) == ids
            assert [one.outcome for one in record.of("stream.ended")] == ["blocked"] * 4
            assert len(record.of("alarm")) == 4

    within(test())


@pytest.mark.parametrize(
    ("guard", "shown"),
    [
        ({}, None),
        ({"passed": frozenset({"record_unavailable"})}, "degraded"),
        ({"mode": "observe"}, "ok"),
    ],
)
def test_what_follows_from_a_full_record_is_the_policys_to_say(
    guard: dict[str, Any], shown: str | None, tmp_path: Path, disk: Disk
) -> None:
    async def test() -> None:
        async with Gate(saying(SAID), on_literal(), guard=guard, site=recording(tmp_path)) as gate:
            assert (await gate.post("chat")).note["status"] == "ok"
            disk.be(StoreFull("no room"))
            with impatient():
                await gate.post("chat")  # whatever becomes of this one: it is found out with it
                await until(gate, "record_unavailable")
                answer = await gate.post("chat")
            if shown is None:
                assert answer.status == 503
                assert "(record_unavailable)" in answer.json["error"]["message"]
            else:
                assert (answer.text, answer.ends) == (SAID, [WHOLE["chat"]])
                assert (answer.note["status"], answer.note["recorded"]) == (shown, False)
            disk.be_sound()
            await until(gate, None)
            assert (await gate.post("chat")).note["status"] == "ok"
        with kept(tmp_path) as record:
            # What was told while there was no room came when there was some.
            assert sum(one.events for one in record.of("record.shed")) == 0
            assert len(record.of("stream.ended")) == len(record.of("stream.opened")) >= 3

    within(test())


def test_a_real_file_that_is_full_takes_more_when_there_is_room(tmp_path: Path) -> None:
    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site=recording(tmp_path)) as gate:
            assert (await gate.post("chat")).note["recorded"] is True
            store = gate.plane.books.keeper.store  # type: ignore[union-attr]
            limit(store, "PRAGMA max_page_count = 1")
            full = []
            with impatient():
                while gate.plane.books.failure is None:
                    full.append(await gate.post("chat"))
                full += [await gate.post("chat") for _ in range(10)]
            assert {one.status for one in full} == {200, 503}
            for one in full:
                assert one.status == 503 or one.ends == ["content_filter"]
            limit(store, "PRAGMA max_page_count = 1073741823")
            await until(gate, None)
            assert (await gate.post("chat")).note["recorded"] is True
            said = {
                one.headers["x-tocsin-receipt"]
                for one in full
                if one.status == 200 and one.note["recorded"]
            }
        with kept(tmp_path) as record:
            assert said <= set(record.receipts)

    within(test())


def limit(store: Store, pragma: str) -> None:
    """Say how large the file of a store may be: on the connection that writes."""
    raw = store._engines.writing.raw_connection()
    try:
        raw.cursor().execute(pragma)
    finally:
        raw.close()


def test_a_file_that_another_process_holds_is_unavailable_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "RECORD_SLOW_MS", 20)
    monkeypatch.setattr(books, "RECORD_WAIT_MS", 20)

    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site=recording(tmp_path)) as gate:
            assert (await gate.post("chat")).status == 200
            await gate.quiet()
            other = sqlite3.connect(tmp_path / "record.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            answer = await gate.post("chat")
            assert (answer.ends, answer.note["recorded"]) == (["content_filter"], False)
            await until(gate, "record_unavailable")
            assert (await gate.post("chat")).status == 503
            other.execute("ROLLBACK")
            other.close()
            await until(gate, None)
            await gate.quiet()
        with kept(tmp_path) as record:
            whole(record)
            assert answer.headers["x-tocsin-receipt"] in record.receipts  # it came after all

    within(test())


HOLDS = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
other.execute("ROLLBACK")
"""


def test_a_process_whose_file_another_one_holds_says_so_soon_and_goes_on_by_itself(
    tmp_path: Path,
) -> None:
    """With the limits as they are: it is a second until the record counts as slow."""
    statuses: list[int] = []
    with FakeModel() as fake, serve(tmp_path, fake.url, program=HASTY) as gateway:

        def answered() -> int:
            with Client(gateway.where) as client:
                client.post(body=ASKED)
                status, body = client.answer()
            if b"(overloaded)" in body:  # the machine is busy with other tests
                return 0
            assert (b"data: [DONE]" in body) if status == 200 else (b"(record_unav" in body)
            statuses.append(status)
            return status

        eventually(lambda: answered() == 200)
        before = len(statuses)
        with subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(tmp_path / "record.db")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            eventually(lambda: answered() == 503)
            assert {answered() for _ in range(3)} <= {503, 0}
            gateway.until(lambda: states(gateway)[-1:] == ["record_unavailable"])
            held = "another process holds the store (SQLITE_BUSY)"
            gateway.until(lambda: gateway.logged("record")[-1]["why"].endswith(held))
            with Client(gateway.where) as client:
                assert client.get("/livez")[0] == 200
                eventually(lambda: client.get("/readyz")[0] == 200)  # nobody has to be sent away
            during = statuses[before:]
            other.communicate()
        eventually(lambda: answered() == 200)
        gateway.until(lambda: states(gateway)[-1:] == ["ok"])
        gateway.send(signal.SIGTERM)
        assert gateway.ended() == 0
    assert during == sorted(during)  # from the first refusal on, nobody is let in
    with kept(tmp_path) as record:
        whole(record)
        assert [one.outcome for one in record.of("stream.ended")] == ["ok"] * statuses.count(200)
        assert record.of("record.shed") == []


def states(gateway: Process) -> list[str]:
    """How the record was, as the log tells it."""
    return [line["state"] for line in gateway.logged("record")]


def test_too_many_receipts_that_wait_are_told_of(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "RECORD_WAIT_MS", 20)

    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site=recording(tmp_path)) as gate:
            gate.plane.books._most = 1
            disk.be_slow()
            answers = [await gate.post("chat") for _ in range(2)]
            assert [one.note["recorded"] for one in answers] == [False, False]
            assert gate.meters.receipts == [False]
            disk.be_sound()

    within(test())


# ------------------------------------------------------------------------------ keys and places


def test_keys_of_another_log_are_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with Gate(saying(SAID), site=recording(tmp_path)):
            pass
        site = Site(routes=(), record=plan(tmp_path, log="other.example"))
        with pytest.raises(InputError, match="sign the logs"):
            await keeper.open_keeper(site, NoMeters())

    within(test())


def test_a_key_of_the_redaction_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = Keys.open(folder, name=LOG)
    assert first.redaction == Keys.open(folder).redaction is not None
    (folder / "redaction.key").write_text("none\n")

    async def test() -> None:
        with pytest.raises(InputError, match="holds no key"):
            await keeper.open_keeper(Site(routes=(), record=plan(tmp_path)), NoMeters())

    within(test())


def test_another_master_key_is_refused_at_the_start(tmp_path: Path) -> None:
    async def test() -> None:
        site, route = recording(tmp_path), {"evidence": True}
        async with Gate(saying(LEAK), on_literal(), site=site, route=route) as gate:
            assert (await gate.post("chat")).note["recorded"] is True
        before = (tmp_path / "keys" / "master.key").read_bytes()
        other = Keys.open(tmp_path / "other", name=LOG).master
        (tmp_path / "keys" / "master.key").write_bytes(base64.b64encode(other) + b"\n")
        opens = Site(routes=(), record=plan(tmp_path))
        with pytest.raises(InputError, match="is locked with the master key") as told:
            await keeper.open_keeper(opens, NoMeters())
        assert base64.b64encode(other).decode() not in str(told.value)
        # The way that the page says: the new key first, then the old one.
        with (tmp_path / "keys" / "master.key").open("ab") as file:
            file.write(before)
        async with Gate(saying(LEAK), on_literal(), site=site, route=route) as gate:
            assert (await gate.post("chat")).note["recorded"] is True

    within(test())


@each_form
def test_content_that_cannot_be_locked_takes_nothing_else_along(
    stream: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> None:
        raise InputError("this content is locked with another master key")

    monkeypatch.setattr(vault, "seal", refuses)

    async def test() -> None:
        site, route = recording(tmp_path), {"evidence": True}
        async with Gate(saying(LEAK), on_literal(), site=site, route=route) as gate:
            answer = await gate.post("chat", stream=stream)
            assert answer.note["recorded"] is True
            assert gate.plane.books.failure is None
        with kept(tmp_path) as record:
            whole(record)
            assert record.receipts == [answer.headers["x-tocsin-receipt"]]
            assert len(record.of("alarm")) == len(record.of("stream.ended")) == 1
            assert record.of("content.kept") == []
            assert sum(one.contents for one in record.of("record.shed")) == 2
            assert sum(one.events + one.receipts for one in record.of("record.shed")) == 0

    within(test())


def test_receipts_that_the_store_refuses_are_a_record_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store.commit_prepared

    def refuses(store: Store, given: Any) -> Any:
        done = real(store, [one for one in given if not one.leaves])
        answers = iter(done)
        no = Rejected(tenant="local", reason="a rule of the store")
        return [no if one.leaves else next(answers) for one in given]

    monkeypatch.setattr(Store, "commit_prepared", refuses)

    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site=recording(tmp_path)) as gate:
            assert (await gate.post("chat")).note["recorded"] is False
            await until(gate, "record_unavailable")
            assert (await gate.post("chat")).status == 503
            assert gate.plane.books.why == "AppendRefused: a rule of the store"

    within(test())


# ------------------------------------------------------------------------------- whole processes

BREAKING = """
import os
from tocsin.errors import StoreFailed
from tocsin.store import Store

real = Store.commit_prepared

def commit_prepared(store, given):
    if os.path.exists(os.environ["BREAKS"]):
        raise StoreFailed("the disk reported an error")
    return real(store, given)

Store.commit_prepared = commit_prepared
"""
CONFIG = """
open_to_all: true
upstreams: {{one: {{url: "{url}/v1"}}}}
routes: [{{name: all}}]
policies:
  default:
    checks: [{{verifier: patterns, findings: {{"*": halt}}}}]
record: {{store: record.db, keys: keys, log: gateway.example/log, period_s: 3600}}
"""


def serve(folder: Path, url: str, *more: str, program: str = SERVE) -> Process:
    """Start a gateway whose disk breaks as soon as there is a file called `broken`."""
    config = folder / "gateway.yaml"
    config.write_text(CONFIG.format(url=url))
    at = ["--port", "0", "--metrics", "127.0.0.1:0"]
    return Process(
        [sys.executable, "-c", BREAKING + program, str(config), *at, *more],
        TMPDIR=str(folder),
        BREAKS=str(folder / "broken"),
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_cannot_keep_its_word_ends_and_says_why(
    workers: int, tmp_path: Path
) -> None:
    reply = Reply(choices=(Choice(text=SAID * 4),), faults=(Fault(kind="hang", after_frames=200),))
    with FakeModel(reply) as fake, serve(tmp_path, fake.url, "--workers", str(workers)) as gateway:
        with Client(gateway.where) as client:
            client.post(body=ASKED)
            client.until(b"calm")
            eventually(lambda: metric(gateway, 'tocsin_recorded_total{what="event"}') > 0)
            (tmp_path / "broken").touch()
            with Client(gateway.where) as other:
                other.post(body=ASKED)
                gateway.until_logged("draining")
            fake.release()
            told = client.rest()
        assert b"data: [DONE]" in told
        assert gateway.ended() == os.EX_IOERR
    with kept(tmp_path) as record:
        assert len(record.stored) > 0


def test_a_process_that_is_told_to_stop_writes_all_of_it(tmp_path: Path) -> None:
    with FakeModel() as fake, serve(tmp_path, fake.url) as gateway:
        for _ in range(3):
            with Client(gateway.where) as client:
                client.post(body=ASKED)
                status, _ = client.answer()
                assert status == 200
        eventually(lambda: metric(gateway, 'tocsin_recorded_total{what="event"}') >= 12)
        assert metric(gateway, "tocsin_record_ok") == 1
        gateway.send(signal.SIGTERM)
        assert gateway.ended() == 0
    with kept(tmp_path) as record:
        whole(record)
        assert [one.outcome for one in record.of("stream.ended")] == ["ok"] * 3
        assert len(record.of("control.changed")) == 1
        assert record.store.entries(record.scope, kind="period")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_record_that_cannot_be_opened_is_said_in_words(workers: str, tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(CONFIG.format(url="http://127.0.0.1:9"))
    (tmp_path / "record.db").write_bytes(b"no database, and long enough to be none" * 40)
    at = ["--port", "0", "--metrics", "off", "--workers", workers]
    done = subprocess.run(
        [sys.executable, "-m", "tocsin", "serve", str(tmp_path / "gateway.yaml"), *at],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "record.db" in done.stderr or "database" in done.stderr


def test_workers_write_to_one_record_without_gaps(tmp_path: Path) -> None:
    with FakeModel() as fake, serve(tmp_path, fake.url, "--workers", "2") as gateway:
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(gateway.where)) for _ in range(8)]
            for _ in range(4):
                for client in clients:
                    client.post(body=ASKED)
                assert [client.answer()[0] for client in clients] == [200] * len(clients)
        gateway.send(signal.SIGTERM)
        assert gateway.ended() == 0
    with kept(tmp_path) as record:
        whole(record)
        assert [one.outcome for one in record.of("stream.ended")] == ["ok"] * 32


def test_a_guard_may_pass_an_unavailable_record_and_never_a_failed_one() -> None:
    Guard(passed=frozenset({"record_unavailable"}))
    with pytest.raises(InputError):
        Guard(passed=frozenset({"record_failed"}))
