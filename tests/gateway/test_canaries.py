"""No canary that goes through the gateway is in its log, its record, its metrics or its errors.

What the model is asked and what it says goes to the model and to the reader, and nowhere else.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from canaries import CANARIES, SHAPED, SHAPELESS, assert_clean
from click.testing import CliRunner
from gateway.kept import everything, plan
from gateway.processes import SERVE, Client, Process
from gateway.world import PATHS, Answer, Gate, on_literal, within

from tocsin.cli.main import cli
from tocsin.events.envelope import Event
from tocsin.events.kinds import Feedback
from tocsin.store import Keys, Scope, Store, vault
from tocsin.stream.events import APIS, Api
from tocsin.testing.fake_model import Call, Choice, FakeModel, Reply

each_api = pytest.mark.parametrize("api", APIS)
ALL = " / ".join(CANARIES.values())
NO_SPACES = ("email", "github", "openai", "ssn")


def clean(folder: Path, gate: Gate, *more: Any) -> None:
    """Look at the files of the record, and at the log; the store is not clean for being empty."""
    with sqlite3.connect(folder / "record.db") as connection:
        (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
    connection.close()
    assert count > 2
    assert_clean(folder, gate.logged.getvalue(), *more)


def asked(api: Api, *, stream: bool, model: str = "m") -> dict[str, Any]:
    """A request with every canary wherever the API takes words."""
    name, user = SHAPELESS["user"], {"user": SHAPELESS["user"]}
    common: dict[str, Any] = {"model": model, "stream": stream}
    if api == "messages":
        return common | {
            "max_tokens": 100,
            "system": ALL,
            "messages": [{"role": "user", "content": ALL}],
            "metadata": {"user_id": name},
        }
    if api == "responses":
        return common | user | {"instructions": ALL, "input": ALL}
    turns = [
        {"role": "system", "content": ALL},
        {"role": "user", "content": ALL, "name": "Philomena"},
        {"role": "user", "content": ALL},
    ]
    return common | user | {"messages": turns}


def offered(api: Api, name: str) -> dict[str, Any]:
    """A tool, as each API has it."""
    schema: dict[str, Any] = {"type": "object"}
    if api == "messages":
        return {"name": name, "input_schema": schema}
    function = {"name": name, "parameters": schema}
    return {"type": "function", **(function if api == "responses" else {"function": function})}


def told(secret: str) -> dict[str, str]:
    """Every header that the gateway reads, and some that it does not."""
    return {
        "x-request-id": secret,
        "x-tocsin-user": SHAPELESS["user"],
        "x-tocsin-conversation": secret,
        "x-tocsin-surface": secret,
        "accept-language": secret,
        "user-agent": secret,
        "referer": f"https://example.com/?{secret}",
        "x-forwarded-for": secret,
    }


@each_api
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("rings", [True, False], ids=["alarm", "fine"])
def test_what_is_asked_and_answered_is_kept_nowhere(
    api: Api, stream: bool, rings: bool, tmp_path: Path
) -> None:
    call = Call(name="send", arguments=f'{{"to": "{SHAPELESS["arguments"]}"}}')
    text = f"{ALL} and SEVEN-7-GATES" if rings else ALL
    reply = Reply(choices=(Choice(text=text, reasoning=ALL, calls=(call,)),), cut=7)

    async def test() -> None:
        async with Gate(reply, on_literal(), site={"record": plan(tmp_path)}) as gate:
            for name in NO_SPACES:
                body = asked(api, stream=stream) | {"tools": [offered(api, "send")]}
                answer = await gate.post(api, body, told=told(SHAPED[name]))
                assert answer.status == 200
                assert rings or SHAPELESS["answer"] in answer.text
                note = answer.note
                assert_clean(note, dict(answer.headers))
        clean(tmp_path, gate)

    within(test())


@each_api
@pytest.mark.parametrize("rings", [True, False], ids=["alarm", "fine"])
def test_names_that_hold_a_secret_are_masked(api: Api, rings: bool, tmp_path: Path) -> None:
    """The name of a model, and of a tool, are stored; what somebody put into them is not."""
    tool = SHAPED["github"]
    text = "Yes. SEVEN-7-GATES" if rings else "Yes."
    reply = Reply(choices=(Choice(text=text, calls=(Call(name=tool),)),))

    async def test() -> None:
        async with Gate(reply, on_literal(), site={"record": plan(tmp_path)}) as gate:
            for name in NO_SPACES:
                body = asked(api, stream=True, model=f"m-{SHAPED[name]}")
                body["tools"] = [offered(api, tool)]
                answer = await gate.post(api, body)
                assert answer.status == 200, answer.raw
        clean(tmp_path, gate)
        assert b"[sensitive_data:" in everything(tmp_path)

    within(test())


@each_api
@pytest.mark.parametrize("status", [400, 500])
def test_errors_of_an_upstream_are_kept_nowhere(api: Api, status: int, tmp_path: Path) -> None:
    raw = (f'{{"error": {{"message": "{ALL}", "type": "{SHAPED["github"]}"}}}}'.encode(),)
    reply = Reply(status=status, raw=raw, headers={"x-request-id": SHAPED["openai"]})

    async def test() -> None:
        async with Gate(reply, on_literal(), site={"record": plan(tmp_path)}) as gate:
            answer: Answer = await gate.post(api, asked(api, stream=True))
            assert answer.status >= 400
        clean(tmp_path, gate)

    within(test())


@each_api
def test_requests_that_are_none_are_kept_nowhere(api: Api, tmp_path: Path) -> None:
    bodies = [
        ALL.encode(),
        b'{"model": "' + SHAPED["github"].encode() + b'"}',
        b'{"model": "m", "' + SHAPED["openai"].encode() + b'": 1, "messages": 5, "input": 5}',
    ]

    async def test() -> None:
        async with Gate(None, on_literal(), site={"record": plan(tmp_path)}) as gate:
            await gate.post(api)
            for body in bodies:
                answer = await gate.post(api, body, told=told(SHAPED["email"]))
                assert 400 <= answer.status < 500
            path = f"{PATHS[api]}/{SHAPED['email']}?key={SHAPED['github']}"
            assert (await gate.post(api, b"{}", path=path)).status == 404
        clean(tmp_path, gate)

    within(test())


# ------------------------------------------------------------------------------ as users run it

SERVED = """
open_to_all = true

