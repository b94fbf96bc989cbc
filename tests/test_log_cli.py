"""`tocsin log`: what an auditor is told to ask for is there, and what was taken away shows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pymerkle
import pytest
from click.testing import CliRunner, Result
from offline import heavy_parts
from receipts.attack_making import FOLDER
from store.making import append

from tocsin.cli.main import cli
from tocsin.errors import InputError, ProofInvalid
from tocsin.receipts import Consistent, PublicKey, open_checkpoint, read_keys, verify_growth
from tocsin.receipts.proof import read_proof
from tocsin.store import Keys, Scope, Store

ACME = Scope("acme")


def tocsin(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(cli, ["log", *map(str, arguments)])


def good(*arguments: object) -> str:
    result = tocsin(*arguments)
    assert result.exception is None, (result.output, result.exception)
    return result.output


def refused(*arguments: object) -> str:
    result = tocsin(*arguments)
    assert result.exit_code == 1, result.output
    return " ".join(result.output.split()) + str(result.exception)


class World:
    """A store with three periods of `acme`, receipts before, between and after them."""

    def __init__(self, folder: Path, name: str = "record.db", twist: int = 0) -> None:
        self.folder = folder
        self.store = str(folder / name)
        self.key = folder / "keys" / "log.vkey"
        keys = Keys.open(folder / "keys", name="example.com/log")
        with Store.open(self.store, keys=keys) as store:
            for start in (0, 10, 20):
                store.commit([append("acme", start, start + 1, receipts=(f"r_{start}",))])
                store.commit([append("acme", start + 2 + twist, receipts=(f"s_{start}",))])
                store.close_period(ACME)
            store.commit([append("acme", 30, receipts=("r_30",))])
            store.commit([append("other", 1, receipts=("r_0",))])

    def file(self, name: str, *command: object) -> Path:
        path = self.folder / name
        path.write_text(good(command[0], self.store, *command[1:], "--tenant", "acme"))
        return path

    def span(self, folder: str = "span") -> tuple[Path, list[Path]]:
        """Write out all periods; give the checkpoint and the proofs in their order."""
        place = self.folder / folder
        good("periods", self.store, "--tenant", "acme", "--output", place)
        found = sorted(place.glob("*.tlog-proof"), key=lambda p: read_proof(p.read_bytes()).index)
        return place / "checkpoint", found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# ----------------------------------------------------------------------------------- giving out


def test_the_checkpoint_is_exactly_what_was_signed(world: World) -> None:
    with Store.open(world.store) as store:
        every = store.checkpoints(ACME)
        newest = store.checkpoint(ACME)
    assert good("checkpoint", world.store, "--tenant", "acme") == newest == every[-1]
    for note in every:
        size = note.split("\n")[1]
        assert good("checkpoint", world.store, "--tenant", "acme", "--size", size) == note
    out = world.folder / "out"
    assert not good("checkpoint", world.store, "--tenant", "acme", "--output", out)
    assert out.read_text() == newest
    for wrong in (-1, 0, 11, 10**18):
        said = refused("checkpoint", world.store, "--tenant", "acme", "--size", wrong)
        assert f"no checkpoint of {wrong} entries" in said


def test_receipts_and_periods_are_proven_by_their_id(world: World) -> None:
    for name in ("r_0", "s_20", "r_30", "1-3", "7-9"):
        path = world.file("one.tlog-proof", "proof", name)
        said = CliRunner().invoke(cli, ["receipt", "verify", str(path), "--key", str(world.key)])
        assert said.exit_code == 0 and f" {name} of acme is entry" in said.output
    early = world.file("early.tlog-proof", "proof", "r_0", "--size", 1)
    assert read_proof(early.read_bytes()).checkpoint.split("\n")[1] == "1"
    assert "came after the first 1 entries" in refused(
        "proof", world.store, "r_30", "--tenant", "acme", "--size", 1
    )
    assert "there is no entry 'none' of 'acme'" in refused(
        "proof", world.store, "none", "--tenant", "acme"
    )
    assert "there is no entry 'r_30' of 'other'" in refused(
        "proof", world.store, "r_30", "--tenant", "other"
    )


def test_a_period_says_what_it_counts_where_it_is_verified(world: World) -> None:
    path = world.file("p.tlog-proof", "proof", "1-3")
    run = CliRunner().invoke
    asked = ["receipt", "verify", str(path), "--key", str(world.key)]
    said = " ".join(run(cli, asked).output.split())
    assert "it counts 1 streams, 1 alarms and 2 receipts in events 1 to 3, which have the" in said
    shown = json.loads(run(cli, [*asked, "--json"]).output)["results"][0]
    assert shown["kind"] == "period"
    assert shown["period"]["kinds"] == {"alarm": 1, "feedback": 1, "stream.opened": 1}


def test_periods_are_listed_with_what_they_count(world: World) -> None:
    said = good("periods", world.store, "--tenant", "acme")
    assert [line.split()[0] for line in said.splitlines()] == ["period", "1-3", "4-6", "7-9"]
    told = json.loads(good("periods", world.store, "--tenant", "acme", "--json"))["periods"]
    assert [(p["id"], p["index"]) for p in told] == [("1-3", 2), ("4-6", 5), ("7-9", 8)]
    assert [p["says"]["alarms"] for p in told] == [1, 1, 1]
    second = told[1]["says"]
    assert (second["first"], second["last"], second["receipts"]) == (4, 6, 2)


def test_periods_of_a_time_are_all_between_the_first_and_the_last_of_it(world: World) -> None:
    def of(*when: str) -> list[str]:
        said = good("periods", world.store, "--tenant", "acme", "--json", *when)
        return [p["id"] for p in json.loads(said)["periods"]]

    # Events are microseconds apart.
    at = "2023-11-14T22:13:20.{:06}Z"
    assert of("--since", at.format(12)) == ["4-6", "7-9"]
    assert of("--until", at.format(20)) == ["1-3", "4-6"]
    assert of("--since", at.format(3), "--until", at.format(10)) == []
    assert "no periods" in good(
        "periods", world.store, "--tenant", "acme", "--since", at.format(99)
    )


def test_growth_is_given_for_a_checkpoint_of_this_log_alone(world: World, tmp_path: Path) -> None:
    old = world.file("old", "checkpoint", "--size", 2)
    mid = world.file("mid", "checkpoint", "--size", 5)
    asked = ("growth", world.store, "--tenant", "acme", "--from")
    assert good(*asked, old).startswith("tocsin/consistency@v1\nold 2\nnew 10\n")
    assert good(*asked, old, "--to", mid).startswith("tocsin/consistency@v1\nold 2\nnew 5\n")
    assert "turn them around" in refused(*asked, mid, "--to", old)
    other = tmp_path / "other"
    other.write_text(good("checkpoint", world.store, "--tenant", "other"))
    assert "no log of 'acme'" in refused(*asked, other)
    fork = World(tmp_path, "fork.db", twist=5)
    assert "is not what this log was at 5 entries" in refused(
        "growth", fork.store, "--tenant", "acme", "--from", mid
    )
    with Store.open(str(tmp_path / "short.db"), keys=Keys.open(tmp_path / "keys")) as store:
        store.commit([append("acme", 0, receipts=("r_0",))])
    assert "it was cut" in refused(
        "growth", tmp_path / "short.db", "--tenant", "acme", "--from", mid
    )
    old.write_text("{}")
    assert refused(*asked, old)


def test_only_its_own_tenant_is_read_with_a_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tocsin.store.access import Access
    from tocsin.store.roles import local

    with Store.open(world.store, keys=Keys.open(world.folder / "keys")) as store:
        access = Access(store, redact=lambda _, text: text)
        auditor = access.add_key(local("acme", "ann"), "auditor")
        writer = access.add_key(local("acme", "ann"), "operator", scopes=("record.write",))
    monkeypatch.setenv("TOCSIN_KEY", auditor.key)
    for command in (("checkpoint",), ("proof", "r_0"), ("periods",)):
        name, *rest = command
        good(name, world.store, *rest, "--tenant", "acme")
        assert tocsin(name, world.store, *rest, "--tenant", "other").exception is not None
    monkeypatch.setenv("TOCSIN_KEY", writer.key)
    assert "may not read" in refused("checkpoint", world.store, "--tenant", "acme")


def test_a_tenant_that_nobody_knows_is_a_wrong_command(world: World) -> None:
    for command in (("checkpoint",), ("proof", "r_0"), ("periods",)):
        assert tocsin(command[0], world.store, *command[1:], "--tenant", "acne").exit_code == 2
    with Store.open(str(world.folder / "new.db"), keys=Keys.open(world.folder / "keys")) as store:
        store.commit([append("acme", 1)])
    new = world.folder / "new.db"
    assert "has no entry yet" in refused("checkpoint", new, "--tenant", "acme")
    assert "no periods" in good("periods", new, "--tenant", "acme")


# ------------------------------------------------------------------------------------ verifying


def test_nothing_was_taken_away_between_two_checkpoints(world: World) -> None:
    old = world.file("old", "checkpoint", "--size", 2)
    new, found = world.span()
    growth = world.file("growth", "growth", "--from", old, "--to", new)
    asked = ("verify", "--from", old, "--to", new, "--growth", growth, "--key", world.key)
    said = " ".join(good(*asked, *found).split())
    assert "good example.com/log/acme only grew, from 2 to 10 entries" in said
    assert "3 periods of example.com/log/acme leave nothing out: events 1 to 9" in said
    assert "3 streams, 3 alarms, 6 receipts" in said
    assert "Covered are events up to 9, and none after it. NOT COVERED: 1 entry of the 10" in said
    shown = json.loads(good(*asked, *found, "--json"))
    assert shown["good"] is True
    assert (shown["results"][1]["first"], shown["results"][1]["last"]) == (1, 9)
    assert shown["results"][1]["after"] == 1
    assert "some before it may have come after the earlier checkpoint" in refused(
        *asked, *found[1:]
    )
    later = world.file("later", "checkpoint", "--size", 6)
    growth = world.file("growth", "growth", "--from", later, "--to", new)
    asked = ("verify", "--from", later, "--to", new, "--growth", growth, "--key", world.key)
    assert good(*asked, *found[1:])
    assert "the last period that the checkpoint holds" in refused(*asked, found[2])
    good(
        "periods", world.store, "--tenant", "acme", "--from", later, "--output", world.folder / "w"
    )
    assert {p.name for p in (world.folder / "w").iterdir()} == {
        "checkpoint", "period-4-6.tlog-proof", "period-7-9.tlog-proof"
    }  # fmt: skip
    assert "no period here speaks of events 4 to 6" in refused(*asked, found[0], found[2])


def test_a_last_period_that_is_kept_back_shows(world: World) -> None:
    _, found = world.span()
    said = " ".join(good("verify", found[0], "--key", world.key).split())
    assert "1 period of example.com/log/acme leaves nothing out: events 1 to 3" in said
    assert "Covered are events up to 3, and none after it. NOT COVERED: 7 entries of the 10" in said
    assert "a period that was kept back would be there" in said


def test_what_was_kept_is_not_overwritten(world: World) -> None:
    checkpoint, _ = world.span("week")
    asked = ("periods", world.store, "--tenant", "acme", "--output")
    kept = {file: file.read_bytes() for file in checkpoint.parent.iterdir()}
    assert {file.stat().st_mode & 0o777 for file in kept} == {0o600}
    with Store.open(world.store, keys=Keys.open(world.folder / "keys")) as store:
        store.commit([append("acme", 40, receipts=("r_40",))])
        store.close_period(ACME)
    again = tocsin(*asked, checkpoint.parent, "--from", checkpoint)
    assert again.exit_code == 2 and "name a new folder" in " ".join(again.output.split())
    assert {file: file.read_bytes() for file in checkpoint.parent.iterdir()} == kept
    assert good(*asked, world.folder / "next", "--from", checkpoint)
    assert good("verify", *(world.folder / "next").glob("*.tlog-proof"), "--key", world.key)


@pytest.mark.parametrize("command", [("checkpoint",), ("proof", "r_0"), ("growth",)])
def test_a_file_that_is_there_is_replaced_by_force_alone(
    world: World, command: tuple[str, ...]
) -> None:
    place = world.folder / "kept"
    place.write_text("of another day")
    place.chmod(0o644)
    name, *rest = command
    if name == "growth":
        rest = ["--from", str(world.file("old", "checkpoint", "--size", 2))]
    asked = (name, world.store, *rest, "--tenant", "acme", "--output", place)
    result = tocsin(*asked)
    assert result.exit_code == 2 and "--force replaces it" in " ".join(result.output.split())
    assert place.read_text() == "of another day"
    good(*asked, "--force")
    assert place.read_text() != "of another day"
    assert place.stat().st_mode & 0o777 == 0o600


def test_periods_are_believed_by_the_checkpoint_that_grew_alone(
    world: World, tmp_path: Path
) -> None:
    """The fork's periods look as well, and hide an alarm or add one."""
    old = world.file("old", "checkpoint", "--size", 1)
    new, found = world.span()
    growth = world.file("growth", "growth", "--from", old, "--to", new)
    asked = ("verify", "--from", old, "--to", new, "--growth", growth, "--key", world.key)
    fork = World(tmp_path, "fork.db", twist=5)
    other, forked = fork.span("forked")
    assert good("verify", *forked, "--key", world.key)
    assert "they are proven by a checkpoint of 10 entries" in refused(*asked, *forked)
    assert "by checkpoints of 10 and of 10" in refused(
        "verify", *found[:2], forked[2], "--key", world.key
    )
    assert "has forked" in refused(
        "verify", "--from", new, "--to", other, "--growth", growth_of(world, 10, 10), "--key",
        world.key,
    )  # fmt: skip
    assert "has forked" in refused(
        "verify", "--from", old, "--to", other, "--growth", growth, "--key", world.key
    )
    turned = refused("verify", "--from", new, "--to", old, "--growth", growth, "--key", world.key)
    assert "the proof is about 1 and 10 entries, the checkpoints about 10 and 1" in turned


