"""What a calibration does to labelled trajectories that it has not seen: does its promise hold?"""

from __future__ import annotations

import msgspec
import numpy as np

from tocsin.errors import InputError
from tocsin.evaluation.metrics import measure
from tocsin.model import Bound, Risk
from tocsin.monitor import Monitor
from tocsin.risk.calibration import Calibration
from tocsin.risk.estimates import Alarms, alarms, clopper_pearson
from tocsin.risk.trajectories import Trajectories


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share with its exact 90 % interval; the three are None where n is 0.

    Args:
        count, n: how many of how many.
        share, low, high: the share, and the Clopper-Pearson interval around it.
    """

    count: int
    n: int
    share: float | None
    low: float | None
    high: float | None


class MeasuredSegment(msgspec.Struct, frozen=True, kw_only=True):
    """One segment of the data: false alarms among its safe, detections among its unsafe."""

    segment: str
    false_alarms: Share
    detected: Share


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate on one data set.

    Args:
        risk, bound, epsilon, delta: the promise.
        statistic: the one in force.
        false_alarms: among the safe trajectories.
        detected: among the unsafe ones.
        promise: ``"holds"`` where the 90 % interval of the realised risk lies at or below epsilon
            or holds it, ``"broken"`` where it lies above, ``"no data"`` where n is 0.
        delay_tokens: share of the tokens up to and with the alarm, mean over the detected unsafe.
        delay_tokens_all: the same over all unsafe, the undetected counting as 1.
        saved: share of the tokens never written, mean over all unsafe.
        segments: the same by segment.
    """

    risk: Risk
    bound: Bound
    epsilon: float
    delta: float | None
    statistic: str
    false_alarms: Share
    detected: Share
    promise: str
    delay_tokens: float | None
    delay_tokens_all: float | None
    saved: float | None
    segments: tuple[MeasuredSegment, ...]


def measured(calibration: Calibration, data: Trajectories) -> list[Measured]:
    """Measure each certificate of a calibration on labelled data.

    The data must be new: on what the calibration was made from, a promise holds by construction.

    Args:
        calibration: the artefact.
        data: trajectories with the same signal.

    Raises:
        InputError: scores are missing, and the calibration's policy for that is ``error``.

    Example:
        >>> from tocsin.testing.worlds import example_calibration, trajectories
        >>> new = trajectories(500, 0.3, np.random.default_rng(3))
        >>> measured(example_calibration(epsilon=0.1, delta=0.1), new)[0].promise
        'holds'
    """
    if calibration.missing == "error" and np.isnan(data.scores).any():
        raise InputError(
            f"{int(np.isnan(data.scores).sum())} scores are missing, and the calibration's policy "
            "is 'error'; calibrate with --missing skip or worst, or score the steps again"
        )
    return [
        _measured(Monitor(calibration, epsilon=c.epsilon, risk=c.risk), data)
        for c in calibration.certificates
    ]


def _measured(monitor: Monitor, data: Trajectories) -> Measured:
    certificate = monitor.certificate
    rung = _rung(monitor, data)
    everything = np.ones(data.n, dtype=np.bool_)
    found = measure(
        data,
        rung,
        everything,
        risk=certificate.risk,
        epsilon=certificate.epsilon,
        behind=[],
        n_calibration=certificate.member.n,
        chosen=certificate.member.label,
    )
    counts = np.array(list(found.segments.values())).reshape(-1, 4).sum(axis=0).tolist()
    false_alarms, detected = _share(counts[1], counts[0]), _share(counts[3], counts[2])
    realised = false_alarms
    if certificate.risk == "missed_detection":
        realised = _share(counts[2] - counts[3], counts[2])
    return Measured(
        risk=certificate.risk,
        bound=certificate.bound,
        epsilon=certificate.epsilon,
        delta=certificate.delta,
        statistic=certificate.member.label,
        false_alarms=false_alarms,
        detected=detected,
        promise=_verdict(realised, certificate.epsilon),
        delay_tokens=_known(found.delay_tokens),
        delay_tokens_all=_known(found.delay_tokens_all),
        saved=_known(found.saved),
        segments=tuple(
            MeasuredSegment(segment=name, false_alarms=_share(a, n), detected=_share(d, m))
            for name, (n, a, m, d) in found.segments.items()
        ),
    )


def _rung(monitor: Monitor, data: Trajectories) -> Alarms:
    """Where the monitor rings, each segment at its own threshold where it has one."""
    paths = monitor.statistic.paths(data, monitor.calibration.missing)
    names, codes = data.segment_codes
    thresholds = np.array([monitor.threshold(name) for name in names])[codes]
    rung = Alarms(
        rang=np.zeros(data.n, dtype=np.bool_),
        step=np.zeros(data.n, dtype=np.int64),
        share_of_tokens=np.ones(data.n),
        share_of_steps=np.ones(data.n),
    )
    for threshold in np.unique(thresholds):
        here = thresholds == threshold
        found = alarms(data, paths, float(threshold), monitor.certificate.risk)
        for name in ("rang", "step", "share_of_tokens", "share_of_steps"):
            getattr(rung, name)[here] = getattr(found, name)[here]
    return rung


def _share(count: int, n: int) -> Share:
    if n == 0:
        return Share(count=0, n=0, share=None, low=None, high=None)
    low, high = clopper_pearson(count, n)
    return Share(count=count, n=n, share=count / n, low=low, high=high)


def _verdict(realised: Share, epsilon: float) -> str:
    if realised.low is None:
        return "no data"
    return "holds" if realised.low <= epsilon else "broken"


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
