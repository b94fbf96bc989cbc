"""Conversations of several tenants, and across a reload."""

from __future__ import annotations

import asyncio
import gc
import weakref

from gateway.world import Gate, on_literal, saying, within
from guarded_streams import literal_rules

from tocsin.gateway.conversations import Conversation, Conversations
from tocsin.gateway.errors import Refuse
from tocsin.guarding.plan import Check, Guard
from tocsin.model import Context
from tocsin.testing.fake_model import Fault

GUARD = Guard(digest="d", checks=(Check(name="rules", verifier=literal_rules()),))


def turn(known: Conversations, tenant: str, name: str, *, busy: bool = False) -> int:
    """Take a turn; say the how manieth it is, 0 where it is refused."""
    entered = known.enter(tenant, "route", name, GUARD, Context())
    if isinstance(entered, Refuse):
        return 0
    if not busy:
        known.leave(entered)
    return entered.turns


def test_a_tenant_that_floods_forgets_its_own_conversations_and_no_others() -> None:
    known = Conversations(lambda: 0.0, most=10)
    assert [turn(known, "quiet", name) for name in ("a", "b")] == [1, 1]
    assert {1} == {turn(known, "loud", str(i)) for i in range(100)}
    assert len(known) == 10
    assert [turn(known, "quiet", name) for name in ("a", "b")] == [2, 2]
    assert turn(known, "quiet", "c") == 1
    assert len(known) == 10


def test_where_the_largest_tenant_is_busy_one_gives_up_its_own() -> None:
    known = Conversations(lambda: 0.0, most=3)
    assert [turn(known, "large", name, busy=True) for name in ("a", "b")] == [1, 1]
    assert [turn(known, "small", name) for name in ("a", "b")] == [1, 1]
    assert turn(known, "third", "a") == 0


class Held:
    """Stands for a configuration."""


def test_a_conversation_keeps_the_configuration_whose_verifiers_it_uses() -> None:
    known = Conversations(lambda: 0.0)
    site = Held()
    gone = weakref.ref(site)
    entered = known.enter("t", "r", "a", GUARD, Context(), keeps=site)
    assert isinstance(entered, Conversation)
    known.leave(entered)
    del site, entered
    gc.collect()
    assert gone() is not None
    del known
    gc.collect()
    assert gone() is None


def test_a_conversation_that_is_only_observed_refuses_nobody() -> None:
    held = saying("All is well.", faults=(Fault(kind="hang", after_frames=2),))

    async def test() -> None:
        route, observed = {"conversations": True}, {"mode": "observe"}
        async with Gate(held, on_literal(), route=route, guard=observed) as gate:
            told = {"x-tocsin-conversation": "talk"}
            both = [asyncio.create_task(gate.post("chat", told=told)) for _ in range(2)]
            await gate.fake.until(held=2)
            gate.fake.release()
            assert [(await one).text for one in both] == ["All is well."] * 2

    within(test())
