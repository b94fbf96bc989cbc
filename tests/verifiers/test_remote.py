"""The remote verifier against a fake guard, over real sockets."""

import asyncio
import datetime as dt
import gzip
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from verifiers.remote_world import (
    BATCHED,
    CONTEXT,
    GUARDS,
    SECRET,
    Clock,
    fake,
    once,
    one,
    opened,
    reason,
    remote,
    run,
    score,
)

from tocsin import limits
from tocsin.model import Channel, Context, Delta, Outcome, Score, Unknown
from tocsin.testing import check_verifier
from tocsin.testing.fake_guard import Reply, judged
from tocsin.verifiers.contract import AsyncSelective
from tocsin.verifiers.remote import RemoteVerifier, parse

# ------------------------------------------------------------------------------- what comes of it


@pytest.mark.parametrize("dialect", GUARDS)
def test_every_dialect_gives_scores_that_follow_the_guard(dialect: str) -> None:
    async def ask() -> None:
        async with opened(guard, dialect) as verifier:
            for text, safe in (("It is good.", True), ("It is vile.", False)):
                outcome = await one(verifier, text)
                assert isinstance(outcome, Score)
                assert (outcome.value > 0.5) is safe
                assert set(outcome.categories) <= set(verifier.declares.categories)

    with fake(dialect, lambda text: 0.1 if "vile" in text else 0.9) as guard:
        run(ask())
        assert len(guard.requests) == 2


@pytest.mark.parametrize("dialect", ["judge", "pooling"])
def test_it_conforms(dialect: str) -> None:
    with fake(dialect) as guard:
        assert check_verifier(remote(guard, dialect), streams=8, cuts=1) > 20


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["llama_guard", "judge", *BATCHED])
def test_it_conforms_on_many_streams(dialect: str) -> None:
    with fake(dialect) as guard:
        assert check_verifier(remote(guard, dialect), streams=100, cuts=1) > 300


@pytest.mark.parametrize("changes", [{"sees": "step"}, {"limits": {"prefix_chars": 20}}])
def test_it_conforms_where_less_is_seen(changes: dict[str, Any]) -> None:
    with fake("classify") as guard:
        assert check_verifier(remote(guard, "classify", **changes), streams=8, cuts=1) > 20


def test_it_asks_once_a_step_and_shows_the_whole_prefix_of_the_channel() -> None:
    async def ask() -> None:
        async with opened(guard) as verifier:
            session = verifier.open_async(CONTEXT)
            outcomes = []
            for c in "One is odd. Two is even. ":
                outcomes += await session.feed(Delta(text=c))
            reasoning = Channel("reasoning")
            outcomes += await session.feed(Delta(text="I think.", channel=reasoning, ends="turn"))
            outcomes += await session.close()
            assert [o.step for o in outcomes] == [1, 2, 3]

    with fake("judge") as guard:
        run(ask())
        assert [judged(r.body) for r in guard.requests] == [
            "One is odd. ",
            "I think.",
            "One is odd. Two is even. ",
        ]
        assert "What is a hash?" in guard.requests[0].body["messages"][1]["content"]


def test_outcomes_come_in_the_order_of_the_steps_however_many_come_at_once() -> None:
    async def ask() -> None:
        async with opened(guard, "classify", sees="step", steps="line") as verifier:
            outcomes = await score(verifier, "".join(f"{i}\n" for i in range(50)))
            assert [o.value for o in outcomes if isinstance(o, Score)] == [
                i / 100 for i in range(50)
            ]
            assert [o.step for o in outcomes] == list(range(1, 51))

    with fake("classify", lambda text: int(text) / 100) as guard:
        run(ask())


def test_steps_that_are_not_wanted_cost_no_call_and_count_all_the_same() -> None:
    async def ask() -> None:
        async with opened(guard, "classify") as verifier:
            assert isinstance(verifier, AsyncSelective)
            session = verifier.open_async_selected(CONTEXT, lambda step: step % 2 == 0)
            text = "One is odd. Two is even. Three is odd. Four is even."
            picked = await session.feed(Delta(text=text, ends="turn"))
            assert [o.step for o in picked] == [2, 4]
            whole = await score(verifier, text)
            assert picked == [whole[1], whole[3]]

    with fake("classify") as guard:
        run(ask())
        assert sum(len(r.body["input"]) for r in guard.requests) == 2 + 4


