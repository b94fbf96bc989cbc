"""`tocsin fsck`."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any

import click

from tocsin.cli.asking import KEY_VARIABLE, each
from tocsin.cli.terminal import err, json_bytes, lines, plain, progress, prose, table
from tocsin.errors import AccessDenied, StoreDamaged, TocsinError

if TYPE_CHECKING:
    from tocsin.store.fsck import Report


@click.command("fsck", short_help="Check that a record still is what was written.")
@click.argument("store")
@click.option(
    "--key",
    "key",
    metavar="FILE|VKEY",
    help="Public key of the logs (log.vkey): check the checkpoints' signatures too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(store: str, key: str | None, *, as_json: bool) -> None:
    """Check that a record, STORE, still is what was written: a path, sqlite:/// or postgresql://.

    Rebuilds every log from its entries and every period from its events, and compares them with
    the stored hashes and the signed checkpoints. Only reads, and may run beside the gateway. With
    a key in TOCSIN_KEY the record of its tenant is checked.

    The exit status is 0 where all is sound, 1 where it is not, 2 where the command is wrong, the
    key is not of this log, or who asks may not, 3 where the store could not be read: away, busy,
    or no record at all.

    Example: tocsin fsck record.db --key keys/log.vkey
    """
    from tocsin.cli.verdicts import read_trusted
    from tocsin.store.engine import is_database, parse
    from tocsin.store.fsck import fsck, signed_by, unreadable
    from tocsin.store.store import Store

    keys = read_trusted(() if key is None else (key,))
    try:
        where = parse(store)
    except TocsinError as e:
        raise _Ended(e, 2) from None
    try:
        with Store.open(store, create=False, forward=False) as opened:
            only = None
            if KEY_VARIABLE in os.environ:
                only = each(opened, None, "record.check")[0].tenant
            if keys and not signed_by(opened, keys):
                said = "this key is not of this log: no checkpoint names it as its signer"
                raise _Ended(said, 2)
            with progress("checking") as bar:
                found = fsck(opened, keys=keys, progress=bar, tenant=only)
    except AccessDenied as e:
        raise _Ended(e, 2) from None
    except TocsinError as e:
        if not isinstance(e, StoreDamaged) or not is_database(where):
            raise _Ended(e, 3) from None
        found = unreadable(e)
    if as_json:
        click.echo(json_bytes(found))
    else:
        _print(found)
    if not found.sound:
        err().print(plain("the record is not what was written"), style="bold")
        raise click.exceptions.Exit(1)


def _print(found: Report) -> None:
    console = lines()
    if found.findings:
        rows = [[f.about, f.tenant or "-", f.said] for f in found.findings]
        console.print(table("", ["about", "tenant", "what"], rows))
    if found.more:
        console.print(prose(f"and {found.more} more"))
    looked = (
        f"{found.tenants} tenants, {found.events:,} events, {found.entries:,} entries, "
        f"{found.checkpoints:,} checkpoints"
    )
    signed = "" if found.signatures else "; no signature was checked, since no --key was given"
    console.print(prose(f"{'sound' if found.sound else 'NOT SOUND'}: {looked}{signed}"))


class _Ended(click.ClickException):
    """Says on one line what is in the way, and with which status to leave."""

    def __init__(self, said: object, status: int) -> None:
        super().__init__(str(said))
        self.exit_code = status  # type: ignore[misc] # as click's own do

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {plain(self.message)}", file=file, err=file is None)
