"""Model cards: what a model was trained on and how good it was found to be, as data and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from tocsin.verifiers.linear import measures
from tocsin.verifiers.linear.model_file import Header
from tocsin.verifiers.linear.training import Data, Measured
from tocsin.verifiers.taxonomy import BY_ID

_SAFE_FLAGGED = 0.05
"""Over-refusal is stated at the threshold that flags this share of all safe trajectories."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file of data: its name, the SHA-256 of its bytes, and its licence in words."""

    name: str
    digest: str
    licence: str = "not stated"


def card(
    data: Data,
    categories: Sequence[str],
    measured: Measured,
    files: Sequence[File],
    notes: str,
    command: str,
) -> dict[str, Any]:
    """Write down what was measured, as plain data."""
    p = measured.probability
    low = measures.lowest(p[:, 0], data.starts)
    unseen = None if measured.unseen is None else measures.lowest(measured.unseen, data.starts)
    last = p[data.starts[1:] - 1, 0]
    return {
        "data": [
            {
                **msgspec.to_builtins(file),
                "trajectories": int((data.file == i).sum()),
                "steps": int(data.lengths[data.file == i].sum()),
                "unsafe": int((~data.safe[data.file == i]).sum()),
                "auc_min": measures.auc(low[data.file == i], data.safe[data.file == i]),
            }
            for i, file in enumerate(files)
        ],
        "in_domain": measures.by_place(p[:, 0], data.starts, data.safe),
        "late": measured.late,
        "sources": _sources(data, low, unseen),
        "across_sources": None if unseen is None else _across(data, low, unseen),
        "calibration": measures.calibration(last, data.safe),
        "over_refusal": _over_refusal(data, low),
        "categories": [
            _category(data, name, measures.lowest(p[:, 1 + i], data.starts))
            for i, name in enumerate(categories)
        ],
        "notes": notes,
        "command": command,
    }


def _sources(data: Data, low: Any, unseen: Any) -> list[dict[str, Any]]:
    found = []
    names = data.source.astype(str)
    for name in np.unique(names):
        here = names == name
        found.append(
            {
                "source": str(name),
                "trajectories": int(here.sum()),
                "unsafe": int((~data.safe[here]).sum()),
                "auc_seen": measures.auc(low[here], data.safe[here]),
                "auc_unseen": None
                if unseen is None
                else measures.auc(unseen[here], data.safe[here]),
            }
        )
    return found


def _across(data: Data, low: Any, unseen: Any) -> dict[str, float | None]:
    """Compare within sources: the mean over those with both classes, by their sizes."""
    rows = [r for r in _sources(data, low, unseen) if r["auc_unseen"] is not None]
    if not rows:
        return {"seen": None, "unseen": None}
    size = [r["trajectories"] for r in rows]
    return {
        ours: round(float(np.average([r[theirs] for r in rows], weights=size)), 4)
        for ours, theirs in (("seen", "auc_seen"), ("unseen", "auc_unseen"))
    }


def _over_refusal(data: Data, low: Any) -> dict[str, Any] | None:
    chosen = data.harmless & data.safe if len(data.harmless) else np.zeros(data.n, bool)
    if not chosen.any():
        return None
    threshold = float(np.quantile(low[data.safe], _SAFE_FLAGGED, method="lower"))
    return {
        "trajectories": int(chosen.sum()),
        "threshold": round(threshold, 4),
        "safe_flagged": round(float((low[data.safe] < threshold).mean()), 4),
        "flagged": round(float((low[chosen] < threshold).mean()), 4),
        "unsafe_flagged": round(float((low[~data.safe] < threshold).mean()), 4),
    }


def _category(data: Data, name: str, low: Any) -> dict[str, Any]:
    unsafe = ~data.safe & (data.category == name)
    beside = unsafe | data.safe
    return {
        "category": name,
        "unsafe": int(unsafe.sum()),
        "auc_against_safe": measures.auc(low[beside], ~unsafe[beside]),
        "auc_against_other_unsafe": measures.auc(low[~data.safe], ~unsafe[~data.safe]),
    }


# ---------------------------------------------------------------------------------------- as text


