"""`tocsin receipt`: show, verify and replay, offline."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec
from rich.text import Text

from tocsin.cli.terminal import out, plain, prose
from tocsin.errors import InputError, ProofInvalid
from tocsin.limits import KEY_FILE_BYTES_MAX, PROOF_BYTES_MAX
from tocsin.receipts import PublicKey, Verified, origin_of, read_keys, verify, verify_growth

if TYPE_CHECKING:
    from tocsin.guarding.receipt import Receipt
    from tocsin.risk.calibration import Calibration

CLAIM = (
    "What holds was recorded in that log and was not changed since. That it was correct, or that "
    "nothing was left out, it does not say."
)

_key_option = click.option(
    "--key", "keys", multiple=True, metavar="KEY|FILE",
    help="Public key of the log, or a file with one a line; may be repeated.",
)  # fmt: skip
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group("receipt", short_help="Show, verify and replay receipts, offline.")
def command() -> None:
    """Show a receipt, verify that it was recorded, recompute its decision: offline.

    Exit status: 0 where all is good, 1 where something does not hold, 2 for a wrong command.
    """


@command.command("show", short_help="Show a receipt to people.")
@click.argument("file")
@_key_option
@_json_option
def show(file: str, keys: tuple[str, ...], *, as_json: bool) -> None:
    """Show what FILE tells: what rang and why, what was shown, what was withheld.

    FILE is a proof (.tlog-proof), an entry of a log, or the JSON of a receipt. With --key the proof
    is verified first.

    Example: tocsin receipt show r_1.tlog-proof --key log.vkey
    """
    from tocsin.cli.receipt_drawing import parts
    from tocsin.record.receipt_file import of_entry, read_recorded

    raw = _read(file)
    known = _keys(keys)
    found = verify(raw, known) if known else None
    recorded = read_recorded(raw) if found is None else of_entry(found.entry)
    if as_json:
        entry = recorded.entry
        shown: Any = recorded.receipt if entry is None else entry.content()
        envelope = None if entry is None else {
            "tenant": entry.tenant, "kind": entry.kind, "id": entry.id, "sequence": entry.sequence
        }  # fmt: skip
        _print_json({
            "form": recorded.form, "verified": _place(found), "entry": envelope, "body": shown,
        })  # fmt: skip
        return
    console = out()
    for part in parts(recorded, found):
        console.print(part)


@command.command("verify", short_help="Verify that receipts were recorded, by the key alone.")
@click.argument("files", nargs=-1)
@_key_option
@click.option("--tenant", help="Whose the receipts have to be.")
@click.option("--from", "old", metavar="FILE", help="An earlier checkpoint.")
@click.option("--to", "new", metavar="FILE", help="A later checkpoint.")
@click.option("--proof", metavar="FILE", help="Proof that the log only grew between the two.")
@_json_option
def verify_files(
    files: tuple[str, ...], keys: tuple[str, ...], tenant: str | None, old: str | None,
    new: str | None, proof: str | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Verify each of FILES (.tlog-proof), or with --from, --to and --proof the growth of a log.

    Needs nothing but the public key: no network, no store. What holds was recorded, and was not
    changed or taken out since; whether it was correct is another question.

    \b
    Example: tocsin receipt verify r_1.tlog-proof --key log.vkey
             tocsin receipt verify --from monday --to friday --proof growth --key log.vkey
    """  # noqa: D301 - for click
    growth = (old, new, proof)
    if bool(files) == any(growth) or (any(growth) and not all(growth)):
        raise click.UsageError("give FILES, or all of --from, --to and --proof")
    known = _keys(keys)
    if not known:
        raise click.UsageError("give the public key of the log: --key KEY, or --key FILE")
    if old is not None and new is not None and proof is not None:
        results = [_growth(old, new, proof, known)]
    else:
        results = [_one(file, known, tenant) for file in files]
    good = all(result["good"] for result in results)
    if as_json:
        _print_json({"good": good, "results": results, "claim": CLAIM})
    else:
        console = out()
        for result in results:
            word = Text("good  ", style="green") if result["good"] else Text("BAD   ", "bold red")
            console.print(word.append(plain(result["says"]), style="default"), soft_wrap=True)
        console.print(prose(CLAIM, style="dim") if good else prose(_BAD, style="bold"))
    if not good:
        sys.exit(1)


_BAD = "What does not hold proves nothing: take none of it for true, and keep the file as it is."


