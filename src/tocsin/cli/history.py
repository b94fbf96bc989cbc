"""`tocsin history`: closed hours of events as files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from tocsin.cli.asking import each
from tocsin.cli.terminal import json_bytes, lines, plain, progress, prose, table
from tocsin.errors import InputError
from tocsin.limits import HISTORY_AFTER_HOURS

if TYPE_CHECKING:
    from tocsin.store import Store
    from tocsin.store.history import History

_HOUR_US = 3_600_000_000

FOLDER = click.Path(exists=True, file_okay=False)
"""A folder that has to be there: another one, mistyped, would be passed over in silence."""


@contextmanager
def opened(
    store: str, *, keys: str | None = None, folder: str | None = None, forward: bool = False
) -> Iterator[tuple[Store, History]]:
    """Open a store that exists, with its history."""
    try:
        from tocsin.store import Keys, Store
        from tocsin.store.history import History
    except ImportError:
        raise InputError("the record needs SQLAlchemy: pip install 'tocsin[record]'") from None
    with ExitStack() as stack:
        given = None if keys is None else Keys.open(keys, create=False)
        there = Store.open(store, keys=given, create=False, forward=forward)
        stack.enter_context(there)
        yield there, stack.enter_context(History(there, folder))


def day(time_us: int) -> str:
    """Write a moment as people read it, in UTC."""
    from tocsin.events.moments import YEAR_10000_US, rfc3339

    return rfc3339(min(max(time_us, 0), YEAR_10000_US - 1))[:16].replace("T", " ")


def moment(text: str | None, option: str) -> int | None:
    """Read a moment that an option gives; an InputError names the option."""
    from tocsin.events.moments import from_rfc3339

    try:
        return None if text is None else from_rfc3339(text)
    except ValueError as e:
        raise InputError(f"{option}: {e}") from None


@click.group("history")
def command() -> None:
    """Move closed hours of events from the store to Parquet files, and see which there are.

    Files are read as if their events had stayed: by traces, by audits, by retention.
    """


@command.command("close", short_help="Move events that are old enough.")
@click.argument("store")
@click.option("--tenant", help="Whose events; everybody's where left out.")
@click.option(
    "--keys", type=FOLDER, metavar="FOLDER", help="Keys of the store: sign a period first."
)
@click.option("--folder", metavar="FOLDER", help="Where the files are; the store remembers it.")
@click.option(
    "--older-than-hours",
    "hours",
    default=float(HISTORY_AFTER_HOURS),
    show_default=True,
    help="What is younger stays; a repeat of what has moved is not recognised any more.",
)
@click.option(
    "--uncovered",
    is_flag=True,
    help="Move events, too, that no signed period covers: for stores that never have keys.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def close(
    store: str,
    tenant: str | None,
    keys: str | None,
    folder: str | None,
    hours: float,
    *,
    uncovered: bool,
    as_json: bool,
) -> None:
    """Move events of STORE that are old enough into files, one day or less in each.

    A crash at any moment loses nothing and doubles nothing. Run it every day.

    Example: tocsin history close record.db --keys keys
    """
    from tocsin.store.scope import Scope

    if not hours >= 0:
        raise InputError(f"--older-than-hours {hours:g}: not below 0")
    done = []
    with opened(store, keys=keys, folder=folder, forward=True) as (there, history):
        before_us = there.now_us() // _HOUR_US * _HOUR_US - int(hours * _HOUR_US)
        for by in each(there, tenant, "history.close"):
            with progress(f"closing {plain(by.tenant)}") as bar:
                closed = history.close(
                    Scope(by.tenant), before_us=before_us, uncovered=uncovered, progress=bar, by=by
                )
            done.append((by.tenant, closed))
        place = str(history.folder)
    if as_json:
        told = [{"tenant": name, "closed": closed} for name, closed in done]
        click.echo(json_bytes({"folder": place, "before_us": before_us, "tenants": told}))
        return
    console = lines()
    for name, closed in done:
        moved = sum(s.rows for s in closed.segments)
        said = f"{plain(name)}: {moved:,} events moved to {len(closed.segments)} files"
        if not moved and closed.next_us is not None:
            said += (
                f": in their order, the next one is of {day(closed.next_us)}, and what is older "
                f"than {day(before_us)} moves"
            )
        elif not moved and not closed.uncovered:
            said += ": none is left that could"
        if closed.uncovered:
            said += (
                f"; {closed.uncovered:,} stay because no signed period covers them: give --keys, "
                "or --uncovered where there are none"
            )
        console.print(prose(said))


@command.command("list", short_help="Show which files there are.")
@click.argument("store")
@click.option("--tenant", help="Whose files; everybody's where left out.")
@click.option(
    "--folder",
    type=FOLDER,
    metavar="FOLDER",
    help="Where the files are, if the store cannot know.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def listed(store: str, tenant: str | None, folder: str | None, *, as_json: bool) -> None:
    """Show which files hold the history of STORE.

    Example: tocsin history list record.db
    """
    from tocsin.store.scope import Scope

    with opened(store, folder=folder) as (there, history):
        asked = each(there, tenant, "record.read")
        found = [(by.tenant, history.segments(Scope(by.tenant))) for by in asked]
        place = None if history.place is None else str(history.place)
    if as_json:
        told = [{"tenant": name, "segments": segments} for name, segments in found]
        click.echo(json_bytes({"folder": place, "tenants": told}))
        return
    rows = [
        [name, f"{s.first}-{s.last}", f"{s.rows:,}", day(s.from_us), day(s.until_us), s.path]
        for name, segments in found
        for s in segments
    ]
    if not rows:
        lines().print("no history: every event is in the store")
        return
    lines().print(
        table(f"in {place}", ["tenant", "events", "count", "from", "until", "file"], rows)
    )
