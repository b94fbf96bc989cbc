"""What is not known to be checked is not shown: silence, late ends, appeals, floods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from guarded_streams import Doors, Scripted, blocked, now, run, texts

from tocsin.guarding import response
from tocsin.guarding.outlet import Outlet
from tocsin.guarding.plan import Check, Guard
from tocsin.guarding.response import Guarded
from tocsin.guarding.running import Trajectory
from tocsin.limits import FEED_CHARS
from tocsin.model import TEXT, Channel, Context, Delta, Outcome, Score
from tocsin.monitor import Monitor
from tocsin.risk.calibration import seal
from tocsin.stream.events import Began, Done, Event, Sealed, Spent, Stopped, Wrote
from tocsin.stream.steps import StepDefinition
from tocsin.testing.worlds import example_calibration
from tocsin.verifiers.contract import Declaration
from tocsin.verifiers.patterns import Patterns
from tocsin.verifiers.patterns.rulebook import Rule

TOOL = Channel("tool_arguments")
REASONING = Channel("reasoning")
CALL: list[Event] = [
    Began(channel=TOOL, fields={"name": "f"}),
    Wrote(channel=TOOL, text='{"a":"DANGER"}'),
    Sealed(channel=TOOL),
    Stopped(),
    Done(),
]


class Silent:
    """A verifier that never says anything, or nothing of the end."""

    declares = Declaration(name="silent", version="1", steps=StepDefinition("sentence"))

    def open(self, context: Context) -> Silent:
        return self

    def feed(self, delta: Delta) -> list[Outcome]:
        return []

    def close(self) -> list[Outcome]:
        return []


def monitored(verifier: Any, **more: Any) -> Check:
    made = example_calibration(epsilon=0.1, delta=0.1)
    made = seal(msgspec.structs.replace(made, signal=verifier.declares.signal()))
    return Check(name="check", verifier=verifier, monitor=Monitor(made), **more)


def below(verifier: Any, **more: Any) -> Check:
    return Check(name="check", verifier=verifier, alarm_below=0.5, **more)


def take(guarded: Guarded, events: Sequence[Event]) -> list[Event]:
    out: list[Event] = []
    for event in events:
        out += now(guarded.take([event]))
    return out


def test_a_check_that_says_nothing_clears_nothing() -> None:
    guarded, out = run(Guard(checks=(below(Silent()),)), [(TEXT, "DANGER")])
    assert (out, guarded.refused) == ([], "verifier_failed")


def test_silence_that_may_pass_is_told() -> None:
    policy = Guard(checks=(below(Silent()),), passed=frozenset({"verifier_failed"}))
    guarded, out = run(policy, [(TEXT, "Hello.")])
    assert (texts(out), guarded.status) == ({TEXT: "Hello."}, "bypassed")
    policy = Guard(
        checks=(below(Silent()), Check(name="other", verifier=Scripted({}), alarm_below=0.5)),
        passed=frozenset({"verifier_failed"}),
    )
    guarded, out = run(policy, [(TEXT, "Hello.")])
    assert (texts(out), guarded.status) == ({TEXT: "Hello."}, "degraded")


@pytest.mark.parametrize("steps", ["turn", "tool_call", "sentence", "chars:32"])
def test_a_tool_call_of_a_conversation_is_checked_whatever_a_step_is(steps: str) -> None:
    policy = Guard(checks=(monitored(Scripted({"DANGER": 0.001}, steps)),))
    guarded = Guarded(policy, Context(), Doors(), trajectory=Trajectory(policy, Context()))
    out = take(guarded, CALL)
    assert blocked(out) is not None
    assert texts(out) == {}
    assert [alarm.channel for alarm in guarded.alarms] == ["tool_arguments"]


def test_the_second_call_of_a_conversation_is_one_step_as_the_first_was() -> None:
    policy = Guard(checks=(monitored(Scripted({"DANGER": 0.9}, "turn")),))
    trajectory = Trajectory(policy, Context())
    for turn in (1, 2):
        guarded = Guarded(policy, Context(), Doors(), trajectory=trajectory)
        assert texts(take(guarded, CALL)) == {TOOL: '{"a":"DANGER"}'}
        assert [turn] == [running.steps for running in trajectory.running]


@pytest.mark.parametrize("end", [Stopped(), Sealed(channel=REASONING)])
def test_what_comes_after_the_end_of_a_channel_is_not_shown_unchecked(end: Event) -> None:
    channel = TEXT if isinstance(end, Stopped) else REASONING
    guarded = Guarded(Guard(checks=(below(Scripted({"DANGER": 0.0})),)), Context(), Doors())
    late = Wrote(channel=channel, text="DANGER")
    out = take(guarded, [Wrote(channel=channel, text="Well."), end, late, Stopped(), Done()])
    assert {channel: "Well."} == texts(out)
    assert blocked(out) is not None


@pytest.mark.parametrize("reads", [{"text"}, {"text", "reasoning"}])
def test_an_appeal_is_heard_only_by_one_who_reads_what_rang(reads: Any) -> None:
    strong = below(Scripted({}, channels=frozenset(reads)))
    policy = Guard(checks=(below(Scripted({"DANGER": 0.0}), on_alarm="escalate"),))
    guarded, out = run(
        policy, [(TEXT, "All is well.\n"), (REASONING, "DANGER")], doors=Doors(strong)
    )
    overruled = "reasoning" in reads
    assert overruled == (texts(out).get(REASONING) == "DANGER")
    assert overruled == (blocked(out) is None and guarded.refused is None)
    assert overruled == (guarded.failures == ())


def test_an_appeal_is_not_won_by_silence() -> None:
    policy = Guard(checks=(below(Scripted({"DANGER": 0.0}), on_alarm="escalate"),))
    guarded, out = run(policy, [(TEXT, "DANGER")], doors=Doors(below(Silent())))
    assert (out, guarded.refused) == ([], "appeal_unanswered")


def test_an_appeal_in_a_conversation_that_has_rung_is_not_heard_without_text() -> None:
    policy = Guard(checks=(monitored(Scripted({"DANGER": 0.001}), on_alarm="escalate"),))
    doors = Doors(below(Scripted({"DANGER": 0.0})))
    trajectory = Trajectory(policy, Context())
    for _ in range(3):
        guarded = Guarded(policy, Context(), doors, trajectory=trajectory)
        out = take(guarded, [Wrote(channel=TEXT, text="DANGER"), Stopped(), Done()])
        assert blocked(out) is not None
        guarded.leave()
    assert len(doors.appeals) == 1


@pytest.mark.parametrize("reads", [{"text"}, {"text", "tool_arguments"}])
def test_a_response_without_text_that_a_monitor_reads_is_no_failure(reads: Any) -> None:
    policy = Guard(checks=(monitored(Scripted({}, channels=frozenset(reads))),))
    guarded = Guarded(policy, Context(), Doors())
    marks: list[Event] = [Began(channel=TEXT), Sealed(channel=TEXT)]
    call: list[Event] = [CALL[0], Wrote(channel=TOOL, text="{}"), *CALL[2:]]
    assert texts(take(guarded, [*marks, *call])) == {TOOL: "{}"}
    assert guarded.status == ("ok" if "tool_arguments" in reads else "bypassed")


class Hasty(Silent):
    """A verifier that speaks of text that nobody has given it."""

    declares = Declaration(name="hasty", version="1", steps=StepDefinition("chars", FEED_CHARS))

    def feed(self, delta: Delta) -> list[Outcome]:
        return [Score(value=1.0, step=1, upto=1_000_000, channel=delta.channel)]


def test_a_check_clears_no_more_than_it_was_given() -> None:
    guarded = Guarded(Guard(checks=(below(Hasty()),)), Context(), Doors())
    out = take(guarded, [Wrote(channel=TEXT, text="x" * (FEED_CHARS + 10))])
    assert texts(out) == {TEXT: "x" * FEED_CHARS}


# ------------------------------------------------------------------------------------ its limits


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_tool_calls_and_what_stands_behind_them_are_limited_in_both_modes(
    monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    monkeypatch.setattr(response, "HELD_CHARS_MAX", 10 * FEED_CHARS)
    for channel in (TOOL, TEXT):
        policy = Guard(checks=(below(Scripted({}, "turn")),), mode=mode)
        guarded = Guarded(policy, Context(), Doors(), in_order=True)
        take(guarded, [CALL[0], *[Wrote(channel=channel, text="x" * FEED_CHARS)] * 10])
        assert not guarded.over
        take(guarded, [Wrote(channel=channel, text="x" * FEED_CHARS)])
        assert guarded.over


def test_the_limit_is_one_for_all_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "HELD_CHARS_MAX", 10 * FEED_CHARS)
    guarded = Guarded(Guard(checks=(below(Scripted({}, "turn")),)), Context(), Doors())
    for choice in range(11):
        assert not guarded.over
        take(guarded, [Wrote(channel=Channel("text", choice), text="x" * FEED_CHARS)])
    assert guarded.refused == "hold_overflow"


def test_empty_blocks_that_wait_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "LANE_MAX", 100)
    guarded = Guarded(
        Guard(checks=(below(Scripted({})),), mode="observe"), Context(), Doors(), in_order=True
    )
    take(guarded, [Began(channel=TEXT), Sealed(channel=TEXT)] * 51)
    assert guarded.refused == "upstream_too_long"


def test_of_all_that_is_said_about_tokens_the_last_word_is_kept() -> None:
    way_out = Outlet("window", 0, in_order=True)
    for count in range(1_000):
        way_out.end(Spent(fields={"output_tokens": count}))
    out: list[Event] = []
    way_out.finish(Done(), out)
    assert [Spent(fields={"output_tokens": 999})] == [e for e in out if isinstance(e, Spent)]
    assert len(way_out._endings) == 1


def test_masked_arguments_that_are_nested_too_deeply_are_no_json() -> None:
    rules = Patterns([Rule(id="danger", pattern="DANGER")], forms=())
    policy = Guard(checks=(Check(name="rules", verifier=rules, on_finding={"*": "mask"}),))
    deep = 5_000
    text = Wrote(channel=TOOL, text="[" * deep + '"DANGER"' + "]" * deep)
    out = take(Guarded(policy, Context(), Doors()), [CALL[0], text, *CALL[2:]])
    assert blocked(out) is not None
    assert texts(out) == {}


def test_what_an_appeal_is_about_does_not_depend_on_chunks() -> None:
    policy = Guard(checks=(below(Scripted({"ODD": 0.0}, "chars:16"), on_alarm="escalate"),))
    text = "ODD" + "x" * 80 + "DANGER"
    heard = []
    for size in (1, 7, 1_000):
        doors = Doors(below(Scripted({"DANGER": 0.0})))
        pieces = [(TEXT, text[at : at + size]) for at in range(0, len(text), size)]
        guarded, out = run(policy, pieces, doors=doors)
        heard.append((texts(out), guarded.alarms, [appeal.text for appeal in doors.appeals]))
    assert heard[0] == heard[1] == heard[2]
    assert heard[0][2] == [((TEXT, text[:FEED_CHARS]),)]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"to":"SECRET a SECRET","n":[1,2]}', '{"to":"[secret]","n":[1,2]}'),
        ('{"SECRET a SECRET":1.5}', '{"[secret]":1.5}'),
        ('{"to":"SECRET","cc":"SECRET"}', None),
        ('["SECRET","SECRET"]', None),
        ('{"a":["SECRET"],"b":["SECRET"]}', None),
        ('{"SECRET xx SECRET":1,"SECRET yy SECRET":2}', None),
    ],
)
def test_masks_within_arguments_take_away_nothing_but_text(
    arguments: str, shown: str | None
) -> None:
    rules = Patterns([Rule(id="secret", pattern="SECRET.{1,12}SECRET")], forms=())
    policy = Guard(checks=(Check(name="rules", verifier=rules, on_finding={"*": "mask"}),))
    said: list[Event] = [CALL[0], Wrote(channel=TOOL, text=arguments), *CALL[2:]]
    out = take(Guarded(policy, Context(), Doors()), said)
    assert texts(out).get(TOOL) == shown
    assert (blocked(out) is None) == (shown is not None)
