"""The documentation is true: examples run, generated pages are fresh, links lead somewhere."""

import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import click
import pytest

import tocsin
from tocsin.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").is_dir(), reason="this copy of the tree has no documentation"
)


def load(path: str) -> types.ModuleType:
    """Import a script of the repository that is no part of the package."""
    name = f"_docs_test_{Path(path).stem}"
    if name not in sys.modules:
        folder = str((ROOT / path).parent)
        if folder not in sys.path:  # a script finds what lies beside it
            sys.path.append(folder)
        spec = importlib.util.spec_from_file_location(name, ROOT / path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def pages() -> list[Path]:
    folders = ("docs", "benchmarks")
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.md"))
    return [*sorted(ROOT.glob("*.md")), *sorted(found)]


def tracked() -> list[Path]:
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git repository")
    return [ROOT / name for name in listing.decode().split("\0") if name]


def named(page: object) -> str:
    return page.relative_to(ROOT).as_posix() if isinstance(page, Path) else str(page)


WITH_EXAMPLES = [p for p in pages() if " run\n" in p.read_text(encoding="utf-8")]


# ------------------------------------------------------------------------------ generated pages


def test_generated_pages_are_what_the_code_says_now() -> None:
    assert load("docs/generate.py").stale() == []


def test_every_command_has_its_help_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    for name in cli.list_commands(click.Context(cli)):
        assert f"## tocsin {name}\n" in text


def test_every_public_name_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    for name in tocsin.__all__:
        assert f"### {name}\n" in text or f"## tocsin.{name}\n" in text


# ------------------------------------------------------------------------------------- examples


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=named)
def test_the_examples_of_a_page_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    examples = load("docs/examples.py")
    if examples.needs_data(page.read_text(encoding="utf-8")) and not os.environ.get("TOCSIN_DATA"):
        pytest.skip("set TOCSIN_DATA to the folder of real data to run this page")
    for block, output in examples.run(page, tmp_path):
        if block.expected is not None:
            assert examples.same(block.expected, output), (
                f"{named(page)}:{block.line}: the output is now\n\n{output}\n"
                f"instead of\n\n{block.expected}\n"
                "If that is right: python docs/examples.py"
            )


def test_the_pages_that_must_be_executed_have_examples() -> None:
    assert {
        "docs/tutorial.md",
        "docs/how-to/choose-a-bound.md",
        "docs/how-to/defend-a-threshold.md",
        "docs/how-to/groups-and-segments.md",
        "docs/how-to/missing-scores.md",
        "docs/how-to/sign-a-calibration.md",
    } <= {named(p) for p in WITH_EXAMPLES}


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=named)
def test_every_output_shown_belongs_to_an_example(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = load("docs/examples.py").blocks(text)
    assert len(found) == len(re.findall(r"^```\w+ run$", text, re.MULTILINE))
    assert sum(b.expected is not None for b in found) == text.count("\n```text output\n")


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        ("a\n", "a  \n\n", True),
        ("a\n", "b\n", False),
        ("a ... c\n", "a b c\n", True),
        ("a ... c\n", "a b\nc\n", False),
        ("...\nc\n", "a\nb\nc\n", True),
        ("a\n...\n", "a\n", True),
        ("a.c\n", "abc\n", False),
        ("a\n", "a\nb\n", False),
        ("\na\n", "a\n", False),
    ],
)
def test_dots_stand_for_what_varies_and_nothing_else(shown: str, output: str, same: bool) -> None:
    assert load("docs/examples.py").same(shown, output) is same


# ----------------------------------------------------------------------------------- docstrings


def test_every_module_says_what_it_is() -> None:
    names = {m.name for m in pkgutil.walk_packages(tocsin.__path__, "tocsin.")}
    # Alembic runs env.py in a context of its own; it cannot be imported.
    names -= {"tocsin.__main__", "tocsin.store.migrations.env"}
    modules = [tocsin, *(importlib.import_module(name) for name in sorted(names))]
    assert len(modules) > 40
    assert [m.__name__ for m in modules if not (m.__doc__ or "").strip()] == []


PROPERTY_OF_A_CLASS = (types.FunctionType, property)


def members(thing: type) -> dict[str, Any]:
    return {
        name: member
        for name, member in vars(thing).items()
        if not name.startswith("_") and isinstance(member, PROPERTY_OF_A_CLASS)
    }


@pytest.mark.parametrize("name", tocsin.__all__)
def test_every_public_name_explains_itself(name: str) -> None:
    thing = getattr(tocsin, name)
    text = (thing.__doc__ or "").strip()
    assert text
    if isinstance(thing, type):
        assert [n for n, m in members(thing).items() if not (m.__doc__ or "").strip()] == []
        return
    if not isinstance(thing, types.ModuleType):
        assert re.search(r"^ *(Args|Example):$", text, re.MULTILINE)


def commands() -> list[click.Command]:
    context = click.Context(cli)
    found = [cli.get_command(context, name) for name in cli.list_commands(context)]
    return [c for c in found if c is not None]


@pytest.mark.parametrize("command", commands(), ids=lambda c: c.name)
def test_every_option_has_help(command: click.Command) -> None:
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert command.help
    assert [o.name for o in options if not o.help] == []


# ---------------------------------------------------------------------------------------- links

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as they are made on code-hosting platforms."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name) if name else page
        found = place.exists()
        if found and anchor and place.suffix == ".md":
            found = anchor in anchors(place)
        if not found:
            broken.append(target)
    assert broken == []


def test_no_file_names_a_path_of_one_machine() -> None:
    pattern = load("dev.py").MACHINE_PATH
    found = []
    for path in tracked():
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" in content:
            continue
        lines = content.decode(errors="replace").splitlines()
        found += [f"{named(path)}:{i}" for i, line in enumerate(lines, 1) if pattern.search(line)]
    assert found == []
