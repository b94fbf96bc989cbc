"""The verifier and its sessions: text is cut into steps, and each step is asked for once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from tocsin import limits
from tocsin.model import Channel, Context, Delta, Outcome
from tocsin.stream.steps import Step, StepDefinition
from tocsin.verifiers.contract import Declaration, Wanted
from tocsin.verifiers.remote.client import Client
from tocsin.verifiers.remote.config import Config
from tocsin.verifiers.remote.dialect import Said
from tocsin.verifiers.remote.text import Case, Tail, last_messages
from tocsin.verifiers.stepwise import Cutter, NoJudgement, outcome


class RemoteVerifier:
    """A guard, judge or reward model behind a URL. It lives in one event loop.

    Args:
        config: checked configuration, from `tocsin.verifiers.remote.config.load`.
        steps: what one step is; that of the configuration where not given.
        key: the API key; never shown.
        clock: seconds of a clock that never goes back, for breaker and pauses.

    Raises:
        MissingExtra: aiohttp is not installed.
    """

    def __init__(
        self,
        config: Config,
        steps: StepDefinition | None = None,
        *,
        key: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        low, high = config.guard.span
        self._config = config
        self._client = Client(config, key, clock)
        self._declares = Declaration(
            name=config.name or config.model,
            version=config.identity(),
            steps=steps or StepDefinition.parse(config.steps),
            kind="probability" if 0.0 <= low < high <= 1.0 else "real",
            low=low,
            high=high,
            whole_prefix=config.sees == "prefix",
            categories=config.guard.categories,
        )

    def __repr__(self) -> str:
        return f"RemoteVerifier({self._declares.name!r}, {self._config.guard.__class__.__name__})"

    @property
    def declares(self) -> Declaration:
        """What it says of itself."""
        return self._declares

    def open_async(self, context: Context) -> RemoteSession:
        """Begin with a new response."""
        return RemoteSession(self._declares, self._config, self._client, context)

    def open_async_selected(self, context: Context, wanted: Wanted) -> RemoteSession:
        """Begin with a new response of which only some steps are asked for."""
        return RemoteSession(self._declares, self._config, self._client, context, wanted)

    async def aclose(self) -> None:
        """Let go of connections; sessions give ``unreachable`` from here on."""
        await self._client.close()


class RemoteSession:
    """The scores of one response. What is judged at a step is the text of the step's channel.

    Args:
        declares: the verifier's declaration.
        config: its configuration.
        client: asks the server.
        context: the conversation before the response.
        wanted: which steps are asked for; all where not given.
    """

    def __init__(
        self,
        declares: Declaration,
        config: Config,
        client: Client,
        context: Context,
        wanted: Wanted | None = None,
    ) -> None:
        self._declares = declares
        self._config = config
        self._client = client
        self._wanted = wanted
        self._messages, self._cut = last_messages(
            context.messages, config.limits.conversation_chars
        )
        self._cutter = Cutter(declares.steps, declares.channels)
        self._tails: dict[Channel, Tail] = {}
        self._number = 0

    async def feed(self, delta: Delta) -> list[Outcome]:
        """Take new text; give the outcomes of the steps that are complete by now."""
        return await self._outcomes(self._cutter.feed(delta))

    async def close(self) -> list[Outcome]:
        """Give the outcomes of what is left."""
        return await self._outcomes(self._cutter.close())

    async def _outcomes(self, steps: Iterable[tuple[Channel, Step]]) -> list[Outcome]:
        asked: list[tuple[int, Channel, Step, Case]] = []
        for channel, step in steps:
            case = self._case(channel, step)
            self._number += 1
            if self._wanted is None or self._wanted(self._number):
                asked.append((self._number, channel, step, case))
        made: list[Outcome] = []
        for start in range(0, len(asked), limits.REMOTE_SESSION_ASKS_MAX):
            part = asked[start : start + limits.REMOTE_SESSION_ASKS_MAX]
            said = await asyncio.gather(*(self._ask(case) for _, _, _, case in part))
            for (number, channel, step, _), judgement in zip(part, said, strict=True):
                made.append(outcome(self._declares, judgement, number, channel, step.end))
        return made

    def _case(self, channel: Channel, step: Step) -> Case:
        """Take a step in, and give what is to be judged now."""
        if self._config.sees == "step" or channel not in self._tails:
            self._tails[channel] = Tail(self._config.limits.prefix_chars)
        tail = self._tails[channel]
        tail.add(step.text)
        return Case(self._messages, tail.steps(), self._cut or tail.cut)

    async def _ask(self, case: Case) -> Said:
        if not case.response:
            return NoJudgement("no_input", "there is no text to judge")
        if self._config.guard.needs_conversation and not case.messages:
            return NoJudgement("no_input", "the conversation was not given")
        if case.cut and self._config.limits.too_long == "unknown":
            return NoJudgement("too_long", "longer than prefix_chars or conversation_chars")
        return await self._client.ask(case)
