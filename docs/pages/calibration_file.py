"""The page of the calibration file."""

from __future__ import annotations

from typing import Any

import msgspec

from pages.fields import kind_of, meaning_of
from pages.markdown import HEAD, cell, parse
from tocsin.risk.calibration import SCHEMA, Calibration

FILE_HEAD = f"""\
Schema `{SCHEMA}`: one JSON object in UTF-8, one top-level field on each line. It is data: nothing \
in it is executed. Signals are safe-high; a threshold is in the units of its statistic, so it is \
danger-high.

- A number that is infinite is written as the text `Infinity` or `-Infinity`.
- `digest` is the SHA-256 of the canonical JSON (sorted keys, no spaces) of every field but \
`digest` and `signature`. A file whose content has another digest is refused.
- `signature`, where there is one, is Ed25519 over `{SCHEMA}`, a line feed and the digest; see \
[how to sign](../how-to/sign-a-calibration.md).
"""


def calibration_page() -> str:
    """Return every field of a calibration file."""
    schema = msgspec.json.schema(Calibration)
    structs = _reachable(Calibration)
    parts = [
        "# Calibration file\n",
        FILE_HEAD,
    ]
    for name, definition in schema["$defs"].items():
        struct = structs[name]
        doc = parse(struct.__doc__)
        parts += [f"## {name}\n", doc.text + "\n", "| field | type | meaning |\n|---|---|---|"]
        for field, kind in definition["properties"].items():
            parts.append(
                f"| `{field}` | {cell(kind_of(kind))} | {cell(meaning_of(struct, field))} |"
            )
        parts.append("")
    return HEAD + "\n".join(parts)


def _reachable(root: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    """Structs that a struct holds, by name."""
    found: dict[str, type[msgspec.Struct]] = {}

    def visit(kind: Any) -> None:
        if isinstance(kind, msgspec.inspect.StructType) and kind.cls.__name__ not in found:
            found[kind.cls.__name__] = kind.cls
            for field in kind.fields:
                visit(field.type)
        for part in ("item_type", "value_type"):
            if hasattr(kind, part):
                visit(getattr(kind, part))
        for part in ("types", "item_types"):
            for inner in getattr(kind, part, ()):
                visit(inner)

    visit(msgspec.inspect.type_info(root))
    return found
