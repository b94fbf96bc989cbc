"""Receipts as a guard makes them, and proofs of these as a log gives them out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from guarded_streams import Doors, Scripted, literal_rules, run
from receipts.small_log import SmallLog

from tocsin.guarding.plan import Check, Guard, Verdict
from tocsin.guarding.receipt import Receipt, Who, salt_of
from tocsin.model import Channel, Intervention, Signal
from tocsin.monitor import Monitor
from tocsin.risk.calibration import Calibration, seal, to_json
from tocsin.testing.worlds import example_calibration

TEXT = Channel()
LINES = ["all is well\n", "still well\n", "a little ODD\n", "DANGER ahead\n", "never shown\n"]
SALT_KEY = bytes(range(32))
WORDS = {"ODD": 0.75, "DANGER": 0.01}


@cache
def calibration(statistic: str = "min_score", epsilon: float = 0.1) -> Calibration:
    """A calibration that names no verifier, and so is taken with any."""
    made = example_calibration(epsilon=epsilon, delta=0.1, statistic=statistic)
    return seal(msgspec.structs.replace(made, signal=Signal()))


def receipt(
    lines: list[str] = LINES,
    *,
    statistic: str = "min_score",
    does: Intervention = "halt",
    verdict: Verdict | None = None,
    name: str = "r_1",
    tenant: str = "acme",
) -> Receipt:
    """Have a guarded answer told: a calibrated check, one with a threshold by hand, and rules."""
    guard = Guard(
        name="strict",
        digest="sha256:00",
        checks=(
            Check(
                name="watch",
                verifier=Scripted(WORDS),
                monitor=Monitor(calibration(statistic)),
                on_alarm=does,
            ),
            Check(name="hand", verifier=Scripted({"HAND": 0.2}), alarm_below=0.5),
            Check(name="rules", verifier=literal_rules(), on_finding={"*": "mask"}),
        ),
    )
    guarded, _ = run(guard, [(TEXT, line) for line in lines], doors=Doors(verdict=verdict))
    return guarded.receipt(Who(
        id=name, tenant=tenant, route="main", api="chat", model="m-1", upstream="up", asked="m",
        asked_at="2026-01-02T03:04:05Z", ended_at="2026-01-02T03:04:06Z", made_by="tocsin/0",
    ), salt_of(SALT_KEY, tenant, name))  # fmt: skip


def logged(*receipts: Receipt, tenant: str = "acme") -> SmallLog:
    log = SmallLog(tenant)
    for i in range(3):
        log.receipt(f"earlier_{i}")
    for one in receipts:
        log.receipt(one.who.id, msgspec.json.encode(one))
    return log


class Files:
    """A proof, its key and its calibration in a folder."""

    def __init__(self, folder: Path, one: Receipt) -> None:
        self.log = logged(one)
        self.proof = folder / "r_1.tlog-proof"
        self.proof.write_text(self.log.proof(3).write())
        self.bare = folder / "r_1.json"
        self.bare.write_bytes(msgspec.json.encode(one))
        self.entry = folder / "entry.json"
        self.entry.write_bytes(self.log.entries[3])
        self.key = folder / "log.vkey"
        self.key.write_text(self.log.key.line + "\n")
        self.calibration = folder / "calibration.json"
        self.calibration.write_bytes(to_json(calibration()))


def changed(one: Receipt, change: Callable[[Any], object]) -> Receipt:
    """Read the receipt back after a change of its JSON."""
    plain = msgspec.json.decode(msgspec.json.encode(one))
    change(plain)
    return msgspec.json.decode(msgspec.json.encode(plain), type=Receipt)
