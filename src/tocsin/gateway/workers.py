"""Several processes on one port: started, watched, started again, and stopped together.

The supervisor is small on purpose: it has no event loop, no threads and no configuration in memory,
so that a worker can be forked from it at any time. It keeps the port, counts nothing and answers
nobody. A worker that dies takes its own streams along, and nobody else's. One that says that the
record has failed is not started again: the others are stopped too, and the status says why.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from tocsin.limits import (
    WORKER_BACKOFF_MS_MAX,
    WORKER_BACKOFF_MS_MIN,
    WORKER_START_MS_MAX,
)

_ORDERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_READY = b"r"


@dataclass
class _Slot:
    """A place for a worker."""

    pid: int = 0
    heard: int = -1  # where it says that it is ready
    ready: bool = False
    began_s: float = 0.0
    due_s: float = 0.0  # when it is to be started; 0 where that is now
    pause_ms: int = field(default=WORKER_BACKOFF_MS_MIN)


Work = Callable[[Callable[[], None], int], int]
"""What a worker does: given how to say that it is ready, and a descriptor that ends with the
supervisor; returns its exit status."""


class Supervisor:
    """Keeps so many workers alive.

    Args:
        work: what each of them does, in a process of its own.
        count: how many.
        ready: called once, when all are ready for the first time.
        died: called for each worker that ended without being told to, with its process id.
        said: called with what happened, a fixed word, and numbers.
        stop_ms: how long workers may take to stop, before they are killed.
    """

    def __init__(
        self,
        work: Work,
        count: int,
        *,
        ready: Callable[[], None],
        died: Callable[[int], None],
        said: Callable[..., None],
        stop_ms: int,
    ) -> None:
        self._work = work
        self._slots = [_Slot() for _ in range(count)]
        self._all_ready = ready
        self._died = died
        self._said = said
        self._stop_ms = stop_ms
        self._told = False  # that all are ready
        self._stopping = 0  # orders to stop so far
        self._kill_s = 0.0
        self._status = 0

    def run(self) -> int:
        """Supervise until told to stop; return the exit status."""
        woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lifeline, self._life = os.pipe2(os.O_CLOEXEC)
        self._own = (woken, wakes, self._life)
        before = {number: signal.signal(number, _noted) for number in _ORDERS}
        old = signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        try:
            self._loop(woken)
        finally:
            signal.set_wakeup_fd(old)
            for number, handler in before.items():
                signal.signal(number, handler)
            for fd in (woken, wakes, self._lifeline, self._life):
                os.close(fd)
        return self._status

    def _loop(self, woken: int) -> None:
        while True:
            now_s = time.monotonic()
            self._start(now_s)
            if self._stopping and not any(slot.pid for slot in self._slots):
                return
            listened = [woken, *(s.heard for s in self._slots if s.heard >= 0)]
            heard, _, _ = select.select(listened, [], [], self._wait_s(now_s))
            for slot in self._slots:
                if slot.heard in heard:
                    self._hear(slot)
            if woken in heard:
                for number in os.read(woken, 4_096):
                    self._order(number)
            self._bury()
            self._expire(time.monotonic())

    def _wait_s(self, now_s: float) -> float | None:
        """How long nothing has to be done."""
        dues = [s.due_s for s in self._slots if s.due_s and not s.pid and not self._stopping]
        if self._stopping:
            dues.append(self._kill_s)
        dues += [s.began_s + WORKER_START_MS_MAX / 1_000 for s in self._slots if s.heard >= 0]
        return max(0.0, min(dues) - now_s) if dues else None

    # ------------------------------------------------------------------------------------- starting

    def _start(self, now_s: float) -> None:
        """Start workers that are due: the first alone, since what fails there would fail in all."""
        if self._stopping:
            return
        for at, slot in enumerate(self._slots):
            if at > 0 and not self._told and not self._slots[0].ready:
                return
            if not slot.pid and slot.due_s <= now_s:
                self._fork(slot, now_s)

    def _fork(self, slot: _Slot, now_s: float) -> None:
        heard, says = os.pipe2(os.O_CLOEXEC)
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal that meets the child before it has handlers of its own would reach ours.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ORDERS)
        pid = os.fork()
        if pid == 0:
            os.close(heard)
            self._be_worker(says, mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(says)
        slot.pid, slot.heard, slot.ready, slot.began_s = pid, heard, False, now_s

    def _be_worker(self, says: int, mask: Iterable[int]) -> NoReturn:
        """Become a worker: nothing of the supervisor stays but the lifeline."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _ORDERS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            # Ctrl-C at a terminal is for the supervisor, which passes it on once.
            os.setpgid(0, 0)
            for fd in (*self._own, *(s.heard for s in self._slots if s.heard >= 0)):
                with contextlib.suppress(OSError):
                    os.close(fd)

            def ready() -> None:
                os.write(says, _READY)
                os.close(says)

            status = self._work(ready, self._lifeline)
        except BaseException as e:  # noqa: BLE001 - it would vanish with the process
            at = traceback.extract_tb(e.__traceback__)[-1]
            # Its words are left out: they may hold a secret.
            sys.stderr.write(
                f"error: a worker broke: {type(e).__name__} at {at.name}:{at.lineno}\n"
            )
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _hear(self, slot: _Slot) -> None:
        slot.ready = os.read(slot.heard, 1) == _READY
        os.close(slot.heard)
        slot.heard = -1
        if not self._told and all(s.ready for s in self._slots):
            self._told = True
            self._all_ready()

    # --------------------------------------------------------------------------------------- ending

    def _order(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._send(signal.SIGHUP)
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._stopping += 1
            self._send(signal.SIGTERM)
            if self._stopping == 1:
                self._kill_s = time.monotonic() + self._stop_ms / 1_000

    def _send(self, number: signal.Signals) -> None:
        for slot in self._slots:
            # One that does not handle signals yet would die of a reload.
            if slot.pid and (slot.ready or number != signal.SIGHUP):
                os.kill(slot.pid, number)

    def _bury(self) -> None:
        for slot in self._slots:
            if not slot.pid:
                continue
            pid, status = os.waitpid(slot.pid, os.WNOHANG)
            if pid:
                self._ended(slot, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: _Slot, status: int) -> None:
        pid, slot.pid, was_ready, slot.ready = slot.pid, 0, slot.ready, False
        if slot.heard >= 0:
            os.close(slot.heard)
            slot.heard = -1
        self._died(pid)
        if self._stopping:
            unbegun = not was_ready and status == -signal.SIGTERM
            if status == os.EX_IOERR:
                self._status = status
            self._status = self._status or int(status != 0 and not unbegun)
            return
        if not was_ready and not self._told:
            # What fails before it ever worked will not get better by trying.
            self._status = status if status > 0 else 1
            self._stopping = 1
            self._kill_s = time.monotonic() + self._stop_ms / 1_000
            self._send(signal.SIGTERM)
            return
        if status == os.EX_IOERR:
            # The disk under the record failed, and all write to the same one: somebody has to look.
            self._said("record_failed", pid=pid, status=status)
            self._status = status
            self._stopping = 1
            self._kill_s = time.monotonic() + self._stop_ms / 1_000
            self._send(signal.SIGTERM)
            return
        now_s = time.monotonic()
        if now_s - slot.began_s > WORKER_BACKOFF_MS_MAX / 1_000:
            slot.pause_ms = WORKER_BACKOFF_MS_MIN
        slot.due_s = now_s + slot.pause_ms / 1_000
        self._said("worker_died", pid=pid, status=status, again_ms=slot.pause_ms)
        slot.pause_ms = min(2 * slot.pause_ms, WORKER_BACKOFF_MS_MAX)

    def _expire(self, now_s: float) -> None:
        """Kill what takes too long to start, or to stop."""
        for slot in self._slots:
            starts = slot.heard >= 0 and now_s > slot.began_s + WORKER_START_MS_MAX / 1_000
            if slot.pid and (starts or (self._stopping and now_s > self._kill_s)):
                os.kill(slot.pid, signal.SIGKILL)
                if self._stopping:
                    self._kill_s = now_s + 1.0  # until it is seen to have ended


def _noted(number: int, frame: FrameType | None) -> None:
    """Let the wake-up descriptor tell."""
