"""An alarm, with a stated error guarantee, for what a language model is writing.

>>> import tocsin
>>> calibration = tocsin.testing.example_calibration(epsilon=0.1, delta=0.1)
>>> session = tocsin.Monitor(calibration).session()
>>> [session.step(score).alarm for score in (0.9, 0.8, 0.01)]
[False, False, True]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tocsin import testing
    from tocsin.api import calibrate, evaluate
    from tocsin.calibration_file import load, save
    from tocsin.errors import (
        CalibrationDamaged,
        CalibrationInfeasible,
        CalibrationMismatch,
        InputError,
        MissingExtra,
        MissingScore,
        SessionMisuse,
        TocsinError,
    )
    from tocsin.evaluation.datasets import read
    from tocsin.evaluation.texts import Texts, read_texts
    from tocsin.model import (
        Channel,
        Context,
        Decision,
        Delta,
        Document,
        Finding,
        Message,
        Score,
        Signal,
        Token,
        Tool,
        Unknown,
    )
    from tocsin.monitor import Monitor, Session, replay
    from tocsin.risk.calibration import Calibration
    from tocsin.risk.guarantee import Guarantee, guarantee
    from tocsin.risk.plan import Plan
    from tocsin.risk.signature import sign, verify
    from tocsin.risk.trajectories import Trajectories, from_columns
    from tocsin.stream.steps import StepDefinition
    from tocsin.verifiers.contract import Declaration
    from tocsin.verifiers.registry import verifier

_HOME = {
    "Calibration": "tocsin.risk.calibration",
    "CalibrationDamaged": "tocsin.errors",
    "CalibrationInfeasible": "tocsin.errors",
    "CalibrationMismatch": "tocsin.errors",
    "Channel": "tocsin.model",
    "Context": "tocsin.model",
    "Decision": "tocsin.model",
    "Declaration": "tocsin.verifiers.contract",
    "Delta": "tocsin.model",
    "Document": "tocsin.model",
    "Finding": "tocsin.model",
    "Check": "tocsin.guarding.plan",
    "Guard": "tocsin.guarding.plan",
    "Guarantee": "tocsin.risk.guarantee",
    "InputError": "tocsin.errors",
    "Message": "tocsin.model",
    "MissingExtra": "tocsin.errors",
    "MissingScore": "tocsin.errors",
    "Monitor": "tocsin.monitor",
    "PathRecord": "tocsin.monitor",
    "Plan": "tocsin.risk.plan",
    "Score": "tocsin.model",
    "Session": "tocsin.monitor",
    "SessionMisuse": "tocsin.errors",
    "Signal": "tocsin.model",
    "StepDefinition": "tocsin.stream.steps",
    "Texts": "tocsin.evaluation.texts",
    "TocsinError": "tocsin.errors",
    "Token": "tocsin.model",
    "Tool": "tocsin.model",
    "Trajectories": "tocsin.risk.trajectories",
    "Unknown": "tocsin.model",
    "calibrate": "tocsin.api",
    "evaluate": "tocsin.api",
    "from_columns": "tocsin.risk.trajectories",
    "guarantee": "tocsin.risk.guarantee",
    "guard": "tocsin.guarding.inprocess",
    "load": "tocsin.calibration_file",
    "read": "tocsin.evaluation.datasets",
    "read_texts": "tocsin.evaluation.texts",
    "replay": "tocsin.monitor",
    "save": "tocsin.calibration_file",
    "sign": "tocsin.risk.signature",
    "verifier": "tocsin.verifiers.registry",
    "verify": "tocsin.risk.signature",
}
"""Where each public name lives; it is imported when first used, so that a monitor starts fast."""

__all__ = [
    "Calibration",
    "CalibrationDamaged",
    "CalibrationInfeasible",
    "CalibrationMismatch",
    "Channel",
    "Check",
    "Context",
    "Decision",
    "Declaration",
    "Delta",
    "Document",
    "Finding",
    "Guarantee",
    "Guard",
    "InputError",
    "Message",
    "MissingExtra",
    "MissingScore",
    "Monitor",
    "PathRecord",
    "Plan",
    "Score",
    "Session",
    "SessionMisuse",
    "Signal",
    "StepDefinition",
    "Texts",
    "TocsinError",
    "Token",
    "Tool",
    "Trajectories",
    "Unknown",
    "calibrate",
    "evaluate",
    "from_columns",
    "guarantee",
    "guard",
    "load",
    "read",
    "read_texts",
    "replay",
    "save",
    "sign",
    "testing",
    "verifier",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name == "testing":
        return importlib.import_module("tocsin.testing")
    if name not in _HOME:
        msg = f"module 'tocsin' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
