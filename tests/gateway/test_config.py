"""The configuration file: what may stand in it, and how what may not is told."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gateway.config_texts import BASE, ENVIRONMENT, HASH, LINEAR, SECRET, SHORT, make, refused
from hypothesis import given
from hypothesis import strategies as st

from tocsin.errors import InputError, MissingExtra
from tocsin.gateway.building import load
from tocsin.gateway.config import Config
from tocsin.gateway.config_file import expands, parse, read, written
from tocsin.gateway.schema import schema, schema_text
from tocsin.limits import GATEWAY_COMPLAINTS_MAX, GATEWAY_CONFIG_BYTES_MAX

TOML = """\
open_to_all = true

[upstreams.main]
url = "https://models.example/v1"
key = "${MODEL_KEY}"

[[routes]]
name = "all"

[[policies.default.checks]]
verifier = "linear:harmful_answer"
calibration = "demonstration"
epsilon = 0.1
"""


def said(text: str, environment: Mapping[str, str] = ENVIRONMENT, file: str = "g.yaml") -> str:
    with pytest.raises(InputError) as caught:
        parse(text, file, environment)
    return str(caught.value)


# ----------------------------------------------------------------------------------- the formats


def test_a_useful_file_has_few_lines_and_sound_defaults(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(SHORT, encoding="utf-8")
    site = load(path, ENVIRONMENT)
    route = site.routes[0]
    assert len(SHORT.splitlines()) <= 15
    assert (site.host, site.port, site.open_to_all) == ("127.0.0.1", 8080, True)
    assert (route.models, route.model, route.upstream.name) == (("*",), None, "main")
    assert (route.guard.mode, route.guard.hold, route.guard.passed) == (
        "enforce", "window", frozenset()
    )  # fmt: skip
    assert [c.on_alarm for c in route.guard.checks] == ["halt"]


def test_yaml_and_toml_say_the_same() -> None:
    assert parse(TOML, "g.toml", ENVIRONMENT)[0] == parse(SHORT, "g.yaml", ENVIRONMENT)[0]
    assert parse(SHORT, "g.YML", ENVIRONMENT)[0] == parse(SHORT, "g.yaml", ENVIRONMENT)[0]


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SHORT.encode())
    assert list(read(path, ENVIRONMENT)[0].upstreams) == ["main"]


@pytest.mark.parametrize(
    ("text", "file", "expected"),
    [
        (SHORT, "g.json", "g.json: end its name in .yaml, .yml or .toml"),
        ("a = ", "g.toml", "g.toml: no TOML:"),
        ("a = 1\na = 2", "g.toml", "g.toml: no TOML:"),
        ("[]", "g.yaml", "g.yaml: write keys and values here, not a list"),
        ("hello", "g.yaml", "g.yaml: write keys and values here, not a text"),
        ("a: 1\na: 2", "g.yaml", "g.yaml:2: the key 'a' is here twice"),
    ],
)
def test_what_is_no_configuration_is_refused(text: str, file: str, expected: str) -> None:
    assert expected in said(text, file=file)


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    for name, content, expected in (
        ("none.yaml", None, "cannot read the configuration"),
        ("binary.yaml", b"\xff\xfe\x00", "it is not UTF-8"),
        ("large.yaml", b" " * (GATEWAY_CONFIG_BYTES_MAX + 1), "has more than"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=expected) as caught:
            read(path, ENVIRONMENT)
        assert name in str(caught.value)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'tocsin[serve]'")):
        parse(SHORT, "g.yaml", ENVIRONMENT)
    assert parse(TOML, "g.toml", ENVIRONMENT)[0].open_to_all is True


# ------------------------------------------------------------------------------- errors and places


def test_everything_that_is_wrong_is_told_at_once_with_line_and_place() -> None:
    text = SHORT.replace("key:", "kee:").replace("epsilon: 0.1", "epsilon: much")
    text = text.replace("{name: all}", "{name: all, models: gpt}")
    assert said(text).splitlines() == [
        "g.yaml: 3 things are wrong",
        "  g.yaml:2: upstreams.main.kee: there is no such key; did you mean 'key'?",
        "  g.yaml:5: routes[0].models: write a list, as in [a, b], not a text",
        "  g.yaml:9: policies.default.checks[0].epsilon: expected float, got str",
    ]


def test_toml_has_no_lines_but_places() -> None:
    text = TOML.replace("epsilon = 0.1", 'epsilon = "x"')
    assert said(text, file="g.toml") == (
        "g.toml: policies.default.checks[0].epsilon: expected float, got str"
    )


def test_many_errors_are_cut_at_a_limit() -> None:
    lines = said(SHORT + "".join(f"extra{i}: 1\n" for i in range(50))).splitlines()
    assert lines[0] == "g.yaml: 50 things are wrong"
    assert lines[-1] == f"  and {50 - GATEWAY_COMPLAINTS_MAX} more"
    assert len(lines) == GATEWAY_COMPLAINTS_MAX + 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("open_to_all: true", "open_to_all: 1", "open_to_all: expected bool, got int"),
        ("open_to_all: true", "listen: {port: 65536}", "listen.port: expected int <= 65535"),
        ("open_to_all: true", "listen: {port: '80'}", "listen.port: expected int, got str"),
        ("open_to_all: true", "listen:", "listen: write keys and values here, not nothing"),
        ("open_to_all: true", "limits: {body_ms: 0}", "limits.body_ms: expected int >= 1"),
        ("{name: all}", "{name: 'a b'}", "routes[0].name: a name has 1 to 64 letters"),
        ("{name: all}", "{name: 7}", "routes[0].name: this is read as the int 7; put quotes"),
        ('"${MODEL_KEY}"', '"k", headers: [a]', "main.headers: write names and values here, not a"),
        ('"${MODEL_KEY}"', '"k", speaks: [7]', "speaks[0]: write one of chat, responses, messages"),
        ("{name: all}", "{}", "routes[0]: the key 'name' is missing"),
        ("{name: all}", "{name: all, models: [3.5]}", "routes[0].models[0]: this is read as"),
        ("{name: all}", "{name: all, models: ['']}", "routes[0].models[0]: expected str of length"),
        ("  default:", "  'a/b':", "policies.a/b: a name has 1 to 64 letters"),
        ("  default:", "  default:\n    mode: watch", "default.mode: 'watch' is not known"),
        ("  default:", "  default:\n    pass: [all]", "policies.default.pass[0]: 'all' is not"),
        ("  default:", "  default:\n    mode:", "policies.default.mode: a value is missing"),
        ("epsilon: 0.1", "roles: [tools]", "roles[0]: 'tools' is not known; did you mean 'tool'?"),
        ("epsilon: 0.1", "on_alarm: stop", "checks[0].on_alarm: 'stop' is not known; there is"),
        ("epsilon: 0.1", "findings: {x: masc}", "findings.x: 'masc' is not known; did you mean"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_told_in_words(old: str, new: str, expected: str) -> None:
    assert old in SHORT
    assert expected in said(SHORT.replace(old, new))


@pytest.mark.parametrize("place", ["upstreams", "routes", "policies"])
def test_a_part_that_must_be_there_is_asked_for(place: str) -> None:
    data = {k: v for k, v in BASE.items() if k != place}
    assert said(json.dumps(data)) == f"g.yaml:1: the key {place!r} is missing" or (
        said(json.dumps(data)) == f"g.yaml: the key {place!r} is missing"
    )


def test_places_are_written_as_people_do() -> None:
    assert written(()) == ""
    assert written(("a", 0, "b", 1, 2)) == "a[0].b[1][2]"


def test_every_key_of_every_part_is_refused_where_it_is_unknown(tmp_path: Path) -> None:
    def spoil(data: dict[str, Any], *place: Any) -> None:
        for step in place:
            data = data[step]
        data["nonsense"] = 1

    base: dict[str, Any] = {"tenants": {"a": {"keys": [HASH]}}, "listen": {}, "limits": {}}
    for place in (
        (), ("upstreams", "main"), ("routes", 0), ("policies", "default"),
        ("policies", "default", "checks", 0), ("tenants", "a"), ("listen",), ("limits",),
    ):  # fmt: skip

        def change(data: dict[str, Any], place: tuple[Any, ...] = place) -> None:
            data.update(json.loads(json.dumps(base)))
            spoil(data, *place)

        assert f"{written((*place, 'nonsense'))}: there is no such key" in refused(tmp_path, change)


# --------------------------------------------------------------------------------- the environment


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${A}", "1"),
        ("x${A}y${B}z", "x1y22z"),
        ("${NONE:-default}", "default"),
        ("${NONE:-}", ""),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${A:-default}", "1"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$A", "$A"),
        ("${SELF}", "${A}"),
        ("pa$word", "pa$word"),
    ],
)
def test_variables_are_put_in_once(value: str, expected: str) -> None:
    environment = {"A": "1", "B": "22", "EMPTY": "", "SELF": "${A}"}
    text = json.dumps(BASE | {"upstreams": {"main": {"url": "http://h", "key": value}}})
    config, _ = parse(text, "g.yaml", environment)
    assert config.upstreams["main"].key == expected


@pytest.mark.parametrize("value", ["${", "${}", "${A B}", "${1A}", "${A:x}"])
def test_half_a_reference_is_refused(value: str) -> None:
    text = json.dumps(BASE | {"upstreams": {"main": {"url": "http://h", "key": value}}})
    assert "upstreams.main.key: write ${NAME}" in said(text, {"A": "1"})


def test_a_variable_that_is_not_set_is_an_error_that_names_it() -> None:
    expected = "g.yaml:2: upstreams.main.key: the environment variable MODEL_KEY is not set"
    assert said(SHORT, {}) == expected


@pytest.mark.parametrize(
    "place",
    [
        ("policies", "default", "replacement"),
        ("policies", "default", "checks", 0, "verifier"),
        ("routes", 0, "model"),
    ],
)
def test_policies_and_routes_are_what_they_say(tmp_path: Path, place: tuple[Any, ...]) -> None:
    def change(data: dict[str, Any]) -> None:
        part: Any = data
        for step in place[:-1]:
            part = part[step]
        part[place[-1]] = "x${MODEL_KEY}"

    complaint = refused(tmp_path, change)
    assert complaint.startswith(f"{written(place)}: ${{...}} is not replaced here")
    assert not expands(place)


def secret_places() -> list[tuple[str, Any]]:
    """Every way in which a value of the environment may be refused."""
    return [
        ("url", "${MODEL_KEY}"),
        ("url", "https://u:${MODEL_KEY}@models.example"),
        ("url", "https://models.example/?k=${MODEL_KEY}"),
        ("key", "${MODEL_KEY} and more"),
        ("headers", {"x-key": "${MODEL_KEY}\n"}),
        ("headers", {"host": "${MODEL_KEY}"}),
        ("speaks", ["${MODEL_KEY}"]),
        ("deadlines", "${MODEL_KEY}"),
    ]


@pytest.mark.parametrize(("key", "value"), secret_places())
def test_no_error_shows_a_value_of_the_environment(tmp_path: Path, key: str, value: Any) -> None:
    def change(data: dict[str, Any]) -> None:
        data["upstreams"]["main"] = {"url": "https://models.example", key: value}

    assert SECRET not in refused(tmp_path, change)


def test_a_bad_key_of_a_tenant_is_not_shown(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        del data["open_to_all"]
        data["tenants"] = {"a": {"keys": ["${MODEL_KEY}"]}}

    complaint = refused(tmp_path, change)
    assert "tenants.a.keys[0]: write the hash of a key" in complaint
    assert SECRET not in complaint


def test_no_secret_is_in_a_repr_or_in_the_digest(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["upstreams"]["main"]["headers"] = {"x-more": "${MORE}"}

    one = make(tmp_path, change, {"MODEL_KEY": SECRET, "MORE": "hidden-one"})
    two = make(tmp_path, change, {"MODEL_KEY": "another", "MORE": "hidden-two"})
    assert one.site.routes[0].upstream.key == SECRET
    assert one.site.routes[0].upstream.headers == {"x-more": "hidden-one"}
    for shown in (repr(one), repr(one.site), repr(one.config), str(one.config.upstreams)):
        assert SECRET not in shown and "hidden-one" not in shown
    assert one.site.digest == two.site.digest


def test_a_key_that_stands_in_the_file_is_in_no_digest_either(tmp_path: Path) -> None:
    def change(key: str) -> Any:
        return lambda data: data["upstreams"]["main"].update(key=key)

    assert make(tmp_path, change("one")).site.digest == make(tmp_path, change("two")).site.digest


@given(st.text(max_size=60))
def test_any_text_with_dollars_is_expanded_or_refused(text: str) -> None:
    data = BASE | {"upstreams": {"main": {"url": "http://h", "key": text}}}
    try:
        key = parse(json.dumps(data), "g.yaml", {})[0].upstreams["main"].key
    except InputError as e:
        key = None
        said = str(e)
    else:
        said = "g.yaml:"
    assert said.startswith("g.yaml:")
    assert key == text or "$" in text


# -------------------------------------------------------------------------------------- the schema


def test_the_schema_describes_every_key() -> None:
    definitions = schema()["$defs"]
    without = [
        (name, key)
        for name, definition in definitions.items()
        for key, one in definition["properties"].items()
        if not one.get("description")
    ]
    assert without == []
    assert [n for n, d in definitions.items() if d["additionalProperties"] is not False] == []


def test_the_schema_knows_the_keys_that_the_reader_knows() -> None:
    properties = schema()["$defs"]["PolicyConfig"]["properties"]
    assert "pass" in properties and "passed" not in properties
    fields = {f.encode_name for f in msgspec.structs.fields(Config)}
    assert set(schema()["$defs"]["Config"]["properties"]) == fields


def test_the_schema_accepts_the_short_file_and_refuses_a_typo() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    good = BASE | {"policies": {"default": {"checks": [LINEAR], "pass": ["verifier_timeout"]}}}
    assert list(validator.iter_errors(good)) == []
    assert [e.validator for e in validator.iter_errors(good | {"rutes": []})] == [
        "additionalProperties"
    ]


def test_every_duration_and_size_has_its_unit_in_its_name() -> None:
    units = ("_ms", "_max", "_chars", "_bytes_max")
    numbers = [
        name
        for definition in schema()["$defs"].values()
        for name, one in definition["properties"].items()
        if one.get("type") == "integer"
    ]
    assert [n for n in numbers if not n.endswith(units)] == ["port"]
