"""How a process of the gateway is reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tocsin.gateway.log import Log
from tocsin.limits import LAG_MS_MAX


@dataclass(frozen=True, kw_only=True)
class Door:
    """How a process is reached, and what it is told by whoever started it.

    Args:
        host, port: instead of the configuration's; None for those.
        metrics: host and port for `/metrics`, of the operator alone; None for no such door.
        workers: processes that share the port and the limit of streams.
        shared: other processes listen on the same ports.
        ready: called once, when the process listens, with where: its address and that of metrics.
        lifeline: a descriptor that ends when the process that started this one does.
        lag_ms_max: a loop that is later than this takes no new requests.
        log: where lines go; standard error where None.
    """

    host: str | None = None
    port: int | None = None
    metrics: tuple[str, int] | None = None
    workers: int = 1
    shared: bool = False
    ready: Callable[[str, str], None] | None = None
    lifeline: int | None = None
    lag_ms_max: int = LAG_MS_MAX
    log: Log | None = None
