"""A client of a few lines that keeps every byte, and reads an API's answers with `json` alone.

It shares no code with the product, so that what it finds is what any client would find.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast

WAIT_S = 10.0
PATHS = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}

Place = tuple[Any, ...]
Shown = dict[tuple[str, int, int], str]
"""Text by kind of channel, choice and index, as receipts name them."""


class Wire(asyncio.Protocol):
    """One connection.

    Attributes:
        data: all bytes that came.
        lost: whether it has ended.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = False
        self.transport: asyncio.Transport
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._changed.set()

    async def until(self, seen: Callable[[bytearray], bool]) -> None:
        """Wait until the bytes are as wanted."""
        async with asyncio.timeout(WAIT_S):
            while not seen(self.data):
                assert not self.lost, bytes(self.data[-500:])
                self._changed.clear()
                await self._changed.wait()

    async def ended(self) -> None:
        """Wait until the connection has ended."""
        async with asyncio.timeout(WAIT_S):
            while not self.lost:
                self._changed.clear()
                await self._changed.wait()

    async def answer(self) -> Answer:
        """Wait for a whole answer."""
        await self.until(lambda raw: Answer.of(raw).whole)
        return Answer.of(self.data)

    def read_on(self, room_bytes: int) -> None:
        """Read again, with so much room that the kernel does not make the sender wait."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room_bytes)
        self.transport.resume_reading()

    def reset(self) -> None:
        """Leave with a reset."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def close(self) -> None:
        """Leave in order."""
        self.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.transport.abort()
        await self.ended()


async def connect(where: tuple[str, int], *, room_bytes: int = 0) -> Wire:
    """Connect; `room_bytes` is what the kernel is asked to keep of what is not read."""
    sock = socket.socket()
    sock.setblocking(False)
    if room_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room_bytes)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, where)
    _, wire = await loop.create_connection(Wire, sock=sock)
    return wire


def post(path: str, body: Mapping[str, Any], **headers: str) -> bytes:
    """Write a request."""
    raw = json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join(
        [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(raw)}", *lines]
    )
    return head.encode() + b"\r\n\r\n" + raw


def asking(api: str, model: str, *, stream: bool, n: int = 1, logprobs: bool = False) -> Any:
    """Give the body of a request; the tool `open` is offered."""
    body: dict[str, Any] = {"model": model, "stream": stream}
    schema = {"type": "object"}
    if api == "responses":
        body["input"] = "Go on."
        body["tools"] = [{"type": "function", "name": "open", "parameters": schema}]
        if logprobs:
            body["include"] = ["message.output_text.logprobs"]
        return body
    body["messages"] = [{"role": "user", "content": "Go on."}]
    if api == "messages":
        return body | {"max_tokens": 4_096, "tools": [{"name": "open", "input_schema": schema}]}
    body["tools"] = [{"type": "function", "function": {"name": "open", "parameters": schema}}]
    if stream:
        body["stream_options"] = {"include_usage": True}
    return body | {"n": n, "logprobs": logprobs}


async def ask(where: tuple[str, int], api: str, body: Any, version: str = "/v1") -> Answer:
    """Ask, and wait for the whole answer."""
    async with await connect(where) as wire:
        wire.transport.write(post(version + PATHS[api], body))
        return await wire.answer()


