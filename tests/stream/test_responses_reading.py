# What is promised: the same events however bytes are cut, each text once, never an exception.

import json
import random
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.model import Channel, Token
from tocsin.stream import responses_items
from tocsin.stream.codec import Made
from tocsin.stream.events import (
    Asked,
    Began,
    Broken,
    Done,
    Event,
    Opened,
    Sealed,
    Spent,
    Stopped,
    Wrote,
)
from tocsin.stream.responses import CODEC
from tocsin.stream.sse import encode
from tocsin.testing.fake_model import responses as fake
from tocsin.testing.fake_model.replies import Call, Choice, Reply, Wanted

ASKED = Asked(api="responses", model="m", tools=frozenset({"look_up", "sum"}))
MADE = Made(id="resp_x", created_s=1)
WANTED = Wanted("m", True, 1, False, False, 0)
TEXT = Channel("text")
REPLIES = {
    "text": Reply(choices=(Choice(text="It is a fine day. Ça va 😀?"),), cut=3),
    "refusal": Reply(choices=(Choice(refusal="I cannot help with that."),)),
    "both": Reply(choices=(Choice(text="Well,", refusal="no."),)),
    "summary": Reply(choices=(Choice(text="42.", reasoning="Let me think."),)),
    "thinking": Reply(
        choices=(Choice(text="42.", reasoning="Let me think."),), reasoning_as="text"
    ),
    "calls": Reply(
        choices=(
            Choice(
                text="I look.",
                calls=(
                    Call(name="look_up", arguments='{"q": "sea"}'),
                    Call(name="sum", arguments="{}"),
                ),
            ),
        )
    ),
    "length": Reply(choices=(Choice(text="It is", finish="length"),)),
    "logprobs": Reply(choices=(Choice(text="It is"),), cut=2, logprobs=True),
    "halves": Reply(choices=(Choice(text=("a\ud83d", "\ude00b\ud83d", "c\ude00")),)),
    "control": Reply(choices=(Choice(text="a\x00b\u2028c\r\n\n\x1b[0m"),), cut=1),
}


def sse(payloads: Sequence[Any]) -> bytes:
    """Frames as an upstream sends them, halves of characters too."""
    return b"".join(b"event: x\ndata: " + json.dumps(p).encode() + b"\n\n" for p in payloads)


def payloads(reply: Reply, wanted: Wanted = WANTED) -> list[dict[str, Any]]:
    return [payload for _, payload, _ in fake.events(reply, wanted)]


def read(chunks: Sequence[bytes], asked: Asked = ASKED) -> list[Event]:
    decoder = CODEC.decoder(asked)
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.close()


def said(*given: dict[str, Any], asked: Asked = ASKED) -> list[Event]:
    """Read events of the stream; `type` without its ``response.``."""
    return read([sse([{**p, "type": f"response.{p['type']}"} for p in given])], asked)


