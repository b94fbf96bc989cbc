"""Normal forms: a pure function of the text, with places that lead back to what was written."""

from __future__ import annotations

import importlib.util
import random
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from tocsin.errors import InputError
from tocsin.limits import DECODE_LEVELS, MARKS_MAX
from tocsin.stream.folding import fold_cluster
from tocsin.stream.normal_forms import FORMS, decoded, folded, forms, squeezed
from tocsin.stream.pieces import Piece
from tocsin.stream.reveal import HIDDEN
from tocsin.testing.verifiers import generated_text


def _load(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OBFUSCATORS = _load("obfuscators").OBFUSCATORS
NAMES = tuple(FORMS)
VALUES = [
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "4111-1111-1111-1111",
    "DE89370400440532013000",
    "someone@example.com",
]
WORDS = ["password", "explode"]
HOSTILE = [
    *"aZ0 .%&\\=1@\n",
    *("%4", "%41", "%25", "%C3%A9", "%e6%97%a5", "%ff", "&amp;", "&#65", "&#x1F600;", "&lt"),
    *("&#x26;", "&#0000000000000000000000000000000000065;", "\\x41", "\\u0041", "\\u{1f600}"),
    *("\\ud83d\\ude00", "\\ud83d", "\\U0001f600", "==", "x" * 70, "ab" * 20, "deadbeef"),
    *("\u0301", "\u0345", "\u0304" * 30, "\u200b" * 3, "\u200b" * 40, "\u200b" * 120, "\u00ad"),
    *("й", "ё", "日", "か", "\u3099", "\uff8a", "\uff9e", "ㅎ", "ㅏ", "ㄴ", "\u1112", "\u1161"),
    *("\u11ab", "한", "ก", "ำ", "\u0e49", "क्षि", "ß", "İ", "Ⅷ", "\ufdfa", "①", "🅰", "٣", "ñ"),
    *("\ud800", "\udc00", "\U000e0041", "\U000e0100", "\ufe0f", "\U000e01b5", "\ufdd0", "\x00"),
    *("k i l l", "k.1-l", "p4ss1", "4111111111111111", "ῼ", "Η", "ή", "\x1b", "\r\n"),
]


def hostile_text(rng: random.Random) -> str:
    """Everything that a form must cope with, encoded and spread at random."""
    if rng.random() < 0.25:
        return generated_text(rng, 20)
    parts = [rng.choice(HOSTILE) for _ in range(rng.randrange(1, 10))]
    encoders = [OBFUSCATORS[name][0] for name in ("base64", "hex", "url", "html", "tags")]
    for i, part in enumerate(parts):
        if rng.random() < 0.3:
            plain = (part * 3 + "plain text").encode("utf-8", "ignore").decode()
            parts[i] = rng.choice(encoders)(plain, rng)
    text = "".join(parts)
    if rng.random() < 0.2:
        text = "".join(c + rng.choice(("", "", "\u200b", "\u200b" * 30)) for c in text)
    return text


def fed(name: str, pieces: Sequence[str]) -> Piece:
    """The form of a text in pieces, as one piece."""
    form = forms([name])[0]
    given = [*map(form.feed, pieces), form.close()]
    return Piece(
        "".join(piece.text for piece in given),
        [start for piece in given for start in piece.starts],
        [end for piece in given for end in piece.ends],
    )


def cuts(text: str, rng: random.Random) -> list[str]:
    places = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(1, 6)))
    return [text[a:b] for a, b in zip([0, *places], [*places, None], strict=True)]


def check_cuts(text: str, rng: random.Random) -> None:
    for name in NAMES:
        whole = fed(name, [text])
        assert fed(name, list(text)) == whole, (name, text)
        assert fed(name, cuts(text, rng)) == whole, (name, text)


def test_cuts_never_change_a_form() -> None:
    rng = random.Random(1)
    for _ in range(150):
        check_cuts(hostile_text(rng), rng)


@pytest.mark.slow
def test_cuts_never_change_a_form_of_two_thousand_texts() -> None:
    rng = random.Random(2)
    for _ in range(2_000):
        check_cuts(hostile_text(rng), rng)


def test_no_single_cut_of_a_short_text_changes_a_form() -> None:
    rng = random.Random(3)
    texts = [*HOSTILE, *("".join(rng.sample(HOSTILE, 3)) for _ in range(100))]
    for text in texts:
        for name in NAMES:
            whole = fed(name, [text])
            for cut in range(1, min(len(text), 40)):
                assert fed(name, [text[:cut], text[cut:]]) == whole, (name, text, cut)


