"""Which form the tables have, and how they get the one that this program knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tocsin.errors import InputError, StoreFromTheFuture

if TYPE_CHECKING:
    from sqlalchemy import Connection

REVISIONS: tuple[str, ...] = ("0001",)
"""Every form there has been, oldest first: the steps in `migrations/versions`."""

_LOCK = 7_465_237_101
"""Number of the advisory lock that PostgreSQL keeps others out with."""


def revision(connection: Connection) -> str | None:
    """Say which form the tables have; None where there are none.

    Raises:
        StoreFromTheFuture: one that this program does not know.
        InputError: there are tables, and they are not a store's.
    """
    names = set(sa.inspect(connection).get_table_names())
    if "alembic_version" not in names:
        if names:
            raise InputError(
                "this database holds other tables and no store: give a database of its own"
            )
        return None
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
    if not found:
        return None
    if len(found) != 1 or found[0] not in REVISIONS:
        raise StoreFromTheFuture(
            f"this store has the form {', '.join(map(repr, found))}, and this version of Tocsin "
            f"knows up to {REVISIONS[-1]}: use the version that wrote it, or a later one"
        )
    return str(found[0])


def current(connection: Connection) -> bool:
    """Say whether nothing has to be done."""
    return revision(connection) == REVISIONS[-1]


def migrate(connection: Connection) -> None:
    """Bring the tables forward, inside the caller's transaction, which keeps all others out."""
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    if current(connection):
        return
    config = Config()
    # Of `ConfigParser`: a per cent sign in a path would be read as a variable.
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    attributes: dict[str, Any] = config.attributes
    attributes["connection"] = connection
    command.upgrade(config, REVISIONS[-1])


def _folder() -> Path:
    return Path(__file__).parent / "migrations"
