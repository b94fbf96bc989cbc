"""Events of every kind, drawn by Hypothesis from the structs themselves."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.kinds import Body
from tocsin.events.reading import FREE_TEXT, OUR_KINDS

KINDS: tuple[type[msgspec.Struct], ...] = get_args(Body)
NOW_US = 1_700_000_000_000_000

NAMES = st.text(
    st.characters(categories=["L", "N", "P", "S"], include_characters=" "), min_size=1, max_size=12
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
SOURCES = st.from_regex(r"[a-z]{1,8}(/[a-z0-9]{1,8})?", fullmatch=True).filter(
    lambda s: not s.startswith("tocsin/")
)


def of_type(kind: inspect.Type, name: str = "") -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911
    """Draw a value of a field."""
    match kind:
        case inspect.Metadata(type=inner, extra_json_schema=within):
            return _number(inner, within or {})
        case inspect.UnionType(types=types):
            return st.one_of([of_type(t, name) for t in types])
        case inspect.LiteralType(values=values):
            return st.sampled_from(sorted(map(str, values)))
        case inspect.VarTupleType(item_type=item):
            return st.lists(of_type(item, name), max_size=3).map(tuple)
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(of_type(key, name), of_type(value), max_size=3)
        case inspect.StrType():
            return TEXTS if name in FREE_TEXT else NAMES
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(0, 2**53)
        case inspect.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False, width=32)
        case inspect.NoneType():
            return st.none()
    raise TypeError(kind)


def _number(kind: inspect.Type, within: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Draw a number within its range."""
    if isinstance(kind, inspect.IntType):
        return st.integers(within.get("minimum", 0), within.get("maximum", 2**53))
    least = within.get("exclusiveMinimum", within.get("minimum", 0))
    return st.floats(
        least, within.get("maximum"),
        exclude_min="exclusiveMinimum" in within, allow_infinity=False, width=32,
    )  # fmt: skip


@cache
def struct(of: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Draw a struct with any of its fields."""
    shown = inspect.type_info(of)
    assert isinstance(shown, inspect.StructType)
    return st.builds(of, **{f.name: of_type(f.type, f.name) for f in shown.fields})


@cache
def events(*kinds: type[msgspec.Struct], outside: bool = False) -> st.SearchStrategy[Event]:
    """Draw an event; with `outside`, of a kind that others may send."""
    bodies = [
        k for k in kinds or KINDS if not (outside and str(k.__struct_config__.tag) in OUR_KINDS)
    ]
    return st.builds(
        Event,
        id=NAMES,
        time_us=st.integers(NOW_US - 10**12, NOW_US),
        source=SOURCES,
        body=st.one_of([struct(k) for k in bodies]),
        links=struct(Links),
        segment=struct(Segment),
    )
