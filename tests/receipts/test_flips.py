"""One bit of a receipt, a proof or a checkpoint is changed, and nobody accepts what is left.

`TOCSIN_FLIPS=1000000` tries more.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest
from receipts.attack_making import world
from receipts.small_log import SmallLog

from tocsin.errors import ProofInvalid
from tocsin.receipts import open_checkpoint, verify, verify_growth

FLIPS = int(os.environ.get("TOCSIN_FLIPS", "100000"))
PARTS = 4

Accepts = Callable[[bytes], object]


def artefacts(log: SmallLog, rng: random.Random) -> Iterator[tuple[bytes, Accepts]]:
    """Things that hold, each with who accepts it; without end."""
    keys = [log.key]
    while True:
        log.receipt(f"r_{len(log.entries)}", _body(rng))
        size = len(log.entries)
        proof = log.proof(rng.randrange(size)).write().encode()
        yield proof, lambda raw: verify(raw, keys)
        yield log.checkpoint().encode(), lambda raw: open_checkpoint(raw, keys)
        old_size = rng.randrange(1, size)
        old, new = log.checkpoint(old_size).encode(), log.checkpoint().encode()
        growth = log.growth(old_size, size).write().encode()

        def as_old(raw: bytes, new: bytes = new, growth: bytes = growth) -> object:
            return verify_growth(raw, new, growth, keys)

        def as_new(raw: bytes, old: bytes = old, growth: bytes = growth) -> object:
            return verify_growth(old, raw, growth, keys)

        def as_growth(raw: bytes, old: bytes = old, new: bytes = new) -> object:
            return verify_growth(old, new, raw, keys)

        yield from ((old, as_old), (new, as_new), (growth, as_growth))


def _body(rng: random.Random) -> bytes:
    scores = ",".join(str(rng.random()) for _ in range(rng.randrange(1, 40)))
    return b'{"schema":"tocsin.receipt/1","scores":[%s]}' % scores.encode()


def accepted(raw: bytes, accepts: Accepts) -> bool:
    try:
        accepts(raw)
    except ProofInvalid:
        return False
    return True


@pytest.mark.parametrize("part", range(PARTS))
def test_no_change_of_a_single_bit_is_accepted(part: int) -> None:
    rng = random.Random(f"flips {part}")
    left = FLIPS // PARTS
    for raw, accepts in artefacts(world(), rng):
        assert accepted(raw, accepts)
        bits = rng.sample(range(len(raw) * 8), min(left, len(raw) * 4))
        for bit in bits:
            changed = bytearray(raw)
            changed[bit // 8] ^= 1 << bit % 8
            assert not accepted(bytes(changed), accepts), (raw, bit)
        left -= len(bits)
        if not left:
            return


def test_every_bit_of_one_proof_counts() -> None:
    log = SmallLog("a")
    for i in range(3):
        log.receipt(f"r{i}", b"{}")
    raw = log.proof(1).write().encode()
    keys = [log.key]
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert not accepted(bytes(changed), lambda found: verify(found, keys)), bit


def test_no_cut_off_proof_is_accepted() -> None:
    log = world()
    keys = [log.key]
    old, new = log.checkpoint(5).encode(), log.checkpoint().encode()
    growth = log.growth(5, 13).write().encode()
    proof = log.proof(6).write().encode()
    for raw, accepts in (
        (proof, lambda found: verify(found, keys)),
        (new, lambda found: open_checkpoint(found, keys)),
        (growth, lambda found: verify_growth(old, new, found, keys)),
    ):
        for at in range(len(raw)):
            assert not accepted(raw[:at], accepts), at
            assert not accepted(raw[at + 1 :], accepts), at
            assert not accepted(raw[:at] + raw[at + 1 :], accepts), at
            assert not accepted(raw[:at] + raw[at : at + 1] + raw[at:], accepts), at


def test_lines_in_another_order_are_not_accepted() -> None:
    log = world()
    raw = log.proof(6).write()
    lines = raw.split("\n")
    for i in range(len(lines)):
        for j in range(i):
            changed = list(lines)
            changed[i], changed[j] = changed[j], changed[i]
            text = "\n".join(changed)
            if text != raw:
                assert not accepted(text.encode(), lambda found: verify(found, [log.key]))
