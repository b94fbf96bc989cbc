"""`tocsin check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.padding import Padding
from rich.text import Text

from tocsin.cli.terminal import json_bytes, out, plain, prose, table

if TYPE_CHECKING:
    from tocsin.gateway.summary import CheckSummary, PolicySummary, Summary


@click.command("check", short_help="Check a configuration of the gateway.")
@click.argument("config", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of configurations instead.")
def command(config: str | None, *, as_json: bool, schema: bool) -> None:
    """Check a configuration of the gateway, CONFIG, and say what it does; no socket is opened.

    Everything that is wrong is told at once, with its line, and the exit status is 1. The promise
    of each check is printed, how far text is held back, and what to think twice about.

    Example: tocsin check gateway.yaml
    """
    if schema:
        from tocsin.gateway.schema import schema_text

        click.echo(schema_text(), nl=False)
        return
    if config is None:
        raise click.UsageError("name a configuration, or give --schema")
    from tocsin.gateway.building import built
    from tocsin.gateway.config_file import read
    from tocsin.gateway.summary import summary

    found = summary(built(*read(config)))
    if as_json:
        click.echo(json_bytes(found))
        return
    _print(found)


def _print(found: Summary) -> None:
    console = out()
    keys = "open to all" if found.open_to_all else "by key"
    console.print(Text(plain(
        f"sound: sha256:{found.digest}\nlistens on {found.host} port {found.port}, {keys}; "
        f"{_record(found)}\n"
    )))  # fmt: skip
    rows = [
        [
            r.name,
            ", ".join(r.models),
            f"{r.upstream} ({', '.join(r.speaks)})" + (f" as {r.model}" if r.model else ""),
            r.policy,
            r.fallback or "-",
            "conversation" if r.conversations else "response",
            ", ".join(r.tenants) or "-",
        ]
        for r in found.routes
    ]
    columns = ["route", "models", "upstream", "policy", "fallback", "watches each", "tenants"]
    console.print(table("", columns, rows))
    for policy in found.policies:
        _print_policy(policy)
    for warning in found.warnings:
        console.print(prose(f"warning: {plain(warning)}", style="bold"))


def _record(found: Summary) -> str:
    record = found.record
    if record is None:
        return "receipts: to the log alone"
    rules = "the built-in rules" if record.rules == "built_in" else "rules of your own"
    lines = [
        f"record: {record.store}, log {record.log}, keys in {record.keys}",
        f"  masked before it is stored: what {rules} find; signed every {record.period_s:g} s",
    ]
    kept = [
        f"{p.name} ({', '.join(filter(None, (_sampled(p), 'every alarm' * p.evidence)))})"
        for p in found.policies
        if p.sample or p.evidence
    ]
    said = f"of {', '.join(kept)}, encrypted, for {record.content_days:g} days" if kept else "none"
    return "\n".join([*lines, f"  raw content kept: {said}"])


def _sampled(policy: PolicySummary) -> str:
    return f"{100 * policy.sample:g} % of responses" if policy.sample else ""


def _print_policy(policy: PolicySummary) -> None:
    console = out()
    passed = f"; passes {', '.join(policy.passed)}" if policy.passed else ""
    title = f"policy {policy.name}@{policy.digest[:12]}: {policy.mode}, hold {policy.hold}"
    console.print(Padding(prose(plain(f"{title} ({_held(policy)}){passed}")), (1, 0, 0, 0)))
    groups = [("response", policy.checks), ("request", policy.input)]
    if policy.escalate is not None:
        groups.append(("escalation", (policy.escalate,)))
    rows = [
        [
            check.name,
            which,
            check.steps,
            _does(check, which),
            "to the end" if check.hold_back_chars is None else f"{check.hold_back_chars:,}",
        ]
        for which, checks in groups
        for check in checks
    ]
    columns = ["check", "of the", "step", "does", "characters held back"]
    console.print(Padding(table("", columns, rows), (0, 0, 1, 2)))
    for _, checks in groups:
        for check in checks:
            console.print(Padding(prose(_says(check), indent=4), (0, 0, 0, 2)))


def _does(check: CheckSummary, which: str) -> str:
    if which == "escalation":
        return "decides"
    return "by rule" if check.rings == "rules" else check.does["alarm"]


def _says(check: CheckSummary) -> str:
    said = check.guarantee
    if check.rings == "rules":
        said += f" ({', '.join(f'{name}: {does}' for name, does in check.does.items())})"
    who = f"{check.name}: {check.verifier} {check.version[:16]}"
    return plain(f"{who}. {said}")


def _held(policy: PolicySummary) -> str:
    if policy.hold == "optimistic":
        return "nothing is held back"
    if policy.hold == "end_of_stream":
        return "all of it is held back"
    if policy.hold_back_chars is None:
        return "held back to the end of the turn or tool call"
    return f"up to {policy.hold_back_chars:,} characters are held back"
