"""The wire format in other people's words: JSON Schema of the event and of its CloudEvent."""

from __future__ import annotations

from typing import Any

import msgspec

from tocsin.events.cloudevents import DATA_SCHEMA, TYPE
from tocsin.events.envelope import SCHEMA, Event, Links, Segment
from tocsin.events.reading import BODIES, FREE_TEXT
from tocsin.limits import EVENT_ID_CHARS_MAX, EVENT_ITEMS_MAX, EVENT_TEXT_CHARS_MAX

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def event_schema() -> dict[str, Any]:
    """Give the JSON Schema of one event as it is sent: plain, or as a CloudEvent.

    What is sent may hold no other fields; of a CloudEvent, extension attributes are allowed and
    left aside.

    Example:
        >>> sorted(event_schema()["$defs"])[:3]
        ['Accessed', 'Alarmed', 'CalibrationChanged']
    """
    _, definitions = msgspec.json.schema_components(
        [Event, *BODIES.values()], ref_template="#/$defs/{name}"
    )
    made = {name: _strict(name, schema) for name, schema in definitions.items()}
    made["Event"]["properties"]["schema"] = {"const": SCHEMA, "default": SCHEMA}
    made["CloudEvent"] = _cloudevent(made)
    return {
        "$schema": DIALECT,
        "$id": DATA_SCHEMA,
        "title": "What is sent to Tocsin's record",
        "oneOf": [{"$ref": "#/$defs/Event"}, {"$ref": "#/$defs/CloudEvent"}],
        "$defs": made,
    }


def schema_text() -> str:
    """Give it as text, as it is published."""
    return msgspec.json.format(msgspec.json.encode(event_schema()), indent=2).decode()


def _strict(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Forbid other fields, and state what `tocsin.events.reading` bounds."""
    properties = {
        field: _bounded(field, of, free=name not in {"Event", "Links", "Segment"})
        for field, of in schema["properties"].items()
    }
    says = " ".join(schema.get("description", "").partition("\n\n")[0].split())
    return {
        **schema,
        "description": says,
        "properties": properties,
        "additionalProperties": False,
    }


def _bounded(field: str, schema: dict[str, Any], *, free: bool) -> dict[str, Any]:
    if schema.get("type") == "string":
        most = EVENT_TEXT_CHARS_MAX if free and field in FREE_TEXT else EVENT_ID_CHARS_MAX
        return {**schema, "maxLength": most}
    if schema.get("type") == "array":
        return {
            **schema,
            "items": _bounded(field, schema["items"], free=free),
            "maxItems": EVENT_ITEMS_MAX,
        }
    if schema.get("type") == "object":
        return {**schema, "maxProperties": EVENT_ITEMS_MAX}
    if "anyOf" in schema:
        return {**schema, "anyOf": [_bounded(field, of, free=free) for of in schema["anyOf"]]}
    return schema


def _cloudevent(definitions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    string = {"type": "string", "minLength": 1, "maxLength": EVENT_ID_CHARS_MAX}
    shared = {
        "schema": {"const": SCHEMA},
        "links": {"$ref": f"#/$defs/{Links.__name__}"},
        "segment": {"$ref": f"#/$defs/{Segment.__name__}"},
    }
    kinds = []
    for kind, body in BODIES.items():
        definition = definitions[body.__name__]
        required = [name for name in definition.get("required", ()) if name != "kind"]
        data = {
            "type": "object",
            "properties": {**definition["properties"], **shared},
            "required": required,
            "additionalProperties": False,
        }
        kinds.append({"properties": {"type": {"const": TYPE + kind}, "data": data}})
    return {
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": string,
            "source": string,
            "type": {"type": "string"},
            "time": {"type": "string", "format": "date-time"},
            "subject": {"type": "string"},
            "datacontenttype": {"type": "string"},
            "dataschema": {"const": DATA_SCHEMA},
            "data": {"type": "object"},
        },
        "required": ["specversion", "id", "source", "type", "time", "data"],
        "oneOf": kinds,
    }
