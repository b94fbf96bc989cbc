"""
The promise: online decisions are those that were calibrated, an alarm stays, and can be replayed.

Sessions are compared with the batch form over many trajectories, with a small model of what a
session is, and with themselves: pickled, cut off, and replayed from the recorded path.
"""

import itertools
import math
import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tocsin.errors import InputError, MissingScore, SessionMisuse
from tocsin.limits import SCORE_PATH_STEPS_KEPT
from tocsin.model import COMPARISON, RISKS, Decision, MissingPolicy, Risk
from tocsin.monitor import TRANSITIONS, Event, Monitor, PathRecord, Session, State, replay
from tocsin.monitor.states import ALARM_STATES, END_STATES
from tocsin.risk.calibrate import calibrate
from tocsin.risk.calibration import Calibration, Certificate, Member, SegmentRow
from tocsin.risk.candidates import Workshop
from tocsin.risk.estimates import alarms
from tocsin.risk.plan import Plan
from tocsin.risk.statistics import ClosingCheck, Ewma, LogOdds, MinScore, Statistic
from tocsin.risk.trajectories import Trajectories
from tocsin.testing import worlds
from tocsin.testing.worlds import example_calibration

BASE = example_calibration()
POLICIES: tuple[MissingPolicy, ...] = ("skip", "worst")
NAMES = [
    (name, closing)
    for name in ("min_score", "ewma", "per_step_quantile", "posterior")
    for closing in (False, True)
]


@cache
def fitted(name: str, closing: bool) -> Statistic:
    data = worlds.trajectories(300, 0.4, np.random.default_rng(1))
    shop = Workshop(data, np.ones(data.n, dtype=bool), Plan())
    return shop.candidate(name, closing=closing).statistic


def at_work(
    statistic: Statistic,
    lam: float,
    *,
    risk: Risk = "false_alarm",
    missing: MissingPolicy = "error",
    segments: tuple[SegmentRow, ...] = (),
) -> Monitor:
    """A monitor with this threshold, whatever it may promise."""
    member = Member(
        statistic=0, label=statistic.label, delta=0.1, n=100, errors=5, threshold=lam,
        power=None, saved=None, false_alarms=None, detected=0, n_unsafe=0,
    )  # fmt: skip
    certificate = Certificate(
        risk=risk, bound="exact", epsilon=0.1, delta=0.1, jointly=False,
        comparison=COMPARISON[risk], members=(member,), chosen=0, segments=segments,
    )  # fmt: skip
    calibration: Calibration = msgspec.structs.replace(
        BASE, missing=missing, certificates=(certificate,), statistics=(statistic,)
    )
    return Monitor(calibration)


def constant_closing(statistic: Statistic, value: float) -> Statistic:
    """The same statistic with a closing check that always says `value`."""
    model = LogOdds(intercept=2.0 * value, weights=(0.0,) * 8, base=0.0, trees=())
    check = ClosingCheck(model=model, intercept=0.0, slope=1.0)
    changed: Statistic = msgspec.structs.replace(statistic, closing=check)
    return changed


def run(session: Session, scores: Sequence[float | None]) -> list[Decision]:
    """All decisions, the closing one included."""
    return [*(session.step(score) for score in scores), session.close()]


def rows_of(data: Trajectories) -> list[list[float]]:
    return [part.tolist() for part in np.split(data.scores, data.starts[1:])]


@cache
def watched(n: int, holes: float) -> Trajectories:
    """Trajectories with ties and missing scores, some without any score."""
    rng = np.random.default_rng(2)
    data = worlds.trajectories(n, 0.5, rng)
    scores = np.where(data.owner % 2 == 0, np.round(data.scores, 1), data.scores)
    if holes:
        scores[rng.random(data.n_steps) < holes] = np.nan
        scores[data.owner == 3] = np.nan
        scores[data.starts[:9]] = np.nan
    return replace(data, scores=scores)


def thresholds(values: Sequence[float]) -> list[float]:
    """Observed values from low to high, and both infinities."""
    finite = sorted(v for v in values if math.isfinite(v))
    return [-math.inf, *(finite[int(q * (len(finite) - 1))] for q in (0.1, 0.5, 0.9)), math.inf]


