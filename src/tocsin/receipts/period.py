"""What an entry of the kind `period` says, and that several of them leave nothing out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from tocsin.errors import InputError, ProofInvalid
from tocsin.receipts.checkpoint import Checkpoint
from tocsin.receipts.verify import Verified


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry of the kind `period` says.

    Args:
        first, last: sequence numbers, both included.
        from_us, until_us: the earliest and the latest time of these events.
        kinds: how many events there were of each kind.
        opened: streams that began.
        ended: streams that ended, by outcome.
        alarms: events of the kind ``alarm``.
        entries_from, entries_until: which part of the log it speaks of: indexes, the second one not
            included. A period begins where the last one ended, and holds that one's own entry.
        receipts: entries in that part that are receipts.
        events_root: root of the tree (RFC 6962) over the events' hashes in their order, base64.
        closed_us: when the period was made.
    """

    first: int
    last: int
    from_us: int
    until_us: int
    kinds: dict[str, int]
    opened: int
    ended: dict[str, int]
    alarms: int
    entries_from: int
    entries_until: int
    receipts: int
    events_root: str
    closed_us: int
    schema: Literal["tocsin.period/1"] = "tocsin.period/1"

    @property
    def id(self) -> str:
        """Of the entry."""
        return f"{self.first}-{self.last}"

    def write(self) -> bytes:
        """Give the body of the entry."""
        return msgspec.json.encode(self)


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Periods of one log that join: no event and no entry lies between two of them.

    Args:
        checkpoint: that all of them are proven by.
        periods: in their order, at least one.
        index: of the first one's own entry in the log.
    """

    checkpoint: Checkpoint
    periods: tuple[Period, ...]
    index: int

    def reaches(self, old: Checkpoint) -> bool:
        """Whether they leave nothing out that was recorded after an earlier checkpoint.

        So where they begin with the log, or with a period that the checkpoint holds. Otherwise what
        came between may be in a period that nobody shows.
        """
        return self.periods[0].first == 1 or self.index < old.size

    @property
    def after(self) -> int:
        """How many entries of the log came after what they speak of, besides the last period."""
        return self.checkpoint.size - self.periods[-1].entries_until - 1


def read_period(body: bytes) -> Period:
    """Read what a period says.

    Raises:
        InputError: it is none.
    """
    try:
        return msgspec.json.decode(body, type=Period)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise InputError(f"this is no period: {e}") from None


def join(found: Sequence[Verified]) -> Span:
    """Say that these periods leave no event and no entry out between the first and the last.

    All have to be proven by one checkpoint: two that only look alike could be of a log that was
    forked.

    Args:
        found: verified entries, in any order; the same one twice is one.

    Raises:
        ProofInvalid: there is a gap, or they contradict each other; the message says where.
    """
    if not found:
        raise ProofInvalid("there is no period")
    at = found[0].checkpoint
    for one in found:
        if one.origin != at.origin:
            raise ProofInvalid(f"two logs: one period is of {at.origin!r}, the other of "
                               f"{one.origin!r}")  # fmt: skip
        if (one.size, one.checkpoint.root) != (at.size, at.root):
            raise ProofInvalid(
                f"the proofs are by checkpoints of {at.size} and of {one.size} entries: ask for "
                "all of them by one checkpoint"
            )
    placed = sorted({one.index: _stated(one) for one in found}.items())
    for before, after in pairwise(placed):
        _check_joined(*before, *after)
    periods = tuple(period for _, period in placed)
    return Span(checkpoint=at, periods=periods, index=placed[0][0])


def _stated(found: Verified) -> Period:
    """Read the period in an entry, and check it against itself and its place in the log."""
    entry = found.entry
    if entry.kind != "period":
        raise ProofInvalid(f"{entry.kind} {entry.id!r} is no period")
    try:
        period = read_period(entry.body)
    except InputError as e:
        raise ProofInvalid(str(e)) from None
    entries = period.entries_until - period.entries_from
    earlier = 1 if period.first > 1 else 0  # the entry of the period before
    sound = (
        period.id == entry.id
        and 0 < period.first <= period.last <= entry.sequence
        and 0 <= period.entries_from <= period.entries_until <= found.index
        and min(period.kinds.values(), default=0) >= 0
        and sum(period.kinds.values()) == period.last - period.first + 1
        and period.alarms == period.kinds.get("alarm", 0)
        and period.opened == period.kinds.get("stream.opened", 0)
        and sum(period.ended.values()) == period.kinds.get("stream.ended", 0)
    )
    if not sound:
        raise ProofInvalid(f"period {entry.id!r} contradicts itself")
    if entries != period.receipts + earlier:
        raise ProofInvalid(
            f"period {entry.id} speaks of entries {period.entries_from} to "
            f"{period.entries_until - 1} and counts {period.receipts} receipts there: "
            "there was another period"
        )
    return period


def _check_joined(before_index: int, before: Period, after_index: int, after: Period) -> None:
    if after.first > before.last + 1 and after.entries_from >= before.entries_until:
        raise ProofInvalid(
            f"no period here speaks of events {before.last + 1} to {after.first - 1}: ask for what "
            "is between"
        )
    joined = (
        after.first == before.last + 1
        and after.entries_from == before.entries_until <= before_index < after.entries_until
        and before_index < after_index
    )
    if not joined:
        raise ProofInvalid(f"periods {before.id} and {after.id} contradict each other")
