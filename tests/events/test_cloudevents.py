"""CloudEvents hold all of an event, and are read strictly."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from events.drawn import KINDS, NOW_US, events
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from tocsin.events.cloudevents import encode_batch, encode_cloudevent, from_cloudevent
from tocsin.events.envelope import Event, Links, decode, encode
from tocsin.events.kinds import Accessed, ContentErased, Feedback, Retrieved, Shed, Used
from tocsin.events.reading import (
    BODIES,
    Flaw,
    _plainly_fits,
    _sizes,
    flaw_from_outside,
    read_event,
)
from tocsin.events.schema import event_schema, schema_text

jsonschema = pytest.importorskip("jsonschema")

_GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "shop",
    "type": "tocsin.feedback",
    "time": "2026-01-31T12:00:00Z",
    "data": {"verdict": "up"},
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: str(k.__struct_config__.tag))
@settings(max_examples=15)
@given(st.data())
def test_every_kind_comes_back_from_both_forms(
    kind: type[msgspec.Struct], data: st.DataObject
) -> None:
    event = data.draw(events(kind))
    assert from_cloudevent(msgspec.json.decode(encode_cloudevent(event))) == event
    assert read_event(msgspec.json.decode(encode(event))) == event


@settings(max_examples=60)
@given(events())
def test_the_published_schema_takes_what_is_written(event: Event) -> None:
    assert not list(_VALIDATOR.iter_errors(msgspec.json.decode(encode_cloudevent(event))))
    assert not list(_VALIDATOR.iter_errors(msgspec.json.decode(encode(event))))


@given(events(outside=True))
def test_a_drawn_event_may_come_from_outside(event: Event) -> None:
    assert flaw_from_outside(event, NOW_US) is None


def test_a_batch_is_an_array() -> None:
    event = Event(id="1", time_us=0, source="a", body=Feedback(verdict="up"))
    assert [e["id"] for e in msgspec.json.decode(encode_batch([event, event]))] == ["1", "1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ""}, "id: has to be given"),
        ({"id": 7}, "id: has to be given"),
        ({"source": None}, "source: has to be given"),
        ({"type": "com.example.feedback"}, "type: has to be tocsin."),
        ({"type": "tocsin.nothing"}, "type: has to be tocsin."),
        ({"time": "yesterday"}, "time: write a time"),
        ({"time": 7}, "time: has to be given"),
        ({"data": None}, "data: has to be an object"),
        ({"data": []}, "data: has to be an object"),
        ({"data_base64": "e30="}, "data_base64"),
        ({"datacontenttype": "text/plain"}, "datacontenttype"),
        ({"datacontenttype": 1}, "datacontenttype"),
        ({"dataschema": "urn:other"}, "dataschema"),
        ({"data": {"verdict": "up", "kind": "alarm"}}, "data.kind"),
        ({"data": {"verdict": "secret-value"}}, "data.verdict"),
        ({"data": {"verdict": "up", "prompt": "secret-value"}}, "data.prompt: feedback has no"),
        ({"data": {"verdict": "up", "links": {"mail": "a"}}}, "links.mail: there is no"),
        ({"data": {"verdict": "up", "segment": {"x": 1}}}, "segment.x: there is no"),
        ({"data": {"verdict": "up", "links": 3}}, "links"),
        ({"data": {"verdict": "up", "schema": "tocsin.event/2"}}, "schema: this reads"),
        ({"data": {}}, "verdict"),
    ],
)
def test_what_is_wrong_is_said_without_the_value(change: dict[str, Any], said: str) -> None:
    found = from_cloudevent(_GOOD | change)
    assert isinstance(found, Flaw)
    assert said in found.message
    assert "secret-value" not in found.message


@pytest.mark.parametrize("name", list(_GOOD))
def test_every_field_is_needed(name: str) -> None:
    found = from_cloudevent({k: v for k, v in _GOOD.items() if k != name})
    assert isinstance(found, Flaw)
    assert name in found.message


def test_extensions_of_others_are_left_aside() -> None:
    found = from_cloudevent(_GOOD | {"traceparent": "00-1-1-00", "partitionkey": "a"})
    assert isinstance(found, Event)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*_GOOD, *BODIES, "body", "links"]), inner, max_size=6
            )
        ),
        max_leaves=20,
    )
)
def test_whatever_comes_is_an_event_or_a_flaw(raw: Any) -> None:
    for found in (from_cloudevent(raw), read_event(raw), read_event({"body": raw})):
        assert isinstance(found, Event | Flaw)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"source": "Tocsin/gateway"}, "source: what begins"),
        *(
            ({"source": name}, "source: what begins")
            for name in (
                "tocsin",
                "TOCSIN",
                "/tocsin/gateway",
                "//tocsin",
                "./tocsin/x",
                "tocsin%2fgateway",
                "%74ocsin/gateway",
                "tocsin%252Fgateway",
                "%2F%54ocsin",
                "tocsin%00/gateway",
            )
        ),
        ({"source": "a shop"}, "source: write it in ASCII"),
        ({"source": ""}, "source: write it"),
        ({"id": ""}, "id: is empty"),
        ({"id": "a" * 257}, "id: has more than 256"),
        ({"id": "a\nb"}, "id: holds control"),
        ({"id": "a\u2028b"}, "id: holds control"),
        ({"id": "a\u202eb"}, "id: holds control"),
        ({"time_us": NOW_US + 400_000_000}, "five minutes ahead"),
        ({"time_us": NOW_US // 1_000}, "90 days back"),
        ({"time_us": 2**70}, "five minutes ahead"),
        ({"links": Links(session="s" * 300)}, "links.session: has more"),
        (
            {"body": Feedback(verdict="up", comment="x" * 4_097)},
            "body.comment: has more than 4,096",
        ),
        ({"body": Feedback(verdict="up", comment="a\x00b")}, "body.comment: holds control"),
        ({"body": Feedback(verdict="up", category="x" * 300)}, "body.category: has more than 256"),
        ({"body": Retrieved(sources=("a",) * 300)}, "body.sources: has more than 256"),
        ({"body": Retrieved(found=2**70)}, "body.found: is too large"),
        ({"id": "r_Ab-9_.12"}, "id: what begins with tocsin. or looks like r_ID.1"),
        ({"id": "tocsin.access.1"}, "give each event an id of your own"),
        *(
            ({"id": name}, "give each event an id of your own")
            for name in (
                "Tocsin.x",
                " tocsin.x",
                "r_X .7",
                "r_X.7 ",
                "r_X.\u0667",
                "r_X\uff0e7",
                "\uff52_X.7",
                "r_X.7\u034f",
                "r_\u3164X.7",
                "toc\u200bsin.x",
                "r_X.7\n",
            )
        ),
        ({"body": Accessed(by="k", role="admin", action="content.read")}, "said by Tocsin itself"),
        ({"body": ContentErased(subjects=1, by="k")}, "said by Tocsin itself"),
        ({"body": Shed(events=1, source="tocsin/recorder")}, "said by Tocsin itself"),
        ({"body": Shed(events=1, receipts=1, source="a")}, "said by Tocsin itself"),
    ],
)
def test_what_may_not_come_from_outside(fields: dict[str, Any], said: str) -> None:
    plain: dict[str, Any] = {
        "id": "1",
        "time_us": NOW_US,
        "source": "a",
        "body": Feedback(verdict="up"),
    }
    flaw = flaw_from_outside(Event(**(plain | fields)), NOW_US)
    assert flaw is not None
    assert said in flaw.message


@pytest.mark.parametrize(
    "source", ["shop", "tocsinette", "shop/tocsin", "tocsin-shop/a", "100%", "%zz", "http://tocsin"]
)
def test_a_source_that_only_resembles_ours_may_come_from_outside(source: str) -> None:
    event = Event(id="1", time_us=NOW_US, source=source, body=Feedback(verdict="up"))
    assert flaw_from_outside(event, NOW_US) is None


@pytest.mark.parametrize("own", ["feedback-on-r_1", "r_1", "r_1.x", "r_1.2.3", "1.2", "xr_1.2"])
def test_an_id_that_only_resembles_ours_may_come_from_outside(own: str) -> None:
    event = Event(id=own, time_us=NOW_US, source="a", body=Feedback(verdict="up"))
    assert flaw_from_outside(event, NOW_US) is None


def test_a_service_may_say_what_it_shed_itself() -> None:
    event = Event(id="1", time_us=NOW_US, source="a", body=Shed(events=1, source="a"))
    assert flaw_from_outside(event, NOW_US) is None


_OUT_OF_RANGE: list[tuple[str, dict[str, Any], str]] = [
    ("review.outcome", {"label": "safe", "selection_probability": p}, "above 0 and at most 1")
    for p in (-3, 0, 1.01, 7)
]
_OUT_OF_RANGE += [
    ("usage", {"tokens_in": -5}, "0 or more"),
    ("usage", {"spend_micro": -1}, "0 or more"),
    ("usage", {"first_ms": -0.1}, "0 or more"),
    ("tool.returned", {"tool": "t", "ok": True, "duration_ms": -1}, "0 or more"),
    ("stream.ended", {"outcome": "ok", "alarms": -1}, "0 or more"),
    ("stream.ended", {"outcome": "ok", "steps": {"c": -4}}, "each has to be 0 or more"),
    ("output.classified", {"check": "c", "bin": 99}, "from 0 to 9"),
    ("output.classified", {"check": "c", "bin": -1}, "from 0 to 9"),
    ("limit", {"limit": "l", "verdict": "allow", "action": "allow", "times": 0}, "1 or more"),
    ("rollout.stage", {"rollout": "r", "stage": "s", "share": 1.5}, "from 0 to 1"),
]


@pytest.mark.parametrize(("kind", "data", "said"), _OUT_OF_RANGE)
def test_a_number_out_of_its_range_is_a_flaw_against_the_schema_and_still_read(
    kind: str, data: dict[str, Any], said: str
) -> None:
    sent = _GOOD | {"type": f"tocsin.{kind}", "data": data}
    event = from_cloudevent(sent)
    assert isinstance(event, Event)
    flaw = flaw_from_outside(event, event.time_us)
    assert flaw is not None
    assert said in flaw.message
    assert any(name in flaw.message for name in data)
    assert list(_VALIDATOR.iter_errors(sent))
    assert decode(encode(event)) == event  # what is stored stays readable


def test_every_count_and_every_time_has_a_range() -> None:
    free = {"alarm.score", "alarm.statistic", "alarm.threshold", "limit.left"}
    for kind, body in BODIES.items():
        shown = inspect.type_info(body)
        assert isinstance(shown, inspect.StructType)
        for field in shown.fields:
            types = getattr(field.type, "types", (field.type,))
            plain = any(isinstance(one, inspect.IntType | inspect.FloatType) for one in types)
            assert plain == (f"{kind}.{field.name}" in free)


@given(events(outside=True))
def test_the_short_look_says_the_same_as_the_long_one(event: Event) -> None:
    if _plainly_fits(event):
        assert _sizes(msgspec.to_builtins(event), "") is None


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_cannot_be_written_is_a_flaw(odd: float) -> None:
    event = Event(id="1", time_us=NOW_US, source="a", body=Used(total_ms=odd))
    flaw = flaw_from_outside(event, NOW_US)
    assert flaw is not None
    assert "body.total_ms" in flaw.message


def test_a_comment_may_have_lines() -> None:
    body = Feedback(verdict="up", comment="one\n\ttwo")
    event = Event(id="1", time_us=NOW_US, source="a", body=body)
    assert flaw_from_outside(event, NOW_US) is None


def test_the_schema_is_a_schema_and_names_every_kind() -> None:
    schema = msgspec.json.decode(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {f"tocsin.{kind}" for kind in BODIES} == {
        one["properties"]["type"]["const"] for one in schema["$defs"]["CloudEvent"]["oneOf"]
    }


@pytest.mark.parametrize(
    "change",
    [{"data": {"verdict": "up", "mood": 1}}, {"data": {"verdict": "sideways"}}, {"type": "x"}],
)
def test_the_schema_refuses_what_is_refused(change: dict[str, Any]) -> None:
    assert list(_VALIDATOR.iter_errors(_GOOD | change))
    assert isinstance(from_cloudevent(_GOOD | change), Flaw)


_VALIDATOR = jsonschema.Draft202012Validator(event_schema())
