"""What an answer in the responses API is made of, in one table that reader and writer share.

An answer is a list of items: messages and reasoning, which have parts with text, and tool calls,
which have one text each. Items of any other type are not forwarded.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from tocsin.model import ChannelKind

ItemType = Literal["message", "reasoning", "function_call", "custom_tool_call"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of part, and how the events of a stream call it.

    Args:
        kind: the part's type; for a tool call, the item's.
        item: the type of item that it stands in.
        channel: which channel its text belongs to.
        place: the item's field that lists such parts; empty for a tool call, which has none.
        field: the field that holds the whole text.
        written: the events of its text, before ``.delta`` and ``.done``.
        framed: the events around it, before ``.added`` and ``.done``.
        number: the field that counts parts.
    """

    kind: str
    item: ItemType
    channel: ChannelKind
    place: str = ""
    field: str = "text"
    written: str
    framed: str = ""
    number: str = "content_index"


TEXT = Part(
    kind="output_text",
    item="message",
    channel="text",
    place="content",
    written="response.output_text",
    framed="response.content_part",
)
REFUSAL = Part(
    kind="refusal",
    item="message",
    channel="refusal",
    place="content",
    field="refusal",
    written="response.refusal",
    framed="response.content_part",
)
SUMMARY = Part(
    kind="summary_text",
    item="reasoning",
    channel="reasoning",
    place="summary",
    written="response.reasoning_summary_text",
    framed="response.reasoning_summary_part",
    number="summary_index",
)
REASONING = Part(
    kind="reasoning_text",
    item="reasoning",
    channel="reasoning",
    place="content",
    written="response.reasoning_text",
    framed="response.content_part",
)
FUNCTION = Part(
    kind="function_call",
    item="function_call",
    channel="tool_arguments",
    field="arguments",
    written="response.function_call_arguments",
)
CUSTOM = Part(
    kind="custom_tool_call",
    item="custom_tool_call",
    channel="tool_arguments",
    field="input",
    written="response.custom_tool_call_input",
)

PARTS: dict[str, Part] = {p.kind: p for p in (TEXT, REFUSAL, SUMMARY, REASONING, FUNCTION, CUSTOM)}
CALLS: dict[str, Part] = {p.kind: p for p in (FUNCTION, CUSTOM)}

PLACES: dict[str, tuple[str, ...]] = {"message": ("content",), "reasoning": ("summary", "content")}
"""The fields of an item that list parts, in the order in which they are read."""

INCOMPLETE_REASONS = frozenset({"max_output_tokens", "max_messages", "content_filter", "steered"})
"""Why an answer may be incomplete, as the API has it."""

PHASES = frozenset({"commentary", "final_answer"})
"""What a message may say of itself."""


def digest(kind: str, text: str) -> str:
    """Say what a part's text was, so that reader and writer can compare without keeping it.

    Example:
        >>> digest("summary_text", "a") == digest("summary_text", "b")
        False
    """
    return f"{kind}:{hashlib.sha256(text.encode()).hexdigest()}"