def joined(events: Sequence[Event]) -> list[Event]:
    """`Wrote` that follow each other in a channel become one; tokens are kept."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Wrote) and isinstance(last, Wrote) and last.channel == event.channel:
            out[-1] = Wrote(
                channel=last.channel,
                text=last.text + event.text,
                tokens=last.tokens + event.tokens,
            )
        else:
            out.append(event)
    return out


def texts(events: Sequence[Event]) -> dict[Channel, str]:
    found: dict[Channel, str] = {}
    for event in events:
        if isinstance(event, Wrote):
            found[event.channel] = found.get(event.channel, "") + event.text
    return found


def broken(events: Sequence[Event]) -> str:
    """The reason, after which nothing came."""
    assert [isinstance(e, Broken) for e in events].count(True) == 1
    last = events[-1]
    assert isinstance(last, Broken)
    return last.reason


CREATED = {"type": "created", "response": {"id": "resp_7", "model": "m-1", "created_at": 3}}
MESSAGE = {"type": "message", "id": "msg_7", "role": "assistant", "content": []}
ADDED = {"type": "output_item.added", "output_index": 0, "item": MESSAGE}


def delta(text: Any, index: int = 0, part: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "type": "output_text.delta",
        "output_index": index,
        "content_index": part,
        "delta": text,
        **more,
    }


def completed(*output: Any, **more: Any) -> dict[str, Any]:
    return {"type": "completed", "response": {"output": list(output), **more}}


def message(*told: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in told]
    return {**MESSAGE, "content": content, "status": "completed", **more}


# ------------------------------------------------------------------------------------ the plain way


def test_a_text_is_read_as_it_comes() -> None:
    events = said(
        CREATED,
        ADDED,
        delta("It "),
        delta("is."),
        {"type": "output_text.done", "output_index": 0, "content_index": 0, "text": "It is."},
        {"type": "output_item.done", "output_index": 0, "item": message("It is.")},
        completed(message("It is."), usage={"input_tokens": 3, "output_tokens": 2}),
    )
    began = {"item": 0, "item_id": "msg_7", "type": "output_text"}
    assert events == [
        Opened(fields={"id": "resp_7", "model": "m-1", "created_at": 3}),
        Began(channel=TEXT, fields=began),
        Wrote(channel=TEXT, text="It "),
        Wrote(channel=TEXT, text="is."),
        Sealed(channel=TEXT, fields={"last": True, "status": "completed"}),
        Stopped(fields={"status": "completed"}),
        Spent(fields={"input_tokens": 3, "output_tokens": 2}),
        Done(),
    ]


@pytest.mark.parametrize("name", REPLIES)
def test_every_cut_of_the_bytes_gives_the_same_events(name: str) -> None:
    raw = sse(payloads(REPLIES[name]))
    whole = read([raw])
    assert isinstance(whole[-1], Done)
    assert whole == read([raw[i : i + 1] for i in range(len(raw))])
    for at in range(0, len(raw), 7):
        assert whole == read([raw[:at], raw[at:]])


def test_a_small_stream_may_be_cut_in_three_anywhere() -> None:
    told = [
        {"type": "response.output_text.delta", "output_index": 0, "delta": "é😀"},
        {"type": "response.completed", "response": {"output": []}},
    ]
    raw = b"".join(
        b"event: x\r\ndata: " + json.dumps(p, ensure_ascii=False).encode() + b"\r\n\r\n"
        for p in told
    )
    whole = read([raw])
    assert texts(whole) == {TEXT: "é😀"}
    for a in range(len(raw)):
        for b in range(a, len(raw), 11):
            assert whole == read([raw[:a], raw[a:b], raw[b:]])


@pytest.mark.parametrize("newline", ["\r\n", "\r", "\n"])
def test_line_ends_comments_and_what_follows_the_end_change_nothing(newline: str) -> None:
    raw = sse(payloads(REPLIES["text"]))
    other = b"\xef\xbb\xbf: ping\n\n" + raw + b"data: [DONE]\n\ndata: {\n\n"
    assert read([raw]) == read([other.replace(b"\n", newline.encode())])


def test_the_last_event_needs_no_blank_line() -> None:
    raw = sse(payloads(REPLIES["text"]))
    assert read([raw]) == read([raw.rstrip(b"\n")])


@pytest.mark.parametrize("name", REPLIES)
def test_a_whole_body_says_what_its_stream_says(name: str) -> None:
    reply = REPLIES[name]
    body = CODEC.read_body(ASKED, json.dumps(fake.body(reply, WANTED)).encode())
    assert joined(body) == joined(read([sse(payloads(reply))]))


@pytest.mark.parametrize("name", REPLIES)
def test_payloads_decoded_already_are_read_alike(name: str) -> None:
    decoder = CODEC.decoder(ASKED)
    given = [MappingProxyType(payload) for payload in payloads(REPLIES[name])]
    events = [event for payload in given for event in decoder.take(payload)]
    assert read([sse(payloads(REPLIES[name]))]) == events + decoder.close()


def test_halves_of_characters_are_joined_over_deltas() -> None:
    assert texts(read([sse(payloads(REPLIES["halves"]))])) == {TEXT: "a😀b\ufffdc\ufffd"}


def test_each_reasoning_item_and_each_kind_of_its_text_is_a_channel() -> None:
    def part(kind: str, place: str, number: int, text: str, index: int) -> dict[str, Any]:
        at = {"output_index": index, f"{place}_index": number}
        return {"type": f"{kind}.delta", "delta": text, **at}

    events = said(
        part("reasoning_summary_text", "summary", 0, "a", 0),
        part("reasoning_summary_text", "summary", 1, "b", 0),
        part("reasoning_text", "content", 0, "c", 0),
        part("reasoning_text", "content", 0, "d", 1),
        part("reasoning_summary_text", "summary", 2, "e", 0),
        completed(),
    )
    assert texts(events) == {
        Channel("reasoning", 0, 0): "ab",
        Channel("reasoning", 0, 1): "c",
        Channel("reasoning", 0, 2): "d",
        Channel("reasoning", 0, 3): "e",
    }
    marks = [type(e) for e in events if isinstance(e, Began | Sealed)]
    assert marks == [Began, Began, Sealed, Began, Began, Sealed, Began, Sealed, Sealed]


def test_a_reasoning_item_that_shows_nothing_is_passed_on() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA_-=="}
    channel = Channel("reasoning")
    events = said({"type": "output_item.done", "output_index": 0, "item": item}, completed(item))
    fields = {"last": True, "status": "completed", "encrypted_content": "gAAA_-==", "digests": ()}
    assert events[1:3] == [
        Began(channel=channel, fields={"item": 0, "item_id": "rs_1", "type": "reasoning"}),
        Sealed(channel=channel, fields=fields),
    ]


@pytest.mark.parametrize("opaque", ["two words", "a" * 5_000_000, 7, "===", "\x00"])
def test_opaque_reasoning_of_another_shape_is_dropped(opaque: Any) -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": opaque}
    sealed = said({"type": "output_item.done", "output_index": 0, "item": item}, completed())[2]
    assert sealed == Sealed(
        channel=Channel("reasoning"), fields={"last": True, "status": "completed"}
    )


def test_tool_calls_are_channels_in_order_of_appearance() -> None:
    events = read([sse(payloads(REPLIES["calls"]))])
    first, second = Channel("tool_arguments"), Channel("tool_arguments", 0, 1)
    assert {TEXT: "I look.", first: '{"q": "sea"}', second: "{}"} == texts(events)
    began = [e for e in events if isinstance(e, Began) and e.channel == first]
    assert [e.fields for e in began] == [
        {
            "item": 1,
            "item_id": "fc_0",
            "name": "look_up",
            "id": "call_0",
            "type": "function_call",
        }
    ]


def test_custom_tools_are_read_like_functions() -> None:
    item = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "sum", "input": ""}
    events = said(
        {"type": "output_item.added", "output_index": 0, "item": item},
        {"type": "custom_tool_call_input.delta", "output_index": 0, "delta": "1 + 1"},
        {"type": "custom_tool_call_input.done", "output_index": 0, "input": "1 + 1"},
        completed(item | {"input": "1 + 1"}),
    )
    assert texts(events) == {Channel("tool_arguments"): "1 + 1"}
    assert isinstance(events[-1], Done)


def test_a_namespace_is_passed_on_where_the_request_names_it() -> None:
    tools = [{"type": "namespace", "name": "crm", "description": "d", "tools": []}]
    asked = Asked(api="responses", model="m", tools=frozenset({"sum"}), body={"tools": tools})

    def fields(space: str) -> Any:
        call = {"type": "function_call", "name": "sum", "arguments": "{}", "namespace": space}
        began = said(completed(call), asked=asked)[1]
        assert isinstance(began, Began)
        return began.fields.get("namespace")

    assert (fields("crm"), fields("other")) == ("crm", None)


@pytest.mark.parametrize(
    ("phase", "told"), [("commentary", "commentary"), ("a text", None), (["final_answer"], None)]
)
def test_a_message_keeps_a_phase_that_the_api_has(phase: Any, told: str | None) -> None:
    began = said(completed(message("a", phase=phase)))[1]
    assert isinstance(began, Began)
    assert began.fields.get("phase") == told


# ------------------------------------------------------------------------ each text exactly once


WHOLES = [
    {"type": "output_text.done", "output_index": 0, "content_index": 0, "text": "It is."},
    {
        "type": "content_part.done",
        "output_index": 0,
        "content_index": 0,
        "part": {"type": "output_text", "text": "It is."},
    },
    {"type": "output_item.done", "output_index": 0, "item": message("It is.")},
    completed(message("It is.")),
]


@pytest.mark.parametrize("first", range(len(WHOLES)))
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("announced", [True, False])
def test_a_text_is_read_where_it_comes_first_and_never_twice(
    first: int, streamed: bool, announced: bool
) -> None:
    before = [CREATED, ADDED] if announced else [CREATED]
    before += [delta("It "), delta("is.")] if streamed else []
    events = said(*before, *WHOLES[first:], *([] if first < 4 else [completed()]))
    assert texts(events) == {TEXT: "It is."}
    assert isinstance(events[-1], Done)


@pytest.mark.parametrize("which", range(len(WHOLES)))
def test_a_whole_text_that_differs_from_its_deltas_is_garbage(which: int) -> None:
    events = said(CREATED, ADDED, delta("It was."), *WHOLES[which:])
    assert broken(events) == "garbage"
    assert texts(events) == {TEXT: "It was."}


def test_a_text_is_compared_however_late_it_is_repeated() -> None:
    lie = completed(message("It is not."))
    assert broken(said(CREATED, ADDED, delta("It is."), *WHOLES[:-1], lie)) == "garbage"


def test_arguments_that_come_whole_are_read_once() -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "sum", "arguments": "{}"}
    for start in (call, call | {"arguments": ""}):
        events = said(
            {"type": "output_item.added", "output_index": 0, "item": start},
            {"type": "function_call_arguments.done", "output_index": 0, "arguments": "{}"},
            {"type": "output_item.done", "output_index": 0, "item": call},
            completed(call),
        )
        assert texts(events) == {Channel("tool_arguments"): "{}"}


def test_the_last_list_may_leave_items_out() -> None:
    events = said(
        {"type": "output_item.added", "output_index": 0, "item": {"type": "web_search_call"}},
        {"type": "output_item.added", "output_index": 1, "item": MESSAGE},
        delta("It is.", 1),
        completed(message("It is.")),
    )
    assert isinstance(events[-1], Done)
    assert texts(events) == {TEXT: "It is."}


def test_two_items_with_one_id_are_told_apart_by_their_places() -> None:
    twice = (message("a"), message("b"))
    events = said(ADDED, delta("a"), {**ADDED, "output_index": 1}, delta("b", 1), completed(*twice))
    assert texts(events) == {TEXT: "ab"}
    assert isinstance(events[-1], Done)


# ------------------------------------------------------------------------------- what is left out


def test_hosted_tools_unknown_parts_and_annotations_are_counted_and_not_read() -> None:
    odd = message("It is.")
    odd["content"][0]["annotations"] = [{"type": "url_citation", "title": "secret"}]
    odd["content"].append({"type": "output_audio", "transcript": "secret"})
    search = {"type": "web_search_call", "id": "ws_1", "action": {"query": "secret"}}
    events = said(
        CREATED,
        {"type": "output_item.added", "output_index": 0, "item": search},
        {"type": "web_search_call.searching", "output_index": 0, "item_id": "ws_1"},
        {"type": "output_item.done", "output_index": 0, "item": search},
        {"type": "output_item.added", "output_index": 1, "item": MESSAGE},
        {"type": "mcp_call_arguments.delta", "output_index": 0, "delta": "secret"},
        {"type": "content_part.added", "output_index": 1, "part": {"type": "output_audio"}},
        {"type": "audio.transcript.delta", "delta": "secret"},
        {"type": "output_text.annotation.added", "output_index": 1, "annotation": "secret"},
        delta("It is.", 1),
        {"type": "output_item.done", "output_index": 1, "item": odd},
        completed(search, odd, note="secret"),
    )
    assert events[-1] == Done(fields={"left_out": 3})
    assert "secret" not in repr(events)


def test_identifiers_of_another_shape_are_left_out() -> None:
    head = {"id": "two words", "model": "m\n", "created_at": -1, "output": []}
    assert CODEC.read_body(ASKED, json.dumps(head).encode())[0] == Opened()


def test_tokens_come_only_with_the_text_that_they_join_to() -> None:
    good = [{"token": "It", "logprob": -0.5, "top_logprobs": [{"token": "x", "logprob": -1}]}]
    for logprobs, tokens in (
        (good, (Token("It", -0.5, (-1.0,)),)),
        ([{"token": "I", "logprob": -0.5}], ()),
        ([{"token": "It", "logprob": True}], ()),
        ([{"token": "It", "logprob": 10**400}], ()),
        ([{"token": "It", "logprob": 1e-9}], (Token("It", 0.0),)),
        ("It", ()),
        ([7], ()),
    ):
        wrote = said(delta("It", logprobs=logprobs))[2]
        assert wrote == Wrote(channel=TEXT, text="It", tokens=tokens)


def test_unknown_counts_of_tokens_are_left_out() -> None:
    usage = {"input_tokens": 1, "output_tokens": "2", "total_tokens": True, "secret": 5}
    usage |= {"input_tokens_details": {"cached_tokens": 1, "x": 2}, "output_tokens_details": 3}
    fields = {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 1}}
    assert said(completed(usage=usage))[-2] == Spent(fields=fields)


# ---------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("max_output_tokens", "max_output_tokens"),
        ("content_filter", "content_filter"),
        ("a text", None),
        (None, None),
        (["steered"], None),
    ],
)
def test_an_incomplete_response_keeps_a_reason_that_the_api_has(reason: Any, told: Any) -> None:
    response = {"output": [], "incomplete_details": {"reason": reason}}
    events = said(delta("It"), {"type": "incomplete", "response": response})
    assert Sealed(channel=TEXT, fields={"last": True, "status": "incomplete"}) == events[-3]
    assert Stopped(fields={"status": "incomplete", "reason": told}) == events[-2]


def test_an_error_of_the_upstream_is_named_by_its_code_alone() -> None:
    for payload, detail in (
        ({"type": "error", "code": "server_error", "message": "You said ..."}, "server_error"),
        ({"type": "error", "error": {"type": "overloaded", "message": "You"}}, "overloaded"),
        ({"error": {"code": "You said", "message": "You said ..."}}, ""),
        ({"type": "response.failed", "response": {"error": {"code": "x", "message": ""}}}, "x"),
        ({"type": "response.cancelled", "response": None}, ""),
    ):
        events = read([sse([payload]), b"data: {}\n\n"])
        assert events == [Broken(reason="error", detail=detail)]


@pytest.mark.parametrize(
    "payload",
    [
        7,
        {"type": 7},
        {"type": "response.output_text.delta", "delta": "no place"},
        {"type": "response.output_text.delta", "output_index": -1, "delta": "x"},
        {"type": "response.output_text.delta", "output_index": 10**30, "delta": "x"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": ["x"]},
        {"type": "response.output_text.done", "output_index": 0, "text": {"x": 1}},
        {"type": "response.output_item.added", "output_index": 0, "item": None},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{"},
        {"type": "response.completed"},
        {"type": "response.completed", "response": {"output": [7]}},
    ],
)
def test_what_the_api_does_not_allow_is_garbage(payload: Any) -> None:
    assert broken(read([sse([payload])])) == "garbage"


@pytest.mark.parametrize("kind", ["function_call", "custom_tool_call"])
def test_a_tool_that_was_not_offered_is_garbage(kind: str) -> None:
    for name in ("other", "", None, "two words"):
        item = {"type": kind, "id": "x", "call_id": "c", "name": name, "arguments": "{}"}
        added = {"type": "output_item.added", "output_index": 0, "item": item}
        assert broken(said(added)) == "garbage"


def test_where_the_tools_are_not_known_any_name_of_the_right_shape_goes() -> None:
    asked = Asked(api="responses", model="m", tools=None)
    item = {"type": "function_call", "name": "other", "arguments": "{}"}
    assert isinstance(said(completed(item), asked=asked)[-1], Done)
    assert broken(said(completed(item | {"name": "two words"}), asked=asked)) == "garbage"


def test_text_after_its_end_is_garbage() -> None:
    done = WHOLES[0]
    item = WHOLES[2]
    assert broken(said(ADDED, delta("It is."), done, delta("!"))) == "garbage"
    assert broken(said(ADDED, delta("It is."), item, delta("!"))) == "garbage"
    assert broken(said(ADDED, delta("It is."), item, delta("!", 0, 1))) == "garbage"
    assert broken(said(ADDED, ADDED)) == "garbage"
    changed = {"type": "output_item.done", "output_index": 0, "item": {"type": "reasoning"}}
    assert broken(said(ADDED, changed)) == "garbage"
    call = {"type": "function_call", "name": "sum", "arguments": ""}
    within = {"type": "output_item.added", "output_index": 0, "item": call}
    assert broken(said(within, delta("a"))) == "garbage"
    assert broken(said(ADDED, delta("a"), {**delta("b"), "type": "refusal.delta"})) == "garbage"


@pytest.mark.parametrize("frames", [0, 1, 3, -1])
def test_an_end_that_never_came_is_cut_off(frames: int) -> None:
    raw = sse(payloads(REPLIES["text"])[:frames])
    assert broken(read([raw])) == "cut_off"
    assert broken(read([raw, b'data: {"type": "resp'])) == "cut_off"
    assert broken(read([raw, b"data: [DONE]\n\n"])) == "cut_off"


def test_nothing_comes_after_the_end() -> None:
    for raw in (sse(payloads(REPLIES["text"])), sse([7])):
        decoder = CODEC.decoder(ASKED)
        decoder.feed(raw)
        assert decoder.feed(sse([CREATED])) == []
        assert decoder.take(CREATED) == []
        assert decoder.close() == []


def test_an_endless_line_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.stream.sse.SSE_EVENT_BYTES_MAX", 1_000)
    events = read([b"data: " + b"x" * 400] * 4)
    assert broken(events) == "too_long"
    monkeypatch.setattr("tocsin.stream.responses_reading.SSE_EVENT_BYTES_MAX", 1_000)
    assert broken(CODEC.read_body(ASKED, b" " * 1_001)) == "too_long"


def test_parts_and_characters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses_items, "RESPONSES_BLOCKS_MAX", 8)
    monkeypatch.setattr(responses_items, "RESPONSES_CHARS_MAX", 100)
    parts = [delta("x", 0, number) for number in range(9)]
    assert broken(said(*parts)) == "too_long"
    assert broken(said(completed(*[{"type": "x"}] * 9))) == "too_long"
    assert broken(said(delta("x" * 60), delta("x" * 60))) == "too_long"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"output": 7}',
        b'{"output": [], "status": "queued"}',
        b'{"output": [], "status": ["completed"]}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_response_is_garbage(raw: bytes) -> None:
    assert broken(CODEC.read_body(ASKED, raw)) == "garbage"


def test_a_failed_body_is_an_error() -> None:
    raw = b'{"status": "failed", "error": {"code": "server_error", "message": "x"}, "output": []}'
    assert CODEC.read_body(ASKED, raw) == [Broken(reason="error", detail="server_error")]


# ------------------------------------------------------------------------------------------- fuzz

NAMES = (
    "type id item part response output content summary text refusal arguments input name logprobs "
    "token logprob top_logprobs status usage error code phase annotations encrypted_content "
    "call_id namespace created_at model"
)
KINDS = ["message", "reasoning", "function_call", "output_text", "summary_text", "sum"]
CARRIED = "delta text refusal arguments item part response logprobs error"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES.split()), inner | st.sampled_from(KINDS), max_size=6
        )
    ),
    max_leaves=12,
)
TYPES = st.sampled_from(
    sorted({payload["type"] for reply in REPLIES.values() for payload in payloads(reply)})
)
EVENTS = st.fixed_dictionaries(
    {"type": TYPES},
    optional={
        "output_index": st.integers(-1, 3) | VALUES,
        "content_index": st.integers(-1, 2),
        "summary_index": st.integers(-1, 2),
        **dict.fromkeys(CARRIED.split(), VALUES),
    },
)


def mutations(seed: int) -> Iterator[list[Any]]:
    """Real streams with frames dropped, doubled, swapped, and values put elsewhere."""
    rng = random.Random(seed)
    streams = [payloads(reply) for reply in REPLIES.values()]
    for _ in range(200):
        stream: list[Any] = [dict(p) for p in rng.choice(streams)]
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(stream))
            match rng.randrange(4):
                case 0:
                    del stream[at : at + 1]
                    stream = stream or [{}]
                case 1:
                    stream.insert(at, stream[rng.randrange(len(stream))])
                case 2:
                    stream[at][rng.choice(list(stream[at]) or ["type"])] = rng.choice(
                        [None, 7, "x", [], {}, [[]], {"type": "message"}, -1, "\ud800"]
                    )
                case _:
                    stream[at] = {**stream[at], **rng.choice(rng.choice(streams))}
        yield stream


def orderly(events: Sequence[Event]) -> bool:
    """The order that `stream.events` demands."""
    opened = [isinstance(e, Opened) for e in events]
    if isinstance(events[-1], Broken):
        return opened in ([False], [True] + [False] * (len(events) - 1)) and nested(events[:-1])
    closing = [type(e) for e in events if isinstance(e, Stopped | Done)]
    return (
        opened == [True] + [False] * (len(events) - 1)
        and closing == [Stopped, Done]
        and isinstance(events[-1], Done)
        and nested(events, whole=True)
    )


def nested(events: Sequence[Event], *, whole: bool = False) -> bool:
    """Text stands within its block; reasoning and calls that are sealed are over."""
    open_: set[Channel] = set()
    over: set[Channel] = set()
    for event in events:
        if isinstance(event, Began):
            if event.channel in over:
                return False
            open_.add(event.channel)
        elif isinstance(event, Wrote | Sealed) and event.channel not in open_:
            return False
        if isinstance(event, Sealed):
            open_.remove(event.channel)
            if event.channel.kind in {"reasoning", "tool_arguments"}:
                over.add(event.channel)
    return not (whole and open_)


@pytest.mark.parametrize("seed", range(5))
def test_mutated_streams_never_raise_and_keep_the_order(seed: int) -> None:
    for stream in mutations(seed):
        events = read([sse(stream)])
        assert orderly(events), stream
        encoder = CODEC.encoder(ASKED, MADE)
        again = read([encode(encoder.encode(event)) for event in events])
        assert orderly(again)
        assert all(again_ in texts(events).values() for again_ in texts(again).values())


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(EVENTS, max_size=6))
def test_no_events_make_the_decoder_raise_or_lose_the_order(stream: Any) -> None:
    assert orderly(read([sse(stream)]))
    decoder = CODEC.decoder(ASKED)
    taken = [event for payload in stream for event in decoder.take(payload)] + decoder.close()
    assert orderly(taken)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(st.binary(max_size=40) | EVENTS.map(lambda e: sse([e])), max_size=5))
def test_no_bytes_make_the_decoder_raise(chunks: list[bytes]) -> None:
    assert orderly(read(chunks))


@settings(max_examples=200, derandomize=True, deadline=None)
@given(VALUES)
def test_no_body_makes_the_reader_raise(value: Any) -> None:
    for body in (value, {"output": value}, {"output": [value, value]}):
        assert orderly(CODEC.read_body(ASKED, json.dumps(body).encode()))


# ------------------------------------------------------------------------------ writing and reading


@pytest.mark.parametrize("name", REPLIES)
def test_what_is_written_reads_as_it_was_read(name: str) -> None:
    events = read([sse(payloads(REPLIES[name]))])
    encoder = CODEC.encoder(ASKED, MADE)
    streamed = read([encode(encoder.encode(event)) for event in events])
    # The writer adds the counts that the SDK demands.
    added = {"input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}}
    full = [Spent(fields={**e.fields, **added}) if isinstance(e, Spent) else e for e in events]
    assert joined(full) == joined(streamed)

    body = CODEC.body(ASKED, MADE)
    for event in events:
        body.take(event)
    whole = CODEC.read_body(ASKED, json.dumps(body.result()).encode())
    assert joined(full) == joined(whole)


# llama.cpp names an item by its id alone, in each event.


def unplaced(payload: dict[str, Any], *, announced: bool) -> dict[str, Any] | None:
    """What such a server sends of an event; where it announces nothing, only what carries text."""
    if not announced and "added" in payload["type"]:
        return None
    return {name: value for name, value in payload.items() if name != "output_index"}


@pytest.mark.parametrize("name", REPLIES)
def test_items_that_have_an_id_and_no_place_are_read_in_their_order(name: str) -> None:
    given = payloads(REPLIES[name])
    assert read([sse([unplaced(p, announced=True) for p in given])]) == read([sse(given)])


def test_an_item_without_a_place_need_not_be_announced() -> None:
    given = payloads(REPLIES["summary"])
    bare = [p for p in (unplaced(p, announced=False) for p in given) if p is not None]
    assert texts(read([sse(bare)])) == texts(read([sse(given)]))


def test_a_call_without_a_place_may_be_named_by_its_call() -> None:
    item = {"type": "function_call", "call_id": "call_a", "name": "sum", "arguments": ""}
    whole = item | {"arguments": "{}"}
    events = said(
        {"type": "output_item.added", "item": item},
        {"type": "function_call_arguments.delta", "item_id": "call_a", "delta": "{}"},
        {"type": "output_item.done", "item": whole},
        {"type": "completed", "response": {"status": "completed", "output": [whole]}},
    )
    assert texts(events) == {Channel("tool_arguments"): "{}"}
    assert type(events[-1]) is Done


def test_an_item_with_neither_a_place_nor_an_id_is_garbage() -> None:
    assert broken(said({"type": "output_text.delta", "delta": "a"})) == "garbage"
