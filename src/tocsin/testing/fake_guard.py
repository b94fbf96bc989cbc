"""A server that answers as guards, judges and reward models do, and fails when told to.

It follows the formats that `tocsin.verifiers.remote` reads, and runs on a port of this machine in a
thread of its own, so that tests need neither a model nor a network.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from tocsin.errors import MissingExtra
from tocsin.testing.own_loop import OwnLoop

if TYPE_CHECKING:
    from aiohttp import web

ChatStyle = Literal["llama_guard", "qwen3guard", "safeguard", "judge", "word"]

WAIT_S = 30.0
"""Longest that a test waits for a request that never comes."""


@dataclass(frozen=True)
class Reply:
    """What becomes of one request, where it is not answered as usual.

    Args:
        status: of the answer.
        body: its bytes; the usual answer where None.
        headers: of the answer, beside or instead of the usual ones.
        hang: ``"before"``: nothing is sent until `FakeGuard.release`; ``"half"``: the first half of
            the body is sent, the rest then.
        cut: ``"before"``: the connection is closed instead of an answer; ``"half"``: after the
            first half of the body.
    """

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: Literal["", "before", "half"] = ""
    cut: Literal["", "before", "half"] = ""


@dataclass(frozen=True)
class Request:
    """A request that came: path, headers, and the decoded body."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def hashed(text: str) -> float:
    """Give a probability that is a pure function of a text.

    Example:
        >>> hashed("some text") == hashed("some text") != hashed("another")
        True
    """
    digest = hashlib.blake2s(text.encode(errors="surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "big") / (2**32 - 1)


class FakeGuard:
    """A guard of your own making, at ``http://127.0.0.1:PORT``; use it in a ``with`` block.

    It serves ``/v1/chat/completions``, ``/classify``, ``/score`` and ``/pooling``.

    Args:
        rule: the probability that a text is safe.
        chat: the form of its answers to chats.
        step_token: what ends a step in texts for ``/pooling``; each character is a token where it
            is empty.

    Attributes:
        requests: those that came, in order.

    Raises:
        MissingExtra: aiohttp is not installed.
    """

    def __init__(
        self,
        rule: Callable[[str], float] = hashed,
        *,
        chat: ChatStyle = "llama_guard",
        step_token: str = "",
    ) -> None:
        self._rule = rule
        self._chat = chat
        self._step_token = step_token
        self._script: deque[Reply] = deque()
        self._always: Reply | None = None
        self._came = threading.Condition()
        self._own = OwnLoop()
        self._released = asyncio.Event()
        self.requests: list[Request] = []
        self._runner: web.AppRunner | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._own.start()
        self._own.run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._own.run(self._stop())
        self._own.stop()

    def script(self, *replies: Reply) -> None:
        """Give these replies to the next requests, one each."""
        self._script.extend(replies)

    def always(self, reply: Reply | None) -> None:
        """Give this reply to all requests that the script does not name; None to answer again."""
        self._always = reply

    def release(self) -> None:
        """Let go of all requests that hang, now and from here on."""
        self._own.loop.call_soon_threadsafe(self._released.set)

    def wait(self, count: int) -> None:
        """Wait until so many requests have come.

        Raises:
            TimeoutError: they do not come.
        """
        with self._came:
            if not self._came.wait_for(lambda: len(self.requests) >= count, WAIT_S):
                raise TimeoutError(f"{len(self.requests)} requests came, not {count}")

    # ---------------------------------------------------------------------------------- the server

    async def _start(self) -> None:
        try:
            from aiohttp import web
        except ImportError:
            raise MissingExtra("a fake guard needs aiohttp: pip install 'tocsin[remote]'") from None
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        self._released.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        asked = Request(request.path, dict(request.headers), await request.json())
        reply = self._script.popleft() if self._script else (self._always or Reply())
        with self._came:
            self.requests.append(asked)
            self._came.notify_all()
        if reply.hang == "before":
            await self._released.wait()
        if reply.cut == "before":
            return self._hang_up(request)
        body = self._answer(asked) if reply.body is None else reply.body
        headers = {"Content-Type": "application/json"} | reply.headers
        if not (reply.hang == "half" or reply.cut == "half"):
            return web.Response(status=reply.status, body=body, headers=headers)
        response = web.StreamResponse(status=reply.status, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if reply.cut == "half":
            return self._hang_up(request)
        await self._released.wait()
        await response.write(body[len(body) // 2 :])
        return response

    @staticmethod
    def _hang_up(request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        if request.transport is not None:
            request.transport.close()
        return web.Response()

    # ----------------------------------------------------------------------------------- the model

    def _answer(self, asked: Request) -> bytes:
        body = asked.body
        data: list[dict[str, Any]]
        if asked.path == "/classify":
            data = [
                {"label": "safe" if p >= 0.5 else "unsafe", "probs": [p, 1.0 - p], "num_classes": 2}
                for p in map(self._rule, body["input"])
            ]
        elif asked.path == "/score":
            data = [{"object": "score", "score": self._rule(text)} for text in body["text_2"]]
        elif asked.path == "/pooling":
            data = [{"object": "pooling", "data": self._rows(text)} for text in body["input"]]
        else:
            return json.dumps(self._completion(judged(body))).encode()
        numbered = [{"index": i, **item} for i, item in enumerate(data)]
        return json.dumps({"object": "list", "data": numbered}).encode()

    def _rows(self, text: str) -> list[list[float]]:
        if not self._step_token:
            ends: list[int] = list(range(1, len(text) + 1))
        else:
            ends = [match.start() for match in re.finditer(re.escape(self._step_token), text)]
        return [[1.0 - p, p] for p in (self._rule(text[:end]) for end in ends)]

    def _completion(self, text: str) -> dict[str, Any]:
        safe = self._rule(text)
        logprobs = None
        if self._chat == "llama_guard":
            said = "safe" if safe >= 0.5 else "unsafe\nS1,S10"
            first = {"token": said.partition("\n")[0], "logprob": _log(max(safe, 1.0 - safe))}
            both = [
                {"token": "safe", "logprob": _log(safe)},
                {"token": "unsafe", "logprob": _log(1.0 - safe)},
            ]
            blank = {"token": "\n\n", "logprob": 0.0, "top_logprobs": []}
            logprobs = {"content": [blank, {**first, "top_logprobs": both}]}
            said = "\n\n" + said
        elif self._chat == "qwen3guard":
            said = f"Safety: {_three(safe)}\nCategories: {'None' if safe > 0.6 else 'Violent'}"
        elif self._chat == "safeguard":
            violation = int(safe < 0.5)
            said = json.dumps(
                {"violation": violation, "policy_category": "A.1" * violation or None}
            )
        elif self._chat == "judge":
            said = json.dumps({"safe": safe})
        else:
            said = "safe" if safe >= 0.5 else "unsafe"
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": said},
            "logprobs": logprobs,
            "finish_reason": "stop",
        }
        return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice]}


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -9_999.0


def _three(safe: float) -> str:
    return "Safe" if safe > 0.6 else "Controversial" if safe > 0.4 else "Unsafe"


def judged(body: dict[str, Any]) -> str:
    """Find the text to judge in the body of a chat: the last fenced block, else the last turn."""
    text: str = body["messages"][-1]["content"]
    fence = re.search(r"\[([0-9a-f]{16}) end\]\Z", text)
    if fence is None:
        return text
    begin = text.rindex(f"[{fence[1]} begin]\n") + len(f"[{fence[1]} begin]\n")
    return text[begin : fence.start() - 1]
