"""Where events and receipts go: into the record where there is one, else into the log alone.

Nothing here waits for the disk but `Books.settled`, and that not for long.
"""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol

import msgspec

from tocsin.errors import StoreBusy, StoreFailed, TocsinError
from tocsin.events.envelope import Event
from tocsin.gateway.conversations import hashed
from tocsin.gateway.log import Log, place
from tocsin.gateway.meters import Meters
from tocsin.guarding.receipt import Receipt
from tocsin.limits import RECEIPTS_KEEPING_MAX, RECORD_WAIT_MS

RecordFailure = Literal["record_unavailable", "record_failed"]
"""The two failures of the table that are about the record."""

CLOSE_S = 5.0


class RawContent(msgspec.Struct, frozen=True, kw_only=True):
    """Raw content that is to be kept, encrypted.

    Args:
        id: of it, within the tenant.
        what: input, retrieved, output...
        user: whose it is, as the client names them; the call's own where empty.
        call: which response it belongs to.
        request: which request.
        text: the content.
        why: the policy samples it, or an alarm needs it.
        expires_us: when it is deleted, microseconds since 1970.
    """

    id: str
    what: str
    user: str
    call: str
    request: str
    text: str
    why: Literal["sample", "evidence"]
    expires_us: int


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded together, or not at all.

    Args:
        tenant, route: whose, and on what way.
        events: in their order.
        receipt: where there is cause for one.
        contents: raw content.
    """

    tenant: str
    route: str
    events: tuple[Event, ...] = ()
    receipt: Receipt | None = None
    contents: tuple[RawContent, ...] = ()


class Keeper(Protocol):
    """The record, as the data path sees it; see `tocsin.gateway.keeper`."""

    @property
    def failure(self) -> RecordFailure | None:
        """Why nothing can be recorded now; None where it can."""

    @property
    def why(self) -> str:
        """What is in the way, for the log; empty where nothing is."""

    def salt(self, tenant: str, receipt: str) -> bytes:
        """Give the salt for what a receipt says of withheld text."""

    def prompt(self, tenant: str, asked: str) -> str:
        """Give the fingerprint of what was asked, under the tenant's key."""

    def session(self, tenant: str, name: str) -> str:
        """Give the pseudonym of a conversation, under the tenant's key."""

    def tick(self) -> None:
        """Count what cannot be counted where it happens; called several times a second."""

    def cleaned(self, receipt: Receipt) -> Receipt:
        """Mask what clients and upstreams wrote in a receipt; all else is ours."""

    def note(self, told: Told) -> None:
        """Have it recorded soon; what finds no room is shed and counted."""

    async def keep(self, told: Told) -> None:
        """Have it recorded; returns when it is on disk.

        Raises:
            TocsinError: it is not.
        """

    async def close(self) -> None:
        """Record what waits, but not for ever."""


