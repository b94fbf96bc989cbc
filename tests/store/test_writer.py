"""The writer: many who wait share one sync, and nobody waits for good."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from store.making import append, event

from tocsin.errors import (
    AppendRefused,
    InputError,
    StoreAway,
    StoreBusy,
    StoreError,
    StoreFailed,
    StoreFull,
)
from tocsin.receipts.entry import read_entry
from tocsin.store import Append, Committed, Entry, Scope, Store, Writer
from tocsin.store.fsck import fsck

ACME = Scope("acme")
SOON = 20.0


class Spoiled:
    """Stands before a store's commit: waits, fails, and counts."""

    def __init__(self, store: Store) -> None:
        self._commit = store.commit_prepared
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.errors: list[StoreError] = []
        self.lost: list[StoreError] = []
        self.sizes: list[int] = []

    def __call__(self, given: Sequence[Any]) -> Any:
        self.entered.set()
        assert self.gate.wait(SOON)
        self.sizes.append(len(given))
        if self.errors:
            raise self.errors.pop(0)
        done = self._commit(given)
        if self.lost:
            raise self.lost.pop(0)
        return done


@pytest.fixture
def spoiled(store: Store, monkeypatch: pytest.MonkeyPatch) -> Spoiled:
    made = Spoiled(store)
    monkeypatch.setattr(store, "commit_prepared", made)
    return made


def results(futures: Sequence[Future[Committed]]) -> list[Committed]:
    return [future.result(SOON) for future in futures]


def test_what_is_acknowledged_is_in_the_store(store: Store) -> None:
    with Writer(store) as writer:
        for n in range(30):
            assert writer.submit(append("acme", n)).result(SOON).last == n + 1
            assert store.head(ACME).seq == n + 1


def test_appends_that_wait_together_are_committed_together_in_their_order(
    store: Store, spoiled: Spoiled
) -> None:
    spoiled.gate.clear()
    with Writer(store, linger_ms=0) as writer:
        first = writer.submit(append("acme", 0))
        assert spoiled.entered.wait(SOON)
        others = [writer.submit(append("acme", n)) for n in range(1, 400)]
        assert writer.waiting == 399
        spoiled.gate.set()
        assert [done.last for done in results([first, *others])] == list(range(1, 401))
    assert spoiled.sizes == [1, 256, 143]
    assert [s.event.id for s in store.events(ACME)] == [f"e{n}" for n in range(400)]


def test_large_appends_are_not_piled_up(store: Store, spoiled: Spoiled) -> None:
    spoiled.gate.clear()
    with Writer(store, linger_ms=0) as writer:
        first = writer.submit(append("acme", 0))
        assert spoiled.entered.wait(SOON)
        many = [
            writer.submit(append("acme", *range(n, n + 2_000))) for n in range(1_000, 9_000, 2_000)
        ]
        spoiled.gate.set()
        results([first, *many])
    assert spoiled.sizes == [1, 2, 2]


def test_many_threads_lose_and_double_nothing(store: Store) -> None:
    def one(k: int) -> list[Committed]:
        return results(
            [
                writer.submit(append(f"t{n % 3}", 100 * k + n, receipts=(f"r{k}.{n}",)))
                for n in range(25)
            ]
        )

    with Writer(store) as writer, ThreadPoolExecutor(8) as pool:
        done = [c for part in pool.map(one, range(8)) for c in part]
    for tenant in ("t0", "t1", "t2"):
        mine = sorted(c.last for c in done if c.tenant == tenant)
        assert mine == list(range(1, len(mine) + 1))
        assert store.head(Scope(tenant)).size == len(mine)
    assert fsck(store).sound


def test_a_full_queue_says_that_it_is_busy(store: Store, spoiled: Spoiled) -> None:
    spoiled.gate.clear()
    with Writer(store, linger_ms=0, waiting_max=2) as writer:
        futures = [writer.submit(append("acme", 0))]
        assert spoiled.entered.wait(SOON)
        futures += [writer.submit(append("acme", n)) for n in (1, 2)]
        with pytest.raises(StoreBusy, match="2 appends wait"):
            writer.submit(append("acme", 3))
        spoiled.gate.set()
        assert results(futures)[-1].last == 3


def test_a_busy_store_is_tried_again(store: Store, spoiled: Spoiled) -> None:
    spoiled.errors = [StoreBusy("busy"), StoreBusy("busy")]
    with Writer(store) as writer:
        assert writer.submit(append("acme", 1)).result(SOON).last == 1
    assert len(spoiled.sizes) == 3


