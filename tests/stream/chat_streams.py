"""What the tests of the chat codec share: streams, and what is read of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reference.chat import call, chunk, stream

from tocsin.model import Channel
from tocsin.stream.chat import CODEC
from tocsin.stream.events import (
    Asked,
    Began,
    Event,
    Opened,
    Sealed,
    Stopped,
    Wrote,
)

ASKED = Asked(api="chat", model="m", stream=True, choices=2, tools=frozenset({"look", "look_up"}))
TEXT = Channel("text")
CALL = Channel("tool_arguments")
SECOND_CALL = Channel("tool_arguments", 0, 1)
STOP = Stopped(fields={"finish_reason": "stop"})
CALLED = Stopped(fields={"finish_reason": "tool_calls"})


def read(*pieces: bytes, asked: Asked = ASKED) -> list[Event]:
    """Every event of a stream, its closing too."""
    decoder = CODEC.decoder(asked)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close()


def merged(events: Iterable[Event]) -> list[Event]:
    """With neighbouring texts of one channel joined."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Wrote) and isinstance(last, Wrote) and last.channel == event.channel:
            out[-1] = Wrote(
                channel=last.channel, text=last.text + event.text, tokens=last.tokens + event.tokens
            )
        else:
            out.append(event)
    return out


def seen(*chunks: Any, asked: Asked = ASKED, done: bool = True) -> list[Event]:
    """The events of chunks, without `Opened`; the same byte by byte and as an SDK gives them."""
    raw = stream(*chunks, done=done)
    events = read(raw, asked=asked)
    assert events == read(*[raw[i : i + 1] for i in range(len(raw))], asked=asked)
    decoder = CODEC.decoder(asked)
    assert events == [e for c in chunks for e in decoder.take(c)] + decoder.close()
    return [event for event in merged(events) if not isinstance(event, Opened)]


LOOKED = [
    Began(channel=CALL, fields={"name": "look", "id": "c1"}),
    Wrote(channel=CALL, text='{"a":1}'),
    Sealed(channel=CALL),
]
LOOKED_TWICE = [
    Began(channel=CALL, fields={"name": "look", "id": "c1"}),
    Wrote(channel=CALL, text='{"a":1}'),
    Began(channel=SECOND_CALL, fields={"name": "look", "id": "c2"}),
    Wrote(channel=SECOND_CALL, text="{}"),
    Sealed(channel=CALL),
    Sealed(channel=SECOND_CALL),
]


GOLDEN = (
    stream(
        chunk(role="assistant", content=""),
        chunk(content="é日"),
        chunk(1, content="x\ud83d"),
        chunk(1, content="\ude00", reason="stop"),
        chunk(tool_calls=[call(0, "c1", "look", "")]),
        chunk(tool_calls=[call(0, text='{"a":"😀"}')], reason="tool_calls"),
        done=False,
    ).replace(b"\n\n", b"\r\n\r\n: ping\n\n")
    + 'data: {"usage":\ndata: {"total_tokens":3},\rdata: "x":"é"}\n\ndata: [DONE]\n\n'.encode()
)


def scored(token: str, logprob: float | None = -0.5, **top: float) -> dict[str, Any]:
    """One entry of `logprobs`."""
    alternatives = [{"token": t, "logprob": p, "bytes": None} for t, p in top.items()]
    return {"token": token, "logprob": logprob, "bytes": [1], "top_logprobs": alternatives}


def with_logprobs(text: str, *entries: dict[str, Any], name: str = "content") -> dict[str, Any]:
    """A chunk with log-probabilities."""
    said: dict[str, Any] = {name: text}
    made = chunk(reason="stop", **said)
    made["choices"][0]["logprobs"] = {name: list(entries)}
    return made
