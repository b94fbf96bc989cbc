"""Receipts that somebody brings along: read, or `ProofInvalid`; keys, or `InputError`.

What is read writes back as the same bytes. Where a proof, a checkpoint or a proof of growth is
accepted, it says what was signed: nothing but signatures by unknown keys may have been added.
"""

from __future__ import annotations

from collections.abc import Callable

from fuzz.dice import Dice
from tocsin.errors import InputError, ProofInvalid
from tocsin.receipts import (
    Checkpoint,
    ConsistencyProof,
    Frontier,
    LogEntry,
    Signer,
    TlogProof,
    leaf_hash,
    note,
    open_checkpoint,
    origin_of,
    read_keys,
    sign_checkpoint,
    verify,
    verify_growth,
)
from tocsin.receipts.checkpoint import read_text
from tocsin.receipts.entry import read_entry
from tocsin.receipts.merkle import consistency_path, inclusion_path, root_at
from tocsin.receipts.proof import read_consistency, read_proof

SIZE = 9
AT = 4
OLD = 6
_PIECES = (
    b"", b"\n", b"\n\n", b" ", b"\r", b"\x00", b"0", b"1", b"=", b"+", b"/", b"A", "— ".encode(),
    b"\xe2\x80", b"\xff", b"extra ", b"index ", b"old ", b"new ", b"index 4\n", b'"id":"x",', b"{",
    b"}", b'"', b"\\u0061", b"example.com/log/acme\n", b"example.com/log/evil\n", b"9\n", b"-",
    ("A" * 43 + "=\n").encode(), b"c2sp.org/tlog-proof@v1\n", b"tocsin/consistency@v1\n",
)  # fmt: skip


class _World:
    """A small log, and what it gives away of itself."""

    def __init__(self) -> None:
        self.signer = Signer.from_seed("example.com/log", bytes(32))
        origin = origin_of("example.com/log", "acme")
        self.keys = (self.signer.public.named(origin),)
        nodes: dict[tuple[int, int], bytes] = {}
        frontier = Frontier()
        self.entries = [
            LogEntry(
                tenant="acme", kind="receipt", id=f"r_{i}", sequence=i, body=b'{"alarms":1}'
            ).write()
            for i in range(SIZE)
        ]
        for raw in self.entries:
            for stored in frontier.append(leaf_hash(raw)):
                nodes[stored.level, stored.index] = stored.hash

        def node(level: int, index: int) -> bytes:
            return nodes[level, index]

        def checkpoint(size: int) -> str:
            return sign_checkpoint(Checkpoint(origin, size, root_at(size, node)), self.signer)

        self.old, self.new = checkpoint(OLD).encode(), checkpoint(SIZE).encode()
        path = tuple(inclusion_path(AT, SIZE, node))
        self.proof = TlogProof(
            index=AT, path=path, checkpoint=self.new.decode(), extra=self.entries[AT]
        ).write().encode()  # fmt: skip
        steps = tuple(consistency_path(OLD, SIZE, node))
        self.growth = ConsistencyProof(old=OLD, new=SIZE, path=steps).write().encode()


WORLD = _World()


def one(data: bytes) -> None:
    """Check one input."""
    dice = Dice(data)
    match dice.below(6):
        case 0:
            _reads(dice.rest())
        case 1:
            raw = _spoilt(dice, WORLD.proof)
            _reads(raw)
            _holds(lambda raw: verify(raw, WORLD.keys), raw, WORLD.proof)
        case 2:
            raw = _spoilt(dice, WORLD.new)
            _reads(raw)
            _holds(lambda raw: open_checkpoint(raw, WORLD.keys), raw, WORLD.new)
        case 3:
            raw = _spoilt(dice, WORLD.growth)
            _reads(raw)
            try:
                verify_growth(WORLD.old, WORLD.new, raw, WORLD.keys)
            except ProofInvalid:
                assert raw != WORLD.growth
            else:
                assert raw == WORLD.growth
        case 4:
            _reads(_spoilt(dice, WORLD.entries[AT]))
        case _:
            _keys(_spoilt(dice, WORLD.keys[0].line.encode()))


def _reads(raw: bytes) -> None:
    """Nothing is read that would be written otherwise."""
    readers: tuple[Callable[[bytes], bytes], ...] = (
        lambda raw: read_proof(raw).write().encode(),
        lambda raw: read_consistency(raw).write().encode(),
        lambda raw: note.read(raw).write().encode(),
        lambda raw: read_entry(raw).write(),
        lambda raw: read_text(raw.decode("utf-8", "replace")).text.encode("utf-8", "replace"),
    )
    for read in readers:
        try:
            written = read(raw)
        except ProofInvalid:
            continue
        assert written == raw or b"\xef\xbf\xbd" in written


def _keys(raw: bytes) -> None:
    text = raw.decode("utf-8", "replace")
    try:
        keys = read_keys(text)
    except InputError:
        return
    lines = [line.strip() for line in text.split("\n")]
    assert [key.line for key in keys] == [x for x in lines if x and not x.startswith("#")]


def _holds(accepts: Callable[[bytes], object], raw: bytes, good: bytes) -> None:
    """What was signed is accepted, and what is accepted is what was signed."""
    try:
        found = accepts(raw)
    except ProofInvalid:
        assert raw != good
        return
    assert found == accepts(good)
    assert raw.rpartition(b"\n\n")[0] == good.rpartition(b"\n\n")[0]


def _spoilt(dice: Dice, raw: bytes) -> bytes:
    """Cut out, put in, flip, repeat or move: at a few places."""
    for _ in dice.some(4):
        at = dice.below(256) * 256 + dice.below(256)
        at %= len(raw) + 1
        match dice.below(6):
            case 0:
                raw = raw[:at] + raw[at + 1 + dice.below(48) :]
            case 1:
                raw = raw[:at] + dice.one(_PIECES) + raw[at:]
            case 2 if at < len(raw):
                raw = raw[:at] + bytes([raw[at] ^ 1 << dice.below(8)]) + raw[at + 1 :]
            case 3:
                raw = raw[:at] + raw[at : at + dice.below(100)] + raw[at:]
            case 4:
                raw = raw[:at] + dice.one(_PIECES) + raw[at + 1 + dice.below(8) :]
            case _:
                lines = raw.split(b"\n")
                lines.insert(dice.below(len(lines)), lines.pop(at % len(lines)))
                raw = b"\n".join(lines)
    return raw
