"""What is refused, what is checked before the model is asked, and what a conversation remembers."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gateway.kept import kept, plan, whole
from gateway.world import FILTERED, WAIT_S, WHOLE, Gate, asked, on_literal, saying, within
from guarded_streams import FORBIDDEN, MONITOR, Scripted, literal_rules

from tocsin.gateway.conversations import Conversations
from tocsin.gateway.errors import Refuse
from tocsin.gateway.site import Tenant
from tocsin.guarding.plan import Check, Guard
from tocsin.limits import CHANNELS_MAX, CONVERSATION_IDLE_S
from tocsin.model import Context, Delta, Message, Outcome
from tocsin.stream.events import APIS, Api
from tocsin.stream.steps import StepDefinition
from tocsin.testing.fake_model import Fault, Reply
from tocsin.verifiers.patterns import Patterns
from tocsin.verifiers.patterns.rulebook import Rule

each_api = pytest.mark.parametrize("api", APIS)
SAID = "All is well on this calm and sunny day by the sea."
KEY = "a-key"
HASHED = hashlib.sha256(KEY.encode()).hexdigest()


def error_of(api: Api, body: Any) -> tuple[str, str]:
    """Read an error as the API's own client does: type and message."""
    if api == "messages":
        assert body["type"] == "error"
    return body["error"]["type"], body["error"]["message"]


# ---------------------------------------------------------------------------------- what is refused


@each_api
@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[1]", {}, 400),
        (b'{"model": 7}', {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b'{"model": "unknown"}', {}, 404),
        (b"{}", {"content-encoding": "gzip"}, 415),
        (b" " * 2_000, {}, 413),
    ],
)
def test_a_bad_request_is_told_in_the_apis_own_form(
    api: Api, body: bytes, headers: dict[str, str], status: int
) -> None:
    if b"unknown" in body:
        body = json.dumps(asked(api) | {"model": "unknown"}).encode()

    async def test() -> None:
        async with Gate(site={"body_bytes_max": 1_000 if status == 413 else 1_000_000}) as gate:
            answer = await gate.post(api, body, told=headers)
            kind, message = error_of(api, answer.json)
            assert status == answer.status
            assert kind and message
            assert gate.fake.requests == []
            assert gate.meters.outcomes == ["bad_request"]

    within(test())


@pytest.mark.parametrize("depth", [100, 700, 900, 940, 980, 1_100])
def test_a_deeply_nested_request_is_sent_on_or_refused_and_never_a_fault(depth: int) -> None:
    nested = f'"x": {"[" * depth}{"]" * depth}'
    body = json.dumps(asked("chat", stream=True))[:-1] + f", {nested}}}"

    async def test() -> None:
        async with Gate(saying(SAID)) as gate:
            answer = await gate.post("chat", body.encode())
            assert answer.status in {200, 400}
            assert (answer.status == 200) == (len(gate.fake.requests) == 1)

    within(test())


@each_api
def test_without_a_key_nobody_is_let_in(api: Api) -> None:
    site = {"open_to_all": False, "tenants": (Tenant(name="t", keys=(HASHED,)),)}

    async def test() -> None:
        async with Gate(saying(SAID), site=site) as gate:
            for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}):
                assert (await gate.post(api, told=headers)).status == 401
            for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
                assert (await gate.post(api, told=headers)).text == SAID
            assert gate.meters.outcomes == ["unauthenticated"] * 3 + ["ok"] * 2
            assert KEY not in str([one.headers for one in gate.fake.requests])

    within(test())


