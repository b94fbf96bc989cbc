"""YAML without its surprises."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tocsin.errors import InputError
from tocsin.gateway.yaml_text import parse_yaml
from tocsin.limits import GATEWAY_CONFIG_DEPTH_MAX, GATEWAY_CONFIG_NODES_MAX


def data(text: str) -> object:
    return parse_yaml(text, "f.yaml")[0]


def refused(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "f.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: true", {"a": True}),
        ("a: False", {"a": False}),
        ("a: 'no'", {"a": "no"}),
        ("a: 8_000", {"a": 8000}),
        ("a: -3", {"a": -3}),
        ("a: 0.25", {"a": 0.25}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: 2024-01-31", {"a": "2024-01-31"}),
        ("a: '012'", {"a": "012"}),
        ('a: "\\ud83d\\ude00"', {"a": "😀"}),
        ("", {}),
        ("# nothing\n", {}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
    ],
)
def test_what_people_read_is_what_is_read(text: str, value: object) -> None:
    assert value == data(text)


@pytest.mark.parametrize("value", ["no", "on", "Yes", "off"])
def test_words_that_yaml_takes_for_booleans_are_refused(value: str) -> None:
    assert f"f.yaml:1: {value!r} is a boolean in YAML" in refused(f"a: {value}")


@pytest.mark.parametrize("value", ["012", "0x1f", "0b11", "12:30", "12:30.5", ".inf", ".nan"])
def test_numbers_that_people_read_otherwise_are_refused(value: str) -> None:
    assert f"f.yaml:1: {value!r} is a number in YAML" in refused(f"a: {value}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml:3: the key 'a' is here twice"),
        ("a: {x: 1, x: 1}", "f.yaml:1: the key 'x' is here twice"),
        ("on: 1", "f.yaml:1: 'on' is no text; put quotes around it"),
        ("404: x", "f.yaml:1: '404' is no text; put quotes around it"),
        ("? [a]\n: 1", "f.yaml:1: 'this' is no text; put quotes around it"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "f.yaml:3: merging with '<<' is not supported"),
        ("a: !!python/name:os.system x", "f.yaml:1: the tag"),
        ("a: !mine {b: 1}", "f.yaml:1: the tag '!mine'"),
        ("a: !!binary aGk=", "f.yaml:1: the tag"),
        ("a: !!set {b}", "f.yaml:1: the tag"),
        ("a: !!map [b]", "f.yaml:1: the tag"),
        ("a: !!str {b: 1}", "f.yaml:1: the tag"),
        ("a: !!int x", "f.yaml:1: 'x' is a number in YAML"),
        ("a: &x [*x]", "f.yaml:1: an alias stands within what it names"),
        ("a: [", "f.yaml:1: no YAML:"),
        ("a: *nowhere", "f.yaml:1: no YAML:"),
        ("a: 1\n---\nb: 2", "f.yaml:2: no YAML:"),
        ("a: \x07", "f.yaml: no YAML"),
        ('a: "x\\ud800"', "f.yaml:1: it holds half a character"),
        ('"\\udc00": 1', "f.yaml:1: it holds half a character"),
    ],
)
def test_the_rest_is_refused_with_its_line(text: str, said: str) -> None:
    assert said in refused(text)


def test_aliases_of_aliases_end_at_a_limit() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert f"more than {GATEWAY_CONFIG_NODES_MAX:,} values" in refused("\n".join(lines))


def test_depth_has_a_limit() -> None:
    assert "nested deeper than" in refused("[" * (GATEWAY_CONFIG_DEPTH_MAX + 1) + "]" * 33)
    assert "nested too deeply" in refused("[" * 5_000 + "]" * 5_000)


def test_each_place_knows_its_line() -> None:
    _, lines = parse_yaml("a:\n  b: 1\n  c:\n    - x\n    - y: 2\n", "f.yaml")
    assert lines == {
        (): 1, ("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", 0): 4, ("a", "c", 1): 5,
        ("a", "c", 1, "y"): 5,
    }  # fmt: skip


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(VALUES.filter(lambda v: v is not None))
def test_what_yaml_writes_of_plain_data_is_read_back(value: object) -> None:
    assert value == data(yaml.safe_dump(value))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        _, lines = parse_yaml(text, "f.yaml")
    except InputError as e:
        said = str(e)
    else:
        said = f"f.yaml:{lines[()]}"
    assert said.startswith("f.yaml:")
