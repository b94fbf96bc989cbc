"""A model on disk: one file, data with a digest, never pickle.

    8 bytes   "TOCSINLM"
    4 bytes   length of the header, unsigned, little-endian
    header    JSON: schema, features, calibration of each head, card, digest
    weights   8-bit signed integers, shape (2^bits, heads), row by row

The digest is the SHA-256 of the header with an empty digest, followed by the weights.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tocsin.errors import InputError
from tocsin.limits import LINEAR_FILE_BYTES_MAX, LINEAR_HEADER_BYTES_MAX
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.linear.prefix import Weights
from tocsin.verifiers.reading import read_whole
from tocsin.verifiers.taxonomy import BY_ID

SCHEMA = "tocsin-linear/1"
_MAGIC = b"TOCSINLM"
_AGAIN = "copy it again, or train it again with tocsin train"


class Features(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How text becomes evidence.

    Args:
        orders: lengths of the n-grams in bytes, increasing, 1 to 16.
        bits: the table has 2^bits places, 8 to 22.
        block: bytes of a block, 32 to 65,536; a window is one to two of them.
        observations: whether what was observed is read too.
    """

    orders: tuple[int, ...] = (3, 5, 7)
    bits: int = 18
    block: int = 512
    observations: bool = False


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How evidence becomes a probability of being safe.

    The probability is 1 / (1 + exp(-z)) with z = intercept + slope * evidence (Platt 1999).

    Args:
        name: ``""`` for the score itself, else a harm category.
        intercept: log-odds without evidence.
        slope: of the evidence, at least 0.
    """

    name: str
    intercept: float
    slope: float


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of the file but the weights.

    Args:
        schema: `SCHEMA`.
        task: what was learned, in one word.
        steps: step definition that it was trained with, and its default.
        features: how text becomes evidence.
        heads: the score first, then the categories.
        card: the model card, as `tocsin.verifiers.linear.card` writes it.
        digest: SHA-256, in hexadecimal digits.
    """

    schema: str
    task: str
    steps: str
    features: Features
    heads: tuple[Head, ...]
    card: dict[str, Any]
    digest: str = ""


class Model(msgspec.Struct, frozen=True):
    """A header with its weights, shape (2^bits, heads)."""

    header: Header
    weights: Weights


def sealed(model: Model) -> Model:
    """Return the model with its digest."""
    header = msgspec.structs.replace(model.header, digest="")
    digest = _digest(header, model.weights)
    return Model(msgspec.structs.replace(header, digest=digest), model.weights)


def to_bytes(model: Model) -> bytes:
    """Write a sealed model."""
    header = msgspec.json.encode(model.header)
    size = len(header).to_bytes(4, "little")
    return _MAGIC + size + header + np.ascontiguousarray(model.weights, "<i1").tobytes()


def load(path: str | os.PathLike[str]) -> Model:
    """Read a model, and refuse it unless it is whole and of a kind that is known here.

    Raises:
        InputError: with the file and what is the matter.
    """
    raw = read_whole(Path(path), LINEAR_FILE_BYTES_MAX, "the model")
    try:
        return from_bytes(raw)
    except InputError as e:
        raise InputError(f"the model {str(path)!r} {e}") from None


def from_bytes(raw: bytes) -> Model:
    """Read a model from the bytes of its file.

    Raises:
        InputError: what is the matter with them, to follow the name of the file.
    """
    if not raw.startswith(_MAGIC):
        raise InputError("is no model of tocsin train: give a file that it wrote")
    size = int.from_bytes(raw[8:12], "little")
    if not 0 < size <= min(LINEAR_HEADER_BYTES_MAX, len(raw) - 12):
        raise InputError(f"is cut short or damaged in its header; {_AGAIN}")
    try:
        header = msgspec.json.decode(raw[12 : 12 + size], type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"has a header that cannot be read ({e}); {_AGAIN}") from None
    if header.schema != SCHEMA:
        raise InputError(f"has the schema {header.schema!r}; this version reads {SCHEMA!r}")
    _check(header)
    shape = (1 << header.features.bits, len(header.heads))
    body = raw[12 + size :]
    if len(body) != shape[0] * shape[1]:
        raise InputError(
            f"has {len(body):,} bytes of weights, not {shape[0] * shape[1]:,}; {_AGAIN}"
        )
    weights = np.frombuffer(body, "<i1").reshape(shape)
    if _digest(msgspec.structs.replace(header, digest=""), weights) != header.digest:
        raise InputError(f"does not hold what its digest says; {_AGAIN}")
    return Model(header, weights)


def _digest(header: Header, weights: Weights) -> str:
    state = hashlib.sha256(msgspec.json.encode(header, order="sorted"))
    state.update(np.ascontiguousarray(weights, "<i1").tobytes())
    return state.hexdigest()


def _check(header: Header) -> None:
    try:
        StepDefinition.parse(header.steps)
    except InputError as e:
        raise InputError(f"has a {e}") from None
    features = header.features
    orders = features.orders
    if not orders or list(orders) != sorted(set(orders)) or not 1 <= orders[0] <= orders[-1] <= 16:
        raise InputError(f"has n-grams of orders {orders}; increasing ones from 1 to 16 are known")
    if not 8 <= features.bits <= 22 or not 32 <= features.block <= 65_536:
        raise InputError(f"has {features.bits} bits and blocks of {features.block}: out of range")
    if not header.heads or header.heads[0].name:
        raise InputError("has no head for the score itself")
    names = [head.name for head in header.heads[1:]]
    unknown = sorted(set(names) - set(BY_ID)) or [n for n in names if names.count(n) > 1]
    if unknown:
        raise InputError(f"has a head for {unknown[0]!r}, which is no category, or there twice")
    for head in header.heads:
        if not math.isfinite(head.intercept) or not 0 <= head.slope < math.inf:
            raise InputError(f"has a head with slope {head.slope}, which is no number from 0 up")