def test_a_tenant_has_its_own_limit_of_requests() -> None:
    tenant = Tenant(name="t", keys=(HASHED,), streams_max=1)
    site = {"open_to_all": False, "tenants": (tenant,)}
    held = Reply(faults=(Fault(kind="hang"),))

    async def test() -> None:
        async with Gate(held, site=site) as gate:
            key = {"authorization": f"Bearer {KEY}"}
            first = asyncio.create_task(gate.post("chat", told=key))
            await gate.fake.until(held=1)
            second = await gate.post("chat", told=key)
            assert (second.status, second.headers["retry-after"]) == (429, "1")
            gate.fake.release()
            assert (await first).status == 200
            assert (await gate.post("chat", told=key)).status == 200

    within(test())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/messages/count_tokens", 404),
        ("GET", "/", 404),
    ],
)
def test_other_paths_are_not_found(method: str, path: str, status: int) -> None:
    async def test() -> None:
        async with Gate() as gate:
            url = f"http://127.0.0.1:{gate.port}{path}"
            async with gate.client.request(method, url) as response:
                assert status == response.status
                assert (await response.json())["error"]["message"]

    within(test())


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def test() -> None:
        async with Gate(site={"body_ms": 50}) as gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(
                b"POST /messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{"
            )
            head = await asyncio.wait_for(reader.read(), WAIT_S)
            assert head.startswith(b"HTTP/1.1 408 ")
            writer.close()
            await writer.wait_closed()

    within(test())


def test_a_model_that_the_route_does_not_speak_for_is_not_found() -> None:
    async def test() -> None:
        async with Gate(saying(SAID), upstream={"speaks": frozenset({"chat"})}) as gate:
            assert (await gate.post("messages")).status == 404
            assert (await gate.post("chat")).status == 200

    within(test())


def test_a_reload_is_for_the_next_request() -> None:
    held = saying(SAID, faults=(Fault(kind="hang", after_frames=2),))

    async def test() -> None:
        async with Gate(held) as gate:
            first = asyncio.create_task(gate.post("chat"))
            await gate.fake.until(held=1)
            gate.live.site = replace(gate.live.site, routes=())
            assert (await gate.post("chat")).status == 404
            gate.fake.release()
            assert (await first).text == SAID

    within(test())


# ---------------------------------------------------------------------------------------- the input


def reading_input(does: Any = "halt", **more: Any) -> Guard:
    rule = Rule(id="forbidden", pattern="SEVEN-7-GATES")
    rules = Patterns(
        [rule], steps=StepDefinition("turn"), forms=(), channels=frozenset({"observation"})
    )
    check = Check(name="input", verifier=rules, on_finding={"*": does}, **more)
    return Guard(
        name="entry", hold="end_of_stream", checks=(check,), replacement="We cannot help with that."
    )


@each_api
@pytest.mark.parametrize("stream", [True, False])
def test_an_input_that_is_blocked_never_reaches_the_model(
    api: Api, stream: bool, tmp_path: Path
) -> None:
    async def test() -> None:
        route = {"input": reading_input()}
        async with Gate(saying(SAID), route=route, site={"record": plan(tmp_path)}) as gate:
            answer = await gate.post(api, asked(api, f"Tell me {FORBIDDEN}.", stream=stream))
            assert answer.status == 400
            assert "safety check" in error_of(api, answer.json)[1]
            assert gate.fake.requests == []
            await gate.quiet()
            assert gate.meters.outcomes == ["blocked_input"]
            assert gate.meters.alarms == [("input", "input", "halt")]
            assert (await gate.post(api)).text == SAID
        with kept(tmp_path) as record:
            whole(record)
            assert record.receipts == [answer.headers["x-tocsin-receipt"]]
            assert [one.outcome for one in record.of("stream.ended")] == ["blocked_input", "ok"]

    within(test())


@each_api
@pytest.mark.parametrize("stream", [True, False])
def test_an_input_that_is_replaced_gets_a_well_formed_answer(api: Api, stream: bool) -> None:
    async def test() -> None:
        async with Gate(saying(SAID), route={"input": reading_input("replace")}) as gate:
            answer = await gate.post(api, asked(api, f"Tell me {FORBIDDEN}.", stream=stream))
            assert (answer.status, answer.text) == (200, "We cannot help with that.")
            assert [FILTERED[api]] == answer.ends
            assert gate.fake.requests == []
            assert gate.meters.outcomes == ["blocked_input"]

    within(test())


