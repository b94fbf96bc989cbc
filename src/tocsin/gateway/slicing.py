"""Long texts in slices, so that the event loop gets its turn between them.

Checks cost a few microseconds a token. A frame of a megabyte would cost seconds in one go, during
which no other stream moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tocsin.limits import SLICE_CHARS
from tocsin.stream.events import Event, Wrote


def long(events: Iterable[Event]) -> bool:
    """Whether any text is so long that it is cut."""
    for event in events:  # noqa: SIM110 - a generator costs more than all that it looks at
        if type(event) is Wrote and len(event.text) > SLICE_CHARS:
            return True
    return False


def slices(events: Iterable[Event]) -> Iterator[Event]:
    """Cut long texts; nothing else is changed.

    Example:
        >>> from tocsin.model import Channel
        >>> [len(e.text) for e in slices([Wrote(channel=Channel(), text="x" * 5_000)])]
        [4096, 904]
    """
    for event in events:
        if type(event) is not Wrote or len(event.text) <= SLICE_CHARS:
            yield event
        elif event.tokens:
            yield from _by_token(event)
        else:
            for at in range(0, len(event.text), SLICE_CHARS):
                yield Wrote(channel=event.channel, text=event.text[at : at + SLICE_CHARS])


def _by_token(event: Wrote) -> Iterator[Wrote]:
    """Cut between tokens, since they join to the text."""
    start, size = 0, 0
    for at, token in enumerate(event.tokens):
        if size and size + len(token.text) > SLICE_CHARS:
            yield _joined(event, start, at)
            start, size = at, 0
        size += len(token.text)
    yield _joined(event, start, len(event.tokens))


def _joined(event: Wrote, start: int, stop: int) -> Wrote:
    tokens = event.tokens[start:stop]
    return Wrote(channel=event.channel, text="".join(t.text for t in tokens), tokens=tokens)
