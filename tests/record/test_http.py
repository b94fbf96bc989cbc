"""The record over HTTP, on real sockets."""

from __future__ import annotations

import asyncio
import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from record.world import (
    NOW_US,
    SlowWriter,
    Untouched,
    bearer,
    event,
    found_in,
    recording,
    run,
    served,
    serving,
    stored,
    until,
)

from tocsin.errors import InputError, StoreBusy, StoreFailed, StoreFull
from tocsin.events.cloudevents import BATCH, SINGLE, encode_batch, encode_cloudevent
from tocsin.events.envelope import Links
from tocsin.events.kinds import (
    Accessed,
    Body,
    CalibrationChanged,
    ControlChanged,
    Feedback,
    PolicyChanged,
    Reviewed,
    RolloutStaged,
    Shed,
    StreamOpened,
)
from tocsin.events.spans import Span, span_of
from tocsin.limits import EVENTS_BATCH_MAX, EVENTS_BYTES_MAX, EVENTS_UNDER_WAY_MAX, SPANS_BATCH_MAX
from tocsin.record import otlp
from tocsin.record.recorder import Recorder
from tocsin.store import Append, Entry, Keys, Scope, Store, Writer
from tocsin.store.history import History

_JSON = {"content-type": "application/json"}
_PROTOBUF = {"content-type": otlp.PROTOBUF}


def _batch(*numbers: int) -> bytes:
    return encode_batch(map(event, numbers))


def _post(
    tmp_path: Path,
    body: bytes,
    headers: dict[str, str],
    path: str = "/v1/events",
    *,
    unpacks: bool = False,
) -> tuple[int, bytes, dict[str, str], list[Any]]:
    async def main() -> Any:
        async with (
            serving(tmp_path, unpacks=unpacks) as (url, client, store),
            client.post(url + path, data=io.BytesIO(body), headers=headers) as answer,
        ):
            told = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, await answer.read(), told, stored(store)

    found: tuple[int, bytes, dict[str, str], list[Any]] = run(main())
    return found


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (BATCH, _batch(1, 2)),
        ("application/json", msgspec.json.encode([event(1), event(2)])),
        ("application/json; charset=utf-8", msgspec.json.encode({"events": [event(1), event(2)]})),
        (BATCH, msgspec.json.encode([event(1), event(2)])),
    ],
)
def test_events_come_in_in_every_form(tmp_path: Path, kind: str, body: bytes) -> None:
    status, raw, headers, found = _post(tmp_path, body, {**bearer(), "content-type": kind})
    assert status == 200
    told = msgspec.json.decode(raw)
    assert (told["accepted"], told["duplicates"], told["rejected"]) == (2, 0, 0)
    assert [e["status"] for e in told["events"]] == [201, 201]
    assert headers["cache-control"] == "no-store"
    assert found == [event(1), event(2)]


def test_a_single_cloudevent_comes_in(tmp_path: Path) -> None:
    headers = {**bearer(), "content-type": SINGLE}
    status, _, _, found = _post(tmp_path, encode_cloudevent(event(1)), headers)
    assert (status, found) == (200, [event(1)])


@pytest.mark.parametrize("unpacks", [False, True])
def test_a_packed_batch_comes_in(tmp_path: Path, unpacks: bool) -> None:
    headers = {**bearer(), "content-type": BATCH, "content-encoding": "gzip"}
    status, _, _, found = _post(tmp_path, gzip.compress(_batch(1)), headers, unpacks=unpacks)
    assert (status, found) == (200, [event(1)])


def test_a_batch_with_a_bad_event_is_207(tmp_path: Path) -> None:
    body = msgspec.json.encode([event(1), {"id": "x"}])
    status, raw, _, found = _post(tmp_path, body, {**bearer(), **_JSON})
    assert status == 207
    told = msgspec.json.decode(raw)["events"]
    assert [(e["index"], e["status"], e["id"]) for e in told] == [(0, 201, "e1"), (1, 400, "x")]
    assert told[1]["reason"] == "body: has to be an object with its kind"
    assert found == [event(1)]


def _bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(bytes(EVENTS_BYTES_MAX * 4)) + packer.flush()


