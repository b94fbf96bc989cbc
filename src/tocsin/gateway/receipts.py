"""Receipts on disk: written whole by a thread of their own, after the stop that they tell of.

A stop never waits for the disk. A disk that is too slow or full loses receipts, and each one that
is lost is counted and logged.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tocsin.durable import write_whole
from tocsin.errors import InputError
from tocsin.gateway.log import Log
from tocsin.gateway.meters import Meters
from tocsin.guarding.receipt import Receipt
from tocsin.limits import RECEIPTS_WAITING_MAX

_json = msgspec.json.Encoder().encode


class Receipts:
    """Writes receipts as ``ID.json``. Used within one event loop.

    Args:
        meters: counts them.
        log: gets a line for each, with all of it where there is no folder.
        most: so many may wait.
    """

    def __init__(self, meters: Meters, log: Log, most: int = RECEIPTS_WAITING_MAX) -> None:
        self._meters = meters
        self._log = log
        self._most = most
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    def give(self, receipt: Receipt, folder: Path | None) -> None:
        """Have one written, soon.

        Args:
            receipt: its id becomes a file name, so it has to be one of ours.
            folder: where to; into the log alone where None.
        """
        if folder is None:
            self._log.say("receipt", receipt=msgspec.to_builtins(receipt))
            self._meters.receipt(written=True)
            return
        self._log.say("receipt", **_summary(receipt))
        if len(self._waiting) >= self._most:
            self._lost(receipt, "too many wait")
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tocsin-receipts")
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, _write, folder, receipt)
        self._waiting.add(future)
        future.add_done_callback(lambda done: self._done(done, receipt))

    def _done(self, future: asyncio.Future[None], receipt: Receipt) -> None:
        self._waiting.discard(future)
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            self._lost(receipt, "cancelled" if error is None else type(error).__name__)
        else:
            self._meters.receipt(written=True)

    def _lost(self, receipt: Receipt, why: str) -> None:
        self._meters.receipt(written=False)
        self._meters.failure(receipt.who.route, "receipt_unwritten", "report")
        self._log.say("receipt_unwritten", id=receipt.who.id, why=why)

    async def close(self, wait_s: float = 5.0) -> None:
        """Write what waits, but not for ever."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=wait_s)
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None


def _write(folder: Path, receipt: Receipt) -> None:
    path = folder / f"{receipt.who.id}.json"
    try:
        write_whole(path, _json(receipt))
    except InputError:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, _json(receipt))


def _summary(receipt: Receipt) -> dict[str, object]:
    """Give what a line of the log shows: names and numbers."""
    who, account = receipt.who, receipt.account
    return {
        "id": who.id,
        "tenant": who.tenant,
        "route": who.route,
        "api": who.api,
        "policy": receipt.policy,
        "status": account.status,
        "mode": account.mode,
        "done": account.done,
        "failure": account.failure,
        "alarms": account.alarms,
        "checks": sorted({alarm.check for alarm in receipt.alarms}),
        "rules": sorted({alarm.rule for alarm in receipt.alarms if alarm.rule}),
        "failures": [
            " ".join(filter(None, (f.failure, f.check, f.detail))) for f in receipt.failures
        ],
    }
