"""Steps: their texts joined are the text, and no cut of the text into chunks changes them."""

from __future__ import annotations

import itertools
import random

import pytest

from tocsin import limits
from tocsin.errors import InputError
from tocsin.stream.steps import KINDS, Segmenter, Step, StepDefinition
from tocsin.testing.verifiers import generated_text

DEFINITIONS = ["chars:1", "chars:7", "tokens:1", "tokens:5", "line", "sentence", "paragraph"]
DEFINITIONS += ["reasoning", "turn", "tool_call"]
IN_TEXT = [name for name in DEFINITIONS if name not in {"turn", "tool_call"}]


def cut(definition: str, pieces: list[str]) -> list[Step]:
    segmenter = Segmenter(StepDefinition.parse(definition))
    found = [step for piece in pieces for step in segmenter.feed(piece)]
    return found + segmenter.close()


def texts(definition: str, text: str) -> list[str]:
    return [step.text for step in cut(definition, [text])]


# ------------------------------------------------------------------------------------- invariance


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_cuts_never_change_a_step(definition: str) -> None:
    rng = random.Random(1)
    for _ in range(300):
        text = generated_text(rng, 60)
        whole = cut(definition, [text])

        assert "".join(step.text for step in whole) == text
        assert all(text[step.start : step.end] == step.text for step in whole)
        assert cut(definition, list(text)) == whole
        places = sorted(rng.randrange(len(text) + 1) for _ in range(4))
        pieces = [text[a:b] for a, b in itertools.pairwise([0, *places, len(text)])]
        assert cut(definition, pieces) == whole


AWKWARD = [
    "x" * 4_090 + "\n" + " " * 100 + "\nrest",
    "x" * 4_090 + "\n" + " " * 20 + "\nrest",
    "x" * 4_095 + ". Next one.",
    "x" * 4_096 + ". Next one.",
    "x" * 4_094 + "\n1. item\n",
    "x" * 4_140 + "\n\n" + "y" * 5_000,
    "a. " * 3_000,
    "\n" * 9_000,
    " " * 9_000 + "word.",
    "." * 9_000,
    "1. " * 3_000,
    "Step " * 2_000,
    "\n-" * 4_500,
    "é" * 9_000,
]


@pytest.mark.parametrize("definition", IN_TEXT)
@pytest.mark.parametrize("text", AWKWARD, ids=range(len(AWKWARD)))
def test_cuts_never_change_a_step_at_the_longest_length(definition: str, text: str) -> None:
    whole = cut(definition, [text])

    assert "".join(step.text for step in whole) == text
    assert max(len(step.text) for step in whole) <= limits.STEP_CHARS_MAX
    assert cut(definition, list(text)) == whole
    for size in (3, 17, 4_096, 4_097, 4_144):
        assert cut(definition, [text[i : i + size] for i in range(0, len(text), size)]) == whole


def test_a_turn_that_never_ends_is_cut_at_its_limit() -> None:
    text = "x" * (limits.TURN_CHARS_MAX + 5)
    whole = cut("turn", [text])

    assert [len(step.text) for step in whole] == [limits.TURN_CHARS_MAX, 5]
    assert cut("turn", [text[:1000], text[1000:]]) == whole


@pytest.mark.parametrize("definition", IN_TEXT)
def test_what_is_buffered_is_bounded(definition: str) -> None:
    segmenter = Segmenter(StepDefinition.parse(definition))
    held = 0
    for _ in range(20_000):
        segmenter.feed("\n ")
        held = max(held, segmenter.end - segmenter.start)

    assert held <= limits.STEP_CHARS_MAX + 64


