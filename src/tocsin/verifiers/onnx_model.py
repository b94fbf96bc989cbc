"""A text classifier on ONNX Runtime: text in, a safe-high judgement out.

Nothing is sent and nothing is written: telemetry is off, and the releases that `pyproject.toml`
allows report nothing by themselves. A text's judgement is a function of the text alone: texts run
one by one and without padding, since a quantised model scales its numbers to the whole batch.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError, MissingExtra
from tocsin.limits import ONNX_TEXT_TOKENS_MAX, TURN_CHARS_MAX
from tocsin.verifiers.onnx_files import Files, Settings
from tocsin.verifiers.stepwise import Judgement, NoJudgement

_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


class Classifier:
    """A loaded model; it may be used from several threads at once.

    Args:
        files: what it is made of.

    Raises:
        InputError: the model or the tokenizer cannot be used; says why.
        MissingExtra: ONNX Runtime or tokenizers is not installed.
    """

    def __init__(self, files: Files) -> None:
        self._settings = files.settings
        runtime, tokenizers = _libraries()
        self.runtime_version: str = runtime.__version__
        self._tokenizer = _tokenizer(tokenizers, files)
        self._session = _session(runtime, files)
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name
        self._check(files.name)

    def judge(self, text: str) -> NoJudgement | Judgement:
        """Judge one text: the least safe of its windows speaks for it.

        Args:
            text: up to `limits.ONNX_TEXT_TOKENS_MAX` tokens, counted in whole windows; more is
                ``too_long``.
        """
        if len(text) > 2 * TURN_CHARS_MAX:
            return NoJudgement("too_long", f"{len(text)} characters")
        try:
            windows = self._windows(text)
            if len(windows) > ONNX_TEXT_TOKENS_MAX // self._settings.tokens_max:
                return NoJudgement("too_long", f"{len(windows)} windows")
            judged = [_safety(self._run(ids)[0].tolist(), self._settings) for ids in windows]
        except Exception as e:  # noqa: BLE001 - neither library says what it raises
            return NoJudgement("failed", type(e).__name__)
        if any(one is None for one in judged):
            return NoJudgement("out_of_range", "the model gave a number that is not finite")
        return _least([one for one in judged if one is not None])

    def _windows(self, text: str) -> list[list[int]]:
        """Cut a text into overlapping windows of token ids."""
        # A lone surrogate is no character: the tokenizer would refuse the text.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        if self._settings.nfkc:
            clean = unicodedata.normalize("NFKC", clean)
        first = self._tokenizer.encode(clean)
        return [first.ids, *(window.ids for window in first.overflowing)]

    def _run(self, ids: Sequence[int]) -> NDArray[Any]:
        """Give the first output for a batch of this one row."""
        row = np.array([ids], dtype=np.int64)
        given = {
            "input_ids": row,
            "attention_mask": np.ones_like(row),
            "token_type_ids": np.zeros_like(row),
        }
        found = self._session.run([self._output], {name: given[name] for name in self._inputs})
        return np.asarray(found[0])

    def _check(self, name: str) -> None:
        """Run it once: what it takes and gives must be what a text classifier does."""
        inputs = {given.name: given.type for given in self._session.get_inputs()}
        if "input_ids" not in inputs or not set(inputs) <= _INPUTS:
            raise InputError(
                f"{name}: the model takes {sorted(inputs)}; a text classifier takes input_ids and "
                "at most attention_mask and token_type_ids"
            )
        if set(inputs.values()) != {"tensor(int64)"}:
            raise InputError(f"{name}: the model's inputs must be int64, they are {inputs}")
        try:
            shape = self._run(self._windows("a b c")[0]).shape
        except Exception as e:
            raise InputError(f"{name}: the model cannot judge a short text: {e}") from e
        labels = self._settings.labels
        if shape != (1, len(labels)):
            raise InputError(
                f"{name}: the model's first output has shape {shape} for one text; "
                f"the labels {list(labels)} need (1, {len(labels)})"
            )


def _libraries() -> tuple[Any, Any]:
    # Before the import, when a release that reports by itself would begin to.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
        import tokenizers
    except ImportError as e:
        raise MissingExtra(f"onnx needs {e.name}: pip install 'tocsin[onnx]'") from e
    onnxruntime.disable_telemetry_events()
    return onnxruntime, tokenizers


def _session(runtime: Any, files: Files) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = files.settings.threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # its own words on stderr would mix with ours
    try:
        return runtime.InferenceSession(files.model, options, providers=["CPUExecutionProvider"])
    except Exception as e:
        raise InputError(f"{files.name}: {files.settings.model} is no usable model: {e}") from e


def _tokenizer(tokenizers: Any, files: Files) -> Any:
    settings = files.settings
    try:
        made = tokenizers.Tokenizer.from_buffer(files.tokenizer)
        made.no_padding()
        made.enable_truncation(settings.tokens_max, stride=settings.overlap)
    except Exception as e:
        raise InputError(f"{files.name}: {settings.tokenizer} is no usable tokenizer: {e}") from e
    return made


def _safety(logits: Sequence[float], settings: Settings) -> dict[str, float] | None:
    """Give the safety of one window by category, and whole under ``""``; None where not finite."""
    if not all(map(math.isfinite, logits)):
        return None
    scaled = [logit / settings.temperature for logit in logits]
    of = dict(zip(settings.labels, scaled, strict=True))
    named: dict[str, set[str]] = {"": set(settings.unsafe)}
    for label, category in settings.unsafe.items():
        named.setdefault(category, set()).add(label)
    safe_of = _softmax_safety if settings.activation == "softmax" else _sigmoid_safety
    return {category: safe_of(of, unsafe, settings) for category, unsafe in named.items()}


# Neither takes a difference of numbers near 1, so that a small safety keeps its digits.


def _softmax_safety(of: Mapping[str, float], unsafe: set[str], _: Settings) -> float:
    most = max(of.values())
    shares = {label: math.exp(value - most) for label, value in of.items()}
    safe = math.fsum(share for label, share in shares.items() if label not in unsafe)
    return safe / math.fsum(shares.values())


def _sigmoid_safety(of: Mapping[str, float], unsafe: set[str], settings: Settings) -> float:
    excuse = max((_sigmoid(of[label]) for label in settings.excusing), default=0.0)
    return max(min(_sigmoid(-of[label]) for label in unsafe), excuse)


def _sigmoid(x: float) -> float:
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    small = math.exp(x)
    return small / (1.0 + small)


def _least(windows: list[dict[str, float]]) -> Judgement:
    least = {key: min(window[key] for window in windows) for key in windows[0]}
    return Judgement(least.pop(""), least)
