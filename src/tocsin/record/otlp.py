"""OTLP's traces on the wire, as protobuf and as JSON, from and to `tocsin.events.spans.Span`.

Attributes that are not in the table of `tocsin.events.spans` are dropped here, before anything
else sees them. Protobuf needs the extra ``otlp``; JSON needs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tocsin.errors import InputError, MissingExtra
from tocsin.events.spans import Moment, Span, Status, Value, is_read
from tocsin.limits import EVENT_ITEMS_MAX, SPAN_ATTRIBUTES_MAX, SPANS_BATCH_MAX, SPANS_OBJECTS_MAX

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

_STATUS: tuple[Status, ...] = ("unset", "ok", "error")
_SERVICE = "service.name"
_SCOPE = "tocsin"


class TooManySpans(InputError):  # noqa: N818 - the name says what is the case
    """A request has to be split."""


def _count(numbers: Iterable[int]) -> None:
    if sum(numbers) > SPANS_BATCH_MAX:
        raise TooManySpans(f"the request has more than {SPANS_BATCH_MAX:,} spans; split it")


# ------------------------------------------------------------------------------------- JSON, in


class _Any(msgspec.Struct, rename="camel", gc=False):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: str | int | None = None
    double_value: float | str | None = None
    array_value: _Array | None = None


class _Array(msgspec.Struct, rename="camel", gc=False):
    values: list[_Any] = []


class _Pair(msgspec.Struct, rename="camel", gc=False):
    key: str = ""
    value: _Any | None = None


class _Event(msgspec.Struct, rename="camel", gc=False):
    name: str = ""
    time_unix_nano: str | int = 0
    attributes: list[_Pair] = []


class _StatusOf(msgspec.Struct, rename="camel", gc=False):
    code: int = 0


class _Span(msgspec.Struct, rename="camel", gc=False):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    name: str = ""
    kind: int = 1
    start_time_unix_nano: str | int = 0
    end_time_unix_nano: str | int = 0
    attributes: list[_Pair] = []
    events: list[_Event] = []
    status: _StatusOf | None = None


class _ScopeSpans(msgspec.Struct, rename="camel", gc=False):
    spans: list[_Span] = []


class _Resource(msgspec.Struct, rename="camel", gc=False):
    attributes: list[_Pair] = []


class _ResourceSpans(msgspec.Struct, rename="camel", gc=False):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] = []


class _Request(msgspec.Struct, rename="camel", gc=False):
    resource_spans: list[_ResourceSpans] = []


_decoder = msgspec.json.Decoder(_Request)


def read_json(body: bytes) -> list[Span]:
    """Read an `ExportTraceServiceRequest` in OTLP's JSON.

    Raises:
        TooManySpans: there are more than `SPANS_BATCH_MAX`, or too many parts in them.
        InputError: it is none.
    """
    if body.count(b"{") > SPANS_OBJECTS_MAX:
        raise TooManySpans("the request has too many parts; split it")
    try:
        request = _decoder.decode(body)
        _count(len(scope.spans) for of in request.resource_spans for scope in of.scope_spans)
        return list(_from_json(request))
    except TooManySpans:
        raise
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        raise InputError("the body is no OTLP request for traces in JSON") from None


def _from_json(request: _Request) -> Iterator[Span]:
    for of_resource in request.resource_spans:
        pairs = of_resource.resource.attributes if of_resource.resource is not None else []
        service = _service((p.key, _json_value(p.value)) for p in pairs)
        for scope in of_resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    trace=_hex(span.trace_id, 32),
                    span=_hex(span.span_id, 16),
                    parent=span.parent_span_id.lower(),
                    name=span.name,
                    kind=span.kind,
                    start_us=_micros(int(span.start_time_unix_nano)),
                    end_us=_micros(int(span.end_time_unix_nano)),
                    service=service,
                    status=_status(span.status.code if span.status is not None else 0),
                    attributes=_json_attributes(span.attributes),
                    moments=tuple(
                        Moment(
                            name=event.name,
                            time_us=_micros(int(event.time_unix_nano)),
                            attributes=_json_attributes(event.attributes),
                        )
                        for event in span.events[:EVENT_ITEMS_MAX]
                    ),
                )


def _json_attributes(pairs: Sequence[_Pair]) -> dict[str, Value]:
    return _attributes((pair.key, _json_value(pair.value)) for pair in pairs if is_read(pair.key))


def _json_value(value: _Any | None, depth: int = 0) -> Value | None:
    if value is None:
        return None
    if value.int_value is not None:
        return int(value.int_value)
    if value.double_value is not None:
        return float(value.double_value)
    if value.array_value is not None and depth == 0:
        inner = (_json_value(v, 1) for v in value.array_value.values)
        return tuple(v for v in inner if v is not None)
    return value.string_value if value.string_value is not None else value.bool_value


# --------------------------------------------------------------------------------- protobuf, in


def read_protobuf(body: bytes) -> list[Span]:
    """Read an `ExportTraceServiceRequest` in protobuf.

    Raises:
        TooManySpans: there are more than `SPANS_BATCH_MAX`.
        InputError: it is none.
        MissingExtra: the package that reads it is not installed.
    """
    request = _message()
    try:
        request.ParseFromString(body)
    except Exception:  # noqa: BLE001 - protobuf's own error has no types
        raise InputError("the body is no OTLP request for traces in protobuf") from None
    _count(len(scope.spans) for of in request.resource_spans for scope in of.scope_spans)
    return list(_from_protobuf(request))


def _message() -> ExportTraceServiceRequest:
    try:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    except ImportError:
        raise MissingExtra(
            "OTLP in protobuf needs the extra otlp: pip install 'tocsin[otlp]', or send JSON"
        ) from None
    return trace_service_pb2.ExportTraceServiceRequest()


def _from_protobuf(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for of_resource in request.resource_spans:
        pairs = of_resource.resource.attributes
        service = _service((p.key, _proto_value(p.value)) for p in pairs)
        for scope in of_resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    trace=_hex(span.trace_id.hex(), 32),
                    span=_hex(span.span_id.hex(), 16),
                    parent=span.parent_span_id.hex(),
                    name=span.name,
                    kind=span.kind,
                    start_us=_micros(span.start_time_unix_nano),
                    end_us=_micros(span.end_time_unix_nano),
                    service=service,
                    status=_status(span.status.code),
                    attributes=_proto_attributes(span.attributes),
                    moments=tuple(
                        Moment(
                            name=event.name,
                            time_us=_micros(event.time_unix_nano),
                            attributes=_proto_attributes(event.attributes),
                        )
                        for event in span.events[:EVENT_ITEMS_MAX]
                    ),
                )


def _proto_attributes(pairs: Iterable[Any]) -> dict[str, Value]:
    return _attributes((p.key, _proto_value(p.value)) for p in pairs if is_read(p.key))


def _proto_value(value: Any, depth: int = 0) -> Value | None:
    which = value.WhichOneof("value")
    if which == "array_value" and depth == 0:
        inner = (_proto_value(v, 1) for v in value.array_value.values)
        return tuple(v for v in inner if v is not None)
    if which in {"string_value", "bool_value", "int_value", "double_value"}:
        found: Value = getattr(value, which)
        return found
    return None


# ----------------------------------------------------------------------------------------- both


def _attributes(pairs: Iterable[tuple[str, Value | None]]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for key, value in pairs:
        if value is not None and len(found) < SPAN_ATTRIBUTES_MAX:
            found[key] = value
    return found


def _service(pairs: Iterable[tuple[str, Value | None]]) -> str:
    return next((v for k, v in pairs if k == _SERVICE and isinstance(v, str)), "")


def _hex(digits: str, length: int) -> str:
    """Check an id: OTLP says that all zeros is none."""
    given = digits.lower()
    if len(given) != length or set(given) - set("0123456789abcdef") or not given.strip("0"):
        return ""
    return given


def _micros(nanos: int) -> int:
    return nanos // 1_000


def _status(code: int) -> Status:
    return _STATUS[code] if 0 <= code < len(_STATUS) else "unset"


# ------------------------------------------------------------------------------------------ out


def to_json(spans: Iterable[Span]) -> bytes:
    """Write an `ExportTraceServiceRequest` in OTLP's JSON."""
    resources = [
        {
            "resource": {"attributes": [_pair(_SERVICE, service)]},
            "scopeSpans": [{"scope": {"name": _SCOPE}, "spans": [_json_span(s) for s in of]}],
        }
        for service, of in _by_service(spans).items()
    ]
    return msgspec.json.encode({"resourceSpans": resources})


