"""The record's paths on the gateway's port: each key reads and writes its own tenant's alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from gateway.kept import kept, new_key, plan, whole
from gateway.live import serving
from gateway.raw_client import connect
from gateway.two_tenants import LEAK, bearer, get, now, send, stopped, tenants, two_tenants
from gateway.world import Gate, on_literal, saying, within

from tocsin.gateway.site import Site
from tocsin.receipts import read_keys, verify
from tocsin.store import Keys, Store

EVENT = {
    "id": "e1", "time_us": 1, "source": "shop", "body": {"kind": "feedback", "verdict": "down"},
}  # fmt: skip


def test_each_key_reads_and_writes_its_own_tenants_record(tmp_path: Path) -> None:
    async def test() -> None:
        async with two_tenants(tmp_path) as gate:
            told = {**bearer("tk-shop"), "x-request-id": "req-7"}
            answer = await gate.post("chat", told=told)
            name = answer.headers["x-tocsin-receipt"]
            status, proof = await get(gate, f"/v1/receipts/{name}", "tk-shop")
            assert status == 200
            keys = read_keys((tmp_path / "keys" / "log.vkey").read_text())
            found = verify(proof, [key.named(f"{key.name}/shop") for key in keys])
            assert found.entry.id == name
            assert (await get(gate, f"/v1/receipts/{name}", "tk-bank"))[0] == 404
            assert (await get(gate, f"/v1/receipts/{name}"))[0] == 401
            assert (await get(gate, f"/v1/receipts/{name}", "tk-none"))[0] == 401
            status, raw = await get(gate, "/v1/traces/req-7", "tk-shop")
            assert status == 200
            kinds = [
                e["event"]["body"]["kind"] for b in json.loads(raw)["branches"] for e in b["events"]
            ]
            assert {"stream.opened", "alarm", "stream.ended"} <= set(kinds)
            assert (await get(gate, "/v1/traces/req-7", "tk-bank"))[0] == 404
            status, said = await send(gate, [now(EVENT, gate)], "tk-bank")
            assert (status, said["accepted"]) == (200, 1), said
            assert (await send(gate, [EVENT], ""))[0] == 401
        with kept(tmp_path, "bank") as record:
            assert "feedback" in record.kinds
        with kept(tmp_path, "shop") as record:
            whole(record)
            assert "feedback" not in record.kinds

    within(test())


def test_keys_of_people_have_the_roles_that_the_store_says(tmp_path: Path) -> None:
    async def test() -> None:
        async with two_tenants(tmp_path) as gate:
            name = await stopped(gate)
            keys = Keys.open(tmp_path / "keys", create=False)
            with Store.open(str(tmp_path / "record.db"), keys=keys, create=False) as store:
                viewer = new_key(store, "viewer")
            assert (await get(gate, f"/v1/receipts/{name}", viewer))[0] == 200
            assert (await send(gate, [now(EVENT, gate)], viewer))[0] == 403
            # A key of the record asks no model.
            assert (await gate.post("chat", told=bearer(viewer))).status == 401

    within(test())


def test_what_was_asked_for_in_vain_is_in_the_record_and_a_flood_of_it_is_one_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.record.http.LIMIT_TOLD_S", 3_600.0)  # longer than any test

    async def test() -> None:
        async with two_tenants(tmp_path) as gate:
            name = await stopped(gate)
            assert (await get(gate, f"/v1/receipts/{name}", "tk-bank"))[0] == 404
            for number in range(20):
                assert (await get(gate, f"/v1/traces/none-{number}", "tk-bank"))[0] == 404
            assert (await get(gate, "/v1/traces/none", "tk-shop"))[0] == 404
            assert (await get(gate, f"/v1/receipts/{name}", "tk-shop"))[0] == 200
            assert (await get(gate, f"/v1/receipts/{name}", "tk-none"))[0] == 401
        read = ("operator", "record.read")
        for tenant, told in {
            # The second is told when the gateway stops: the first moment that it may be.
            "bank": [(*read, f"receipts/{name}", False, 1), (*read, "", False, 20)],
            "shop": [(*read, "traces/none", False, 1), (*read, f"receipts/{name}", True, 1)],
        }.items():
            with kept(tmp_path, tenant) as record:
                whole(record)
                found = record.of("access")
                assert [(e.role, e.action, e.target, e.allowed, e.times) for e in found] == told
                assert all(e.by.startswith("gateway:") for e in found)

    within(test())


def test_the_log_has_the_paths_of_the_record_without_the_ids_in_them(tmp_path: Path) -> None:
    asked = [
        ("tk-shop", "GET /v1/receipts/r_secret", "/v1/receipts/{id}", 404),
        ("tk-shop", "GET /v1/traces/r_secret?x=r_secret", "/v1/traces/{id}", 404),
        ("tk-shop", "GET /v1/traces/" + "r_secret" * 100, "/v1/traces/{id}", 404),
        ("tk-shop", "POST /v1/events", "/v1/events", 415),
        ("tk-shop", "POST /v1/traces", "/v1/traces", 415),
        ("tk-none", "GET /v1/receipts/r_secret", "/v1/receipts/{id}", 401),
        ("tk-shop", "GET /v1/r_secret", "", 404),
    ]

    async def test() -> None:
        site = Site(routes=(), record=plan(tmp_path), tenants=tenants())
        async with serving(site) as live:
            for key, line, _, status in asked:
                async with await connect(live.where) as wire:
                    head = f"{line} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n"
                    length = "content-length: 0\r\n" if line.startswith("POST") else ""
                    wire.transport.write(f"{head}{length}\r\n".encode())
                    assert (await wire.answer()).status == status
            await live.until(lambda: len(live.lines.named("request")) == len(asked))
        assert [
            (line["path"], line["status"], line["tenant"]) for line in live.lines.named("request")
        ] == [
            (path, status, "shop" if path and key == "tk-shop" else "")
            for key, _, path, status in asked
        ]
        assert "secret" not in str(live.lines.said)
        assert "tk-" not in str(live.lines.said)

    asyncio.run(test())


@pytest.mark.parametrize("headers", [{"origin": "https://page.example"}, {"host": "page.example"}])
def test_without_keys_a_page_from_elsewhere_reads_nothing(
    headers: dict[str, str], tmp_path: Path
) -> None:
    async def test() -> None:
        async with Gate(saying(LEAK), on_literal(), site={"record": plan(tmp_path)}) as gate:
            name = (await gate.post("chat")).headers["x-tocsin-receipt"]
            assert (await get(gate, f"/v1/receipts/{name}"))[0] == 200
            assert (await get(gate, f"/v1/receipts/{name}", **headers))[0] == 401
            assert (await send(gate, [now(EVENT, gate)], **headers))[0] == 401

    within(test())


def test_without_a_record_there_are_no_such_paths() -> None:
    async def test() -> None:
        async with Gate(saying(LEAK), on_literal()) as gate:
            assert (await get(gate, "/v1/receipts/r_1"))[0] == 404
            assert (await send(gate, [EVENT]))[0] == 404

    within(test())
