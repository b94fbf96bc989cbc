"""No canary gets into the record, whichever way it is sent, nor into what is said about it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from canaries import CANARIES, SHAPED, SHAPELESS, assert_clean
from record.filled import filled
from record.world import (
    NOW_US,
    bearer,
    event,
    recording,
    redaction,
    run,
    served,
    serving,
    until,
)

from tocsin.events.cloudevents import encode_batch
from tocsin.events.envelope import SCHEMA, Event, Links, Segment
from tocsin.events.kinds import Body, Feedback, Reviewed
from tocsin.events.reading import OUR_KINDS
from tocsin.record.client import Events
from tocsin.record.recorder import Recorder
from tocsin.record.redaction import Redaction
from tocsin.record.sending import Answer
from tocsin.store import Append, Content, Keys, Scope, Store, Writer

SHOP = Scope("shop")


def planted() -> list[Event]:
    """Every kind of event twice, with one canary or another in every string that it has."""
    secrets, kinds = list(SHAPED.values()), get_args(Body)
    return [
        msgspec.structs.replace(
            filled(f"x {secret} y", kind), time_us=NOW_US, id=f"{kind.__name__} {secret}"
        )
        for n, kind in enumerate(kinds)
        for secret in (secrets[n % len(secrets)], secrets[(n + 3) % len(secrets)])
    ]


def look(folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """Look at all that there is: files, log, what was printed. Not at the log of the test's own
    server, which holds the requests as they came; that of the gateway does not."""
    assert list(folder.rglob("record.db*"))
    printed = capfd.readouterr()
    assert_clean(folder, caplog.text, printed.out, printed.err)


@pytest.fixture(autouse=True)
def no_log_of_requests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.CRITICAL, logger="aiohttp.access")


def rows(folder: Path) -> int:
    """Count what a store holds, so that a clean store is not an empty one."""
    with sqlite3.connect(folder / "record.db") as connection:
        found: int = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    connection.close()
    return found


def test_what_is_given_to_the_recorder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    given = planted()

    async def main() -> None:
        async with recording(tmp_path) as (recorder, store):
            half = len(given) // 2
            await recorder.record(Append(tenant="shop", events=tuple(given[:half])))
            assert recorder.note(Append(tenant="shop", events=tuple(given[half:])))
            await until(lambda: not recorder.waiting)
            assert len(store.events(SHOP, limit=10_000)) == len(given)

    run(main())
    look(tmp_path, caplog, capfd)


@pytest.mark.parametrize("form", ["json", "cloudevents"])
def test_what_is_sent_to_the_events_api(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    form: str,
) -> None:
    sent = [
        msgspec.structs.replace(e, source="shop/web", schema=SCHEMA)
        for e in planted()
        if e.kind not in OUR_KINDS
    ]
    sources = [
        msgspec.structs.replace(e, source=f"shop/{SHAPED['email']}", id=f"{e.id} again")
        for e in sent
    ]
    make: dict[str, Callable[[list[Event]], bytes]] = {
        "json": msgspec.json.encode,
        "cloudevents": encode_batch,
    }
    kinds = {"json": "application/json", "cloudevents": "application/cloudevents-batch+json"}

    async def main() -> None:
        async with serving(tmp_path) as (url, client, _):
            for batch in (sent, sources):
                body = make[form](batch)
                headers = bearer() | {"content-type": kinds[form]}
                async with client.post(f"{url}/v1/events", data=body, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()
            for secret in CANARIES.values():  # a body that is none, a path, a query, a header
                for path in ("/v1/events", "/v1/traces"):
                    async with client.post(
                        f"{url}{path}?q={secret}",
                        data=secret,
                        headers=bearer() | {"content-type": "application/json", "x-a": secret},
                    ) as answer:
                        assert_clean(await answer.text(), dict(answer.headers))
                async with client.get(f"{url}/v1/traces/{secret}", headers=bearer()) as answer:
                    assert answer.status in {200, 404}

    run(main())
    assert rows(tmp_path) >= len(sent)
    look(tmp_path, caplog, capfd)


def _attributes(secret: str, *names: str) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": secret}} for name in names]


CONTENT = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.prompt",
    "gen_ai.completion",
    "user.email",
    "url.full",
)
"""Attributes that hold what people and models said: never read, whatever stands in them."""

NAMED = (
    "gen_ai.conversation.id",
    "gen_ai.response.id",
    "gen_ai.tool.call.id",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.tool.name",
    "tocsin.links.user",
    "tocsin.segment.route",
)
"""Attributes that are read."""


def _spans(secret: str, *names: str) -> bytes:
    def span(n: int, operation: str) -> dict[str, Any]:
        moment = {
            "name": "gen_ai.evaluation.result",
            "timeUnixNano": str(NOW_US * 1_000),
            "attributes": _attributes(secret, *names)
            + _attributes("tone", "gen_ai.evaluation.name"),
        }
        return {
            "traceId": f"{n:032x}",
            "spanId": f"{n:016x}",
            "name": f"{operation} {secret}",
            "startTimeUnixNano": str(NOW_US * 1_000),
            "endTimeUnixNano": str(NOW_US * 1_000 + 1_000_000),
            "attributes": _attributes(secret, *names)
            + _attributes(operation, "gen_ai.operation.name"),
            "events": [moment],
            "status": {"code": 2, "message": secret},
        }

    spans = [span(1, "chat"), span(2, "execute_tool"), span(3, "retrieval")]
    resource = {"attributes": _attributes("shop", "service.name") + _attributes(secret, *CONTENT)}
    scope = {"scope": {"name": secret}, "spans": spans}
    return msgspec.json.encode({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]})


@pytest.mark.parametrize("shaped", [True, False], ids=["shaped", "shapeless"])
def test_what_is_sent_as_traces(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    shaped: bool,
) -> None:
    names = (*CONTENT, *NAMED) if shaped else CONTENT

    async def main() -> None:
        async with serving(tmp_path) as (url, client, _):
            for secret in (SHAPED if shaped else SHAPELESS).values():
                headers = bearer() | {"content-type": "application/json"}
                body = _spans(secret, *names)
                async with client.post(f"{url}/v1/traces", data=body, headers=headers) as answer:
                    assert answer.status == 200
                    assert_clean(await answer.text(), dict(answer.headers))

    run(main())
    assert rows(tmp_path) >= 4
    look(tmp_path, caplog, capfd)


def test_what_the_client_sends_is_clean_before_it_leaves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    sent: list[bytes] = []

    class Wire:
        """Keeps what would leave, and answers with a canary that now is no time."""

        def send(self, body: bytes, headers: dict[str, str]) -> Answer:
            sent.append(body)
            return Answer(503, next(iter(SHAPED.values())).encode())

        def close(self) -> None:
            pass

    events = Events(
        "http://127.0.0.1:9",
        "key-of-shop",
        source="shop",
        redactor=redaction().tenant("shop"),
        sender=Wire,
        linger_s=0.0,
    )
    for secret in SHAPED.values():
        body = Feedback(verdict="report", comment=f"see {secret}", category=secret)
        events.say(body, links=Links(session=secret), segment=Segment(route=secret))
    events.flush(1.0)
    events.close(0.0)
    assert sent
    assert_clean(sent)
    assert_clean(caplog.text, capfd.readouterr().err)


def test_what_the_client_sends_to_a_real_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Sent as it is, without a redactor of its own: the record has to clean it all by itself."""

    def send(url: str) -> None:
        with Events(
            url, "key-to-send", source="shop", redactor=None, clock_us=lambda: NOW_US
        ) as client:
            for name, secret in SHAPED.items():
                client.say(
                    Feedback(verdict="report", comment=f"{name}: {secret}"),
                    links=Links(user=SHAPELESS["user"], session=secret),
                )
            client.flush(20.0)

    async def main() -> None:
        async with recording(tmp_path) as (recorder, store), served(recorder, store) as url:
            await asyncio.to_thread(send, url)
            users = {e.event.links.user for e in store.events(SHOP, kind="feedback")}
            assert users == {redaction().tenant("shop").person(SHAPELESS["user"])}

    run(main())
    assert rows(tmp_path) >= len(SHAPED)
    look(tmp_path, caplog, capfd)


