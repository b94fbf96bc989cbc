"""Nobody takes an id of the gateway's: its alarm and its end are in the record, or that is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gateway.kept import Kept, kept, plan, whole
from gateway.two_tenants import now, send
from gateway.world import Answer, Gate, on_literal, saying, within
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tocsin.events.envelope import Event
from tocsin.events.kinds import Feedback
from tocsin.store import Append, Store
from tocsin.testing.fake_model import Fault, Reply

LEAK = "All is well for a while here. The gates are called SEVEN-7-GATES and so on, and on and on."
OURS = "tocsin/gateway"
BODIES: list[dict[str, Any]] = [
    {"kind": "feedback", "verdict": "up"},
    {"kind": "stream.ended", "outcome": "ok"},
    {"kind": "alarm", "check": "c", "verifier": "v", "verifier_version": "1", "wanted": "halt",
     "done": "halt"},
]  # fmt: skip
SHAPES = ["{r}.{n}", "{r}", "R{r}.{n}", "{r}.0{n}", "{r}.{n} ", "{r}-{n}", "tocsin.x.{n}", "e{n}"]


def slow() -> Reply:
    """Say the first words, and the others once it is let go of."""
    return saying(LEAK, faults=(Fault(kind="hang", after_frames=4),))


def gate(folder: Path) -> Gate:
    return Gate(slow(), on_literal(), site={"record": plan(folder), "head_ms": 1})


async def streamed(at: Gate, between: Any) -> Answer:
    """Ask, do something once the stream has begun and its id is known, and read the rest."""
    async with at.open("chat") as response:
        begun = await response.content.readany()
        await at.fake.until(held=1)
        await between(response.headers["x-tocsin-receipt"])
        at.fake.release()
        rest = await response.read()
        return Answer("chat", response.status, response.headers, begun + rest)


def ours(record: Kept, kind: str) -> list[Event]:
    return [e for e in record.events if e.kind == kind and e.source == OURS]


POSTS = st.lists(
    st.lists(
        st.fixed_dictionaries(
            {
                "shape": st.sampled_from(SHAPES),
                "number": st.integers(1, 12),
                "body": st.sampled_from(BODIES),
                "source": st.sampled_from(["shop", "tocsin/gateway", "Tocsin/gateway"]),
            }
        ),
        min_size=1,
        max_size=20,
    ),
    max_size=3,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(POSTS)
def test_whatever_a_client_posts_the_gateways_alarm_and_end_are_in_the_record(
    tmp_path_factory: pytest.TempPathFactory, posts: list[list[dict[str, Any]]]
) -> None:
    folder = tmp_path_factory.mktemp("posts")

    async def test() -> None:
        async with gate(folder) as at:

            async def between(name: str) -> None:
                every = [{"shape": "{r}.{n}", "number": n, "body": BODIES[0], "source": "shop"}
                         for n in range(1, 40)]  # fmt: skip
                for post in [*posts, every]:
                    events = [
                        now({
                            "id": one["shape"].format(r=name, n=one["number"]),
                            "source": one["source"],
                            "body": one["body"],
                            "links": {"call": name},
                        }, at)
                        for one in post
                    ]  # fmt: skip
                    status, said = await send(at, events)
                    assert status in {200, 207}, said

            answer = await streamed(at, between)
            assert answer.note["recorded"] is True
        with kept(folder) as record:
            name = answer.headers["x-tocsin-receipt"]
            for kind in ("stream.opened", "alarm", "intervention", "stream.ended"):
                assert [e.links.call for e in ours(record, kind)] == [name]
            assert record.receipts == [name]

    within(test())


def test_an_id_of_a_response_is_refused_with_the_reason(tmp_path: Path) -> None:
    async def test() -> None:
        async with gate(tmp_path) as at:

            async def between(name: str) -> None:
                body = BODIES[0]
                found = [
                    now({"id": i, "source": "shop", "body": body}, at)
                    for i in (f"{name}.3", f"on-{name}.3", name)
                ]
                status, said = await send(at, found)
                assert status == 207
                assert [e["verdict"] for e in said["events"]] == [
                    "rejected", "accepted", "accepted",
                ]  # fmt: skip
                assert "give each event an id of your own" in said["events"][0]["reason"]

            await streamed(at, between)
        with kept(tmp_path) as record:
            whole(record)
            assert record.kinds.count("alarm") == 1

    within(test())


def test_what_meets_a_taken_id_all_the_same_is_told(tmp_path: Path) -> None:
    """As if somebody had got at the store itself, or a door had been forgotten."""

    async def test() -> None:
        async with gate(tmp_path) as at:

            async def between(name: str) -> None:
                us = int(at.plane.now().timestamp() * 1_000_000)
                taken = tuple(
                    Event(id=f"{name}.{n}", time_us=us, source="shop", body=Feedback(verdict="up"))
                    for n in range(1, 40)
                )
                with Store.open(str(tmp_path / "record.db"), create=False) as store:
                    store.commit([Append(tenant="local", events=taken)])

            answer = await streamed(at, between)
            name = answer.headers["x-tocsin-receipt"]
            assert answer.note["recorded"] is False
        assert at.meters.receipts == [False]
        lines = [json.loads(line) for line in at.logged.getvalue().splitlines()]
        (told,) = [line for line in lines if line["event"] == "record_differs"]
        assert told["tenant"] == "local"
        assert set(told["ids"]) > {f"{name}.5"}
        assert "something else is stored under the same id" in told["why"]
        assert any(line["event"] == "record_unavailable" for line in lines)
        with kept(tmp_path) as record:
            assert sum(shed.events for shed in record.of("record.shed")) == len(told["ids"])

    within(test())
