"""What becomes of a response when a part fails: the table, cell by cell."""

from itertools import product
from typing import get_args

import pytest

from tocsin.model import UnknownReason
from tocsin.policy.failures import (
    CHECKS_FAIL,
    FAILURES,
    FROM_BROKEN,
    FROM_UNKNOWN,
    MAY_PASS,
    MEANING,
    MODES,
    PHASES,
    RESPONSES,
    TABLE,
    Failure,
    Response,
    respond,
)
from tocsin.stream.events import BrokenReason

CELLS = list(product(FAILURES, PHASES, MODES))
NOTHING_PASSES = frozenset[Failure]()
EVERYTHING_PASSES = frozenset(FAILURES)


def test_every_cell_is_filled_and_there_are_no_others() -> None:
    assert set(CELLS) == set(TABLE)
    assert set(get_args(Response)) == set(RESPONSES)
    assert set(TABLE.values()) == set(RESPONSES)


def test_every_failure_has_a_meaning() -> None:
    assert set(get_args(Failure)) == set(MEANING)
    assert [f for f, meaning in MEANING.items() if not meaning.strip()] == []


def test_every_reason_of_a_verifier_and_of_a_stream_is_a_failure() -> None:
    assert set(get_args(UnknownReason)) == set(FROM_UNKNOWN)
    assert set(get_args(BrokenReason)) == set(FROM_BROKEN)
    assert set(FAILURES) >= {*FROM_UNKNOWN.values(), *FROM_BROKEN.values()}


def test_where_a_policy_enforces_no_failure_passes_by_default() -> None:
    assert [cell for cell in CELLS if cell[2] == "enforce" and TABLE[cell] == "pass"] == []


@pytest.mark.parametrize("failure", sorted(CHECKS_FAIL))
def test_a_check_that_fails_before_the_end_shows_nothing_more(failure: Failure) -> None:
    assert respond(failure, "before_first_byte", "enforce") == "refuse"
    assert respond(failure, "mid_stream", "enforce") == "stop"


@pytest.mark.parametrize("failure", sorted(CHECKS_FAIL))
def test_a_check_that_fails_costs_the_reader_nothing_where_a_policy_observes(
    failure: Failure,
) -> None:
    assert [respond(failure, phase, "observe") for phase in PHASES] == ["pass", "pass", "report"]


def test_a_failure_passes_only_where_it_is_named() -> None:
    for failure, phase, mode in CELLS:
        others = EVERYTHING_PASSES - {failure}
        assert respond(failure, phase, mode, others) == TABLE[failure, phase, mode]


def test_naming_a_failure_opens_nothing_but_the_stop_of_a_check_and_a_full_record() -> None:
    opened = {cell for cell in CELLS if respond(*cell, EVERYTHING_PASSES) != respond(*cell)}
    expected = {
        (failure, phase, "enforce")
        for failure in CHECKS_FAIL
        for phase in ("before_first_byte", "mid_stream")
    } | {("record_unavailable", "before_first_byte", "enforce")}
    assert expected == opened
    assert {"pass"} == {respond(*cell, EVERYTHING_PASSES) for cell in opened}


def test_what_cannot_be_shown_cannot_pass() -> None:
    never = {f for f in FAILURES if f.startswith("upstream_")} | {
        "hold_overflow", "record_failed", "config_invalid", "overloaded"
    }  # fmt: skip
    assert frozenset() == never & MAY_PASS
    assert {"verifier_timeout", "monitor_failed", "appeal_unanswered"} <= MAY_PASS


@pytest.mark.parametrize("failure", ["record_unavailable", "record_failed"])
def test_what_cannot_be_recorded_is_not_begun_and_what_was_begun_ends_as_it_would(
    failure: Failure,
) -> None:
    assert [respond(failure, phase, "enforce") for phase in PHASES] == [
        "refuse", "report", "report"
    ]  # fmt: skip
    assert [respond(failure, phase, "observe") for phase in PHASES] == ["report"] * 3


def test_a_failure_after_the_end_never_stops_what_was_shown() -> None:
    after = {TABLE[f, "after_end", mode] for f, mode in product(FAILURES, MODES)}
    assert {"report", "keep_last", "none"} == after


def test_a_bad_configuration_keeps_the_last_good_one_everywhere() -> None:
    assert {"keep_last"} == {TABLE["config_invalid", p, m] for p, m in product(PHASES, MODES)}
