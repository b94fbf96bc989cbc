"""Offline verification: with the public key alone, without network, store or trust in the file.

What holds was recorded in the log that the key signs for, at that place, and was not changed since.
Whether it was right, nobody can read from a signature.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tocsin.errors import ProofInvalid
from tocsin.receipts.checkpoint import Checkpoint, is_log_of, open_checkpoint
from tocsin.receipts.entry import LogEntry, read_entry
from tocsin.receipts.keys import PublicKey
from tocsin.receipts.merkle import leaf_hash, verify_consistency, verify_inclusion
from tocsin.receipts.proof import read_consistency, read_proof


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
        ProofInvalid: whatever does not hold; the message says what.

    Example:
        >>> from tocsin.receipts import Checkpoint, Signer, TlogProof, sign_checkpoint
        >>> signer = Signer.from_seed("example.com/log/acme", bytes(32))
        >>> raw = LogEntry(tenant="acme", kind="receipt", id="r", sequence=1, body=b"{}").write()
        >>> signed = sign_checkpoint(Checkpoint(signer.name, 1, leaf_hash(raw)), signer)
        >>> proof = TlogProof(index=0, path=(), checkpoint=signed, extra=raw).write()
        >>> verify(proof, [signer.public]).entry.id
        'r'
    """
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
    first, second = open_checkpoint(old, keys), open_checkpoint(new, keys)
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
