"""`tocsin log`: what an auditor asks for, and whether something was taken away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tocsin.cli.asking import permitted
from tocsin.cli.history import day, moment, opened
from tocsin.cli.terminal import json_bytes, lines, table
from tocsin.cli.verdicts import (
    json_option,
    judged,
    key_option,
    read_file,
    read_trusted,
    show_verdicts,
)
from tocsin.durable import write_whole
from tocsin.errors import InputError, ProofInvalid
from tocsin.receipts import Checkpoint, PublicKey, Span, join, open_checkpoint
from tocsin.receipts import verify as verify_proof
from tocsin.receipts import verify_growth as verify_consistency

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tocsin.receipts import Period
    from tocsin.store import Scope

CLAIM = (
    "What holds was recorded, and nothing was changed, moved or taken out of it since. What was "
    "never recorded, no log can show."
)

_tenant_option = click.option("--tenant", required=True, help="Whose log.")
_output_option = click.option(
    "--output",
    metavar="FILE",
    help="Write it there, readable by you alone, and not to the screen.",
)
_force_option = click.option("--force", is_flag=True, help="Replace a FILE that is there.")


@click.group("log", short_help="Give an auditor checkpoints, proofs and periods, and verify them.")
def command() -> None:
    """Give out of a STORE what an auditor asks for, and verify it by the public key alone.

    A log is one tenant's: receipts, and periods that count all events between two sequence numbers.
    A checkpoint is its state, signed.
    """


@command.command("checkpoint", short_help="Print a signed checkpoint.")
@click.argument("store")
@_tenant_option
@click.option("--size", type=int, help="The one of so many entries; the newest where left out.")
@_output_option
@_force_option
def checkpoint(
    store: str, tenant: str, size: int | None, output: str | None, *, force: bool
) -> None:
    """Print the newest signed checkpoint of a log in STORE, exactly its bytes.

    Whoever keeps one can be shown later that nothing before it was changed.

    Example: tocsin log checkpoint record.db --tenant acme > monday.checkpoint
    """
    from tocsin.store.proofs import signed

    _fit(output, force=force)
    with _log(store, tenant, "checkpoint") as (connection, scope):
        _, note = signed(connection, scope, size)
    _give(note, output, force=force)


@command.command("proof", short_help="Print the proof of a receipt or a period.")
@click.argument("store")
@click.argument("entry")
@_tenant_option
@click.option("--size", type=int, help="By the checkpoint of so many entries, not the newest.")
@_output_option
@_force_option
def proof(
    store: str, entry: str, tenant: str, size: int | None, output: str | None, *, force: bool
) -> None:
    """Print the proof of ENTRY, a receipt or a period by its id: a .tlog-proof file.

    Example: tocsin log proof record.db r_8J2k --tenant acme --output r_8J2k.tlog-proof
    """
    from tocsin.store.proofs import proof as prove

    _fit(output, force=force)
    with _log(store, tenant, f"entries/{entry}") as (connection, scope):
        text = prove(connection, scope, entry, None, size)
    _give(text, output, force=force)


@command.command("growth", short_help="Print the proof that a log only grew.")
@click.argument("store")
@_tenant_option
@click.option("--from", "old", metavar="FILE", required=True, help="An earlier checkpoint.")
@click.option("--to", "new", metavar="FILE", help="A later one; the newest where left out.")
@_output_option
@_force_option
def growth(
    store: str, tenant: str, old: str, new: str | None, output: str | None, *, force: bool
) -> None:
    """Print the proof that the log in STORE only grew since a checkpoint that somebody kept.

    Example: tocsin log growth record.db --tenant acme --from monday.checkpoint --output growth
    """
    from tocsin.store.proofs import growth as prove
    from tocsin.store.proofs import signed

    _fit(output, force=force)
    with _log(store, tenant, "growth") as (connection, scope):
        size, _ = signed(connection, scope)
        kept = _known(connection, scope, size, old)
        upto = size if new is None else _known(connection, scope, size, new)
        if kept > upto:
            raise InputError(f"--from {old!r} has more entries than --to {new!r}: turn them around")
        text = prove(connection, scope, kept, upto)
    _give(text, output, force=force)


@command.command("periods", short_help="List the periods of a log, and give their proofs.")
@click.argument("store")
@_tenant_option
@click.option(
    "--since", metavar="TIME", help="Of what ended then or later, such as 2026-01-31T00:00:00Z."
)
@click.option("--until", metavar="TIME", help="Of what began before.")
@click.option("--from", "old", metavar="FILE", help="From the last that this checkpoint holds.")
@click.option("--output", metavar="FOLDER", help="A new one, for their proofs and the checkpoint.")
@json_option
def periods(
    store: str, tenant: str, since: str | None, until: str | None, old: str | None,
    output: str | None, *, as_json: bool,
) -> None:  # fmt: skip
    """List the periods of a log in STORE: each counts all events between two sequence numbers.

    With --output, the proofs of those listed and the checkpoint that all of them are by: with an
    earlier checkpoint and `tocsin log growth`, all that `tocsin log verify` needs.

    Example: tocsin log periods record.db --tenant acme --from monday.checkpoint --output week
    """
    from tocsin.store.proofs import signed

    between = (moment(since, "--since"), moment(until, "--until"))
    if output is not None:
        _fit_folder(Path(output))
    with _log(store, tenant, "periods") as (connection, scope):
        found: Sequence[tuple[int, Period]] = _between(connection, scope, *between)
        if old is not None:
            size, _ = signed(connection, scope)
            found = _since(found, _known(connection, scope, size, old))
        if output is not None:
            _write(connection, scope, found, Path(output))
    if as_json:
        told = [{"index": index, "id": p.id, "says": p} for index, p in found]
        click.echo(json_bytes({"tenant": tenant, "periods": told}))
        return
    if not found:
        lines().print("no periods: the store has no keys, or none was closed in that time")
        return
    heads = ["period", "from", "until", "events", "streams", "alarms", "receipts", "entry"]
    rows = [
        [p.id, day(p.from_us), day(p.until_us), f"{p.last - p.first + 1:,}", f"{p.opened:,}",
         f"{p.alarms:,}", f"{p.receipts:,}", f"{index:,}"]
        for index, p in found
    ]  # fmt: skip
    lines().print(table("", heads, rows))


@command.command("verify", short_help="Verify that nothing was taken away, by the key alone.")
@click.argument("files", nargs=-1, metavar="[PERIODS]...")
@key_option
@click.option("--from", "old", metavar="FILE", help="An earlier checkpoint.")
@click.option("--to", "new", metavar="FILE", help="A later checkpoint.")
@click.option("--growth", "proof", metavar="FILE", help="Proof that the log grew between the two.")
@json_option
def verify(
    files: tuple[str, ...], keys: tuple[str, ...], old: str | None, new: str | None,
    proof: str | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Verify that a log only grew, and that PERIODS (.tlog-proof) join without a gap.

    Needs nothing but the public key: no network, no store. With both, everything that was recorded
    since the earlier checkpoint is counted in these periods, up to the last of them.

    Exit status: 0 where all is good, 1 where something does not hold, 2 for a wrong command.

    \b
    Example: tocsin log verify --from monday --to friday --growth growth --key log.vkey
             tocsin log verify january/*.tlog-proof --key log.vkey
    """  # noqa: D301 - for click
    two = (old, new, proof)
    if not (files or any(two)) or (any(two) and not all(two)):
        raise click.UsageError("give PERIODS, or all of --from, --to and --growth, or both")
    known = read_trusted(keys, needed=True)
    results = []
    if old is not None and new is not None and proof is not None:
        results.append(judged(proof, partial(_growth, old, new, proof, known)))
    if files:
        results.append(judged("the periods", partial(_span, files, known, old, new)))
    show_verdicts(results, CLAIM, as_json=as_json)


