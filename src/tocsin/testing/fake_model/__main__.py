"""A fake model in a process of its own: ``python -m tocsin.testing.fake_model --port 8001``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Coroutine
from typing import Any

from tocsin.testing.fake_model import Choice, FakeModel, Reply

_WORDS = "It is a fine day and the sea is calm so that we sail on to the next town. "


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tocsin.testing.fake_model",
        description="A model that says what it is told, on three APIs.",
        epilog="Example: python -m tocsin.testing.fake_model --port 8001 --pause-ms 20",
    )
    parser.add_argument("--port", type=int, default=0, help="any that is free where 0")
    parser.add_argument("--tokens", type=int, default=50, help="pieces of an answer")
    parser.add_argument("--pause-ms", type=float, default=0.0, help="before each piece")
    parser.add_argument("--timed", action="store_true", help="record the time of each write")
    return parser.parse_args()


async def _serve(asked: argparse.Namespace) -> None:
    words = _WORDS.split(" ")[:-1]
    text = tuple(f"{words[i % len(words)]} " for i in range(asked.tokens))
    reply = Reply(choices=(Choice(text=text),), pause_ms=asked.pause_ms, timed=asked.timed)
    async with FakeModel(reply, port=asked.port) as fake:
        print(fake.url, flush=True)  # noqa: T201 - whoever started it waits for that
        await asyncio.Event().wait()


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Find the faster loop, if it is installed."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.run
    return importlib.import_module("uvloop").run  # type: ignore[no-any-return]


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _runner()(_serve(_arguments()))
