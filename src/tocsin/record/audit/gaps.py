"""What retention took away: a number that would need it is refused, not given too small."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from tocsin.errors import InputError
from tocsin.events.moments import YEAR_10000_US, rfc3339


class Gap(Protocol):
    """Events of one kind that are gone, as `tocsin.store.history.Taken`."""

    @property
    def kind(self) -> str:
        """Of the events."""

    @property
    def n(self) -> int:
        """How many."""

    @property
    def last_us(self) -> int:
        """Time of the last one, microseconds since 1970."""


def refuse_gaps(gaps: Iterable[Gap], needed: Collection[str]) -> None:
    """Refuse an answer for which events are needed that retention took away.

    Args:
        gaps: what was taken away in the time that is asked about.
        needed: kinds without which there is no answer.

    Raises:
        InputError: some are gone; says from when on they are whole.

    Example:
        >>> refuse_gaps([], ["alarm"])
    """
    gone = [gap for gap in gaps if gap.kind in needed]
    if not gone:
        return
    told = ", ".join(f"{gap.n:,} {gap.kind}" for gap in gone)
    since = min(max(gap.last_us for gap in gone) + 1, YEAR_10000_US - 1)
    raise InputError(
        f"events of this time were taken away by retention ({told}), so that no number would be "
        f"right: ask with --since {rfc3339(since)}, from when on they are all there"
    )
