"""The keys of a store: made once, kept from others, and never quietly replaced."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from tocsin.errors import InputError
from tocsin.receipts import Signer, read_keys
from tocsin.store import Keys

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
