"""Chunks that are read by what they have in common say what they say when they are read in full."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.stream.chat_reading import _TRIES, ChatDecoder
from tocsin.stream.chat_template import template_of
from tocsin.stream.events import Asked, Event, Wrote

ASKED = Asked(api="chat", model="m", stream=True, choices=2)


def chunk(text: Any, *, choice: int = 0, wide: bool = False, **more: Any) -> bytes:
    """One chunk as servers write it; `wide` with a space after each sign."""
    entry = {"index": choice, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    whole = {"id": "x", "object": "chat.completion.chunk", "choices": [entry], **more}
    return json.dumps(whole, separators=None if wide else (",", ":")).encode()


def event(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


def both(*pieces: bytes) -> tuple[list[Event], list[Event], int]:
    """What is read with templates and without, and how many pieces were read with one."""
    quick, slow = ChatDecoder(ASKED), ChatDecoder(ASKED)
    slow._tries = 0
    read: list[Event] = []
    full: list[Event] = []
    used = 0
    for piece in pieces:
        before = quick._template
        if before is not None:
            before.used = False
        read += quick.feed(piece)
        used += before is not None and before.used
        full += slow.feed(piece)
    return read + quick.close(), full + slow.close(), used


@pytest.mark.parametrize("wide", [False, True])
def test_the_usual_chunk_is_read_by_its_template(wide: bool) -> None:
    pieces = [event(chunk(text, wide=wide)) for text in ("", "a", "b", ' "c"', "d\n", "é", "😀")]
    read, full, used = both(*pieces)
    assert read == full
    assert used == len(pieces) - 2
    assert "".join(e.text for e in read if isinstance(e, Wrote)) == 'ab "c"d\né😀'


ODD = [
    event(chunk("other", choice=1)),
    event(chunk("of a tool", usage={"prompt_tokens": 1})),
    event(chunk("more", error={"code": "x"})),
    event(chunk("a")).replace(b'"a"', b'"a\nb"'),
    event(chunk("a")).replace(b'"a"', b'\n"a"'),
    event(chunk("a")).replace(b'"a"', b'"a" '),
    event(chunk("a")).replace(b'"a"', b'"a\\ud83d"'),
    event(chunk("a")).replace(b'"a"', b'"\\ude00"'),
    event(chunk("a")).replace(b'"a"', b'"\xff"'),
    event(chunk("a")).replace(b'"a"', b'"a","content":"b"'),
    event(chunk("a")).replace(b'"a"', b'"a","refusal":"b"'),
    event(chunk("a")).replace(b'"a"', b'"a"},"finish_reason":"stop","delta":{"content":"b"'),
    event(chunk("a")).replace(b'"a"', b"null"),
    event(chunk("a")).replace(b'"a"', b'""'),
    event(chunk("a"))[:-1],
    event(chunk("a")) * 2,
    b"event: error\n" + event(chunk("a")),
    event(chunk("a")).replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
    event(b"[DONE]"),
    b"\n",
    b": a comment\n\n",
]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_chunk_in_between_is_read_as_it_is(odd: bytes) -> None:
    usual = [event(chunk(text)) for text in ("one", " two", " three", " four")]
    read, full, _ = both(*usual[:3], odd, *usual[2:])
    assert read == full
    read, full, _ = both(usual[0], odd, odd, *usual)
    assert read == full


def test_any_order_of_odd_and_usual_chunks_is_read_as_it_is() -> None:
    rng = random.Random(9)
    usual = [event(chunk(text, choice=choice)) for text in ("a", "b ", '"') for choice in (0, 0, 1)]
    for _ in range(400):
        pieces = [rng.choice(ODD) if rng.random() < 0.2 else rng.choice(usual) for _ in range(12)]
        read, full, _ = both(*pieces)
        assert read == full


@given(st.text(), st.text(), st.binary(max_size=12))
def test_whatever_stands_in_the_place_of_the_text(first: str, text: str, raw: bytes) -> None:
    usual = event(chunk("the text"))
    pieces = [event(chunk(first or "x")), usual, event(chunk(text))]
    pieces += [usual.replace(b"the text", raw), usual.replace(b'"the text"', raw), usual]
    read, full, _ = both(*pieces)
    assert read == full


def test_a_name_that_stands_elsewhere_too_is_not_taken_for_the_text() -> None:
    twice = b'{"id":"x","choices":[{"index":0,"delta":{"content":"a"}}],"seen":{"content":"a"}}'
    assert template_of(twice) is None
    earlier = b'{"id":"x","seen":{"content":"a"},"choices":[{"index":0,"delta":{"content":"a"}}]}'
    made = template_of(earlier)
    assert made is not None and made.text(event(earlier)) == "a"


def test_chunks_that_never_have_anything_in_common_are_soon_read_without_looking() -> None:
    decoder = ChatDecoder(ASKED)
    for at in range(_TRIES + 5):
        decoder.feed(event(chunk("text", obfuscation=str(at))))
    assert decoder._tries == 0
    decoder = ChatDecoder(ASKED)
    for at in range(5 * _TRIES):  # but where they have for a while, it goes on
        decoder.feed(event(chunk("text", created=at // 3)))
    assert decoder._tries > 0
