# ruff: noqa: INP001 - a script
"""Draw docs/images/demo.svg: what `tocsin serve --demo` shows.

python docs/picture.py
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

from tocsin.cli.serve_demo import demo

PLACE = Path(__file__).resolve().parent / "images" / "demo.svg"
WIDTH = 96
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code", "ui-monospace, Menlo, Consolas"
)
"""Rich's own, without fonts from somewhere else."""


def main() -> int:
    """Run the demonstration, and keep what it showed."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(file=nowhere, record=True, width=WIDTH, highlight=False)
        status = demo(8080, once=True, speed=20.0, console=console, live=False)
    console.save_svg(
        str(PLACE),
        title="tocsin serve --demo",
        theme=MONOKAI,
        code_format=FORMAT,
        unique_id="demo",
    )
    return status


if __name__ == "__main__":
    sys.exit(main())