@command.command("replay", short_help="Recompute the decision of a receipt.")
@click.argument("file")
@click.option(
    "--calibration",
    "calibrations",
    multiple=True,
    metavar="FILE",
    help="Calibration of a check; may be repeated.",
)
@_key_option
@click.option("--plot", metavar="FILE", help="Also draw the score paths, as .png or .svg.")
@_json_option
def replay(
    file: str,
    calibrations: tuple[str, ...],
    keys: tuple[str, ...],
    plot: str | None,
    *,
    as_json: bool,
) -> None:
    """Recompute the alarms of the receipt in FILE from its score paths and the calibrations.

    Without --calibration it checks what the receipt alone shows, and says what it did not check.

    Example: tocsin receipt replay r_1.tlog-proof --calibration calibration.json --key log.vkey
    """
    from tocsin import calibration_file
    from tocsin.cli.receipt_drawing import grid, standing
    from tocsin.record.receipt_file import of_entry, read_recorded
    from tocsin.record.replay import replay as recompute

    if plot is not None and not plot.endswith((".png", ".svg")):
        raise click.UsageError(f"--plot {plot!r}: the name has to end in .png or .svg")
    raw = _read(file)
    known = _keys(keys)
    found = verify(raw, known) if known else None
    recorded = read_recorded(raw) if found is None else of_entry(found.entry)
    if recorded.receipt is None:
        raise click.UsageError("this entry is a period: there is nothing in it to replay")
    try:
        given = [calibration_file.load(path) for path in calibrations]
    except InputError as e:
        _refuse(str(e))
    made = recompute(recorded.receipt, given)
    if plot is not None:
        _plot(recorded.receipt, given, plot)
    if as_json:
        _print_json({
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
@_key_option
def key(tenant: str, keys: tuple[str, ...]) -> None:
    """Print the line by which other people's tools know the log of TENANT.

    Commands of Tocsin take the key of the place itself (log.vkey); others want the name of the
    very log that signed.

    Example: tocsin receipt key acme --key log.vkey
    """
    known = _keys(keys)
    if not known:
        raise click.UsageError("give the public key of the place: --key KEY, or --key FILE")
    for one in known:
        try:
            click.echo(plain(one.named(origin_of(one.name, tenant)).line))
        except InputError as e:
            _refuse(str(e))


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


def _growth(old: str, new: str, proof: str, keys: Sequence[PublicKey]) -> dict[str, Any]:
    try:
        found = verify_growth(_read(old), _read(new), _read(proof), keys)
    except ProofInvalid as e:
        return {"file": proof, "good": False, "says": f"{proof}: {e}"}
    sizes = {"old": found.old.size, "new": found.new.size}
    says = f"{found.origin} only grew, from {sizes['old']} to {sizes['new']} entries"
    return {"file": proof, "good": True, "says": says, "origin": found.origin, **sizes}


def _one(file: str, keys: Sequence[PublicKey], tenant: str | None) -> dict[str, Any]:
    from tocsin.record.receipt_file import of_entry

    try:
        found = verify(_read(file), keys)
        with suppress(InputError):  # of a later schema, say: recorded all the same
            of_entry(found.entry)
    except ProofInvalid as e:
        return {"file": file, "good": False, "says": f"{file}: {e}"}
    entry = found.entry
    if tenant not in {None, entry.tenant}:
        return {"file": file, "good": False, "says": f"{file}: it is of {entry.tenant!r}, not of "
                f"{tenant!r}"}  # fmt: skip
    says = (
        f"{file}: {entry.kind} {entry.id} of {entry.tenant} is entry {found.index} of the "
        f"{found.size} of {found.origin}, after event {entry.sequence}"
    )
    return {
        "file": file, "good": True, "says": says, "kind": entry.kind, "id": entry.id,
        "tenant": entry.tenant, "sequence": entry.sequence, **(_place(found) or {}),
    }  # fmt: skip


def _print_json(value: object) -> None:
    """Print ASCII: hidden characters and halves of characters are escaped, whoever wrote them."""
    click.echo(json.dumps(msgspec.to_builtins(value), separators=(",", ":")))


def _place(found: Verified | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"origin": found.origin, "index": found.index, "size": found.size}


def _read(file: str) -> bytes:
    """Read a file; one that cannot be read is a wrong command, not a bad receipt."""
    try:
        with Path(file).open("rb") as f:
            return f.read(PROOF_BYTES_MAX + 1)
    except (OSError, ValueError) as e:
        _refuse(f"cannot read {file!r}: {getattr(e, 'strerror', None) or e}")


def _keys(given: Sequence[str]) -> tuple[PublicKey, ...]:
    """Read keys: each a line itself, or the name of a file with some."""
    found: list[PublicKey] = []
    try:
        for one in given:
            if one.count("+") >= 2 and not Path(one).exists():
                found += read_keys(one)
                continue
            raw = _read(one)
            if len(raw) > KEY_FILE_BYTES_MAX:
                _refuse(f"{one!r} is longer than {KEY_FILE_BYTES_MAX} bytes")
            found += read_keys(raw.decode())
        if given:
            import cryptography  # noqa: F401 - said now, not in the midst of it
    except UnicodeDecodeError:
        _refuse("a file of keys is text: NAME+ID+BASE64, one a line")
    except InputError as e:
        _refuse(f"--key: {e}")
    except ImportError:
        _refuse("receipts need cryptography: pip install 'tocsin[sign]'")
    return tuple(found)


def _refuse(why: str) -> NoReturn:
    raise click.UsageError(why)
