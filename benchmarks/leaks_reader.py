"""What a reader gets of an answer, by the official SDKs, on three APIs; for benchmarks/leaks.py.

It runs in the environments of other packages too, so nothing of Tocsin is imported here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

PROMPT = "Please answer the question of probe {}."
TOOL = "take_note"
MODEL = "fake-model"
TOKENS_MAX = 4096
TIMEOUT_S = 60.0

_PARAMETERS = {
    "type": "object",
    "properties": {"note": {"type": "string"}},
    "required": ["note"],
}
_ENDS = ("response.completed", "response.incomplete", "response.failed")
_SHORT = 4


def clients(url: str, key: str) -> dict[str, Any]:
    """Open both SDKs for a server; `url` is without the ``/v1``."""
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

    often: dict[str, Any] = {"api_key": key, "max_retries": 0, "timeout": TIMEOUT_S}
    openai = AsyncOpenAI(base_url=f"{url}/v1", **often)
    return {"chat": openai, "responses": openai, "messages": AsyncAnthropic(base_url=url, **often)}


def request(api: str, probe: str, *, tools: bool, choices: int, model: str) -> dict[str, Any]:
    """Give the arguments of the call that an application would make."""
    said = PROMPT.format(probe)
    asked: dict[str, Any] = {"model": model}
    if api == "responses":
        asked["input"] = said
    else:
        asked["messages"] = [{"role": "user", "content": said}]
    if api == "messages":
        asked["max_tokens"] = TOKENS_MAX
    if choices > 1:
        asked["n"] = choices
    if tools:
        asked["tools"] = [_tool(api)]
    return asked


def _tool(api: str) -> dict[str, Any]:
    if api == "messages":
        return {"name": TOOL, "description": "Takes a note.", "input_schema": _PARAMETERS}
    named = {"name": TOOL, "description": "Takes a note.", "parameters": _PARAMETERS}
    if api == "responses":
        return {"type": "function", "strict": False, **named}
    return {"type": "function", "function": named}


class Seen:
    """What has come of one answer so far, as text and as the SDK's own accumulator has it."""

    def __init__(self, api: str) -> None:
        self._api = api
        self._parts: dict[tuple[Any, ...], list[str]] = {}
        self._state = _state(api)
        self._last = ""
        self._began_s = time.monotonic()
        self.arrivals: list[tuple[float, int]] = []

    def event(self, event: Any) -> None:
        """Take one event of a stream; raises what the SDK raises on it."""
        told = event.to_dict()
        kind = told.get("type", "")
        at = (kind, *(told.get(k) for k in ("output_index", "content_index", "summary_index")))
        count = 0
        for path, text in _strings(told):
            self._parts.setdefault(at + path, []).append(text)
            count += len(text) if "delta" in path and "type" not in path else 0
        if count:
            self.arrivals.append((time.monotonic() - self._began_s, count))
        self._last = kind
        if self._api == "chat":
            for _ in self._state.handle_chunk(event):
                pass
        elif self._api == "responses":
            self._state.handle_event(event)

    def whole(self, body: Any) -> None:
        """Take a whole answer."""
        for path, text in _strings(body.to_dict()):
            self._parts.setdefault(("whole", *path), []).append(text)

    def texts(self) -> list[str]:
        """Give every text: what came in pieces, joined as any accumulator joins it."""
        joined = ("".join(parts) for parts in self._parts.values())
        return [text for text in joined if len(text) >= _SHORT]

    def ending(self) -> str:
        """Say how a stream ended that raised nothing: `valid` or `cut`."""
        if self._api == "messages":
            return "valid" if self._last == "message_stop" else "cut"
        if self._api == "responses":
            return "valid" if self._last in _ENDS else "cut"
        try:
            choices = self._state.current_completion_snapshot.choices
        except AssertionError:  # no chunk came at all
            return "cut"
        return "valid" if choices and all(c.finish_reason for c in choices) else "cut"


def _state(api: str) -> Any:
    if api == "chat":
        from openai.lib.streaming.chat import ChatCompletionStreamState

        return ChatCompletionStreamState()
    if api == "responses":
        from openai import omit
        from openai.lib.streaming.responses._responses import ResponseStreamState

        return ResponseStreamState(input_tools=omit, text_format=omit)
    return None


def _strings(value: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[tuple[Any, ...], str]]:
    """Give every text in a value, with a path on which pieces of one text agree."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _strings(inner, (*path, name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            index = inner.get("index", number) if isinstance(inner, Mapping) else number
            yield from _strings(inner, (*path, index))


async def read(client: Any, api: str, asked: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    """Make one call and tell what the reader got, and how it ended.

    The ending is one of: valid; cut (the stream is over without the API's end); refused (an HTTP
    error instead of an answer); raised (an exception after something had come, or of no HTTP).
    """
    seen = Seen(api)
    error = ""
    ending = "valid"
    try:
        if not stream:
            seen.whole(_bare(await _create(client, api)(**asked)))
        elif api == "messages":
            async with client.messages.stream(**asked) as events:
                async for event in events:
                    if event.type.startswith(("message_", "content_block_")):
                        seen.event(event)
        else:
            async for event in await _create(client, api)(**asked, stream=True):
                seen.event(_bare(event))
        ending = seen.ending() if stream else "valid"
    except Exception as e:  # noqa: BLE001 - whatever an SDK or a peer raises is the finding
        error = f"{type(e).__name__}: {e}"[:2_000]
        ending = "refused" if hasattr(e, "status_code") and not seen.texts() else "raised"
    return {
        "texts": seen.texts(),
        "ending": ending,
        "error": error,
        "arrivals": seen.arrivals if stream else [],
    }


def _create(client: Any, api: str) -> Any:
    if api == "chat":
        return client.chat.completions.create
    return client.responses.create if api == "responses" else client.messages.create


def _bare(answer: Any) -> Any:
    """Unwrap what openai-guardrails puts around an answer."""
    return getattr(answer, "_llm_response", answer)
