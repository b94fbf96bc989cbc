"""Does a forbidden word reach the reader, past us and past other guards?

A scripted model says a word that is forbidden, on three APIs, in each channel, cut in every way,
and the official SDKs read through each guard. A leak is the whole word in what the reader has got
by the end, whatever comes afterwards; parts of it are counted apart. Other packages go into
environments of their own (see leaks_peers.py); where that fails, the table says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import leaks_cells
import leaks_peers
import leaks_reader
from common import Cell, Found, Options, Row, load, machine, plain, say
from leaks_cells import Case, Verdict
from leaks_peers import CannotStartError, Guard, Setting

from tocsin.testing.fake_model import FakeModel, Reply

RESULTS = Path(__file__).with_name("results") / "leaks.json"
ENVIRONMENTS = "TOCSIN_BENCH_ENVIRONMENTS"
"""Names a folder in which the environments of other packages are kept between runs."""

LIBRARY_S = 1_200
_PROBE = re.compile(leaks_reader.PROMPT.format(r"([a-z]\d*)").encode())


class Model(FakeModel):
    """The scripted model: a request names its probe."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        super().__init__(lambda exchange: self.replies[_named(exchange.raw)])

    def add(self, name: str, reply: Reply) -> str:
        """Say this to requests that name the probe."""
        self.replies[name] = reply
        return name

    def add_long(self) -> None:
        """Say what shows how much is held back, and what takes long."""
        self.add("p", leaks_cells.paced())
        for tokens in leaks_cells.CPU_TOKENS:
            self.add(f"l{tokens}", leaks_cells.lasting(tokens))


def _named(raw: bytes) -> str:
    found = _PROBE.search(raw)
    return found.group(1).decode() if found else "none"


def run(options: Options) -> Found:
    """Probe each setting that can be started here."""
    found = Found(hidden=frozenset({"cells", "errors"}))
    kept = os.environ.get(ENVIRONMENTS)
    verdicts: list[tuple[Setting, Verdict]] = []
    speed: list[Row] = []
    with leaks_peers.scratch() as scratch:
        root = Path(kept or scratch)
        raw = _raw(Path(scratch), options)
        speed.append({"who": "aiohttp pass-through", "setting": "raw", **raw, **_times(raw, raw)})
        for setting in leaks_peers.settings(root):
            say(f"leaks: {setting.who}, {setting.how}, {setting.action}")
            try:
                judged, row = _probe(setting, options, Path(scratch))
            except CannotStartError as e:
                found.skipped.append(f"{setting.who}, {setting.how}: {e}")
                continue
            verdicts += [(setting, verdict) for verdict in judged]
            speed.append(row | _times(row, raw))
    found.tables["whole word leaked, streamed"] = _matrix(verdicts, stream=True)
    found.tables["whole word leaked, not streamed"] = _matrix(verdicts, stream=False)
    found.tables["endings and partial leaks, streamed"] = _endings(verdicts)
    found.tables["hold-back and processor time"] = speed
    found.tables["cells"] = _groups(verdicts)
    found.tables["errors"] = _errors(verdicts)
    found.notes += _notes(verdicts)
    found.notes += _markdown(found)
    if options.save:
        _save(found, options)
    return found


def _times(row: Row, raw: Row) -> Row:
    """Compare processor time with that of the pass-through, at each length."""
    told: Row = {}
    for tokens in leaks_cells.CPU_TOKENS:
        mine, least = row.get(_us(tokens)), raw[_us(tokens)]
        if isinstance(mine, float) and isinstance(least, float):
            told[f"times raw, {tokens:,} tokens"] = mine / least
    return told


# ------------------------------------------------------------------------------------- one setting


def _probe(setting: Setting, options: Options, scratch: Path) -> tuple[list[Verdict], Row]:
    cases = list(leaks_cells.cases(setting.apis, quick=options.quick))
    folder = Path(tempfile.mkdtemp(dir=scratch))
    with Model() as model:
        names = [model.add(f"c{i}", leaks_cells.reply(case)) for i, case in enumerate(cases)]
        model.add_long()
        with setting.start(folder, model.url, leaks_cells.WORDS) as guard:
            ask = _inside if setting.library else _outside
            got, row = ask(guard, cases, names, folder, 1 if options.quick else 2)
    judged = [leaks_cells.judge(case, one) for case, one in zip(cases, got, strict=True)]
    return judged, {"who": setting.who, "setting": setting.how, "action": setting.action, **row}


