"""The promise: whichever call of the system fails, nothing acknowledged is lost or half there.

A sync that fails ends everything: nothing is acknowledged after it, and the process gives up.
"""

from __future__ import annotations

import pytest
from store.faults import traced
from store.faults.environment import PROVE
from store.faults.faulting import FAULTS, FEW, begin_again, injected, judge, left

RUNS = None if PROVE else 5
"""Most runs for each call and fault; all that there are where None."""

pytestmark = pytest.mark.skipif(not traced.works(), reason="strace cannot be used here")


@pytest.mark.slow
@pytest.mark.parametrize(("way", "call", "fault"), FAULTS if PROVE else FEW)
def test_whatever_fails_nothing_acknowledged_is_lost(way: str, call: str, fault: str) -> None:
    with injected(way, call, fault, RUNS) as cases:
        assert {case.ran.number: why for case in cases if (why := left(case))} == {}
        for case in cases:
            judge(case, way, call, fault)
        begin_again(way, call, cases)
