"""Server-sent events: what is read is what the standard says, however the bytes are cut.

No bytes raise, and what is written is read back; a text can begin no field and no event.
"""

from __future__ import annotations

from reference import sse as standard

from fuzz.dice import Dice, cut
from fuzz.spoiling import TEXTS
from tocsin.limits import SSE_NAME_BYTES_MAX
from tocsin.stream import sse
from tocsin.stream.codec import Frame

_LINES = (
    b"data: ", b"data:", b"data", b"event: ", b"event:ping", b"id: 7", b"retry: 1", b": note",
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\xef\xbb\xbf", b"x", b" ", b":", b'{"a": 1}', b"\0",
    b"\xff", b"x" * SSE_NAME_BYTES_MAX, b"dat", b"a: b",
)  # fmt: skip


def one(data: bytes) -> None:
    """Check one input."""
    dice = Dice(data)
    sizes = [1 + dice.below(16), 1 + dice.below(256), 1 + dice.below(4)]
    match dice.below(3):
        case 0:
            _check_reading(dice.rest(), sizes)
        case 1:
            _check_reading(b"".join(dice.one(_LINES) for _ in dice.some(64)), sizes)
        case _:
            _check_writing(dice, sizes)


def _read(pieces: list[bytes]) -> tuple[list[tuple[str, bytes]], str]:
    reader = sse.SseReader()
    found = [event for piece in pieces for event in reader.feed(piece)]
    found += reader.close()
    if reader.failed:
        assert reader.feed(b"data: 1\n\n") == []
        assert reader.close() == []
    return found, reader.failed


def _check_reading(raw: bytes, sizes: list[int]) -> None:
    whole = _read([raw])
    assert whole == _read(cut(raw, sizes))
    assert whole == _read(cut(raw, [1]))
    expected = standard.events(raw)
    if whole[1]:
        assert whole[0] == expected[: len(whole[0])]
    else:
        assert whole[0] == expected


def _check_writing(dice: Dice, sizes: list[int]) -> None:
    made, expected = [], []
    for _ in dice.some(6):
        text = dice.rest().decode("utf-8", "surrogateescape") if dice.flag() else dice.one(TEXTS)
        name = dice.one(("", "ping", "a\nb", "message_start", "data: x\r\n\r\n"))
        made.append(sse.encode([Frame(text, name)]))
        if dice.flag():
            made.append(sse.comment(text))
        lines = text.encode("utf-8", "replace").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        expected.append((name.replace("\r", "").replace("\n", ""), lines))
    assert (expected, "") == _read(cut(b"".join(made), sizes))
