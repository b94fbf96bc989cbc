"""No read of one tenant ever shows anything of another, whatever either of them does.

Two tenants use the same ids on purpose; everything that one writes bears its mark.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tocsin.errors import ContentGone, InputError
from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.kinds import Feedback
from tocsin.receipts import Signer
from tocsin.store import Append, Content, Entry, Keys, Scope, Store
from tocsin.store.access import Access, Principal, local

MARKS = {"acme": "mark-of-acme", "other": "mark-of-other"}
TENANTS = st.sampled_from(sorted(MARKS))
NUMBERS = st.integers(0, 4)
REASON = "it has to be looked into"
PROVE = os.environ.get("TOCSIN_PROVE") == "1"
EXAMPLES, STEPS = (200, 5_000) if PROVE else (5, 40)
LOOKS_EVERY = 20


def shown(value: Any) -> str:
    return repr(msgspec.to_builtins(value, enc_hook=repr)) + repr(value)


class Crossing(RuleBasedStateMachine):
    """Everything that two tenants can do, and everything that they can read then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        keys = Keys(Signer.from_seed("example.com/log", bytes(32)), (bytes(32),))
        self.store = Store.open(f"{self.folder.name}/record.db", keys=keys)
        self.access = Access(self.store, redact=lambda _, text: text)
        self.admins = {tenant: local(tenant, f"{MARKS[tenant]}") for tenant in MARKS}
        self.keys: dict[str, str] = {}
        self.steps = 0
        for admin in self.admins.values():
            self.access.grant(admin, reason=REASON)

    def teardown(self) -> None:
        try:
            self.look()
        finally:
            self.end()

    def end(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(tenant=TENANTS, n=NUMBERS)
    def event(self, tenant: str, n: int) -> None:
        mark = MARKS[tenant]
        links = Links(
            request=f"r{n}",
            call=f"call{n}",
            session="s",
            user="u_1",
            retrieval=mark,
            tool_call=mark,
        )
        body = Feedback(verdict="up", comment=f"{mark} {n}")
        segment = Segment(route="chat", model=mark)
        one = Event(id=f"e{n}", time_us=n, source=mark, body=body, links=links, segment=segment)
        self.store.commit([Append(tenant=tenant, events=(one,))])

    @rule(tenant=TENANTS, n=NUMBERS)
    def receipt(self, tenant: str, n: int) -> None:
        body = msgspec.json.encode({"says": MARKS[tenant]})
        entry = Entry(kind="receipt", id=f"call{n}", body=body)
        self.store.commit([Append(tenant=tenant, entries=(entry,))])

    @rule(tenant=TENANTS, n=NUMBERS)
    def content(self, tenant: str, n: int) -> None:
        one = Content(
            id=f"c{n}",
            subject="u_1",
            request=f"r{n}",
            what="output",
            text=MARKS[tenant],
            why="sample",
            expires_us=10**18,
        )
        self.store.commit([Append(tenant=tenant, contents=(one,))])

    @rule(tenant=TENANTS)
    def period(self, tenant: str) -> None:
        self.store.close_period(Scope(tenant))

    @rule(tenant=TENANTS)
    def key(self, tenant: str) -> None:
        if len(self.keys) < 8:
            made = self.access.add_key(self.admins[tenant], "viewer", label=MARKS[tenant])
            self.keys[made.key] = tenant

    @rule(tenant=TENANTS, n=NUMBERS)
    def revoke(self, tenant: str, n: int) -> None:
        """Each tries to revoke any key; only its own can be."""
        for key in list(self.keys)[n : n + 1]:
            found = self.access.principal(key)
            if found is None:
                continue
            assert found.tenant == self.keys[key]
            if found.tenant == tenant:
                self.access.revoke_key(self.admins[tenant], found.id)
                assert self.access.principal(key) is None
            else:
                with pytest.raises(InputError):
                    self.access.revoke_key(self.admins[tenant], found.id)
                assert self.access.principal(key) == found

    @rule(tenant=TENANTS, whole=st.booleans())
    def erase(self, tenant: str, whole: bool) -> None:
        self.access.erase(self.admins[tenant], subject=None if whole else "u_1", reason=REASON)

    @rule(tenant=TENANTS, n=NUMBERS)
    def read_content(self, tenant: str, n: int) -> None:
        try:
            read = self.access.read(self.admins[tenant], f"c{n}", reason=REASON)
        except ContentGone:
            return
        assert read.text == MARKS[tenant]

    @invariant()
    def nothing_crosses(self) -> None:
        """Look after some of the steps, and at the end: looking takes longer than doing."""
        self.steps += 1
        if self.steps % LOOKS_EVERY == 0:
            self.look()

    def look(self) -> None:
        for tenant, admin in self.admins.items():
            (theirs,) = (mark for other, mark in MARKS.items() if other != tenant)
            for what in self.reads(Scope(tenant), admin):
                assert theirs not in shown(what)

    def reads(self, scope: Scope, admin: Principal) -> list[Any]:
        """Everything that can be read of a tenant, by every id that there may be."""
        store = self.store
        made: list[Any] = []
        made += [store.events(scope), store.events(scope, user="u_1", session="s")]
        made += [store.counts(scope, by) for by in ("kind", "route", "model")]
        made += [store.head(scope), store.checkpoint(scope), store.checkpoints(scope)]
        made += [store.entries(scope)]
        made += [self.access.keys(admin), self.access.grants(admin), self.access.log(admin)]
        # Ids of the other tenant's keys and grants are asked for as well.
        ids = [f"{name}{n}" for n in range(5) for name in ("e", "r", "call")] + ["s", "u_1"]
        ids += list(MARKS.values())
        made += [store.trace(scope, name) for name in ids]
        made += [store.events(scope, call=name) for name in ids[:3]]
        for name in (f"call{n}" for n in range(5)):
            made.append(store.receipt(scope, name))
            if made[-1] is not None:
                made.append(store.proof(scope, name))
        size = store.head(scope).size
        if size > 1:
            made.append(store.growth(scope, 1, size))
        return made


def test_nothing_of_one_tenant_is_ever_read_by_another() -> None:
    run_state_machine_as_test(
        Crossing,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            suppress_health_check=list(HealthCheck),
            deadline=None,
        ),
    )
