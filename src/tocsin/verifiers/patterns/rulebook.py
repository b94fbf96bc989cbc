"""Rules as data: the built-in table, and files of your own, read strictly."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from tocsin.errors import InputError
from tocsin.limits import PATTERN_FILE_BYTES_MAX, PATTERN_REST_MAX, PATTERN_RULES_MAX
from tocsin.model import ChannelKind
from tocsin.verifiers.patterns import checks
from tocsin.verifiers.patterns.language import PatternError, Shape, literal, parse, parse_class
from tocsin.verifiers.reading import read_whole
from tocsin.verifiers.taxonomy import BY_ID

Severity = Literal["high", "medium", "low"]

VALUES: dict[Severity, float] = {"high": 0.0, "medium": 0.3, "low": 0.6}
"""The score of a step with a finding of this severity; 1.0 where nothing is found. Safe-high."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule, as a file of rules writes it.

    Args:
        id: its name in findings: lower-case letters, digits and ``_``.
        title: for people.
        pattern: what it matches; see `language`.
        words: instead of a pattern: words or phrases, in any case, that stand by themselves.
        rest: a class of characters by which a match goes on, such as ``[A-Za-z0-9]``.
        joints: a class of characters that `rest` may go on behind, but that never end a match, such
            as ``[.]`` in a name of a domain.
        rest_max: how many of them at most.
        check: name of what a match must pass besides, or empty.
        number: it is a number that stands alone: not part of a longer one, with or without dots.
        context: one of these words must stand at most 64 characters before a match.
        category: an identifier of `tocsin.verifiers.taxonomy`.
        severity: what a finding does to the score of its step.
        channels: kinds of channels that it is for; all where empty.
        source: where the format is published.
    """

    id: str
    title: str = ""
    pattern: str = ""
    words: tuple[str, ...] = ()
    rest: str = ""
    joints: str = ""
    rest_max: int = 4_096
    check: str = ""
    number: bool = False
    context: tuple[str, ...] = ()
    category: str = "custom"
    severity: Severity = "high"
    channels: tuple[ChannelKind, ...] = ()
    source: str = ""

    def shape(self) -> Shape:
        """Return the pattern as the engines take it, and its length.

        Raises:
            PatternError: it is outside of the language.
        """
        if self.pattern:
            return parse(self.pattern)
        return words(self.words)

    @property
    def chars_max(self) -> int:
        """The most characters that a match has before its `rest`."""
        return self.shape().high


class Choice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which built-in rules are used: by identifier or by category; all but `exclude` by default."""

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()


class RuleFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of rules.

    Args:
        forms: normal forms of the text that are searched besides the text itself.
        channels: kinds of channels that are searched at all; every kind where left out.
        builtin: which built-in rules are used.
        rule: rules of your own.
    """

    forms: tuple[str, ...] | None = None
    channels: tuple[ChannelKind, ...] | None = None
    builtin: Choice = Choice()
    rule: tuple[Rule, ...] = ()


@cache
def builtin() -> tuple[Rule, ...]:
    """Return the rules that come with Tocsin, in the order of their table."""
    path = Path(__file__).with_name("builtin.toml")
    return read_file(path).rule


@cache
def wide() -> tuple[Rule, ...]:
    """Return the rules for redaction alone: too often wrong to ring on."""
    return read_file(Path(__file__).with_name("wide.toml")).rule


def read_file(path: Path) -> RuleFile:
    """Read a file of rules, strictly.

    Raises:
        InputError: it cannot be read, or a rule in it cannot be used; names file and rule.
    """
    raw = read_whole(path, PATTERN_FILE_BYTES_MAX, "the file of rules")
    try:
        content: Any = tomllib.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as e:  # ValueError: not UTF-8, no TOML, a huge number
        raise InputError(f"{path} is no TOML: {e}; see docs/how-to/patterns.md") from e
    try:
        made = msgspec.convert(content, RuleFile)
    except msgspec.ValidationError as e:
        raise InputError(f"{path}{_where(content, str(e))}: {e}") from e
    seen: set[str] = set()
    for rule in made.rule:
        _validate(rule, f"{path}, rule {rule.id!r}")
        if rule.id in seen:
            raise InputError(f"{path}, rule {rule.id!r}: the id is given twice; rename one")
        seen.add(rule.id)
    return made


def effective(file: RuleFile, where: str, more: tuple[Rule, ...] = ()) -> tuple[Rule, ...]:
    """Return the rules that a file asks for, its own after the built-in ones.

    Args:
        file: what it says.
        where: its name.
        more: rules that count as built-in ones here.

    Raises:
        InputError: it names a built-in rule that does not exist, takes the id of one that is used,
            or leaves no rule.
    """
    made = (*builtin(), *more)
    include, exclude = file.builtin.include, file.builtin.exclude
    known = {name for rule in made for name in (rule.id, rule.category)}
    for name in (*(include or ()), *exclude):
        if name not in known:
            raise InputError(
                f"{where}, [builtin]: {name!r} is no built-in rule and no category of one; "
                "tocsin.verifiers.patterns.rules() lists them"
            )
    chosen = [
        rule
        for rule in made
        if (include is None or rule.id in include or rule.category in include)
        and rule.id not in exclude
        and rule.category not in exclude
    ]
    taken = {rule.id for rule in chosen}
    for rule in file.rule:
        if rule.id in taken:
            raise InputError(
                f"{where}, rule {rule.id!r}: a built-in rule has this id; rename yours, or exclude "
                "the built-in one under [builtin]"
            )
    found = (*chosen, *file.rule)
    if not found:
        raise InputError(f"{where} leaves no rule; add one, or include built-in ones")
    if len(found) > PATTERN_RULES_MAX:
        raise InputError(f"{where}: {len(found)} rules; at most {PATTERN_RULES_MAX} can be used")
    return found


def digest(rules: Sequence[Rule], more: Iterable[str]) -> str:
    """Name what decides the findings: every rule, and what else is given."""
    hashed = hashlib.sha256(msgspec.json.encode([*rules, *more]))
    return hashed.hexdigest()[:16]


def words(listed: Iterable[str]) -> Shape:
    """Return the pattern that matches any of some words or phrases.

    Raises:
        PatternError: there is none, or one is too long.
    """
    return parse("(?i)" + "|".join(_word(w) for w in listed))


def _word(word: str) -> str:
    """Write a word or phrase as a pattern; runs of white space are up to 3 characters of it."""
    parts = word.split()
    inner = r"\s{1,3}".join(literal(part) for part in parts)
    ascii_word = [c.isascii() and (c.isalnum() or c == "_") for c in (parts[0][0], parts[-1][-1])]
    before, after = (r"\b" if whole else "" for whole in ascii_word)
    return before + inner + after


def _validate(rule: Rule, where: str) -> None:
    if not (rule.id.isascii() and rule.id.replace("_", "a").isalnum() and rule.id.islower()):
        raise InputError(f"{where}: an id has lower-case letters, digits and _")
    if bool(rule.pattern) == bool(rule.words):
        raise InputError(f"{where}: give either a pattern or words")
    if not all(w.strip() for w in (*rule.words, *rule.context)):
        raise InputError(f"{where}: a word is empty; leave it out")
    if rule.joints and not rule.rest:
        raise InputError(f"{where}: joints need a rest that they join")
    if not 1 <= rule.rest_max <= PATTERN_REST_MAX:
        raise InputError(f"{where}: rest_max {rule.rest_max} is not within 1 to {PATTERN_REST_MAX}")
    if rule.category not in BY_ID:
        raise InputError(
            f"{where}: category {rule.category!r} is unknown; use one of {', '.join(BY_ID)}"
        )
    if rule.check and rule.check not in checks.NAMES:
        raise InputError(
            f"{where}: check {rule.check!r} is unknown; use one of {', '.join(checks.NAMES)}"
        )
    _validate_patterns(rule, where)


def _validate_patterns(rule: Rule, where: str) -> None:
    part = "pattern" if rule.pattern else "words"
    try:
        rule.shape()
        part = "context"
        if rule.context:
            words(rule.context)
        for part, written in (("rest", rule.rest), ("joints", rule.joints)):  # noqa: B007 - told below
            if written:
                parse_class(written)
    except PatternError as e:
        raise InputError(f"{where}: {part}: {e}") from e


def _where(content: Any, message: str) -> str:
    """Name the rule that a message of msgspec is about, where it is about one."""
    place = message.rpartition("$.rule[")[2].partition("]")[0]
    listed = content.get("rule")
    if not place.isdigit() or not isinstance(listed, list) or int(place) >= len(listed):
        return ""
    one = listed[int(place)]
    name = one.get("id") if isinstance(one, dict) else None
    return f", rule {name!r}" if isinstance(name, str) else f", rule number {int(place) + 1}"
