"""The matches of all rules in one growing text, decided as early as they can be.

What a match is depends on the text alone: within a rule, matches are the leftmost-longest ones that
do not overlap and pass the rule's context and check, each going on by its `rest`. A match is
settled once no character to come can change it; how the text is cut only decides when it is found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tocsin.stream.pieces import EMPTY, Piece, joined
from tocsin.verifiers.patterns.compiled import (
    CONTEXT_CHARS,
    LOOK_CHARS,
    Ready,
    RuleSet,
    Search,
)
from tocsin.verifiers.patterns.engines import encode
from tocsin.verifiers.patterns.language import BREAKS
from tocsin.verifiers.patterns.rulebook import Rule

BLOCK_CHARS = 4_096
"""Most characters that are searched in one go."""

_BEHIND = CONTEXT_CHARS + LOOK_CHARS


def join(parts: Sequence[Piece]) -> Piece:
    """Return pieces that follow each other as one."""
    first, last = parts[0], parts[-1]
    text = "".join([part.text for part in parts])
    if isinstance(first.starts, range) and isinstance(last.ends, range):
        starts = range(first.starts.start, last.starts[-1] + 1)
        if len(starts) == len(text) and all(isinstance(part.starts, range) for part in parts):
            return Piece(text, starts, range(first.ends[0], last.ends.stop))
    whole = parts[0]
    for part in parts[1:]:
        whole = joined(whole, part)
    return whole


class Hit:
    """One match, in offsets of the raw text.

    Args:
        rule: of this rule.
        start, end: half-open range; the end grows while the match goes on.
    """

    __slots__ = ("end", "head", "hidden", "open", "rule", "start", "told")

    def __init__(self, rule: Rule, start: int, end: int) -> None:
        self.rule = rule
        self.start = start
        self.head = end
        """Where it ended before it went on."""
        self.end = end
        self.open = False
        """It may still go on."""
        self.told = start
        """Up to where it has been reported."""
        self.hidden = False
        """It is reported as another view's finding."""


class _Chunk:
    """Some text as bytes, with offsets that translate."""

    __slots__ = ("_data", "_flat", "low", "text")

    def __init__(self, text: str, low: int) -> None:
        self.text = text
        self.low = low
        self._data = encode(text)
        self._flat = len(self._data) == len(text)

    def span(self, search: Search, start: int, end: int) -> tuple[int, int] | None:
        """Return the first match between two places."""
        found = search(self._data, self._byte(start), self._byte(end))
        if found is None:
            return None
        first, last = found.span()
        return self._place(first), self._place(last)

    def _byte(self, place: int) -> int:
        at = place - self.low
        return at if self._flat else len(encode(self.text[:at]))

    def _place(self, byte: int) -> int:
        return self.low + (byte if self._flat else len(self._data[:byte].decode()))

    def part(self, start: int, end: int) -> str:
        """Return the text between two places, as far as it is here."""
        return self.text[max(0, start - self.low) : max(0, end - self.low)]


Behind = Callable[[int, int], str]
"""The raw text between two of its offsets."""


