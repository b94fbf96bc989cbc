"""Every fuzz target, without a fuzzer: the inputs that were kept, and seeded others like them.

`python3 dev.py fuzz NAME` looks for new ones.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.dice import Dice, cut
from fuzz.spoiling import places, spoil

FOLDER = Path(__file__).parent.parent / "fuzz"
NOT_TARGETS = {"__init__", "__main__", "answers", "codecs", "dice", "laws", "spoiling"}
TARGETS = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in NOT_TARGETS)
RUNS = 400
LENGTH_MAX = 96


def kept(target: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((FOLDER / "corpus" / target).iterdir())]


def others(target: str) -> Iterator[bytes]:
    """Half of them random, half of them kept ones with some bytes changed, added or cut off."""
    rng = random.Random(f"fuzz {target}")
    inputs = kept(target)
    for _ in range(RUNS // 2):
        yield rng.randbytes(rng.randrange(LENGTH_MAX))
        data = bytearray(rng.choice(inputs))
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        yield bytes(data[: rng.choice((len(data), rng.randrange(len(data) + 1)))])


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_target_claims_holds_for_the_inputs_that_were_kept(target: str) -> None:
    inputs = kept(target)
    assert 10 <= len(inputs) <= 60
    for data in inputs:
        importlib.import_module(f"fuzz.{target}").one(data)


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_target_claims_holds_for_other_inputs(target: str) -> None:
    one = importlib.import_module(f"fuzz.{target}").one
    for data in others(target):
        one(data)


def test_there_is_a_target_for_each_part_that_reads_what_strangers_write() -> None:
    wanted = ["chat", "config", "guarded", "heads", "messages", "receipts", "requests", "responses"]
    wanted.append("sse")
    assert wanted == TARGETS
    assert wanted == sorted(path.name for path in (FOLDER / "corpus").iterdir())


def test_the_pieces_of_a_cut_are_the_whole() -> None:
    data = bytes(range(256)) * 8
    for sizes in ([1], [1, 7, 2], [4096]):
        pieces = cut(data, sizes)
        assert data == b"".join(pieces)
        assert [min(sizes[0], len(data))] == [len(pieces[0])]


def test_dice_that_are_used_up_give_the_first_choice() -> None:
    dice = Dice(bytes([7]))
    first, second, third = dice.below(4), dice.below(4), dice.one("abc")
    assert (first, second, third, dice.rest()) == (3, 0, "a", b"")


def test_spoiling_changes_any_place() -> None:
    def right() -> dict[str, object]:
        return {"a": [1, {"b": 2}], "c": {}}

    found = [key for _, key in places(right())]
    assert sorted(map(str, found)) == ["0", "1", "a", "b", "c"]
    spoilt = []
    for place in range(len(found)):
        value = right()
        spoil(Dice(bytes([1, place, 4])), value)  # once, there, by leaving it out
        spoilt.append(value)
    assert right() not in spoilt
    assert len(set(map(str, spoilt))) == len(found)
