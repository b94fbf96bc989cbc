"""A gateway of two tenants, `shop` and `bank`, each with a record, and requests with their keys."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from gateway.kept import plan
from gateway.world import Gate, on_literal, saying

from tocsin.gateway.site import Tenant

LEAK = "The gates are called SEVEN-7-GATES and so on, and on and on."
KEYS = {"shop": "tk-shop", "bank": "tk-bank"}


def tenants() -> tuple[Tenant, ...]:
    return tuple(
        Tenant(name=name, keys=(hashlib.sha256(key.encode()).hexdigest(),))
        for name, key in KEYS.items()
    )


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def get(gate: Gate, path: str, key: str = "", **headers: str) -> tuple[int, bytes]:
    told = {**(bearer(key) if key else {}), **headers}
    url = f"http://127.0.0.1:{gate.port}{path}"
    async with gate.client.get(url, headers=told) as response:
        return response.status, await response.read()


async def send(gate: Gate, body: Any, key: str = "", **headers: str) -> tuple[int, Any]:
    told = {"content-type": "application/json", **(bearer(key) if key else {}), **headers}
    url = f"http://127.0.0.1:{gate.port}/v1/events"
    async with gate.client.post(url, data=json.dumps(body), headers=told) as response:
        return response.status, await response.json()


def now(event: dict[str, Any], gate: Gate) -> dict[str, Any]:
    return {**event, "time_us": int(gate.plane.now().timestamp() * 1_000_000)}


def two_tenants(folder: Path) -> Gate:
    """Make the gateway; its model says what must not be shown, and its record is in a folder."""
    site = {"record": plan(folder), "open_to_all": False, "tenants": tenants()}
    return Gate(saying(LEAK), on_literal(), site=site)


async def stopped(gate: Gate) -> str:
    """Have an answer to the shop stopped; give its receipt."""
    answer = await gate.post("chat", told=bearer("tk-shop"))
    name: str = answer.headers["x-tocsin-receipt"]
    return name
