"""Where one step ends and the next begins: a pure function of the text, however it is cut.

A segmenter buffers the text of one channel since the last boundary and gives whole steps. It
decides a boundary only once enough text has come to be sure (a full stop before a space may be an
abbreviation), so a step may arrive a few characters late, but its end never depends on how the
text was cut into chunks. The joined texts of the steps are the text, with nothing left out.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tocsin.errors import InputError
from tocsin.limits import STEP_CHARS_MAX, STEP_SIZE_MAX, TURN_CHARS_MAX
from tocsin.model import Ends
from tocsin.stream.boundaries import FINDERS, LOOK_AHEAD_CHARS

StepKind = Literal[
    "chars", "tokens", "line", "sentence", "paragraph", "reasoning", "turn", "tool_call"
]

KINDS: dict[StepKind, str] = {
    "chars": "every k characters",
    "tokens": "every k tokens, where a token is a run of at most 6 letters or digits, with the "
    "space before it, or one other character",
    "line": "a line with its end",
    "sentence": "a sentence; abbreviations, initials, decimals and list numbers do not end one",
    "paragraph": "text up to and with a blank line",
    "reasoning": "a paragraph, or a numbered or bulleted step that begins a line",
    "turn": "a whole turn, with its tool calls",
    "tool_call": "the text up to the end of a tool call or of the turn",
}
"""What each kind of step is, in words for people."""

_SIZED: frozenset[StepKind] = frozenset({"chars", "tokens"})
_MARKED: frozenset[StepKind] = frozenset({"turn", "tool_call"})

_PORTION_CHARS = 8_192
"""Most characters of a delta that are looked at in one go."""


class StepDefinition(msgspec.Struct, frozen=True):
    """What one step is; part of a calibration's identity.

    Args:
        kind: one of `KINDS`.
        size: the k of ``chars`` and ``tokens``, 1 to 4,096; 0 for the others.

    Example:
        >>> str(StepDefinition("chars", 200)), str(StepDefinition("sentence"))
        ('chars:200', 'sentence')
    """

    kind: StepKind
    size: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.size}" if self.kind in _SIZED else self.kind

    @staticmethod
    def parse(text: str) -> StepDefinition:
        """Read the written form.

        Raises:
            InputError: an unknown kind, or a size that is missing, not needed or out of range.

        Example:
            >>> StepDefinition.parse("tokens:16").size
            16
        """
        name, _, size = text.partition(":")
        kind = next((k for k in KINDS if k == name), None)
        if kind is None:
            raise InputError(
                f"step definition {text!r} is unknown; use "
                f"{', '.join(f'{k}:SIZE' if k in _SIZED else k for k in KINDS)}"
            )
        if kind not in _SIZED:
            if size:
                raise InputError(f"step definition {text!r}: {kind} takes no size; write {kind}")
            return StepDefinition(kind)
        if not (size.isascii() and size.isdigit() and 1 <= int(size[:9]) <= STEP_SIZE_MAX):
            raise InputError(
                f"step definition {text!r} needs a size from 1 to {STEP_SIZE_MAX}, as in {kind}:64"
            )
        return StepDefinition(kind, int(size))


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one channel.

    Args:
        start, end: offsets in characters of the channel's text, end exclusive.
        text: the characters between them; empty only where a turn ended without text.
    """

    start: int
    end: int
    text: str


class Segmenter:
    """Cut the text of one channel into steps.

    Args:
        definition: what a step is.

    Example:
        >>> cut = Segmenter(StepDefinition("sentence"))
        >>> [s.text for s in cut.feed("Dr. Ames agrees. It is 3.5 m")]
        ['Dr. Ames agrees. ']
        >>> [s.text for s in cut.feed(" wide.") + cut.close()]
        ['It is 3.5 m wide.']
    """

    def __init__(self, definition: StepDefinition) -> None:
        self._marked = definition.kind in _MARKED
        self._finder = None if self._marked else FINDERS[definition.kind](definition.size)
        self._kind = definition.kind
        self._chars_max = TURN_CHARS_MAX if self._marked else STEP_CHARS_MAX
        self._parts: list[str] = []
        self._held = 0
        self._start = 0

    @property
    def end(self) -> int:
        """Characters fed so far."""
        return self._start + self._held

    @property
    def start(self) -> int:
        """Offset at which the step that is still open begins."""
        return self._start

    def feed(self, text: str, ends: Ends | None = None) -> list[Step]:
        """Take more text; give the steps that are complete by now.

        The cost is linear in the text, however it is cut.
        """
        found: list[Step] = []
        # In portions: each step that is taken copies what is held behind it.
        for at in range(0, len(text), _PORTION_CHARS):
            portion = text[at : at + _PORTION_CHARS]
            self._parts.append(portion)
            self._held += len(portion)
            found += self._cut(final=False)
        if ends is None or (ends == "tool_call" and self._kind == "turn"):
            return found
        found += self._cut(final=True)
        if self._held or (not found and self._marked):
            found.append(self._take(self._held))
        return found

    def close(self) -> list[Step]:
        """Give what is left as a last step, if anything is."""
        found = self._cut(final=True)
        if self._held:
            found.append(self._take(self._held))
        return found

    def _cut(self, *, final: bool) -> list[Step]:
        found: list[Step] = []
        while (size := self._next(final=final)) is not None:
            found.append(self._take(size))
        return found

    def _next(self, *, final: bool) -> int | None:
        """Characters of the step that is complete, if one is and more text follows it."""
        if self._finder is None:
            return self._chars_max if self._held > self._chars_max else None
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        text = self._parts[0] if self._parts else ""
        size = self._finder.find(text, final=final)
        sure = self._held > self._chars_max + (0 if final else LOOK_AHEAD_CHARS)
        if size is None:
            return self._chars_max if sure else None
        return min(size, self._chars_max)

    def _take(self, size: int) -> Step:
        text = "".join(self._parts)
        rest = text[size:]
        step = Step(start=self._start, end=self._start + size, text=text[:size])
        self._parts = [rest] if rest else []
        self._held -= size
        self._start += size
        if self._finder is not None:
            self._finder.restart()
        return step