@dataclass
class Answer:
    """An answer as it came.

    Attributes:
        raw: all of it.
        status, headers: of its head; 0 where that has not come.
        body: without the framing of chunks.
        whole: whether its end has come.
    """

    raw: bytes
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    @classmethod
    def of(cls, data: bytes | bytearray) -> Self:
        raw = bytes(data)
        made = cls(raw)
        head, found, rest = raw.partition(b"\r\n\r\n")
        if not found:
            return made
        first, *lines = head.decode("latin-1").split("\r\n")
        made.status = int(first.split()[1])
        for line in lines:
            name, _, value = line.partition(":")
            assert name.lower() not in made.headers, name
            made.headers[name.lower()] = value.strip()
        if made.headers.get("transfer-encoding") == "chunked":
            made._unchunk(rest)
        else:
            size = int(made.headers["content-length"])
            assert len(rest) <= size
            made.body, made.whole = rest, len(rest) == size
        return made

    def _unchunk(self, rest: bytes) -> None:
        parts, at = [], 0
        while (end := rest.find(b"\r\n", at)) >= 0:
            size = int(rest[at:end], 16)
            if len(rest) < end + 2 + size + 2:
                break
            assert rest[end + 2 + size :][:2] == b"\r\n"
            at = end + 4 + size
            if not size:
                self.whole = True
                assert at == len(rest), "bytes behind the end"
                break
            parts.append(rest[end + 2 : end + 2 + size])
        self.body = b"".join(parts)

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def blocks(self) -> list[list[str]]:
        """The lines of each event or comment."""
        assert self.body.endswith(b"\n\n") or not self.body
        return [block.split("\n") for block in self.body.decode().split("\n\n")[:-1]]

    @property
    def data(self) -> list[str]:
        """The data of each event, in order."""
        return [line[6:] for block in self.blocks for line in block if line.startswith("data: ")]

    @property
    def frames(self) -> list[Any]:
        """The payloads: of each event, or of the body."""
        if not self.streamed:
            return [self.json]
        return [json.loads(data) for data in self.data if data != "[DONE]"]

    @property
    def comments(self) -> list[str]:
        return [b[0][2:] for b in self.blocks if b[0].startswith(": ")]

    @property
    def note(self) -> dict[str, Any]:
        """What the guard says of the answer, once; it comes before what ends the answer."""
        if not self.streamed:
            return dict(self.json["tocsin"])
        said = [i for i, b in enumerate(self.blocks) if b[0].startswith(": tocsin ")]
        assert len(said) == 1
        behind = [line for block in self.blocks[said[0] + 1 :] for line in block]
        assert behind, "nothing ends the answer behind the note"
        return dict(json.loads(self.blocks[said[0]][0].removeprefix(": tocsin ")))


# ------------------------------------------------------------------------------ every text there is


