"""The parts of a process that need no process: its log, its counters, its clock, its order."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import pytest

from tocsin.errors import InputError
from tocsin.gateway.draining import Draining
from tocsin.gateway.lag import Lag
from tocsin.gateway.listening import address, bound, connections_max, reserved
from tocsin.gateway.log import Log, place
from tocsin.gateway.meters import OUTCOMES, Meters
from tocsin.gateway.prometheus import Prometheus
from tocsin.limits import CONNECTIONS_MAX, LOG_LINES_WAITING_MAX


class Stuck(io.BytesIO):
    """A sink whose reader has stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.goes_on = threading.Event()

    def write(self, data: Any) -> int:
        self.reached.set()
        self.goes_on.wait(20)
        return super().write(data)


def test_a_reader_that_has_stopped_costs_lines_and_never_time() -> None:
    sink = Stuck()
    log = Log(sink)
    log.say("first")
    assert sink.reached.wait(20)
    for number in range(LOG_LINES_WAITING_MAX + 10):
        log.say("more", number=number)
    assert log.dropped == 10
    sink.goes_on.set()
    log.close(20)
    lines = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert len(lines) == LOG_LINES_WAITING_MAX + 1
    assert [line["number"] for line in lines[1:]] == list(range(LOG_LINES_WAITING_MAX))


def test_a_log_without_a_reader_fails_nobody() -> None:
    class Gone(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError

    log = Log(Gone())
    log.say("lost")
    log.close(20)
    assert log.dropped == 1


def test_a_line_is_one_line_whatever_is_in_it() -> None:
    sink = io.BytesIO()
    log = Log(sink, now=lambda: "now")
    log.say("odd", name="a\nb\x1b[31m\u2028")
    log.close(20)
    assert sink.getvalue().count(b"\n") == 1
    assert b"\x1b" not in sink.getvalue()


def test_the_place_of_an_error_has_none_of_its_words() -> None:
    with pytest.raises(ValueError, match="somebody") as caught:
        int("the words of somebody")
    said = place(caught.value)
    assert said["error"] == "ValueError"
    assert "somebody" not in str(said)


def test_the_order_to_end_reaches_each_open_response_once() -> None:
    draining = Draining()
    heard: list[str] = []
    with draining.tells(lambda: heard.append("first")):
        with draining.tells(lambda: heard.append("second")):
            assert draining.open == 2
        draining.begin()
        assert (draining.begun, draining.over, heard) == (True, False, [])
        draining.end()
        draining.end()
    with draining.tells(lambda: heard.append("late")):
        assert heard == ["first", "late"]
    assert draining.open == 0


def test_lag_is_how_late_a_tick_is_and_fades() -> None:
    lag = Lag(0.1)
    assert [round(lag.tick(at)) for at in (5.0, 5.1, 6.1, 6.2, 6.25)] == [0, 0, 900, 450, 225]


def test_what_is_counted_adds_up() -> None:
    meters = Prometheus()
    counted: Meters = meters
    for outcome in OUTCOMES:
        counted.started("chat")
        counted.ended("chat", "all", outcome, 12.0)
    counted.started("messages")
    values = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in meters.text().decode().splitlines()
        if not line.startswith("#")
    }

    def total(name: str) -> float:
        return sum(v for key, v in values.items() if key.startswith(name + "{"))

    started = total("tocsin_requests_started_total")
    ended = total("tocsin_requests_ended_total")
    in_flight = total("tocsin_requests_in_flight")
    assert (started, ended, in_flight) == (len(OUTCOMES) + 1, len(OUTCOMES), 1)
    assert values['tocsin_request_seconds_count{api="chat"}'] == len(OUTCOMES)


def test_all_that_the_data_path_counts_is_there() -> None:
    meters = Prometheus()
    counted: Meters = meters
    counted.first_text("chat", "all", 20.0)
    counted.upstream("one", 10.0)
    counted.alarm("all", "response", "patterns", "halt")
    counted.failure("all", "verifier_timeout", "stop")
    counted.chars("all", 100, 20, 80)
    counted.receipt(written=False)
    text = meters.text().decode()
    for line in (
        'tocsin_first_text_seconds_count{api="chat",route="all"} 1.0',
        'tocsin_upstream_seconds_count{upstream="one"} 1.0',
        'tocsin_alarms_total{check="patterns",done="halt",place="response",route="all"} 1.0',
        'tocsin_failures_total{failure="verifier_timeout",response="stop",route="all"} 1.0',
        'tocsin_chars_total{route="all",what="held"} 20.0',
        'tocsin_receipts_total{written="no"} 1.0',
    ):
        assert line in text


def test_a_port_in_use_is_refused_in_words() -> None:
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=r"cannot listen on 127\.0\.0\.1 port"):
            reserved("127.0.0.1", port)


def test_a_reserved_port_can_be_shared_and_gets_no_connections_itself() -> None:
    with reserved("127.0.0.1", 0) as kept:
        port = kept.getsockname()[1]
        with bound("127.0.0.1", port, shared=True) as one:
            one.listen()
            assert address(one) == address(kept) == f"127.0.0.1:{port}"


def test_a_host_that_is_not_ours_is_refused_in_words() -> None:
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.1 port 80"):
        bound("192.0.2.1", 80)


def test_there_are_never_more_connections_than_descriptors() -> None:
    assert 1 <= connections_max() <= CONNECTIONS_MAX
