"""Cases that hold every pair (or triple) of values of all factors at least once."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Case = dict[str, Any]


def covering(
    factors: Mapping[str, Sequence[Any]],
    allowed: Callable[[Case], bool],
    strength: int = 2,
    seed: int = 0,
) -> list[Case]:
    """Choose cases greedily: each one holds as many combinations that are new as any tried does.

    Args:
        factors: the values of each.
        allowed: whether a whole case makes sense.
        strength: 2 for pairs, 3 for triples.
        seed: of the choice among equals.
    """
    rng = random.Random(seed)
    names = list(factors)
    open_: set[tuple[tuple[str, Any], ...]] = set()
    for chosen in itertools.combinations(names, strength):
        open_.update(
            tuple(zip(chosen, values, strict=True))
            for values in itertools.product(*(factors[name] for name in chosen))
        )
    open_ = {wanted for wanted in open_ if _possible(dict(wanted), factors, allowed)}
    cases: list[Case] = []
    while open_:
        first = min(open_, key=repr)
        tries = list(itertools.islice(_completions(dict(first), factors, allowed, rng), 40))
        best = max(tries, key=lambda case: len(_held(case, names, strength) & open_))
        open_ -= _held(best, names, strength)
        cases.append(best)
    return cases


def _held(case: Case, names: Sequence[str], strength: int) -> set[tuple[tuple[str, Any], ...]]:
    return {
        tuple((name, case[name]) for name in chosen)
        for chosen in itertools.combinations(names, strength)
    }


def _possible(
    wanted: Case, factors: Mapping[str, Sequence[Any]], allowed: Callable[[Case], bool]
) -> bool:
    return next(_completions(wanted, factors, allowed, random.Random(1), 200), None) is not None


def _completions(
    wanted: Case,
    factors: Mapping[str, Sequence[Any]],
    allowed: Callable[[Case], bool],
    rng: random.Random,
    tries: int = 400,
) -> Iterator[Case]:
    for _ in range(tries):
        case = {name: wanted.get(name, rng.choice(values)) for name, values in factors.items()}
        if allowed(case):
            yield case
