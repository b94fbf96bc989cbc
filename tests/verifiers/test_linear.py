"""The linear verifier as it is served: features, prefixes, sessions."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verifiers.linear_worlds import model

from tocsin.errors import InputError, SessionMisuse
from tocsin.limits import CHANNELS_MAX
from tocsin.model import Channel, Context, Delta, Score
from tocsin.stream.steps import StepDefinition
from tocsin.testing.verifiers import check_verifier, generated_text
from tocsin.verifiers.linear import ENDING, from_spec, shipped
from tocsin.verifiers.linear.features import _FEW_BYTES, OBSERVED, WRITTEN, Hasher, folded_bytes
from tocsin.verifiers.linear.model_file import to_bytes
from tocsin.verifiers.linear.prefix import _FEW, Prefix
from tocsin.verifiers.linear.verifier import LinearVerifier, _rounded, probabilities
from tocsin.verifiers.registry import verifier

OBSERVATION = Channel("observation")


def scores(made: LinearVerifier, *deltas: Delta) -> list[float]:
    session = made.open(Context())
    said = [o for delta in deltas for o in session.feed(delta)] + session.close()
    assert all(isinstance(o, Score) for o in said)
    return [o.value for o in said if isinstance(o, Score)]


def slow_places(text: bytes, orders: tuple[int, ...], bits: int, space: int) -> list[list[int]]:
    """The formula of `features`, written out n-gram by n-gram."""
    padded = bytes(max(orders) - 1) + text
    rows = []
    for n in orders:
        row = []
        for end in range(max(orders), len(padded) + 1):
            h = 0
            for x in padded[end - n : end]:
                h = (h * 0x01000193 + x) % 2**32
            h = (h + (n + 64 * space) * 0x9E3779B1) % 2**32
            row.append((((h ^ (h >> 15)) * 0x85EBCA6B) % 2**32) >> (32 - bits))
        rows.append(row)
    return rows


@given(st.binary(max_size=60), st.sampled_from([(1,), (3, 5, 7), (2, 4)]), st.integers(8, 22))
def test_places_are_those_of_the_documented_formula(
    text: bytes, orders: tuple[int, ...], bits: int
) -> None:
    for space in (WRITTEN, OBSERVED):
        made = Hasher(orders, bits, space).feed(text)
        assert made.tolist() == slow_places(text, orders, bits, space)


@pytest.mark.parametrize("orders", [(1,), (3, 5, 7), (2, 9)])
@pytest.mark.parametrize("size", [0, 1, _FEW_BYTES - 1, _FEW_BYTES, _FEW_BYTES + 1])
def test_few_bytes_and_many_have_the_same_places(size: int, orders: tuple[int, ...]) -> None:
    text = random.Random(size).randbytes(size)
    made = Hasher(orders, 17).feed(text)
    assert made.tolist() == slow_places(text, orders, 17, WRITTEN)


@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize("size", [_FEW - 1, _FEW, _FEW + 1, 100_000])
def test_few_weights_and_many_add_up_exactly(size: int, weight: int) -> None:
    prefix = Prefix(np.full((1 << 8, 2), weight, np.int8), (1,), 256)
    assert prefix._sum(np.zeros((1, size), np.uint32)) == [weight * size] * 2


@settings(max_examples=500)
@given(
    st.floats(0.0, 1.0)
    | st.integers(0, 10**12 - 1).map(lambda n: (n + 0.5) / 1e12)
    | st.integers(0, 10**12).map(lambda n: n / 1e12)
)
def test_rounding_is_that_of_decimal_digits(p: float) -> None:
    assert _rounded(p) == round(p, 12)


@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=5))
def test_places_do_not_depend_on_the_cut(text: bytes, cuts: list[int]) -> None:
    whole = Hasher((3, 5, 7), 18).feed(text)
    hasher = Hasher((3, 5, 7), 18)
    at = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    pieces = [hasher.feed(text[a:b]) for a, b in pairwise(at)]
    assert np.hstack(pieces).tolist() == whole.tolist()


def slow_evidence(text: bytes, weights: Any, orders: tuple[int, ...], block: int) -> Any:
    """Evidence after the whole text: prefix plus the worst window, from the definition."""
    places = Hasher(orders, len(weights).bit_length() - 1).feed(text)
    at = weights[places].astype(int).sum(axis=0)

    def rated(begin: int, end: int) -> Any:
        return at[begin:end].sum(axis=0) / max(end - begin, 1) ** 0.5

    ends = [*range(block, len(text) + 1, block), len(text)]
    begins = [max(0, (end - 1) // block * block - block) if end else 0 for end in ends]
    begins[-1] = max(0, len(text) // block * block - block)
    windows = [rated(b, e) for b, e in zip(begins, ends, strict=True)]
    return (rated(0, len(text)) + np.min(windows, axis=0)).tolist()


@settings(max_examples=60)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=4))
def test_evidence_is_that_of_the_definition_whatever_the_cut(text: bytes, cuts: list[int]) -> None:
    made = model()
    features = made.header.features
    prefix = Prefix(made.weights, features.orders, features.block)
    at = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    for a, b in pairwise(at):
        prefix.write("main", text[a:b])
    expected = slow_evidence(text, made.weights, features.orders, features.block)
    assert prefix.evidence().tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("steps", ["sentence", "chars:16", "tokens:3", "turn", "tool_call"])
@pytest.mark.parametrize("observations", [True, False])
def test_a_linear_verifier_conforms(steps: str, observations: bool) -> None:
    made = LinearVerifier(
        model(observations=observations), "linear:random", StepDefinition.parse(steps)
    )
    long = generated_text(random.Random(3), 4000)
    assert check_verifier(made, streams=40, texts=[long]) > 50


@pytest.mark.parametrize("name", ["harmful_answer", "injected_agent", "reasoning_error"])
def test_a_shipped_model_conforms(name: str) -> None:
    assert name in shipped()
    assert check_verifier(verifier(f"linear:{name}", "sentence"), streams=30) > 50


def test_the_score_of_ascii_text_at_one_place_is_the_same_whatever_the_steps() -> None:
    made = model(observations=False)
    text = "A first sentence. A second one, which is longer! And a third? " * 9
    by_steps: dict[int, float] = {}
    for steps in ("chars:7", "chars:64", "sentence", "line", "turn"):
        session = LinearVerifier(made, "x", StepDefinition.parse(steps)).open(Context())
        for said in session.feed(Delta(text=text, ends="turn")):
            assert isinstance(said, Score)
            assert by_steps.setdefault(said.upto, said.value) == said.value
    assert len(by_steps) > 50


def test_a_long_observation_counts_the_same_however_it_is_cut() -> None:
    made = LinearVerifier(model(), "x", StepDefinition("turn"))
    seen = "tool result, " * 20_000
    answer = Delta(text="Done.", ends="turn")
    whole = scores(made, Delta(text=seen, channel=OBSERVATION), answer)
    pieces = [
        Delta(text=seen[i : i + 9_999], channel=OBSERVATION) for i in range(0, len(seen), 9_999)
    ]
    assert scores(made, *pieces, answer) == whole
    assert whole != scores(made, answer)


def test_an_observation_means_nothing_to_a_model_that_does_not_read_them() -> None:
    made = LinearVerifier(model(observations=False), "x", StepDefinition("turn"))
    answer = Delta(text="Done.", ends="turn")
    assert scores(made, Delta(text="seen", channel=OBSERVATION), answer) == scores(made, answer)


def test_choices_are_judged_apart() -> None:
    made = LinearVerifier(model(), "x", StepDefinition("turn"))
    second = Delta(text="Another answer.", channel=Channel("text", choice=1), ends="turn")
    alone = scores(made, Delta(text="Another answer.", ends="turn"))
    assert scores(made, Delta(text="An answer.", ends="turn"), second)[1:] == alone


def test_a_late_bad_passage_is_not_diluted_away() -> None:
    weights = np.zeros((1 << 10, 1), np.int8)
    good, bad = (Hasher((5,), 10).feed(word * 200)[0] for word in (b"g", b"b"))
    weights[good], weights[bad] = 100, -100
    prefix = Prefix(weights, (5,), 64)
    prefix.write(0, b"g" * 4_000)
    safe = float(prefix.evidence()[0])
    prefix.write(0, b"b" * 300)
    late = float(prefix.evidence()[0])
    prefix.write(0, b"g" * 4_000)
    after = float(prefix.evidence()[0])
    whole_only = 100 * (4_000 - 300) / 4_300**0.5
    assert late < whole_only < safe
    assert after < safe * 2**0.5 / 2 + 100 * 8_300**0.5 / 2  # what it was, is not forgotten


def test_state_does_not_grow_with_the_text() -> None:
    made = model()
    prefix = Prefix(made.weights, (2, 5), 64)

    def size() -> int:
        arrays = [v for v in vars(prefix).values() if isinstance(v, np.ndarray)]
        tails = [len(h._tail) for h in prefix._hashers.values()]
        return sum(a.nbytes for a in arrays if a is not made.weights) + sum(tails)

    prefix.write(0, b"some text")
    before = size()
    for _ in range(50):
        prefix.write(0, b"some more text, and more of it" * 100)
    assert size() == before


def test_folding_sees_through_case_hidden_characters_and_compatibility_forms() -> None:
    assert folded_bytes("Pay\u200bPal ＡＢＣ") == folded_bytes("paypal abc")


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_probability_grows_with_evidence_and_stays_one(a: float, b: float) -> None:
    scale = np.array([[0.3, 0.3], [0.02, 0.02]])
    low, high = probabilities(scale, np.array(sorted((a, b))))
    assert 0.0 <= low <= high <= 1.0


def test_the_version_is_the_digest() -> None:
    made = model()
    assert LinearVerifier(made, "x", StepDefinition("turn")).declares.version == made.header.digest
    assert model(seed=1).header.digest != made.header.digest


def test_a_file_is_served_by_its_task_with_its_own_steps(tmp_path: Path) -> None:
    place = tmp_path / f"mine{ENDING}"
    place.write_bytes(to_bytes(model()))
    made = from_spec(str(place), None)
    assert made.declares.name == "linear:random"
    assert str(made.declares.steps) == "sentence"
    assert made.declares.categories == ("violence",)


@pytest.mark.parametrize("argument", ["", "no_such_model", "no/such/file", "a/\0"])
def test_an_unknown_model_is_an_error_that_says_what_there_is(argument: str) -> None:
    with pytest.raises(InputError, match=r"harmful_answer|cannot read"):
        from_spec(argument, None)


def test_observed_channels_are_bounded() -> None:
    session = LinearVerifier(model(observations=True), "x", StepDefinition("turn")).open(Context())
    seen = [Delta(text="x", channel=Channel("observation", index=i)) for i in range(CHANNELS_MAX)]
    assert [session.feed(delta) for delta in seen] == [[]] * CHANNELS_MAX
    with pytest.raises(SessionMisuse, match=f"at most {CHANNELS_MAX}"):
        session.feed(Delta(text="x", channel=Channel("observation", choice=1)))
