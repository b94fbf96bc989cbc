"""Recompute what an alarm said, from the score path of its receipt and the calibration.

The same scores through the same calibration give the same decision, to the last bit. What the
receipt alone shows is checked without the calibration too; what nobody can check is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from tocsin.errors import InputError
from tocsin.guarding.plan import promised
from tocsin.guarding.receipt import AlarmRecord, CheckRecord, Promise, Receipt
from tocsin.model import Comparison, Decision
from tocsin.monitor import Monitor, PathRecord
from tocsin.monitor import replay as replay_from
from tocsin.monitor.path import Real
from tocsin.risk.calibration import Calibration

Outcome = Literal["agrees", "differs", "unchecked"]

_DIGEST_SHOWN = len("sha256:") + 12
_NUMBERS = ("statistic", "comparison", "risk", "bound", "epsilon", "delta", "n", "errors")


class Line(msgspec.Struct, frozen=True):
    """One thing that was compared.

    Args:
        what: was compared.
        outcome: of that.
        detail: both sides where they differ, the reason where it was not checked.
    """

    what: str
    outcome: Outcome
    detail: str = ""


class CheckReplay(msgspec.Struct, frozen=True, kw_only=True):
    """One check, replayed.

    Args:
        check: its name.
        calibration: digest; None where it has none.
        lines: what was compared.
    """

    check: str
    calibration: str | None
    lines: tuple[Line, ...]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt, replayed.

    Args:
        id: of the receipt.
        lines: about the receipt as a whole.
        checks: in the order of the policy.
    """

    id: str
    lines: tuple[Line, ...]
    checks: tuple[CheckReplay, ...]

    def all_lines(self) -> Iterator[tuple[str, Line]]:
        """Give every line with the check that it is about; an empty name for the receipt."""
        yield from (("", line) for line in self.lines)
        for check in self.checks:
            yield from ((check.check, line) for line in check.lines)

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return all(line.outcome != "differs" for _, line in self.all_lines())

    @property
    def complete(self) -> bool:
        """Whether everything was checked."""
        return all(line.outcome == "agrees" for _, line in self.all_lines())


class _Watch(msgspec.Struct, frozen=True):
    """One session of a monitor: its path, and what the receipt says became of it.

    Args:
        path: the scores.
        label: how to call it.
        rang: None where the receipt does not say.
        alarm: the record, where it is in this receipt.
    """

    path: PathRecord
    label: str
    rang: bool | None
    alarm: AlarmRecord | None


def replay(receipt: Receipt, calibrations: Sequence[Calibration] = ()) -> Replayed:
    """Recompute the decisions of a receipt.

    Args:
        receipt: as it was read; nothing in it is trusted.
        calibrations: those of its checks, as far as they are at hand; told apart by digest.
    """
    known = {made.digest: made for made in calibrations}
    used = {c.promise.calibration for c in receipt.checks if c.promise is not None}
    lines = [_counted(receipt)]
    lines += [
        Line("calibration", "differs", f"{digest} is not that of any check of this receipt")
        for digest in known
        if digest not in used
    ]
    checks = tuple(_check(receipt, check, known) for check in receipt.checks)
    return Replayed(id=receipt.who.id, lines=tuple(lines), checks=checks)


def _counted(receipt: Receipt) -> Line:
    listed = len(receipt.alarms) + receipt.alarms_more
    names = {check.name for check in receipt.checks}
    if strange := {alarm.check for alarm in receipt.alarms} - names:
        return Line("alarms", "differs", f"of checks that are not listed: {sorted(strange)}")
    return _same("number of alarms", receipt.account.alarms, listed)


def _check(receipt: Receipt, check: CheckRecord, known: dict[str, Calibration]) -> CheckReplay:
    lines: list[Line] = []
    promise = check.promise
    if promise is None:
        lines += _uncalibrated(receipt, check)
    else:
        made = known.get(promise.calibration)
        monitor, about = _monitor(check, promise, made)
        lines += about
        for watch in _watches(receipt, check):
            lines += _alone(watch, promise)
            if monitor is not None:
                lines += _recomputed(watch, promise, monitor)
    digest = None if promise is None else promise.calibration
    return CheckReplay(check=check.name, calibration=digest, lines=tuple(lines))


# ------------------------------------------------------------------------- without a calibration


def _uncalibrated(receipt: Receipt, check: CheckRecord) -> Iterator[Line]:
    own = [alarm for alarm in receipt.alarms if alarm.check == check.name]
    if check.alarm_below is None:
        if own or check.lowest is not None:
            yield Line("rules", "unchecked", "what rang is in the text, and that is not here")
        return
    below = check.alarm_below
    for alarm in own:
        if alarm.score is not None:
            good = float(alarm.score) < below
            detail = "" if good else f"score {alarm.score} is not below {below}"
            yield Line(f"alarm at step {alarm.step}", "agrees" if good else "differs", detail)
    if not own and not receipt.alarms_more and check.lowest is not None:
        good = float(check.lowest) >= below
        detail = "" if good else f"the lowest score {check.lowest} is below {below}"
        yield Line("no alarm", "agrees" if good else "differs", detail)


