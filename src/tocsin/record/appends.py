"""Questions about an append that is to be recorded."""

from __future__ import annotations

import msgspec

from tocsin.events.kinds import ContentKept, StreamEnded, StreamOpened
from tocsin.store.append import Append


def is_kept(append: Append, waiter: object) -> bool:
    """Whether an append stays while the store is away: nobody could give it again."""
    if append.entries:
        return True
    return waiter is None and any(
        isinstance(event.body, StreamOpened | StreamEnded) for event in append.events
    )


def is_ours(append: Append, waiter: object) -> bool:
    """Whether it is what this process itself has to say: others wait for what they send."""
    return waiter is None or bool(append.entries)


def has_more_than_contents(append: Append) -> bool:
    """Whether something is left where its raw content is left out."""
    return bool(append.contents and (append.events or append.entries))


def without_contents(append: Append) -> Append:
    """Leave raw content out, and the events that would say that it is kept."""
    gone = {content.id for content in append.contents}
    events = tuple(
        event
        for event in append.events
        if not (isinstance(event.body, ContentKept) and event.body.content in gone)
    )
    return msgspec.structs.replace(append, events=events, contents=())


def is_empty(append: Append) -> bool:
    """Whether there is nothing in it."""
    return not (append.events or append.entries or append.contents)
