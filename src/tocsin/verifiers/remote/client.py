"""The HTTP side: one call of the server, whatever happens to it, ends in judgements.

| what happens | reason |
|---|---|
| no answer by the deadline | timeout |
| no connection, or it is cut | unreachable |
| 429, 503, and until the end of the pause that they ask for | overloaded |
| 413 | too_long |
| another status than 200: redirects too | refused |
| 200 with anything but the dialect's JSON | bad_answer, out_of_range |
| too many failures just before | breaker_open |

Failures that open the breaker are time-outs, lost connections and the statuses 500 to 599. What one
text alone can cause (400, an answer that cannot be read) does not, or one response could silence
the verifier for all.
"""

from __future__ import annotations

import asyncio
import errno
import math
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tocsin import limits
from tocsin.errors import MissingExtra, SessionMisuse
from tocsin.model import UnknownReason
from tocsin.verifiers.remote.breaker import Breaker, End
from tocsin.verifiers.remote.config import Config
from tocsin.verifiers.remote.dialect import Said
from tocsin.verifiers.remote.lane import CLOSED, Lane, Trip
from tocsin.verifiers.remote.text import Case
from tocsin.verifiers.stepwise import NoJudgement

if TYPE_CHECKING:
    import aiohttp

_OF_ONE_TEXT = frozenset({400, 413, 422})
"""Statuses that a single text of a batch may be the cause of."""


class _Answer(NamedTuple):
    status: int
    body: bytes
    is_json: bool
    pause_s: float


