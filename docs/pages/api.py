"""The page of the library: every public name."""

from __future__ import annotations

import inspect
import types
from typing import Any

import msgspec

import tocsin
from pages.markdown import HEAD, WIDTH, fence, markdown, parse
from tocsin.evaluation.evaluate import Report, Row, SegmentRate, Setting
from tocsin.monitor import PathRecord
from tocsin.testing import worlds

API_HEAD = """\
Everything below is `tocsin.NAME`, and is imported when first used. Signals are safe-high: a \
higher score is safer. Statistics are danger-high: a higher value is more dangerous.
"""


def api_page() -> str:
    """Return every public name with its signature and docstring."""
    everything = {name: getattr(tocsin, name) for name in tocsin.__all__ if name != "testing"}
    errors = {n: o for n, o in everything.items() if _is_error(o)}
    structs = {n: o for n, o in everything.items() if isinstance(o, type) and n not in errors}
    functions = {n: o for n, o in everything.items() if n not in errors and n not in structs}
    parts = [
        "# Library\n",
        API_HEAD,
        "## Functions\n",
        *[_entry(name, o) for name, o in functions.items()],
        "## Classes\n",
        *[_entry(name, o) for name, o in structs.items()],
        "## Errors\n",
        *[_entry(name, o) for name, o in errors.items()],
        "## Met through the names above\n",
        "`evaluate` takes a `Setting` and returns a `Report`; `Session.path` returns a record.\n",
        *[
            _entry(f"tocsin.evaluation.evaluate.{o.__name__}", o)
            for o in (Setting, Report, Row, SegmentRate)
        ],
        _entry("tocsin.monitor.PathRecord", PathRecord),
        "## tocsin.testing\n",
        f"{inspect.getdoc(tocsin.testing)}\n",
        *[_entry(f"testing.{n}", getattr(tocsin.testing, n)) for n in tocsin.testing.__all__],
        "## tocsin.testing.worlds\n",
        f"{markdown(inspect.getdoc(worlds) or '')}\n",
        *[
            _entry(f"tocsin.testing.worlds.{name}", getattr(worlds, name))
            for name in ("trajectories", "false_alarm_rate", "power")
        ],
    ]
    return HEAD + "\n".join(parts)


def _is_error(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


def _entry(name: str, thing: Any) -> str:
    """One name: signature, text, arguments, errors, example, then the methods of a class."""
    parts = [f"### {name}\n"]
    if _is_error(thing):
        bases = ", ".join(b.__name__ for b in thing.__bases__)
        parts.append(fence(f"class {name}({bases})", "python"))
    else:
        parts.append(fence(_signature(name, thing), "python"))
    parts.append(_body(thing))
    if isinstance(thing, type) and not _is_error(thing):
        parts += [_method(name, m, o) for m, o in vars(thing).items() if _shown(m, o)]
    return "\n".join(parts)


def _shown(name: str, member: object) -> bool:
    kinds = (types.FunctionType, property)
    return not name.startswith("_") and (
        isinstance(member, kinds) or type(member).__name__ == "cached_property"
    )


def _method(owner: str, name: str, member: Any) -> str:
    short = owner.rpartition(".")[2]
    if isinstance(member, types.FunctionType):
        shown = _signature(name, member, method=True)
        return f"#### {short}.{name}\n\n{fence(shown, 'python')}\n{_body(member)}"
    function = getattr(member, "fget", None) or member.func
    kind = function.__annotations__["return"]
    return f"#### {short}.{name}\n\n{fence(f'{name}: {kind}', 'python')}\n{_body(function)}"


def _body(thing: Any) -> str:
    doc = parse(thing.__doc__)
    parts = [doc.text + "\n"]
    for section, entries in doc.entries.items():
        parts.append(f"{section}:\n")
        parts.append("\n".join(f"- {f'`{n}`: ' if n else ''}{t}" for n, t in entries.items()))
        parts[-1] += "\n"
    if doc.example:
        parts.append(fence(doc.example, "python"))
    return "\n".join(parts)


def _signature(name: str, thing: Any, *, method: bool = False) -> str:
    """Write a signature as the source does: annotations unquoted, one line where it fits."""
    if isinstance(thing, type) and issubclass(thing, msgspec.Struct):
        annotations = thing.__annotations__
        fields = msgspec.structs.fields(thing)
        given = ["*", *[f"{f.name}: {annotations[f.name]}{_field_default(f)}" for f in fields]]
        return _lines(f"class {name}", given, "")
    found = inspect.signature(thing)
    given = []
    for p in list(found.parameters.values())[1 if method else 0 :]:
        if p.kind is p.KEYWORD_ONLY and "*" not in given and not _after_var(given):
            given.append("*")
        star = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        default = "" if p.default is p.empty else f" = {_default(p.default)}"
        given.append(f"{star}{p.name}: {p.annotation}{default}")
    if isinstance(thing, type):
        return _lines(f"class {name}", given, "")
    return _lines(name, given, f" -> {found.return_annotation}")


def _after_var(given: list[str]) -> bool:
    return any(g.startswith("*") and not g.startswith("**") for g in given)


def _field_default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        return f" = {_default(field.default)}"
    if field.default_factory is not msgspec.NODEFAULT:
        return f" = {_default(field.default_factory())}"
    return ""


def _default(value: Any) -> str:
    if isinstance(value, frozenset):  # in one order, whatever the hash seed
        return f"frozenset({{{', '.join(repr(v) for v in sorted(value))}}})"
    if callable(value):
        return str(value.__name__)
    if isinstance(value, msgspec.Struct) and value == type(value)():
        return f"{type(value).__name__}()"
    return repr(value)


def _lines(head: str, given: list[str], tail: str) -> str:
    one = f"{head}({', '.join(given)}){tail}"
    if len(one) <= WIDTH:
        return one
    return "\n".join([f"{head}(", *[f"    {g}," for g in given], f"){tail}"])