_PACKED = {**bearer(), **_JSON, "content-encoding": "gzip"}
_REFUSED: dict[str, tuple[bytes, dict[str, str], int]] = {
    "no key": (_batch(1), {}, 401),
    "unknown key": (_batch(1), bearer("nobody's"), 401),
    "may not": (_batch(1), {**bearer("key-to-look"), **_JSON}, 403),
    "media type": (_batch(1), {**bearer(), "content-type": "text/plain"}, 415),
    "packing": (_batch(1), {**bearer(), **_JSON, "content-encoding": "br"}, 415),
    "cut off": (b"{", {**bearer(), **_JSON}, 400),
    "number": (b"7", {**bearer(), **_JSON}, 400),
    "not utf-8": (b"\xff\xfe", {**bearer(), **_JSON}, 400),
    "deep": (b"[" * 200_000, {**bearer(), **_JSON}, 400),
    "too long": (b" " * (EVENTS_BYTES_MAX + 1), {**bearer(), **_JSON}, 413),
    "too many": (b"[" + b"1," * EVENTS_BATCH_MAX + b"1]", {**bearer(), **_JSON}, 413),
    "bomb": (_bomb(), _PACKED, 413),
    "no gzip": (b"no gzip", _PACKED, 400),
    "cut gzip": (gzip.compress(_batch(1))[:-9], _PACKED, 413),
    "two in one": (gzip.compress(b"[]") * 2, _PACKED, 413),
}


@pytest.mark.parametrize("name", _REFUSED)
@pytest.mark.parametrize("path", ["/v1/events", "/v1/traces"])
def test_what_is_refused(tmp_path: Path, path: str, name: str) -> None:
    body, headers, status = _REFUSED[name]
    headers = {"content-type": "application/json", **headers}
    found, raw, answered, left = _post(tmp_path, body, headers, path)
    if path == "/v1/traces" and name == "too many":
        status = 400
    assert found == status
    assert "message" in msgspec.json.decode(raw)["error"]
    assert left == []
    assert ("www-authenticate" in answered) == (status == 401)


def test_a_bomb_is_bounded_by_a_server_that_unpacks_too(tmp_path: Path) -> None:
    headers = {**bearer(), **_JSON, "content-encoding": "gzip"}
    status, _, _, left = _post(tmp_path, _bomb(), headers, unpacks=True)
    assert status == 413
    assert left == []


def test_a_body_without_length_is_bounded_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (url, client, _):

            async def endless() -> Any:
                for _ in range(200):
                    yield bytes(65_536)

            headers = {**bearer(), **_JSON}
            async with client.post(url + "/v1/events", data=endless(), headers=headers) as answer:
                assert answer.status == 413

    run(main())


def test_the_tenant_is_the_keys_and_nothing_in_the_body_changes_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (url, client, store):
            headers = {**bearer("key-of-bank"), "content-type": BATCH}
            async with client.post(
                url + "/v1/events?tenant=shop",
                data=_batch(1),
                headers={**headers, "tenant": "shop"},
            ) as answer:
                assert answer.status == 200
            assert stored(store) == []
            assert stored(store, "bank") == [event(1)]
            with_tenant = msgspec.json.encode([{**msgspec.to_builtins(event(2)), "tenant": "shop"}])
            async with client.post(url + "/v1/events", data=with_tenant, headers=headers) as answer:
                assert answer.status == 207
            assert stored(store) == []

    run(main())


def test_a_retry_after_a_lost_answer_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (url, client, store):
            for expected in ((2, 0), (0, 2), (1, 2)):
                numbers = (1, 2) if expected != (1, 2) else (1, 2, 3)
                async with client.post(
                    url + "/v1/events",
                    data=_batch(*numbers),
                    headers={**bearer(), "content-type": BATCH},
                ) as answer:
                    told = await answer.json()
                assert (told["accepted"], told["duplicates"]) == expected
            assert len(stored(store)) == 3

    run(main())


