"""Offline verification: with the public key alone, without network, store or trust in the file.

What holds was recorded in the log that the key signs for, at that place, and was not changed since.
Whether it was right, nobody can read from a signature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from tocsin.errors import NoProof, ProofInvalid
from tocsin.limits import PROOF_BYTES_MAX
from tocsin.receipts.checkpoint import Checkpoint, is_log_of, open_checkpoint
from tocsin.receipts.entry import LogEntry, read_entry
from tocsin.receipts.keys import PublicKey
from tocsin.receipts.merkle import leaf_hash, verify_consistency, verify_inclusion
from tocsin.receipts.proof import CONSISTENCY, TLOG_PROOF, read_consistency, read_proof

_HEADS = (TLOG_PROOF.encode(), CONSISTENCY.encode())
_SIGNED = "\n\n\u2014 ".encode()


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that is in a log.

    Args:
        entry: what was recorded.
        raw: its bytes, whose hash is the leaf.
        index: its place in the log, from 0.
        checkpoint: that the log's key signed: origin, size and root.
    """

    entry: LogEntry
    raw: bytes
    index: int
    checkpoint: Checkpoint

    @property
    def origin(self) -> str:
        """Which log."""
        return self.checkpoint.origin

    @property
    def size(self) -> int:
        """How many entries the log had."""
        return self.checkpoint.size


class Consistent(msgspec.Struct, frozen=True, kw_only=True):
    """Two checkpoints of one log, of which the second goes on from the first."""

    origin: str
    old: Checkpoint
    new: Checkpoint


def verify(data: str | bytes, keys: Sequence[PublicKey]) -> Verified:
    """Verify a proof that carries its entry.

    Args:
        data: of a ``.tlog-proof`` file.
        keys: that are trusted, each for the log of its own name.

    Raises:
        ProofInvalid: whatever does not hold; the message says what. `NoProof` where the data is
            something else altogether.

    Example:
        >>> from tocsin.receipts import Checkpoint, Signer, TlogProof, sign_checkpoint
        >>> signer = Signer.from_seed("example.com/log/acme", bytes(32))
        >>> raw = LogEntry(tenant="acme", kind="receipt", id="r", sequence=1, body=b"{}").write()
        >>> signed = sign_checkpoint(Checkpoint(signer.name, 1, leaf_hash(raw)), signer)
        >>> proof = TlogProof(index=0, path=(), checkpoint=signed, extra=raw).write()
        >>> verify(proof, [signer.public]).entry.id
        'r'
    """
    with hinting(data):
        return _verify(data, keys)


def _verify(data: str | bytes, keys: Sequence[PublicKey]) -> Verified:
    proof = read_proof(data)
    checkpoint = open_checkpoint(proof.checkpoint, keys)
    if proof.extra is None:
        raise ProofInvalid("the proof does not carry its entry, so nobody knows what it proves")
    leaf = leaf_hash(proof.extra)
    if not verify_inclusion(leaf, proof.index, checkpoint.size, proof.path, checkpoint.root):
        raise ProofInvalid(
            f"the entry is not at {proof.index} in the log of {checkpoint.size} entries: "
            "entry, place or path was changed"
        )
    entry = read_entry(proof.extra)
    if not is_log_of(checkpoint.origin, entry.tenant):
        raise ProofInvalid(
            f"the entry is of tenant {entry.tenant!r}, and {checkpoint.origin!r} is no log of it"
        )
    return Verified(entry=entry, raw=proof.extra, index=proof.index, checkpoint=checkpoint)


def verify_growth(
    old: str | bytes, new: str | bytes, proof: str | bytes, keys: Sequence[PublicKey]
) -> Consistent:
    """Verify that a log only grew between two checkpoints: nothing was changed or taken out.

    Args:
        old, new: signed checkpoints.
        proof: text of a `ConsistencyProof`.
        keys: that are trusted; after a rotation the old one and the new.

    Raises:
        ProofInvalid: whatever does not hold; where both signatures hold, the log has forked.
    """
    with hinting(old):
        first = open_checkpoint(old, keys)
    with hinting(new):
        second = open_checkpoint(new, keys)
    with hinting(proof):
        path = read_consistency(proof)
    if first.origin != second.origin:
        raise ProofInvalid(f"two logs: one checkpoint is of {first.origin!r}, the other of "
                           f"{second.origin!r}")  # fmt: skip
    if (path.old, path.new) != (first.size, second.size):
        raise ProofInvalid(
            f"the proof is about {path.old} and {path.new} entries, the checkpoints about "
            f"{first.size} and {second.size}"
        )
    if not verify_consistency(first.size, second.size, first.root, second.root, path.path):
        raise ProofInvalid(
            f"the log of {second.size} entries is not shown to begin with the log of {first.size}: "
            "the proof was changed, or the log has forked"
        )
    return Consistent(origin=first.origin, old=first, new=second)


@contextmanager
def hinting(data: str | bytes) -> Iterator[None]:
    """Say of what is refused how it may have come to harm on its way, where that shows.

    Args:
        data: the text that is read within.

    Raises:
        NoProof: instead of another `ProofInvalid`, where the data is something else altogether.
    """
    try:
        yield
    except ProofInvalid as e:
        raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
        if other := _other(raw):
            raise NoProof(
                f"this is {other}, and no proof or checkpoint: ask for it again"
            ) from None
        hint = _harm(raw)
        if not hint:
            raise
        raise ProofInvalid(f"{e}; {hint}") from None


def _other(raw: bytes) -> str:
    """Say what this is where it was never a proof or a checkpoint; empty where it may be one."""
    inside = raw.strip(b"\xef\xbb\xbf \t\r\n")
    if not inside:
        return "an empty file"
    lines = inside.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    head, _, rest = lines.partition(b"\n")
    known = any(mark in head or mark.startswith(inside) for mark in _HEADS)
    if known or _SIGNED in lines or rest.startswith(b"old ") or rest[:1].isdigit():
        return ""
    if inside[:1] in {b"{", b"["}:
        return "JSON, such as a server's refusal"
    return "a page of HTML" if inside[:1] == b"<" else "something else"


def _harm(raw: bytes) -> str:
    if len(raw) > PROOF_BYTES_MAX:
        return ""
    if b"\r" in raw:
        return (
            "its line ends were changed, as mail programs and editors do: ask for the very same "
            "bytes, in an archive for example"
        )
    head, _, rest = raw.partition(b"\n")
    proof = bool(raw) and any(h == head if rest else h.startswith(head) for h in _HEADS)
    checkpoint = rest.partition(b"\n")[0].isdigit()
    unsigned = head == _HEADS[0] and _SIGNED not in raw
    if (proof or checkpoint) and (unsigned or not raw.endswith(b"\n")):
        return "it seems to end early: ask for all of it"
    if raw.endswith(b"\n\n"):
        return "an empty line was added at its end: ask for the very same bytes"
    return ""
