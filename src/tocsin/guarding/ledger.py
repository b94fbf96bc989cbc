"""What happened on the way: alarms and failures, kept for the receipt."""

from __future__ import annotations

import msgspec

from tocsin.guarding.receipt import AlarmRecord, FailureRecord
from tocsin.limits import ALARMS_KEPT
from tocsin.model import INTERVENTIONS, Channel, Finding, Intervention, Phase, Score
from tocsin.monitor.path import real
from tocsin.policy.failures import Failure, Response

STRENGTH = {name: at for at, name in enumerate(INTERVENTIONS)}
"""Which of two interventions is the stricter."""


class Ledger:
    """The records of one response.

    Args:
        bases: by channel, where this response begins in the texts that checks count.

    Attributes:
        alarms, failures: the first ones, up to a limit.
        alarm_count: of all alarms.
        done: the strictest intervention that followed.
        stopped_by: the failure that ended the response.
        degraded: whether a failure was let pass.
    """

    def __init__(self, bases: dict[Channel, int]) -> None:
        self._bases = bases
        self.alarms: list[AlarmRecord] = []
        self.alarm_count = 0
        self.done: Intervention | None = None
        self.failures: list[FailureRecord] = []
        self.stopped_by: Failure | None = None
        self.degraded = False

    def alarm(  # noqa: PLR0913 - the parts of the record
        self,
        check: str,
        score: Score | None,
        wanted: Intervention,
        done: Intervention,
        finding: Finding | None = None,
        *,
        statistic: float | None = None,
        closing: bool = False,
        why: str = "",
        appeal: str = "",
        late: bool = False,
    ) -> None:
        """Keep an alarm; the arguments are those of `AlarmRecord`."""
        self.alarm_count += 1
        self.degraded = self.degraded or late  # some of it was shown before it was masked
        if self.done is None or STRENGTH[done] > STRENGTH[self.done]:
            self.done = done
        if len(self.alarms) >= ALARMS_KEPT:
            return
        channel = Channel() if score is None else score.channel
        base = self._bases.get(channel, 0)
        self.alarms.append(
            AlarmRecord(
                check=check,
                step=0 if score is None else score.step,
                channel=channel.kind,
                choice=channel.choice,
                index=channel.index,
                upto=0 if score is None else score.upto - base,
                wanted=wanted,
                done=done,
                closing=closing,
                score=None if score is None else real(score.value),
                statistic=None if statistic is None else real(statistic),
                rule=None if finding is None else finding.rule,
                category=None if finding is None else finding.category,
                start=None if finding is None else finding.start - base,
                end=None if finding is None else finding.end - base,
                why=why,
                appeal=appeal,
                late=late,
            )
        )

    def extend(self, check: str, channel: Channel, finding: Finding, *, late: bool) -> None:
        """Let the alarm for a value that goes on here reach to its new end.

        Args:
            check: whose alarm it was.
            channel: of the text.
            finding: the next part; it begins where the one before ended.
            late: some of it had been shown before.
        """
        self.degraded = self.degraded or late
        base = self._bases.get(channel, 0)
        about = (check, channel, finding.rule, finding.start - base)
        for at, alarm in enumerate(self.alarms):
            where = Channel(alarm.channel, alarm.choice, alarm.index)
            if (alarm.check, where, alarm.rule, alarm.end) == about:
                self.alarms[at] = msgspec.structs.replace(
                    alarm, end=finding.end - base, late=alarm.late or late
                )

    def failure(
        self, failure: Failure, phase: Phase, response: Response, check: str, detail: str
    ) -> None:
        """Keep a failure and what the table said."""
        if response == "pass":
            self.degraded = True
        elif response in {"refuse", "stop"}:
            self.stopped_by = failure
        if len(self.failures) < ALARMS_KEPT:
            self.failures.append(
                FailureRecord(
                    failure=failure, phase=phase, response=response, check=check, detail=detail
                )
            )
