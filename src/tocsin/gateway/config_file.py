"""From a file to a `Config`: every error at once, each with its line, its place and what to do.

``${NAME}`` and ``${NAME:-default}`` are replaced from the environment where secrets and addresses
stand; ``$$`` is a dollar sign there. A value that was put in is never shown.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from tocsin.errors import InputError
from tocsin.gateway.config import Config, LogName, Name
from tocsin.gateway.yaml_text import Place, parse_yaml
from tocsin.limits import GATEWAY_COMPLAINTS_MAX, GATEWAY_CONFIG_BYTES_MAX
from tocsin.verifiers.reading import read_whole

_REFERENCE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\{)")
_SHOWN_CHARS = 60


@dataclass
class Source:
    """A file that is being read, and what is wrong with it.

    Args:
        file: its name.
        lines: the line of each place, where that is known.
        raw: its content before anything was put in.
        complaints: places, and what is wrong there.
    """

    file: str
    lines: Mapping[Place, int] = field(default_factory=dict)
    raw: Any = None
    complaints: list[tuple[Place, str]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where files that it names lie."""
        return Path(self.file).parent

    def complain(self, place: Place, message: str) -> None:
        """Note an error."""
        self.complaints.append((place, message))

    def settle(self) -> None:
        """Raise one InputError over all that was noted."""
        if not self.complaints:
            return
        unique = dict.fromkeys(self.complaints)
        told = [self._told(*c) for c in list(unique)[:GATEWAY_COMPLAINTS_MAX]]
        if len(told) == 1:
            raise InputError(told[0])
        more = len(unique) - len(told)
        tail = [f"and {more} more"] if more else []
        raise InputError(
            "\n  ".join([f"{self.file}: {len(unique)} things are wrong", *told, *tail])
        )

    def _told(self, place: Place, message: str) -> str:
        at = place
        while at and at not in self.lines:
            at = at[:-1]
        line = f":{self.lines[at]}" if at in self.lines else ""
        where = written(place)
        return f"{self.file}{line}: {where}: {message}" if where else f"{self.file}: {message}"


def written(place: Place) -> str:
    """Write a place as people do.

    Example:
        >>> written(("policies", "default", "checks", 1, "steps"))
        'policies.default.checks[1].steps'
    """
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{shown(p)}" for p in place)
    return text.removeprefix(".")


def shown(text: str) -> str:
    """Cut a text of the file for an error."""
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."


def read(
    path: str | os.PathLike[str], environment: Mapping[str, str] | None = None
) -> tuple[Config, Source]:
    """Read a configuration, YAML or TOML by the ending of its name, and check each value of it.

    Args:
        path: the file.
        environment: what ``${NAME}`` stands for; the process's own where None.

    Returns:
        The configuration, and its source, for complaints about what does not fit together.

    Raises:
        InputError: everything that is wrong, with file, line, place and what to do.
        MissingExtra: PyYAML is not installed.
    """
    file = os.fspath(path)
    raw = read_whole(file, GATEWAY_CONFIG_BYTES_MAX, "the configuration")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{file}: it is not UTF-8") from None
    return parse(text, file, environment)


def parse(
    text: str, file: str, environment: Mapping[str, str] | None = None
) -> tuple[Config, Source]:
    """As `read`, of a text that was read already."""
    lines: dict[Place, int] = {}
    match Path(file).suffix.lower():
        case ".yaml" | ".yml":
            data, lines = parse_yaml(text, file)
        case ".toml":
            try:
                data = tomllib.loads(text)
            except (ValueError, RecursionError) as e:  # ValueError: also a number that is huge
                raise InputError(f"{file}: no TOML: {e}") from None
        case _:
            raise InputError(f"{file}: end its name in .yaml, .yml or .toml")
    source = Source(file=file, lines=lines, raw=data)
    reader = _Reader(source, os.environ if environment is None else environment)
    value = reader.value(Config, data, ())
    source.settle()
    try:
        return msgspec.convert(value, Config), source
    except msgspec.ValidationError as e:  # for a rule of msgspec that `_Reader` does not know
        raise InputError(f"{file}: {e}") from None


