"""The guard in your own process: around the stream that an SDK, or anything else, gives you.

What comes out are chunks of the kind that went in, rebuilt from what may be shown. A response that
is stopped ends as its API ends a filtered one: nothing is raised, and the upstream is closed.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from typing import Any, TypeVar

from tocsin.errors import InputError
from tocsin.guarding.chunks import Chunks, chunks_like
from tocsin.guarding.doors import Approver, AsyncDoors, heard
from tocsin.guarding.plan import Appeal, Check, Guard, Verdict
from tocsin.guarding.receipt import Account, Receipt, Who
from tocsin.guarding.response import Guarded
from tocsin.model import Context, Outcome, UnknownReason
from tocsin.monitor import Monitor
from tocsin.stream.events import Event
from tocsin.verifiers.contract import AnyVerifier, Verifier
from tocsin.verifiers.registry import verifier as make_verifier

T = TypeVar("T")


def guard(
    stream: Any,
    watch: Monitor | Guard,
    *,
    verifier: AnyVerifier | None = None,
    context: Context | None = None,
    stronger: Check | None = None,
    approver: Approver | None = None,
) -> GuardedStream:
    """Watch a stream while it is read, and act on it.

    Args:
        stream: what an SDK gives for a streamed response (OpenAI chat completions and responses,
            Anthropic messages), the same chunks as dictionaries, or plain strings. An iterable, an
            async iterable, or something to be awaited that gives one.
        watch: a calibrated monitor, whose alarm halts the response; or a whole policy.
        verifier: whose scores the monitor takes; the one that its calibration names, where not
            given.
        context: what the generator was given, for verifiers that read it.
        stronger, approver: who hears appeals.

    Returns:
        An iterable, and an async iterable, of chunks; read it once. Its `receipt` tells what
        happened.

    Raises:
        CalibrationMismatch: the verifier is not the one that the monitor was calibrated for.

    Example:
        >>> import tocsin
        >>> from tocsin.guarding.plan import Check, Guard
        >>> patterns = tocsin.verifier("patterns")
        >>> rules = Check(name="rules", verifier=patterns, on_finding={"*": "mask"})
        >>> stream = guard(["My card is 4111 1111 ", "1111 1111."], Guard(checks=(rules,)))
        >>> "".join(stream), stream.account.done
        ('My card is [payment_card].', 'mask')
    """
    if not isinstance(watch, Guard | Monitor):
        raise InputError(
            f"a stream is watched by a tocsin.Monitor or a tocsin.Guard, not by {watch!r:.80}; "
            "tocsin.Monitor(calibration, epsilon=...) makes one of a calibration"
        )
    policy = watch if isinstance(watch, Guard) else _policy_of(watch, verifier)
    return GuardedStream(stream, policy, context or Context(), stronger, approver)


def _policy_of(monitor: Monitor, verifier: AnyVerifier | None) -> Guard:
    signal = monitor.calibration.signal
    used = verifier or make_verifier(signal.verifier, signal.step_definition)
    return Guard(name="monitor", checks=(Check(name="monitor", verifier=used, monitor=monitor),))


class GuardedStream:
    """A stream under guard. Made by `guard`; read once, by one reader.

    Attributes:
        account: what became of the response so far.
    """

    def __init__(
        self,
        stream: Any,
        policy: Guard,
        context: Context,
        stronger: Check | None,
        approver: Approver | None,
    ) -> None:
        self._stream = stream
        self._policy = policy
        self._context = context
        self._stronger = stronger
        self._approver = approver
        self._guarded: Guarded | None = None
        self._chunks: Chunks | None = None

    @property
    def account(self) -> Account:
        """What became of the response so far."""
        return self._response().account()

    @property
    def receipt(self) -> Receipt:
        """Everything about the response so far, as the gateway writes it for an alarm."""
        return self._response().receipt(Who(id=""))

    def _response(self) -> Guarded:
        if self._guarded is None:
            raise InputError("the stream has not been read yet: nothing is known of the response")
        return self._guarded

    def _open(self, first: Any, doors: AsyncDoors | _Now) -> tuple[Guarded, Chunks]:
        self._chunks = chunks_like(first)
        self._guarded = Guarded(self._policy, self._context, doors, in_order=self._chunks.in_order)
        return self._guarded, self._chunks

    # --------------------------------------------------------------------------------- in a loop

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Read it in an event loop."""
        stream = await self._stream if inspect.isawaitable(self._stream) else self._stream
        doors = AsyncDoors(self._stronger, self._approver)
        guarded = chunks = None
        try:
            async for chunk in _async(stream):
                if guarded is None or chunks is None:
                    guarded, chunks = self._open(chunk, doors)
                for made in chunks.write(await guarded.take(chunks.read(chunk))):
                    yield made
                if guarded.over:
                    break
            if guarded is None or chunks is None:
                return
            for made in chunks.write(await _rest(guarded, chunks)):
                yield made
        finally:
            await _close(stream)

    # ------------------------------------------------------------------------------ without a loop

    def __iter__(self) -> Iterator[Any]:
        """Read it without an event loop; verifiers that have to be waited for get one of their own.

        Raises:
            InputError: the stream is an asynchronous one.
        """
        if self._stream is None:
            raise InputError("there is no stream: it is None")
        if inspect.isawaitable(self._stream) or not isinstance(self._stream, Iterable):
            raise InputError("this stream is asynchronous: read it with `async for`")
        waits = [c for c in self._policy.checks if not isinstance(c.verifier, Verifier)]
        alone = not waits and self._approver is None
        alone = alone and (self._stronger is None or isinstance(self._stronger.verifier, Verifier))
        if alone:
            yield from self._each(_Now(self._stronger), _now)
            return
        with asyncio.Runner() as runner:
            yield from self._each(AsyncDoors(self._stronger, self._approver), runner.run)

    def _each(self, doors: AsyncDoors | _Now, run: Any) -> Iterator[Any]:
        guarded = chunks = None
        try:
            for chunk in self._stream:
                if guarded is None or chunks is None:
                    guarded, chunks = self._open(chunk, doors)
                yield from chunks.write(run(guarded.take(chunks.read(chunk))))
                if guarded.over:
                    break
            if guarded is not None and chunks is not None:
                yield from chunks.write(run(_rest(guarded, chunks)))
        finally:
            close = getattr(self._stream, "close", None)
            if close is not None:
                close()


