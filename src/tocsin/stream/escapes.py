"""What one escape, or one window of base64 or hexadecimal digits, stands for."""

from __future__ import annotations

import binascii
import re
from html.entities import html5
from typing import NamedTuple

from tocsin.limits import CARD_DIGITS_MAX

_HEX = "[0-9A-Fa-f]"
_HIGH, _LOW = f"[dD][89abAB]{_HEX}{{2}}", f"[dD][c-fC-F]{_HEX}{{2}}"

_BEGINS = re.compile(rf"%{_HEX}|&[#A-Za-z]|\\[xuU]")
_BYTES = re.compile(rf"(?:%{_HEX}{{2}}){{1,4}}|(?:\\x{_HEX}{{2}}){{1,4}}")
_ENTITY = re.compile(rf"&(?:#(?:[xX]({_HEX}{{1,28}})|([0-9]{{1,28}}));?|([A-Za-z][A-Za-z0-9]+;))")
_PAIR = re.compile(rf"\\u({_HIGH})\\u({_LOW})")
_CODE = re.compile(rf"\\(?:u({_HEX}{{4}})|U({_HEX}{{8}})|u\{{({_HEX}{{1,6}})\}})")

_OPEN = re.compile(
    rf"(?:%{_HEX}{{2}}){{0,3}}%{_HEX}?$|(?:%{_HEX}{{2}}){{1,3}}$"
    rf"|(?:\\x{_HEX}{{2}}){{0,3}}\\(?:x{_HEX}?)?$|(?:\\x{_HEX}{{2}}){{1,3}}$"
    rf"|\\u{_HEX}{{0,3}}$|\\u{_HIGH}(?:\\(?:u{_HEX}{{0,3}})?)?$"
    rf"|\\U{_HEX}{{0,7}}$|\\u\{{{_HEX}{{0,6}}$"
    rf"|&(?:#?|#[xX]{_HEX}{{0,28}}|#[0-9]{{1,28}}|[A-Za-z][A-Za-z0-9]*)$"
)


def may_go_on(text: str) -> bool:
    """Whether a text that begins like an escape may be completed or prolonged by more text."""
    if len(text) > 1 and not _BEGINS.match(text):
        return False
    return _OPEN.match(text) is not None


def read_escape(text: str) -> tuple[str, int] | None:
    """Return what the escape at the begin of a text stands for, and its length.

    Example:
        >>> read_escape("%C3%A9t"), read_escape("&eacute;t"), read_escape("100%")
        (('é', 6), ('é', 8), None)
    """
    if not _BEGINS.match(text):
        return None
    if text[0] == "&":
        return _entity(text)
    match = _BYTES.match(text)
    if match is not None:
        return _character(match[0])
    match = _PAIR.match(text)
    if match is not None:
        high, low = int(match[1], 16), int(match[2], 16)
        return chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00), match.end()
    match = _CODE.match(text)
    return None if match is None else _coded(int(match[1] or match[2] or match[3], 16), match.end())


def _entity(text: str) -> tuple[str, int] | None:
    match = _ENTITY.match(text)
    if match is None:
        return None
    if match[3]:
        named = html5.get(match[3])
        return None if named is None else (named, match.end())
    return _coded(int(match[1], 16) if match[1] else int(match[2]), match.end())


def _coded(code: int, size: int) -> tuple[str, int] | None:
    valid = 0 < code <= 0x10FFFF and not 0xD800 <= code < 0xE000
    return (chr(code), size) if valid else None


def _character(escapes: str) -> tuple[str, int] | None:
    """Read one character of UTF-8 from the escapes of its bytes."""
    width = 3 if escapes[0] == "%" else 4
    data = bytes.fromhex(escapes.replace("%", "").replace("\\x", ""))
    need = _utf8_size(data[0])
    try:
        return data[:need].decode(), need * width
    except UnicodeDecodeError:
        return (chr(data[0]), width) if width == 4 else None


