"""The audits find what was planted, find nothing where there is nothing, and say which is which."""

from __future__ import annotations

import math
import os
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record.audit_worlds import (
    DAY,
    DIGEST,
    START,
    alarm,
    at,
    ended,
    feedback,
    review,
    traffic,
)

from tocsin.errors import InputError
from tocsin.events.envelope import Event
from tocsin.events.kinds import (
    Body,
    CalibrationChanged,
    Decided,
    Failed,
    StreamEnded,
    StreamOpened,
    ToolReturned,
)
from tocsin.record.audit import clusters as clustering
from tocsin.record.audit.clusters import Clusters, Dimension, clusters
from tocsin.record.audit.drift import drift
from tocsin.record.audit.escalations import Route, escalations
from tocsin.record.audit.statistics import (
    distance,
    holm,
    tarone,
    upper_tail,
    weighted_share,
)
from tocsin.record.audit.threshold import RULE, CheckAlarms, threshold
from tocsin.risk.estimates import clopper_pearson

NULLS = int(os.environ.get("TOCSIN_AUDIT_NULLS", "60"))


def refuted(events: int, n: int, level: float) -> bool:
    """Whether so many events among n refute, one-sided at 1e-6, a rate of at most that level."""
    from scipy.stats import binom

    return bool(binom.sf(events - 1, n, level) < 1e-6)


# ------------------------------------------------------------------------------ the mathematics


def test_fishers_test_against_numbers_worked_out_by_hand() -> None:
    # Of 10, 4 rang; 5 are here. P(X >= 4) = C(5,4) C(5,0) / C(10,4) = 5/210.
    found = upper_tail(np.array([4, 0]), np.array([5, 5]), 4, 10)
    assert found == pytest.approx([5 / 210, 1.0])


@given(st.lists(st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)), min_size=1, max_size=30))
def test_tarone_is_never_harsher_than_bonferroni_and_never_below_the_raw_value(
    pairs: list[tuple[float, float]],
) -> None:
    least = np.array([min(pair) for pair in pairs])
    p = np.array([max(pair) for pair in pairs])
    found = tarone(p, least)
    assert 1 <= found.counted <= len(pairs)
    assert np.all(found.p >= np.minimum(1.0, p))
    testable = least <= 0.05 / found.counted
    assert int(testable.sum()) <= found.counted
    assert np.all(found.p[testable] <= np.minimum(1.0, p[testable] * len(pairs)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(values: list[float]) -> None:
    p = np.array(values)
    found = holm(p)
    assert np.all(found >= p) and np.all(found <= np.minimum(1, p * len(p)) + 1e-12)
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(found[order]) >= 0)


def test_equal_probabilities_give_the_exact_interval() -> None:
    hits = [True] * 5 + [False] * 45
    assert weighted_share(hits, [0.2] * 50) == (0.1, *clopper_pearson(5, 50, 0.9))


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.3, 0.9])), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_the_interval_holds_the_estimate_and_no_order_matters(
    cases: list[tuple[bool, float]], rng: Any
) -> None:
    hits, chances = zip(*cases, strict=True)
    estimate, low, high = weighted_share(hits, chances)
    assert 0.0 <= low <= estimate <= high <= 1.0
    mixed = list(cases)
    rng.shuffle(mixed)
    again = weighted_share([hit for hit, _ in mixed], [chance for _, chance in mixed])
    assert again == pytest.approx((estimate, low, high), abs=1e-6)
    other = weighted_share([not hit for hit in hits], chances)
    assert other == pytest.approx((1 - estimate, 1 - high, 1 - low), abs=1e-6)


def test_the_weighted_interval_covers_where_the_draw_favours_one_label() -> None:
    """An unweighted share would be .46; the truth is .3."""
    rng = np.random.default_rng(0)
    runs, missed, naive = 200, 0, 0
    for _ in range(runs):
        safe = rng.random(400) < 0.3
        chance = np.where(safe, 0.6, 0.3)
        chance = np.where(rng.random(400) < 0.3, 0.15, chance)
        drawn = rng.random(400) < chance
        _, low, high = weighted_share(safe[drawn].tolist(), chance[drawn].tolist())
        missed += not low <= 0.3 <= high
        low, high = clopper_pearson(int(safe[drawn].sum()), int(drawn.sum()), 0.9)
        naive += not low <= 0.3 <= high
    assert not refuted(missed, runs, 0.1)
    assert naive > runs / 2


