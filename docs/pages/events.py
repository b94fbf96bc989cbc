"""The page of the events."""

from __future__ import annotations

from typing import Any

import msgspec

from pages.fields import default_of, kind_of, meaning_of
from pages.markdown import HEAD, cell, parse
from tocsin.events.envelope import SCHEMA, Event, Links, Segment
from tocsin.events.reading import BODIES, OUR_KINDS
from tocsin.events.spans import OPERATIONS, TABLE

OWN = ", ".join(f"`{kind}`" for kind in sorted(OUR_KINDS))
"""Kinds that only Tocsin's own parts tell of."""

EVENTS_HEAD = f"""\
What happens, in one vocabulary: the gateway, the library and your own services say it with the \
same words, and the [record](../how-to/send-events.md) keeps them. Schema `{SCHEMA}`; fields \
are only ever added under this name. There is a [JSON Schema](event.schema.json) of what is sent.

- An event never holds what a user or a model wrote, but for the fields that say that they are \
redacted before they are stored.
- `id` is unique within its tenant. An event that is sent again under the same id changes nothing. \
Ids that begin with `tocsin.`, and `r_…` with a number after a point, are Tocsin's own, as are \
sources that begin with `tocsin/` and the kinds {OWN}: none of them is taken from outside, but for \
a `record.shed` in which a service says how many events it shed itself.
- A number outside its range is not taken from outside; one that is stored is still read, and left \
out of audits.
- As a CloudEvent (1.0, structured JSON), `type` is `tocsin.` and the kind, `subject` the call or \
the request, and `data` holds `links`, `segment`, `schema` and the fields of the kind.
- Microseconds are counted from 1970, in UTC. Scores are safe-high; statistics and thresholds are \
danger-high.
"""

SPANS_HEAD = """\
`POST /v1/traces` reads spans of the GenAI conventions of OpenTelemetry, and exports write them, \
by this table. An attribute that is not in it is dropped where a span is read: prompts, answers, \
arguments, queries and documents are never looked at. Fields without a name there are written as \
`tocsin.` and the field, so that an event that was exported as a span can be read again.

A span of an inference (`chat`, `generate_content`, `text_completion`) is read as `stream.opened`, \
`usage` and `stream.ended`, one of `execute_tool` as `tool.attempted` and `tool.returned`, one of \
`retrieval` as `retrieval`, and a `gen_ai.evaluation.result` in any span as `output.classified`. \
`service.name` of the resource is the source, and the trace's id the request.
"""


def events_page() -> str:
    """Return every kind of event, its fields, and their names in OpenTelemetry."""
    schema = msgspec.json.schema_components([Event, *BODIES.values()])[1]
    parts = ["# Events\n", EVENTS_HEAD]
    for title, struct in (("The envelope", Event), ("Links", Links), ("Segment", Segment)):
        parts += [f"## {title}\n", parse(struct.__doc__).text + "\n", *_fields(struct, schema)]
    parts.append("## Kinds\n")
    for kind, struct in BODIES.items():
        parts += [f"### `{kind}`\n", parse(struct.__doc__).text + "\n", *_fields(struct, schema)]
    parts += ["## As spans\n", SPANS_HEAD, "| attribute | field |\n|---|---|"]
    for row in TABLE:
        scale = f", times {row.scale:,}" if row.scale != 1 else ""
        parts.append(f"| `{row.attribute}` | `{row.field}`{scale} |")
    names = ", ".join(f"`{kind}` as `{name}`" for kind, name in OPERATIONS.items())
    parts.append(f"\n`gen_ai.operation.name` is written for {names}.")
    return HEAD + "\n".join(parts)


def _fields(struct: type[msgspec.Struct], schema: dict[str, Any]) -> list[str]:
    """Return a table of a struct's fields."""
    rows = ["| field | value | default | meaning |\n|---|---|---|---|"]
    properties = schema[struct.__name__]["properties"]
    for field in msgspec.structs.fields(struct):
        kind = (
            "one of the kinds below"
            if field.name == "body"
            else _event_kind(properties, field.name)
        )
        default = "empty" if field.default == "" else default_of(field)
        cells = [f"`{field.name}`", kind, default, meaning_of(struct, field.name)]
        rows.append(f"| {' | '.join(cell(c) for c in cells)} |")
    return [*rows, ""]


def _event_kind(properties: dict[str, Any], name: str) -> str:
    if name in {"links", "segment"}:
        return f"[{name}](#{name})"
    return kind_of(properties[name])