@pytest.mark.parametrize(("role", "status"), [("user", 400), ("assistant", 200)])
def test_a_check_of_the_input_reads_the_roles_that_it_names(role: str, status: int) -> None:
    messages = [{"role": role, "content": FORBIDDEN}, {"role": "user", "content": "And now?"}]

    async def test() -> None:
        route = {"input": reading_input(roles=frozenset({"user"}))}
        async with Gate(saying(SAID), route=route) as gate:
            body = asked("chat", stream=True) | {"messages": messages}
            assert status == (await gate.post("chat", body)).status

    within(test())


@pytest.mark.parametrize("at", [0, 1, 250, 499])
def test_every_one_of_many_messages_is_read(at: int) -> None:
    messages = [{"role": "user" if i % 2 else "assistant", "content": f"{i}"} for i in range(500)]
    assert len(messages) > CHANNELS_MAX

    async def test() -> None:
        async with Gate(saying(SAID), route={"input": reading_input()}) as gate:
            body = asked("chat", stream=True) | {"messages": messages}
            assert (await gate.post("chat", body)).status == 200
            messages[at]["content"] = f"It is {FORBIDDEN}."
            assert (await gate.post("chat", body)).status == 400

    within(test())


# ------------------------------------------------------------------------------------ conversations


def watched() -> Check:
    signal = Scripted({"DANGER": 0.001})
    return Check(name="signal", verifier=signal, monitor=MONITOR, on_alarm="halt")


def test_an_alarm_in_a_conversation_stays() -> None:
    async def test() -> None:
        async with Gate(saying(SAID), watched(), route={"conversations": True}) as gate:
            name = {"x-tocsin-conversation": "talk-1"}
            assert (await gate.post("chat", told=name)).ends == ["stop"]
            gate.fake.script(saying("There is DANGER ahead.\nBeware."))
            assert (await gate.post("chat", told=name)).ends == ["content_filter"]
            before = len(gate.fake.requests)
            later = await gate.post("chat", told=name)
            assert (later.ends, later.text) == (["content_filter"], "")
            assert before == len(gate.fake.requests)
            other = await gate.post("chat", told={"x-tocsin-conversation": "talk-2"})
            assert [other.text, (await gate.post("chat")).text] == [SAID, SAID]

    within(test())


def test_a_mask_stands_where_it_belongs_in_the_next_turn_too() -> None:
    early = saying("x" * 100 + FORBIDDEN + "y" * 400)
    leak = f"The word is {FORBIDDEN}, they say."

    async def test() -> None:
        check = on_literal("mask")
        route = {"conversations": True}
        guard = {"marker": "[gone]"}
        async with Gate(early, check, route=route, guard=guard) as gate:
            name = {"x-tocsin-conversation": "talk"}
            gate.fake.script(replace_faults(early))
            async with gate.open("chat", told=name) as response:
                await response.content.read(100)
            await gate.quiet()  # the client left after some of the text was read
            gate.fake.script(saying(leak))
            assert leak.replace(FORBIDDEN, "[gone]") == (await gate.post("chat", told=name)).text

    within(test())


def replace_faults(reply: Reply) -> Reply:
    return Reply(
        choices=reply.choices, cut=reply.cut, faults=(Fault(kind="hang", after_frames=110),)
    )


def test_a_conversation_takes_one_request_at_a_time() -> None:
    held = saying(SAID, faults=(Fault(kind="hang", after_frames=2),))

    async def test() -> None:
        async with Gate(held, watched(), route={"conversations": True}) as gate:
            name = {"x-tocsin-conversation": "talk"}
            first = asyncio.create_task(gate.post("chat", told=name))
            await gate.fake.until(held=1)
            assert (await gate.post("chat", told=name)).status == 429
            gate.fake.release()
            assert (await first).text == SAID
            assert (await gate.post("chat", told=name)).text == SAID

    within(test())


class _Waits:
    """A verifier that never answers, once it has been asked."""

    declares = literal_rules().declares

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    def open_async(self, context: Context) -> Any:
        return self

    async def feed(self, delta: Delta) -> list[Outcome]:
        self.asked.set()
        await asyncio.Event().wait()
        return []

    async def close(self) -> list[Outcome]:
        return []

    async def aclose(self) -> None:
        """Nothing to let go of."""


