"""The text of one channel that was received and not yet shown, and what was found in it.

Counted in characters of the channel's raw text, never in chunks. Text comes in at one end, is cut
for the checks on a grid fixed to the text, and is let out at the other end as far as it is cleared,
with masked places shown as markers. All of it is linear in the text.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from tocsin.limits import FEED_CHARS
from tocsin.model import Channel, Token


@dataclass
class _Mark:
    """A place that is not shown; `told` once its marker is."""

    start: int
    end: int
    marker: str
    told: bool = False


class Window:
    """What is known of one channel.

    Args:
        channel: which one.
        checks: how many checks read it.

    Attributes:
        due: offset at which the next cell of the grid may be whole.
        received, fed, released: offsets up to which text came in, went to the checks, was let out.
        shown: characters that were let out, markers included.
        cleared: by check, the offset up to which it has nothing more to say.
        ended: whether the checks were told that nothing more comes.

    Example:
        >>> w = Window(Channel(), checks=1)
        >>> w.add("My number is 4111111111111111, thanks.")
        >>> w.mark(13, 29, "[card]")
        True
        >>> w.release(20), w.release(38)
        ('My number is [card]', ', thanks.')
    """

    def __init__(self, channel: Channel, checks: int) -> None:
        self.channel = channel
        self.received = self.fed = self.released = self.shown = self.masked = 0
        self.due = FEED_CHARS
        self.cleared = [0] * checks
        self.ended = False
        self._parts: deque[str] = deque()  # from `released` on
        self._skip = 0  # characters of the first part that were let out
        self._fresh: list[str] = []  # from `fed` on
        self._tokens_to_feed: deque[tuple[int, Token]] = deque()  # with the offset of their end
        self._tokens_to_show: deque[tuple[int, Token]] = deque()
        self._tokens_upto = 0
        self._hidden: list[tuple[int, int]] = []  # masked places of the last release
        self._marks: deque[_Mark] = deque()
        self._last: tuple[int, str] = (-1, "")  # end and marker of the mark that ended last
        self._hash = hashlib.sha256()
        self._behind = hashlib.sha256()  # of what stands behind markers

    @property
    def held(self) -> int:
        """Characters that wait."""
        return self.received - self.released

    @property
    def digest(self) -> str:
        """SHA-256 of what was shown, in UTF-8, as hexadecimal digits."""
        return self._hash.hexdigest()

    @property
    def withheld(self) -> int:
        """Characters that nobody was shown: those behind markers, and those that wait."""
        return self.masked + self.held

    def withheld_digest(self, salt: bytes) -> str | None:
        """Bind what nobody was shown, without giving it away; None where there is nothing.

        Args:
            salt: secret. Short texts can be guessed by whoever has it.

        Returns:
            Hexadecimal digits of HMAC-SHA256 under `salt` of the SHA-256 of the text in UTF-8:
            what stands behind markers, in its order, then what waits.
        """
        if not self.withheld:
            return None
        whole = self._behind.copy()
        whole.update(self.waiting.encode("utf-8", "surrogatepass"))
        return hmac.digest(salt, whole.digest(), "sha256").hex()

    @property
    def masks(self) -> bool:
        """Whether any of it is masked."""
        return bool(self._marks) or self.masked > 0

    @property
    def waiting(self) -> str:
        """The text that waits, as it came."""
        return "".join(self._parts)[self._skip :]

    def preview(self) -> str:
        """Return what `release` would let out of all that waits; nothing is let out."""
        raw = self.waiting
        out, at = [], self.released
        for mark in self._marks:
            out.append(raw[at - self.released : max(mark.start, at) - self.released])
            out.append("" if mark.told else mark.marker)
            at = mark.end
        out.append(raw[at - self.released :])
        return "".join(out)

    def add(self, text: str, tokens: tuple[Token, ...] = ()) -> None:
        """Take new text."""
        if tokens:
            at = self.received
            for token in tokens:
                at += len(token.text)
                self._tokens_to_feed.append((at, token))
                self._tokens_to_show.append((at, token))
            self._tokens_upto = at
        self.received += len(text)
        self._parts.append(text)
        self._fresh.append(text)

    def cells(self, *, final: bool = False) -> Iterator[tuple[str, tuple[Token, ...]]]:
        """Give what goes to the checks now: whole cells of the grid; the rest too where `final`.

        `fed` moves on with each cell as it is given, so that what follows from one is the same
        whether or not others came with it. Where tokens are known, a cell ends with the token that
        crosses the grid.
        """
        if self.received < self.due and not final:
            return
        text = self._fresh[0] if len(self._fresh) == 1 else "".join(self._fresh)
        start = at = self.fed
        cells = []
        while (end := self._cell_end(at)) <= self.received:
            cells.append((end, text[at - start : end - start], self._tokens(at, end)))
            at = end
        if final and at < self.received:
            cells.append((self.received, text[at - start :], self._tokens(at, self.received)))
            at = self.received
        self._fresh = [text[at - start :]] if at < self.received else []
        self.due = (at // FEED_CHARS + 1) * FEED_CHARS
        for end, cell, tokens in cells:
            self.fed = end
            yield cell, tokens

    def _cell_end(self, start: int) -> int:
        end = (start // FEED_CHARS + 1) * FEED_CHARS
        if self._tokens_upto > start:
            for upto, _ in self._tokens_to_feed:
                if upto >= end:
                    return upto
        return end

    def _tokens(self, start: int, end: int) -> tuple[Token, ...]:
        """Take the tokens of a cell; none where some of its text has none."""
        if not self._tokens_to_feed:
            return ()
        taken = []
        while self._tokens_to_feed and self._tokens_to_feed[0][0] <= end:
            taken.append(self._tokens_to_feed.popleft()[1])
        return tuple(taken) if sum(len(t.text) for t in taken) == end - start else ()

    def mark(self, start: int, end: int, marker: str) -> bool:
        """Mask a place; places that overlap become one, under the marker of the first.

        Returns:
            False where some of it was shown before.
        """
        in_time = start >= self.released
        start = max(start, self.released)
        if end <= start:
            return in_time
        told = False
        after: list[_Mark] = []
        while self._marks and self._marks[-1].end > start:
            other = self._marks.pop()
            if other.start >= end:
                after.append(other)
                continue
            if other.start <= start:
                marker = other.marker
            told = told or other.told
            start, end = min(start, other.start), max(end, other.end)
        goes_on = self._last == (start, marker) or (
            bool(self._marks) and self._marks[-1].end == start and self._marks[-1].marker == marker
        )
        self._marks.append(_Mark(start, end, marker, told or goes_on))
        self._marks.extend(reversed(after))
        return in_time

    def release(self, upto: int) -> str:
        """Let text out, with markers for what is masked.

        Args:
            upto: an offset; no further than this is let out.
        """
        upto = self._whole_tokens(min(upto, self.received))
        if upto <= self.released:
            return ""
        out: list[str] = []
        self._hidden.clear()
        while self.released < upto:
            mark = self._marks[0] if self._marks else None
            if mark is not None and mark.start <= self.released:
                stop = min(mark.end, upto)
                if not mark.told:
                    out.append(mark.marker)
                    mark.told = True
                self.masked += stop - self.released
                self._hidden.append((self.released, stop))
                self._behind.update(self._take(stop).encode("utf-8", "surrogatepass"))
                if stop == mark.end:
                    self._last = (mark.end, mark.marker)
                    self._marks.popleft()
            else:
                stop = upto if mark is None else min(upto, mark.start)
                out.append(self._take(stop))
        text = "".join(out)
        self.shown += len(text)
        self._hash.update(text.encode("utf-8", "surrogatepass"))
        return text

    def _whole_tokens(self, upto: int) -> int:
        """Go back to where a token begins, from within it; not all text needs to have tokens."""
        if upto >= self._tokens_upto:
            return upto
        for end, token in self._tokens_to_show:
            if end >= upto:
                start = end - len(token.text)
                return upto if end == upto or start >= upto else max(start, self.released)
        return upto

    def _take(self, stop: int) -> str:
        taken, left = [], stop - self.released
        while left:
            part = self._parts[0]
            size = min(left, len(part) - self._skip)
            taken.append(part[self._skip : self._skip + size])
            self._skip += size
            left -= size
            if self._skip == len(part):
                self._parts.popleft()
                self._skip = 0
        self.released = stop
        return "".join(taken)

    def tokens_shown(self) -> tuple[Token, ...]:
        """Take the tokens of what was just let out; those with a masked character are left out."""
        if not self._tokens_to_show:
            return ()
        taken, at = [], 0
        hidden = self._hidden  # in order, as the tokens are
        while self._tokens_to_show and self._tokens_to_show[0][0] <= self.released:
            end, token = self._tokens_to_show.popleft()
            start = end - len(token.text)
            while at < len(hidden) and hidden[at][1] <= start:
                at += 1
            if at == len(hidden) or hidden[at][0] >= end:
                taken.append(token)
        return tuple(taken)
