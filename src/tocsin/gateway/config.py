"""The configuration file of the gateway, as structs: what may stand in it, and what it means.

These docstrings are the reference that users read. Reading a file is in `config_file`, making it
work in `building`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tocsin import limits
from tocsin.model import Hold, Intervention, Mode, Risk
from tocsin.policy.failures import Failure
from tocsin.stream.events import Api

DEMONSTRATION = "demonstration"
"""In `CheckConfig.calibration`: the one that comes with a shipped model."""

Name = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$", min_length=1, max_length=64)
]
"""What receipts, headers and metrics call things by."""

LogName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]*$", min_length=1, max_length=256)
]
"""What signatures call the log by."""

ModelPattern = Annotated[str, Meta(min_length=1, max_length=limits.IDENTIFIER_CHARS_MAX)]
Milliseconds = Annotated[int, Meta(ge=1, le=limits.GATEWAY_WAIT_MS_MAX)]
Streams = Annotated[int, Meta(ge=1, le=limits.GATEWAY_STREAMS_MAX)]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the file. A key that it does not know is an error."""


class Listen(Part, frozen=True, kw_only=True):
    """Where the gateway listens.

    Args:
        host: an address of this machine; the default can be reached from this machine only.
        port: TCP port; 0 lets the system pick one.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8_080


class Deadlines(Part, frozen=True, kw_only=True):
    """How long an upstream may take.

    Args:
        connect_ms: longest wait for a connection.
        first_ms: longest wait for the answer's headers.
        idle_ms: longest wait between two pieces of the answer.
    """

    connect_ms: Milliseconds = 10_000
    first_ms: Milliseconds = 120_000
    idle_ms: Milliseconds = 60_000


class UpstreamConfig(Part, frozen=True, kw_only=True):
    """A model behind a URL.

    Args:
        url: up to and with the version, such as ``https://models.example/v1``. http or https; no
            user, query or fragment. Hosts on this machine and in private networks are allowed,
            since only the operator writes this file; link-local addresses, behind which clouds
            keep their machines' credentials, are not.
        speaks: which APIs it offers: ``chat`` and ``responses`` as OpenAI has them, ``messages``
            as Anthropic has it.
        key: sent as the API's own kind of credential. Write ``${NAME}`` and keep it in the
            environment.
        headers: sent with each request.
        deadlines: how long it may take.
    """

    url: str
    speaks: tuple[Api, ...] = ("chat",)
    key: str | None = None
    headers: dict[str, str] = {}
    deadlines: Deadlines = Deadlines()

    def __repr__(self) -> str:
        """Show nothing that may be a secret."""
        return f"{type(self).__name__}(speaks={self.speaks!r}, deadlines={self.deadlines!r}, ...)"


class TenantConfig(Part, frozen=True, kw_only=True):
    """Somebody whose requests are told apart from those of others.

    Args:
        keys: hashes of API keys, as ``tocsin key`` prints them: ``sha256:`` and 64 digits. Two, so
            that a key can be changed without a pause.
        routes: names of the routes that it may use; all of them where left out.
        streams_max: its requests under way at once.
    """

    keys: tuple[str, ...]
    routes: tuple[Name, ...] = ()
    streams_max: Streams = 1_000


class FallbackConfig(Part, frozen=True, kw_only=True):
    """Who answers anew where an alarm's intervention is ``fallback``.

    Args:
        upstream: its name.
        model: the model to ask for there.
    """

    upstream: Name
    model: ModelPattern


class RouteConfig(Part, frozen=True, kw_only=True):
    """The way of a request: to which model, under which policy. The first route that fits is taken.

    Args:
        name: in receipts and metrics.
        models: the models asked for that take this way; ``*`` stands for any characters.
        upstream: who answers; may be left out where there is only one.
        model: the name that the upstream gets; the one asked for where left out.
        policy: the rules that the response is under.
        conversations: what is watched is a whole conversation, over all of its requests, and not
            each response for itself. Its calibration has to be one of whole conversations.
        fallback: who answers anew.
    """

    name: Name
    models: tuple[ModelPattern, ...] = ("*",)
    upstream: Name | None = None
    model: ModelPattern | None = None
    policy: Name = "default"
    conversations: bool = False
    fallback: FallbackConfig | None = None


class Judge(Part, frozen=True, kw_only=True):
    """A verifier, and what rings. Exactly one of `calibration`, `alarm_below`, `findings` is given.

    Args:
        verifier: as on the command line: ``patterns``, ``linear:harmful_answer``,
            ``remote:guard.toml``. Files lie beside this one.
        steps: what one step is; that of the calibration where left out, or else the verifier's
            own.
        calibration: a file of ``tocsin calibrate``, or ``demonstration`` for the one that comes
            with a shipped model. The alarm then rings at its threshold, and keeps its promise.
        epsilon: which of its certificates, where there are several.
        risk: which one, where both risks are controlled.
        segment: which of its segments; the pooled threshold where left out.
        alarm_below: the alarm rings on a score below this one (signals are safe-high). A
            threshold set by hand: it carries no guarantee.
        findings: what follows from a finding, by its rule, or else by its category, or else by
            ``"*"``. A finding without a line is recorded and shown.
        deadline_ms: longest wait for an answer, where the verifier has to be waited for.
    """

    verifier: Annotated[str, Meta(min_length=1, max_length=4_096)]
    steps: str | None = None
    calibration: str | None = None
    epsilon: float | None = None
    risk: Risk | None = None
    segment: str | None = None
    alarm_below: float | None = None
    findings: dict[str, Intervention] | None = None
    deadline_ms: Annotated[int, Meta(ge=1, le=limits.APPEAL_DEADLINE_MS_MAX)] = 5_000


Role = Literal["system", "developer", "user", "assistant", "tool", "function", "document"]
"""Whose words a part of a request is; ``document`` is a retrieved passage."""


class CheckConfig(Judge, frozen=True, kw_only=True):
    """A verifier that reads along, what rings, and what follows.

    Args:
        name: in receipts and metrics; made from the verifier where left out.
        on_alarm: what follows from an alarm of a calibration or of `alarm_below`; ``halt`` where
            left out.
        roles: which messages of a request are read, such as ``tool``; all of them where left out.
            ``document`` stands for retrieved documents. For `input` only.
    """

    name: Name | None = None
    on_alarm: Intervention | None = None
    roles: tuple[Role, ...] = ()


class PolicyConfig(Part, frozen=True, kw_only=True):
    """What responses are checked for, and what follows.

    Nothing of the environment is put in here: a policy is what its digest says.

    Args:
        checks: what reads the response.
        input: what reads the request before the upstream is asked: ``halt`` and ``replace``
            answer it at once.
        mode: ``observe`` records what would be done, and does nothing.
        hold: what the reader waits for. ``window``: until no check can still object to a
            character. ``end_of_stream``: for the whole response. ``optimistic``: for nothing; what
            is shown was not checked before.
        hold_chars: at least so many characters are held back; the checks' own need where less.
        marker: what stands for masked text; ``{rule}`` and ``{category}`` are replaced.
        replacement: the text of ``replace``.
        otherwise: what follows where ``fallback`` comes too late, an appeal is lost, or a tool's
            masked arguments would no longer be JSON.
        passed: failures that do not stop a response; written ``pass``. The default is none:
            text that could not be checked is not shown. See the
            [table of failures](failures.md).
        escalate: the stronger verifier that decides about ``escalate``.
        approval_ms: how long a person may take to decide about ``require_approval``.
        sample: share of responses whose raw content is kept in the record, encrypted: request,
            retrieved documents and answer. They are drawn at random.
        evidence: raw content of a response in which an alarm rang is kept too. Neither of the two
            changes a decision, so neither is in the digest.
    """

    checks: tuple[CheckConfig, ...] = ()
    input: tuple[CheckConfig, ...] = ()
    mode: Mode = "enforce"
    hold: Hold = "window"
    hold_chars: Annotated[int, Meta(ge=0, le=limits.HELD_CHARS_MAX)] = 0
    marker: Annotated[str, Meta(max_length=limits.MARKER_CHARS_MAX)] = "[{rule}]"
    replacement: Annotated[str, Meta(max_length=limits.REPLACEMENT_CHARS_MAX)] = (
        "This answer was stopped by a safety check."
    )
    otherwise: Literal["halt", "replace"] = "halt"
    passed: tuple[Failure, ...] = msgspec.field(default=(), name="pass")
    escalate: Judge | None = None
    approval_ms: Annotated[int, Meta(ge=1, le=limits.APPEAL_DEADLINE_MS_MAX)] = 60_000
    sample: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    evidence: bool = False


class RecordConfig(Part, frozen=True, kw_only=True):
    """The record: events, and receipts that are signed and provable.

    Args:
        store: a file, which is made where there is none, or a URL:
            ``postgresql://user@host/name``.
        keys: a folder for the keys that sign receipts and encrypt raw content, made where there is
            none; for this user alone.
        log: name of the log in receipts, without spaces, such as ``gateway.example.com``: the
            same for as long as the store lives. A tenant's own log is called ``log/tenant``.
        period_s: how often it is signed what happened and what did not.
        content_days: how long raw content is kept.
        redaction: a file of rules, as ``patterns:FILE`` reads it, for what is masked before
            anything is stored, beside the wider rules for redaction alone, which it may exclude;
            the built-in rules where left out.
    """

    store: Annotated[str, Meta(min_length=1, max_length=4_096)]
    keys: Annotated[str, Meta(min_length=1, max_length=4_096)]
    log: LogName
    period_s: Annotated[float, Meta(ge=1.0, le=86_400.0)] = limits.RECORD_PERIOD_S
    content_days: Annotated[float, Meta(gt=0.0, le=limits.CONTENT_DAYS_MAX)] = 14.0
    redaction: str | None = None


class LimitsConfig(Part, frozen=True, kw_only=True):
    """How much, and how long.

    Args:
        streams_max: requests under way at once; one more is answered with 503.
        body_bytes_max: of a request.
        head_ms: so long after the upstream's answer began, ours begins too, though nothing is
            cleared yet. Until then a failure is answered with an error; a route with a fallback
            waits on, since it can answer anew only while nothing was sent.
        keep_alive_ms: a comment goes out after so long a silence.
        header_ms: how long a client may take to send a request's headers.
        body_ms: how long it may take to send the body.
        stalled_ms: how long it may read nothing while there is something to read.
        drain_ms: how long open responses may go on after the order to stop.
    """

    streams_max: Streams = 4_000
    body_bytes_max: Annotated[int, Meta(ge=1_024, le=limits.GATEWAY_BODY_BYTES_MAX)] = (
        8 * 1024 * 1024
    )
    head_ms: Annotated[int, Meta(ge=0, le=limits.GATEWAY_WAIT_MS_MAX)] = 250
    keep_alive_ms: Annotated[int, Meta(ge=100, le=limits.GATEWAY_WAIT_MS_MAX)] = 15_000
    header_ms: Milliseconds = 10_000
    body_ms: Milliseconds = 30_000
    stalled_ms: Milliseconds = 30_000
    drain_ms: Annotated[int, Meta(ge=0, le=limits.GATEWAY_WAIT_MS_MAX)] = 30_000


class Config(Part, frozen=True, kw_only=True):
    """The whole file.

    Args:
        upstreams: who answers, by name.
        routes: tried in this order; the first that fits a model is taken.
        policies: what responses are checked for, by name.
        tenants: who may ask, by name.
        open_to_all: no key is asked for. Only where the gateway listens on this machine alone.
        listen: where.
        record: where events and receipts are kept; receipts go to the log alone, unsigned, where
            left out.
        limits: how much, and how long.
    """

    upstreams: dict[Name, UpstreamConfig]
    routes: tuple[RouteConfig, ...]
    policies: dict[Name, PolicyConfig]
    tenants: dict[Name, TenantConfig] = {}
    open_to_all: bool = False
    listen: Listen = Listen()
    record: RecordConfig | None = None
    limits: LimitsConfig = LimitsConfig()
