"""Secrets, personal data and your own rules: what has a shape, found where it stands.

Rules are data (`builtin.toml`, and files of your own in the same form). Values that were found are
never kept or shown: a finding names a rule and a place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tocsin.errors import InputError
from tocsin.limits import STEP_CHARS_MAX, TURN_CHARS_MAX
from tocsin.model import ChannelKind, Context
from tocsin.stream.boundaries import LOOK_AHEAD_CHARS
from tocsin.stream.normal_forms import forms as make_forms
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.contract import GENERATED, Declaration
from tocsin.verifiers.patterns.compiled import rule_set
from tocsin.verifiers.patterns.engines import Engine
from tocsin.verifiers.patterns.rulebook import (
    VALUES,
    Rule,
    RuleFile,
    builtin,
    digest,
    effective,
    read_file,
    wide,
)
from tocsin.verifiers.patterns.session import PatternsSession
from tocsin.verifiers.patterns.views import Sets, wait_chars

__all__ = ["FORMS", "STEPS", "Patterns", "Rule", "from_spec", "rules"]

STEPS = StepDefinition("chars", 32)
"""The default step: eight tokens or so. A step is looked at once, so that shorter ones cost more a
token, and longer ones keep findings, and held-back text, waiting."""

FORMS = ("folded",)
"""The forms that are searched by default. ``decoded`` asks for ten times the hold-back."""

_CHANNELS: frozenset[ChannelKind] = GENERATED | {"observation"}

_SEMANTICS = "1"
"""Changes whenever the same rules may give other findings."""


def from_spec(argument: str, steps: StepDefinition | None) -> Patterns:
    """Make the verifier from its written form: ``patterns`` or ``patterns:RULES.toml``.

    Args:
        argument: a file of rules, or empty for the built-in ones.
        steps: what one step is; every 32 characters where not given.

    Raises:
        InputError: the file, or a rule in it, cannot be used.
        MissingExtra: RE2 or python-stdnum is not installed.
    """
    file = read_file(Path(argument)) if argument else RuleFile()
    chosen = effective(file, argument or "the built-in rules")
    return Patterns(
        chosen,
        steps=steps or STEPS,
        forms=FORMS if file.forms is None else file.forms,
        channels=_CHANNELS if file.channels is None else file.channels,
    )


def rules(argument: str = "", *, redacting: bool = False) -> tuple[Rule, ...]:
    """Return the rules that a verifier ``patterns:ARGUMENT`` uses.

    Args:
        argument: a file of rules, or empty for the built-in ones.
        redacting: with those that are for redaction alone: an answer that they would stop is
            harmless too often.

    Raises:
        InputError: the file, or a rule in it, cannot be used.

    Example:
        >>> [rule.id for rule in rules() if rule.check == "iban"]
        ['iban']
    """
    file = read_file(Path(argument)) if argument else RuleFile()
    return effective(file, argument or "the built-in rules", wide() if redacting else ())


class Patterns:
    """Find what rules name; a step without findings scores 1, others by the worst of them.

    Args:
        rules: what to look for; the built-in rules where not given.
        steps: what one step is.
        forms: normal forms of the text that are searched besides the text itself.
        channels: kinds of channels that are searched; a rule may be for fewer.
        engine: ``"hyperscan"``, ``"re2"`` or whichever is there; the findings are the same.

    Raises:
        InputError: a rule does not compile, or a form is unknown.
        MissingExtra: RE2, python-stdnum or the engine asked for is not installed.
    """

    def __init__(
        self,
        rules: Sequence[Rule] | None = None,
        *,
        steps: StepDefinition = STEPS,
        forms: Sequence[str] = FORMS,
        channels: Iterable[ChannelKind] = _CHANNELS,
        engine: Engine = "auto",
    ) -> None:
        used = tuple(builtin() if rules is None else rules)
        if not used:
            raise InputError("patterns without a rule would call any text safe; give one or more")
        searched = frozenset(channels)
        if not searched or all(
            rule.channels and searched.isdisjoint(rule.channels) for rule in used
        ):
            raise InputError("patterns: no rule is for any of its channels; it would find nothing")
        narrowed = sorted(searched) if searched != _CHANNELS else []
        self._names = tuple(forms)
        # Forms are mostly the raw text again and then skipped: no use for a stream of states.
        self._sets = Sets(rule_set(used, engine, fold=False), rule_set(used, "re2", fold=True))
        self._without = {
            kind: frozenset(
                i for i, rule in enumerate(used) if rule.channels and kind not in rule.channels
            )
            for kind in _CHANNELS
        }
        self._severities = {rule.id: VALUES[rule.severity] for rule in used}
        self._declares = Declaration(
            name="patterns",
            version=digest(used, (*self._names, *narrowed, _SEMANTICS, _stdnum_version())),
            steps=steps,
            kind="real",
            channels=searched,
            hold_back_chars=_hold_back(self._sets.raw.chars_max, self._names, steps),
            categories=tuple(sorted({rule.category for rule in used})),
        )

    @property
    def engine(self) -> str:
        """Return the name of the engine that looks at the raw text."""
        return self._sets.raw.triggers.name

    @property
    def rule_ids(self) -> frozenset[str]:
        """Names of its rules, as findings have them."""
        return frozenset(self._severities)

    @property
    def declares(self) -> Declaration:
        """What it says of itself."""
        return self._declares

    def open(self, context: Context) -> PatternsSession:  # noqa: ARG002 - rules judge the text alone
        """Begin with a new response."""
        return PatternsSession(
            self._declares, self._sets, self._without, self._names, self._severities
        )


def _hold_back(chars_max: int, names: tuple[str, ...], steps: StepDefinition) -> int:
    """Return how far back a finding may begin that has not been reported.

    A step waits until no match that begins in it can change: for the longest match, seen through
    the form that spreads it widest. The finding may begin with the step.
    """
    waits = [wait_chars(form, chars_max) for form in (None, *make_forms(names))]
    return _step_chars(steps) + max(waits)


def _step_chars(steps: StepDefinition) -> int:
    """Return the most characters that a step has, and that are needed to see its end."""
    if steps.kind == "chars":
        return steps.size
    if steps.kind == "tokens":
        return min(7 * steps.size, STEP_CHARS_MAX) + LOOK_AHEAD_CHARS
    if steps.kind in {"turn", "tool_call"}:
        return TURN_CHARS_MAX
    return STEP_CHARS_MAX + LOOK_AHEAD_CHARS


def _stdnum_version() -> str:
    try:
        return version("python-stdnum")
    except PackageNotFoundError:
        return "none"
