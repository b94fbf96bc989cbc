"""From a configuration to a `Site`: files are read, verifiers made, and all of it has to fit.

No socket is opened. Whatever is wrong is told at once, each with its place in the file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tocsin.errors import InputError
from tocsin.gateway.addresses import is_loopback, url_complaint
from tocsin.gateway.checks import Checks, interventions
from tocsin.gateway.config import CheckConfig, Config, PolicyConfig, RouteConfig
from tocsin.gateway.config_file import Source, meant, read
from tocsin.gateway.record_plan import record_plan
from tocsin.gateway.site import Fallback, Route, Site, Tenant, Upstream
from tocsin.gateway.yaml_text import Place
from tocsin.guarding.plan import Check, Guard
from tocsin.model import Intervention
from tocsin.verifiers.contract import GENERATED

_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_OUR_HEADERS = frozenset({
    "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect",
    "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
"""Headers that say how a message is framed, which is for the client library alone."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy, ready for use.

    Args:
        config: as the file has it.
        guard: for responses.
        input: for requests; None where they are not checked.
        stronger: who hears escalations.
    """

    config: PolicyConfig
    guard: Guard
    input: Guard | None = None
    stronger: Check | None = None

    def does(self) -> set[Intervention]:
        """Every intervention that a response may meet."""
        return interventions(self.guard.checks)


@dataclass(frozen=True, kw_only=True)
class Built:
    """What was made of a file.

    Args:
        config: as the file has it.
        site: ready for use.
        policies: by name, those that no route uses among them.
    """

    config: Config
    site: Site
    policies: Mapping[str, Policy]


def load(
    path: str | os.PathLike[str],
    environment: Mapping[str, str] | None = None,
    *,
    host: str | None = None,
) -> Site:
    """Read a configuration and make it ready for use.

    Args:
        path: YAML or TOML, by the ending of its name.
        environment: what ``${NAME}`` stands for; the process's own where None.
        host: where to listen instead; what may not listen there without keys is refused.

    Raises:
        InputError: everything that is wrong, with file, place and what to do.
        MissingExtra: PyYAML is not installed.
    """
    config, source = read(path, environment)
    if host is not None:
        listen = msgspec.structs.replace(config.listen, host=host)
        config = msgspec.structs.replace(config, listen=listen)
    return built(config, source).site


def built(config: Config, source: Source) -> Built:
    """Make a configuration ready for use.

    Args:
        config: each value of it was checked.
        source: where it is from: names in errors, and the folder in which its files lie.

    Raises:
        InputError: everything that does not fit together.
    """
    return _Building(config, source).built()


class _Building:
    def __init__(self, config: Config, source: Source) -> None:
        self._config = config
        self._source = source
        self._complain = source.complain

    def built(self) -> Built:
        config = self._config
        upstreams = {name: self._upstream(name) for name in config.upstreams}
        policies = self._policies()
        routes = tuple(
            self._route(i, route, upstreams, policies) for i, route in enumerate(config.routes)
        )
        tenants = self._tenants()
        record = record_plan(config, self._source)
        self._whole()
        self._source.settle()
        limits = config.limits
        site = Site(
            routes=tuple(route for route in routes if route is not None),
            tenants=tenants,
            open_to_all=config.open_to_all,
            record=record,
            digest=self._digest(policies),
            host=config.listen.host,
            port=config.listen.port,
            **{name: getattr(limits, name) for name in limits.__struct_fields__},
        )
        return Built(config=config, site=site, policies=policies)

    def _whole(self) -> None:
        """Complain about what concerns the whole file."""
        config = self._config
        for place in ("upstreams", "routes", "policies"):
            if not getattr(config, place):
                self._complain((place,), "there has to be one at least")
        host = config.listen.host
        if not host.isascii() or not host.isprintable() or " " in host or not host:
            self._complain(("listen", "host"), "it is no address; write one, such as 127.0.0.1")
        elif config.open_to_all and not is_loopback(host):
            self._complain(
                ("open_to_all",),
                "without keys the gateway may listen on this machine only: leave out listen.host, "
                "or write tenants with keys (tocsin key makes one)",
            )
        if config.open_to_all and config.tenants:
            self._complain(("open_to_all",), "no key would be asked for; leave out tenants or this")
        if not config.open_to_all and not config.tenants:
            self._complain(
                (),
                "nobody may ask: write tenants with keys (tocsin key makes one), or open_to_all: "
                "true where the gateway listens on this machine only",
            )

    # --------------------------------------------------------------------------------- upstreams

    def _upstream(self, name: str) -> Upstream:
        config, place = self._config.upstreams[name], ("upstreams", name)
        if said := url_complaint(config.url):
            self._complain((*place, "url"), said)
        if not config.speaks:
            self._complain((*place, "speaks"), "name one API at least")
        if config.key is not None and not _sendable(config.key):
            self._complain(
                (*place, "key"), "it is empty, or holds white space or characters that no key has"
            )
        seen: set[str] = set()
        for header, value in config.headers.items():
            self._header(header, value, (*place, "headers", header), seen, keyed=bool(config.key))
        return Upstream(
            name=name,
            url=config.url.rstrip("/"),
            speaks=frozenset(config.speaks),
            key=config.key,
            headers=dict(config.headers),
            **msgspec.structs.asdict(config.deadlines),
        )

    def _header(
        self, header: str, value: str, place: Place, seen: set[str], *, keyed: bool
    ) -> None:
        name = header.lower()
        if not _HEADER.fullmatch(header):
            self._complain(place, "this is no name of a header")
        elif name in _OUR_HEADERS:
            self._complain(place, "this header is set by the gateway itself")
        elif keyed and name in {"authorization", "x-api-key"}:
            self._complain(place, "the key is sent in such a header; leave one of them out")
        elif name in seen:
            self._complain(place, "this header is here twice")
        seen.add(name)
        if not (value.isascii() and value.isprintable()) or value != value.strip():
            self._complain(place, "its value holds what no header can")

    # ---------------------------------------------------------------------------------- policies

    def _policies(self) -> dict[str, Policy]:
        checks = Checks(self._source)
        made = {
            name: self._policy(name, config, checks)
            for name, config in self._config.policies.items()
        }
        return {name: policy for name, policy in made.items() if policy is not None}

    def _policy(self, name: str, config: PolicyConfig, checks: Checks) -> Policy | None:
        place: Place = ("policies", name)
        before = len(self._source.complaints)
        if not config.checks and not config.input:
            self._complain((*place, "checks"), "a policy without a check guards nothing")
        response = self._list(config.checks, (*place, "checks"), checks)
        request = self._list(config.input, (*place, "input"), checks)
        stronger = None
        if config.escalate is not None:
            stronger = checks.stronger(config.escalate, (*place, "escalate"))
        self._interventions(config, place, response, request)
        if stronger is not None:
            self._hears(stronger, (*place, "escalate", "verifier"), response, request)
        if len(self._source.complaints) > before:
            return None
        digest = _policy_digest(config, response, request, stronger)
        shared: dict[str, Any] = {
            "name": name,
            "digest": digest,
            "mode": config.mode,
            "marker": config.marker,
            "replacement": config.replacement,
            "otherwise": config.otherwise,
            "passed": frozenset(config.passed),
        }
        try:
            guard = Guard(checks=response, hold=config.hold, hold_chars=config.hold_chars, **shared)
            entry = Guard(checks=request, hold="end_of_stream", **shared) if request else None
        except InputError as e:
            self._complain((*place, "pass"), str(e))
            return None
        return Policy(config=config, guard=guard, input=entry, stronger=stronger)

    def _list(
        self, configs: Iterable[CheckConfig], place: Place, checks: Checks
    ) -> tuple[Check, ...]:
        made: list[Check] = []
        taken: set[str] = set()
        for i, config in enumerate(configs):
            check = checks.check(config, (*place, i), taken)
            if check is not None:
                made.append(check)
        return tuple(made)

    def _interventions(
        self,
        config: PolicyConfig,
        place: Place,
        response: tuple[Check, ...],
        request: tuple[Check, ...],
    ) -> None:
        """Complain about interventions that could not follow."""
        does = interventions((*response, *request))
        if "escalate" in does and config.escalate is None:
            self._complain(
                (*place, "escalate"), "an alarm escalates, and no stronger verifier is named here"
            )
        replaces = "replace" in does or config.otherwise == "replace"
        if replaces and not config.replacement:
            self._complain(
                (*place, "replacement"), "an alarm replaces, and there is no text for it"
            )
        for i, check in enumerate(config.input):
            used = {check.on_alarm, *(check.findings or {}).values()}
            for one in ("mask", "fallback"):
                if one in used:
                    self._complain(
                        (*place, "input", i),
                        f"a request is sent on as it is or not at all: {one} is for checks of the "
                        "response; use halt, replace, escalate or shadow",
                    )

    def _hears(
        self, stronger: Check, place: Place, response: tuple[Check, ...], request: tuple[Check, ...]
    ) -> None:
        """Complain where the stronger verifier cannot read what is escalated to it."""
        reads = stronger.verifier.declares.channels
        if "escalate" in interventions(response) and reads.isdisjoint(GENERATED):
            self._complain(place, "it reads nothing of a response, and each appeal would be lost")
        if "escalate" in interventions(request) and "observation" not in reads:
            self._complain(place, "it reads nothing of a request, and each appeal would be lost")

    # ------------------------------------------------------------------------------------ routes

    def _route(
        self,
        at: int,
        config: RouteConfig,
        upstreams: Mapping[str, Upstream],
        policies: Mapping[str, Policy],
    ) -> Route | None:
        place: Place = ("routes", at)
        if any(r.name == config.name for r in self._config.routes[:at]):
            self._complain((*place, "name"), f"another route is called {config.name!r}")
        if not config.models:
            self._complain((*place, "models"), "name one model at least; '*' stands for all")
        upstream = self._named_upstream(config.upstream, place, upstreams)
        fallback = None
        if config.fallback is not None:
            other = upstreams.get(config.fallback.upstream)
            if other is None:
                said = meant(config.fallback.upstream, upstreams)
                self._complain((*place, "fallback", "upstream"), f"there is no such upstream{said}")
            else:
                fallback = Fallback(upstream=other, model=config.fallback.model)
                if upstream is not None and upstream.speaks.isdisjoint(other.speaks):
                    self._complain((*place, "fallback", "upstream"), "it speaks none of the APIs "
                                   f"that {upstream.name} speaks")  # fmt: skip
        if config.policy not in self._config.policies:
            said = meant(config.policy, self._config.policies)
            self._complain((*place, "policy"), f"there is no policy {config.policy!r}{said}")
        policy = policies.get(config.policy)
        if upstream is None or policy is None:
            return None
        if "fallback" in policy.does() and fallback is None:
            self._complain(
                (*place, "fallback"),
                f"the policy {config.policy!r} falls back, and this route does not say to whom",
            )
        if config.conversations:
            self._conversations(config, policy, place)
        return Route(
            name=config.name,
            models=config.models,
            upstream=upstream,
            model=config.model,
            guard=policy.guard,
            input=policy.input,
            stronger=policy.stronger,
            fallback=fallback,
            approval_ms=policy.config.approval_ms,
            conversations=config.conversations,
            sample=policy.config.sample,
            evidence=policy.config.evidence,
        )

    def _named_upstream(
        self, name: str | None, place: Place, upstreams: Mapping[str, Upstream]
    ) -> Upstream | None:
        if name is None:
            if len(upstreams) == 1:
                return next(iter(upstreams.values()))
            self._complain((*place, "upstream"), f"say which{meant('', upstreams)}")
            return None
        if name not in upstreams:
            said = meant(name, upstreams)
            self._complain((*place, "upstream"), f"there is no upstream {name!r}{said}")
        return upstreams.get(name)

    def _conversations(self, config: RouteConfig, policy: Policy, place: Place) -> None:
        at = (*place, "conversations")
        if config.fallback is not None or "fallback" in policy.does():
            self._complain(at, "a conversation goes on with one model: leave out fallback")
        monitors = [c.monitor for c in policy.guard.checks if c.monitor is not None]
        if not monitors:
            self._complain(
                at, "only a calibrated check watches over a whole conversation, and the policy "
                f"{config.policy!r} has none"
            )  # fmt: skip
        if any(monitor.statistic.closing is not None for monitor in monitors):
            self._complain(
                at, "the calibration's statistic speaks at the end, and a conversation has none; "
                "calibrate with another statistic"
            )  # fmt: skip

    # ----------------------------------------------------------------------------------- tenants

    def _tenants(self) -> tuple[Tenant, ...]:
        routes = {route.name for route in self._config.routes}
        owner: dict[str, str] = {}
        made = []
        for name, config in self._config.tenants.items():
            place: Place = ("tenants", name)
            if not config.keys:
                self._complain((*place, "keys"), "give one key at least (tocsin key makes one)")
            for i, key in enumerate(config.keys):
                if not _HASH.fullmatch(key):
                    self._complain(
                        (*place, "keys", i),
                        "write the hash of a key, sha256: and 64 lower-case hexadecimal digits, as "
                        "tocsin key prints it; never the key itself",
                    )
                elif key in owner:
                    self._complain((*place, "keys", i), f"this key is of {owner[key]} already")
                owner.setdefault(key, name)
            for i, route in enumerate(config.routes):
                if route not in routes:
                    said = meant(route, routes)
                    self._complain((*place, "routes", i), f"there is no route {route!r}{said}")
            made.append(
                Tenant(
                    name=name,
                    keys=tuple(key.removeprefix("sha256:") for key in config.keys),
                    routes=frozenset(config.routes),
                    streams_max=config.streams_max,
                )
            )
        return tuple(made)

    # ----------------------------------------------------------------------------------- digests

    def _digest(self, policies: Mapping[str, Policy]) -> str:
        """Digest of the file before anything was put in, without keys, headers and the store."""
        raw = self._source.raw
        content = dict(raw) if isinstance(raw, dict) else msgspec.to_builtins(self._config)
        content["upstreams"] = {
            name: {k: v for k, v in one.items() if k not in {"key", "headers"}}
            for name, one in content["upstreams"].items()
        }
        if isinstance(content.get("record"), dict):  # its URL may hold a password
            content["record"] = {k: v for k, v in content["record"].items() if k != "store"}
        content["policies"] = {name: p.guard.digest for name, p in policies.items()}
        return _sha256(content)


def _policy_digest(
    config: PolicyConfig,
    response: tuple[Check, ...],
    request: tuple[Check, ...],
    stronger: Check | None,
) -> str:
    """Digest of all that a policy's decisions depend on, wherever its files lie."""
    content = msgspec.to_builtins(config)
    del content["sample"], content["evidence"]  # what is kept decides nothing
    for key, made in (("checks", response), ("input", request)):
        content[key] = [_identified(c, m) for c, m in zip(content[key], made, strict=True)]
    if stronger is not None:
        content["escalate"] = _identified(content["escalate"], stronger)
    return _sha256(content)


def _identified(config: dict[str, Any], made: Check) -> dict[str, Any]:
    """Put who a verifier and a calibration are in the place of where they lie."""
    return config | {
        "name": made.name,
        "verifier": msgspec.to_builtins(made.verifier.declares.signal()),
        "steps": str(made.verifier.declares.steps),
        "calibration": None if made.monitor is None else made.monitor.calibration.digest,
    }


def _sha256(content: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def _sendable(key: str) -> bool:
    return bool(key) and key.isascii() and key.isprintable() and " " not in key
