"""`tocsin check` and `tocsin key`, as their users see them."""

import hashlib
import json
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from gateway.config_texts import BASE, ENVIRONMENT, LINEAR, RULES, SECRET, SHORT

from tocsin.cli.main import cli, main
from tocsin.gateway.config_file import parse
from tocsin.gateway.schema import schema_text

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "gateway-config.md"

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setenv("MODEL_KEY", SECRET)
    monkeypatch.setenv("COLUMNS", "110")

    def written(text: str) -> str:
        path = tmp_path / "gateway.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args, catch_exceptions=False)


def failing(
    args: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Run it as the program does; give status, stdout and stderr."""
    monkeypatch.setattr("sys.argv", ["tocsin", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    seen = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, seen.out, seen.err


def test_a_sound_file_is_told_in_words(write: Write) -> None:
    shown = run("check", write(SHORT)).output
    assert shown.startswith("sound: sha256:")
    for words in (
        "listens on 127.0.0.1 port 8080, open to all",
        "main (chat)",
        "enforce, hold window (up to 4,144 characters are held back)",
        "Calibrated on n = 1313 groups",
        "warning: policies.default: checks[0]: the demonstration calibration",
    ):
        assert words in shown
    assert SECRET not in shown


def test_a_threshold_set_by_hand_says_that_it_promises_nothing(write: Write) -> None:
    shown = run("check", write(json.dumps(BASE))).output
    assert "no guarantee: threshold set by hand" in shown
    assert "warning" not in shown


def test_each_way_of_holding_back_is_told(write: Write) -> None:
    for hold, words in (
        ("optimistic", "hold optimistic (nothing is held back)"),
        ("end_of_stream", "hold end_of_stream (all of it is held back)"),
    ):
        data = BASE | {"policies": {"default": {"checks": [LINEAR], "hold": hold}}}
        assert words in run("check", write(json.dumps(data))).output
    data = BASE | {"policies": {"default": {"checks": [{**LINEAR, "steps": "turn"}]}}}
    shown = run("check", write(json.dumps(data))).output
    assert "held back to the end of the turn or tool call" in shown


def test_requests_appeals_and_what_may_pass_are_told(write: Write) -> None:
    policy = {
        "checks": [{**LINEAR, "on_alarm": "escalate"}],
        "input": [{**RULES, "findings": {"email": "halt"}}],
        "escalate": LINEAR,
        "pass": ["verifier_timeout"],
    }
    shown = run("check", write(json.dumps(BASE | {"policies": {"default": policy}}))).output
    assert "; passes verifier_timeout" in " ".join(shown.split())
    assert re.search(r"patterns +request +chars:32 +by rule", shown)
    assert re.search(r"escalate +escalation +sentence +decides", shown)
    assert "no guarantee: rules ring on what they name (email: halt)" in " ".join(shown.split())


def test_the_same_is_told_to_machines(write: Write) -> None:
    found = json.loads(run("check", write(SHORT), "--json").output)
    (policy,) = found["policies"]
    assert (found["routes"][0]["name"], found["routes"][0]["policy"]) == ("all", "default")
    assert (policy["hold_back_chars"], policy["pass"], policy["mode"]) == (4144, [], "enforce")
    assert policy["checks"][0]["rings"] == "calibration"
    assert len(policy["digest"]) == 64
    assert SECRET not in json.dumps(found)


def test_a_bad_file_has_status_1_and_every_error(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write(SHORT.replace("key:", "kee:").replace("name: all", "name: all, extra: 1"))
    status, out, err = failing(["check", bad], monkeypatch, capsys)
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 3
    assert "upstreams.main.kee" in err and "routes[0].extra" in err


def test_hostile_text_in_a_file_does_not_drive_the_terminal(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = json.dumps(BASE | {"a\x1b[31m\u202eb\x9b": 1})
    _, _, err = failing(["check", write(hostile)], monkeypatch, capsys)
    assert err.isprintable() or err.rstrip("\n").isprintable()
    data = BASE | {"routes": [{"name": "all", "models": ["gpt\x1b[31m\u202e*"]}]}
    assert "\x1b" not in run("check", write(json.dumps(data))).output
    assert "\x1b" not in run("check", write(json.dumps(data)), "--json").output


def test_check_opens_no_socket(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert run("check", write(SHORT)).exit_code == 0


def test_the_schema_is_printed_without_a_file() -> None:
    assert schema_text() == run("check", "--schema").output


def test_without_a_file_the_usage_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = failing(["check"], monkeypatch, capsys)
    assert status == 2 and "name a configuration" in err


def test_a_key_is_random_and_its_hash_lets_its_owner_in(tmp_path: Path) -> None:
    found = json.loads(run("key", "--json").output)
    assert found["hash"] == f"sha256:{hashlib.sha256(found['key'].encode()).hexdigest()}"
    assert re.fullmatch(r"tk-[A-Za-z0-9_-]{43}", found["key"])
    assert found["key"] != json.loads(run("key", "--json").output)["key"]
    tenants = {"tenants": {"a": {"keys": [found["hash"]]}}, "open_to_all": False}
    config, _ = parse(json.dumps(BASE | tenants), "g.yaml", ENVIRONMENT)
    assert config.tenants["a"].keys == (found["hash"],)


def test_a_key_is_told_to_people_in_two_lines() -> None:
    first, second = run("key").output.splitlines()
    key, hashed = first.split()[-1], second.split()[-1]
    assert hashed == f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.mark.skipif(not PAGE.is_file(), reason="this copy of the tree has no documentation")
def test_every_configuration_on_the_page_is_one() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    environment = {"MODEL_KEY": "k", "A_KEY": "a", "B_KEY": "b"}
    assert len(blocks) >= 5
    for block in blocks:
        data = yaml.safe_load(block)
        if "checks" in data:
            data = {"policies": {"default": data}}
        parse(json.dumps(BASE | data), "page.yaml", environment)
