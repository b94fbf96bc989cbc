"""Ids of Tocsin's own events: the two shapes that its parts make, and that nobody else may use.

The first event under an id stays. Whoever could take an id before Tocsin does could keep one of
its events out of the record, so that what comes from outside has other ids.
"""

from __future__ import annotations

import re

_OURS = re.compile(r"tocsin\..*|r_[A-Za-z0-9_-]+\.[0-9]+", re.IGNORECASE | re.DOTALL)


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
    """Whether an id has a shape that Tocsin makes.

    Example:
        >>> is_ours("r_a1.2"), is_ours("tocsin.access.a1"), is_ours("feedback-on-r_a1")
        (True, True, False)
    """
    return _OURS.fullmatch(event_id) is not None
