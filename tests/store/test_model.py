"""The store against a model: whatever is committed, in any order, by several, is what is there."""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store.making import event, receipt
from store.postgres import server

from tocsin.receipts import Signer, leaf_hash, verify
from tocsin.receipts.merkle import root
from tocsin.store import Append, Committed, Keys, Rejected, Scope, Store
from tocsin.store.fsck import fsck

TENANTS = ("acme", "other", "a/b")
EXAMPLES = int(os.environ.get("TOCSIN_STORE_EXAMPLES", "12"))
STEPS = int(os.environ.get("TOCSIN_STORE_STEPS", "25"))

numbers = st.lists(st.integers(0, 40), max_size=6).map(tuple)
names = st.lists(st.integers(0, 12).map(lambda n: f"r{n}"), max_size=3).map(tuple)
appends = st.lists(
    st.tuples(st.sampled_from(TENANTS), numbers, names, st.booleans()), min_size=1, max_size=4
)


class Model:
    """One tenant's record as a list and a few sets."""

    def __init__(self) -> None:
        self.events: list[int] = []
        self.receipts: list[str] = []
        self.entries = 0
        self.covered = 0

    def take(self, given: tuple[int, ...], receipts: tuple[str, ...]) -> dict[str, Any]:
        before = len(self.events)
        duplicates = []
        for n in given:
            if n in self.events:
                duplicates.append(f"e{n}")
            else:
                self.events.append(n)
        for name in receipts:
            if name in self.receipts:
                duplicates.append(name)
            else:
                self.receipts.append(name)
                self.entries += 1
        new = len(self.events) > before
        return {
            "first": before + 1 if new else 0,
            "last": len(self.events) if new else 0,
            "duplicates": tuple(duplicates),
            "differing": (),
        }


class StoreMachine(RuleBasedStateMachine):
    """Two stores over one place, three tenants."""

    def make(self) -> str:
        """Make the place, and say where it is; each kind of store has its own way."""
        raise NotImplementedError

    def unmake(self) -> None:
        """Take the place away again."""
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.keys = Keys(Signer.from_seed("example.com/log", bytes(32)))
        self.url = self.make()
        self.models = {tenant: Model() for tenant in TENANTS}
        self.stores = [Store.open(self.url, keys=self.keys) for _ in range(2)]

    @rule(which=st.integers(0, 1), given=appends)
    def commit(
        self, which: int, given: list[tuple[str, tuple[int, ...], tuple[str, ...], bool]]
    ) -> None:
        made = [
            Append(
                tenant="" if bad else tenant,
                events=tuple(event(n, request=f"q{n // 4}") for n in events),
                entries=tuple(receipt(name) for name in receipts),
            )
            for tenant, events, receipts, bad in given
        ]
        done = self.stores[which].commit(made)
        for (tenant, events, receipts, bad), answer in zip(given, done, strict=True):
            if bad or not (events or receipts):
                assert isinstance(answer, Rejected)
                continue
            assert isinstance(answer, Committed)
            expected = self.models[tenant].take(events, receipts)
            told = {name: getattr(answer, name) for name in expected}
            assert told == expected
            assert (answer.checkpoint is not None) == bool(receipts)

    @rule(which=st.integers(0, 1), tenant=st.sampled_from(TENANTS))
    def close_period(self, which: int, tenant: str) -> None:
        model = self.models[tenant]
        done = self.stores[which].close_period(Scope(tenant))
        assert (done is not None) == (model.covered < len(model.events))
        if done is not None:
            model.covered = len(model.events)
            model.entries += 1

    @rule(which=st.integers(0, 1))
    def reopen(self, which: int) -> None:
        self.stores[which].close()
        self.stores[which] = Store.open(self.url, keys=self.keys, create=False)

    @rule(which=st.integers(0, 1))
    def take_back_the_log(self, which: int) -> None:
        self.stores[which].truncate_log()

    @rule(which=st.integers(0, 1), tenant=st.sampled_from(TENANTS), name=names.filter(bool))
    def prove(self, which: int, tenant: str, name: tuple[str, ...]) -> None:
        store, scope = self.stores[which], Scope(tenant)
        if name[0] not in self.models[tenant].receipts:
            assert store.receipt(scope, name[0]) is None
            return
        origin = f"example.com/log/{tenant.replace('/', '%2F')}"
        found = verify(store.proof(scope, name[0]), [self.keys.signer.public.named(origin)])
        assert (found.entry.tenant, found.entry.id) == (tenant, name[0])
        assert found.size == self.models[tenant].entries

    @rule(which=st.integers(0, 1), tenant=st.sampled_from(TENANTS), n=st.integers(0, 10))
    def trace(self, which: int, tenant: str, n: int) -> None:
        found = self.stores[which].trace(Scope(tenant), f"q{n}")
        expected = [m for m in self.models[tenant].events if m // 4 == n]
        assert [s.event.id for s in found] == [f"e{m}" for m in expected]

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "stores"):
            return
        for store in self.stores:
            for tenant, model in self.models.items():
                scope = Scope(tenant)
                head = store.head(scope)
                assert (head.seq, head.size) == (len(model.events), model.entries)
                assert head.period == model.covered
                read = store.events(scope)
                assert [(s.seq, s.event.id) for s in read] == [
                    (i, f"e{n}") for i, n in enumerate(model.events, 1)
                ]

    def teardown(self) -> None:
        if not hasattr(self, "stores"):
            return
        try:
            for tenant in TENANTS:
                scope = Scope(tenant)
                leaves = [leaf_hash(e.entry) for e in self.stores[0].entries(scope)]
                note = self.stores[0].checkpoint(scope)
                assert (note is None) == (not leaves)
                if note is not None:
                    assert verify_root(note, leaves)
            assert fsck(self.stores[1], keys=[self.keys.signer.public]).findings == ()
        finally:
            for store in self.stores:
                store.close()
            self.unmake()


def verify_root(note: str, leaves: list[bytes]) -> bool:
    return note.split("\n")[1:3] == [str(len(leaves)), base64.b64encode(root(leaves)).decode()]


class SqliteMachine(StoreMachine):
    """In a file."""

    def make(self) -> str:
        self.folder = Path(tempfile.mkdtemp(prefix="tocsin-model-"))
        return f"sqlite:///{self.folder}/record.db"

    def unmake(self) -> None:
        shutil.rmtree(self.folder)


class PostgresqlMachine(StoreMachine):
    """On a real server."""

    def make(self) -> str:
        return server().prepared()

    def unmake(self) -> None:
        server().give_back(self.url)


TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)
TestPostgresql = PostgresqlMachine.TestCase
TestPostgresql.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)
TestPostgresql.pytestmark = [pytest.mark.slow]  # type: ignore[attr-defined]
