"""The gateway beside a raw aiohttp pass-through: CPU, delay, memory, many slow streams.

Three processes: a fake model that writes one chunk of four or five characters a write, the gateway
(or the pass-through), and this one, the reader. CPU is the proxy's own, user and system, read from
/proc before and after; so the other processes do not count, and what they do to its caches does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import aiohttp
from common import Found, Options, Row, say

HERE = Path(__file__).resolve().parent
PAGE = os.sysconf("SC_PAGE_SIZE")

POLICIES = {
    "patterns": ["patterns"],
    "patterns and linear": ["patterns", "linear"],
}
CHECKS = {
    "patterns": {"name": "private_data", "verifier": "patterns", "findings": {"*": "mask"}},
    "linear": {
        "name": "harm",
        "verifier": "linear:harmful_answer",
        "calibration": "demonstration",
        "epsilon": 0.1,
        "on_alarm": "shadow",
    },
}
APIS = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi."}]}),
    "responses": ("/v1/responses", {"input": "Hi."}),
    "messages": (
        "/v1/messages",
        {"messages": [{"role": "user", "content": "Hi."}], "max_tokens": 9},
    ),
}
STREAMS_MAX = 10_000
KEY = "a-key-for-this-benchmark-alone"
KEY_HASH = f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"

CPU_NOTE = """\
CPU: of the proxy alone, for each chunk of the upstream, 40 streams at once; the ratio is to the \
pass-through of the same run"""
DELAY_NOTE = """\
delay: from the upstream's write that clears a text to its arrival, one stream, 20 ms between \
chunks; both times from one clock of the machine"""

PROCESSES = 3
"""So many processes of each kind are measured; the median of them counts."""

DEADLINE_S = 60.0
ARRIVALS_A_SECOND = 200

AS_INSTALLED = (
    "import sys; sys.modules['hyperscan'] = None; from tocsin.cli.main import main; main()"
)
"""The gateway as `pip install tocsin[serve]` has it: Hyperscan is no part of that."""


def run(options: Options) -> Found:
    """Measure everything; `--quick` with fewer streams."""
    found = Found()
    streams = 300 if options.quick else 3_000
    found.tables["CPU"] = asyncio.run(_cpu(quick=options.quick))
    found.tables["length"] = asyncio.run(_length())
    found.tables["delay"] = asyncio.run(_delay(quick=options.quick))
    found.tables["start"] = _start()
    found.tables["many"] = asyncio.run(_many(streams))
    found.notes.append(CPU_NOTE)
    found.notes.append(DELAY_NOTE)
    found.notes.append("many: chunks a second apart; memory is the growth over the idle size")
    return found


# ------------------------------------------------------------------------------------ processes


@contextmanager
def process(*command: str) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """Run a server; give it, its address, and the seconds until it said so."""
    began = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        try:
            first = "" if server.stdout is None else server.stdout.readline()
            url = re.search(r"http://[\d.]+:\d+", first)
            seconds = time.perf_counter() - began
            if url is None:
                server.wait()
                log.seek(0)
                sys.exit(f"{' '.join(command)}: it does not start: {log.read()}")
            yield server, url.group(), seconds
        finally:
            server.send_signal(signal.SIGKILL)


@contextmanager
def upstream(tokens: int, pause_ms: float, *more: str) -> Iterator[str]:
    """Run the fake model."""
    command = ("-m", "tocsin.testing.fake_model", "--tokens", str(tokens))
    with process(*command, "--pause-ms", str(pause_ms), *more) as (_, url, _s):
        yield url


