"""Events and OpenTelemetry spans: one table between the names of both sides.

Out: every event becomes one span, with the names of the GenAI conventions where they have one and
with ``tocsin.`` and the field where they have none, so that nothing is lost: `events_of` gives the
event again. In: spans of other people's instrumentation become the events that they
tell of. Only attributes of the table are ever read: prompts, answers, arguments, documents and
queries, which the conventions allow on a span, are left aside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from tocsin.events.envelope import UNKNOWN, Event
from tocsin.events.kinds import (
    Body,
    Classified,
    Retrieved,
    StreamEnded,
    StreamOpened,
    ToolAttempted,
    ToolReturned,
    Used,
)
from tocsin.events.reading import Flaw, read_event
from tocsin.limits import EVENT_ITEMS_MAX

Value = str | bool | int | float | tuple["Value", ...]
"""What an attribute may hold; other forms are left aside by whoever reads the wire."""

Status = Literal["unset", "ok", "error"]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened within a span.

    Args:
        name: such as ``gen_ai.evaluation.result``.
        time_us: microseconds since 1970.
    """

    name: str
    time_us: int
    attributes: dict[str, Value] = {}


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A span, whatever it came as.

    Args:
        trace, span, parent: 32, 16 and 16 (or no) hexadecimal digits.
        name: for people.
        kind: of OTLP: 1 internal, 2 server, 3 client.
        start_us, end_us: microseconds since 1970.
        service: who tells: ``service.name`` of the resource.
    """

    trace: str
    span: str
    parent: str = ""
    name: str = ""
    kind: int = 1
    start_us: int
    end_us: int
    service: str = ""
    status: Status = "unset"
    attributes: dict[str, Value] = {}
    moments: tuple[Moment, ...] = ()


class Row(NamedTuple):
    """One line of the table.

    Args:
        attribute: of the conventions.
        field: of an event: ``links.``, ``segment.`` or a kind, then the field.
        scale: an attribute's value times this is the field's.
    """

    attribute: str
    field: str
    scale: int = 1


TABLE: tuple[Row, ...] = (
    Row("gen_ai.conversation.id", "links.session"),
    Row("gen_ai.response.id", "links.call"),
    Row("gen_ai.tool.call.id", "links.tool_call"),
    Row("gen_ai.request.model", "segment.model"),
    Row("gen_ai.response.model", "segment.model_version"),
    Row("gen_ai.request.stream", "stream.opened.stream"),
    Row("gen_ai.response.time_to_first_chunk", "usage.first_ms", 1_000),
    Row("gen_ai.usage.input_tokens", "usage.tokens_in"),
    Row("gen_ai.usage.output_tokens", "usage.tokens_out"),
    Row("gen_ai.tool.name", "tool.attempted.tool"),
    Row("gen_ai.tool.name", "tool.denied.tool"),
    Row("gen_ai.tool.name", "tool.returned.tool"),
    Row("gen_ai.evaluation.name", "output.classified.check"),
    Row("gen_ai.evaluation.score.label", "output.classified.label"),
    Row("error.type", "stream.ended.failure"),
    Row("error.type", "failure.failure"),
)
"""Attributes of the GenAI conventions and the fields that say the same."""

OPERATION = "gen_ai.operation.name"
EVALUATION = "gen_ai.evaluation.result"
_SCORE = "gen_ai.evaluation.score.value"
_SOURCES = "gen_ai.data_source.id"

INFERENCE = frozenset({"chat", "generate_content", "text_completion"})
"""Operations that a model answers."""

OPERATIONS: dict[str, str] = {
    "usage": "chat",
    "tool.attempted": "execute_tool",
    "tool.denied": "execute_tool",
    "tool.returned": "execute_tool",
    "retrieval": "retrieval",
}
"""What an event is called as a span, where the conventions have a word."""

OURS = "tocsin."
_KIND = "tocsin.kind"
_BY_FIELD = {row.field: row for row in TABLE}
_DURATION = {"usage": "total_ms", "tool.returned": "duration_ms"}


_READ = frozenset({row.attribute for row in TABLE} | {OPERATION, _SCORE, _SOURCES})


def is_read(attribute: str) -> bool:
    """Whether an attribute is looked at; all others are dropped where a span is read.

    Example:
        >>> is_read("gen_ai.request.model"), is_read("gen_ai.input.messages")
        (True, False)
    """
    return attribute in _READ or attribute.startswith(OURS)


def span_of(event: Event) -> Span:
    """Write an event as a span.

    Spans of one request share a trace, and those of one call have the span of its usage (which
    lasts as long as the call) as their parent. A resource's ``service.name`` is the source.

    Example:
        >>> from tocsin.events.envelope import Segment
        >>> event = Event(
        ...     id="e1",
        ...     time_us=2_000_000,
        ...     source="shop",
        ...     body=Used(total_ms=500.0, tokens_out=7),
        ...     segment=Segment(model="small"),
        ... )
        >>> span = span_of(event)
        >>> span.name, span.end_us - span.start_us, span.attributes["gen_ai.usage.output_tokens"]
        ('chat small', 500000, 7)
        >>> events_of(span) == [event]
        True
    """
    links, kind = event.links, event.kind
    body = {k: v for k, v in msgspec.to_builtins(event.body).items() if k != "kind"}
    attributes: dict[str, Value] = {_KIND: kind, "tocsin.id": event.id}
    attributes |= _written("links", msgspec.structs.asdict(links))
    attributes |= _written("segment", msgspec.structs.asdict(event.segment))
    attributes |= _written(kind, body)
    if kind in OPERATIONS:
        attributes[OPERATION] = OPERATIONS[kind]
    call = links.call
    own = f"call {call}" if kind == "usage" and call else f"event {event.id}"
    took = body.get(_DURATION.get(kind, ""))
    start = event.time_us - round(took * 1_000) if took is not None else event.time_us
    return Span(
        trace=_digits(f"trace {links.request or links.session or call or event.id}", 32),
        span=_digits(own, 16),
        parent=_digits(f"call {call}", 16) if call and kind != "usage" else "",
        name=_name(event),
        kind=3 if kind == "usage" else 1,
        start_us=max(0, min(start, event.time_us)),
        end_us=event.time_us,
        service=event.source,
        status="error" if _went_wrong(body, kind) else "unset",
        attributes=attributes,
    )


def _written(section: str, fields: Mapping[str, Any]) -> dict[str, Value]:
    """Write the fields of one part of an event; what is None is left out."""
    made: dict[str, Value] = {}
    for name, value in fields.items():
        row = _BY_FIELD.get(f"{section}.{name}")
        if value is None or (value == UNKNOWN and section == "segment"):
            continue
        if row is None:
            part = f"{section}." if section in {"links", "segment"} else ""
            made[f"{OURS}{part}{name}"] = _plain(value)
        else:
            made[row.attribute] = value / row.scale if row.scale != 1 else value
            if row.scale != 1:
                made[f"{OURS}{name}"] = value
    return made


def _plain(value: Any) -> Value:
    """Give a value as an attribute: tables, which attributes cannot hold, as JSON."""
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return tuple(value) if isinstance(value, list | tuple) else value


def _name(event: Event) -> str:
    operation = OPERATIONS.get(event.kind)
    if operation is None:
        return OURS + event.kind
    what = getattr(event.body, "tool", None) or event.segment.model
    return operation if event.kind == "retrieval" or what == UNKNOWN else f"{operation} {what}"


def _went_wrong(body: Mapping[str, Any], kind: str) -> bool:
    return (
        kind in {"failure", "tool.denied"} or body.get("ok") is False or bool(body.get("failure"))
    )


def _digits(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]


# ------------------------------------------------------------------------------------------- in


def events_of(span: Span) -> list[Event | Flaw]:
    """Read what a span tells of; nothing where it tells of no model, tool or retrieval.

    Ids follow from those of trace and span, so that a span that is sent again changes nothing.

    Example:
        >>> span = Span(
        ...     trace="0" * 32,
        ...     span="1" * 16,
        ...     start_us=0,
        ...     end_us=9,
        ...     service="shop",
        ...     attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "small"},
        ... )
        >>> [event.kind for event in events_of(span)]
        ['stream.opened', 'usage', 'stream.ended']
    """
    if _KIND in span.attributes:
        return [_ours(span)]
    found: list[Event | Flaw] = []
    operation = span.attributes.get(OPERATION)
    if operation in INFERENCE:
        found += _inference(span)
    elif operation == "execute_tool":
        found += _tool(span)
    elif operation == "retrieval":
        found += _retrieval(span)
    found += _evaluations(span)
    return found


def _ours(span: Span) -> Event | Flaw:
    """Read a span that `span_of` wrote."""
    attributes = span.attributes
    kind = attributes[_KIND]
    body: dict[str, Any] = {"kind": kind}
    links: dict[str, Any] = {}
    segment: dict[str, Any] = {}
    parts = {"links": links, "segment": segment, str(kind): body}
    for row in TABLE:
        section, _, name = row.field.rpartition(".")
        if row.attribute in attributes and section in parts and row.scale == 1:
            parts[section][name] = attributes[row.attribute]
    for attribute, value in attributes.items():
        if not attribute.startswith(OURS) or attribute in {_KIND, "tocsin.id"}:
            continue
        section, _, name = attribute.removeprefix(OURS).rpartition(".")
        if section in parts:
            parts[section][name] = value
        else:
            body[f"{section}.{name}".lstrip(".")] = value
    for table in ("steps", "lowest", "verifiers"):
        if isinstance(body.get(table), str):
            try:
                body[table] = msgspec.json.decode(body[table])
            except (msgspec.DecodeError, RecursionError):
                return Flaw(f"{OURS}{table}: has to be a JSON object, as text")
    return read_event(
        {
            "id": attributes.get("tocsin.id"),
            "time_us": span.end_us,
            "source": span.service,
            "body": body,
            "links": links,
            "segment": segment,
        }
    )


def _inference(span: Span) -> Iterator[Event | Flaw]:
    given = span.attributes
    opened: dict[str, Any] = {
        "api": given[OPERATION],
        "stream": given.get("gen_ai.request.stream", False),
    }
    used = {"total_ms": (span.end_us - span.start_us) / 1_000, **_read(span, "usage")}
    failure = given.get("error.type") if span.status == "error" or "error.type" in given else None
    outcome = "ok" if span.status != "error" and failure is None else "upstream_failed"
    yield _event(span, "opened", span.start_us, StreamOpened, opened)
    yield _event(span, "usage", span.end_us, Used, used)
    yield _event(span, "ended", span.end_us, StreamEnded, {"outcome": outcome, "failure": failure})


def _tool(span: Span) -> Iterator[Event | Flaw]:
    tool = span.attributes.get("gen_ai.tool.name", UNKNOWN)
    took = (span.end_us - span.start_us) / 1_000
    ok = span.status != "error" and "error.type" not in span.attributes
    returned = {"tool": tool, "ok": ok, "duration_ms": took}
    yield _event(span, "attempted", span.start_us, ToolAttempted, {"tool": tool})
    yield _event(span, "returned", span.end_us, ToolReturned, returned)


def _retrieval(span: Span) -> Iterator[Event | Flaw]:
    source = span.attributes.get(_SOURCES)
    sources = (
        [source] if isinstance(source, str) else list(source) if isinstance(source, tuple) else []
    )
    body = {"sources": sources[:EVENT_ITEMS_MAX]}
    yield _event(span, "retrieval", span.end_us, Retrieved, body)


def _evaluations(span: Span) -> Iterator[Event | Flaw]:
    for number, moment in enumerate(span.moments):
        given = moment.attributes
        if moment.name != EVALUATION or "gen_ai.evaluation.name" not in given:
            continue
        score = given.get(_SCORE)
        body: dict[str, Any] = {"check": given["gen_ai.evaluation.name"]}
        if isinstance(score, float | int) and not isinstance(score, bool) and 0 <= score <= 1:
            body["bin"] = min(9, int(score * 10))
        if "gen_ai.evaluation.score.label" in given:
            body["label"] = given["gen_ai.evaluation.score.label"]
        yield _event(span, f"evaluation.{number}", moment.time_us, Classified, body)


def _read(span: Span, kind: str) -> dict[str, Any]:
    """Read the fields of a kind, or of links or segment, that the table knows."""
    found: dict[str, Any] = {}
    for row in TABLE:
        section, _, name = row.field.rpartition(".")
        value = span.attributes.get(row.attribute)
        if section != kind or value is None:
            continue
        if row.scale != 1 and isinstance(value, float | int):
            value *= row.scale
        found[name] = value
    return found


def _event(
    span: Span, part: str, time_us: int, body: type[Body], fields: dict[str, Any]
) -> Event | Flaw:
    return read_event(
        {
            "id": f"otlp.{span.trace}.{span.span}.{part}",
            "time_us": time_us,
            "source": span.service or "otlp",
            "body": {"kind": str(body.__struct_config__.tag), **fields},
            "links": {"request": span.trace, **_read(span, "links")},
            "segment": _read(span, "segment"),
        }
    )
