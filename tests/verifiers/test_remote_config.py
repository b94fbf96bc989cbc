"""Configurations: what is wrong is said with the file, the key and what to do."""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tocsin.errors import InputError, MissingExtra
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers import registry
from tocsin.verifiers.contract import AsyncVerifier
from tocsin.verifiers.remote import RemoteVerifier, api_key, from_spec, load, parse

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "remote-verifier.md"

GOOD = """
url = "https://guard.example.com/v1/chat/completions"
model = "guard-8b"
version = "2025-01"
steps = "line"

[guard]
dialect = "llama_guard"
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "guard.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_configuration_becomes_a_verifier_by_its_written_form(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    made = registry.verifier(f"remote:{path}")
    assert isinstance(made, AsyncVerifier) and isinstance(made, RemoteVerifier)
    assert made.declares.name == "guard-8b"
    assert made.declares.steps == StepDefinition("line")
    assert made.declares.whole_prefix
    assert registry.verifier(f"remote:{path}", "turn").declares.steps == StepDefinition("turn")


def changed(**changes: Any) -> dict[str, Any]:
    raw = tomllib.loads(GOOD)
    for key, value in changes.items():
        table, _, name = key.rpartition("__")
        place = raw.setdefault(table, {}) if table else raw
        if value is None:
            del place[name]
        else:
            place[name] = value
    return raw


def test_the_version_changes_with_what_scores_depend_on_and_with_nothing_else() -> None:
    def version(**changes: Any) -> str:
        return parse(changed(**changes), "x.toml").identity()

    assert version().startswith("2025-01+")
    same = [
        version(url="https://other.example.com/"),
        version(limits__deadline_ms=10),
        version(steps="turn"),
    ]
    assert set(same) == {version()}
    others = [
        version(version="2"),
        version(model="m"),
        version(sees="step"),
        version(guard__logprobs=False),
        version(guard__dialect="qwen3guard"),
        version(limits__prefix_chars=10),
        version(limits__too_long="unknown"),
    ]
    assert len({version(), *others}) == len(others) + 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": None}, "url"),
        ({"url": "guard.example.com"}, "url: begin with https://"),
        ({"url": "ftp://guard.example.com"}, "url: begin with https://"),
        ({"url": "https://"}, "url: begin with https://"),
        ({"url": "https://[::1"}, "url: it is no URL"),
        ({"url": "https://guard.example.com:99999/"}, "url: it is no URL"),
        ({"url": "https://me:hunter2@guard.example.com/"}, "api_key_env"),
        ({"url": "http://guard.example.com/"}, "allow_http = true"),
        ({"url": "http://192.0.2.1/"}, "allow_http = true"),
        ({"url": "http://localhost.example.com/"}, "allow_http = true"),
        ({"url": 7}, "url"),
        ({"model": " "}, "model: it is empty"),
        ({"version": None}, "version"),
        ({"api_key": "s3cr3t"}, "api_key"),
        ({"steps": "word"}, "steps: step definition 'word' is unknown"),
        ({"sees": "all"}, "sees"),
        ({"guard": None}, "guard"),
        ({"guard__dialect": "llama"}, "guard.dialect: use one of llama_guard, qwen3guard"),
        ({"guard__dialect": None}, "guard.dialect: use one of"),
        ({"guard__labels": ["a"]}, "labels"),
        ({"guard__max_tokens": 0}, "guard.max_tokens: use 1 to"),
        ({"limits__deadline_ms": 0}, "limits.deadline_ms: 0 is not within 1 to"),
        ({"limits__deadline_ms": "1s"}, "limits.deadline_ms"),
        ({"limits__queue": 10**9}, "limits.queue"),
        ({"limits__retries": 3}, "retries"),
        ({"limits__too_long": "drop"}, "limits.too_long"),
        ({"breaker__failures": 0}, "breaker.failures"),
        ({"breaker__pause_s": float("nan")}, "breaker.pause_s"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"^dir/x\.toml: ") as raised:
        parse(changed(**changes), "dir/x.toml")
    assert said in str(raised.value)
    assert "hunter2" not in str(raised.value) and "s3cr3t" not in str(raised.value)


CLASSIFY = {"dialect": "classify", "labels": ["ok", "bad"], "safe": ["ok"]}
POOLING = {"dialect": "pooling"}
SCORE = {"dialect": "score", "higher": "safe"}


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        (CLASSIFY | {"labels": ["ok"]}, "labels"),
        (CLASSIFY | {"labels": ["ok", "ok"]}, "labels"),
        (CLASSIFY | {"safe": ["fine"]}, "safe"),
        (CLASSIFY | {"safe": []}, "safe"),
        (CLASSIFY | {"safe": ["ok", "bad"]}, "safe"),
        (CLASSIFY | {"map": {"ok": "custom"}}, "map"),
        (CLASSIFY | {"map": {"bad": "evil"}}, "'evil' is no category"),
        (CLASSIFY | {"template": "x"}, "template"),
        (SCORE | {"higher": "good"}, "higher"),
        (SCORE | {"low": 1.0}, "low, high"),
        (SCORE | {"high": float("inf")}, "low, high"),
        (SCORE | {"first": ""}, "first"),
        (POOLING | {"positive": 2}, "positive"),
        (POOLING | {"activation": "sigmoid"}, "activation"),
        (POOLING | {"classes": 1, "positive": 0, "activation": "softmax"}, "activation"),
        (POOLING | {"step_token": "x"}, "step_token"),
        (POOLING | {"step_token": "a b"}, "step_token"),
        ({"dialect": "qwen3guard", "controversial": 2.0}, "controversial"),
        ({"dialect": "safeguard", "policy": ""}, "policy"),
        ({"dialect": "safeguard"}, "policy"),
        ({"dialect": "safeguard", "policy": "p", "map": {"x": "evil"}}, "'evil' is no category"),
        ({"dialect": "judge", "prompt": " "}, "prompt"),
        ({"dialect": "judge", "prompt": "p", "prompt_file": "p.md"}, "not both"),
        ({"dialect": "judge", "prompt_file": "missing.md"}, "missing.md"),
    ],
)
def test_options_that_do_not_fit_are_named(guard: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"x\.toml|missing\.md") as raised:
        parse(changed(guard=guard), "x.toml")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/x", "http://localhost/x", "http://[::1]:8000/x", "https://192.0.2.1/x"],
)
def test_plain_http_stays_on_this_machine(url: str) -> None:
    assert parse(changed(url=url), "x.toml").url == url


def test_plain_http_leaves_this_machine_where_it_is_allowed() -> None:
    assert parse(changed(url="http://guard.example.com/", allow_http=True), "x.toml").allow_http


def test_a_policy_may_stand_in_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "policy.md").write_text("# Be kind\n", encoding="utf-8")
    text = GOOD.replace('"llama_guard"', '"safeguard"\npolicy_file = "policy.md"')
    config = load(written(tmp_path, text))
    assert config.guard.policy == "# Be kind\n"  # type: ignore[union-attr]
    (tmp_path / "policy.md").write_text("# Be kinder\n", encoding="utf-8")
    assert load(str(tmp_path / "guard.toml")).identity() != config.identity()


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"remote:CONFIG\.toml"):
        from_spec("", None)
    with pytest.raises(InputError, match=r"cannot read .*nothing\.toml"):
        load(str(tmp_path / "nothing.toml"))
    with pytest.raises(InputError, match=r"guard\.toml: no TOML"):
        load(written(tmp_path, "url = "))
    (tmp_path / "guard.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        load(str(tmp_path / "guard.toml"))
    (tmp_path / "guard.toml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(InputError, match="more than 1,048,576 bytes"):
        load(str(tmp_path / "guard.toml"))


def test_a_key_comes_from_the_environment_and_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, 'api_key_env = "GUARD_KEY"\n' + GOOD)
    monkeypatch.delenv("GUARD_KEY", raising=False)
    with pytest.raises(InputError, match="GUARD_KEY is not set"):
        from_spec(path, None)
    for bad in ("s3cr3t\r\nX-Evil: 1", "s3 cr3t", "s3cr\u00e9t"):
        with pytest.raises(InputError, match="GUARD_KEY holds") as raised:
            api_key(load(path), path, {"GUARD_KEY": bad})
        assert bad not in str(raised.value)
    monkeypatch.setenv("GUARD_KEY", "s3cr3t")
    made = from_spec(path, None)
    assert "s3cr3t" not in repr(made) + repr(made.declares) + repr(load(path))


def test_without_aiohttp_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingExtra, match=r"tocsin\[remote\]"):
        from_spec(written(tmp_path, GOOD), None)


@pytest.mark.skipif(not PAGE.exists(), reason="this copy of the tree has no documentation")
def test_every_configuration_in_the_documentation_can_be_used() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    seen = {
        parse(tomllib.loads(block), f"block {i}").guard.__class__.__name__
        for i, block in enumerate(blocks, 1)
    }
    assert len(seen) == 7


@pytest.mark.parametrize("value", ["sk-0123456789abcdef", "a b", "KEY=1", "K\0", "x" * 200])
def test_a_key_in_the_place_of_its_variables_name_is_not_shown(tmp_path: Path, value: str) -> None:
    path = written(tmp_path, f"api_key_env = {json.dumps(value)}\n" + GOOD)
    with pytest.raises(InputError, match="no name of an environment variable") as caught:
        from_spec(path, None)
    assert value not in str(caught.value)


def test_a_file_that_is_named_must_have_a_name(tmp_path: Path) -> None:
    text = GOOD.replace('"llama_guard"', '"judge"\nprompt_file = "a\\u0000b"')
    with pytest.raises(InputError, match=r"cannot read guard\.prompt_file"):
        load(written(tmp_path, text))
