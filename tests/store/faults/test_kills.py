"""The promise: whoever is killed, whenever, what was acknowledged is there, once."""

from __future__ import annotations

import msgspec
import pytest
from store.faults import crashing, kills
from store.faults.environment import PROVE, program, scratch


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_writers_that_are_killed_lose_and_double_nothing(seed: int) -> None:
    """One to three processes on one store, at any moment."""
    with scratch() as folder:
        request = kills.Request(
            folder=str(folder), cycles=250 if PROVE else 40, seed=seed, contents=seed % 2 == 0
        )
        out = program("kills.py", msgspec.json.encode(request).decode())
    found = msgspec.json.decode(out, type=kills.Outcome)
    assert found.wrong == []
    assert found.cycles == request.cycles
    assert found.killed > request.cycles
    assert found.acks > 2 * request.cycles
    assert found.known > 0


@pytest.mark.slow
def test_a_server_that_is_killed_loses_and_doubles_nothing() -> None:
    """Its writers wait for it, and give again what they had no answer to."""
    with scratch() as folder:
        request = crashing.Request(folder=str(folder), crashes=30 if PROVE else 3, seed=1)
        out = program("crashing.py", msgspec.json.encode(request).decode())
    found = msgspec.json.decode(out, type=crashing.Outcome)
    assert found.wrong == []
    assert found.crashes == request.crashes
    assert found.acks > 10 * request.crashes
    assert found.refused > 0
