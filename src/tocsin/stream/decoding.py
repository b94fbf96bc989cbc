r"""Decodes one level of escapes and encodings in place, with a bounded delay.

Undone are URL escapes (``%41``), HTML entities (``&amp;``, ``&#65;``, ``&#x41;``), backslash
escapes (``\x41``, ``\u0041``, ``\u{41}``, ``\U00000041``), and runs of base64, base64url and
hexadecimal digits that decode to mostly printable text. A run is judged in windows, each tried at
four places where decoding does not go on from the one before, since a few characters may be glued
to its begin. Decimal digits alone, if no more than a card has, are a number and stay one. Nothing
gets longer. A character maps to the whole escape, or to the group of digits that its bytes came
from; padding maps to nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from tocsin.limits import (
    DECODE_LAG_CHARS_MAX,
    ENCODED_CHARS_MIN,
    ENCODED_WINDOW_CHARS,
    ESCAPE_CHARS_MAX,
)
from tocsin.stream.escapes import BASE64, Coding, codings, may_go_on, read_digits, read_escape
from tocsin.stream.pieces import EMPTY, Builder, Piece, joined

_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_DIGIT, _ESCAPE, _PAD, _OTHER = b"a%= "
_CLASSES = bytes(
    _DIGIT if code in _DIGITS else _ESCAPE if code in b"%&\\" else _PAD if code == 61 else _OTHER
    for code in range(256)
)
"""For each byte the class of its character."""

_LONG = b"a" * ENCODED_CHARS_MIN
_NEXT = re.compile(b"%%|(?<!a)a{%d}" % ENCODED_CHARS_MIN)
_RUN = re.compile(b"a+")


class Decode:
    """Decodes one level; see the module.

    Example:
        >>> from tocsin.stream.pieces import raw
        >>> Decode().push(raw("1%2B1 &lt; 3", 0), 12, final=True)[0].text
        '1+1 < 3'
    """

    lag_chars = DECODE_LAG_CHARS_MAX

    def __init__(self) -> None:
        self._held = EMPTY
        self._kinds = b""
        self._coding: Coding | None = None  # of the run that goes on at the held text
        self._skip = 0  # bytes of the held digits that have been given already
        self._pads = 0  # characters of padding that may follow

    def push(self, piece: Piece, upto: int, *, final: bool) -> tuple[Piece, int]:
        """Take more text; give what is settled."""
        if piece.text:
            self._kinds += piece.text.encode("ascii", "replace").translate(_CLASSES)
            self._held = joined(self._held, piece)
        held, kinds = self._held, self._kinds
        if not kinds:
            return EMPTY, upto
        late = final or upto - held.starts[0] > self.lag_chars
        if not late and len(kinds) < ENCODED_CHARS_MIN and kinds.isalpha():
            return EMPTY, held.starts[0]
        end = len(kinds.rstrip(b"a"))
        late = end < len(kinds) and (final or upto - held.starts[end] > self.lag_chars)
        if late or self._coding or self._pads or b"%" in kinds or _LONG in kinds:
            made = Builder()
            end = self._scan(held, kinds, upto, made, final=final)
            given = made.piece()
        else:
            given = _cut(held, 0, end)
        self._held, self._kinds = _cut(held, end, len(kinds)), kinds[end:]
        return given, held.starts[end] if end < len(kinds) else upto

    def _scan(self, held: Piece, kinds: bytes, upto: int, made: Builder, *, final: bool) -> int:
        """Decode what is settled of the held text; return how much that is."""
        at, size = 0, len(kinds)
        while at < size:
            if kinds[at] != _DIGIT:
                self._coding = None
                if kinds[at] == _PAD and self._pads:
                    self._pads -= 1
                    at += 1
                    continue
                found = _NEXT.search(kinds, at)
                begin = found.start() if found else max(at, len(kinds.rstrip(b"a")))
                made.copy(held, at, begin)
                if begin > at:
                    self._pads = 0
                at = begin
                if at == size:
                    break
            self._pads = 0
            is_run = kinds[at] == _DIGIT
            count = ENCODED_WINDOW_CHARS if is_run else ESCAPE_CHARS_MAX
            stop = self._horizon(held, at, min(size, at + count))
            full = stop - at == count or stop < size or upto - held.starts[at] > self.lag_chars
            if is_run:
                taken = self._run(held, kinds, at, stop, made, full=full, final=final)
            else:
                taken = _escape(held, at, stop, made, settled=full or final)
            if not taken:
                break
            at += taken
        return at

    def _horizon(self, held: Piece, at: int, stop: int) -> int:
        """Return how far one may look: not over more raw text than is held back."""
        limit = held.starts[at] + self.lag_chars
        if held.ends[stop - 1] <= limit:
            return stop
        return max(at + 1, bisect_right(held.ends, limit, at, stop))

    def _run(
        self,
        held: Piece,
        kinds: bytes,
        at: int,
        stop: int,
        made: Builder,
        *,
        full: bool,
        final: bool,
    ) -> int:
        """Decode a window of a run; return how much of it is settled, 0 where more must come."""
        match = _RUN.match(kinds, at, stop)
        end = stop if match is None else match.end()
        ended = end < stop or (final and not full)
        if not (ended or full):
            return 0
        run = held.text[at:end]
        if self._coding is not None:
            ways = [(self._coding, 0)]
        elif len(run) >= ENCODED_CHARS_MIN:
            ways = codings(run, ENCODED_CHARS_MIN)
        else:
            ways = []
        for coding, begin in ways:
            found = read_digits(run[begin:], coding, self._skip, whole=ended)
            if found is None or not found.used:
                continue
            made.copy(held, at, at + begin)
            for char, first, last in found.chars:
                made.add(char, held.starts[at + begin + first], held.ends[at + begin + last])
            self._coding, self._skip = (None if ended else coding), found.skip
            if ended and coding is BASE64 and found.used % 4:
                self._pads = 4 - found.used % 4
            return begin + found.used
        given = self._coding.digits if self._coding is not None and self._skip else 0
        made.copy(held, at + given, end)
        self._coding, self._skip = None, 0
        return len(run)


def _cut(piece: Piece, begin: int, end: int) -> Piece:
    return Piece(piece.text[begin:end], piece.starts[begin:end], piece.ends[begin:end])


def _escape(held: Piece, at: int, stop: int, made: Builder, *, settled: bool) -> int:
    """Decode an escape, or copy its first character; return 0 where more must come."""
    window = held.text[at:stop]
    if not settled and may_go_on(window):
        return 0
    found = read_escape(window)
    if found is None:
        made.copy(held, at, at + 1)
        return 1
    made.add(found[0], held.starts[at], held.ends[at + found[1] - 1])
    return found[1]
