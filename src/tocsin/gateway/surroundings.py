"""What the application is given by the process that it runs in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from tocsin.gateway.books import RecordFailure
from tocsin.gateway.draining import Draining
from tocsin.gateway.log import Log
from tocsin.gateway.meters import Meters, NoMeters
from tocsin.gateway.site import Site


class Live:
    """The configuration that is in force. A reload puts another one here.

    Args:
        site: the first.

    Attributes:
        site: ask for it once for each request, and keep to it until the request ends.
    """

    def __init__(self, site: Site) -> None:
        self.site = site


@dataclass
class Standing:
    """How the record is, as the process hears of it from the data path.

    Attributes:
        failure: why nothing can be recorded; None where it can, or where there is no record.
        leave: called once where the process has to end: what it would record is not kept.
    """

    failure: RecordFailure | None = None
    leave: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Given to `make_app`, once for each process.

    Args:
        live: the configuration in force.
        meters: what is counted.
        log: lines of JSON.
        draining: the order to stop.
        standing: how the record is.
    """

    live: Live
    meters: Meters = field(default_factory=NoMeters)
    log: Log = field(default_factory=Log)
    draining: Draining = field(default_factory=Draining)
    standing: Standing = field(default_factory=Standing)


MakeApp = Callable[[Surroundings], web.Application]
"""Makes the application that answers API requests; called within the event loop."""
