"""What a fake model says, how it is cut, and what goes wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any, Literal, NamedTuple

import msgspec

Text = str | tuple[str, ...]
"""A text that is cut as the reply says, or its pieces as they are to come."""

FaultKind = Literal[
    "hang",
    "reset",
    "cut",
    "half_close",
    "unfinished",
    "garbage",
    "babble",
    "line",
    "endless",
]
"""What goes wrong:

- hang: nothing more comes until `FakeModel.step` or `release`; without them, never;
- reset: the connection is reset (RST); what the client has not read by then may be lost to it,
  so where that matters let it `hang` at the same place first;
- cut: the connection is closed, without the end of the body;
- half_close: the same, but what the client sends is still read;
- unfinished: the body ends as HTTP wants it, without the end that the API has;
- garbage: `Fault.data` comes inside the body, which then goes on;
- babble: `Fault.data` comes on the connection, which is no HTTP there;
- line: `Fault.size_bytes` without the end of a line come inside the body, which then goes on;
- endless: the last piece of text is repeated until the client goes away.
"""

_INSERTING: frozenset[FaultKind] = frozenset({"garbage", "babble", "line", "endless", "unfinished"})


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a tool; `arguments` is a JSON text, or not, if that is what is tested."""

    name: str
    arguments: Text = "{}"
    id: str = ""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: the texts of its channels.

    Args:
        finish: ``stop``, ``length`` or ``content_filter``, put into the API's own words; any other
            word as it is. None: as is usual for what was said.
    """

    text: Text = ""
    reasoning: Text = ""
    refusal: Text = ""
    calls: tuple[Call, ...] = ()
    finish: str | None = None


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that goes wrong with a reply, and where.

    Args:
        kind: one of `FaultKind`.
        after_frames: so many frames of the body come before it; 0: right behind the headers.
        after_bytes: so many bytes of the body come before it. Where neither is given, it strikes
            before the headers.
        data: for ``garbage`` and ``babble``.
        size_bytes: for ``line``.
    """

    kind: FaultKind
    after_frames: int | None = None
    after_bytes: int | None = None
    data: bytes = b"\x00\xff garbage \xfe\n\n"
    size_bytes: int = 1 << 20

    @property
    def early(self) -> bool:
        """Whether it strikes before the headers."""
        return self.after_frames is None and self.after_bytes is None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one request.

    Args:
        choices: what is said; asked for more, the model begins with the first again.
        cut: how texts become pieces: every so many characters; 0 for whole texts; or the offsets
            at which a text is cut, ascending.
        usage: tokens of prompt and of completion; the number of pieces where None.
        logprobs: whether they come; None: where the request asks for them. A piece is a token.
        logprob: that of every token.
        reasoning_as: in chat the name of the field, ``reasoning_content`` where empty; in responses
            ``text`` for reasoning text instead of a summary.
        extra: fields of no API, added to every frame and delta.
        newline: what ends a line of a stream.
        raw: frames that come instead of the answer, as they are.
        status: other than 200, an error in the API's own form comes, unless `raw` says otherwise.
        headers: beside or instead of the usual ones.
        pause_ms: before each piece of text; or one for each piece in turn, and none for the rest.
        stepwise: each frame waits for `FakeModel.step`.
        write_bytes: each write, and HTTP chunk, has at most so many bytes of the body; 0: a frame.
        gzip: the body comes compressed, whether the client takes that or not.
        timed: the time of each write is recorded.
        faults: what goes wrong.
    """

    choices: tuple[Choice, ...] = (Choice(text="It is a fine day, and the sea is calm."),)
    cut: int | tuple[int, ...] = 4
    usage: tuple[int, int] | None = None
    logprobs: bool | None = None
    logprob: float = -0.25
    reasoning_as: str = ""
    extra: dict[str, Any] = {}
    newline: str = "\n"
    raw: tuple[bytes, ...] | None = None
    status: int = 200
    headers: dict[str, str] = {}
    pause_ms: float | tuple[float, ...] = 0.0
    stepwise: bool = False
    write_bytes: int = 0
    gzip: bool = False
    timed: bool = False
    faults: tuple[Fault, ...] = ()

    @property
    def sized(self) -> bool:
        """Whether the length of a whole body can be said beforehand."""
        return not any(fault.kind in _INSERTING for fault in self.faults)


class Wanted(NamedTuple):
    """What a request asks for, as far as the form of an answer depends on it."""

    model: str
    stream: bool
    choices: int
    include_usage: bool
    logprobs: bool
    top_logprobs: int


class Frame(NamedTuple):
    """One frame of a body; `paced` if it carries a piece of text."""

    data: bytes
    paced: bool = False


def pieces(text: Text, cut: int | tuple[int, ...]) -> tuple[str, ...]:
    """Cut a text.

    Example:
        >>> pieces("abcde", 2), pieces("abcde", (1, 4)), pieces(("ab", "cde"), 1)
        (('ab', 'cd', 'e'), ('a', 'bcd', 'e'), ('ab', 'cde'))
    """
    if isinstance(text, tuple):
        return text
    if isinstance(cut, int):
        size = cut or max(len(text), 1)
        return tuple(text[i : i + size] for i in range(0, len(text), size))
    inside = [at for at in cut if 0 < at < len(text)]
    return tuple(text[a:b] for a, b in zip([0, *inside], [*inside, len(text)], strict=True) if b)


def pauses_ms(reply: Reply) -> Iterator[float]:
    """Give the pause before each piece, without end."""
    if isinstance(reply.pause_ms, tuple):
        return chain(reply.pause_ms, repeat(0.0))
    return repeat(reply.pause_ms)


def whole(text: Text) -> str:
    """Join a text that may be given in pieces."""
    return text if isinstance(text, str) else "".join(text)


def said(reply: Reply, wanted: Wanted) -> list[Choice]:
    """Give the choices that were asked for."""
    return [reply.choices[i % len(reply.choices)] for i in range(wanted.choices)]


def usage(reply: Reply, wanted: Wanted) -> tuple[int, int]:
    """Give the tokens of prompt and completion."""
    if reply.usage is not None:
        return reply.usage
    texts = [
        text
        for one in said(reply, wanted)
        for text in (one.reasoning, one.text, one.refusal, *(c.arguments for c in one.calls))
    ]
    return 9, sum(len(pieces(text, reply.cut)) for text in texts)


def token_logprob(piece: str, reply: Reply, wanted: Wanted) -> dict[str, Any]:
    """Give a piece as a token with its log-probability, and as many others as were asked for."""
    tops = [(piece, reply.logprob)] + [
        (f" other{i}", reply.logprob - i) for i in range(1, wanted.top_logprobs)
    ]
    first, *_ = told = [
        {
            "token": token,
            "logprob": logprob,
            "bytes": list(token.encode("utf-8", "surrogatepass")),
        }
        for token, logprob in tops
    ]
    return first | {"top_logprobs": told if wanted.top_logprobs else []}
