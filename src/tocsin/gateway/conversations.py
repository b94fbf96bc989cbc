"""Conversations: trajectories that run over several requests, kept in memory, one turn at a time.

A trajectory is of use only as long as it is known what its checks have read. Where that is not so
(a client left while a check was being waited for, or a check broke), the conversation is over: what
was read of it cannot be read again, and beginning anew would forget its highest alarm.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from tocsin.gateway.errors import Refuse
from tocsin.guarding.plan import Guard
from tocsin.guarding.running import Trajectory
from tocsin.limits import CONVERSATION_IDLE_S, CONVERSATIONS_MAX
from tocsin.model import Context

_BUSY = Refuse(
    kind="too_many",
    message="another request of this conversation is under way; wait for its end",
    outcome="limited",
)
_LOST = Refuse(
    kind="bad_request",
    message="this conversation was cut off while it was being checked; begin a new one",
    outcome="failed",
)
_FULL = Refuse(
    kind="unavailable",
    message="too many conversations are under way",
    outcome="limited",
)


@dataclass
class Conversation:
    """One conversation.

    Attributes:
        key: its tenant, route and id.
        guard: the policy that it began with.
        trajectory: what its checks know.
        turns: responses that were begun.
        busy: one is under way.
        lost: what its checks know is of no use any more.
        seen_s: when it last ended, on the clock of the event loop.
        keeps: what its checks need as long as it lives: the configuration that holds their
            verifiers, which are let go of with it.
    """

    key: tuple[str, str, str]
    guard: Guard
    trajectory: Trajectory
    turns: int = 0
    busy: bool = False
    lost: bool = False
    seen_s: float = 0.0
    keeps: object = None


def hashed(tenant: str, route: str, name: str) -> str:
    """Hash the id of a conversation, for a receipt where there is no record.

    No key is in it: who guesses tenant, route and id can test the guess. With a record, a keyed
    pseudonym takes its place, see `tocsin.gateway.books.Books.session`.
    """
    key = f"{tenant}\0{route}\0{name}"
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Conversations:
    """Those that are remembered; used within one event loop.

    Args:
        clock: gives seconds; only differences count.
        most: so many are kept. Where one more comes, the tenant that has most gives up the one that
            was silent longest: nobody's alarms are forgotten because of what others send.
        idle_s: after such a silence one is forgotten.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        most: int = CONVERSATIONS_MAX,
        idle_s: float = CONVERSATION_IDLE_S,
    ) -> None:
        self._clock = clock
        self._most = most
        self._idle_s = idle_s
        self._known: OrderedDict[tuple[str, str, str], Conversation] = OrderedDict()
        self._of_tenant: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._known)

    def enter(
        self,
        tenant: str,
        route: str,
        name: str,
        guard: Guard,
        context: Context,
        keeps: object = None,
    ) -> Conversation | Refuse:
        """Begin a turn. Whoever does, ends it with `leave`.

        A conversation keeps the policy that it began with, as long as the policy's digest is the
        configuration's; under another one it begins anew.
        """
        self._forget()
        key = tenant, route, name
        found = self._known.get(key)
        if found is not None and found.busy:
            return _BUSY
        if found is None or not _same(found.guard, guard):
            if found is None and len(self._known) >= self._most and not self._evict(tenant):
                return _FULL
            made = Conversation(key, guard, Trajectory(guard, context), keeps=keeps)
            self._of_tenant[tenant] += found is None
            found = self._known[key] = made
        if found.lost:
            return _LOST
        found.busy = True
        found.turns += 1
        self._known.move_to_end(key)
        return found

    def leave(self, conversation: Conversation, *, lost: bool = False) -> None:
        """End a turn.

        Args:
            lost: it ended while a check was being waited for.
        """
        running = conversation.trajectory.running
        conversation.busy = False
        conversation.lost = conversation.lost or lost or not all(r.alive for r in running)
        conversation.seen_s = self._clock()

    def _forget(self) -> None:
        """Forget those that were silent for too long; the oldest come first."""
        now = self._clock()
        while self._known:
            first = next(iter(self._known.values()))
            if first.busy or now - first.seen_s < self._idle_s:
                return
            self._drop(first)

    def _evict(self, tenant: str) -> bool:
        """Make room for one more of a tenant; false where all that could go are busy."""
        largest, most = max(self._of_tenant.items(), key=lambda item: item[1])
        own = self._of_tenant.get(tenant, 0)
        for name in [tenant] if own == most else [largest, tenant]:
            for key, conversation in self._known.items():
                if key[0] == name and not conversation.busy:
                    self._drop(conversation)
                    return True
        return False

    def _drop(self, conversation: Conversation) -> None:
        del self._known[conversation.key]
        tenant = conversation.key[0]
        self._of_tenant[tenant] -= 1
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]


def _same(one: Guard, other: Guard) -> bool:
    return one is other or (bool(one.digest) and one.digest == other.digest)
