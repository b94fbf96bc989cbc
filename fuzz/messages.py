"""The codec of messages: the events are the same however the bytes are cut, and no bytes raise.

What is decoded is written again and reads the same, as a stream and as a body; a stream that is
blocked anywhere ends as its API wants it; strings beside the texts are identifiers.
"""

from __future__ import annotations

from fuzz import answers
from fuzz.dice import Dice
from fuzz.laws import check_body, check_stream
from tocsin.stream.codecs import CODECS

CODEC = CODECS["messages"]


def one(data: bytes) -> None:
    """Check one input."""
    dice = Dice(data)
    request = answers.asked(dice, CODEC.api)
    sizes = [1 + dice.below(256) for _ in range(3)]
    match dice.below(4):
        case 0:
            raw, said = answers.stream(dice, request)
            check_stream(CODEC, request, raw, said, sizes, dice)
        case 1:
            raw, said = answers.body(dice, request)
            check_body(CODEC, request, raw, said, dice)
        case 2:
            check_stream(CODEC, request, dice.rest(), None, sizes, dice)
        case _:
            check_body(CODEC, request, dice.rest(), None, dice)
