"""`tocsin export`."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tocsin.cli.asking import oversight, permitted, pseudonym, redactor
from tocsin.cli.terminal import err, json_bytes, out, plain, prose
from tocsin.errors import InputError

if TYPE_CHECKING:
    from tocsin.record.outward import Exporter, Otlp, Webhook
    from tocsin.record.whole import Whole
    from tocsin.store import Scope, Store
    from tocsin.store.reading import Stored, Which

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
@click.option(
    "--output",
    metavar="FILE",
    help="Where to, readable by you alone; standard output where left out.",
)
@click.option("--force", is_flag=True, help="Replace a FILE that is there.")
@click.option("--user", metavar="NAME", help="Only what is known of this person; into files.")
@click.option(
    "--keys", metavar="FOLDER", help="Keys of the store: a person's name becomes a pseudonym."
)
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
def command(store: str, tenant: str, form: str, *, as_json: bool, **given: Any) -> None:
    """Write the events of one tenant of a record, STORE, to a file, or send them elsewhere.

    What is sent goes after a cursor that the store keeps: each event at least once, in order. A
    webhook gets CloudEvents with a signature (Standard Webhooks), a collector spans. That events
    leave is recorded before the first one does.

    Example: tocsin export record.db --tenant shop --format parquet --output events.parquet
    """
    from tocsin.record.whole import Whole
    from tocsin.store import Keys, Scope, Store

    which = _which(given["kinds"], given["since"], given["until"])
    _fit(form, given)
    folder = given["keys"]
    keys = None if folder is None else Keys.open(folder, create=False, environment=os.environ)
    with Store.open(store, keys=keys, create=False) as opened, Whole(opened) as reader:
        where = _where(form, given["output"])
        by = permitted(opened, tenant, "events.export", target=where)
        tell = partial(oversight(opened).tell, by, "events.export", target=where)
        if form not in _RECEIVERS:
            found, what = _asked(opened, reader, Scope(tenant), which, given)
            told = _into(form, found, f"as {form}{what}", tell, given)
        else:
            told = _onward(form, opened, reader, Scope(tenant), tell, given)
    if given["output"] is not None or form in _RECEIVERS:
        sent = " were sent" if form in _RECEIVERS else ""
        line = f"{told['events']:,} events{sent}"
        click.echo(json_bytes(told)) if as_json else out().print(prose(line))
    if told.get("refused"):
        err().print(plain(_refusal(told)), style="bold", soft_wrap=True, markup=False)
        raise click.exceptions.Exit(1)


def _asked(
    store: Store, reader: Whole, scope: Scope, which: Which, given: dict[str, Any]
) -> tuple[Iterator[Sequence[Stored]], str]:
    """Give what is asked for, and say in words what that is."""
    from tocsin.record.export import parts
    from tocsin.record.person import of_person

    what = "".join(
        f", {word} {' '.join(value) if isinstance(value, tuple) else value}"
        for word, value in (
            ("only", given["kinds"]), ("from", given["since"]), ("before", given["until"]),
        )
        if value
    )  # fmt: skip
    last = store.head(scope).seq
    if given["user"] is None:
        return _upto(parts(reader, scope, which), last), what
    of = None if given["keys"] is None else redactor(given["keys"], scope.tenant)
    person = pseudonym(given["user"], of)
    return _upto(iter([of_person(reader, scope, person, which)]), last), f"{what}, of {person}"


def _into(
    form: str,
    found: Iterator[Sequence[Stored]],
    what: str,
    tell: Callable[..., None],
    given: dict[str, Any],
) -> dict[str, Any]:
    """Write a file or to standard output, and tell of it before."""
    output, force = given["output"], given["force"]
    if output is None:
        tell(reason=f"begins: {what}")
        n = _print(form, found, lambda n: tell(reason=f"done: {n:,} events {what}"))
    else:
        n = _write(form, output, found, lambda n: tell(reason=f"{n:,} events {what}"), force=force)
    return {"events": n, "written_to": output}


def _onward(
    form: str,
    store: Store,
    reader: Whole,
    scope: Scope,
    tell: Callable[..., None],
    given: dict[str, Any],
) -> dict[str, Any]:
    """Send what the cursor has not passed, and tell of it before and after."""
    from tocsin.record.outward import Exporter

    kinds, follow, url = given["kinds"], given["follow"], str(given["url"])
    to = _receiver(form, url, given)
    try:
        name = given["cursor"] or f"{form} {_host(url)}"
        exporter = Exporter(store, scope, name, to, reader=reader, kinds=kinds)
        after = exporter.cursor
        some = follow or _has_more_than_exports(reader, scope, kinds, after)
        if some:
            only = f", only {' '.join(kinds)}" if kinds else ""
            coming = ", and what comes" if follow else ""
            tell(reason=f"begins: events after {after:,}{coming}{only}")
        try:
            refused = _send(exporter, follow=follow, pause=time.sleep)
        finally:
            if some:
                tell(reason=f"done: {exporter.done.events:,} events")
    finally:
        to.close()
    done = exporter.done
    told = {"events": done.events, "status": done.status, "refused": refused}
    return {**told, "said": done.said} if refused else told


def _refusal(told: dict[str, Any]) -> str:
    if told["status"] == 0:
        return f"nothing more was sent: {told['said']}"
    return f"the receiver refused a batch: {told['said']}"


def _where(form: str, output: str | None) -> str:
    """Say in a coarse word where events go to."""
    if form in _RECEIVERS:
        return "webhook" if form == "webhook" else "otlp"
    return "standard output" if output is None else "file"


def _upto(found: Iterator[Sequence[Stored]], last: int) -> Iterator[Sequence[Stored]]:
    """Give what was there when the export began: not the event that tells of it."""
    for part in found:
        yield [one for one in part if one.seq <= last]
        if part and part[-1].seq >= last:
            return


def _has_more_than_exports(reader: Whole, scope: Scope, kinds: tuple[str, ...], after: int) -> bool:
    """Whether more is to be sent than the events that tell of exports: each would make more."""
    from tocsin.limits import OUTWARD_BATCH

    later: Which = {"after_seq": after}
    if kinds:
        later["kind"] = kinds
    batch = reader.events(scope, limit=OUTWARD_BATCH, **later)
    return len(batch) == OUTWARD_BATCH or any(
        getattr(one.event.body, "action", None) != "events.export" for one in batch
    )


def _fit(form: str, given: dict[str, Any]) -> None:
    """Refuse options that do not go together."""
    url, output = given["url"], given["output"]
    narrowed = given["since"] or given["until"] or given["user"]
    if form in _RECEIVERS and (url is None or output is not None or narrowed):
        raise click.UsageError(
            f"--format {form} takes --to URL, and no --output, --since, --until or --user"
        )
    if form not in _RECEIVERS and (url is not None or given["follow"] or given["cursor"]):
        raise click.UsageError(f"--to, --follow and --cursor are for {', '.join(_RECEIVERS)}")
    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet takes --output FILE")
    if form == "webhook" and not given["secret"]:
        raise click.UsageError("a webhook takes --secret VARIABLE: events are signed")
    if output is not None:
        _fit_file(Path(output), force=given["force"])


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


def _fit_file(target: Path, *, force: bool) -> None:
    if target.exists() and not target.is_file():
        raise InputError(f"cannot write {str(target)!r}: it is no regular file")
    if target.exists() and not force:
        raise InputError(f"there is a file {str(target)!r} already: --force replaces it")


def _print(form: str, found: Iterator[Sequence[Stored]], tell: Callable[[int], None]) -> int:
    """Write to standard output; however it ends, what left is told."""
    from tocsin.record.export import write_lines

    n = 0

    def counted() -> Iterator[Sequence[Stored]]:
        nonlocal n
        for part in found:
            n += len(part)
            yield part

    try:
        write_lines(sys.stdout.buffer, counted(), cloudevents=form == "cloudevents")
    finally:
        tell(n)
    return n


def _write(
    form: str,
    output: str,
    found: Iterator[Sequence[Stored]],
    tell: Callable[[int], None],
    *,
    force: bool,
) -> int:
    """Write a file that its owner alone may read; it is told of before it has its name."""
    from tocsin.durable import sync_folder
    from tocsin.record.export import write_lines, write_parquet

    target = Path(output)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        made = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "wb") as file:
            if form == "parquet":
                n = write_parquet(temporary, found)
            else:
                n = write_lines(file, found, cloudevents=form == "cloudevents")
                file.flush()
            os.fsync(file.fileno())
        _fit_file(target, force=force)
        tell(n)
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
        if not follow and did == "refused":
            return True
        if (did in {"again", "refused"}) != failing:
            failing = not failing
            err().print(plain(f"{exporter.done.said}; trying again") if failing else "sending")
        if did == "sent":
            continue
        tries = exporter.done.tries
        if not follow and (did == "nothing" or tries > OUTWARD_TRIES_MAX):
            return did != "nothing"
        pause(OUTWARD_IDLE_S if did == "nothing" else exporter.pause_s())
