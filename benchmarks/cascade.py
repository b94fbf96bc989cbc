"""What several verifiers give together: a combination, and a cascade at a share of the cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import Found, Options, Row, data_file, machine, plain, say
from numpy.typing import NDArray

from tocsin import __version__
from tocsin.errors import InputError
from tocsin.evaluation import canvas
from tocsin.evaluation.datasets import read
from tocsin.evaluation.evaluate import Setting, evaluate
from tocsin.risk.plan import Plan
from tocsin.risk.splits import take_groups
from tocsin.risk.trajectories import Trajectories
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.cascade_fit import Band, choose_band, escalated, mixed
from tocsin.verifiers.contract import Declaration
from tocsin.verifiers.fusion_fit import Scored, apply, auc, fit_logistic, scored

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
IMAGES = ROOT / "docs" / "images"

SPLITS, SPLITS_QUICK = 12, 2
INNER = 5
EPSILON = 0.1
DELTA = 0.1
BURST = 1
BURSTS = (1, 2, 8)
BUDGETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
_FIT = 0.5

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def run(options: Options) -> Found:
    """Combine and cascade real scores, on groups that were not fitted on."""
    count = SPLITS_QUICK if options.quick else SPLITS
    seeds = [1000 * options.seed + i for i in range(count)]
    reasoning = _process_rewards()
    found = Found()
    found.tables["combined"] = [
        row for name, columns in reasoning.items() for row in _combined(name, columns, seeds)
    ]
    pairs = {
        f"{name}: {cheap} > {strong}": {c: reasoning[name][c] for c in (cheap, strong)}
        for name, cheap, strong in (
            ("reasoneval", "math_shepherd", "reasoneval34b"),
            ("reasoneval mr", "reasoneval7b", "reasoneval34b"),
            ("reasoneval mr", "math_shepherd", "reasoneval34b"),
        )
    }
    pairs["jailbreakbench: 256 words, step > TF-IDF, prefix"] = _jailbreaks()
    found.tables["cascade"] = [
        row for name, columns in pairs.items() for row in _curve(name, columns, seeds)
    ]
    found.tables["burst"] = [
        row for name in list(pairs)[:2] for row in _bursts(name, pairs[name], seeds)
    ]
    found.notes = [
        (
            f"Means over {count} splits by group: half fits, the other half calibrates and tests "
            f"({INNER} times by group), lowest score, epsilon {EPSILON:g}; se over splits, which "
            "overlap. combined: bound exact, delta .1. cascade: bound crc (a promise on average)."
        ),
        (
            f"cascade: 'share' of the steps is escalated under 'budget', burst {BURST}, delta "
            f"{DELTA:g}; 'over' is how often the mean share on the other half was above the "
            "budget. random, lowest: as many steps at random, or with the lowest cheap scores; "
            "paced: at random, but within the same limit for each response. gain: AUC over "
            "random. 'splits' without those refused for too few groups."
        ),
    ]
    if options.save:
        _save(found, options)
    return found


# ------------------------------------------------------------------------------------------- data


def _process_rewards() -> dict[str, dict[str, Trajectories]]:
    path = data_file("reasoneval")
    names = ("math_shepherd", "reasoneval34b", "reasoneval7b")
    all_of = {name: read(path, score_column=f"score_{name}") for name in names}
    has_7b = ~np.isnan(all_of["reasoneval7b"].scores[all_of["reasoneval7b"].starts])
    return {
        "reasoneval": {name: all_of[name] for name in names[:2]},
        "reasoneval mr": {name: one.take(has_7b) for name, one in all_of.items()},
        "reasoneval perturbed": {name: all_of[name].take(~has_7b) for name in names[:2]},
    }


def _jailbreaks() -> dict[str, Trajectories]:
    """Score answers out of fold: 256 hashed words of a step, and TF-IDF of all up to it."""
    from pyarrow import parquet
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline

    path = data_file("jailbreakbench")
    columns = ["trajectory_id", "step", "text", "label", "group", "tokens"]
    table = parquet.read_table(path, columns=columns).to_pydict()
    order = sorted(
        range(len(table["step"])), key=lambda i: (table["trajectory_id"][i], table["step"][i])
    )
    ids, texts, label, group = (
        np.array([table[name][i] for i in order], dtype=object)
        for name in columns[:1] + columns[2:5]
    )
    prefixes, last = [], None
    for name, text in zip(ids, texts, strict=True):
        prefixes.append(prefixes[-1] + "\n" + text if name == last else text)
        last = name
    models = {
        "cheap": (texts, HashingVectorizer(n_features=256, alternate_sign=False)),
        "strong": (
            np.array(prefixes, dtype=object),
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        ),
    }
    out = {}
    for name, (inputs, vectorizer) in models.items():
        scores = np.empty(len(ids))
        for train, test in GroupKFold(5).split(ids, groups=group):
            model = make_pipeline(vectorizer, LogisticRegression(C=10.0, max_iter=2000))
            model.fit(inputs[train], label[train].astype(int))
            scores[test] = model.predict_proba(inputs[test])[:, 1]
        base = read(path, columns={"score": "step"})
        if base.ids[base.owner].tolist() != ids.tolist():
            raise RuntimeError("the rows are in another order")
        out[name] = replace(base, scores=scores)
    return out


def _side_by_side(columns: dict[str, Trajectories]) -> Scored:
    declares = [
        Declaration(name=name, version="1", steps=StepDefinition("line")) for name in columns
    ]
    return scored(list(columns.values()), declares)


# --------------------------------------------------------------------------------------- measures


def _judged(
    data: Trajectories, values: Floats, rest: Bools, monitor: str, seed: int
) -> tuple[float, float]:
    """Return power and saved tokens, calibrated and tested on the trajectories in `rest`."""
    setting = Setting(
        plan=Plan(epsilons=(EPSILON,), missing="worst"),
        calibration_share=0.5,
        splits=INNER,
        seed=seed,
        monitors=(monitor,),
    )
    made = evaluate(replace(data, scores=values).take(rest), setting, library_version=__version__)
    return made.results[0].power_mean, made.results[0].saved_mean


def _last(data: Scored, values: Floats, among: Bools) -> float:
    ends = data.starts + data.lengths - 1
    alone = np.full(len(values), np.nan)
    alone[ends] = values[ends]
    return auc(data, alone, among)


def _half(data: Trajectories, seed: int) -> Bools:
    rng = np.random.default_rng([seed, 1])
    return take_groups(data.group_codes, round(_FIT * data.n), rng)


def _told(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error."""
    array = np.array(values)
    error = array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else np.nan
    return float(array.mean()), float(error)