def test_long_text_is_cut_on_the_left_with_a_mark_or_unknown() -> None:
    async def ask(too_long: str) -> Outcome:
        more = {"prefix_chars": 8, "too_long": too_long}
        async with opened(guard, "classify", limits=more) as verifier:
            return await one(verifier, "0123456789")

    with fake("classify") as guard:
        assert isinstance(run(ask("truncate")), Score)
        assert guard.requests[0].body["input"] == ["[earlier text left out] 23456789"]
        assert reason(run(ask("unknown"))) == "too_long"
        assert len(guard.requests) == 1


def test_a_long_conversation_is_cut_too_or_unknown() -> None:
    async def ask(too_long: str) -> Outcome:
        more = {"conversation_chars": 5, "too_long": too_long}
        options = {"template": "{prompt}: {response}"}
        async with opened(guard, "classify", limits=more, options=options) as verifier:
            return await one(verifier, "Yes.")

    with fake("classify") as guard:
        assert isinstance(run(ask("truncate")), Score)
        assert guard.requests[0].body["input"] == ["[earlier text left out] hash?: Yes."]
        assert reason(run(ask("unknown"))) == "too_long"


def test_without_text_or_a_conversation_that_is_needed_nothing_is_asked() -> None:
    async def ask() -> None:
        async with opened(guard, "score", options={"first": "{prompt}"}, steps="turn") as verifier:
            session = verifier.open_async(Context())
            (empty,) = await session.feed(Delta(ends="turn"))
            (lonely,) = await session.feed(Delta(text="Yes.", ends="turn"))
            assert reason(empty) == reason(lonely) == "no_input"

    with fake("score") as guard:
        run(ask())
        assert guard.requests == []


# ------------------------------------------------------------------------------------ what fails

PACKED = gzip.compress(b'{"choices": [{"message": {"content": "{\\"safe\\": 1}"}}]}')
"""What would be an answer, packed although the request forbids it: it could unpack to anything."""


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(status=429), "overloaded"),
        (Reply(status=503), "overloaded"),
        (Reply(status=500), "refused"),
        (Reply(status=401), "refused"),
        (Reply(status=404), "refused"),
        (Reply(status=413), "too_long"),
        (Reply(status=204, body=b""), "refused"),
        (Reply(status=302, headers={"Location": "/elsewhere"}), "refused"),
        (Reply(cut="before"), "unreachable"),
        (Reply(cut="half"), "unreachable"),
        (Reply(body=b"I cannot help with that."), "bad_answer"),
        (Reply(body=b""), "bad_answer"),
        (Reply(body=b"{}"), "bad_answer"),
        (Reply(body=b'{"choices": NaN}'), "bad_answer"),
        (Reply(headers={"Content-Type": "text/html"}), "bad_answer"),
        (Reply(body=b"[" * 1_000_000), "bad_answer"),
        (Reply(headers={"Content-Encoding": "gzip"}, body=PACKED), "bad_answer"),
    ],
)
def test_a_failure_is_unknown_with_its_reason(reply: Reply, why: str) -> None:
    assert reason(once(reply)) == why


@pytest.mark.parametrize("dialect", GUARDS)
def test_nonsense_is_a_bad_answer_in_every_dialect(dialect: str) -> None:
    for body in (b'{"data": [], "choices": []}', b"null", b'"safe"', b"\xff"):
        assert reason(once(Reply(body=body), dialect)) == "bad_answer"


def test_not_a_number_is_no_score() -> None:
    for number in (b"NaN", b"Infinity", b"null", b'"0.5"', b"true"):
        body = b'{"data": [{"index": 0, "score": ' + number + b"}]}"
        assert reason(once(Reply(body=body), "score")) == "bad_answer"
    body = b'{"data": [{"index": 0, "score": 1.01}]}'
    assert reason(once(Reply(body=body), "score")) == "out_of_range"


