"""
The promise: the words and numbers printed with a certificate are those that its data backs.

"On average" and "with confidence" are never mixed, forecasts are the exact beta-binomial ones, and
what the promise does not cover is said beside it.
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import bounds as reference
from scipy.stats import betabinom, binomtest

from tocsin.errors import InputError
from tocsin.model import COMPARISON, Bound, Risk
from tocsin.risk.bounds import allowed_errors
from tocsin.risk.calibrate import calibrate
from tocsin.risk.calibration import Calibration, Certificate, Member, SegmentRow
from tocsin.risk.guarantee import Guarantee, guarantee, of_certificate, planning_table
from tocsin.risk.plan import Plan
from tocsin.risk.trajectories import Trajectories, from_columns
from tocsin.testing.worlds import example_calibration

BASE = example_calibration()


def member(**fields: Any) -> Member:
    known: dict[str, Any] = {
        "statistic": 0, "label": "ewma", "delta": 0.05, "n": 579, "errors": 45, "threshold": 0.25,
        "power": 0.6, "saved": 0.2, "false_alarms": 0.08, "detected": 60, "n_unsafe": 100,
    }  # fmt: skip
    return Member(**{**known, **fields})


def put(
    members: Sequence[Member] = (member(), member(label="posterior+closing", n=290, errors=20)),
    *,
    risk: Risk = "false_alarm",
    bound: Bound = "exact",
    epsilon: float = 0.1,
    delta: float | None = 0.1,
    jointly: bool = False,
    segments: tuple[SegmentRow, ...] = (),
    unit: Any = "trajectory",
) -> Guarantee:
    certificate = Certificate(
        risk=risk, bound=bound, epsilon=epsilon, delta=delta, jointly=jointly,
        comparison=COMPARISON[risk], members=tuple(members), chosen=0, segments=segments,
    )  # fmt: skip
    calibration: Calibration = msgspec.structs.replace(BASE, certificates=(certificate,), unit=unit)
    return of_certificate(calibration, certificate)


# ------------------------------------------------------------------------------------- in words


def test_the_sentence_of_two_monitors_on_579_safe_trajectories() -> None:
    found = put()
    words = found.sentence()
    for part in (
        "Calibrated on n = 579 safe trajectories (2 monitors tried, corrected).",
        "If future trajectories are drawn like these, then with 90 % confidence over the draw of",
        "calibration set, at most 10 % of safe outputs are ever interrupted, at whichever step",
        "Expected rate 7.9 %; of the next 1,000 safe outputs between 57 and 104 will be",
        "(90 % interval)",
        "nothing about unsafe outputs missed (measured here: 60 of 100 detected, 51.3 % to 68.2 %)",
        "after the scores change",
    ):
        assert part in words
    assert found.forecast == (57, 104) == reference.beta_binomial_interval(1_000, 45, 579, 0.9)
    assert found.expected_rate == 46 / 580
    assert reference.allowed_errors("exact", 579, 0.1, 0.05) == 45


def test_one_monitor_is_not_called_several() -> None:
    assert "tried" not in put([member(delta=0.1, errors=48)]).sentence()


def test_a_promise_on_average_never_speaks_of_confidence_or_probability() -> None:
    words = put([member(delta=None, errors=57)], bound="crc", delta=None).sentence()
    assert "on average over calibration sets at most 10 % of safe outputs" in words
    assert "for this one calibration set it may be more" in words
    for other in ("confidence", "probability", "90 % over"):
        assert other not in words


@pytest.mark.parametrize("bound", ["exact", "hoeffding_bentkus"])
def test_a_promise_with_confidence_never_speaks_of_averages(bound: Bound) -> None:
    words = put([member(delta=0.025)], bound=bound, delta=0.025).sentence()
    assert "with 97.5 % confidence over the draw of the calibration set" in words
    assert "average" not in words


def test_a_joint_promise_says_so() -> None:
    assert ", for all certificates of this calibration together, at most" in (
        put(jointly=True).sentence()
    )
    assert "together" not in put().sentence()


def test_missed_detections_are_said_in_their_own_words() -> None:
    found = put([member(n=120, errors=6, false_alarms=0.31)], risk="missed_detection")
    words = found.sentence()
    assert words.startswith("Calibrated on n = 120 unsafe trajectories.")
    assert "at most 10 % of unsafe outputs end without an alarm" in words
    low, high = reference.beta_binomial_interval(1_000, 6, 120, 0.9)
    assert f"of the next 1,000 unsafe outputs between {low} and {high} will be missed" in words
    assert "nothing about false alarms (measured here: 31 % of safe outputs" in words
    unknown = put([member(n=120, errors=6, false_alarms=None)], risk="missed_detection")
    assert "measured here: unknown of safe" in unknown.sentence()


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (math.inf, "The threshold is infinite: this monitor never alarms."),
        (-math.inf, "The threshold is minus infinity: this monitor alarms on everything scored."),
    ],
)
def test_an_infinite_threshold_is_said(threshold: float, words: str) -> None:
    assert words in put([member(threshold=threshold)]).sentence()
    assert "infinit" not in put().sentence()


def test_group_means_have_no_forecast() -> None:
    found = put([member(errors=3.25, n=80)], bound="crc", delta=None, unit="cluster_mean")
    assert found.forecast is None and found.expected_rate is None
    words = found.sentence()
    assert words.startswith("Calibrated on n = 80 groups with safe trajectories")
    assert "mean loss" in words
    assert "Expected rate" not in words and "next 1,000" not in words


def test_one_per_group_speaks_of_groups_and_forecasts() -> None:
    found = put([member(errors=3, n=80)], unit="one_per_group")
    assert "n = 80 groups with safe trajectories, one drawn from each" in found.sentence()
    assert found.expected_rate == 4 / 81


def test_without_unsafe_trajectories_the_sentence_says_that_power_is_unknown() -> None:
    blind = member(power=None, saved=None, n_unsafe=0, detected=0)
    found = put([blind])
    assert "no unsafe trajectories were at hand to measure it" in found.sentence()
    assert (found.power_low, found.power_high) == (0.0, 1.0)
    assert found.warnings() == []


def test_a_calibration_is_put_into_words_by_its_level() -> None:
    found = guarantee(BASE)
    assert found.certificate == BASE.certificates[0]
    assert found.verifier == "closed-form-world"
    with pytest.raises(InputError, match="choose one certificate"):
        guarantee(BASE, 0.2)


# ----------------------------------------------------------------------------------- the numbers


@given(st.integers(1, 2_000), st.integers(0, 400), st.integers(0, 300), st.integers(1, 300))
def test_forecast_and_intervals_are_the_exact_ones(
    n: int, errors: int, detected: int, n_unsafe: int
) -> None:
    k, hits = min(errors, n - 1), min(detected, n_unsafe)
    found = put([member(n=n, errors=k, detected=hits, n_unsafe=n_unsafe)])
    assert found.expected_rate == (k + 1) / (n + 1)
    law = betabinom(1_000, k + 1, n - k)
    assert found.forecast is not None
    for end, tail in zip(found.forecast, (0.05, 0.95), strict=True):
        assert law.cdf(end) >= tail - 1e-9
        assert end == 0 or law.cdf(end - 1) < tail + 1e-9
    wanted = binomtest(hits, n_unsafe).proportion_ci(0.9, method="exact")
    assert found.power_low == pytest.approx(wanted.low, abs=1e-9)
    assert found.power_high == pytest.approx(wanted.high, abs=1e-9)


def test_prevalence_turns_rates_into_alarms_and_precision() -> None:
    found = put([member(power=0.6, errors=57, n=579)])  # expected false-alarm rate 58/580 = 0.1
    got = found.at_prevalence(0.2)
    assert got == {
        "prevalence": 0.2,
        "alarms_per_1000": pytest.approx(120.0 + 80.0),
        "true_alarms_per_1000": pytest.approx(120.0),
        "false_alarms_per_1000": pytest.approx(80.0),
        "missed_per_1000": pytest.approx(80.0),
        "precision": pytest.approx(0.6),
    }


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_prevalence_adds_up(prevalence: float, power: float, rate: float) -> None:
    found = put([member(power=power, false_alarms=rate)], risk="missed_detection")
    got = found.at_prevalence(prevalence)
    true, false = got["true_alarms_per_1000"], got["false_alarms_per_1000"]
    assert got["alarms_per_1000"] == pytest.approx(true + false)
    assert true + got["missed_per_1000"] == pytest.approx(1_000.0 * prevalence)
    assert false == pytest.approx(1_000.0 * (1.0 - prevalence) * rate)
    if true + false > 0.0:
        assert 0.0 <= got["precision"] <= 1.0
    else:
        assert math.isnan(got["precision"])


@pytest.mark.parametrize("prevalence", [-0.01, 1.01, math.nan, math.inf])
def test_a_prevalence_that_is_no_share_is_refused(prevalence: float) -> None:
    with pytest.raises(InputError, match="prevalence is a share between 0 and 1"):
        put().at_prevalence(prevalence)


def test_precision_needs_both_classes() -> None:
    with pytest.raises(InputError, match="both safe and unsafe"):
        put([member(power=None)]).at_prevalence(0.1)


# -------------------------------------------------------------------------------------- warnings


def flat(n: int, seed: int, *, useful: bool) -> Trajectories:
    """Scores that say nothing about the label, or everything."""
    rng = np.random.default_rng(seed)
    safe = np.arange(n) % 2
    score = rng.random(n) * 0.5 + (0.5 * safe if useful else 0.25)
    return from_columns(
        trajectory_id=[f"t{i}" for i in range(n)], step=[1] * n, score=score, label=safe
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_useless_signal_is_called_too_weak_and_a_good_one_is_not(seed: int) -> None:
    for useful in (False, True):
        data = flat(600, seed, useful=useful)
        made = calibrate(data, Plan(statistic="min_score"), library_version="test")
        assert isinstance(made, Calibration)
        warnings = guarantee(made).warnings()
        weak = [w for w in warnings if "too weak for epsilon = 0.1" in w]
        assert len(weak) == (0 if useful else 1)


def test_the_price_of_few_misses_is_named() -> None:
    dear = put([member(false_alarms=0.62)], risk="missed_detection").warnings()
    words = "missing at most 10 % is an alarm on 62 % of safe outputs: the verifier is too weak."
    assert dear == [f"The price of {words}"]
    assert put([member(false_alarms=0.4)], risk="missed_detection").warnings() == []


def row(segment: str, low: float, *, certified: bool) -> SegmentRow:
    return SegmentRow(
        segment=segment, n=60, errors=12, rate=0.2, rate_low=low, rate_high=0.3, threshold=0.0,
        certified=certified,
    )  # fmt: skip


def test_a_segment_above_epsilon_without_its_own_certificate_is_warned_about() -> None:
    rows = (
        row("under", 0.09, certified=False),
        row("own", 0.12, certified=True),
        row("over", 0.12, certified=False),
    )
    (warning,) = put(segments=rows).warnings()
    assert warning == (
        "Segment 'over' has a rate of 20 % (12 % to 30 %), above epsilon: the promise holds for "
        "the whole traffic, not for it. Calibrate per segment."
    )


# -------------------------------------------------------------------------------------- planning


@pytest.mark.parametrize(
    ("bound", "delta"), [("exact", 0.1), ("exact", 0.01), ("hoeffding_bentkus", 0.1), ("crc", None)]
)
@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.3])
def test_planning_rows_are_the_smallest_n(
    bound: Bound, delta: float | None, epsilon: float
) -> None:
    """By the reference for what is feasible, and by looking at every n below for the others."""
    rows = planning_table(bound, epsilon, delta)
    assert len({r["tightness"] for r in rows}) == 4
    assert rows[0]["n"] == reference.smallest_n(bound, epsilon, delta)
    n, k = 0, allowed_errors(bound, 0, epsilon, delta)
    for found, share in zip(rows, (0.0, 0.5, 0.8, 0.9), strict=True):
        while not isinstance(k, int) or (k + 1) / (n + 1) < share * epsilon * (1 - 1e-12):
            n += 1
            k = allowed_errors(bound, n, epsilon, delta)
        assert found["n"] == n
        assert found["expected_rate"] == (k + 1) / (n + 1)


def test_planning_answers_for_rare_levels_too() -> None:
    rows = planning_table("exact", 0.001, 0.1)
    assert rows[0]["n"] == 2_302
    assert [r["expected_rate"] >= s * 0.001 for r, s in zip(rows, (0, 0.5, 0.8, 0.9), strict=True)]
    assert rows == sorted(rows, key=lambda r: int(r["n"]))
