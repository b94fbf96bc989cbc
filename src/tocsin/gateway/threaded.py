"""A verifier that would block the event loop, on threads of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from tocsin.limits import VERIFIER_THREADS_MAX
from tocsin.model import Context, Delta, Outcome
from tocsin.verifiers.contract import Declaration, Session, Verifier


class Threaded:
    """Turns a verifier that answers at once, but slowly, into one that is waited for.

    A call that is given up at its deadline is not begun any more; one that runs, runs on, and
    keeps its thread. Calls wait for each other in the order they came; what bounds the wait is the
    deadline of the check.

    Args:
        verifier: the slow one; its sessions are used by one thread at a time.
        pool: the threads; those of the process where None.
    """

    def __init__(self, verifier: Verifier, pool: ThreadPoolExecutor | None = None) -> None:
        self._verifier = verifier
        self._pool = shared_pool() if pool is None else pool

    @property
    def declares(self) -> Declaration:
        """What the verifier says of itself."""
        return self._verifier.declares

    def open_async(self, context: Context) -> ThreadedSession:
        """Begin with a new response."""
        return ThreadedSession(self._verifier, context, self._pool)

    async def aclose(self) -> None:
        """Nothing to let go of: the threads are shared."""


class ThreadedSession:
    """A session on other threads; the verifier's own is opened there too, before the first text."""

    __slots__ = ("_context", "_pool", "_session", "_verifier")

    def __init__(self, verifier: Verifier, context: Context, pool: ThreadPoolExecutor) -> None:
        self._verifier = verifier
        self._context = context
        self._pool = pool
        self._session: Session | None = None

    def _open(self) -> Session:
        if self._session is None:
            self._session = self._verifier.open(self._context)
        return self._session

    async def feed(self, delta: Delta) -> list[Outcome]:
        """Take new text; give the outcomes of the steps that are complete by now."""
        return await self._run(lambda: self._open().feed(delta))

    async def close(self) -> list[Outcome]:
        """Give the outcomes of what is left. The session is used no more."""
        return await self._run(lambda: self._open().close())

    async def _run(self, work: Callable[[], list[Outcome]]) -> list[Outcome]:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


@cache
def shared_pool(threads: int = 0) -> ThreadPoolExecutor:
    """Give the threads of this process, made when they are first asked for.

    Args:
        threads: how many; as many as there are cores where 0.
    """
    wanted = threads or os.cpu_count() or 1
    return ThreadPoolExecutor(
        max_workers=min(wanted, VERIFIER_THREADS_MAX), thread_name_prefix="tocsin-verifier"
    )
