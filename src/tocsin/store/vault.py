"""The vault: raw content under keys that can be destroyed, which erases it wherever copies lie.

A master key, from the environment or a file, wraps the keys of tenants; a tenant's key wraps one
key a subject: a person's pseudonym, or a call where nobody is known. Under that key AES-256-GCM
seals each content, bound to tenant, subject, id, request and kind: a row that was moved or changed
does not open. Who erases destroys the wrapped key; what is left of the content says nothing.

Nonces are random, of 96 bits. For those, NIST SP 800-38D allows 2**32 messages under one key, which
is how many contents a subject, and how many subjects a version of a tenant's key, may have.
"""

from __future__ import annotations

import hashlib
import importlib
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import sqlalchemy as sa

from tocsin.errors import ContentGone, InputError, MissingExtra, StoreBusy, StoreDamaged
from tocsin.limits import PURGE_MS_MAX, STORE_READ_MAX
from tocsin.store import engine as engines
from tocsin.store import tables as t
from tocsin.store.append import Content

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine import URL

    from tocsin.store.store import Store

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_ID_BYTES: Final = 8
_FORMAT: Final = "tocsin.vault/1"


class Master:
    """The master key, and older ones that still open what they wrapped.

    Args:
        keys: of 32 bytes each. The first one wraps, the others open only.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {master_id(key): key for key in reversed(keys)}
        self.id = master_id(keys[0])
        """Names the current key; says nothing about it."""

    def wrap(self, key: bytes, bound: bytes) -> bytes:
        """Encrypt a tenant's key: id of the master key, nonce, sealed key."""
        return self.id + _sealed(self._keys[self.id], key, bound)

    def unwrap(self, wrapped: bytes, bound: bytes) -> bytes:
        """Decrypt a tenant's key.

        Raises:
            InputError: the master key that wrapped it is not here.
            StoreDamaged: it was changed, or belongs to something else.
        """
        key = self._keys.get(wrapped[:_ID_BYTES])
        if key is None:
            raise InputError(
                f"this content is locked with the master key {wrapped[:_ID_BYTES].hex()}, which is "
                "not given; add it after the current one to TOCSIN_MASTER_KEY or master.key"
            )
        return _opened(key, wrapped[_ID_BYTES:], bound, "a tenant's key")


class HoldsMasters(Protocol):
    """What a store's keys offer to the vault; see `tocsin.store.keys.Keys`."""

    masters: tuple[bytes, ...]
    """Master keys of 32 bytes: the first wraps, all of them open."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """Content that was read.

    Args:
        id, subject, request, what, why: as they were given with it.
        text: the content itself.
        made_us, expires_us: microseconds since 1970.
    """

    id: str
    subject: str
    request: str
    what: str
    why: str
    text: str
    made_us: int
    expires_us: int


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a content without opening it; `bytes` as it is sealed."""

    id: str
    subject: str
    request: str
    what: str
    why: str
    bytes: int
    made_us: int
    expires_us: int


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure destroyed: keys of so many subjects, and so many contents; `shared` contents
    lay under keys that stay, since they lock others too.
    """  # noqa: D205 - two lines for one sentence

    subjects: int
    contents: int
    shared: int = 0


def locked_with(connection: Connection) -> tuple[bytes, ...]:
    """Give the ids of the master keys that the kept keys of tenants are wrapped with."""
    c = t.tenant_keys.c
    named = sa.func.substr(c.wrapped, 1, _ID_BYTES).label("named")
    found = connection.execute(sa.select(named).where(c.wrapped.is_not(None)).distinct())
    return tuple(sorted(bytes(row.named) for row in found))


# ------------------------------------------------------------------------------------ seal and read


def seal(
    connection: Connection, keys: HoldsMasters, tenant: str, content: Content, now_us: int
) -> dict[str, Any]:
    """Encrypt content, and make the keys that it needs; the row is for the caller to store.

    Args:
        connection: in a transaction that holds the tenant's head.
        keys: give the master key.
        tenant, content: whose, and what.
        now_us: the time, microseconds since 1970.

    Raises:
        InputError: there is no master key.
    """
    master = _master(keys)
    key = _subject_key(connection, master, tenant, content.subject, now_us)
    bound = _bound_content(
        tenant, content.subject, content.id, content.request, content.what, content.why, now_us
    )
    whole = _sealed(key, content.text.encode("utf-8", "surrogatepass"), bound)
    return {
        "tenant": tenant,
        "id": content.id,
        "subject": content.subject,
        "request": content.request or None,
        "what": content.what,
        "why": content.why,
        "made_us": now_us,
        "expires_us": content.expires_us,
        "nonce": whole[:_NONCE_BYTES],
        "sealed": whole[_NONCE_BYTES:],
    }


def read(
    connection: Connection, keys: HoldsMasters, tenant: str, content: str, now_us: int
) -> Opened:
    """Decrypt one content of a tenant. Who may is not asked here, see `tocsin.store.access`.

    Raises:
        ContentGone: there is none of this id, or it has expired or was erased.
        InputError: the master key that it was locked with is not here.
        StoreDamaged: it was changed, or is another's.
    """
    c = t.contents.c
    row = connection.execute(
        sa.select(t.contents).where(c.tenant == tenant, c.id == content)
    ).one_or_none()
    if row is None or row.expires_us <= now_us:
        raise ContentGone(f"there is no content {content[:64]!r}: unknown, expired or erased")
    key = _kept_subject_key(connection, _master(keys), tenant, row.subject)
    if key is None:
        raise ContentGone(f"content {content[:64]!r} was erased: its key was destroyed")
    request = row.request or ""
    bound = _bound_content(tenant, row.subject, row.id, request, row.what, row.why, row.made_us)
    raw = _opened(key, bytes(row.nonce) + bytes(row.sealed), bound, f"content {content[:64]!r}")
    return Opened(
        id=row.id,
        subject=row.subject,
        request=request,
        what=row.what,
        why=row.why,
        text=raw.decode("utf-8", "surrogatepass"),
        made_us=row.made_us,
        expires_us=row.expires_us,
    )


def kept(
    connection: Connection,
    tenant: str,
    *,
    request: str | None = None,
    subject: str | None = None,
    limit: int = STORE_READ_MAX,
) -> list[Kept]:
    """List a tenant's contents without opening them, the newest first."""
    c = t.contents.c
    asked = sa.select(
        *(c[name] for name in Kept.__struct_fields__ if name not in {"bytes", "request"}),
        sa.func.coalesce(c.request, "").label("request"),
        sa.func.length(c.sealed).label("bytes"),
    ).where(c.tenant == tenant)
    if request is not None:
        asked = asked.where(c.request == request)
    if subject is not None:
        asked = asked.where(c.subject == subject)
    rows = connection.execute(asked.order_by(c.made_us.desc(), c.id).limit(limit))
    return [Kept(**row._asdict()) for row in rows]


