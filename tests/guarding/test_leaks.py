"""Nothing forbidden reaches the reader: every API, channel, choice, cut and intervention.

The upstream's bytes are made by the fake model, which shares no code with the codecs. What comes
out is read by nothing but a JSON parser: every text of every frame, joined by where it stands.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from guarded_streams import FORBIDDEN, Doors, literal_rules, now

from tocsin.guarding.plan import Check, Guard
from tocsin.guarding.response import Guarded
from tocsin.limits import FEED_CHARS
from tocsin.model import Intervention
from tocsin.stream import sse
from tocsin.stream.codec import Made
from tocsin.stream.codecs import CODECS
from tocsin.stream.events import Asked, Blocked
from tocsin.testing.fake_model import Call, Choice, Reply
from tocsin.testing.fake_model.plan import FORMS
from tocsin.testing.fake_model.replies import Wanted

RULES = literal_rules(steps="chars:16")
SAYS = "The gates were seven, and not one of them was ever shut by night. "
PATHS = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}
SPAN = RULES.declares.hold_back_chars + FEED_CHARS
"""Offsets after which everything repeats: the hold-back and one cell of the grid."""

COMBINATIONS = [
    (api, channel, n)
    for api in PATHS
    for channel in ("text", "tool", "reasoning", "refusal")
    for n in ((1, 2) if api == "chat" else (1,))
    if not (api == "messages" and channel == "refusal")  # that API has none
]
INTERVENTIONS = ("halt", "mask", "replace", "escalate")


def upstream(api: str, channel: str, n: int, said: str, cuts: int | tuple[int, ...]) -> bytes:
    """Bytes of a stream in which the last choice says it, on one channel."""
    plain = Choice(text=SAYS)
    speaks = {
        "tool": Choice(text="So be it.", calls=(Call(name="open", arguments=said),)),
        "text": Choice(text=said),
        "reasoning": Choice(text="So be it.", reasoning=said),
        "refusal": Choice(refusal=said),
    }[channel]
    reply = Reply(choices=(speaks,) if n == 1 else (plain, speaks), cut=cuts)
    wanted = Wanted("m", True, n, True, False, 0)
    frames = []
    for name, payload, _ in FORMS[PATHS[api]].events(reply, wanted):
        head = f"event: {name}\n" if name else ""
        data = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        frames.append(f"{head}data: {data}\n\n")
    return "".join(frames).encode()


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every text in a frame, with where it stands; lists are told apart by `index`, else place."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            index = inner.get("index", at) if isinstance(inner, dict) else at
            yield from leaves(inner, (*path, index))


def read(raw: bytes) -> tuple[dict[tuple[Any, ...], str], list[Any]]:
    """Join all texts by their places; and give the frames."""
    frames = [
        json.loads(line[6:])
        for line in raw.decode().split("\n")
        if line.startswith("data: ") and line != "data: [DONE]"
    ]
    joined: dict[tuple[Any, ...], str] = {}
    for frame in frames:
        kind = (frame.get("type"), frame.get("output_index"), frame.get("index"))
        for path, text in leaves(frame):
            joined[kind, path] = joined.get((kind, path), "") + text
    return joined, frames


def ends_filtered(api: str, n: int, raw: bytes, frames: list[Any]) -> bool:
    """Whether a stream ends as its API ends a filtered one."""
    if api == "chat":
        reasons = [
            (c["index"], c["finish_reason"])
            for f in frames
            for c in f["choices"]
            if c.get("finish_reason")
        ]
        assert raw.endswith(b"data: [DONE]\n\n")
        return sorted(reasons) == [(i, "content_filter") for i in range(n)]
    if api == "responses":
        last = frames[-1]
        details = last["response"].get("incomplete_details") or {}
        return (last["type"], details.get("reason")) == ("response.incomplete", "content_filter")
    assert frames[-1]["type"] == "message_stop"
    return bool(frames[-2]["delta"]["stop_reason"] == "refusal")


def guarded_bytes(api: Any, n: int, guard: Guard, raw: bytes, size: int) -> tuple[bytes, bool]:
    """Send a stream through decoder, guard and encoder; whether it was blocked."""
    codec = CODECS[api]
    asked = Asked(
        api=api, model="m", stream=True, choices=n, include_usage=True, tools=frozenset({"open"})
    )
    decoder, encoder = codec.decoder(asked), codec.encoder(asked, Made(id="x1", created_s=1))
    doors = Doors(Check(name="strong", verifier=RULES))
    guarded = Guarded(guard, asked.context, doors, in_order=codec.in_order)
    out, blocked = [], False
    for at in range(0, len(raw) + size, size):
        part = raw[at : at + size]
        for event in now(guarded.take(decoder.feed(part) if part else decoder.close())):
            blocked = blocked or isinstance(event, Blocked)
            out.append(sse.encode(encoder.encode(event)))
        if guarded.over:
            break
    assert guarded.over
    return b"".join(out), blocked


def cuts_of(offset: int) -> list[int | tuple[int, ...]]:
    """The literal in 1, 2 and 3 pieces, and everything per character."""
    end = offset + len(FORBIDDEN)
    return [(), (offset, end), (offset + 5, end), (offset + 3, offset + 9), 1]


@pytest.mark.parametrize("does", INTERVENTIONS)
@pytest.mark.parametrize(("api", "channel", "n"), COMBINATIONS)
def test_no_forbidden_literal_reaches_the_reader(api: str, channel: str, n: int, does: Any) -> None:
    guard = Guard(
        checks=(Check(name="rules", verifier=RULES, on_finding={"*": does}),),
        replacement="I had better not say that.",
    )
    for offset in range(SPAN):
        before = (SAYS * 2)[:offset]
        said = f"{before}{FORBIDDEN} {SAYS}"
        if channel == "tool":
            said = json.dumps({"a": said})
            offset += 7  # noqa: PLW2901 - where the literal begins within the JSON
        results = set()
        for cuts in cuts_of(offset):
            cut = cuts or 0
            raw = upstream(api, channel, n, said, cut)
            shown, blocked = guarded_bytes(api, n, guard, raw, 4_096)
            joined, frames = read(shown)
            for where, text in joined.items():
                assert FORBIDDEN not in text, where
                assert FORBIDDEN[:6] not in text, where
            assert blocked == (does != "mask")
            if blocked:
                assert ends_filtered(api, n, shown, frames)
            texts = {w: t for w, t in joined.items() if "id" not in w[1] and t}
            results.add(json.dumps(sorted((str(w), t) for w, t in texts.items())))
        # With two choices the cut decides which of them has come how far when one of them rings.
        assert len(results) == 1 or n == 2


@pytest.mark.parametrize(("api", "channel", "n"), COMBINATIONS)
def test_bytes_that_come_one_by_one_change_nothing(api: str, channel: str, n: int) -> None:
    acts: tuple[Intervention, ...] = ("halt", "mask")
    for does, size in itertools.product(acts, (1, 7)):
        guard = Guard(checks=(Check(name="rules", verifier=RULES, on_finding={"*": does}),))
        said = f'{{"a": "{SAYS}é😀 {FORBIDDEN} {SAYS}"}}'
        raw = upstream(api, channel, n, said, 3)
        whole, _ = guarded_bytes(api, n, guard, raw, len(raw))
        pieces, _ = guarded_bytes(api, n, guard, raw, size)
        assert FORBIDDEN.encode() not in pieces
        assert pieces == whole


@pytest.mark.parametrize(("api", "channel", "n"), COMBINATIONS)
def test_what_nothing_objects_to_arrives_whole(api: str, channel: str, n: int) -> None:
    guard = Guard(checks=(Check(name="rules", verifier=RULES, on_finding={"*": "halt"}),))
    said = json.dumps({"a": SAYS * 3})
    shown, blocked = guarded_bytes(api, n, guard, upstream(api, channel, n, said, 3), 64)
    joined, _ = read(shown)
    assert not blocked
    assert said in joined.values()
