"""What a client gets, over real sockets, on each API, streamed and not."""

from __future__ import annotations

import asyncio
import json
import statistics
from pathlib import Path

import pytest
from gateway.kept import everything, kept, plan
from gateway.world import DIGEST, FILTERED, WHOLE, Gate, asked, on_literal, safer, saying, within
from guarded_streams import FORBIDDEN, Scripted

from tocsin.guarding.plan import Check
from tocsin.stream.events import APIS, Api
from tocsin.testing.fake_model import Call, Choice, Reply

SAID = "All is well on this calm and sunny day by the sea; no more than that."
LEAK = f"It is calm, and the word of the day is {FORBIDDEN}, which nobody is to read here."

each_api = pytest.mark.parametrize("api", APIS)
each_form = pytest.mark.parametrize("stream", [True, False])


@each_api
@each_form
def test_what_is_cleared_arrives_whole_and_ends_once(api: Api, stream: bool) -> None:
    async def test() -> None:
        async with Gate(saying(SAID), on_literal()) as gate:
            answer = await gate.post(api, stream=stream)
            assert answer.status == 200
            assert answer.text == SAID
            assert [WHOLE[api]] == answer.ends
            assert ("ok", len(SAID), 0) == tuple(
                answer.note[k] for k in ("status", "released", "held")
            )
            assert gate.meters.outcomes == ["ok"]
            assert gate.meters.receipts == []

    within(test())


@each_api
@each_form
def test_headers_and_the_end_name_receipt_and_policy(api: Api, stream: bool) -> None:
    async def test() -> None:
        async with Gate(saying(SAID), on_literal(), new_id=lambda: "abc") as gate:
            answer = await gate.post(api, stream=stream)
            policy = f"policy@{DIGEST[:12]}"
            told = [answer.headers[f"x-tocsin-{name}"] for name in ("receipt", "policy", "mode")]
            assert ["r_abc", policy, "enforce"] == told
            assert ("r_abc", policy) == (answer.note["receipt"], answer.note["policy"])
            assert (None if stream else "ok") == answer.headers.get("x-tocsin-guard")

    within(test())


@each_api
@each_form
def test_a_block_ends_the_answer_validly_and_shows_nothing_of_it(api: Api, stream: bool) -> None:
    async def test() -> None:
        async with Gate(saying(LEAK), on_literal()) as gate:
            answer = await gate.post(api, stream=stream)
            assert answer.status == 200
            assert [FILTERED[api]] == answer.ends
            assert "SEVEN" not in answer.raw.decode()
            assert LEAK.startswith(answer.text)
            assert answer.note["done"] == "halt"
            assert gate.meters.outcomes == ["blocked"]
            assert gate.meters.alarms == [("response", "literal", "halt")]

    within(test())


@each_api
def test_what_was_cleared_before_a_block_is_shown(api: Api) -> None:
    early = "x" * 640

    async def test() -> None:
        async with Gate(saying(early + FORBIDDEN), on_literal()) as gate:
            answer = await gate.post(api)
            assert early[:500] == answer.text[:500]
            assert early.startswith(answer.text)

    within(test())


@each_api
def test_a_block_closes_the_upstream_though_it_has_more_to_say(api: Api) -> None:
    async def test() -> None:
        endless = saying(LEAK + " more" * 10_000, pause_ms=1)
        async with Gate(endless, on_literal()) as gate:
            now = asyncio.get_running_loop().time
            took_s = []
            for count in range(1, 6):
                await gate.post(api)
                ended_s = now()
                await gate.fake.until(open=0)
                took_s.append(now() - ended_s)
                assert gate.fake.gone == count
            # A machine that is busy with something else may hold up one of them.
            assert statistics.median(took_s) < 0.25

    within(test())


@each_api
@each_form
def test_masked_text_is_shown_as_a_marker(api: Api, stream: bool) -> None:
    async def test() -> None:
        async with Gate(saying(LEAK), on_literal("mask"), guard={"marker": "[forbidden]"}) as gate:
            answer = await gate.post(api, stream=stream)
            assert LEAK.replace(FORBIDDEN, "[forbidden]") == answer.text
            assert [WHOLE[api]] == answer.ends
            assert "SEVEN" not in answer.raw.decode()
            assert gate.meters.outcomes == ["ok"]

    within(test())


