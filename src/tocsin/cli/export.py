"""`tocsin export`."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tocsin.cli.history import refuse_stranger
from tocsin.cli.terminal import err, json_bytes, out, plain, prose
from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.record.outward import Exporter, Otlp, Webhook
    from tocsin.store.reading import Which

_FILES = ("jsonl", "cloudevents", "parquet")
_RECEIVERS = ("webhook", "otlp", "otlp-json")


@click.command("export", short_help="Write a tenant's events to a file, or send them elsewhere.")
@click.argument("store")
@click.option("--tenant", required=True, help="Whose events.")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FILES + _RECEIVERS),
    default="jsonl",
    show_default=True,
    help="Of the file, or of what is sent.",
)
@click.option("--output", metavar="FILE", help="Where to; standard output where left out.")
@click.option("--kind", "kinds", multiple=True, help="Only events of this kind; may be repeated.")
@click.option("--since", metavar="TIME", help="From this time on, such as 2026-01-31T00:00:00Z.")
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option("--to", "url", metavar="URL", help="Send to a webhook or a collector.")
@click.option(
    "--allow",
    "allowed",
    multiple=True,
    metavar="HOST",
    help="A host that may be sent to, or *.HOST; may be repeated. Nothing else may.",
)
@click.option(
    "--private",
    is_flag=True,
    help="The receiver may lie in one's own network, and speak plain HTTP.",
)
@click.option(
    "--secret",
    metavar="VARIABLE",
    help="Variable with the secret of the webhook, or the bearer token of the collector.",
)
@click.option("--cursor", metavar="NAME", help="Of this receiver; the host where left out.")
@click.option("--follow", is_flag=True, help="Go on sending what comes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object about what was done.")
def command(
    store: str,
    tenant: str,
    form: str,
    output: str | None,
    kinds: tuple[str, ...],
    since: str | None,
    until: str | None,
    url: str | None,
    *,
    as_json: bool,
    **receiver: Any,
) -> None:
    """Write the events of one tenant of a record, STORE, to a file, or send them elsewhere.

    What is sent goes after a cursor that the store keeps: each event at least once, in order. A
    webhook gets CloudEvents with a signature (Standard Webhooks), a collector spans.

    Example: tocsin export record.db --tenant shop --format parquet --output events.parquet
    """  # fmt: skip
    from tocsin.record.whole import Whole
    from tocsin.store import Scope, Store

    scope = Scope(tenant)
    which = _which(kinds, since, until)
    sends = form in _RECEIVERS
    _fit(form, url, output, receiver, sends=sends, timed=bool(since or until))
    with Store.open(store, create=False) as opened, Whole(opened) as reader:
        refuse_stranger(opened, tenant)
        if not sends:
            from tocsin.record.export import parts

            n = _write(form, output, parts(reader, scope, which))
            _say(
                {"events": n, "written_to": output}, f"{n:,} events", as_json, quiet=output is None
            )
            return
        from tocsin.record.outward import Exporter

        to = _receiver(form, str(url), receiver)
        try:
            name = receiver["cursor"] or f"{form} {_host(str(url))}"
            exporter = Exporter(opened, scope, name, to, reader=reader, kinds=kinds)
            refused = _send(exporter, follow=receiver["follow"], pause=time.sleep)
        finally:
            to.close()
    done = exporter.done
    told = {"events": done.events, "status": done.status, "refused": refused}
    _say(told, f"{done.events:,} events were sent", as_json, quiet=False)
    if refused:
        err().print(plain(f"the receiver refused a batch: status {done.status}"), style="bold")
        raise click.exceptions.Exit(1)


def _fit(
    form: str, url: str | None, output: str | None, receiver: dict[str, Any], *, sends: bool,
    timed: bool,
) -> None:  # fmt: skip
    if sends and (url is None or output is not None or timed):
        raise click.UsageError(
            f"--format {form} takes --to URL, and no --output, --since or --until"
        )
    if not sends and (url is not None or receiver["follow"] or receiver["cursor"]):
        raise click.UsageError(f"--to, --follow and --cursor are for {', '.join(_RECEIVERS)}")
    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet takes --output FILE")
    if form == "webhook" and not receiver["secret"]:
        raise click.UsageError("a webhook takes --secret VARIABLE: events are signed")


def _which(kinds: tuple[str, ...], since: str | None, until: str | None) -> Which:
    from tocsin.events.moments import from_rfc3339
    from tocsin.events.reading import BODIES

    unknown = [kind for kind in kinds if kind not in BODIES]
    if unknown:
        raise InputError(f"--kind {unknown[0]!r}: there is {', '.join(BODIES)}")
    which: Which = {}
    try:
        if kinds:
            which["kind"] = kinds
        if since is not None:
            which["since_us"] = from_rfc3339(since)
        if until is not None:
            which["until_us"] = from_rfc3339(until)
    except ValueError as error:
        raise InputError(f"--since and --until: {error}") from None
    return which


def _write(form: str, output: str | None, found: Iterator[Any]) -> int:
    from tocsin.durable import sync_folder
    from tocsin.record.export import write_lines, write_parquet

    if output is None:
        return write_lines(sys.stdout.buffer, found, cloudevents=form == "cloudevents")
    target = Path(output)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        if form == "parquet":
            n = write_parquet(temporary, found)
        else:
            with temporary.open("xb") as file:
                n = write_lines(file, found, cloudevents=form == "cloudevents")
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise InputError(f"cannot write {output!r}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return n


def _receiver(form: str, url: str, given: dict[str, Any]) -> Webhook | Otlp:
    from tocsin.record.outward import Otlp, Webhook

    secret = _secret(given["secret"])
    allowed, private = given["allowed"], given["private"]
    if form == "webhook":
        return Webhook(url, secret.encode(), allowed=allowed, private=private)
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    encoding: Any = "json" if form == "otlp-json" else "protobuf"
    return Otlp(url, headers=headers, allowed=allowed, private=private, encoding=encoding)


def _secret(variable: str | None) -> str:
    if variable is None:
        return ""
    found = os.environ.get(variable, "")
    if not found or not found.isascii() or not found.isprintable():
        raise InputError(f"the variable {variable!r} is empty, or holds what no secret holds")
    return found


def _host(url: str) -> str:
    from tocsin.record.sending import place

    return place(url).host


def _send(exporter: Exporter, *, follow: bool, pause: Callable[[float], object]) -> bool:
    """Send until all was sent, or for ever; whether the receiver refused a batch for good."""
    from tocsin.limits import OUTWARD_IDLE_S, OUTWARD_TRIES_MAX

    failing = False
    while True:
        did = exporter.step()
        if (did in {"again", "refused"}) != failing:
            failing = not failing
            err().print(f"status {exporter.done.status}; trying again" if failing else "sending")
        if did == "sent":
            continue
        tries = exporter.done.tries
        if not follow and (did in {"nothing", "refused"} or tries > OUTWARD_TRIES_MAX):
            return did != "nothing"
        pause(OUTWARD_IDLE_S if did == "nothing" else exporter.pause_s())


def _say(told: dict[str, Any], line: str, as_json: bool, *, quiet: bool) -> None:
    if as_json and not quiet:
        click.echo(json_bytes(told))
    elif not quiet:
        out().print(prose(line))
