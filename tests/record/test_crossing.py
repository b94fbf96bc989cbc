"""Over HTTP, no key of one tenant is ever shown anything of another, by whatever id it asks."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import aiohttp
from record.world import bearer, event, redaction, run, served

from tocsin.events.envelope import Links
from tocsin.events.kinds import Feedback
from tocsin.record.recorder import Recorder
from tocsin.store import Append, Entry, Keys, Scope, Store, Writer

TENANTS = {"shop": "key-of-shop", "bank": "key-of-bank"}
IDS = ("e0", "q0", "call0", "s0", "r0", "", "*", "%", "..", "../bank/r0", "u_", "'", "x" * 300)


def mark(tenant: str) -> str:
    """What stands in everything that is a tenant's, and nowhere else."""
    return f"mark-of-the-{tenant}"


def own(tenant: str, name: str) -> str:
    """An id that the other tenant does not have."""
    return f"{mark(tenant)}-{name}"


def test_every_path_by_every_id_shows_ones_own_alone(tmp_path: Path) -> None:
    async def main() -> None:
        keys = Keys.open(tmp_path / "keys")
        with Store.open(str(tmp_path / "r.db"), keys=keys) as store, Writer(store) as writer:
            recorder = Recorder(writer, redaction().tenant)
            for tenant in TENANTS:
                for shared in (True, False):
                    names = [n if shared else own(tenant, n) for n in ("e0", "q0", "call0", "s0")]
                    links = Links(request=names[1], call=names[2], session=names[3])
                    body = Feedback(verdict="up", comment=mark(tenant))
                    one = event(id=names[0], links=links, body=body)
                    for name in ("r0", names[2]) if shared else (own(tenant, "r0"), names[2]):
                        said = b'{"says":"%b"}' % mark(tenant).encode()
                        entry = Entry(kind="receipt", id=name, body=said)
                        given = Append(tenant=tenant, events=(one,), entries=(entry,))
                        await recorder.record(given)
            async with served(recorder, store) as url, aiohttp.ClientSession() as client:
                found = 0
                for tenant, key in TENANTS.items():
                    (other,) = (name for name in TENANTS if name != tenant)
                    ids = [*IDS, *(own(t, n) for t in TENANTS for n in IDS[:5]), other, tenant]
                    ids += [f"{other}/{n}" for n in IDS[:5]]
                    for path in ("/v1/receipts/", "/v1/traces/"):
                        for name in ids:
                            for accept in ("application/json", "*/*"):
                                asked = url + path + quote(name, safe="")
                                headers = bearer(key) | {"accept": accept, "x-tenant": other}
                                more = {"tenant": other}
                                async with client.get(
                                    asked, headers=headers, params=more
                                ) as answer:
                                    text = await answer.text()
                                    theirs = text.replace(name, "")  # it may repeat the question
                                    assert mark(other) not in theirs, (asked, text)
                                    found += answer.status == 200
                assert found > 20
            await recorder.close()
            for tenant in TENANTS:
                assert store.head(Scope(tenant)).seq >= 2

    run(main())
