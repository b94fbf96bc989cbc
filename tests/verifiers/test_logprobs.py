"""
The promise: log-probabilities become a finite, safe-high signal of the step their tokens begin in.

Whatever is missing or cannot be is unknown, never a guess.
"""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.errors import InputError
from tocsin.limits import SELF_CERTAINTY_NATS_MAX
from tocsin.model import TEXT, Channel, Context, Delta, Outcome, Score, Token, Unknown
from tocsin.stream.steps import StepDefinition
from tocsin.testing.verifiers import check_verifier
from tocsin.verifiers.logprobs import MODES, LogprobVerifier, Mode, from_spec, self_certainty

ALL: tuple[Mode, ...] = tuple(MODES)
LINE, TURN = StepDefinition("line"), StepDefinition("turn")


def delta(*tokens: Token, text: str | None = None, channel: Channel = TEXT) -> Delta:
    joined = "".join(token.text for token in tokens)
    return Delta(text=joined if text is None else text, tokens=tokens, channel=channel)


def outcomes(mode: Mode, *deltas: Delta, steps: StepDefinition = LINE) -> list[Outcome]:
    session = LogprobVerifier(mode, steps).open(Context())
    return [o for d in deltas for o in session.feed(d)] + session.close()


def value(outcome: Outcome) -> float:
    assert isinstance(outcome, Score), outcome
    return outcome.value


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Unknown), outcome
    return outcome.reason


@pytest.mark.parametrize("steps", ["sentence", "line", "turn", "tool_call", "chars:3", "tokens:2"])
@pytest.mark.parametrize("mode", ALL)
def test_it_keeps_to_the_contract(mode: Mode, steps: str) -> None:
    verifier = LogprobVerifier(mode, StepDefinition.parse(steps))
    assert check_verifier(verifier, streams=40, texts=["No tokens. None at all."]) > 50


def test_min_is_the_least_and_mean_the_geometric_mean_of_the_probabilities() -> None:
    tokens = (Token("a", math.log(0.5)), Token(" b", math.log(0.08)), Token(" c", 0.0))
    assert value(outcomes("min", delta(*tokens))[0]) == pytest.approx(0.08, rel=1e-15)
    assert value(outcomes("mean", delta(*tokens))[0]) == pytest.approx(0.04 ** (1 / 3), rel=1e-15)


@given(st.lists(st.floats(max_value=0.0, allow_nan=False), min_size=1, max_size=20))
def test_a_mean_lies_between_the_least_and_one(logprobs: list[float]) -> None:
    tokens = tuple(Token("x", logprob) for logprob in logprobs)
    least, mean = (value(outcomes(mode, delta(*tokens))[0]) for mode in ("min", "mean"))
    assert 0.0 <= least <= mean * (1 + 1e-12) + 5e-324 and mean <= 1.0


@pytest.mark.parametrize("nothing", [-math.inf, -9999.0])
def test_probability_zero_is_a_score_and_not_unknown(nothing: float) -> None:
    said = delta(Token("a", 0.0), Token("b", nothing))
    assert value(outcomes("min", said)[0]) == 0.0
    assert value(outcomes("mean", said)[0]) == 0.0


def test_a_token_belongs_to_the_step_in_which_it_begins() -> None:
    straddling = delta(
        Token("ab", -1.0), Token("\nc", -2.0), Token("d\nef", -3.0), Token("g", -4.0)
    )
    # The lines are "ab\n", "cd\n" and "efg"; "\nc" begins in the first, "d\nef" in the second.
    found = [math.log(value(o)) for o in outcomes("mean", straddling)]
    assert found == pytest.approx([-1.5, -3.0, -4.0])


def test_a_step_in_which_no_token_begins_has_no_input() -> None:
    found = outcomes("mean", delta(Token("a\nb\nc", -1.0), Token("d", -2.0)))
    assert [math.log(value(found[i])) for i in (0, 2)] == pytest.approx([-1.0, -2.0])
    assert reason(found[1]) == "no_input"


def test_a_token_without_text_belongs_to_no_step() -> None:
    plain = outcomes("mean", delta(Token("a", -1.0), Token("\n", -1.0)))
    marked = (Token("", -7.0), Token("a", -1.0), Token("", math.nan), Token("\n", -1.0))
    assert outcomes("mean", delta(*marked), Delta(tokens=(Token("", -5.0),))) == plain


def test_a_step_of_which_a_part_came_without_tokens_has_no_input() -> None:
    parts = (delta(Token("a", -1.0)), Delta(text=" b"), delta(Token("\nc", -1.0), Token("d", -1.0)))
    found = outcomes("min", *parts)
    assert reason(found[0]) == "no_input"
    assert value(found[1]) == pytest.approx(math.exp(-1.0))