def _combined(name: str, columns: dict[str, Trajectories], seeds: Sequence[int]) -> list[Row]:
    """Measure single signals and their combination."""
    say(f"cascade: combining {name}")
    data, any_of = _side_by_side(columns), next(iter(columns.values()))
    every = list(range(len(columns)))
    found: dict[str, list[tuple[float, ...]]] = {}
    for seed in seeds:
        fit = _half(any_of, seed)
        model = fit_logistic(data, fit, every)
        signals = {one: data.scores[:, j] for j, one in enumerate(columns)}
        signals["combined"] = apply(model, data, every)
        for signal, values in signals.items():
            judged = _judged(any_of, values, ~fit, "min_exact", seed)
            areas = auc(data, values, ~fit), _last(data, values, ~fit)
            found.setdefault(signal, []).append((*areas, *judged))
    rows: list[Row] = []
    for signal, cells in found.items():
        row: Row = {"data": name, "signal": signal}
        for word, column in zip(
            ("AUC min", "AUC last", "power", "saved"), zip(*cells, strict=True), strict=True
        ):
            row[word], row[f"{word} se"] = _told(column)
        rows.append(row)
    return rows


def _curve(name: str, columns: dict[str, Trajectories], seeds: Sequence[int]) -> list[Row]:
    """Measure a cascade at growing budgets, beside other ways to spend as much."""
    say(f"cascade: {name}")
    data, any_of = _side_by_side(columns), next(iter(columns.values()))
    cells: dict[float, list[dict[str, float]]] = {b: [] for b in (0.0, *BUDGETS, 1.0)}
    for seed in seeds:
        fit = _half(any_of, seed)
        inside = _taken(data, fit)
        for budget, into in cells.items():
            try:
                into.append(_point(data, any_of, fit, inside, budget, seed))
            except InputError:  # refused: too few groups for this budget
                continue
    rows: list[Row] = []
    for budget, points in cells.items():
        row: Row = {"data": name, "budget": budget, "splits": len(points)}
        for word in points[0] if points else ():
            mean, error = _told([p[word] for p in points])
            row[word] = mean
            if word in {"AUC", "gain", "power"}:
                row[f"{word} se"] = error
        rows.append(row)
    return rows


def _bursts(name: str, columns: dict[str, Trajectories], seeds: Sequence[int]) -> list[Row]:
    """Measure what a higher limit for a single response does."""
    say(f"cascade: burst, {name}")
    data, any_of = _side_by_side(columns), next(iter(columns.values()))
    rows: list[Row] = []
    for budget in (0.1, 0.3):
        for burst in BURSTS:
            points = []
            for seed in seeds:
                fit = _half(any_of, seed)
                chosen = choose_band(
                    _taken(data, fit), budget=budget, burst=burst, delta=DELTA, seed=seed
                )
                steps = escalated(data, chosen.band, budget, burst)
                area = auc(data, mixed(data, chosen.alone, chosen.both, steps), ~fit)
                points.append((area, float(steps[~fit[data.owner]].mean())))
            areas, shares = zip(*points, strict=True)
            row: Row = {"data": name, "budget": budget, "burst": burst}
            row["share"], _ = _told(shares)
            row["AUC"], row["AUC se"] = _told(areas)
            rows.append(row)
    return rows


