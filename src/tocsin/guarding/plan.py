"""What a response is guarded by: checks, what their alarms do, and how text is held back."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, get_args

import msgspec

from tocsin.errors import CalibrationMismatch, InputError
from tocsin.guarding.receipt import Promise
from tocsin.limits import MARKER_CHARS_MAX
from tocsin.model import (
    INTERVENTIONS,
    Channel,
    ChannelKind,
    Context,
    Finding,
    Hold,
    Intervention,
    Mode,
    Outcome,
    UnknownReason,
)
from tocsin.monitor import Monitor
from tocsin.monitor.path import real
from tocsin.policy.failures import MAY_PASS, Failure
from tocsin.verifiers.contract import AnyVerifier, AsyncVerifier, Verifier

ANY = "*"
"""In `Check.on_finding`: whatever has no line of its own."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A verifier, and what rings.

    One of three kinds. With a `monitor` the calibrated alarm rings, and `on_alarm` follows. With
    `alarm_below` a score below it rings: a threshold that somebody chose, with no guarantee.
    Otherwise every finding rings, and `on_finding` says what follows, by rule or category.

    Args:
        name: of the check, as receipts and metrics show it.
        verifier: what reads the text.
        monitor: a calibration at work.
        alarm_below: in the verifier's own range; safe-high.
        on_alarm: for the first two kinds.
        on_finding: interventions by rule, by category, or by `ANY`.
        segment: the calibration's segment.
        roles: which messages of a request are read; all of them where empty. For input only.
        deadline_ms: longest wait for an answer, where the verifier has to be waited for.
    """

    name: str
    verifier: AnyVerifier
    monitor: Monitor | None = None
    alarm_below: float | None = None
    on_alarm: Intervention = "halt"
    on_finding: Mapping[str, Intervention] = field(default_factory=lambda: {ANY: "halt"})
    segment: str | None = None
    roles: frozenset[str] = frozenset()
    deadline_ms: int = 5_000

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, and what could never ring."""
        if not isinstance(self.verifier, Verifier | AsyncVerifier):
            raise self._wrong(f"{self.verifier!r} is no verifier; tocsin.verifier(...) makes one")
        if self.monitor is not None and self.alarm_below is not None:
            raise self._wrong("give a calibration or alarm_below, not both")
        declares = self.verifier.declares
        below = self.alarm_below
        if below is not None and not declares.low <= below <= declares.high:
            raise self._wrong(
                f"alarm_below {below!r} is not in {declares.low!r}..{declares.high!r}"
            )
        for does in (self.on_alarm, *self.on_finding.values()):
            if does not in INTERVENTIONS:
                raise self._wrong(f"{does!r} is no intervention; use {', '.join(INTERVENTIONS)}")
        self._check_findings()
        if self.monitor is not None:
            made_for = self.monitor.calibration.signal
            said = declares.signal()
            for name in made_for.__struct_fields__:
                wanted, found = getattr(made_for, name), getattr(said, name)
                if wanted not in {found, "unspecified"}:
                    raise CalibrationMismatch(
                        f"check {self.name!r}: the calibration was made for {name} {wanted!r}, and "
                        f"the verifier has {found!r}: calibrate for this one"
                    )

    def _check_findings(self) -> None:
        """Refuse rules that do not exist, where the verifier can name its own."""
        names: frozenset[str] | None = getattr(self.verifier, "rule_ids", None)
        if names is None:
            return
        known = names | set(self.verifier.declares.categories) | {ANY}
        if unknown := sorted(set(self.on_finding) - known):
            raise self._wrong(f"there is no rule and no category called {', '.join(unknown)}")

    def _wrong(self, what: str) -> InputError:
        return InputError(f"check {self.name!r}: {what}")

    @cached_property
    def waits(self) -> bool:
        """Whether the verifier's answers have to be waited for."""
        return not isinstance(self.verifier, Verifier)

    @cached_property
    def promise(self) -> Promise | None:
        """What the calibration promises; None without one. Said once, for all receipts."""
        return None if self.monitor is None else promised(self.monitor, self.segment)

    def finding_does(self, finding: Finding) -> Intervention:
        """Say what a finding leads to: by its rule, else by its category, else by `ANY`."""
        does = self.on_finding
        return does.get(finding.rule) or does.get(finding.category) or does.get(ANY, "shadow")