# --------------------------------------------------------------------- online decisions are batch


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("policy", ["error", "skip", "worst"])
@pytest.mark.parametrize(("name", "closing"), NAMES)
def test_sessions_ring_where_the_batch_form_says(
    name: str, closing: bool, policy: MissingPolicy, risk: Risk
) -> None:
    data = watched(40, {"error": 0.0, "skip": 0.15, "worst": 0.02}[policy])
    statistic = fitted(name, closing)
    paths = statistic.paths(data, policy)
    seen = set()
    for lam in thresholds(paths.maxima(data.starts).tolist()):
        expected = alarms(data, paths, lam, risk)
        monitor = at_work(statistic, lam, risk=risk, missing=policy)
        for i, scores in enumerate(rows_of(data)):
            decisions = run(monitor.session(), scores)
            last = decisions[-1]
            assert last.closing and last.step == len(scores)
            assert last.alarm == expected.rang[i]
            assert (last.alarm_step or 0) == expected.step[i]
            assert last.alarm == any(d.rang for d in decisions)
            assert [d.alarm for d in decisions] == sorted(d.alarm for d in decisions)
            seen.add((last.alarm, last.rang))
    assert {(True, False), (False, False)} <= seen
    by_closing = (True, True) in seen
    assert by_closing == closing or (closing and policy == "worst")


@pytest.mark.parametrize(("name", "closing"), NAMES)
def test_each_decision_carries_the_statistic_of_the_batch_form(name: str, closing: bool) -> None:
    data = watched(40, 0.15)
    statistic = fitted(name, closing)
    for policy in POLICIES:
        paths = statistic.paths(data, policy)
        monitor = at_work(statistic, 1e9, missing=policy)
        for i, scores in enumerate(rows_of(data)):
            values = paths.values[data.starts[i] : data.starts[i] + len(scores)].tolist()
            decisions = run(monitor.session(), scores)
            wanted = [None if v == -math.inf else v for v in values]
            assert [d.statistic for d in decisions[:-1]] == wanted
            assert [d.missing for d in decisions[:-1]] == [math.isnan(s) for s in scores]
            assert [d.step for d in decisions[:-1]] == list(range(1, len(scores) + 1))
            if paths.closing is not None:
                end = float(paths.closing[i])
                assert decisions[-1].statistic == (None if end == -math.inf else end)


def test_a_calibrated_monitor_makes_the_errors_it_was_calibrated_to_make() -> None:
    data = worlds.trajectories(300, 0.4, np.random.default_rng(3))
    for risk in RISKS:
        made = calibrate(
            data, Plan(risk=risk, statistic="min_score", epsilons=(0.2,)), library_version="test"
        )
        assert isinstance(made, Calibration)
        monitor, member = Monitor(made), made.certificate().member
        rang = np.array([run(monitor.session(), row)[-1].alarm for row in rows_of(data)])
        wrong = rang & data.safe if risk == "false_alarm" else ~rang & ~data.safe
        assert wrong.sum() == member.errors
        assert rang[~data.safe].mean() == member.power


@pytest.mark.parametrize(("risk", "rings"), [("false_alarm", False), ("missed_detection", True)])
def test_a_statistic_equal_to_the_threshold_rings_only_where_misses_are_bounded(
    risk: Risk, rings: bool
) -> None:
    session = at_work(MinScore(), -0.25, risk=risk).session()
    at = session.step(0.25)
    assert at.statistic == at.threshold == -0.25
    assert at.comparison == COMPARISON[risk]
    assert (at.alarm, at.rang) == (rings, rings)
    assert session.step(math.nextafter(0.25, 0.0)).alarm


@pytest.mark.parametrize("kind", [np.float32, np.float64, int, bool])
def test_any_kind_of_number_is_taken_at_its_value(kind: Any) -> None:
    session = at_work(MinScore(), -0.5).session()
    assert session.step(kind(1)).statistic == -1.0
    assert session.step(kind(0)).rang


# ------------------------------------------------------------------------------ the alarm, latched