def growth_of(world: World, old: int, new: int) -> Path:
    path = world.folder / f"{old}-{new}"
    with Store.open(world.store) as store:
        path.write_text(store.growth(ACME, old, new))
    return path


def test_no_change_of_a_single_bit_of_a_growth_is_accepted(world: World) -> None:
    keys = read_keys(world.key.read_text())
    rng = random.Random("growth")
    with Store.open(world.store) as store:
        notes = {int(note.split("\n")[1]): note for note in store.checkpoints(ACME)}
        pairs = [(old, new) for old in notes for new in notes if old <= new]
        assert len(pairs) == 55
        for old, new in pairs:
            parts = [
                notes[old].encode(),
                notes[new].encode(),
                store.growth(ACME, old, new).encode(),
            ]
            assert _grew(parts, keys).new.size == new
            for number, raw in enumerate(parts):
                for bit in rng.sample(range(len(raw) * 8), (20, 20, 160)[number]):
                    wrong = bytearray(raw)
                    wrong[bit // 8] ^= 1 << bit % 8
                    given = [*parts[:number], bytes(wrong), *parts[number + 1 :]]
                    with pytest.raises(ProofInvalid):
                        _grew(given, keys)


def _grew(parts: Sequence[bytes], keys: Sequence[PublicKey]) -> Consistent:
    old, new, proof = parts
    return verify_growth(old, new, proof, keys)


def test_another_implementation_sees_the_same_log(world: World) -> None:
    keys = read_keys(world.key.read_text())
    with Store.open(world.store) as store:
        entries = [one.entry for one in store.entries(ACME)]
        notes = [open_checkpoint(note, keys) for note in store.checkpoints(ACME)]
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for entry, note in zip(entries, notes, strict=True):
        tree.append_entry(entry)
        assert (note.size, note.root) == (tree.get_size(), tree.get_root())
    for old in notes:
        theirs = tree.prove_consistency(old.size, notes[-1].size)
        pymerkle.verify_consistency(old.root, notes[-1].root, theirs, old.size, notes[-1].size)


def test_a_file_that_is_no_proof_is_told_from_one_that_does_not_hold(world: World) -> None:
    new, found = world.span()
    error = world.folder / "error"
    for content, words in (
        (b"", "an empty file"),
        (b"\n", "an empty file"),
        (b'{"error":{"message":"there is no such id","status":404}}', "JSON"),
        (b"<!DOCTYPE html>\n<html>", "a page of HTML"),
        (b"Not Found", "something else"),
    ):
        error.write_bytes(content)
        for arguments in (
            ("verify", *found, error),
            ("verify", "--from", error, "--to", new, "--growth", error),
        ):
            said = refused(*arguments, "--key", world.key)
            assert words in said and "shows nothing, for or against" in said
            assert "none " in said and "BAD" not in said
    changed = world.folder / "changed.tlog-proof"
    changed.write_bytes(found[0].read_bytes().replace(b"index 2", b"index 1"))
    said = refused("verify", changed, "--key", world.key)
    assert "BAD" in said and "take none of it for true" in said


def test_a_log_only_grew() -> None:
    said = good("verify", *attack("good"))
    assert "example.com/log/acme only grew, from 7 to 13 entries" in said
    shown = json.loads(good("verify", *attack("good"), "--json"))
    assert (shown["results"][0]["old"], shown["results"][0]["new"]) == (7, 13)
    assert "forked" in refused("verify", *attack("log_that_forked"))


def attack(name: str) -> tuple[str, ...]:
    old, new, proof = (str(FOLDER / f"growth_{name}.{p}") for p in ("old", "new", "proof"))
    key = str(FOLDER / "keys.txt")
    return ("--from", old, "--to", new, "--growth", proof, "--key", key)


@pytest.mark.parametrize("harmed", ["old", "new", "proof"])
def test_the_parts_of_a_growth_say_how_they_came_to_harm(tmp_path: Path, harmed: str) -> None:
    for part in ("old", "new", "proof"):
        (tmp_path / part).write_bytes((FOLDER / f"growth_good.{part}").read_bytes())
    whole = (tmp_path / harmed).read_bytes()
    for content, words in (
        (whole[:-9], "seems to end early"),
        (whole.replace(b"\n", b"\r\n"), "its line ends were changed"),
        (whole + b"\n", "an empty line was added at its end"),
    ):
        (tmp_path / harmed).write_bytes(content)
        said = refused(
            "verify", "--from", tmp_path / "old", "--to", tmp_path / "new",
            "--growth", tmp_path / "proof", "--key", FOLDER / "keys.txt",
        )  # fmt: skip
        assert words in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",),
        ("verify", "PROOF"),
        ("verify", "--from", "PROOF", "--to", "PROOF", "--key", "KEY"),
        ("verify", "PROOF", "--growth", "PROOF", "--key", "KEY"),
        ("verify", "nothing", "--key", "KEY"),
        ("verify", "PROOF", "--key", "nothing"),
        ("checkpoint",),
        ("growth", "STORE", "--tenant", "acme"),
        ("growth", "STORE", "--tenant", "acme", "--from", "nothing"),
        ("none",),
    ],
)
def test_a_wrong_command_is_status_2(world: World, arguments: tuple[str, ...]) -> None:
    known: dict[str, Any] = {
        "PROOF": world.file("p", "proof", "1-3"), "KEY": world.key, "STORE": world.store
    }  # fmt: skip
    assert tocsin(*(known.get(a, a) for a in arguments)).exit_code == 2


def test_verify_works_without_network_and_store(world: World) -> None:
    _, found = world.span()
    assert heavy_parts("log", "verify", *found, "--key", world.key) == "[]"


@pytest.mark.parametrize("write", [Path.mkdir, Path.touch])
def test_a_folder_that_cannot_be_written_is_an_error_for_people(
    world: World, write: Callable[[Path], None]
) -> None:
    place = world.folder / "place"
    write(place)
    result = tocsin("periods", world.store, "--tenant", "acme", "--output", place)
    assert (result.exception is None) == place.is_dir()
    assert result.exception is None or isinstance(result.exception, InputError)
