"""Which rules each tenant was last told to be under: what changes is an event of its own."""

from __future__ import annotations

from collections.abc import Iterator

from tocsin.events.kinds import CalibrationChanged, PolicyChanged
from tocsin.guarding.plan import Guard

BY = "configuration"
"""Who changed it, as far as the gateway can tell."""


class InForce:
    """What is in force for whom, as it was told. One for each process.

    A tenant hears of rules with its first request under them, after a start as after a reload:
    a process that has just begun does not know what was in force before it.

    Example:
        >>> rules = InForce()
        >>> [body.policy for body in rules.changes("shop", Guard(name="strict", digest="d1"))]
        ['strict']
        >>> list(rules.changes("shop", Guard(name="strict", digest="d1")))
        []
    """

    def __init__(self) -> None:
        self._policies: dict[tuple[str, str], str] = {}
        self._calibrations: dict[tuple[str, str, str], str] = {}
        self.tenants: set[str] = set()
        """Those that asked for anything since the process began."""

    def changes(self, tenant: str, guard: Guard) -> Iterator[PolicyChanged | CalibrationChanged]:
        """Give what is new to a tenant about the policy of its request."""
        key = tenant, guard.name
        before = self._policies.get(key)
        if before == guard.digest:
            return
        self.tenants.add(tenant)
        self._policies[key] = guard.digest
        yield PolicyChanged(policy=guard.name, digest=guard.digest, before=before, by=BY)
        for check in guard.checks:
            if check.monitor is None:
                continue
            digest, one = check.monitor.calibration.digest, (tenant, guard.name, check.name)
            known = self._calibrations.get(one)
            if known != digest:
                self._calibrations[one] = digest
                yield CalibrationChanged(check=check.name, digest=digest, before=known, by=BY)
