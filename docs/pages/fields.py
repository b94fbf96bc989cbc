"""The fields of structs: what they mean, hold, and are where nothing is given."""

from __future__ import annotations

from typing import Any

import msgspec

from pages.markdown import parse
from tocsin.risk.calibration import SCHEMA, Calibration
from tocsin.risk.plan import Plan

MEANINGS: dict[str, str] = {
    "Calibration.schema": f"`{SCHEMA}`; another one is refused.",
    "Calibration.library_version": "of the Tocsin that made it.",
    "Calibration.signal": "what the score is; a monitor can refuse another one.",
    "Calibration.data": "what it was made from.",
    "LogOdds.intercept": "of the linear model.",
    "LogOdds.weights": "of the linear model, one for each feature.",
    "LogOdds.base": "log-odds before the first tree.",
    "LogOdds.trees": "the forest; their values are added up.",
    "DataSummary.digest": "SHA-256 of ids, lengths, scores, labels and groups of all trajectories.",
    "DataSummary.n": "trajectories.",
    "DataSummary.n_steps": "steps in all.",
    "DataSummary.n_safe": "trajectories labelled safe.",
    "DataSummary.n_unsafe": "trajectories labelled unsafe.",
    "DataSummary.n_groups": "groups (prompts, users).",
    "DataSummary.n_missing": "steps without a score.",
    "DataSummary.n_fit": "trajectories on which learned statistics were fitted.",
    "DataSummary.n_fit_safe": "of those, the safe ones.",
    "DataSummary.fit_digest": "names the trajectories fitted on; empty where nothing was fitted.",
    "DataSummary.calibration_digest": "names the trajectories that stand behind the thresholds.",
    "DataSummary.segments": "by segment, two counts: safe and unsafe trajectories.",
}
"""What the docstrings leave out; a docstring that says it wins."""


def meaning_of(struct: type[msgspec.Struct], field: str) -> str:
    """From the struct's docstring, a base's, the plan's, or the table above."""
    for source in (*struct.__mro__, *([Plan] if struct is Calibration else [])):
        entries = parse(source.__doc__).entries.get("Args", {})
        if field in entries:
            return entries[field]
    if field == struct.__struct_config__.tag_field:
        return "says which of the kinds this is."
    return MEANINGS[f"{struct.__name__}.{field}"]


def kind_of(schema: dict[str, Any]) -> str:
    """Say what a field holds, from its JSON Schema."""
    match schema:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            text = f"[{name}](#{name.lower()})"
        case {"enum": values}:
            text = " or ".join(f"`{v}`" for v in values)
        case {"anyOf": several}:
            text = " or ".join(kind_of(s) for s in several)
        case {"prefixItems": several}:
            text = f"[{', '.join(kind_of(s) for s in several)}]"
        case {"type": "array", "items": item}:
            text = f"array of {kind_of(item)}"
        case {"type": "object", "additionalProperties": item}:
            text = f"object of {kind_of(item)}"
        case {"exclusiveMinimum": above, "maximum": most}:
            text = f"{schema['type']} above {_plain(above)}, at most {_plain(most)}"
        case {"minimum": least, "maximum": most}:
            text = f"{schema['type']} from {_plain(least)} to {_plain(most)}"
        case {"minimum": least}:
            text = f"{schema['type']}, {_plain(least)} or more"
        case _:
            text = str(schema["type"])
    return text


def _plain(number: float) -> str:
    return f"{int(number) if number == int(number) else number:,}"


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """Say what a key is where it is not given."""
    if field.required:
        return "must be given"
    if field.default_factory is not msgspec.NODEFAULT:
        return "none"
    value = msgspec.to_builtins(field.default)
    if value is None or not (value or isinstance(value, bool | int | str)):
        return "none"
    if isinstance(value, dict):
        return "as there"
    if isinstance(value, list | tuple):
        return ", ".join(f"`{v}`" for v in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
