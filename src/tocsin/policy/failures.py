"""What becomes of a response when a part fails: one table, and nothing else decides.

Every failure, in every phase of a response, in both modes. The default is closed: where a policy
enforces, text that could not be checked is not shown. An open failure needs to be asked for, by
name, and is reported as what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tocsin.model import Mode, Phase, UnknownReason
from tocsin.stream.events import BrokenReason

Failure = Literal[
    "verifier_timeout",
    "verifier_unreachable",
    "verifier_overloaded",
    "verifier_refused",
    "verifier_bad_answer",
    "verifier_out_of_range",
    "verifier_breaker_open",
    "verifier_too_long",
    "verifier_no_input",
    "verifier_failed",
    "monitor_failed",
    "hold_overflow",
    "appeal_unanswered",
    "upstream_unreachable",
    "upstream_refused",
    "upstream_stalled",
    "upstream_cut_off",
    "upstream_error",
    "upstream_garbage",
    "upstream_encoded",
    "upstream_too_long",
    "record_unavailable",
    "record_failed",
    "config_invalid",
    "overloaded",
    "stopping",
]
"""A closed list; `MEANING` says what each one is."""

Response = Literal["refuse", "stop", "pass", "report", "keep_last", "none"]
"""A closed list; `RESPONSES` says what each one is."""

RESPONSES: Mapping[Response, str] = {
    "refuse": "the request is answered with an error, 5xx, that names the failure",
    "stop": "the stream ends validly, as a filtered one",
    "pass": "the text is shown unchecked, and the status says so",
    "report": "it is logged, counted and told in the receipt; the reader's text is not touched",
    "keep_last": "what was in force stays in force",
    "none": "it cannot happen there",
}
"""Each response, for people."""

MEANING: Mapping[Failure, str] = {
    "verifier_timeout": "a verifier gave no answer by its deadline",
    "verifier_unreachable": "a verifier could not be reached, or the connection was cut",
    "verifier_overloaded": "a verifier asked to come back later, or its queue is full",
    "verifier_refused": "a verifier answered with an error status",
    "verifier_bad_answer": "a verifier's answer could not be read",
    "verifier_out_of_range": "a verifier's score is outside its declared range, or no number",
    "verifier_breaker_open": "a verifier failed so often just before that it was not asked",
    "verifier_too_long": "the text is longer than a verifier reads",
    "verifier_no_input": "a verifier lacks what it needs, such as log-probabilities",
    "verifier_failed": "a verifier broke",
    "monitor_failed": "the monitor could not take a score, or broke",
    "hold_overflow": "more text was held back than the limit",
    "appeal_unanswered": "neither the stronger verifier nor a person answered by the deadline",
    "upstream_unreachable": "the upstream could not be reached",
    "upstream_refused": "the upstream answered with an error status",
    "upstream_stalled": "the upstream sent nothing for too long",
    "upstream_cut_off": "the upstream's connection ended before the response did",
    "upstream_error": "the upstream said within the stream that it failed",
    "upstream_garbage": "the upstream sent what its API does not allow",
    "upstream_encoded": "the upstream compressed although it was asked not to",
    "upstream_too_long": "the upstream sent a line, an event or a body beyond the limit",
    "record_unavailable": "the record takes nothing now: it is busy, full, away or too slow",
    "record_failed": "a sync of the record failed: what it holds is not known any more",
    "config_invalid": "the configuration on disk was bad when it was reloaded",
    "overloaded": "the gateway is at its limit of open streams, or too slow",
    "stopping": "the gateway was told to stop, and the time for open responses is over",
}
"""Each failure, for people."""

FROM_UNKNOWN: Mapping[UnknownReason, Failure] = {
    "timeout": "verifier_timeout",
    "unreachable": "verifier_unreachable",
    "overloaded": "verifier_overloaded",
    "refused": "verifier_refused",
    "bad_answer": "verifier_bad_answer",
    "out_of_range": "verifier_out_of_range",
    "breaker_open": "verifier_breaker_open",
    "too_long": "verifier_too_long",
    "no_input": "verifier_no_input",
    "failed": "verifier_failed",
}
"""A verifier that has no score, as a failure."""

FROM_BROKEN: Mapping[BrokenReason, Failure] = {
    "garbage": "upstream_garbage",
    "error": "upstream_error",
    "cut_off": "upstream_cut_off",
    "encoded": "upstream_encoded",
    "too_long": "upstream_too_long",
}
"""A response that cannot be read on, as a failure."""

FAILURES: tuple[Failure, ...] = tuple(MEANING)
PHASES: tuple[Phase, ...] = ("before_first_byte", "mid_stream", "after_end")
MODES: tuple[Mode, ...] = ("enforce", "observe")

CHECKS_FAIL: frozenset[Failure] = frozenset(
    f for f in FAILURES if f.startswith("verifier_") or f in {"monitor_failed", "appeal_unanswered"}
)
"""Failures of a check, where there is text to show."""

MAY_PASS: frozenset[Failure] = CHECKS_FAIL | {"record_unavailable"}
"""Failures that a policy may let pass, by name. Nothing is let pass that nobody will remember:
after a failed sync the process ends."""

Row = tuple[Response, Response, Response]

_CHECKS: dict[Mode, Row] = {
    "enforce": ("refuse", "stop", "report"),
    "observe": ("pass", "pass", "report"),
}
# There is nothing that could pass. An upstream may refuse in the middle of a stream too: a
# keep-alive goes out before a slow one has answered.
_UPSTREAM: dict[Mode, Row] = {
    "enforce": ("refuse", "stop", "none"),
    "observe": ("refuse", "stop", "none"),
}
_BEFORE_ONLY: dict[Mode, Row] = {
    "enforce": ("refuse", "none", "none"),
    "observe": ("refuse", "none", "none"),
}
# What was begun is ended as it would be, and what it leaves behind is told in the log alone.
_RECORD: dict[Mode, Row] = {
    "enforce": ("refuse", "report", "report"),
    "observe": ("report", "report", "report"),
}
_ROWS: dict[Failure, dict[Mode, Row]] = {
    **dict.fromkeys(CHECKS_FAIL, _CHECKS),
    **{f: _UPSTREAM for f in FAILURES if f.startswith("upstream_")},
    # Memory is limited in both modes; a shadow that is over its limit must not cost the reader
    # anything, so it lets go of the text instead.
    "hold_overflow": {"enforce": ("refuse", "stop", "none"), "observe": ("pass", "pass", "none")},
    "stopping": _UPSTREAM,
    "record_unavailable": _RECORD,
    "record_failed": _RECORD,
    "config_invalid": {
        "enforce": ("keep_last", "keep_last", "keep_last"),
        "observe": ("keep_last", "keep_last", "keep_last"),
    },
    "overloaded": _BEFORE_ONLY,
}

TABLE: Mapping[tuple[Failure, Phase, Mode], Response] = {
    (failure, phase, mode): _ROWS[failure][mode][at]
    for failure in FAILURES
    for at, phase in enumerate(PHASES)
    for mode in MODES
}
"""What is done, by failure, phase and mode."""


def respond(
    failure: Failure, phase: Phase, mode: Mode, passed: frozenset[Failure] = frozenset()
) -> Response:
    """Say what is done about a failure.

    Args:
        failure, phase, mode: where in the table.
        passed: failures that the policy lets pass by name; others than `MAY_PASS` are not heeded.

    Example:
        >>> respond("verifier_timeout", "mid_stream", "enforce")
        'stop'
        >>> respond("verifier_timeout", "mid_stream", "enforce", frozenset({"verifier_timeout"}))
        'pass'
    """
    usual = TABLE[failure, phase, mode]
    if failure in passed and failure in MAY_PASS and usual in {"refuse", "stop"}:
        return "pass"
    return usual
