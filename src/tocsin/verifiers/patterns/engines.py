"""The engines that say which rules may match: Hyperscan where it is installed, RE2 elsewhere.

An engine is a trigger and no more: it may name a rule that does not match, never the other way
round. What matches, and where, is decided by RE2 in `scanner`, so that findings do not depend on
the engine.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol

from tocsin.errors import InputError, MissingExtra

Engine = Literal["auto", "hyperscan", "re2"]

_RE2_MEMORY = 256 * 1024 * 1024
"""Most bytes that the automaton of all rules may take; it is rebuilt where that is too little."""


class Trigger(Protocol):
    """The trigger of one text."""

    def fired(self, fresh: str, window: str, *, final: bool) -> Iterable[int]:
        """Name the rules of which a match may have ended within the text that is new.

        Args:
            fresh: the text that this trigger has not seen.
            window: the text since the place up to which all is decided, and one character before.
            final: whether the text ends here.
        """


class Triggers(Protocol):
    """The rules, compiled for one engine."""

    name: str

    def open(self) -> Trigger:
        """Begin with a new text."""


def re2() -> Any:
    """Return the module of RE2.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module("re2")
    except ImportError as e:
        raise MissingExtra("patterns need RE2: pip install 'tocsin[patterns]'") from e


def options() -> Any:
    """Return RE2's options: the longest of the leftmost matches, and no talk on stderr."""
    made = re2().Options()
    made.longest_match = True
    made.log_errors = False
    return made


def encode(text: str) -> bytes:
    """Return the text as the engines read it; a lone surrogate becomes one question mark."""
    return text.encode("utf-8", "replace")


def triggers(patterns: Sequence[str], engine: Engine) -> Triggers:
    """Compile patterns for an engine; ``auto`` takes Hyperscan where it is and can.

    Raises:
        InputError: Hyperscan was asked for by name and cannot compile the patterns.
        MissingExtra: the engine is not installed.
    """
    if engine == "re2":
        return _Re2(patterns)
    try:
        return _Hyperscan(patterns)
    except (MissingExtra, InputError):
        if engine == "hyperscan":
            raise
        return _Re2(patterns)


# -------------------------------------------------------------------------------------------- RE2


class _Re2:
    """RE2's set of patterns; without a state, it looks at the whole undecided window again."""

    name = "re2"

    def __init__(self, patterns: Sequence[str]) -> None:
        chosen = options()
        chosen.max_mem = _RE2_MEMORY
        self._set = re2().Set.SearchSet(chosen)
        for pattern in patterns:
            self._set.Add(pattern)
        if patterns:
            self._set.Compile()
        self._empty = not patterns

    def open(self) -> Trigger:
        return self

    def fired(self, fresh: str, window: str, *, final: bool) -> Iterable[int]:  # noqa: ARG002 - an interface
        if self._empty:
            return ()
        found: Iterable[int] | None = self._set.Match(encode(window))
        return found or ()


# -------------------------------------------------------------------------------------- Hyperscan


class _Hyperscan:
    """Hyperscan's database of patterns in stream mode: every character is looked at once."""

    name = "hyperscan"

    def __init__(self, patterns: Sequence[str]) -> None:
        try:
            hs = importlib.import_module("hyperscan")
        except ImportError as e:
            raise MissingExtra(
                "this engine needs Hyperscan: pip install 'tocsin[hyperscan]'"
            ) from e
        self.database = hs.Database(mode=hs.HS_MODE_STREAM)
        self.lock = threading.Lock()
        """One scratch space for all sessions, so one scan at a time."""
        try:
            self.database.compile(
                expressions=[encode(pattern) for pattern in patterns],
                ids=list(range(len(patterns))),
                elements=len(patterns),
                flags=[hs.HS_FLAG_UTF8] * len(patterns),
            )
        except hs.HyperscanError as e:
            raise InputError(f"Hyperscan cannot compile these rules ({e}); use RE2") from e

    def open(self) -> Trigger:
        return _Stream(self)


class _Stream:
    """One stream of Hyperscan; it must not be touched once it is closed."""

    def __init__(self, of: _Hyperscan) -> None:
        self._lock = of.lock
        found: set[int] = set()

        def note(rule: int, start: int, end: int, flags: int, context: object) -> None:  # noqa: ARG001 - Hyperscan's signature
            found.add(rule)

        self._found = found
        self._kept = (note, of.database)  # the stream does not keep them itself
        self._stream: Any = of.database.stream(match_event_handler=note)
        self._stream.__enter__()

    def fired(self, fresh: str, window: str, *, final: bool) -> Iterable[int]:  # noqa: ARG002 - an interface
        if self._stream is None:
            return ()
        with self._lock:
            if fresh:
                self._stream.scan(encode(fresh))
            if final:
                self._stream.close()
                self._stream = None
        if not self._found:
            return ()
        found = tuple(self._found)
        self._found.clear()
        return found
