"""What a store holds of the work of its keys: with others, it would not go on as it began."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tocsin.errors import InputError
from tocsin.store import tables as t
from tocsin.store.vault import locked_with

if TYPE_CHECKING:
    from sqlalchemy import Connection

MARK: Final = "redaction.key"
"""Under this name the table of facts about a store holds the fingerprint of that key."""

_MARK_CHARS: Final = 32


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What keys have done in a store.

    Args:
        where: the store, as people write it, without a password.
        signed: there are checkpoints.
        masters: ids of the master keys that keys of tenants are wrapped with.
        told: there are events, whose pseudonyms the key of the redaction made.
    """

    where: str
    signed: bool = False
    masters: tuple[bytes, ...] = ()
    told: bool = False

    @property
    def locked(self) -> bool:
        """Whether there is anything that a master key opens."""
        return bool(self.masters)


def work_of(connection: Connection, where: str) -> Work:
    """Look what the keys of a store have done."""

    def any_of(asked: sa.Select[tuple[str]]) -> bool:
        return connection.execute(asked.limit(1)).first() is not None

    return Work(
        where=where,
        signed=any_of(sa.select(t.checkpoints.c.tenant)),
        masters=locked_with(connection),
        told=any_of(sa.select(t.heads.c.tenant)),
    )


def fits(connection: Connection, key: bytes, where: str) -> bool:
    """Compare the key of the redaction with the one that the store began with.

    Returns:
        Whether the store knows it; False where it has not been told of any.

    Raises:
        InputError: it is another one.
    """
    asked = sa.select(t.meta.c.value).where(t.meta.c.key == MARK)
    known = connection.execute(asked).scalar()
    if known is not None and known != fingerprint(key):
        raise InputError(
            f"the redaction.key is not the one that the store {where!r} began with: the same user "
            "would be somebody else from now on; put the old key back from a backup"
        )
    return known is not None


def remember(connection: Connection, key: bytes) -> None:
    """Write down which key of the redaction a store began with; one that is known stays."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    row = {"key": MARK, "value": fingerprint(key)}
    connection.execute(dialect.insert(t.meta).values(row).on_conflict_do_nothing())


def fingerprint(key: bytes) -> str:
    """Hash a key under a label of its own; says nothing about it."""
    return hashlib.sha256(b"tocsin.redaction.key/1\0" + key).hexdigest()[:_MARK_CHARS]
