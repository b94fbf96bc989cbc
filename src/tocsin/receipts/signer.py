"""The private key of a log: Ed25519, in a file that its owner alone may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from tocsin.errors import InputError
from tocsin.limits import KEY_FILE_BYTES_MAX
from tocsin.receipts.keys import PublicKey, check_name, library


class Signer:
    """A key that signs, under a name. Safe to share between threads.

    Args:
        name: that it signs under: of the log.
        key: of `cryptography`.

    Example:
        >>> signer = Signer.from_seed("example.com/log", bytes(32))
        >>> signer.public.line
        'example.com/log+1dde4531+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop'
        >>> signer.named("example.com/log/acme").public.key == signer.public.key
        True
    """

    def __init__(self, name: str, key: Any) -> None:
        self.name = check_name(name)
        self._key = key
        self.public = PublicKey(name, key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> Signer:
        """Make a new key, from the system's randomness."""
        return cls(name, _ed25519().Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Signer:
        """Make the key that 32 secret bytes stand for; the same bytes give the same key."""
        return cls(name, _ed25519().Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_pem(cls, name: str, pem: bytes) -> Signer:
        """Read a key as `openssl genpkey -algorithm ed25519` writes it.

        Raises:
            InputError: it is no unencrypted Ed25519 key.
        """
        load = library("cryptography.hazmat.primitives.serialization").load_pem_private_key
        unsupported = library("cryptography.exceptions").UnsupportedAlgorithm
        try:
            key = load(pem, password=None)
        except (ValueError, TypeError, unsupported):
            raise InputError("the signing key is no unencrypted PEM private key") from None
        if not isinstance(key, _ed25519().Ed25519PrivateKey):
            raise InputError(
                "the signing key is no Ed25519 key: openssl genpkey -algorithm ed25519"
            )
        return cls(name, key)

    @classmethod
    def load(cls, name: str, path: str | os.PathLike[str]) -> Signer:
        """Read a key from a file.

        Raises:
            InputError: it cannot be read, everybody can read it, or it is no such key.
        """
        try:
            with Path(path).open("rb") as f:
                mode = os.fstat(f.fileno()).st_mode
                pem = f.read(KEY_FILE_BYTES_MAX)
        except OSError as e:
            raise InputError(f"cannot read the signing key {str(path)!r}: {e.strerror}") from None
        if os.name != "nt" and stat.S_IMODE(mode) & 0o007:
            raise InputError(f"everybody may use the signing key {str(path)!r}: chmod 600 it")
        try:
            return cls.from_pem(name, pem)
        except InputError as e:
            raise InputError(f"{str(path)!r}: {e}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the key to a new file of mode 600, whole or not at all.

        Raises:
            InputError: the file exists, for a key is never written over; or it cannot be written.
        """
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as f:
                    f.write(self.pem())
                    f.flush()
                    os.fsync(f.fileno())
                os.link(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(target.parent)
        except OSError as e:
            raise InputError(f"cannot write the key {str(path)!r}: {e.strerror}") from None

    def pem(self) -> bytes:
        """Give the private key as PEM (PKCS #8), unencrypted."""
        parts = library("cryptography.hazmat.primitives.serialization")
        raw: bytes = self._key.private_bytes(
            parts.Encoding.PEM, parts.PrivateFormat.PKCS8, parts.NoEncryption()
        )
        return raw

    def named(self, name: str) -> Signer:
        """The same key under another name, so with another id."""
        return Signer(name, self._key)

    def sign(self, text: bytes) -> bytes:
        """Sign a text; 64 bytes, always the same for the same text."""
        raw: bytes = self._key.sign(text)
        return raw

    def __repr__(self) -> str:
        return f"Signer({self.public.line!r})"


def _sync_folder(folder: Path) -> None:
    """As `tocsin.durable.sync_folder`; a copy, so that this package can be lifted out whole."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _ed25519() -> Any:
    return library("cryptography.hazmat.primitives.asymmetric.ed25519")