def leaves(value: Any, path: Place = ()) -> Iterator[tuple[Place, str]]:
    """Every text, with where it stands; lists are told apart by `index`, else by place."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, "a key"), key
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            index = inner.get("index", at) if isinstance(inner, dict) else at
            yield from leaves(inner, (*path, index))


def joined(frames: list[Any]) -> dict[Place, str]:
    """Join all texts of all frames by their places."""
    found: dict[Place, str] = {}
    for frame in frames:
        kind = (frame.get("type"), frame.get("output_index"), frame.get("index"))
        for path, text in leaves(frame):
            found[kind, path] = found.get((kind, path), "") + text
    return found


# --------------------------------------------------------------------------- what a reader has read


def read(api: str, answer: Answer) -> Shown:
    """Join the text of each channel, as a reader of this API does."""
    shown: Shown = {}

    def add(kind: str, choice: int, index: int, text: str | None) -> None:
        if text:
            at = (kind, choice, index)
            shown[at] = shown.get(at, "") + text

    readers = {
        ("chat", True): _chat_frame,
        ("chat", False): _chat_body,
        ("responses", True): _responses_frame,
        ("responses", False): _responses_body,
        ("messages", True): _messages_frame,
        ("messages", False): _messages_body,
    }
    for frame in answer.frames:
        readers[api, answer.streamed](frame, add)
    return _renumbered(shown)


def _renumbered(shown: Shown) -> Shown:
    """Count blocks among those of their kind, as receipts do."""
    made: Shown = {}
    count: dict[tuple[str, int], int] = {}
    for kind, choice, index in sorted(shown):
        number = count.get((kind, choice), 0)
        count[kind, choice] = number + 1
        made[kind, choice, number] = shown[kind, choice, index]
    return made


Add = Callable[[str, int, int, str | None], None]


def _chat_frame(frame: Any, add: Add) -> None:
    for choice in frame["choices"]:
        _chat_part(choice["delta"], choice["index"], add)


def _chat_body(frame: Any, add: Add) -> None:
    for choice in frame["choices"]:
        _chat_part(choice["message"], choice["index"], add)


def _chat_part(part: Any, choice: int, add: Add) -> None:
    add("text", choice, 0, part.get("content"))
    add("reasoning", choice, 0, part.get("reasoning_content"))
    add("refusal", choice, 0, part.get("refusal"))
    for at, call in enumerate(part.get("tool_calls") or ()):
        add("tool_arguments", choice, call.get("index", at), call["function"].get("arguments"))


_RESPONSES = {
    "response.output_text.delta": "text",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.refusal.delta": "refusal",
    "response.function_call_arguments.delta": "tool_arguments",
}


def _responses_frame(frame: Any, add: Add) -> None:
    kind = _RESPONSES.get(frame["type"])
    if kind is not None:
        add(kind, 0, frame["output_index"], frame["delta"])


def _responses_body(frame: Any, add: Add) -> None:
    for at, item in enumerate(frame["output"]):
        if item["type"] == "function_call":
            add("tool_arguments", 0, at, item["arguments"])
        for part in (*(item.get("content") or ()), *(item.get("summary") or ())):
            if part["type"] == "refusal":
                add("refusal", 0, at, part["refusal"])
            else:
                add("text" if part["type"] == "output_text" else "reasoning", 0, at, part["text"])


_MESSAGES = {"text": "text", "thinking": "reasoning", "partial_json": "tool_arguments"}


def _messages_frame(frame: Any, add: Add) -> None:
    for name, kind in _MESSAGES.items():
        if frame["type"] == "content_block_delta":
            add(kind, 0, frame["index"], frame["delta"].get(name))


def _messages_body(frame: Any, add: Add) -> None:
    for at, block in enumerate(frame["content"]):
        add("text", 0, at, block.get("text"))
        add("reasoning", 0, at, block.get("thinking"))
        if block["type"] == "tool_use":
            add("tool_arguments", 0, at, json.dumps(block["input"], ensure_ascii=False))


# -------------------------------------------------------------------------------------- its one end


def ending(api: str, answer: Answer) -> list[str]:
    """Why it ended, for each choice; and that it ended once, as its API ends an answer."""
    frames = answer.frames
    if api == "chat":
        said = [
            (choice["index"], choice["finish_reason"])
            for frame in frames
            for choice in frame["choices"]
            if choice["finish_reason"] is not None
        ]
        if answer.streamed:
            assert answer.data[-1] == "[DONE]"
            assert answer.data.count("[DONE]") == 1
        indices = {c["index"] for f in frames for c in f["choices"]}
        assert sorted(index for index, _ in said) == sorted(indices)
        return [reason for _, reason in sorted(said)]
    if api == "responses":
        last = frames[-1]["response"] if answer.streamed else frames[-1]
        if answer.streamed:
            ends = [f["type"] for f in frames if f["type"] in _RESPONSES_ENDS]
            assert ends == [frames[-1]["type"]] == [f"response.{last['status']}"]
            numbers = [frame["sequence_number"] for frame in frames]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        details = last.get("incomplete_details") or {}
        return [details.get("reason", last["status"])]
    if not answer.streamed:
        return [frames[0]["stop_reason"]]
    kinds = [frame["type"] for frame in frames]
    assert kinds.count("message_stop") == 1 and kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop")
    return [frames[-2]["delta"]["stop_reason"]]


_RESPONSES_ENDS = {"response.completed", "response.incomplete", "response.failed", "error"}

FILTERED = {"chat": "content_filter", "responses": "content_filter", "messages": "refusal"}
"""How each API says that an answer was stopped."""
