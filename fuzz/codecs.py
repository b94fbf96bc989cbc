"""The codecs: the events are the same however the bytes are cut, and no bytes raise.

What is decoded is written again and reads the same, as a stream and as a body; a stream that is
blocked anywhere ends as its API wants it; strings beside the texts are identifiers.
"""

from __future__ import annotations

from collections.abc import Callable

from fuzz import answers
from fuzz.dice import Dice
from fuzz.laws import check_body, check_stream
from tocsin.stream.codecs import CODECS
from tocsin.stream.events import Api


def target(api: Api) -> Callable[[bytes], None]:
    """Give what checks one input on an API."""
    codec = CODECS[api]

    def one(data: bytes) -> None:
        dice = Dice(data)
        request = answers.asked(dice, api)
        sizes = [1 + dice.below(256) for _ in range(3)]
        match dice.below(4):
            case 0:
                raw, said = answers.stream(dice, request)
                check_stream(codec, request, raw, said, sizes, dice)
            case 1:
                raw, said = answers.body(dice, request)
                check_body(codec, request, raw, said, dice)
            case 2:
                check_stream(codec, request, dice.rest(), None, sizes, dice)
            case _:
                check_body(codec, request, dice.rest(), None, dice)

    return one