@pytest.mark.parametrize(
    ("hits", "chances"), [([], []), ([True], [0.0]), ([True], [1.5]), ([True], [math.nan])]
)
def test_impossible_probabilities_are_refused(hits: list[bool], chances: list[float]) -> None:
    with pytest.raises(InputError):
        weighted_share(hits, chances)


def test_the_bound_on_a_distance_covers_the_true_one() -> None:
    rng = np.random.default_rng(1)
    over = sum(
        distance(rng.random(60), rng.random(80) * 0.8 + 0.2).at_most < 0.2 for _ in range(200)
    )
    assert not refuted(over, 200, 0.1)


# ------------------------------------------------------------------------------------- clusters


def dimension(found: Clusters, name: str) -> Dimension:
    return next(d for d in found.dimensions if d.name == name)


def test_a_route_that_rings_more_often_is_found() -> None:
    events = traffic(np.random.default_rng(0), 1200, rates={"a": 0.02, "b": 0.02, "c": 0.15})
    routes = dimension(clusters(events), "route")
    assert [cell.value for cell in routes.cells if cell.clusters] == ["c"]
    top = routes.cells[0]
    assert top.alarms.low is not None and top.elsewhere is not None
    assert top.alarms.low > top.elsewhere
    assert "'c'" in routes.verdict
    assert top.users > 10 and top.sessions == top.alarms.count


def test_nothing_is_found_where_there_is_nothing() -> None:
    wrong = 0
    for seed in range(NULLS):
        events = traffic(
            np.random.default_rng(seed), 400, rates=dict.fromkeys("abcd", 0.1), users=20
        )
        found = clusters(events)
        wrong += any(cell.clusters for d in found.dimensions for cell in d.cells)
    assert not refuted(wrong, NULLS, 0.05)


def test_one_person_who_rings_often_makes_no_route_dangerous() -> None:
    rng = np.random.default_rng(3)
    events = traffic(rng, 600, rates={"a": 0.02, "b": 0.02})
    for i in range(60):
        where: dict[str, Any] = {"route": "a", "session": "long", "user": "u_one"}
        events += [at(alarm(), f"x{i}", **where), at(ended(), f"x{i}", **where)]
    found = clusters(events)
    assert not any(cell.clusters for cell in dimension(found, "route").cells)
    assert [c.value for c in dimension(found, "user").cells if c.clusters] == ["u_one"]
    assert [c.value for c in dimension(found, "session").cells if c.clusters] == ["long"]


def test_a_prompt_that_rings_more_often_is_found_whatever_comes_first() -> None:
    rng = np.random.default_rng(11)
    events: list[Event] = []
    for i in range(600):
        prompt = f"p_{int(rng.integers(4))}"
        where: dict[str, Any] = {"user": f"u{i % 60}", "session": f"s{i}"}
        told = [at(StreamOpened(api="chat", prompt=prompt), f"c{i}", **where)]
        if rng.random() < (0.2 if prompt == "p_3" else 0.02):
            told.append(at(alarm(), f"c{i}", **where))
        told.append(at(ended(), f"c{i}", **where))
        events += [told[int(n)] for n in rng.permutation(len(told))]
    events.append(at(ended(), "silent"))
    prompts = dimension(clusters(events), "prompt")
    assert [cell.value for cell in prompts.cells if cell.clusters] == ["p_3"]
    assert prompts.unknown == 1


def test_one_person_who_asks_again_and_again_makes_no_prompt_dangerous() -> None:
    events: list[Event] = []
    for i in range(200):
        mine = i < 60
        prompt = StreamOpened(api="chat", prompt="p_mine" if mine else f"p_{i % 5}")
        user = "u_one" if mine else f"u{i}"
        told: list[Body] = [prompt, ended(), *([alarm()] if mine or i % 40 == 0 else [])]
        events += [at(body, f"c{i}", user=user) for body in told]
    found = clusters(events)
    assert not any(cell.clusters for cell in dimension(found, "prompt").cells)
    assert any(cell.clusters for cell in dimension(found, "user").cells)


def test_a_response_counts_once_however_often_it_rings() -> None:
    events = [at(alarm(step=i), "c0", START + i) for i in range(5)] + [at(ended(), "c0")]
    assert clusters(events).alarms.count == 1


def test_too_few_alarms_are_no_evidence_of_peace() -> None:
    events = traffic(np.random.default_rng(0), 30, rates={"a": 0.0, "b": 0.0})
    events.insert(0, at(alarm(), "c0", route="a", user="u1"))
    assert "too few alarms to tell" in dimension(clusters(events), "route").verdict


