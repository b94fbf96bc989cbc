"""What comes from an upstream, taken in the callback that brings it.

Whoever waits for an upstream in a task pays for each piece of an answer with a future, a turn of
the event loop and a walk through all that waits for the task: more than it costs to look at the
piece. Here the taker is called as soon as a piece is in the buffer of the response, and the task
goes on only where there is something to wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

Rest = Coroutine[Any, Any, None]
"""What has to be awaited before more is taken."""

Take = Callable[[bytes], Rest | None]
"""Takes bytes at once."""


class Arrivals(ResponseHandler):
    """One connection, with somebody who listens.

    Attributes:
        listener: called when bytes were read, and when the connection is lost.
    """

    listener: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        super().data_received(data)
        if self.listener is not None:
            self.listener()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        super().connection_lost(exc)
        if self.listener is not None:
            self.listener()

    def resume_reading(self, *args: Any, **kwargs: Any) -> None:
        """Go on where reading was paused: aiohttp asks for it after each piece."""
        if self._reading_paused or getattr(self, "_buffer_paused", False):
            super().resume_reading(*args, **kwargs)


class Connector(aiohttp.TCPConnector):
    """Makes such connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = partial(Arrivals, loop=asyncio.get_running_loop())


def connection_of(response: aiohttp.ClientResponse) -> Arrivals | None:
    """Give the connection that a response comes on; None where all of it has come."""
    connection = response.connection
    protocol = None if connection is None else connection.protocol
    return protocol if isinstance(protocol, Arrivals) else None


class Pouring:
    """Gives what comes to a taker, until there is something to wait for, or the end has come.

    Args:
        connection: where it comes on.
        reader: what it comes into.
        take: who takes it.
        woken: set at the end; with an exception where that is what came.

    Attributes:
        rest: what the taker wants to be awaited.
        fault: what the taker raised.
        since_s: when something came last, on the loop's clock.
    """

    __slots__ = (
        "_again",
        "_busy",
        "_clock",
        "_connection",
        "_reader",
        "_take",
        "_woken",
        "fault",
        "rest",
        "since_s",
    )

    def __init__(
        self,
        connection: Arrivals,
        reader: aiohttp.StreamReader,
        take: Take,
        woken: asyncio.Future[None],
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._take = take
        self._woken = woken
        self._clock = woken.get_loop().time
        self._again = self._busy = False
        self.rest: Rest | None = None
        self.fault: Exception | None = None
        self.since_s = self._clock()
        connection.listener = self.came
        self.came()

    def came(self) -> None:
        """Have taken what has come."""
        if self._busy:  # to read lets go on what was paused
            self._again = True
            return
        self._busy = True
        try:
            self._pour()
        finally:
            self._busy = False

    def _pour(self) -> None:
        reader = self._reader
        try:
            data = reader.read_nowait()
        except Exception as e:  # noqa: BLE001 - it is the caller's to say what it means
            self.end(e)
            return
        if data:
            self.since_s = self._clock()
            try:
                self.rest = self._take(data)
            except Exception as e:  # noqa: BLE001 - raised where it is waited for
                self.fault = e
            if self.rest is not None or self.fault is not None:
                self.end()
                return
        if self._again:
            self._again = False
            self._pour()
        elif reader.at_eof():
            self.end()

    def end(self, error: Exception | None = None) -> None:
        """Listen no more, at once: from the end of the response on the connection is another's."""
        if self._woken.done():
            return
        self._connection.listener = None
        if error is None:
            self._woken.set_result(None)
        else:
            self._woken.set_exception(error)

    def leave(self) -> None:
        """Nobody waits any more."""
        if self._connection.listener == self.came:
            self._connection.listener = None
        if self.rest is not None:
            self.rest.close()
