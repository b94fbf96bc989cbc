"""The online monitor: scores in, decisions out; one session per response.

Sans-I/O and pure: no clock, no randomness, no network. The same scores give the same decisions, on
any machine.
"""

from __future__ import annotations

import math

from tocsin.errors import InputError, MissingScore, SessionMisuse
from tocsin.model import Decision, Risk
from tocsin.monitor.path import PathRecord, ScorePath
from tocsin.monitor.states import ALARM_STATES, END_STATES, TRANSITIONS, Event, State
from tocsin.risk.calibration import Calibration, Certificate
from tocsin.risk.statistics import NEVER, Statistic


class Monitor:
    """A calibration put to work.

    Args:
        calibration: as loaded or just made.
        epsilon: which certificate, where there are several.
        risk: which one, where both risks are controlled.

    Raises:
        InputError: when the choice of a certificate is not unique.

    Example:
        >>> from tocsin.testing.worlds import example_calibration
        >>> session = Monitor(example_calibration(epsilon=0.1, delta=0.1)).session()
        >>> [session.step(score).alarm for score in (0.9, 0.8, 0.01, 0.9)]
        [False, False, True, True]
        >>> session.close().alarm_step
        3
    """

    def __init__(
        self, calibration: Calibration, *, epsilon: float | None = None, risk: Risk | None = None
    ) -> None:
        """Pick the certificate and the statistic that it chose."""
        self.calibration = calibration
        self.certificate: Certificate = calibration.certificate(epsilon, risk)
        self.statistic: Statistic = calibration.statistics[self.certificate.member.statistic]
        self._thresholds = {row.segment: row.threshold for row in self.certificate.segments}

    def threshold(self, segment: str | None = None) -> float:
        """Lambda for a segment; the pooled one where the segment has none of its own."""
        pooled = self.certificate.threshold
        return pooled if segment is None else self._thresholds.get(segment, pooled)

    def session(self, *, segment: str | None = None) -> Session:
        """Begin to watch one response."""
        return Session(self, self.threshold(segment))


class Session:
    """One response being watched. Made by `Monitor.session`; picklable; not shared between threads.

    Attributes:
        state: where the session is, see `tocsin.monitor.states`.
    """

    def __init__(self, monitor: Monitor, lam: float) -> None:
        """Start before the first step."""
        self._statistic = monitor.statistic
        self._missing = monitor.calibration.missing
        self._comparison = monitor.certificate.comparison
        self._strict = self._comparison == ">"
        self._lam = lam
        self._now = self._statistic.start()
        self._value = NEVER
        self._step = 0
        self._alarm_step: int | None = None
        self._path = ScorePath(self._now)
        self.state = State.WATCHING

    def step(self, score: float | None) -> Decision:
        """Take the verifier's score of the prefix up to this step.

        Args:
            score: safe-high; NaN or None where the verifier gave none, which the calibration's
                policy settles: skip (nothing changes), worst (an alarm) or error.

        Raises:
            SessionMisuse: after the end.
            InputError: a probability outside [0, 1]; the session is unchanged.
            MissingScore: a missing score under the policy ``"error"``; the session is unchanged.
        """
        if self.state in END_STATES:
            raise SessionMisuse("this response has ended; open a new session for the next one")
        number = math.nan if score is None else float(score)
        missing = number != number  # noqa: PLR0124 - NaN
        if missing and self._missing == "error":
            raise MissingScore(
                f"no score at step {self._step + 1}, and the calibration's policy is 'error'; "
                "calibrate with 'skip' or 'worst' if scores can be missing"
            )
        if not missing and self._statistic.kind == "probability" and not 0.0 <= number <= 1.0:
            raise InputError(
                f"score {number!r} at step {self._step + 1} is no probability; "
                "the calibration declares the signal a probability of being safe"
            )
        self._step += 1
        value = self._advance(number, missing=missing)
        rang = self._move(Event.OVER if self._over(value) else Event.BELOW)
        return self._decision(value, rang=rang, missing=missing)

    def close(self) -> Decision:
        """End the response; the closing check, where there is one, has the last word.

        Raises:
            SessionMisuse: when it has ended already.
            MissingScore: no step at all and the policy ``"error"``; the session stays open.
        """
        if self.state in END_STATES:
            raise SessionMisuse("this response has ended already")
        if self._step == 0:
            return self._close_empty()
        value = self._statistic.close(self._now)
        over = value is not None and self._over(value)
        rang = self._move(Event.END_OVER if over else Event.END_BELOW)
        return self._decision(self._value if value is None else value, rang=rang, closing=True)

    def _close_empty(self) -> Decision:
        """End a response that never had a step: its one score is missing."""
        if self._missing == "error":
            raise MissingScore(
                "the response ended without any score, and the calibration's policy is 'error': "
                "nothing is known about it"
            )
        worst = self._missing == "worst"
        rang = self._move(Event.END_OVER if worst else Event.END_BELOW)
        return self._decision(math.inf if worst else NEVER, rang=rang, closing=True, missing=True)

    def path(self) -> PathRecord:
        """Return the score path so far; it stops growing at the alarm."""
        return self._path.record()

    def _resume(self, record: PathRecord) -> None:
        """Start from a record's checkpoint instead of from nothing."""
        self._now, self._step = record.checkpoint, record.checkpoint_step
        last = record.checkpoint_value
        self._value = NEVER if last is None else float(last)
        self._path = ScorePath(self._now)

    def _advance(self, number: float, *, missing: bool) -> float:
        """Move the statistic; return the value of this step."""
        if missing:
            value = math.inf if self._missing == "worst" else self._value
        else:
            self._now, self._value = self._statistic.step(self._now, number)
            value = self._value
        if self._alarm_step is None:
            self._path.add(number, self._now, self._value, value)
        return value

    def _over(self, value: float) -> bool:
        return value > self._lam if self._strict else value >= self._lam

    def _move(self, event: Event) -> bool:
        """Follow the table; True when this is the moment at which the alarm rings."""
        before = self.state in ALARM_STATES
        self.state = TRANSITIONS[self.state, event]
        rang = self.state in ALARM_STATES and not before
        if rang:
            self._alarm_step = self._step
        return rang

    def _decision(
        self, value: float, *, rang: bool, closing: bool = False, missing: bool = False
    ) -> Decision:
        return Decision(
            step=self._step,
            alarm=self.state in ALARM_STATES,
            rang=rang,
            alarm_step=self._alarm_step,
            statistic=None if value == NEVER else value,
            threshold=self._lam,
            comparison=self._comparison,
            closing=closing,
            missing=missing,
        )


def replay(
    monitor: Monitor, record: PathRecord, *, segment: str | None = None, ended: bool = False
) -> Decision | None:
    """Recompute a decision from its score path and the calibration.

    Args:
        monitor: the same calibration and certificate.
        record: from `Session.path`, whole or after a JSON round trip.
        segment: as in the original session.
        ended: replay the closing check too.

    Returns:
        The last decision, or None for an empty path. Its `alarm_step` is the original one.

    Example:
        >>> from tocsin.testing.worlds import example_calibration
        >>> monitor = Monitor(example_calibration(epsilon=0.1, delta=0.1))
        >>> session = monitor.session()
        >>> decision = [session.step(score) for score in (0.9, 0.01)][-1]
        >>> replay(monitor, session.path()) == decision
        True
    """
    session = monitor.session(segment=segment)
    session._resume(record)  # noqa: SLF001 - the other half of this module
    decision = None
    for score in record.scores:
        decision = session.step(None if score is None else float(score))
    return session.close() if ended else decision