def test_rules_are_counted_and_not_tested() -> None:
    events: list[Event] = []
    for i, rule in enumerate(["key", "key", "card"]):
        events += [at(body, f"c{i}", user=f"u{i}") for body in (alarm(rule=rule), ended())]
    rules = dimension(clusters(events), "rule")
    assert not rules.tested
    assert [(c.value, c.alarms.count, c.users, c.p) for c in rules.cells] == [
        ("key", 2, 2, None),
        ("card", 1, 1, None),
    ]


def test_what_says_nothing_of_itself_is_a_blind_spot() -> None:
    events = [at(ended(), f"c{i}", route="unknown" if i < 3 else "a") for i in range(5)]
    assert dimension(clusters(events), "route").unknown == 3


def test_more_responses_than_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "AUDIT_RESPONSES_MAX", 2)
    with pytest.raises(InputError, match="shorter time"):
        clusters([at(ended(), f"c{i}") for i in range(3)])
    with pytest.raises(InputError, match="shorter time"):
        clusters([at(StreamOpened(api="chat", prompt="p"), f"c{i}") for i in range(3)])


# ---------------------------------------------------------------------------------------- drift


def scores(
    rng: np.random.Generator, days: int, each: int, shift: float = 0.0, since: int = 0
) -> list[Event]:
    """Scores of so many days; from day `since` on they are lower by `shift`."""
    return [
        at(
            ended(float(rng.beta(5, 2)) - (shift if day >= since else 0.0)),
            f"d{day}-{i}",
            START + day * DAY + i,
            session=f"d{day}-{i}",
        )
        for day in range(days)
        for i in range(each)
    ]


def test_a_shift_is_found_and_from_when_on() -> None:
    found = drift(scores(np.random.default_rng(0), 6, 120, shift=0.2, since=4))
    (check,) = found.checks
    assert [p.drifted for p in check.periods] == [False, False, False, True, True]
    assert "moved in 2 of 5 periods: lower" in check.verdict


def test_no_drift_is_seen_where_there_is_none() -> None:
    wrong = 0
    for seed in range(NULLS):
        found = drift(scores(np.random.default_rng(seed), 5, 60))
        wrong += any(p.drifted for check in found.checks for p in check.periods)
    assert not refuted(wrong, NULLS, 0.05)


def test_no_drift_comes_with_the_drift_that_might_be() -> None:
    (check,) = drift(scores(np.random.default_rng(5), 3, 400)).checks
    assert check.verdict.startswith("no drift seen in 2 periods; in none is the distance likely")
    assert all(0 < (p.at_most or 0) < 0.4 for p in check.periods)


def test_few_sessions_are_not_judged() -> None:
    (check,) = drift(scores(np.random.default_rng(0), 2, 20)).checks
    assert all(p.p is None for p in check.periods)
    assert "needed" in check.verdict or "needs" in check.verdict
    early = drift(scores(np.random.default_rng(0), 3, 50), reference_until_us=START - DAY)
    assert "0 sessions in the reference" in early.checks[0].verdict


def test_a_long_session_counts_once() -> None:
    events = scores(np.random.default_rng(0), 2, 50)
    events += [at(ended(0.01), f"x{i}", START + DAY + i, session="one") for i in range(500)]
    (check,) = drift(events).checks
    assert check.periods[0].n == 51
    assert not check.periods[0].drifted


def test_under_another_calibration_everything_begins_anew() -> None:
    rng = np.random.default_rng(0)
    events = scores(rng, 2, 40)
    for event in scores(rng, 2, 40, shift=0.4):
        segment = msgspec.structs.replace(event.segment, calibrations=("sha256:new",))
        events.append(
            msgspec.structs.replace(
                event,
                segment=segment,
                links=msgspec.structs.replace(event.links, session=f"n{event.links.session}"),
            )
        )
    changed = CalibrationChanged(check="linear", digest="sha256:new")
    events.append(at(changed, "x", START + DAY))
    found = drift(events)
    assert len(found.checks) == 2
    assert not any(p.drifted for check in found.checks for p in check.periods)
    assert [c.what for c in found.changes] == ["calibration of linear: sha256:new"]


def test_with_another_version_of_the_verifier_everything_begins_anew_and_it_is_named() -> None:
    def by(version: str, event: Event) -> Event:
        body = event.body
        assert isinstance(body, StreamEnded)
        body = msgspec.structs.replace(body, verifiers={"linear": f"v {version}"})
        return msgspec.structs.replace(event, body=body)

    rng = np.random.default_rng(0)
    old = [by("7", event) for event in scores(rng, 2, 40)]
    new = [by("8", e) for e in scores(rng, 4, 40, shift=0.4) if e.time_us >= START + 2 * DAY]
    found = drift([*old, at(alarm(), "x"), *new, by("7", at(ended(0.5), "y", START + 4 * DAY))])
    assert [(c.verifier, c.versions) for c in found.checks] == [("v 7", ("7",)), ("v 8", ())]
    assert not any(p.drifted for check in found.checks for p in check.periods)
    assert [c.what for c in found.changes] == ["verifier of linear: v 8, before v 7"]


