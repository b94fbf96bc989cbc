"""Verifiers behind a network are let go of with the last response that uses them."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from guarded_streams import Scripted

from tocsin.gateway.log import Log
from tocsin.gateway.prometheus import Prometheus
from tocsin.gateway.reloading import Reloading
from tocsin.gateway.site import Route, Site, Upstream
from tocsin.gateway.surroundings import Live
from tocsin.guarding.plan import Check, Guard
from tocsin.model import Context


class Remote:
    declares = Scripted({}).declares

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def open_async(self, context: Context) -> Any:
        raise AssertionError("nobody asks")

    async def aclose(self) -> None:
        self.closed.set()


def site(verifier: Remote) -> Site:
    upstream = Upstream(name="u", url="http://127.0.0.1:1/v1", speaks=frozenset({"chat"}))
    check = Check(name="c", verifier=verifier, alarm_below=0.5)
    guard = Guard(checks=(check,))
    route = Route(name="r", models=("*",), upstream=upstream, model=None, guard=guard)
    return Site(routes=(route,))


def test_an_old_configurations_verifiers_stay_as_long_as_a_response_uses_them() -> None:
    async def reload() -> None:
        old, new = Remote(), Remote()
        live, log = Live(site(old)), Log()
        reloading = Reloading(lambda: site(new), live, Prometheus(), log)
        response: list[Site] = [live.site]
        reloading.order()
        await reloading.close()
        gc.collect()
        await asyncio.sleep(0)
        assert not old.closed.is_set()
        response.clear()
        gc.collect()
        await asyncio.wait_for(old.closed.wait(), 60)
        assert not new.closed.is_set()
        log.close()

    asyncio.run(reload())
