"""The keys of a store: made once, kept from others, and never quietly replaced."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from tocsin.errors import InputError
from tocsin.receipts import Signer, read_keys
from tocsin.store import Append, Content, Entry, Keys, Store, vault
from tocsin.store.work import Work

NAME = "example.com/log"


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_keys_are_made_once_and_read_afterwards(tmp_path: Path) -> None:
    made = Keys.open(tmp_path / "a" / "keys", name=NAME)
    for again in (
        Keys.open(tmp_path / "a" / "keys", create=False),
        Keys.open(tmp_path / "a" / "keys", name=NAME),
    ):
        assert again.signer.public == made.signer.public
        assert again.masters == made.masters
    assert (made.signer.name, len(made.masters)) == (NAME, 1)


def test_secret_files_are_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    Keys.open(folder, name=NAME)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    found = modes(folder)
    assert {found["log.pem"], found["master.key"]} == {0o600}
    assert not [name for name in found if name.startswith(".")]


def test_the_public_key_is_written_for_auditors(tmp_path: Path) -> None:
    made = Keys.open(tmp_path / "keys", name=NAME)
    assert read_keys((tmp_path / "keys" / "log.vkey").read_text()) == (made.signer.public,)


def test_a_public_key_that_went_missing_is_written_again(tmp_path: Path) -> None:
    made = Keys.open(tmp_path / "keys", name=NAME)
    (tmp_path / "keys" / "log.vkey").unlink()
    Keys.open(tmp_path / "keys")
    assert (tmp_path / "keys" / "log.vkey").read_text() == made.signer.public.line + "\n"


def test_keys_that_are_not_there_are_not_made_where_nobody_asked(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Keys.open(tmp_path / "keys", create=False)
    assert list(tmp_path.iterdir()) == []


def test_logs_do_not_change_their_name(tmp_path: Path) -> None:
    Keys.open(tmp_path, name=NAME)
    with pytest.raises(InputError, match=r"the logs 'example\.com/log', not 'example\.com/b'"):
        Keys.open(tmp_path, name="example.com/b")


def test_everybodys_keys_are_refused(tmp_path: Path) -> None:
    Keys.open(tmp_path, name=NAME)
    (tmp_path / "master.key").chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        Keys.open(tmp_path)
    (tmp_path / "master.key").chmod(0o600)
    (tmp_path / "log.pem").chmod(0o604)
    with pytest.raises(InputError, match="chmod 600"):
        Keys.open(tmp_path)


@pytest.mark.parametrize("text", ["", "\n", "short", "AAAA", "é"])
def test_a_master_key_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    Keys.open(tmp_path, name=NAME)
    (tmp_path / "master.key").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"master\.key"):
        Keys.open(tmp_path)


def test_several_master_keys_are_read_the_first_in_force(tmp_path: Path) -> None:
    old = Keys.open(tmp_path, name=NAME).master
    new = bytes(range(32))
    lines = [base64.b64encode(key).decode() for key in (new, old)]
    (tmp_path / "master.key").write_text("\n".join(lines) + "\n")
    keys = Keys.open(tmp_path)
    assert (keys.master, keys.masters) == (new, (new, old))


def test_the_environment_takes_the_place_of_the_file(tmp_path: Path) -> None:
    given = base64.b64encode(bytes(32)).decode()
    keys = Keys.open(tmp_path, name=NAME, environment={"TOCSIN_MASTER_KEY": f"{given},{given}"})
    assert keys.masters == (bytes(32), bytes(32))
    assert not (tmp_path / "master.key").exists()
    with pytest.raises(InputError, match="TOCSIN_MASTER_KEY holds no key"):
        Keys.open(tmp_path, environment={"TOCSIN_MASTER_KEY": "x"})


@pytest.mark.parametrize("lost", ["log.pem", "master.key", "redaction.key"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_key_that_was_lost_is_not_made_anew(tmp_path: Path, lost: str, whole: bool) -> None:
    folder, place = tmp_path / "keys", str(tmp_path / "record.db")
    with Store.open(place) as store:
        made = Keys.open(folder, name=NAME, work=store.work())
        store.use(made)
        assert store.work() == Work(where=f"sqlite:///{place}")
        content = Content(
            id="c1", subject="u_1", request="q1", what="input", text="said", why="sample",
            expires_us=10**18,
        )  # fmt: skip
        entry = Entry(kind="receipt", id="r1", body=b"{}")
        store.commit([Append(tenant="acme", entries=(entry,), contents=(content,))])
        work = store.work()
        assert (work.signed, work.locked, work.told) == (True, True, True)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in before if whole else [lost]:
        if name == lost or name in {"log.name", "log.vkey"}:
            (folder / name).unlink()
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=rf"{lost}' is missing, and the store .*record\.db"):
        Keys.open(folder, name=NAME, work=work)
    now = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: now[name] for name in left} == left
    assert lost not in now


def locked(folder: Path, place: str) -> tuple[Keys, Work]:
    """Make a store with raw content in it, and the keys that it was locked with."""
    with Store.open(place) as store:
        made = Keys.open(folder, name=NAME, work=store.work())
        store.use(made)
        content = Content(
            id="c1", subject="u_1", request="q1", what="input", text="said", why="sample",
            expires_us=10**18,
        )  # fmt: skip
        store.commit([Append(tenant="acme", contents=(content,))])
        return made, store.work()


def test_another_master_key_than_the_one_that_locked_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    old, work = locked(folder, str(tmp_path / "record.db"))
    new = base64.b64encode(bytes(range(32))).decode()
    before = base64.b64encode(old.master).decode()
    (folder / "master.key").write_text(f"{new}\n")
    with pytest.raises(InputError, match=r"locked with the master key .*master\.key' does not"):
        Keys.open(folder, work=work)
    for given in (new, f"{new},{new}"):
        with pytest.raises(InputError, match="TOCSIN_MASTER_KEY does not hold it"):
            Keys.open(folder, work=work, environment={"TOCSIN_MASTER_KEY": given})
    (folder / "master.key").write_text(f"{new}\n{before}\n")
    assert Keys.open(folder, work=work).masters == (bytes(range(32)), old.master)
    both = {"TOCSIN_MASTER_KEY": f"{new},{before}"}
    assert Keys.open(folder, work=work, environment=both).masters[1] == old.master


def test_a_store_that_forgot_what_was_locked_takes_any_master_key(tmp_path: Path) -> None:
    folder, place = tmp_path / "keys", str(tmp_path / "record.db")
    locked(folder, place)
    (folder / "master.key").write_bytes(base64.b64encode(bytes(range(32))))
    with Store.open(place, create=False) as store:
        with store.transaction("erase") as connection:
            vault.erase_tenant(connection, "acme", 1)
        assert Keys.open(folder, work=store.work()).master == bytes(range(32))


def test_a_signing_key_whose_public_key_is_there_is_lost(tmp_path: Path) -> None:
    Keys.open(tmp_path, name=NAME)
    (tmp_path / "log.pem").unlink()
    public = (tmp_path / "log.vkey").read_text()
    with pytest.raises(InputError, match="put it back from a backup"):
        Keys.open(tmp_path)
    assert (tmp_path / "log.vkey").read_text() == public
    assert not (tmp_path / "log.pem").exists()


def test_a_signing_key_is_changed_by_putting_another_there(tmp_path: Path) -> None:
    old = Keys.open(tmp_path, name=NAME).signer
    new = Signer.generate(NAME)
    (tmp_path / "log.pem").write_bytes(new.pem())
    for _ in range(2):
        assert Keys.open(tmp_path).signer.public == new.public
        known = read_keys((tmp_path / "log.vkey").read_text())
        assert known == (new.public, old.public)


def test_a_store_goes_on_with_the_redaction_that_it_began_with(tmp_path: Path) -> None:
    place = str(tmp_path / "record.db")
    one, other = Keys.open(tmp_path / "one"), Keys.open(tmp_path / "other")
    with Store.open(place, create=True):
        pass
    with Store.open(place, keys=other, create=False):
        pass  # who only looks decides nothing
    for _ in range(2):
        with Store.open(place, keys=one):
            pass
    for create in (True, False):
        with pytest.raises(InputError, match=r"redaction\.key is not the one .*record\.db"):
            Store.open(place, keys=other, create=create)


def test_without_a_master_key_there_is_none(tmp_path: Path) -> None:
    keys = Keys(Signer.from_seed(NAME, bytes(32)))
    with pytest.raises(InputError, match="no master key"):
        _ = keys.master
    with pytest.raises(InputError, match="32 bytes"):
        Keys(keys.signer, (b"short",))


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    keys = Keys.open(tmp_path, name=NAME)
    assert keys.master.hex() not in repr(keys)
    assert "1 master keys" in repr(keys)