class _Reader:
    """Checks data against types, value by value, and puts the environment in."""

    def __init__(self, source: Source, environment: Mapping[str, str]) -> None:
        self._source = source
        self._environment = environment

    def value(self, kind: Any, data: Any, place: Place) -> Any:
        """Give the data for a type; complain where it does not fit."""
        origin, args = get_origin(kind), get_args(kind)
        if origin in {Union, types.UnionType}:
            inner = next(a for a in args if a is not type(None))
            return None if data is None else self.value(inner, data, place)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(kind, data, place)
        if origin is dict:
            return self._mapping(args, data, place)
        if origin is tuple:
            return self._list(args[0], data, place)
        return self._leaf(kind, data, place)

    def _list(self, kind: Any, data: Any, place: Place) -> Any:
        if not isinstance(data, list):
            self._source.complain(place, f"write a list, as in [a, b], not {_what(data)}")
            return ()
        return tuple(self.value(kind, v, (*place, i)) for i, v in enumerate(data))

    def _struct(self, kind: type[msgspec.Struct], data: Any, place: Place) -> Any:
        if not isinstance(data, dict):
            self._source.complain(place, f"write keys and values here, not {_what(data)}")
            return {}
        hints = get_type_hints(kind, include_extras=True)
        fields = {f.encode_name: f for f in msgspec.structs.fields(kind)}
        for name in data.keys() - fields.keys():
            self._source.complain((*place, name), f"there is no such key{_meant(name, fields)}")
        for name, one in fields.items():
            if one.required and name not in data:
                self._source.complain(place, f"the key {name!r} is missing")
        return {
            name: self.value(hints[fields[name].name], value, (*place, name))
            for name, value in data.items()
            if name in fields
        }

    def _mapping(self, args: tuple[Any, ...], data: Any, place: Place) -> Any:
        if not isinstance(data, dict):
            self._source.complain(place, f"write names and values here, not {_what(data)}")
            return {}
        for name in data:
            self._check(args[0], name, (*place, name), hidden=False)
        return {name: self.value(args[1], v, (*place, name)) for name, v in data.items()}

    def _leaf(self, kind: Any, data: Any, place: Place) -> Any:
        hidden = expands(place)
        if isinstance(data, str) and hidden:
            data = self._expanded(data, place)
        elif isinstance(data, str) and (found := _REFERENCE.search(data)) and found[1]:
            self._source.complain(
                place, "${...} is not replaced here, only in listen, upstreams, tenants and "
                "record: a policy is what its digest says"
            )  # fmt: skip
        if data is not None:
            self._check(kind, data, place, hidden=hidden)
        elif kind is not None:
            self._source.complain(place, "a value is missing; leave the key out for its default")
        return data

    def _check(self, kind: Any, data: Any, place: Place, *, hidden: bool) -> None:
        try:
            msgspec.convert(data, kind)
        except msgspec.ValidationError as e:
            self._source.complain(place, _said(kind, data, str(e), hidden=hidden))

    def _expanded(self, text: str, place: Place) -> str:
        def put(match: re.Match[str]) -> str:
            if match[0] == "$$":
                return "$"
            name, default = match[1], match[2]
            if name is None:
                self._source.complain(place, "write ${NAME}, ${NAME:-default}, or $$ for a dollar")
                return ""
            value = self._environment.get(name)
            if value or (value is not None and default is None):
                return value
            if default is None:
                self._source.complain(place, f"the environment variable {name} is not set")
                return ""
            return str(default)

        return _REFERENCE.sub(put, text)


def expands(place: Place) -> bool:
    """Whether ``${NAME}`` is replaced at a place.

    Example:
        >>> expands(("upstreams", "main", "key")), expands(("policies", "default", "replacement"))
        (True, False)
    """
    match place:
        case ("record", "store" | "keys") | ("listen", "host"):
            return True
        case ("upstreams", _, "url" | "key" | "headers", *_) | ("tenants", _, "keys", *_):
            return True
    return False


# --------------------------------------------------------------------------------------- messages


def _what(data: Any) -> str:
    kinds = {dict: "keys and values", list: "a list", str: "a text", type(None): "nothing"}
    return kinds.get(type(data), f"the {type(data).__name__} {data!r}")


def meant(name: str, known: Iterable[str]) -> str:
    """Say which of the known names comes closest, or else which there are.

    Example:
        >>> meant("defalt", ["default", "strict"])
        "; did you mean 'default'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name[:_SHOWN_CHARS], names, 1)
    if close:
        return f"; did you mean {close[0]!r}?"
    few = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"; there is {few}" if names else ""


_meant = meant


def _said(kind: Any, data: Any, message: str, *, hidden: bool) -> str:
    """Say what msgspec found, in words for people, and without a value that may be a secret."""
    if get_origin(kind) is Literal:
        options = [str(a) for a in get_args(kind)]
        if isinstance(data, str) and not hidden:
            return f"{shown(data)!r} is not known{_meant(data, options)}"
        return f"write one of {', '.join(options)}"
    if kind == Name and isinstance(data, str):
        return "a name has 1 to 64 letters, digits and . _ : - and begins with a letter or digit"
    if kind == LogName and isinstance(data, str):
        return (
            "a log is named with 1 to 256 letters, digits and . _ : / - and begins with a letter "
            "or digit, such as gateway.example.com"
        )
    wants_text = kind is str or (get_origin(kind) is Annotated and get_args(kind)[0] is str)
    if wants_text and not isinstance(data, str | dict | list):
        return f"this is read as {_what(data)}; put quotes around it"
    return message.replace("`", "").replace("Expected", "expected").replace("Invalid", "invalid")
