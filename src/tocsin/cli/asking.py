"""Who asks at the command line, and whether they may: one rule for every command of a record.

With a key in `TOCSIN_KEY` a command speaks for that key: for its tenant alone, and as its role and
scopes allow. What they do not allow is refused, and recorded as refused. Without one it speaks for
whoever is logged in: who can read the file of the store is an admin of it in any case.
"""

from __future__ import annotations

import getpass
import os
import secrets
from typing import TYPE_CHECKING

import click

from tocsin.errors import AccessDenied, InputError
from tocsin.limits import TENANTS_TOLD_MAX

if TYPE_CHECKING:
    from tocsin.record.redaction import Redactor
    from tocsin.store import Store
    from tocsin.store.oversight import Oversight
    from tocsin.store.roles import Action, Principal

KEY_VARIABLE = "TOCSIN_KEY"
"""Holds the key of whoever asks; without it the command speaks for somebody on the machine."""

_PSEUDONYM_CHARS = 22
_UNHEARD = (
    ". The record has not heard of {!r} yet: it knows a tenant, configured or not, from its first "
    "event on. If the name is right, make the key with --new-tenant"
)


def permitted(store: Store, tenant: str, action: Action, *, target: str = "") -> Principal:
    """Say who asks for a tenant's record, and that they may.

    Args:
        store: that was opened.
        tenant: whose record.
        action: what is going to be done.
        target: with what, by id.

    Raises:
        AccessDenied: a key is in the environment that may not; that is recorded.
        click.UsageError: there is no such tenant.
    """
    by = who(store, tenant, action)
    oversight(store).demand(by, action, target=target)
    return by


def each(store: Store, tenant: str | None, action: Action) -> list[Principal]:
    """Say who asks, and that they may, for each tenant that a command is about.

    That is the one that is named; where none is, the key's, or all of them.
    """
    if tenant is None and KEY_VARIABLE not in os.environ:
        return [permitted(store, head.tenant, action) for head in store.heads()]
    return [permitted(store, tenant or _holder(store, action).tenant, action)]


def who(
    store: Store,
    tenant: str,
    action: Action,
    *,
    name: str | None = None,
    new: bool | None = None,
) -> Principal:
    """Say who asks for a tenant's record; whether they may is still to be asked.

    Args:
        store: that was opened.
        tenant: whose record.
        action: what is going to be done, which a refusal names.
        name: of somebody on the machine itself, if not that of the user who is logged in.
        new: whether the tenant may be one that the store does not know; None where it never may.

    Raises:
        AccessDenied: the key in the environment is none, or another tenant's.
        click.UsageError: there is no such tenant.
    """
    from tocsin.store.roles import local

    if KEY_VARIABLE not in os.environ:
        if not new:
            refuse_stranger(store, tenant, "" if new is None else _UNHEARD.format(tenant[:64]))
        return local(tenant, name or getpass.getuser())
    if name is not None:
        raise InputError(f"--as is not for who comes with a key in {KEY_VARIABLE}")
    by = _holder(store, action)
    if by.tenant != tenant:
        said = f"the key in {KEY_VARIABLE} is of another tenant: it opens nothing of {tenant!r}"
        oversight(store).refuse(by, action, target=f"tenant {tenant}", said=said)
    return by


def refuse_key(store: Store, action: Action, said: str) -> None:
    """Refuse whoever comes with a key, which is of one tenant, what is done to all of them."""
    if KEY_VARIABLE in os.environ:
        by = _holder(store, action)
        said = f"{said}; the key in {KEY_VARIABLE} is of one: leave it out, on the machine itself"
        oversight(store).refuse(by, action, target="all tenants", said=said)


def _holder(store: Store, action: Action) -> Principal:
    from tocsin.store.access import Access
    from tocsin.store.roles import ACTIONS

    by = Access(store, redact=_masked).principal(os.environ[KEY_VARIABLE])
    if by is None:
        raise AccessDenied(
            f"the key in {KEY_VARIABLE} is none of this record: unknown, revoked or expired, so "
            f"that it may not {ACTIONS[action]}. Keys are made by `tocsin access key add`"
        )
    return by


def oversight(store: Store) -> Oversight:
    """Record what somebody did or may not, without keys: what is masked is equal to nothing."""
    from tocsin.store.oversight import Oversight

    return Oversight(store, redact=_masked, new_id=lambda: secrets.token_hex(12))


def _masked(tenant: str, text: str) -> str:
    from tocsin.record.redaction import PatternFinder, Redaction

    return Redaction(PatternFinder(), secrets.token_bytes(32)).tenant(tenant).name(text)


def refuse_stranger(store: Store, tenant: str, hint: str = "") -> None:
    """Refuse a tenant that the store does not know: a wrong name must not look like all quiet.

    Raises:
        click.UsageError: so that the exit status is 2.
    """
    known = [head.tenant for head in store.heads()]
    if tenant in known:
        return
    some = ", ".join(known[:TENANTS_TOLD_MAX]) or "none"
    more = len(known) - TENANTS_TOLD_MAX
    there = f"there are {some}" if len(known) > 1 else f"there is {some}"
    said = f"there is no tenant {tenant[:64]!r}; {there}"
    raise click.UsageError(said + (f" and {more:,} more" if more > 0 else "") + hint)


def redactor(keys: str, tenant: str) -> Redactor:
    """Make what knows the pseudonyms of a tenant: by the redaction's key in a folder of keys."""
    from tocsin.record.redaction import Redaction
    from tocsin.store import Keys

    secret = Keys.open(keys, create=False, environment=os.environ).redaction
    if secret is None:
        raise InputError(f"there is no redaction.key in {keys!r}")
    return Redaction(None, secret).tenant(tenant)


def pseudonym(user: str, of: Redactor | None) -> str:
    """Return under which name a person is stored; without keys only a pseudonym says it."""
    if of is not None:
        return of.person(user)
    if len(user) != _PSEUDONYM_CHARS or not user.startswith("u_"):
        raise InputError("a name becomes a pseudonym by the store's keys: give --keys as well")
    return user
