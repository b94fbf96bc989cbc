"""`tocsin fsck`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli.terminal import err, json_bytes, lines, plain, progress, prose, table
from tocsin.errors import InputError, TocsinError

if TYPE_CHECKING:
    from tocsin.receipts.keys import PublicKey


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
    the stored hashes and the signed checkpoints. Only reads, and may run beside the gateway.

    The exit status is 0 where all is sound, 1 where it is not, 2 where the command is wrong or the
    key is not of this log, 3 where the store could not be read: away, busy, or no record at all.

    Example: tocsin fsck record.db --key keys/log.vkey
    """
    from tocsin.store.engine import parse
    from tocsin.store.fsck import fsck, signed_by
    from tocsin.store.store import Store

    try:
        keys = () if key is None else _keys(key)
        parse(store)
    except TocsinError as e:
        raise _ended(e, 2) from None
    try:
        with Store.open(store, create=False, forward=False) as opened:
            if keys and not signed_by(opened, keys):
                said = "this key is not of this log: no checkpoint names it as its signer"
                raise _ended(said, 2)
            with progress("checking") as bar:
                found = fsck(opened, keys=keys, progress=bar)
    except TocsinError as e:
        raise _ended(e, 3) from None
    if as_json:
        click.echo(json_bytes(found))
    else:
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
    if not found.sound:
        err().print(plain("the record is not what was written"), style="bold")
        raise click.exceptions.Exit(1)


def _ended(said: object, status: int) -> click.exceptions.Exit:
    """Say on one line what is in the way, and with which status to leave."""
    click.echo(f"error: {plain(str(said))}", err=True)
    return click.exceptions.Exit(status)


def _keys(given: str) -> tuple[PublicKey, ...]:
    from tocsin.receipts.keys import read_key, read_keys

    path = Path(given)
    if not path.is_file():
        return (read_key(given),)
    try:
        return read_keys(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"cannot read the keys {given!r}: {e}") from None
