"""`tocsin access`: keys, grants, and who did what."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tocsin.cli.asking import KEY_VARIABLE, who
from tocsin.cli.history import FOLDER
from tocsin.cli.terminal import json_bytes, out, plain, table
from tocsin.errors import InputError
from tocsin.limits import BREAK_GLASS_MINUTES

if TYPE_CHECKING:
    from tocsin.record.redaction import Redactor
    from tocsin.store.access import Access, Action, Principal

F = TypeVar("F", bound=Callable[..., Any])


def tenant_options(f: F) -> F:
    """Whose record, and who asks."""
    options: list[Callable[[F], F]] = [
        click.option("--tenant", required=True, help="Whose record."),
        click.option(
            "--keys",
            "folder",
            type=FOLDER,
            metavar="FOLDER",
            help="Keys of the store, as the gateway has them.",
        ),
        click.option(
            "--as",
            "name",
            metavar="NAME",
            help=f"Who asks; your user name where left out. {KEY_VARIABLE} says it by itself.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    ]
    for option in reversed(options):
        f = option(f)
    return f


@contextmanager
def asking(
    store: str,
    tenant: str,
    folder: str | None,
    name: str | None,
    action: Action,
    *,
    new: bool | None = None,
) -> Iterator[tuple[Access, Principal, Redactor | None]]:
    """Open a store and say who asks, for a tenant that exists unless it may be `new`, see `who`.

    Yields:
        What needs a role, who asks, and what makes pseudonyms where there are keys.

    Raises:
        AccessDenied: the key in the environment is unknown, or another tenant's.
    """
    from tocsin.record.redaction import PatternFinder, Redaction
    from tocsin.store import Keys, Store
    from tocsin.store.access import Access

    keys = None if folder is None else Keys.open(folder, create=False, environment=os.environ)
    lasting = None if keys is None else keys.redaction
    # Without the keys, what is masked in a reason is masked all the same; it is equal to nothing.
    redaction = Redaction(PatternFinder(), lasting or secrets.token_bytes(32))
    with Store.open(store, keys=keys, create=False) as opened:
        access = Access(opened, redact=lambda of, text: redaction.tenant(of).text(text))
        by = who(opened, tenant, action, name=name, new=new)
        yield access, by, None if lasting is None else redaction.tenant(tenant)


def moment(us: int | None) -> str:
    """Write a time in UTC; a dash where there is none."""
    from tocsin.events.moments import YEAR_10000_US, rfc3339

    return "-" if us is None else rfc3339(min(us, YEAR_10000_US - 1))[:19] + "Z"


@click.group("access", short_help="Keys, roles, grants, and who read or changed what.")
def command() -> None:
    """Who may do what in a record, and who did: keys, roles, grants.

    On the machine itself whoever has the store's file is an admin of all its tenants.
    """


@command.command("roles", short_help="Show the table of roles and actions.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def roles(*, as_json: bool) -> None:
    """Show what each role may do. What is not in the table is refused.

    Example: tocsin access roles
    """
    from tocsin.store.roles import ACTIONS, ALLOWED, ROLES

    if as_json:
        click.echo(json_bytes({role: sorted(ALLOWED[role]) for role in ROLES}))
        return
    rows = [
        [action, *("yes" if action in ALLOWED[role] else "-" for role in ROLES)]
        for action in ACTIONS
    ]
    out().print(table("", ["action", *ROLES], rows))


@command.command("list", short_help="Show who read or changed what.")
@click.argument("store")
@tenant_options
@click.option("--since", metavar="TIME", help="From this time on, such as 2026-01-31T00:00:00Z.")
@click.option(
    "--folder",
    "history",
    type=FOLDER,
    metavar="FOLDER",
    help="Where the history is, if not remembered.",
)
def listed(
    store: str,
    tenant: str,
    folder: str | None,
    name: str | None,
    since: str | None,
    history: str | None,
    *,
    as_json: bool,
) -> None:
    """Show who read or changed what not everyone may, and every grant, of one tenant of STORE.

    From the store and from its history.

    Example: tocsin access list record.db --tenant acme
    """
    from tocsin.events.kinds import Accessed, ContentErased
    from tocsin.events.moments import from_rfc3339

    try:
        since_us = 0 if since is None else from_rfc3339(since)
    except ValueError as e:
        raise InputError(f"--since: {e}") from None
    with asking(store, tenant, folder, name, "access.read") as (access, by, _):
        log = access.log(by, since_us=since_us, folder=history)
        grants = access.grants(by)
    if as_json:
        click.echo(json_bytes({"log": log, "grants": grants}))
        return
    if not log:
        click.echo("nothing was read or changed")
    for stored in log:
        body = stored.event.body
        if isinstance(body, Accessed):
            done = body.action if body.allowed else f"{body.action} REFUSED"
            of = f"  {body.target}" if body.target else ""
            under = f"  under {body.break_glass}" if body.break_glass else ""
            often = f"  {body.times:,} times" if body.times > 1 else ""
            line = f"{body.by} ({body.role})  {done}{of}{under}{often}"
            _say(f"{moment(stored.event.time_us)}  {line}", body.reason)
        elif isinstance(body, ContentErased):
            line = f"{body.by}  erased {body.contents:,} contents, and keys of {body.subjects:,}"
            _say(f"{moment(stored.event.time_us)}  {line} subjects")
    for g in grants:
        times = f"{moment(g.from_us)} to {moment(g.until_us)}"
        _say(f"grant {g.id}  {g.principal}  {times}  by {g.given_by}", g.reason)


def _say(line: str, more: str = "") -> None:
    """Print a line, and what belongs to it beneath: ids are long, and have to be whole."""
    click.echo(plain(line))
    if more:
        click.echo(f"    {plain(more)}")


@command.command("grant", short_help="Break the glass: let somebody read raw content for a while.")
@click.argument("store")
@tenant_options
@click.option("--to", metavar="ID", help="Id of a key, or local:NAME; who asks where left out.")
@click.option("--reason", required=True, help="Why; others will see it.")
@click.option("--minutes", default=BREAK_GLASS_MINUTES, show_default=True, help="For how long.")
def grant(
    store: str,
    tenant: str,
    folder: str | None,
    name: str | None,
    to: str | None,
    reason: str,
    minutes: int,
    *,
    as_json: bool,
) -> None:
    """Let somebody read raw content of one tenant of STORE for a while. It is seen.

    Example: tocsin access grant record.db --tenant acme --reason "case 12: was the alarm right?"
    """
    action: Action = "content.open" if to is None else "grant.give"
    with asking(store, tenant, folder, name, action) as (access, by, _):
        made = access.grant(by, to=to, reason=reason, minutes=minutes)
    if as_json:
        click.echo(json_bytes(made))
        return
    click.echo(f"{made.principal} may read raw content until {moment(made.until_us)}: {made.id}")


@command.group("key", short_help="Make, revoke and list keys.")
def key() -> None:
    """Make, revoke and list the keys of a tenant."""


@key.command("add", short_help="Make a key; it is shown this once.")
@click.argument("store")
@tenant_options
@click.option("--role", required=True, help="viewer, reviewer, operator, admin or auditor.")
@click.option("--scope", "scopes", multiple=True, metavar="ACTION", help="Narrow it; repeatable.")
@click.option("--days", type=float, help="After which it expires.")
@click.option("--label", default="", help="For people.")
@click.option("--new-tenant", "new", is_flag=True, help="The record need not know the tenant yet.")
def add(
    store: str,
    tenant: str,
    folder: str | None,
    name: str | None,
    role: Any,
    scopes: tuple[Any, ...],
    days: float | None,
    label: str,
    *,
    new: bool,
    as_json: bool,
) -> None:
    """Make a key for one tenant of STORE. It is shown this once, and kept as a hash.

    A tenant that the record has not heard of yet is refused, unless --new-tenant says that it is
    meant: so is one of the configuration that nothing was recorded of. With a key in TOCSIN_KEY,
    the new one may do no more than that, and ends no later.

    Example: tocsin access key add record.db --tenant acme --role auditor --days 30
    """
    with asking(store, tenant, folder, name, "key.manage", new=new) as (access, by, _):
        made = access.add_key(by, role, scopes=scopes, days=days, label=label)
    if as_json:
        click.echo(json_bytes({"id": made.id, "key": made.key}))
        return
    click.echo(f"id:                              {made.id}")
    click.echo(f"for its holder, shown this once: {made.key}")


@key.command("revoke", short_help="Make a key worthless.")
@click.argument("store")
@click.argument("key_id", metavar="ID")
@tenant_options
def revoke(
    store: str, key_id: str, tenant: str, folder: str | None, name: str | None, *, as_json: bool
) -> None:
    """Make the key ID of one tenant of STORE worthless from now on.

    Example: tocsin access key revoke record.db k_0123 --tenant acme
    """
    with asking(store, tenant, folder, name, "key.manage") as (access, by, _):
        access.revoke_key(by, key_id)
    click.echo(json_bytes({"revoked": key_id}) if as_json else f"{key_id} opens nothing any more")


@key.command("list", short_help="List keys.")
@click.argument("store")
@tenant_options
def keys(store: str, tenant: str, folder: str | None, name: str | None, *, as_json: bool) -> None:
    """List the keys of one tenant of STORE, without anything that opens a door.

    Example: tocsin access key list record.db --tenant acme
    """
    with asking(store, tenant, folder, name, "key.manage") as (access, by, _):
        found = access.keys(by)
    if as_json:
        click.echo(json_bytes({"keys": found}))
        return
    if not found:
        click.echo("there are no keys")
    for k in found:
        ends = f"until {moment(k.expires_us)}" if k.expires_us else "for ever"
        if k.revoked_us:
            ends = f"revoked {moment(k.revoked_us)}"
        narrowed = f", only {' '.join(k.scopes)}" if k.scopes else ""
        _say(f"{k.id}  {k.role}{narrowed}  from {moment(k.made_us)} {ends}", k.label)
