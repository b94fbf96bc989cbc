"""YAML without its surprises: plain data and the line of each value, or an error.

PyYAML reads YAML 1.1, where ``no`` is false, ``012`` is ten and ``12:30`` is 750. Whatever people
read otherwise than that is refused; quotes make a text of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tocsin.errors import InputError, MissingExtra
from tocsin.limits import GATEWAY_CONFIG_DEPTH_MAX, GATEWAY_CONFIG_NODES_MAX

if TYPE_CHECKING:
    import yaml

Place = tuple[str | int, ...]
"""Where a value stands: keys and indices from the top."""

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]{0,18})")
_FLOAT = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{0,18}([eE][-+]?[0-9]{1,3})?")


def parse_yaml(text: str, file: str) -> tuple[Any, dict[Place, int]]:
    """Read one YAML document.

    Args:
        text: all of it.
        file: its name, for errors.

    Returns:
        The data, as dicts with text keys, lists, texts, numbers, booleans and None; and the line,
        from 1, of each place in it.

    Raises:
        InputError: no YAML, or one that is refused, with the line.
        MissingExtra: PyYAML is not installed.

    Example:
        >>> parse_yaml("listen: {port: 80}", "my.yaml")
        ({'listen': {'port': 80}}, {(): 1, ('listen',): 1, ('listen', 'port'): 1})
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtra("reading YAML needs PyYAML: pip install 'tocsin[serve]'") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        line = "" if e.problem_mark is None else f"{e.problem_mark.line + 1}: "
        raise InputError(f"{file}:{line or ' '}no YAML: {e.problem}") from None
    except yaml.YAMLError as e:
        raise InputError(f"{file}: no YAML: {type(e).__name__}") from None
    except (RecursionError, ValueError):
        raise InputError(f"{file}: no YAML that can be read: nested too deeply") from None
    if node is None:
        return {}, {(): 1}
    builder = _Builder(file)
    return builder.value(node, ()), builder.lines


class _Builder:
    """From nodes to data."""

    def __init__(self, file: str) -> None:
        from yaml import MappingNode

        self._mapping = MappingNode
        self._file = file
        self._nodes = 0
        self._open: set[int] = set()
        self.lines: dict[Place, int] = {}

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.lines[place] = node.start_mark.line + 1
        self._nodes += 1
        if self._nodes > GATEWAY_CONFIG_NODES_MAX:
            raise self._error(node, f"more than {GATEWAY_CONFIG_NODES_MAX:,} values")
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node.value, str):
            return self._scalar(node, kind)
        is_mapping = isinstance(node, self._mapping)
        if kind != ("map" if is_mapping else "seq"):
            raise self._error(node, f"the tag {node.tag!r} is not for this file")
        if id(node) in self._open:
            raise self._error(node, "an alias stands within what it names")
        if len(place) >= GATEWAY_CONFIG_DEPTH_MAX:
            raise self._error(node, f"nested deeper than {GATEWAY_CONFIG_DEPTH_MAX}")
        self._open.add(id(node))
        made: Any = {}
        if is_mapping:
            for key, inner in node.value:
                name = self._key(key, made)
                made[name] = self.value(inner, (*place, name))
                self.lines[(*place, name)] = key.start_mark.line + 1
        else:
            made = [self.value(inner, (*place, i)) for i, inner in enumerate(node.value)]
        self._open.discard(id(node))
        return made

    def _key(self, node: yaml.Node, before: dict[str, Any]) -> str:
        if node.tag != f"{_TAG}str":
            what = node.value if isinstance(node.value, str) else "this"
            if what == "<<":
                raise self._error(node, "merging with '<<' is not supported; write the keys out")
            raise self._error(node, f"{what!r} is no text; put quotes around it")
        name = self._text(node)
        if name in before:
            raise self._error(node, f"the key {name!r} is here twice")
        return name

    def _scalar(self, node: yaml.Node, kind: str) -> Any:
        text: str = node.value
        match kind:
            case "str" | "timestamp":
                return self._text(node)
            case "null":
                return None
            case "bool" if text.lower() in {"true", "false"}:
                return text.lower() == "true"
            case "bool":
                raise self._error(
                    node, f"{text!r} is a boolean in YAML; write true or false, or put quotes"
                    " around it"
                )  # fmt: skip
            case "int" if _INT.fullmatch(text):
                return int(text)
            case "float" if _FLOAT.fullmatch(text):
                return float(text)
            case "int" | "float":
                raise self._error(
                    node, f"{text!r} is a number in YAML, and maybe not the one that you see; write"
                    " it in plain decimal digits, or put quotes around it"
                )  # fmt: skip
            case _:
                raise self._error(node, f"the tag {node.tag!r} is not for this file")

    def _text(self, node: yaml.Node) -> str:
        """Join the halves of characters that were escaped as JSON does; half a one is refused."""
        text: str = node.value
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self._error(node, "it holds half a character (a lone surrogate)") from None

    def _error(self, node: yaml.Node, message: str) -> InputError:
        return InputError(f"{self._file}:{node.start_mark.line + 1}: {message}")
