"""The secrets of a store: the key that signs its logs, and those that wrap its tenants' keys."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.durable import sync_folder, write_whole
from tocsin.errors import InputError
from tocsin.limits import KEY_FILE_BYTES_MAX
from tocsin.receipts.signer import Signer
from tocsin.store.vault import master_id

if TYPE_CHECKING:
    from tocsin.store.work import Work

LOG_NAME = "tocsin.example/log"
"""Name of the logs where nobody gave another one."""

MASTER_BYTES = 32
_SIGNING, _NAME, _PUBLIC, _MASTER = "log.pem", "log.name", "log.vkey", "master.key"
_REDACTION = "redaction.key"
_VARIABLE = "TOCSIN_MASTER_KEY"


class Keys:
    """What a process that writes the record has to know. Safe to share between threads.

    Args:
        signer: signs the checkpoints of every tenant's log, each under the log's own name.
        masters: key-encryption keys of 32 bytes, the one in force first; earlier ones unwrap only.
        redaction: 32 bytes, behind what is masked and behind pseudonyms. Another key would give
            other hashes: nothing new would be found equal to what is old.

    Example:
        >>> keys = Keys(Signer.from_seed("example.com/log", bytes(32)), (bytes(32),))
        >>> keys.master == bytes(32)
        True
    """

    def __init__(
        self, signer: Signer, masters: tuple[bytes, ...] = (), redaction: bytes | None = None
    ) -> None:
        if any(len(key) != MASTER_BYTES for key in masters):
            raise InputError(f"a master key has {MASTER_BYTES} bytes")
        self.signer = signer
        self.masters = masters
        self.redaction = redaction

    @property
    def master(self) -> bytes:
        """The key that wraps now.

        Raises:
            InputError: there is none.
        """
        if not self.masters:
            raise InputError("raw content is encrypted, and no master key was given")
        return self.masters[0]

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        create: bool = True,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        work: Work | None = None,
    ) -> Keys:
        """Read the keys of a store from a folder; make what is missing.

        The folder holds ``log.pem`` (private, mode 600), ``log.name``, ``log.vkey`` (public, for
        auditors) and ``master.key`` (base64, mode 600), both with a key a line and the one in force
        first, and ``redaction.key`` (base64, mode 600).

        Args:
            folder: of mode 700 where it is made here.
            create: make what is missing; otherwise refuse. A signing key whose public key is there
                is lost, and is not made anew.
            name: of the logs; `LOG_NAME` where the signing key is made here and None is given.
            environment: whose ``TOCSIN_MASTER_KEY`` (base64, several separated by commas) takes
                the place of the file; none where None.
            work: what the store holds already, see `tocsin.store.store.Store.work`. A key that is
                missing though its work is there is lost, and is not made anew.

        Raises:
            InputError: a key is missing, was lost or no key, everybody may read it, the keys are of
                logs of another name, or a master key that locks what the store holds is not here.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     made = Keys.open(folder, name="example.com/log")
            ...     again = Keys.open(folder, create=False)
            >>> again.signer.public == made.signer.public, again.signer.name
            (True, 'example.com/log')
        """
        place = Path(folder)
        if create:
            _make_folder(place)
        lost = _Lost(work)
        signer = _signer(place, name, lost, create=create)
        given = (environment or {}).get(_VARIABLE)
        if given is not None:
            masters = tuple(_master(part, _VARIABLE) for part in given.split(","))
        else:
            masters = _masters(place / _MASTER, lost, create=create)
        lost.check_masters(masters, repr(str(place / _MASTER)) if given is None else _VARIABLE)
        redaction = _masters(place / _REDACTION, lost, create=create)
        if create:
            _sync(place)  # also what another process made, and had no time to sync
        return cls(signer, masters, redaction[0] if redaction else None)

    def __repr__(self) -> str:
        return f"Keys({self.signer!r}, {len(self.masters)} master keys)"


class _Lost:
    """Refuses to make a key anew whose work is in a store."""

    def __init__(self, work: Work | None) -> None:
        self._work = work

    def check(self, path: Path) -> None:
        """Raise `InputError` where the store needs the key that was in a file."""
        work = self._work
        if work is None:
            return
        needs = {
            _SIGNING: (work.signed, "signed its checkpoints"),
            _MASTER: (work.locked, "locks its raw content"),
            _REDACTION: (work.told, "made its pseudonyms"),
        }
        needed, did = needs[path.name]
        if needed:
            raise InputError(
                f"the key {str(path)!r} is missing, and the store {work.where!r} has entries: the "
                f"key {did}. Put it back from a backup. A new one is not made by itself: what was "
                "recorded before would not fit to it (see Lost keys in the guide of the gateway)"
            )

    def check_masters(self, masters: tuple[bytes, ...], where: str) -> None:
        """Raise `InputError` where a master key that the store is locked with is not at hand."""
        if self._work is None:
            return
        here = {master_id(key) for key in masters}
        if missing := [one for one in self._work.masters if one not in here]:
            raise InputError(
                f"the store {self._work.where!r} is locked with the master key {missing[0].hex()}, "
                f"and {where} does not hold it: put it back from a backup, below the new key where "
                "there is one (see Lost keys in the guide of the gateway)"
            )


def _make_folder(place: Path) -> None:
    """Make a folder and those above it, and sync the ones that hold them."""
    missing = [one for one in (place, *place.parents) if not one.exists()]
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in missing:
            _sync(folder.parent)
    except OSError as e:
        raise InputError(f"cannot make {str(place)!r}: {e.strerror}") from None


def _signer(place: Path, name: str | None, lost: _Lost, *, create: bool) -> Signer:
    pem, named, public = place / _SIGNING, place / _NAME, place / _PUBLIC
    was_made = public.exists()  # asked first: another process makes the private one before it
    if not pem.exists() and create:
        lost.check(pem)
        if was_made:
            raise InputError(
                f"the key {str(pem)!r} is missing, and its public key {str(public)!r} is there: "
                "put it back from a backup; or, for a store that has signed nothing, move the "
                "public key away"
            )
        write_whole(named, f"{name or LOG_NAME}\n".encode())
        with contextlib.suppress(FileExistsError):  # another process was faster: its key counts
            _write_new(pem, Signer.generate(name or LOG_NAME).pem())
    known = _read(named).strip() if named.exists() else name or LOG_NAME
    if name is not None and name != known:
        raise InputError(
            f"the keys in {str(place)!r} sign the logs {known!r}, not {name!r}: keep the name, "
            "or give the other logs a folder of keys of their own"
        )
    signer = Signer.load(known, pem)
    line = signer.public.line
    # Earlier keys stay: what they signed is verified with them.
    before = _read(public).splitlines() if public.exists() else []
    if create and line not in before:
        write_whole(public, "".join(f"{one}\n" for one in (line, *before)).encode())
    return signer


def _masters(path: Path, lost: _Lost, *, create: bool) -> tuple[bytes, ...]:
    if not path.exists():
        if not create:
            return ()
        lost.check(path)
        made = base64.b64encode(secrets.token_bytes(MASTER_BYTES)) + b"\n"
        with contextlib.suppress(FileExistsError):
            _write_new(path, made)
    if os.name != "nt" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise InputError(f"others may read the key {str(path)!r}: chmod 600 it")
    lines = _read(path).split()
    if not lines:
        raise InputError(f"{str(path)!r} is empty: put the key back, or what it locks stays locked")
    return tuple(_master(line, str(path)) for line in lines)


def _master(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != MASTER_BYTES:
        raise InputError(f"{where} holds no key: {MASTER_BYTES} random bytes as base64")
    return key


def _read(path: Path) -> str:
    try:
        with path.open("rb") as f:
            return f.read(KEY_FILE_BYTES_MAX).decode("ascii")
    except OSError as e:
        raise InputError(f"cannot read {str(path)!r}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{str(path)!r} holds no key") from None


def _write_new(path: Path, content: bytes) -> None:
    """Write a secret whole or not at all, and never over another; its folder is to be synced.

    Raises:
        FileExistsError: there is one.
        InputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
            os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as e:
        raise InputError(f"cannot write {str(path)!r}: {e.strerror}") from None


def _sync(folder: Path) -> None:
    """Make what a folder holds survive a power cut."""
    try:
        sync_folder(folder)
    except OSError as e:
        raise InputError(f"cannot sync {str(folder)!r}: {e.strerror}") from None