@each_api
@each_form
def test_a_replaced_answer_ends_with_the_policys_text(api: Api, stream: bool) -> None:
    async def test() -> None:
        said = {"replacement": "This was stopped."}
        async with Gate(saying(LEAK), on_literal("replace"), guard=said) as gate:
            answer = await gate.post(api, stream=stream)
            assert answer.text.endswith("This was stopped.")
            assert "SEVEN" not in answer.raw.decode()
            assert [FILTERED[api]] == answer.ends

    within(test())


@each_api
@each_form
def test_a_fallback_answers_anew(api: Api, stream: bool) -> None:
    async def test() -> None:
        async with safer() as (other, route):
            reply = saying(f"{FORBIDDEN} at once")
            async with Gate(reply, on_literal("fallback"), route=route) as gate:
                answer = await gate.post(api, stream=stream)
                assert ("A safe answer.", [WHOLE[api]]) == (answer.text, answer.ends)
                assert [one.body["model"] for one in other.requests] == ["safe"]
                assert answer.headers["x-tocsin-receipt"].endswith("-fallback")
                await gate.quiet()
                assert gate.meters.outcomes == ["ok"]
                assert gate.meters.receipts == [True, True]  # of both attempts

    within(test())


@each_api
def test_a_fallback_that_comes_too_late_in_a_stream_is_a_stop(api: Api) -> None:
    async def test() -> None:
        async with safer() as (other, route):
            reply = saying("x" * 640 + FORBIDDEN)
            async with Gate(reply, on_literal("fallback"), route=route) as gate:
                answer = await gate.post(api)
                assert [FILTERED[api]] == answer.ends
                assert other.requests == []

    within(test())


@each_form
def test_without_a_stream_a_fallback_is_never_too_late(stream: bool) -> None:
    async def test() -> None:
        async with safer() as (_, route):
            reply = saying("x" * 640 + FORBIDDEN)
            async with Gate(reply, on_literal("fallback"), route=route) as gate:
                answer = await gate.post("chat", stream=stream)
                assert (not stream) == (answer.text == "A safe answer.")

    within(test())


@each_api
@each_form
@pytest.mark.parametrize("safe", [True, False])
def test_a_stronger_verifier_decides_while_the_stream_pauses(
    api: Api, stream: bool, safe: bool
) -> None:
    score = 0.9 if safe else 0.1
    judge = Scripted({"SEVEN": score}, "turn")
    stronger = Check(name="judge", verifier=judge, alarm_below=0.5)

    async def test() -> None:
        route = {"stronger": stronger}
        async with Gate(saying(LEAK), on_literal("escalate"), route=route) as gate:
            answer = await gate.post(api, stream=stream)
            if safe:
                assert (LEAK, [WHOLE[api]]) == (answer.text, answer.ends)
            else:
                assert "SEVEN" not in answer.raw.decode()
                assert [FILTERED[api]] == answer.ends

    within(test())


@each_api
@each_form
def test_a_policy_that_observes_changes_nothing(api: Api, stream: bool) -> None:
    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), guard={"mode": "observe"}) as gate:
            answer = await gate.post(api, stream=stream)
            assert (LEAK, [WHOLE[api]]) == (answer.text, answer.ends)
            assert (answer.note["done"], answer.note["alarms"]) == ("shadow", 1)
            assert answer.headers["x-tocsin-mode"] == "observe"

    within(test())


@each_api
def test_a_tool_call_that_rings_is_never_shown(api: Api) -> None:
    call = Call(name="send", arguments=json.dumps({"to": FORBIDDEN}), id="call_1")
    name = {"name": "send", "description": "", "parameters": {"type": "object"}}
    tools = {
        "chat": [{"type": "function", "function": name}],
        "responses": [{"type": "function", **name}],
        "messages": [{"name": "send", "input_schema": {"type": "object"}}],
    }

    async def test() -> None:
        reply = Reply(choices=(Choice(text="I will send it.", calls=(call,)),))
        async with Gate(reply, on_literal()) as gate:
            answer = await gate.post(api, asked(api, stream=True, tools=tools[api]))
            assert answer.status == 200
            assert "SEVEN" not in answer.raw.decode()
            assert [FILTERED[api]] == answer.ends

    within(test())