class Client:
    """Asks one server for judgements.

    Args:
        config: the verifier's configuration.
        key: sent as a bearer token; empty for none.
        clock: seconds of a clock that never goes back.

    Raises:
        MissingExtra: aiohttp is not installed.
    """

    def __init__(self, config: Config, key: str, clock: Callable[[], float]) -> None:
        try:
            import aiohttp
        except ImportError:
            raise MissingExtra(
                "remote verifiers need aiohttp: pip install 'tocsin[remote]'"
            ) from None
        self._aiohttp = aiohttp
        self._config = config
        self._clock = clock
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._breaker = Breaker(config.breaker)
        self._paused_until = -math.inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http: aiohttp.ClientSession | None = None
        self._closed = False
        self._lane = Lane(
            self._call,
            calls=config.limits.concurrency,
            batch=config.limits.batch if config.guard.batches else 1,
            queue=config.limits.queue,
        )

    async def ask(self, case: Case) -> Said:
        """Give a judgement; a failure is a value.

        Raises:
            SessionMisuse: the client was used in another event loop before.
        """
        if self._closed:
            return CLOSED
        loop = asyncio.get_running_loop()
        if self._loop not in {None, loop}:
            raise SessionMisuse(
                "a remote verifier lives in one event loop; close it there and make another here"
            )
        self._loop = loop
        return self._refusal(self._clock()) or await self._lane.ask(
            case, self._config.limits.deadline_ms / 1_000
        )

    async def close(self) -> None:
        """Cancel what is under way and let go of connections."""
        self._closed = True
        await self._lane.close()
        if self._http is not None:
            await self._http.close()

    def _refusal(self, now: float) -> NoJudgement | None:
        """Say why nothing is asked now, if so."""
        if self._breaker.refuses(now):
            return NoJudgement("breaker_open", "the server failed too often just before")
        if now < self._paused_until:
            return NoJudgement("overloaded", "the server asked for a pause")
        return None

    async def _call(self, cases: Sequence[Case], trip: Trip) -> list[Said]:
        """Make one call and tell the breaker how it ended."""
        now = self._clock()
        refusal = self._refusal(now)
        permit = None if refusal else self._breaker.permit(now)
        if refusal or permit is None:
            return [refusal or NoJudgement("breaker_open")] * len(cases)
        end: End = "given_up"
        try:
            said, end = await self._judged(cases)
        except asyncio.CancelledError:
            end = "failure" if trip.timed_out else "given_up"
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours must not look like silence
            return [NoJudgement("failed", type(error).__name__)] * len(cases)
        finally:
            self._breaker.end(permit, end, self._clock())
        return said

    async def _judged(self, cases: Sequence[Case]) -> tuple[list[Said], End]:
        answer = await self._exchange(cases)
        if isinstance(answer, NoJudgement):
            return [answer] * len(cases), "failure"
        if len(cases) > 1 and answer.status in _OF_ONE_TEXT:
            # One text of the batch is at fault, and the answer does not say which.
            alone = [await self._judged([case]) for case in cases]
            ends = [end for _, end in alone]
            return [said[0] for said, _ in alone], "failure" if "failure" in ends else "success"
        if answer.status in {429, 503}:
            self._paused_until = max(self._paused_until, self._clock() + answer.pause_s)
        end: End = "failure" if answer.status >= 500 else "success"
        if answer.status != 200:
            reason = _REASONS.get(answer.status, "refused")
            return [NoJudgement(reason, f"status {answer.status}")] * len(cases), end
        if len(answer.body) > limits.REMOTE_ANSWER_BYTES_MAX:
            return [_bad(f"more than {limits.REMOTE_ANSWER_BYTES_MAX} bytes")] * len(cases), end
        if not answer.is_json:
            return [_bad("the content type is not JSON")] * len(cases), end
        return self._config.guard.read(answer.body, cases), end

    async def _exchange(self, cases: Sequence[Case]) -> _Answer | NoJudgement:
        """Send a request and read the answer; once more if the connection was gone already."""
        body = msgspec.json.encode(self._config.guard.request(self._config.model, cases))
        for attempt in (1, 2):
            try:
                return await self._post(body)
            except (self._aiohttp.ClientError, OSError) as error:
                # Kept-alive connections are closed by servers at any time.
                if attempt == 2 or not self._was_reset(error):
                    return NoJudgement("unreachable", type(error).__name__)
        raise AssertionError  # pragma: no cover - the second attempt returns

    def _was_reset(self, error: Exception) -> bool:
        """Tell whether a connection ended before the first byte of an answer."""
        if isinstance(error, self._aiohttp.ServerDisconnectedError):
            return isinstance(error.message, str)
        return isinstance(error, OSError) and error.errno in {errno.ECONNRESET, errno.EPIPE}

    async def _post(self, body: bytes) -> _Answer:
        async with self._session().post(
            self._config.url,
            data=body,
            headers={"Content-Type": "application/json"},
            allow_redirects=False,
        ) as response:
            read = bytearray()
            if response.status == 200:
                async for chunk in response.content.iter_any():
                    read += chunk
                    if len(read) > limits.REMOTE_ANSWER_BYTES_MAX:
                        response.close()
                        break
            return _Answer(
                response.status,
                bytes(read),
                response.content_type == "application/json",
                _pause(response.headers.get("Retry-After"), response.headers.get("Date")),
            )

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            lib = self._aiohttp
            self._http = lib.ClientSession(
                headers=self._headers,
                connector=lib.TCPConnector(limit=self._config.limits.concurrency),
                cookie_jar=lib.DummyCookieJar(),
                timeout=lib.ClientTimeout(total=None, sock_connect=None),
                auto_decompress=False,
                trust_env=False,
            )
        return self._http


_REASONS: dict[int, UnknownReason] = {413: "too_long", 429: "overloaded", 503: "overloaded"}


def _bad(detail: str) -> NoJudgement:
    return NoJudgement("bad_answer", detail)


def _pause(retry_after: str | None, date: str | None) -> float:
    """Read how many seconds a server wants to be left alone: none where it does not say.

    A point in time is compared with the server's own clock, as its answer states it.
    """
    seconds = 0.0
    value = (retry_after or "").strip()
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    elif value and date:
        try:
            gap = parsedate_to_datetime(value) - parsedate_to_datetime(date)
        except (TypeError, ValueError):
            return 0.0
        seconds = gap.total_seconds()
    return min(max(seconds, 0.0), limits.REMOTE_RETRY_AFTER_S_MAX)
