"""What a key may ask of its own tenant's log over HTTP: checkpoints, proofs, periods."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from tocsin.errors import InputError
from tocsin.limits import LOG_PERIODS_MAX, TREE_SIZE_MAX
from tocsin.store import proofs
from tocsin.store.scope import Scope
from tocsin.store.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection

_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)


class Given(msgspec.Struct, frozen=True):
    """An answer: text for a file, or JSON."""

    body: bytes
    form: Literal["text", "json"] = "text"


class Withheld(msgspec.Struct, frozen=True):
    """Why there is none: the question was wrong (400), or there is nothing such (404)."""

    status: Literal[400, 404]
    why: str


Ask = Callable[[Store, Scope, str, Mapping[str, str]], Given | Withheld]
"""Answers from a tenant's log: store, tenant, the id in the path, the query."""


def checkpoint(store: Store, scope: Scope, _: str, query: Mapping[str, str]) -> Given | Withheld:
    """Give a signed checkpoint: the newest, or that of ``size`` entries."""
    return _by_size(
        store, query, lambda connection, size: proofs.signed(connection, scope, size)[1]
    )


def growth(store: Store, scope: Scope, _: str, query: Mapping[str, str]) -> Given | Withheld:
    """Prove that the log only grew ``from`` a size ``to`` another, or to the newest."""
    old, new = _number(query, "from"), _number(query, "to")
    if isinstance(old, Withheld):
        return old
    if isinstance(new, Withheld):
        return new
    if old is None:
        return Withheld(400, "say from which size: ?from=N, as the checkpoint that you hold has it")
    try:
        with store.reading() as connection:
            size, _note = proofs.signed(connection, scope)
            upto = size if new is None else new
            if not old <= upto <= size:
                return Withheld(404, f"the log has {size} entries: there is no growth from {old} "
                                     f"to {upto}")  # fmt: skip
            return Given(proofs.growth(connection, scope, old, upto).encode())
    except InputError as e:
        return Withheld(404, str(e))


def entry(store: Store, scope: Scope, wanted: str, query: Mapping[str, str]) -> Given | Withheld:
    """Prove a receipt or a period, by the newest checkpoint or that of ``size`` entries."""
    return _by_size(
        store, query, lambda connection, size: proofs.proof(connection, scope, wanted, None, size)
    )


def periods(store: Store, scope: Scope, _: str, query: Mapping[str, str]) -> Given | Withheld:
    """List what the periods say, ``after`` an index of the log, a few hundred at a time."""
    after = _number(query, "after")
    if isinstance(after, Withheld):
        return after
    with store.reading() as connection:
        start = -1 if after is None else after
        found = proofs.periods(connection, scope, start, LOG_PERIODS_MAX)
    told = [{"index": index, "id": period.id, "says": period} for index, period in found]
    more = found[-1][0] if len(found) == LOG_PERIODS_MAX else None
    return Given(msgspec.json.encode({"periods": told, "next": more}), "json")


ASKS: Mapping[str, Ask] = {
    "/v1/log/checkpoint": checkpoint,
    "/v1/log/growth": growth,
    "/v1/log/periods": periods,
    "/v1/log/entries/{id}": entry,
}
"""By path."""


def _by_size(
    store: Store, query: Mapping[str, str], make: Callable[[Connection, int | None], str]
) -> Given | Withheld:
    """Answer with what is made for a log of ``size`` entries, or for all of them."""
    size = _number(query, "size")
    if isinstance(size, Withheld):
        return size
    try:
        with store.reading() as connection:
            return Given(make(connection, size).encode())
    except InputError as e:
        return Withheld(404, str(e))


def _number(query: Mapping[str, str], name: str) -> int | Withheld | None:
    given = query.get(name)
    if given is None:
        return None
    if not _NUMBER.fullmatch(given) or int(given) > TREE_SIZE_MAX:
        return Withheld(400, f"{name} is a whole number from 0 to {TREE_SIZE_MAX}")
    return int(given)