@contextmanager
def _log(store: str, tenant: str, what: str) -> Iterator[tuple[Connection, Scope]]:
    """Open a tenant's log to be read, for whoever may read it."""
    from tocsin.store import Scope

    with opened(store) as (there, _):
        permitted(there, tenant, "record.read", target=f"log/{what}")
        with there.reading("read a log") as connection:
            yield connection, Scope(tenant)


def _fit(output: str | None, *, force: bool) -> None:
    """Refuse to replace what somebody may have kept."""
    if output is not None and Path(output).is_file() and not force:
        raise click.UsageError(f"there is a file {output!r} already: --force replaces it")


def _give(text: str, output: str | None, *, force: bool) -> None:
    if output is None:
        click.echo(text, nl=False)
    else:
        _fit(output, force=force)
        write_whole(output, text.encode(), private=True)


def _known(connection: Connection, scope: Scope, size: int, file: str) -> int:
    """Give the size that a checkpoint names, where it is one of this log."""
    from tocsin.receipts.checkpoint import is_log_of, read_text
    from tocsin.receipts.merkle import root_at
    from tocsin.receipts.note import read
    from tocsin.store.proofs import node

    said = read_text(read(read_file(file)).text)
    if not is_log_of(said.origin, scope.tenant):
        raise InputError(f"{file!r} is a checkpoint of {said.origin!r}, no log of {scope.tenant!r}")
    if said.size > size:
        raise InputError(
            f"{file!r} is of {said.size} entries, and this log has {size}: it was cut, or this is "
            "another; keep both"
        )
    if root_at(said.size, node(connection, scope)) != said.root:
        raise InputError(
            f"{file!r} is not what this log was at {said.size} entries: one of them was changed; "
            "keep both, and run `tocsin fsck`"
        )
    return said.size


