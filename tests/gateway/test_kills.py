"""The promise: a gateway may be killed at any moment, and no answer's word is broken.

Where an answer ended with `recorded: true`, its receipt is there when the gateway is back, once,
with the alarm that it is about.
"""

from __future__ import annotations

import msgspec
import pytest
from store.faults import gateway_kills
from store.faults.environment import PROVE, program, scratch

from tocsin.testing.fake_model import FakeModel


@pytest.mark.slow
def test_a_gateway_that_is_killed_under_streams_loses_and_doubles_no_receipt() -> None:
    with scratch() as folder, FakeModel(gateway_kills.reply) as fake:
        request = gateway_kills.Request(
            folder=str(folder), url=fake.url, cycles=200 if PROVE else 15, seed=1
        )
        out = program("gateway_kills.py", msgspec.json.encode(request).decode())
    found = msgspec.json.decode(out, type=gateway_kills.Outcome)
    assert found.wrong == []
    assert found.cycles == request.cycles
    assert found.recorded > 3 * request.cycles
    assert found.cut > request.cycles
