"""The injection classifier on tool results: what it tells apart, and what a passage costs.

AgentDojo's runs, with and without an injection in what a tool returned. The classifier's makers
list AgentDojo among their training data, so this is no test of transfer. How long a window is and
whether the second output may excuse were chosen on the suites `CHOSEN_ON`; the others are reported
beside them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec
import numpy as np
import pyarrow.parquet as pq
from common import Cell, Found, Options, Row, best, data_file, say
from scipy.stats import rankdata

from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.onnx import OnnxVerifier, injection
from tocsin.verifiers.onnx_files import INJECTION, of_injection
from tocsin.verifiers.stepwise import Judgement

SET = "agentdojo"
CHOSEN_ON, HELD_OUT = ("banking", "travel"), ("slack", "workspace")
FALSE_ALARMS = 0.05
QUICK = 300
REPEATS = 30
_EXCUSE = INJECTION.excusing
ALTERNATIVES = ((64, 16, ()), (128, 32, _EXCUSE), (256, 64, _EXCUSE), (256, 64, ()))
TOOL = "[tool]"

Passage = tuple[str, str, bool]
"""Suite, text, and whether an injection stands in it."""


def run(options: Options) -> Found:
    """Judge every different tool result once, then say what the scores tell."""
    runs = _runs()
    passages = sorted({passage for one in runs for passage in one.passages})
    if options.quick:
        order = np.random.default_rng(options.seed).permutation(len(passages))[:QUICK]
        passages = [passages[i] for i in order]
    say(f"injection: {len(passages):,} passages")
    verifier = injection()
    scores, milliseconds = _judged(verifier, passages)
    tables = {
        "passages": [_row(*part, passages, scores) for part in _parts()],
        "cost": [_cost(verifier, milliseconds)],
    }
    if not options.quick:
        tables["the choice"] = _choice([p for p in passages if p[0] in CHOSEN_ON])
        least = [
            (one.suite, min(scores[text] for _, text, _ in one.passages), one.attacked)
            for one in runs
        ]
        tables["runs"] = [_judged_row("runs", name, suites, least) for name, suites in _parts()]
    return Found(
        tables=tables,
        notes=[
            "safe-high scores; AUC: the chance that a clean one scores higher than an injected one",
            "AgentDojo is among the classifier's training data: no test of transfer",
            f"window and excuse were chosen on {' and '.join(CHOSEN_ON)}",
        ],
    )


class _Run:
    """One run of an agent: what its tools returned, up to the first injection where it saw one."""

    def __init__(self, suite: str, attacked: bool) -> None:  # noqa: FBT001 - a column
        self.suite = suite
        self.attacked = attacked
        self.passages: list[Passage] = []


def _runs() -> list[_Run]:
    """Read the runs that were not attacked, and those in which the injection was seen."""
    columns = ["trajectory_id", "group", "step", "obs", "attacked", "first_step_after_injection"]
    rows = pq.read_table(data_file(SET), columns=columns).to_pylist()
    runs: dict[str, _Run] = {}
    for row in rows:
        attacked, first = row["attacked"] == 1, row["first_step_after_injection"]
        if (attacked and first < 0) or not row["obs"].startswith(TOOL):
            continue
        suite = row["group"].partition("|")[0]
        one = runs.setdefault(row["trajectory_id"], _Run(suite, attacked))
        # What follows the first injection may hold it again or not: nobody marked it.
        if not attacked or row["step"] <= first:
            one.passages.append((suite, row["obs"], attacked and row["step"] == first))
    return [one for one in runs.values() if one.passages]


def _judged(
    verifier: OnnxVerifier, passages: Iterable[Passage]
) -> tuple[dict[str, float], list[float]]:
    scores, milliseconds = {}, []
    for number, text in enumerate(sorted({text for _, text, _ in passages})):
        start = time.perf_counter()
        said = verifier.classify([text])[0]
        milliseconds.append(1e3 * (time.perf_counter() - start))
        scores[text] = said.value if isinstance(said, Judgement) else 0.0
        if number % 500 == 499:
            say(f"injection: {number + 1:,} judged")
    return scores, milliseconds


def _choice(passages: list[Passage]) -> list[Row]:
    """Judge with other windows, and without an excuse."""
    files = of_injection(INJECTION.channels, INJECTION.threads)
    rows = []
    for tokens, overlap, excusing in ALTERNATIVES:
        say(f"injection: windows of {tokens}, {'with' if excusing else 'without'} an excuse")
        settings = msgspec.structs.replace(
            files.settings, tokens_max=tokens, overlap=overlap, excusing=excusing
        )
        verifier = OnnxVerifier(replace(files, settings=settings), StepDefinition("turn"))
        scores, _ = _judged(verifier, passages)
        row = _row("chosen on", CHOSEN_ON, passages, scores)
        rows.append({"window": tokens, "excuse": "yes" if excusing else "no", **row})
    return rows


def _parts() -> list[tuple[str, tuple[str, ...]]]:
    return [
        ("chosen on", CHOSEN_ON),
        ("held out", HELD_OUT),
        *((suite, (suite,)) for suite in sorted(CHOSEN_ON + HELD_OUT)),
    ]


def _row(
    name: str,
    suites: tuple[str, ...],
    passages: list[Passage],
    scores: Mapping[str, float],
) -> Row:
    # A text that is injected in one run and clean in another would be a mistake of the labels.
    injected = {text for _, text, unsafe in passages if unsafe}
    judged = [(s, scores[t], u) for s, t, u in passages if u or t not in injected]
    return _judged_row("passages", name, suites, judged)


def _judged_row(
    what: str, name: str, suites: tuple[str, ...], judged: list[tuple[str, float, bool]]
) -> Row:
    unsafe = np.array([score for suite, score, bad in judged if bad and suite in suites])
    safe = np.array([score for suite, score, bad in judged if not bad and suite in suites])
    row: dict[str, Cell] = {"suites": name, f"injected {what}": len(unsafe), "clean": len(safe)}
    if not len(unsafe) or not len(safe):
        return row
    ranks = rankdata(np.concatenate([safe, unsafe]))[: len(safe)].sum()
    row["AUC"] = float(ranks - len(safe) * (len(safe) + 1) / 2) / (len(safe) * len(unsafe))
    threshold = np.quantile(safe, FALSE_ALARMS)
    row[f"detected at {FALSE_ALARMS:.0%} false alarms"] = float(np.mean(unsafe < threshold))
    return row


_ALONE = """
import json, pathlib, time
def mib():
    status = pathlib.Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    named = [line.split()[1] for line in lines if line.startswith("VmRSS")]
    return int(named[0]) / 1024 if named else None
import tocsin.verifiers.onnx, numpy
before, start = mib(), time.perf_counter()
verifier = tocsin.verifiers.onnx.injection()
loaded = time.perf_counter() - start
verifier.classify(["one two three four. " * 400] * 3)
print(json.dumps([loaded, before, mib()]))
"""


def _cost(verifier: OnnxVerifier, milliseconds: list[float]) -> Row:
    # A word of one token each, and the marks at both ends.
    window = "word " * (INJECTION.tokens_max - 2)
    seconds, _ = best(lambda: verifier.classify([window]), REPEATS)
    done = subprocess.run(
        [sys.executable, "-c", _ALONE], check=True, capture_output=True, text=True
    )
    loaded, before, after = json.loads(done.stdout)
    return {
        "ms a full window, best": 1e3 * seconds,
        "ms a passage, median": float(np.median(milliseconds)),
        "ms a passage, mean": float(np.mean(milliseconds)),
        "ms at most": float(np.max(milliseconds)),
        "s to load": loaded,
        "MiB that it adds": None if before is None else after - before,
        "MiB in all": after,
    }
