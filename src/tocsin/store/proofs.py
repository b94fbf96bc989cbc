"""Proofs out of the store: entries, checkpoints, and text files that verify without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tocsin.errors import InputError, StoreDamaged
from tocsin.receipts.entry import Kind
from tocsin.receipts.merkle import Node, consistency_path, inclusion_path, leaf_hash
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


def logged(connection: Connection, scope: Scope, entry_id: str, kind: Kind) -> Logged | None:
    """Read one entry; None where there is none.

    Raises:
        StoreDamaged: it is not what was written.
    """
    c = t.entries.c
    asked = sa.select(c.index, c.kind, c.id, c.seq, c.made_us, c.entry).where(
        c.tenant == scope.tenant, c.kind == kind, c.id == entry_id
    )
    row = connection.execute(asked).one_or_none()
    if row is None:
        return None
    found = Logged(**{**row._asdict(), "entry": bytes(row.entry)})
    if leaf_hash(found.entry) != node(connection, scope)(0, found.index):
        raise StoreDamaged(f"entry {found.index} of {scope.tenant!r} is not what was written")
    return found


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


def proof(connection: Connection, scope: Scope, entry_id: str, kind: Kind) -> str:
    """Prove that an entry is in the log: one text file (c2sp.org/tlog-proof) with the entry in it.

    Raises:
        InputError: there is no such entry.
    """
    found = logged(connection, scope, entry_id, kind)
    if found is None:
        raise InputError(f"there is no {kind} {entry_id[:80]!r} of {scope.tenant!r}")
    latest = newest(connection, scope)
    if latest is None:
        raise StoreDamaged(f"the log of {scope.tenant!r} has entries and no checkpoint")
    size, note = latest
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
