"""A receipt for somebody who was just woken up: what happened first, then the details.

Everything in it may come from a model or a stranger, and is made harmless before it is shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tocsin.cli.terminal import plain, prose, table
from tocsin.guarding.receipt import AlarmRecord, ChannelRecord, CheckRecord, Promise, Receipt
from tocsin.monitor import PathRecord
from tocsin.receipts import LogEntry, Verified
from tocsin.record.receipt_file import Recorded

_BARS = "▁▂▃▄▅▆▇█"
_GAP = "·"
_WIDTH = 60
_HASH_SHOWN = 12

_DONE = {
    None: "No alarm rang.",
    "allow": "An alarm rang, and was overruled or let pass.",
    "shadow": "An alarm rang; nothing was done about it.",
    "mask": "Some of the answer was masked.",
    "escalate": "The answer was put before a stronger verifier, and went on.",
    "require_approval": "The answer was put before a person, and went on.",
    "fallback": "Another model answered instead.",
    "replace": "The rest of the answer was replaced.",
    "halt": "The answer was stopped.",
}


def parts(recorded: Recorded, found: Verified | None) -> Iterator[RenderableType]:
    """Give what is printed, from the top."""
    entry, receipt = recorded.entry, recorded.receipt
    if receipt is None:
        if entry is not None:
            yield from _period(entry)
    else:
        yield from _receipt(receipt)
    yield standing(recorded, found)


def _receipt(receipt: Receipt) -> Iterator[RenderableType]:
    account, who = receipt.account, receipt.who
    yield Text(plain(f"receipt {who.id}"), style="bold")
    yield prose(plain(_headline(receipt)), style="bold red" if account.done else "bold")
    yield Padding(grid("", [], _facts(receipt)), (1, 0, 0, 0))
    if receipt.alarms:
        count = len(receipt.alarms)
        more = f", the first {count} of {account.alarms}" if receipt.alarms_more else ""
        yield Padding(Text(f"alarms{more}", style="italic"), (1, 0, 0, 0))
        for alarm in receipt.alarms:
            yield Padding(prose(plain(_alarm(alarm)), indent=2), (0, 0, 0, 2))
    if receipt.failures:
        failed = [[f.failure, f.phase, f.response, f.check, f.detail] for f in receipt.failures]
        columns = ["failure", "when", "response", "check", "detail"]
        yield Padding(grid("failures on the way", columns, failed), (1, 0, 0, 0))
    for check in receipt.checks:
        yield Padding(Text(plain(f"check {check.name}"), style="italic"), (1, 0, 0, 0))
        yield from (Padding(part, (0, 0, 0, 2)) for part in _check(check))
    if receipt.channels:
        yield Padding(_channels(receipt.channels), (1, 0, 0, 0))


def _headline(receipt: Receipt) -> str:
    account = receipt.account
    said = _DONE[account.done]
    if account.failure is not None:
        said += f" A failure stopped it: {account.failure}."
    if account.mode == "observe":
        said += " The policy only observes."
    if account.status != "ok":
        said += f" Not all that was shown was checked: {account.status}."
    return said


def grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """Make a quiet table of words, all columns left; with a head where there are columns."""
    made = Table(box=None, pad_edge=False, show_header=bool(columns), padding=(0, 2, 0, 0))
    width = len(columns) or max(map(len, rows), default=0)
    for i in range(width):
        made.add_column(
            Text(columns[i]) if columns else "",
            no_wrap=i < width - 1,
            overflow="fold",
            header_style="bold",
        )
    for row in rows:
        made.add_row(*[Text(plain(cell)) for cell in row])
    return Group(Text(plain(title), style="italic"), made) if title else made


def _facts(receipt: Receipt) -> list[list[str]]:
    who, account = receipt.who, receipt.account
    asked = f", asked for as {who.asked}" if who.asked and who.asked != who.model else ""
    characters = f"{account.scanned} checked, {account.released} shown, {account.held} withheld"
    if channels := receipt.channels:  # in the words of their own table
        masked = sum(one.masked for one in channels)
        characters = (
            f"{account.scanned} checked, {sum(one.shown for one in channels)} shown (markers "
            f"included), {account.held + masked} withheld ({masked} of them behind markers)"
        )
    return [
        ["tenant, route", f"{who.tenant or '-'}, {who.route or '-'}"],
        ["model", f"{who.model or '-'} by {who.upstream or '-'} ({who.api or '-'}){asked}"],
        ["from, to", f"{who.asked_at or '-'}, {who.ended_at or '-'}"],
        ["policy", f"{receipt.policy} {receipt.policy_digest}"],
        ["characters", characters],
        ["unread parts", str(who.unread)],
        ["made by", who.made_by or "-"],
    ]


def _alarm(alarm: AlarmRecord) -> str:
    where = f"in {alarm.channel} {alarm.choice}.{alarm.index} up to {alarm.upto}"
    if alarm.closing:
        where = "at the end of the response"
    elif not alarm.step:
        where = "before the response"
    if alarm.rule is not None:
        rang = f"rule {alarm.rule} ({alarm.category}), characters {alarm.start} to {alarm.end}"
    elif alarm.statistic is not None:
        rang = f"statistic {_digits(alarm.statistic)} at step {alarm.step}"
    else:
        rang = f"score {_digits(alarm.score)} at step {alarm.step}"
    why = ", ".join(filter(None, (alarm.why, alarm.appeal, "too late" if alarm.late else "")))
    reason = f" ({why})" if why else ""
    return f"{alarm.check}: {rang}, {where}. Wanted {alarm.wanted}, done {alarm.done}{reason}."


def _check(check: CheckRecord) -> Iterator[RenderableType]:
    yield prose(plain(
        f"{check.verifier} {check.verifier_version}, {check.signal}, a step is "
        f"{check.step_definition}: {check.steps} steps, {check.unknown} of them unknown, lowest "
        f"score {_digits(check.lowest)}"
    ), indent=2)  # fmt: skip
    promise = check.promise
    if promise is not None:
        yield prose(plain(promise.sentence), indent=2)
        delta = "" if promise.delta is None else f", delta {promise.delta:g}"
        yield prose(plain(
            f"alarm when {promise.statistic} {promise.comparison} lambda = "
            f"{_digits(promise.threshold)}; {promise.risk}, {promise.bound}, epsilon "
            f"{promise.epsilon:g}{delta}, n = {promise.n}, calibration {promise.calibration}"
        ), indent=2)  # fmt: skip
    elif check.alarm_below is not None:
        yield prose(f"alarm when a score is below {check.alarm_below:g}, which somebody chose: "
                    "no guarantee", indent=2)  # fmt: skip
    else:
        yield prose("rules: no threshold and no guarantee", indent=2)
    for i, path in enumerate(check.overruled, 1):
        yield Text(f"overruled {i}: {_path(path, promise)}")
    if check.path is not None:
        yield Text(_path(check.path, promise))


def _path(path: PathRecord, promise: Promise | None) -> str:
    if not path.steps:
        return "no scores"
    drawn = sparkline([None if s is None else float(s) for s in path.scores])
    before = f"step {path.checkpoint_step + 1} " if path.checkpoint_step else ""
    return (
        f"scores {before}{drawn} lowest {_digits(path.score_lowest)} at "
        f"{path.score_lowest_step or '-'} of {path.steps}; statistic up to "
        f"{_digits(path.statistic_highest)}"
        + ("" if promise is None else f", lambda {_digits(promise.threshold)}")
    )


def sparkline(scores: Sequence[float | None], width: int = _WIDTH) -> str:
    """Draw scores (safe-high) as a line of bars; each stands for the lowest of its stretch.

    Example:
        >>> sparkline([0.0, 0.5, 1.0, None])
        '▁▅█·'
    """
    finite = [s for s in scores if s is not None and math.isfinite(s)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    size = max(1, math.ceil(len(scores) / width))
    return "".join(_bar(scores[at : at + size], low, high) for at in range(0, len(scores), size))


def _bar(stretch: Sequence[float | None], low: float, high: float) -> str:
    known = [s for s in stretch if s is not None]
    if not known:
        return _GAP
    lowest = min(max(min(known), low), high)
    share = (lowest - low) / (high - low) if high > low else 0.0
    return _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)] if share == share else _GAP  # noqa: PLR0124 - NaN


def _channels(channels: Sequence[ChannelRecord]) -> RenderableType:
    rows = [
        [
            f"{c.kind} {c.choice}.{c.index}",
            str(c.received),
            str(c.scanned),
            str(c.shown),
            str(c.masked),
            str(c.withheld),
            c.shown_sha256[:_HASH_SHOWN],
            (c.withheld_sha256 or "-")[:_HASH_SHOWN],
        ]
        for c in channels
    ]
    columns = ["channel", "received", "checked", "shown", "masked", "withheld", "hash of shown",
               "of withheld"]  # fmt: skip
    return table("characters by channel", columns, rows)


def _period(entry: LogEntry) -> Iterator[RenderableType]:
    yield Text(plain(f"period {entry.id} of {entry.tenant}"), style="bold")
    rows = [
        [name, value if isinstance(value, str) else json.dumps(value)]
        for name, value in entry.content().items()
    ]
    yield grid("", [], rows)


def standing(recorded: Recorded, found: Verified | None) -> RenderableType:
    """Say how far any of it can be believed."""
    if found is not None:
        said = (
            f"Verified: it was recorded as entry {found.index} of the {found.size} of "
            f"{found.origin}, after event {found.entry.sequence}, and not changed since. That it "
            "was correct, no signature says."
        )
    elif recorded.form == "proof":
        said = "Not verified: give the public key of the log with --key."
    else:
        said = "Not verified, and it cannot be: this is no proof (.tlog-proof)."
    return Padding(prose(plain(said), style="green" if found else "yellow"), (1, 0, 0, 0))


def _digits(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.6g}"