def _master(keys: HoldsMasters) -> Master:
    if not keys.masters:
        raise InputError("raw content is locked with a master key, and none was given")
    return Master(keys.masters)


def _bound_content(*named: str | int) -> bytes:
    return msgspec.json.encode([_FORMAT, "content", *named])


def _bound_key(*named: str | int) -> bytes:
    return msgspec.json.encode([_FORMAT, "key", *named])


def _subject_key(
    connection: Connection, master: Master, tenant: str, subject: str, now_us: int
) -> bytes:
    found = _kept_subject_key(connection, master, tenant, subject)
    if found is not None:
        return found
    key = secrets.token_bytes(_KEY_BYTES)
    version, outer = _tenant_key(connection, master, tenant, now_us)
    wrapped = _wrap_subject(version, outer, tenant, subject, key)
    c = t.subject_keys.c
    mine = (c.tenant == tenant) & (c.subject == subject)
    # The row of a subject that was erased stays, and says when; what comes later has a new key.
    done = connection.execute(
        sa.update(t.subject_keys).where(mine).values(wrapped=wrapped, made_us=now_us)
    )
    if not done.rowcount:
        row = {"tenant": tenant, "subject": subject, "wrapped": wrapped, "made_us": now_us}
        connection.execute(sa.insert(t.subject_keys), [row])
    return key


def _kept_subject_key(
    connection: Connection, master: Master, tenant: str, subject: str
) -> bytes | None:
    c = t.subject_keys.c
    asked = sa.select(c.wrapped).where(c.tenant == tenant, c.subject == subject)
    wrapped = connection.execute(asked).scalar()
    if wrapped is None:
        return None
    return _unwrap_subject(connection, master, tenant, subject, bytes(wrapped))


def _wrap_subject(version: int, outer: bytes, tenant: str, subject: str, key: bytes) -> bytes:
    bound = _bound_key("subject", tenant, subject, version)
    return version.to_bytes(4, "big") + _sealed(outer, key, bound)


def _unwrap_subject(
    connection: Connection, master: Master, tenant: str, subject: str, wrapped: bytes
) -> bytes | None:
    version = int.from_bytes(wrapped[:4], "big")
    c = t.tenant_keys.c
    asked = sa.select(c.wrapped).where(c.tenant == tenant, c.version == version)
    outer = connection.execute(asked).scalar()
    if outer is None:
        return None
    key = master.unwrap(bytes(outer), _bound_key("tenant", tenant, version))
    bound = _bound_key("subject", tenant, subject, version)
    return _opened(key, wrapped[4:], bound, "a subject's key")


