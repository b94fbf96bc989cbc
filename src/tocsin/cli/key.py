"""`tocsin key`."""

from __future__ import annotations

import hashlib
import secrets

import click

from tocsin.cli.terminal import json_bytes

_BYTES = 32


@click.command("key", short_help="Make an API key for a tenant of the gateway.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(*, as_json: bool) -> None:
    """Make a random API key: the key for the client, and its hash for the configuration.

    The key is shown this once and kept nowhere; the configuration holds its hash alone.

    Example: tocsin key
    """
    key = f"tk-{secrets.token_urlsafe(_BYTES)}"
    hashed = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if as_json:
        click.echo(json_bytes({"key": key, "hash": hashed}))
        return
    click.echo(f"for the client, shown this once:  {key}")
    click.echo(f"for tenants.NAME.keys:            {hashed}")
