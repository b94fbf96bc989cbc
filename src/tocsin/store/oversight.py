"""Every act that needs a role is seen: it is recorded in its own transaction, or it is refused.

A refusal is recorded too. Where the event cannot be written, nothing is done.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from tocsin.errors import AccessDenied, InputError, StoreError
from tocsin.events.envelope import Event, Links
from tocsin.events.ids import own_event
from tocsin.events.kinds import Accessed
from tocsin.limits import REASON_CHARS_MAX, REASON_CHARS_MIN
from tocsin.store.append import Append, Committed, Rejected
from tocsin.store.commit import commit, prepare
from tocsin.store.roles import Action, Principal, denied

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tocsin.store.store import Store

SOURCE: Final = "tocsin/access"


def plain(store: Store) -> Oversight:
    """Make the oversight of acts whose events hold nothing that people wrote."""
    return Oversight(store, redact=lambda _, text: text, new_id=lambda: secrets.token_hex(12))


class Oversight:
    """Lets those act who may, and records it.

    Args:
        store: whose record it is.
        redact: cleans a text of one tenant before it is stored, see `tocsin.store.access.Access`.
        new_id: makes ids.
    """

    def __init__(
        self, store: Store, *, redact: Callable[[str, str], str], new_id: Callable[[], str]
    ) -> None:
        self._store = store
        self._redact = redact
        self._new_id = new_id

    @contextmanager
    def allowed(
        self, by: Principal, action: Action, *, target: str = "", reason: str = "", grant: str = ""
    ) -> Iterator[Connection]:
        """Give a transaction in which an action is recorded, or refuse it."""
        if not by.may(action):
            self.refuse(by, action, target=target, reason=reason)
        event = self._event(by, action, target, reason, grant=grant or None)
        with self._store.transaction(action) as connection:
            self.append(connection, by.tenant, event)
            yield connection

    def tell(self, by: Principal, action: Action, *, target: str, reason: str) -> None:
        """Record an action that is done elsewhere, or refuse it; see `allowed`."""
        with self.allowed(by, action, target=target, reason=reason):
            pass

    def demand(self, by: Principal, action: Action, *, target: str = "") -> None:
        """Refuse what `by` may not; that is recorded."""
        if not by.may(action):
            self.refuse(by, action, target=target)

    @contextmanager
    def looking(self, by: Principal, action: Action) -> Iterator[Connection]:
        """Give a connection to look only; that is recorded where it is refused."""
        self.demand(by, action)
        with self._store.reading(action) as connection:
            yield connection

    def refuse(
        self,
        by: Principal,
        action: Action,
        *,
        target: str = "",
        reason: str = "",
        said: str = "",
    ) -> NoReturn:
        """Record a refusal, and say why: because of role or scopes where nothing else is `said`.

        Raises:
            AccessDenied: always.
        """
        event = self._event(by, action, target, reason, allowed=False)
        with self._store.transaction("record a refusal") as connection:
            self.append(connection, by.tenant, event)
        raise AccessDenied(said or denied(by, action))

    def record(
        self,
        connection: Connection,
        by: Principal,
        action: Action,
        *,
        target: str,
        reason: str,
        grant: str,
        links: Links,
    ) -> None:
        """Record an action within a transaction, with the grant that it is done under."""
        event = self._event(by, action, target, reason, grant=grant, links=links)
        self.append(connection, by.tenant, event)

    def append(self, connection: Connection, tenant: str, event: Event) -> None:
        """Record an event within a transaction; whatever else it does is undone if that fails."""
        prepared = prepare(Append(tenant=tenant, events=(event,)), self._store.keys)
        if isinstance(prepared, Rejected):
            raise InputError(f"this cannot be recorded, so it is not done: {prepared.reason}")
        done = commit(connection, [prepared], self._store.keys, self._store.now_us())[0]
        if not isinstance(done, Committed) or not done.last:
            raise StoreError(f"this could not be recorded, so it is not done: {done}")

    def reason(self, tenant: str, reason: str) -> str:
        """Redact a reason; refuse one that says too little or too much."""
        said = " ".join(reason.split())
        if not REASON_CHARS_MIN <= len(said) <= REASON_CHARS_MAX:
            raise InputError(
                f"give a reason of {REASON_CHARS_MIN} to {REASON_CHARS_MAX} characters: "
                "it is what others will see of this"
            )
        cleaned = self._redact(tenant, said)
        if not cleaned:
            raise InputError("the reason could not be redacted, so nothing is done; try again")
        return cleaned

    def _event(
        self,
        by: Principal,
        action: Action,
        target: str,
        reason: str,
        *,
        allowed: bool = True,
        grant: str | None = None,
        links: Links | None = None,
    ) -> Event:
        body = Accessed(
            by=by.id,
            role=by.role,
            action=action,
            target=self._redact(by.tenant, target) if target else "",
            reason=reason,
            allowed=allowed,
            break_glass=grant,
        )
        made = links or Links()
        return Event(
            id=own_event("access", self._new_id()),
            time_us=self._store.now_us(),
            source=SOURCE,
            body=body,
            links=made,
        )
