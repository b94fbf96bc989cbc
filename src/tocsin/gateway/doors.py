"""Waiting for verifiers and decisions, which the order to stop ends."""

from __future__ import annotations

import asyncio
import contextlib

from tocsin.guarding.doors import AsyncDoors
from tocsin.guarding.plan import Appeal, Verdict


class GatewayDoors(AsyncDoors):
    """As `AsyncDoors`; a decision is waited for until `end` at most."""

    _waiting: asyncio.Timeout | None = None
    _over = False

    async def appeal(self, appeal: Appeal) -> Verdict:
        """Wait for a decision. Nobody to ask is no approval."""
        stopping = Verdict(safe=None, reason="the gateway is stopping")
        if self._over:
            return stopping
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await super().appeal(appeal)
        except TimeoutError:
            return stopping
        finally:
            self._waiting = None

    def end(self) -> None:
        """Wait for no decision any more."""
        self._over = True
        if self._waiting is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended
                self._waiting.reschedule(asyncio.get_running_loop().time())
