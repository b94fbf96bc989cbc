"""The errors a user can meet. Each says what happened, with which input, and what to do.

Inside the pure floors an expected failure (too few trajectories for an epsilon) is a value, see
`tocsin.model.Refusal`; the public functions turn it into one of these.
"""

from __future__ import annotations

from tocsin.model import Refusal


class TocsinError(Exception):
    """Base of all errors raised on purpose; catch it to catch them all. Not raised itself."""

    def __init__(self, message: str) -> None:
        """Refuse to be raised directly: a caller must be able to tell what went wrong."""
        if type(self) is TocsinError:
            msg = "raise a subclass of TocsinError, not TocsinError itself"
            raise TypeError(msg)
        super().__init__(message)


class InputError(TocsinError, ValueError):
    """The data, a file or an argument is not usable; the message names where."""


class CalibrationInfeasible(TocsinError):  # noqa: N818 - the name says what is the case
    """The guarantee asked for cannot be given on this many trajectories.

    Attributes:
        refusal: the numbers behind the message: n, epsilon, delta, the n needed.
    """

    def __init__(self, refusal: Refusal) -> None:
        """Keep the refusal's numbers beside its sentence."""
        super().__init__(refusal.sentence())
        self.refusal = refusal

    def __reduce__(self) -> tuple[type[CalibrationInfeasible], tuple[Refusal]]:
        """Travel between processes with the numbers, not with the sentence alone."""
        return type(self), (self.refusal,)


class CalibrationDamaged(TocsinError):  # noqa: N818
    """A calibration file does not hold what its digest or its schema says."""


class CalibrationMismatch(TocsinError):  # noqa: N818
    """A calibration is sound but made for something else (signal, verifier, steps, policy)."""


class SessionMisuse(TocsinError):  # noqa: N818
    """A monitor session was used in a state that does not allow it, such as after its end."""


class MissingScore(TocsinError):  # noqa: N818
    """A score is missing and the calibration's policy for that is ``error``."""


class MissingExtra(TocsinError):  # noqa: N818
    """An optional library is needed and not installed; the message names the extra."""