def test_places_grow_and_lie_within_what_was_fed() -> None:
    rng = random.Random(4)
    for _ in range(150):
        text = hostile_text(rng)
        for name in NAMES:
            form = forms([name])[0]
            before, sent = 0, 0
            for piece in [*cuts(text, rng), None]:
                sent += len(piece or "")
                given = form.close() if piece is None else form.feed(piece)
                assert len(given.text) == len(given.starts) == len(given.ends)
                for start, end in zip(given.starts, given.ends, strict=True):
                    assert before <= start < end <= sent
                    before = start


def test_a_form_lags_by_no_more_than_it_says() -> None:
    rng = random.Random(5)
    for _ in range(100):
        text = hostile_text(rng)
        for name in NAMES:
            form = forms([name])[0]
            starts = fed(name, [text]).starts
            given = 0
            for sent, char in enumerate(text, 1):
                given += len(form.feed(char).text)
                late = starts[given] if given < len(starts) else sent
                assert sent - late <= form.lag_chars, (name, text)


def test_where_a_form_is_the_text_places_are_those_of_the_text() -> None:
    text = "plain words, in lower case; 12 of them.\n" * 20 + "私は日本語を書きます。"
    for name in NAMES:
        form = forms([name])[0]
        given = form.feed(text)
        rest = form.close()

        assert given.text + rest.text == text
        assert [*given.starts, *rest.starts] == list(range(len(text)))
        assert [*given.ends, *rest.ends] == list(range(1, len(text) + 1))
        assert isinstance(given.starts, range) and isinstance(given.ends, range)


@pytest.mark.parametrize("name", [n for n, (_, form) in OBFUSCATORS.items() if form])
def test_what_was_obfuscated_reads_the_same_in_the_form_that_undoes_it(name: str) -> None:
    obfuscate, form = OBFUSCATORS[name]
    rng = random.Random(6)
    for value in WORDS if form == "squeezed" else VALUES:
        hidden = obfuscate(value, rng)
        assert folded(value) in fed(form, [f"see {hidden} here"]).text, (value, hidden)


@pytest.mark.parametrize("name", [n for n, (_, form) in OBFUSCATORS.items() if form])
def test_the_places_of_what_is_found_are_what_was_planted(name: str) -> None:
    obfuscate, form = OBFUSCATORS[name]
    rng = random.Random(7)
    for value in WORDS if form == "squeezed" else VALUES:
        hidden = obfuscate(value, rng)
        text = f"Look, there: {hidden} , and so on."
        for pieces in ([text], list(text), cuts(text, rng)):
            found = fed(form, pieces)
            at = found.text.find(folded(value))
            assert at >= 0, (value, found.text)
            begin = found.starts[at]
            end = found.ends[at + len(folded(value)) - 1]
            # What carries nothing may stay: an emoji before, padding behind.
            before, _, behind = hidden.partition(text[begin:end])
            assert begin == text.index(hidden) + len(before)
            assert before in ("", "\U0001f600")
            assert not behind.strip("=") or (name == "base64_twice" and len(behind) <= 4)


def test_folding_twice_is_folding_once() -> None:
    rng = random.Random(8)
    for _ in range(300):
        once = folded(hostile_text(rng))
        assert folded(once) == once


def test_every_character_folds_to_something_that_folds_to_itself() -> None:
    for code in range(0x20, 0x3100):
        if not HIDDEN.match(chr(code)):
            once = fold_cluster(chr(code))
            assert once and fold_cluster(once) == once and folded(once) == folded(folded(once))


def test_letters_that_look_latin_are_latin() -> None:
    assert folded("ΑΚІА ΡаүΡаl ѕсоре ｆｕｌｌ 𝓼𝓬𝓻𝓲𝓹𝓽 ⓒⓘⓡⓒⓛⓔ 🅑🅛🅐🅒🅚 🆂🆀 ꜱᴍᴀʟʟ ᴄᴀᴘꜱ") == (
        "akia paypal scope full script circle black sq small caps"
    )
    assert folded("łøđ Straße ﬁne №") == "lod strasse fine no"
    assert folded("٤١١١ ४१ ①② ❸ 𝟙") == "4111 41 12 3 1"


