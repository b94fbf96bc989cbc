r"""The language of rules: what both engines read alike, and what has a bounded length.

A pattern is made of literals, ``.``, classes, groups, ``|`` and bounded repeats. It has no anchors,
no look-around, no back-references and nothing without an upper bound, for a rule must be decided a
known number of characters after its start. It is written out again in a form that RE2 and
Hyperscan take the same way: ``\s`` without the vertical tab, for one.
"""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.limits import PATTERN_CHARS_MAX

BREAKS = " \n"
"""The characters at which a rule that cannot hold them is known to be over."""

_SPACES = r"\x09\x0a\x0c\x0d\x20"
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_SETS = {  # what is written out inside of a class, and which of BREAKS it holds
    "d": ("0-9", ""),
    "w": ("0-9A-Za-z_", ""),
    "s": (_SPACES, BREAKS),
}
_REPEAT_MAX = 1_000


class PatternError(ValueError):
    """A pattern is outside of the language; the message says where and why."""


@dataclass(frozen=True)
class Shape:
    """What is known of a pattern's matches.

    Args:
        text: the pattern as both engines take it.
        low, high: the fewest and the most characters of a match.
        breaks: whether a match may hold a space or a line feed.
    """

    text: str
    low: int
    high: int
    breaks: bool


def parse(pattern: str) -> Shape:
    r"""Read a pattern.

    Raises:
        PatternError: it is outside of the language, may match nothing, or has no bound.

    Example:
        >>> shape = parse(r"(?i)key[ -]?\d{2,4}")
        >>> shape.low, shape.high, shape.breaks
        (5, 8, True)
    """
    flag = "(?i)" if pattern.startswith("(?i)") else ""
    reader = _Reader(pattern, len(flag))
    shape = reader.either()
    if reader.at < len(pattern):
        raise PatternError(f"a ) without its ( at character {reader.at + 1}")
    if shape.low == 0:
        raise PatternError("it matches the empty text; make a part of it obligatory")
    if shape.high > PATTERN_CHARS_MAX:
        raise PatternError(
            f"a match may have {shape.high} characters, at most {PATTERN_CHARS_MAX} can be held "
            "back; shorten it, and let `rest` name the characters that go on"
        )
    return Shape(flag + shape.text, shape.low, shape.high, shape.breaks)


def parse_class(pattern: str) -> str:
    r"""Read a pattern that is one class of characters; give it as the engines take it.

    Raises:
        PatternError: it is something else.

    Example:
        >>> parse_class(r"[\w-]")
        '[0-9A-Za-z_\\x2d]'
    """
    reader = _Reader(pattern, 0)
    if not pattern.startswith("["):
        raise PatternError("it is no class; write one as in [A-Za-z0-9]")
    shape = reader.one()
    if reader.at < len(pattern):
        raise PatternError(f"text after the class, at character {reader.at + 1}")
    return shape.text


def literal(text: str) -> str:
    r"""Write text as a pattern that matches just that.

    Example:
        >>> literal("a.b")
        'a\\x2eb'
    """
    return "".join(_written(c) for c in text)


