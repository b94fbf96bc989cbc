"""The page of the configuration of the gateway."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from pages.fields import default_of, kind_of, meaning_of
from pages.markdown import HEAD, cell, parse
from tocsin.gateway.config import Config
from tocsin.policy.failures import FAILURES

GATEWAY_HEAD = """\
The file of `tocsin serve CONFIG` and `tocsin check CONFIG`: YAML or TOML, by the ending of its \
name. For editors there is a [JSON Schema](gateway-config.schema.json), which `tocsin check \
--schema` prints; [how to write one](../how-to/gateway-config.md) shows whole files.

- A key that is not listed here is an error, and so is one that stands twice. Everything that is \
wrong is told at once, with its line.
- `${NAME}` and `${NAME:-default}` are replaced from the environment, and `$$` is a dollar sign, \
in `listen.host`, `record.store`, `record.keys`, the `url`, `key` and `headers` of upstreams, \
and the `keys` of tenants. Elsewhere they are refused. What was put in is never shown and is in \
no digest.
- Files that are named lie beside the file that names them.
- YAML is read strictly: only `true` and `false` are booleans (`no` and `on` are refused), numbers \
are plain decimal ones (`012`, `0x1f` and `12:30` are refused), merging with `<<` is not \
supported. Quotes make a text of anything.
- A policy's digest is the SHA-256 of its content in canonical JSON, with the names and versions \
of its verifiers and the digests of its calibrations in the place of their files.
"""


def gateway_page() -> str:
    """Return every key of a configuration of the gateway, from the top down."""
    definitions = msgspec.json.schema(Config)["$defs"]
    places = _places(Config)
    parts = ["# Configuration of the gateway\n", GATEWAY_HEAD]
    for struct, (where, more) in places.items():
        parts += [f"## {where}\n", parse(struct.__doc__).text + "\n"]
        if more:
            parts.append(f"The same stands in {', '.join(f'`{m}`' for m in more)}.\n")
        parts.append("| key | value | default | meaning |\n|---|---|---|---|")
        properties = definitions[struct.__name__]["properties"]
        for field in msgspec.structs.fields(struct):
            kind = _config_kind(properties[field.encode_name], places)
            meaning = meaning_of(struct, field.name)
            cells = [f"`{field.encode_name}`", kind, default_of(field), meaning]
            parts.append(f"| {' | '.join(cell(c) for c in cells)} |")
        parts.append("")
    return HEAD + "\n".join(parts)


def _places(root: type[msgspec.Struct]) -> dict[type[msgspec.Struct], tuple[str, list[str]]]:
    """Say where each struct stands, first and else, from the top down."""
    found: dict[type[msgspec.Struct], tuple[str, list[str]]] = {root: ("The file", [])}

    def visit(kind: Any, where: str) -> None:
        if isinstance(kind, msgspec.inspect.StructType):
            if kind.cls in found and kind.cls is not root:
                found[kind.cls][1].append(where)
                return
            found.setdefault(kind.cls, (where, []))
            for field in kind.fields:
                visit(field.type, f"{where}.{field.encode_name}".lstrip("."))
        elif isinstance(kind, msgspec.inspect.DictType):
            visit(kind.value_type, f"{where}.NAME")
        elif isinstance(kind, msgspec.inspect.VarTupleType):
            visit(kind.item_type, f"{where}[]")
        elif isinstance(kind, msgspec.inspect.UnionType):
            for inner in kind.types:
                visit(inner, where)

    visit(msgspec.inspect.type_info(root), "")
    return found


def _config_kind(
    schema: dict[str, Any], places: dict[type[msgspec.Struct], tuple[str, list[str]]]
) -> str:
    match schema:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            where = next(w for struct, (w, _) in places.items() if struct.__name__ == name)
            text = f"[{where}](#{re.sub(r'[^a-z_]', '', where.lower())})"
        case {"enum": values} if set(values) == set(FAILURES):
            text = "[failures](failures.md)"
        case {"anyOf": several}:
            text = " or ".join(_config_kind(s, places) for s in several if s != {"type": "null"})
        case {"type": "array", "items": item}:
            text = f"list of {_config_kind(item, places)}"
        case {"type": "object", "additionalProperties": item}:
            text = f"names, each with {_config_kind(item, places)}"
        case _:
            text = _config_scalar(schema)
    return text


def _config_scalar(schema: dict[str, Any]) -> str:
    match schema:
        case {"type": "integer", "minimum": low, "maximum": high}:
            text = f"{low:,} to {high:,}"
        case {"type": "string", "pattern": _}:
            text = "a name"
        case {"type": "string", "maxLength": most}:
            text = f"text, at most {most:,} characters"
        case {"type": "string"}:
            text = "text"
        case {"type": "boolean"}:
            text = "`true` or `false`"
        case _:
            text = kind_of(schema)
    return text
