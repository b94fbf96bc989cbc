"""Canaries planted on every way in: none is in the store, in an answer or in a log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from canaries import CANARIES, SHAPED, assert_clean
from record.world import NOW_US, bearer, event, recording, run, served, serving

from tocsin.events.cloudevents import BATCH, encode_batch
from tocsin.events.envelope import Event, Links, Segment
from tocsin.events.kinds import (
    Body,
    Classified,
    ControlChanged,
    Failed,
    Feedback,
    Retrieved,
    Reviewed,
    RolloutStaged,
    StreamEnded,
    ToolDenied,
)
from tocsin.events.spans import Moment, Span, Value
from tocsin.record import otlp
from tocsin.record.client import Events
from tocsin.record.recorder import Recorder
from tocsin.record.sending import Answer, Sender, place


def _bodies(secret: str) -> list[Body]:
    return [
        Feedback(verdict="report", category=secret, comment=f"they said {secret} to me"),
        Reviewed(label="unsafe", outcome=secret, reviewer=secret, note=f"saw {secret}."),
        ToolDenied(tool=secret, reason=f"{secret} is not allowed"),
        Retrieved(sources=("wiki", secret)),
        Classified(check=secret, label=secret),
        Failed(failure=secret, phase="mid_stream", response=secret, detail=secret),
        StreamEnded(outcome="ok", failure=secret, steps={secret: 1}, lowest={secret: 0.5}),
        ControlChanged(control=secret, to=secret, by=secret, reason=secret),
        RolloutStaged(rollout=secret, stage=secret, by=secret, reason=secret),
    ]


def _planted() -> list[Event]:
    """Give events with a canary in every string that may come from outside."""
    made: list[Event] = []
    for secret in SHAPED.values():
        links = Links(user=CANARIES["user"], session=secret, request=secret, call=secret)
        segment = Segment(route=secret, model=secret, policy=secret, surface=secret)
        for body in _bodies(secret):
            number = len(made)
            made.append(event(number, body, id=f"{number} {secret}", links=links, segment=segment))
    return made


def _spans() -> list[Span]:
    content: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": CANARIES["prompt"],
        "gen_ai.output.messages": CANARIES["answer"],
        "gen_ai.system_instructions": CANARIES["prompt"],
        "gen_ai.tool.call.arguments": CANARIES["arguments"],
        "enduser.id": CANARIES["user"],
        "gen_ai.request.model": SHAPED["github"],
        "gen_ai.conversation.id": SHAPED["email"],
        "error.type": SHAPED["openai"],
    }
    moment = Moment(
        name="gen_ai.evaluation.result",
        time_us=NOW_US,
        attributes={
            "gen_ai.evaluation.name": SHAPED["iban"],
            "gen_ai.evaluation.explanation": CANARIES["answer"],
        },
    )
    return [
        Span(
            trace="1" * 32, span="2" * 16, name=CANARIES["prompt"], start_us=NOW_US, end_us=NOW_US,
            service="shop", attributes=content, moments=(moment,),
        )
    ]  # fmt: skip


def test_nothing_planted_in_events_is_stored_or_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> Any:
        async with serving(tmp_path) as (url, client, _):
            headers = {**bearer(), "content-type": BATCH}
            body = encode_batch(_planted())
            async with client.post(url + "/v1/events", data=body, headers=headers) as answer:
                told = msgspec.json.decode(await answer.read())
                assert told["rejected"] == 0, told
            async with client.get(url + "/v1/traces/nothing", headers=bearer()) as answer:
                return await answer.read()

    assert_clean(run(main()), tmp_path, caplog.text)


def test_what_is_refused_is_not_repeated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Verdicts and errors name fields; of what was sent, ids alone come back to their sender."""
    secret = CANARIES["prompt"]
    plain: dict[str, Any] = msgspec.to_builtins(event(1))
    body = {"kind": "feedback", "verdict": "up"}
    bad: list[Any] = [
        {**plain, "body": {**body, "verdict": secret}},
        {**plain, "body": {**body, secret: 1}},
        {**plain, "body": {"kind": secret}},
        {**plain, "source": secret},
        {**plain, secret: secret},
        {**plain, "links": {secret: secret}},
        {**plain, "schema": secret},
        {**plain, "time_us": secret},
        {"specversion": secret},
        {"specversion": "1.0", "id": "1", "source": "s", "type": secret, "time": secret},
        secret,
    ]

    async def main() -> list[bytes]:
        answers: list[bytes] = []
        async with serving(tmp_path) as (url, client, _):
            for raw in (msgspec.json.encode(bad), b"{" + secret.encode(), secret.encode()):
                for path in ("/v1/events", "/v1/traces"):
                    headers = {**bearer(), "content-type": "application/json"}
                    async with client.post(url + path, data=raw, headers=headers) as answer:
                        answers.append(await answer.read())
            told = msgspec.json.decode(answers[0])
            assert told["rejected"] == len(bad)
        return answers

    assert_clean(run(main()), tmp_path, caplog.text)


@pytest.mark.parametrize("kind", [otlp.JSON, otlp.PROTOBUF])
def test_nothing_planted_in_spans_is_stored(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> bytes:
        async with serving(tmp_path) as (url, client, _):
            body = otlp.to_json(_spans()) if kind == otlp.JSON else otlp.to_protobuf(_spans())
            headers = {**bearer(), "content-type": kind}
            async with client.post(url + "/v1/traces", data=body, headers=headers) as answer:
                assert answer.status == 200
                raw = await answer.read()
                assert raw in {b"", b"{}"}, raw
                return raw

    assert_clean(run(main()), tmp_path, caplog.text)


def test_nothing_planted_in_the_client_leaves_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bodies: list[bytes] = []

    async def main() -> None:
        async with recording(tmp_path) as (recorder, store), served(recorder, store) as url:
            to = place(url + "/v1/events")

            class Tells(Sender):
                def send(self, body: bytes, headers: Mapping[str, str]) -> Answer:
                    bodies.append(body)
                    return super().send(body, headers)

            client = Events(
                url,
                "key-of-shop",
                source="shop",
                sender=lambda: Tells(to, bearer(), 10.0),
                clock_us=lambda: NOW_US,
            )
            for one in _planted():
                # The gateway makes the pseudonym, so that all ways in give one user one.
                client.give(msgspec.structs.replace(one, links=Links(session=one.links.session)))
            assert await asyncio.to_thread(client.close)
            assert client.counts.accepted == len(_planted())

    run(main())
    assert_clean(bodies, tmp_path, caplog.text)


def test_where_nothing_can_be_searched_the_signal_is_kept_without_its_text(tmp_path: Path) -> None:
    from record.world import store

    from tocsin.record.redaction import Redaction
    from tocsin.store import Append, Scope, Writer

    async def main() -> None:
        with store(tmp_path) as opened, Writer(opened) as writer:
            recorder = Recorder(writer, Redaction(None, b"k" * 32).tenant)
            await recorder.record(Append(tenant="shop", events=tuple(_planted())))
            kinds = [one.event.kind for one in opened.events(Scope("shop"))]
            assert kinds == [one.kind for one in _planted()]

    run(main())
    assert_clean(tmp_path)