@pytest.mark.parametrize(
    ("error", "again"), [(StoreBusy("b"), True), (StoreFull("f"), True), (StoreFailed("x"), False)]
)
@pytest.mark.parametrize("path", ["/v1/events", "/v1/traces"])
def test_a_store_that_takes_nothing_is_503(path: str, error: Any, again: bool) -> None:
    async def main() -> None:
        writer = SlowWriter()
        writer.refuses = error
        recorder = Recorder(writer, lambda _: Untouched())
        async with served(recorder, None) as url, aiohttp.ClientSession() as client:
            body = _batch(1) if path == "/v1/events" else otlp.to_json([span_of(event(1))])
            headers = {**bearer(), **_JSON}
            async with client.post(url + path, data=body, headers=headers) as answer:
                assert answer.status == 503
                assert ("Retry-After" in answer.headers) == again

    run(main())


def test_a_tenant_has_only_so_many_batches_under_way_and_others_go_on() -> None:
    async def main() -> None:
        writer = SlowWriter()
        recorder = Recorder(writer, lambda _: Untouched())
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            served(recorder, None) as url,
            aiohttp.ClientSession(connector=connector) as client,
        ):

            async def post(number: int, key: str = "key-of-shop") -> int:
                headers = {**bearer(key), "content-type": BATCH}
                async with client.post(
                    url + "/v1/events", data=_batch(number), headers=headers
                ) as answer:
                    if answer.status == 429:
                        assert answer.headers["Retry-After"]
                    return answer.status

            waiting = [asyncio.ensure_future(post(n)) for n in range(EVENTS_UNDER_WAY_MAX)]
            await until(lambda: len(writer.given) == EVENTS_UNDER_WAY_MAX, 0.01)
            assert await post(99) == 429
            other = asyncio.ensure_future(post(1, "key-of-bank"))
            await until(lambda: len(writer.given) == EVENTS_UNDER_WAY_MAX + 1, 0.01)
            writer.settle()
            assert set(await asyncio.gather(*waiting, other)) == {200}

    run(main())


def test_some_kinds_take_more_than_the_right_to_send(tmp_path: Path) -> None:
    """A key that sits in an application can neither judge cases nor move controls."""
    judged = event(1, Reviewed(label="safe"))
    moved = event(2, ControlChanged(control="stop", to="off", by="x"))
    bodies = [
        ("/v1/events", encode_batch([judged, moved, event(3)]), BATCH),
        ("/v1/traces", otlp.to_json(map(span_of, [judged, moved, event(3)])), otlp.JSON),
    ]

    async def main() -> None:
        async with serving(tmp_path) as (url, client, store):
            for path, body, kind in bodies:
                headers = {**bearer("key-to-send"), "content-type": kind}
                async with client.post(url + path, data=body, headers=headers) as answer:
                    assert b"this key may not judge cases" in await answer.read()
            assert stored(store) == [event(3)]
            headers = {**bearer(), "content-type": BATCH}
            async with client.post(
                url + "/v1/events", data=bodies[0][1], headers=headers
            ) as answer:
                assert (await answer.json())["accepted"] == 2

    run(main())


@pytest.mark.parametrize("path", ["/v1/events", "/v1/traces"])
def test_no_door_takes_what_only_tocsin_says(tmp_path: Path, path: str) -> None:
    forged = [
        event(1, id="r_1.1"),
        event(2, id="tocsin.access.0"),
        event(3, source="tocsin/gateway"),
        event(4, Accessed(by="k_7", role="admin", action="content.read")),
        event(5, Shed(events=9, source="tocsin/recorder")),
        event(6, Reviewed(label="safe", selection_probability=-3.0)),
        event(7),
    ]
    spans = path == "/v1/traces"
    body = otlp.to_json(map(span_of, forged)) if spans else encode_batch(forged)
    headers = {**bearer(), "content-type": otlp.JSON if spans else BATCH}
    _, raw, _, found = _post(tmp_path, body, headers, path)
    told = msgspec.json.decode(raw)
    rejected = told["partialSuccess"]["rejectedSpans"] if spans else told["rejected"]
    assert (int(rejected), found) == (6, [event(7)])


