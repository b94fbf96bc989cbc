"""The request under guard, before the upstream is called: each message is a channel of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from tocsin.gateway.slicing import slices
from tocsin.guarding.plan import Doors, Guard
from tocsin.guarding.response import Guarded
from tocsin.limits import INPUT_CHANNELS_MAX
from tocsin.model import Channel, Context
from tocsin.stream.events import Done, Event, Wrote

DOCUMENT = "document"
"""The role that a retrieved passage is given."""

_ROLES_JOINED_MAX = 16


def texts(context: Context) -> list[tuple[str, str]]:
    """Give all texts of a request as (role, text), in order; documents come last.

    Older messages are joined by role where there are more than verifiers follow one by one.

    Example:
        >>> from tocsin.model import Message
        >>> texts(Context(messages=(Message("system", "a"), Message("user", "b"))))
        [('system', 'a'), ('user', 'b')]
    """
    found = [(m.role, m.content) for m in context.messages if m.content]
    found += [(DOCUMENT, d.text) for d in context.documents if d.text]
    older = len(found) - INPUT_CHANNELS_MAX
    return found if older <= 0 else [*_joined(found[:older]), *found[older:]]


def _joined(found: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    by_role: dict[str, list[str]] = {}
    for role, text in found:
        known = role in by_role or len(by_role) < _ROLES_JOINED_MAX
        by_role.setdefault(role if known else "", []).append(text)
    for role, parts in by_role.items():
        yield role, "\n\n".join(parts)


async def check_input(guard: Guard, context: Context, doors: Doors) -> tuple[Guarded, list[Event]]:
    """Check a request.

    Returns:
        What became of it: whether it was `refused`, its account and receipt; and the events, whose
        last one is `Blocked` where the policy stops it.
    """
    found = texts(context)
    roles = {Channel("observation", index=i): role for i, (role, _) in enumerate(found) if role}
    guarded = Guarded(guard, context, doors, is_fallback=True, roles=roles)
    out: list[Event] = []
    for event in slices(_events(found)):
        out = await guarded.take((event,))
        if guarded.over:
            break
        if type(event) is Wrote and len(event.text) > _TURN_CHARS:
            await asyncio.sleep(0)
    return guarded, out


_TURN_CHARS = 1_024
"""A text of this length is worth a turn of the loop for the others."""


def _events(found: Iterable[tuple[str, str]]) -> Iterator[Event]:
    for i, (_, text) in enumerate(found):
        yield Wrote(channel=Channel("observation", index=i), text=text)
    yield Done()
