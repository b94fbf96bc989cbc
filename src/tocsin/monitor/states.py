"""The state machine of a monitor session, as a table.

Two rules. Everything that may happen to a session is a row here; a pair that is not here is a
misuse and raises. And an alarm is latched: no row leads from ALARMED back to WATCHING.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a session is."""

    WATCHING = "watching"
    ALARMED = "alarmed"
    ENDED = "ended"
    ENDED_ALARMED = "ended_alarmed"


class Event(Enum):
    """What happened to it."""

    BELOW = "below"
    """A step whose statistic is not over the threshold, or without a score under `skip`."""
    OVER = "over"
    """A step whose statistic is over the threshold."""
    END_BELOW = "end_below"
    """The output ended and its closing check, if any, is not over the threshold."""
    END_OVER = "end_over"
    """The output ended and its closing check is over the threshold."""


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.WATCHING, Event.BELOW): State.WATCHING,
    (State.WATCHING, Event.OVER): State.ALARMED,
    (State.WATCHING, Event.END_BELOW): State.ENDED,
    (State.WATCHING, Event.END_OVER): State.ENDED_ALARMED,
    (State.ALARMED, Event.BELOW): State.ALARMED,
    (State.ALARMED, Event.OVER): State.ALARMED,
    (State.ALARMED, Event.END_BELOW): State.ENDED_ALARMED,
    (State.ALARMED, Event.END_OVER): State.ENDED_ALARMED,
}

ALARM_STATES = frozenset({State.ALARMED, State.ENDED_ALARMED})
END_STATES = frozenset({State.ENDED, State.ENDED_ALARMED})
