from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tocsin.errors import InputError, MissingExtra
from tocsin.receipts import Signer
from tocsin.receipts.keys import library


def test_a_key_is_kept_in_a_file_of_its_owner(tmp_path: Path) -> None:
    signer = Signer.generate("example.com/log")
    path = tmp_path / "key.pem"
    signer.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Signer.load("example.com/log", path).public == signer.public
    assert [p.name for p in tmp_path.iterdir()] == ["key.pem"]
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    first = Signer.generate("example.com/log")
    first.save(path)
    with pytest.raises(InputError, match="cannot write the key"):
        Signer.generate("example.com/log").save(path)
    assert Signer.load("example.com/log", path).public == first.public
    assert [p.name for p in tmp_path.iterdir()] == ["key.pem"]
    with pytest.raises(InputError, match="cannot write the key"):
        first.save(tmp_path / "none" / "key.pem")


def test_a_key_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    Signer.generate("example.com/log").save(path)
    path.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        Signer.load("example.com/log", path)
    path.chmod(0o640)
    Signer.load("example.com/log", path)


def test_what_is_no_signing_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(InputError, match="cannot read"):
        Signer.load("example.com/log", path)
    raw = rsa.generate_private_key(65537, 2048)
    locked = ed25519.Ed25519PrivateKey.generate()
    for pem, why in (
        (b"", "PEM"),
        (b"-----BEGIN PRIVATE KEY-----\n", "PEM"),
        (raw.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "Ed25519"),
        (locked.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")), "unencrypted"),
    ):  # fmt: skip
        path.write_bytes(pem)
        path.chmod(0o600)
        with pytest.raises(InputError, match=why):
            Signer.load("example.com/log", path)
    with pytest.raises(InputError, match="cannot name a key"):
        Signer.generate("two words")


def test_openssl_writes_keys_that_sign(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl, which makes the key here, is not installed")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    path.chmod(0o600)
    signer = Signer.load("example.com/log", path)
    assert signer.public.signed(b"text", signer.sign(b"text"))
    assert not signer.public.signed(b"texT", signer.sign(b"text"))


def test_a_signer_shows_nothing_secret() -> None:
    seed = os.urandom(32)
    signer = Signer.from_seed("example.com/log", seed)
    assert signer.public.line in repr(signer)
    assert seed.hex() not in repr(vars(signer))


def test_a_missing_library_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"tocsin\[sign\]"):
        library("cryptography_that_is_not_there")


def test_the_folder_can_be_lifted_out() -> None:
    """It takes nothing of ours but errors and limits, and cryptography only where it is used."""
    code = (
        "import sys, tocsin.receipts\n"
        "ours = {n for n in sys.modules if n.startswith('tocsin.')"
        " and not n.startswith('tocsin.receipts')}\n"
        "print(*sorted(ours), 'cryptography' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["tocsin.errors", "tocsin.limits", "tocsin.model", "False"]