def _taken(data: Scored, among: Bools) -> Scored:
    lengths = data.lengths[among]
    return Scored(
        kinds=data.kinds,
        scores=data.scores[among[data.owner]],
        starts=np.append(0, np.cumsum(lengths)[:-1]).astype(np.int64),
        safe=data.safe[among],
        groups=data.groups[among],
    )


def _point(
    data: Scored, any_of: Trajectories, fit: Bools, inside: Scored, budget: float, seed: int
) -> dict[str, float]:
    rest = ~fit
    there = rest[data.owner]
    alone, both = fit_logistic(data, fit, [0]), fit_logistic(data, fit, [0, 1])
    steps = np.full(len(data.scores), budget == 1.0)
    if 0.0 < budget < 1.0:
        chosen = choose_band(inside, budget=budget, burst=BURST, delta=DELTA, seed=seed)
        steps = escalated(data, chosen.band, budget, BURST)
    share = float(steps[there].mean())
    out = {"share": share}
    if 0.0 < budget < 1.0:
        shares = np.add.reduceat(steps.astype(float), data.starts) / data.lengths
        _, codes = np.unique(data.groups[rest], return_inverse=True)
        by_group = np.bincount(codes, weights=shares[rest]) / np.bincount(codes)
        out["over"] = float(by_group.mean() > budget)
    rng = np.random.default_rng([seed, 2])
    ways = {"": steps}
    if 0.0 < budget < 1.0:
        cheap = data.scores[:, 0]
        ways["random"] = rng.random(len(steps)) < share
        ways["lowest"] = cheap <= np.quantile(cheap[there], share)
        ways["paced"] = _paced(data, there, (budget, BURST), share, rng)
    for way, taken in ways.items():
        values = mixed(data, alone, both, taken)
        power, saved = _judged(any_of, values, rest, "paper_crc", seed)
        out[f"AUC {way}".strip()] = auc(data, values, rest)
        out[f"power {way}".strip()] = power
        out[f"saved {way}".strip()] = saved
    if "AUC random" in out:
        out["gain"] = out["AUC"] - out["AUC random"]
    return out


def _paced(data: Scored, there: Bools, limit: tuple[float, int], share: float, rng: Any) -> Bools:
    """Escalate at random within each response's limit, as much as `share` of the steps in all."""
    random = replace(data, scores=rng.random(data.scores.shape))
    low, high = 0.0, 1.0
    steps = escalated(random, Band(-np.inf, high), *limit)
    for _ in range(12):
        middle = (low + high) / 2.0
        steps = escalated(random, Band(-np.inf, middle), *limit)
        low, high = (middle, high) if steps[there].mean() < share else (low, middle)
    return steps


# ------------------------------------------------------------------------------------------- save


def _save(found: Found, options: Options) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    told = {"command": options.command, "version": __version__, "seed": options.seed}
    told |= {"machine": machine(), "tables": found.tables, "notes": found.notes}
    text = json.dumps(plain(told), indent=1, allow_nan=False) + "\n"
    (RESULTS / "cascade.json").write_text(text, encoding="utf-8")
    for kind in ("png", "svg"):
        (IMAGES / f"cascade.{kind}").write_bytes(_drawn(found.tables["cascade"], kind))
    found.notes.append("Written: benchmarks/results/cascade.json; docs/images/cascade.*")


def _drawn(rows: list[Row], kind: canvas.Format) -> bytes:
    """Draw area over share escalated, where no split was refused."""
    names = list(dict.fromkeys(str(row["data"]) for row in rows))
    whole = max(int(row["splits"] or 0) for row in rows)
    with canvas.drawing() as figure:
        figure.set_size_inches(8.0, 5.6)
        for i, name in enumerate(names):
            left, bottom = 0.6 + 4.0 * (i % 2), 3.2 - 2.7 * (i // 2)
            axes = canvas.add_axes(figure, left, bottom, 3.2, 1.9)
            mine = [row for row in rows if row["data"] == name and row["splits"] == whole]
            x = [row["share"] for row in mine]
            for way, style, label in (
                ("AUC", "-o", "band"),
                ("AUC paced", "-.", "at random, within the limit"),
                ("AUC random", "--", "at random"),
                ("AUC lowest", ":", "lowest cheap scores"),
            ):
                y = [row.get(way, row["AUC"]) for row in mine]
                color = canvas.INK if way == "AUC" else canvas.MUTED
                axes.plot(x, y, style, color=color, markersize=3, linewidth=1, label=label)
            axes.set_title(name, fontsize=canvas.PLAIN, loc="left")
            axes.set_xlabel("share of steps escalated")
            axes.set_ylabel("AUC, lowest score")
            if i == 0:
                axes.legend(frameon=False, fontsize=canvas.SMALL - 1.0)
        return canvas.picture(figure, kind)
