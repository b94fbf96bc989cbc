"""The benchmarks of Tocsin: `python3 dev.py bench [--quick] [--only NAME] [--json] [--save]`.

Ratios are taken within one run on one machine. Nothing here fails because something was slow.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence

import cascade
import clients
import evasion
import faults
import gateway
import history
import injection
import invariance
import leaks
import linear
import online
import patterns
import quality
import scale
import speed_pypi
import store
import validity
import verifiers
from common import Cell, Found, MissingDataError, Options, Row, load, machine, plain

BENCHMARKS: dict[str, tuple[Callable[[Options], Found], str]] = {
    "speed_pypi": (speed_pypi.run, "calibrate and evaluate one split, beside e-valuator 1.0.0"),
    "scale": (scale.run, "a million trajectories of a hundred steps: seconds and memory"),
    "online": (online.run, "one step of a session, at step 10 and at step 100,000"),
    "quality": (quality.run, "what each monitor detects at the same guarantee, on real scores"),
    "cascade": (cascade.run, "several verifiers as one, and a strong one at part of its cost"),
    "patterns": (patterns.run, "rules: time a token, hostile text, and other packages"),
    "linear": (linear.run, "the linear verifier beside TF-IDF, in the same folds, and its cost"),
    "verifiers": (verifiers.run, "each verifier on the data that suit it: worth and cost"),
    "invariance": (invariance.run, "chunk boundaries never matter: 20,000 generated streams"),
    "validity": (validity.run, "how much of delta and epsilon each bound leaves unused"),
    "evasion": (evasion.run, "how many obfuscated values are found in each normal form"),
    "injection": (injection.run, "what the injection classifier tells apart in tool results"),
    "history": (history.run, "questions over ten million events: traces, windows, a day"),
    "gateway": (gateway.run, "the gateway beside a raw pass-through: CPU, delay, memory, streams"),
    "clients": (clients.run, "what other people's checks of gateways say of ours"),
    "store": (store.run, "the record: acknowledged events a second, SQLite and PostgreSQL"),
    "faults": (faults.run, "what power cuts, kills and failing disks cost: nothing acknowledged"),
    "leaks": (leaks.run, "whether a forbidden word reaches the reader, past us and other guards"),
}


def main(argv: Sequence[str]) -> int:
    """Run the benchmarks asked for, print a table or one JSON object."""
    options, only, as_json = _parse(argv)
    start = machine()
    rows: list[Row] = []
    skipped: dict[str, list[str]] = {}
    if not as_json:
        print(_words(start))
    for name in only:
        began = time.perf_counter()
        try:
            found = BENCHMARKS[name][0](options)
        except MissingDataError as e:
            found = Found(skipped=[str(e)])
        seconds = time.perf_counter() - began
        rows += [
            {"benchmark": name, "table": table, **row}
            for table, content in found.tables.items()
            for row in content
        ]
        if found.skipped:
            skipped[name] = found.skipped
        if not as_json:
            _print(name, found, seconds)
    if as_json:
        told = {
            "machine": start,
            "load_1min_at_end": load(),
            "command": options.command,
            "quick": options.quick,
            "seed": options.seed,
            "skipped": skipped,
            "rows": rows,
        }
        print(json.dumps(plain(told), indent=1, allow_nan=False))
    return 0


def _parse(argv: Sequence[str]) -> tuple[Options, list[str], bool]:
    parser = argparse.ArgumentParser(
        prog="python3 dev.py bench",
        description="Benchmarks: " + "; ".join(f"{n}: {w}" for n, (_, w) in BENCHMARKS.items()),
    )
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), metavar="NAME",
                        help="one of them, may be repeated: " + ", ".join(BENCHMARKS))  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="less data, fewer repeats")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes for 'quality' (default: 1)")
    parser.add_argument("--save", action="store_true",
                        help="write result files, where a benchmark has any")  # fmt: skip
    given = parser.parse_args(argv)
    if given.save and given.quick:
        parser.error("--save keeps results that others read: leave --quick out")
    options = Options(
        quick=given.quick,
        seed=given.seed,
        jobs=given.jobs,
        save=given.save,
        command=shlex.join(["python3", "dev.py", "bench", *argv]),
    )
    return options, list(dict.fromkeys(given.only or BENCHMARKS)), given.json


def _words(start: dict[str, Cell]) -> str:
    return (
        f"{start['cpu']}, {start['cores']} cores, {start['memory_gib']} GiB, load "
        f"{start['load_1min']}; Python {start['python']}, NumPy {start['numpy']}, "
        f"Tocsin {start['tocsin']}"
    )


def _print(name: str, found: Found, seconds: float) -> None:
    print(f"\n{name}: {BENCHMARKS[name][1]} ({seconds:.0f} s)")
    for table, content in found.tables.items():
        if table not in found.hidden:
            print(f"\n  {table}")
            _print_table(content)
    for note in found.notes:
        print(f"  {note}")
    for reason in found.skipped:
        print(f"  SKIPPED: {reason}")


def _print_table(content: list[Row]) -> None:
    columns = list(dict.fromkeys(column for row in content for column in row))
    lines = [columns, *([_shown(row.get(column)) for column in columns] for row in content)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    left = [all(isinstance(row.get(c), str | None) for row in content) for c in columns]
    for line in lines:
        cells = (
            cell.ljust(width) if on_left else cell.rjust(width)
            for cell, width, on_left in zip(line, widths, left, strict=True)
        )
        print(("    " + "  ".join(cells)).rstrip())


def _shown(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
