"""The breaker as a table, with time as an argument."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.verifiers.remote.breaker import Breaker, BreakerConfig, End

CONFIG = BreakerConfig(failures=3, window_s=10.0, pause_s=5.0)


def after(*ends: tuple[float, End], config: BreakerConfig = CONFIG) -> Breaker:
    breaker = Breaker(config)
    for now, how in ends:
        permit = breaker.permit(now)
        assert permit is not None
        breaker.end(permit, how, now)
    return breaker


OPENED: tuple[tuple[float, End], ...] = ((0.0, "failure"), (1.0, "failure"), (2.0, "failure"))


def test_it_opens_at_the_last_failure_allowed_and_not_before() -> None:
    assert after(*OPENED[:2]).state == "closed"
    assert after(*OPENED).state == "open"


def test_failures_further_apart_than_the_window_do_not_open_it() -> None:
    assert after((0.0, "failure"), (5.0, "failure"), (10.0, "failure")).state == "closed"
    assert after((0.0, "failure"), (5.0, "failure"), (9.9, "failure")).state == "open"


def test_failures_that_are_the_smaller_part_do_not_open_it() -> None:
    mostly_well: list[tuple[float, End]] = [(0.1 * i, "success") for i in range(4)]
    assert after(*mostly_well, *OPENED).state == "closed"
    assert after(*mostly_well[1:], *OPENED).state == "open"


def test_calls_that_were_given_up_say_nothing() -> None:
    given_up: tuple[float, End] = (0.0, "given_up")
    assert after(*[given_up] * 10).state == "closed"


def test_an_open_breaker_refuses_until_its_pause_is_over_then_lets_one_probe_through() -> None:
    breaker = after(*OPENED)
    assert breaker.refuses(6.9) and breaker.permit(6.9) is None
    assert not breaker.refuses(7.0)
    assert breaker.permit(7.0) == "probe"
    assert breaker.state == "half_open"
    assert breaker.refuses(100.0) and breaker.permit(100.0) is None


@pytest.mark.parametrize(
    ("how", "state", "refuses_soon"),
    [("success", "closed", False), ("failure", "open", True), ("given_up", "open", False)],
)
def test_the_probe_decides(how: End, state: str, refuses_soon: bool) -> None:
    breaker = after(*OPENED)
    breaker.end(breaker.permit(7.0), how, 8.0)
    assert breaker.state == state
    assert breaker.refuses(8.1) is refuses_soon
    assert not breaker.refuses(13.0)


def test_a_breaker_that_closed_again_has_forgotten_the_old_failures() -> None:
    breaker = after(*OPENED, config=BreakerConfig(failures=3, window_s=1000.0, pause_s=5.0))
    breaker.end(breaker.permit(7.0), "success", 7.0)
    breaker.end(breaker.permit(8.0), "failure", 8.0)
    assert breaker.state == "closed"


def test_calls_from_before_it_opened_neither_close_it_nor_prolong_the_pause() -> None:
    breaker = Breaker(BreakerConfig(failures=1, pause_s=5.0))
    early = [breaker.permit(0.0) for _ in range(3)]
    breaker.end(early[0], "failure", 1.0)
    breaker.end(early[1], "success", 2.0)
    breaker.end(early[2], "failure", 3.0)
    assert breaker.state == "open" and not breaker.refuses(6.0)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 3.0), st.sampled_from(["begin", "success", "failure", "given_up"]))
    )
)
def test_whatever_happens_a_probe_is_alone_and_time_alone_opens_the_way_again(
    events: list[tuple[float, str]],
) -> None:
    breaker = Breaker(CONFIG)
    now, under_way = 0.0, []
    for gap, event in events:
        now += gap
        if event == "begin":
            permit = breaker.permit(now)
            assert (permit is None) or permit == ("probe" if breaker.state != "closed" else "call")
            under_way += [permit] if permit else []
            assert under_way.count("probe") <= 1
        elif under_way:
            breaker.end(under_way.pop(0), event, now)  # type: ignore[arg-type]
    for permit in under_way:
        breaker.end(permit, "given_up", now)
    assert breaker.permit(now + CONFIG.pause_s) is not None
