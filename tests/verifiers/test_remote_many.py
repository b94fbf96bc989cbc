"""Many responses at the same time: places, batches, cancellation, the end."""

import asyncio
import gc
import threading

import pytest
from verifiers.remote_world import (
    BATCHED,
    CONTEXT,
    fake,
    once,
    one,
    opened,
    queued,
    reason,
    remote,
    run,
)

from tocsin.errors import SessionMisuse
from tocsin.model import Delta, Score, Unknown
from tocsin.testing.fake_guard import Reply

# -------------------------------------------------------------------------- many at the same time


@pytest.mark.parametrize("dialect", BATCHED)
def test_eight_that_ask_at_once_become_one_call_and_get_their_own(dialect: str) -> None:
    async def ask() -> None:
        async with opened(guard, dialect) as verifier:
            texts = [f"Text number {i}." for i in range(8)]
            outcomes = await asyncio.gather(*(one(verifier, text) for text in texts))
            alone = [await one(verifier, text) for text in texts]
            assert outcomes == alone
            assert len({o.value for o in alone if isinstance(o, Score)}) == 8

    with fake(dialect) as guard:
        run(ask())
        assert len(guard.requests) == 1 + 8


def test_what_queued_while_the_last_call_ran_goes_together() -> None:
    async def ask() -> None:
        more = {"concurrency": 1, "batch": 4}
        async with opened(guard, "classify", limits=more) as verifier:
            guard.script(Reply(hang="before"))
            first = asyncio.create_task(one(verifier))
            await asyncio.to_thread(guard.wait, 1)
            others = [asyncio.create_task(one(verifier, f"Text {i}.")) for i in range(6)]
            await queued(verifier, 6)
            guard.release()
            assert all(isinstance(o, Score) for o in await asyncio.gather(first, *others))

    with fake("classify") as guard:
        run(ask())
        assert [len(r.body["input"]) for r in guard.requests] == [1, 4, 2]
        assert guard.requests[1].body["input"] == [f"Text {i}." for i in range(4)]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_text_that_a_server_refuses_does_not_spoil_its_batch(status: int) -> None:
    async def ask() -> None:
        async with opened(guard, "classify") as verifier:
            guard.script(Reply(status=status), Reply(), Reply(status=status), Reply())
            outcomes = await asyncio.gather(*(one(verifier, f"Text {i}.") for i in range(3)))
            assert [type(o) for o in outcomes] == [Score, Unknown, Score]

    with fake("classify") as guard:
        run(ask())
        assert [len(r.body["input"]) for r in guard.requests] == [3, 1, 1, 1]


def test_chats_are_asked_one_by_one_and_no_more_than_allowed_at_once() -> None:
    async def ask() -> None:
        async with opened(guard, limits={"concurrency": 2}) as verifier:
            guard.always(Reply(hang="before"))
            asked = [asyncio.create_task(one(verifier)) for _ in range(5)]
            await asyncio.to_thread(guard.wait, 2)
            assert len(guard.requests) == 2
            guard.release()
            assert all(isinstance(o, Score) for o in await asyncio.gather(*asked))

    with fake("judge") as guard:
        run(ask())
        assert len(guard.requests) == 5


def test_a_full_queue_is_overloaded_at_once() -> None:
    async def ask() -> None:
        async with opened(guard, limits={"concurrency": 1, "queue": 2}) as verifier:
            guard.script(Reply(hang="before"))
            asked = [asyncio.create_task(one(verifier)) for _ in range(3)]
            await asyncio.to_thread(guard.wait, 1)
            assert reason(await one(verifier)) == "overloaded"
            assert len(guard.requests) == 1
            guard.release()
            assert all(isinstance(o, Score) for o in await asyncio.gather(*asked))

    with fake("judge") as guard:
        run(ask())


def test_who_waits_in_the_queue_has_a_deadline_too() -> None:
    async def ask() -> None:
        more = {"concurrency": 1, "deadline_ms": 50}
        async with opened(guard, limits=more, breaker={"failures": 10}) as verifier:
            guard.always(Reply(hang="before"))
            outcomes = await asyncio.gather(*(one(verifier) for _ in range(3)))
            assert list(map(reason, outcomes)) == ["timeout"] * 3

    with fake("judge") as guard:
        run(ask())


@pytest.mark.parametrize("dialect", ["judge", "classify"])
def test_a_session_that_is_cancelled_gives_its_place_back(dialect: str) -> None:
    async def ask() -> None:
        async with opened(guard, dialect, limits={"concurrency": 1}) as verifier:
            guard.script(Reply(hang="before"))
            first = asyncio.create_task(one(verifier))
            await asyncio.to_thread(guard.wait, 1)
            second = asyncio.create_task(one(verifier))
            await queued(verifier, 1)
            third = asyncio.create_task(one(verifier, "Third."))
            await queued(verifier, 2)
            for task in (first, second):
                task.cancel()
            assert isinstance(await third, Score)
            assert first.cancelled() and second.cancelled()
            assert not verifier._client._lane._running and not verifier._client._lane._waiting

    with fake(dialect) as guard:
        run(ask())
        assert len(guard.requests) == 2


def test_a_session_cancelled_before_its_call_begins_gives_its_place_back() -> None:
    async def ask() -> None:
        async with opened(guard, limits={"concurrency": 1}) as verifier:
            for turns in range(6):
                task = asyncio.create_task(one(verifier))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
            assert isinstance(await one(verifier), Score)

    with fake("judge") as guard:
        run(ask())


def test_one_of_a_batch_that_leaves_does_not_end_the_call_of_the_others() -> None:
    async def ask() -> None:
        async with opened(guard, "classify") as verifier:
            guard.script(Reply(hang="before"))
            asked = [asyncio.create_task(one(verifier, f"Text {i}.")) for i in range(3)]
            await asyncio.to_thread(guard.wait, 1)
            asked[1].cancel()
            await asyncio.sleep(0)
            guard.release()
            assert isinstance(await asked[0], Score) and isinstance(await asked[2], Score)

    with fake("classify") as guard:
        run(ask())
        assert len(guard.requests) == 1


def test_closing_the_verifier_makes_everything_unreachable() -> None:
    async def ask() -> None:
        verifier = remote(guard, limits={"concurrency": 1})
        guard.always(Reply(hang="before"))
        session = verifier.open_async(CONTEXT)
        asked = [asyncio.create_task(one(verifier)) for _ in range(2)]
        await asyncio.to_thread(guard.wait, 1)
        await verifier.aclose()
        assert [reason(o) for o in await asyncio.gather(*asked)] == ["unreachable"] * 2
        assert [reason(o) for o in await session.feed(Delta(text="A.", ends="turn"))] == [
            "unreachable"
        ]
        await verifier.aclose()
        await session.close()
        with pytest.raises(SessionMisuse):
            await session.feed(Delta(text="B."))

    with fake("judge") as guard:
        run(ask())


def test_a_verifier_in_a_second_event_loop_is_a_misuse() -> None:
    with fake("judge") as guard, asyncio.Runner() as first:
        verifier = remote(guard)
        assert isinstance(first.run(one(verifier)), Score)
        with asyncio.Runner() as second, pytest.raises(SessionMisuse, match="one event loop"):
            second.run(one(verifier))
        first.run(verifier.aclose())


def test_nothing_is_left_behind() -> None:
    before = threading.active_count()
    for _ in range(3):
        assert isinstance(once(Reply()), Score)
    gc.collect()
    assert threading.active_count() == before