def _between(
    connection: Connection, scope: Scope, since_us: int | None, until_us: int | None
) -> list[tuple[int, Period]]:
    """Give all periods from the first to the last that have to do with a time."""
    from tocsin.store.proofs import periods as read

    found: list[tuple[int, Period]] = []
    while some := read(connection, scope, found[-1][0] if found else -1):
        found += some
    fit = [
        number
        for number, (_, period) in enumerate(found)
        if (since_us is None or period.until_us >= since_us)
        and (until_us is None or period.from_us < until_us)
    ]
    return found[fit[0] : fit[-1] + 1] if fit else []


def _since(found: Sequence[tuple[int, Period]], size: int) -> Sequence[tuple[int, Period]]:
    """Leave out what was there before the last period of the first `size` entries."""
    held = sum(index < size for index, _ in found)
    return found[max(held - 1, 0) :]


def _fit_folder(folder: Path) -> None:
    """Refuse a folder with proofs by another checkpoint, and one that somebody may have kept."""
    if (folder / "checkpoint").exists() or any(folder.glob("*.tlog-proof")):
        raise click.UsageError(
            f"{str(folder)!r} holds a checkpoint or proofs already, and proofs by two checkpoints "
            "do not verify together: name a new folder, and keep this one"
        )


def _write(
    connection: Connection, scope: Scope, found: Sequence[tuple[int, Period]], folder: Path
) -> None:
    from tocsin.store.proofs import proof as prove
    from tocsin.store.proofs import signed

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"cannot write {str(folder)!r}: {e.strerror}") from None
    size, note = signed(connection, scope)
    for _, period in found:
        text = prove(connection, scope, period.id, "period", size)
        write_whole(folder / f"period-{period.id}.tlog-proof", text.encode(), private=True)
    write_whole(folder / "checkpoint", note.encode(), private=True)


def _growth(old: str, new: str, proof: str, keys: Sequence[PublicKey]) -> dict[str, Any]:
    found = verify_consistency(read_file(old), read_file(new), read_file(proof), keys)
    sizes = {"old": found.old.size, "new": found.new.size}
    says = f"{found.origin} only grew, from {sizes['old']} to {sizes['new']} entries"
    return {"says": says, "origin": found.origin, **sizes}


def _span(
    files: Sequence[str], keys: Sequence[PublicKey], old: str | None, new: str | None
) -> dict[str, Any]:
    found = []
    for file in files:
        try:
            found.append(verify_proof(read_file(file), keys))
        except ProofInvalid as e:
            raise type(e)(f"{file}: {e}") from None
    span = join(found)
    if old is not None and new is not None:
        _check_between(span, open_checkpoint(read_file(old), keys),
                       open_checkpoint(read_file(new), keys))  # fmt: skip
    first, last = span.periods[0], span.periods[-1]
    totals = {
        name: sum(getattr(p, name) for p in span.periods)
        for name in ("opened", "alarms", "receipts")
    }
    times = {
        "from_us": min(p.from_us for p in span.periods),
        "until_us": max(p.until_us for p in span.periods),
    }
    one = len(span.periods) == 1
    says = (
        f"{len(span.periods)} {'period' if one else 'periods'} of {span.checkpoint.origin} "
        f"{'leaves' if one else 'leave'} nothing out: events "
        f"{first.first} to {last.last}, {day(times['from_us'])} to {day(times['until_us'])} UTC: "
        f"{totals['opened']:,} streams, {totals['alarms']:,} alarms, {totals['receipts']:,} "
        f"receipts. {_uncovered(span)}"
    )
    return {
        "says": says, "origin": span.checkpoint.origin, "first": first.first, "last": last.last,
        **times, **totals, "after": span.after,
    }  # fmt: skip


def _uncovered(span: Span) -> str:
    """Say what the periods do not speak of: a last one that is kept back would be there."""
    begins = f"Covered are events up to {span.periods[-1].last}, and none after it"
    if span.after == 0:
        return f"{begins}; no entry of the log came after the last period shown"
    entries = "1 entry" if span.after == 1 else f"{span.after:,} entries"
    return (
        f"{begins}. NOT COVERED: {entries} of the {span.checkpoint.size:,} of the log, after the "
        "last period shown; a period that was kept back would be there, so ask whether there is one"
    )


def _check_between(span: Span, old: Checkpoint, new: Checkpoint) -> None:
    """See that the periods are of the log that grew, and begin no later than it did."""
    at = span.checkpoint
    if (at.origin, at.size, at.root) != (new.origin, new.size, new.root):
        raise ProofInvalid(
            f"they are proven by a checkpoint of {at.size} entries of {at.origin}, not by the "
            f"later one, of {new.size} of {new.origin}: ask for them by that"
        )
    if not span.reaches(old):
        raise ProofInvalid(
            f"they begin with event {span.periods[0].first}, and some before it may have come "
            "after the earlier checkpoint: ask for the last period that the checkpoint holds, and "
            "all between"
        )
