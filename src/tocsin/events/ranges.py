"""Numbers within their ranges: what events that come in are held to, and what audits leave out.

The ranges stand at the fields of `tocsin.events.kinds`, and in the JSON Schema that is published.
Reading a stored event does not look at them, so that no event can make a record unreadable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

import msgspec
from msgspec import inspect

from tocsin.events.envelope import Event
from tocsin.events.kinds import Body


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Where a number may lie; None where it may go on.

    Args:
        least, most: the ends, which belong to it.
        above: an end that does not.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None

    def holds(self, number: float) -> bool:
        """Whether a number lies in it."""
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
        )

    def __str__(self) -> str:
        """Say it in words.

        Example:
            >>> str(Range(above=0, most=1)), str(Range(least=0, most=9)), str(Range(least=0))
            ('above 0 and at most 1', 'from 0 to 9', '0 or more')
        """
        if self.above is not None:
            return f"above {self.above:g}" + (f" and at most {self.most:g}" if self.most else "")
        if self.most is None:
            return f"{self.least:g} or more"
        return f"from {self.least:g} to {self.most:g}"


def range_flaw(event: Event) -> str | None:
    """Say which number of an event lies outside its range; None where none does.

    Example:
        >>> from tocsin.events.kinds import Reviewed
        >>> drawn = Reviewed(label="safe", selection_probability=-3.0)
        >>> range_flaw(Event(id="e", time_us=0, source="shop", body=drawn))
        'body.selection_probability: has to be above 0 and at most 1'
    """
    for name, allowed in RANGES[type(event.body)].items():
        value = getattr(event.body, name)
        if isinstance(value, dict):
            if not all(map(allowed.holds, value.values())):
                return f"body.{name}: each has to be {allowed}"
        elif value is not None and not allowed.holds(value):
            return f"body.{name}: has to be {allowed}"
    return None


def _ranges(body: type[msgspec.Struct]) -> Iterator[tuple[str, Range]]:
    shown = inspect.type_info(body)
    for field in shown.fields if isinstance(shown, inspect.StructType) else ():
        found = _found(field.type)
        if found is not None:
            yield field.name, found


def _found(kind: inspect.Type) -> Range | None:
    """Look for a range at a type, at what it may be, or at what it leads to."""
    if isinstance(kind, inspect.UnionType):
        return next(filter(None, map(_found, kind.types)), None)
    if isinstance(kind, inspect.DictType):
        return _found(kind.value_type)
    if isinstance(kind, inspect.Metadata):
        said: dict[str, Any] = kind.extra_json_schema or {}
        return Range(
            least=said.get("minimum"),
            most=said.get("maximum"),
            above=said.get("exclusiveMinimum"),
        )
    return None


RANGES: Final[Mapping[type[msgspec.Struct], Mapping[str, Range]]] = {
    body: dict(_ranges(body)) for body in get_args(Body)
}
"""Of each kind, the fields with a range."""
