# ruff: noqa: INP001, T201, S603, S607 - a script: it prints, and runs what our own pages say
"""Run the examples of the pages, and rewrite the outputs that are no longer true.

    python docs/examples.py                 all pages that have examples
    python docs/examples.py docs/tutorial.md

A block tagged ``bash run`` or ``python run`` is an example; a block tagged ``text output`` right
after it is what it prints. The tests run the same and fail where an output differs.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tocsin

DOCS = Path(__file__).resolve().parent
TOCSIN = Path(tocsin.__path__[0]).resolve().parent
"""Where this process has Tocsin from; shell examples use the same one."""

DATA = "TOCSIN_DATA"
"""The variable that names the folder of real data."""


@dataclass(frozen=True)
class Block:
    """One example of a page.

    Args:
        language: ``bash`` or ``python``.
        code: what is run.
        line: of the page, where it begins.
        expected: the output shown right after it, or None where none is shown.
        span: where the shown output lies in the page's text.
    """

    language: str
    code: str
    line: int
    expected: str | None
    span: tuple[int, int]


_BLOCK = re.compile(
    r"^```(?P<language>bash|python) run\n(?P<code>.*?)^```\n"
    r"(?:\n*^```text output\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


_DIGEST = re.compile(r"sha256:(?:[0-9a-f]{64}|\.\.\.)")


def blocks(text: str) -> list[Block]:
    """Return the examples of a page, in order."""
    return [
        Block(m["language"], m["code"], text[: m.start()].count("\n") + 1, m["output"],
              m.span("output"))
        for m in _BLOCK.finditer(text)
    ]  # fmt: skip


def needs_data(text: str) -> bool:
    """Whether a page's examples read the real data that `TOCSIN_DATA` names."""
    return any(DATA in block.code for block in blocks(text))


def run(page: Path, folder: Path) -> Iterator[tuple[Block, str]]:
    """Run the examples of a page in a folder; yield each with its output.

    Shell blocks run by bash, which stops at the first failure, with this environment's commands
    first on the path; Python blocks share one namespace in this process.
    """
    namespace: dict[str, Any] = {"__name__": "example"}
    text = page.read_text(encoding="utf-8")
    with contextlib.chdir(folder), _environment(data=needs_data(text)):
        for block in blocks(text):
            if block.language == "python":
                written = io.StringIO()
                code = compile(block.code, f"{page.name}:{block.line}", "exec")
                with contextlib.redirect_stdout(written):
                    exec(code, namespace)  # noqa: S102 - a page of ours
                yield block, written.getvalue()
                continue
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            output = done.stdout.decode()
            if done.returncode:
                msg = f"{page.name}:{block.line}: status {done.returncode}\n{output}"
                raise RuntimeError(msg)
            yield block, output


@contextlib.contextmanager
def _environment(*, data: bool) -> Iterator[None]:
    """Set what decides how output looks, and put it back."""
    before = dict(os.environ)
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", *(() if data else (DATA,))):
        os.environ.pop(name, None)
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), before.get("PATH", "")])
    os.environ["PYTHONPATH"] = str(TOCSIN)
    os.environ |= {"COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def same(expected: str, output: str) -> bool:
    """Tell whether an output is the one shown.

    Trailing space does not count. ``...`` in a line stands for anything within that line; a line
    that is ``...`` alone stands for any lines.
    """
    pattern = ""
    for line in _trimmed(expected):
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.split("...")) + r"\n"
    text = "".join(f"{line}\n" for line in _trimmed(output))
    return re.fullmatch(pattern, text) is not None


def _trimmed(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def examples() -> list[Path]:
    """Return the pages that hold examples to run."""
    pages = [
        DOCS / "tutorial.md",
        DOCS / "tutorial-text.md",
        *sorted((DOCS / "how-to").glob("*.md")),
    ]
    return [p for p in pages if p.is_file() and blocks(p.read_text(encoding="utf-8"))]


def rewrite_outputs(page: Path) -> list[str]:
    """Replace the outputs of a page that are no longer true; say which, and what was lost."""
    with tempfile.TemporaryDirectory() as folder:
        done = list(run(page, Path(folder)))
    text = page.read_text(encoding="utf-8")
    changed = []
    for block, output in reversed(done):
        if block.expected is None or same(block.expected, output):
            continue
        new = "".join(f"{line}\n" for line in _trimmed(_DIGEST.sub("sha256:...", output)))
        text = text[: block.span[0]] + new + text[block.span[1] :]
        lost = ": put its ... back by hand" if "..." in _DIGEST.sub("", block.expected) else ""
        changed.append(f"{page.relative_to(DOCS.parent).as_posix()}:{block.line}: rewritten{lost}")
    page.write_text(text, encoding="utf-8")
    return changed[::-1]


def main(argv: list[str]) -> int:
    """Rewrite the outputs of the pages named, or of all."""
    for page in [Path(name).resolve() for name in argv] or examples():
        if needs_data(page.read_text(encoding="utf-8")) and not os.environ.get(DATA):
            print(f"{page.name}: left alone, it needs {DATA}")
            continue
        for line in rewrite_outputs(page):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
