"""`tocsin access` and `tocsin content`: who may, who did, and what is left after an erasure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tocsin.cli.main import cli
from tocsin.errors import AccessDenied, ContentGone, InputError
from tocsin.events.envelope import Event
from tocsin.events.kinds import Feedback
from tocsin.record.redaction import Redaction
from tocsin.store import Append, Content, Keys, Store

TEXT = "what the model said\x1b[31m"
REASON = "case 12: was the alarm right?"


class World:
    """A store with one content of a person and one of a request."""

    def __init__(self, folder: Path) -> None:
        self.store = str(folder / "record.db")
        self.folder = str(folder / "keys")
        self.keys = Keys.open(self.folder)
        assert self.keys.redaction is not None
        self.ann = Redaction(None, self.keys.redaction).tenant("acme").person("ann")
        contents = tuple(
            Content(
                id=name,
                subject=subject,
                request="r_1",
                what="output",
                text=TEXT,
                why="evidence",
                expires_us=10**18,
            )
            for name, subject in (("c1", self.ann), ("c2", "r_1"))
        )
        with Store.open(self.store, keys=self.keys) as store:
            store.commit([Append(tenant="acme", contents=contents)])
            event = Event(id="e1", time_us=1, source="t", body=Feedback(verdict="up"))
            store.commit([Append(tenant="other", events=(event,))])

    def run(self, *args: str, tenant: str = "acme", key: str | None = None) -> Result:
        group, name, *rest = args
        sub = [group, name]
        if name == "key":
            sub.append(rest.pop(0))
        given = [*sub, self.store, *rest, "--tenant", tenant, "--keys", self.folder]
        return CliRunner(env={"TOCSIN_KEY": key}).invoke(cli, given)

    def said(self, *args: str, **more: Any) -> Any:
        result = self.run(*args, "--json", **more)
        assert result.exception is None, result.exception
        return json.loads(result.stdout)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_content_is_read_under_a_grant_and_both_are_listed(world: World) -> None:
    refused = world.run("content", "read", "c1", "--reason", REASON, "--as", "eve")
    assert isinstance(refused.exception, AccessDenied)
    made = world.said("access", "grant", "--reason", REASON, "--as", "eve", "--minutes", "5")
    read = world.run("content", "read", "c1", "--reason", REASON, "--as", "eve")
    assert read.stdout == "what the model said\\x1b[31m\n"
    assert "output of r_1, kept as evidence" in read.stderr
    listed = world.said("access", "list")
    bodies = [stored["event"]["body"] for stored in listed["log"]]
    assert [(b["action"], b["by"], b["allowed"]) for b in bodies] == [
        ("content.read", "local:eve", False),
        ("content.open", "local:eve", True),
        ("content.read", "local:eve", True),
    ]
    assert bodies[2]["break_glass"] == made["id"] == listed["grants"][0]["id"]
    drawn = world.run("access", "list").stdout
    assert "content.read REFUSED" in drawn
    assert made["id"] in drawn


def test_what_has_moved_to_files_is_listed_too(world: World) -> None:
    world.said("access", "grant", "--reason", REASON, "--as", "eve")
    before = world.said("access", "list")
    moved = ["history", "close", world.store, "--uncovered", "--older-than-hours", "0"]
    assert CliRunner().invoke(cli, moved).exit_code == 0
    assert len(before["log"]) == 1
    assert world.said("access", "list") == before
    assert world.said("access", "list", "--folder", f"{world.store}.history") == before


def test_a_person_is_erased_by_name(world: World) -> None:
    assert [c["id"] for c in world.said("content", "list", "--user", "ann")["contents"]] == ["c1"]
    done = world.said("content", "erase", "--user", "ann", "--reason", "she asked for it")
    assert done == {"subjects": 1, "contents": 1, "purged": True, "shared": 0}
    assert [c["id"] for c in world.said("content", "list")["contents"]] == ["c2"]
    world.said("access", "grant", "--reason", REASON)
    gone = world.run("content", "read", "c1", "--reason", REASON)
    assert isinstance(gone.exception, ContentGone)
    whole = world.run("content", "erase", "--all", "--reason", "the contract ended")
    assert whole.stdout == "erased: 1 contents, and the keys of 1 subjects\n"
    assert "content.erase" in world.run("access", "list").stdout


def test_a_request_is_erased_whoever_it_is_of(world: World) -> None:
    more = Content(
        id="c3", subject=world.ann, request="r_2", what="input", text=TEXT, why="sample",
        expires_us=10**18,
    )  # fmt: skip
    with Store.open(world.store, keys=world.keys) as store:
        store.commit([Append(tenant="acme", contents=(more,))])
    done = world.run("content", "erase", "--request", "r_1", "--reason", "she asked for it")
    assert done.stdout.splitlines() == [
        "erased: 2 contents, and the keys of 1 subjects",
        (
            "1 of them lay under a person's key that stays, since it locks more: "
            "a backup of the store still opens them"
        ),
    ]
    assert [c["id"] for c in world.said("content", "list")["contents"]] == ["c3"]
    done = world.said("content", "erase", "--request", "r_2", "--reason", "she asked for it")
    assert done == {"subjects": 1, "contents": 1, "purged": True, "shared": 0}


@pytest.mark.parametrize("of", [("--user", "anne"), ("--request", "r_9"), ("--all",)], ids=str)
def test_an_erasure_of_nothing_says_so(world: World, of: tuple[str, ...]) -> None:
    tenant = "other" if of == ("--all",) else "acme"
    done = world.run("content", "erase", *of, "--reason", "she asked for it", tenant=tenant)
    assert isinstance(done.exception, InputError)
    assert "nothing was erased" in str(done.exception)
    assert len(world.said("content", "list")["contents"]) == 2


def test_the_keys_of_another_store_name_nobody(world: World, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    Keys.open(other)
    args = ["content", "erase", world.store, "--tenant", "acme", "--keys", other]
    done = CliRunner().invoke(cli, [*args, "--user", "ann", "--reason", "she asked for it"])
    assert isinstance(done.exception, InputError)
    assert "not the one that the store" in str(done.exception)


def test_without_the_keys_a_name_says_nothing(world: World) -> None:
    args = ["content", "erase", world.store, "--tenant", "acme", "--reason", "she asked for it"]
    named = CliRunner().invoke(cli, [*args, "--user", "ann"])
    assert isinstance(named.exception, InputError)
    done = CliRunner().invoke(cli, [*args, "--user", world.ann, "--json"])
    assert json.loads(done.stdout)["contents"] == 1


@pytest.mark.parametrize(
    "args", [(), ("--all", "--user", "ann"), ("--request", "r_1", "--all")], ids=str
)
def test_what_to_erase_is_said_once(world: World, args: tuple[str, ...]) -> None:
    result = world.run("content", "erase", "--reason", REASON, *args)
    assert isinstance(result.exception, InputError)
    assert len(world.said("content", "list")["contents"]) == 2


def test_a_key_says_who_asks(world: World) -> None:
    auditor = world.said("access", "key", "add", "--role", "auditor", "--label", "the bank's")
    key = auditor["key"]
    assert world.said("access", "list", key=key)["log"]
    denied = world.run("content", "erase", "--all", "--reason", REASON, key=key)
    assert isinstance(denied.exception, AccessDenied)
    assert "its role is auditor" in str(denied.exception)
    for result in (
        world.run("access", "list", key="tk-nobody"),
        world.run("access", "list", key=key, tenant="other"),
    ):
        assert isinstance(result.exception, AccessDenied)
        assert key not in str(result.exception)
    assert isinstance(world.run("access", "list", "--as", "me", key=key).exception, InputError)
    drawn = world.run("access", "key", "list").stdout
    assert auditor["id"] in drawn
    assert key not in drawn
    world.run("access", "key", "revoke", auditor["id"])
    assert isinstance(world.run("access", "list", key=key).exception, AccessDenied)


def test_the_table_of_roles_is_shown() -> None:
    drawn = CliRunner().invoke(cli, ["access", "roles"]).stdout
    assert "content.read" in drawn
    shown = json.loads(CliRunner().invoke(cli, ["access", "roles", "--json"]).stdout)
    assert shown["viewer"] == ["record.read"]


def test_a_master_key_is_changed(world: World) -> None:
    path = Path(world.folder) / "master.key"
    old = path.read_text()
    path.write_text("Tk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk4=\n" + old)
    args = ["content", "rewrap", world.store, "--keys", world.folder, "--json"]
    assert json.loads(CliRunner().invoke(cli, args).stdout) == {"rewrapped": 1, "purged": True}
    path.write_text(path.read_text().splitlines()[0])
    world.said("access", "grant", "--reason", REASON)
    assert world.said("content", "read", "c1", "--reason", REASON)["text"] == TEXT


@pytest.mark.parametrize(
    "args",
    [("access", "list"), ("content", "list"), ("access", "key", "list")],
    ids=" ".join,
)
def test_an_empty_tenant_is_said_to_be_empty(world: World, args: tuple[str, ...]) -> None:
    assert world.run(*args, tenant="other").exception is None


@pytest.mark.parametrize(
    "args",
    [
        ("access", "list"),
        ("access", "grant", "--reason", REASON),
        ("content", "list"),
        ("content", "erase", "--all", "--reason", REASON),
    ],
    ids=" ".join,
)
def test_a_tenant_that_does_not_exist_is_named_and_not_made(
    world: World, args: tuple[str, ...]
) -> None:
    result = world.run(*args, tenant="nosuch")
    assert result.exit_code == 2
    assert "there is no tenant 'nosuch'; there are acme, other" in result.output
    with Store.open(world.store) as store:
        assert [head.tenant for head in store.heads()] == ["acme", "other"]


def test_a_bad_time_is_an_error(world: World) -> None:
    result = world.run("access", "list", "--since", "yesterday")
    assert isinstance(result.exception, InputError)
