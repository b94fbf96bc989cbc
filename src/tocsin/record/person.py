"""Everything that a record knows of one person, whoever told it."""

from __future__ import annotations

from typing import Literal

from tocsin.events.kinds import Reviewed
from tocsin.record.export import parts
from tocsin.record.outward import Reading
from tocsin.store.reading import Stored, Which
from tocsin.store.scope import Scope

_LINKS: tuple[Literal["request", "call"], ...] = ("request", "call")


def of_person(reader: Reading, scope: Scope, person: str, which: Which) -> list[Stored]:
    """Return a person's events, in the order of their sequence.

    Those that name them, what else was told of the same requests and calls unless it names
    somebody else, and the reviews that they wrote. Raw content is not among them.

    Args:
        reader: the store, or its history, which reads closed hours too.
        scope: whose record.
        person: the pseudonym.
        which: of those, what is wanted.
    """
    mine = [one for part in parts(reader, scope, {"user": person}) for one in part]
    linked = {(name, getattr(one.event.links, name)) for one in mine for name in _LINKS}
    asked: list[Which] = [{**which, "user": person}]
    for name, value in sorted((name, value) for name, value in linked if value):
        found: Which = {**which}
        found[name] = value
        asked.append(found)
    told = {
        one.seq: one
        for one_of in asked
        for part in parts(reader, scope, one_of)
        for one in part
        if one.event.links.user in {None, person}
    }
    kinds = which.get("kind", "review.outcome")
    if "review.outcome" in ((kinds,) if isinstance(kinds, str) else kinds):
        for part in parts(reader, scope, {**which, "kind": "review.outcome"}):
            told |= {one.seq: one for one in part if _reviewer(one) == person}
    return [told[seq] for seq in sorted(told)]


def _reviewer(stored: Stored) -> str | None:
    body = stored.event.body
    return body.reviewer if isinstance(body, Reviewed) else None
