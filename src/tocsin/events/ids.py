"""Names of Tocsin's own: ids in the two shapes that its parts make, and the sources of its parts.

Nobody else may use them, nor what reads like them. The first event under an id stays: whoever could
take an id before Tocsin does could keep one of its events out of the record.
"""

from __future__ import annotations

import re
import unicodedata

_OURS = re.compile(r"tocsin\..*|r_[A-Za-z0-9_-]+\.\d+", re.IGNORECASE)
_OUR_SOURCE = re.compile(r"[/\\.]*tocsin([/\\].*)?", re.IGNORECASE)
_PERCENT = re.compile(r"%(?:25)*([0-9A-Fa-f]{2})")
_ALL_SEEN = re.compile(r"[!-~]*")
_BLANK = dict.fromkeys((0x115F, 0x1160, 0x2800))
"""Letters and signs that are seen as nothing, though Unicode calls them letters and signs."""


def response_id(unique: str) -> str:
    """Name a response, and so its receipt.

    Args:
        unique: letters, digits, ``-`` and ``_``.

    Example:
        >>> response_id("a1")
        'r_a1'
    """
    return f"r_{unique}"


def event_of_response(response: str, number: int) -> str:
    """Name the events of a response, from 1.

    Example:
        >>> event_of_response("r_a1", 2)
        'r_a1.2'
    """
    return f"{response}.{number}"


def own_event(what: str, unique: str) -> str:
    """Name an event that Tocsin tells of itself.

    Example:
        >>> own_event("access", "a1")
        'tocsin.access.a1'
    """
    return f"tocsin.{what}.{unique}"


def is_ours(event_id: str) -> bool:
    """Whether an id reads as one of the shapes that Tocsin makes.

    Width, case, digits of other scripts, and what is not seen make no difference.

    Example:
        >>> is_ours("r_a1.2"), is_ours("tocsin.access.a1"), is_ours("feedback-on-r_a1")
        (True, True, False)
        >>> is_ours("r_a1 .2"), is_ours("r_a1\uff0e2")
        (True, True)
    """
    return _OURS.fullmatch(_as_read(event_id)) is not None


def is_our_source(source: str) -> bool:
    """Whether a source reads as one of Tocsin's own, however it is written.

    Example:
        >>> [is_our_source(name) for name in ("tocsin/gateway", "/Tocsin%2Fgateway", "shop")]
        [True, True, False]
    """
    plain = _PERCENT.sub(lambda found: chr(int(found[1], 16)), source)
    return _OUR_SOURCE.fullmatch(_as_read(plain)) is not None


def _as_read(name: str) -> str:
    """Leave out what is not seen: spaces, control characters, marks."""
    if _ALL_SEEN.fullmatch(name):
        return name
    folded = unicodedata.normalize("NFKC", name).translate(_BLANK)
    return "".join(char for char in folded if unicodedata.category(char)[0] not in "CMZ")