class _Reader:
    """A recursive descent over one pattern."""

    def __init__(self, pattern: str, at: int) -> None:
        self.pattern = pattern
        self.at = at
        self._depth = 0

    def either(self) -> Shape:
        """Read alternatives, up to a closing parenthesis or the end."""
        found = [self._sequence()]
        while self._take("|"):
            found.append(self._sequence())
        return Shape(
            "|".join(s.text for s in found),
            min(s.low for s in found),
            max(s.high for s in found),
            any(s.breaks for s in found),
        )

    def one(self) -> Shape:
        """Read one character, class or group."""
        c = self._next()
        if c == "(":
            return self._group()
        if c == "[":
            return self._class()
        if c == ".":
            return Shape(r"[^\x0a]", 1, 1, breaks=True)
        if c in "*+?{":
            raise self._wrong(f"{c} repeats nothing")
        if c in "^$":
            raise self._wrong(f"{c} means nothing in a stream; write \\{c} for the character")
        if c == "\\":
            return self._escape()
        return _character(c)

    def _sequence(self) -> Shape:
        parts: list[Shape] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            parts.append(self._repeated())
        return Shape(
            "".join(p.text for p in parts),
            sum(p.low for p in parts),
            sum(p.high for p in parts),
            any(p.breaks for p in parts),
        )

    def _repeated(self) -> Shape:
        shape = self.one()
        low, high = 1, 1
        if self._take("?"):
            low = 0
        elif self._peek() in {"*", "+"}:
            raise self._wrong(f"{self._peek()} has no bound; write {{0,20}}, say", ahead=1)
        elif self._take("{"):
            low, high = self._counts()
        else:
            return shape
        if self._peek() in {"*", "+", "?", "{"}:
            raise self._wrong("a repeat of a repeat; the longest match is always taken", ahead=1)
        if shape.text == r"\b":
            raise self._wrong("\\b cannot be repeated")
        count = "?" if (low, high) == (0, 1) else f"{{{low},{high}}}"
        return Shape(shape.text + count, shape.low * low, shape.high * high, shape.breaks)

    def _counts(self) -> tuple[int, int]:
        end = self.pattern.find("}", self.at)
        inside = self.pattern[self.at : end] if end >= 0 else ""
        first, comma, last = inside.partition(",")
        if comma and not last:
            raise self._wrong(f"{{{first},}} has no bound; write {{{first},20}}, say")
        numbers = [first, last] if comma else [first, first]
        if not all(n.isascii() and n.isdigit() and len(n) < 5 for n in numbers):
            raise self._wrong("{ needs numbers as in {2,5}; write \\{ for the character")
        low, high = int(numbers[0]), int(numbers[1])
        if not 0 <= low <= high <= _REPEAT_MAX or high == 0:
            raise self._wrong(f"{{{inside}}} is not within 1 to {_REPEAT_MAX}, least first")
        self.at = end + 1
        return low, high

    def _group(self) -> Shape:
        if self._take("?") and not self._take(":"):
            raise self._wrong("a group is ( or (?: and nothing else; (?i) stands first of all")
        self._depth += 1
        if self._depth > 20:
            raise self._wrong("groups are nested too deeply")
        inner = self.either()
        if not self._take(")"):
            raise self._wrong("a ( without its )")
        self._depth -= 1
        return Shape(f"(?:{inner.text})", inner.low, inner.high, inner.breaks)

    def _escape(self) -> Shape:
        c = self._next()
        if c == "b":
            return Shape(r"\b", 0, 0, breaks=False)
        if c.lower() in _SETS:
            inside, breaks = _SETS[c.lower()]
            if c.islower():
                return Shape(f"[{inside}]", 1, 1, bool(breaks))
            return Shape(f"[^{inside}]", 1, 1, breaks != BREAKS)
        return _character(self._escaped(c))

    def _escaped(self, c: str) -> str:
        """Return the character that an escape stands for."""
        if c in _ESCAPES:
            return _ESCAPES[c]
        if c == "x":
            return self._code()
        if c.isalnum():
            raise self._wrong(f"\\{c} is not known here")
        return c

    def _code(self) -> str:
        if self._take("{"):
            end = self.pattern.find("}", self.at)
            digits = self.pattern[self.at : max(end, self.at)]
            self.at = end + 1
        else:
            digits = self.pattern[self.at : self.at + 2]
            self.at += len(digits)
        try:
            code = int(digits, 16) if digits.isalnum() and len(digits) in range(2, 7) else -1
        except ValueError:
            code = -1
        if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise self._wrong("\\x needs a code point as in \\x41 or \\x{200b}")
        return chr(code)

    def _class(self) -> Shape:
        negated = self._take("^")
        parts: list[str] = []
        breaks: set[str] = set()
        while not self._take("]"):
            c = self._next()
            if c == "[":
                raise self._wrong("write \\[ for the character within a class")
            if c == "\\" and self._peek() in _SETS:
                inside, held = _SETS[self._next()]
                parts.append(inside)
                breaks.update(held)
                continue
            first = last = self._member(c)
            if self._peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in {"]", ""}:
                self._next()
                last = self._member(self._next())
            if first > last:
                raise self._wrong("a range that goes backwards")
            parts.append(_written(first) + (f"-{_written(last)}" if last != first else ""))
            breaks.update(b for b in BREAKS if first <= b <= last)
        if not parts:
            raise self._wrong("an empty class")
        held_any = set(BREAKS) - breaks if negated else breaks
        return Shape(f"[{'^' if negated else ''}{''.join(parts)}]", 1, 1, bool(held_any))

    def _member(self, c: str) -> str:
        return self._escaped(self._next()) if c == "\\" else c

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _take(self, c: str) -> bool:
        if self._peek() != c:
            return False
        self.at += 1
        return True

    def _next(self) -> str:
        if self.at >= len(self.pattern):
            raise self._wrong("it ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def _wrong(self, what: str, ahead: int = 0) -> PatternError:
        return PatternError(f"{what} (character {self.at + ahead})")


def _character(c: str) -> Shape:
    return Shape(_written(c), 1, 1, c in BREAKS)


def _written(c: str) -> str:
    """Write a character so that it means itself, inside of a class and outside."""
    if c.isascii():
        return c if c.isalnum() or c == "_" else f"\\x{ord(c):02x}"
    return f"\\x{{{ord(c):x}}}"