def _json_span(span: Span) -> dict[str, Any]:
    return {
        "traceId": span.trace,
        "spanId": span.span,
        **({"parentSpanId": span.parent} if span.parent else {}),
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_us * 1_000),
        "endTimeUnixNano": str(span.end_us * 1_000),
        "attributes": [_pair(k, v) for k, v in span.attributes.items()],
        "status": {"code": _STATUS.index(span.status)},
        "events": [
            {
                "name": moment.name,
                "timeUnixNano": str(moment.time_us * 1_000),
                "attributes": [_pair(k, v) for k, v in moment.attributes.items()],
            }
            for moment in span.moments
        ],
    }


def _pair(key: str, value: Value) -> dict[str, Any]:
    return {"key": key, "value": _json_any(value)}


def _json_any(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    return {"arrayValue": {"values": [_json_any(v) for v in value]}}


def to_protobuf(spans: Iterable[Span]) -> bytes:
    """Write an `ExportTraceServiceRequest` in protobuf.

    Raises:
        MissingExtra: the package that writes it is not installed.
    """
    request = _message()
    for service, of in _by_service(spans).items():
        resource = request.resource_spans.add()
        _proto_any(resource.resource.attributes.add(key=_SERVICE).value, service)
        scope = resource.scope_spans.add()
        scope.scope.name = _SCOPE
        for span in of:
            made = scope.spans.add(
                trace_id=bytes.fromhex(span.trace),
                span_id=bytes.fromhex(span.span),
                parent_span_id=bytes.fromhex(span.parent),
                name=span.name,
                start_time_unix_nano=span.start_us * 1_000,
                end_time_unix_nano=span.end_us * 1_000,
            )
            made.kind = span.kind
            made.status.code = _STATUS.index(span.status)
            _proto_pairs(made.attributes, span.attributes)
            for moment in span.moments:
                event = made.events.add(name=moment.name, time_unix_nano=moment.time_us * 1_000)
                _proto_pairs(event.attributes, moment.attributes)
    return bytes(request.SerializeToString())


def _proto_pairs(into: Any, attributes: dict[str, Value]) -> None:
    for key, value in attributes.items():
        _proto_any(into.add(key=key).value, value)


def _proto_any(into: Any, value: Value) -> None:
    if isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, int):
        into.int_value = value
    elif isinstance(value, float):
        into.double_value = value
    elif isinstance(value, str):
        into.string_value = value
    else:
        into.array_value.SetInParent()
        for inner in value:
            _proto_any(into.array_value.values.add(), inner)


def _by_service(spans: Iterable[Span]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for span in spans:
        found.setdefault(span.service, []).append(span)
    return found


# -------------------------------------------------------------------------------------- answers


def answer_json(rejected: int, message: str) -> bytes:
    """Write an `ExportTraceServiceResponse` in JSON."""
    if not rejected and not message:
        return b"{}"
    partial = {"rejectedSpans": str(rejected), "errorMessage": message}
    return msgspec.json.encode({"partialSuccess": partial})


def answer_protobuf(rejected: int, message: str) -> bytes:
    """Write an `ExportTraceServiceResponse` in protobuf, which is small enough to do by hand."""
    if not rejected and not message:
        return b""
    inner = b""
    if rejected:
        inner += b"\x08" + _varint(rejected)
    if message:
        text = message.encode()
        inner += b"\x12" + _varint(len(text)) + text
    return b"\x0a" + _varint(len(inner)) + inner


def status_protobuf(message: str) -> bytes:
    """Write a `google.rpc.Status` that says what is wrong with a request."""
    text = message.encode()
    return b"\x12" + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