# ---------------------------------------------------------------------------- what became of paths


def _watches(receipt: Receipt, check: CheckRecord) -> list[_Watch]:
    """Pair the paths of a check with its alarms.

    Each alarm that an appeal overruled ends a path; the last path goes on to the end. Paths of a
    conversation may have rung in an earlier response, whose receipt has the alarm.
    """
    own = [alarm for alarm in receipt.alarms if alarm.check == check.name]
    ended = [alarm for alarm in own if alarm.why == "overruled"]
    last = [alarm for alarm in own if alarm.why != "overruled"]
    if receipt.alarms_more:
        ended, last = [], []
    here = len(check.overruled) - len(ended)
    found = []
    for i, path in enumerate(check.overruled):
        alarm = ended[i - here] if i >= here >= 0 else None
        found.append(
            _Watch(path, label=f"overruled path {i + 1}", rang=True, alarm=_rung_here(alarm))
        )
    if check.path is not None:
        rang = None if receipt.alarms_more else bool(last)
        label = "path" if not found else "last path"
        found.append(_Watch(check.path, label, rang, _rung_here(last[-1] if last else None)))
    return found


def _rung_here(alarm: AlarmRecord | None) -> AlarmRecord | None:
    """Leave aside what only says that a conversation had rung before."""
    if alarm is None or alarm.step or alarm.closing or alarm.statistic is not None:
        return alarm
    return None


def _alone(watch: _Watch, promise: Promise) -> Iterator[Line]:
    """Check what the receipt shows by itself."""
    yield _adds_up(watch)
    path, alarm = watch.path, watch.alarm
    highest = None if path.statistic_highest is None else float(path.statistic_highest)
    over = highest is not None and _over(highest, promise)
    what = f"{watch.label}: threshold"
    if watch.rang is None:
        yield Line(what, "unchecked", "not all alarms are listed")
    elif not watch.rang:
        detail = f"the statistic reached {path.statistic_highest}, and no alarm is recorded"
        yield Line(what, "differs" if over else "agrees", detail if over else "")
    elif alarm is None:
        detail = "the alarm is in an earlier receipt of the conversation"
        yield Line(what, "agrees" if over else "unchecked", "" if over else detail)
    else:
        said = math.nan if alarm.statistic is None else float(alarm.statistic)
        if not _over(said, promise):
            detail = f"{alarm.statistic} {promise.comparison} {promise.threshold} does not hold"
            yield Line(what, "differs", detail)
        elif alarm.closing:
            yield Line(what, "differs" if over else "agrees",
                       "it was over before the end" if over else "")  # fmt: skip
        else:
            yield Line(what, "agrees")
            yield _same(f"{watch.label}: highest statistic", said, highest)
            yield _same(f"{watch.label}: alarm step", path.statistic_highest_step, path.steps)
            yield _same(f"{watch.label}: score of the alarm", alarm.score, _last(path))


def _adds_up(watch: _Watch) -> Line:
    path = watch.path
    what = f"{watch.label}: steps"
    there = path.checkpoint_step + len(path.scores)
    if there != path.steps:
        return Line(what, "differs", f"{path.steps} are said, {there} are there")
    if path.checkpoint_step:
        why = (
            f"the scores of the first {path.checkpoint_step} steps are not in the receipt; "
            "the statistic's state after them is taken as it is"
        )
        return Line(what, "unchecked", why)
    scores = [float(score) for score in path.scores if score is not None]
    lowest = min(scores, default=None)
    said = None if path.score_lowest is None else float(path.score_lowest)
    if len(path.scores) - len(scores) != path.missing:
        return Line(what, "differs", f"{path.missing} scores are said to be missing")
    return _same(f"{watch.label}: steps and lowest score", said, lowest)


def _last(path: PathRecord) -> Real | None:
    return path.scores[-1] if path.scores else None


def _over(value: float, promise: Promise) -> bool:
    return _compare(value, promise.comparison, float(promise.threshold))


def _compare(value: float, comparison: Comparison, threshold: float) -> bool:
    return value > threshold if comparison == ">" else value >= threshold


# --------------------------------------------------------------------------- with the calibration