def _utf8_size(lead: int) -> int:
    return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


# ----------------------------------------------------------------------------------------- digits


class Coding(NamedTuple):
    """How digits stand for bytes: so many digits for so many bytes."""

    digits: int
    bytes: int


BASE64 = Coding(4, 3)
HEX = Coding(2, 1)

_URL_SAFE = str.maketrans("-_", "+/")
_IS_HEX = re.compile(rf"(?:0[xX])?{_HEX}+")
_SPACES = "\t\n\r"
_PRINTABLE = 16
"""At most one in so many characters may be unprintable, or no UTF-8, for a text to be plausible."""


class Decoded(NamedTuple):
    """What digits stand for.

    Args:
        chars: each character with the first and the last of the digits that it came from.
        used: digits that have been dealt with.
        skip: bytes of the digits behind them that have been dealt with as well.
    """

    chars: list[tuple[str, int, int]]
    used: int
    skip: int


def codings(run: str, least: int) -> list[tuple[Coding, int]]:
    """Return in which ways a run may be read, and where in it the digits begin."""
    if run.isdecimal() and len(run) <= CARD_DIGITS_MAX:
        return []
    ways: list[tuple[Coding, int]] = []
    if _IS_HEX.fullmatch(run):
        ways.append((HEX, 2 if run[1] in "xX" else 0))
    ways += [(BASE64, begin) for begin in range(4)]
    return [(coding, begin) for coding, begin in ways if len(run) - begin >= least]


def read_digits(digits: str, coding: Coding, skip: int, *, whole: bool) -> Decoded | None:
    """Decode digits, if that gives a plausible text.

    Args:
        digits: of base64, base64url or hexadecimal.
        coding: which.
        skip: bytes at the begin that have been dealt with already.
        whole: the run ends with these digits. If not, digits that do not fill a group, and those
            of a character that is not complete, are left for later.

    Example:
        >>> read_digits("RXhhbXBsZSB0ZXh0", BASE64, 0, whole=True).chars[:2]
        [('E', 0, 3), ('x', 0, 3)]
    """
    over = len(digits) % coding.digits
    usable = len(digits) - over
    if whole and coding is BASE64 and over > 1:
        usable = len(digits)
    data = _bytes(digits[:usable], coding)
    end = len(data) if whole else len(data) - _unfinished(data[-3:])
    if end <= skip:
        return None
    text = data[skip:end].decode("utf-8", "surrogateescape")
    bad = sum(not (char.isprintable() or char in _SPACES) for char in text)
    if bad * _PRINTABLE > len(text):
        return None
    chars: list[tuple[str, int, int]] = []
    at = skip
    for char in text:
        escaped = "\ud800" <= char < "\ue000"
        behind = at + (1 if char.isascii() or escaped else len(char.encode()))
        first = at // coding.bytes * coding.digits
        last = ((behind - 1) // coding.bytes + 1) * coding.digits - 1
        chars.append(("\ufffd" if escaped else char, first, min(last, usable - 1)))
        at = behind
    if whole:
        return Decoded(chars, usable, 0)
    used = usable if end == len(data) else end // coding.bytes * coding.digits
    return Decoded(chars, used, 0 if end == len(data) else end % coding.bytes)


def _bytes(digits: str, coding: Coding) -> bytes:
    if coding is HEX:
        try:
            return bytes.fromhex(digits)
        except ValueError:
            return b""
    padded = digits.translate(_URL_SAFE) + "=" * (-len(digits) % 4)
    return binascii.a2b_base64(padded)


def _unfinished(tail: bytes) -> int:
    """Return how many bytes at the end begin a character of UTF-8 without completing it."""
    for size in range(1, len(tail) + 1):
        lead = tail[-size]
        if lead >= 0xC0:
            return size if _utf8_size(lead) > size else 0
        if lead < 0x80:
            return 0
    return 0
