"""Fingerprints of prompts, versions of verifiers, requests that were turned away, and counts."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from pathlib import Path
from typing import Any

import pytest
from gateway.kept import everything, kept, plan, whole
from gateway.world import Counted, Gate, asked, on_literal, saying, within
from hypothesis import given
from hypothesis import strategies as st

from tocsin.gateway.prometheus import Prometheus
from tocsin.gateway.site import Tenant
from tocsin.gateway.turned_away import TurnedAway
from tocsin.limits import LIMIT_TOLD_S
from tocsin.stream.events import APIS, Api
from tocsin.testing.fake_model import Fault, Reply

LEAK = "The gates are called SEVEN-7-GATES and so on, and on and on."
SAID = "A quiet day at the sea, and nothing else to tell of."
THIMBLE = "the brass thimble of the nineteenth plover"
each_api = pytest.mark.parametrize("api", APIS)


def tenant(name: str, **more: Any) -> Tenant:
    return Tenant(name=name, keys=(hashlib.sha256(name.encode()).hexdigest(),), **more)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


# ----------------------------------------------------------------------------------- what was asked


@each_api
def test_the_same_words_have_the_same_fingerprint_and_are_nowhere(api: Api, tmp_path: Path) -> None:
    said = (f"Tell me of {THIMBLE}.", f"tell me  of\n{THIMBLE.upper()}. ", "Tell me of the sea.")

    async def test() -> None:
        async with Gate(saying(SAID), on_literal(), site={"record": plan(tmp_path)}) as gate:
            for words in said:
                await gate.post(api, asked(api, words, stream=True))
            assert THIMBLE.encode() not in gate.logged.getvalue()
        with kept(tmp_path) as record:
            whole(record)
            one, two, other = (opened.prompt for opened in record.of("stream.opened"))
            assert one == two != other
            assert len(one) == 22
            assert one.startswith("p_")
            assert set(one[2:]) <= set("0123456789abcdef")
        assert THIMBLE.encode() not in everything(tmp_path)

    within(test())


def test_tenants_have_fingerprints_of_their_own(tmp_path: Path) -> None:
    names = ("bank", "shop")
    site = {
        "open_to_all": False,
        "tenants": tuple(map(tenant, names)),
        "record": plan(tmp_path),
    }

    async def test() -> None:
        async with Gate(saying(SAID), on_literal(), site=site) as gate:
            for name in names:
                await gate.post("chat", told=bearer(name))
        found = set()
        for name in names:
            with kept(tmp_path, name) as record:
                found |= {opened.prompt for opened in record.of("stream.opened")}
        assert len(found) == 2

    within(test())


def test_the_last_words_of_the_user_count_and_else_the_whole_input(tmp_path: Path) -> None:
    def body(*messages: tuple[str, str]) -> dict[str, Any]:
        return {
            "model": "m",
            "messages": [{"role": role, "content": content} for role, content in messages],
        }

    async def test() -> None:
        async with Gate(saying(SAID), on_literal(), site={"record": plan(tmp_path)}) as gate:
            for messages in (
                (("user", "Why?"),),
                (("system", "Be kind."), ("user", "No."), ("assistant", "Oh."), ("user", "Why?")),
                (("user", "Why?"), ("assistant", "Since...")),
                (("system", "Sum up."),),
                (("system", "Sum it up."),),
            ):
                await gate.post("chat", body(*messages))
        with kept(tmp_path) as record:
            found = [opened.prompt for opened in record.of("stream.opened")]
            assert found[0] == found[1] == found[2]
            assert len(set(found)) == 3

    within(test())


# ----------------------------------------------------------------------------------- whose scores


def test_the_end_of_a_response_says_whose_scores_they_are(tmp_path: Path) -> None:
    check = on_literal()
    declares = check.verifier.declares

    async def test() -> None:
        async with Gate(saying(SAID), check, site={"record": plan(tmp_path)}) as gate:
            await gate.post("chat")
        with kept(tmp_path) as record:
            (ended,) = record.of("stream.ended")
            assert ended.verifiers == {"literal": f"{declares.name} {declares.version}"}

    within(test())


# ---------------------------------------------------------------------------------- turned away


def test_requests_over_the_limit_are_told_in_one_event(tmp_path: Path) -> None:
    site = {
        "open_to_all": False,
        "tenants": (tenant("t", streams_max=1),),
        "record": plan(tmp_path),
    }

    async def test() -> None:
        async with Gate(Reply(faults=(Fault(kind="hang"),)), site=site) as gate:
            first = asyncio.create_task(gate.post("chat", told=bearer("t")))
            await gate.fake.until(held=1)
            for _ in range(7):
                assert (await gate.post("chat", told=bearer("t"))).status == 429
            gate.fake.release()
            assert (await first).status == 200
        with kept(tmp_path, "t") as record:
            whole(record)
            limits = record.of("limit")
            assert sum(limit.times for limit in limits) == 7
            assert {(one.limit, one.verdict, one.action) for one in limits} == {
                ("streams_max", "refuse", "refuse")
            }

    within(test())


@given(
    st.lists(st.tuples(st.floats(0, 0.3), st.sampled_from("ab"), st.integers(0, 3)), max_size=60)
)
def test_a_flood_makes_few_events_and_each_request_counts(
    flood: list[tuple[float, str, int]],
) -> None:
    away, now_s = TurnedAway(), 0.0
    told: list[tuple[float, str, int]] = []
    for wait_s, name, times in flood:
        now_s += wait_s
        for _ in range(times):
            away.add(name)
        told += [(now_s, *one) for one in away.due(now_s)]
    for name in "ab":
        when = [s for s, of, _ in told if of == name]
        assert all(b - a >= LIMIT_TOLD_S for a, b in itertools.pairwise(when))
    told += [(now_s, *one) for one in away.due(float("inf"))]
    for name in "ab":
        sent = sum(times for _, of, times in flood if of == name)
        assert sum(times for _, of, times in told if of == name) == sent
    assert not list(away.due(float("inf")))


def test_nothing_is_remembered_of_those_who_keep_to_their_limit() -> None:
    away = TurnedAway()
    away.add("t")
    assert list(away.due(0.0)) == [("t", 1)]
    assert not list(away.due(LIMIT_TOLD_S))
    assert vars(away) == {"_times": {}, "_told_s": {}}


# --------------------------------------------------------------------------------------- counts


def test_what_the_redaction_masked_is_counted(tmp_path: Path) -> None:
    class Masks(Counted):
        masked = failed = 0

        def redacted(self, masked: int, failed: int) -> None:
            self.masked += masked
            self.failed += failed

    async def test() -> None:
        gate = Gate(saying(SAID), on_literal(), site={"record": plan(tmp_path)})
        gate.meters = meters = Masks()
        async with gate:
            await gate.post("chat", told={"x-request-id": "ann@example.com"})
        assert meters.masked > 0
        assert meters.failed == 0
        assert b"ann@example.com" not in everything(tmp_path)

    within(test())


def test_masks_and_failures_have_a_metric() -> None:
    meters = Prometheus()
    meters.redacted(3, 1)
    text = meters.text().decode()
    assert 'tocsin_redacted_total{what="masked"} 3.0' in text
    assert 'tocsin_redacted_total{what="failed"} 1.0' in text
