"""The log of a tenant on the gateway's port: an auditor's key is enough, and only for its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gateway.kept import kept, new_key
from gateway.two_tenants import get, stopped, two_tenants
from gateway.world import within

from tocsin.receipts import join, open_checkpoint, read_keys, verify, verify_growth
from tocsin.store import Keys, Scope, Store

SHOP = Scope("shop")


def test_an_auditor_gets_all_that_shows_that_nothing_was_taken_away(tmp_path: Path) -> None:
    async def test() -> None:
        async with two_tenants(tmp_path) as gate:
            keys = Keys.open(tmp_path / "keys", create=False)
            trusted = read_keys((tmp_path / "keys" / "log.vkey").read_text())

            async def of(path: str, key: str = "tk-shop") -> bytes:
                status, body = await get(gate, path, key)
                assert status == 200, (path, body)
                return body

            with Store.open(str(tmp_path / "record.db"), keys=keys, create=False) as store:
                auditor = new_key(store, "auditor")
                names = []
                for _ in range(2):
                    names.append(await stopped(gate))
                    assert (await get(gate, f"/v1/receipts/{names[-1]}", "tk-shop"))[0] == 200
                    store.close_period(SHOP)
            old = await of("/v1/log/checkpoint?size=1", auditor)
            new = await of("/v1/log/checkpoint", auditor)
            size = open_checkpoint(new, trusted).size
            assert (open_checkpoint(old, trusted).size, size) == (1, 4)
            growth = await of("/v1/log/growth?from=1", auditor)
            assert growth == await of(f"/v1/log/growth?from=1&to={size}")
            assert verify_growth(old, new, growth, trusted).new.size == size
            listed = json.loads(await of("/v1/log/periods", auditor))
            assert listed["next"] is None
            found = [
                verify(await of(f"/v1/log/entries/{p['id']}?size={size}", auditor), trusted)
                for p in listed["periods"]
            ]
            assert [one.index for one in found] == [p["index"] for p in listed["periods"]]
            span = join(found)
            assert span.reaches(open_checkpoint(old, trusted))
            assert sum(period.receipts for period in span.periods) == 2
            proof = await of(f"/v1/log/entries/{names[0]}", auditor)
            assert proof == await of(f"/v1/receipts/{names[0]}", auditor)
            last = listed["periods"][-2]["index"]
            rest = json.loads(await of(f"/v1/log/periods?after={last}"))["periods"]
            assert rest == listed["periods"][-1:]

    within(test())


def test_the_log_is_the_keys_own_tenants_alone_and_who_read_it_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.record.http.LIMIT_TOLD_S", 3_600.0)  # longer than any test

    async def test() -> None:
        async with two_tenants(tmp_path) as gate:
            name = await stopped(gate)
            assert (await get(gate, f"/v1/log/entries/{name}", "tk-shop"))[0] == 200
            keys = Keys.open(tmp_path / "keys", create=False)
            with Store.open(str(tmp_path / "record.db"), keys=keys, create=False) as store:
                writer = new_key(store, "operator", "record.write")
            for path in ("checkpoint", "growth?from=1", "periods", f"entries/{name}"):
                for key, status in (("", 401), ("tk-none", 401), (writer, 403)):
                    assert (await get(gate, f"/v1/log/{path}", key))[0] == status
            status, said = await get(gate, f"/v1/log/entries/{name}", "tk-bank")
            assert status == 404 and b"there is no entry" in said
            assert (await get(gate, "/v1/log/checkpoint", "tk-bank"))[0] == 404
            assert (await get(gate, "/v1/log/checkpoint", "tk-shop"))[0] == 200
            for path, status in (
                ("checkpoint?size=x", 400),
                ("checkpoint?size=-1", 400),
                ("checkpoint?size=99999999999999999999", 400),
                ("checkpoint?size=77", 404),
                ("growth", 400),
                ("growth?from=77", 404),
                ("growth?from=1&to=77", 404),
                ("growth?from=1&to=0", 404),
                ("periods?after=-1", 400),
                ("entries/none", 404),
                (f"entries/{name}?size=77", 404),
            ):
                assert (await get(gate, f"/v1/log/{path}", "tk-shop"))[0] == status, path
        with kept(tmp_path, "shop") as record:
            told = [(e.target, e.allowed) for e in record.of("access") if e.action == "record.read"]
            assert told[0] == (f"log/entries/{name}", True)
            assert ("log/checkpoint", True) in told
            assert ("log/checkpoint", False) in told  # the others are folded into it
        with kept(tmp_path, "bank") as record:
            assert (f"log/entries/{name}", False) in [
                (e.target, e.allowed) for e in record.of("access")
            ]

    within(test())
