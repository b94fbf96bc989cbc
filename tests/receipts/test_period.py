"""Periods join, or somebody says where they do not: what was left out shows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from receipts.small_log import SmallLog

from tocsin.errors import ProofInvalid
from tocsin.receipts import (
    LogEntry,
    Period,
    Span,
    Verified,
    join,
    open_checkpoint,
    read_period,
    verify,
)


def period(first: int, last: int, entries: tuple[int, int], receipts: int) -> Period:
    return Period(
        first=first, last=last, from_us=first, until_us=last, opened=1, ended={}, alarms=0,
        kinds={"stream.opened": 1, "feedback": last - first}, entries_from=entries[0],
        entries_until=entries[1], receipts=receipts, events_root="", closed_us=last,
    )  # fmt: skip


def log_of(*periods: Period, receipts: int = 1) -> SmallLog:
    """A log with so many receipts before each period."""
    log = SmallLog()
    for one in periods:
        for _ in range(receipts):
            log.receipt(f"r_{len(log.entries)}")
        entry = LogEntry(
            tenant="acme", kind="period", id=one.id, sequence=one.last, body=one.write()
        )
        log.append(entry.write())
    return log


THREE = (
    period(1, 4, (0, 1), 1),
    period(5, 5, (1, 3), 1),
    period(6, 9, (3, 5), 1),
)
PLACES = (1, 3, 5)


def proven(log: SmallLog, *places: int, size: int | None = None) -> list[Verified]:
    return [verify(log.proof(at, size).write(), [log.key]) for at in places]


def changed(number: int, **fields: Any) -> SmallLog:
    made = list(THREE)
    made[number] = msgspec.structs.replace(made[number], **fields)
    return log_of(*made)


def refused(found: list[Verified]) -> str:
    with pytest.raises(ProofInvalid) as caught:
        join(found)
    return str(caught.value)


def test_periods_that_leave_nothing_out_join_in_any_order_and_number() -> None:
    log = log_of(*THREE)
    log.receipt("later")
    found = proven(log, *PLACES)
    whole = join(found)
    assert whole == join(found[::-1]) == join([*found, *found])
    assert whole == Span(checkpoint=found[0].checkpoint, periods=THREE, index=1)
    assert whole.after == 1
    assert join(found[:1]).after == 5
    assert read_period(THREE[0].write()) == THREE[0]


def test_periods_reach_back_to_a_checkpoint_that_holds_the_first_of_them() -> None:
    """Events without entries may have come after a checkpoint and before the next period."""
    log = log_of(*THREE)
    found = proven(log, *PLACES)
    for size in range(1, 7):
        old = open_checkpoint(log.checkpoint(size), [log.key])
        assert join(found).reaches(old)
        assert join(found[1:]).reaches(old) is (size >= 4)
        assert join(found[2:]).reaches(old) is (size >= 6)


def test_a_period_that_is_not_given_shows() -> None:
    found = proven(log_of(*THREE), 1, 5)
    assert "no period here speaks of events 5 to 5" in refused(found)
    assert refused([]) == "there is no period"


def test_periods_of_two_logs_or_of_a_log_that_forked_do_not_join() -> None:
    log, fork = log_of(*THREE), log_of(*THREE[:2], period(6, 9, (3, 5), 1))
    fork.receipt("another")
    assert "by checkpoints of 6 and of 7 entries" in refused([*proven(log, 1, 3), *proven(fork, 5)])
    fork = changed(2, closed_us=77)
    assert "by checkpoints of 6 and of 6 entries" in refused([*proven(log, 1, 3), *proven(fork, 5)])
    assert "by checkpoints of 2 and of 6" in refused([*proven(log, 1, size=2), *proven(log, 3, 5)])
    other = SmallLog("other")
    other.receipt("r")
    assert "two logs" in refused([*proven(log, 1), *proven(other, 0)])


def test_a_second_period_that_nobody_shows_is_missed() -> None:
    """The log of the periods that are shown says 1 to 4 twice, once with an alarm."""
    first = THREE[0]
    second = msgspec.structs.replace(
        first, alarms=1, kinds={"alarm": 1, "stream.opened": 1, "feedback": 2}
    )
    log = log_of(first, second, receipts=1)
    log.receipt("r")
    last = period(5, 9, (1, 5), 2)
    log.append(
        LogEntry(tenant="acme", kind="period", id=last.id, sequence=9, body=last.write()).write()
    )
    assert "there was another period" in refused(proven(log, 1, 5))
    assert "contradict" in refused(proven(log, 1, 3))


@pytest.mark.parametrize(
    "fields",
    [
        {"last": 6},
        {"first": 4},
        {"first": 7, "last": 6},
        {"alarms": 1},
        {"opened": 2},
        {"ended": {"ok": 1}},
        {"kinds": {"stream.opened": 1, "feedback": 1}},
        {"kinds": {"stream.opened": 1, "feedback": 1, "alarm": -1}},
        {"entries_from": 2},
        {"entries_until": 2},
        {"entries_until": 4},
        {"receipts": 2},
        {"receipts": 0},
    ],
)
def test_a_period_that_contradicts_itself_or_the_others_is_refused(fields: Any) -> None:
    assert refused(proven(changed(1, **fields), *PLACES))


def test_ranges_that_overlap_are_refused() -> None:
    middle = period(4, 5, (1, 3), 1)
    assert "contradict each other" in refused(proven(log_of(THREE[0], middle), 1, 3))
    moved = (THREE[0], THREE[1], period(6, 9, (2, 5), 2))
    assert "contradict each other" in refused(proven(log_of(*moved), *PLACES))


def test_what_is_no_period_is_refused() -> None:
    log = log_of(*THREE)
    assert "is no period" in refused(proven(log, 1, 2))
    log.append(LogEntry(tenant="acme", kind="period", id="1-2", sequence=9, body=b"{}").write())
    assert "no period" in refused(proven(log, 6))


def test_a_period_under_another_id_or_before_what_it_speaks_of_is_refused() -> None:
    log = SmallLog()
    log.receipt("r")
    entry = LogEntry(tenant="acme", kind="period", id="1-5", sequence=4, body=THREE[0].write())
    log.append(entry.write())
    assert "contradicts itself" in refused(proven(log, 1))
    log = SmallLog()
    log.append(
        LogEntry(tenant="acme", kind="period", id="1-4", sequence=4, body=THREE[0].write()).write()
    )
    assert "contradicts itself" in refused(proven(log, 0))