def test_a_reviewer_judges_cases_and_sends_nothing_else(tmp_path: Path) -> None:
    judged = event(1, Reviewed(label="safe"))
    moved = event(2, ControlChanged(control="stop", to="off", by="x"))
    body = msgspec.json.encode([judged, moved, event(3)])

    async def main() -> None:
        async with serving(tmp_path) as (url, client, store):
            headers = {**bearer("key-to-judge"), **_JSON}
            async with client.post(url + "/v1/events", data=body, headers=headers) as answer:
                assert answer.status == 207
                told = (await answer.json())["events"]
            assert [e["verdict"] for e in told] == ["accepted", "rejected", "rejected"]
            assert {e["reason"] for e in told[1:]} == {"this key may not send events"}
            assert stored(store) == [judged]
            spans = otlp.to_json([span_of(event(4, Reviewed(label="safe")))])
            async with client.post(url + "/v1/traces", data=spans, headers=headers) as answer:
                assert answer.status == 403

    run(main())


@pytest.mark.parametrize(
    "changed",
    [
        PolicyChanged(policy="p", digest="d"),
        CalibrationChanged(check="c", digest="d"),
        RolloutStaged(rollout="r", stage="s"),
    ],
)
def test_a_key_that_only_sends_changes_no_rules(tmp_path: Path, changed: Body) -> None:
    body = msgspec.json.encode([event(1, changed)])
    headers = {**bearer("key-to-send"), **_JSON}
    status, raw, _, found = _post(tmp_path, body, headers)
    assert (status, found) == (207, [])
    assert b"this key may not move kill switches" in raw


def test_a_response_without_a_receipt_is_told_from_an_id_that_nobody_knows(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (url, client, store):
            opened = event(1, StreamOpened(api="chat"), links=Links(call="r_1", request="q1"))
            store.commit([Append(tenant="shop", events=(opened,))])

            async def ask(wanted: str, key: str = "key-of-shop") -> tuple[int, str]:
                path = f"{url}/v1/receipts/{wanted}"
                async with client.get(path, headers=bearer(key)) as answer:
                    return answer.status, (await answer.json())["error"]["message"]

            status, said = await ask("r_1")
            assert status == 404
            assert "this response has no receipt" in said
            assert "/v1/traces/" in said
            unknown = (404, "there is no such receipt")
            assert await ask("r_1", "key-of-bank") == unknown
            assert await ask("r_2") == unknown
            assert await ask("q1") == unknown

    run(main())


# ------------------------------------------------------------------------------------------ traces


def _spans(n: int = 1, **attributes: Any) -> list[Span]:
    return [
        Span(
            trace=f"{1 + i:032x}",
            span=f"{1 + i:016x}",
            start_us=NOW_US - 5_000,
            end_us=NOW_US,
            service="shop",
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.response.id": f"call-{i}",
                **attributes,
            },
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [otlp.JSON, otlp.PROTOBUF])
def test_traces_come_in(tmp_path: Path, kind: str, packed: bool) -> None:
    body = otlp.to_json(_spans(2)) if kind == otlp.JSON else otlp.to_protobuf(_spans(2))
    headers = {**bearer(), "content-type": kind}
    if packed:
        body, headers["content-encoding"] = gzip.compress(body), "gzip"
    status, raw, answered, found = _post(tmp_path, body, headers, "/v1/traces")
    assert status == 200
    assert answered["content-type"].startswith(kind)
    assert raw == (b"{}" if kind == otlp.JSON else b"")
    assert [e.kind for e in found] == ["stream.opened", "usage", "stream.ended"] * 2
    assert {e.links.call for e in found} == {"call-0", "call-1"}


@pytest.mark.parametrize("kind", [otlp.JSON, otlp.PROTOBUF])
def test_a_span_that_is_not_taken_is_a_partial_success(tmp_path: Path, kind: str) -> None:
    spans = _spans(2)
    spans[1] = msgspec.structs.replace(spans[1], service="tocsin/gateway")
    body = otlp.to_json(spans) if kind == otlp.JSON else otlp.to_protobuf(spans)
    status, raw, _, found = _post(tmp_path, body, {**bearer(), "content-type": kind}, "/v1/traces")
    assert status == 200
    if kind == otlp.JSON:
        told = msgspec.json.decode(raw)["partialSuccess"]
        rejected, message = int(told["rejectedSpans"]), told["errorMessage"]
    else:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceResponse,
        )

        answer = ExportTraceServiceResponse.FromString(raw)
        rejected = answer.partial_success.rejected_spans
        message = answer.partial_success.error_message
    assert rejected == 1
    assert message.startswith("source:")
    assert len(found) == 3