def test_a_commit_whose_outcome_was_lost_is_not_doubled(store: Store, spoiled: Spoiled) -> None:
    spoiled.lost = [StoreAway("the connection was lost")]
    with Writer(store) as writer:
        done = writer.submit(append("acme", 1, 2, receipts=("r",))).result(SOON)
    assert done.duplicates == ("e1", "e2", "r")
    assert done.checkpoint == store.checkpoint(ACME)
    assert (store.head(ACME).seq, store.head(ACME).size) == (2, 1)


def test_a_store_that_stays_busy_fails_those_who_wait_and_goes_on(
    store: Store, spoiled: Spoiled
) -> None:
    spoiled.errors = [StoreBusy("busy")]
    with Writer(store, retry_ms_max=0) as writer:
        with pytest.raises(StoreBusy):
            writer.submit(append("acme", 1)).result(SOON)
        assert writer.submit(append("acme", 1)).result(SOON).last == 1
        assert writer.failed is None


def test_a_full_store_fails_at_once_and_goes_on_when_there_is_room(
    store: Store, spoiled: Spoiled
) -> None:
    spoiled.errors = [StoreFull("full")]
    with Writer(store) as writer:
        with pytest.raises(StoreFull):
            writer.submit(append("acme", 1)).result(SOON)
        assert writer.submit(append("acme", 1)).result(SOON).last == 1


@pytest.mark.parametrize("error", [StoreFailed("a sync failed"), RuntimeError("a bug")])
def test_after_a_failure_everybody_is_told_now_and_later(
    store: Store, spoiled: Spoiled, error: Any
) -> None:
    told: list[StoreError] = []
    spoiled.gate.clear()
    spoiled.errors = [error]
    with Writer(store, linger_ms=0, on_failed=told.append) as writer:
        futures = [writer.submit(append("acme", 0))]
        assert spoiled.entered.wait(SOON)
        futures += [writer.submit(append("acme", n)) for n in range(1, 300)]
        spoiled.gate.set()
        for future in futures:
            with pytest.raises(StoreFailed):
                future.result(SOON)
        with pytest.raises(StoreFailed):
            writer.submit(append("acme", 1))
    assert told == [writer.failed]
    assert store.head(ACME).seq == 0


def test_an_append_that_breaks_a_rule_fails_alone(store: Store) -> None:
    with Writer(store) as writer:
        bad = writer.submit(Append(tenant="", events=(event(1),)))
        good = writer.submit(append("acme", 1))
        with pytest.raises(AppendRefused, match="the name is empty"):
            bad.result(SOON)
        assert good.result(SOON).last == 1


def test_a_rule_that_only_the_commit_knows_fails_that_append_alone(store: Store) -> None:
    store.commit([append("acme", 1)])
    store.close_period(ACME)
    again = store.entries(ACME, kind="period")[0]
    body = read_entry(again.entry).body
    entry = Entry(kind="period", id="another", body=body)
    with Writer(store) as writer:
        bad = writer.submit(Append(tenant="acme", entries=(entry,)))
        good = writer.submit(append("acme", 2))
        with pytest.raises(AppendRefused, match="it has to begin at 2"):
            bad.result(SOON)
        assert good.result(SOON).last == 2


def test_whoever_gives_up_waiting_disturbs_nobody(store: Store, spoiled: Spoiled) -> None:
    spoiled.gate.clear()
    with Writer(store, linger_ms=0) as writer:
        first = writer.submit(append("acme", 0))
        assert spoiled.entered.wait(SOON)
        second, third = writer.submit(append("acme", 1)), writer.submit(append("acme", 2))
        assert second.cancel()
        spoiled.gate.set()
        assert [first.result(SOON).last, third.result(SOON).last] == [1, 2]
    assert [s.event.id for s in store.events(ACME)] == ["e0", "e2"]


def test_closing_commits_what_waits(store: Store, spoiled: Spoiled) -> None:
    spoiled.gate.clear()
    writer = Writer(store)
    futures = [writer.submit(append("acme", n)) for n in range(10)]
    spoiled.gate.set()
    writer.close()
    writer.close()
    assert results(futures)[-1].last == 10
    with pytest.raises(StoreBusy, match="being closed"):
        writer.submit(append("acme", 11))


def test_closing_waits_no_longer_than_it_was_told(store: Store, spoiled: Spoiled) -> None:
    spoiled.gate.clear()
    writer = Writer(store, linger_ms=0)
    first = writer.submit(append("acme", 0))
    assert spoiled.entered.wait(SOON)
    second = writer.submit(append("acme", 1))
    writer.close(timeout_s=0)
    with pytest.raises(StoreBusy):
        second.result(SOON)
    spoiled.gate.set()
    assert first.result(SOON).last == 1
    writer.close()


@pytest.mark.parametrize("linger", [-1.0, 5.1, float("nan")])
def test_a_linger_beyond_the_limit_is_refused(store: Store, linger: float) -> None:
    with pytest.raises(InputError, match="lingers"):
        Writer(store, linger_ms=linger)