async def _rest(guarded: Guarded, chunks: Chunks) -> list[Event]:
    """Take the end; what failed before anything was shown ends the response too."""
    out = [] if guarded.over else await guarded.take(chunks.close())
    if guarded.refused is not None or guarded.falls_back:
        return [*out, chunks.blocked()]
    return out


async def _async(stream: Any) -> AsyncIterator[Any]:
    if isinstance(stream, AsyncIterable):
        async for chunk in stream:
            yield chunk
    else:
        for chunk in stream:
            yield chunk


async def _close(stream: Any) -> None:
    close = getattr(stream, "close", None) or getattr(stream, "aclose", None)
    if close is not None:
        done = close()
        if inspect.isawaitable(done):
            await done


def _now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits."""
    try:
        coroutine.send(None)
    except StopIteration as e:
        result: T = e.value
        return result
    coroutine.close()
    raise InputError("a verifier has to be waited for: read the stream with `async for`")


class _Now:
    """Doors that never wait."""

    def __init__(self, stronger: Check | None) -> None:
        self._stronger = stronger

    async def ask(
        self, calls: Sequence[tuple[Check, Awaitable[list[Outcome]]]]
    ) -> list[list[Outcome] | UnknownReason]:
        """Wait for verifiers; there are none."""
        return [await answer for _, answer in calls]

    async def appeal(self, appeal: Appeal) -> Verdict:
        """Hear the stronger verifier, at once."""
        if self._stronger is None or appeal.kind != "escalate":
            return Verdict(safe=None, reason="there is nobody to ask")
        try:
            return await heard(self._stronger, appeal)
        except Exception as e:  # noqa: BLE001 - whatever breaks in a verifier is a failure
            return Verdict(safe=None, reason=type(e).__name__)
