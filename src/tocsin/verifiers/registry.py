"""From the name of a verifier, as people write it, to the verifier."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from tocsin.errors import InputError
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.contract import AnyVerifier

KINDS: Mapping[str, str] = {
    "patterns": "secrets, personal data and your own rules; patterns[:RULES.toml]",
    "linear": "a trained model of byte n-grams; linear:NAME or linear:FILE",
    "logprobs": "the generator's own log-probabilities; logprobs[:min|mean|self_certainty]",
    "remote": "a guard, judge or reward model behind a URL; remote:CONFIG.toml",
    "onnx": "a text classifier in a folder; onnx:FOLDER or onnx:injection",
    "combined": "several verifiers as one, fitted on labels; combined:FILE",
    "cascade": "a strong verifier where a cheap one is unsure; cascade:FILE",
}
"""What may stand before the colon. Each is a module of this folder with a `from_spec`."""


def verifier(spec: str, steps: str | StepDefinition | None = None) -> AnyVerifier:
    """Make a verifier from its written form, ``KIND`` or ``KIND:ARGUMENT``.

    Args:
        spec: such as ``"patterns"``, ``"linear:harmful_answer"`` or ``"remote:guard.toml"``.
        steps: what one step is, such as ``"sentence"``; the verifier's own default where not given.

    Raises:
        InputError: an unknown kind, or an argument that the kind cannot use.
        MissingExtra: an optional library is needed.

    Example:
        >>> verifier("logprobs:min", "line").declares.name
        'logprobs:min'
    """
    kind, _, argument = spec.partition(":")
    if kind not in KINDS:
        raise InputError(f"verifier {spec!r} is unknown; use one of {', '.join(KINDS)}")
    definition = StepDefinition.parse(steps) if isinstance(steps, str) else steps
    made: AnyVerifier = importlib.import_module(f"tocsin.verifiers.{kind}").from_spec(
        argument, definition
    )
    return made
