"""Rules made ready: their engine, and what confirms a match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from tocsin.errors import InputError
from tocsin.verifiers.patterns import engines
from tocsin.verifiers.patterns.checks import Check, check
from tocsin.verifiers.patterns.language import parse_class
from tocsin.verifiers.patterns.rulebook import Rule, words

CONTEXT_CHARS = 64
"""How far before a match a word of its context may stand."""

LOOK_CHARS = 2
"""Characters around a match that may decide on it."""

Search = Callable[[bytes, int, int], Any]
"""Finds a match in a range of bytes; what lies around the range is seen by ``\\b``."""


class Ready:
    """One rule, ready to confirm.

    Args:
        rule: the rule.
        fold: for text without upper case.
    """

    __slots__ = (
        "_context",
        "chars_max",
        "check",
        "number",
        "rest",
        "rest_max",
        "rule",
        "search",
        "text",
    )

    def __init__(self, rule: Rule, *, fold: bool) -> None:
        re2, options = engines.re2(), engines.options()
        shape = rule.shape()
        self.text = _in_any_case(shape.text) if fold else shape.text
        self.rule = rule
        self.chars_max = shape.high
        self.number = rule.number
        self.rest_max = rule.rest_max
        try:
            self.search: Search = re2.compile(self.text.encode(), options).search
            flag = "(?i)" if fold else ""
            going = f"{flag}{_rest(rule)}"
            rest = re2.compile(going.encode(), options) if rule.rest else None
            context = (
                re2.compile(words(rule.context).text.encode(), options) if rule.context else None
            )
        except re2.error as e:
            raise InputError(f"rule {rule.id!r}: RE2 cannot compile it: {_told(e)}") from e
        self.rest: Search | None = rest.match if rest else None
        self._context = context.search if context else None
        self.check: Check | None = check(rule.check) if rule.check else None

    def accepted(self, before: str, text: str, after: str) -> int:
        """Return how many characters of a match are a finding, 0 for none.

        Args:
            before: up to `CONTEXT_CHARS` characters before the match.
            text: the match.
            after: `LOOK_CHARS` characters behind it, and the match's end may move into it never.
        """
        if self._context is not None and not self._context(engines.encode(before)):
            return 0
        size = len(text) if self.check is None else self.check(text)
        if size and self.number and not _alone(before[-2:], (text[size:] + after)[:2]):
            return 0
        return size


class RuleSet:
    """The rules of one kind of channel.

    Args:
        rules: in the order in which their findings are told apart.
        engine: what says that a rule may match.
        fold: for text without upper case, so that rules match in any case.

    Raises:
        InputError: a rule does not compile.
        MissingExtra: RE2, or the engine asked for, is not installed.
    """

    def __init__(
        self, rules: Sequence[Rule], engine: engines.Engine, *, fold: bool = False
    ) -> None:
        self.rules = [Ready(rule, fold=fold) for rule in rules]
        shapes = [rule.shape() for rule in rules]
        self.chars_max = max((s.high for s in shapes), default=0)
        self.spaced_chars_max = max((s.high for s in shapes if s.breaks), default=0)
        self.settles_after = LOOK_CHARS + min(self.chars_max, self.spaced_chars_max)
        """So many characters must follow a place, at least, before all before it is settled."""
        self.triggers = engines.triggers([r.text for r in self.rules], engine)


@lru_cache(maxsize=8)
def rule_set(rules: tuple[Rule, ...], engine: engines.Engine, *, fold: bool) -> RuleSet:
    """Compile rules, or return what was compiled before: Hyperscan takes a second or more.

    Raises:
        InputError: a rule does not compile.
        MissingExtra: RE2, python-stdnum or the engine asked for is not installed.
    """
    return RuleSet(rules, engine, fold=fold)


def _rest(rule: Rule) -> str:
    """Write how a match goes on; what joins counts only with what it joins."""
    if not rule.rest:
        return ""
    on = parse_class(rule.rest)
    return f"(?:{on}|{parse_class(rule.joints)}{on})*" if rule.joints else f"{on}*"


def _in_any_case(text: str) -> str:
    return text if text.startswith("(?i)") else "(?i)" + text


def _alone(before: str, after: str) -> bool:
    """Whether a number is no part of a longer one, of a word or of a version."""
    if before and (before[-1].isalnum() or before[-1] == "_"):
        return False
    if len(before) == 2 and before[1] in ".-" and before[0].isdigit():
        return False
    if after and (after[0].isalnum() or after[0] == "_"):
        return False
    return not (len(after) == 2 and after[0] in ".-" and after[1].isdigit())


def _told(error: Exception) -> str:
    content = error.args[0] if error.args else ""
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
