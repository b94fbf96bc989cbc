"""Reading events: always one tenant's, and each event as it was written or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

import msgspec
import sqlalchemy as sa

from tocsin.errors import InputError, StoreDamaged
from tocsin.events.envelope import Event, decode, event_hash
from tocsin.events.kinds import Body
from tocsin.limits import STORE_READ_MAX, STORE_TRACE_EVENTS_MAX
from tocsin.store import tables as t
from tocsin.store.commit import indexed
from tocsin.store.scope import Scope

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

KINDS: tuple[str, ...] = tuple(sorted(str(b.__struct_config__.tag) for b in get_args(Body)))
"""Every kind of event."""

By = Literal["kind", "route", "model"]
"""What events can be counted by."""


class Stored(msgspec.Struct, frozen=True):
    """An event with its place in the tenant's record, from 1."""

    seq: int
    event: Event


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tenant's record ends.

    Args:
        tenant: whose.
        seq: sequence number of the last event; 0 before the first.
        size: entries of the log.
        period: last sequence number that a period covers.
    """

    tenant: str
    seq: int
    size: int
    period: int


class Which(TypedDict, total=False):
    """Which events: all that is given has to hold.

    Keys:
        request, call, session, user, id: of the event or its links.
        kind, route, model: one, or several of which any.
        since_us, until_us: from the first, and before the second, microseconds since 1970.
        after_seq: after that sequence number.
    """

    request: str
    call: str
    session: str
    user: str
    id: str
    kind: str | tuple[str, ...]
    route: str | tuple[str, ...]
    model: str | tuple[str, ...]
    since_us: int
    until_us: int
    after_seq: int


def events(
    connection: Connection, scope: Scope, which: Which, limit: int = STORE_READ_MAX
) -> list[Stored]:
    """Read events in the order of their sequence numbers.

    What retention took away is left out.

    Raises:
        StoreDamaged: an event is not what was written.
    """
    if limit < 0:
        raise InputError(f"a limit cannot be {limit}")
    c = t.events.c
    asked = (
        sa.select(c.seq, c.hash, c.body)
        .where(*conditions(scope, which), c.body.is_not(None))
        .order_by(_place(which))
        .limit(limit)
    )
    return _stored(connection.execute(asked), scope)


def conditions(scope: Scope, which: Which) -> list[ColumnElement[bool]]:
    """Say in SQL which events are meant."""
    c = t.events.c
    found: list[ColumnElement[bool]] = [c.tenant == scope.tenant]
    for name, value in which.items():
        if name == "since_us":
            found.append(c.time_us >= value)
        elif name == "until_us":
            found.append(c.time_us < value)
        elif name == "after_seq":
            found.append(_place(which) > value)
        elif isinstance(value, str):
            found.append(c[name] == indexed(value))
        elif isinstance(value, tuple):
            found.append(c[name].in_([indexed(one) for one in value]))
        else:
            raise InputError(f"events cannot be found by {name}={value!r}")
    if _TIMES & which.keys() and not which.keys() - _TIMES - {"after_seq"}:
        # Times are in indexes behind a kind or a route: naming every kind makes one usable.
        found.append(c.kind.in_(KINDS))
    return found


_TIMES = {"since_us", "until_us"}


def _place(which: Which) -> ColumnElement[int]:
    """Give the sequence number, as an expression where no index in its order is to be used.

    In that order a database would walk over everything to find a few minutes, or a rare kind.
    """
    by_time = bool(_TIMES & which.keys())
    by_kind = not which.keys() - {"kind", "model"} and "kind" in which
    seq = t.events.c.seq
    return seq + 0 if by_time or by_kind else seq


def trace(
    connection: Connection, scope: Scope, any_id: str, limit: int = STORE_TRACE_EVENTS_MAX
) -> list[Stored]:
    """Read everything that is linked with an id, in the order of the sequence.

    The id may be of an event, a request, a call (and so of a receipt) or a session. For all but a
    session, the other events of the same requests and calls come along.
    """
    c = t.events.c
    wanted = indexed(any_id)
    mine = c.tenant == scope.tenant
    # A query for each link, here and below, so that each uses its own index.
    found = connection.execute(
        sa.union_all(*(
            sa.select(c.request, c.call).where(mine, column == wanted)
            for column in (c.id, c.request, c.call)
        )).limit(limit)
    ).all()  # fmt: skip
    related: list[ColumnElement[bool]] = [
        c.id == wanted,
        c.request == wanted,
        c.call == wanted,
        c.session == wanted,
    ]
    for name in ("request", "call"):
        values = sorted({v for v in (getattr(row, name) for row in found) if v is not None})
        if values:
            related.append(c[name].in_(values))
    seqs = sa.union(*(sa.select(c.seq).where(mine, condition) for condition in related)).subquery()
    asked = (
        sa.select(c.seq, c.hash, c.body)
        .where(mine, c.seq.in_(sa.select(seqs.c.seq)), c.body.is_not(None))
        .order_by(c.seq)
        .limit(limit)
    )
    return _stored(connection.execute(asked), scope)


def counts(connection: Connection, scope: Scope, by: By, which: Which) -> dict[str, int]:
    """Count events; those that retention took away count too.

    Example:
        `store.counts(scope, by="kind", since_us=0)` gives ``{"alarm": 1, ...}``.
    """
    column = t.events.c[by]
    asked = (
        sa.select(column, sa.func.count())
        .where(*conditions(scope, which))
        .group_by(column)
        .order_by(column)
    )
    return {str(value): int(n) for value, n in connection.execute(asked)}


def heads(connection: Connection, tenant: str | None = None) -> list[Head]:
    """Read where records end: of one tenant, or of all of them, for whoever runs the store."""
    c = t.heads.c
    asked = sa.select(c.tenant, c.seq, c.size, c.period).order_by(c.tenant)
    if tenant is not None:
        asked = asked.where(c.tenant == tenant)
    return [Head(**row._asdict()) for row in connection.execute(asked)]


def checked(seq: int, digest: bytes, body: bytes, scope: Scope) -> Event:
    """Read one event, whose bytes have to be those that were hashed when it was written.

    Raises:
        StoreDamaged: they are not.
    """
    if event_hash(body) != digest:
        raise StoreDamaged(
            f"event {seq} of {scope.tenant!r} is not what was written: run `tocsin fsck`"
        )
    try:
        return decode(body)
    except msgspec.MsgspecError as e:
        raise StoreDamaged(f"event {seq} of {scope.tenant!r} cannot be read: {e}") from None


def _stored(rows: Iterable[Any], scope: Scope) -> list[Stored]:
    return [
        Stored(row.seq, checked(row.seq, bytes(row.hash), bytes(row.body), scope)) for row in rows
    ]
