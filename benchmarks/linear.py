"""The linear verifier beside TF-IDF with logistic regression, in the same folds; and its cost.

The peer sees each prefix as a document of its own (words and pairs of words, sublinear TF-IDF,
balanced classes), which costs the whole prefix at each step; ours costs the step alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from common import Cell, Found, MissingDataError, Options, Row, best, data_file, say
from numpy.typing import NDArray

from tocsin.evaluation.texts import read_texts
from tocsin.model import Context, Delta
from tocsin.verifiers.linear import measures
from tocsin.verifiers.linear.learning import Rows, Table
from tocsin.verifiers.linear.model_file import Features
from tocsin.verifiers.linear.training import FOLDS, Data, Work, folds, source_parts
from tocsin.verifiers.registry import verifier

SETS = {
    "jailbreakbench": False,
    "xstest": False,
    "diasafety": False,
    "bigbench_mistake": False,
    "gsm8k_solutions": False,
    "assebench_security": True,
    "agentdojo": True,
}
"""Data sets, and whether what was observed is read."""

QUICK = ("jailbreakbench",)
REPEATS = 9
TEXT = (
    "The committee met on Tuesday to review the budget. Several members asked about the cost of "
    "repairs, and Dr. Ames said that it would be 3.5 percent higher than in the year before. "
) * 40

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Score = Callable[[Bools, Bools], Floats]
"""Learn on some trajectories, and score the rows of others."""


def run(options: Options) -> Found:
    """Compare on each data set, then time."""
    found = Found()
    found.tables["AUC"] = [
        row
        for name, observed in SETS.items()
        if not options.quick or name in QUICK
        for row in _compared(name, observed=observed, seed=options.seed)
    ]
    found.tables["cost"] = [_cost(steps) for steps in ("chars:16", "sentence", "paragraph", "turn")]
    found.notes.append(
        "lowest, seen and unseen: AUC of the lowest score; seen and unseen within sources, a mean "
        "by size, unseen by models that saw neither source nor group"
    )
    return found


def _compared(name: str, *, observed: bool, seed: int) -> list[Row]:
    data = read(name, observed=observed)
    rng = np.random.default_rng(seed)
    parts = source_parts(data, rng)
    fold = folds(data.group, FOLDS, rng)
    rows = []
    for who, scorer in (("linear", ours(data, observed=observed)), ("tf-idf", peer(data))):
        say(f"linear: {name}, {who}")
        seen, unseen = np.zeros(len(data.text)), np.zeros(len(data.text))
        for number in range(FOLDS):
            seen[data.by_row(fold == number)] = scorer(fold != number, fold == number)
        for learn, judge in parts:
            unseen[data.by_row(judge)] = scorer(learn, judge)
        row: Row = {"set": name, "who": who}
        places = measures.by_place(seen, data.starts, data.safe)
        row |= {"first": places["first"], "lowest": places["min"], "last": places["last"]}
        row["seen"] = within(data, seen)
        row["unseen"] = within(data, unseen) if parts else None
        rows.append(row)
    return rows


def read(name: str, *, observed: bool) -> Data:
    """Read a set by name."""
    texts = read_texts(data_file(name))
    if texts.label is None or texts.group is None or texts.source is None:
        raise MissingDataError(f"{name} lacks label, group or source")
    first = texts.starts[:-1]
    count = len(first)
    return Data(
        text=[str(t) for t in texts.text],
        obs=[str(t) if observed else "" for t in texts.obs],
        starts=texts.starts,
        safe=texts.label[first] == 1,
        group=np.unique(texts.group[first].astype(str), return_inverse=True)[1],
        file=np.zeros(count, dtype=np.int64),
        source=texts.source[first],
        category=np.full(count, "", dtype=object),
    )


def ours(data: Data, *, observed: bool) -> Score:
    """Return the linear verifier: learned where it may, scores of rows elsewhere."""
    features = Features(observations=observed)
    rows = Rows.of(data.text, data.obs, data.starts)
    work = Work(data, rows, Table(rows, features), features, [data.safe], lambda: None)

    def score(learn: Bools, judge: Bools) -> Floats:
        model = work.fit(learn, work.targets)
        return np.concatenate([work.follow(model, [i])[:, 0] for i in np.flatnonzero(judge)])

    return score


def peer(data: Data) -> Score:
    """Return the same of TF-IDF and logistic regression on prefixes."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    prefixes: list[str] = []
    for begin, end in zip(data.starts, data.starts[1:], strict=False):
        so_far = ""
        for row in range(begin, end):
            so_far += f" {data.obs[row]} {data.text[row]}"
            prefixes.append(so_far)
    label = data.by_row(data.safe)

    def score(learn: Bools, judge: Bools) -> Floats:
        words = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, min_df=2, max_features=300_000
        )
        rows = np.flatnonzero(data.by_row(learn))
        x = words.fit_transform([prefixes[row] for row in rows])
        made = LogisticRegression(C=10, class_weight="balanced", solver="liblinear")
        made.fit(x, label[rows])
        held = np.flatnonzero(data.by_row(judge))
        return np.asarray(made.decision_function(words.transform([prefixes[r] for r in held])))

    return score


def within(data: Data, scores: Floats) -> float | None:
    """Return the mean AUC within the sources that have both classes, by their sizes."""
    low = measures.lowest(scores, data.starts)
    names = data.source.astype(str)
    found = [
        (measures.auc(low[names == name], data.safe[names == name]), int((names == name).sum()))
        for name in np.unique(names)
    ]
    known = [(value, size) for value, size in found if value is not None]
    if not known:
        return None
    return float(np.average([v for v, _ in known], weights=[size for _, size in known]))


def _cost(steps: str) -> dict[str, Cell]:
    made = verifier("linear:harmful_answer", steps)

    def once() -> object:
        session = made.open(Context())  # type: ignore[union-attr]
        for at in range(0, len(TEXT), 16):
            session.feed(Delta(text=TEXT[at : at + 16]))
        session.feed(Delta(ends="turn"))
        return session

    seconds, session = best(once, REPEATS)
    return {
        "steps": steps,
        "heads": 1 + len(made.declares.categories),
        "us a token of 4 characters": seconds / (len(TEXT) / 4) * 1e6,
        "KiB a session": _size(session) / 1024,
    }


def _size(thing: object, seen: set[int] | None = None) -> int:
    """Add up what belongs to an object alone: arrays that own their data, containers, fields."""
    seen = set() if seen is None else seen
    kind = type(thing).__module__
    if id(thing) in seen or isinstance(thing, type) or "model_file" in kind or "contract" in kind:
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return thing.nbytes if thing.flags.owndata else 0
    inner: list[object] = []
    if isinstance(thing, dict):
        inner = [*thing.keys(), *thing.values()]
    elif isinstance(thing, list | tuple | set):
        inner = list(thing)
    elif hasattr(thing, "__dict__"):
        inner = [vars(thing)]
    return sys.getsizeof(thing) + sum(_size(one, seen) for one in inner)
