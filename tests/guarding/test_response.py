"""One response under guard: what is shown depends on the text alone, and was cleared."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from guarded_streams import (
    FORBIDDEN,
    MONITOR,
    Doors,
    Scripted,
    blocked,
    cut,
    literal_rules,
    now,
    run,
    texts,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import tocsin
from tocsin.errors import InputError
from tocsin.guarding.plan import Check, Guard, Verdict
from tocsin.guarding.receipt import Who
from tocsin.guarding.response import Guarded
from tocsin.guarding.running import Trajectory
from tocsin.limits import APPEALS_MAX, FEED_CHARS
from tocsin.model import INTERVENTIONS, TEXT, Channel, Context, Outcome, Token, Unknown
from tocsin.monitor import Monitor, replay
from tocsin.stream.events import Began, Blocked, Broken, Done, Event, Opened, Sealed, Stopped, Wrote

RULES = literal_rules()
TOOL = Channel("tool_arguments")
SAID = "All the way up the hill they went, and nobody said a word about it. "


def rule_guard(does: Any, **more: Any) -> Guard:
    return Guard(checks=(Check(name="rules", verifier=RULES, on_finding={"*": does}),), **more)


def monitored(does: Any = "halt", **more: Any) -> Guard:
    verifier = Scripted({"DANGER": 0.001, "ODD": 0.6})
    return Guard(
        checks=(Check(name="signal", verifier=verifier, monitor=MONITOR, on_alarm=does),), **more
    )


# ------------------------------------------------------------------------------------ law 2


@pytest.mark.parametrize("does", ["mask", "halt", "replace", "escalate"])
@pytest.mark.parametrize("offset", range(0, 70, 3))
def test_a_forbidden_literal_is_never_shown_wherever_it_stands_and_however_it_is_cut(
    does: Any, offset: int
) -> None:
    text = (SAID * 2)[:offset] + FORBIDDEN + SAID
    middle = offset + len(FORBIDDEN) // 2
    shown = set()
    for pieces in ([text], cut(text, [middle]), cut(text, [middle - 3, middle + 2]), list(text)):
        guard = rule_guard(does, replacement="Sorry.")
        doors = Doors(Check(name="strong", verifier=RULES))
        guarded, out = run(guard, [(TEXT, p) for p in pieces], doors=doors)
        said = texts(out).get(TEXT, "")
        assert FORBIDDEN not in said
        assert not any(FORBIDDEN[:k] in said for k in range(6, len(FORBIDDEN)))
        assert (blocked(out) is None) == (does == "mask")
        shown.add((said, blocked(out), guarded.account().released))
    assert len(shown) == 1


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[tuple[Channel, str]], list[int]]:
    """Text of several channels, in the order in which it is written, and two ways to cut it."""
    words = st.sampled_from([FORBIDDEN, "DANGER\n", "ODD\n", "so it went\n", " and ", "é😀", SAID])
    channels = st.sampled_from([TEXT, Channel("reasoning"), Channel("text", 1), TOOL])
    runs = draw(st.lists(st.tuples(channels, st.lists(words, max_size=6)), max_size=6))
    return [(c, "".join(w)) for c, w in runs], draw(st.lists(st.integers(0, 400), max_size=8))


@given(
    scene=scenes(),
    rule=st.sampled_from(INTERVENTIONS),
    alarm=st.sampled_from(INTERVENTIONS),
    hold=st.sampled_from(["window", "end_of_stream"]),
    in_order=st.booleans(),
    steps=st.sampled_from(["line", "chars:5", "sentence", "turn"]),
)
@settings(max_examples=300, deadline=None)
def test_chunks_change_no_decision_and_no_shown_character(
    scene: tuple[list[tuple[Channel, str]], list[int]],
    rule: Any,
    alarm: Any,
    hold: Any,
    in_order: bool,
    steps: str,
) -> None:
    written, places = scene
    signal = Scripted({"DANGER": 0.001, "ODD": 0.6}, steps)
    guard = Guard(
        checks=(
            Check(name="rules", verifier=RULES, on_finding={"*": rule}),
            Check(name="signal", verifier=signal, monitor=MONITOR, on_alarm=alarm),
        ),
        hold=hold,
        replacement="Sorry.",
    )

    def outcome(pieces: list[tuple[Channel, str]]) -> Any:
        doors = Doors(stronger=Check(name="strong", verifier=Scripted({}), alarm_below=0.5))
        guarded, out = run(guard, pieces, in_order=in_order, choices=2, doors=doors)
        records = guarded.receipt(Who(id="r"))
        return (
            texts(out),
            blocked(out),
            records.alarms,
            [(c.kind, c.released, c.masked, c.shown_sha256) for c in records.channels],
            guarded.falls_back,
            guarded.refused,
        )

    whole = outcome(written)
    assert outcome([(c, x) for c, text in written for x in text]) == whole
    assert outcome([(c, p) for c, text in written for p in cut(text, places)]) == whole


# ------------------------------------------------------------------------- what each one does


def test_allow_and_shadow_show_everything_and_only_one_of_them_leaves_an_alarm() -> None:
    text = SAID + FORBIDDEN + SAID
    for does, alarms in (("allow", 0), ("shadow", 1)):
        guarded, out = run(rule_guard(does), [(TEXT, text)])
        assert texts(out)[TEXT] == text
        assert guarded.account().alarms == alarms


def test_a_policy_that_observes_shows_everything_and_says_what_it_would_have_done() -> None:
    guarded, out = run(rule_guard("halt", mode="observe"), [(TEXT, SAID + FORBIDDEN)])
    assert texts(out)[TEXT] == SAID + FORBIDDEN
    alarm = guarded.alarms[0]
    assert (alarm.wanted, alarm.done) == ("halt", "shadow")


def test_a_mask_stands_for_what_was_found_and_for_nothing_else() -> None:
    _, out = run(
        rule_guard("mask", marker="<{category}>"), [(TEXT, f"A {FORBIDDEN} b {FORBIDDEN}.")]
    )
    assert texts(out)[TEXT] == "A <custom> b <custom>."


def test_a_calibrated_alarm_under_mask_hides_every_step_from_there_on() -> None:
    lines = ["first\n", "DANGER\n", "DANGER again\n", "fine\n"]
    _, out = run(monitored("mask"), [(TEXT, line) for line in lines])
    assert texts(out)[TEXT] == "first\n[withheld]"


def test_halt_keeps_what_was_cleared_before_and_ends() -> None:
    guarded, out = run(monitored(), [(TEXT, SAID + "\nDANGER ahead\nmore\n")])
    assert texts(out)[TEXT] == SAID + "\n"
    assert out[-1] == Blocked()
    assert now(guarded.take([Wrote(channel=TEXT, text="more"), Done()])) == []


def test_findings_have_interventions_by_rule_then_category_then_any() -> None:
    check = Check(
        name="rules",
        verifier=RULES,
        on_finding={"custom": "mask", "*": "halt", "forbidden": "shadow"},
    )
    guarded, out = run(Guard(checks=(check,)), [(TEXT, FORBIDDEN)])
    assert texts(out)[TEXT] == FORBIDDEN
    assert guarded.alarms[0].wanted == "shadow"


def test_a_threshold_by_hand_rings_without_a_promise() -> None:
    check = Check(name="hand", verifier=Scripted({"ODD": 0.4}), alarm_below=0.5)
    guarded, out = run(Guard(checks=(check,)), [(TEXT, "well\nODD\nmore\n")])
    assert texts(out)[TEXT] == "well\n"
    record = guarded.receipt(Who(id="r")).checks[0]
    assert (record.promise, record.alarm_below, record.lowest) == (None, 0.5, 0.4)


def test_the_receipt_holds_the_promise_and_a_path_that_replays_to_the_same_decision() -> None:
    guarded, _ = run(monitored(), [(TEXT, "one\nODD\nDANGER\n")])
    receipt = guarded.receipt(Who(id="r", tenant="acme", model="m"))
    check, alarm = receipt.checks[0], receipt.alarms[0]
    assert check.promise is not None
    assert check.promise.calibration == MONITOR.calibration.digest
    assert check.promise.sentence.startswith("Calibrated on n = ")
    assert check.path is not None
    again = replay(MONITOR, check.path)
    assert again is not None
    assert (again.alarm_step, again.statistic) == (alarm.step, alarm.statistic)
    assert receipt.channels[0].shown_sha256 == hashlib.sha256(b"one\nODD\n").hexdigest()


# ---------------------------------------------------------------------------- channels


def test_all_channels_and_choices_share_one_alarm_and_all_end_with_it() -> None:
    other = Channel("text", 1)
    pieces = [(TEXT, "a fine line\n" + SAID), (other, "DANGER\n" + SAID), (TEXT, "and more\n")]
    _, out = run(monitored(), pieces, choices=2)
    assert texts(out) == {TEXT: "a fine line\n"}
    assert isinstance(out[-1], Blocked)


def test_a_tool_call_is_never_shown_before_the_whole_response_is_cleared() -> None:
    guarded = Guarded(monitored(), Context(), Doors())
    call: list[Event] = [
        Began(channel=TOOL, fields={"name": "pay"}),
        Wrote(channel=TOOL, text='{"to": "me"}\n'),
        Sealed(channel=TOOL),
    ]
    assert now(guarded.take([Opened(), *call])) == []
    out = now(guarded.take([Wrote(channel=TEXT, text="DANGER\n" * 9), Stopped(), Done()]))
    assert not any(isinstance(e, Began | Sealed) for e in out)
    assert isinstance(out[-1], Blocked)


def test_a_cleared_tool_call_comes_whole_and_in_one_piece() -> None:
    guarded = Guarded(rule_guard("halt"), Context(), Doors())
    out: list[Event] = []
    events: list[Event] = [
        Began(channel=TOOL, fields={"name": "pay"}),
        *(Wrote(channel=TOOL, text=c) for c in '{"to": "a friend of mine who lives here"}'),
        Sealed(channel=TOOL),
        Stopped(),
        Done(),
    ]
    for event in events:
        out += now(guarded.take([event]))
    kinds = [type(e).__name__ for e in out]
    assert kinds == ["Opened", "Began", "Wrote", "Sealed", "Stopped", "Done"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"to": "' + FORBIDDEN + '"}', '{"to": "[forbidden]"}'),
        ('{"to": ' + FORBIDDEN + "}", None),
    ],
)
def test_masked_arguments_are_shown_only_while_they_are_json(
    arguments: str, shown: str | None
) -> None:
    _, out = run(rule_guard("mask"), [(TOOL, arguments)])
    assert texts(out).get(TOOL) == shown
    assert (blocked(out) is not None) == (shown is None)


def test_reasoning_that_is_sealed_is_let_out_before_the_text_that_follows_goes_on() -> None:
    thought = Channel("reasoning")
    guarded = Guarded(rule_guard("halt"), Context(), Doors(), in_order=True)
    first: list[Event] = [
        Opened(),
        Began(channel=thought),
        Wrote(channel=thought, text="Hm."),
        Sealed(channel=thought),
    ]
    out = now(guarded.take([*first, Began(channel=TEXT), Wrote(channel=TEXT, text=SAID * 3)]))
    assert texts(out)[thought] == "Hm."
    assert len(texts(out)[TEXT]) > 100


def test_blocks_keep_their_order_where_they_must() -> None:
    guarded = Guarded(rule_guard("halt"), Context(), Doors(), in_order=True)
    events: list[Event] = [
        Opened(), Began(channel=TEXT), Wrote(channel=TEXT, text="Hi."), Sealed(channel=TEXT),
        Began(channel=TOOL), Wrote(channel=TOOL, text="{}"), Sealed(channel=TOOL),
        Stopped(), Done(),
    ]  # fmt: skip
    out = now(guarded.take(events))
    assert out == events


def test_log_probabilities_come_out_with_the_text_that_they_spell() -> None:
    words = [f"word{i:02d} " for i in range(30)]
    guarded = Guarded(rule_guard("mask"), Context(), Doors())
    out = []
    for word in [*words[:20], FORBIDDEN, *words[20:]]:
        token = Token(word, -0.5)
        out += now(guarded.take([Wrote(channel=TEXT, text=word, tokens=(token,))]))
    out += now(guarded.take([Stopped(), Done()]))
    spelled = [t.text for e in out if isinstance(e, Wrote) for t in e.tokens]
    assert spelled == words


# ------------------------------------------------------------------------------------ hold


def test_at_the_end_of_the_stream_nothing_is_shown_before() -> None:
    guarded = Guarded(rule_guard("halt", hold="end_of_stream"), Context(), Doors())
    assert now(guarded.take([Opened(), Wrote(channel=TEXT, text=SAID * 9)])) == []
    assert texts(now(guarded.take([Stopped(), Done()])))[TEXT] == SAID * 9


def test_optimistic_shows_at_once_and_says_that_it_was_not_checked() -> None:
    guarded = Guarded(rule_guard("halt", hold="optimistic"), Context(), Doors())
    out = now(guarded.take([Wrote(channel=TEXT, text="Hi")]))
    assert texts(out)[TEXT] == "Hi"
    out += now(
        guarded.take([Wrote(channel=TEXT, text=FORBIDDEN), Wrote(channel=TEXT, text=SAID * 3)])
    )
    assert isinstance(out[-1], Blocked)
    assert guarded.account().status == "bypassed"


def test_a_window_lags_by_no_more_than_the_longest_pattern_two_steps_and_the_grid() -> None:
    guarded = Guarded(rule_guard("halt"), Context(), Doors())
    held_max = 0
    for c in SAID * 20:
        now(guarded.take([Wrote(channel=TEXT, text=c)]))
        held_max = max(held_max, guarded.account().held)
    assert held_max <= RULES.declares.hold_back_chars + 32 + FEED_CHARS + len(FORBIDDEN)


def test_more_characters_are_held_back_where_the_policy_asks() -> None:
    guarded = Guarded(rule_guard("halt", hold_chars=200), Context(), Doors())
    out = now(guarded.take([Wrote(channel=TEXT, text="x" * 10 * FEED_CHARS)]))
    assert len(texts(out)[TEXT]) == 10 * FEED_CHARS - 200


# ---------------------------------------------------------------------------- appeals, fallback


def strong(words: dict[str, float]) -> Check:
    return Check(name="strong", verifier=Scripted(words, "turn"), alarm_below=0.5)


def test_a_stronger_verifier_overrules_and_the_response_goes_on_under_watch() -> None:
    text = f"one\nDANGER\ntwo\n{SAID}\n"
    guarded, out = run(monitored("escalate"), [(TEXT, text)], doors=Doors(strong({})))
    assert texts(out)[TEXT] == text
    assert [(a.done, a.why, a.appeal) for a in guarded.alarms] == [
        ("escalate", "overruled", "strong (1): 1")
    ]


def test_an_appeal_that_is_won_at_the_last_step_fails_nothing() -> None:
    guarded, out = run(monitored("escalate"), [(TEXT, "one\nDANGER\n")], doors=Doors(strong({})))
    assert texts(out)[TEXT] == "one\nDANGER\n"
    assert (blocked(out), guarded.failures) == (None, ())


def test_the_path_to_each_alarm_is_kept_also_where_it_was_overruled() -> None:
    text = "DANGER one\n" + SAID + "\nDANGER two\nfine\n"
    guarded, _ = run(monitored("escalate"), [(TEXT, text)], doors=Doors(strong({})))
    check = guarded.receipt(Who(id="r")).checks[0]
    assert [path.scores[-1] for path in check.overruled] == [0.001, 0.001]
    assert check.path is not None
    assert check.path.scores == (1.0,)


def test_an_alarm_whose_appeal_nobody_heard_is_told() -> None:
    guarded, _ = run(monitored("escalate"), [(TEXT, "DANGER\n")])
    assert guarded.refused == "appeal_unanswered"
    assert [(a.wanted, a.done, a.why) for a in guarded.alarms] == [
        ("escalate", "halt", "nobody answered")
    ]


def test_a_stronger_verifier_that_agrees_stops_the_response() -> None:
    guard = monitored("escalate", otherwise="replace", replacement="Sorry.")
    guarded, out = run(guard, [(TEXT, "one\nDANGER\ntwo\n")], doors=Doors(strong({"DANGER": 0.1})))
    assert texts(out)[TEXT] == "one\n"
    assert out[-1] == Blocked(text="Sorry.")
    assert guarded.alarms[0].why == "upheld"


def test_an_appeal_that_nobody_hears_is_lost() -> None:
    for does in ("escalate", "require_approval"):
        guarded, out = run(monitored(does), [(TEXT, SAID * 2 + "\n" + SAID + "\nDANGER\n")])
        assert isinstance(out[-1], Blocked)
        assert guarded.failures[0].failure == "appeal_unanswered"


def test_an_approver_decides() -> None:
    yes = Doors(verdict=Verdict(safe=True, by="reviewer-1"))
    _, out = run(monitored("require_approval"), [(TEXT, "one\nDANGER\ntwo\n")], doors=yes)
    assert texts(out)[TEXT] == "one\nDANGER\ntwo\n"
    no = Doors(verdict=Verdict(safe=False, by="reviewer-1"))
    _, out = run(monitored("require_approval"), [(TEXT, "one\nDANGER\ntwo\n")], doors=no)
    assert texts(out)[TEXT] == "one\n"


def test_appeals_are_limited_since_each_reads_everything() -> None:
    doors = Doors(strong({}))
    text = ("DANGER " + "x" * 40 + "\n") * 20
    guarded, out = run(monitored("escalate"), [(TEXT, text)], doors=doors)
    assert len(doors.appeals) == APPEALS_MAX
    assert isinstance(out[-1], Blocked)
    assert guarded.alarms[-1].done == "halt"


def test_a_fallback_takes_over_while_nothing_was_shown_and_else_comes_too_late() -> None:
    guarded, out = run(monitored("fallback"), [(TEXT, "DANGER\n")])
    assert (out, guarded.falls_back, guarded.over) == ([], True, True)
    guarded, out = run(monitored("fallback"), [(TEXT, SAID + "\n" + SAID + "\nDANGER\n")])
    assert (guarded.falls_back, guarded.alarms[0].done) == (False, "halt")
    assert guarded.alarms[0].why == "some of it had been shown"


def test_there_is_no_second_fallback() -> None:
    guarded = Guarded(monitored("fallback"), Context(), Doors(), is_fallback=True)
    out = now(guarded.take([Wrote(channel=TEXT, text="DANGER\n"), Stopped(), Done()]))
    assert not guarded.falls_back
    assert out[-1] == Blocked()


# ----------------------------------------------------------------------------------- failures


class Breaks(Scripted):
    """A verifier that breaks, or has no score, at its second step."""

    def __init__(self, how: str) -> None:
        super().__init__({})
        self.how = how

    def open(self, context: Context) -> Any:
        inner, how = super().open(context), self.how

        class Session:
            seen = 0

            def feed(self, delta: Any) -> list[Outcome]:
                out: list[Outcome] = inner.feed(delta)
                self.seen += len(out)
                if self.seen < 2:
                    return out
                if how == "raise":
                    raise RuntimeError("a secret")
                return [
                    Unknown(reason="timeout", step=o.step, upto=o.upto, channel=o.channel)
                    if o.step >= 2 else o
                    for o in out
                ]  # fmt: skip

            def close(self) -> list[Outcome]:
                return []

        return Session()


@pytest.mark.parametrize(
    ("how", "failure"), [("raise", "verifier_failed"), ("know", "verifier_timeout")]
)
def test_a_verifier_that_fails_stops_the_response_unless_its_policy_says_otherwise(
    how: str, failure: Any
) -> None:
    check = Check(name="breaks", verifier=Breaks(how), alarm_below=0.5)
    text = SAID + "\n" + SAID + "\nthird\n"
    guarded, out = run(Guard(checks=(check,)), [(TEXT, text)])
    assert out[-1] == Blocked()
    assert texts(out)[TEXT] == SAID + "\n"
    record = guarded.failures[0]
    assert (record.failure, record.phase, record.response) == (failure, "mid_stream", "stop")
    assert "secret" not in record.detail
    for guard in (
        Guard(checks=(check,), passed=frozenset({failure})),
        Guard(checks=(check,), mode="observe"),
    ):
        guarded, out = run(guard, [(TEXT, text)])
        assert texts(out)[TEXT] == text
        assert guarded.account().status == ("bypassed" if how == "raise" else "degraded")


def test_a_failure_before_the_first_byte_refuses_the_request() -> None:
    check = Check(name="breaks", verifier=Breaks("raise"), alarm_below=0.5)
    guarded, out = run(Guard(checks=(check,)), [(TEXT, "a\nb\nc\n")])
    assert (out, guarded.refused) == ([], "verifier_failed")


def test_an_upstream_that_breaks_off_ends_the_response_without_what_was_held() -> None:
    guarded = Guarded(rule_guard("halt"), Context(), Doors())
    out = now(guarded.take([Wrote(channel=TEXT, text=SAID * 3)]))
    out += now(guarded.take([Broken(reason="cut_off")]))
    assert out[-1] == Blocked()
    assert guarded.account().failure == "upstream_cut_off"
    assert guarded.account().held > 0


def test_only_failures_of_checks_may_pass() -> None:
    with pytest.raises(InputError, match="cannot pass: upstream_stalled"):
        Guard(passed=frozenset({"upstream_stalled"}))


def test_text_that_no_check_reads_is_shown_as_bypassed() -> None:
    guarded, out = run(Guard(), [(TEXT, "Hi.")])
    assert texts(out)[TEXT] == "Hi."
    assert guarded.account().status == "bypassed"


# ------------------------------------------------------------------------------ the end, and on


def closing_monitor() -> Monitor:
    """A monitor whose last word is about the mean of the scores."""
    rng = np.random.default_rng(3)
    rows: dict[str, list[Any]] = {"trajectory_id": [], "step": [], "score": [], "label": []}
    for i in range(800):
        safe = i % 2
        for j, score in enumerate(rng.uniform(0.5, 1.0, 4) * (1.0 if safe else 0.6)):
            for name, value in zip(rows, (f"t{i}", j + 1, float(score), safe), strict=True):
                rows[name].append(value)
    made = tocsin.calibrate(
        tocsin.from_columns(**rows), epsilon=0.2, statistic="min_score", closing=True
    )
    return Monitor(made)


def test_a_check_at_the_end_can_still_withhold_the_last_step() -> None:
    monitor = closing_monitor()
    verifier = Scripted({"low": 0.55, "high": 0.95})
    guard = Guard(checks=(Check(name="c", verifier=verifier, monitor=monitor),))
    guarded, out = run(guard, [(TEXT, "high\nhigh\nhigh\nhigh\n")])
    assert texts(out)[TEXT] == "high\nhigh\nhigh\nhigh\n"
    guarded, out = run(guard, [(TEXT, "low\nlow\nlow\nlow and last")])
    assert guarded.alarms[0].closing
    assert texts(out)[TEXT] == "low\nlow\nlow\n"
    assert isinstance(out[-1], Blocked)


def test_a_conversation_that_rang_stays_rung() -> None:
    guard = monitored()
    trajectory = Trajectory(guard, Context())
    for text, ends in (("fine\n", Done), ("DANGER\n", Blocked)):
        guarded = Guarded(guard, Context(), Doors(), trajectory=trajectory)
        out = now(guarded.take([Wrote(channel=TEXT, text=text), Stopped(), Done()]))
        assert isinstance(out[-1], ends)
    guarded = Guarded(guard, Context(), Doors(), trajectory=trajectory)
    assert now(guarded.begin()) == [Opened(), Blocked()]
    assert guarded.alarms[0].step == 0


def test_offsets_of_a_later_turn_count_from_its_own_beginning() -> None:
    guard = rule_guard("mask")
    trajectory = Trajectory(guard, Context())
    for _ in range(3):
        guarded = Guarded(guard, Context(), Doors(), trajectory=trajectory)
        text = f"A {FORBIDDEN} b."
        out = now(guarded.take([Wrote(channel=TEXT, text=text), Stopped(), Done()]))
        assert texts(out)[TEXT] == "A [forbidden] b."
        assert guarded.alarms[0].start == 2


def test_a_receipt_is_json_without_any_of_the_text() -> None:
    guarded, _ = run(monitored(), [(TEXT, "a very private line\nDANGER\n")])
    raw = msgspec.json.encode(guarded.receipt(Who(id="r_1")))
    assert b"private" not in raw
    assert b"DANGER" not in raw
    assert json.loads(raw)["account"]["done"] == "halt"