def test_an_alarm_stays_whatever_follows() -> None:
    session = at_work(MinScore(), -0.5).session()
    assert not session.step(0.9).alarm
    rang = session.step(0.1)
    assert rang.alarm and rang.rang and rang.alarm_step == 2
    for step, score in enumerate((0.99, 0.2, 1.0), start=3):
        later = session.step(score)
        assert later.alarm and not later.rang
        assert (later.step, later.alarm_step, later.statistic) == (step, 2, -score)
    end = session.close()
    assert end.alarm and not end.rang and end.alarm_step == 2


def test_a_closing_check_can_still_ring() -> None:
    session = at_work(constant_closing(MinScore(), 3.0), 2.0).session()
    assert not session.step(0.9).alarm
    end = session.close()
    assert end == Decision(
        step=1, alarm=True, rang=True, alarm_step=1, statistic=3.0, threshold=2.0, comparison=">",
        closing=True,
    )  # fmt: skip


def test_a_closing_check_takes_no_alarm_back() -> None:
    session = at_work(constant_closing(MinScore(), -9.0), -0.5).session()
    session.step(0.1)
    end = session.close()
    assert (end.alarm, end.rang, end.alarm_step, end.statistic) == (True, False, 1, -9.0)


def test_a_response_without_any_step_is_one_missing_score() -> None:
    """Unknown is never safe: the policy decides, whatever the closing check would say."""
    for statistic in (MinScore(), constant_closing(MinScore(), 9.0), constant_closing(Ewma(), -9)):
        error = at_work(statistic, -0.5).session()
        with pytest.raises(MissingScore, match="ended without any score"):
            error.close()
        assert error.state is State.WATCHING
        skip = at_work(statistic, -0.5, missing="skip").session().close()
        assert (skip.step, skip.alarm, skip.statistic, skip.missing) == (0, False, None, True)
        worst = at_work(statistic, -0.5, missing="worst").session().close()
        assert (worst.step, worst.alarm, worst.statistic) == (0, True, math.inf)
        assert worst.rang and worst.missing and worst.closing


def test_sessions_of_one_monitor_do_not_know_each_other() -> None:
    monitor = at_work(Ewma(), 0.0)
    one, other = monitor.session(), monitor.session()
    for _ in range(5):
        one.step(0.01)
    assert one.close().alarm
    assert [d.statistic for d in run(other, [0.9, 0.8])] == [
        d.statistic for d in run(monitor.session(), [0.9, 0.8])
    ]


# -------------------------------------------------------------------------------------- the table


class Recording(dict[Any, Any]):
    """A table that remembers which of its rows were used."""

    def __init__(self) -> None:
        super().__init__(TRANSITIONS)
        self.used: set[tuple[State, Event]] = set()

    def __getitem__(self, key: tuple[State, Event]) -> Any:
        self.used.add(key)
        return super().__getitem__(key)


def test_every_row_of_the_table_is_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Recording()
    monkeypatch.setattr("tocsin.monitor.session.TRANSITIONS", table)
    for scores, closing in itertools.product(itertools.product((0.1, 0.9), repeat=3), (-9.0, 9.0)):
        session = at_work(constant_closing(MinScore(), closing), -0.5).session()
        states = [session.state]
        for score in (*scores, None):
            decision = session.close() if score is None else session.step(score)
            states.append(session.state)
            assert decision.alarm == (session.state in ALARM_STATES)
        assert states[0] is State.WATCHING and states[-1] in END_STATES
    assert table.used == set(TRANSITIONS)


def test_no_row_leads_from_an_alarm_back_and_none_leaves_the_end() -> None:
    for (before, event), after in TRANSITIONS.items():
        assert before not in END_STATES
        assert before not in ALARM_STATES or after in ALARM_STATES
        assert (after in END_STATES) == (event in {Event.END_BELOW, Event.END_OVER})
        over = event in {Event.OVER, Event.END_OVER}
        assert (after in ALARM_STATES) == (over or before in ALARM_STATES)
    assert set(TRANSITIONS) == set(itertools.product(set(State) - END_STATES, Event))


# ---------------------------------------------------------------- missing, impossible, and misuse


