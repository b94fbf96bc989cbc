"""What every statistic is: an online form and a batch form with the same bits.

A statistic turns the prefix s_1..s_t into m_t (danger-high). It may end with a closing check: one
more value at the end of the output, which can still withhold the last window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from tocsin.model import MissingPolicy, SignalKind
from tocsin.risk.arithmetic import SCALAR, transform
from tocsin.risk.statistics import features as prefix
from tocsin.risk.statistics.features import FeatureTable, feature_table
from tocsin.risk.statistics.lockstep import apply_missing_policy
from tocsin.risk.statistics.log_odds import LogOdds
from tocsin.risk.trajectories import Trajectories

Floats = NDArray[np.float64]
State = tuple[tuple[float, ...], tuple[float, ...]]
"""The statistic's own numbers, and the prefix features where a closing check needs them."""

NEVER = -math.inf
"""The statistic before the first usable score: no threshold is below it."""


class ClosingCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verdict on the complete output, in the units of the statistic that it closes.

    The log-odds z of being unsafe given the complete output become (z - intercept) / slope: the
    value at which the statistic's own maximum implies the same odds.

    Args:
        model: log-odds given the features of the complete output.
        intercept, slope: log-odds of being unsafe given the statistic's maximum, linearly;
            slope > 0.
    """

    model: LogOdds
    intercept: float
    slope: float

    def __post_init__(self) -> None:
        """Refuse a conversion that could turn danger into safety."""
        if not self.slope > 0.0 or not math.isfinite(self.slope + self.intercept):
            raise ValueError("a closing check needs a finite intercept and a positive slope")

    def one(self, final: tuple[float, ...]) -> float:
        """Value for one complete output."""
        return (self.model.one(final) - self.intercept) / self.slope

    def rows(self, table: FeatureTable) -> Floats:
        """Value for each trajectory, shape (n,); `NEVER` where nothing was scored."""
        values = (self.model.rows(table.final) - self.intercept) / self.slope
        return np.where(table.scored_final, values, NEVER)


@dataclass(frozen=True, eq=False)
class Paths:
    """A statistic over many trajectories.

    Args:
        values: shape (N,), m_t at every step.
        closing: shape (n,), the closing check, or None.
    """

    values: Floats
    closing: Floats | None

    def maxima(self, starts: NDArray[np.int64]) -> Floats:
        """M of each trajectory, shape (n,): the largest m_t, the closing check included."""
        largest = np.maximum.reduceat(self.values, starts)
        return largest if self.closing is None else np.maximum(largest, self.closing)


class StatisticBase(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="name", forbid_unknown_fields=True
):
    """Shared by all statistics.

    Args:
        kind: ``"probability"`` or ``"real"``, as in `tocsin.model.Signal`.
        closing: the check at the end of the output, or None.
    """

    kind: SignalKind = "probability"
    closing: ClosingCheck | None = None

    @property
    def name(self) -> str:
        """The name used in files, tables and on the command line."""
        return str(self.__struct_config__.tag)

    @property
    def label(self) -> str:
        """The name, with ``+closing`` where a closing check follows."""
        return self.name if self.closing is None else f"{self.name}+closing"

    def start(self) -> State:
        """State before the first score."""
        return self._own_start(), prefix.START if self.closing is not None else ()

    def step(self, state: State, score: float) -> tuple[State, float]:
        """Take one score, which must not be NaN; return the new state and m_t.

        Constant time and memory.
        """
        own, summary = state
        if self.closing is not None:
            x = transform(SCALAR, self.kind, score)
            summary, _ = prefix.advance(SCALAR, summary, x)
        own, value = self._own_step(own, score)
        return (own, summary), value

    def close(self, state: State) -> float | None:
        """Return the closing check for the complete output, or None where there is none."""
        if self.closing is None:
            return None
        summary = state[1]
        return self.closing.one(prefix.of_state(SCALAR, summary)) if summary[0] else NEVER

    def paths(
        self,
        trajectories: Trajectories,
        missing: MissingPolicy = "error",
        table: FeatureTable | None = None,
    ) -> Paths:
        """Compute the statistic over all trajectories; bit for bit what `step` and `close` give.

        Args:
            trajectories: n of them with N steps.
            missing: what a missing score does.
            table: their features, where already at hand.

        Raises:
            InputError: when a score is missing and the policy is ``"error"``.
        """
        if table is None and self.uses_features:
            table = feature_table(trajectories, self.kind)
        values = apply_missing_policy(self._own_paths(trajectories, table), trajectories, missing)
        closing = None
        if self.closing is not None:
            assert table is not None  # noqa: S101 - made above
            closing = self.closing.rows(table)
        return Paths(values=values, closing=closing)

    @property
    def uses_features(self) -> bool:
        """Whether the prefix features are needed."""
        return self.closing is not None

    def _own_start(self) -> tuple[float, ...]:
        """Return the numbers before the first score; every statistic defines this."""
        raise NotImplementedError

    def _own_step(self, own: tuple[float, ...], score: float) -> tuple[tuple[float, ...], float]:
        """Take one score; every statistic defines this."""
        raise NotImplementedError

    def _own_paths(self, trajectories: Trajectories, table: FeatureTable | None) -> Floats:
        """Compute all steps at once, with the bits of `_own_step`; every statistic defines this."""
        raise NotImplementedError
