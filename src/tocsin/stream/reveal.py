"""Makes hidden characters visible, or takes them away.

Characters without a shape of their own (zero-width and bidirectional marks, soft hyphens, control
characters) go. Two ways to hide a text in such characters are undone: tag characters, each of which
stands for an ASCII character, and variation selectors, each of which stands for a byte of UTF-8.
An ideographic variation selector above the 32nd, and the tags of a flag, read as text too. Wide
forms of ASCII become ASCII, so that an escape written with them is seen.
"""

from __future__ import annotations

import re

from tocsin.stream.pieces import Builder, Piece

_CONTROLS = r"\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
_IGNORABLE = (
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Default_Ignorable_Code_Point of the Unicode character database."""

HIDDEN = re.compile(f"[{_CONTROLS}{_IGNORABLE}]")
"""A character that is not seen."""

_TOUCHED = re.compile(f"[{_CONTROLS}{_IGNORABLE}\uff01-\uff5e]+")
_DROP_CONTROLS = dict.fromkeys([*range(9), *range(0x0E, 0x20), 0x7F])

_TAG, _TAG_FIRST, _TAG_LAST = 0xE0000, 0xE0020, 0xE007E
_WIDE, _WIDE_FIRST, _WIDE_LAST = 0xFEE0, 0xFF01, 0xFF5E
_UTF8_CHARS_MAX = 4


class Reveal:
    """Reveals what is hidden; see the module.

    Args:
        lag_chars: raw characters over which the bytes of one character may be spread.
    """

    def __init__(self, lag_chars: int = _UTF8_CHARS_MAX) -> None:
        self.lag_chars = lag_chars
        self._bytes = bytearray()
        self._start = 0

    def push(self, piece: Piece, upto: int, *, final: bool) -> tuple[Piece, int]:  # noqa: ARG002
        """Take more text; give it revealed."""
        text = piece.text
        if not text:
            return piece, self._settled(upto)
        if text.isascii():
            self._bytes.clear()
            if len(text.translate(_DROP_CONTROLS)) == len(text):
                return piece, upto
        made = Builder()
        at = 0
        for match in _TOUCHED.finditer(text):
            if match.start() > at:
                self._bytes.clear()
            made.copy(piece, at, match.start())
            at = match.end()
            for i in range(match.start(), at):
                self._touch(text[i], piece.starts[i], piece.ends[i], made)
        if at < len(text):
            self._bytes.clear()
        made.copy(piece, at, len(text))
        return made.piece(), self._settled(upto)

    def _settled(self, upto: int) -> int:
        if self._bytes and upto - self._start > self.lag_chars:
            self._bytes.clear()
        return self._start if self._bytes else upto

    def _touch(self, char: str, start: int, end: int, made: Builder) -> None:
        code = ord(char)
        value = _selected(code)
        if value is not None:
            self._byte(value, start, end, made)
            return
        self._bytes.clear()
        if _TAG_FIRST <= code <= _TAG_LAST:
            made.add(chr(code - _TAG), start, end)
        elif _WIDE_FIRST <= code <= _WIDE_LAST:
            made.add(chr(code - _WIDE), start, end)

    def _byte(self, value: int, start: int, end: int, made: Builder) -> None:
        """Take the next byte of a character in UTF-8; one that cannot be goes."""
        if 0x80 <= value < 0xC0:
            if end - self._start > self.lag_chars:
                self._bytes.clear()
            if not self._bytes:
                return
        else:
            self._bytes.clear()
            self._start = start
        self._bytes.append(value)
        lead = self._bytes[0]
        need = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        if len(self._bytes) < need:
            return
        char = self._bytes.decode("utf-8", "ignore")
        self._bytes.clear()
        if (char.isprintable() or char.isspace()) and not _TOUCHED.match(char):
            made.add(char, self._start, end)


def _selected(code: int) -> int | None:
    """Return the byte that a variation selector stands for."""
    if 0xFE00 <= code <= 0xFE0F:
        return code - 0xFE00
    if 0xE0100 <= code <= 0xE01EF:
        return code - 0xE0100 + 16
    return None
