"""
What every statistic owes its users, as one function: `check_statistic`.

It knows nothing about a particular statistic, so whoever adds one can run it unchanged.
"""

import math
import pickle
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from risk.worlds import hostile, trajectories

from tocsin.errors import InputError
from tocsin.model import MissingPolicy
from tocsin.risk.statistics import NEVER, Statistic
from tocsin.risk.trajectories import Trajectories

Floats = NDArray[np.float64]


def bits(values: Any) -> bytes:
    """The bits of float64 numbers, minus zero counted as zero: no comparison tells them apart."""
    return (np.asarray(values, dtype=np.float64) + 0.0).tobytes()


def online(
    statistic: Statistic, scores: Sequence[float], policy: MissingPolicy = "skip"
) -> tuple[list[float], float | None]:
    """Step by step, as a monitor does: a missing score leaves the state and the value alone."""
    state, last, values = statistic.start(), NEVER, []
    for score in scores:
        if math.isnan(score):
            values.append(math.inf if policy == "worst" else last)
            continue
        state, last = statistic.step(state, score)
        values.append(last)
    return values, statistic.close(state)


def rows_of(world: Trajectories) -> list[list[float]]:
    """The scores of each trajectory."""
    return [part.tolist() for part in np.split(world.scores, world.starts[1:])]


def check_statistic(statistic: Statistic) -> None:
    """Assert everything that holds for any statistic."""
    check_file(statistic)
    check_state(statistic)
    whole = hostile(statistic.kind, missing=False)
    holes = hostile(statistic.kind, missing=True)
    check_online_is_batch(statistic, whole, "error")
    check_online_is_batch(statistic, holes, "skip")
    check_online_is_batch(statistic, holes, "worst")
    check_error_policy(statistic)
    check_each_for_itself(statistic, holes)


def check_file(statistic: Statistic) -> None:
    """Every field and the name survive JSON; the type is told by the name alone."""
    raw = msgspec.json.encode(statistic)
    back = msgspec.json.decode(raw, type=Statistic)
    assert back == statistic
    assert type(back) is type(statistic)
    assert msgspec.json.decode(raw)["name"] == statistic.name
    assert statistic.label == statistic.name + ("" if statistic.closing is None else "+closing")
    assert bits(online(back, [0.3, 0.9, 0.2])[0]) == bits(online(statistic, [0.3, 0.9, 0.2])[0])


def check_state(statistic: Statistic) -> None:
    """The state is a value: pickling it, or stepping twice from it, changes nothing."""
    state = statistic.start()
    for score in (0.7, 0.1, 0.1, 0.95):
        again = pickle.loads(pickle.dumps(state))  # noqa: S301 - our own bytes
        assert again == state
        assert statistic.step(state, score) == statistic.step(again, score)
        assert again == state
        state, _ = statistic.step(state, score)
        assert statistic.close(state) == statistic.close(state)
        hash(state)


def check_online_is_batch(statistic: Statistic, world: Trajectories, policy: MissingPolicy) -> None:
    """Both forms give the same bits, at every step, at the end, and as a maximum; never NaN."""
    paths = statistic.paths(world, policy)
    assert paths.values.shape == (world.n_steps,)
    assert not np.isnan(paths.values).any()
    values: list[float] = []
    closing: list[float] = []
    largest: list[float] = []
    for row in rows_of(world):
        path, end = online(statistic, row, policy)
        values += path
        closing += [] if end is None else [end]
        largest.append(max(path if end is None else [*path, end]))
    assert bits(paths.values) == bits(values)
    if statistic.closing is None:
        assert paths.closing is None and not closing
    else:
        assert paths.closing is not None
        assert not np.isnan(paths.closing).any()
        assert bits(paths.closing) == bits(closing)
    assert bits(paths.maxima(world.starts)) == bits(largest)


def check_error_policy(statistic: Statistic) -> None:
    """Under `error` the first missing score is named; without one nothing is raised."""
    world = trajectories([[0.4], [0.2, 0.3, math.nan, math.nan]])
    with pytest.raises(InputError, match=r"'t000001' has no score at step 3"):
        statistic.paths(world)
    statistic.paths(trajectories([[0.4], [0.2, 0.3]]))


def check_each_for_itself(statistic: Statistic, world: Trajectories) -> None:
    """Neither labels, nor company, nor what comes later changes a value."""
    values = statistic.paths(world, "skip").values
    order = np.random.default_rng(21).permutation(world.n)
    parts = np.split(values, world.starts[1:])
    moved = statistic.paths(world.take(order), "skip").values
    assert bits(moved) == bits(np.concatenate([parts[i] for i in order]))
    rows = rows_of(world)
    other = trajectories(rows, [i % 2 == 0 for i in range(len(rows))])
    assert bits(statistic.paths(other, "skip").values) == bits(values)
    cut = trajectories([row[: (len(row) + 1) // 2] for row in rows])
    halves = np.concatenate([part[: (len(part) + 1) // 2] for part in parts])
    assert bits(statistic.paths(cut, "skip").values) == bits(halves)
