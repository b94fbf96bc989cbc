"""A circuit breaker: stop asking a server that fails, and find out when it is back.

A table of three states. Time comes in as an argument, in seconds of any clock that never goes back.

| state | may a call begin? | a call ends | next state |
|---|---|---|---|
| closed | yes | too many failures | open |
| closed | yes | else | closed |
| open | no, until the pause is over; then one probe | the probe begins | half-open |
| half-open | no, while the probe is under way | the probe fails | open, with a new pause |
| half-open | | the probe succeeds | closed, with a clean slate |
| half-open | | the probe is given up | open, and the next call is a probe |
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import msgspec

from tocsin.limits import REMOTE_BREAKER_CALLS_MAX

State = Literal["closed", "open", "half_open"]
Permit = Literal["call", "probe"]
End = Literal["success", "failure", "given_up"]


class BreakerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to stop asking.

    Args:
        failures: it opens at so many failures within `window_s`, if they are half of the calls or
            more.
        window_s: how far it looks back, in seconds.
        pause_s: how long nothing is asked once it is open, in seconds.
    """

    failures: int = 5
    window_s: float = 10.0
    pause_s: float = 5.0


class Breaker:
    """The breaker of one server.

    Args:
        config: when to stop asking.

    Example:
        >>> b = Breaker(BreakerConfig(failures=1, pause_s=5.0))
        >>> b.end(b.permit(0.0), "failure", 0.0)
        >>> b.state, b.permit(4.9), b.permit(5.0), b.permit(5.0)
        ('open', None, 'probe', None)
    """

    def __init__(self, config: BreakerConfig) -> None:
        self._config = config
        self._state: State = "closed"
        self._until = 0.0
        self._ends: deque[tuple[float, bool]] = deque(maxlen=REMOTE_BREAKER_CALLS_MAX)

    @property
    def state(self) -> State:
        """The state as of the last event."""
        return self._state

    def refuses(self, now: float) -> bool:
        """Say whether a call could not begin now."""
        return self._state == "half_open" or (self._state == "open" and now < self._until)

    def permit(self, now: float) -> Permit | None:
        """Let a call begin, or not. What was permitted must `end`."""
        if self.refuses(now):
            return None
        if self._state == "open":
            self._state = "half_open"
            return "probe"
        return "call"

    def end(self, permit: Permit | None, how: End, now: float) -> None:
        """Take note of how a call ended; one that began before the breaker opened says nothing."""
        if permit == "probe" and self._state == "half_open":
            self._end_probe(how, now)
        elif permit == "call" and self._state == "closed" and how != "given_up":
            self._ends.append((now, how == "success"))
            self._judge(now)

    def _end_probe(self, how: End, now: float) -> None:
        if how == "success":
            self._state = "closed"
            self._ends.clear()
            return
        self._state = "open"
        self._until = now if how == "given_up" else now + self._config.pause_s

    def _judge(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now - self._config.window_s:
            self._ends.popleft()
        failures = sum(not ok for _, ok in self._ends)
        if failures >= self._config.failures and 2 * failures >= len(self._ends):
            self._state = "open"
            self._until = now + self._config.pause_s