def test_every_choice_is_guarded_and_ends() -> None:
    async def test() -> None:
        reply = Reply(choices=(Choice(text=SAID), Choice(text=LEAK)))
        async with Gate(reply, on_literal()) as gate:
            answer = await gate.post("chat", asked("chat", stream=True, n=2))
            assert "SEVEN" not in answer.raw.decode()
            assert len(answer.ends) == 2

    within(test())


@each_api
def test_paths_without_a_version_answer_too(api: Api) -> None:
    path = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}

    async def test() -> None:
        async with Gate(saying(SAID)) as gate:
            assert (await gate.post(api, path=path[api])).text == SAID

    within(test())


@each_api
def test_the_upstream_gets_its_own_key_and_model_and_none_of_the_clients(api: Api) -> None:
    async def test() -> None:
        async with Gate(saying(SAID), route={"model": "real-name"}) as gate:
            told = {"authorization": "Bearer theirs", "anthropic-beta": "tools-1", "x-a": "b"}
            await gate.post(api, told=told)
            (seen,) = gate.fake.requests
            assert seen.body["model"] == "real-name"
            keys = seen.headers.get("authorization"), seen.headers.get("x-api-key")
            mine = (None, "secret-key") if api == "messages" else ("Bearer secret-key", None)
            assert mine == keys
            assert seen.headers["accept-encoding"] == "identity"
            assert ("tools-1" if api == "messages" else None) == seen.headers.get("anthropic-beta")
            assert "x-a" not in seen.headers

    within(test())


@each_api
def test_a_connection_to_the_upstream_serves_many_requests(api: Api) -> None:
    async def test() -> None:
        async with Gate(saying(SAID), on_literal()) as gate:
            for _ in range(3):
                assert (await gate.post(api)).text == SAID
            assert (len(gate.fake.requests), len(gate.fake.connections)) == (3, 1)

    within(test())


@each_api
def test_a_receipt_is_written_for_each_alarm(api: Api, tmp_path: Path) -> None:
    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site={"record": plan(tmp_path)}) as gate:
            answer = await gate.post(api)
            await gate.quiet()
            assert gate.meters.receipts == [True]
        with kept(tmp_path) as record:
            (name,) = record.receipts
            assert answer.headers["x-tocsin-receipt"] == name
            receipt = record.receipt(name)
        assert ("way", api, "m", "model") == tuple(
            receipt["who"][k] for k in ("route", "api", "model", "upstream")
        )
        assert receipt["alarms"][0]["rule"] == "forbidden"
        assert b"SEVEN" not in everything(tmp_path)
        assert [line["event"] for line in gate.lines] == ["receipt"]
        assert b"SEVEN" not in gate.logged.getvalue()

    within(test())


@each_api
def test_without_a_record_a_receipt_goes_to_the_log_whole(api: Api) -> None:
    async def test() -> None:
        async with Gate(saying(LEAK), on_literal()) as gate:
            answer = await gate.post(api)
            assert answer.note["recorded"] is None
            assert gate.meters.receipts == [True]
        (line,) = gate.lines
        assert line["event"] == "receipt"
        assert line["receipt"]["who"]["id"] == answer.headers["x-tocsin-receipt"]
        assert line["receipt"]["alarms"][0]["rule"] == "forbidden"

    within(test())


@pytest.mark.parametrize("anthropic", [True, False])
def test_the_models_list_names_what_can_be_asked_for(anthropic: bool) -> None:
    async def test() -> None:
        async with Gate() as gate:
            told = {"anthropic-version": "2023-06-01"} if anthropic else {}
            url = f"http://127.0.0.1:{gate.port}/v1/models"
            async with gate.client.get(url, headers=told) as response:
                body = await response.json()
            assert [one["id"] for one in body["data"]] == ["m"]
            assert ("first_id" in body) == anthropic
            assert gate.fake.requests == []

    within(test())
