"""The conformance suite of verifiers: ours pass it, and so should yours."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from tocsin.model import TEXT, Channel, Context, Delta, Outcome, Score, Token, Unknown
from tocsin.verifiers.contract import (
    AnyVerifier,
    AsyncSelective,
    AsyncSession,
    AsyncVerifier,
    Declaration,
    Selective,
    Session,
    Verifier,
    Wanted,
)

Stream = list[Delta]
"""One response: deltas in order."""

_WORDS = (
    "the a of and to answer Dr. e.g. step is 3.14 first I can help you with that. no! why? "
    'Mr. Ames U.S. etc. x=1; {"a": [1, 2]} 1. 2) - * ## ... it\'s naïve façade 東京。 はい！ '
    "данные مرحبا 😀 👩\u200d👧 e\u0301 ﬁ ａｂｃ \u200b \ufeff \x00 \x1b[31m \ud83d "
    "\U000e0041 &amp; %41 aGVsbG8gd29ybGQh 68656c6c6f 4111-1111-1111-1111 mail@example.com "
    "192.0.2.1 -----BEGIN AKIAIOSFODNN7EXAMPLE +1-202-555-0143 DE89370400440532013000"
).split(" ")
_GAPS = (" ", " ", " ", " ", "", "\n", "\n\n", "\t", "  ", "\r\n", ". ", "! ")
_CHANNELS = (
    TEXT,
    Channel("observation"),
    Channel("reasoning"),
    Channel("tool_arguments"),
    Channel("tool_arguments", index=1),
    Channel("text", choice=1),
)


class NotConformant(AssertionError):  # noqa: N818 - the name says what is the case
    """A verifier breaks the contract; the message says which part, on which stream."""


def check_verifier(
    verifier: AnyVerifier,
    *,
    streams: int = 200,
    texts: Sequence[str] = (),
    seed: int = 0,
    cuts: int = 2,
) -> int:
    """Prove that a verifier keeps to the contract, on generated streams and on your own texts.

    Each stream is fed whole, character by character and in random cuts, and must give the same
    outcomes; scores must be in range, steps numbered 1, 2, 3, ..., offsets must grow and stay
    within the text; two sessions that take turns must not know of each other; one that can leave
    steps out must judge the others as if it had not; hostile text (lone surrogates, control
    characters, right-to-left marks) must never raise.

    Args:
        verifier: the verifier; an asynchronous one is run in an event loop of its own, then
            closed.
        streams: how many streams to generate.
        texts: responses of your own to add to them.
        seed: of the generator.
        cuts: how many random ways to cut each stream.

    Returns:
        The number of outcomes that were compared.

    Raises:
        NotConformant: with the first breach found.

    Example:
        >>> from tocsin.verifiers.registry import verifier
        >>> check_verifier(verifier("logprobs:mean", "sentence"), streams=5) > 0
        True
    """
    rng = random.Random(seed)  # noqa: S311 - test data, not secrets
    made = [generated_stream(rng) for _ in range(streams)]
    made += [[Delta(text=text, ends="turn")] for text in texts]
    made += [[], [Delta(ends="turn")], [Delta(text="", channel=_CHANNELS[1])]]
    selective = isinstance(verifier, Selective | AsyncSelective)
    with _runner(verifier) as feed:
        return _compare(feed, verifier.declares, made, rng, cuts=cuts, selective=selective)


def _compare(
    feed: Feed,
    declares: Declaration,
    made: list[Stream],
    rng: random.Random,
    *,
    cuts: int,
    selective: bool,
) -> int:
    def run(fed: list[Stream], where: str, wanted: Wanted | None = None) -> list[list[Outcome]]:
        try:
            return feed(fed, wanted)
        except Exception as e:
            raise NotConformant(f"{where}: raised {e!r}") from e

    _check_declaration(declares)
    compared = 0
    last: tuple[Stream, list[Outcome]] = ([], run([[]], "an empty stream")[0])
    for number, stream in enumerate(made):
        where = f"stream {number}"
        whole = run([stream], where)[0]
        _check_outcomes(declares, stream, whole, number)
        ways = [("character by character", by_character(stream))]
        ways += [("in random cuts", in_cuts(stream, rng)) for _ in range(cuts)]
        for how, pieces in ways:
            _same(run([pieces], f"{where} fed {how}")[0], whole, f"{where} fed {how}")
        if selective:
            some = run([stream], f"{where} in part", lambda step: step % 3 == 0)[0]
            _same(some, [o for o in whole if o.step % 3 == 0], f"{where} in part")
        mine, other = run([stream, last[0]], f"{where} beside another session")
        _same(mine, whole, f"{where} beside another session")
        _same(other, last[1], f"the session beside {where}")
        last = (stream, whole)
        compared += len(whole)
    return compared


# ---------------------------------------------------------------------------------------- streams


def generated_text(rng: random.Random, words: int = 40) -> str:
    """Write hostile, multilingual nonsense with many possible boundaries."""
    return "".join(rng.choice(_WORDS) + rng.choice(_GAPS) for _ in range(rng.randrange(words + 1)))


def generated_stream(rng: random.Random) -> Stream:
    """Write one response: several channels taking turns, some with log-probabilities."""
    stream: Stream = []
    with_tokens = rng.random() < 0.3
    for _ in range(rng.randrange(1, 6)):
        channel = TEXT if rng.random() < 0.5 else rng.choice(_CHANNELS)
        text = generated_text(rng)
        tokens = tuple(_tokens(rng, text)) if with_tokens and channel.kind != "observation" else ()
        ends = rng.choice((None, None, "turn", "tool_call"))
        stream.append(Delta(text=text, channel=channel, tokens=tokens, ends=ends))  # type: ignore[arg-type]
    return stream


def _tokens(rng: random.Random, text: str) -> Iterable[Token]:
    at = 0
    while at < len(text):
        end = at + rng.randrange(1, 7)
        first = -rng.expovariate(1.0)
        top = tuple(sorted((first, *(first - rng.expovariate(0.5) for _ in range(3)))))
        yield Token(text[at:end], first, top)
        at = end


def by_character(stream: Stream) -> Stream:
    """Cut each delta into single characters, or single tokens where it has tokens."""
    return [piece for delta in stream for piece in _cut(delta, lambda size: list(range(1, size)))]


def in_cuts(stream: Stream, rng: random.Random) -> Stream:
    """Cut each delta at random places, some of them twice: empty chunks mean nothing either."""

    def places(size: int) -> list[int]:
        return sorted(rng.randrange(size + 1) for _ in range(rng.randrange(6)))

    return [piece for delta in stream for piece in _cut(delta, places)]


def _cut(delta: Delta, places: Callable[[int], list[int]]) -> Iterable[Delta]:
    """Cut a delta; what ends with it, ends with its last piece."""
    whole: Sequence[Token] | str = delta.tokens or delta.text
    at = [0, *places(len(whole)), len(whole)]
    for i, (start, end) in enumerate(itertools.pairwise(at)):
        piece = whole[start:end]
        yield Delta(
            text=piece if isinstance(piece, str) else "".join(token.text for token in piece),
            channel=delta.channel,
            tokens=() if isinstance(piece, str) else tuple(piece),
            ends=delta.ends if i == len(at) - 2 else None,
        )


# ----------------------------------------------------------------------------------------- checks


Feed = Callable[[list[Stream], Wanted | None], list[list[Outcome]]]


@contextmanager
def _runner(verifier: AnyVerifier) -> Iterator[Feed]:
    """Feed streams to sessions of their own that take turns."""
    if isinstance(verifier, Verifier):
        yield lambda streams, wanted: _run(verifier, streams, wanted)
        return
    with asyncio.Runner() as loop:
        try:
            yield lambda streams, wanted: loop.run(_run_async(verifier, streams, wanted))
        finally:
            loop.run(verifier.aclose())


def _run(verifier: Verifier, streams: list[Stream], wanted: Wanted | None) -> list[list[Outcome]]:
    def begin() -> Session:
        if wanted is not None and isinstance(verifier, Selective):
            return verifier.open_selected(Context(), wanted)
        return verifier.open(Context())

    sessions = [begin() for _ in streams]
    out: list[list[Outcome]] = [[] for _ in streams]
    for i in range(max(map(len, streams), default=0)):
        for session, stream, found in zip(sessions, streams, out, strict=True):
            if i < len(stream):
                found.extend(session.feed(stream[i]))
    for session, found in zip(sessions, out, strict=True):
        found.extend(session.close())
    return out


async def _run_async(
    verifier: AsyncVerifier, streams: list[Stream], wanted: Wanted | None
) -> list[list[Outcome]]:
    def begin() -> AsyncSession:
        if wanted is not None and isinstance(verifier, AsyncSelective):
            return verifier.open_async_selected(Context(), wanted)
        return verifier.open_async(Context())

    sessions = [begin() for _ in streams]
    out: list[list[Outcome]] = [[] for _ in streams]
    for i in range(max(map(len, streams), default=0)):
        for session, stream, found in zip(sessions, streams, out, strict=True):
            if i < len(stream):
                found.extend(await session.feed(stream[i]))
    for session, found in zip(sessions, out, strict=True):
        found.extend(await session.close())
    return out


def _check_declaration(declares: Declaration) -> None:
    for name in ("name", "version"):
        if not getattr(declares, name):
            raise NotConformant(f"the declaration has no {name}")
    if not declares.low < declares.high:
        raise NotConformant(f"the range {declares.low} to {declares.high} is empty")
    if declares.kind == "probability" and not 0.0 <= declares.low < declares.high <= 1.0:
        raise NotConformant(f"a probability within {declares.low} to {declares.high}")
    if not declares.channels:
        raise NotConformant("it scores no channel")


def _check_outcomes(
    declares: Declaration, stream: Stream, outcomes: list[Outcome], number: int
) -> None:
    where = f"stream {number}"
    fed: dict[Channel, int] = {}
    for delta in stream:
        fed[delta.channel] = fed.get(delta.channel, 0) + len(delta.text)
    last: dict[Channel, int] = {}
    for place, outcome in enumerate(outcomes, 1):
        if not isinstance(outcome, Score | Unknown):
            raise NotConformant(f"{where}: {type(outcome).__name__} is neither Score nor Unknown")
        if outcome.step != place:
            raise NotConformant(f"{where}: outcome {place} is numbered {outcome.step}")
        if not last.get(outcome.channel, 0) <= outcome.upto <= fed.get(outcome.channel, -1):
            raise NotConformant(f"{where}, step {place}: offset {outcome.upto} goes back or beyond")
        last[outcome.channel] = outcome.upto
        if outcome.channel.kind not in declares.channels:
            raise NotConformant(f"{where}, step {place}: {outcome.channel} was not declared")
        if isinstance(outcome, Score):
            _check_score(declares, outcome, fed[outcome.channel], f"{where}, step {place}")


def _check_score(declares: Declaration, score: Score, fed: int, where: str) -> None:
    for value in (score.value, *score.categories.values()):
        if not declares.low <= value <= declares.high:
            raise NotConformant(f"{where}: {value} is outside {declares.low} to {declares.high}")
    if not set(score.categories) <= set(declares.categories):
        raise NotConformant(f"{where}: categories {sorted(score.categories)} were not declared")
    for finding in score.findings:
        if not 0 <= finding.start < finding.end <= fed:
            raise NotConformant(f"{where}: a finding at {finding.start} to {finding.end}")


def _same(got: list[Outcome], expected: list[Outcome], where: str) -> None:
    if got == expected:
        return
    for place, (a, b) in enumerate(zip(got, expected, strict=False), 1):
        if a != b:
            raise NotConformant(f"{where}, outcome {place}: {a} where fed whole it gave {b}")
    raise NotConformant(f"{where}: {len(got)} outcomes where fed whole it gave {len(expected)}")
