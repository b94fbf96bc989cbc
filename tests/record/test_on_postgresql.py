"""In and out on a real PostgreSQL server, where writers and exporters do meet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from record.test_outward import Receiver
from record.world import NOW_US, event, redaction, run, stored
from store.postgres import server

from tocsin.record.ingest import Outcome, ingest
from tocsin.record.outward import Exporter
from tocsin.record.recorder import Recorder
from tocsin.store import Append, Scope, Store, Writer


@pytest.fixture
def opened() -> Iterator[Store]:
    url = server().prepared()
    with Store.open(url) as store:
        yield store
    server().give_back(url)


def test_batches_of_two_processes_store_each_event_once(opened: Store) -> None:
    async def send(recorder: Recorder) -> list[Outcome]:
        batch = [event(n) for n in range(50)]
        return await ingest(recorder, "shop", batch, [e.id for e in batch])

    async def main() -> None:
        other = Store.open(opened.url.render_as_string(hide_password=False))
        with other, Writer(opened) as first, Writer(other) as second:
            shared = redaction()
            recorders = [
                Recorder(writer, shared.tenant, clock_us=lambda: NOW_US)
                for writer in (first, second)
            ]
            found = await asyncio.gather(*(send(r) for r in recorders * 4))
            verdicts = [one.verdict for outcomes in found for one in outcomes]
            assert verdicts.count("accepted") == 50
            assert verdicts.count("duplicate") == 350
            assert all(not one.reason for outcomes in found for one in outcomes)

    run(main())
    assert sorted(e.id for e in stored(opened)) == sorted(f"e{n}" for n in range(50))


def test_exporters_that_begin_at_once_leave_nothing_out(opened: Store) -> None:
    opened.commit([Append(tenant="shop", events=tuple(map(event, range(450))))])
    receivers = [Receiver() for _ in range(4)]
    errors: list[BaseException] = []

    def export(to: Receiver) -> None:
        try:
            exporter = Exporter(opened, Scope("shop"), "hook", to)
            while exporter.step() == "sent":
                pass
        except BaseException as error:  # noqa: BLE001 - told by the test
            errors.append(error)

    threads = [threading.Thread(target=export, args=(to,)) for to in receivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    got = {seq for to in receivers for batch in to.got for seq in batch}
    assert got == set(range(1, 451))
    assert Exporter(opened, Scope("shop"), "hook", Receiver()).cursor == 450
