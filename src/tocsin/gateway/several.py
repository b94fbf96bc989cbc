"""The gateway as several processes: one port, one folder of counters, one supervisor."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tocsin.errors import TocsinError
from tocsin.gateway.door import Door
from tocsin.gateway.listening import address, reserved
from tocsin.gateway.log import utc
from tocsin.gateway.workers import Supervisor
from tocsin.limits import ENDING_MS_MAX, WORKER_STOP_MS_MAX

if TYPE_CHECKING:  # what a worker needs is heavy, and the supervisor does without
    from tocsin.gateway.site import Site
    from tocsin.gateway.surroundings import MakeApp


def serve_several(
    load: Callable[[], Site], make_app: MakeApp, door: Door, *, host: str, port: int, drain_ms: int
) -> int:
    """Serve in several processes until told to stop.

    Args:
        load, make_app: called in each worker; they should import what is heavy by themselves.
        door: how the fleet is reached. Any worker answers for the metrics of all.
        host, port: where to listen, since the configuration is not at hand here; port 0 lets the
            system pick one.
        drain_ms: how long open responses may go on after the order to stop.

    Returns:
        Exit status: 0 where all open responses ended.

    Raises:
        InputError: an address is taken.
    """
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(reserved(host, port))
        where, operating, metrics = address(kept), "", door.metrics
        if metrics is not None:
            own = stack.enter_context(reserved(*metrics))
            metrics, operating = (metrics[0], own.getsockname()[1]), address(own)
        folder = stack.enter_context(_counters())
        shared = replace(door, host=host, port=kept.getsockname()[1], metrics=metrics, shared=True)

        def work(says_ready: Callable[[], None], lifeline: int) -> int:
            from tocsin.gateway.server import serve

            own = replace(shared, ready=lambda _, __: says_ready(), lifeline=lifeline)
            try:
                return serve(load, make_app, own)
            except TocsinError as e:
                sys.stderr.write(f"error: {e}\n")
                return 1

        def ready() -> None:
            if door.ready is not None:
                door.ready(where, operating)

        return Supervisor(
            work,
            door.workers,
            ready=ready,
            died=lambda pid: _forget(folder, pid),
            said=_say,
            stop_ms=drain_ms + ENDING_MS_MAX + WORKER_STOP_MS_MAX,
        ).run()


@contextlib.contextmanager
def _counters() -> Iterator[Path]:
    """Make the folder that workers count into, for this user alone; remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tocsin-metrics-"))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    try:
        yield folder
    finally:
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]
        shutil.rmtree(folder, ignore_errors=True)


def _forget(folder: Path, pid: int) -> None:
    """Remove what a dead worker said about the present; what it counted stays."""
    for file in folder.glob(f"gauge_live*_{pid}.db"):
        file.unlink(missing_ok=True)


def _say(event: str, **fields: object) -> None:
    with contextlib.suppress(OSError):  # a pipe without a reader
        line = {"time": utc(), "event": event, **fields}
        sys.stderr.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stderr.buffer.flush()
