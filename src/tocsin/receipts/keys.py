"""Public keys that are trusted, one a line: ``NAME+ID+BASE64``, as C2SP's tools write them."""

from __future__ import annotations

import hashlib
import importlib
import re
from functools import cached_property
from typing import Any

import msgspec

from tocsin.errors import InputError, MissingExtra, ProofInvalid
from tocsin.limits import KEY_FILE_BYTES_MAX, KEY_NAME_CHARS_MAX, KEYS_MAX
from tocsin.receipts.strict import tobase64, unbase64

ED25519 = b"\x01"
"""The type of a signature, as signed-note numbers them; the only one that is made and checked."""

_HEX_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)
_KEY_BYTES = 32


def is_name(name: str) -> bool:
    """Whether a text may name a key: not empty, no spaces of any kind, no plus, no controls.

    Example:
        >>> is_name("example.com/log/acme"), is_name("my log"), is_name("a+b")
        (True, False, False)
    """
    return 0 < len(name) <= KEY_NAME_CHARS_MAX and not any(
        c == "+" or c < " " or c.isspace() for c in name
    )


def check_name(name: str) -> str:
    """Return the name of a key, or refuse it.

    Raises:
        InputError: no such name.
    """
    if not is_name(name):
        raise InputError(
            f"{name[:60]!r} cannot name a key: from 1 to {KEY_NAME_CHARS_MAX} characters, "
            "without spaces and plus signs, such as example.com/log"
        )
    return name


class PublicKey(msgspec.Struct, frozen=True, dict=True):
    """An Ed25519 key, and the name that it signs under.

    Args:
        name: such as ``example.com/log/acme``: the log, which here is always one tenant's.
        key: 32 bytes, as RFC 8032 writes them.
    """

    name: str
    key: bytes

    @cached_property
    def key_id(self) -> bytes:
        """Four bytes that, with the name, say which key signed; no proof of anything."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.key).digest()[:4]

    @property
    def line(self) -> str:
        """The key as a line of text, which others' tools call a vkey."""
        return f"{self.name}+{self.key_id.hex()}+{tobase64(ED25519 + self.key)}"

    def named(self, name: str) -> PublicKey:
        """The same key under another name, so with another id."""
        return PublicKey(check_name(name), self.key)

    def signed(self, text: bytes, signature: bytes) -> bool:
        """Whether a signature is by this key over this text."""
        try:
            self._key.verify(signature, text)
        except self._invalid:
            return False
        return True

    @cached_property
    def _key(self) -> Any:
        kind = library("cryptography.hazmat.primitives.asymmetric.ed25519").Ed25519PublicKey
        return kind.from_public_bytes(self.key)

    @cached_property
    def _invalid(self) -> Any:
        return library("cryptography.exceptions").InvalidSignature


def read_key(line: str) -> PublicKey:
    """Read a key from its line.

    Raises:
        InputError: it is none, of another type, or its id is not that of its bytes. The message
            shows nothing of it: it may be a secret that was taken for it.

    Example:
        >>> line = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
        >>> read_key(line).name
        'PeterNeumann'
        >>> read_key(line).line == line
        True
    """
    parts = line.split("+", 2)
    if len(parts) != 3 or not is_name(parts[0]) or not _HEX_ID.fullmatch(parts[1]):
        raise InputError("this is no public key: NAME+8 hex digits+base64, all in one line")
    try:
        raw = unbase64(parts[2], "key")
    except ProofInvalid as e:
        raise InputError(f"this is no public key: {e}") from None
    if raw[:1] != ED25519 or len(raw) != 1 + _KEY_BYTES:
        raise InputError("this is no Ed25519 key, and no other kind is known here")
    key = PublicKey(parts[0], raw[1:])
    if key.key_id.hex() != parts[1]:
        raise InputError(f"the id is not that of the key, which is {key.key_id.hex()}")
    return key


def read_keys(text: str) -> tuple[PublicKey, ...]:
    """Read keys, one a line; empty lines and lines that begin with ``#`` are left aside.

    After a rotation the file holds the old line and the new one: receipts from before are checked
    with the key of their time.

    Raises:
        InputError: a line is no key, there is none at all, or there are too many.
    """
    if len(text) > KEY_FILE_BYTES_MAX:
        raise InputError(f"the file of keys is longer than {KEY_FILE_BYTES_MAX} bytes")
    lines = [line.strip() for line in text.split("\n")]
    keys = tuple(read_key(line) for line in lines if line and not line.startswith("#"))
    if not 0 < len(keys) <= KEYS_MAX:
        raise InputError(
            f"there are {len(keys)} public keys; give from 1 to {KEYS_MAX}, one a line"
        )
    return keys


def library(name: str) -> Any:
    """Import a part of `cryptography`, which is an extra.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtra("receipts need cryptography: pip install 'tocsin[sign]'") from None
