"""Writing to a terminal: hostile names made visible, tables, progress."""

from __future__ import annotations

import json
import math
import os
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH = "COLUMNS"
"""Variable that says how wide the terminal is, and so also how wide a file is to be."""

_PIPED_WIDTH, _NAME_MIN = 10_000, 10
"""Characters in a line of a table in a file, at most; of a name in a terminal, at least."""

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def plain(text: str) -> str:
    r"""Make control, bidirectional and other invisible characters visible, new lines kept.

    Names come from data files, and data files from models: they must not drive the terminal.

    Example:
        >>> plain("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in _HIDDEN else _escaped(c) for c in text
    )


def json_bytes(value: Any) -> bytes:
    r"""Encode as JSON with every character escaped that `plain` makes visible; the value is kept.

    Example:
        >>> json_bytes({"id": "a\x9b31m"})
        b'{"id":"a\\u009b31m"}'
    """
    raw = msgspec.json.encode(value)
    if raw.isascii() and b"\x7f" not in raw:
        return raw
    text = raw.decode()
    return (
        "".join(json.dumps(c)[1:-1] if unicodedata.category(c) in _HIDDEN else c for c in text)
        .replace("\x7f", "\\u007f")
        .encode()
    )


def _escaped(c: str) -> str:
    return c.encode("unicode_escape").decode("ascii")


def out() -> Console:
    """Return the console for results."""
    return Console(highlight=False, soft_wrap=False)


def lines() -> Console:
    """Return the console for tables of a record: in a file or a pipe, a row stays one line."""
    wide = None if _WIDTH in os.environ or sys.stdout.isatty() else _PIPED_WIDTH
    return Console(highlight=False, soft_wrap=False, width=wide)


def err() -> Console:
    """Return the console for progress and warnings."""
    return Console(stderr=True, highlight=False)


def prose(text: str, style: str = "", indent: int = 0) -> Text:
    """Text to be read, with no line break between a number and its percent sign."""
    kept = text.replace(" %", "\u00a0%")
    wrapped = textwrap.wrap(kept, out().width - indent, break_on_hyphens=False)
    return Text("\n".join(wrapped).replace("\u00a0", " "), style=style)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """Make a quiet table under its title: first column left, the others right.

    Where there is too little room, cells go on in the next line: nothing is cut.
    """
    made = Table(box=None, pad_edge=False)
    longest = max((cell_len(plain(row[0])) for row in rows if row), default=0)
    for i, column in enumerate(columns):
        made.add_column(
            Text(column),
            justify="left" if i == 0 else "right",
            header_style="bold",
            overflow="fold",
            min_width=min(longest, _NAME_MIN) if i == 0 else None,
        )
    for row in rows:
        made.add_row(*[Text(plain(cell)) for cell in row])
    return Group(Text(plain(title), style="italic"), made) if title else made


def number(value: float | None, digits: int = 3) -> str:
    """Format a number as people read it; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """Format a share as percent; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    return f"{100.0 * value:.1f} %"


def _nobody(_done: int, _total: int) -> None:
    pass


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr where that is a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield _nobody
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err(),
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
