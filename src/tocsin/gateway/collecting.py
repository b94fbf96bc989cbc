"""Raw content of one response, kept in memory until it is known whether any of it is stored."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from tocsin.limits import CONTENT_CHARS_MAX
from tocsin.model import Channel, Context
from tocsin.stream.events import Event, Wrote

_json = msgspec.json.Encoder().encode

Take = Callable[[Sequence[Event]], Coroutine[Any, Any, list[Event]]]


class Collecting:
    """What the generator wrote, by channel; what goes beyond the limit is left out.

    Args:
        most: characters; `CONTENT_CHARS_MAX` where None.

    Example:
        >>> said = Collecting(4)
        >>> said.add([Wrote(channel=Channel(), text="hello")])
        >>> said.output()
        '[{"kind":"text","choice":0,"index":0,"text":"hell"}]'
    """

    def __init__(self, most: int | None = None) -> None:
        self._left = CONTENT_CHARS_MAX if most is None else most
        self._texts: dict[Channel, list[str]] = {}

    def add(self, events: Sequence[Event]) -> None:
        """Keep the texts of events."""
        for event in events:
            if type(event) is Wrote and self._left > 0:
                text = event.text[: self._left]
                self._left -= len(text)
                self._texts.setdefault(event.channel, []).append(text)

    def before(self, take: Take) -> Take:
        """Keep what is given to a guard, then give it to the guard."""

        async def taking(events: Sequence[Event]) -> list[Event]:
            self.add(events)
            return await take(events)

        return taking

    def output(self) -> str:
        """Give what was written, as JSON; empty where nothing was."""
        if not self._texts:
            return ""
        return _json(
            [
                {"kind": c.kind, "choice": c.choice, "index": c.index, "text": "".join(parts)}
                for c, parts in self._texts.items()
            ]
        ).decode()


def asked_texts(context: Context) -> dict[str, str]:
    """Give what a request holds, as JSON: messages, and the documents that shaped the answer.

    Example:
        >>> from tocsin.model import Message
        >>> asked_texts(Context(messages=(Message("user", "Hi"),)))
        {'input': '[{"role":"user","content":"Hi"}]'}
    """
    found: dict[str, str] = {}
    if context.messages:
        found["input"] = _json(context.messages).decode()[:CONTENT_CHARS_MAX]
    if context.documents:
        found["retrieved"] = _json(context.documents).decode()[:CONTENT_CHARS_MAX]
    return found
