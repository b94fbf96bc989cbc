"""The JSON Schema of configurations, for editors; its descriptions are the structs' docstrings."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import msgspec

from tocsin.gateway import config
from tocsin.gateway.config import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""What the schema is written in."""

_ENTRY = re.compile(r"^    ([a-z_][a-z_, ]*): (.*)$")
_NAMES_IN_FILE = {"passed": "pass"}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration.

    Example:
        >>> sorted(schema()["$defs"]["FallbackConfig"]["properties"])
        ['model', 'upstream']
    """
    made: dict[str, Any] = msgspec.json.schema(Config)
    for name, definition in made["$defs"].items():
        head, meanings = _documented(getattr(config, name))
        definition["description"] = head
        for field, said in meanings.items():
            definition["properties"][_NAMES_IN_FILE.get(field, field)]["description"] = said
    return {"$schema": DIALECT, "title": "Configuration of the Tocsin gateway", **made}


def schema_text() -> str:
    """Return the JSON Schema as text, with a line feed at its end."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _documented(struct: type) -> tuple[str, dict[str, str]]:
    """Take a docstring apart: its text, and the meaning of each argument, bases' included."""
    meanings: dict[str, str] = {}
    for cls in reversed(struct.__mro__):
        if issubclass(cls, msgspec.Struct) and cls.__module__ == struct.__module__:
            meanings |= _arguments(inspect.cleandoc(cls.__doc__ or ""))
    text = inspect.cleandoc(struct.__doc__ or "").partition("\nArgs:")[0]
    return _plain(text), {name: _plain(said) for name, said in meanings.items()}


def _arguments(docstring: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for line in docstring.partition("\nArgs:\n")[2].splitlines():
        if match := _ENTRY.match(line):
            found[match[1]] = [match[2]]
        elif line.strip() and found:
            found[next(reversed(found))].append(line.strip())
    return {name: " ".join(words) for names, words in found.items() for name in names.split(", ")}


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
