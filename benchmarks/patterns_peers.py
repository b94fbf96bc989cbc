"""Times other packages on the texts of benchmarks/patterns.py; run in an environment of its own.

Reads one JSON object, `{"peer": ..., "texts": [...], "long": ..., "repeats": n}`, on stdin, writes
one on stdout. Nothing of Tocsin is imported here.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Answer one request."""
    asked = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # some write their log there
        told = answer(asked)
    json.dump(told, sys.stdout)


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Scan, and time it."""
    scan, version = PEERS[asked["peer"]]()
    found = [scan(text) for text in asked["texts"]]
    seconds = least(lambda: [scan(text) for text in asked["texts"]], asked["repeats"])
    long = least(lambda: scan(asked["long"]), asked["repeats"])
    grows = [
        [least(lambda u=unit, n=n: scan((u * n)[:n] + "@"), 1) for n in asked["sizes"]]
        for unit in asked["units"]
    ]
    return {"version": version, "found": found, "seconds": seconds, "long": long, "grows": grows}


def least(action: Callable[[], Any], repeats: int) -> float:
    """Return the least processor time of several calls."""
    best = math.inf
    for _ in range(repeats):
        start = time.process_time()
        action()
        best = min(best, time.process_time() - start)
    return best


def presidio() -> tuple[Callable[[str], list[tuple[str, float]]], str]:
    """Presidio's recognisers that need no language model: a blank pipeline gives tokens alone."""
    analyzer: Any = importlib.import_module("presidio_analyzer")
    engines: Any = importlib.import_module("presidio_analyzer.nlp_engine")
    blank = importlib.import_module("spacy").blank("en")

    class Blank(engines.NlpEngine):  # type: ignore[misc, name-defined]
        def load(self) -> None: ...

        def is_loaded(self) -> bool:
            return True

        def process_text(self, text: str, language: str) -> Any:
            doc = blank(text)
            return engines.NlpArtifacts(
                entities=[], tokens=doc, tokens_indices=[t.idx for t in doc],
                lemmas=[t.lower_ for t in doc], nlp_engine=self, language=language,
            )  # fmt: skip

        def process_batch(self, texts: Any, language: str, **_: Any) -> Any:
            return ((text, self.process_text(text, language)) for text in texts)

        def is_stopword(self, word: str, language: str) -> bool:  # noqa: ARG002 - an interface
            return bool(blank.vocab[word].is_stop)

        def is_punct(self, word: str, language: str) -> bool:  # noqa: ARG002 - an interface
            return bool(blank.vocab[word].is_punct)

        def get_supported_entities(self) -> list[str]:
            return []

        def get_supported_languages(self) -> list[str]:
            return ["en"]

    registry = analyzer.RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    engine = analyzer.AnalyzerEngine(
        registry=registry, nlp_engine=Blank(), supported_languages=["en"]
    )

    def scan(text: str) -> list[tuple[str, float]]:
        return [(r.entity_type, r.score) for r in engine.analyze(text=text, language="en")]

    return scan, _version("presidio-analyzer")


def secrets() -> tuple[Callable[[str], list[tuple[str, float]]], str]:
    """Give detect-secrets with its own settings, line by line, as it scans a file."""
    lines: Any = importlib.import_module("detect_secrets.core.scan")
    settings: Any = importlib.import_module("detect_secrets.settings")
    stack = contextlib.ExitStack()
    stack.enter_context(settings.default_settings())

    def scan(text: str, _open: contextlib.ExitStack = stack) -> list[tuple[str, float]]:
        return [(s.type, 1.0) for line in text.split("\n") for s in lines.scan_line(line)]

    return scan, _version("detect-secrets")


def guard() -> tuple[Callable[[str], list[tuple[str, float]]], str]:
    """Give the Secrets scanner of llm-guard with its own settings."""
    scanner = importlib.import_module("llm_guard.input_scanners").Secrets()

    def scan(text: str) -> list[tuple[str, float]]:
        _, is_valid, risk = scanner.scan(text)
        return [] if is_valid else [("secret", float(risk))]

    return scan, _version("llm-guard")


PEERS = {"presidio-analyzer": presidio, "detect-secrets": secrets, "llm-guard": guard}


def _version(name: str) -> str:
    return importlib.import_module("importlib.metadata").version(name)


if __name__ == "__main__":
    main()
