"""From a configuration to a site: what fits together, and what does not."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gateway.config_texts import BASE, HASH, LINEAR, RULES, Change, make, refused

from tocsin import calibration_file
from tocsin.errors import InputError
from tocsin.gateway.building import load
from tocsin.gateway.checks import beside
from tocsin.gateway.summary import summary
from tocsin.model import Signal
from tocsin.risk.calibration import Calibration, seal
from tocsin.risk.statistics.base import ClosingCheck
from tocsin.risk.statistics.log_odds import FEATURES, LogOdds
from tocsin.testing.worlds import example_calibration
from tocsin.verifiers.linear import demonstration
from tocsin.verifiers.registry import verifier

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is refused without keys

DEMONSTRATED = {
    "verifier": "linear:harmful_answer", "calibration": "demonstration", "epsilon": 0.1
}  # fmt: skip


def policy(**values: Any) -> Change:
    return lambda data: data["policies"]["default"].update(values)


def check(**values: Any) -> Change:
    return policy(checks=[{**LINEAR, **values}])


def both(*changes: Change) -> Change:
    def change(data: dict[str, Any]) -> None:
        for one in changes:
            one(data)

    return change


def top(**values: Any) -> Change:
    return lambda data: data.update(values)


def for_linear(folder: Path, name: str = "own.json") -> Calibration:
    """Write a calibration that was made for the shipped model."""
    declared = verifier("linear:harmful_answer").declares.signal()
    made = msgspec.structs.replace(example_calibration(epsilon=0.1), signal=declared)
    made = seal(made)
    calibration_file.save(made, folder / name)
    return made


# ------------------------------------------------------------------------------------- who listens


def test_without_keys_the_gateway_listens_on_this_machine_only(tmp_path: Path) -> None:
    for host in (EVERYWHERE, "::", "10.0.0.1", "models.example"):
        assert "open_to_all: without keys" in refused(tmp_path, top(listen={"host": host}))
    for host in ("127.0.0.1", "::1", "localhost"):
        assert make(tmp_path, top(listen={"host": host})).site.host == host


def test_a_host_given_at_the_start_is_under_the_same_rule(tmp_path: Path) -> None:
    make(tmp_path)
    path, environment = tmp_path / "gateway.yaml", {"MODEL_KEY": "k"}
    assert load(path, environment, host="::1").host == "::1"
    with pytest.raises(InputError, match="without keys"):
        load(path, environment, host=EVERYWHERE)


def test_somebody_has_to_be_allowed_to_ask(tmp_path: Path) -> None:
    assert "nobody may ask" in refused(tmp_path, top(open_to_all=False))
    tenants = {"a": {"keys": [HASH]}}
    assert "no key would be asked for" in refused(tmp_path, top(tenants=tenants))


def test_a_tenant_is_known_by_the_key_whose_hash_it_has(tmp_path: Path) -> None:
    hashed = f"sha256:{hashlib.sha256(b'tk-1').hexdigest()}"
    tenants = {"a": {"keys": [HASH, hashed], "routes": ["all"], "streams_max": 3}}
    change = top(open_to_all=False, tenants=tenants, listen={"host": EVERYWHERE})
    site = make(tmp_path, change).site
    found = site.tenant("tk-1")
    assert found is not None and (found.name, found.streams_max) == ("a", 3)
    assert site.tenant("tk-2") is None and site.tenant(None) is None
    assert hashed.removeprefix("sha256:") not in repr(site)


@pytest.mark.parametrize(
    ("tenants", "expected"),
    [
        ({"a": {"keys": []}}, "tenants.a.keys: give one key at least"),
        ({"a": {"keys": ["tk-plain"]}}, "tenants.a.keys[0]: write the hash of a key"),
        ({"a": {"keys": [HASH.upper()]}}, "tenants.a.keys[0]: write the hash of a key"),
        ({"a": {"keys": [HASH, HASH]}}, "tenants.a.keys[1]: this key is of a already"),
        ({"a": {"keys": [HASH]}, "b": {"keys": [HASH]}}, "this key is of a already"),
        ({"a": {"keys": [HASH], "routes": ["al"]}}, "there is no route 'al'; did you mean 'all'?"),
    ],
)
def test_a_tenant_that_is_none_is_refused(
    tmp_path: Path, tenants: dict[str, Any], expected: str
) -> None:
    assert expected in refused(tmp_path, top(open_to_all=False, tenants=tenants))


# ---------------------------------------------------------------------------- upstreams and routes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"url": "http://169.254.169.254/v1"}, "upstreams.main.url: this is a link-local"),
        ({"speaks": []}, "upstreams.main.speaks: name one API at least"),
        ({"key": ""}, "upstreams.main.key: it is empty"),
        ({"key": "a b"}, "upstreams.main.key: it is empty, or holds white space"),
        ({"headers": {"x y": "1"}}, "headers.x y: this is no name of a header"),
        ({"headers": {"X-A": "a\nb"}}, "headers.X-A: its value holds what no header can"),
        ({"headers": {"X-A": "ä"}}, "headers.X-A: its value holds what no header can"),
        ({"headers": {"Content-Length": "1"}}, "this header is set by the gateway itself"),
        ({"headers": {"x-a": "1", "X-A": "2"}}, "headers.X-A: this header is here twice"),
        ({"headers": {"Authorization": "x"}}, "the key is sent in such a header"),
    ],
)
def test_an_upstream_that_cannot_be_asked_is_refused(
    tmp_path: Path, values: dict[str, Any], expected: str
) -> None:
    assert expected in refused(tmp_path, lambda data: data["upstreams"]["main"].update(values))


def test_the_url_of_an_upstream_has_no_slash_at_its_end(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["upstreams"]["main"] |= {"url": "http://127.0.0.1:1/v1//", "deadlines": {"idle_ms": 7}}

    upstream = make(tmp_path, change).site.routes[0].upstream
    assert (upstream.url, upstream.idle_ms) == ("http://127.0.0.1:1/v1", 7)


OTHER = {"url": "https://other.example/v1", "speaks": ["messages"]}


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (
            {"upstream": "man"},
            "routes[0].upstream: there is no upstream 'man'; did you mean 'main'",
        ),
        ({}, "routes[0].upstream: say which; there is main, other"),
        ({"upstream": "main", "models": []}, "routes[0].models: name one model at least"),
        ({"upstream": "main", "policy": "strict"}, "routes[0].policy: there is no policy 'strict'"),
        (
            {"upstream": "main", "fallback": {"upstream": "othr", "model": "m"}},
            "routes[0].fallback.upstream: there is no such upstream; did you mean 'other'?",
        ),
        (
            {"upstream": "main", "fallback": {"upstream": "other", "model": "m"}},
            "routes[0].fallback.upstream: it speaks none of the APIs that main speaks",
        ),
    ],
)
def test_a_route_that_leads_nowhere_is_refused(
    tmp_path: Path, route: dict[str, Any], expected: str
) -> None:
    def change(data: dict[str, Any]) -> None:
        data["upstreams"]["other"] = OTHER
        data["routes"] = [{"name": "all", **route}]

    assert expected in refused(tmp_path, change)


def test_two_routes_of_one_name_are_refused(tmp_path: Path) -> None:
    change = top(routes=[{"name": "a", "models": ["x"]}, {"name": "a"}])
    assert "routes[1].name: another route is called 'a'" in refused(tmp_path, change)


@pytest.mark.parametrize("part", ["upstreams", "routes", "policies"])
def test_a_part_without_anything_in_it_is_refused(tmp_path: Path, part: str) -> None:
    change = top(**{part: type(BASE[part])()})
    assert f"{part}: there has to be one at least" in refused(tmp_path, change)


# ---------------------------------------------------------------------------- what rings


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"alarm_below": None},
            "say what rings: one of calibration, alarm_below, findings; it has",
        ),
        ({"findings": {"*": "halt"}}, "it has alarm_below and findings"),
        ({"calibration": "demonstration"}, "it has calibration and alarm_below"),
        ({"epsilon": 0.1}, "checks[0].epsilon: this chooses within a calibration; there is none"),
        ({"segment": "de"}, "checks[0].segment: this chooses within a calibration"),
        ({"risk": "false_alarm"}, "checks[0].risk: this chooses within a calibration"),
        ({"alarm_below": 0.0}, "checks[0].alarm_below: the scores of linear:harmful_answer lie"),
        ({"alarm_below": 1.01}, "below this it would ring never, or always"),
        ({"roles": ["tool"]}, "checks[0].roles: a response has no roles"),
        ({"on_alarm": "allow"}, "checks[0].on_alarm: an alarm that is allowed is none"),
        ({"verifier": "linea:x"}, "checks[0].verifier: verifier 'linea:x' is unknown"),
        ({"verifier": "linear:nosuch"}, "checks[0].verifier: linear:nosuch: there is no such file"),
        ({"steps": "word"}, "checks[0].verifier: step definition 'word' is unknown"),
    ],
)
def test_a_check_that_would_not_ring_as_meant_is_refused(
    tmp_path: Path, values: dict[str, Any], expected: str
) -> None:
    values = {k: v for k, v in {**LINEAR, **values}.items() if v is not None}
    assert expected in refused(tmp_path, policy(checks=[values]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"findings": {"emial": "mask"}}, "findings.emial: there is no such rule or category; did"),
        ({"findings": {}}, "findings: nothing would follow from any finding"),
        ({"on_alarm": "halt"}, "on_alarm: findings say what follows"),
        ({"verifier": "linear:harmful_answer"}, "gives scores and names no places"),
        ({"verifier": "patterns:none.toml"}, "none.toml"),
    ],
)
def test_findings_that_never_come_are_refused(
    tmp_path: Path, values: dict[str, Any], expected: str
) -> None:
    assert expected in refused(tmp_path, policy(checks=[{**RULES, **values}]))


def test_rules_and_categories_of_a_file_of_ones_own_are_known(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        '[[rule]]\nid = "project_name"\ntitle = "A project"\npattern = "heron"\n'
        'category = "custom"\n',
        encoding="utf-8",
    )
    findings = {"project_name": "halt", "custom": "mask"}
    change = policy(checks=[{"verifier": "patterns:mine.toml", "findings": findings}])
    made = make(tmp_path, change).site.routes[0].guard.checks[0]
    assert (made.name, made.on_finding) == ("patterns:mine.toml", findings)


def test_a_calibration_rings_at_its_own_threshold(tmp_path: Path) -> None:
    made = for_linear(tmp_path)
    change = policy(checks=[{"verifier": "linear:harmful_answer", "calibration": "own.json"}])
    found = make(tmp_path, change).site.routes[0].guard.checks[0]
    assert found.monitor is not None
    assert found.monitor.calibration.digest == made.digest
    assert str(found.verifier.declares.steps) == made.signal.step_definition


def test_a_calibration_for_something_else_is_refused(tmp_path: Path) -> None:
    made = for_linear(tmp_path)
    for values, said in (
        ({"verifier": "other"}, "verifier is 'other'"),
        ({"verifier_version": "0"}, "verifier_version is '0'"),
    ):
        signal = msgspec.structs.replace(made.signal, **values)
        other = seal(msgspec.structs.replace(made, signal=signal))
        calibration_file.save(other, tmp_path / "other.json")
        change = policy(checks=[{"verifier": "linear:harmful_answer", "calibration": "other.json"}])
        complaint = refused(tmp_path, change)
        assert "checks[0].calibration: the calibration was made for something else" in complaint
        assert said in complaint


def test_other_steps_than_those_calibrated_on_are_refused(tmp_path: Path) -> None:
    change = policy(checks=[{**DEMONSTRATED, "steps": "line"}])
    assert "step_definition is 'sentence', expected 'line'" in refused(tmp_path, change)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"calibration": "none.json"}, "checks[0].calibration: cannot read"),
        ({"calibration": "gateway.yaml"}, "checks[0].calibration:"),
        ({"calibration": "a\0b"}, "checks[0].calibration:"),
        ({"epsilon": 0.3}, "checks[0].calibration:"),
        ({"segment": "nowhere"}, "checks[0].segment: there is no segment 'nowhere'"),
        ({"verifier": "linear:injected_agent"}, "no demonstration calibration"),
        ({"verifier": "patterns"}, "no demonstration calibration"),
    ],
)
def test_a_calibration_that_does_not_hold_is_refused(
    tmp_path: Path, values: dict[str, Any], expected: str
) -> None:
    assert expected in refused(tmp_path, policy(checks=[{**DEMONSTRATED, **values}]))


def test_which_of_several_certificates_has_to_be_said(tmp_path: Path) -> None:
    several = len(calibration_file.load(demonstration("harmful_answer")).certificates)
    without = {k: v for k, v in DEMONSTRATED.items() if k != "epsilon"}
    assert several > 1
    assert "checks[0].calibration:" in refused(tmp_path, policy(checks=[without]))


def test_checks_get_names_and_keep_those_they_have(tmp_path: Path) -> None:
    named = [LINEAR, LINEAR, {**LINEAR, "name": "mine"}]
    checks = make(tmp_path, policy(checks=named)).site.routes[0].guard.checks
    assert [c.name for c in checks] == ["linear:harmful_answer", "linear:harmful_answer.2", "mine"]
    assert checks[0].verifier is checks[1].verifier
    twice = [{**LINEAR, "name": "mine"}, {**LINEAR, "name": "mine"}]
    assert "checks[1].name: another check is called 'mine'" in refused(
        tmp_path, policy(checks=twice)
    )


def test_files_lie_beside_the_file_that_names_them(tmp_path: Path) -> None:
    assert beside("onnx:injection", tmp_path) == "onnx:injection"
    assert beside("patterns", tmp_path) == "patterns"
    assert beside("patterns:mine.toml", tmp_path) == f"patterns:{tmp_path}/mine.toml"
    assert beside("remote:/etc/guard.toml", tmp_path) == "remote:/etc/guard.toml"
    (tmp_path / "harmful_answer").write_bytes(b"")
    assert beside("linear:harmful_answer", tmp_path) == f"linear:{tmp_path}/harmful_answer"


# ------------------------------------------------------------------------------------ what follows


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"checks": []}, "policies.default.checks: a policy without a check guards nothing"),
        ({"checks": [{**LINEAR, "on_alarm": "escalate"}]}, "escalate: an alarm escalates, and no"),
        ({"checks": [{**LINEAR, "on_alarm": "fallback"}]}, "routes[0].fallback: the policy"),
        (
            {"checks": [{**LINEAR, "on_alarm": "replace"}], "replacement": ""},
            "replacement: an alarm replaces, and there is no text for it",
        ),
        ({"otherwise": "replace", "replacement": ""}, "replacement: an alarm replaces"),
        ({"pass": ["upstream_error"]}, "pass: failures that cannot pass: upstream_error"),
        ({"marker": "x" * 65}, "marker: expected str of length <= 64"),
        (
            {"input": [{**RULES, "findings": {"*": "mask"}}]},
            "policies.default.input[0]: a request is sent on as it is or not at all: mask is for",
        ),
        ({"input": [{**RULES, "findings": {"*": "fallback"}}]}, "fallback is for checks of the"),
        ({"input": [LINEAR]}, "input[0].verifier: linear:harmful_answer reads only"),
    ],
)
def test_an_intervention_that_could_not_follow_is_refused(
    tmp_path: Path, values: dict[str, Any], expected: str
) -> None:
    assert expected in refused(tmp_path, policy(**values))


def test_who_hears_an_appeal_has_to_read_what_it_is_about(tmp_path: Path) -> None:
    (tmp_path / "requests.toml").write_text('channels = ["observation"]\n', encoding="utf-8")
    escalating = [{**RULES, "findings": {"*": "escalate"}}]
    deaf = {"verifier": "patterns:requests.toml", "findings": {"*": "halt"}}
    lost = "policies.default.escalate.verifier: it reads nothing of a {}"
    assert lost.format("response") in refused(tmp_path, policy(checks=escalating, escalate=deaf))
    assert lost.format("request") in refused(tmp_path, policy(input=escalating, escalate=LINEAR))
    make(tmp_path, policy(checks=escalating, escalate=LINEAR))
    make(tmp_path, policy(input=escalating, escalate=deaf))


def test_a_check_is_put_where_there_is_something_for_it_to_read(tmp_path: Path) -> None:
    (tmp_path / "requests.toml").write_text('channels = ["observation"]\n', encoding="utf-8")
    deaf = {"verifier": "patterns:requests.toml", "findings": {"*": "halt"}}
    assert "checks[0].verifier: patterns:requests.toml reads only what a generator is given" in (
        refused(tmp_path, policy(checks=[deaf]))
    )
    make(tmp_path, policy(input=[deaf]))


def test_a_whole_policy_becomes_a_guard(tmp_path: Path) -> None:
    values = {
        "checks": [{**LINEAR, "on_alarm": "fallback"}, {**RULES, "findings": {"*": "escalate"}}],
        "input": [{**RULES, "findings": {"*": "replace"}, "roles": ["tool", "document"]}],
        "escalate": {**LINEAR, "deadline_ms": 77},
        "mode": "observe",
        "hold": "end_of_stream",
        "hold_chars": 5,
        "marker": "<{category}>",
        "replacement": "no",
        "otherwise": "replace",
        "pass": ["verifier_timeout"],
        "approval_ms": 9,
    }

    def change(data: dict[str, Any]) -> None:
        data["policies"]["default"] = values
        data["upstreams"]["other"] = OTHER | {"speaks": ["chat"]}
        fallback = {"upstream": "other", "model": "safe"}
        data["routes"] = [{"name": "all", "upstream": "main", "fallback": fallback}]

    route = make(tmp_path, change).site.routes[0]
    guard = route.guard
    assert (guard.name, guard.mode, guard.hold, guard.hold_chars) == (
        "default", "observe", "end_of_stream", 5
    )  # fmt: skip
    assert (guard.marker, guard.replacement, guard.otherwise) == ("<{category}>", "no", "replace")
    assert guard.passed == {"verifier_timeout"}
    assert [c.on_alarm for c in guard.checks] == ["fallback", "halt"]
    assert guard.checks[1].on_finding == {"*": "escalate"}
    assert route.input is not None and route.input.hold == "end_of_stream"
    assert route.input.checks[0].roles == {"tool", "document"}
    assert route.stronger is not None and route.stronger.deadline_ms == 77
    assert route.fallback is not None and route.fallback.model == "safe"
    assert (route.approval_ms, route.conversations) == (9, False)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: None, "conversations: only a calibrated check watches over a whole"),
        (
            lambda d: d["routes"][0].update(fallback={"upstream": "main", "model": "m"}),
            "conversations: a conversation goes on with one model",
        ),
    ],
)
def test_a_conversation_needs_a_calibration_and_one_model(
    tmp_path: Path, change: Change, expected: str
) -> None:
    talking = top(routes=[{"name": "all", "conversations": True}])
    assert expected in refused(tmp_path, both(talking, change))


def test_a_conversation_with_a_calibrated_check_is_sound(tmp_path: Path) -> None:
    talking = top(routes=[{"name": "all", "conversations": True}])
    route = make(tmp_path, both(talking, policy(checks=[DEMONSTRATED]))).site.routes[0]
    assert route.conversations is True


def test_a_calibration_that_speaks_at_the_end_is_none_for_conversations(tmp_path: Path) -> None:
    made = for_linear(tmp_path)
    model = LogOdds(intercept=0.0, weights=(0.0,) * FEATURES, base=0.0, trees=())
    closing = ClosingCheck(model=model, intercept=0.0, slope=1.0)
    statistics = tuple(msgspec.structs.replace(s, closing=closing) for s in made.statistics)
    made = seal(msgspec.structs.replace(made, statistics=statistics))
    calibration_file.save(made, tmp_path / "closing.json")
    checks = [{"verifier": "linear:harmful_answer", "calibration": "closing.json"}]
    make(tmp_path, policy(checks=checks))
    talking = top(routes=[{"name": "all", "conversations": True}])
    assert "conversations: the calibration's statistic speaks at the end" in refused(
        tmp_path, both(talking, policy(checks=checks))
    )


# ------------------------------------------------------------------------------------ digests


def digest(folder: Path, change: Change) -> str:
    folder.mkdir(exist_ok=True)
    return make(folder, change).site.routes[0].guard.digest


def test_the_digest_of_a_policy_names_what_it_does_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for_linear(tmp_path / name, f"{name}.json")
    checks = [
        policy(checks=[{"verifier": "linear:harmful_answer", "calibration": f"{n}.json"}])
        for n in ("a", "b")
    ]
    one, two = digest(tmp_path / "a", checks[0]), digest(tmp_path / "b", checks[1])
    assert one == two
    assert len(one) == 64 and int(one, 16) >= 0


def test_whatever_changes_a_decision_changes_the_digest(tmp_path: Path) -> None:
    changes = [
        policy(),
        check(alarm_below=0.25),
        check(on_alarm="shadow"),
        check(steps="line"),
        check(name="x"),
        policy(mode="observe"),
        policy(hold_chars=1),
        policy(**{"pass": ["verifier_timeout"]}),
        policy(checks=[DEMONSTRATED]),
        policy(checks=[{**DEMONSTRATED, "epsilon": 0.05}]),
        policy(input=[RULES | {"findings": {"*": "halt"}}]),
        policy(escalate=LINEAR),
    ]
    found = [digest(tmp_path, change) for change in changes]
    assert len(set(found)) == len(changes)


# -------------------------------------------------------------------------------------- record

RECORD = {"store": "record.db", "keys": "keys", "log": "gateway.example/log"}


def test_the_record_lies_beside_the_configuration(tmp_path: Path) -> None:
    record = make(tmp_path, top(record={**RECORD, "content_days": 0.5})).site.record
    assert record is not None
    assert (record.store, record.keys) == (str(tmp_path / "record.db"), tmp_path / "keys")
    assert (record.log, record.content_us) == ("gateway.example/log", 43_200_000_000)
    assert list(tmp_path.glob("record*")) == list(tmp_path.glob("keys")) == []


def test_the_url_of_a_server_stays_as_it_is_and_is_in_no_digest_and_no_summary(
    tmp_path: Path,
) -> None:
    made = [
        make(tmp_path, top(record={**RECORD, "store": f"postgresql://me:{word}@db.example/record"}))
        for word in ("first-word", "second-word")
    ]
    assert made[0].site.record is not None
    assert "first-word" in made[0].site.record.store
    assert "first-word" not in repr(made[0].site.record)
    assert made[0].site.digest == made[1].site.digest
    told = summary(made[0]).record
    assert told is not None
    assert told.store == "postgresql://me:***@db.example/record"


def test_a_file_of_a_store_may_be_a_url(tmp_path: Path) -> None:
    record = make(tmp_path, top(record={**RECORD, "store": "sqlite:///deep.db"})).site.record
    assert record is not None
    assert record.store == str(tmp_path / "deep.db")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"store": "none/record.db"}, "record.store: there is no such folder"),
        ({"store": "mysql://db.example/record"}, "record.store: write the path of a file"),
        ({"keys": "none/deep/keys"}, "record.keys: there is no such folder"),
        ({"keys": "a\0b"}, "record.keys: there is no such folder"),
        ({"log": "two words"}, "record.log"),
        ({"redaction": "none.toml"}, "record.redaction"),
        ({"period_s": 0.1}, "record.period_s"),
        ({"content_days": 0}, "record.content_days"),
    ],
)
def test_what_is_wrong_with_a_record_is_told(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    assert said in refused(tmp_path, top(record={**RECORD, **changes}))


@pytest.mark.parametrize("changes", [{"sample": 0.5}, {"evidence": True}])
def test_raw_content_needs_a_record_and_changes_no_digest(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert "there is no record here" in refused(tmp_path, policy(**changes))

    made = make(tmp_path, both(policy(**changes), top(record=RECORD))).policies["default"]
    assert made.guard.digest == make(tmp_path, top(record=RECORD)).policies["default"].guard.digest


# ------------------------------------------------------------------------------------- summary


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (policy(hold="optimistic"), "policies.default: hold optimistic: text is shown before"),
        (policy(mode="observe"), "policies.default: mode observe: alarms are recorded and stop"),
        (policy(**{"pass": ["verifier_failed"]}), "pass verifier_failed: where that happens"),
        (check(on_alarm="require_approval"), "require_approval: nobody is there to ask yet"),
        (policy(escalate=LINEAR), "policies.default: escalate: no alarm escalates"),
        (policy(checks=[DEMONSTRATED]), "checks[0]: the demonstration calibration was made on"),
        (
            policy(checks=[DEMONSTRATED] * 2),
            "any of the 2 rings on a safe one is bounded by their sum, 0.2",
        ),
        (
            policy(checks=[], input=[RULES | {"findings": {"*": "halt"}}]),
            "no check reads reasoning, refusal, text, tool_arguments of a response",
        ),
        (
            lambda d: d["upstreams"]["main"].update(url="http://models.example/v1"),
            "upstreams.main: http to another machine: texts and the key go unencrypted",
        ),
        (
            top(routes=[{"name": "a"}, {"name": "b", "models": ["x"]}]),
            "routes[1]: no request gets here: route 'a' before it takes all of its models",
        ),
        (
            lambda d: d["policies"].update(unused=d["policies"]["default"]),
            "policies.unused: no route is under it",
        ),
        (
            lambda d: d["routes"][0].update(fallback={"upstream": "main", "model": "m"}),
            "routes[0]: no alarm of its policy falls back",
        ),
        (
            both(
                top(routes=[{"name": "all", "conversations": True}]),
                policy(checks=[DEMONSTRATED]),
            ),
            "routes[0]: what is watched is a whole conversation",
        ),
    ],
)
def test_what_may_not_be_meant_is_warned_of(tmp_path: Path, change: Change, expected: str) -> None:
    assert [w for w in summary(make(tmp_path, change)).warnings if expected in w] != []


@pytest.mark.parametrize(
    ("before", "models", "takers"),
    [
        ([["gpt-*"]], ["gpt-4o"], "route 'r0'"),
        ([["gpt-*"]], ["gpt-4*", "gpt-4o-?"], "route 'r0'"),
        ([["gpt-?"]], ["gpt-4"], "route 'r0'"),
        ([["m-[12]"]], ["m-1", "m-[12]"], "route 'r0'"),
        ([["a"], ["b*"]], ["a", "b-1"], "routes 'r0', 'r1'"),
        ([["a", "b"]], ["b"], "route 'r0'"),
        ([["gpt-*"]], ["gpt-4o", "claude"], None),
        ([["gpt-*"]], ["*"], None),
        ([["gpt-?"]], ["gpt-*"], None),
        ([["[*]"]], ["*"], None),
        ([["gpt-4"]], ["gpt-?"], None),
        ([["GPT-4"]], ["gpt-4"], None),
    ],
)
def test_a_route_that_no_request_reaches_is_warned_of(
    tmp_path: Path, before: list[list[str]], models: list[str], takers: str | None
) -> None:
    routes = [{"name": f"r{i}", "models": each} for i, each in enumerate([*before, models])]
    found = [w for w in summary(make(tmp_path, top(routes=routes))).warnings if "gets here" in w]
    assert len(found) == (takers is not None)
    if takers is not None:
        assert found[0].startswith(f"routes[{len(before)}]: no request gets here: {takers} before")


def test_a_route_that_some_tenant_reaches_is_not_warned_of(tmp_path: Path) -> None:
    def tenants(**routes: list[str]) -> Change:
        keys = {name: "sha256:" + f"{i:064x}" for i, name in enumerate(routes)}
        return top(
            open_to_all=False,
            routes=[{"name": "a"}, {"name": "b", "models": ["x"]}],
            tenants={name: {"keys": [keys[name]], "routes": of} for name, of in routes.items()},
        )

    for of, warned in (
        ({"one": ["a", "b"], "two": ["b"]}, False),
        ({"one": ["a", "b"], "two": ["a"]}, True),
        ({"one": [], "two": ["a"]}, True),
    ):
        found = summary(make(tmp_path, tenants(**of))).warnings
        assert any("routes[1]: no request gets here" in w for w in found) is warned, of


def test_upstreams_that_nobody_asks_or_that_say_less_are_warned_of(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["upstreams"]["main"]["speaks"] = ["chat", "messages"]
        data["upstreams"] |= {"other": OTHER, "unused": OTHER}
        fallback = {"upstream": "other", "model": "m"}
        data["routes"] = [{"name": "all", "upstream": "main", "fallback": fallback}]
        data["policies"]["default"]["checks"] = [{**LINEAR, "on_alarm": "fallback"}]

    assert summary(make(tmp_path, change)).warnings == (
        "upstreams.unused: no route leads there",
        "routes[0]: its fallback does not speak chat",
    )


def test_a_plain_file_has_no_warnings(tmp_path: Path) -> None:
    assert summary(make(tmp_path)).warnings == ()


def test_each_check_says_what_it_promises_or_that_it_promises_nothing(tmp_path: Path) -> None:
    found = summary(make(tmp_path, policy(checks=[LINEAR, RULES, DEMONSTRATED])))
    by_hand, rules, calibrated = found.policies[0].checks
    assert by_hand.guarantee == "no guarantee: threshold set by hand"
    assert rules.guarantee == "no guarantee: rules ring on what they name"
    assert calibrated.guarantee.startswith("Calibrated on n = ")
    assert [c.rings for c in (by_hand, rules, calibrated)] == ["threshold", "rules", "calibration"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"checks": [{**LINEAR, "steps": "chars:40"}]}, 88),
        ({"checks": [{**LINEAR, "steps": "tokens:8"}]}, 104),
        ({"checks": [{**LINEAR, "steps": "chars:40"}], "hold_chars": 500}, 500),
        ({"checks": [{**LINEAR, "steps": "chars:40"}], "hold": "optimistic"}, 0),
        ({"checks": [{**LINEAR, "steps": "chars:40"}], "hold": "end_of_stream"}, None),
        ({"checks": [{**LINEAR, "steps": "turn"}]}, None),
    ],
)
def test_how_far_text_is_held_back_follows_from_the_checks(
    tmp_path: Path, values: dict[str, Any], expected: int | None
) -> None:
    assert summary(make(tmp_path, policy(**values))).policies[0].hold_back_chars == expected


def test_rules_hold_back_what_their_longest_match_needs(tmp_path: Path) -> None:
    found = summary(make(tmp_path, policy(checks=[RULES]))).policies[0]
    declared = verifier("patterns").declares
    assert found.hold_back_chars == declared.hold_back_chars + 48


def test_a_signal_is_named_by_what_the_verifier_declares(tmp_path: Path) -> None:
    found = summary(make(tmp_path)).policies[0].checks[0]
    declared = verifier("linear:harmful_answer").declares.signal()
    assert declared == Signal(
        verifier=found.verifier, verifier_version=found.version, step_definition=found.steps
    )