@contextmanager
def proxy(
    kind: str, url: str, record: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """Run the pass-through, or the gateway under one of the policies; its record in a folder."""
    if kind == "pass-through":
        with process(str(HERE / "passthrough.py"), url) as found:
            yield found
        return
    config: dict[str, object] = {
        "listen": {"port": 1},
        "tenants": {"bench": {"keys": [KEY_HASH], "streams_max": STREAMS_MAX}},
        "limits": {"streams_max": STREAMS_MAX},
        "upstreams": {
            "fake": {"url": f"{url}/v1", "speaks": ["chat", "responses", "messages"]},
        },
        "routes": [{"name": "all", "models": ["*"], "upstream": "fake", "policy": "p"}],
        "policies": {"p": {"checks": [CHECKS[name] for name in POLICIES[kind]]}},
    }
    if record is not None:
        place = {"store": str(record / "record.db"), "keys": str(record / "keys")}
        config["record"] = {**place, "log": "bench.example/log"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.yaml"
        path.write_text(json.dumps(config))
        with process(
            "-c", AS_INSTALLED, "serve", str(path), "--port", "0", "--metrics", "off"
        ) as found:
            yield found


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that the threads of a process have used, to the nanosecond."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def rss(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


# -------------------------------------------------------------------------------------- reading

Came = Callable[[bytes], None]


def client() -> aiohttp.ClientSession:
    """Open connections without a limit, and without deadlines."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None),
        connector=aiohttp.TCPConnector(limit=0),
        headers={"authorization": f"Bearer {KEY}"},
    )


async def read(session: aiohttp.ClientSession, url: str, api: str, came: Came) -> None:
    """Ask for a stream, and read all of it."""
    path, body = APIS[api]
    async with session.post(url + path, json={"model": "m", "stream": True, **body}) as answer:
        answer.raise_for_status()
        async for chunk in answer.content.iter_any():
            came(chunk)


async def _cpu(*, quick: bool) -> list[Row]:
    """At the pace of a model (20 ms a token), and in chat ten times as fast.

    All proxies run at once and are asked in turn: what else the machine does befalls each of them.
    Two processes of one kind may differ by a tenth for as long as they live: there are several.
    """
    rows: list[Row] = []
    kinds = ("pass-through", *POLICIES)
    for api, pause_ms in (("chat", 20.0), ("responses", 20.0), ("messages", 20.0), ("chat", 2.0)):
        tokens, at_once = (100 if quick else 250) * (1 if pause_ms > 10.0 else 4), 40
        least: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(1 if quick else PROCESSES):
            async with AsyncExitStack() as stack:
                url = stack.enter_context(upstream(tokens, pause_ms))
                session = await stack.enter_async_context(client())
                proxies = {kind: stack.enter_context(proxy(kind, url)) for kind in kinds}
                first = [where for _, where, _s in proxies.values() for _ in range(4)]
                await asyncio.gather(*(read(session, where, api, _nothing) for where in first))
                used: dict[str, list[float]] = {kind: [] for kind in kinds}
                for _ in range(2 if quick else 3):
                    for kind, (server, where, _s) in proxies.items():
                        before = cpu_s(server.pid)
                        reads = (read(session, where, api, _nothing) for _ in range(at_once))
                        await asyncio.gather(*reads)
                        used[kind].append((cpu_s(server.pid) - before) / (tokens * at_once) * 1e6)
                for kind in kinds:
                    least[kind].append(min(used[kind]))
        base = statistics.median(least["pass-through"])
        for kind in kinds:
            cost = statistics.median(least[kind])
            say(f"gateway: {api}, {pause_ms:g} ms apart, {kind}: {cost:.1f} us")
            rows.append(
                {
                    "API": api,
                    "ms apart": pause_ms,
                    "proxy": kind,
                    "us a token": round(cost, 1),
                    "from": round(min(least[kind]), 1),
                    "to": round(max(least[kind]), 1),
                    "times pass-through": round(cost / base, 2),
                }
            )
    return rows


def _nothing(_: bytes) -> None:
    pass


async def _length() -> list[Row]:
    """Long streams against short ones, the same tokens in all."""
    rows: list[Row] = []
    for kind in ("pass-through", "patterns and linear"):
        for tokens, at_once in ((50, 400), (5_000, 4)):
            with upstream(tokens, 0.2) as url, proxy(kind, url) as (server, where, _):
                async with client() as session:
                    await read(session, where, "chat", _nothing)
                    before = cpu_s(server.pid)
                    for _ in range(at_once // 4):
                        reads = (read(session, where, "chat", lambda _: None) for _ in range(4))
                        await asyncio.gather(*reads)
                    cost = (cpu_s(server.pid) - before) / (tokens * at_once) * 1e6
            rows.append({"proxy": kind, "tokens": tokens, "us a token": round(cost, 1)})
    return rows


# ---------------------------------------------------------------------------------------- delay


def clearing(frames: list[bytes]) -> list[int]:
    """Say after which frame each text leaves, by the pure guard alone."""
    import tocsin
    from tocsin.guarding.plan import Check, Guard
    from tocsin.guarding.response import Guarded
    from tocsin.model import Context
    from tocsin.stream.codecs import CODECS
    from tocsin.stream.events import Asked, Wrote

    codec = CODECS["chat"]
    check = Check(name="p", verifier=tocsin.verifier("patterns"), on_finding={"*": "mask"})
    guarded = Guarded(Guard(checks=(check,)), Context(), _NoDoors())  # type: ignore[arg-type]
    decoder = codec.decoder(Asked(api="chat", model="m", stream=True))
    after = []
    for number, frame in enumerate(frames):
        out = _now(guarded.take(decoder.feed(frame)))
        after += [number for event in out if isinstance(event, Wrote)]
    return after


class _NoDoors:
    """Nobody is waited for."""


def _now(waiting: Awaitable[list[object]]) -> list[object]:
    try:
        waiting.send(None)  # type: ignore[attr-defined]
    except StopIteration as e:
        done: list[object] = e.value
        return done
    raise AssertionError("it waited")


async def _delay(*, quick: bool) -> list[Row]:
    tokens = 300 if quick else 1_000
    rows: list[Row] = []
    for kind in ("pass-through", "patterns"):
        arrived: list[float] = []
        frames: list[bytes] = []

        def came(chunk: bytes, arrived: list[float] = arrived) -> None:
            arrived.extend([time.monotonic()] * chunk.count(b'"content":"'))

        with upstream(tokens, 20.0, "--timed") as url, proxy(kind, url) as (_, where, _s):
            async with client() as session:
                await read(session, url, "chat", frames.append)
                await read(session, where, "chat", came)
                async with session.get(f"{url}/fake/seen") as seen:
                    sent: list[float] = (await seen.json())["requests"][-1]["sent_s"]
        whole = re.split(rb"(?<=\n\n)", b"".join(frames))[:-1]
        if kind == "pass-through":
            clears = [i for i, f in enumerate(whole) if b'"content":"' in f]
        else:
            clears = clearing(whole)
        late = sorted(
            (a - sent[i]) * 1e3 for a, i in zip(arrived[-len(clears) :], clears, strict=True)
        )
        rows.append(
            {"proxy": kind, "texts": len(late), "p50 ms": round(statistics.median(late), 2),
             "p99 ms": round(late[int(len(late) * 0.99)], 2), "worst ms": round(late[-1], 2)}
        )  # fmt: skip
    return rows


def _start() -> list[Row]:
    """Start three times each; the quickest, and the idle size of the first and the last."""
    rows: list[Row] = []
    with upstream(50, 0.0) as url, tempfile.TemporaryDirectory() as folder:
        for name, record in (("without a record", None), ("with a record", Path(folder))):
            seconds, sizes = [], []
            for _ in range(3):
                with proxy("patterns and linear", url, record) as (server, _, took_s):
                    seconds.append(took_s)
                    time.sleep(2.0)  # whatever is done behind the first line
                    sizes.append(rss(server.pid))
            rows.append(
                {
                    "gateway": name,
                    "start to ready s": round(min(seconds), 2),
                    "idle RSS MB, first": round(sizes[0] / 1e6, 1),
                    "idle RSS MB": round(sizes[-1] / 1e6, 1),
                }
            )
    return rows


async def _many(streams: int) -> list[Row]:
    rows: list[Row] = []
    for kind in ("pass-through", "patterns and linear"):
        for a_second in (ARRIVALS_A_SECOND, None):
            with upstream(90, 1_000.0) as url, proxy(kind, url) as (server, where, _):
                rows.append({"proxy": kind, **await _open(server.pid, where, streams, a_second)})
                say(f"gateway: {rows[-1]}")
    return rows


async def _open(pid: int, url: str, streams: int, a_second: int | None) -> Row:
    """Open slow streams; when the first byte of each comes, and what they take."""
    async with client() as session:
        await _first_bytes(session, url, 1)
        before = rss(pid)
        late, tasks = await _first_bytes(session, url, streams, a_second, keep=True)
        await asyncio.sleep(20.0)  # each has some tokens in its windows by then
        grown = rss(pid) - before
        failed = sum(task.done() for task in tasks)  # none may have ended by now
        await _end(tasks)
    late = sorted(late)
    return {
        "opened": "all at once" if a_second is None else f"{a_second} a second",
        "streams": len(late),
        "failed": failed,
        "first byte p50 s": round(statistics.median(late), 3),
        "first byte p99 s": round(late[int(len(late) * 0.99)], 3),
        "KiB a stream": round(grown / 1024 / streams, 1),
    }


async def _first_bytes(
    session: aiohttp.ClientSession,
    url: str,
    streams: int,
    a_second: int | None = None,
    *,
    keep: bool = False,
) -> tuple[list[float], list[asyncio.Task[None]]]:
    """Open streams; the seconds until the first byte of each, and the streams where they are kept.

    Those that end instead, or give nothing by the deadline, are not among the seconds.
    """
    seconds: list[float] = []
    all_came = asyncio.Event()

    def opened() -> Came:
        new, began = True, time.monotonic()

        def came(_: bytes) -> None:
            nonlocal new
            if new:
                new = False
                seconds.append(time.monotonic() - began)
                if len(seconds) == streams:
                    all_came.set()

        return came

    tasks, began = [], time.monotonic()
    for number in range(streams):
        if a_second:
            await asyncio.sleep(max(0.0, began + number / a_second - time.monotonic()))
        tasks.append(asyncio.create_task(read(session, url, "chat", opened())))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(all_came.wait(), DEADLINE_S)
    if not keep:
        await _end(tasks)
    return seconds, tasks


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
