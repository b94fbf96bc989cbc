"""Each verifier on the data that suit it: what it tells apart, what it is worth, what it costs.

In domain, scores are out of fold by group (a verifier that learns has not seen the group). For new
sources each part of the sources is left out in turn: of the groups on the others three quarters are
learned from and a quarter calibrates, and both are measured on the part; the false-alarm rate shows
what that does to the promise. Power and delay are those of `auto` at delta .1.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import linear
import numpy as np
from common import Found, Options, Row, data_file, say
from numpy.typing import NDArray

from tocsin import api
from tocsin.errors import MissingExtra
from tocsin.evaluation import scoring
from tocsin.evaluation.evaluate import Setting
from tocsin.evaluation.measured import measured
from tocsin.evaluation.texts import Texts, read_texts
from tocsin.model import Refusal
from tocsin.risk.calibrate import calibrate
from tocsin.risk.plan import Plan
from tocsin.risk.trajectories import Trajectories, from_columns
from tocsin.verifiers.contract import Verifier
from tocsin.verifiers.linear import measures
from tocsin.verifiers.linear.training import FOLDS, Data, folds, source_parts
from tocsin.verifiers.registry import verifier

LEVELS = (0.05, 0.1)
SPLITS = 20

READY = (
    ("patterns", "presidio_pii", None),
    ("onnx:injection", "agentdojo", 400),
    ("onnx:injection", "assebench_security", 200),
    ("linear:harmful_answer", "toxic_spans", None),
)
"""Verifiers that learn nothing here, a set that none of them learned from but for the injection
classifier (its makers list AgentDojo), and how many trajectories are drawn."""

NOTES = (
    (
        "AUC first, lowest, last: of that score of a trajectory. power, delay: share of the unsafe "
        "detected, and of the tokens up to the alarm, mean over the detected; a dash where n is "
        "too small (presidio_pii has safe sentences of 15 templates only)."
    ),
    (
        "The label of an agent's run is whether it followed an injection, which onnx:injection "
        "does not see: --only injection has what it is made for."
    ),
    "us/token: by the set's own counts of tokens, of what was written; observations cost too.",
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def run(options: Options) -> Found:
    """Score every set, calibrate and time."""
    found = Found()
    domain: list[Row] = []
    new: list[Row] = []
    for name, observed in linear.SETS.items():
        if options.quick and name not in linear.QUICK:
            continue
        _learned(name, domain, new, observed=observed, options=options)
    for spec, name, size in READY:
        try:
            domain.append(_ready(spec, name, 40 if options.quick else size, options))
        except MissingExtra as e:
            found.skipped.append(f"{spec}: {e}")
    found.tables["in domain, out of fold by group"] = domain
    found.tables["new sources: learned and calibrated on the others, measured there"] = new
    found.notes += NOTES
    return found


# ------------------------------------------------------------------------------------- taught here


def _learned(
    name: str, domain: list[Row], new: list[Row], *, observed: bool, options: Options
) -> None:
    data = linear.read(name, observed=observed)
    texts = read_texts(data_file(name))
    rng = np.random.default_rng(options.seed)
    parts = source_parts(data, rng)
    fold = folds(data.group, FOLDS, rng)
    for who, scorer in (
        ("linear", linear.ours(data, observed=observed)),
        ("TF-IDF + LR", linear.peer(data)),
    ):
        say(f"verifiers: {name}, {who}")
        seen = np.zeros(len(data.text))
        for number in range(FOLDS):
            seen[data.by_row(fold == number)] = scorer(fold != number, fold == number)
        row: Row = {"set": name, "verifier": who}
        cost = _cost("linear:injected_agent", name, 200) if who == "linear" else {}
        domain.append(row | _areas(seen, data) | _worth(_scored(texts, seen), options) | cost)
        if parts:
            new.append(row | _shifted(texts, data, scorer, parts, options.seed))


def _scored(texts: Texts, scores: Floats) -> Trajectories:
    """Put scores into trajectories; a decision function becomes a probability, order kept."""
    squeezed = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
    return from_columns(
        trajectory_id=texts.trajectory_id,
        step=texts.step,
        score=squeezed,
        label=[] if texts.label is None else texts.label,
        group=texts.group,
        segment=texts.source,
        tokens=texts.tokens,
    )


def _areas(scores: Floats, data: Data) -> Row:
    places = measures.by_place(scores, data.starts, data.safe)
    return {f"AUC {ours}": places[theirs] for ours, theirs in _PLACES.items()}


_PLACES = {"first": "first", "lowest": "min", "last": "last"}


def _worth(scored: Trajectories, options: Options) -> Row:
    """Power and delay of `auto` at each level, over random splits by group."""
    setting = Setting(
        plan=Plan(epsilons=LEVELS),
        calibration_share=0.5,
        splits=2 if options.quick else SPLITS,
        seed=options.seed,
        monitors=("auto",),
        jobs=os.cpu_count() or 1,
    )
    made: Row = {}
    for found in api.evaluate(scored, setting).results:
        refused = found.refused_rate > 0.5
        made[f"power {found.epsilon:g}"] = None if refused else found.power_mean
        made[f"delay {found.epsilon:g}"] = None if refused else found.delay_tokens_mean
    return made


def _shifted(
    texts: Texts,
    data: Data,
    scorer: linear.Score,
    parts: Sequence[tuple[Bools, Bools]],
    seed: int,
) -> Row:
    """Learn and calibrate on the sources that a part has not, measure on the part; add up."""
    counts = {level: np.zeros(4) for level in LEVELS}
    unseen = np.zeros(len(data.text))
    for learn, judge in parts:
        held = learn & (folds(data.group, 4, np.random.default_rng(seed)) == 0)
        both = held | judge
        rows = data.by_row(both)
        scores = np.zeros(len(data.text))
        scores[rows] = scorer(learn & ~held, both)
        unseen[data.by_row(judge)] = scores[data.by_row(judge)]
        scored = _scored(texts, scores)
        order = {str(name): at for at, name in enumerate(texts.trajectory_id[texts.starts[:-1]])}
        place = np.array([order[str(name)] for name in scored.ids])
        for level in LEVELS:
            made = calibrate(scored.take(held[place]), Plan(epsilons=(level,)), library_version="")
            if not isinstance(made, Refusal):
                found = measured(made, scored.take(judge[place]))[0]
                said = (found.false_alarms, found.detected)
                counts[level] += [n for share in said for n in (share.count, share.n)]
    made_row: Row = {"AUC lowest, within sources": linear.within(data, unseen)}
    for level, (alarms, safe, caught, unsafe) in counts.items():
        made_row[f"false alarms {level:g}"] = alarms / safe if safe else None
        made_row[f"power {level:g}"] = caught / unsafe if unsafe else None
    return made_row


# ------------------------------------------------------------------------------------- ready-made


def _ready(spec: str, name: str, size: int | None, options: Options) -> Row:
    say(f"verifiers: {name}, {spec}")
    texts = read_texts(data_file(name))
    if size is not None:
        texts = _drawn(texts, size, options.seed)
    made = verifier(spec, "turn")
    if not isinstance(made, Verifier):
        raise MissingExtra(f"{spec} has to be waited for")
    values: list[float] = []
    for trajectory in scoring.trajectories(texts, made.declares.steps):
        said = scoring.score(made, trajectory).values
        values += [np.nan if value is None else value for value in said]
    scores = np.nan_to_num(np.array(values), nan=-np.inf)
    safe = (texts.label if texts.label is not None else np.ones(0))[texts.starts[:-1]] == 1
    places = measures.by_place(scores, texts.starts, safe)
    row: Row = {"set": name, "verifier": spec}
    row |= {f"AUC {ours}": places[theirs] for ours, theirs in _PLACES.items()}
    scored = from_columns(
        trajectory_id=texts.trajectory_id,
        step=texts.step,
        score=np.clip(scores, 0, 1),
        label=[] if texts.label is None else texts.label,
        group=texts.group,
        segment=texts.source,
        tokens=texts.tokens,
    )
    return row | _worth(scored, options) | _cost(spec, name, 100)


def _drawn(texts: Texts, size: int, seed: int) -> Texts:
    names = sorted({str(name) for name in texts.trajectory_id})
    chosen = set(random.Random(seed).sample(names, min(size, len(names))))
    rows = np.array([str(name) in chosen for name in texts.trajectory_id])
    taken = {
        name: getattr(texts, name)[rows]
        for name in texts.__dataclass_fields__
        if isinstance(getattr(texts, name), np.ndarray)
    }
    return replace(texts, **taken, extra={})


def _cost(spec: str, name: str, size: int) -> Row:
    """Time some whole trajectories in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_timed, spec, name, size).result()


def _timed(spec: str, name: str, size: int) -> Row:
    """Score on one core; MiB is what loading and use add to a process that has read the data."""
    some = _drawn(read_texts(data_file(name)), size, 0)
    before = _resident_mib()
    made = verifier(spec, "turn")
    if not isinstance(made, Verifier):
        return {}
    work = list(scoring.trajectories(some, made.declares.steps))
    began = time.perf_counter()
    for trajectory in work:
        scoring.score(made, trajectory)
    seconds = time.perf_counter() - began
    tokens = 0 if some.tokens is None else int(some.tokens.sum())
    return {
        "us/token": 1e6 * seconds / tokens if tokens else None,
        "ms/step": 1e3 * seconds / sum(len(trajectory.pieces) for trajectory in work),
        "MiB": _resident_mib() - before,
    }


def _resident_mib() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - Linux only
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
