r"""Characters beyond U+FFFF that JSON writes as two halves, where a stream cuts between them.

A generator's token may end in the middle of a character. Some servers then write the first half of
its escape in one delta and the second in the next: ``"\ud83d"``, then ``"\ude00"``. Neither is text
by itself, strict readers refuse both, and what is not joined here could hide a word from a guard
that the reader's program joins.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import msgspec

_HALF = re.compile("[\ud800-\udfff]")
_HALF_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
LONE = "\ufffd"
"""What stands for a half that never found the other."""


def decode_json(raw: bytes, type: Any = Any) -> Any:  # noqa: A002 - as msgspec calls it
    r"""Decode JSON in which a string may hold half a character.

    Give the texts to `Surrogates`, or to `whole`, before anything else sees them.

    Args:
        raw: UTF-8.
        type: what msgspec is to make of it.

    Raises:
        msgspec.DecodeError: not JSON, not UTF-8, not of that type, or nested too deeply.

    Example:
        >>> decode_json(rb'"a\ud83d"', str) == "a\ud83d"
        True
    """
    try:
        return msgspec.json.decode(raw, type=type)
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        if isinstance(error, RecursionError) or not _HALF_ESCAPE.search(raw):
            raise msgspec.DecodeError(_WHY) from None
    # Slow, and seldom: only the standard library reads halves.
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse)
        return msgspec.convert(value, type=type)
    except (ValueError, msgspec.ValidationError, RecursionError):
        raise msgspec.DecodeError(_WHY) from None


_WHY = "not the JSON that was expected"  # never with a word of what came


def _refuse(_name: str) -> NoReturn:
    """Infinity and NaN are no JSON."""
    raise ValueError(_WHY)


def whole(text: str) -> str:
    r"""Join the halves within a text; one that stands alone becomes U+FFFD.

    Example:
        >>> whole("\ud83d\ude00 \ude00")
        '😀 �'
    """
    if text.isascii() or not _HALF.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Surrogates:
    r"""Joins halves over the deltas of one channel.

    Example:
        >>> halves = Surrogates()
        >>> halves.join("a\ud83d"), halves.join("\ude00b\ud83d"), halves.rest()
        ('a', '😀b', '�')
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def join(self, text: str) -> str:
        """Give the text as far as it is whole; a first half at its end waits for the next."""
        if text.isascii() and not self._held:
            return text
        if not text:
            return ""
        text = self._held + text
        self._held = ""
        if "\ud800" <= text[-1] <= "\udbff":
            self._held = text[-1]
            text = text[:-1]
        return whole(text)

    def rest(self) -> str:
        """Say that no more text comes; give U+FFFD where a half was left."""
        left = LONE if self._held else ""
        self._held = ""
        return left