def test_a_huge_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMOTE_ANSWER_BYTES_MAX", 100_000)
    huge = Reply(body=b'{"x": "' + b"y" * 20_000_000 + b'"}', hang="half")
    assert reason(once(huge)) == "bad_answer"


@pytest.mark.parametrize("hang", ["before", "half"])
def test_a_guard_that_hangs_is_a_time_out_at_the_deadline(hang: Any) -> None:
    assert reason(once(Reply(hang=hang), limits={"deadline_ms": 50})) == "timeout"


def test_nobody_listening_is_unreachable() -> None:
    with fake("judge") as guard:
        pass
    assert guard.url

    async def ask() -> Outcome:
        async with opened(guard) as verifier:
            return await one(verifier)

    assert reason(run(ask())) == "unreachable"


def test_a_lost_connection_is_tried_once_more_and_not_for_ever() -> None:
    async def ask() -> Outcome:
        async with opened(guard) as verifier:
            return await one(verifier)

    with fake("judge") as guard:
        guard.script(Reply(cut="before"))
        assert isinstance(run(ask()), Score)
        assert len(guard.requests) == 2
        guard.always(Reply(cut="before"))
        assert reason(run(ask())) == "unreachable"
        assert len(guard.requests) == 4


def test_an_answer_that_began_is_not_asked_for_again() -> None:
    async def ask() -> Outcome:
        async with opened(guard) as verifier:
            return await one(verifier)

    with fake("judge") as guard:
        guard.script(Reply(cut="half"))
        assert reason(run(ask())) == "unreachable"
        assert len(guard.requests) == 1


def test_redirects_are_not_followed_and_proxies_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")

    async def ask() -> Outcome:
        async with opened(guard) as verifier:
            return await one(verifier)

    with fake("judge") as guard:
        assert isinstance(run(ask()), Score)
        guard.script(Reply(status=307, headers={"Location": guard.url + "/elsewhere"}))
        assert reason(run(ask())) == "refused"
        assert len(guard.requests) == 2


def test_the_key_is_sent_and_neither_it_nor_the_text_is_in_any_detail() -> None:
    text = "peculiar words"
    echo = f'{{"choices": [{{"message": {{"content": "{text} {SECRET}"}}}}]}}'.encode()
    replies = [
        Reply(status=401, body=echo),
        Reply(body=echo),
        Reply(body=text.encode()),
        Reply(cut="half"),
        Reply(status=503),
        Reply(headers={"Content-Type": text}),
    ]

    async def ask() -> None:
        for reply in replies:
            async with opened(guard, key=SECRET) as verifier:
                guard.script(reply)
                outcome = await one(verifier, text)
                assert isinstance(outcome, Unknown)
                shown = outcome.detail + repr(verifier) + repr(verifier.declares)
                assert SECRET not in shown and "peculiar" not in shown

    with fake("judge") as guard:
        run(ask())
        assert {r.headers["Authorization"] for r in guard.requests} == {f"Bearer {SECRET}"}


def test_a_fault_of_ours_is_unknown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> Outcome:
        async with opened(guard, "classify") as verifier:
            monkeypatch.setattr(type(verifier._config.guard), "read", lambda *_: 1 / 0)
            return await one(verifier)

    with fake("classify") as guard:
        assert reason(run(ask())) == "failed"


# ----------------------------------------------------------------------------- pauses and breaker


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        (
            {
                "Retry-After": "Wed, 21 Oct 2015 07:28:07 GMT",
                "Date": "Wed, 21 Oct 2015 07:28:00 GMT",
            },
            7.0,
        ),
        ({"Retry-After": "9" * 30}, limits.REMOTE_RETRY_AFTER_S_MAX),
    ],
)
def test_a_server_that_asks_for_a_pause_gets_it(headers: dict[str, str], seconds: float) -> None:
    async def ask() -> None:
        clock = Clock()
        async with opened(guard, clock=clock) as verifier:
            guard.script(Reply(status=429, headers=headers))
            assert reason(await one(verifier)) == "overloaded"
            clock.now += seconds - 0.001
            assert reason(await one(verifier)) == "overloaded"
            assert len(guard.requests) == 1
            clock.now += 0.002
            assert isinstance(await one(verifier), Score)

    with fake("judge") as guard:
        run(ask())


