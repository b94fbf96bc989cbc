"""What rules find: a value rings once, in however many steps it is told."""

from __future__ import annotations

from typing import Any

import pytest
from guarded_streams import Doors, blocked, run, texts

from tocsin.guarding.plan import Check, Guard, Verdict
from tocsin.guarding.receipt import AlarmRecord
from tocsin.limits import ALARMS_KEPT
from tocsin.model import TEXT, Channel, Context, Finding
from tocsin.stream.steps import Step, StepDefinition
from tocsin.verifiers.contract import Declaration, Session
from tocsin.verifiers.patterns import Patterns, Rule
from tocsin.verifiers.stepwise import Judgement, StepwiseSession

LONG = "margarethe.hinterhuber@department.of.silly-walks.example.com"
SAID = f"Dear all, please write to {LONG} or call, thanks a lot, and let it be soon then."
STEPS = ["chars:1", "chars:16", "chars:32", "sentence", "line", "turn"]


def guard(does: Any, steps: str, *rules: Rule, checks: int = 1) -> Guard:
    made = [
        Check(
            name=f"rules{i}",
            verifier=Patterns(rules or None, steps=StepDefinition.parse(steps), forms=()),
            on_finding={"*": does},
        )
        for i in range(checks)
    ]
    return Guard(checks=tuple(made))


def places(alarms: tuple[AlarmRecord, ...], text: str) -> list[tuple[str | None, str]]:
    return [(a.rule, text[a.start : a.end]) for a in alarms]


@pytest.mark.parametrize("does", ["shadow", "mask"])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("before", [0, 5, 11])
def test_a_value_rings_once_wherever_the_steps_end(does: Any, steps: str, before: int) -> None:
    text = SAID[before:]
    guarded, out = run(guard(does, steps), [(TEXT, c) for c in text])
    assert places(guarded.alarms, text) == [("email", LONG)]
    assert guarded.account().alarms == 1
    assert not guarded.alarms[0].late
    shown = text if does == "shadow" else text.replace(LONG, "[email]")
    assert texts(out)[TEXT] == shown


@pytest.mark.parametrize("steps", STEPS)
def test_it_rings_once_for_each_check_and_each_channel(steps: str) -> None:
    other = Channel("text", 1)
    pieces = [(channel, c) for c in SAID for channel in (TEXT, other)]
    guarded, _ = run(guard("mask", steps, checks=2), pieces, choices=2)
    assert {(a.check, a.choice) for a in guarded.alarms} == {
        (check, choice) for check in ("rules0", "rules1") for choice in (0, 1)
    }
    assert places(guarded.alarms, SAID) == [("email", LONG)] * 4


@pytest.mark.parametrize("steps", ["chars:4", "chars:16", "turn"])
def test_values_that_do_not_touch_ring_each(steps: str) -> None:
    text = "a@b.example and a@b.example, a@b.example;a@b.example. "
    guarded, _ = run(guard("mask", steps), [(TEXT, text)])
    assert places(guarded.alarms, text) == [("email", "a@b.example")] * 4


def test_values_of_one_step_ring_each_though_they_touch() -> None:
    rule = Rule(id="pair", pattern="[a-z][0-9]")
    guarded, _ = run(guard("shadow", "chars:32", rule), [(TEXT, "see a1b2c3 there")])
    assert [(a.start, a.end) for a in guarded.alarms] == [(4, 6), (6, 8), (8, 10)]


@pytest.mark.parametrize("steps", ["chars:2", "chars:4", "chars:5", "turn"])
def test_values_that_touch_at_the_end_of_a_step_ring_each(steps: str) -> None:
    rule = Rule(id="pair", pattern="[a-z][0-9]")
    guarded, _ = run(guard("shadow", steps, rule), [(TEXT, "a1b2c3")])
    assert [(a.start, a.end) for a in guarded.alarms] == [(0, 2), (2, 4), (4, 6)]


class EachLine:
    """Finds fault with each whole line: places that touch, and are not one."""

    declares = Declaration(name="each", version="1", steps=StepDefinition.parse("line"))

    def open(self, context: Context) -> Session:
        class Of(StepwiseSession):
            def judge(self, channel: Channel, step: Step) -> Judgement:
                place = Finding(rule="line", category="custom", start=step.start, end=step.end)
                return Judgement(0.0, findings=(place,))

        return Of(self.declares)


def test_what_a_judge_finds_anew_is_asked_about_anew_though_it_touches() -> None:
    check = Check(name="each", verifier=EachLine(), on_finding={"*": "escalate"})
    doors = Doors(verdict=Verdict(safe=True, by="ann"))
    guarded, _ = run(Guard(checks=(check,)), [(TEXT, "one\ntwo\nthree\n")], doors=doors)
    assert len(doors.appeals) == guarded.account().alarms == 3


def test_another_rule_that_begins_where_a_value_ended_rings() -> None:
    rules = (Rule(id="word", pattern="aa", rest="[a]"), Rule(id="mark", pattern="!!"))
    guarded, _ = run(guard("shadow", "chars:8", *rules), [(TEXT, "so: aaaaaaaaaaaa!! and on")])
    found = [(a.rule, a.start, a.end) for a in guarded.alarms]
    assert found == [("word", 4, 16), ("mark", 16, 18)]


def test_a_value_that_somebody_let_pass_is_not_asked_about_again() -> None:
    doors = Doors(verdict=Verdict(safe=True, by="ann"))
    guarded, out = run(guard("escalate", "chars:16"), [(TEXT, SAID)], doors=doors)
    assert len(doors.appeals) == 1
    assert [(a.why, a.appeal) for a in guarded.alarms] == [("overruled", "ann")]
    assert places(guarded.alarms, SAID) == [("email", LONG)]
    assert (texts(out)[TEXT], blocked(out)) == (SAID, None)


def test_what_rings_beyond_those_told_one_by_one_is_counted_once_too() -> None:
    each = f"to {LONG}. "
    guarded, _ = run(guard("mask", "chars:16"), [(TEXT, each * (ALARMS_KEPT + 9))])
    assert guarded.account().alarms == ALARMS_KEPT + 9
    assert {place for _, place in places(guarded.alarms, each * ALARMS_KEPT)} == {LONG}


def test_a_part_that_was_shown_makes_the_alarm_for_all_of_it_late() -> None:
    fast = Guard(checks=guard("mask", "chars:16").checks, hold="optimistic")
    guarded, _ = run(fast, [(TEXT, SAID)])
    assert [a.late for a in guarded.alarms] == [True]
    assert places(guarded.alarms, SAID) == [("email", LONG)]