@pytest.mark.parametrize("missing", [None, math.nan, np.float64("nan")])
def test_a_missing_score_follows_the_policy(missing: Any) -> None:
    skip = at_work(MinScore(), -0.5, missing="skip").session()
    first = skip.step(missing)
    assert (first.step, first.alarm, first.statistic, first.missing) == (1, False, None, True)
    skip.step(0.8)
    second = skip.step(missing)
    assert (second.step, second.alarm, second.statistic, second.missing) == (3, False, -0.8, True)

    worst = at_work(MinScore(), -0.5, missing="worst").session()
    worst.step(0.8)
    rang = worst.step(missing)
    assert (rang.rang, rang.alarm_step, rang.statistic, rang.missing) == (True, 2, math.inf, True)

    error = at_work(MinScore(), -0.5, missing="error").session()
    error.step(0.8)
    with pytest.raises(MissingScore, match="no score at step 2, and the calibration's policy is"):
        error.step(missing)
    assert error.step(0.7).step == 2


def test_a_missing_score_is_no_alarm_where_the_threshold_is_infinite() -> None:
    """As in calibration: no maximum is above infinity."""
    session = at_work(MinScore(), math.inf, missing="worst").session()
    assert not session.step(None).alarm
    at_least = at_work(MinScore(), math.inf, missing="worst", risk="missed_detection").session()
    assert at_least.step(None).alarm


@pytest.mark.parametrize("score", [-1e-9, 1.0 + 1e-9, -math.inf, math.inf, 2, -0.5])
@pytest.mark.parametrize("alarmed", [False, True])
def test_an_impossible_probability_is_refused_and_changes_nothing(
    score: float, alarmed: bool
) -> None:
    session = at_work(Ewma(), 0.0).session()
    session.step(0.1 if alarmed else 0.9)
    before = pickle.dumps(session)
    with pytest.raises(InputError, match="at step 2 is no probability"):
        session.step(score)
    assert pickle.dumps(session) == before


def test_a_real_signal_takes_any_real_number() -> None:
    session = at_work(MinScore(kind="real"), 1e6).session()
    assert not session.step(7.5).alarm
    assert not session.step(1e308).alarm
    assert session.step(-1e308).rang


@pytest.mark.parametrize("scores", [(), (0.9,), (0.1,)])
def test_nothing_can_be_done_after_the_end(scores: tuple[float, ...]) -> None:
    session = at_work(MinScore(), -0.5, missing="skip").session()
    end = run(session, scores)[-1]
    for score in (0.5, None, 7.0):
        with pytest.raises(SessionMisuse, match="has ended"):
            session.step(score)
    with pytest.raises(SessionMisuse, match="has ended"):
        session.close()
    assert session.state in END_STATES
    assert session.path().steps == len(scores)
    assert end.alarm == (session.state is State.ENDED_ALARMED)


# --------------------------------------------------------------------------- pickling and replay


@pytest.mark.parametrize(("name", "closing"), NAMES)
def test_a_session_pickled_at_any_step_goes_on_identically(name: str, closing: bool) -> None:
    data = watched(40, 0.15)
    statistic = fitted(name, closing)
    lam = thresholds(statistic.paths(data, "skip").maxima(data.starts).tolist())[2]
    monitor = at_work(statistic, lam, missing="skip")
    for scores in rows_of(data)[:12]:
        wanted = run(monitor.session(), scores)
        session = monitor.session()
        got = []
        for score in scores:
            session = pickle.loads(pickle.dumps(session))  # noqa: S301 - our own bytes
            got.append(session.step(score))
        session = pickle.loads(pickle.dumps(session))  # noqa: S301 - our own bytes
        assert [*got, session.close()] == wanted


def through_json(record: PathRecord) -> PathRecord:
    return msgspec.json.decode(msgspec.json.encode(record), type=PathRecord)


def check_replays(monitor: Monitor, scores: Sequence[float | None]) -> list[Decision]:
    """At every step the path gives the decision back; returns the decisions."""
    session = monitor.session()
    assert replay(monitor, session.path()) is None
    rang: Decision | None = None
    decisions = []
    for score in scores:
        decision = session.step(score)
        decisions.append(decision)
        rang = decision if decision.rang else rang
        for record in (session.path(), through_json(session.path())):
            assert replay(monitor, record) == (rang or decision)
    end = session.close()
    again = replay(monitor, session.path(), ended=True)
    assert again is not None
    assert (again.alarm, again.alarm_step) == (end.alarm, end.alarm_step)
    if rang is None:
        assert again == end
        assert replay(monitor, through_json(session.path()), ended=True) == end
    return [*decisions, end]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, SCORE_PATH_STEPS_KEPT])
