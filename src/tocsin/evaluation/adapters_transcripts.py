"""The `red-team-attempts` layout: transcripts of conversations become one step an answer."""

from __future__ import annotations

import hashlib
import re

import numpy as np

from tocsin.errors import InputError
from tocsin.evaluation import cells
from tocsin.evaluation.layouts import Adapted, Layout, Options, TurnScores, View
from tocsin.risk.trajectories import Floats, Ints

_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


def answers(transcript: str) -> list[str]:
    r"""Return what the assistant said, turn by turn.

    Example:
        >>> answers("\n\nHuman: hi\n\nAssistant: hello you\n\nHuman: bye\n\nAssistant: bye")
        ['hello you', 'bye']
    """
    parts = _SPEAKER.split(transcript)
    return [
        text.strip()
        for who, text in zip(parts[1::2], parts[2::2], strict=True)
        if who == "Assistant"
    ]


def _adapt_red_team(view: View, options: Options) -> Adapted:
    r"""Anthropic's red-team-attempts: one object a transcript, as lines or as one JSON array.

    `transcript` alternates "\n\nHuman: " and "\n\nAssistant: "; a trajectory is a transcript, a
    step an answer, its tokens the words between white space. `rating`, 0 to 4, is the attacker's
    own judgement of success: unsafe from `unsafe_rating_min` on. Group is a hash of
    `task_description`, segment `model_type`, and the name the place in the file, from 0.

    There is no score for each answer in these files. Unless `scores` brings them, all are missing:
    such data can be described, but not calibrated on.
    """
    ratings = view.numbers("rating")
    tasks = view.names("task_description") if view.has("task_description") else None
    models = view.names("model_type") if view.has("model_type") else None
    turns: dict[str, list[object]] = {name: [] for name in ("index", "step", "tokens")}
    unrated = silent = 0
    for i, transcript in enumerate(view.cells("transcript")):
        if not isinstance(transcript, str):
            where = cells.at(i, view.name("transcript"))
            raise InputError(f"{where}: {cells.shown(transcript)} is no transcript")
        said = answers(transcript)
        unrated += bool(np.isnan(ratings[i]))
        silent += not said and not np.isnan(ratings[i])
        if np.isnan(ratings[i]):
            continue
        for number, text in enumerate(said, 1):
            turns["index"].append(i)
            turns["step"].append(number)
            turns["tokens"].append(len(text.split()))
    if not turns["index"]:
        raise InputError("no transcript has both a rating and an answer ('\\n\\nAssistant: ...')")
    index = np.array(turns["index"], dtype=np.int64)
    step = np.array(turns["step"], dtype=np.int64)
    n = len(ratings)
    score, note = _joined(options.scores, index, step, n)
    columns = {
        "trajectory_id": [str(i) for i in index.tolist()],
        "step": step,
        "score": score,
        "label": (ratings[index] < options.unsafe_rating_min).astype(np.int64),
        "tokens": np.array(turns["tokens"], dtype=np.float64),
    }
    if tasks is not None:
        groups = [_task(task, i) for i, task in enumerate(tasks)]
        columns["group"] = [groups[i] for i in index.tolist()]
    if models is not None:
        columns["segment"] = models[index]
    notes = [] if note is None else [note]
    if unrated:
        notes.append(f"{unrated} of {n} transcripts left out: they have no rating, so no label")
    if silent:
        notes.append(f"{silent} of {n} transcripts left out: the assistant says nothing in them")
    return Adapted(columns, notes=tuple(notes))


def _task(description: str, index: int) -> str:
    """Name a task without repeating its text; a transcript without one stands alone."""
    if not description.strip():
        return f"transcript-{index}"
    return "task-" + hashlib.sha256(description.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _joined(
    scores: TurnScores | None, index: Ints, step: Ints, n: int
) -> tuple[Floats, str | None]:
    """Score of each answer, and what must be said about it."""
    out = np.full(len(index), np.nan)
    if scores is None:
        return out, (
            "all scores are missing: this layout holds none for single answers, and calibration "
            "needs them; give a file of them (scores=...)"
        )
    row = {key: at for at, key in enumerate(zip(index.tolist(), step.tolist(), strict=True))}
    seen: set[tuple[int, int]] = set()
    pairs = zip(scores.conversation.tolist(), scores.turn.tolist(), strict=True)
    for at, key in enumerate(pairs):
        if key in seen:
            raise InputError(f"scores, row {at + 1}: conversation {key[0]} has turn {key[1]} twice")
        seen.add(key)
        if not 0 <= key[0] < n:
            raise InputError(
                f"scores, row {at + 1}: there is no conversation {key[0]}; the {n} transcripts "
                "count from 0"
            )
        if key in row:
            out[row[key]] = scores.score[at]
    unknown = len(seen - row.keys())
    lost = int(np.isnan(out).sum())
    said = [f"{lost} of {len(out)} answers have no score"] if lost else []
    said += [f"{unknown} scores fit no answer"] if unknown else []
    return out, "; ".join(said) or None


RED_TEAM = Layout(
    name="red-team-attempts",
    roles={
        "transcript": ("transcript",),
        "rating": ("rating",),
        "task_description": ("task_description",),
        "model_type": ("model_type",),
    },
    needed=(("transcript",), ("rating",)),
    adapt=_adapt_red_team,
)
