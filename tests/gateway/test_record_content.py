"""Raw content: kept where a policy says so, encrypted, under the key of whoever it belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gateway.kept import DAY_US, Kept, everything, kept, plan, whole
from gateway.world import Gate, asked, on_literal, saying, within

from tocsin.limits import CONTENT_CHARS_MAX
from tocsin.store import Keys, Store
from tocsin.store.access import Access
from tocsin.store.roles import local
from tocsin.stream.events import APIS, Api

LEAK = "The gates are called SEVEN-7-GATES and so on, and on and on."
SAID = "A quiet day at the sea, and nothing else to tell of."
THIMBLE = "the brass thimble of the nineteenth plover"
each_api = pytest.mark.parametrize("api", APIS)
each_form = pytest.mark.parametrize("stream", [True, False])


def opened(folder: Path) -> dict[str, Any]:
    """All that was kept, by what it is, read under a grant as people do."""
    keys = Keys.open(folder / "keys", create=False)
    with Store.open(str(folder / "record.db"), keys=keys, create=False) as store:
        access = Access(store, redact=lambda _, text: text)
        who = local("local", "ann")
        access.grant(who, reason="a test needs to see it", minutes=5)
        kept_ = Kept(store, folder, "local").of("content.kept")
        return {
            one.what: json.loads(access.read(who, one.content, reason="to see it").text)
            for one in kept_
        }


@each_api
@each_form
@pytest.mark.parametrize("rings", [True, False])
def test_evidence_is_kept_of_an_answer_with_an_alarm_and_of_no_other(
    api: Api, stream: bool, rings: bool, tmp_path: Path
) -> None:
    async def test() -> None:
        site, route = {"record": plan(tmp_path)}, {"evidence": True}
        reply = saying(LEAK if rings else SAID)
        async with Gate(reply, on_literal(), site=site, route=route) as gate:
            body = asked(api, f"Tell me of {THIMBLE}.", stream=stream)
            answer = await gate.post(api, body, told={"x-tocsin-user": "annabel-w"})
            assert answer.note["recorded"] is (True if rings else None)
        with kept(tmp_path) as record:
            whole(record)
            found = record.of("content.kept")
            assert [one.what for one in found] == (["input", "output"] if rings else [])
            assert {one.why for one in found} <= {"evidence"}
        raw = everything(tmp_path)
        assert b"SEVEN" not in raw
        assert THIMBLE.encode() not in raw
        assert b"annabel" not in raw
        if rings:
            texts = opened(tmp_path)
            assert THIMBLE in texts["input"][-1]["content"]
            (output,) = texts["output"]
            assert LEAK.startswith(output["text"])  # a stream was stopped before its end
            assert "SEVEN-7-GATES" in output["text"]

    within(test())


def test_two_calls_with_one_request_id_share_no_key(tmp_path: Path) -> None:
    async def test() -> None:
        site, route = {"record": plan(tmp_path)}, {"evidence": True}
        async with Gate(saying(LEAK), on_literal(), site=site, route=route) as gate:
            for _ in range(2):
                await gate.post("chat", told={"x-request-id": "req-1"})
        with kept(tmp_path) as record:
            access = Access(record.store, redact=lambda _, text: text)
            found = access.contents(local("local", "ann"), request="req-1")
            assert len(found) == 4
            assert len({one.subject for one in found}) == 2
            assert all(one.subject.startswith("c_") for one in found)

    within(test())


@each_api
def test_a_share_of_answers_is_kept_whatever_becomes_of_them(api: Api, tmp_path: Path) -> None:
    drawn = iter([0.3, 0.7, 0.49, 0.5])

    async def test() -> None:
        site, route = {"record": plan(tmp_path)}, {"sample": 0.5}
        async with Gate(
            saying(SAID), on_literal(), site=site, route=route, draw=lambda: next(drawn)
        ) as gate:
            names = [(await gate.post(api)).headers["x-tocsin-receipt"] for _ in range(4)]
        with kept(tmp_path) as record:
            whole(record)
            outputs = [one for one in record.of("content.kept") if one.what == "output"]
            assert [one.content for one in outputs] == [f"{names[i]}-output" for i in (0, 2)]
            assert {one.why for one in outputs} == {"sample"}
            now_us = record.events[0].time_us
            assert all(0 < one.expires_us - now_us - DAY_US < DAY_US for one in outputs)
        assert opened(tmp_path)["output"][0]["text"] == SAID

    within(test())


def test_what_the_model_was_given_to_read_is_kept_with_its_answer(tmp_path: Path) -> None:
    documents = [{"id": "doc-1", "text": THIMBLE}, {"id": "two words", "text": "More."}]

    async def test() -> None:
        site, route = {"record": plan(tmp_path)}, {"sample": 1.0}
        async with Gate(saying(SAID), site=site, route=route) as gate:
            await gate.post("chat", asked("chat", stream=True, documents=documents))
        with kept(tmp_path) as record:
            (retrieved,) = record.of("retrieval")
            assert (retrieved.used, retrieved.sources) == (2, ("doc-1", "1"))
        first, second = opened(tmp_path)["retrieved"]
        assert THIMBLE in first["text"]
        assert "More." in second["text"]
        assert THIMBLE.encode() not in everything(tmp_path)

    within(test())


def test_a_request_that_is_stopped_is_kept_as_evidence(tmp_path: Path) -> None:
    from gateway.test_requests import reading_input

    async def test() -> None:
        site = {"record": plan(tmp_path)}
        route = {"evidence": True, "input": reading_input()}
        async with Gate(saying(SAID), site=site, route=route) as gate:
            body = asked("chat", "Tell me SEVEN-7-GATES.", stream=True)
            assert (await gate.post("chat", body)).status == 400
        texts = opened(tmp_path)
        assert set(texts) == {"input"}
        assert "SEVEN-7-GATES" in texts["input"][0]["content"]

    within(test())


def test_a_long_answer_is_kept_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.gateway.collecting.CONTENT_CHARS_MAX", 100)
    assert CONTENT_CHARS_MAX > 100

    async def test() -> None:
        site, route = {"record": plan(tmp_path)}, {"sample": 1.0}
        async with Gate(saying(SAID * 5), site=site, route=route) as gate:
            assert (await gate.post("chat")).text == SAID * 5
        assert opened(tmp_path)["output"][0]["text"] == (SAID * 5)[:100]

    within(test())


def test_nothing_is_collected_where_nothing_would_be_kept(tmp_path: Path) -> None:
    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site={"record": plan(tmp_path)}) as gate:
            assert (await gate.post("chat")).note["recorded"] is True
        with kept(tmp_path) as record:
            assert record.of("content.kept") == []

    within(test())
