"""The `fineharm` layout: arrays of token-level predictions, such as FineHarm's, become ours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from tocsin.errors import InputError
from tocsin.evaluation import cells
from tocsin.evaluation.layouts import Adapted, Layout, Options, View
from tocsin.risk.trajectories import Bools, Floats, Ints, Names

PADDING = -100
"""Label of a token that is none, as token classifiers write it."""

_SUM_TOLERANCE = 5e-3


@dataclass(frozen=True, eq=False)
class _Tokens:
    """Every token that counts, response by response, in order: P(harmful), response, position."""

    harmful: Floats
    owner: Ints
    place: tuple[Ints, ...]
    n: int


def _adapt_fineharm(view: View, options: Options) -> Adapted:
    """Token-level predictions as in FineHarm's test_predictions.npz (arXiv 2506.09996).

    Its layout was not available when this was written. Arrays, by the first known name found:

    - P(harmful): `probs`, `probabilities`, `p_harmful`, `scores`, `predictions` or `preds`, each
      from 0 to 1; or `logits`. Shape (n, T) padded, or (N,) flat with `lengths` (n,) or `offsets`
      (n,) or (n + 1,). A last axis of 2 holds the classes (safe, harmful): softmax is applied
      where they do not sum to 1 already.
    - labels, 1 = harmful: `labels`, `label`, `y_true` or `targets` of a response (n,) or of each
      token; `response_labels`, `token_labels` where the file has both.
    - padding: label -100, else `attention_mask` or `mask`, else `lengths`, else NaN scores.
    - optional: `ids` (n,).

    One step a token, score 1 - P(harmful), onset the first token labelled harmful.
    """
    del options
    p = _p_harmful(view)
    token_labels, response_labels = _labels(view, p)
    tokens = _counted(view, p, token_labels)
    lengths = np.bincount(tokens.owner, minlength=tokens.n)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    step = np.arange(len(tokens.owner)) - starts[tokens.owner] + 1
    onset = np.full(tokens.n, -1, dtype=np.int64)
    if token_labels is not None:
        marked = token_labels[tokens.place] == 1
        # Backwards, so that the first marked step is the one that stays.
        onset[tokens.owner[marked][::-1]] = step[marked][::-1]
    unsafe = onset > 0 if response_labels is None else response_labels == 1
    if (onset[~unsafe] > 0).any():
        index = int(np.argmax(~unsafe & (onset > 0)))
        raise InputError(f"response {index} (from 0) is labelled safe and has a harmful token")
    ids = _ids(view, tokens.n)
    notes = []
    if empty := int(np.count_nonzero(lengths == 0)):
        notes.append(f"{empty} of {tokens.n} responses left out: they have no token")
    if np.isin(tokens.harmful, (0.0, 1.0)).all():
        notes.append("all scores are 0 or 1: decisions, not probabilities, leave no threshold")
    columns = {
        "trajectory_id": ids[tokens.owner],
        "step": step,
        "score": 1.0 - tokens.harmful,
        "label": 1 - unsafe[tokens.owner].astype(np.int64),
        "onset_step": onset[tokens.owner],
    }
    return Adapted(columns, notes=tuple(notes))


def _array(view: View, role: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Numbers of any shape."""
    array = np.asarray(view.cells(role))
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        kind = f"{array.dtype} of shape {array.shape}"
        raise InputError(f"array {cells.shown(view.name(role))} is {kind}, not numbers")
    return array.astype(np.float64)


def _p_harmful(view: View) -> Floats:
    """P(harmful), of shape (n, T) or (N,)."""
    role = "p_harmful" if view.has("p_harmful") else "logits"
    p, name = _array(view, role), cells.shown(view.name(role))
    flat_pairs = p.ndim == 2 and p.shape[1] == 2 and _is_flat(view, len(p))
    if (p.ndim == 3 and p.shape[2] == 2) or flat_pairs:
        sums = np.nansum(p, axis=-1)
        known = ~np.isnan(p).any(axis=-1)
        probable = role == "p_harmful" and bool(
            np.all((np.abs(sums[known] - 1) <= _SUM_TOLERANCE) & (p[known] >= 0).all(axis=-1))
        )
        p = p[..., 1] if probable else softmax(p, axis=-1)[..., 1]
    elif p.ndim > 2:
        raise InputError(
            f"array {name} has shape {p.shape}; known are (n, T), (n, T, 2), (N,) and (N, 2)"
        )
    elif role == "logits":
        p = expit(p)
    if ((p < 0) | (p > 1)).any():
        odd = p[(p < 0) | (p > 1)].flat[0]
        raise InputError(
            f"array {name} holds {odd:g}, which is no probability; where it holds logits, give "
            f"columns={{'logits': {name}}}"
        )
    if p.ndim == 1 and not _is_flat(view, len(p)):
        raise InputError(
            f"array {name} has shape {p.shape}; to cut it into responses, 'lengths' that sum to "
            f"{len(p)}, or 'offsets', are needed"
        )
    return p


def _is_flat(view: View, length: int) -> bool:
    """Whether offsets or lengths cut an axis of this length into responses."""
    if view.has("offsets"):
        return True
    if not view.has("lengths"):
        return False
    lengths = _array(view, "lengths")
    return (len(lengths) != length and bool(lengths.sum() == length)) or bool((lengths == 1).all())


