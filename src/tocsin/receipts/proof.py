"""Proofs as text files: that an entry is in a log, and that a log only grew.

The first kind is c2sp.org/tlog-proof, with the entry itself in its `extra` line, so that one file
tells all. The second is ours, in the same spirit:

    tocsin/consistency@v1
    old 5
    new 9
    HASH...

Whatever does not write back as the same bytes is refused.
"""

from __future__ import annotations

import msgspec

from tocsin.errors import InputError, ProofInvalid
from tocsin.limits import PROOF_BYTES_MAX, TREE_SIZE_MAX
from tocsin.receipts.strict import hash_of, number, text_of, tobase64, unbase64

TLOG_PROOF = "c2sp.org/tlog-proof@v1"
CONSISTENCY = "tocsin/consistency@v1"

_PATH_MAX = 63
_CONSISTENCY_MAX = 2 * _PATH_MAX


class TlogProof(msgspec.Struct, frozen=True, kw_only=True):
    """That an entry is in a log.

    Args:
        index: of the entry, from 0.
        path: hashes of 32 bytes, from the leaf's sibling up.
        checkpoint: the signed note, as it is.
        extra: what the format leaves to its users: here the bytes of the entry.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    def write(self) -> str:
        """Give the proof as text, for a file that ends in ``.tlog-proof``.

        Raises:
            InputError: it is not such that it could be read back.
        """
        text = self._text()
        try:
            same = read_proof(text) == self
        except ProofInvalid as e:
            raise InputError(f"this is no proof: {e}") from None
        if not same:
            raise InputError("this is no proof: it does not read back as it was")
        return text

    def _text(self) -> str:
        extra = [] if self.extra is None else [f"extra {tobase64(self.extra)}"]
        hashes = [tobase64(step) for step in self.path]
        lines = [TLOG_PROOF, *extra, f"index {self.index}", *hashes, ""]
        return "\n".join(lines) + "\n" + self.checkpoint


class ConsistencyProof(msgspec.Struct, frozen=True, kw_only=True):
    """That a log of `new` entries begins with the log of `old` entries.

    Args:
        old, new: sizes, as the two checkpoints say them.
        path: hashes of 32 bytes, as RFC 6962 orders them.

    Example:
        >>> print(ConsistencyProof(old=4, new=4, path=()).write(), end="")
        tocsin/consistency@v1
        old 4
        new 4
    """

    old: int
    new: int
    path: tuple[bytes, ...]

    def write(self) -> str:
        """Give the proof as text."""
        hashes = [tobase64(step) for step in self.path]
        return "\n".join([CONSISTENCY, f"old {self.old}", f"new {self.new}", *hashes]) + "\n"


def read_proof(data: str | bytes) -> TlogProof:
    """Read a proof of inclusion, without a word on whether it holds.

    Raises:
        ProofInvalid: it is none, or not written as it has to be.
    """
    text = text_of(data, "proof", PROOF_BYTES_MAX)
    head, gap, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not gap or lines.pop(0) != TLOG_PROOF:
        raise ProofInvalid(f"a proof begins with {TLOG_PROOF!r} and has a checkpoint at its end")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = unbase64(lines.pop(0).removeprefix("extra "), "extra data")
        if not extra:
            raise ProofInvalid("the line for extra data is left out where there is none")
    index = _field(lines, "index")
    path = _hashes(lines, _PATH_MAX)
    proof = TlogProof(index=index, path=path, checkpoint=checkpoint, extra=extra)
    if proof._text() != text:  # noqa: SLF001 - the other half of this module
        raise ProofInvalid("the proof is not written as it has to be")
    return proof


def read_consistency(data: str | bytes) -> ConsistencyProof:
    """Read a proof of consistency, without a word on whether it holds.

    Raises:
        ProofInvalid: it is none, or not written as it has to be.
    """
    text = text_of(data, "proof", PROOF_BYTES_MAX)
    lines = text.split("\n")
    if lines.pop() or not lines or lines.pop(0) != CONSISTENCY:
        raise ProofInvalid(f"a proof of consistency begins with {CONSISTENCY!r} and ends its line")
    old, new = _field(lines, "old"), _field(lines, "new")
    proof = ConsistencyProof(old=old, new=new, path=_hashes(lines, _CONSISTENCY_MAX))
    if proof.write() != text:
        raise ProofInvalid("the proof is not written as it has to be")
    return proof


def _field(lines: list[str], name: str) -> int:
    if not lines or not lines[0].startswith(f"{name} "):
        raise ProofInvalid(f"the proof has no line {name!r} where it has to be")
    return number(lines.pop(0).removeprefix(f"{name} "), name, TREE_SIZE_MAX)


def _hashes(lines: list[str], most: int) -> tuple[bytes, ...]:
    if len(lines) > most:
        raise ProofInvalid(f"the proof has {len(lines)} hashes; no log needs more than {most}")
    return tuple(hash_of(line, "hash") for line in lines)
