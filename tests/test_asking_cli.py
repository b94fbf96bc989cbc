"""`TOCSIN_KEY`: one rule for every command that opens a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("duckdb")

from tocsin.cli.main import cli
from tocsin.errors import AccessDenied
from tocsin.events.envelope import Event, Links
from tocsin.events.kinds import Accessed, Feedback
from tocsin.store import Append, Keys, Scope, Store
from tocsin.store.access import Access, local
from tocsin.store.history import History
from tocsin.store.roles import ACTIONS, ALLOWED, ROLES, Action

T = "--tenant"
ASKS: dict[str, tuple[Action, tuple[str, ...]]] = {
    "trace": ("record.read", ("trace", "DB", "q_1", T, "alpha")),
    "trace a person": ("record.read", ("trace", "DB", "--user", "u_1" + "0" * 19, T, "alpha")),
    "export": ("events.export", ("export", "DB", T, "alpha")),
    "clusters": ("audit.ask", ("audit", "clusters", "DB", T, "alpha")),
    "drift": ("audit.ask", ("audit", "drift", "DB", T, "alpha")),
    "threshold": ("audit.ask", ("audit", "threshold", "DB", T, "alpha")),
    "escalations": ("audit.ask", ("audit", "escalations", "DB", T, "alpha")),
    "retention": ("retention.apply", ("retention", "DB", "--keep", "feedback=1", T, "alpha")),
    "retention of all": ("retention.apply", ("retention", "DB", "--keep", "feedback=1")),
    "dry run": ("retention.apply", ("retention", "DB", "--keep", "usage=1", "--dry-run")),
    "history close": ("history.close", ("history", "close", "DB", "--uncovered", T, "alpha")),
    "history close of all": ("history.close", ("history", "close", "DB", "--uncovered")),
    "history list": ("record.read", ("history", "list", "DB")),
    "fsck": ("record.check", ("fsck", "DB")),
    "checkpoint": ("record.read", ("log", "checkpoint", "DB", T, "alpha")),
    "periods": ("record.read", ("log", "periods", "DB", T, "alpha")),
    "contents": ("record.read", ("content", "list", "DB", T, "alpha")),
    "access list": ("access.read", ("access", "list", "DB", T, "alpha")),
    "keys": ("key.manage", ("access", "key", "list", "DB", T, "alpha")),
}
"""Commands of a record by what they do, and the action that each is."""


class World:
    """A store with two tenants, and a key of each role of the first."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "record.db")
        self.keys: dict[str, str] = {}
        with Store.open(self.path, keys=Keys.open(folder / "keys", create=True)) as store:
            for tenant in ("alpha", "beta"):
                links = Links(request="q_1", user="u_1" + "0" * 19)
                event = Event(
                    id="e1", time_us=10**15, source=tenant, body=Feedback(verdict="up"), links=links
                )
                store.commit([Append(tenant=tenant, events=(event,))])
                store.close_period(Scope(tenant))
            access = Access(store, redact=lambda _, text: text)
            for role in ROLES:
                self.keys[role] = access.add_key(local("alpha", "ann"), role).key

    def run(self, given: tuple[str, ...], key: str | None) -> Result:
        named = [self.path if one == "DB" else one for one in given]
        return CliRunner(env={"TOCSIN_KEY": key}).invoke(cli, named)

    def accesses(self, tenant: str = "alpha") -> list[Accessed]:
        with Store.open(self.path) as store:
            bodies = [s.event.body for s in store.events(Scope(tenant), kind="access")]
        return [body for body in bodies if isinstance(body, Accessed)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _refusal(result: Result) -> str:
    """What a refused command says; `fsck` has a status of its own."""
    assert result.exit_code == 2 or isinstance(result.exception, AccessDenied), result.exception
    return result.output + str(result.exception)


@pytest.mark.parametrize("name", ASKS)
def test_a_command_does_what_the_role_of_the_key_allows(world: World, name: str) -> None:
    action, given = ASKS[name]
    for role in ROLES:
        before = len(world.accesses())
        result = world.run(given, world.keys[role])
        if action in ALLOWED[role]:
            assert result.exit_code == 0, (role, result.output, result.exception)
            continue
        said = _refusal(result)
        assert f"may not {ACTIONS[action]}: its role is {role}" in said
        refused = world.accesses()[before:]
        assert [(b.role, b.action, b.allowed) for b in refused] == [(role, action, False)]


@pytest.mark.parametrize("name", [name for name in ASKS if T in ASKS[name][1]])
def test_a_key_opens_its_own_tenant_alone(world: World, name: str) -> None:
    action, given = ASKS[name]
    theirs = tuple("beta" if one == "alpha" else one for one in given)
    said = _refusal(world.run(theirs, world.keys["admin"]))
    assert "is of another tenant: it opens nothing of 'beta'" in said
    told = world.accesses()[-1]
    assert (told.action, told.target, told.allowed) == (action, "tenant beta", False)
    assert world.accesses("beta") == []


@pytest.mark.parametrize("key", ["", "tk-nobody"])
@pytest.mark.parametrize("name", ASKS)
def test_a_key_that_is_none_opens_nothing(world: World, name: str, key: str) -> None:
    said = _refusal(world.run(ASKS[name][1], key))
    assert "is none of this record" in said
    assert not key or key not in said


def test_without_a_tenant_a_key_means_its_own(world: World) -> None:
    def told(*given: str) -> Any:
        return json.loads(world.run((*given, "--json"), world.keys["admin"]).stdout)

    assert [r["tenant"] for r in told("retention", "DB", "--keep", "usage=1")] == ["alpha"]
    closed = told("history", "close", "DB", "--uncovered")
    assert [r["tenant"] for r in closed["tenants"]] == ["alpha"]
    assert [r["tenant"] for r in told("history", "list", "DB")["tenants"]] == ["alpha"]
    assert told("fsck", "DB")["tenants"] == 1
    assert json.loads(world.run(("fsck", "DB", "--json"), None).stdout)["tenants"] == 2


def test_what_is_of_all_tenants_is_for_no_key(world: World) -> None:
    keys = str(Path(world.path).parent / "keys")
    said = _refusal(world.run(("content", "rewrap", "DB", "--keys", keys), world.keys["admin"]))
    assert "of all tenants" in said
    assert not world.accesses()[-1].allowed


def test_who_ran_retention_and_closed_hours_is_recorded(world: World) -> None:
    close = ("history", "close", "DB", "--uncovered", "--older-than-hours", "0", T, "beta")
    assert world.run(close, None).exit_code == 0
    gone = ("retention", "DB", "--keep", "feedback=0", T, "beta")
    assert world.run(gone, None).exit_code == 0
    told = world.accesses("beta")
    assert [b.action for b in told] == ["history.close", "retention.apply"]
    assert all(b.by.startswith("local:") and b.role == "admin" for b in told)
    assert told[0].reason.startswith("events from 1 on, before 20")
    assert told[1].reason == "1 of feedback after 0 days"
    # What is left is what was told of such acts: to move it is told of no more, else for ever.
    with Store.open(world.path) as store, History(store) as history:
        for _ in range(3):
            by = local("beta", "ann")
            history.close(Scope("beta"), before_us=2**60, uncovered=True, by=by)
        assert store.events(Scope("beta")) == []
        assert [s.event.body for s in history.events(Scope("beta"))] == told


def test_a_key_makes_no_tenant_by_a_slip(world: World) -> None:
    made = ("access", "key", "add", "DB", "--role", "viewer", T, "gamma")
    refused = world.run(made, None)
    assert refused.exit_code == 2
    assert "there is no tenant 'gamma'; there are alpha, beta" in refused.output
    assert "The record has not heard of 'gamma' yet" in " ".join(refused.output.split())
    assert "--new-tenant" in refused.output
    with Store.open(world.path) as store:
        assert len(store.heads()) == 2
    assert world.run((*made, "--new-tenant"), None).exit_code == 0
    assert world.run(made, None).exit_code == 0


def test_a_key_narrowed_to_making_keys_does_not_end_at_raw_text(world: World) -> None:
    add = ("access", "key", "add", "DB", T, "alpha", "--json", "--role", "admin")
    narrow = json.loads(world.run((*add, "--scope", "key.manage", "--days", "1"), None).stdout)
    refused = world.run(add, narrow["key"])
    assert isinstance(refused.exception, AccessDenied)
    assert "may not make a key that may what it may not itself: record.read" in str(
        refused.exception
    )
    outlives = world.run((*add, "--scope", "key.manage"), narrow["key"])
    assert isinstance(outlives.exception, AccessDenied)
    assert "lasts longer than itself, which expires" in str(outlives.exception)
    less = (*add, "--scope", "key.manage", "--days", "0.5")
    child = json.loads(world.run(less, narrow["key"]).stdout)
    grant = ("access", "grant", "DB", T, "alpha", "--reason", "case 12: was it right?")
    for key in (narrow["key"], child["key"]):
        assert isinstance(world.run(grant, key).exception, AccessDenied)


def test_the_list_of_accesses_shows_what_was_done(world: World, tmp_path: Path) -> None:
    erase = ("content", "erase", "DB", T, "alpha", "--all", "--reason", "the contract ended")
    assert world.run(erase, None).exit_code == 1
    shown = world.run(("access", "list", "DB", T, "alpha"), None).stdout
    assert "made: auditor, never expires" in shown
    assert "erased 0 contents, and keys of 0 subjects" in shown