def test_more_spans_than_one_commit_takes_come_in(tmp_path: Path) -> None:
    n = EVENTS_BATCH_MAX // 3 + 10
    status, raw, _, found = _post(
        tmp_path, otlp.to_protobuf(_spans(n)), {**bearer(), **_PROTOBUF}, "/v1/traces"
    )
    assert (status, raw, len(found)) == (200, b"", 3 * n)


@pytest.mark.parametrize("kind", [otlp.JSON, otlp.PROTOBUF])
def test_too_many_spans_are_sent_back(tmp_path: Path, kind: str) -> None:
    n = SPANS_BATCH_MAX + 1
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b",".join([b"{}"] * n) + b"]}]}]}"
    if kind == otlp.PROTOBUF:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        request = trace_service_pb2.ExportTraceServiceRequest()
        spans = request.resource_spans.add().scope_spans.add().spans
        for _ in range(n):
            spans.add()
        body = request.SerializeToString()
    status, _, _, found = _post(tmp_path, body, {**bearer(), "content-type": kind}, "/v1/traces")
    assert (status, found) == (413, [])


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"junk"])
def test_what_is_no_protobuf_is_a_status(tmp_path: Path, body: bytes) -> None:
    status, raw, _, found = _post(tmp_path, body, {**bearer(), **_PROTOBUF}, "/v1/traces")
    assert status == 400
    assert b"no OTLP request" in raw
    assert found == []