def _tenant_key(
    connection: Connection, master: Master, tenant: str, now_us: int
) -> tuple[int, bytes]:
    """Return the newest key of a tenant that was not destroyed; make one where there is none."""
    c = t.tenant_keys.c
    asked = (
        sa.select(c.version, c.wrapped)
        .where(c.tenant == tenant, c.wrapped.is_not(None))
        .order_by(c.version.desc())
        .limit(1)
    )
    row = connection.execute(asked).one_or_none()
    if row is not None:
        bound = _bound_key("tenant", tenant, row.version)
        return row.version, master.unwrap(bytes(row.wrapped), bound)
    return _new_tenant_key(connection, master, tenant, now_us)


def _new_tenant_key(
    connection: Connection, master: Master, tenant: str, now_us: int
) -> tuple[int, bytes]:
    c = t.tenant_keys.c
    last = connection.execute(sa.select(sa.func.max(c.version)).where(c.tenant == tenant)).scalar()
    version, key = (last or 0) + 1, secrets.token_bytes(_KEY_BYTES)
    wrapped = master.wrap(key, _bound_key("tenant", tenant, version))
    row = {"tenant": tenant, "version": version, "wrapped": wrapped, "made_us": now_us}
    connection.execute(sa.insert(t.tenant_keys), [row])
    return version, key


# ---------------------------------------------------------------------------- erase, expire, rotate


def erase_subject(connection: Connection, tenant: str, subject: str, now_us: int) -> Erased:
    """Destroy the key of one subject, and delete what it locked.

    The transaction has to be followed by a purge of the file: until then, older pages of the
    database hold the wrapped key.
    """
    _lock(connection, tenant)
    c, k = t.contents.c, t.subject_keys.c
    gone = connection.execute(
        sa.delete(t.contents).where(c.tenant == tenant, c.subject == subject)
    ).rowcount
    keys = connection.execute(
        sa.update(t.subject_keys)
        .where(k.tenant == tenant, k.subject == subject, k.wrapped.is_not(None))
        .values(wrapped=None, destroyed_us=now_us)
    ).rowcount
    return Erased(subjects=keys, contents=gone)


def erase_request(connection: Connection, tenant: str, request: str, now_us: int) -> Erased:
    """Delete the contents of one request, and destroy the keys that lock nothing any more.

    What lay under a person's key that locks other contents is deleted here, and can be opened where
    a copy of it lies elsewhere, until the person is erased; see `erase_subject`.
    """
    _lock(connection, tenant)
    c, k = t.contents.c, t.subject_keys.c
    mine = (c.tenant == tenant) & ((c.request == request) | (c.subject == request))
    subjects = connection.execute(sa.select(c.subject).where(mine)).scalars().all()
    connection.execute(sa.delete(t.contents).where(mine))
    keys = shared = 0
    for subject in sorted(set(subjects)):
        others = sa.select(c.id).where(c.tenant == tenant, c.subject == subject).limit(1)
        if connection.execute(others).first() is not None:
            shared += subjects.count(subject)
            continue
        keys += connection.execute(
            sa.update(t.subject_keys)
            .where(k.tenant == tenant, k.subject == subject, k.wrapped.is_not(None))
            .values(wrapped=None, destroyed_us=now_us)
        ).rowcount
    return Erased(subjects=keys, contents=len(subjects), shared=shared)


def erase_tenant(connection: Connection, tenant: str, now_us: int) -> Erased:
    """Destroy every key of a tenant, and delete what they locked; see `erase_subject`.

    Its events and receipts stay: they hold no content.
    """
    _lock(connection, tenant)
    c, k, o = t.contents.c, t.subject_keys.c, t.tenant_keys.c
    gone = connection.execute(sa.delete(t.contents).where(c.tenant == tenant)).rowcount
    keys = connection.execute(
        sa.update(t.subject_keys)
        .where(k.tenant == tenant, k.wrapped.is_not(None))
        .values(wrapped=None, destroyed_us=now_us)
    ).rowcount
    connection.execute(sa.update(t.tenant_keys).where(o.tenant == tenant).values(wrapped=None))
    return Erased(subjects=keys, contents=gone)


def expire(connection: Connection, tenant: str, now_us: int) -> int:
    """Delete what has expired, and the keys that lock nothing any more; return how many contents.

    Args:
        connection: in a transaction.
        tenant: whose.
        now_us: content that expires at this time, or before, goes.
    """
    _lock(connection, tenant)
    c, k = t.contents.c, t.subject_keys.c
    gone = connection.execute(
        sa.delete(t.contents).where(c.tenant == tenant, c.expires_us <= now_us)
    ).rowcount
    locks = sa.select(c.id).where(c.tenant == k.tenant, c.subject == k.subject).exists()
    unused = sa.and_(k.tenant == tenant, k.wrapped.is_not(None), ~locks)
    if gone:
        erased_before = unused & k.destroyed_us.is_not(None)
        connection.execute(sa.update(t.subject_keys).where(erased_before).values(wrapped=None))
        connection.execute(sa.delete(t.subject_keys).where(unused))
    return gone


