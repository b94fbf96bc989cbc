"""One level of decoding, and what is left alone."""

from __future__ import annotations

import base64
import random

import pytest

from tocsin.stream.decoding import Decode
from tocsin.stream.escapes import BASE64, HEX, may_go_on, read_digits, read_escape
from tocsin.stream.normal_forms import decoded, forms
from tocsin.stream.pieces import raw


def once(text: str) -> str:
    """One level, fed character by character."""
    stage = Decode()
    given = [stage.push(raw(char, at), at + 1, final=False)[0].text for at, char in enumerate(text)]
    return "".join(given) + stage.push(raw("", len(text)), len(text), final=True)[0].text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%41%62c", "Abc"),
        ("%C3%A9%e6%97%a5%F0%9F%98%80.", "é日😀."),
        ("100% of %zz and %4", "100% of %zz and %4"),
        ("%ff%41%C3", "%ffA%C3"),
        ("&lt;b&gt; &amp;amp; &eacute;", "<b> &amp; é"),
        ("&#65;&#x42;&#x0043;&#68 &#x1f600;", "ABCD 😀"),
        ("&#0; &#xD800; &#x110000; &nosuch; A&B", "&#0; &#xD800; &#x110000; &nosuch; A&B"),
        (r"\x41\u0042\u{43}\U00000044", "ABCD"),
        (r"\ud83d\ude00 \xe9 \xc3\xa9 \ud83d!", r"😀 é é \ud83d!"),
        (r"C:\users\xavier \n \u12", r"C:\users\xavier \n \u12"),
    ],
)
def test_escapes_are_read_and_what_is_none_stays(text: str, expected: str) -> None:
    assert once(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "internationalization and supercalifragilistic",
        "src/tocsin/verifiers/patterns/really_long_name",
        "4242424242424242 and 6011000990139424000",
        "550e8400-e29b-41d4-a716-446655440000",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "aGVsbG8=",
        "----------------------------------------",
        "https://example.com/a/long/path/with-many-parts/and_more",
    ],
)
def test_what_only_looks_like_digits_is_left_alone(text: str) -> None:
    assert once(text) == text


@pytest.mark.parametrize("size", [12, 13, 14, 46, 47, 48, 49, 100, 1_000])
@pytest.mark.parametrize(
    "alphabet", ["plain words, and more: ", "Съешь ещё этих булок, ", "日本😀"]
)
def test_base64_of_any_length_is_decoded(size: int, alphabet: str) -> None:
    text = (alphabet * size)[:size]
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        coded = encode(text.encode()).decode()
        assert once(coded) == text
        assert once(coded.rstrip("=")) == text
        assert once(f"({coded})") == f"({text})"
        assert once(f"id{coded} x") == f"id{text} x"


@pytest.mark.parametrize("size", [8, 31, 32, 33, 500])
def test_hexadecimal_digits_are_decoded(size: int) -> None:
    text = ("klmno, é; " * size)[:size]
    assert once(text.encode().hex()) == text
    assert once(f"0x{text.encode().hex().upper()} !") == f"0x{text} !"


def test_longer_runs_of_decimal_digits_may_be_hexadecimal() -> None:
    assert once("44453839333730343030343430353332303133303030") == "DE89370400440532013000"
    assert once("12345678901234567890") == "12345678901234567890"


def test_lines_of_base64_are_decoded_line_by_line() -> None:
    text = "All of this is quite harmless, but it is long enough for three lines of it. " * 2
    coded = base64.encodebytes(text.encode()).decode()
    assert once(coded).replace("\n", "") == text


def test_a_run_that_ceases_to_be_text_is_left_from_there() -> None:
    good = "Some text that is readable and long enough for one window. "[:48]
    noise = random.Random(0).randbytes(480)
    coded = base64.b64encode(good.encode() + noise).decode()
    assert once(coded) == good + coded[64:]


def test_a_character_of_base64_maps_to_its_group_of_four() -> None:
    text = "see " + base64.b64encode(b"abcdefghijkl").decode() + "."
    form = forms(["decoded"])[0]
    pieces = [form.feed(text), form.close()]
    starts = [start for piece in pieces for start in piece.starts]
    ends = [end for piece in pieces for end in piece.ends]
    assert starts == [0, 1, 2, 3, *(4 + i // 3 * 4 for i in range(12)), 20]
    assert ends == [1, 2, 3, 4, *(8 + i // 3 * 4 for i in range(12)), 21]


def test_places_lead_through_all_levels_to_the_raw_text() -> None:
    inner = base64.b64encode(b"secret token here").decode()
    text = "x " + "".join(f"%{ord(c):02x}" for c in inner) + " y"
    form = forms(["decoded"])[0]
    pieces = [form.feed(text), form.close()]
    found = "".join(piece.text for piece in pieces)
    starts = [start for piece in pieces for start in piece.starts]
    ends = [end for piece in pieces for end in piece.ends]
    assert found == "x secret token here y"
    at = found.index("secret token here")
    assert (starts[at], ends[at + 16]) == (2, 2 + 3 * len(inner.rstrip("=")))


def test_case_is_folded_only_behind_decoding() -> None:
    assert decoded(base64.b64encode(b"MiXeD CaSe InSiDe").decode()) == "mixed case inside"


def test_hidden_characters_within_an_encoding_do_not_save_it() -> None:
    coded = base64.b64encode(b"hidden in plain sight").decode()
    assert decoded("\u200b".join(coded)) == "hidden in plain sight"
    assert decoded("％４１&#8203;％42") == "ab"


def test_an_escape_is_waited_for_only_while_it_may_go_on() -> None:
    for begin in ("%", "%4", "%C3", "%C3%", "&", "&#", "&#x4", "&am", "\\", "\\u00", "\\ud83d"):
        assert may_go_on(begin), begin
    for text in ("% ", "%4g", "& ", "&# ", "&am ", "\\n", "\\u00g", "&amp;", "%41 "):
        assert not may_go_on(text), text


def test_digits_are_judged() -> None:
    assert read_escape("&") is None
    assert read_digits("//////////////////////", BASE64, 0, whole=True) is None
    assert read_digits("zz", HEX, 0, whole=True) is None
    partial = read_digits("w6nDqcOp", BASE64, 0, whole=False)
    assert partial is not None and "".join(c for c, _, _ in partial.chars) == "ééé"
    split = read_digits("YWHDqWFhw6k"[:8], BASE64, 0, whole=False)
    assert split is not None and (split.used, split.skip) == (8, 0)
    unfinished = read_digits("YWHD", BASE64, 0, whole=False)
    assert unfinished is not None and (unfinished.used, unfinished.skip) == (0, 2)
