"""What commands that verify have in common: files and keys in, what holds and what does not out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from rich.text import Text

from tocsin.cli.terminal import out, plain, prose
from tocsin.errors import InputError, NoProof, ProofInvalid
from tocsin.limits import KEY_FILE_BYTES_MAX, PROOF_BYTES_MAX
from tocsin.receipts import PublicKey, read_keys

BAD = "What does not hold proves nothing: take none of it for true, and keep the file as it is."
NONE = "What is no proof shows nothing, for or against: ask for it again."

key_option = click.option(
    "--key", "keys", multiple=True, metavar="KEY|FILE",
    help="Public key of the log, or a file with one a line; may be repeated.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def judged(file: str, verify: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Verify something, and say whether it is good, bad or something else altogether.

    Args:
        file: what is said to hold or not, in words.
        verify: gives what is known of what holds, ``says`` among it.
    """
    try:
        found = verify()
    except ProofInvalid as e:
        is_proof = not isinstance(e, NoProof)
        return {"file": file, "good": False, "proof": is_proof, "says": f"{file}: {e}"}
    return {"file": file, "good": True, **found}


def show_verdicts(results: Sequence[dict[str, Any]], claim: str, *, as_json: bool) -> None:
    """Print what was verified, and leave with status 1 where not all of it holds.

    Args:
        results: as `judged` gives them.
        claim: what holds where all is good, and what that does not say.
        as_json: print one JSON object.
    """
    good = all(result["good"] for result in results)
    if as_json:
        print_json({"good": good, "results": results, "claim": claim})
    else:
        console = out()
        for result in results:
            console.print(_word(result).append(plain(result["says"]), "default"), soft_wrap=True)
        if good:
            console.print(prose(claim, style="dim"))
        if any(result.get("proof") for result in results):
            console.print(prose(BAD, style="bold"))
        if any(result.get("proof") is False for result in results):
            console.print(prose(NONE, style="bold"))
    if not good:
        sys.exit(1)


def _word(result: dict[str, Any]) -> Text:
    if result["good"]:
        return Text("good  ", "green")
    return Text("BAD   ", "bold red") if result["proof"] else Text("none  ", "bold yellow")


def print_json(value: object) -> None:
    """Print ASCII: hidden characters and halves of characters are escaped, whoever wrote them."""
    click.echo(json.dumps(msgspec.to_builtins(value), separators=(",", ":")))


def read_file(file: str) -> bytes:
    """Read a file; one that cannot be read is a wrong command, not a bad receipt."""
    try:
        with Path(file).open("rb") as f:
            return f.read(PROOF_BYTES_MAX + 1)
    except (OSError, ValueError) as e:
        refuse(f"cannot read {file!r}: {getattr(e, 'strerror', None) or e}")


def read_trusted(given: Sequence[str], *, needed: bool = False) -> tuple[PublicKey, ...]:
    """Read keys: each a line itself, or the name of a file with some.

    Args:
        given: as on the command line.
        needed: refuse where there is none.
    """
    if needed and not given:
        refuse("give the public key of the log: --key KEY, or --key FILE")
    found = [key for one in given for key in _trusted(one)]
    try:
        if given:
            import cryptography  # noqa: F401 - said now, not in the midst of it
    except ImportError:
        refuse("receipts need cryptography: pip install 'tocsin[sign]'")
    return tuple(found)


def _trusted(given: str) -> tuple[PublicKey, ...]:
    """Read what was given; what is no key and no file is not shown, for it may be a secret."""
    where = "--key"
    try:
        if not _is_file(given):
            if given.count("+") < 2:
                refuse("--key: this is no public key, and no file of that name is there")
            return read_keys(given)
        where = f"--key {given!r}"
        raw = read_file(given)
        if len(raw) > KEY_FILE_BYTES_MAX:
            refuse(f"{where}: longer than {KEY_FILE_BYTES_MAX} bytes")
        return read_keys(raw.decode())
    except UnicodeDecodeError:
        refuse(f"{where}: a file of keys is text: NAME+ID+BASE64, one a line")
    except InputError as e:
        refuse(f"{where}: {e}")


def _is_file(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # too long for a name
        return False


def refuse(why: str) -> NoReturn:
    """End with status 2: the command is wrong."""
    raise click.UsageError(why)
