"""The order to stop, as open responses hear it.

The server gives the order: from then on no request is taken, and `begun` is true. Open responses go
on until the time that the configuration gives them is over; then `end` calls each of them, once,
and they end validly, as a stopped stream does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Draining:
    """The order to stop. One for each process.

    Attributes:
        begun: no more requests are taken.
        over: the time of open responses is over.
        cut: what did not end by then is cut off.

    Example:
        >>> draining, heard = Draining(), []
        >>> with draining.tells(lambda: heard.append("end now")):
        ...     draining.begin()
        ...     draining.end()
        >>> heard
        ['end now']
    """

    def __init__(self) -> None:
        self.begun = False
        self.over = False
        self.cut = False
        self._open: dict[int, Callable[[], None]] = {}
        self._count = 0

    @property
    def open(self) -> int:
        """How many responses would be told."""
        return len(self._open)

    @contextmanager
    def tells(self, end: Callable[[], None]) -> Iterator[None]:
        """Call `end` when the time is over: at once where it is over already.

        Args:
            end: called at most once, within the event loop; it must not wait and must not raise.
                It interrupts what the response waits for: its upstream, or a decision.
        """
        if self.over:
            end()
            yield
            return
        self._count += 1
        mine = self._count
        self._open[mine] = end
        try:
            yield
        finally:
            self._open.pop(mine, None)

    def begin(self) -> None:
        """Take no more requests."""
        self.begun = True

    def end(self) -> None:
        """Tell all that are open, once."""
        self.begun = self.over = True
        told, self._open = self._open, {}
        for end in told.values():
            end()
