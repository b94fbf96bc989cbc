"""A configuration in plain words: what is checked, what is promised, what to think twice about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from tocsin.gateway.addresses import host_of, is_loopback
from tocsin.gateway.building import Built, Policy
from tocsin.gateway.checks import interventions
from tocsin.gateway.config import DEMONSTRATION, CheckConfig, PolicyConfig
from tocsin.gateway.site import RecordPlan, Site, Tenant
from tocsin.guarding.plan import Check
from tocsin.limits import FEED_CHARS, STEP_CHARS_MAX
from tocsin.model import Hold, Intervention, Mode
from tocsin.policy.failures import Failure
from tocsin.risk.guarantee import of_certificate
from tocsin.stream.events import Api
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.contract import GENERATED

NO_GUARANTEE: Mapping[str, str] = {
    "threshold": "no guarantee: threshold set by hand",
    "rules": "no guarantee: rules ring on what they name",
}
"""What is said of checks that carry no promise."""

_DAY_US = 86_400_000_000
_PASSWORD = re.compile(r"^([a-z]+://[^/@]*:)[^@]*@")
_TOKEN_CHARS = 7
"""A token of a step definition has at most six letters or digits and the space before them."""


class CheckSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One check.

    Args:
        name: of the check.
        verifier, version, steps: who scores what.
        reads: kinds of channels, sorted.
        rings: ``calibration``, ``threshold`` or ``rules``.
        guarantee: the promise in words, or that there is none.
        does: what follows from an alarm, or by rule and category.
        hold_back_chars: text is held back by so many characters until it is cleared; None where
            that is until the end of the turn or tool call.
        deadline_ms: longest wait, where the verifier has to be waited for.
    """

    name: str
    verifier: str
    version: str
    steps: str
    reads: tuple[str, ...]
    rings: Literal["calibration", "threshold", "rules"]
    guarantee: str
    does: dict[str, Intervention]
    hold_back_chars: int | None
    deadline_ms: int


class PolicySummary(msgspec.Struct, frozen=True, kw_only=True):
    """One policy; see `PolicyConfig`.

    Args:
        name, digest: as headers and receipts show them.
        hold_back_chars: the most that any check, or `hold_chars`, asks for; None where the reader
            waits for the end of the turn or tool call, and 0 where for nothing.
        checks, input, escalate: the parts.
    """

    name: str
    digest: str
    mode: Mode
    hold: Hold
    hold_back_chars: int | None
    passed: tuple[Failure, ...] = msgspec.field(name="pass")
    sample: float
    evidence: bool
    checks: tuple[CheckSummary, ...]
    input: tuple[CheckSummary, ...]
    escalate: CheckSummary | None


class RouteSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One route: which models take it, to whom, under which policy."""

    name: str
    models: tuple[str, ...]
    upstream: str
    speaks: tuple[Api, ...]
    model: str | None
    policy: str
    conversations: bool
    fallback: str | None
    tenants: tuple[str, ...]


class RecordSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Where events and receipts are kept; a password in the URL of the store is left out.

    Args:
        log: name of the log that receipts are in.
        content_days: how long raw content is kept.
        rules: whether what is masked is found by the built-in rules or by the user's own.
    """

    store: str
    keys: str
    log: str
    period_s: float
    content_days: float
    rules: Literal["built_in", "own"]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration, without a secret in it."""

    digest: str
    host: str
    port: int
    open_to_all: bool
    record: RecordSummary | None
    routes: tuple[RouteSummary, ...]
    policies: tuple[PolicySummary, ...]
    warnings: tuple[str, ...]


def summary(made: Built) -> Summary:
    """Describe what was made of a configuration."""
    site = made.site
    return Summary(
        digest=site.digest,
        host=site.host,
        port=site.port,
        open_to_all=site.open_to_all,
        record=_record(site.record),
        routes=tuple(
            RouteSummary(
                name=r.name,
                models=r.models,
                upstream=r.upstream.name,
                speaks=tuple(sorted(r.upstream.speaks)),
                model=r.model,
                policy=r.guard.name,
                conversations=r.conversations,
                fallback=None if r.fallback is None else r.fallback.upstream.name,
                tenants=tuple(t.name for t in site.tenants if not t.routes or r.name in t.routes),
            )
            for r in site.routes
        ),
        policies=tuple(_policy(name, policy) for name, policy in made.policies.items()),
        warnings=tuple(warnings(made)),
    )


def _record(plan: RecordPlan | None) -> RecordSummary | None:
    if plan is None:
        return None
    return RecordSummary(
        store=_PASSWORD.sub(r"\1***@", plan.store),
        keys=str(plan.keys),
        log=plan.log,
        period_s=plan.period_s,
        content_days=plan.content_us / _DAY_US,
        rules="built_in" if plan.redaction is None else "own",
    )


def _policy(name: str, policy: Policy) -> PolicySummary:
    guard = policy.guard
    checks = tuple(_check(check) for check in guard.checks)
    return PolicySummary(
        name=name,
        digest=guard.digest,
        mode=guard.mode,
        hold=guard.hold,
        hold_back_chars=_held(guard.hold, guard.hold_chars, checks),
        passed=tuple(sorted(guard.passed)),
        sample=policy.config.sample,
        evidence=policy.config.evidence,
        checks=checks,
        input=() if policy.input is None else tuple(_check(c) for c in policy.input.checks),
        escalate=None if policy.stronger is None else _check(policy.stronger),
    )


def _held(hold: Hold, hold_chars: int, checks: Iterable[CheckSummary]) -> int | None:
    if hold == "optimistic":
        return 0
    each = [check.hold_back_chars for check in checks]
    if hold == "end_of_stream" or None in each:
        return None
    return max([hold_chars, *(chars for chars in each if chars is not None)])


def _check(check: Check) -> CheckSummary:
    declares = check.verifier.declares
    does: dict[str, Intervention] = {"alarm": check.on_alarm}
    rings: Literal["calibration", "threshold", "rules"] = "threshold"
    if check.monitor is not None:
        rings = "calibration"
        monitor = check.monitor
        guarantee = of_certificate(monitor.calibration, monitor.certificate).sentence()
    elif check.alarm_below is None:
        rings, does = "rules", dict(check.on_finding)
        guarantee = NO_GUARANTEE[rings]
    else:
        guarantee = NO_GUARANTEE[rings]
    step = step_chars(declares.steps)
    return CheckSummary(
        name=check.name,
        verifier=declares.name,
        version=declares.version,
        steps=str(declares.steps),
        reads=tuple(sorted(declares.channels)),
        rings=rings,
        guarantee=guarantee,
        does=does,
        hold_back_chars=None if step is None else held_chars(declares.hold_back_chars, step),
        deadline_ms=check.deadline_ms,
    )


def held_chars(hold_back: int, step: int) -> int:
    """Most characters that wait for a check: what it declares, or its step, and a cell of the grid.

    Example:
        >>> held_chars(235, 32), held_chars(0, 4_096)
        (283, 4144)
    """
    return max(hold_back, step) + FEED_CHARS


def step_chars(steps: StepDefinition) -> int | None:
    """Most characters of a step; None where it ends with the turn or the tool call.

    Example:
        >>> step_chars(StepDefinition("chars", 32)), step_chars(StepDefinition("turn"))
        (32, None)
    """
    match steps.kind:
        case "chars":
            return steps.size
        case "tokens":
            return min(_TOKEN_CHARS * steps.size, STEP_CHARS_MAX)
        case "turn" | "tool_call":
            return None
    return STEP_CHARS_MAX


# --------------------------------------------------------------------------------------- warnings


def warnings(made: Built) -> list[str]:
    """Say what works, and may not be what was meant."""
    found = [*_of_upstreams(made), *_of_routes(made), *_of_record(made)]
    for name, policy in made.policies.items():
        found += [f"policies.{name}: {said}" for said in _of_policy(policy)]
    return found


def _of_upstreams(made: Built) -> Iterator[str]:
    used = {r.upstream for r in made.config.routes} | {
        r.fallback.upstream for r in made.config.routes if r.fallback is not None
    }
    for name, upstream in made.config.upstreams.items():
        if upstream.url.lower().startswith("http:") and not is_loopback(host_of(upstream.url)):
            yield f"upstreams.{name}: http to another machine: texts and the key go unencrypted"
        if name not in used and len(made.config.upstreams) > 1:
            yield f"upstreams.{name}: no route leads there"


def _of_routes(made: Built) -> Iterator[str]:
    routes = made.site.routes
    for i, route in enumerate(routes):
        where = f"routes[{i}]"
        if takers := _takers(made.site, i):
            many = len(takers) > 1
            yield (
                f"{where}: no request gets here: {'routes' if many else 'route'} "
                f"{', '.join(map(repr, takers))} before it {'take' if many else 'takes'} all of "
                "its models"
            )
        policy = made.policies[route.guard.name]
        if route.fallback is not None:
            if "fallback" not in policy.does():
                yield f"{where}: no alarm of its policy falls back"
            if missing := route.upstream.speaks - route.fallback.upstream.speaks:
                yield f"{where}: its fallback does not speak {', '.join(sorted(missing))}"
        if route.conversations:
            yield (
                f"{where}: what is watched is a whole conversation: the calibration has to be "
                "one of whole conversations, and nothing here can tell"
            )
    used = {route.guard.name for route in routes}
    for name in made.policies.keys() - used:
        yield f"policies.{name}: no route is under it"


def _takers(site: Site, at: int) -> list[str]:
    """Name the routes that take every request which this one is for; none where some gets there."""
    route, takers = site.routes[at], dict[str, None]()
    for tenant in site.tenants or (Tenant(name="", keys=()),):
        if tenant.routes and route.name not in tenant.routes:
            continue
        before = [r for r in site.routes[:at] if not tenant.routes or r.name in tenant.routes]
        for wanted in route.models:
            taker = next((r.name for r in before if _takes(r.models, wanted)), None)
            if taker is None:
                return []
            takers[taker] = None
    return list(takers)


def _takes(models: Iterable[str], wanted: str) -> bool:
    """Whether one of some patterns surely matches all that a pattern does."""
    return any(
        model == wanted or (fnmatchcase(wanted, model) and not (_wild(wanted) and _choosy(model)))
        for model in models
    )


def _wild(model: str) -> bool:
    return any(sign in model for sign in "*?[")


def _choosy(model: str) -> bool:
    """Whether it has signs that may match a ``*`` as they stand, and not all that it matches."""
    return any(sign in model for sign in "?[")


def _of_record(made: Built) -> Iterator[str]:
    for name, policy in made.policies.items():
        if policy.config.sample == 1.0:
            yield f"policies.{name}: sample 1: the raw content of every response is kept"


def _of_policy(policy: Policy) -> Iterator[str]:
    guard, config = policy.guard, policy.config
    does = interventions((*guard.checks, *(() if policy.input is None else policy.input.checks)))
    if guard.mode == "observe":
        yield "mode observe: alarms are recorded and stop nothing"
    if guard.hold == "optimistic":
        yield "hold optimistic: text is shown before it is checked, and a mask comes too late"
    for failure in sorted(guard.passed):
        yield f"pass {failure}: where that happens, text is shown unchecked"
    read = frozenset[str]().union(*(c.verifier.declares.channels for c in guard.checks))
    if unread := GENERATED - read:
        yield f"no check reads {', '.join(sorted(unread))} of a response: it is shown unchecked"
    yield from _of_promises(policy)
    if "require_approval" in does:
        yield "require_approval: nobody is there to ask yet, so that each one is lost"
    if config.escalate is not None and "escalate" not in does:
        yield "escalate: no alarm escalates"
    yield from _of_demonstrations(config)


def _of_promises(policy: Policy) -> Iterator[str]:
    """Say where what checks promise one by one is not what all of them promise together."""
    for key, guard in (("checks", policy.guard), ("input", policy.input)):
        promised = [] if guard is None else [(c, c.monitor) for c in guard.checks]
        rates = [m.certificate for _, m in promised if m is not None]
        alarms = [c.epsilon for c in rates if c.risk == "false_alarm"]
        if len(alarms) > 1:
            yield (
                f"{key}: each calibrated check promises a rate of false alarms of its own; that "
                f"any of the {len(alarms)} rings on a safe one is bounded by their sum, "
                f"{sum(alarms):g}, and the deltas add up too"
            )
        appeals = {c.on_alarm for c, m in promised if m is not None and
                   m.certificate.risk == "missed_detection"}  # fmt: skip
        if appeals & {"escalate", "require_approval"}:
            yield (
                f"{key}: the promise about missed detections is one about the first alarm; "
                "whoever overrules it may be wrong"
            )


def _of_demonstrations(config: PolicyConfig) -> Iterator[str]:
    for key in ("checks", "input"):
        each: tuple[CheckConfig, ...] = getattr(config, key)
        for i, check in enumerate(each):
            if check.calibration == DEMONSTRATION:
                yield (
                    f"{key}[{i}]: the demonstration calibration was made on research data and is "
                    "a guarantee for no other traffic: calibrate on your own"
                )
