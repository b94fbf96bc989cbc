"""Who may do what: five roles, one table, keys that are kept as hashes, and a glass to break.

What is not in the table is refused. Raw content is read under a grant only, which has an end, and
with a reason; grant, read and refusal are events of the tenant, committed before content is given:
where the event cannot be written, nothing is read.

On the machine itself a person who has the file of the store and the master key can read without
asking here. This table is for those who come with a key.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy as sa

from tocsin.errors import ContentGone, InputError
from tocsin.events.envelope import Event, Links
from tocsin.events.ids import own_event
from tocsin.events.kinds import ContentErased
from tocsin.limits import (
    BREAK_GLASS_MINUTES,
    BREAK_GLASS_MINUTES_MAX,
    STORE_ID_CHARS_MAX,
    STORE_READ_MAX,
)
from tocsin.store import tables as t
from tocsin.store import vault
from tocsin.store.oversight import SOURCE, Oversight
from tocsin.store.reading import Stored
from tocsin.store.roles import (
    ACTIONS,
    ALLOWED,
    LOCAL,
    ROLES,
    Action,
    Principal,
    Role,
    check_key,
    ends,
    key_hash,
    local,
    new_key,
    outlives,
    overreach,
)
from tocsin.store.scope import Scope

__all__ = [
    "ACTIONS",
    "ALLOWED",
    "ROLES",
    "Access",
    "Action",
    "Erasure",
    "Grant",
    "KeyInfo",
    "NewKey",
    "Principal",
    "Role",
    "key_hash",
    "local",
]

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tocsin.store.keys import Keys
    from tocsin.store.store import Store

_KEY_CHARS_MAX: Final = 256
_LABEL_CHARS_MAX: Final = 64
_MINUTE_US: Final = 60_000_000


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key, this once: the store keeps its hash alone."""

    id: str
    key: str
    hash: str

    def __repr__(self) -> str:
        """Show nothing that is a secret."""
        return f"NewKey(id={self.id!r}, ...)"


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a key; times in microseconds since 1970, None where there is none."""

    id: str
    role: str
    scopes: tuple[str, ...]
    label: str
    made_us: int
    expires_us: int | None
    revoked_us: int | None


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Raw content may be read from one time to another, microseconds since 1970."""

    id: str
    principal: str
    reason: str
    from_us: int
    until_us: int
    given_by: str


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased: keys of so many subjects, and so many contents.

    Args:
        purged: no page of the database's files holds the keys any more.
        shared: of the contents, how many lay under keys that stay, since they lock others too:
            deleted here, they can still be opened in a backup.
    """

    subjects: int
    contents: int
    purged: bool
    shared: int = 0


class Access:
    """Everything that needs a role, on one store.

    Args:
        store: with keys, where content is to be read.
        redact: cleans a reason of one tenant before it is stored: given tenant and text. An empty
            answer means that it failed.
        new_id: makes ids.
    """

    def __init__(
        self,
        store: Store,
        *,
        redact: Callable[[str, str], str],
        new_id: Callable[[], str] = lambda: secrets.token_hex(12),
    ) -> None:
        self._store = store
        self._redact = redact
        self._new_id = new_id
        self._oversight = Oversight(store, redact=redact, new_id=new_id)

    # -------------------------------------------------------------------------------------- keys

    def principal(self, key: str) -> Principal | None:
        """Return whose key this is; None where it is unknown, revoked or expired.

        The one query without a tenant: the key says which. Only hashes are compared.
        """
        if not key or len(key) > _KEY_CHARS_MAX:
            return None
        digest = key_hash(key)
        with self._store.reading("look up a key") as connection:
            row = connection.execute(
                sa.select(t.api_keys).where(t.api_keys.c.hash == digest)
            ).one_or_none()
        if row is None or not hmac.compare_digest(row.hash, digest):
            return None
        expired = row.expires_us is not None and row.expires_us <= self._store.now_us()
        if row.revoked_us is not None or expired or row.role not in ALLOWED:
            return None
        # A scope that nobody knows any more allows nothing, and is not dropped: the last one
        # dropped would leave none, which means all.
        scopes = tuple(msgspec.json.decode(row.scopes))
        return Principal(
            tenant=row.tenant, id=row.id, role=row.role, scopes=scopes, expires_us=row.expires_us
        )

    def add_key(
        self,
        by: Principal,
        role: Role,
        *,
        scopes: Sequence[Action] = (),
        days: float | None = None,
        label: str = "",
    ) -> NewKey:
        """Make a key for somebody; it is returned this once.

        Nobody gives more than they have: a key makes keys that may what it may itself, no more,
        and that end when it does, or before.

        Args:
            by: an admin.
            role: of the key.
            scopes: what it is narrowed to.
            days: after which it expires; never where None.
            label: for people; redacted.

        Raises:
            AccessDenied: `by` may not, or the key would be more than its own.
            InputError: no such role or scope, the key could do nothing, or it would have expired
                already.
        """
        check_key(role, scopes, days)
        made = NewKey(id=f"k_{self._new_id()}", key=new_key(), hash="")
        made = msgspec.structs.replace(made, hash=key_hash(made.key))
        now = self._store.now_us()
        expires_us = None if days is None else now + int(days * 86_400_000_000)
        row = {
            "tenant": by.tenant,
            "id": made.id,
            "hash": made.hash,
            "role": role,
            "scopes": msgspec.json.encode(list(scopes)).decode(),
            "made_us": now,
            "expires_us": expires_us,
            "revoked_us": None,
            "label": self._redact(by.tenant, label[:_LABEL_CHARS_MAX]) if label else "",
        }
        asked = Principal(
            tenant=by.tenant, id=made.id, role=role, scopes=tuple(scopes), expires_us=expires_us
        )
        words = _words(role, scopes, expires_us)
        if by.may("key.manage") and (said := overreach(by, asked)):
            self._oversight.refuse(by, "key.manage", reason=f"asked for: {words}", said=said)
        told = f"made: {words}"
        with self._oversight.allowed(by, "key.manage", target=made.id, reason=told) as connection:
            connection.execute(sa.insert(t.api_keys), [row])
        return made

    def revoke_key(self, by: Principal, key_id: str) -> None:
        """Make a key worthless from now on; a second call changes nothing.

        Raises:
            AccessDenied: `by` may not.
            InputError: the tenant has no such key.
        """
        c = t.api_keys.c
        mine = (c.tenant == by.tenant) & (c.id == key_id)
        with self._store.reading("look up a key") as connection:
            row = connection.execute(sa.select(t.api_keys).where(mine)).one_or_none()
        told = "revoked"
        if row is not None:
            scopes = tuple(msgspec.json.decode(row.scopes))
            told = "revoked before" if row.revoked_us is not None else told
            told += f": {_words(row.role, scopes, row.expires_us)}"
        with self._oversight.allowed(by, "key.manage", target=key_id, reason=told) as connection:
            done = connection.execute(
                sa.update(t.api_keys)
                .where(mine)
                .values(revoked_us=sa.func.coalesce(c.revoked_us, self._store.now_us()))
            )
            if not done.rowcount:
                raise InputError(f"there is no key {key_id[:64]!r}")

    def keys(self, by: Principal) -> list[KeyInfo]:
        """List the tenant's keys, without anything that opens a door.

        Raises:
            AccessDenied: `by` may not.
        """
        c = t.api_keys.c
        with self._oversight.looking(by, "key.manage") as connection:
            rows = connection.execute(
                sa.select(t.api_keys).where(c.tenant == by.tenant).order_by(c.made_us, c.id)
            ).all()
        return [
            KeyInfo(
                id=row.id,
                role=row.role,
                scopes=tuple(msgspec.json.decode(row.scopes)),
                label=row.label,
                made_us=row.made_us,
                expires_us=row.expires_us,
                revoked_us=row.revoked_us,
            )
            for row in rows
        ]

    # ------------------------------------------------------------------------------- raw content

    def grant(
        self,
        by: Principal,
        *,
        to: str | None = None,
        reason: str,
        minutes: int = BREAK_GLASS_MINUTES,
    ) -> Grant:
        """Break the glass: let somebody read raw content for a while.

        A grant lets only those read whose role and scopes allow it, `by` itself included.

        Args:
            by: who gives it.
            to: id of a key of the tenant, or ``local:`` and a name; `by` itself where None.
            reason: why, in a few words; redacted and stored.
            minutes: from now; not beyond the end of the key of `by`.

        Raises:
            AccessDenied: `by` may not, or the grant would outlive the key of `by`.
            InputError: there is no reason, the time is too long, or nobody has this id.
        """
        if not 1 <= minutes <= BREAK_GLASS_MINUTES_MAX:
            raise InputError(f"a grant lasts from 1 to {BREAK_GLASS_MINUTES_MAX} minutes")
        who = by.id if to is None else to
        if not 0 < len(who) <= STORE_ID_CHARS_MAX or not who.isprintable():
            raise InputError("a grant is for the id of a key")
        now = self._store.now_us()
        made = Grant(
            id=f"g_{self._new_id()}",
            principal=who,
            reason=self._oversight.reason(by.tenant, reason),
            from_us=now,
            until_us=now + minutes * _MINUTE_US,
            given_by=by.id,
        )
        action: Action = "content.open" if who == by.id else "grant.give"
        said = outlives(by, made.until_us, "give a grant", "--minutes")
        if by.may(action) and said:
            self._oversight.refuse(by, action, target=who, reason=made.reason, said=said)
        about = {"target": who, "reason": made.reason, "grant": made.id}
        with self._oversight.allowed(by, action, **about) as connection:
            if who != by.id and not who.startswith(LOCAL) and not _key_there(connection, by, who):
                raise InputError(
                    f"there is no key {who[:64]!r} in use: see `tocsin access key list`; somebody "
                    f"on the machine itself is {LOCAL}NAME"
                )
            row = {"tenant": by.tenant, **msgspec.structs.asdict(made)}
            connection.execute(sa.insert(t.grants), [row])
        return made

    def grants(self, by: Principal) -> list[Grant]:
        """List the tenant's grants, those of the past too.

        Raises:
            AccessDenied: `by` may not.
        """
        c = t.grants.c
        columns = [c[field] for field in Grant.__struct_fields__]
        with self._oversight.looking(by, "access.read") as connection:
            rows = connection.execute(
                sa.select(*columns).where(c.tenant == by.tenant).order_by(c.from_us, c.id)
            ).all()
        return [Grant(**row._asdict()) for row in rows]

    def read(self, by: Principal, content: str, *, reason: str) -> vault.Opened:
        """Read raw content: with a role, a reason and a grant, and never unseen.

        The event is committed first. Where that fails, nothing is given.

        Raises:
            AccessDenied: `by` may not, or has no grant at this time.
            ContentGone: there is no such content of this tenant any more.
            InputError: there is no reason, or the master key is missing.
            StoreError: the event could not be written.
        """
        given = self._oversight.reason(by.tenant, reason)
        now = self._store.now_us()
        keys = self._keys()
        if not by.may("content.read"):
            self._oversight.refuse(by, "content.read", target=content, reason=given)
        with self._store.transaction("read content") as connection:
            held = _live_grant(connection, by, now)
            opened = None
            if held is not None:
                opened = self._opened(connection, keys, by.tenant, content, now)
                links = Links(request=opened.request or None) if opened else Links()
                self._oversight.record(
                    connection, by, "content.read",
                    target=content, reason=given, grant=held, links=links,
                )  # fmt: skip
        if held is None:
            self._oversight.refuse(by, "content.read", target=content, reason=given)
        if opened is None:
            raise ContentGone(f"there is no content {content[:64]!r}: unknown, expired or erased")
        return opened

    def contents(
        self, by: Principal, *, request: str | None = None, subject: str | None = None
    ) -> list[vault.Kept]:
        """List what raw content there is, without opening any.

        Raises:
            AccessDenied: `by` may not read the record.
        """
        with self._oversight.looking(by, "record.read") as connection:
            return vault.kept(connection, by.tenant, request=request, subject=subject)

    def erase(
        self, by: Principal, *, subject: str | None, reason: str, request: str | None = None
    ) -> Erasure:
        """Erase raw content for good, by destroying the keys under which it lies.

        Args:
            by: an admin.
            subject: the pseudonym of a person; the whole tenant where that and `request` are None.
            reason: why; redacted and stored.
            request: its contents alone, whoever they are of; no subject is to be named then.

        Returns:
            What was erased: zeros where there was nothing.

        Raises:
            AccessDenied: `by` may not.
            InputError: there is no reason, or both a subject and a request.
            StoreError: nothing was erased; or, from the purge that follows, the disk reported an
                error.
        """
        given = self._oversight.reason(by.tenant, reason)
        now = self._store.now_us()
        if subject is not None and request is not None:
            raise InputError("erase a subject or a request, not both at once")
        target = next((one for one in (subject, request) if one is not None), "all")
        with self._oversight.allowed(
            by, "content.erase", target=target, reason=given
        ) as connection:
            if request is not None:
                done = vault.erase_request(connection, by.tenant, request, now)
            elif subject is None:
                done = vault.erase_tenant(connection, by.tenant, now)
            else:
                done = vault.erase_subject(connection, by.tenant, subject, now)
            body = ContentErased(
                subjects=done.subjects, contents=done.contents, by=by.id, reason=given
            )
            event = Event(
                id=own_event("access", self._new_id()), time_us=now, source=SOURCE, body=body
            )
            self._oversight.append(connection, by.tenant, event)
        purged = vault.purge(self._store)
        return Erasure(
            subjects=done.subjects, contents=done.contents, purged=purged, shared=done.shared
        )

    def log(
        self,
        by: Principal,
        *,
        since_us: int = 0,
        limit: int = STORE_READ_MAX,
        folder: str | None = None,
    ) -> list[Stored]:
        """List who read or changed what not everyone may: the newest, in their order.

        For the arguments, see `tocsin.store.access_log.newest`, which raises too.

        Raises:
            AccessDenied: `by` may not.
        """
        from tocsin.store.access_log import newest  # nothing else here needs history

        with self._oversight.looking(by, "access.read"):
            pass
        scope = Scope(by.tenant)
        return newest(self._store, scope, since_us=since_us, limit=limit, folder=folder)

    def _keys(self) -> Keys:
        if self._store.keys is None:
            raise InputError("raw content is encrypted, and this store was opened without keys")
        return self._store.keys

    def _opened(
        self, connection: Connection, keys: Keys, tenant: str, content: str, now_us: int
    ) -> vault.Opened | None:
        try:
            return vault.read(connection, keys, tenant, content, now_us)
        except ContentGone:
            return None


def _words(role: str, scopes: Sequence[str], expires_us: int | None) -> str:
    """Say what a key is for, without anything of the key."""
    narrowed = f", only {' '.join(scopes)}" if scopes else ""
    return f"{role}{narrowed}, {ends(expires_us)}"


def _key_there(connection: Connection, by: Principal, key_id: str) -> bool:
    """Whether the tenant has such a key, and it is not revoked."""
    c = t.api_keys.c
    mine = (c.tenant == by.tenant, c.id == key_id, c.revoked_us.is_(None))
    return connection.execute(sa.select(c.id).where(*mine)).first() is not None


def _live_grant(connection: Connection, by: Principal, now_us: int) -> str | None:
    c = t.grants.c
    asked = (
        sa.select(c.id)
        .where(
            c.tenant == by.tenant, c.principal == by.id, c.from_us <= now_us, c.until_us > now_us
        )
        .order_by(c.until_us.desc())
        .limit(1)
    )
    found: Any = connection.execute(asked).scalar()
    return None if found is None else str(found)
