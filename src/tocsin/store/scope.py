"""Whose record is read or written: the argument that no query goes without."""

from __future__ import annotations

import msgspec

from tocsin.errors import InputError
from tocsin.limits import STORE_TENANT_CHARS_MAX


class Scope(msgspec.Struct, frozen=True):
    """One tenant's record, and nothing else.

    Args:
        tenant: its name, 1 to 128 printable characters.

    Raises:
        InputError: it is no such name.

    Example:
        >>> Scope("acme").tenant
        'acme'
    """

    tenant: str

    def __post_init__(self) -> None:
        """Refuse what is no name."""
        why = unfit(self.tenant)
        if why is not None:
            raise InputError(f"no tenant can be called {self.tenant[:64]!r}: {why}")


def unfit(tenant: str) -> str | None:
    """Say why a tenant cannot be called so; None where it can."""
    if not tenant:
        return "the name is empty"
    if len(tenant) > STORE_TENANT_CHARS_MAX:
        return f"it is longer than {STORE_TENANT_CHARS_MAX} characters"
    if not tenant.isprintable():
        return "it holds something that cannot be printed"
    return None
