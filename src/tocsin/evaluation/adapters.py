"""Layouts with one row per step, each as a pure step from their columns to ours.

Directions differ between layouts and are stated in each: ours are score safe-high and label 1 for
safe. A column whose direction a name does not settle is refused, not guessed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tocsin.errors import InputError
from tocsin.evaluation import cells
from tocsin.evaluation.layouts import Adapted, Layout, Options, View, common
from tocsin.risk.trajectories import Bools, Floats, Ints, Names

THEIR_LABEL = "1 (unsafe) nor 0 (safe)"

_OPTIONAL: dict[str, tuple[str, ...]] = {"group": (), "segment": (), "tokens": (), "onset_step": ()}


# ------------------------------------------------------------------------------------------ tocsin


def _adapt_tocsin(view: View, options: Options) -> Adapted:
    """Our own schema: `trajectory_id`, `step` (1, 2, 3, ...), `score` (safe-high), `label`.

    Label 1 is safe, 0 unsafe. Optional: `group`, `segment` (else `source`), `tokens` (of the step
    alone), `onset_step`.
    """
    del options
    return Adapted(common(view, step=view.whole("step")))


TOCSIN = Layout(
    name="tocsin",
    roles={
        "trajectory_id": ("trajectory_id",),
        "step": ("step",),
        "score": ("score",),
        "label": ("label",),
        "group": ("group",),
        "segment": ("segment", "source"),
        "tokens": ("tokens",),
        "onset_step": ("onset_step",),
    },
    needed=(("trajectory_id",), ("step",), ("score",), ("label",)),
    adapt=_adapt_tocsin,
)


# -------------------------------------------------------------------------------------- e-valuator


def _adapt_evaluator(view: View, options: Options) -> Adapted:
    """Files of e-valuator: `uq_problem_idx`, `num_steps` (step, from 1), `judge_probability`.

    `solved` (or `solved_regex`) is 1 for safe. `generated_tokens`, where present, counts the step
    alone in the published files and everything so far in those that its scripts write: it is taken
    as a running total where it grows at every step of every trajectory, else as the step's own.
    """
    del options
    step = view.whole("step")
    out = common(view, step=step)
    out.setdefault("group", out["trajectory_id"])
    if view.has("generated_tokens") and "tokens" not in out:
        counts = view.numbers("generated_tokens")
        order, new = _in_order(out["trajectory_id"], step)
        grows = counts[order][1:] > counts[order][:-1]
        running = bool(np.all(grows | new[1:])) and not bool(np.all(new))
        if not np.isnan(counts).any():
            out["tokens"] = _per_step(view, counts, order, new) if running else counts
    return Adapted(out)


EVALUATOR = Layout(
    name="e-valuator",
    roles={
        "trajectory_id": ("uq_problem_idx",),
        "step": ("num_steps",),
        "score": ("judge_probability",),
        "label": ("solved", "solved_regex"),
        "generated_tokens": ("generated_tokens",),
        **_OPTIONAL,
    },
    needed=(("trajectory_id",), ("step",), ("score",), ("label",)),
    adapt=_adapt_evaluator,
)


# --------------------------------------------------------------------------------------- reference


def _adapt_reference(view: View, options: Options) -> Adapted:
    """Merged CSV of the public reference repository of arXiv 2607.02510.

    `uq_problem_idx`, `step_idx` (from 0), `judge_probability` (empty where its join found none: a
    missing score), `error_final_o3` (1 = final answer wrong = unsafe), `label_valid` (trajectories
    where it is false have no usable label and are left out), `generated_tokens` (running total,
    turned into the step's own; a step that the join missed gets 0 and the next known one the rest),
    `dataset` (segment), `error_stepwise_o3` (1 where a step is wrong: the first is the onset of an
    unsafe trajectory).
    """
    del options
    ids = view.names("trajectory_id")
    step = view.whole("step") + 1
    left_out: frozenset[str] = frozenset()
    valid = np.ones(len(ids), dtype=np.bool_)
    if view.has("label_valid"):
        left_out = frozenset(ids[~view.flags("label_valid", "1 (valid) nor 0 (left out)")])
        valid = np.array([name not in left_out for name in ids], dtype=np.bool_)
    ours: dict[str, Any] = {"step": step}
    if not view.has("label"):
        ours["label"] = 1 - _where(view, "unsafe", valid)
    if view.has("generated_tokens") and not view.has("tokens"):
        counts = np.where(valid, view.numbers("generated_tokens"), np.nan)
        if not np.isnan(counts).all():
            ours["tokens"] = _per_step(view, counts, *_in_order(ids, step))
    out = common(view, **ours)
    out.setdefault("group", ids)
    if view.has("step_error") and "onset_step" not in out:
        wrong = (view.numbers("step_error") == 1) & (np.asarray(out["label"]) == 0) & valid
        out["onset_step"] = _first_marked(ids, step, wrong)
    n = len(set(ids))
    note = f"{len(left_out)} of {n} trajectories left out: they have no valid label"
    return Adapted(out, left_out, (note,) if left_out else (), step_shift=1)


REFERENCE = Layout(
    name="reference",
    roles={
        "trajectory_id": ("uq_problem_idx",),
        "step": ("step_idx",),
        "score": ("judge_probability",),
        "label": (),
        "unsafe": ("error_final_o3",),
        "label_valid": ("label_valid",),
        "generated_tokens": ("generated_tokens",),
        "step_error": ("error_stepwise_o3",),
        **_OPTIONAL,
        "segment": ("dataset",),
    },
    needed=(("trajectory_id",), ("step",), ("score",), ("unsafe", "label")),
    adapt=_adapt_reference,
)


# ------------------------------------------------------------------------------------------- llama

_WORDS = {"safe": 1, "harmless": 1, "unharmful": 1, "benign": 1, "unsafe": 0, "harmful": 0}


def _adapt_llama(view: View, options: Options) -> Adapted:
    """Scores of a guard model for each turn of a conversation, as in that repository's llama.csv.

    Its header was not available when this was written. Known names, the first found being used:
    conversation (`conversation_id`, `transcript_id`, `dialogue_id`, `uq_problem_idx`, `idx`), turn
    (`turn`, `turn_idx`, `step_idx`, `num_steps`; counted from 0 where the file's least is 0, else
    from 1), P(safe) (`judge_probability`, `p_safe`, `prob_safe`, `safe_prob`) or P(unsafe)
    (`p_unsafe`, `prob_unsafe`, `unsafe_prob`; 1 - p is used), harmful (`harmful`, `is_harmful`,
    `unsafe`, `is_unsafe`, `error_final`, `error_final_o3`, `error_final_regex`; 1 = unsafe),
    `solved` (1 = safe), or `label` where it holds words such as safe and harmful.
    """
    del options
    step, score, shift = turns(view)
    ours: dict[str, Any] = {"step": step, "score": score}
    if view.has("harmful"):
        ours["label"] = 1 - view.flags("harmful", THEIR_LABEL).astype(np.int64)
    elif view.name("label") == "label" and "label" not in view.given:
        ours["label"] = _words(view)
    return Adapted(common(view, **ours), step_shift=shift)


def turns(view: View) -> tuple[Ints, Floats, int]:
    """Return the turn, from 1, and the safe-high score of each row, and the shift of the turns."""
    step = view.whole("step")
    shift = int(step.min() == 0)
    score = view.numbers("score") if view.has("score") else 1.0 - view.numbers("p_unsafe")
    return step + shift, score, shift


def _words(view: View) -> Ints:
    column = view.cells("label")
    out = np.empty(len(column), dtype=np.int64)
    for i, value in enumerate(column):
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in _WORDS:
            raise InputError(
                f"{cells.at(i, 'label')}: {cells.shown(value)} does not say which way it points; "
                "give columns={'label': 'label'} where 1 is safe, or columns={'harmful': 'label'} "
                "where 1 is harmful"
            )
        out[i] = _WORDS[word]
    return out


_TURN_ROLES: dict[str, tuple[str, ...]] = {
    "trajectory_id": ("conversation_id", "transcript_id", "dialogue_id", "uq_problem_idx", "idx"),
    "step": ("turn", "turn_idx", "step_idx", "num_steps"),
    "score": ("judge_probability", "p_safe", "prob_safe", "safe_prob"),
    "p_unsafe": ("p_unsafe", "prob_unsafe", "unsafe_prob"),
}

LLAMA = Layout(
    name="llama",
    roles={
        **_TURN_ROLES,
        "harmful": (
            "harmful",
            "is_harmful",
            "unsafe",
            "is_unsafe",
            "error_final",
            "error_final_o3",
            "error_final_regex",
        ),
        "label": ("solved", "label"),
        **_OPTIONAL,
    },
    needed=(("trajectory_id",), ("step",), ("score", "p_unsafe"), ("harmful", "label")),
    adapt=_adapt_llama,
)

LLAMA_SCORES = Layout(
    name="llama",
    roles=_TURN_ROLES,
    needed=(("trajectory_id",), ("step",), ("score", "p_unsafe")),
    adapt=_adapt_llama,
)
"""The same without labels: scores to be joined to conversations that come from elsewhere."""


# ----------------------------------------------------------------------------------------- helpers


def _where(view: View, role: str, rows: Bools) -> Ints:
    """1 or 0 in the rows asked for, 0 elsewhere: those are left out and may hold anything."""
    column = view.cells(role)
    values = column.tolist() if isinstance(column, np.ndarray) else column
    kept: list[Any] = [v if ok else 0 for v, ok in zip(values, rows, strict=True)]
    return cells.flags(view.name(role), kept, meaning=THEIR_LABEL).astype(np.int64)


def _in_order(ids: Names, step: Ints) -> tuple[Ints, Bools]:
    """Order of the rows by trajectory and step, and which of them, in that order, begin one."""
    _, code = np.unique(ids, return_inverse=True)
    order = np.lexsort((step, code))
    return order, np.append(True, code[order][1:] != code[order][:-1])


def _per_step(view: View, counts: Floats, order: Ints, new: Bools) -> Floats:
    """Each step's own tokens from a running total; one that is missing adds nothing."""
    out = np.zeros(len(counts))
    last, last_row = 0.0, -1
    for row, begins in zip(order.tolist(), new.tolist(), strict=True):
        if begins:
            last, last_row = 0.0, -1
        count = float(counts[row])
        if np.isnan(count):
            continue
        if count < last:
            before = f"{last:g} in row {last_row + 1}" if last_row >= 0 else "nothing"
            raise InputError(
                f"{cells.at(row, view.name('generated_tokens'))}: {count:g} after {before}; in "
                "this layout it is a running total. If it counts each step alone, give "
                f"columns={{'tokens': {view.name('generated_tokens')!r}}}"
            )
        out[row], last, last_row = count - last, count, row
    return out


def _first_marked(ids: Names, step: Ints, marked: Bools) -> Ints:
    """Smallest marked step of each row's trajectory, -1 where none is."""
    first: dict[Any, int] = {}
    for name, number in zip(ids[marked], step[marked].tolist(), strict=True):
        first[name] = min(number, first.get(name, number))
    return np.array([first.get(name, -1) for name in ids], dtype=np.int64)
