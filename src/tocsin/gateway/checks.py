"""From what a file says of a check to the check: who reads, what rings, what follows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tocsin import calibration_file
from tocsin.errors import TocsinError
from tocsin.gateway.config import DEMONSTRATION, CheckConfig, Judge
from tocsin.gateway.config_file import Source, meant, shown
from tocsin.gateway.threaded import Threaded
from tocsin.gateway.yaml_text import Place
from tocsin.guarding.plan import ANY, Check
from tocsin.model import Intervention
from tocsin.monitor import Monitor
from tocsin.risk.calibration import Calibration, check_match
from tocsin.verifiers import registry
from tocsin.verifiers.contract import AnyVerifier, Verifier
from tocsin.verifiers.linear.verifier import LinearVerifier
from tocsin.verifiers.logprobs import LogprobVerifier
from tocsin.verifiers.patterns import Patterns
from tocsin.verifiers.reading import is_there

_WAYS = ("calibration", "alarm_below", "findings")
_OF_CALIBRATION = ("epsilon", "risk", "segment")
_SCORES_ONLY = frozenset({"linear", "logprobs", "onnx", "remote"})
"""Kinds of verifiers that name no places in the text."""

_NAMES = ("linear", "onnx", "logprobs")
"""Kinds of verifiers whose argument may be a name instead of a file."""


_QUICK = (Patterns, LinearVerifier, LogprobVerifier)
"""Verifiers whose step takes microseconds: they answer within the event loop."""


def interventions(checks: Iterable[Check]) -> set[Intervention]:
    """Every intervention that these checks may lead to."""
    found: set[Intervention] = set()
    for check in checks:
        if check.monitor is None and check.alarm_below is None:
            found.update(check.on_finding.values())
        else:
            found.add(check.on_alarm)
    return found


class Checks:
    """Makes the checks of one file; those with the same verifier share it.

    Args:
        source: where the file is from, and where complaints go.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._complain = source.complain
        self._verifiers: dict[tuple[str, str | None], AnyVerifier] = {}

    def check(self, config: CheckConfig, place: Place, taken: set[str]) -> Check | None:
        """Make a check; None, and complaints, where that cannot be done.

        Args:
            config: as the file has it.
            place: where it stands there.
            taken: names that other checks of the list have; its own is added.
        """
        reads_request = "input" in place
        name = self._name(config, place, taken)
        if config.roles and not reads_request:
            self._complain((*place, "roles"), "a response has no roles; they are for input")
        if config.on_alarm is not None and config.findings is not None:
            self._complain((*place, "on_alarm"), "findings say what follows; leave this out")
        if config.on_alarm == "allow":
            self._complain((*place, "on_alarm"), "an alarm that is allowed is none; use shadow")
        made = self._made(config, place, name)
        if made is None:
            return None
        made = dataclasses.replace(
            made, roles=frozenset(config.roles), on_alarm=config.on_alarm or "halt"
        )
        reads = made.verifier.declares.channels
        if reads_request and "observation" not in reads:
            self._complain(
                (*place, "verifier"),
                f"{config.verifier} reads only {', '.join(sorted(reads))} of a response, and "
                "nothing of a request; patterns and onnx:injection do",
            )
        if not reads_request and reads == {"observation"}:
            self._complain(
                (*place, "verifier"),
                f"{config.verifier} reads only what a generator is given; put it under input",
            )
        return made

    def stronger(self, config: Judge, place: Place) -> Check | None:
        """Make the check that hears escalations."""
        return self._made(config, place, "escalate")

    def _name(self, config: CheckConfig, place: Place, taken: set[str]) -> str:
        name = config.name or re.sub(r"[^A-Za-z0-9_.:-]", "_", config.verifier)[:56].lstrip("_.:-")
        if config.name is not None and name in taken:
            self._complain((*place, "name"), f"another check is called {name!r}")
        number, free = 2, name
        while free in taken:
            free, number = f"{name}.{number}", number + 1
        taken.add(free)
        return free

    def _made(self, config: Judge, place: Place, name: str) -> Check | None:
        before = len(self._source.complaints)
        given = [way for way in _WAYS if getattr(config, way) is not None]
        if len(given) != 1:
            said = f"it has {' and '.join(given)}" if given else "it has none"
            self._complain(place, f"say what rings: one of {', '.join(_WAYS)}; {said}")
        for key in _OF_CALIBRATION:
            if getattr(config, key) is not None and config.calibration is None:
                self._complain((*place, key), "this chooses within a calibration; there is none")
        calibration = self._calibration(config, place)
        verifier = self._verifier(config, place, calibration)
        if len(self._source.complaints) > before or verifier is None:
            return None
        self._fits(config, place, verifier)
        monitor = None
        if calibration is not None:
            monitor = self._monitor(config, place, calibration, verifier)
        if len(self._source.complaints) > before:
            return None
        return Check(
            name=name,
            verifier=verifier,
            monitor=monitor,
            alarm_below=config.alarm_below,
            on_finding={ANY: "shadow"} if config.findings is None else dict(config.findings),
            segment=config.segment,
            deadline_ms=config.deadline_ms,
        )

    def _calibration(self, config: Judge, place: Place) -> Calibration | None:
        if config.calibration is None:
            return None
        try:
            if config.calibration == DEMONSTRATION:
                return calibration_file.load(_demonstration(config.verifier))
            return calibration_file.load(self._source.folder / config.calibration)
        except (TocsinError, ValueError) as e:  # ValueError: a name with a zero byte
            self._complain((*place, "calibration"), str(e))
            return None

    def _verifier(
        self, config: Judge, place: Place, calibration: Calibration | None
    ) -> AnyVerifier | None:
        steps = config.steps
        if steps is None and calibration is not None:
            said = calibration.signal.step_definition
            steps = None if said == "unspecified" else said
        spec = beside(config.verifier, self._source.folder)
        if (spec, steps) not in self._verifiers:
            try:
                self._verifiers[spec, steps] = off_the_loop(registry.verifier(spec, steps))
            except TocsinError as e:
                self._complain((*place, "verifier"), str(e))
                return None
        return self._verifiers[spec, steps]

    def _monitor(
        self, config: Judge, place: Place, calibration: Calibration, verifier: AnyVerifier
    ) -> Monitor | None:
        try:
            check_match(calibration, msgspec.structs.asdict(verifier.declares.signal()))
            monitor = Monitor(calibration, epsilon=config.epsilon, risk=config.risk)
        except TocsinError as e:
            self._complain((*place, "calibration"), str(e))
            return None
        known = [row.segment for row in monitor.certificate.segments]
        if config.segment is not None and config.segment not in known:
            said = f"there is no segment {shown(config.segment)!r}{meant(config.segment, known)}"
            self._complain((*place, "segment"), said)
        return monitor

    def _fits(self, config: Judge, place: Place, verifier: AnyVerifier) -> None:
        """Complain about thresholds that never or always ring, and findings that never come."""
        declares = verifier.declares
        if config.alarm_below is not None and not (
            declares.low < config.alarm_below <= declares.high
        ):
            self._complain(
                (*place, "alarm_below"),
                f"the scores of {declares.name} lie within {declares.low:g} and {declares.high:g}: "
                "below this it would ring never, or always",
            )
        if config.findings is None:
            return
        at: Place = (*place, "findings")
        kind, _, argument = beside(config.verifier, self._source.folder).partition(":")
        if kind in _SCORES_ONLY:
            self._complain(at, f"{declares.name} gives scores and names no places; use "
                           "calibration or alarm_below")  # fmt: skip
        elif not config.findings:
            self._complain(at, "nothing would follow from any finding; write '*': halt, say")
        elif kind == "patterns":
            from tocsin.verifiers.patterns import rules

            known = {name for rule in rules(argument) for name in (rule.id, rule.category)}
            for name in config.findings.keys() - known - {ANY}:
                self._complain(
                    (*at, name), f"there is no such rule or category{meant(name, known)}"
                )


def beside(spec: str, folder: Path) -> str:
    """Write a verifier so that the file in it is found beside the configuration.

    Example:
        >>> beside("linear:harmful_answer", Path("conf"))
        'linear:harmful_answer'
        >>> beside("remote:guard.toml", Path("conf"))
        'remote:conf/guard.toml'
    """
    kind, colon, argument = spec.partition(":")
    if not argument or kind not in registry.KINDS:
        return spec
    place = folder / argument
    is_name = kind in _NAMES and Path(argument).name == argument and not is_there(place)
    return spec if is_name else f"{kind}{colon}{place}"


def _demonstration(spec: str) -> Path:
    from tocsin.verifiers.linear import demonstration

    kind, _, name = spec.partition(":")
    return demonstration(name if kind == "linear" else spec)


def off_the_loop(verifier: AnyVerifier) -> AnyVerifier:
    """Put a verifier that may take milliseconds on threads; one open stream must not stop others.

    Example:
        >>> from tocsin.verifiers.registry import verifier
        >>> type(off_the_loop(verifier("logprobs"))).__name__
        'LogprobVerifier'
    """
    if isinstance(verifier, Verifier) and not isinstance(verifier, _QUICK):
        return Threaded(verifier)
    return verifier
