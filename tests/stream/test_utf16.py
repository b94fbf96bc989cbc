"""Halves of characters: joined over deltas, never lost, never text by themselves."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.stream.utf16 import LONE, Surrogates, decode_json, whole

HIGH, LOW = "\ud83d", "\ude00"


def joined(*pieces: str) -> str:
    """All that is given for the pieces of a text."""
    halves = Surrogates()
    return "".join([halves.join(piece) for piece in pieces]) + halves.rest()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([HIGH, LOW], "😀"),
        (["a" + HIGH, LOW + "b"], "a😀b"),
        ([HIGH, "", LOW], "😀"),
        ([HIGH], LONE),
        ([LOW], LONE),
        ([HIGH, "a", LOW], f"{LONE}a{LONE}"),
        ([HIGH, HIGH, LOW], f"{LONE}😀"),
        ([LOW, HIGH], LONE + LONE),
        (["é", "日本", "😀", ""], "é日本😀"),
        ([], ""),
    ],
)
def test_halves_are_joined_over_pieces(pieces: list[str], expected: str) -> None:
    assert expected == joined(*pieces)
    assert expected == whole("".join(pieces))


def test_only_a_first_half_is_held_back() -> None:
    halves = Surrogates()
    assert halves.join("ab" + HIGH) == "ab"
    assert halves.join("") == ""
    assert halves.join("c") == LONE + "c"
    assert halves.rest() == ""
    assert halves.join(HIGH) == ""
    assert halves.rest() == LONE
    assert halves.rest() == ""


any_text = st.text(st.sampled_from([HIGH, LOW, "a", "é", "😀"]), max_size=12)


@given(st.lists(any_text))
def test_cuts_change_nothing_and_what_is_given_is_text(pieces: list[str]) -> None:
    text = joined(*pieces)
    assert whole("".join(pieces)) == text
    assert text.encode().decode() == text


def test_json_with_halves_is_read() -> None:
    assert decode_json(rb'{"a":"\ud83d","b":[1,null]}') == {"a": HIGH, "b": [1, None]}
    assert decode_json(rb'"\ude00x"', str) == LOW + "x"
    assert decode_json(rb'"\ud83d\ude00"', str) == "😀"
    assert decode_json('"é\x7f"'.encode(), str) == "é\x7f"


class Typed(msgspec.Struct):
    """A type of ours."""

    a: str
    n: int = 0


def test_json_with_halves_becomes_the_type_that_was_asked_for() -> None:
    assert Typed(HIGH, 3) == decode_json(rb'{"a":"\uD83D","n":3,"z":"dropped"}', Typed)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a":1}',
        rb'{"a":"\ud83d","n":"3"}',
        rb'{"a":"\ud83d","n":NaN}',
        rb'{"a":"\ud83d","n":' + b"9" * 5_000 + b"}",
        rb'{"a":"\ud83d"} more',
        b'{"a":"\xff\\ud83d"}',
        b'{"a":"\xed\xa0\xbd"}',
        b'{"a":"secret',
        b"[" * 100_000,
        rb'["\ud83d",' + b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_one_error_that_repeats_nothing(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        decode_json(raw, Typed)
    assert str(caught.value) == "not the JSON that was expected"


@given(st.binary(max_size=60))
def test_no_bytes_raise_another_error(raw: bytes) -> None:
    try:
        value = decode_json(raw + rb'"\ud83d"')
    except msgspec.DecodeError:
        return
    assert isinstance(value, str)
