"""`tocsin content`: raw content, under keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tocsin.cli.access import asking, moment, tenant_options
from tocsin.cli.asking import pseudonym, refuse_key
from tocsin.cli.history import FOLDER
from tocsin.cli.terminal import err, json_bytes, plain
from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.store.access import Erasure


@click.group("content", short_help="List, read and erase raw content.")
def command() -> None:
    """List, read and erase raw content: what a policy samples, or an alarm needs as evidence.

    It lies encrypted, and is read under a grant and with a reason only; each time is recorded.
    Whoever has the store's file and the master key can read it without this command.
    """


@command.command("list", short_help="List what there is, without opening any.")
@click.argument("store")
@tenant_options
@click.option("--request", metavar="ID", help="Of this request only.")
@click.option("--user", help="Of this person only: a name or a pseudonym.")
def listed(
    store: str,
    tenant: str,
    folder: str | None,
    name: str | None,
    request: str | None,
    user: str | None,
    *,
    as_json: bool,
) -> None:
    """List the raw content that there is of one tenant of STORE.

    Example: tocsin content list record.db --tenant acme --request r_12
    """
    with asking(store, tenant, folder, name, "record.read") as (access, by, of):
        subject = None if user is None else pseudonym(user, of)
        found = access.contents(by, request=request, subject=subject)
    if as_json:
        click.echo(json_bytes({"contents": found}))
        return
    if not found:
        click.echo("there is no raw content")
    for c in found:
        about = f"{c.what} of request {c.request or '-'}, subject {c.subject}, {c.why}"
        click.echo(plain(f"{c.id}  {about}, from {moment(c.made_us)} to {moment(c.expires_us)}"))


@command.command("read", short_help="Read one content, under a grant and with a reason.")
@click.argument("store")
@click.argument("content", metavar="ID")
@tenant_options
@click.option("--reason", required=True, help="Why; others will see it.")
def read(
    store: str,
    content: str,
    tenant: str,
    folder: str | None,
    name: str | None,
    reason: str,
    *,
    as_json: bool,
) -> None:
    """Read the content ID of one tenant of STORE. That it was read is recorded first.

    It needs a grant, see `tocsin access grant`, and the store's keys.

    Example: tocsin content read record.db c_12 --tenant acme --keys keys --reason "case 12"
    """
    if folder is None:
        raise InputError("raw content is encrypted: name the folder of the keys with --keys")
    with asking(store, tenant, folder, name, "content.read") as (access, by, _):
        found = access.read(by, content, reason=reason)
    if as_json:
        click.echo(json_bytes(found))
        return
    about = f"{found.what} of {found.request or found.subject}, kept as {found.why}"
    err().print(plain(f"{about} until {moment(found.expires_us)}"), style="dim", markup=False)
    click.echo(plain(found.text))


@command.command("erase", short_help="Erase raw content for good.")
@click.argument("store")
@tenant_options
@click.option("--user", help="Of this person: a name or a pseudonym.")
@click.option("--request", metavar="ID", help="Of this request, whoever it is of.")
@click.option("--all", "whole", is_flag=True, help="Of the whole tenant.")
@click.option("--reason", required=True, help="Why; others will see it.")
def erase(
    store: str,
    tenant: str,
    folder: str | None,
    name: str | None,
    user: str | None,
    request: str | None,
    reason: str,
    *,
    whole: bool,
    as_json: bool,
) -> None:
    """Erase raw content of one tenant of STORE for good, by destroying the keys that lock it.

    Events and receipts stay: they hold no content. Backups keep what they hold: without the key
    that was destroyed it opens for nobody, unless the backup has that too. The key of a person
    stays as long as it locks contents of other requests. The exit status is 1 where there was
    nothing to erase.

    Example: tocsin content erase r.db --tenant acme --keys keys --user ann --reason "she asked us"
    """
    if (user is not None) + (request is not None) + whole != 1:
        raise InputError("say what to erase, once: --user, --request or --all")
    with asking(store, tenant, folder, name, "content.erase") as (access, by, of):
        subject = None if user is None else pseudonym(user, of)
        done = access.erase(by, subject=subject, request=request, reason=reason)
    if as_json:
        click.echo(json_bytes(done))
    _tell_erased(done, user, request, as_json=as_json)


def _tell_erased(done: Erasure, user: str | None, request: str | None, *, as_json: bool) -> None:
    """Say what an erasure did, and fail where it found nothing or has to be done again."""
    if not (done.subjects or done.contents):
        whose = f"request {request!r}" if request is not None else f"user {user!r}"
        if user is None and request is None:
            whose = "this tenant"
        gone = "; what was erased before is out of the log now" if done.purged else ""
        raise InputError(f"nothing was erased: there is no raw content of {whose}{gone}")
    if not as_json:
        said = f"erased: {done.contents} contents, and the keys of {done.subjects} subjects"
        click.echo(said)
        if done.shared:
            click.echo(
                f"{done.shared} of them lay under a person's key that stays, since it locks more: "
                "a backup of the store still opens them"
            )
    if not done.purged:
        err().print(
            "it is erased, but somebody is reading the store, so that its log still holds older "
            "pages: run this again, until it finds nothing",
            style="bold",
        )
        raise click.exceptions.Exit(1)


@command.command("rewrap", short_help="Wrap the keys anew with the current master key.")
@click.argument("store")
@click.option(
    "--keys",
    "folder",
    type=FOLDER,
    required=True,
    metavar="FOLDER",
    help="Keys of the store.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rewrap(store: str, folder: str, *, as_json: bool) -> None:
    """Wrap the keys of all tenants of STORE anew with the current master key.

    Put the new master key before the old one, in master.key or TOCSIN_MASTER_KEY; restart what
    writes to the store; run this; then take the old one away.

    Example: tocsin content rewrap record.db --keys keys
    """
    import os

    from tocsin.store import Keys, Store, vault

    keys = Keys.open(folder, create=False, environment=os.environ)
    with Store.open(store, keys=keys, create=False) as opened:
        refuse_key(opened, "key.manage", "the master key locks what is of all tenants")
        with opened.transaction("wrap the keys anew") as connection:
            done = vault.rotate_master(connection, keys)
        purged = vault.purge(opened)
    if as_json:
        click.echo(json_bytes({"rewrapped": done, "purged": purged}))
        return
    click.echo(f"{done} keys of tenants are wrapped with the current master key now")