def markdown(header: Header) -> str:
    """Write the card for people.

    Args:
        header: of a sealed model, with a card of `card`.
    """
    c = header.card
    inside = c["in_domain"]
    orders = ", ".join(map(str, header.features.orders))
    lines = [
        f"# {header.task}",
        "",
        (f"A linear model of hashed byte n-grams (orders {orders}, "
        f"2^{header.features.bits} places). Digest `{header.digest}`. Step definition "
        f"`{header.steps}`. Scores are probabilities of being safe; higher is safer."),
        "",
        c["notes"],
        "",
        "## Data",
        "",
        *_table(
            ["file", "licence", "trajectories", "steps", "unsafe", "AUC", "SHA-256"],
            [
                [d["name"], d["licence"], d["trajectories"], d["steps"], d["unsafe"],
                 d["auc_min"], f"`{d['digest'][:16]}…`"]
                for d in c["data"]
            ],
        ),
        "",
        "## How good it is",
        "",
        ("Out of fold, groups kept together; AUC is the probability that a safe trajectory scores "
        "higher than an unsafe one."),
        "",
        *_table(
            ["first score", "lowest score", "last score", "lowest score after a safe beginning"],
            [[inside["first"], inside["min"], inside["last"], c["late"]]],
        ),
        "",
        *_calibration(c["calibration"]),
        *_by_source(c),
        *_refusals(c["over_refusal"]),
        *_categories(c["categories"]),
        "## Limits",
        "",
        ("It reads n-grams, not meaning: it knows the words and manners of its data, and nothing "
        "else. In-domain figures say nothing about your traffic, and the figures for unseen "
        "sources are the more honest ones. Calibrate a threshold on your own labelled text; a "
        "poor signal costs power, never the guarantee."),
        "",
        "## Made by",
        "",
        "```sh",
        c["command"],
        "```",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _calibration(c: Mapping[str, Any]) -> list[str]:
    return [
        (
            f"Probabilities of the last score: Brier {c['brier']:.4f} (the share of safe ones "
            f"alone would get {c['brier_of_share']:.4f}), expected calibration error "
            f"{c['ece']:.4f}."
        ),
        "",
        *_table(["trajectories", "mean probability", "share safe"], c["bins"]),
        "",
    ]


def _by_source(c: Mapping[str, Any]) -> list[str]:
    across = c["across_sources"]
    if across is None:
        return []
    rows = [r for r in c["sources"] if r["auc_seen"] is not None]
    left = len(c["sources"]) - len(rows)
    return [
        "## By source",
        "",
        (
            f"AUC of the lowest score within a source: {_cell(across['seen'])} where the "
            f"source was learned from, {_cell(across['unseen'])} where neither source nor group "
            "was (means over the sources with both classes, by size)."
        ),
        "",
        *_table(
            ["source", "trajectories", "unsafe", "seen", "unseen"],
            [
                [r["source"], r["trajectories"], r["unsafe"], r["auc_seen"], r["auc_unseen"]]
                for r in rows
            ],
        ),
        *([f"\n{left} more have one class only."] if left else []),
        "",
    ]


def _refusals(c: Mapping[str, Any] | None) -> list[str]:
    if c is None:
        return []
    return [
        "## Over-refusal",
        "",
        (
            f"At the threshold {c['threshold']:.4f}, which flags {c['safe_flagged']:.1%} of all "
            f"safe trajectories and {c['unsafe_flagged']:.1%} of the unsafe, {c['flagged']:.1%} of "
            f"the {c['trajectories']} safe answers to harmless prompts are flagged (out of fold)."
        ),
        "",
    ]


def _categories(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    return [
        "## Harm categories",
        "",
        ("AUC of the category's lowest score, out of fold: its unsafe trajectories against the "
        "safe ones, and against the unsafe ones of other categories."),
        "",
        *_table(
            ["category", "unsafe", "against safe", "against other unsafe"],
            [
                [BY_ID[r["category"]].title, r["unsafe"], r["auc_against_safe"],
                 r["auc_against_other_unsafe"]]
                for r in rows
            ],
        ),
        "",
    ]  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(map(_cell, row))} |" for row in rows),
    ]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value).replace("|", "\\|").replace("\n", " ")
