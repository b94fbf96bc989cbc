"""Events that say the same thing wherever they can."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from tocsin.events.envelope import Event, Links, Segment


def filled(text: str, kind: type[Any]) -> Event:
    """Make an event of this kind in which every string that is not closed is `text`."""

    def of(struct: type[Any], fixed: dict[str, Any]) -> Any:
        made: dict[str, Any] = dict(fixed)
        for field in msgspec.structs.fields(struct):
            if field.name in made:
                continue
            shape = field.type
            if shape is str or (type(None) in get_args(shape) and str in get_args(shape)):
                made[field.name] = text
            elif shape == tuple[str, ...]:
                made[field.name] = (text,)
            elif shape == dict[str, str]:
                made[field.name] = {text: text}
            elif str(shape).startswith("dict[str"):
                made[field.name] = {text: 1}
            elif get_args(shape) and isinstance(get_args(shape)[0], str):
                made[field.name] = get_args(shape)[0]
            elif field.required:
                made[field.name] = shape is bool or 1
        return struct(**made)

    body = of(kind, {})
    made = of(Event, {"body": body, "links": of(Links, {}), "segment": of(Segment, {})})
    assert isinstance(made, Event)
    return made