@pytest.mark.parametrize("wrong", [math.nan, 1e-9, math.inf])
@pytest.mark.parametrize("mode", ALL)
def test_a_positive_log_probability_or_none_spoils_its_step_alone(mode: Mode, wrong: float) -> None:
    good, bad = (Token("x", lp, (lp, -1.0)) for lp in (-1.0, wrong))
    end = Token("\n", -1.0, (-1.0, -1.0))
    found = outcomes(mode, delta(good, end, good, bad, good, end, good))
    assert isinstance(found[0], Score) and isinstance(found[2], Score)
    assert reason(found[1]) == "out_of_range"


def test_tokens_that_do_not_spell_the_text_spoil_every_step_that_they_touch() -> None:
    good = Token("ok\n", -1.0)
    found = outcomes("mean", delta(good), delta(Token("a", -1.0), text="x\ny"), delta(good, good))
    assert [reason(o) if isinstance(o, Unknown) else "" for o in found] == [
        "",
        "bad_answer",
        "bad_answer",
        "",
    ]


def test_tokens_of_other_channels_inform_nothing() -> None:
    reasoning = Channel("reasoning")
    apart = outcomes("mean", delta(Token("a", -1.0)), delta(Token("b", -2.0), channel=reasoning))
    assert [math.log(value(o)) for o in apart] == pytest.approx([-1.0, -2.0])
    assert not outcomes("mean", delta(Token("a", -1.0), channel=Channel("observation")))


def test_an_empty_turn_has_no_input() -> None:
    assert [reason(o) for o in outcomes("mean", Delta(ends="turn"), steps=TURN)] == ["no_input"]


def divergence(top: tuple[float, ...]) -> float:
    """Write out KL(U || p) over what was reported."""
    p = [math.exp(v) for v in top]
    return sum(math.log((1 / len(p)) / (x / sum(p))) / len(p) for x in p)


@given(st.lists(st.floats(-15, 0), min_size=2, max_size=20), st.randoms(use_true_random=False))
def test_self_certainty_is_the_divergence_from_uniform_in_any_order(
    logprobs: list[float], rng: random.Random
) -> None:
    top = tuple(logprobs)
    found = self_certainty(top)
    assert found == pytest.approx(divergence(top), rel=1e-9, abs=1e-9)
    rng.shuffle(logprobs)
    assert self_certainty(tuple(logprobs)) == found


@given(
    st.lists(st.floats(max_value=0.0, allow_nan=False), min_size=2, max_size=20).filter(
        lambda top: max(top) > -math.inf
    )
)
def test_self_certainty_is_within_its_declared_range(logprobs: list[float]) -> None:
    assert 0.0 <= self_certainty(tuple(logprobs)) <= SELF_CERTAINTY_NATS_MAX


def test_self_certainty_of_a_step_is_the_mean_over_its_tokens_and_safe_high() -> None:
    sure, unsure = (-0.01, -6.0, -8.0), (-1.1, -1.1, -1.1)
    tokens = (Token("a", -0.01, sure), Token("b", -1.1, unsure))
    expected = (self_certainty(sure) + self_certainty(unsure)) / 2
    assert self_certainty(sure) > self_certainty(unsure)
    assert value(outcomes("self_certainty", delta(*tokens))[0]) == pytest.approx(expected)


@pytest.mark.parametrize("top", [(), (-0.5,)])
def test_self_certainty_needs_two_likeliest_tokens(top: tuple[float, ...]) -> None:
    assert reason(outcomes("self_certainty", delta(Token("a", -0.5, top)))[0]) == "no_input"


def test_no_likeliest_token_with_any_probability_is_out_of_range() -> None:
    nothing = Token("a", -math.inf, (-math.inf, -math.inf))
    assert reason(outcomes("self_certainty", delta(nothing))[0]) == "out_of_range"


@pytest.mark.parametrize("mode", ALL)
def test_what_is_kept_does_not_grow_with_the_response(mode: Mode) -> None:
    session = LogprobVerifier(mode, LINE).open(Context())
    line = delta(*(Token(c, -1.0, (-1.0, -2.0)) for c in "abcdefg\n"))
    mixed = Delta(text="no tokens\n")
    for _ in range(500):
        session.feed(line)
        session.feed(mixed)
        session.feed(Delta(tokens=(Token("", -1.0),)))
    kept = session._tokens[TEXT]  # type: ignore[attr-defined]
    assert len(kept._starts) < 50 and len(kept._faults) < 10


def test_the_written_form_names_the_mode_and_defaults_to_the_mean() -> None:
    assert from_spec("", None).declares.name == "logprobs:mean"
    assert str(from_spec("min", LINE).declares.steps) == "line"
    with pytest.raises(InputError, match=r"logprobs:min\|mean\|self_certainty"):
        from_spec("median", None)


def test_none_claims_to_be_a_probability_of_safety() -> None:
    assert {from_spec(mode, None).declares.kind for mode in ALL} == {"real"}
