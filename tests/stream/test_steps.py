"""Steps: their texts joined are the text, and no cut of the text into chunks changes them."""

from __future__ import annotations

import random

import pytest

from tocsin.stream.steps import Segmenter, Step, StepDefinition
from tocsin.testing.verifiers import generated_text

DEFINITIONS = ["chars:1", "chars:7", "tokens:1", "tokens:5", "line", "sentence", "paragraph"]
DEFINITIONS += ["reasoning", "turn", "tool_call"]


def cut(definition: str, pieces: list[str]) -> list[Step]:
    segmenter = Segmenter(StepDefinition.parse(definition))
    found = [step for piece in pieces for step in segmenter.feed(piece)]
    return found + segmenter.close()


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_cuts_never_change_a_step(definition: str) -> None:
    rng = random.Random(1)
    for _ in range(300):
        text = generated_text(rng, 60)
        whole = cut(definition, [text])

        assert "".join(step.text for step in whole) == text
        assert cut(definition, list(text)) == whole
        places = sorted(rng.randrange(len(text) + 1) for _ in range(4))
        pieces = [text[a:b] for a, b in zip([0, *places], [*places, None], strict=True)]
        assert cut(definition, pieces) == whole
