"""Proofs out of the store: entries, checkpoints, and text files that verify without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tocsin.errors import InputError, ProofInvalid, StoreDamaged
from tocsin.limits import STORE_READ_MAX
from tocsin.receipts.entry import Kind, read_entry
from tocsin.receipts.merkle import Node, consistency_path, inclusion_path, leaf_hash
from tocsin.receipts.period import Period, read_period
from tocsin.receipts.proof import ConsistencyProof, TlogProof
from tocsin.store import tables as t
from tocsin.store.scope import Scope

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as it stands in the log.

    Args:
        index: its place, from 0.
        kind, id: of what.
        seq: the tenant's event sequence at that moment.
        made_us: when it was written, microseconds since 1970.
        entry: its bytes, whose hash is the leaf.
    """

    index: int
    kind: Kind
    id: str
    seq: int
    made_us: int
    entry: bytes


def logged(connection: Connection, scope: Scope, entry_id: str, kind: Kind | None) -> Logged | None:
    """Read one entry, of whichever kind where that is None; None where there is none.

    Raises:
        StoreDamaged: it is not what was written.
    """
    c = t.entries.c
    asked = sa.select(c.index, c.kind, c.id, c.seq, c.made_us, c.entry).where(
        c.tenant == scope.tenant, c.id == entry_id, *([] if kind is None else [c.kind == kind])
    )
    row = connection.execute(asked.order_by(c.kind.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    found = Logged(**{**row._asdict(), "entry": bytes(row.entry)})
    if leaf_hash(found.entry) != node(connection, scope)(0, found.index):
        raise _changed(found, scope)
    return found


def periods(
    connection: Connection, scope: Scope, after: int = -1, limit: int = STORE_READ_MAX
) -> list[tuple[int, Period]]:
    """Read what periods say, each with its index in the log, after an index (-1 for all)."""
    return [
        (found.index, _period(found, scope))
        for found in listed(connection, scope, "period", after, limit)
    ]


def _period(found: Logged, scope: Scope) -> Period:
    try:
        return read_period(read_entry(found.entry).body)
    except (ProofInvalid, InputError):
        raise _changed(found, scope) from None


def _changed(found: Logged, scope: Scope) -> StoreDamaged:
    return StoreDamaged(
        f"entry {found.index} of {scope.tenant!r} is not what was written: run `tocsin fsck`"
    )


def listed(
    connection: Connection, scope: Scope, kind: Kind | None, after: int, limit: int
) -> list[Logged]:
    """Read entries in the order of the log, after an index (-1 for all)."""
    c = t.entries.c
    asked = (
        sa.select(c.index, c.kind, c.id, c.seq, c.made_us, c.entry)
        .where(
            c.tenant == scope.tenant, c.index > after, *([] if kind is None else [c.kind == kind])
        )
        .order_by(c.index)
        .limit(limit)
    )
    return [
        Logged(**{**row._asdict(), "entry": bytes(row.entry)}) for row in connection.execute(asked)
    ]


def proof(
    connection: Connection,
    scope: Scope,
    entry_id: str,
    kind: Kind | None,
    size: int | None = None,
) -> str:
    """Prove that an entry is in the log: one text file (c2sp.org/tlog-proof) with the entry in it.

    Args:
        connection, scope: whose log.
        entry_id, kind: of the entry; of whichever kind where that is None.
        size: of the checkpoint to prove it by; the newest where None.

    Raises:
        InputError: there is no such entry, or checkpoint, or the entry came after it.
    """
    found = logged(connection, scope, entry_id, kind)
    if found is None:
        raise InputError(f"there is no {kind or 'entry'} {entry_id[:80]!r} of {scope.tenant!r}")
    if newest(connection, scope) is None:
        raise StoreDamaged(f"the log of {scope.tenant!r} has entries and no checkpoint")
    size, note = signed(connection, scope, size)
    if found.index >= size:
        raise InputError(f"{found.kind} {entry_id[:80]!r} came after the first {size} entries")
    return TlogProof(
        index=found.index,
        path=tuple(inclusion_path(found.index, size, node(connection, scope))),
        checkpoint=note,
        extra=found.entry,
    ).write()


def growth(connection: Connection, scope: Scope, old: int, new: int) -> str:
    """Prove that the log of `new` entries begins with the log of `old` entries, as a text file."""
    path = consistency_path(old, new, node(connection, scope))
    return ConsistencyProof(old=old, new=new, path=tuple(path)).write()


def signed(connection: Connection, scope: Scope, size: int | None = None) -> tuple[int, str]:
    """Give size and note of a checkpoint: that of `size` entries, or the newest.

    Raises:
        InputError: the log has no entry, or none was made at that size.
    """
    latest = newest(connection, scope)
    if latest is None:
        raise InputError(f"the log of {scope.tenant!r} has no entry yet, and so no checkpoint")
    if size is None or size == latest[0]:
        return latest
    c = t.checkpoints.c
    asked = sa.select(c.size, c.note).where(c.tenant == scope.tenant)
    near = asked.where(c.size >= min(max(size, 0), latest[0])).order_by(c.size).limit(1)
    row = connection.execute(near).one()
    if row.size != size:
        raise InputError(f"there is no checkpoint of {size} entries; there is one of {row.size}")
    return row.size, row.note


def newest(connection: Connection, scope: Scope) -> tuple[int, str] | None:
    """Give size and note of the latest checkpoint; None where the log has no entry."""
    c = t.checkpoints.c
    row = connection.execute(
        sa.select(c.size, c.note).where(c.tenant == scope.tenant).order_by(c.size.desc()).limit(1)
    ).one_or_none()
    return None if row is None else (row.size, row.note)


def checkpoints(connection: Connection, scope: Scope, after: int, limit: int) -> list[str]:
    """Read signed checkpoints of more than `after` entries, oldest first."""
    c = t.checkpoints.c
    asked = (
        sa.select(c.note)
        .where(c.tenant == scope.tenant, c.size > after)
        .order_by(c.size)
        .limit(limit)
    )
    return list(connection.execute(asked).scalars())


def node(connection: Connection, scope: Scope) -> Node:
    """Give what reads stored hashes of one tenant's log."""
    c = t.nodes.c

    def read(level: int, index: int) -> bytes:
        asked = sa.select(c.hash).where(
            c.tenant == scope.tenant, c.level == level, c.index == index
        )
        found = connection.execute(asked).scalar()
        if found is None:
            raise StoreDamaged(f"hash {level}/{index} of the log of {scope.tenant!r} is missing")
        return bytes(found)

    return read
