"""Checkpoints (c2sp.org/tlog-checkpoint): a log, its size and its root, signed by the log's key.

Each tenant has a log of its own; its origin is the log's name, a slash and the tenant. The key
signs under the origin, so that a proof of one tenant never passes for another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from tocsin.errors import InputError, ProofInvalid
from tocsin.limits import TREE_SIZE_MAX
from tocsin.receipts import note
from tocsin.receipts.keys import PublicKey, check_name, is_name
from tocsin.receipts.signer import Signer
from tocsin.receipts.strict import hash_of, number, tobase64


class Checkpoint(msgspec.Struct, frozen=True):
    """What a log says of itself.

    Args:
        origin: which log, such as ``example.com/log/acme``.
        size: how many entries it has.
        root: over all of them, 32 bytes.
        extensions: further lines, of others; never written here, and nothing is made of them.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is signed."""
        lines = (self.origin, str(self.size), tobase64(self.root), *self.extensions)
        return "".join(line + "\n" for line in lines)


def origin_of(log: str, tenant: str) -> str:
    """Name the log of a tenant; two tenants never have the same.

    Args:
        log: name of all logs of one place, such as ``example.com/log``.
        tenant: its name; what a key's name cannot hold is written as in a URL.

    Raises:
        InputError: no such names.

    Example:
        >>> origin_of("example.com/log", "acme"), origin_of("example.com/log", "a/b c")
        ('example.com/log/acme', 'example.com/log/a%2Fb%20c')
    """
    if not tenant:
        raise InputError("a log belongs to a tenant, and this one has no name")
    return check_name(f"{log}/{_written(tenant)}")


def is_log_of(origin: str, tenant: str) -> bool:
    """Whether this is the log of such a tenant, wherever it may be."""
    return bool(tenant) and origin.rpartition("/")[2] == _written(tenant)


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> str:
    """Sign a checkpoint under its origin; gives the note.

    Example:
        >>> signer = Signer.from_seed("example.com/log", bytes(32))
        >>> signed = sign_checkpoint(Checkpoint("example.com/log/acme", 0, bytes(32)), signer)
        >>> open_checkpoint(signed, [signer.public.named("example.com/log/acme")]).size
        0

    Raises:
        InputError: it has further lines, which nobody could audit, or is none.
    """
    if checkpoint.extensions:
        raise InputError("a checkpoint with further lines is not signed: nobody audits those")
    if not 0 <= checkpoint.size <= TREE_SIZE_MAX or len(checkpoint.root) != 32:
        raise InputError("a checkpoint has a size from 0 and a root of 32 bytes")
    return note.sign(checkpoint.text, [signer.named(checkpoint.origin)])


def open_checkpoint(data: str | bytes, keys: Sequence[PublicKey]) -> Checkpoint:
    """Read a checkpoint and check who signed it.

    Args:
        data: the note.
        keys: that are trusted: each for the log of its own name, and for those of its tenants.

    Raises:
        ProofInvalid: no checkpoint, or not signed by the log's key.
    """
    signed = note.read(data)
    checkpoint = read_text(signed.text)
    place = checkpoint.origin.rpartition("/")[0] if is_name(checkpoint.origin) else ""
    known = [k.named(checkpoint.origin) if k.name == place else k for k in keys]
    signers = signed.signers(known)
    if not any(key.name == checkpoint.origin for key in signers):
        raise ProofInvalid(
            f"the checkpoint is of {checkpoint.origin!r} and signed by {signers[0].name!r}: "
            "a log signs under its own name"
        )
    return checkpoint


def read_text(text: str) -> Checkpoint:
    """Read what a checkpoint says, without a word on who signed it.

    Raises:
        ProofInvalid: it is no checkpoint.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise ProofInvalid("a checkpoint has three lines, none empty: origin, size and root")
    origin, size, top, *rest = lines
    return Checkpoint(
        origin, number(size, "size", TREE_SIZE_MAX), hash_of(top, "root"), tuple(rest)
    )


def _written(tenant: str) -> str:
    return quote(tenant, safe=":")