@pytest.mark.parametrize("value", ["-5", "soon", "", "NaN", "1e9", "²"])
def test_a_pause_that_cannot_be_read_is_none(value: str) -> None:
    async def ask() -> None:
        async with opened(guard) as verifier:
            guard.script(Reply(status=429, headers={"Retry-After": value}))
            assert reason(await one(verifier)) == "overloaded"
            assert isinstance(await one(verifier), Score)

    with fake("judge") as guard:
        run(ask())


def test_the_breaker_opens_refuses_at_once_probes_and_closes() -> None:
    async def ask() -> None:
        clock = Clock()
        breaker = {"failures": 2, "window_s": 10.0, "pause_s": 5.0}
        async with opened(guard, clock=clock, breaker=breaker) as verifier:
            guard.script(Reply(status=500), Reply(cut="half"), Reply(status=502))
            assert [reason(await one(verifier)) for _ in range(3)] == [
                "refused",
                "unreachable",
                "breaker_open",
            ]
            assert len(guard.requests) == 2
            clock.now += 5.0
            assert reason(await one(verifier)) == "refused"
            assert reason(await one(verifier)) == "breaker_open"
            clock.now += 5.0
            assert isinstance(await one(verifier), Score)
            assert isinstance(await one(verifier), Score)

    with fake("judge") as guard:
        run(ask())


def test_a_half_open_breaker_lets_one_call_through() -> None:
    async def ask() -> None:
        clock = Clock()
        async with opened(guard, clock=clock, breaker={"failures": 1}) as verifier:
            guard.script(Reply(status=500), Reply(hang="before"))
            await one(verifier)
            clock.now += 5.0
            probe = asyncio.create_task(one(verifier))
            await asyncio.to_thread(guard.wait, 2)
            assert reason(await one(verifier)) == "breaker_open"
            guard.release()
            assert isinstance(await probe, Score)
            assert isinstance(await one(verifier), Score)

    with fake("judge") as guard:
        run(ask())


def test_what_one_text_can_cause_does_not_open_the_breaker() -> None:
    async def ask() -> None:
        async with opened(guard, breaker={"failures": 1}) as verifier:
            for reply in (Reply(status=400), Reply(body=b"?"), Reply(status=429)):
                guard.script(reply)
                assert isinstance(await one(verifier), Unknown)
            assert isinstance(await one(verifier), Score)

    with fake("judge") as guard:
        run(ask())


def test_time_outs_open_the_breaker() -> None:
    async def ask() -> None:
        more = {"deadline_ms": 200}
        async with opened(guard, limits=more, breaker={"failures": 1}) as verifier:
            guard.script(Reply(hang="before"))
            assert reason(await one(verifier)) == "timeout"
            await asyncio.sleep(0)
            assert reason(await one(verifier)) == "breaker_open"

    with fake("judge") as guard:
        run(ask())


def self_signed(folder: Path) -> ssl.SSLContext:
    """Make a certificate that nobody has reason to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "both.pem").write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


def test_a_certificate_that_cannot_be_verified_is_unreachable(tmp_path: Path) -> None:
    said: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        said.append(await reader.read())

    async def ask() -> None:
        context = self_signed(tmp_path)
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        raw = {
            "url": f"https://localhost:{port}/classify",
            "model": "m",
            "version": "1",
            "guard": {"dialect": "classify", "labels": ["a", "b"], "safe": ["a"]},
        }
        verifier = RemoteVerifier(parse(raw, "test.toml"), key=SECRET)
        outcome = await one(verifier)
        await verifier.aclose()
        server.close()
        assert reason(outcome) == "unreachable"
        assert "Certificate" in outcome.detail  # type: ignore[union-attr]

    run(ask())
    assert said == []
