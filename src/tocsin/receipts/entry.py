"""An entry of a log: one JSON document that says what it is, whose, and where in the record.

The hash of its bytes is the leaf of the tree, so the bytes are kept as they were made.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import msgspec

from tocsin.errors import InputError, ProofInvalid
from tocsin.limits import ENTRY_BYTES_MAX

SCHEMA: Final = "tocsin.entry/1"

Kind = Literal["receipt", "period"]
"""A receipt tells of one response; a period says what there was, and so also what there was not."""


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The order of the fields is that of the bytes."""

    schema: Literal["tocsin.entry/1"]
    tenant: str
    kind: Kind
    id: str
    sequence: int
    body: msgspec.Raw


_decoder = msgspec.json.Decoder(_Document)
_encode = msgspec.json.Encoder().encode


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry.

    Args:
        tenant: whose log it is in.
        kind: what it tells of.
        id: of the receipt or the period.
        sequence: number of the tenant's last event at that moment, from 0.
        body: JSON object, as bytes.

    Example:
        >>> entry = LogEntry(tenant="acme", kind="receipt", id="r_1", sequence=7, body=b'{"a":1}')
        >>> entry.write()
        b'{"schema":"tocsin.entry/1","tenant":"acme","kind":"receipt","id":"r_1","sequence":7,"body":{"a":1}}'
        >>> read_entry(entry.write()) == entry
        True
    """

    tenant: str
    kind: Kind
    id: str
    sequence: int
    body: bytes

    def write(self) -> bytes:
        """Give the bytes that are hashed and stored.

        Raises:
            InputError: it is not such that it could be read back.
        """
        try:
            raw = _raw(self)
            _check(_decoder.decode(raw), raw)
        except (ProofInvalid, msgspec.MsgspecError, ValueError) as e:
            raise InputError(f"this cannot be an entry of a log: {e}") from None
        return raw

    def content(self) -> dict[str, Any]:
        """Give the body as plain data; hostile, as everything that came from a model."""
        found: dict[str, Any] = json.loads(self.body)
        return found


def read_entry(raw: bytes) -> LogEntry:
    """Read an entry, strictly: no unknown or doubled fields, no second way to write the same.

    Raises:
        ProofInvalid: it is none.
    """
    try:
        made = _decoder.decode(raw)
        json.loads(raw, object_pairs_hook=_once, parse_constant=_never)
        return _check(made, raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:
        raise ProofInvalid(f"the entry is none of {SCHEMA!r}: {e}") from None


def _check(made: _Document, raw: bytes) -> LogEntry:
    """Give the entry that a document holds, where it is one, written in the one way there is."""
    if len(raw) > ENTRY_BYTES_MAX:
        raise ProofInvalid(f"the entry is longer than {ENTRY_BYTES_MAX} bytes")
    body = bytes(made.body)
    if not (made.tenant and made.id and made.sequence >= 0 and body.startswith(b"{")):
        raise ProofInvalid("the entry lacks a tenant, an id, a sequence or a body")
    entry = LogEntry(
        tenant=made.tenant, kind=made.kind, id=made.id, sequence=made.sequence, body=body
    )
    if _raw(entry) != raw:
        raise ProofInvalid("the entry is not written as it has to be")
    return entry


def _raw(entry: LogEntry) -> bytes:
    return _encode(
        _Document(
            schema=SCHEMA,
            tenant=entry.tenant,
            kind=entry.kind,
            id=entry.id,
            sequence=entry.sequence,
            body=msgspec.Raw(entry.body),
        )
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _never(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