[upstreams.one]
url = "{url}/v1"
speaks = ["chat", "responses", "messages"]

[[routes]]
name = "all"

[policies.default]
checks = [{{ verifier = "patterns", findings = {{ "*" = "{does}" }} }}]
sample = 1.0
evidence = true

[record]
store = "record/record.db"
keys = "record/keys"
log = "gateway.example.com"
"""


@pytest.mark.slow
@pytest.mark.parametrize("does", ["mask", "halt"])
def test_a_whole_process_keeps_none_though_it_keeps_all_content_encrypted(
    does: str, tmp_path: Path
) -> None:
    """Log, metrics, record and folders of `tocsin serve`; and what is kept opens with its key."""
    reply = Reply(choices=(Choice(text=f"It is: {ALL}. Good day.", reasoning=ALL),), cut=7)
    config = tmp_path / "gateway.toml"
    (tmp_path / "record").mkdir()
    at = ["--port", "0", "--metrics", "127.0.0.1:0"]
    said = Feedback(verdict="report", comment=f"why {SHAPED['iban']}?", category=SHAPED["email"])
    sent = Event(id="e1", time_us=time.time_ns() // 1_000, source="shop", body=said)
    with FakeModel(reply) as fake:
        config.write_text(SERVED.format(url=fake.url, does=does))
        command = [sys.executable, "-c", SERVE, str(config), *at]
        with Process(command, TMPDIR=str(tmp_path)) as gateway:
            for api in APIS:
                with Client(gateway.where) as client:
                    post(client, PATHS[api], asked(api, stream=True, model="any"))
                    assert client.answer()[0] == 200
            with Client(gateway.where) as client:
                post(client, "/v1/events", msgspec.to_builtins(sent))
                status, body = client.answer()
                assert status == 200, body
                post(client, f"/v1/nothing/{SHAPED['github']}", {"a": ALL})
                assert client.answer()[0] == 404
            with Client(gateway.metrics) as client:
                page = client.get("/metrics")[1]
            gateway.send(signal.SIGTERM)
            assert gateway.ended() == 0
            assert b"tocsin_requests_ended_total" in page
            assert_clean(tmp_path, page, gateway.lines, gateway.out)

    keys = Keys.open(tmp_path / "record" / "keys", create=False)
    with Store.open(str(tmp_path / "record" / "record.db"), keys=keys) as store:
        with store.reading() as connection:
            kept = vault.kept(connection, "local")
            texts = [vault.read(connection, keys, "local", one.id, 0).text for one in kept]
        assert {one.what for one in kept} >= {"input", "output"}
        assert all(one.subject.startswith("u_") for one in kept)
        assert sum(SHAPELESS["prompt"] in text for text in texts) >= len(APIS)
        assert store.counts(Scope("local"), "kind")["feedback"] == 1
    folder = str(tmp_path / "record" / "keys")
    erase = ["content", "erase", str(tmp_path / "record" / "record.db"), "--tenant", "local"]
    erase += ["--keys", folder, "--user", SHAPELESS["user"], "--reason", "asked for by the person"]
    done = CliRunner().invoke(cli, [*erase, "--json"])
    assert json.loads(done.stdout) == {
        "subjects": 1,
        "contents": len(kept),
        "purged": True,
        "shared": 0,
    }


def post(client: Client, path: str, body: Any) -> None:
    """Send a request with every header told."""
    data = json.dumps(body).encode()
    lines = {**told(SHAPED["openai"]), "content-type": "application/json"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if name[:5] != "x-for")
    client.send(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{head}"
        f"Content-Length: {len(data)}\r\n\r\n".encode()
        + data
    )
