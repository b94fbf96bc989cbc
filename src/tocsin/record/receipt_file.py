"""A receipt out of whatever file somebody has: a proof, an entry of a log, a bare receipt."""

from __future__ import annotations

from typing import Literal

import msgspec

from tocsin.errors import InputError, ProofInvalid
from tocsin.guarding.receipt import SCHEMA, Receipt
from tocsin.limits import PROOF_BYTES_MAX
from tocsin.receipts.entry import SCHEMA as ENTRY
from tocsin.receipts.entry import LogEntry, read_entry
from tocsin.receipts.proof import TLOG_PROOF, read_proof
from tocsin.receipts.verify import hinting

Form = Literal["proof", "entry", "receipt"]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds; reading it says nothing on whether it is genuine.

    Args:
        form: of the file.
        entry: of the log; None for a bare receipt.
        receipt: None where the entry is of another kind.
    """

    form: Form
    entry: LogEntry | None
    receipt: Receipt | None


class _SchemaOnly(msgspec.Struct):
    schema: str = ""


_receipt = msgspec.json.Decoder(Receipt)


def read_recorded(raw: bytes) -> Recorded:
    """Read a file with a receipt.

    Args:
        raw: a ``.tlog-proof`` file, an entry, or the JSON of a receipt.

    Raises:
        ProofInvalid: a proof or an entry that is not written as it has to be, or that
            contradicts the receipt in it.
        InputError: something else altogether.
    """
    if len(raw) > PROOF_BYTES_MAX:
        raise InputError(f"a receipt has at most {PROOF_BYTES_MAX} bytes")
    if raw.startswith(TLOG_PROOF.encode()):
        with hinting(raw):
            extra = read_proof(raw).extra
        if extra is None:
            raise ProofInvalid("the proof does not carry its entry, so nobody knows what it proves")
        return _of_entry(read_entry(extra), "proof")
    try:
        schema = msgspec.json.decode(raw, type=_SchemaOnly).schema
    except (msgspec.MsgspecError, ValueError, RecursionError):
        cut = raw.startswith(b"{") and not raw.rstrip().endswith(b"}")
        hint = "; it seems to end early: ask for all of it" if cut else ""
        raise InputError(f"this is neither a proof nor a receipt{hint}") from None
    if schema == ENTRY:
        return _of_entry(read_entry(raw.removesuffix(b"\n")), "entry")
    return Recorded(form="receipt", entry=None, receipt=read_receipt(raw))


def of_entry(entry: LogEntry) -> Recorded:
    """Read the receipt in an entry of the log, where it is one.

    Raises:
        ProofInvalid: entry and receipt contradict each other.
        InputError: there is no receipt of a known schema in it.
    """
    return _of_entry(entry, "proof")


def _of_entry(entry: LogEntry, form: Form) -> Recorded:
    if entry.kind != "receipt":
        return Recorded(form=form, entry=entry, receipt=None)
    receipt = read_receipt(entry.body)
    who = receipt.who
    if who.id != entry.id or (who.tenant and who.tenant != entry.tenant):
        raise ProofInvalid(
            f"the entry is receipt {entry.id!r} of {entry.tenant!r}, and the receipt in it says "
            f"that it is {who.id!r} of {who.tenant!r}"
        )
    return Recorded(form=form, entry=entry, receipt=receipt)


def read_receipt(raw: bytes) -> Receipt:
    """Read the JSON of a receipt; fields that a later version added are left aside.

    Raises:
        InputError: it is none of this schema.
    """
    try:
        schema = msgspec.json.decode(raw, type=_SchemaOnly).schema
        if schema == SCHEMA:
            return _receipt.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:
        raise InputError(f"this is no receipt: {e}") from None
    raise InputError(f"schema {schema[:60]!r} is not {SCHEMA!r}: this is no receipt known here")
