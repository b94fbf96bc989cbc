"""A text classifier in a folder, run here on the CPU; and the injection classifier, ready-made.

Each step is judged by itself, or with a bounded stretch of the text before it. A text longer than
the model's window is cut into windows that overlap, and the least safe one speaks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

import msgspec

from tocsin.errors import InputError
from tocsin.model import Channel, ChannelKind, Context
from tocsin.stream.steps import Step, StepDefinition
from tocsin.verifiers.contract import Declaration, Wanted
from tocsin.verifiers.onnx_files import INJECTION, Files, from_folder, of_injection
from tocsin.verifiers.onnx_model import Classifier
from tocsin.verifiers.stepwise import Judgement, NoJudgement, StepwiseSession


class OnnxVerifier:
    """A verifier that asks a text classifier; its scores are probabilities of being safe.

    Args:
        files: the classifier, as read by `from_folder` or `injection`.
        steps: what it gives one score for.

    Raises:
        InputError: the model or the tokenizer cannot be used.
        MissingExtra: ONNX Runtime or tokenizers is not installed.
    """

    def __init__(self, files: Files, steps: StepDefinition) -> None:
        self._classifier = Classifier(files)
        self._context_chars = files.settings.context_chars
        # The digests of the files are among the settings.
        settings = msgspec.json.encode(files.settings, order="deterministic")
        self._declares = Declaration(
            name=files.name,
            version=f"{hashlib.sha256(settings).hexdigest()[:16]}"
            f"-onnxruntime-{self._classifier.runtime_version}",
            steps=steps,
            channels=frozenset(files.settings.channels),
            categories=tuple(sorted(set(files.settings.unsafe.values()))),
        )

    @property
    def declares(self) -> Declaration:
        """What it says of itself."""
        return self._declares

    def open(self, context: Context) -> StepwiseSession:  # noqa: ARG002 - the contract gives it
        """Begin with a new response."""
        return _Session(self._declares, self._classifier, self._context_chars)

    def open_selected(self, context: Context, wanted: Wanted) -> StepwiseSession:  # noqa: ARG002
        """Begin with a new response of which only some steps are judged."""
        return _Session(self._declares, self._classifier, self._context_chars, wanted)

    def classify(self, texts: Sequence[str]) -> list[Judgement | NoJudgement]:
        """Judge whole passages, such as retrieved documents before a generator sees them.

        Args:
            texts: each judged by itself; what one gets never depends on the others.
        """
        return [self._classifier.judge(text) for text in texts]


class _Session(StepwiseSession):
    def __init__(
        self,
        declares: Declaration,
        classifier: Classifier,
        context_chars: int,
        wanted: Wanted | None = None,
    ) -> None:
        super().__init__(declares, wanted)
        self._classifier = classifier
        self._context_chars = context_chars
        self._before: dict[Channel, str] = {}

    def judge(self, channel: Channel, step: Step) -> Judgement | NoJudgement:
        """Judge the step, with what stood before it as far as that was asked for."""
        return self._classifier.judge(self._with_context(channel, step))

    def leave_out(self, channel: Channel, step: Step) -> None:
        """Keep what a later step may be judged with."""
        self._with_context(channel, step)

    def _with_context(self, channel: Channel, step: Step) -> str:
        if not self._context_chars:
            return step.text
        text = self._before.get(channel, "") + step.text
        self._before[channel] = text[-self._context_chars :]
        return text


def injection(
    steps: StepDefinition | None = None,
    *,
    channels: Sequence[ChannelKind] = INJECTION.channels,
    threads: int = INJECTION.threads,
) -> OnnxVerifier:
    """Load the classifier of instructions hidden in data, from the package stackone-defender.

    Args:
        steps: what one step is; a whole turn (one tool result, one passage) where None.
        channels: kinds of channels whose steps are judged.
        threads: of one inference.

    Raises:
        InputError: the package carries another model than the one whose digest is known.
        MissingExtra: a package is not installed.
    """
    return OnnxVerifier(of_injection(tuple(channels), threads), steps or StepDefinition("turn"))


def from_spec(argument: str, steps: StepDefinition | None) -> OnnxVerifier:
    """Make the verifier from its written form.

    Args:
        argument: a folder, or ``injection``, or ``injection:CHANNELS`` with kinds of channels
            separated by commas.
        steps: what one step is; where None a sentence for a folder, a turn for ``injection``.

    Raises:
        InputError: no such folder, or a file in it that cannot be used.
        MissingExtra: a package is not installed.
    """
    if not argument:
        raise InputError("onnx needs a folder or a name: onnx:FOLDER or onnx:injection")
    name, _, kinds = argument.partition(":")
    if name != "injection":
        return OnnxVerifier(from_folder(Path(argument)), steps or StepDefinition("sentence"))
    if not kinds:
        return injection(steps)
    channels = kinds.split(",")
    known = get_args(ChannelKind)
    if not set(channels) <= set(known):
        raise InputError(f"onnx:{argument}: the kinds of channels are {', '.join(known)}")
    return injection(steps, channels=cast("list[ChannelKind]", channels))
