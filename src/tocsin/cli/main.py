"""`tocsin`: the entry point, and how errors leave it."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys

import click

from tocsin import __version__
from tocsin.cli.terminal import json_bytes, plain
from tocsin.errors import TocsinError

_COMMANDS = {
    "serve": "Run the gateway: nothing unverified reaches the reader.",
    "check": "Check a configuration of the gateway, and say what it does.",
    "fsck": "Check that a record still is what was written.",
    "export": "Write a tenant's events to a file, or send them elsewhere.",
    "key": "Make an API key for a tenant of the gateway.",
    "receipt": "Show, verify and replay receipts, offline.",
    "log": "Give an auditor checkpoints, proofs and periods, and verify them.",
    "access": "Keys, roles, grants, and who read or changed what.",
    "content": "List, read and erase raw content.",
    "trace": "Show what happened to one request, in order.",
    "audit": "Ask the record: clusters, drift, threshold, escalations.",
    "history": "Move closed hours of events from the store to files.",
    "retention": "Take away what is older than it may be.",
    "train": "Train a linear verifier on labelled text, and say how good it is.",
    "score": "Add a verifier's scores to labelled text.",
    "combine": "Fit several verifiers into one, on labels.",
    "cascade": "Ask a strong verifier where a cheap one is unsure, within a budget.",
    "calibrate": "Find the threshold that keeps a promise, on labelled trajectories.",
    "measure": "Measure a calibration on labelled trajectories that it has not seen.",
    "monitor": "Watch scores from standard input and say when to stop.",
    "evaluate": "Compare all monitors on repeated splits of labelled trajectories.",
    "explain": "Say in plain words what a calibration promises, and what it does not.",
    "demo": "Calibrate, watch a stream and evaluate, on real scores or a closed-form world.",
}

_OF_THE_RECORD = frozenset({
    "check", "fsck", "export", "receipt", "log", "access", "content", "trace", "audit", "history",
    "retention",
})  # fmt: skip

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})


class _Lazy(click.Group):
    """Import a command only when it is used, so that `tocsin monitor` starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"tocsin.cli.{cmd_name}").command
        return command

    def format_commands(
        self,
        ctx: click.Context,
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tocsin")
def cli() -> None:
    """An alarm, with a stated error guarantee, for what a language model is writing."""


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit status 1.

    Where a command of the record is to print JSON, its errors are also there, as ``{"error":...}``.
    """
    try:
        try:
            status = _run()
        finally:
            sys.stdout.flush()  # now, not when Python ends: it could not say what is wrong then
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as e:
        if e.errno not in _UNWRITABLE or e.filename is not None:
            raise
        _write_no_more()
        click.echo(f"error: cannot write the output: {e.strerror}", err=True)
        sys.exit(1)
    sys.exit(status)


def _run() -> int:
    try:
        status = cli.main(standalone_mode=False)
        # Of an `Exit`, which click returns here instead of raising it.
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        _say_as_json(e.format_message())
        # What was typed may hold names out of hostile data; click would print them as they are.
        said = io.StringIO()
        e.show(file=said)
        click.echo(plain(said.getvalue()), err=True, nl=False)
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except TocsinError as e:
        _say_as_json(str(e))
        click.echo(f"error: {plain(str(e))}", err=True)
        return 1


def _say_as_json(said: str) -> None:
    """Print an error where a program waits for JSON of the record."""
    if "--json" in sys.argv and not _OF_THE_RECORD.isdisjoint(sys.argv[1:2]):
        click.echo(json_bytes({"error": said}))


def _write_no_more() -> None:
    """Let go of what could not be written, so that nobody tries again at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
