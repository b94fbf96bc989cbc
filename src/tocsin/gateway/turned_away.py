"""Requests over a tenant's limit, as the record is told of them: a flood makes few events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tocsin.limits import LIMIT_TOLD_S


class TurnedAway:
    """Counts requests that were turned away, until they are told. One for each process.

    A tenant is told of at most every `LIMIT_TOLD_S` seconds, whatever it sends.

    Example:
        >>> away = TurnedAway()
        >>> for _ in range(3):
        ...     away.add("shop")
        >>> list(away.due(10.0))
        [('shop', 3)]
        >>> away.add("shop")
        >>> list(away.due(10.0 + LIMIT_TOLD_S / 2)), list(away.due(10.0 + LIMIT_TOLD_S))
        ([], [('shop', 1)])
    """

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()
        self._told_s: dict[str, float] = {}

    def add(self, tenant: str) -> None:
        """Count a request of a tenant."""
        self._times[tenant] += 1

    def due(self, now_s: float) -> Iterator[tuple[str, int]]:
        """Give tenants that may be told of now, and how often each was turned away.

        Args:
            now_s: on the clock of the loop; infinite to have all of them.
        """
        if not self._times and not self._told_s:
            return
        self._told_s = {of: s for of, s in self._told_s.items() if now_s - s < LIMIT_TOLD_S}
        for tenant in [of for of in self._times if of not in self._told_s]:
            self._told_s[tenant] = now_s
            yield tenant, self._times.pop(tenant)
