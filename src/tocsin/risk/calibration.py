"""The calibration artefact: a threshold with everything that is needed to defend or refuse it.

One JSON file, named by the SHA-256 of its content. It is data, never code: loading checks the
schema, the digest and the numbers, and nothing in it is executed or unpickled.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec

from tocsin.errors import CalibrationDamaged, CalibrationMismatch, InputError
from tocsin.limits import CALIBRATION_BYTES_MAX
from tocsin.model import Bound, Comparison, MissingPolicy, Objective, Refusal, Risk, Signal, Unit
from tocsin.risk.statistics import Statistic

SCHEMA = "tocsin.calibration/1"


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One monitor that was tried for a certificate, with its own threshold.

    Args:
        statistic: index into `Calibration.statistics`.
        label: its name, ``+closing`` where a closing check follows.
        delta: the share of delta spent on it; None for `crc`.
        n: units of the protected class behind its threshold.
        errors: calibration errors allowed (a sum of group means for `cluster_mean`).
        threshold: lambda, in the units of the statistic; may be infinite.
        power: share of unsafe trajectories, of those not used to fit it, on which it alarms.
        saved: share of unsafe trajectories' tokens that its alarms spare, on the same ones.
        false_alarms: share of safe ones on which it alarms, on the same ones.
        detected, n_unsafe: the counts behind `power`.
    """

    statistic: int
    label: str
    delta: float | None
    n: int
    errors: float
    threshold: float
    power: float | None
    saved: float | None
    false_alarms: float | None
    detected: int
    n_unsafe: int


class SegmentRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One segment of the traffic under the operative threshold.

    Args:
        segment: its name.
        n: units of the protected class.
        errors: of those, on the wrong side of `threshold` in the calibration data.
        rate, rate_low, rate_high: errors / n with its 90 % Clopper-Pearson interval.
        threshold: the one in force for this segment.
        certified: True when the segment has a certificate of its own.
        note: why it has none, where it has none.
    """

    segment: str
    n: int
    errors: int
    rate: float | None
    rate_low: float
    rate_high: float
    threshold: float
    certified: bool
    note: str = ""


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is promised at one epsilon.

    Args:
        risk, bound, epsilon, delta: the promise; delta is None for `crc`.
        jointly: True when all certificates of the calibration hold together.
        comparison: the alarm rings when ``statistic <comparison> threshold``.
        members: the monitors tried; any of them keeps the promise.
        chosen: index into `members` of the one in force.
        segments: one row per segment, always.
    """

    risk: Risk
    bound: Bound
    epsilon: float
    delta: float | None
    jointly: bool
    comparison: Comparison
    members: tuple[Member, ...]
    chosen: int
    segments: tuple[SegmentRow, ...]

    @property
    def member(self) -> Member:
        """The monitor in force."""
        return self.members[self.chosen]

    @property
    def threshold(self) -> float:
        """Lambda in force, outside certified segments."""
        return self.member.threshold


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One point of the browsed curve of a calibration's monitor.

    Args:
        epsilon: the level.
        errors, threshold: what it would give on its own; None where refused.
        errors_joint, threshold_joint: what it gives when the whole curve must hold at once.
        power: at the point's own threshold (the joint one where only that is certified).
        certified: ``"alone"`` (asked for beforehand), ``"jointly"`` or ``"no"``.
    """

    epsilon: float
    errors: int | None
    threshold: float | None
    errors_joint: int | None
    threshold_joint: float | None
    power: float | None
    certified: str


class DataSummary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a calibration was made from; enough to recognise it, nothing of its content."""

    digest: str
    n: int
    n_steps: int
    n_safe: int
    n_unsafe: int
    n_groups: int
    n_missing: int
    n_fit: int
    n_fit_safe: int
    fit_digest: str
    calibration_digest: str
    segments: dict[str, tuple[int, int]]


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A calibrated monitor.

    Args:
        certificates: one per risk and epsilon, in the order asked for.
        refused: levels that were asked for and could not be given.
        statistics: what the members refer to, fitted parameters included.
        curve: the browsed curve of the first certificate's monitor.
        digest: ``sha256:...`` of everything but `digest` and `signature`.
        signature: Ed25519 over the digest, or None.
    """

    schema: str
    library_version: str
    signal: Signal
    missing: MissingPolicy
    unit: Unit
    objective: Objective
    statistic: str
    certificates: tuple[Certificate, ...]
    refused: tuple[Refusal, ...]
    statistics: tuple[Statistic, ...]
    curve: tuple[CurvePoint, ...]
    data: DataSummary
    fit_share: float
    seed: int
    digest: str = ""
    signature: str | None = None

    def certificate(self, epsilon: float | None = None, risk: Risk | None = None) -> Certificate:
        """Return the certificate to run under.

        Args:
            epsilon: which one, where there are several.
            risk: which one, where both risks are controlled; false alarms by default, since its
                threshold keeps both promises.

        Raises:
            InputError: naming the certificates there are.
        """
        found = [
            c
            for c in self.certificates
            if (epsilon is None or c.epsilon == epsilon) and (risk is None or c.risk == risk)
        ]
        if risk is None and len({c.risk for c in found}) > 1:
            found = [c for c in found if c.risk == "false_alarm"]
        if len(found) == 1:
            return found[0]
        have = ", ".join(f"{c.risk} at epsilon = {c.epsilon:g}" for c in self.certificates)
        raise InputError(f"choose one certificate by its epsilon; this calibration has: {have}")


def seal(calibration: Calibration) -> Calibration:
    """Return the calibration with its digest, and without a signature."""
    return msgspec.structs.replace(calibration, digest=content_digest(calibration), signature=None)


def content_digest(calibration: Calibration) -> str:
    """SHA-256 over the canonical JSON of everything but `digest` and `signature`."""
    content = _builtins(calibration)
    del content["digest"], content["signature"]
    return "sha256:" + hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def to_json(calibration: Calibration) -> bytes:
    """Write the file: one top-level field per line."""
    fields = _builtins(calibration)
    lines = [
        b"  " + msgspec.json.encode(name) + b": " + msgspec.json.encode(value)
        for name, value in fields.items()
    ]
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def from_json(raw: bytes) -> Calibration:
    """Read a calibration back.

    Raises:
        CalibrationDamaged: too large, no JSON, another schema, numbers that make no sense, or
            content that its digest does not name.
    """
    if len(raw) > CALIBRATION_BYTES_MAX:
        raise CalibrationDamaged(f"{len(raw)} bytes are more than {CALIBRATION_BYTES_MAX}")
    try:
        schema = msgspec.json.decode(raw, type=_SchemaOnly).schema
    except _UNREADABLE as e:
        raise CalibrationDamaged(f"not a calibration: {e}") from None
    if schema != SCHEMA:
        raise CalibrationDamaged(
            f"schema {schema!r} is not {SCHEMA!r}; calibrate again with this version"
        )
    try:
        calibration = msgspec.json.decode(raw, type=Calibration, strict=False)
    except _UNREADABLE as e:
        raise CalibrationDamaged(f"the content does not fit the schema: {e}") from None
    digest = content_digest(calibration)
    if calibration.digest != digest:
        raise CalibrationDamaged(
            f"the file calls itself {calibration.digest or 'nothing'} but its content is {digest}; "
            "it was changed or damaged after calibration"
        )
    _check_numbers(calibration)
    return calibration


def check_match(calibration: Calibration, expected: dict[str, str | None]) -> None:
    """Refuse a calibration made for something else.

    Args:
        calibration: as loaded.
        expected: any of kind, verifier, verifier_version, step_definition, missing, digest; None
            values are not checked.

    Raises:
        CalibrationMismatch: naming each difference.
    """
    actual = {
        **msgspec.structs.asdict(calibration.signal),
        "missing": calibration.missing,
        "digest": calibration.digest,
    }
    unknown = set(expected) - set(actual)
    if unknown:
        raise InputError(f"cannot check {sorted(unknown)}; known: {sorted(actual)}")
    wrong = [
        f"{name} is {actual[name]!r}, expected {value!r}"
        for name, value in expected.items()
        if value is not None and actual[name] != value
    ]
    if wrong:
        raise CalibrationMismatch(
            "the calibration was made for something else: "
            + "; ".join(wrong)
            + ". A threshold says nothing about another signal: calibrate for this one."
        )


class _SchemaOnly(msgspec.Struct):
    schema: str


_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the decoder raises on bytes that are no calibration."""


def _builtins(calibration: Calibration) -> dict[str, Any]:
    content: dict[str, Any] = _finite(msgspec.to_builtins(calibration))
    return content


def _finite(value: Any) -> Any:
    """JSON has no infinity: write it as text, which the decoder reads back as a number."""
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def _check_numbers(calibration: Calibration) -> None:
    if not calibration.certificates:
        raise CalibrationDamaged("it holds no certificate")
    for c in calibration.certificates:
        if not 0 <= c.chosen < len(c.members):
            raise CalibrationDamaged(f"certificate at epsilon = {c.epsilon:g} chooses no member")
        for m in c.members:
            if not 0 <= m.statistic < len(calibration.statistics):
                raise CalibrationDamaged(f"member {m.label!r} names no statistic of this file")
            if math.isnan(m.threshold):
                raise CalibrationDamaged(f"member {m.label!r} has no threshold (NaN)")
        for s in c.segments:
            if math.isnan(s.threshold):
                raise CalibrationDamaged(f"segment {s.segment!r} has no threshold (NaN)")
