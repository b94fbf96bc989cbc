"""How late an event loop is: the difference between when a tick was due and when it came."""

from __future__ import annotations


class Lag:
    """Takes the times of ticks. Its value falls by half with each tick that is on time.

    Args:
        tick_s: seconds between two ticks.

    Example:
        >>> lag = Lag(0.1)
        >>> [round(lag.tick(at)) for at in (0.0, 0.1, 0.8, 0.9)]
        [0, 0, 600, 300]
    """

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._last_s: float | None = None
        self.ms = 0.0

    def tick(self, now_s: float) -> float:
        """Take the time of a tick; give how late the loop is, in milliseconds."""
        if self._last_s is not None:
            late_ms = (now_s - self._last_s - self._tick_s) * 1_000
            self.ms = max(late_ms, self.ms / 2, 0.0)
        self._last_s = now_s
        return self.ms
