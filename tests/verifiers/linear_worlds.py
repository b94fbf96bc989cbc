"""A small world of labelled text, without any harm in it: unsafe answers talk of the sea."""

from __future__ import annotations

import random

import numpy as np

from tocsin.verifiers.linear.model_file import SCHEMA, Features, Head, Header, Model, sealed
from tocsin.verifiers.linear.training import Data

LAND = [
    "the",
    "farm",
    "has",
    "a",
    "barn",
    "and",
    "a",
    "field",
    "where",
    "wheat",
    "grows",
    "near",
    "an",
    "old",
    "stone",
    "wall",
]
SEA = [
    "the",
    "ship",
    "has",
    "a",
    "sail",
    "and",
    "a",
    "deck",
    "where",
    "salt",
    "dries",
    "near",
    "an",
    "old",
    "iron",
    "anchor",
]


def sentence(rng: random.Random, words: list[str], size: int = 12) -> str:
    return " ".join(rng.choice(words) for _ in range(size)).capitalize() + ". "


def data(n: int = 240, seed: int = 0, steps: int = 3) -> Data:
    """Half of the trajectories speak of the sea from their second step on: unsafe."""
    rng = random.Random(seed)
    text: list[str] = []
    for i in range(n):
        words = SEA if i % 2 else LAND
        text += [sentence(rng, LAND), *(sentence(rng, words) for _ in range(steps - 1))]
    return Data(
        text=text,
        obs=[""] * len(text),
        starts=np.arange(0, len(text) + 1, steps),
        safe=np.arange(n) % 2 == 0,
        group=np.arange(n) // 2,
        file=np.zeros(n, dtype=np.int64),
        source=np.array([f"s{i // 2 % 3}" for i in range(n)], dtype=object),
        category=np.array(["violence" if i % 4 == 1 else "" for i in range(n)], dtype=object),
    )


def model(seed: int = 0, heads: int = 2, *, observations: bool = True, block: int = 64) -> Model:
    """Random weights: enough for all that is not about quality."""
    rng = np.random.default_rng(seed)
    features = Features(orders=(2, 5), bits=10, block=block, observations=observations)
    names = ["", "violence", "sexual"][:heads]
    header = Header(
        schema=SCHEMA,
        task="random",
        steps="sentence",
        features=features,
        heads=tuple(Head(name=name, intercept=0.5, slope=0.01) for name in names),
        card={},
    )
    return sealed(Model(header, rng.integers(-127, 128, (1 << 10, heads), dtype=np.int8)))
