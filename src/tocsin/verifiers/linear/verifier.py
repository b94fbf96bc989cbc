"""The verifier and its sessions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import SessionMisuse
from tocsin.limits import CHANNELS_MAX, OBSERVED_CHARS_HELD
from tocsin.model import Channel, Context, Delta
from tocsin.stream.steps import Step, StepDefinition
from tocsin.verifiers.contract import Declaration
from tocsin.verifiers.linear.features import folded_bytes
from tocsin.verifiers.linear.model_file import Model
from tocsin.verifiers.linear.prefix import Prefix
from tocsin.verifiers.stepwise import Judgement, StepwiseSession

Floats = Sequence[float] | NDArray[np.float64]
Scale = Sequence[Floats] | NDArray[np.float64]

_exp = math.exp
_DIGITS = 12
"""Decimals of a score: exp() may differ in the last bit between platforms."""

_UNITS = 1e12
_SURE = 0.499
"""So far from the middle between two of them the rounding of a product, 10^-4 at most, is none."""


class LinearVerifier:
    """A hashed byte-n-gram linear model as a verifier.

    Args:
        model: sealed.
        name: as it was asked for.
        steps: what it gives one score for.
    """

    def __init__(self, model: Model, name: str, steps: StepDefinition) -> None:
        self._model = model
        self._declares = Declaration(
            name=name,
            version=model.header.digest,
            steps=steps,
            categories=tuple(head.name for head in model.header.heads[1:]),
        )

    @property
    def declares(self) -> Declaration:
        """What it says of itself."""
        return self._declares

    @property
    def model(self) -> Model:
        """The model, with its card."""
        return self._model

    @property
    def learned_from(self) -> frozenset[str]:
        """SHA-256 of the files that it was trained on, in hexadecimal digits."""
        return frozenset(str(d["digest"]) for d in self._model.header.card.get("data", []))

    def open(self, context: Context) -> StepwiseSession:  # noqa: ARG002 - the contract gives it
        """Begin with a new response."""
        return _Session(self._declares, self._model)


class _Choice:
    """One of several answers to a request: a prefix, and observations that wait for a step."""

    def __init__(self, model: Model) -> None:
        features = model.header.features
        self.prefix = Prefix(model.weights, features.orders, features.block)
        self._waiting: dict[Channel, list[str]] = {}
        self._held: dict[Channel, int] = {}

    def observe(self, delta: Delta) -> None:
        """Hold an observation; read it in pieces whose ends do not depend on how it was cut."""
        parts = self._waiting.setdefault(delta.channel, [])
        parts.append(delta.text)
        held = self._held.get(delta.channel, 0) + len(delta.text)
        if held >= OBSERVED_CHARS_HELD:
            text = "".join(parts)
            whole = held - held % OBSERVED_CHARS_HELD
            for at in range(0, whole, OBSERVED_CHARS_HELD):
                piece = text[at : at + OBSERVED_CHARS_HELD]
                self.prefix.observe(delta.channel, folded_bytes(piece))
            parts[:] = [text[whole:]]
            held -= whole
        self._held[delta.channel] = held

    def read_observations(self) -> None:
        """Read what waits."""
        for channel, parts in self._waiting.items():
            self.prefix.observe(channel, folded_bytes("".join(parts)))
        self._waiting.clear()
        self._held.clear()


class _Session(StepwiseSession):
    """The scores of one response."""

    def __init__(self, declares: Declaration, model: Model) -> None:
        super().__init__(declares)
        self._model = model
        heads = model.header.heads
        self._scale = ([h.intercept for h in heads], [h.slope for h in heads])
        self._reads_observations = model.header.features.observations
        self._choices: dict[int, _Choice] = {}
        self._observed: set[Channel] = set()

    def observe(self, delta: Delta) -> None:
        """Hold observations until the next step."""
        if delta.channel.kind == "observation" and self._reads_observations and delta.text:
            self._observed.add(delta.channel)
            if len(self._observed) > CHANNELS_MAX:
                raise SessionMisuse(f"a response has at most {CHANNELS_MAX} observed channels")
            self._choice(delta.channel).observe(delta)

    def judge(self, channel: Channel, step: Step) -> Judgement:
        """Take the step in, and say what all of it is worth."""
        choice = self._choice(channel)
        if self._reads_observations:
            choice.read_observations()
        choice.prefix.write(channel, folded_bytes(step.text))
        first, *others = probabilities(self._scale, choice.prefix.by_head())
        return Judgement(first, dict(zip(self._declares.categories, others, strict=True)))

    def _choice(self, channel: Channel) -> _Choice:
        found = self._choices.get(channel.choice)
        if found is None:
            found = self._choices[channel.choice] = _Choice(self._model)
        return found


def probabilities(scale: Scale, evidence: Floats) -> list[float]:
    """Return the calibrated probability of being safe, by each head.

    Args:
        scale: intercepts and slopes, shape (2, heads).
        evidence: shape (heads,).

    Example:
        >>> probabilities([[1.0, 0.0], [0.5, 1.0]], [-2.0, 800.0])
        [0.5, 1.0]
    """
    # A few numbers: plain floats take a fifth of the time that arrays do.
    return [
        _rounded(1.0 / (1.0 + _exp(-z))) if -700.0 < z < 700.0 else _far(z)
        for z in [float(a + b * e) for a, b, e in zip(scale[0], scale[1], evidence, strict=True)]
    ]


def _far(z: float) -> float:
    """Where exp() would leave the range of floats."""
    return round(1.0 / (1.0 + _exp(-min(max(z, -700.0), 700.0))), _DIGITS)


def _rounded(p: float) -> float:
    """Round as `round` does, which goes through decimal digits, and take a third of the time.

    Args:
        p: 0 to 1.

    Example:
        >>> _rounded(0.12345678901234)
        0.123456789012
    """
    scaled = p * _UNITS
    whole = int(scaled + 0.5)
    if -_SURE < scaled - whole < _SURE:
        return whole / _UNITS  # the float next to that decimal fraction
    return round(p, _DIGITS)