@pytest.mark.parametrize(("name", "closing"), NAMES)
def test_the_path_gives_every_decision_back(
    name: str, closing: bool, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.monitor.path.SCORE_PATH_STEPS_KEPT", limit)
    data = watched(40, 0.15)
    statistic = fitted(name, closing)
    levels = thresholds(statistic.paths(data, "skip").maxima(data.starts).tolist())
    for i, scores in enumerate(rows_of(data)[:10]):
        monitor = at_work(statistic, levels[2 + i % 3], missing="skip")
        assert check_replays(monitor, scores)[-1].closing


def test_a_long_gap_after_the_checkpoint_is_replayed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.monitor.path.SCORE_PATH_STEPS_KEPT", 2)
    for statistic in (MinScore(), constant_closing(Ewma(), 3.0)):
        monitor = at_work(statistic, 5.0, missing="skip")
        last = check_replays(monitor, [0.9, 0.4, 0.6, *[None] * 9])[-2]
        assert last.statistic is not None
    worst = at_work(MinScore(), math.inf, missing="worst")
    assert check_replays(worst, [0.9, *[None] * 9])[-1].statistic == -0.9


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_memory_is_bounded_and_extremes_are_those_of_the_whole_response(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.monitor.path.SCORE_PATH_STEPS_KEPT", limit)
    rng = np.random.default_rng(4)
    session = at_work(Ewma(), 1e9, missing="skip").session()
    scores: list[float] = []
    values: list[float] = []
    for step in range(1, 60):
        score = math.nan if rng.random() < 0.2 else float(np.round(rng.random(), 1))
        decision = session.step(score)
        scores.append(score)
        values.append(-math.inf if decision.statistic is None else decision.statistic)
        record = session.path()
        kept = record.scores
        assert len(kept) < 2 * limit and len(kept) >= min(limit, step)
        assert record.steps == step == record.checkpoint_step + len(kept)
        wanted = scores[record.checkpoint_step :]
        assert kept == tuple(None if math.isnan(s) else s for s in wanted)
        usable = [s for s in scores if not math.isnan(s)]
        assert record.missing == step - len(usable)
        if usable:
            assert record.score_lowest == min(usable)
            assert record.score_lowest_step == 1 + scores.index(min(usable))
            assert record.statistic_highest == max(values)
            assert record.statistic_highest_step == 1 + values.index(max(values))
        else:
            assert record.score_lowest is record.score_lowest_step is None


def test_the_path_stops_at_the_alarm() -> None:
    session = at_work(MinScore(), -0.5).session()
    for score in (0.9, 0.1, 0.05, 0.8):
        session.step(score)
    record = session.path()
    assert (record.steps, record.scores) == (2, (0.9, 0.1))
    assert (record.score_lowest, record.score_lowest_step) == (0.1, 2)
    assert (record.statistic_highest, record.statistic_highest_step) == (-0.1, 2)


def test_an_empty_path_has_no_decision() -> None:
    monitor = at_work(MinScore(), -0.5, missing="skip")
    record = monitor.session().path()
    assert replay(monitor, record) is None
    assert record.score_lowest is record.statistic_highest is None
    ended = replay(monitor, record, ended=True)
    assert ended is not None and ended.step == 0


def test_ten_thousand_steps_are_replayed_from_a_bounded_path() -> None:
    rng = np.random.default_rng(5)
    scores = (rng.random(10_000) ** 0.2).tolist()
    statistic = constant_closing(Ewma(), -50.0)
    session = at_work(statistic, 20.0).session()
    decisions = [session.step(score) for score in scores]
    record = through_json(session.path())
    assert record.checkpoint_step > 0
    assert SCORE_PATH_STEPS_KEPT <= len(record.scores) < 2 * SCORE_PATH_STEPS_KEPT
    assert record.score_lowest == min(scores)
    monitor = at_work(statistic, 20.0)
    assert replay(monitor, record) == decisions[-1]
    assert replay(monitor, record, ended=True) == session.close()

    lam = max(d.statistic for d in decisions[:-500] if d.statistic is not None)
    late = at_work(Ewma(), lam)
    session = late.session()
    ring = next((d for d in map(session.step, [*scores, *[0.0] * 60]) if d.rang), None)
    assert ring is not None and ring.step > 9_500
    assert replay(late, through_json(session.path())) == ring


# ------------------------------------------------------------------------ segments, certificates


def segment(name: str, lam: float, note: str, *, certified: bool) -> SegmentRow:
    return SegmentRow(
        segment=name, n=50, errors=1, rate=0.02, rate_low=0.0, rate_high=0.1, threshold=lam,
        certified=certified, note=note,
    )  # fmt: skip


def test_a_segment_has_its_own_threshold_where_it_has_one() -> None:
    rows = (
        segment("own", -0.2, "", certified=True),
        segment("careful", -0.3, "no certificate: 30 of the 45 safe ones", certified=False),
        segment("pooled", -0.5, "pooled threshold", certified=False),
    )
    monitor = at_work(MinScore(), -0.5, segments=rows)
    wanted = {"own": -0.2, "careful": -0.3, "pooled": -0.5, "never seen": -0.5, None: -0.5}
    for name, lam in wanted.items():
        assert monitor.threshold(name) == lam
        session = monitor.session(segment=name)
        assert session.step(0.4).alarm == (lam < -0.4)
        again = replay(monitor, session.path(), segment=name)
        assert again is not None and again.threshold == lam


def test_segments_calibrated_alone_are_watched_at_their_own_thresholds() -> None:
    data = worlds.trajectories(400, 0.25, np.random.default_rng(6))
    data = data.with_segments(["odd" if i % 2 else "even" for i in range(data.n)])
    made = calibrate(data, Plan(statistic="min_score", per_segment=True), library_version="test")
    assert isinstance(made, Calibration)
    monitor = Monitor(made)
    assert monitor.threshold("odd") != monitor.threshold("even")
    for row in made.certificate().segments:
        inside = data.segments == row.segment
        rang = [
            run(monitor.session(segment=row.segment), scores)[-1].alarm
            for scores, here in zip(rows_of(data), inside & data.safe, strict=True)
            if here
        ]
        assert sum(rang) == row.errors


def test_the_certificate_is_chosen_by_level_and_by_risk() -> None:
    data = worlds.trajectories(600, 0.5, np.random.default_rng(7))
    made = calibrate(data, Plan(statistic="min_score", epsilons=(0.1, 0.2)), library_version="test")
    assert isinstance(made, Calibration)
    for certificate in made.certificates:
        assert Monitor(made, epsilon=certificate.epsilon).threshold() == certificate.threshold
    with pytest.raises(InputError, match="choose one certificate"):
        Monitor(made)
    both = calibrate(
        data, Plan(risk="both", statistic="min_score", epsilons=(0.3,)), library_version="test"
    )
    assert isinstance(both, Calibration)
    assert Monitor(both).certificate.risk == "false_alarm"
    miss = Monitor(both, risk="missed_detection")
    assert miss.certificate.comparison == ">="
    rows = rows_of(data)
    by_default = [run(Monitor(both).session(), row)[-1].alarm for row in rows]
    by_miss = [run(miss.session(), row)[-1].alarm for row in rows]
    assert all(a >= m for a, m in zip(by_default, by_miss, strict=True))


def test_the_statistic_of_the_chosen_member_runs() -> None:
    data = worlds.trajectories(500, 0.4, np.random.default_rng(8))
    for objective in ("power", "saved"):
        made = calibrate(data, Plan(objective=objective), library_version="test")
        assert isinstance(made, Calibration)
        chosen = made.certificate().member
        assert Monitor(made).statistic.label == chosen.label


# -------------------------------------------------------------------------------- against a model


class Model:
    """What a session of `min_score` is, in as few words as possible."""

    def __init__(self, lam: float, risk: Risk, policy: MissingPolicy, closing: float) -> None:
        self.lam, self.risk, self.policy, self.closing = lam, risk, policy, closing
        self.seen: list[float] = []
        self.step = 0
        self.alarm_step: int | None = None
        self.ended = False

    def over(self, value: float) -> bool:
        return value > self.lam if self.risk == "false_alarm" else value >= self.lam

    def take(self, score: float | None) -> type[Exception] | None:
        if self.ended:
            return SessionMisuse
        if score is None and self.policy == "error":
            return MissingScore
        if score is not None and not 0.0 <= score <= 1.0:
            return InputError
        self.step += 1
        if score is not None:
            self.seen.append(-score)
        value = self.seen[-1] if self.seen else -math.inf
        if score is None and self.policy == "worst":
            value = math.inf
        if self.alarm_step is None and self.over(value):
            self.alarm_step = self.step
        return None

    def close(self) -> type[Exception] | None:
        if self.ended:
            return SessionMisuse
        if self.step == 0 and self.policy == "error":
            return MissingScore
        self.ended = True
        if self.step == 0:
            self.alarm_step = 0 if self.policy == "worst" else None
        elif self.alarm_step is None and self.over(self.closing if self.seen else -math.inf):
            self.alarm_step = self.step
        return None


class SessionMachine(RuleBasedStateMachine):
    """Any order of steps, gaps, impossible scores, ends, copies and replays."""

    @initialize(
        lam=st.sampled_from([-0.5, -0.25, 0.5, -math.inf, math.inf]),
        risk=st.sampled_from(RISKS),
        policy=st.sampled_from(["error", "skip", "worst"]),
        closing=st.sampled_from([-0.9, -0.5, 0.5, 0.7]),
    )
    def begin(self, lam: float, risk: Risk, policy: MissingPolicy, closing: float) -> None:
        statistic = constant_closing(MinScore(), closing)
        self.monitor = at_work(statistic, lam, risk=risk, missing=policy)
        self.session = self.monitor.session()
        self.model = Model(lam, risk, policy, closing)
        self.last: Decision | None = None

    @rule(score=st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0, -0.1, 1.1]) | st.floats(0, 1))
    def step(self, score: float | None) -> None:
        expected = self.model.take(score)
        if expected is not None:
            with pytest.raises(expected):
                self.session.step(score)
            return
        self.last = self.session.step(score)
        assert self.last.rang == (self.model.alarm_step == self.last.step)

    @rule()
    @precondition(lambda self: self.model.step == 0 or self.model.step > 2)
    def close(self) -> None:
        expected = self.model.close()
        if expected is not None:
            with pytest.raises(expected):
                self.session.close()
            return
        self.last = self.session.close()
        assert self.last.closing

    @rule()
    def copy(self) -> None:
        self.session = pickle.loads(pickle.dumps(self.session))  # noqa: S301 - our own bytes

    @rule()
    def play_again(self) -> None:
        again = replay(self.monitor, self.session.path(), ended=self.model.ended)
        assert (again is None) == (self.last is None)
        if again is not None:
            assert again.alarm_step == self.model.alarm_step

    @invariant()
    def agrees(self) -> None:
        assert (self.session.state in ALARM_STATES) == (self.model.alarm_step is not None)
        assert (self.session.state in END_STATES) == self.model.ended
        if self.last is not None:
            assert (self.last.step, self.last.alarm_step) == (
                self.model.step,
                self.model.alarm_step,
            )
            assert self.last.alarm == (self.model.alarm_step is not None)


TestSession = SessionMachine.TestCase
TestSession.settings = settings(max_examples=150, stateful_step_count=25)


@pytest.mark.parametrize("scores", [(-math.inf, 0.3), (math.inf, 0.3), (0.3, math.inf, -math.inf)])
def test_infinite_scores_survive_json_and_replay(scores: tuple[float, ...]) -> None:
    monitor = at_work(MinScore(kind="real"), 5.0)
    session = monitor.session()
    decisions = [session.step(score) for score in scores]
    kept = msgspec.json.encode(session.path())
    record = msgspec.json.decode(kept, type=PathRecord)
    assert record == session.path()
    assert replay(monitor, record) == decisions[record.steps - 1]
    assert decisions[-1].alarm == (-math.inf in scores)
    seen = scores[: record.steps]
    texts = {"Infinity" if s > 0 else "-Infinity" for s in seen if math.isinf(s)}
    assert {s for s in record.scores if isinstance(s, str)} == texts
