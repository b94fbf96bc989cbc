"""`tocsin trace`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.text import Text
from rich.tree import Tree

from tocsin.cli.asking import permitted, pseudonym, redactor
from tocsin.cli.history import FOLDER, opened
from tocsin.cli.terminal import json_bytes, lines, plain
from tocsin.errors import InputError
from tocsin.events.moments import rfc3339
from tocsin.limits import TRACE_AROUND_US, TRACE_VALUE_CHARS_MAX

if TYPE_CHECKING:
    from tocsin.events.chain import Branch, Link
    from tocsin.store import Scope, Stored
    from tocsin.store.history import History, Taken


@click.command("trace", short_help="Show what happened to one request, in order.")
@click.argument("store")
@click.argument("id", required=False)
@click.option("--tenant", required=True, help="Whose record.")
@click.option(
    "--folder",
    type=FOLDER,
    metavar="FOLDER",
    help="Where the history is, if the store cannot know.",
)
@click.option("--user", metavar="NAME", help="Everything about this person instead of one ID.")
@click.option(
    "--keys",
    type=FOLDER,
    metavar="FOLDER",
    help="Keys of the store: find a person by name, or a session by your own id.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    store: str,
    id: str | None,  # noqa: A002 - the word for it
    tenant: str,
    folder: str | None,
    user: str | None,
    keys: str | None,
    *,
    as_json: bool,
) -> None:
    """Show everything that STORE knows of ID: a request, a response or its receipt, a session or an
    event.

    In the order input, retrieval, output, tools, alarm, action, and what came after; from the store
    and from its history. With --user instead of ID, of every request of a person. The exit status
    is 1 where nothing is known.

    Example: tocsin trace record.db r_8J2k --tenant acme
    """  # noqa: D205 - two lines for one sentence
    from tocsin.events.chain import chain
    from tocsin.record.person import of_person
    from tocsin.store import Scope

    if (id is None) == (user is None):
        raise click.UsageError("give an ID, or --user NAME")
    scope = Scope(tenant)
    with opened(store, keys=keys, folder=folder) as (there, history):
        of = None if keys is None else redactor(keys, tenant)
        about = id or pseudonym(user or "", of)
        what = "people" if id is None else "traces"
        permitted(there, tenant, "record.read", target=f"{what}/{about}")
        if id is None:
            found = of_person(history, scope, about, {})
        else:
            found = history.trace(scope, id)
            if not found and of is not None:
                found = history.trace(scope, of.session(id))
        taken = _taken(history, scope, found)
    if not found:
        said = repr(id[:64]) if id is not None else f"this person, {about}"
        raise InputError(f"nothing is known of {said} in the record of {tenant!r}")
    branches = chain([stored.event for stored in found])
    if as_json:
        told = [_told(branch, found) for branch in branches]
        click.echo(json_bytes({"tenant": tenant, "id": about, "branches": told, "taken": taken}))
    else:
        lines().print(_tree(about, branches, found, taken))


def _told(branch: Branch, found: Sequence[Stored]) -> dict[str, Any]:
    """Put a branch into JSON."""
    links = [
        {
            "stage": link.stage,
            "seq": found[link.position].seq,
            "time": rfc3339(link.event.time_us),
            "event": link.event,
        }
        for link in branch.links
    ]
    return {"request": branch.request, "call": branch.call, "events": links}


def _tree(
    about: str, branches: Sequence[Branch], found: Sequence[Stored], taken: Sequence[Taken]
) -> Tree:
    tree = Tree(Text(plain(about), style="bold"), guide_style="dim")
    for branch in branches:
        names = [f"call {branch.call}"] if branch.call else []
        names += [f"request {branch.request}"] if branch.request else []
        stem = tree.add(Text(plain(", ".join(names) or "belongs to no request")))
        _grow(stem, branch.links, found, some=any(gone.kind == "alarm" for gone in taken))
    if taken:
        told_of = ", ".join(f"{gone.n:,} {gone.kind}" for gone in taken)
        said = f"taken away by retention at that time, of this or of other requests: {told_of}"
        tree.add(Text(said, style="dim"))
    return tree


def _taken(history: History, scope: Scope, found: Sequence[Stored]) -> list[Taken]:
    """Count what retention took away around these events: to whom it belonged is gone with it."""
    if not found:
        return []
    times = [stored.event.time_us for stored in found]
    since_us, until_us = min(times) - TRACE_AROUND_US, max(times) + TRACE_AROUND_US
    return history.taken(scope, since_us=since_us, until_us=until_us)


def _grow(stem: Tree, links: Sequence[Link], found: Sequence[Stored], *, some: bool) -> None:
    """Add the events of one call, by stage, and alarms that were taken away if there are some."""
    from tocsin.events.kinds import StreamEnded

    told = sum(link.event.body.alarms for link in links if isinstance(link.event.body, StreamEnded))
    gone = told - sum(link.event.kind == "alarm" for link in links) if some else 0
    stage, bough = "", stem
    begins = min((link.event.time_us for link in links), default=0)
    for link in links:
        if gone > 0 and link.stage in {"action", "after"}:
            stem.add(Text(f"alarm: {gone:,} taken away by retention", style="bold red"))
            gone = 0
        if link.stage != stage:
            stage = link.stage
            bough = stem.add(Text(stage, style="italic"))
        after = (link.event.time_us - begins) / 1000
        line = Text()
        line.append(f"#{found[link.position].seq} ", style="dim")
        line.append(plain(link.event.kind), style=_style(link.event.kind))
        line.append(f" +{after:,.0f} ms", style="dim")
        line.append(_said(link.event.body))
        bough.add(line)


def _said(body: Any) -> str:
    """Say what an event holds that is not as usual; what models wrote is made harmless."""
    parts = []
    for field in msgspec.structs.fields(body):
        name, value = field.name, getattr(body, field.name)
        if value == field.default or not (value or value is False or value == 0):
            continue
        text = plain(" ".join(str(msgspec.to_builtins(value)).split()))
        if len(text) > TRACE_VALUE_CHARS_MAX:
            text = text[: TRACE_VALUE_CHARS_MAX - 1] + "…"
        parts.append(f"{name}={text}")
    return "  " + "  ".join(parts) if parts else ""


def _style(kind: str) -> str:
    if kind in {"alarm", "tool.denied", "failure"}:
        return "bold red"
    return "bold" if kind in {"intervention", "stream.ended"} else ""
