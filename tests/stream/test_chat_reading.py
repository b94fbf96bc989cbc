"""Chat completions, read: the same events however the bytes are cut."""

from __future__ import annotations

from typing import Any

import pytest
from reference.chat import call, chunk, stream
from stream.chat_streams import (
    GOLDEN,
    STOP,
    TEXT,
    merged,
    read,
    scored,
    seen,
    with_logprobs,
)

from tocsin.model import Channel, Token
from tocsin.stream.events import (
    Began,
    Broken,
    Done,
    Opened,
    Sealed,
    Spent,
    Stopped,
    Wrote,
)


def test_text_is_read_and_the_response_is_named() -> None:
    raw = stream(
        chunk(role="assistant", content=""),
        chunk(content="Hel"),
        chunk(content="lo"),
        chunk(reason="stop"),
    )
    assert read(raw) == [
        Opened(fields={"id": "chatcmpl-up1", "model": "small-1", "created": 1_700_000_000}),
        Wrote(channel=TEXT, text="Hel"),
        Wrote(channel=TEXT, text="lo"),
        STOP,
        Done(),
    ]


def test_choices_are_told_apart_by_index() -> None:
    assert seen(
        chunk(1, content="b"),
        chunk(0, content="a"),
        chunk(1, content="B", reason="length"),
        chunk(0, content="A", reason="stop"),
    ) == [
        Wrote(channel=Channel("text", 1), text="b"),
        Wrote(channel=TEXT, text="a"),
        Wrote(channel=Channel("text", 1), text="B"),
        Stopped(choice=1, fields={"finish_reason": "length"}),
        Wrote(channel=TEXT, text="A"),
        STOP,
        Done(),
    ]


def test_several_choices_may_stand_in_one_chunk() -> None:
    both = chunk(0, content="a", reason="stop")
    both["choices"] += chunk(1, content="b", reason="stop")["choices"]
    assert [e.text for e in seen(both) if isinstance(e, Wrote)] == ["a", "b"]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_a_channel_under_either_name(name: str) -> None:
    channel = Channel("reasoning")
    first: dict[str, Any] = {name: "hm"}
    second: dict[str, Any] = {name: "m"}
    assert seen(chunk(**first), chunk(**second), chunk(content="x", reason="stop")) == [
        Began(channel=channel, fields={"as": name}),
        Wrote(channel=channel, text="hmm"),
        Wrote(channel=TEXT, text="x"),
        Sealed(channel=channel),
        STOP,
        Done(),
    ]


def test_reasoning_that_a_server_writes_under_both_names_is_read_once() -> None:
    events = seen(chunk(reasoning="hm", reasoning_content="hm"), chunk(reason="stop"))
    assert [e.text for e in events if isinstance(e, Wrote)] == ["hm"]


def test_a_refusal_is_a_channel_of_its_own() -> None:
    assert seen(chunk(refusal="I "), chunk(refusal="won't", reason="stop"))[0] == Wrote(
        channel=Channel("refusal"), text="I won't"
    )


def test_what_is_not_known_is_not_read() -> None:
    odd = chunk(
        content="a",
        reason="stop",
        audio={"transcript": "secret"},
        annotations=[{"title": "secret"}],
        reasoning_details=[{"text": "secret"}],
        reasoning={"text": "secret"},
        provider_specific_fields={"x": "secret"},
    )
    odd |= {
        "prompt_filter_results": ["secret"],
        "obfuscation": "secret",
        "system_fingerprint": "a secret",
        "service_tier": "secret",
        "model": "a secret",
        "id": "a secret",
        "created": "secret",
        "prompt_token_ids": ["secret"],
    }
    odd["choices"][0] |= {
        "stop_reason": "secret",
        "token_ids": ["secret"],
        "message": {"content": "secret"},
    }
    events = read(stream(odd))
    assert events == [Opened(), Wrote(channel=TEXT, text="a"), STOP, Done()]


def test_what_is_known_of_the_response_is_read_by_its_shape() -> None:
    named = chunk(reason="stop") | {"service_tier": "flex", "system_fingerprint": "fp_1"}
    opened = read(stream(named))[0]
    assert isinstance(opened, Opened)
    assert opened.fields == {
        "id": "chatcmpl-up1",
        "model": "small-1",
        "created": 1_700_000_000,
        "system_fingerprint": "fp_1",
        "service_tier": "flex",
    }


def test_a_prelude_without_an_identity_opens_nothing() -> None:
    prelude = {"id": "", "model": "", "choices": [], "prompt_filter_results": []}
    events = read(stream(prelude, chunk(content="a", reason="stop")))
    assert [type(e) for e in events] == [Opened, Wrote, Stopped, Done]
    assert events[0] == read(stream(chunk(content="a", reason="stop")))[0]


@pytest.mark.parametrize(
    ("given_reason", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("function_call", "function_call"),
        ("eos", "stop"),
        (7, "stop"),
    ],
)
def test_every_finish_reason_is_read_and_unknown_ones_are_a_stop(
    given_reason: Any, expected: str
) -> None:
    assert seen(chunk(content="a", reason=given_reason))[1:] == [
        Stopped(fields={"finish_reason": expected}),
        Done(),
    ]


