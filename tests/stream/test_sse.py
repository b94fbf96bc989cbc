"""Server-sent events: the same events however the bytes are cut, and no event that text made."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import sse as reference

from tocsin.limits import SSE_EVENT_BYTES_MAX, SSE_NAME_BYTES_MAX
from tocsin.stream.codec import Frame
from tocsin.stream.sse import SseReader, comment, encode

Events = list[tuple[str, bytes]]


def read(*pieces: bytes) -> Events:
    """Everything that a reader gives, its closing too."""
    reader = SseReader()
    found = [event for piece in pieces for event in reader.feed(piece)]
    return found + reader.close()


CASES: list[tuple[bytes, Events]] = [
    (b"data: 1\n\n", [("", b"1")]),
    (b"data: 1\r\n\r\n", [("", b"1")]),
    (b"data: 1\r\r", [("", b"1")]),
    (b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\r\n", [("", b"1"), ("", b"2"), ("", b"3")]),
    (b"\xef\xbb\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n", [("", b"1")]),
    (b": ping\n\ndata: 1\n: in between\ndata: 2\n\n", [("", b"1\n2")]),
    (b"event: a\ndata: 1\n\ndata: 2\n\n", [("a", b"1"), ("", b"2")]),
    (b"event: a\n\ndata: 2\n\n", [("", b"2")]),
    (b"data: 1\nevent: a\nevent: b\n\n", [("b", b"1")]),
    (b"data\n\ndata:\n\ndata:\ndata:\n\n", [("", b""), ("", b""), ("", b"\n")]),
    (b"data:1\n\ndata:  2\n\n", [("", b"1"), ("", b" 2")]),
    (b"id: 7\nretry: 1\nother: x\nDATA: y\n\n", []),
    (b"data: 1\n\ndata: 2", [("", b"1"), ("", b"2")]),
    (b"data: 1\n\ndata: 2\n", [("", b"1"), ("", b"2")]),
    (b"\n\n\r\n\rdata: 1\n\n\n\n", [("", b"1")]),
    ("data: é\u2028\x0b\x85日\n\n".encode(), [("", "é\u2028\x0b\x85日".encode())]),
    (b"data: \x00\xff\n\n", [("", b"\x00\xff")]),
    (b"event: a b\ndata: 1\n\nevent: c\ndata: 2\n\n", [("a b", b"1"), ("c", b"2")]),
    (b"event: \xff b\ndata: 1\n\n", [("\ufffd b", b"1")]),
    (b"event: a\ndata: 1\r\n\n", [("a", b"1")]),
    (b"event: a\ndata: 1\r\n", [("a", b"1")]),
    (b"event: a\n\ndata: 1\n\n", [("", b"1")]),
    (b"data: 1\nevent: a\n\n", [("a", b"1")]),
    (b"data: \n\n", [("", b"")]),
    (b"", []),
]


@pytest.mark.parametrize("before", [b"", b"data: 0\n\n", b"data: 0", b"event: a\n", b"data: 0\r"])
@pytest.mark.parametrize("raw", [raw for raw, _ in CASES])
def test_what_is_taken_as_one_event_is_one(before: bytes, raw: bytes) -> None:
    reader, other = SseReader(), SseReader()
    assert reader.feed(before) == other.feed(before)
    read = [event for at in range(len(raw)) for event in other.feed(raw[at : at + 1])]
    one = reader.one(raw)
    if one is None:
        assert reader.feed(raw) == read
    else:
        name, data = one
        assert [(name.decode("utf-8", "replace"), data)] == read
    assert reader.feed(b"\n\ndata: 9\n\n") == other.feed(b"\n\ndata: 9\n\n")


def test_the_usual_chunks_are_taken_as_one_event() -> None:
    reader = SseReader()
    reader.feed(b"data: 0\n\n")
    assert reader.one(b"data: 1\n\n") == (b"", b"1")
    assert reader.one(b"event: a\xff\ndata: 2\n\n") == (b"a\xff", b"2")


@pytest.mark.parametrize(("raw", "expected"), CASES)
def test_events_are_read_whole_and_byte_by_byte_and_at_every_cut(
    raw: bytes, expected: Events
) -> None:
    assert expected == reference.events(raw)
    assert expected == read(raw)
    assert expected == read(*[raw[i : i + 1] for i in range(len(raw))])
    for cut in range(len(raw) + 1):
        assert expected == read(raw[:cut], raw[cut:])


IDLE = b"data: 0\n\n"
"""After it a reader stands between two events, where the usual chunk is read in one go."""


@pytest.mark.parametrize("raw", [raw for raw, _ in CASES])
def test_a_chunk_that_comes_between_two_events_is_read_no_differently(raw: bytes) -> None:
    assert reference.events(IDLE + raw) == read(IDLE, raw)
    assert reference.events(IDLE + raw + IDLE) == read(IDLE, raw, IDLE)


@pytest.mark.parametrize("size", [1, 100, SSE_NAME_BYTES_MAX - 7, SSE_NAME_BYTES_MAX])
def test_a_name_up_to_the_limit_is_read(size: int) -> None:
    name = "n" * size
    raw = f"event: {name}\ndata: 1\n\n".encode()
    assert [("", b"0"), (name, b"1"), (name, b"1")] == read(IDLE, raw, raw)


@given(
    st.lists(st.sampled_from([b"data: x", b"data:", b"event: e", b": c", b"\r", b"\n", b"\n\n"])),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_cuts_change_nothing(parts: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(parts)
    at = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[a:b] for a, b in pairwise(at)]
    assert reference.events(raw) == read(*pieces)
    assert reference.events(IDLE + raw) == read(IDLE, *pieces)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_no_bytes_make_the_reader_raise_and_it_agrees_with_the_reference(
    pieces: list[bytes],
) -> None:
    assert reference.events(b"".join(pieces)) == read(*pieces)
    assert reference.events(IDLE + b"".join(pieces)) == read(IDLE, *pieces)


def test_a_line_without_an_end_is_given_up_at_the_limit() -> None:
    reader = SseReader()
    portion = b"x" * 65_536
    assert reader.feed(b"data: 1\n\ndata: ") == [("", b"1")]
    fed = 0
    while not reader.failed and fed <= 2 * SSE_EVENT_BYTES_MAX:
        assert reader.feed(portion) == []
        fed += len(portion)
    assert reader.failed == "too_long"
    assert fed <= SSE_EVENT_BYTES_MAX + len(portion)
    assert reader.feed(b"\n\ndata: 2\n\n") == []
    assert reader.close() == []


def test_after_a_failure_nothing_is_read_however_usual_the_next_event_is() -> None:
    reader = SseReader()
    reader.feed(b"data: 1\n\n")
    reader.feed(b"x" * (SSE_EVENT_BYTES_MAX + 1))
    assert reader.failed == "too_long"
    assert reader.feed(b"data: 2\n\n") == []


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_is_the_same_for_a_whole_line_and_a_cut_one(cut: bool, excess: int) -> None:
    line = b"data:" + b"x" * (SSE_EVENT_BYTES_MAX - 5 + excess)
    raw = line + b"\n\n"
    pieces = [raw[:1000], raw[1000:-1], raw[-1:]] if cut else [raw]
    reader = SseReader()
    found = [event for piece in pieces for event in reader.feed(piece)]
    assert ("too_long" if excess else "") == reader.failed
    assert ([] if excess else [("", line[5:])]) == found


def test_an_event_of_many_lines_is_given_up_at_the_limit() -> None:
    reader = SseReader()
    lines = (b"data: " + b"x" * 1_000 + b"\n") * 1_000
    for _ in range(SSE_EVENT_BYTES_MAX // 1_000_000 + 1):
        reader.feed(lines)
    assert reader.failed == "too_long"


@pytest.mark.parametrize("raw", [b"event: %b\ndata: 1\n\n", b"\nevent: %b\r\ndata: 1\n\n"])
def test_a_name_beyond_the_limit_is_a_failure(raw: bytes) -> None:
    for size, failed in [(SSE_NAME_BYTES_MAX, ""), (SSE_NAME_BYTES_MAX + 1, "too_long")]:
        reader = SseReader()
        reader.feed(b"\n")
        reader.feed(raw % (b"n" * size))
        assert failed == reader.failed


def test_feeding_byte_by_byte_costs_no_more_than_a_constant_for_each_byte() -> None:
    # A quadratic reader would copy 10^11 bytes here.
    reader = SseReader()
    for _ in range(500_000):
        reader.feed(b"x")
    assert reader.feed(b"\ndata: 1\n\n") == [("", b"1")]


def test_frames_are_written_as_events() -> None:
    frames = [Frame({"a": "é"}), Frame([1], event="ping"), Frame("[DONE]")]
    assert 'data: {"a":"é"}\n\nevent: ping\ndata: [1]\n\ndata: [DONE]\n\n'.encode() == encode(
        frames
    )
    assert encode([]) == b""


hostile = st.text(st.sampled_from("ab:\r\n \u2028\x85\x0b\x00") | st.characters(codec="utf-8"))


@given(hostile.map(lambda name: name[:20]), hostile, hostile)
def test_no_text_begins_an_event_or_a_field_of_its_own(name: str, text: str, note: str) -> None:
    raw = encode([Frame({"text": text}, event="a"), Frame(text, event=name), Frame("end")])
    raw += comment(note)
    given_back = reference.events(raw)
    assert len(given_back) == 3
    assert given_back[0][0] == "a"
    assert {"text": text} == json.loads(given_back[0][1])
    assert text.replace("\r\n", "\n").replace("\r", "\n").encode() == given_back[1][1]
    assert given_back[2] == ("", b"end")
    assert given_back == read(raw)


def test_a_comment_of_several_lines_stays_a_comment() -> None:
    raw = comment("a\ndata: b\r\n\r\nevent: c\rdata: d")
    assert read(raw) == []
    assert raw == b": a\n: data: b\n: \n: event: c\n: data: d\n\n"
