"""Events as spans and back, and what other people's spans tell of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from events.drawn import KINDS, events
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.kinds import Alarmed, StreamEnded, StreamOpened, Used
from tocsin.events.reading import BODIES, Flaw
from tocsin.events.spans import TABLE, Moment, Span, Value, events_of, is_read, span_of

_CHAT: dict[str, Value] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "small",
    "gen_ai.response.model": "small-2026",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.conversation.id": "conv-1",
    "gen_ai.request.stream": True,
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 34,
    "gen_ai.response.time_to_first_chunk": 0.25,
    "gen_ai.input.messages": "SECRET",
    "gen_ai.output.messages": "SECRET",
    "gen_ai.system_instructions": "SECRET",
}


def _span(attributes: dict[str, Value], **fields: Any) -> Span:
    made: dict[str, Any] = {
        "trace": "ab" * 16,
        "span": "cd" * 8,
        "start_us": 1_000,
        "end_us": 3_000_000,
    }
    return Span(**(made | {"service": "shop", "attributes": attributes} | fields))


def _read(span: Span) -> list[Event]:
    found = events_of(span)
    assert all(isinstance(e, Event) for e in found), found
    return [e for e in found if isinstance(e, Event)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: str(k.__struct_config__.tag))
@settings(max_examples=15)
@given(st.data())
def test_every_kind_comes_back_from_its_span(
    kind: type[msgspec.Struct], data: st.DataObject
) -> None:
    event = data.draw(events(kind))
    assert events_of(span_of(event)) == [event]


def test_the_table_names_fields_that_there_are() -> None:
    parts: dict[str, type[msgspec.Struct]] = {"links": Links, "segment": Segment}
    for row in TABLE:
        section, _, name = row.field.rpartition(".")
        of = parts.get(section) or BODIES[section]
        assert name in of.__struct_fields__, row


_EVENT = Event(id="e", time_us=5, source="s", body=StreamOpened(api="chat"))


def test_spans_of_one_call_hang_below_that_of_its_usage() -> None:
    links = Links(request="q", call="c")
    used = span_of(msgspec.structs.replace(_EVENT, body=Used(total_ms=1.0), links=links))
    opened = span_of(msgspec.structs.replace(_EVENT, links=links))
    assert used.trace == opened.trace
    assert opened.parent == used.span
    assert used.kind == 3
    assert used.attributes["gen_ai.operation.name"] == "chat"


def test_an_alarm_keeps_its_numbers() -> None:
    body = Alarmed(
        check="linear",
        verifier="l",
        verifier_version="1",
        wanted="halt",
        done="halt",
        threshold=0.5,
    )
    span = span_of(msgspec.structs.replace(_EVENT, body=body))
    assert span.attributes["tocsin.threshold"] == 0.5
    assert span.name == "tocsin.alarm"


def test_an_inference_is_opened_used_and_ended() -> None:
    opened, used, ended = _read(_span(_CHAT))
    assert opened.body == StreamOpened(api="chat", stream=True)
    assert used.body == Used(first_ms=250.0, total_ms=2_999.0, tokens_in=12, tokens_out=34)
    assert ended.body == StreamEnded(outcome="ok")
    assert opened.time_us == 1_000
    assert ended.time_us == 3_000_000
    for event in (opened, used, ended):
        assert event.links == Links(request="ab" * 16, call="chatcmpl-1", session="conv-1")
        assert (event.segment.model, event.segment.model_version) == ("small", "small-2026")
        assert event.source == "shop"
        assert b"SECRET" not in msgspec.json.encode(event)


def test_a_failed_inference_says_how() -> None:
    ended = _read(_span(_CHAT | {"error.type": "timeout"}, status="error"))[-1]
    assert ended.body == StreamEnded(outcome="upstream_failed", failure="timeout")


def test_a_tool_is_attempted_and_returned() -> None:
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.call.id": "call-1",
        "gen_ai.tool.call.arguments": "SECRET",
    }
    attempted, returned = _read(_span(attributes, status="error"))
    assert attempted.kind == "tool.attempted"
    assert returned.links.tool_call == "call-1"
    assert msgspec.to_builtins(returned.body)["ok"] is False
    assert b"SECRET" not in msgspec.json.encode([attempted, returned])


def test_a_retrieval_names_its_source_and_no_document() -> None:
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.data_source.id": "wiki",
        "gen_ai.retrieval.documents": "SECRET",
        "gen_ai.retrieval.query.text": "SECRET",
    }
    (event,) = _read(_span(attributes))
    assert msgspec.to_builtins(event.body)["sources"] == ("wiki",)
    assert b"SECRET" not in msgspec.json.encode(event)


def test_an_evaluation_within_a_span_is_a_classification() -> None:
    attributes: dict[str, Value] = {
        "gen_ai.evaluation.name": "toxicity",
        "gen_ai.evaluation.score.value": 0.97,
        "gen_ai.evaluation.score.label": "pass",
        "gen_ai.evaluation.explanation": "SECRET",
    }
    moment = Moment(name="gen_ai.evaluation.result", time_us=9, attributes=attributes)
    found = _read(_span(_CHAT, moments=(moment,)))[-1]
    assert msgspec.to_builtins(found.body) == {
        "kind": "output.classified", "check": "toxicity", "category": "", "bin": 9, "label": "pass",
    }  # fmt: skip


def test_a_span_of_something_else_tells_of_nothing() -> None:
    assert events_of(_span({"http.request.method": "GET"})) == []
    assert events_of(_span({"gen_ai.operation.name": "embeddings"})) == []


def test_the_same_span_gives_the_same_ids() -> None:
    first, second = events_of(_span(_CHAT)), events_of(_span(_CHAT, status="ok"))
    assert [e.id for e in first if isinstance(e, Event)] == [
        e.id for e in second if isinstance(e, Event)
    ]


@pytest.mark.parametrize(
    "name", ["gen_ai.input.messages", "gen_ai.tool.call.arguments", "gen_ai.retrieval.documents"]
)
def test_content_is_not_read(name: str) -> None:
    assert not is_read(name)


@given(
    st.dictionaries(
        st.sampled_from(
            [row.attribute for row in TABLE]
            + [
                "tocsin.kind",
                "tocsin.id",
                "tocsin.steps",
                "tocsin.links.user",
                "tocsin.a.b",
                "tocsin.",
            ]
            + ["gen_ai.operation.name", "gen_ai.data_source.id"]
        ),
        st.text(max_size=5)
        | st.integers()
        | st.floats()
        | st.booleans()
        | st.lists(st.text(max_size=3), max_size=2).map(tuple)
        | st.sampled_from([*BODIES, "chat", "execute_tool", "retrieval"]),
    ),
    st.integers(),
    st.integers(),
)
def test_whatever_a_span_holds_it_is_events_or_flaws(
    attributes: dict[str, Value], start_us: int, end_us: int
) -> None:
    for found in events_of(_span(attributes, start_us=start_us, end_us=end_us)):
        assert isinstance(found, Event | Flaw)
