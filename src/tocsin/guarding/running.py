"""A check at work on one response, or on all responses of one conversation."""

from __future__ import annotations

import math
from typing import cast

from tocsin.guarding.plan import Check, Guard
from tocsin.guarding.receipt import CheckRecord
from tocsin.model import Channel, ChannelKind, Context, Decision
from tocsin.monitor import PathRecord
from tocsin.monitor.path import real
from tocsin.verifiers.contract import AsyncSession, AsyncVerifier, Session, Verifier


class Running:
    """A check with its sessions.

    Args:
        check: the check.
        index: its place among the checks of the guard.
        context: what the generator was given.

    Attributes:
        session: the verifier's.
        waits: whether the session has to be waited for.
        alarm: the monitor's session.
        alive: False once the verifier failed and the policy let that pass.
    """

    def __init__(self, check: Check, index: int, context: Context) -> None:
        self.check = check
        self.index = index
        self.declares = check.verifier.declares
        self.waits = check.waits
        self.session: Session | AsyncSession = (
            cast("AsyncVerifier", check.verifier).open_async(context)
            if check.waits
            else cast("Verifier", check.verifier).open(context)
        )
        self.alarm = None if check.monitor is None else check.monitor.session(segment=check.segment)
        self.overruled: list[PathRecord] = []
        self.alive = True
        self.closing = check.monitor is not None and check.monitor.statistic.closing is not None
        self.steps = self.unknown = 0
        self.lowest = math.inf
        self.upto: dict[Channel, int] = {}

    def reads(self, kind: ChannelKind) -> bool:
        """Whether it scores steps of such channels."""
        return kind in self.declares.channels

    def admits(self, value: float) -> bool:
        """Whether a score is a number of the range that the verifier declares."""
        return self.declares.low <= value <= self.declares.high

    def restart(self) -> None:
        """Watch anew after an alarm that was overruled; the path to it is kept."""
        check = self.check
        if self.alarm is not None and check.monitor is not None:
            self.overruled.append(self.alarm.path())
            self.alarm = check.monitor.session(segment=check.segment)

    def close(self) -> Decision | None:
        """End the monitor's session; None where there is none, or it was only just begun anew."""
        if self.alarm is None or (self.overruled and not self.alarm.path().steps):
            return None
        return self.alarm.close()

    def skip(self) -> None:
        """Tell the monitor of a missing score, where its calibration skipped those too."""
        monitor = self.check.monitor
        if self.alarm is not None and monitor is not None and monitor.calibration.missing == "skip":
            self.alarm.step(None)

    def record(self) -> CheckRecord:
        """Say what it saw."""
        signal = self.declares.signal()
        return CheckRecord(
            name=self.check.name,
            verifier=signal.verifier,
            verifier_version=signal.verifier_version,
            step_definition=signal.step_definition,
            signal=signal.kind,
            promise=self.check.promise,
            alarm_below=self.check.alarm_below,
            path=None if self.alarm is None else self.alarm.path(),
            overruled=tuple(self.overruled),
            steps=self.steps,
            unknown=self.unknown,
            lowest=None if self.lowest == math.inf else real(self.lowest),
        )


class Trajectory:
    """What a conversation carries from one response to the next: its checks, and where texts end.

    Args:
        guard: the policy.
        context: of the first request.
    """

    def __init__(self, guard: Guard, context: Context) -> None:
        self.running = [Running(check, i, context) for i, check in enumerate(guard.checks)]
        self.bases: dict[Channel, int] = {}
