"""The window of a channel: what goes to the checks, and how far text may go out."""

from __future__ import annotations

import numpy as np
import pytest
from guarded_streams import Doors, literal_rules, now, texts

from tocsin.guarding.plan import Check, Guard
from tocsin.guarding.response import Guarded
from tocsin.limits import FEED_CHARS
from tocsin.model import TEXT, Channel, Context, Token
from tocsin.stream.events import Done, Stopped, Wrote
from tocsin.stream.window import Window

REFUSAL = Channel("refusal")


def tokens(*parts: str) -> tuple[Token, ...]:
    return tuple(Token(part, -0.5) for part in parts)


def test_what_was_fed_moves_on_cell_by_cell() -> None:
    window = Window(TEXT, checks=1)
    window.add("x" * (3 * FEED_CHARS + 5))
    assert [window.fed for _ in window.cells()] == [FEED_CHARS, 2 * FEED_CHARS, 3 * FEED_CHARS]
    assert list(window.cells(final=True)) == [("xxxxx", ())]
    assert window.fed == window.received


def test_text_is_let_out_up_to_where_a_token_begins() -> None:
    window = Window(TEXT, checks=1)
    window.add("plain ")
    window.add("to ken s", tokens("to", " ken", " s"))
    assert window.release(3) == "pla"
    assert window.release(6) == "in "
    assert window.release(9) == "to"
    assert window.release(12) == " ken"
    assert window.release(13) == ""
    assert window.release(14) == " s"


@pytest.mark.parametrize("size", [1, 47, 48, 49, 500])
def test_held_characters_are_held_however_the_text_came(size: int) -> None:
    rules = Check(name="rules", verifier=literal_rules("STOP", "chars:5"))
    guarded = Guarded(Guard(checks=(rules,), hold_chars=4 * FEED_CHARS), Context(), Doors())
    said = "x" * (3 * FEED_CHARS + 5) + "STOP" + "y" * (5 * FEED_CHARS)
    shown = [
        event
        for at in range(0, len(said), size)
        for event in now(guarded.take([Wrote(channel=TEXT, text=said[at : at + size])]))
    ]
    assert guarded.over
    assert texts(shown) == {}


def test_text_without_tokens_before_text_with_tokens_arrives_with_all_that_follows() -> None:
    guarded = Guarded(Guard(hold="end_of_stream"), Context(), Doors(), in_order=True)
    said = [
        Wrote(channel=REFUSAL, text="No. "),
        Wrote(channel=TEXT, text="Well, "),
        Wrote(channel=REFUSAL, text="Not now.", tokens=tokens("Not", " now", ".")),
        Wrote(channel=TEXT, text="later."),
    ]
    shown = now(guarded.take([*said, Stopped(), Done()]))
    assert texts(said) == texts(shown)


def test_a_token_is_shown_where_none_of_its_characters_is_masked() -> None:
    rng = np.random.default_rng(8)
    for _ in range(200):
        window = Window(TEXT, checks=1)
        parts = ["abcdef"[: int(size)] for size in rng.integers(1, 7, 30)]
        text = "".join(parts)
        window.add(text, tokens(*parts))
        masked = set()
        for start in rng.choice(len(text), 6, replace=False):
            end = min(int(start + rng.integers(1, 9)), len(text))
            masked |= set(range(start, end))
            window.mark(int(start), end, "[x]")
        expected, at = [], 0
        for part in parts:
            if not masked & set(range(at, at + len(part))):
                expected.append(part)
            at += len(part)
        window.release(at)
        assert [token.text for token in window.tokens_shown()] == expected