@pytest.mark.parametrize("packed", [True, False])
def test_an_official_exporter_is_pleased(tmp_path: Path, packed: bool) -> None:
    """The OpenTelemetry SDK sends; content that it sends along is nowhere in the store."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

    def send(url: str) -> None:
        results = []

        class Tells(OTLPSpanExporter):
            def export(self, spans: Any) -> SpanExportResult:
                results.append(super().export(spans))
                return results[-1]

        exporter = Tells(
            endpoint=f"{url}/v1/traces",
            headers=bearer(),
            compression=Compression.Gzip if packed else Compression.NoCompression,
        )
        provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("test")
        with tracer.start_as_current_span("chat small", kind=trace.SpanKind.CLIENT) as span:
            span.set_attribute("gen_ai.operation.name", "chat")
            span.set_attribute("gen_ai.request.model", "small")
            span.set_attribute("gen_ai.usage.input_tokens", 5)
            span.set_attribute("gen_ai.input.messages", "SECRET-CANARY")
            span.add_event("gen_ai.evaluation.result", {"gen_ai.evaluation.name": "tone"})
        provider.shutdown()
        assert results == [SpanExportResult.SUCCESS]

    async def main() -> None:
        async with recording(tmp_path) as (recorder, store):
            clock = _clock_us
            async with served(recorder, store, clock) as url:
                await asyncio.to_thread(send, url)
            kinds = [e.kind for e in stored(store)]
            assert kinds == ["stream.opened", "usage", "stream.ended", "output.classified"]
        assert not found_in(tmp_path, b"SECRET-CANARY")

    run(main())


def _clock_us() -> int:
    import time

    return time.time_ns() // 1_000


# -------------------------------------------------------------------------------------------- reads


def test_a_receipt_is_read_as_a_proof_and_as_json_and_each_reading_is_an_event(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        keys = Keys.open(tmp_path / "keys")
        with Store.open(str(tmp_path / "r.db"), keys=keys) as store, Writer(store) as writer:
            recorder = Recorder(writer, lambda _: Untouched())
            entry = Entry(kind="receipt", id="r1", body=b'{"alarm":1}')
            await recorder.record(Append(tenant="shop", entries=(entry,)))
            async with served(recorder, store) as url, aiohttp.ClientSession() as client:
                path = url + "/v1/receipts/r1"
                async with client.get(path, headers=bearer()) as answer:
                    proof = await answer.text()
                    assert answer.status == 200
                    assert proof.startswith("c2sp.org/tlog-proof@v1\n")
                    assert answer.headers["Content-Type"].startswith("text/plain")
                accept = {"accept": "application/json"}
                async with client.get(path, headers=bearer() | accept) as answer:
                    told = await answer.json()
                    assert told["entry"]["body"] == {"alarm": 1}
                    assert told["proof"] == proof
                for key, status in (("key-of-bank", 404), ("key-to-send", 403), ("none", 401)):
                    async with client.get(path, headers=bearer(key)) as answer:
                        assert answer.status == status
                        assert "alarm" not in await answer.text()
            await recorder.close()
            found = [e.event.body for e in store.events(Scope("shop"))]
            assert [(b.by, b.allowed, b.target) for b in found if isinstance(b, Accessed)] == [
                ("k_shop", True, "receipts/r1"),
                ("k_shop", True, "receipts/r1"),
                ("k_send", False, "receipts/r1"),
            ]

    run(main())


def test_a_trace_is_a_chain_and_nobody_elses(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (url, client, _):
            said = event(1, Feedback(verdict="up"), links=Links(request="q", call="c"))
            opened = event(2, StreamOpened(api="chat"), links=Links(request="q", call="c"))
            async with client.post(
                url + "/v1/events",
                data=encode_batch([said, opened]),
                headers={**bearer(), "content-type": BATCH},
            ):
                pass
            async with client.get(url + "/v1/traces/c", headers=bearer("key-to-look")) as answer:
                (branch,) = (await answer.json())["branches"]
            assert (branch["request"], branch["call"]) == ("q", "c")
            shown = [(e["stage"], e["event"]["id"], e["seq"]) for e in branch["events"]]
            assert shown == [("input", "e2", 2), ("after", "e1", 1)]
            for path in (
                "/v1/traces/c",
                "/v1/traces/nothing",
                "/v1/traces/%00",
                "/v1/traces/a%0ab",
            ):
                key = "key-of-bank" if path.endswith("/c") else "key-of-shop"
                async with client.get(url + path, headers=bearer(key)) as answer:
                    assert answer.status == 404
            async with client.get(url + "/v1/traces/" + "x" * 2_000, headers=bearer()) as answer:
                assert answer.status == 404

    run(main())


def test_a_trace_is_read_from_closed_hours_as_well(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (url, client, store):
            store.commit([Append(tenant="shop", events=(event(1), event(2), event(3)))])
            with History(store) as history:
                closed = history.close(Scope("shop"), before_us=NOW_US + 3, uncovered=True)
            assert closed.deleted == 2
            async with client.get(url + "/v1/traces/q1", headers=bearer()) as answer:
                (branch,) = (await answer.json())["branches"]
            assert [e["seq"] for e in branch["events"]] == [1, 2, 3]

    run(main())


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoreBusy("b"), 503), (StoreFailed("f"), 503), (InputError("no folder"), 503)],
)
def test_a_store_that_cannot_be_read_is_503(error: Exception, status: int) -> None:
    class Broken:
        def trace(self, scope: Scope, any_id: str) -> Any:
            raise error

        receipt = proof = trace

    async def main() -> None:
        recorder = Recorder(SlowWriter(), lambda _: Untouched())
        async with served(recorder, Broken()) as url, aiohttp.ClientSession() as client:
            for path in ("/v1/traces/a", "/v1/receipts/a"):
                async with client.get(url + path, headers=bearer()) as answer:
                    assert answer.status == status

    run(main())


def test_refused_reads_are_all_counted_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.record.http.LIMIT_TOLD_S", 0.05)

    def told(store: Store, by: str) -> list[Accessed]:
        bodies = [s.event.body for s in store.events(Scope("shop"))]
        return [b for b in bodies if isinstance(b, Accessed) and b.by == by]

    async def main() -> None:
        async with (
            recording(tmp_path) as (recorder, store),
            served(recorder, store) as url,
            aiohttp.ClientSession() as session,
        ):
            for number in range(30):
                for key, status in (("key-of-shop", 404), ("key-to-send", 403)):
                    asked = session.get(f"{url}/v1/traces/none-{number}", headers=bearer(key))
                    async with asked as answer:
                        assert answer.status == status
            refused = ("k_shop", "k_send")

            def whole() -> bool:
                return all(sum(b.times for b in told(store, by)) == 30 for by in refused)

            await until(whole, 0.01)
            for by in refused:
                found = told(store, by)
                assert (found[0].target, found[0].times) == ("traces/none-0", 1)
                assert all(b.action == "record.read" and not b.allowed for b in found)

    run(main())