def _asked(case: Case, name: str) -> dict[str, Any]:
    tools = case.channel == "tool arguments"
    named = "fake-claude" if case.api == "messages" else leaks_reader.MODEL
    return leaks_reader.request(case.api, name, tools=tools, choices=case.choices, model=named)


def _outside(
    guard: Guard, cases: Sequence[Case], names: Sequence[str], folder: Path, repeats: int
) -> tuple[list[dict[str, Any]], Row]:
    """Read through a server."""
    del folder

    async def reading() -> tuple[list[dict[str, Any]], Row]:
        clients = leaks_reader.clients(guard.url, leaks_peers.KEY)
        got = [
            await leaks_reader.read(
                clients[case.api], case.api, _asked(case, name), stream=case.stream
            )
            for case, name in zip(cases, names, strict=True)
        ]
        long = Case("chat", "text", 1, stream=True)
        row: Row = {}
        for api in dict.fromkeys(case.api for case in cases):
            paced = _asked(Case(api, "text", 1, stream=True), "p")
            arrivals = (await leaks_reader.read(clients[api], api, paced, stream=True))["arrivals"]
            row[_held(api)] = leaks_cells.held_chars(arrivals)
        for tokens in leaks_cells.CPU_TOKENS:
            spent_s = []
            for _ in range(repeats):
                before_s = _cpu_s(guard.pid)
                asked = _asked(long, f"l{tokens}")
                await leaks_reader.read(clients["chat"], "chat", asked, stream=True)
                spent_s.append(_cpu_s(guard.pid) - before_s)
            row[_us(tokens)] = 1e6 * min(spent_s) / tokens
        for client in clients.values():
            await client.close()
        return got, row

    return asyncio.run(reading())


def _inside(
    guard: Guard, cases: Sequence[Case], names: Sequence[str], folder: Path, repeats: int
) -> tuple[list[dict[str, Any]], Row]:
    """Read through a library, in a process of its environment."""
    long = Case("chat", "text", 1, stream=True)
    paced = [Case(api, "text", 1, stream=True) for api in dict.fromkeys(c.api for c in cases)]
    calls = [
        {"api": case.api, "asked": _asked(case, name), "stream": case.stream}
        for case, name in [*zip(cases, names, strict=True), *((case, "p") for case in paced)]
    ]
    asked = {
        "url": guard.url,
        "config": str(folder / "config.json"),
        "calls": calls,
        "cpu": {
            "asked": [_asked(long, f"l{tokens}") for tokens in leaks_cells.CPU_TOKENS],
            "runs": repeats,
        },
    }
    script = str(Path(__file__).with_name("leaks_inprocess.py"))
    try:
        done = subprocess.run(
            [guard.python, script], input=json.dumps(asked), capture_output=True, text=True,
            check=True, timeout=LIBRARY_S, env=os.environ | leaks_peers.QUIET,
        )  # fmt: skip
        told = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as e:
        last = (getattr(e, "stderr", "") or str(e)).strip().splitlines()[-1:]
        raise CannotStartError(" ".join(last)[:300]) from None
    got, held = told["results"][: len(cases)], told["results"][len(cases) :]
    row: Row = {
        _held(case.api): leaks_cells.held_chars(one["arrivals"])
        for case, one in zip(paced, held, strict=True)
    }
    both_s = zip(told["cpu_s"]["guarded"], told["cpu_s"]["plain"], strict=True)
    for tokens, (guarded_s, plain_s) in zip(leaks_cells.CPU_TOKENS, both_s, strict=True):
        # Less than what the clock can tell is nothing.
        row[_us(tokens)] = 1e6 * max(0.0, guarded_s - plain_s) / tokens
    return got, row


def _held(api: str) -> str:
    return f"held back in {api}, chars"


def _us(tokens: int) -> str:
    return f"us a token, {tokens:,} tokens"