# ---------------------------------------------------------------------------------------- meaning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One. ", "Two! ", "Three? ", "Four"]),
        ("He said (really.) Then left.", ["He said (really.) ", "Then left."]),
        ('"Stop." She left.', ['"Stop." ', "She left."]),
        ("Dr. Ames and Mrs. Lee met. They spoke.", ["Dr. Ames and Mrs. Lee met. ", "They spoke."]),
        ("Use e.g. this one. Fine.", ["Use e.g. this one. ", "Fine."]),
        ("Pi is 3.14 or so. Yes.", ["Pi is 3.14 or so. ", "Yes."]),
        ("In the U.S. we vote.", ["In the U.S. we vote."]),
        ("Made in the U.S. Then shipped.", ["Made in the U.S. ", "Then shipped."]),
        ("Apples, pears, etc. are fruit.", ["Apples, pears, etc. are fruit."]),
        ("Apples, pears, etc. Fruit is good.", ["Apples, pears, etc. ", "Fruit is good."]),
        ("J. R. Smith wrote it. I read it.", ["J. R. Smith wrote it. ", "I read it."]),
        ("See fig. 3 and vol. 2. Done.", ["See fig. 3 and vol. 2. ", "Done."]),
        ("Wait... what? Yes.", ["Wait... ", "what? ", "Yes."]),
        ("1. First item. 2", ["1. First item. ", "2"]),
        ("Visit example.com now. Bye.", ["Visit example.com now. ", "Bye."]),
        ("東京です。はい！そう", ["東京です。", "はい！", "そう"]),
        ("z.B. so. Ende.", ["z.B. so. ", "Ende."]),
        ("A heading\n\nA text", ["A heading\n\n", "A text"]),
        ("List:\n- one\n- two", ["List:\n", "- one\n", "- two"]),
        ("Line one\nline two. End.", ["Line one\nline two. ", "End."]),
        ("no! i hate it. you too", ["no! ", "i hate it. ", "you too"]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert texts("sentence", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plan\n\nDo it\n \t\nEnd", ["Plan\n\n", "Do it\n \t\n", "End"]),
        ("First:\n1. add\n2) sub\nmore", ["First:\n", "1. add\n", "2) sub\nmore"]),
        ("Step 1: a\nStep 2: b\nSTEP 3", ["Step 1: a\n", "Step 2: b\n", "STEP 3"]),
        ("## Step 1\nx\n**Step 2** y", ["## Step 1\nx\n", "**Step 2** y"]),
        ("a\n- b\n* c\n-d", ["a\n", "- b\n", "* c\n-d"]),
        ("\n\n\nfirst\n\n\n\nsecond", ["\n\n\nfirst\n\n", "\n\nsecond"]),
        ("It was 2024\n2024 was good", ["It was 2024\n2024 was good"]),
    ],
)
def test_reasoning_steps(text: str, expected: list[str]) -> None:
    assert texts("reasoning", text) == expected


def test_lines_paragraphs_characters_and_tokens() -> None:
    assert texts("line", "a\r\nb\n\nc") == ["a\r\n", "b\n", "\n", "c"]
    assert texts("paragraph", "a\nb\n\nc\n1. d") == ["a\nb\n\n", "c\n1. d"]
    assert texts("chars:3", "abcdefg") == ["abc", "def", "g"]
    assert texts("tokens:2", "It is, say, incomprehensible") == [
        "It is",
        ", say",
        ", incomp",
        "rehensible",
    ]


def test_a_turn_ends_every_step_and_a_tool_call_all_but_turns() -> None:
    for name in KINDS:
        size = ":100" if name in {"chars", "tokens"} else ""
        segmenter = Segmenter(StepDefinition.parse(name + size))
        call = segmenter.feed("begun", "tool_call")
        turn = segmenter.feed(" and ended", "turn")
        expected = ["begun", " and ended"] if name != "turn" else ["begun and ended"]
        assert [step.text for step in call + turn] == expected
        assert len(call) == (name != "turn")


def test_an_empty_turn_is_a_step_where_turns_are_steps() -> None:
    def empty(name: str) -> list[Step]:
        return Segmenter(StepDefinition.parse(name)).feed("", "turn")

    assert empty("turn") == empty("tool_call") == [Step(start=0, end=0, text="")]
    assert empty("sentence") == empty("chars:4") == []


# ------------------------------------------------------------------------------------ definitions


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_definition_reads_what_it_writes(name: str) -> None:
    assert str(StepDefinition.parse(name)) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("word", "unknown"),
        ("", "unknown"),
        ("chars", "needs a size"),
        ("chars:0", "needs a size"),
        ("tokens:4097", "needs a size"),
        ("tokens:9999999999999999999999", "needs a size"),
        ("chars:²", "needs a size"),
        ("chars:-1", "needs a size"),
        ("line:3", "takes no size"),
    ],
)
def test_a_bad_definition_says_what_to_write(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        StepDefinition.parse(name)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_a_huge_delta_is_copied_no_more_often_than_many_small_ones(
    definition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    take = Segmenter._take

    def noted(self: Segmenter, size: int) -> Step:
        held.append(self._held - size)
        return take(self, size)

    monkeypatch.setattr(Segmenter, "_take", noted)
    text = "One. Two is it.\n\n" * 20_000
    found = Segmenter(StepDefinition.parse(definition)).feed(text, "turn")

    assert "".join(step.text for step in found) == text
    assert max(held) <= 3 * limits.STEP_CHARS_MAX