def test_a_new_model_is_named_where_it_appears() -> None:
    events = scores(np.random.default_rng(0), 2, 40)
    segment = msgspec.structs.replace(events[-1].segment, model_version="2")
    events[-1] = msgspec.structs.replace(events[-1], segment=segment)
    assert drift(events).checks[0].periods[0].new_models == ("m 2",)


@pytest.mark.parametrize("period", [0, 1])
def test_periods_have_a_length_and_an_end(period: int) -> None:
    with pytest.raises(InputError):
        drift(scores(np.random.default_rng(0), 2, 40), period_us=period)


# ------------------------------------------------------------------------------------ threshold


def alarms(n: int, labels: list[Any], quiet: int = 0) -> list[Event]:
    """n alarms, of which the first were reviewed, and some responses without."""
    events = []
    for i in range(n):
        events += [at(alarm(), f"c{i}"), at(ended(), f"c{i}")]
        if i < len(labels) and labels[i] is not None:
            events.append(at(labels[i], f"c{i}", START + 1))
    return events + [at(ended(), f"quiet{i}") for i in range(quiet)]


def only(events: list[Event], **how: Any) -> CheckAlarms:
    (found,) = threshold(events, **how).checks
    return found


def test_nothing_is_said_of_alarms_that_nobody_reviewed() -> None:
    found = only(alarms(10, []))
    assert (found.basis, found.low, found.false_share) == ("none", None, None)
    assert "nobody knows" in found.verdict


def test_chosen_reviews_give_bounds_that_hold_whatever_the_rest_is() -> None:
    found = only(alarms(10, [review("safe"), review("unsafe"), review("unsafe")]))
    assert (found.basis, found.false_share) == ("bounds", None)
    assert (found.low, found.high) == (0.1, 0.8)
    assert "whatever the 7 are" in found.verdict


def test_all_reviewed_is_a_census_with_an_exact_interval() -> None:
    found = only(alarms(10, [review("safe")] * 3 + [review("unsafe")] * 7))
    assert (found.basis, found.false_share) == ("census", 0.3)
    assert (found.low, found.high) == clopper_pearson(3, 10, 0.9)


def test_unclear_labels_widen_the_interval() -> None:
    sure = only(alarms(10, [review("safe")] * 3 + [review("unsafe")] * 7))
    found = only(alarms(10, [review("safe")] * 3 + [review("unclear")] + [review("unsafe")] * 6))
    assert found.false_share is None and found.low == sure.low
    assert found.high is not None and sure.high is not None and found.high > sure.high


def test_drawn_reviews_are_weighted() -> None:
    labels = [review("safe", 0.5)] * 10 + [review("unsafe", 0.1)] * 10
    found = only(alarms(200, labels))
    assert found.basis == "sample" and found.drawn == 20
    assert found.false_share == pytest.approx(20 / 120)
    assert found.low is not None and found.high is not None
    assert found.low < 20 / 120 < found.high
    assert "drawn with the probabilities" in found.assumption


def test_the_last_review_of_a_case_counts_with_the_chance_of_its_draw() -> None:
    events = alarms(4, [review("safe", 0.5)])
    events.append(at(review("unsafe"), "c0", START + 9))
    found = only(events)
    assert (found.reviewed, found.safe, found.unsafe, found.drawn) == (1, 0, 1, 1)


@pytest.mark.parametrize(
    ("false", "quiet", "said"),
    [
        (80, 100, "more than the 5 % that were promised"),
        (2, 100_000, "less than half of the 5 % that were promised"),
        (30, 900, "compatible with the 5 % that were promised"),
    ],
)
def test_the_promise_is_compared_with_what_happened(false: int, quiet: int, said: str) -> None:
    labels = [review("safe")] * false + [review("unsafe")] * (100 - false)
    assert said in only(alarms(100, labels, quiet), epsilon=0.05).verdict


def test_a_rule_has_no_promise_and_is_apart() -> None:
    events = [at(alarm(calibration=None, rule="key"), "c0"), at(ended(), "c0")]
    found = only(events, epsilon=0.05)
    assert (found.calibration, found.epsilon) == (RULE, None)
    assert [c.calibration for c in threshold([*events, *alarms(2, [])]).checks] == [RULE, DIGEST]


