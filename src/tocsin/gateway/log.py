"""Log lines: one JSON object each, on standard error, written by a thread of its own.

A reader of the log that is slow, or a disk that is full, must not stop a stream: lines wait in a
bounded queue, and those that do not fit are dropped and counted.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO, Any

import msgspec

from tocsin.limits import LOG_LINES_WAITING_MAX

_json = msgspec.json.Encoder().encode


class Log:
    r"""Writes lines. Calls take microseconds and never fail.

    Args:
        sink: where to; standard error where None.

    Attributes:
        dropped: lines that did not fit.

    Example:
        >>> import io
        >>> sink = io.BytesIO()
        >>> log = Log(sink, now=lambda: "2026-01-01T00:00:00Z")
        >>> log.say("reloaded", digest="d1")
        >>> log.close()
        >>> sink.getvalue()
        b'{"time":"2026-01-01T00:00:00Z","event":"reloaded","digest":"d1"}\n'
    """

    def __init__(self, sink: IO[bytes] | None = None, now: Callable[[], str] | None = None) -> None:
        self._sink = sys.stderr.buffer if sink is None else sink
        self._now = utc if now is None else now
        self._lines: deque[bytes] = deque()
        self._come = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def say(self, event: str, **fields: Any) -> None:
        """Write a line, soon.

        Args:
            event: what happened, a fixed word.
            fields: numbers, names and fixed words; never text of a client or a generator.
        """
        line = _json({"time": self._now(), "event": event, **fields}) + b"\n"
        with self._come:
            if len(self._lines) >= LOG_LINES_WAITING_MAX or self._closed:
                self.dropped += 1
                return
            self._lines.append(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="log", daemon=True)
                self._thread.start()
            self._come.notify()

    def close(self, wait_s: float = 1.0) -> None:
        """Write what waits, but do not wait for a reader that never comes."""
        with self._come:
            self._closed = True
            self._come.notify()
        if self._thread is not None:
            self._thread.join(wait_s)

    def _write(self) -> None:
        while True:
            with self._come:
                while not self._lines and not self._closed:
                    self._come.wait()
                if not self._lines:
                    return
                lines = b"".join(self._lines)
                self._lines.clear()
            try:
                self._sink.write(lines)
                self._sink.flush()
            except (OSError, ValueError):  # a pipe without a reader: nothing can be told to anyone
                self.dropped += lines.count(b"\n")


def place(error: BaseException | None) -> dict[str, str]:
    """Say what an exception is and where it was raised, without its words, which may be anybody's.

    Example:
        >>> try:
        ...     raise ValueError("the user's text")
        ... except ValueError as e:
        ...     place(e)["error"]
        'ValueError'
    """
    if error is None:
        return {"error": ""}
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return {
        "error": type(error).__name__,
        "at": " < ".join(f"{f.name}:{f.lineno}" for f in reversed(frames)),
    }


def utc() -> str:
    """Give the time of a line: now, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
