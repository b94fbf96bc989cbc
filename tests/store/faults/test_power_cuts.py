"""The promise: what was acknowledged outlives the power, whatever of the rest the disk kept."""

from __future__ import annotations

import pytest
from store.faults import outages_after_faults, traced
from store.faults.environment import PROVE
from store.faults.outages import WAYS, tally

IMAGES = 3_000 if PROVE else 600
"""Images of each way to work."""

pytestmark = pytest.mark.skipif(not traced.works(), reason="strace cannot be used here")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_nothing_that_was_acknowledged_is_lost(way: str) -> None:
    found = tally(way, images=IMAGES)
    assert found.wrong == []
    assert found.images == IMAGES
    assert found.unsure >= 10


@pytest.mark.parametrize("way", ["one by one", "from several threads"])
def test_the_simulator_sees_what_is_lost_without_a_sync_for_each_commit(way: str) -> None:
    found = tally(way, images=300, enough=20, synchronous="NORMAL")
    assert len(found.wrong) == 20
    assert all(why.startswith("lost") for _, why in found.wrong)


def test_the_simulator_sees_what_a_disk_that_lies_about_syncs_does() -> None:
    found = tally("in batches, with checkpoints", images=300, enough=50, deaf=True)
    assert {why.partition(":")[0] for _, why in found.wrong} >= {"lost", "damaged"}


@pytest.mark.slow
def test_nothing_is_lost_behind_a_sync_that_failed() -> None:
    """The next process makes good what the system has forgotten to write."""
    numbers = outages_after_faults.failing("/db-wal")
    assert len(numbers) >= 4
    for number in numbers if PROVE else numbers[1::4]:
        found = outages_after_faults.tally(number, images=IMAGES // 4)
        assert found.wrong == []


def test_the_simulator_sees_what_is_lost_where_nobody_knows_of_the_sync_that_failed() -> None:
    number = outages_after_faults.failing("/db-wal")[1]
    found = outages_after_faults.tally(number, images=100, forgetful=True)
    assert len(found.wrong) > 10