def test_raw_content_lies_encrypted_and_leaves_nothing_when_it_is_erased(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    from tocsin.store.access import Access, local

    keys = Keys.open(tmp_path / "keys")
    contents = tuple(
        Content(
            id=f"c{n}",
            subject=redaction().tenant("shop").person(SHAPELESS["user"]),
            request="r_1",
            what="input",
            text=secret,
            why="evidence",
            expires_us=10**18,
        )
        for n, secret in enumerate(CANARIES.values())
    )

    async def main() -> None:
        with Store.open(str(tmp_path / "record.db"), keys=keys) as store, Writer(store) as writer:
            recorder = Recorder(writer, redaction().tenant)
            await recorder.record(Append(tenant="shop", contents=contents))
            await recorder.close()
            assert_clean(tmp_path)
            of = redaction()
            access = Access(store, redact=lambda tenant, text: of.tenant(tenant).text(text))
            by = local("shop", "ops")
            access.grant(by, reason=f"asked by {SHAPED['email']} for a case")
            for n, secret in enumerate(CANARIES.values()):
                read = access.read(by, f"c{n}", reason=f"does it hold {SHAPED['card']}?")
                assert read.text == secret
            access.erase(by, subject=None, reason=f"{SHAPED['phone']} called")

    run(main())
    look(tmp_path, caplog, capfd)


@pytest.mark.parametrize("secret", CANARIES.values(), ids=CANARIES)
def test_where_the_search_fails_no_canary_gets_in_at_all(tmp_path: Path, secret: str) -> None:
    broken = Redaction(None, b"k" * 32)

    async def main() -> None:
        with Store.open(str(tmp_path / "record.db")) as store, Writer(store) as writer:
            recorder = Recorder(writer, broken.tenant)
            given = event(body=Reviewed(label="safe", note=secret, reviewer=secret))
            links = Links(user=secret, session=secret)
            given = msgspec.structs.replace(given, links=links, source=secret, id=secret)
            await recorder.record(Append(tenant="shop", events=(given,)))
            await recorder.close()

    run(main())
    assert rows(tmp_path) == 1
    assert_clean(tmp_path)