def test_a_conversation_that_was_left_while_a_check_was_waited_for_is_over() -> None:
    async def test() -> None:
        waits = _Waits()
        check = Check(name="waits", verifier=waits)
        async with Gate(saying(SAID), check, route={"conversations": True}) as gate:
            name = {"x-tocsin-conversation": "talk"}
            first = asyncio.create_task(gate.post("chat", told=name))
            await asyncio.wait_for(waits.asked.wait(), WAIT_S)
            first.cancel()
            await gate.quiet()
            later = await gate.post("chat", told=name)
            assert (later.status, len(gate.fake.requests)) == (400, 1)
            assert "begin a new one" in error_of("chat", later.json)[1]

    within(test())


def test_a_conversation_id_of_another_shape_is_refused() -> None:
    async def test() -> None:
        async with Gate(saying(SAID), route={"conversations": True}) as gate:
            answer = await gate.post("chat", told={"x-tocsin-conversation": "two words"})
            assert answer.status == 400

    within(test())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def guard(digest: str = "d") -> Guard:
    return Guard(digest=digest, checks=(Check(name="rules", verifier=literal_rules()),))


def test_conversations_are_forgotten_when_idle_and_when_they_are_too_many() -> None:
    clock = Clock()
    known = Conversations(clock, most=2)
    entered = [known.enter("t", "r", name, guard(), Context()) for name in ("a", "b")]
    assert isinstance(known.enter("t", "r", "c", guard(), Context()), Refuse)
    for one in entered:
        assert not isinstance(one, Refuse)
        known.leave(one)
    assert not isinstance(known.enter("t", "r", "c", guard(), Context()), Refuse)
    again = known.enter("t", "r", "b", guard(), Context())
    assert not isinstance(again, Refuse) and again.turns == 2
    clock.now = CONVERSATION_IDLE_S + 1
    assert len(known) == 2


def test_a_conversation_whose_checks_lost_track_is_over_until_the_policy_changes() -> None:
    known = Conversations(Clock())
    first = known.enter("t", "r", "a", guard(), Context())
    assert not isinstance(first, Refuse)
    known.leave(first, lost=True)
    refused = known.enter("t", "r", "a", guard(), Context())
    assert isinstance(refused, Refuse) and "begin a new one" in refused.message
    anew = known.enter("t", "r", "a", guard("other"), Context())
    assert not isinstance(anew, Refuse) and anew.turns == 1


def test_a_conversation_is_the_tenants_and_the_routes_own() -> None:
    known = Conversations(Clock())
    for tenant, route in (("t", "r"), ("u", "r"), ("t", "q")):
        entered = known.enter(tenant, route, "a", guard(), Context())
        assert not isinstance(entered, Refuse) and entered.turns == 1


@each_api
def test_what_is_answered_in_a_conversation_is_whole(api: Api) -> None:
    async def test() -> None:
        check = on_literal()
        async with Gate(saying(SAID), check, route={"conversations": True}) as gate:
            for _ in range(3):
                answer = await gate.post(api, told={"x-tocsin-conversation": "talk"})
                assert (SAID, [WHOLE[api]]) == (answer.text, answer.ends)

    within(test())


def test_observed_is_what_came_after_the_last_answer() -> None:
    from tocsin.gateway.attempt import observed
    from tocsin.limits import OBSERVED_MAX

    many = tuple(Message("tool", str(i)) for i in range(100))
    found = observed(Context(messages=(Message("user", "u"), Message("assistant", "a"), *many)))
    assert len(found) == OBSERVED_MAX
    assert [str(i) for i in range(100)] == "\n\n".join(found).split("\n\n")


@pytest.mark.parametrize("sent", [{"origin": "https://page.example"}, {"host": "page.example"}])
def test_without_keys_a_page_from_elsewhere_gets_no_answer(sent: dict[str, str]) -> None:
    async def test() -> None:
        async with Gate() as gate:
            answer = await gate.post("chat", told=sent)
            assert answer.status == 403
            assert gate.meters.outcomes == ["unauthenticated"]

    within(test())