def _cuts(view: View, total: int) -> Ints:
    """Lengths of the responses that a flat array of `total` tokens holds."""
    role = "offsets" if view.has("offsets") else "lengths"
    found, name = _array(view, role), cells.shown(view.name(role))
    if found.ndim != 1 or not np.isfinite(found).all():
        raise InputError(f"array {name} must be a list of whole numbers, has shape {found.shape}")
    if role == "offsets":
        ends = found if len(found) and found[-1] == total else np.append(found, total)
        found = np.diff(ends if ends[0] == 0 else np.append(0, ends))
    if (found < 0).any() or (found != np.floor(found)).any() or found.sum() != total:
        raise InputError(f"array {name} does not cut {total} tokens into responses")
    return found.astype(np.int64)


def _labels(view: View, p: Floats) -> tuple[Ints | None, Ints | None]:
    """Labels of tokens (in the shape of `p`) and of responses, either of which may be absent."""
    n = len(p) if p.ndim == 2 else len(_cuts(view, len(p)))
    tokens = responses = None
    for role in ("labels", "token_labels", "response_labels"):
        if not view.has(role):
            continue
        found, name = _array(view, role), cells.shown(view.name(role))
        of_tokens = found.shape == p.shape and (found.ndim == 2 or n != len(p))
        of_responses = found.shape in {(n,), (n, 1)} and not of_tokens
        fits = {"token_labels": of_tokens, "response_labels": of_responses}
        if not fits.get(role, of_tokens or of_responses):
            raise InputError(
                f"array {name} has shape {found.shape}; there are {n} responses, and their tokens "
                f"have shape {p.shape}"
            )
        known = np.isin(found, (0, 1, PADDING) if of_tokens else (0, 1))
        if not known.all():
            raise InputError(
                f"array {name} holds {found[~known].flat[0]:g}; labels are 1 (harmful) and 0 "
                f"(safe), and {PADDING} for padding tokens"
            )
        if of_tokens:
            tokens = found.astype(np.int64)
        else:
            responses = found.reshape(n).astype(np.int64)
    return tokens, responses


def _counted(view: View, p: Floats, labels: Ints | None) -> _Tokens:
    """Find the tokens that are none of the padding."""
    if p.ndim == 1:
        owner = np.repeat(np.arange(len(cuts := _cuts(view, len(p)))), cuts)
        kept = np.ones(len(p), dtype=np.bool_) if labels is None else labels != PADDING
        where = (np.flatnonzero(kept),)
        return _Tokens(p[where], owner[where], where, len(cuts))
    rows, columns = np.nonzero(_mask(view, p, labels))
    return _Tokens(p[rows, columns], rows, (rows, columns), len(p))


def _mask(view: View, p: Floats, labels: Ints | None) -> Bools:
    if labels is not None and (labels == PADDING).any():
        return np.asarray(labels != PADDING)
    if view.has("mask"):
        mask = _array(view, "mask")
        if mask.shape != p.shape or not np.isin(mask, (0, 1)).all():
            name = cells.shown(view.name("mask"))
            raise InputError(f"array {name} must hold 0 and 1 in the shape {p.shape}")
        return np.asarray(mask == 1)
    if view.has("lengths"):
        lengths = _array(view, "lengths")
        if lengths.shape != (len(p),) or (lengths > p.shape[1]).any() or (lengths < 0).any():
            name = cells.shown(view.name("lengths"))
            raise InputError(f"array {name} does not give the tokens of {len(p)} responses")
        return np.asarray(np.arange(p.shape[1]) < lengths[:, None])
    if np.isnan(p).any() or p.shape[1] == 1:
        return ~np.isnan(p)
    raise InputError(
        f"array {cells.shown(view.name('p_harmful' if view.has('p_harmful') else 'logits'))} of "
        f"shape {p.shape} does not tell tokens from padding: add 'lengths', 'attention_mask', "
        f"token labels with {PADDING}, or NaN scores"
    )


def _ids(view: View, n: int) -> Names:
    if not view.has("ids"):
        return np.array([str(i) for i in range(n)], dtype=object)
    ids = view.names("ids", "each response needs a name")
    if len(ids) != n or len(set(ids)) != n:
        name = cells.shown(view.name("ids"))
        raise InputError(f"array {name} must hold {n} different names, one for each response")
    return ids


FINEHARM = Layout(
    name="fineharm",
    roles={
        "p_harmful": (
            "probs",
            "probabilities",
            "p_harmful",
            "scores",
            "predictions",
            "preds",
        ),
        "logits": ("logits",),
        "labels": ("labels", "label", "y_true", "targets"),
        "token_labels": ("token_labels", "word_labels"),
        "response_labels": ("response_labels", "sequence_labels"),
        "lengths": ("lengths", "seq_lengths", "n_tokens"),
        "offsets": ("offsets", "starts"),
        "mask": ("attention_mask", "mask"),
        "ids": ("ids", "id", "idx"),
    },
    needed=(("p_harmful", "logits"), ("labels", "token_labels", "response_labels")),
    adapt=_adapt_fineharm,
    arrays=True,
)
