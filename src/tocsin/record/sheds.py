"""What could not be recorded, counted until an event has told of it."""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.events.kinds import Shed


@dataclass(slots=True)
class _Count:
    contents: int = 0
    events: int = 0
    receipts: int = 0
    under_way: bool = False


class Sheds:
    """Counts by tenant. What is counted while an event is under way is told by the next one.

    Args:
        source: who tells.

    Example:
        >>> sheds = Sheds("tocsin/recorder")
        >>> sheds.add("acme", 0, 2, 0)
        >>> sheds.due()
        ['acme']
        >>> told = sheds.telling("acme")
        >>> told.events, sheds.due()
        (2, [])
        >>> sheds.told("acme", told, written=True)
        >>> sheds.due()
        []
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._counts: dict[str, _Count] = {}

    def add(self, tenant: str, contents: int, events: int, receipts: int) -> None:
        """Count what was dropped."""
        count = self._counts.setdefault(tenant, _Count())
        count.contents += contents
        count.events += events
        count.receipts += receipts

    def due(self) -> list[str]:
        """Name the tenants of which something is to be told, and is not being told."""
        return [tenant for tenant, count in self._counts.items() if not count.under_way]

    def telling(self, tenant: str) -> Shed:
        """Give the body of an event that is under way from now on, until `told`."""
        count = self._counts.setdefault(tenant, _Count())
        count.under_way = True
        return Shed(
            contents=count.contents,
            events=count.events,
            receipts=count.receipts,
            source=self._source,
        )

    def told(self, tenant: str, body: Shed, *, written: bool) -> None:
        """Take back what an event has told; all of it stays where the event was not written."""
        count = self._counts[tenant]
        count.under_way = False
        if not written:
            return
        count.contents -= body.contents
        count.events -= body.events
        count.receipts -= body.receipts
        if not count.contents and not count.events and not count.receipts:
            del self._counts[tenant]
