"""Reads through openai-guardrails for benchmarks/leaks.py, in an environment of its own.

Takes one JSON object on stdin, ``{"url", "config", "calls": [{"api", "asked", "stream"}], "cpu":
{"asked": [...], "runs"}}``, and writes one on stdout. Nothing of Tocsin is imported here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import leaks_reader


async def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Make the calls; then time one long stream, with the guard and without."""
    from guardrails import GuardrailsAsyncOpenAI
    from openai import AsyncOpenAI

    often: dict[str, Any] = {"base_url": f"{asked['url']}/v1", "max_retries": 0}
    guarded = GuardrailsAsyncOpenAI(config=Path(asked["config"]), **often)
    results = [
        await leaks_reader.read(guarded, call["api"], call["asked"], stream=call["stream"])
        for call in asked["calls"]
    ]
    cpu, clients = asked["cpu"], {"guarded": guarded, "plain": AsyncOpenAI(**often)}
    spent = {
        name: [min([await _timed(client, one) for _ in range(cpu["runs"])]) for one in cpu["asked"]]
        for name, client in clients.items()
    }
    return {"results": results, "cpu_s": spent}


async def _timed(client: Any, asked: dict[str, Any]) -> float:
    start = time.process_time()
    async for _ in await client.chat.completions.create(**asked, stream=True):
        pass
    return time.process_time() - start


if __name__ == "__main__":
    given = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        found = asyncio.run(answer(given))
    json.dump(found, sys.stdout)
