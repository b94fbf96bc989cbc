"""`tocsin receipt`: show, verify and replay, offline."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from tocsin.cli.terminal import out, plain, prose
from tocsin.cli.verdicts import (
    json_option,
    judged,
    key_option,
    print_json,
    read_file,
    read_trusted,
    refuse,
    show_verdicts,
)
from tocsin.errors import InputError, ProofInvalid
from tocsin.receipts import PublicKey, Verified, origin_of, read_period, verify

if TYPE_CHECKING:
    from tocsin.guarding.receipt import Receipt
    from tocsin.risk.calibration import Calibration

CLAIM = (
    "What holds was recorded in that log and was not changed since. That it was correct, or that "
    "nothing was left out, it does not say."
)


@click.group("receipt", short_help="Show, verify and replay receipts, offline.")
def command() -> None:
    """Show a receipt, verify that it was recorded, recompute its decision: offline.

    Exit status: 0 where all is good, 1 where something does not hold, 2 for a wrong command.
    """


@command.command("show", short_help="Show a receipt to people.")
@click.argument("file")
@key_option
@json_option
def show(file: str, keys: tuple[str, ...], *, as_json: bool) -> None:
    """Show what FILE tells: what rang and why, what was shown, what was withheld.

    FILE is a proof (.tlog-proof), an entry of a log, or the JSON of a receipt. With --key the proof
    is verified first.

    Example: tocsin receipt show r_1.tlog-proof --key log.vkey
    """
    from tocsin.cli.receipt_drawing import parts
    from tocsin.record.receipt_file import of_entry, read_recorded

    raw = read_file(file)
    known = read_trusted(keys)
    found = verify(raw, known) if known else None
    recorded = read_recorded(raw) if found is None else of_entry(found.entry)
    if as_json:
        entry = recorded.entry
        shown: Any = recorded.receipt if entry is None else entry.content()
        envelope = None if entry is None else {
            "tenant": entry.tenant, "kind": entry.kind, "id": entry.id, "sequence": entry.sequence
        }  # fmt: skip
        print_json({
            "form": recorded.form, "verified": _place(found), "entry": envelope, "body": shown,
        })  # fmt: skip
        return
    console = out()
    for part in parts(recorded, found):
        console.print(part)


@command.command("verify", short_help="Verify that receipts were recorded, by the key alone.")
@click.argument("files", nargs=-1)
@key_option
@click.option("--tenant", help="Whose the receipts have to be.")
@json_option
def verify_files(
    files: tuple[str, ...], keys: tuple[str, ...], tenant: str | None, *, as_json: bool
) -> None:
    """Verify each of FILES (.tlog-proof), receipts and periods.

    Needs nothing but the public key: no network, no store. What holds was recorded, and was not
    changed since; whether it was correct is another question. Whether something was left out,
    `tocsin log verify` says.

    Example: tocsin receipt verify r_1.tlog-proof --key log.vkey
    """
    if not files:
        raise click.UsageError("give FILES; the growth of a log is verified by tocsin log verify")
    known = read_trusted(keys, needed=True)
    results = [judged(file, partial(_one, file, known, tenant)) for file in files]
    show_verdicts(results, CLAIM, as_json=as_json)


@command.command("replay", short_help="Recompute the decision of a receipt.")
@click.argument("file")
@click.option(
    "--calibration",
    "calibrations",
    multiple=True,
    metavar="FILE",
    help="Calibration of a check; may be repeated. One that comes with Tocsin is found by itself.",
)
@key_option
@click.option("--plot", metavar="FILE", help="Also draw the score paths, as .png or .svg.")
@json_option
def replay(
    file: str,
    calibrations: tuple[str, ...],
    keys: tuple[str, ...],
    plot: str | None,
    *,
    as_json: bool,
) -> None:
    """Recompute the alarms of the receipt in FILE from its score paths and the calibrations.

    Without --calibration it checks what the receipt alone shows, and says what it did not check. A
    demonstration calibration that comes with Tocsin need not be given.

    Example: tocsin receipt replay r_1.tlog-proof --calibration calibration.json --key log.vkey
    """
    from tocsin import calibration_file
    from tocsin.cli.receipt_drawing import grid, standing
    from tocsin.record.receipt_file import of_entry, read_recorded
    from tocsin.record.replay import replay as recompute

    if plot is not None and not plot.endswith((".png", ".svg")):
        raise click.UsageError(f"--plot {plot!r}: the name has to end in .png or .svg")
    raw = read_file(file)
    known = read_trusted(keys)
    found = verify(raw, known) if known else None
    recorded = read_recorded(raw) if found is None else of_entry(found.entry)
    if recorded.receipt is None:
        raise click.UsageError("this entry is a period: there is nothing in it to replay")
    try:
        given = [calibration_file.load(path) for path in calibrations]
    except InputError as e:
        refuse(str(e))
    given += _shipped(recorded.receipt, {made.digest for made in given})
    made = recompute(recorded.receipt, given)
    if plot is not None:
        _plot(recorded.receipt, given, plot)
    if as_json:
        print_json({
            "id": made.id, "agrees": made.agrees, "complete": made.complete,
            "verified": _place(found), "lines": made.lines, "checks": made.checks,
        })  # fmt: skip
    else:
        rows = [[check or "receipt", line.outcome, line.what, line.detail]
                for check, line in made.all_lines()]  # fmt: skip
        console = out()
        console.print(grid(f"replay of {made.id}", ["check", "", "what", "detail"], rows))
        console.print(prose(_verdict(agrees=made.agrees, complete=made.complete), style="bold"))
        console.print(standing(recorded, found))
    if not made.agrees:
        sys.exit(1)


@command.command("key", short_help="Print the public key of one tenant's log.")
@click.argument("tenant")
@key_option
def key(tenant: str, keys: tuple[str, ...]) -> None:
    """Print the line by which other people's tools know the log of TENANT.

    Commands of Tocsin take the key of the place itself (log.vkey); others want the name of the
    very log that signed.

    Example: tocsin receipt key acme --key log.vkey
    """
    for one in read_trusted(keys, needed=True):
        try:
            click.echo(plain(one.named(origin_of(one.name, tenant)).line))
        except InputError as e:
            refuse(str(e))


def _shipped(receipt: Receipt, given: Collection[str]) -> list[Calibration]:
    """Load those calibrations that come with Tocsin, that the receipt names and nobody gave."""
    from tocsin import calibration_file
    from tocsin.verifiers.linear import demonstrations

    named = {c.promise.calibration for c in receipt.checks if c.promise is not None}
    if named <= set(given):
        return []
    found = map(calibration_file.load, demonstrations())
    return [made for made in found if made.digest in named and made.digest not in given]


def _plot(receipt: Receipt, calibrations: Sequence[Calibration], file: str) -> None:
    from tocsin.durable import write_whole
    from tocsin.record.receipt_plot import render

    write_whole(file, render(receipt, calibrations, "svg" if file.endswith(".svg") else "png"))


def _verdict(*, agrees: bool, complete: bool) -> str:
    if not agrees:
        return "Something differs: these scores and this calibration do not give what is recorded."
    if complete:
        return "All of it agrees: the recorded scores give the recorded decision, to the last bit."
    return "What could be checked agrees; what is marked unchecked was not."


def _one(file: str, keys: Sequence[PublicKey], tenant: str | None) -> dict[str, Any]:
    from tocsin.record.receipt_file import of_entry

    found = verify(read_file(file), keys)
    entry = found.entry
    with suppress(InputError):  # of a later schema, say: recorded all the same
        of_entry(entry)
    if tenant not in {None, entry.tenant}:
        raise ProofInvalid(f"it is of {entry.tenant!r}, not of {tenant!r}")
    says = (
        f"{file}: {entry.kind} {entry.id} of {entry.tenant} is entry {found.index} of the "
        f"{found.size} of {found.origin}, after event {entry.sequence}"
    )
    told: dict[str, Any] = {
        "kind": entry.kind, "id": entry.id, "tenant": entry.tenant, "sequence": entry.sequence,
        **(_place(found) or {}),
    }  # fmt: skip
    if entry.kind == "period":
        with suppress(InputError):
            period = read_period(entry.body)
            told["period"] = period
            says += (
                f"; it counts {period.opened} streams, {period.alarms} alarms and "
                f"{period.receipts} receipts in events {period.first} to {period.last}, which have "
                f"the root {period.events_root}"
            )
    return {"says": says, **told}


def _place(found: Verified | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"origin": found.origin, "index": found.index, "size": found.size}
