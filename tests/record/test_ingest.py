"""Batches: a verdict for each event, idempotent whatever is sent again, nothing half taken."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from events.drawn import events
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record.world import NOW_US, SlowWriter, Untouched, event, recording, run, stored, until

from tocsin.errors import AppendRefused, StoreBusy, StoreFull
from tocsin.events.cloudevents import to_cloudevent
from tocsin.events.envelope import Event
from tocsin.events.kinds import Feedback
from tocsin.events.reading import Flaw
from tocsin.limits import EVENTS_BATCH_MAX
from tocsin.record.ingest import BatchFlaw, Outcome, ingest, read_batch, read_one
from tocsin.record.recorder import Recorder


def _verdicts(outcomes: list[Outcome]) -> list[str]:
    assert [o.index for o in outcomes] == list(range(len(outcomes)))
    return [o.verdict for o in outcomes]


async def _send(recorder: Recorder, *raw: Any) -> list[Outcome]:
    found = [read_one(msgspec.json.encode(one), NOW_US) for one in raw]
    return await ingest(recorder, "shop", [e for e, _ in found], [sent for _, sent in found])


def _plain(number: int, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(event(number)))
    return made | fields


def test_each_event_has_its_verdict(tmp_path: Path) -> None:
    async def main() -> None:
        async with recording(tmp_path) as (recorder, store):
            raw = [
                to_cloudevent(event(0)),
                {"id": "bad"},
                _plain(1),
                _plain(0),
                _plain(2, source="tocsin/gateway"),
                7,
            ]
            found = await _send(recorder, *raw)
            assert _verdicts(found) == [
                "accepted", "rejected", "accepted", "duplicate", "rejected", "rejected",
            ]  # fmt: skip
            assert [o.id for o in found] == ["e0", "bad", "e1", "e0", "e2", None]
            assert all(o.reason for o in found if o.verdict != "accepted")
            assert [e.id for e in stored(store)] == ["e0", "e1"]

    run(main())


def test_the_same_again_changes_nothing_and_something_else_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with recording(tmp_path) as (recorder, store):
            await _send(recorder, _plain(0))
            again = await _send(recorder, _plain(0))
            other = await _send(recorder, _plain(0, body={"kind": "feedback", "verdict": "up"}))
            assert _verdicts(again + other[1:]) == ["duplicate"]
            assert again[0].reason == ""
            assert other[0].verdict == "duplicate"
            assert "something else" in other[0].reason
            assert [e.body for e in stored(store)] == [Feedback(verdict="down")]

    run(main())


@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_whatever_is_sent_again_is_stored_once(tmp_path_factory: Any, data: st.DataObject) -> None:
    """Overlapping batches in any order, cut anywhere: each id once, the first one stays."""
    drawn = data.draw(st.lists(events(outside=True), min_size=1, max_size=6))
    pool = [msgspec.structs.replace(e, id=f"{n}") for n, e in enumerate(drawn)]
    batches = data.draw(st.lists(st.lists(st.sampled_from(pool), max_size=4), max_size=5))

    async def main() -> None:
        async with recording(tmp_path_factory.mktemp("ingest")) as (recorder, store):
            seen: set[str] = set()
            for batch in batches:
                found = await ingest(recorder, "shop", batch, [e.id for e in batch])
                for one, outcome in zip(batch, found, strict=True):
                    expected = "duplicate" if one.id in seen else "accepted"
                    assert outcome.verdict == expected
                    seen.add(one.id)
            assert sorted(e.id for e in stored(store)) == sorted(seen)

    run(main())


def test_batches_at_once_store_each_event_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with recording(tmp_path) as (recorder, store):
            raw = [_plain(n) for n in range(20)]
            found = await asyncio.gather(*(_send(recorder, *raw) for _ in range(8)))
            accepted = sum(_verdicts(one).count("accepted") for one in found)
            assert accepted == 20
            assert len(stored(store)) == 20

    run(main())


def test_ids_that_are_masked_are_matched_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with recording(tmp_path) as (recorder, store):
            raw = _plain(0, id="ann@example.com")
            assert _verdicts(await _send(recorder, raw)) == ["accepted"]
            found = await _send(recorder, raw)
            assert _verdicts(found) == ["duplicate"]
            assert found[0].id == "ann@example.com"
            assert "ann" not in stored(store)[0].id

    run(main())


@pytest.mark.parametrize("error", [StoreBusy("busy"), StoreFull("full")])
def test_a_store_that_takes_nothing_takes_nothing_of_a_batch(error: Any) -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = Recorder(writer, lambda _: Untouched())
        asked = asyncio.ensure_future(_send(recorder, _plain(0), {"id": "bad"}))
        await until(lambda: writer.given)
        writer.settle(error)
        with pytest.raises(type(error)):
            await asked

    run(main())


def test_a_batch_that_the_store_refuses_is_rejected_event_by_event() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = Recorder(writer, lambda _: Untouched())
        asked = asyncio.ensure_future(_send(recorder, _plain(0), {"id": "bad"}))
        await until(lambda: writer.given)
        writer.settle(AppendRefused("too odd"))
        found = await asked
        assert _verdicts(found) == ["rejected", "rejected"]
        assert found[0].reason == "too odd"

    run(main())


def test_an_event_that_cannot_be_redacted_is_rejected_and_the_rest_is_taken() -> None:
    class Fails(Untouched):
        def event(self, event: Event) -> Event:
            if event.id == "e1":
                raise RuntimeError
            return event

    async def main() -> None:
        writer = SlowWriter()
        recorder = Recorder(writer, lambda _: Fails())
        asked = asyncio.ensure_future(_send(recorder, *map(_plain, range(3))))
        await until(lambda: writer.given)
        writer.settle()
        assert _verdicts(await asked) == ["accepted", "rejected", "accepted"]

    run(main())


@pytest.mark.parametrize(
    ("body", "n"),
    [(b"[]", 0), (b'{"id":1}', 1), (b"[1,2]", 2), (b'{"events":[1,2,3]}', 3)],
)
def test_forms_of_a_batch(body: bytes, n: int) -> None:
    found = read_batch(body)
    assert isinstance(found, list)
    assert len(found) == n


@pytest.mark.parametrize(
    "body",
    [b"", b"7", b'"a"', b"null", b"[", b"\xff", b"[" * 100_000, b'{"a":1}{', b"NaN", b" "],
)
def test_what_is_no_batch_is_a_flaw(body: bytes) -> None:
    assert isinstance(read_batch(body), BatchFlaw)


def test_a_batch_has_an_end() -> None:
    found = read_batch(b"[" + b",".join([b"1"] * (EVENTS_BATCH_MAX + 1)) + b"]")
    assert isinstance(found, BatchFlaw)
    assert found.too_large


def test_an_event_has_an_end_as_well() -> None:
    body = {"kind": "retrieval", "sources": [f"{n:0250}" for n in range(256)]}
    links = {"session": "é" * 256}
    raw = msgspec.json.encode(_plain(0, body=body, links=links))
    assert read_one(raw, NOW_US) == (Flaw("the event has more than 65,536 bytes"), None)


@pytest.mark.parametrize("raw", [b'"\\ud800"', b"[" * 20_000, b'{"id":1}', b'{"id":"\xff"}'])
def test_what_is_no_event_is_a_flaw(raw: bytes) -> None:
    event, sent = read_one(raw, NOW_US)
    assert isinstance(event, Flaw)
    assert sent is None
