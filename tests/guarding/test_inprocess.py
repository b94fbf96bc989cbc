"""The guard in process: the SDKs' own chunks go in, and come out as far as they may be shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from guarded_streams import FORBIDDEN, MONITOR, Scripted, literal_rules

import tocsin
from tocsin.errors import CalibrationMismatch, InputError
from tocsin.guarding.plan import Check, Guard, Verdict
from tocsin.model import Context, Delta, Outcome
from tocsin.monitor import Monitor
from tocsin.testing.fake_model import Call, Choice, FakeModel, Reply
from tocsin.testing.worlds import example_calibration

RULES = literal_rules()
SAID = "The gates were seven, and not one of them was ever shut by night. "
HALT = Guard(checks=(Check(name="rules", verifier=RULES),))
MASK = Guard(checks=(Check(name="rules", verifier=RULES, on_finding={"*": "mask"}),))
APIS = ("chat", "responses", "messages")


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeModel]:
    with FakeModel() as model:
        yield model


def stream_of(api: str, client: Any) -> Any:
    if api == "chat":
        return client.chat.completions.create(model="m", messages=[], stream=True)
    if api == "responses":
        return client.responses.create(model="m", input="Hi.", stream=True)
    asked = [{"role": "user", "content": "Hi."}]
    return client.messages.create(model="m", max_tokens=9, messages=asked, stream=True)


def client_of(api: str, url: str, *, waits: bool = False) -> Any:
    # Plain HTTP of this machine: no proxy of the environment, no retries.
    if api == "messages":
        make: Any = anthropic.AsyncAnthropic if waits else anthropic.Anthropic
        base = url
    else:
        make = openai.AsyncOpenAI if waits else openai.OpenAI
        base = f"{url}/v1"
    http: Any = httpx2.AsyncClient if waits else httpx2.Client
    return make(api_key="k", base_url=base, max_retries=0, http_client=http(trust_env=False))


def text_of(api: str, chunks: list[Any]) -> str:
    if api == "chat":
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    if api == "responses":
        return "".join(c.delta for c in chunks if c.type == "response.output_text.delta")
    return "".join(
        c.delta.text
        for c in chunks
        if c.type == "content_block_delta" and c.delta.type == "text_delta"
    )


def ending_of(api: str, chunks: list[Any]) -> str:
    if api == "chat":
        return str(next(c.choices[0].finish_reason for c in reversed(chunks) if c.choices))
    if api == "responses":
        return str(chunks[-1].type)
    return str(chunks[-2].delta.stop_reason)


FILTERED = {"chat": "content_filter", "responses": "response.incomplete", "messages": "refusal"}
USUAL = {"chat": "stop", "responses": "response.completed", "messages": "end_turn"}


@pytest.mark.parametrize("api", APIS)
def test_an_sdks_stream_is_stopped_and_ends_as_its_api_ends_a_filtered_one(
    api: str, fake: FakeModel
) -> None:
    fake.always(Reply(choices=(Choice(text=f"{SAID}{SAID}{FORBIDDEN} {SAID}"),)))
    with client_of(api, fake.url) as client:
        stream = tocsin.guard(stream_of(api, client), HALT)
        chunks = list(stream)
    assert SAID.startswith(text_of(api, chunks)[:40])
    assert FORBIDDEN[:5] not in text_of(api, chunks)
    assert ending_of(api, chunks) == FILTERED[api]
    assert (stream.account.done, stream.account.status) == ("halt", "ok")
    assert stream.receipt.alarms[0].rule == "forbidden"


@pytest.mark.parametrize("api", APIS)
def test_an_sdks_stream_is_masked_in_a_loop_too(api: str, fake: FakeModel) -> None:
    fake.always(Reply(choices=(Choice(text=f"{SAID}{FORBIDDEN} {SAID}"),)))

    async def read() -> list[Any]:
        async with client_of(api, fake.url, waits=True) as client:
            return [chunk async for chunk in tocsin.guard(stream_of(api, client), MASK)]

    chunks = asyncio.run(read())
    assert text_of(api, chunks) == f"{SAID}[forbidden] {SAID}"
    assert ending_of(api, chunks) == USUAL[api]


@pytest.mark.parametrize("api", APIS)
def test_tool_calls_come_out_whole(api: str, fake: FakeModel) -> None:
    call = Call(name="open", arguments='{"gate": 7}', id="call_7")
    fake.always(Reply(choices=(Choice(text=SAID, calls=(call,)),)))
    with client_of(api, fake.url) as client:
        chunks = list(tocsin.guard(stream_of(api, client), HALT))
    told = "".join(repr(c) for c in chunks)
    assert "open" in told
    assert '{"gate": 7}' in told


def test_chunks_may_be_dictionaries() -> None:
    def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
        delta = {"content": text} if text else {}
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}

    out = list(tocsin.guard([chunk(SAID), chunk(FORBIDDEN), chunk("", "stop")], MASK))
    assert all(isinstance(c, dict) for c in out)
    said = "".join(c["choices"][0]["delta"].get("content") or "" for c in out if c["choices"])
    assert said == f"{SAID}[forbidden]"


def test_plain_strings_are_guarded() -> None:
    assert "".join(tocsin.guard(list(f"{SAID}{FORBIDDEN}!"), MASK)) == f"{SAID}[forbidden]!"


def test_a_calibrated_monitor_halts_at_its_alarm() -> None:
    verifier = Scripted({"DANGER": 0.001})
    stream = tocsin.guard(["fine\n", "DANGER\n", "more\n"], MONITOR, verifier=verifier)
    assert "".join(stream) == "fine\n"
    assert stream.receipt.alarms[0].check == "monitor"


def test_a_calibration_for_another_verifier_is_refused() -> None:
    monitor = Monitor(example_calibration(epsilon=0.1, delta=0.1))
    with pytest.raises(CalibrationMismatch, match="made for verifier 'closed-form-world'"):
        tocsin.guard(["x"], monitor, verifier=Scripted({}))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"verifier": "patterns"}, "'patterns' is no verifier"),
        ({"on_finding": {"emial": "mask"}}, "no rule and no category called emial"),
        ({"on_finding": {"*": "maks"}}, "'maks' is no intervention"),
        ({"on_alarm": "hlat"}, "'hlat' is no intervention"),
        ({"alarm_below": 20.0}, "alarm_below 20.0 is not in"),
    ],
)
def test_a_check_that_could_not_mean_what_it_says_is_refused(
    wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        Check(**{"name": "rules", "verifier": RULES, **wrong})


@pytest.mark.parametrize(
    ("wrong", "says"), [({"mode": "obsrve"}, "mode 'obsrve'"), ({"hold": "none"}, "hold 'none'")]
)
def test_a_policy_with_an_unknown_word_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Guard(**wrong)


def test_the_upstream_is_closed_when_the_response_is_stopped() -> None:
    closed = []

    def upstream() -> Iterator[str]:
        try:
            for _ in range(1_000):
                yield FORBIDDEN
        finally:
            closed.append(True)

    assert "".join(tocsin.guard(upstream(), HALT)) == ""
    assert closed == [True]


def test_a_verifier_that_must_be_waited_for_works_with_and_without_a_loop() -> None:
    class Slow:
        declares = Scripted({"DANGER": 0.1}).declares

        def open_async(self, context: Context) -> Any:
            inner = Scripted({"DANGER": 0.1}).open(context)

            class Session:
                async def feed(self, delta: Delta) -> list[Outcome]:
                    await asyncio.sleep(0)
                    found: list[Outcome] = inner.feed(delta)
                    return found

                async def close(self) -> list[Outcome]:
                    found: list[Outcome] = inner.close()
                    return found

            return Session()

        async def aclose(self) -> None:
            pass

    guard = Guard(checks=(Check(name="slow", verifier=Slow(), alarm_below=0.5),))
    pieces = [f"{SAID}\n", "DANGER\n", f"{SAID}\n"]
    assert "".join(tocsin.guard(pieces, guard)) == f"{SAID}\n"

    async def read() -> str:
        async def upstream() -> AsyncIterator[str]:
            for piece in pieces:
                yield piece

        return "".join([c async for c in tocsin.guard(upstream(), guard)])

    assert asyncio.run(read()) == f"{SAID}\n"


def test_an_approver_is_asked_in_process() -> None:
    class Yes:
        async def decide(self, appeal: Any) -> Verdict:
            assert FORBIDDEN in appeal.text[0][1]
            return Verdict(safe=True, by="reviewer")

    check = Check(name="rules", verifier=RULES, on_finding={"*": "require_approval"})
    stream = tocsin.guard([f"{SAID}{FORBIDDEN}"], Guard(checks=(check,)), approver=Yes())
    assert "".join(stream) == f"{SAID}{FORBIDDEN}"
    assert stream.receipt.alarms[0].appeal == "reviewer"


def test_what_cannot_be_guarded_is_said() -> None:
    with pytest.raises(InputError, match="a stream of int cannot be guarded"):
        list(tocsin.guard([1, 2], HALT))
    with pytest.raises(InputError, match="not been read yet"):
        _ = tocsin.guard(["x"], HALT).account

    async def upstream() -> AsyncIterator[str]:
        yield "x"

    with pytest.raises(InputError, match="async for"):
        list(tocsin.guard(upstream(), HALT))
