"""Conversations: trajectories that run over several requests, kept in memory, one turn at a time.

A trajectory is of use only as long as it is known what its checks have read. Where that is not so
(a client left while a check was being waited for, or a check broke), the conversation is over: what
was read of it cannot be read again, and beginning anew would forget its highest alarm.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
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
    """

    key: tuple[str, str, str]
    guard: Guard
    trajectory: Trajectory
    turns: int = 0
    busy: bool = False
    lost: bool = False
    seen_s: float = 0.0

    @property
    def hashed(self) -> str:
        """What receipts show: the same for the same conversation, without its id."""
        return hashlib.sha256("\0".join(self.key).encode("utf-8", "surrogatepass")).hexdigest()


class Conversations:
    """Those that are remembered; used within one event loop.

    Args:
        clock: gives seconds; only differences count.
        most: so many are kept; of those that wait, the one that was silent longest goes first.
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

    def __len__(self) -> int:
        return len(self._known)

    def enter(
        self, tenant: str, route: str, name: str, guard: Guard, context: Context
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
            if found is None and len(self._known) >= self._most and not self._evict():
                return _FULL
            found = self._known[key] = Conversation(key, guard, Trajectory(guard, context))
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
            del self._known[first.key]

    def _evict(self) -> bool:
        for key, conversation in self._known.items():
            if not conversation.busy:
                del self._known[key]
                return True
        return False


def _same(one: Guard, other: Guard) -> bool:
    return one is other or (bool(one.digest) and one.digest == other.digest)