def test_unsafe_responses_that_nobody_stopped_are_counted() -> None:
    events = [at(ended(), "c0"), at(review("unsafe"), "c0"), at(ended(), "c1")]
    assert threshold(events).missed == 1
    assert threshold(events).checks == ()


@pytest.mark.parametrize("epsilon", [0.0, 1.0, math.nan])
def test_a_promise_is_a_rate(epsilon: float) -> None:
    with pytest.raises(InputError):
        threshold([], epsilon=epsilon)


# ---------------------------------------------------------------------------------- escalations


def route(events: list[Event], path: str, **how: Any) -> Route:
    return next(r for r in escalations(events, **how).routes if r.path == path)


def test_a_stronger_check_upholds_overrules_or_stays_silent() -> None:
    silent = Failed(failure="appeal_unanswered", phase="mid_stream", response="stop")
    events = [
        at(alarm(wanted="escalate", done="halt"), "upheld"),
        at(alarm(wanted="escalate", done="escalate", overruled=True), "overruled"),
        at(alarm(wanted="escalate", done="halt"), "silent"),
        at(silent, "silent"),
        at(alarm(wanted="escalate", done="shadow"), "passed"),
        at(alarm(wanted="escalate", done="shadow"), "watched"),
        at(ended(mode="observe"), "watched"),
        at(alarm(wanted="halt", done="halt"), "other"),
    ]
    found = route(events, "stronger check")
    assert (found.asked, found.upheld, found.overruled) == (4, 1, 1)
    assert (found.unanswered, found.bypassed, found.observed) == (1, 1, 1)
    told = {a.what: a.examples for a in escalations(events).astray}
    assert told == {
        "stronger check: nobody answered while the stream waited": ("silent",),
        "stronger check: wanted, and let pass without an answer": ("passed",),
    }


def test_users_are_answered_in_time_late_or_not_at_all() -> None:
    hour = DAY // 24
    events = [
        at(feedback("appeal"), "quick"),
        at(review("safe"), "quick", START + hour),
        at(feedback("report"), "late"),
        at(review("unsafe"), "late", START + 30 * hour),
        at(feedback("escalate"), "never"),
        at(feedback("up"), "content"),
        at(feedback("report"), "new", START + 39 * hour),
    ]
    found = escalations(events, until_us=START + 40 * hour)
    (user,) = found.routes
    assert (user.asked, user.overruled, user.upheld, user.unanswered, user.open) == (4, 1, 1, 1, 1)
    assert (user.median_us, user.slowest_us) == (30 * hour, None)
    assert user.answered.count == 2 and user.answered.n == 3
    assert {a.what: a.count for a in found.astray} == {
        "user: answered too late": 1,
        "user: nobody answered in time": 1,
    }
    assert found.verdict == "not as designed in 2 of 4 cases"
    assert found.times_us == (hour, 30 * hour)


def tool(call: str, action: Any, time_us: int = START) -> Event:
    decided = Decided(about="tool", verdict="require_approval", action=action)
    event = at(decided, call, time_us)
    return msgspec.structs.replace(
        event, links=msgspec.structs.replace(event.links, tool_call="t1")
    )


def returned(call: str, time_us: int) -> Event:
    event = at(ToolReturned(tool="pay", ok=True), call, time_us)
    return msgspec.structs.replace(
        event, links=msgspec.structs.replace(event.links, tool_call="t1")
    )


def test_what_needs_an_approval_is_not_done_without() -> None:
    events = [
        tool("approved", "require_approval"),
        at(review("safe"), "approved", START + 1),
        returned("approved", START + 2),
        tool("rushed", "require_approval"),
        returned("rushed", START + 1),
        at(review("safe"), "rushed", START + 2),
        tool("allowed", "allow"),
        tool("refused", "refuse"),
        tool("waiting", "require_approval"),
    ]
    found = route(events, "approval")
    assert (found.asked, found.overruled, found.upheld) == (5, 1, 1)
    assert (found.bypassed, found.unanswered) == (2, 1)
    astray = {a.what: a.examples for a in escalations(events).astray}
    assert astray["approval: wanted, and done without"] == ("rushed", "allowed")


def test_a_path_used_as_designed_is_said_to_be() -> None:
    events = [at(feedback("appeal"), "c"), at(review("unsafe"), "c", START + 1)]
    assert escalations(events).verdict.startswith("used as designed: all 1 ")
    assert escalations(events).astray == ()


def test_an_answer_takes_time() -> None:
    with pytest.raises(InputError):
        escalations([], within_us=0)