def test_an_empty_finish_reason_is_none() -> None:
    assert seen(chunk(content="a", reason=""), chunk(content="b", reason="stop"))[:2] == [
        Wrote(channel=TEXT, text="ab"),
        STOP,
    ]


def test_nothing_new_after_a_stop_is_let_pass_and_something_new_is_garbage() -> None:
    stopped = chunk(content="a", reason="stop")
    assert seen(stopped, chunk(content="", reason="stop"))[-2:] == [STOP, Done()]
    garbage = Broken(reason="garbage", detail="a choice went on after it had stopped")
    assert seen(stopped, chunk(content="b"))[-2:] == [STOP, garbage]
    assert seen(stopped, chunk(tool_calls=[call(0, "c", "look", "{}")]))[-2:] == [STOP, garbage]


# --------------------------------------------------------------------------------- halves and bytes


def test_characters_cut_over_deltas_are_joined_in_every_channel() -> None:
    events = seen(
        chunk(content="a\ud83d"),
        chunk(refusal="b\ud83d"),
        chunk(reasoning="c\ud83d"),
        chunk(tool_calls=[call(0, "c1", "look", '"\ud83d')]),
        chunk(tool_calls=[call(0, text='\ude00"')]),
        chunk(content="\ude00"),
        chunk(refusal="\ude00"),
        chunk(reasoning="\ude00", reason="tool_calls"),
    )
    texts = {e.channel.kind: "" for e in events if isinstance(e, Wrote)}
    for event in events:
        if isinstance(event, Wrote):
            texts[event.channel.kind] += event.text
    assert texts == {"text": "a😀", "refusal": "b😀", "reasoning": "c😀", "tool_arguments": '"😀"'}


def test_half_a_character_that_stays_alone_is_replaced() -> None:
    assert seen(chunk(content="a\ud83d", reason="stop"))[0] == Wrote(channel=TEXT, text="a\ufffd")


def test_text_of_all_kinds_is_data() -> None:
    text = '\x00\x1b[2J\r\n\n data: {"x"} é 日本 😀 \u2028 </s>'
    assert seen(chunk(content=text, reason="stop"))[0] == Wrote(channel=TEXT, text=text)


def test_a_stream_is_the_same_at_every_cut() -> None:
    expected = merged(read(GOLDEN))
    kinds = "Opened, Wrote, Wrote, Stopped, Began, Wrote, Sealed, Stopped, Spent, Done"
    assert kinds == ", ".join(type(e).__name__ for e in expected)
    for cut in range(len(GOLDEN)):
        assert expected == merged(read(GOLDEN[:cut], GOLDEN[cut:]))


def test_a_stream_that_ends_early_is_done_only_if_every_choice_had_stopped() -> None:
    for cut in range(len(GOLDEN)):
        events = read(GOLDEN[:cut])
        stopped = sum(isinstance(e, Stopped) for e in events) == 2
        assert [Done if stopped else Broken] == [type(e) for e in events[-1:]]
        assert sum(isinstance(e, Done | Broken) for e in events) == 1
        assert all(e.reason == "cut_off" for e in events if isinstance(e, Broken))


# ------------------------------------------------------------------------- usage, log-probabilities


def test_usage_is_read_as_numbers_once_before_the_end() -> None:
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": "secret",
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": None, "note": "secret"},
        "cost": "secret",
    }
    early = chunk(content="a", reason="stop") | {"usage": {"total_tokens": 1}}
    late = chunk() | {"choices": [], "usage": usage}
    assert seen(early, late)[-2:] == [
        Spent(
            fields={
                "prompt_tokens": 5,
                "completion_tokens": 0,
                "total_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 2},
            }
        ),
        Done(),
    ]


@pytest.mark.parametrize(("name", "kind"), [("content", "text"), ("refusal", "refusal")])
def test_tokens_are_read_with_the_numbers_of_their_alternatives(name: str, kind: Any) -> None:
    made = with_logprobs("ab", scored("a", -0.5, x=-1.0, y=-2.0), scored("b", 0.25), name=name)
    assert seen(made)[0] == Wrote(
        channel=Channel(kind),
        text="ab",
        tokens=(Token("a", -0.5, (-1.0, -2.0)), Token("b", 0.0)),
    )


@pytest.mark.parametrize(
    "entries",
    [
        [scored("ab"), scored("secret")],
        [scored("a")],
        [scored("a"), scored("b", None)],
        [],
    ],
)
def test_tokens_that_do_not_say_what_the_text_says_are_dropped(
    entries: list[dict[str, Any]],
) -> None:
    assert seen(with_logprobs("ab", *entries))[0] == Wrote(channel=TEXT, text="ab")


def test_tokens_without_a_text_are_no_way_around_it() -> None:
    made = with_logprobs("", scored("secret"))
    assert seen(made) == [STOP, Done()]