def promised(monitor: Monitor, segment: str | None) -> Promise:
    """Say what a monitor promises, in numbers and words."""
    from tocsin.risk.guarantee import of_certificate  # SciPy: a third of a second

    certificate = monitor.certificate
    member = certificate.member
    said = of_certificate(monitor.calibration, certificate)
    return Promise(
        calibration=monitor.calibration.digest,
        segment=segment,
        statistic=member.label,
        threshold=real(monitor.threshold(segment)),
        comparison=certificate.comparison,
        risk=certificate.risk,
        bound=certificate.bound,
        epsilon=certificate.epsilon,
        delta=certificate.delta,
        n=member.n,
        errors=member.errors,
        sentence=said.sentence(),
    )


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A policy, ready for use; one serves any number of responses at once.

    Args:
        name, digest: of the policy, as receipts show them.
        checks: what reads the response. Their alarms are those of one response: all channels and
            choices together.
        mode: ``"observe"`` turns every intervention into ``"shadow"``.
        hold: what the reader waits for.
        hold_chars: at least so many characters are held back.
        marker: what stands for masked text; ``{rule}`` and ``{category}`` are replaced.
        replacement: the text of ``"replace"``.
        otherwise: what follows where ``"fallback"`` comes too late, an appeal is lost, or masked
            arguments of a tool would no longer be JSON.
        passed: failures that may pass, by name.

    Raises:
        InputError: a marker that is too long, or a failure that may not pass.
    """

    name: str = "default"
    digest: str = ""
    checks: tuple[Check, ...] = ()
    mode: Mode = "enforce"
    hold: Hold = "window"
    hold_chars: int = 0
    marker: str = "[{rule}]"
    replacement: str = ""
    otherwise: Literal["halt", "replace"] = "halt"
    passed: frozenset[Failure] = frozenset()

    def __post_init__(self) -> None:
        """Refuse what cannot be kept."""
        for name, value, known in (
            ("mode", self.mode, get_args(Mode)),
            ("hold", self.hold, get_args(Hold)),
            ("otherwise", self.otherwise, ("halt", "replace")),
        ):
            if value not in known:
                raise InputError(f"{name} {value!r} is unknown; use {', '.join(known)}")
        names = [check.name for check in self.checks]
        if len(set(names)) < len(names):
            raise InputError(f"each check needs a name of its own; these are {', '.join(names)}")
        if len(self.marker) > MARKER_CHARS_MAX:
            raise InputError(
                f"the marker for masked text has more than {MARKER_CHARS_MAX} characters"
            )
        if wrong := sorted(self.passed - MAY_PASS):
            raise InputError(f"failures that cannot pass: {', '.join(wrong)}")

    def does(self, wanted: Intervention) -> Intervention:
        """Say what an intervention becomes in this mode."""
        return "shadow" if self.mode == "observe" and wanted != "allow" else wanted

    @cached_property
    def waits(self) -> bool:
        """Whether there may be anything to wait for while a response comes."""
        return self.appeals or any(check.waits for check in self.checks)

    @cached_property
    def appeals(self) -> bool:
        """Whether a response may be put before somebody else, who reads all of it."""
        return any(
            does in {"escalate", "require_approval"}
            for check in self.checks
            for does in (check.on_alarm, *check.on_finding.values())
        )


class Appeal(msgspec.Struct, frozen=True, kw_only=True):
    """A paused response, put before a stronger verifier or a person.

    Args:
        kind: which of the two.
        check: whose alarm it is.
        context: what the generator was given.
        text: all that the checks were given of it so far, channel by channel.
        about: kinds of channels in which it rang; who does not read these cannot judge it.
    """

    kind: Literal["escalate", "require_approval"]
    check: str
    context: Context
    text: tuple[tuple[Channel, str], ...]
    about: frozenset[ChannelKind] = frozenset()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an appeal.

    Args:
        safe: go on; None where nobody answered in time.
        by: who answered: a verifier's name and version, or a reviewer's pseudonym.
        score: the stronger verifier's, safe-high, where it has one.
        reason: why there is no answer.
    """

    safe: bool | None
    by: str = ""
    score: float | None = None
    reason: str = ""


class Doors(Protocol):
    """The way out of the pure core: waiting, with deadlines."""

    async def ask(
        self, calls: Sequence[tuple[Check, Awaitable[list[Outcome]]]]
    ) -> list[list[Outcome] | UnknownReason]:
        """Wait for verifiers, all at once, each for as long as its deadline."""

    async def appeal(self, appeal: Appeal) -> Verdict:
        """Wait for a decision. Nobody to ask is no approval."""