class Books:
    """Keeps what requests leave behind. Used within one event loop.

    Args:
        meters: counts receipts, and what could not be recorded.
        log: gets a line for each receipt, with all of it where it is not recorded.
        most: so many receipts may wait.

    Attributes:
        keeper: the record; None where there is none.
    """

    def __init__(self, meters: Meters, log: Log, most: int = RECEIPTS_KEEPING_MAX) -> None:
        self._meters = meters
        self._log = log
        self._most = most
        self._waiting: set[asyncio.Task[bool]] = set()
        self.keeper: Keeper | None = None

    @property
    def waiting(self) -> int:
        """Receipts that were given and are not known to be recorded yet."""
        return len(self._waiting)

    @property
    def failure(self) -> RecordFailure | None:
        """Why nothing can be recorded now; None where it can, or where there is no record."""
        return None if self.keeper is None else self.keeper.failure

    @property
    def why(self) -> str:
        """What is in the way, for the log; empty where nothing is."""
        return "" if self.keeper is None else self.keeper.why

    def salt(self, tenant: str, receipt: str) -> bytes:
        """Give the salt for what a receipt says of withheld text; empty without a record."""
        return b"" if self.keeper is None else self.keeper.salt(tenant, receipt)

    def prompt(self, tenant: str, asked: str) -> str | None:
        """Give the fingerprint of what was asked; None where that is nothing, or nobody records."""
        return None if self.keeper is None or not asked else self.keeper.prompt(tenant, asked)

    def session(self, tenant: str, route: str, name: str) -> str:
        """Say which conversation it is: as events do where there is a record, else by a plain hash
        of tenant, route and name, which is no secret to who can guess them.
        """  # noqa: D205 - two lines for one sentence
        if self.keeper is None:
            return hashed(tenant, route, name)
        return self.keeper.session(tenant, name)

    def tick(self) -> None:
        """Have the record counted."""
        if self.keeper is not None:
            self.keeper.tick()

    def note(self, told: Told) -> None:
        """Have events recorded, soon."""
        if self.keeper is not None and told.events:
            self.keeper.note(told)

    def give(self, told: Told) -> asyncio.Future[bool] | None:
        """Have a receipt recorded, with the events of its response.

        Returns:
            What tells whether it was; None where there is no record.
        """
        receipt = told.receipt
        if receipt is None:
            self.note(told)
            return None
        if self.keeper is None:
            self._log.say("receipt", receipt=msgspec.to_builtins(receipt))
            self._meters.receipt(written=True)
            return None
        receipt = self.keeper.cleaned(receipt)
        told = msgspec.structs.replace(told, receipt=receipt)
        self._log.say("receipt", **_summary(receipt))
        if len(self._waiting) >= self._most:
            self._lost(told, StoreBusy("too many receipts wait"))
            lost = asyncio.get_running_loop().create_future()
            lost.set_result(False)
            return lost
        task = asyncio.get_running_loop().create_task(self._keep(self.keeper, told))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return task

    async def settled(self, task: asyncio.Future[bool]) -> bool:
        """Say whether a receipt is on disk; where that takes too long, that it is not."""
        done, _ = await asyncio.wait({task}, timeout=RECORD_WAIT_MS / 1_000)
        return bool(done) and task.result()

    async def _keep(self, keeper: Keeper, told: Told) -> bool:
        """Have it recorded; raises nothing but that it is cut off by the end of the process."""
        said = asyncio.Event()
        wait_s = RECORD_WAIT_MS / 1_000
        late = asyncio.get_running_loop().call_later(wait_s, self._late, told, said)
        try:
            await keeper.keep(told)
        except asyncio.CancelledError:
            self._lost(told, StoreBusy("the process ended before it was known to be on disk"), said)
            raise
        except Exception as e:  # noqa: BLE001 - whatever fails there, it is not recorded
            self._lost(told, e, said)
            return False
        finally:
            late.cancel()
        self._meters.receipt(written=True)
        return True

    def _late(self, told: Told, said: asyncio.Event) -> None:
        """Report a receipt that is not on disk in time; it may get there yet."""
        said.set()
        self._meters.failure(told.route, "record_unavailable", "report")
        receipt = None if told.receipt is None else told.receipt.who.id
        cause = ": ".join(filter(None, (f"no answer in {RECORD_WAIT_MS} ms", self.why)))
        self._log.say("record_unavailable", id=receipt, why=cause)

    def _lost(self, told: Told, error: Exception, said: asyncio.Event | None = None) -> None:
        """Say that a receipt is not recorded; one that was late has been counted."""
        receipt = told.receipt
        failure: RecordFailure = "record_unavailable"
        if isinstance(error, StoreFailed):
            failure = "record_failed"
        known = isinstance(error, TocsinError)
        why = {"why": f"{type(error).__name__}: {error}"} if known else place(error)
        self._meters.receipt(written=False)
        if said is None or not said.is_set() or failure != "record_unavailable":
            self._meters.failure(told.route, failure, "report")
        self._log.say(failure, receipt=msgspec.to_builtins(receipt), **why)

    async def close(self, wait_s: float = CLOSE_S) -> None:
        """Record what waits, but not for ever; the record is closed too."""
        if self._waiting:
            refused = self.failure is not None
            await asyncio.wait(
                self._waiting, timeout=min(wait_s, RECORD_WAIT_MS / 1_000) if refused else wait_s
            )
        if self.keeper is not None:
            await self.keeper.close()
        if left := list(self._waiting):
            for task in left:
                task.cancel()
            await asyncio.wait(left)


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
