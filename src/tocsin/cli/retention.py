"""`tocsin retention`."""

from __future__ import annotations

import click

from tocsin.cli.asking import each
from tocsin.cli.history import FOLDER, day, opened
from tocsin.cli.terminal import json_bytes, lines, plain, prose, table
from tocsin.errors import InputError


@click.command("retention", short_help="Take away what is older than it may be.")
@click.argument("store")
@click.option("--tenant", help="Whose record; everybody's where left out.")
@click.option(
    "--keep",
    "rules",
    multiple=True,
    required=True,
    metavar="CLASS=DAYS",
    help="How long a class is kept: streams, decisions, alarms, tools, usage, feedback, reviews, "
    "access, changes, or content (raw and encrypted). May be repeated; what is not named stays.",
)
@click.option("--dry-run", is_flag=True, help="Count only.")
@click.option(
    "--folder",
    type=FOLDER,
    metavar="FOLDER",
    help="Where the history is, if the store cannot know.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    store: str,
    tenant: str | None,
    rules: tuple[str, ...],
    folder: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take events and raw content out of STORE that are older than their class may be.

    What goes leaves its place behind: sequence number, kind, time and hash, so that receipts,
    periods and `tocsin fsck` stay as they are. What goes is recorded first. Receipts never go.

    Example: tocsin retention record.db --keep usage=30 --keep content=7 --dry-run
    """
    from tocsin.store.retention import check_rules, retain
    from tocsin.store.scope import Scope

    keep = _days(rules)
    check_rules(keep)
    with opened(store, folder=folder, forward=True) as (there, history):
        done = [
            retain(history, Scope(by.tenant), keep, dry_run=dry_run, by=by)
            for by in each(there, tenant, "retention.apply")
        ]
    if as_json:
        click.echo(json_bytes(done))
        return
    console = lines()
    rows = [
        [plain(found.tenant), one.name, f"{one.days:g}", day(one.before_us), f"{one.rows:,}",
         f"{one.in_files:,}", f"{one.contents:,}"]
        for found in done
        for one in found.classes
    ]  # fmt: skip
    heads = ["tenant", "class", "days", "older than", "in rows", "in files", "contents"]
    title = "what would go" if dry_run else "what went"
    console.print(table(title, heads, rows))
    if not all(found.log_cut for found in done):
        console.print(
            prose("Somebody was reading: the database's log still holds what went. Run this again.")
        )


def _days(rules: tuple[str, ...]) -> dict[str, float]:
    keep = {}
    for rule in rules:
        name, _, days = rule.partition("=")
        try:
            keep[name.strip()] = float(days)
        except ValueError:
            raise InputError(f"--keep {rule!r}: write CLASS=DAYS, such as usage=30") from None
    return keep
