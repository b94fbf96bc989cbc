"""Fields of a request: read in their shape, or refused with what is wrong.

For APIs whose refusals name the field in the message. A field that is absent or null is not given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tocsin.limits import IDENTIFIER_CHARS_MAX
from tocsin.stream.events import Refused


class Wrong(Exception):  # noqa: N818 - the name says what is the case
    """The request cannot be read; becomes `refused`.

    Args:
        param: the field, as a path into the request.
        what: what is wrong with it, without a full stop.

    Example:
        >>> Wrong("n", "must be a whole number").refused
        Refused(message='n: must be a whole number.', param='n')
    """

    def __init__(self, param: str, what: str) -> None:
        super().__init__(what)
        self.refused = Refused(message=f"{param}: {what}.", param=param)


def model_of(body: Mapping[str, Any]) -> str:
    """Give the name of the model.

    Raises:
        Wrong: it is no string, empty, or longer than `IDENTIFIER_CHARS_MAX` characters.

    Example:
        >>> model_of({"model": "m"})
        'm'
    """
    model = body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= IDENTIFIER_CHARS_MAX:
        raise Wrong("model", f"must be a string of 1 to {IDENTIFIER_CHARS_MAX} characters")
    return model


def flag(body: Mapping[str, Any], name: str, param: str = "") -> bool:
    """Give a field that is true or false; false where it is not given.

    Args:
        body: what the field stands in.
        name: of the field there.
        param: its path into the request, where that is not its name.

    Raises:
        Wrong: it is something else.

    Example:
        >>> flag({"stream": True}, "stream"), flag({}, "stream")
        (True, False)
    """
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Wrong(param or name, "must be true or false")
    return value is True


def listed(value: Any, param: str, count_max: int, *, needed: bool = False) -> list[Any]:
    """Give a value that is a list; an empty one where it is not given.

    Args:
        value: the value of the field.
        param: its path into the request.
        count_max: entries, at most.
        needed: whether there has to be an entry.

    Raises:
        Wrong: it is no list, too long, or lacks the entry that is needed.

    Example:
        >>> listed([1, 2], "tools", 2), listed(None, "tools", 2)
        ([1, 2], [])
    """
    if value is None and not needed:
        return []
    if not isinstance(value, list) or (needed and not value):
        raise Wrong(param, "must be a list" + (" with an entry" if needed else ""))
    if len(value) > count_max:
        raise Wrong(param, f"has {len(value)} entries; at most {count_max} are read")
    return value


def object_in(body: Mapping[str, Any], name: str, param: str = "") -> Mapping[str, Any]:
    """Give a field that is an object; an empty one where it is not given.

    Args:
        body: what the field stands in.
        name: of the field there.
        param: its path into the request, where that is not its name.

    Raises:
        Wrong: it is something else.

    Example:
        >>> object_in({"metadata": {"a": 1}}, "metadata"), object_in({}, "metadata")
        ({'a': 1}, {})
    """
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Wrong(param or name, "must be an object")
    return value


def json_of(value: Any, param: str) -> str:
    """Write a value of the request as JSON.

    Raises:
        Wrong: JSON has no form for it, or it is nested too deeply.

    Example:
        >>> json_of({"type": "object"}, "tools[0].parameters")
        '{"type":"object"}'
    """
    try:
        return msgspec.json.encode(value).decode()
    except (ValueError, TypeError, RecursionError):
        raise Wrong(param, "cannot be written as JSON") from None
