"""Answers of an upstream, right or spoiled, as bytes; and requests that they may belong to."""

from __future__ import annotations

from typing import Any

from fuzz.dice import Dice
from fuzz.spoiling import TEXTS, spoil, written
from tocsin.stream.events import Api, Asked
from tocsin.testing.fake_model import Call, Choice, Reply
from tocsin.testing.fake_model.plan import FORMS
from tocsin.testing.fake_model.replies import Wanted, whole

Texts = dict[tuple[str, int], str]
"""By kind of channel and choice."""

_FORM = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}
_FINISH = (None, "stop", "length", "content_filter", "of my own will")
_ENDS = ("\n\n", "\r\n\r\n", "\r\r", "\n: ping\n\n", "\nid: 7\nretry: 1\n\n", "\n")


def asked(dice: Dice, api: Api) -> Asked:
    """Choose a request."""
    return Asked(
        api=api,
        model="m",
        stream=True,
        choices=1 + dice.below(2) if api == "chat" else 1,
        include_usage=dice.flag(),
        tools=dice.one((frozenset({"open"}), None, frozenset())),
        body={"stop_sequences": ["END"]},
    )


def _choice(dice: Dice) -> Choice:
    return Choice(
        text=dice.one(TEXTS),
        reasoning=dice.one(("", *TEXTS)),
        refusal=dice.one(("", "", "", *TEXTS)),
        calls=tuple(
            Call(name=dice.one(("open", "open", "rm")), arguments=dice.one(("{}", *TEXTS)))
            for _ in dice.some(2)
        ),
        finish=dice.one(_FINISH),
    )


def _said(dice: Dice, request: Asked) -> tuple[Any, Reply, Wanted]:
    reply = Reply(
        choices=tuple(_choice(dice) for _ in range(request.choices)),
        cut=dice.one((0, 0, 9, 3)),
        reasoning_as=dice.one(("", "reasoning" if request.api == "chat" else "text")),
        extra=dice.one(({}, {"obfuscation": "xyz"}, {"text": "over there"})),
    )
    wanted = Wanted(
        model="m",
        stream=True,
        choices=request.choices,
        include_usage=request.include_usage,
        logprobs=dice.flag(),
        top_logprobs=2,
    )
    return FORMS[_FORM[request.api]], reply, wanted


def stream(dice: Dice, request: Asked) -> tuple[bytes, Texts | None]:
    """Make a stream: frames as the API has them, then some of them spoiled.

    Returns:
        The bytes, and what they say; None where that was spoiled.
    """
    form, reply, wanted = _said(dice, request)
    frames: list[Any] = [[name, payload] for name, payload, _ in form.events(reply, wanted)]
    spoilt = spoil(dice, frames)
    end = dice.one(_ENDS)
    out = []
    for frame in frames:
        name, payload = frame if isinstance(frame, list) and len(frame) == 2 else ("", frame)
        if isinstance(payload, str):
            data = payload.encode(errors="replace")
        else:
            data = written(dice, payload)
        head = f"event: {name}\n".encode(errors="replace") if name else b""
        out.append(head + b"data: " + data + end.encode())
    right = b"".join(out)
    raw = _splice(dice, right)
    return raw, None if spoilt or raw != right or end == _ENDS[-1] else _texts(reply, request)


def body(dice: Dice, request: Asked) -> tuple[bytes, Texts | None]:
    """Make a whole answer, spoiled; and give what it says, as `stream` does."""
    form, reply, wanted = _said(dice, request)
    made = [form.body(reply, wanted)]
    spoilt = spoil(dice, made)
    right = written(dice, made[0] if made else None)
    raw = _splice(dice, right)
    return raw, None if spoilt or raw != right else _texts(reply, request)


def _texts(reply: Reply, request: Asked) -> Texts | None:
    if "text" in reply.extra and request.api != "chat":
        return None  # it stands where the text belongs
    said: Texts = {}
    for choice, one in enumerate(reply.choices):
        for kind in ("text", "reasoning", "refusal"):
            text = whole(getattr(one, kind))
            if text:  # one API has no refusals: they are text
                at = "text" if kind == "refusal" and request.api == "messages" else kind, choice
                halves = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
                said[at] = said.get(at, "") + halves
    return said


def _splice(dice: Dice, raw: bytes) -> bytes:
    """Put what is left of the fuzzer's bytes somewhere into it, or cut it off."""
    how = dice.below(4)
    if how == 0 or not raw:
        return raw
    at = (dice.below(256) * 256 + dice.below(256)) % len(raw)
    if how == 1:
        return raw[:at]
    rest = dice.rest()
    return raw[:at] + rest + raw[at + (len(rest) if how == 2 else 0) :]
