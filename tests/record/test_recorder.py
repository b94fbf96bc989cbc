"""The recorder redacts, bounds, sheds content before signal, never sheds receipts, and tells."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from record.world import (
    NOW_US,
    SlowWriter,
    Untouched,
    event,
    found_in,
    recording,
    run,
    stored,
    until,
)

from tocsin.errors import AppendRefused, StoreBusy, StoreDamaged, StoreFailed, StoreFull
from tocsin.events.envelope import Event, Links
from tocsin.events.kinds import ContentKept, Feedback, Shed, StreamEnded
from tocsin.record.recorder import Recorder
from tocsin.record.surroundings import Bounds, State
from tocsin.store import Append, Content, Entry, Keys, Scope, Store, Writer

_ENTRY = Entry(kind="receipt", id="r1", body=b"{}")


def _content(n: int = 0, subject: str = "ann", text: str = "text") -> Content:
    return Content(
        id=f"c{n}", subject=subject, request="q1", what="input", text=text, why="sample",
        expires_us=NOW_US,
    )  # fmt: skip


def _append(n: int = 0, **fields: Any) -> Append:
    return Append(**({"tenant": "shop", "events": (event(n),)} | fields))


class _Meters:
    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def recorded(self, events: int, entries: int, took_ms: float) -> None:
        assert took_ms >= 0
        self.said.append(("recorded", events, entries))

    def shed(self, contents: int, events: int) -> None:
        self.said.append(("shed", contents, events))

    def lost(self, entries: int) -> None:
        if entries:
            self.said.append(("lost", entries))

    def record_state(self, state: State) -> None:
        self.said.append(("state", state))


def _slow(writer: SlowWriter, meters: _Meters | None = None, **bounds: Any) -> Recorder:
    return Recorder(
        writer,
        lambda _: Untouched(),
        bounds=Bounds(**({"probe_ms": 10} | bounds)),
        meters=meters,
        clock_us=lambda: NOW_US,
    )


def test_what_was_recorded_is_there_and_redacted(tmp_path: Path) -> None:
    async def main() -> None:
        async with recording(tmp_path) as (recorder, store):
            body = Feedback(verdict="down", comment="I am ann@example.com")
            sent = event(1, body, links=Links(user="ann"))
            committed = await recorder.record(Append(tenant="shop", events=(sent,)))
            assert (committed.first, committed.last) == (1, 1)
            (found,) = stored(store)
            assert isinstance(found.body, Feedback)
            assert "ann" not in found.body.comment
            assert (found.links.user or "").startswith("u_")
        assert not found_in(tmp_path, b"ann@example.com")

    run(main())


def test_what_meets_an_id_that_is_taken_is_counted_and_told(tmp_path: Path) -> None:
    async def main() -> None:
        meters, told = _Meters(), []
        async with recording(
            tmp_path, meters=meters, differs=lambda tenant, ids: told.append((tenant, ids))
        ) as (recorder, store):
            store.commit([_append(1), _append(2)])
            recorder.note(_append(1, events=(event(1, Feedback(verdict="up")), event(2), event(3))))
            await until(lambda: not recorder.waiting)
            assert told == [("shop", ("e1",))]
            assert ("shed", 0, 1) in meters.said
            assert [e.id for e in stored(store)] == ["e1", "e2", "e3"]
            # Whoever waits for what they sent is told there, and nobody else is.
            committed = await recorder.record(
                _append(1, events=(event(3, StreamEnded(outcome="ok")),))
            )
            assert committed.differing == ("e3",)
            assert len(told) == 1

    run(main())


def test_a_note_is_recorded_by_the_end(tmp_path: Path) -> None:
    async def main() -> Store:
        async with recording(tmp_path) as (recorder, store):
            assert all(recorder.note(_append(n)) for n in range(100))
            await recorder.close()
            assert [e.id for e in stored(store)] == [f"e{n}" for n in range(100)]
            assert recorder.waiting == 0
            return store

    run(main())


def test_the_subject_of_content_is_a_pseudonym_unless_it_is_the_request() -> None:
    async def main() -> None:
        writer = SlowWriter()

        class Names(Untouched):
            def person(self, who: str) -> str:
                return f"u_{who}"

        recorder = Recorder(writer, lambda _: Names())
        recorder.note(_append(contents=(_content(1), _content(2, subject="q1"))))
        assert [c.subject for c in writer.given[0][0].contents] == ["u_ann", "q1"]

    run(main())


def test_an_event_whose_redaction_fails_is_left_out_and_counted() -> None:
    class Fails(Untouched):
        def event(self, event: Event) -> Event:
            if event.id == "e1":
                raise RuntimeError("a canary")
            return event

    async def main() -> None:
        writer, meters = SlowWriter(), _Meters()
        recorder = Recorder(writer, lambda _: Fails(), meters=meters)
        assert recorder.note(_append(events=(event(0), event(1), event(2))))
        assert [e.id for e in writer.given[0][0].events] == ["e0", "e2"]
        assert ("shed", 0, 1) in meters.said
        assert not recorder.note(_append(1))
        redacted = await recorder.redact(_append(events=(event(1), event(2))))
        assert redacted.dropped == (0,)
        committed = await recorder.record(_append(1))
        assert committed.last == 0
        assert len(writer.given) == 1

    run(main())


def test_content_is_shed_before_events_and_receipts_never() -> None:
    async def main() -> None:
        writer, meters = SlowWriter(), _Meters()
        recorder = _slow(writer, meters, appends=4, contents_upto=2)
        for n in range(4):
            assert recorder.note(_append(n, contents=(_content(n),)))
        assert [len(append.contents) for append, _ in writer.given] == [1, 1, 0, 0]
        assert not recorder.note(_append(4, contents=(_content(4),)))
        with pytest.raises(StoreBusy):
            recorder.note(_append(5, entries=(_ENTRY,)))
        with pytest.raises(StoreBusy):
            await recorder.record(_append(6))
        assert recorder.state == "slow"
        assert meters.said == [
            ("shed", 1, 0), ("shed", 1, 0), ("shed", 1, 1), ("lost", 1), ("shed", 0, 1),
        ]  # fmt: skip
        writer.settle()
        await until(lambda: recorder.state == "ok")

    run(main())


def test_a_long_content_is_shed_where_much_content_waits() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer, content_chars=10)
        recorder.note(_append(0, contents=(_content(0, text="x" * 8),)))
        recorder.note(_append(1, contents=(_content(1, text="x" * 8),)))
        writer.settle()
        await until(lambda: not recorder.waiting)
        recorder.note(_append(2, contents=(_content(2, text="x" * 8),)))
        assert len(writer.given[0][0].contents) == 1

    run(main())


def test_many_events_fill_it_as_many_appends_do() -> None:
    async def main() -> None:
        recorder = _slow(SlowWriter(), events=10)
        assert recorder.note(_append(events=tuple(map(event, range(9)))))
        assert not recorder.note(_append(events=(event(10), event(11))))
        assert recorder.note(_append(12))
        assert recorder.state == "slow"

    run(main())


def test_what_was_shed_is_told_once_there_is_room() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer, appends=1, contents_upto=1)
        await recorder.start()
        recorder.note(_append(0, contents=(_content(0),)))
        recorder.note(_append(1, contents=(_content(1), _content(2))))
        recorder.note(_append(2))
        writer.settle()
        await until(lambda: writer.given)
        (told,) = writer.given[0][0].events
        assert told.body == Shed(contents=2, events=2, source="tocsin/recorder")
        writer.settle(StoreFull("no room"))
        await until(lambda: writer.given)
        assert writer.given[0][0].events[0].body == told.body
        writer.settle()
        await until(lambda: recorder.state == "ok")
        await asyncio.sleep(0.05)
        assert not writer.given
        await recorder.close()

    run(main())


@pytest.mark.parametrize("error", [StoreBusy("busy"), StoreFull("full")])
def test_a_store_that_refuses_is_slow_and_asked_again_until_it_takes(error: Exception) -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer)
        await recorder.start()
        asked = asyncio.ensure_future(recorder.record(_append()))
        await until(lambda: writer.given)
        assert isinstance(error, StoreBusy | StoreFull)
        writer.settle(error)
        with pytest.raises(type(error)):
            await asked
        assert recorder.state == "slow"
        await until(lambda: writer.given)
        writer.settle()
        await until(lambda: recorder.state == "ok")
        await recorder.close()

    run(main())


def test_a_store_that_takes_nothing_is_asked_again_too() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer)
        await recorder.start()
        writer.refuses = StoreBusy("busy")
        assert not recorder.note(_append())
        assert recorder.state == "slow"
        writer.refuses = None
        await until(lambda: writer.given)
        writer.settle()
        await until(lambda: recorder.state == "ok")
        await recorder.close()

    run(main())


@pytest.mark.parametrize("error", [StoreFailed("a sync failed"), StoreDamaged("torn")])
def test_a_failed_sync_is_latched(error: StoreFailed | StoreDamaged) -> None:
    async def main() -> None:
        writer, meters = SlowWriter(), _Meters()
        recorder = _slow(writer, meters)
        await recorder.start()
        asked = [asyncio.ensure_future(recorder.record(_append(n))) for n in range(3)]
        await until(lambda: len(writer.given) == 3)
        writer.settle(error)
        for one in asked:
            with pytest.raises(type(error)):
                await one
        assert recorder.failed.is_set()
        assert recorder.state == "failed"
        with pytest.raises(StoreFailed):
            await recorder.record(_append(4))
        with pytest.raises(StoreFailed):
            recorder.note(_append(5, entries=(_ENTRY,)))
        assert not recorder.note(_append(6))
        assert not writer.given
        await recorder.close()
        assert ("state", "failed") in meters.said

    run(main())


def test_a_writer_that_has_failed_fails_the_recorder() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer)
        writer.refuses = StoreDamaged("torn")
        with pytest.raises(StoreFailed):
            await recorder.record(_append())
        assert recorder.failed.is_set()

    run(main())


def test_a_refused_append_of_a_client_says_nothing_about_the_store() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer)
        asked = asyncio.ensure_future(recorder.record(_append()))
        await until(lambda: writer.given)
        writer.settle(AppendRefused("no"))
        with pytest.raises(AppendRefused):
            await asked
        assert (recorder.state, recorder.why) == ("ok", "")

    run(main())


@pytest.mark.parametrize("kept", [{}, {"entries": (_ENTRY,)}])
def test_a_refused_append_of_our_own_is_said_until_one_is_taken(kept: dict[str, Any]) -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer)
        assert recorder.note(_append(1, **kept))
        writer.settle(AppendRefused("a rule"))
        await until(lambda: recorder.state == "slow")
        assert recorder.why == "AppendRefused: a rule"
        # What clients send says nothing about what the process itself has to say.
        asked = asyncio.ensure_future(recorder.record(_append(2)))
        await until(lambda: writer.given)
        writer.settle()
        await asked
        assert recorder.state == "slow"
        assert recorder.note(_append(3, **kept))
        writer.settle()
        await until(lambda: recorder.state == "ok")
        assert recorder.why == ""

    run(main())


def test_what_was_refused_once_is_tried_again_after_a_while() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer, refused_ms=20)
        assert recorder.note(_append())
        writer.settle(AppendRefused("a rule"))
        await until(lambda: recorder.state == "slow")
        await until(lambda: recorder.state == "ok")

    run(main())


def test_content_that_cannot_be_locked_takes_nothing_else_along() -> None:
    async def main() -> None:
        writer, meters = SlowWriter(), _Meters()
        recorder = _slow(writer, meters)
        await recorder.start()
        keeping = ContentKept(content="c1", what="input", why="sample", chars=4, expires_us=NOW_US)
        given = _append(
            events=(event(1), event(2, keeping)), entries=(_ENTRY,), contents=(_content(1),)
        )
        asked = asyncio.ensure_future(recorder.record(given))
        await until(lambda: writer.given)
        writer.settle(AppendRefused("locked with another key"))
        await until(lambda: any(append.entries for append, _ in writer.given))
        left = next(append for append, _ in writer.given if append.entries)
        assert (left.events, left.contents) == ((event(1),), ())
        writer.settle()
        assert (await asked).last == 1
        assert recorder.state == "ok"
        assert ("shed", 1, 0) in meters.said
        await until(lambda: writer.given)
        (told,) = (one.body for append, _ in writer.given for one in append.events)
        assert told == Shed(contents=1, events=0, receipts=0, source="tocsin/recorder")
        writer.settle()
        await recorder.close()
        assert recorder.waiting == 0

    run(main())


def test_why_nothing_is_taken_is_said() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer, slow_ms=0)
        assert recorder.why == ""
        recorder.note(_append(1))
        await until(lambda: recorder.state == "slow")
        assert recorder.why == ""  # it is late, and nobody knows why
        writer.refusal = StoreBusy("somebody holds it")
        assert recorder.why == "StoreBusy: somebody holds it"
        writer.settle(StoreFailed("a sync failed"))
        await until(lambda: recorder.state == "failed")
        assert recorder.why == "StoreFailed: a sync failed"

    run(main())


def test_who_stops_waiting_stops_nothing() -> None:
    async def main() -> None:
        writer, meters = SlowWriter(), _Meters()
        recorder = _slow(writer, meters)
        for error in (None, StoreFull("full")):
            asked = asyncio.ensure_future(recorder.record(_append()))
            await until(lambda: writer.given)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            writer.settle(error)
            await until(lambda: not recorder.waiting)
        assert ("recorded", 1, 0) in meters.said

    run(main())


def test_an_append_that_waits_too_long_makes_it_slow() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer, slow_ms=0)
        assert recorder.state == "ok"
        recorder.note(_append())
        await until(lambda: recorder.state == "slow")
        writer.settle()
        await until(lambda: recorder.state == "ok")

    run(main())


def test_closing_does_not_wait_for_ever() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer, close_ms=20)
        recorder.note(_append())
        await recorder.close()
        assert recorder.waiting == 1

    run(main())


def test_periods_are_signed_in_between_and_at_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        keys = Keys.open(tmp_path / "keys")
        with Store.open(str(tmp_path / "r.db"), keys=keys) as store, Writer(store) as writer:
            recorder = Recorder(
                writer,
                lambda _: Untouched(),
                bounds=Bounds(period_s=0.01),
                periods=lambda tenant: store.close_period(Scope(tenant)),
            )
            await recorder.start()
            await recorder.record(_append(0))
            await until(lambda: store.head(Scope("shop")).period, 0.01)
            await recorder.record(_append(1))
            recorder.note(_append(2))
            await recorder.close()
            head = store.head(Scope("shop"))
            assert head.period == head.seq == 3
            assert store.checkpoint(Scope("shop")) is not None

    run(main())


@pytest.mark.parametrize("error", [StoreBusy("busy"), StoreFailed("failed")])
def test_a_period_that_fails_is_tried_again_or_fails_the_record(error: Exception) -> None:
    async def main() -> None:
        tries: list[str] = []

        def periods(tenant: str) -> None:
            tries.append(tenant)
            raise error

        writer = SlowWriter()
        recorder = Recorder(
            writer, lambda _: Untouched(), bounds=Bounds(period_s=0.01), periods=periods
        )
        recorder.note(_append())
        writer.settle()
        await recorder.start()
        failed = isinstance(error, StoreFailed)
        await until(lambda: recorder.failed.is_set() if failed else len(tries) > 2)
        await recorder.close()
        assert set(tries) == {"shop"}

    run(main())


def test_a_large_append_leaves_the_loop_to_others() -> None:
    class Slow(Untouched):
        def event(self, event: Event) -> Event:
            time.sleep(0.003)
            return event

    async def main() -> None:
        recorder = Recorder(SlowWriter(), lambda _: Slow())
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        await recorder.redact(_append(events=tuple(map(event, range(20)))))
        task.cancel()
        assert turns >= 19

    run(main())


def _ended(n: int = 0) -> Append:
    body = StreamEnded(
        outcome="ok", status="ok", mode="enforce", hold="window", scanned=1, held=0, released=1
    )
    return _append(events=(event(n, body),))


@pytest.mark.parametrize("error", [StoreBusy("busy"), StoreFull("no room")])
def test_receipts_and_ends_stay_while_the_store_takes_nothing_and_come_in_order(
    error: StoreBusy | StoreFull,
) -> None:
    async def main() -> None:
        writer, meters = SlowWriter(), _Meters()
        recorder = _slow(writer, meters)
        await recorder.start()
        kept = asyncio.ensure_future(recorder.record(_append(0, entries=(_ENTRY,))))
        await until(lambda: writer.given)
        assert recorder.note(_ended(1))
        assert recorder.note(_append(2))  # of this one there is nothing left to wait for
        given = [append for append, _ in writer.given]
        writer.settle(error)
        await until(lambda: writer.given)
        assert [append for append, _ in writer.given] == given[:1]  # one is tried, under its ids
        assert (recorder.state, recorder.waiting, kept.done()) == ("slow", 2, False)
        writer.settle(error)
        await until(lambda: writer.given)
        writer.settle()
        assert (await kept).tenant == "shop"
        await until(lambda: writer.given)
        assert writer.given[0][0] == given[1]
        writer.settle()
        await until(lambda: writer.given)
        assert writer.given[0][0].events[0].body == Shed(events=1, source="tocsin/recorder")
        writer.settle()
        await until(lambda: recorder.state == "ok")
        await recorder.close()
        assert [said for said in meters.said if said[0] in {"lost", "shed"}] == [("shed", 0, 1)]

    run(main())


def test_what_is_given_up_at_the_end_is_counted_once_and_its_waiter_told() -> None:
    async def main() -> None:
        writer, meters = SlowWriter(), _Meters()
        recorder = _slow(writer, meters, close_ms=50)
        kept = asyncio.ensure_future(
            recorder.record(_append(0, entries=(_ENTRY,), contents=(_content(),)))
        )
        await until(lambda: writer.given)
        assert recorder.note(_ended(1))
        writer.settle(StoreFull("no room"))
        writer.refuses = StoreFull("no room")
        await recorder.close()
        with pytest.raises(StoreBusy, match="until the record was closed"):
            await kept
        assert recorder.waiting == 0
        counted = [said for said in meters.said if said[0] in {"lost", "shed"}]
        assert counted == [("lost", 1), ("shed", 1, 1), ("shed", 0, 1)]

    run(main())


def test_receipts_that_find_no_room_are_told_in_the_record() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = _slow(writer, appends=2)
        await recorder.start()
        for n in range(2):
            assert recorder.note(_ended(n))
        with pytest.raises(StoreBusy):
            await recorder.record(_append(2, entries=(_ENTRY,), contents=(_content(),)))
        writer.settle()
        await until(lambda: writer.given)
        told = writer.given[0][0].events[0].body
        assert told == Shed(contents=1, events=1, receipts=1, source="tocsin/recorder")
        writer.settle()
        await recorder.close()

    run(main())


def test_what_waits_for_a_store_is_told_when_it_fails() -> None:
    async def main() -> None:
        writer, meters = SlowWriter(), _Meters()
        recorder = _slow(writer, meters)
        kept = asyncio.ensure_future(recorder.record(_append(0, entries=(_ENTRY,))))
        await until(lambda: writer.given)
        writer.settle(StoreFull("no room"))
        await until(lambda: recorder.state == "slow")
        recorder.note(_append(1))
        writer.settle(StoreFailed("a sync failed"))
        with pytest.raises(StoreFailed):
            await kept
        assert ("lost", 1) in meters.said

    run(main())