def rotate_master(connection: Connection, keys: HoldsMasters) -> int:
    """Wrap all tenants' keys anew with the current master key; return how many it was not yet.

    Afterwards the older master keys may be forgotten, once backups that need them are too.

    Raises:
        InputError: a key was wrapped by a master key that is not here. Nothing is changed then.
    """
    master = _master(keys)
    c = t.tenant_keys.c
    asked = sa.select(c.tenant, c.version, c.wrapped).where(c.wrapped.is_not(None))
    done = 0
    for row in connection.execute(asked.with_for_update()).all():
        if bytes(row.wrapped)[:_ID_BYTES] == master.id:
            continue
        bound = _bound_key("tenant", row.tenant, row.version)
        wrapped = master.wrap(master.unwrap(bytes(row.wrapped), bound), bound)
        mine = (c.tenant == row.tenant) & (c.version == row.version)
        connection.execute(sa.update(t.tenant_keys).where(mine).values(wrapped=wrapped))
        done += 1
    return done


def rotate_tenant(connection: Connection, keys: HoldsMasters, tenant: str, now_us: int) -> int:
    """Make a new key for a tenant, wrap its subjects' keys with it, and destroy the older ones.

    Returns:
        How many subjects' keys were wrapped anew.
    """
    _lock(connection, tenant)
    master = _master(keys)
    version, outer = _new_tenant_key(connection, master, tenant, now_us)
    c, o = t.subject_keys.c, t.tenant_keys.c
    asked = sa.select(c.subject, c.wrapped).where(c.tenant == tenant, c.wrapped.is_not(None))
    rows = connection.execute(asked).all()
    for row in rows:
        key = _unwrap_subject(connection, master, tenant, row.subject, bytes(row.wrapped))
        wrapped = None if key is None else _wrap_subject(version, outer, tenant, row.subject, key)
        mine = (c.tenant == tenant) & (c.subject == row.subject)
        connection.execute(sa.update(t.subject_keys).where(mine).values(wrapped=wrapped))
    older = (o.tenant == tenant) & (o.version < version)
    connection.execute(sa.update(t.tenant_keys).where(older).values(wrapped=None))
    return len(rows)


def purge(store: Store) -> bool:
    """Make the database's files forget what was deleted before; whether they have.

    SQLite overwrites what it deletes, but its write-ahead log holds older pages until it is cut,
    which a long read or another process may hinder: then call again later. PostgreSQL rewrites the
    tables of the vault; its own log keeps older pages until it is recycled, and so do archives and
    backups of either.

    Raises:
        StoreError: the disk or the server reported an error.
    """
    try:
        if store.url.get_backend_name() == "sqlite":
            store.truncate_log()
        else:
            _purge_server(store.url)
    except StoreBusy:
        return False
    return True


def _purge_server(url: URL) -> None:
    engine = engines.server(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engines.translated("purge"), engine.connect() as connection:
            connection.exec_driver_sql(f"SET lock_timeout = {PURGE_MS_MAX}")
            for table in (t.contents, t.subject_keys, t.tenant_keys):
                connection.exec_driver_sql(f"VACUUM FULL {table.name}")
    finally:
        engine.dispose()


def _lock(connection: Connection, tenant: str) -> None:
    """Hold the tenant's head, as a commit does: nobody seals for it meanwhile."""
    asked = sa.select(t.heads.c.seq).where(t.heads.c.tenant == tenant).with_for_update()
    connection.execute(asked)


# -------------------------------------------------------------------------------------- AES-256-GCM


def _sealed(key: bytes, text: bytes, bound: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    cipher: bytes = (
        _library("cryptography.hazmat.primitives.ciphers.aead")
        .AESGCM(key)
        .encrypt(nonce, text, bound)
    )
    return nonce + cipher


def _opened(key: bytes, whole: bytes, bound: bytes, what: str) -> bytes:
    invalid = _library("cryptography.exceptions").InvalidTag
    cipher = _library("cryptography.hazmat.primitives.ciphers.aead").AESGCM(key)
    try:
        text: bytes = cipher.decrypt(whole[:_NONCE_BYTES], whole[_NONCE_BYTES:], bound)
    except (invalid, ValueError):
        raise StoreDamaged(f"{what} does not open: it was changed, or is another's") from None
    return text


def master_id(master: bytes) -> bytes:
    """Name a master key; says nothing about it."""
    return hashlib.sha256(b"tocsin.master/1\0" + master).digest()[:_ID_BYTES]


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtra("the vault needs cryptography: pip install 'tocsin[record]'") from None