def _raw(scratch: Path, options: Options) -> Row:
    """Measure the processor time of a pass-through."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    with Model() as model:
        model.add_long()
        with leaks_peers.start_raw(folder, model.url, ()) as guard:
            return _outside(guard, [], [], folder, 1 if options.quick else 3)[1]


def _cpu_s(pid: int) -> float:
    """Processor time of a process and its children, in seconds."""
    ticks = 0
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


# ----------------------------------------------------------------------------------------- tables


def _column(api: str, channel: str, choices: int) -> str:
    return f"{api} {channel}" + (f", n={choices}" if choices > 1 else "")


_COLUMNS = [
    _column(api, channel, choices)
    for api, channels in leaks_cells.CHANNELS.items()
    for channel, choices in channels
]

Pairs = Iterable[tuple[Setting, Verdict]]


def _by_setting(verdicts: Pairs) -> dict[tuple[str, str, str], list[Verdict]]:
    grouped: dict[tuple[str, str, str], list[Verdict]] = {}
    for setting, verdict in verdicts:
        grouped.setdefault((setting.who, setting.how, setting.action), []).append(verdict)
    return grouped


def _matrix(verdicts: Pairs, *, stream: bool) -> list[Row]:
    """Cells in which the whole word leaked, of all; or what becomes of harmless text there."""
    rows: list[Row] = []
    for (who, how, action), all_of_it in _by_setting(verdicts).items():
        row: Row = {"who": who, "setting": how, "action": action}
        row |= dict.fromkeys(_COLUMNS, "not offered")
        for api, channels in leaks_cells.CHANNELS.items():
            for channel, choices in channels:
                mine = [v for v in all_of_it if v.case.group == (api, channel, choices, stream)]
                if mine:
                    row[_column(api, channel, choices)] = _counted(mine)
        rows.append(row)
    return rows


def _counted(mine: list[Verdict]) -> str:
    control = next(v for v in mine if not v.case.word)
    tried = [v for v in mine if v.case.word]
    leaks = sum(v.whole for v in tried)
    if not leaks and not control.arrived:
        return {"refused": "refused", "raised": "broken"}.get(control.ending, "dropped")
    return f"{leaks}/{len(tried)}"


def _endings(verdicts: Pairs) -> list[Row]:
    """How streams ended, those in which the guard did nothing left out; and parts of the word."""
    rows: list[Row] = []
    for (who, how, action), all_of_it in _by_setting(verdicts).items():
        tried = [v for v in all_of_it if v.case.word and v.case.stream]
        controls = {v.case.group: v for v in all_of_it if not v.case.word}
        unseen = [
            v for v in tried if v.whole and v.rest and v.ending == controls[v.case.group].ending
        ]
        acted = [v for v in tried if v not in unseen and v.case.group in _carried(all_of_it)]
        ends = Counter(v.ending for v in acted)
        harmless = [v for v in controls.values() if v.case.stream and v.arrived]
        rows.append(
            {
                "who": who,
                "setting": how,
                "action": action,
                "streams": len(tried),
                "not acted on": len(unseen),
                "acted on": len(acted),
                "shown first": sum(v.whole for v in acted),
                "part shown": sum(v.leaked > 0 and not v.whole for v in acted),
                "most of a part, chars": max((v.leaked for v in acted if not v.whole), default=0),
                "valid end": ends["valid"],
                "refused at once": ends["refused"],
                "raised in mid-stream": ends["raised"],
                "cut off": ends["cut"],
                "harmless that end validly": f"{sum(v.ending == 'valid' for v in harmless)}"
                f"/{len(harmless)}",
                "rest kept": sum(v.rest for v in acted),
                "error names the word": sum(v.named for v in acted),
            }
        )
    return rows


def _carried(verdicts: Iterable[Verdict]) -> set[tuple[str, str, int, bool]]:
    return {v.case.group for v in verdicts if not v.case.word and v.arrived}


def _groups(verdicts: Pairs) -> list[Row]:
    """Count what came of the cells of each channel, for the JSON."""
    rows: list[Row] = []
    for (who, how, action), all_of_it in _by_setting(verdicts).items():
        for group in dict.fromkeys(v.case.group for v in all_of_it):
            mine = [v for v in all_of_it if v.case.group == group]
            tried = [v for v in mine if v.case.word]
            api, channel, choices, stream = group
            rows.append(
                {
                    "who": who,
                    "setting": how,
                    "action": action,
                    "api": api,
                    "channel": channel,
                    "choices": choices,
                    "stream": "yes" if stream else "no",
                    "harmless": next(
                        v.ending if v.arrived else f"not there, {v.ending}"
                        for v in mine
                        if not v.case.word
                    ),
                    "cells": len(tried),
                    "whole": sum(v.whole for v in tried),
                    "part": sum(v.leaked > 0 and not v.whole for v in tried),
                    "rest kept": sum(v.rest for v in tried),
                    **Counter(v.ending for v in tried),
                    "leaked from": " ".join(_place(v.case) for v in tried if v.whole),
                }
            )
    return rows


def _place(case: Case) -> str:
    """Name a cell: characters of the word, tokens before it, its pieces, bytes of a write."""
    return f"{len(case.word)}/{case.before}/{case.cut}/{case.wire_bytes}"


def _errors(verdicts: Pairs) -> list[Row]:
    """One example of each kind of error."""
    seen: dict[tuple[str, ...], Row] = {}
    for setting, verdict in verdicts:
        if not verdict.error:
            continue
        row: Row = {
            "who": setting.who,
            "setting": setting.how,
            "action": setting.action,
            "api": verdict.case.api,
            "channel": verdict.case.channel,
            "harmless": "no" if verdict.case.word else "yes",
            "ending": verdict.ending,
            "error": verdict.error,
        }
        key = (setting.who, setting.how, setting.action, verdict.case.api, verdict.ending)
        seen.setdefault((*key, verdict.error[:60]), row)
    return list(seen.values())


def _wire_note(verdicts: Pairs) -> str:
    """Say who misses a word where each frame comes in two writes, but not where it comes whole."""
    missed: Counter[str] = Counter()
    for setting, all_of_it in _by_setting(verdicts).items():
        for group in {v.case.group for v in all_of_it}:
            mine = [v for v in all_of_it if v.case.group == group and v.case.word]
            cut = sum(v.whole for v in mine if v.case.wire_bytes)
            if cut and not any(v.whole for v in mine if not v.case.wire_bytes):
                missed[f"{', '.join(setting)}: {_column(*group[:3])}"] += cut
    told = "; ".join(f"{name} ({count})" for name, count in sorted(missed.items())) or "none"
    return f"leaks only where each frame comes in two writes: {told}"


def _notes(verdicts: list[tuple[Setting, Verdict]]) -> list[str]:
    short, long = (len(word) for word in leaks_cells.WORDS)
    held = sum(map(len, leaks_cells.filler(leaks_cells.PAUSE_AFTER)))
    return [
        "leaked: the whole word in one text that the reader has got, whatever comes afterwards",
        (
            "dropped: harmless text of that channel does not arrive either; refused: the request "
            "is answered with an error; broken: the SDK cannot read the stream"
        ),
        "n=2: the word stands in the second choice; reasoning in chat is `reasoning_content`",
        "not acted on: all was delivered as a harmless answer is; the rest is counted as acted on",
        f"words of {short} and {long} characters; {len(verdicts):,} answers read; load {load()}",
        _wire_note(verdicts),
        (
            "processor time: of the guard's process, chat, a token each millisecond; what "
            "openai-guardrails adds to its client, for it has no process of its own"
        ),
        f"held back: of {held:,} harmless characters, those not shown while the model pauses",
        (
            "NeMo Guardrails offers chat only; its rails that mask need a model from a hub, and "
            "are left out. openai-guardrails masks input only, as its documentation says."
        ),
        *(
            f"{peer}: installed with {', '.join(leaks_peers.RELAXED[peer])}: the index lags behind"
            for peer in leaks_peers.PINS
            if leaks_peers.relaxed(peer)
        ),
    ]


# -------------------------------------------------------------------------------------- the README


def _markdown(found: Found) -> list[str]:
    """Give the tables as the README has them; the matrices turned, a setting to a column."""
    lines: list[str] = []
    for name in [name for name in found.tables if name not in found.hidden]:
        rows = found.tables[name]
        if name.startswith("whole word"):
            rows = [
                {"": column, **{_head(row): row[column] for row in rows}} for column in _COLUMNS
            ]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines += ["", f"**{name}**", "", "| " + " | ".join(columns) + " |"]
        lines += ["|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(_text(row.get(c)) for c in columns) + " |" for row in rows]
    return lines


def _head(row: Row) -> str:
    return f"{row['who']}, {row['setting']}, {row['action']}"


def _text(value: Cell) -> str:
    if value is None:
        return "–"
    return f"{value:,.3g}" if isinstance(value, float) else str(value)


def _save(found: Found, options: Options) -> None:
    told = {
        "machine": machine(),
        "command": options.command,
        "skipped": found.skipped,
        "notes": [note for note in found.notes if note and not note.startswith(("|", "**"))],
        "tables": found.tables,
    }
    RESULTS.write_text(json.dumps(plain(told), indent=1) + "\n", encoding="utf-8")
