"""Shapes: what a value that is passed on may look like, whatever its name says.

An identifier or a number is forwarded because it cannot carry text that nobody watched. So it is
checked, and a value of another shape is left out.
"""

from __future__ import annotations

import re
from typing import Any

from tocsin.limits import IDENTIFIER_CHARS_MAX

_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:/@+-]+")
_COUNT_MAX = 2**53 - 1  # what every JSON reader keeps exact


def identifier(value: Any) -> str:
    """Give the value where it has the shape of an identifier, else nothing.

    Example:
        >>> identifier("chatcmpl-42"), identifier("two words"), identifier(7)
        ('chatcmpl-42', '', '')
    """
    if (
        isinstance(value, str)
        and len(value) <= IDENTIFIER_CHARS_MAX
        and _IDENTIFIER.fullmatch(value)
    ):
        return value
    return ""


def count(value: Any) -> int | None:
    """Give the value where it is a whole number from 0 to 2^53 - 1, else None.

    Example:
        >>> count(3), count(True), count(-1), count("3")
        (3, None, None, None)
    """
    if type(value) is int and 0 <= value <= _COUNT_MAX:
        return value
    return None