def _monitor(
    check: CheckRecord, promise: Promise, made: Calibration | None
) -> tuple[Monitor | None, list[Line]]:
    """Put the calibration to work, and compare what it promises with what the receipt says."""
    if made is None:
        why = f"give the file of {promise.calibration}, or the decision is not recomputed"
        return None, [Line("calibration", "unchecked", why)]
    lines = [Line("calibration", "agrees", f"{promise.calibration[:_DIGEST_SHOWN]}...")]
    try:
        monitor = Monitor(made, epsilon=promise.epsilon, risk=promise.risk)  # type: ignore[arg-type]
    except InputError as e:
        return None, [*lines, Line("certificate", "differs", str(e))]
    now = promised(monitor, promise.segment)
    lines.append(_same("threshold", promise.threshold, now.threshold))
    lines += [
        line
        for name in _NUMBERS
        if (line := _same(name, getattr(promise, name), getattr(now, name))).outcome == "differs"
    ]
    if promise.sentence != now.sentence:
        lines.append(Line("guarantee sentence", "unchecked", "this version words it otherwise"))
    signal = made.signal
    for name, said in (
        ("verifier", check.verifier),
        ("verifier_version", check.verifier_version),
        ("step_definition", check.step_definition),
        ("kind", check.signal),
    ):
        if getattr(signal, name) not in {said, "unspecified"}:
            lines.append(
                Line(name, "differs", f"{said!r}, calibrated for {getattr(signal, name)!r}")
            )
    return monitor, lines


def _recomputed(watch: _Watch, promise: Promise, monitor: Monitor) -> Iterator[Line]:
    """Compute the decision anew."""
    alarm = watch.alarm
    closing = alarm is not None and alarm.closing
    try:
        decision, path = _run(watch.path, monitor, promise.segment, ended=closing)
    except Exception as e:  # noqa: BLE001 - a hostile path may break any statistic
        yield Line(f"{watch.label}: replay", "differs", f"{type(e).__name__}: {e}")
        return
    what = f"{watch.label}: "
    if path is not None:
        good = path == watch.path
        detail = "" if good else "its numbers are not those of its scores"
        yield Line(what + "score path", "agrees" if good else "differs", detail)
    rang = decision is not None and decision.alarm
    if watch.rang is None:
        yield Line(what + "alarm", "unchecked", "not all alarms are listed")
        return
    unknown = watch.rang and alarm is None and not rang
    if unknown:
        yield Line(what + "alarm", "unchecked", "the alarm is in an earlier receipt")
        return
    yield _same(what + "alarm", _word(rang=watch.rang), _word(rang=rang))
    if not watch.rang and not rang:
        yield from _last_word(watch, promise, monitor)
    if decision is None or not rang or not watch.rang:
        return
    at = decision.alarm_step
    yield _same(what + "alarm at step", watch.path.steps, at)
    if alarm is not None:
        yield _same(what + "statistic, to the last bit", alarm.statistic, decision.statistic)


def _last_word(watch: _Watch, promise: Promise, monitor: Monitor) -> Iterator[Line]:
    """Recompute the check at the end of a response in which it stayed silent, where there is one.

    Silence is the right answer whether or not the response came to its end. Where it would have
    rung, only that could tell, and the receipt does not.
    """
    speaks = monitor.statistic.closing is not None
    if not speaks and (watch.path.steps or monitor.calibration.missing != "worst"):
        return
    what = f"{watch.label}: check at the end"
    try:
        decision, _ = _run(watch.path, monitor, promise.segment, ended=True)
    except Exception as e:  # noqa: BLE001 - as in `_recomputed`
        yield Line(what, "unchecked", f"{type(e).__name__}: {e}")
        return
    if decision is not None and decision.alarm:
        why = (
            f"its statistic, {decision.statistic!r}, rings once the response has come to its end; "
            "whether it did is not in the receipt"
        )
        yield Line(what, "unchecked", why)
    else:
        yield Line(what, "agrees", _word(rang=False))


def _run(
    record: PathRecord, monitor: Monitor, segment: str | None, *, ended: bool
) -> tuple[Decision | None, PathRecord | None]:
    """Run a monitor along a path; give its last decision, and the path where it is whole."""
    if record.checkpoint_step:
        return replay_from(monitor, record, segment=segment, ended=ended), None
    session = monitor.session(segment=segment)
    decision = None
    for score in record.scores:
        decision = session.step(None if score is None else float(score))
    path = session.path()
    return (session.close() if ended else decision), path


# ----------------------------------------------------------------------------------------- words


def _word(*, rang: bool) -> str:
    return "rang" if rang else "silent"


def _same(what: str, said: object, found: object) -> Line:
    """Compare what the receipt says with what was found; numbers to the last bit."""
    if _exact(said) == _exact(found):
        return Line(what, "agrees", _shown(said))
    return Line(what, "differs", f"the receipt says {_shown(said)}, it is {_shown(found)}")


def _exact(value: object) -> object:
    """Give what is equal only where the bits are; infinities may be text."""
    if isinstance(value, float):
        return value.hex()
    if value in {"Infinity", "-Infinity"}:
        return float(str(value)).hex()
    return value


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)
