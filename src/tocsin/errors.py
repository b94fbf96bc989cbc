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


class ProofInvalid(TocsinError):  # noqa: N818
    """A receipt, proof or checkpoint does not show what it has to; nothing in it may be trusted."""


class NoProof(ProofInvalid):
    """This is something else altogether, such as the page of an error; it shows nothing at all."""


class StoreError(TocsinError):
    """Base of what can happen to the record; catch it to catch all of that."""


class StoreBusy(StoreError):  # noqa: N818
    """Somebody else holds the store, or the queue is full: nothing was written; try again later."""


class StoreAway(StoreBusy):
    """The server is not reached, or the connection was lost, perhaps after the commit.

    Give the same ids again, that is safe.
    """


class StoreFull(StoreError):  # noqa: N818
    """There is no room left: nothing was written; make room, then try again."""


class StoreFailed(StoreError):  # noqa: N818
    """A sync failed or the disk reported an error: what is on disk is not known any more.

    Every later call raises this too. The process has to end, and to begin again from the disk.
    """


class StoreDamaged(StoreError):  # noqa: N818
    """What is stored is not what was written; `tocsin fsck` says where."""


class StoreFromTheFuture(StoreError):  # noqa: N818
    """A later version of the program wrote this store; this one would misread it."""


class AppendRefused(StoreError, ValueError):  # noqa: N818
    """An append breaks a rule of the store, and would break it again; the others were kept."""


class HistoryDamaged(StoreDamaged):
    """A Parquet file of history is missing or is not what its manifest says; restore it."""


class ContentGone(StoreError):  # noqa: N818
    """There is no such content any more: it has expired, it was erased, or it never was."""


class AccessDenied(TocsinError):  # noqa: N818
    """Whoever asks may not do that; the message says what would be needed."""
