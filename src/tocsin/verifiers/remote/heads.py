"""Classification heads, cross-encoders and reward models: ``/classify``, ``/score``, ``/pooling``.

Formats of vLLM (docs/models/pooling_models of vllm-project/vllm): a list of texts in, ``data`` out,
with an ``index`` for each. Requests of several responses travel as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from tocsin.verifiers.remote.dialect import Dialect, Said, bad, outside, unknown_categories, within
from tocsin.verifiers.remote.text import Case, fill, harmless
from tocsin.verifiers.stepwise import Judgement, NoJudgement

SUM_TOLERANCE = 0.01
"""Probabilities in half precision sum to 1 within this."""


class _List(msgspec.Struct):
    data: list[msgspec.Raw]


class _Item(msgspec.Struct):
    index: int


_LIST = msgspec.json.Decoder(_List)
_ITEM = msgspec.json.Decoder(_Item)


def _items(
    body: bytes, cases: Sequence[Case], read: Callable[[msgspec.Raw, Case], Said]
) -> list[Said]:
    """Read the item of each case; one that cannot be read spoils itself, not the others."""
    try:
        data = _LIST.decode(body).data
        found = {_ITEM.decode(raw).index: raw for raw in data}
    except (msgspec.DecodeError, RecursionError):
        return [bad("the answer has no list 'data' of items with an index")] * len(cases)
    if len(data) != len(cases) or found.keys() != set(range(len(cases))):
        return [bad(f"{len(data)} items for {len(cases)} texts, or wrong indices")] * len(cases)
    return [read(found[i], case) for i, case in enumerate(cases)]


class Head(Dialect, frozen=True, kw_only=True):
    """A dialect that takes a list of texts.

    Args:
        template: the text that is sent, with ``{response}`` and perhaps ``{prompt}`` (the
            conversation's user and assistant messages, a blank line between them) in it. Special
            tokens written here have their meaning; in what is filled in they lose it.
    """

    batches: ClassVar[bool] = True

    template: str = "{response}"

    def complaint(self) -> str:
        """Say what is wrong with the options."""
        return "" if "{response}" in self.template else "template: it has no {response} in it"

    def _text(self, case: Case) -> str:
        return fill(self.template, {"prompt": _prompt(case), "response": harmless(case.response)})


def _prompt(case: Case, own: Sequence[str] = ()) -> str:
    said = [m.content for m in case.messages if m.role in {"user", "assistant"}]
    return harmless("\n\n".join(said), own)


# ---------------------------------------------------------------------------------------- classify


class _Probs(msgspec.Struct):
    probs: list[float]
    label: str | None = None


_PROBS = msgspec.json.Decoder(_Probs)


class Classify(Head, frozen=True, kw_only=True, tag="classify"):
    """A classifier behind vLLM's ``/classify``: a probability for each label.

    Args:
        labels: the labels in the order of the model's ``id2label``.
        safe: those that mean safe. The score is the sum of their probabilities.
        multi_label: each label has a probability of its own; the score is 1 less the largest
            probability of a label that is not safe.
        map: from labels to categories of ours.
    """

    labels: tuple[str, ...]
    safe: tuple[str, ...]
    multi_label: bool = False
    map: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories that labels are mapped to."""
        return tuple(dict.fromkeys(self.map.values()))

    def complaint(self) -> str:
        """Say what is wrong with the options."""
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            return "labels: name two labels or more, each once, in the order of the model"
        if not set(self.safe) <= set(self.labels) or set(self.safe) == set(self.labels):
            return "safe: name some of the labels, not all"
        if not self.safe and not self.multi_label:
            return "safe: name the labels that mean safe"
        if not self.map.keys() <= set(self.labels) - set(self.safe):
            return "map: only labels that are not safe have a category"
        return unknown_categories(self.categories) or super().complaint()

    def request(self, model: str, cases: Sequence[Case]) -> dict[str, Any]:
        """Ask about all cases at once."""
        return {"model": model, "input": [self._text(case) for case in cases]}

    def read(self, body: bytes, cases: Sequence[Case]) -> list[Said]:
        """Read the probabilities of each."""
        return _items(body, cases, self._item)

    def _item(self, raw: msgspec.Raw, _case: Case) -> Said:
        try:
            answer = _PROBS.decode(raw)
        except msgspec.DecodeError:
            return bad("no list of probabilities")
        probs = answer.probs
        if len(probs) != len(self.labels):
            return bad(f"{len(probs)} probabilities for {len(self.labels)} labels")
        for value in probs:
            if not within(value, self.span):
                return outside(value, self.span)
        if not self.multi_label and abs(math.fsum(probs) - 1.0) > SUM_TOLERANCE:
            return NoJudgement("out_of_range", f"the probabilities sum to {math.fsum(probs)!r}")
        if answer.label is not None and not self._is_likeliest(answer.label, probs):
            return bad("its label is not the likeliest of `labels`; are they in the model's order?")
        return self._judgement(dict(zip(self.labels, probs, strict=True)))

    def _is_likeliest(self, label: str, probs: Sequence[float]) -> bool:
        return label in self.labels and probs[self.labels.index(label)] >= max(probs) - 1e-6

    def _judgement(self, probs: dict[str, float]) -> Judgement:
        harm: dict[str, float] = {}
        for label, name in self.map.items():
            before = harm.get(name, 0.0)
            harm[name] = max(before, probs[label]) if self.multi_label else before + probs[label]
        if self.multi_label:
            value = 1.0 - max(p for label, p in probs.items() if label not in self.safe)
        else:
            value = min(1.0, math.fsum(probs[label] for label in self.safe))
        return Judgement(value, {name: max(0.0, 1.0 - p) for name, p in harm.items()})


# ------------------------------------------------------------------------------------------- score


class _Scored(msgspec.Struct):
    score: float


_SCORED = msgspec.json.Decoder(_Scored)


class CrossEncoder(Head, frozen=True, kw_only=True, tag="score"):
    """A cross-encoder behind vLLM's ``/score``: one number for a pair of texts.

    Args:
        first: the first text of the pair; ``{prompt}`` in it stands for the conversation. The
            second is the template.
        higher: what a higher number means, ``"safe"`` or ``"unsafe"``.
        low, high: the range of the numbers.
    """

    first: str = "{prompt}"
    higher: Literal["safe", "unsafe"]
    low: float = 0.0
    high: float = 1.0

    @property
    def span(self) -> tuple[float, float]:
        """The range of the scores."""
        return (self.low, self.high)

    @property
    def needs_conversation(self) -> bool:
        """The first text is made of it."""
        return "{prompt}" in self.first

    def complaint(self) -> str:
        """Say what is wrong with the options."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            return "low, high: give a range of finite numbers, the lower first"
        return super().complaint() if self.first.strip() else "first: it is empty"

    def request(self, model: str, cases: Sequence[Case]) -> dict[str, Any]:
        """Ask about all pairs at once: two lists of the same length are read as pairs."""
        first = [fill(self.first, {"prompt": _prompt(case)}) for case in cases]
        return {"model": model, "text_1": first, "text_2": [self._text(case) for case in cases]}

    def read(self, body: bytes, cases: Sequence[Case]) -> list[Said]:
        """Read the number of each."""
        return _items(body, cases, self._item)

    def _item(self, raw: msgspec.Raw, _case: Case) -> Said:
        try:
            value = _SCORED.decode(raw).score
        except msgspec.DecodeError:
            return bad("no number 'score'")
        if not within(value, self.span):
            return outside(value, self.span)
        return Judgement(value if self.higher == "safe" else self.low + (self.high - value))


# ----------------------------------------------------------------------------------------- pooling


class _Pooled(msgspec.Struct):
    data: list[list[float] | float]


_POOLED = msgspec.json.Decoder(_Pooled)


class Reward(Head, frozen=True, kw_only=True, tag="pooling"):
    """A process reward model behind vLLM's ``/pooling``: a row of numbers for each step or token.

    The last row is the step's. Each row has as many numbers as there are classes.

    Args:
        step_token: the token that ends a step, put after each in place of the white space around
            it, such as ``"<extra_0>"``; where it is empty the model gives a row for each token.
        classes: numbers in a row; 1 where it is a single reward.
        positive: which of them, from 0, is that of a good step.
        activation: what makes probabilities of the numbers: ``"none"`` where the server does.
        low, high: the range of a single reward that is sent without activation.
        task: sent as ``task`` where the server needs it: ``"token_classify"`` for newer vLLM.
    """

    step_token: str = ""
    classes: int = 2
    positive: int = 1
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    low: float = 0.0
    high: float = 1.0
    task: str = ""

    @property
    def span(self) -> tuple[float, float]:
        """The range of the scores."""
        single = self.classes == 1 and self.activation == "none"
        return (self.low, self.high) if single else (0.0, 1.0)

    @property
    def _core(self) -> str:
        return self.step_token.strip(" ")

    def complaint(self) -> str:
        """Say what is wrong with the options."""
        if self.step_token and (len(self._core) < 2 or " " in self._core):
            return "step_token: it needs two characters or more, and no space between them"
        if not 0 <= self.positive < self.classes:
            return "positive: it counts from 0 and is less than classes"
        fitting = ("none", "sigmoid") if self.classes == 1 else ("none", "softmax")
        if self.activation not in fitting:
            return f"activation: with classes = {self.classes} use {' or '.join(fitting)}"
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            return "low, high: give a range of finite numbers, the lower first"
        return super().complaint()

    def request(self, model: str, cases: Sequence[Case]) -> dict[str, Any]:
        """Ask about all cases at once."""
        asked: dict[str, Any] = {"model": model, "input": [self._marked(case) for case in cases]}
        return asked | ({"task": self.task} if self.task else {})

    def _marked(self, case: Case) -> str:
        if not self.step_token:
            return self._text(case)
        own = (self._core,)
        steps = "".join(harmless(step.strip(), own) + self.step_token for step in case.steps)
        return fill(self.template, {"prompt": _prompt(case, own), "response": steps})

    def read(self, body: bytes, cases: Sequence[Case]) -> list[Said]:
        """Read the last row of each."""
        return _items(body, cases, self._item)

    def _item(self, raw: msgspec.Raw, case: Case) -> Said:
        try:
            data = _POOLED.decode(raw).data
        except msgspec.DecodeError:
            return bad("no rows of numbers")
        rows = [row if isinstance(row, list) else [row] for row in data]
        if not rows or (self.step_token and len(rows) != len(case.steps)):
            return bad(f"{len(rows)} rows for {len(case.steps)} steps")
        if any(len(row) != self.classes for row in rows):
            return bad(f"a row has not {self.classes} numbers")
        return self._value(rows[-1])

    def _value(self, row: Sequence[float]) -> Said:
        if not all(map(math.isfinite, row)):
            return NoJudgement("out_of_range", "not a finite number")
        if self.activation == "sigmoid":
            return Judgement(0.5 * (1.0 + math.tanh(0.5 * row[0])))
        if self.activation == "softmax":
            top = max(row)
            odds = [math.exp(value - top) for value in row]
            return Judgement(odds[self.positive] / math.fsum(odds))
        value = row[self.positive]
        if not within(value, self.span):
            return outside(value, self.span)
        if self.classes > 1 and abs(math.fsum(row) - 1.0) > SUM_TOLERANCE:
            return NoJudgement("out_of_range", "a row does not sum to 1; is an activation missing?")
        return Judgement(value)
