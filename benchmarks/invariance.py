"""Chunk boundaries never matter: each verifier on generated streams, whole, cut and byte by byte.

Every stream is fed whole, character by character and in random cuts, and beside another session;
`check_verifier` raises at the first outcome that differs.
"""

from __future__ import annotations

import time

from common import Found, Options, Row, say

from tocsin.errors import MissingExtra
from tocsin.testing import NotConformant, check_verifier
from tocsin.verifiers.registry import verifier

STREAMS = 20_000
STREAMS_QUICK = 200

CASES = (
    ("patterns", "chars:32", 1.0),
    ("linear:harmful_answer", "sentence", 1.0),
    ("linear:injected_agent", "turn", 0.1),
    ("linear:harmful_answer", "tokens:16", 0.1),
    ("linear:reasoning_error", "reasoning", 0.1),
    ("logprobs:mean", "sentence", 1.0),
    ("logprobs:min", "line", 0.1),
    ("logprobs:self_certainty", "tokens:8", 0.1),
    ("onnx:injection", "sentence", 0.01),
)
"""Verifier, step definition, and the share of the streams that it gets: a slow one gets few."""


def run(options: Options) -> Found:
    """Check every case."""
    found = Found()
    rows: list[Row] = []
    for spec, steps, share in CASES:
        streams = max(20, round((STREAMS_QUICK if options.quick else STREAMS) * share))
        say(f"{spec}, {steps}: {streams:,} streams")
        began = time.perf_counter()
        try:
            compared = check_verifier(verifier(spec, steps), streams=streams, seed=options.seed)
            differences, first = 0, ""
        except NotConformant as e:
            compared, differences, first = 0, 1, str(e)[:80]
        except MissingExtra as e:
            found.skipped.append(f"{spec}: {e}")
            continue
        rows.append(
            {
                "verifier": spec,
                "steps": steps,
                "streams": streams,
                "outcomes compared": compared,
                "differences": differences,
                "seconds": time.perf_counter() - began,
                **({"first difference": first} if first else {}),
            }
        )
    found.tables["every stream in 5 ways: whole, by character, 2 random cuts, beside another"] = (
        rows
    )
    return found
