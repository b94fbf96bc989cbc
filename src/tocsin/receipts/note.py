"""Signed notes (c2sp.org/signed-note): a text, an empty line, and lines with signatures.

    example.com/log/acme
    7
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — example.com/log/acme Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4...

Signatures by keys that nobody named are left aside, as the format demands: that is how witnesses
and new keys come in. A signature by a known key that does not hold spoils the whole note.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tocsin.errors import InputError, ProofInvalid
from tocsin.limits import NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX
from tocsin.receipts.keys import PublicKey, is_name
from tocsin.receipts.signer import Signer
from tocsin.receipts.strict import text_of, tobase64, unbase64

_DASH = "— "
_KEY_ID_BYTES = 4


class Signature(msgspec.Struct, frozen=True):
    """One line: `name` and the four bytes `key_id` say whose, `signature` is what they made."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """As it stands in a note, new line included."""
        return f"{_DASH}{self.name} {tobase64(self.key_id + self.signature)}\n"


class Note(msgspec.Struct, frozen=True):
    """A note as it was read: nothing in it may be trusted before `signers` found somebody.

    Args:
        text: ends with a new line.
        signatures: at least one.
    """

    text: str
    signatures: tuple[Signature, ...]

    def write(self) -> str:
        """Give the note as text; `read` gives the same note back."""
        return self.text + "\n" + "".join(s.line for s in self.signatures)

    def signers(self, keys: Sequence[PublicKey]) -> tuple[PublicKey, ...]:
        """Say which of the given keys signed the text.

        Raises:
            ProofInvalid: none of them, or one whose signature does not hold.
        """
        known = {(key.name, key.key_id): key for key in keys}
        found = []
        for signature in self.signatures:
            key = known.get((signature.name, signature.key_id))
            if key is None:
                continue
            if not key.signed(self.text.encode(), signature.signature):
                raise ProofInvalid(f"the signature by {key.name!r} does not hold: it was changed")
            found.append(key)
        if not found:
            names = ", ".join(f"{s.name}+{s.key_id.hex()}" for s in self.signatures[:4])
            raise ProofInvalid(f"no given key signed it; it names {names}")
        return tuple(found)


def sign(text: str, signers: Sequence[Signer]) -> str:
    """Sign a text.

    Args:
        text: ends with a new line; no control characters besides.
        signers: at least one.

    Returns:
        The note.

    Raises:
        InputError: no such text, or nobody to sign it.
    """
    raw = text.encode()
    made = tuple(Signature(s.name, s.public.key_id, s.sign(raw)) for s in signers)
    note = Note(text, made).write()
    try:
        read(note)
    except ProofInvalid as e:
        raise InputError(f"this cannot be signed: {e}") from None
    return note


def read(data: str | bytes) -> Note:
    """Read a note, without a word on whether it is signed by anybody known.

    Raises:
        ProofInvalid: it is no note, or not written as notes have to be.
    """
    text = text_of(data, "note", NOTE_BYTES_MAX)
    if any(c < " " and c != "\n" for c in text):
        raise ProofInvalid("the note holds control characters")
    body, gap, lines = text.rpartition("\n\n")
    if not gap or not lines.endswith("\n"):
        raise ProofInvalid("the note has no signatures below an empty line")
    signatures = lines[:-1].split("\n")
    if len(signatures) > NOTE_SIGNATURES_MAX:
        raise ProofInvalid(f"the note has more than {NOTE_SIGNATURES_MAX} signatures")
    return Note(body + "\n", tuple(_signature(line) for line in signatures))


def _signature(line: str) -> Signature:
    name, space, rest = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not is_name(name):
        raise ProofInvalid(f"{line[:60]!r} is no line with a signature")
    raw = unbase64(rest, "signature")
    if len(raw) <= _KEY_ID_BYTES:
        raise ProofInvalid(f"the signature by {name!r} is too short")
    return Signature(name, raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:])