class Scanner:
    """The matches in one text.

    Args:
        rules: what to look for.
        without: numbers of rules that are not for this text.
        behind: for a form of the text: what it was made from. Where that is the same but for upper
            case, nothing was disguised, and there is nothing to find that the raw text does not
            say better.
    """

    def __init__(
        self, rules: RuleSet, without: frozenset[int] = frozenset(), behind: Behind | None = None
    ) -> None:
        self._rules = rules
        self._without = without
        self._behind = behind
        self._trigger = rules.triggers.open()
        self._window = EMPTY
        self._parts: list[Piece] = []
        self.base = 0  # place of the window's first character: all before is forgotten
        self.fed = 0
        self._seen = 0  # places up to here were shown to the trigger
        self._done = 0  # matches that start before here are found
        self._break = 0  # the last place before which no word is open
        self._fired: dict[int, int] = {}
        self._resume: dict[int, int] = {}
        self._going: dict[int, tuple[Hit, int, int]] = {}

    def feed(self, piece: Piece) -> None:
        """Take more text."""
        text = piece.text
        if not text:
            return
        last = max(map(text.rfind, BREAKS))
        if last >= 0:
            self._break = self.fed + last + 1
        self.fed += len(text)
        self._parts.append(piece)

    def settled(self) -> int:
        """Return the place before which every match is settled, whatever comes."""
        rules, fed = self._rules, self.fed
        words = fed - rules.spaced_chars_max - LOOK_CHARS
        if words > self._break:
            words = self._break
        return max(0, words, fed - rules.chars_max - LOOK_CHARS)

    def raw_start(self, place: int) -> int | None:
        """Return where in the raw text the character of a place begins, if it is there."""
        self._join()
        at = place - self.base
        return self._window.starts[at] if at < len(self._window.text) else None

    def scan(self, *, final: bool = False) -> list[Hit]:
        """Find the matches that are settled now; all of them if the text ends here."""
        self._join()
        to = self.fed if final else self.settled()
        found: list[Hit] = []
        while self._done < to or final:
            upto = min(to, self._done + BLOCK_CHARS)
            last = final and upto == to
            found += self._block(upto, final=last)
            self._done = upto
            if last:
                for hit, _, _ in self._going.values():
                    hit.open = False
                break
        self._trim()
        return found

    def _block(self, upto: int, *, final: bool) -> list[Hit]:
        """Find the matches that start before a place; what decides on them has come."""
        done, base, text = self._done, self.base, self._window.text
        end = min(self.fed, upto + self._rules.chars_max + LOOK_CHARS)
        fresh = text[self._seen - base : end - base]
        self._seen = max(self._seen, end)
        if not self._going and self._undisguised(max(base, done - 1), end):
            return []  # forms have triggers without a state, which may be left out
        undecided = text[max(0, done - 1 - base) : end - base]
        for number in self._trigger.fired(fresh, undecided, final=final):
            if number not in self._without:
                self._fired[number] = end
        if not self._fired and not self._going:
            return []
        low = max(base, done - _BEHIND)
        chunk = _Chunk(text[low - base : end - base], low)
        found: list[Hit] = []
        for number in sorted({*self._fired, *self._going}):
            found += self._confirm(number, upto, end, chunk)
            if self._fired.get(number, upto + 1) <= upto:
                del self._fired[number]
        return found

    def _confirm(self, number: int, upto: int, end: int, chunk: _Chunk) -> list[Hit]:
        """Find the matches of one rule that start before a place."""
        ready = self._rules.rules[number]
        place = max(self._done, self._resume.pop(number, 0))
        if number in self._going:
            place = self._go_on(number, upto, chunk)
        found: list[Hit] = []
        while place < upto and number not in self._going:
            span = chunk.span(ready.search, place, min(end, upto + ready.chars_max))
            if span is None or span[0] >= upto:
                break
            start, stop = span
            size = ready.accepted(
                chunk.part(start - CONTEXT_CHARS, start),
                chunk.part(start, stop),
                chunk.part(stop, stop + LOOK_CHARS),
            )
            if not size or self._undisguised(start, start + size):
                place = start + 1
                continue
            place = start + size
            found.append(self._hit(ready, start, place))
            if ready.rest is not None:
                self._going[number] = (found[-1], place, ready.rest_max)
                found[-1].open = True
                place = self._go_on(number, upto, chunk)
        if place > upto:
            self._resume[number] = place
        return found

    def _go_on(self, number: int, upto: int, chunk: _Chunk) -> int:
        """Let a match go on, up to a place; return where the rule is looked for again."""
        hit, place, left = self._going[number]
        rest = self._rules.rules[number].rest
        limit = min(upto + 1, place + left)  # a joint is seen with what it joins
        span = None if rest is None or place >= limit else chunk.span(rest, place, limit)
        if span is not None and span[1] > place:
            left -= span[1] - place
            place = span[1]
            hit.end = self._window.ends[place - 1 - self.base]
        if place < upto:
            del self._going[number]
            hit.open = False
        else:
            self._going[number] = (hit, place, left)
        return place

    def _undisguised(self, start: int, end: int) -> bool:
        """Whether this is a form whose characters here are the raw ones, in lower case."""
        if self._behind is None or start >= end:
            return False
        text, starts, ends = self._window
        first, last = start - self.base, end - 1 - self.base
        if ends[last] - starts[first] != end - start:
            return False
        behind = self._behind(starts[first], ends[last])
        return behind.isascii() and behind.lower() == text[first : last + 1]

    def _hit(self, ready: Ready, start: int, end: int) -> Hit:
        starts, ends = self._window.starts, self._window.ends
        return Hit(ready.rule, starts[start - self.base], ends[end - 1 - self.base])

    def _join(self) -> None:
        if not self._parts:
            return
        parts = [self._window, *self._parts] if self._window.text else self._parts
        self._window = join(parts)
        self._parts = []

    def _trim(self) -> None:
        """Forget what nothing looks at again."""
        spare = self._done - _BEHIND - self.base
        if spare > 0:
            text, starts, ends = self._window
            self._window = Piece(text[spare:], starts[spare:], ends[spare:])
            self.base += spare
