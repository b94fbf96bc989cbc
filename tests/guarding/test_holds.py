"""Text that is held at once changes nothing: what comes out is what `take` alone lets out."""

from __future__ import annotations

import random

import pytest

import tocsin
from tocsin.guarding.doors import AsyncDoors, now
from tocsin.guarding.plan import Check, Guard
from tocsin.guarding.receipt import Who
from tocsin.guarding.response import Guarded
from tocsin.model import Channel, Context, Hold
from tocsin.stream.events import Began, Done, Event, Opened, Sealed, Stopped, Wrote

TEXT = "My card is 4111 1111 1111 1111, my mail ada@example.com. Is it not a fine day? "
CHANNELS = [Channel(), Channel("reasoning"), Channel("tool_arguments"), Channel("text", 1)]


def events(rng: random.Random) -> list[Event]:
    """A response in pieces of any size, on several channels at once."""
    texts = {channel: TEXT * rng.randint(0, 4) for channel in CHANNELS}
    tool = Channel("tool_arguments")
    made: list[Event] = [Opened(), Began(channel=tool, fields={"name": "f"})]
    while any(texts.values()):
        channel = rng.choice([c for c in CHANNELS if texts[c]])
        size = rng.choice([1, 4, 5, 47, 48, 49, 200])
        made.append(Wrote(channel=channel, text=texts[channel][:size]))
        texts[channel] = texts[channel][size:]
        if rng.random() < 0.1:
            made.append(Wrote(channel=channel, text=""))
    return [*made, Sealed(channel=tool), Stopped(), Stopped(choice=1), Done()]


def guard(hold: Hold) -> Guard:
    check = Check(name="rules", verifier=tocsin.verifier("patterns"), on_finding={"*": "mask"})
    return Guard(checks=(check,), hold=hold)


@pytest.mark.parametrize("hold", ["window", "end_of_stream", "optimistic"])
def test_what_is_held_at_once_is_what_take_holds(hold: Hold) -> None:
    rng = random.Random(3)
    held = 0
    for _ in range(20):
        ways = [Guarded(guard(hold), Context(), AsyncDoors()) for _ in range(2)]
        for event in events(rng):
            out = now(ways[0].take([event]))
            if ways[1].holds(event):
                held += 1
                assert out == []
            else:
                assert now(ways[1].take([event])) == out
        assert not ways[1].holds(Wrote(channel=Channel(), text="more"))
        one, other = (way.receipt(Who(id="")) for way in ways)
        assert one == other
    assert (held > 100) == (hold != "optimistic")


def test_where_an_appeal_may_need_the_text_nothing_is_held_at_once() -> None:
    check = Check(name="rules", verifier=tocsin.verifier("patterns"), on_finding={"*": "escalate"})
    guarded = Guarded(Guard(checks=(check,)), Context(), AsyncDoors())
    now(guarded.take([Wrote(channel=Channel(), text="a")]))
    assert not guarded.holds(Wrote(channel=Channel(), text="b"))
    assert guarded.waits
