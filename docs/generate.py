# ruff: noqa: INP001, T201 - a script, which prints
"""Generate the reference pages, and the generated regions of other pages.

    python docs/generate.py             rewrite them
    python docs/generate.py --check     exit 1 and name what is stale

The tests run the second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from pages.api import api_page
from pages.calibration_file import calibration_page
from pages.cli import cli_page
from pages.events import events_page
from pages.failures import failures_page
from pages.gateway_config import gateway_page

from tocsin.events.schema import schema_text as event_schema_text
from tocsin.gateway.schema import schema_text
from tocsin.model import BOUNDS
from tocsin.risk.guarantee import planning_table

DOCS = Path(__file__).resolve().parent


def planning() -> str:
    """Return how many trajectories each bound needs, as a table."""
    rows = ["| ε | δ | bound | smallest n | rate there | n for .8 ε | n for .9 ε |"]
    rows.append("|---|---|---|--:|--:|--:|--:|")
    for epsilon, delta in ((0.01, 0.1), (0.05, 0.1), (0.1, 0.1), (0.1, 0.01), (0.2, 0.1)):
        for bound in BOUNDS:
            if bound == "crc" and delta != 0.1:
                continue
            first, _, loose, tight = planning_table(bound, epsilon, delta)
            shown = "" if bound == "crc" else f"{delta:g}"
            rate = f"{100.0 * first['expected_rate']:.1f} %"
            rows.append(
                f"| {epsilon:g} | {shown} | `{bound}` | {first['n']} | {rate} "
                f"| {loose['n']} | {tight['n']} |"
            )
    return "\n".join(rows)


REGIONS: dict[str, tuple[str, Callable[[], str]]] = {
    "how-to/choose-a-bound.md": ("planning", planning),
}
"""By page, the name of its generated region and what fills it."""

PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/api.md": api_page,
    "reference/calibration-file.md": calibration_page,
    "reference/gateway-config.md": gateway_page,
    "reference/gateway-config.schema.json": schema_text,
    "reference/events.md": events_page,
    "reference/event.schema.json": event_schema_text,
    "reference/failures.md": failures_page,
}


def fresh() -> Iterator[tuple[Path, str]]:
    """Yield each page with generated content, and what it should say."""
    for name, make in PAGES.items():
        yield DOCS / name, make().rstrip("\n") + "\n"
    for name, (region, make) in REGIONS.items():
        path = DOCS / name
        start, end = f"<!-- generated: {region} -->", "<!-- end -->"
        before, found, rest = path.read_text(encoding="utf-8").partition(start)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            sys.exit(f"docs/{name}: the markers {start} and {end} are missing")
        yield path, f"{before}{start}\n\n{make()}\n\n{end}{after}"


def stale() -> list[str]:
    """Name the pages whose generated content is not what it should be."""
    return [
        path.relative_to(DOCS.parent).as_posix()
        for path, text in fresh()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(argv: list[str]) -> int:
    """Do what the one option says."""
    if argv == ["--check"]:
        old = stale()
        for name in old:
            print(f"stale: {name} (python docs/generate.py)")
        return 1 if old else 0
    if argv:
        print(__doc__)
        return 2
    for path, text in fresh():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