def test_marks_go_from_latin_letters_and_stay_where_letters_need_them() -> None:
    assert folded("k\u0336i\u0301\u0327l\u0300l é Ä \u0430\u0301") == "kill e a a"
    for text in ("क्षि", "ที่", "שָׁלוֹם", "й", "がぎ"):
        assert folded(text) == unicodedata.normalize("NFKC", text)
    assert folded(unicodedata.normalize("NFD", "한글 がぎ")) == "한글 がぎ"
    assert len(folded("日" + "\u0302" * 500)) <= 1 + MARKS_MAX


def test_hidden_text_is_shown_and_nothing_else_of_what_hides_it() -> None:
    assert folded("\u200bk\u00adi\u2060l\ufe0fl\x00") == "kill"
    assert folded("\U000e0001\U000e0048\U000e0069\U000e007f!") == "hi!"
    hidden = OBFUSCATORS["emoji_smuggling"][0]("Grüße 日", random.Random(0))
    assert folded(hidden) == "\U0001f600grusse 日"
    assert folded("❤\ufe0f 1\ufe0f\u20e3") == "❤ 1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k i l l", "kill"),
        ("k.i.l.l it, d-i-e", "kill it, die"),
        ("I am a b c d", "i am abcd"),
        ("a b", "a b"),
        ("1 2 3 4 5", "1 2 3 4 5"),
        ("p4$$w0rd k1ll pl4n he1p", "password kill plan help"),
        ("in 2024, 4111 or 3d", "in 2024, 4111 or 3d"),
        ("s p 4 c e d the end", "spaced the end"),
    ],
)
def test_squeezing_joins_letters_and_reads_digits(text: str, expected: str) -> None:
    assert squeezed(text) == expected


def test_an_unknown_form_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="'upside_down' is unknown; use one of folded, decoded"):
        forms(["upside_down"])


def test_forms_do_not_know_of_each_other() -> None:
    one, other = (form for form in forms(["decoded", "decoded"]))
    assert one.feed("%4").text + other.feed("1 ").text + one.feed("1 ").text == "1 a "
    assert not one.close().text and not other.close().text


BOMBS = {
    "marks": "a" + "\u0301" * 200_000,
    "marks on kanji": "日" + "\u0301" * 200_000,
    "zero width": "word日" + "\u200b" * 200_000,
    "percent": "%" * 100_000,
    "percent 25": "%" + "25" * 100_000,
    "ampersands": "&" * 100_000,
    "zeros in an entity": "&#x" + "0" * 200_000 + "41;",
    "entities": "&#x41;" * 30_000,
    "backslashes": "\\" * 100_000,
    "digits": "x1" * 100_000,
    "ligatures": "\ufdfa" * 100_000,
    "spelled": "k " * 100_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_gives_no_more_than_four_times_its_size_and_little_is_held(bomb: str) -> None:
    text = BOMBS[bomb]
    for name in NAMES:
        form = forms([name])[0]
        given, held = 0, 0
        for at in range(0, len(text), 1_000):
            piece = form.feed(text[at : at + 1_000])
            given += len(piece.text)
            held = max(held, sys.getsizeof(form) + _held(form))
        given += len(form.close().text)
        assert given <= 4 * len(text)
        assert held <= 4 * form.lag_chars + 1_000


def _held(form: object) -> int:
    """Characters that the stages of a form keep."""
    stages = form._stages  # type: ignore[attr-defined]
    return sum(len(getattr(stage, "_held", Piece("", (), ())).text) for stage in stages)


def test_work_grows_with_the_text_and_not_faster() -> None:
    """Counted in calls of Python functions, which no other load on the machine disturbs."""
    for name in NAMES:
        for bomb in ("%", "&", "&#x41;", "x1", "k ", "日\u0301", "%25", "=", "YWFh", "\\"):
            small, large = (_calls(name, bomb * (size // len(bomb))) for size in (2_000, 8_000))
            assert large <= 5 * small + 200, (name, bomb)


def _calls(name: str, text: str) -> int:
    count = 0

    def profile(_frame: object, _event: str, _argument: object) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        fed(name, [text])
    finally:
        sys.setprofile(before)
    return count


def test_only_so_many_levels_are_decoded() -> None:
    text = "Attention, this was hidden well"
    for level in range(1, 10):
        rng = random.Random(0)
        text = OBFUSCATORS["base64"][0](text, rng)
        shown = "attention, this was hidden well" in decoded(text)
        assert shown == (level <= DECODE_LEVELS), level
    assert decoded("%2525252541") == "%2541"
